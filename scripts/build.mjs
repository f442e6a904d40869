// Compiles src/ to dist/, drops outputs whose source is gone, and makes the command line executable.
// `--if-stale`: only where dist/ is older than its sources.
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { isBuildStale, root } from './toolchain.mjs';

if (process.argv.includes('--if-stale') && !isBuildStale()) process.exit(0);

const dist = join(root, 'dist');
const stamp = join(dist, '.built');
rmSync(stamp, { force: true });
// Dated before the compiler reads: a source that changes meanwhile is newer than the stamp.
const startedAt = new Date();
const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
const built = spawnSync(process.execPath, [tsc, '-p', join(root, 'tsconfig.build.json')], { stdio: 'inherit' });
const bin = join(dist, 'cli', 'main.js');
if (existsSync(bin)) chmodSync(bin, 0o755);
if (built.status === 0) {
  dropOrphans(dist);
  writeFileSync(stamp, `${startedAt.toISOString()}\n`);
  utimesSync(stamp, startedAt, startedAt);
}
process.exit(built.status ?? 1);

function dropOrphans(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) dropOrphans(path);
    else if (/\.js(\.map)?$/.test(entry.name)) {
      const source = join(root, 'src', relative(dist, path).replace(/\.js(\.map)?$/, '.ts'));
      if (!existsSync(source)) rmSync(path);
    }
  }
}

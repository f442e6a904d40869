// Builds the service and the benchmarks (build/) and runs them: `npm run bench -- [name…] [--quick]`.
import { spawnSync } from 'node:child_process';
import { existsSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
const steps = [
  // The service as users run it, which some benchmarks start.
  [join(root, 'scripts', 'build.mjs')],
  [tsc, '-p', join(root, 'tsconfig.benchmarks.json')],
];
for (const step of steps) {
  const { status } = spawnSync(process.execPath, step, { stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}
// The sources look for the catalogues two folders up, as they do in src/ and dist/.
const profiles = join(root, 'build', 'profiles');
if (!existsSync(profiles)) symlinkSync(join('..', 'profiles'), profiles, 'dir');
const main = join(root, 'build', 'benchmarks', 'main.js');
const ran = spawnSync(process.execPath, [main, ...process.argv.slice(2)], { stdio: 'inherit' });
process.exit(ran.status ?? 1);

// Compiles the benchmarks to build/ and runs them: `npm run bench -- [name…] [--option value…]`.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
const built = spawnSync(process.execPath, [tsc, '-p', join(root, 'tsconfig.benchmarks.json')], { stdio: 'inherit' });
if (built.status !== 0) process.exit(built.status ?? 1);
const main = join(root, 'build', 'benchmarks', 'main.js');
const ran = spawnSync(process.execPath, ['--expose-gc', main, ...process.argv.slice(2)], { stdio: 'inherit' });
process.exit(ran.status ?? 1);

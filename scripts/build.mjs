// Compiles src/ to dist/ and makes the command line executable.
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
const built = spawnSync(process.execPath, [tsc, '-p', join(root, 'tsconfig.build.json')], { stdio: 'inherit' });
const bin = join(root, 'dist', 'cli', 'main.js');
if (built.status === 0 && existsSync(bin)) chmodSync(bin, 0o755);
process.exit(built.status ?? 1);

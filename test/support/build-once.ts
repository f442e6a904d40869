import { execFileSync } from 'node:child_process';

/** Worker threads and the command line run from `dist/`: build it once, before the first test. */
export default function buildOnce(): void {
  execFileSync(process.execPath, ['scripts/build.mjs'], { stdio: 'inherit' });
}

import { spawnSync } from 'node:child_process';

/**
 * Worker threads and the command line run from `dist/`: brings it up to date before the first test.
 *
 * A type error does not stop the tests, which do not need types: the compiler has emitted all the same, and `npm test`
 * counts the build as a check of its own.
 */
export default function buildOnce(): void {
  const built = spawnSync(process.execPath, ['scripts/build.mjs', '--if-stale'], { stdio: 'inherit' });
  if (built.status !== 0) console.error('The build found errors (above); the tests run on what it emitted.');
}

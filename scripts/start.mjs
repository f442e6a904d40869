// `npm start`: installs and builds what is missing, then serves the embedded quickstart: no Redis, no cluster.
// Arguments after `--` go to `gpumix serve`: `npm start -- --port 9090`.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { checkNode, installMissing, isBuildStale, root, runToEnd } from './toolchain.mjs';

checkNode();
const notInstalled = await installMissing();
if (notInstalled !== null) {
  console.error(`gpumix: ${notInstalled}; nothing was started.`);
  process.exit(1);
}
if (isBuildStale()) {
  console.error('gpumix: building …');
  const built = await runToEnd(process.execPath, [join(root, 'scripts', 'build.mjs')]);
  if (built.status !== 0) {
    console.error('gpumix: the build failed (see above); nothing was started.');
    process.exit(1);
  }
}

// In this very process, so that the terminal, every signal and the exit code are those of the service.
const main = join(root, 'dist', 'cli', 'main.js');
process.argv = [process.execPath, main, 'serve', '--quickstart', ...process.argv.slice(2)];
import(pathToFileURL(main).href);

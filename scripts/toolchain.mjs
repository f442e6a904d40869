// What `npm start` and `npm test` need before they can begin: a Node.js that is new enough, and the installed packages
// of package-lock.json. Plain Node, no dependencies: this runs in a clone where nothing is installed yet.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** Ends the process with a sentence where this Node.js is too old for package.json's `engines`. */
export function checkNode() {
  const wanted = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).engines.node.replace(/[^\d.]/g, '');
  if (isOlder(process.versions.node, wanted)) {
    console.error(
      `gpumix needs Node.js ${wanted} or later; this is ${process.versions.node} (${process.execPath}). ` +
        'See https://nodejs.org/en/download.',
    );
    process.exit(2);
  }
}

function isOlder(found, wanted) {
  const a = found.split('.').map(Number);
  const b = wanted.split('.').map(Number);
  for (let i = 0; i < b.length; i++) {
    if ((a[i] || 0) !== b[i]) return (a[i] || 0) < b[i];
  }
  return false;
}

/**
 * Installs what package-lock.json asks for, where it is not there.
 *
 * @returns null, or what went wrong
 */
export function installMissing() {
  const missing = whatIsMissing();
  if (missing === null) return null;
  console.error(`gpumix: installing packages (${missing}) …`);
  // Development packages hold the compiler, so they are asked for even where NODE_ENV=production leaves them out.
  const installed = runNpm(['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error']);
  return installed.status === 0 ? null : '`npm ci` failed (see above)';
}

/**
 * Why an installation is needed, in words, or null. npm records what it installed in node_modules/.package-lock.json:
 * comparing the two files says exactly what is absent or of another version, where file times would only guess.
 */
function whatIsMissing() {
  const recordFile = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(recordFile)) return 'none are there yet';
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  const present = JSON.parse(readFileSync(recordFile, 'utf8')).packages;
  for (const [path, entry] of Object.entries(wanted)) {
    // '' is the project itself; optional ones are for other systems and may rightly be absent.
    if (path === '') continue;
    const found = present[path];
    if (found === undefined ? !entry.optional : found.version !== entry.version) {
      return `${path.replace(/^node_modules\//, '')} is ${found === undefined ? 'missing' : `${found.version}, not ${entry.version}`}`;
    }
    if (found !== undefined && !existsSync(join(root, path))) return `${path} is gone`;
  }
  return null;
}

/** Runs npm itself: the very one that runs this script, where there is one. */
function runNpm(args) {
  const npm = process.env.npm_execpath;
  const options = { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] };
  if (npm && /npm-cli\.c?js$/.test(npm)) return spawnSync(process.execPath, [npm, ...args], options);
  return spawnSync('npm', args, { ...options, shell: process.platform === 'win32' });
}

const builtStamp = join(root, 'dist', '.built');

/** True where dist/ is absent, or older than what it is made from. The stamp is written by a build that succeeded. */
export function isBuildStale() {
  if (!existsSync(builtStamp)) return true;
  const builtAt = statSync(builtStamp).mtimeMs;
  const inputs = ['tsconfig.json', 'tsconfig.build.json', 'package-lock.json', join('scripts', 'build.mjs')];
  return (
    inputs.some((file) => statSync(join(root, file)).mtimeMs > builtAt) || newestChangeMs(join(root, 'src')) > builtAt
  );
}

/** Newest change in a folder: of a file, or of a folder itself (a file that came or went). */
function newestChangeMs(folder) {
  let newest = statSync(folder).mtimeMs;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    newest = Math.max(newest, entry.isDirectory() ? newestChangeMs(path) : statSync(path).mtimeMs);
  }
  return newest;
}

// What `npm start` and `npm test` need before they can begin: a Node.js that is new enough, and the installed packages
// of package-lock.json. Plain Node, no dependencies: this runs in a clone where nothing is installed yet.
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { constants } from 'node:os';
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

/** After this long an installation says what it is busy with [ms]. */
const silenceMs = 10_000;

/** What npm writes where the registry cannot be reached. */
const networkFailure =
  /\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ERR_SOCKET_TIMEOUT|FETCH_ERROR|EIDLETIMEOUT)\b|network request to .* failed/i;

/**
 * Installs what package-lock.json asks for, where it is not there.
 *
 * @returns null, or what went wrong; a signal that ends the installation ends this process once npm has ended
 */
export async function installMissing() {
  const missing = whatIsMissing();
  if (missing === null) return null;
  console.error(`gpumix: installing packages (${missing}) …`);
  const registry = (process.env.npm_config_registry ?? 'the npm registry').replace(/\/\/[^/@]*@/, '//');
  const notice = setTimeout(() => {
    console.error(
      `gpumix: still installing from ${registry}; behind a proxy, npm needs HTTPS_PROXY or its own settings …`,
    );
  }, silenceMs);
  // Development packages hold the compiler, so they are asked for even where NODE_ENV=production leaves them out.
  // npm would try an unreachable registry for minutes without a word.
  const { status, errors } = await runNpm([
    'ci',
    '--include=dev',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
    '--fetch-timeout=30000',
    '--fetch-retries=2',
    '--fetch-retry-mintimeout=1000',
    '--fetch-retry-maxtimeout=5000',
  ]).finally(() => clearTimeout(notice));
  if (status === 0) return null;
  if (networkFailure.test(errors)) {
    return `${registry} cannot be reached from here, and the packages come from it (see above; behind a proxy set HTTPS_PROXY, for a mirror \`npm config set registry URL\`)`;
  }
  return '`npm ci` failed (see above)';
}

/** Signals that ask this process to end; what it runs is asked first. */
const endings = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/**
 * Runs a program to its end, and never ends before it: one that went on by itself would still write into node_modules/
 * or dist/ when the next start does. A signal is passed on (a second one kills), and ends this process afterwards.
 *
 * @returns its exit code (null where a signal ended it) and what it wrote to standard error, with `keepErrors`
 */
export function runToEnd(command, args, { keepErrors = false, ...options } = {}) {
  // In a group of its own, Ctrl-C of a terminal reaches it (and what it started) once, through here, and not twice.
  const hasGroup = process.platform !== 'win32';
  const child = spawn(command, args, {
    cwd: root,
    ...options,
    stdio: ['ignore', 'inherit', keepErrors ? 'pipe' : 'inherit'],
    detached: hasGroup,
  });
  let errors = '';
  child.stderr?.on('data', (chunk) => {
    process.stderr.write(chunk);
    errors = (errors + chunk).slice(-100_000);
  });
  let endedBy = null;
  const passOn = (signal) => {
    const isFirst = endedBy === null;
    endedBy ??= signal;
    if (isFirst) console.error('gpumix: stopping; what runs ends first (Ctrl-C again ends it at once) …');
    try {
      process.kill(hasGroup ? -child.pid : child.pid, isFirst ? signal : 'SIGKILL');
    } catch {
      // It has just ended.
    }
  };
  for (const signal of endings) process.on(signal, passOn);
  return new Promise((resolve) => {
    child.once('error', (error) => {
      console.error(`gpumix: ${command}: ${error.message}`);
      resolve(1);
    });
    child.once('close', resolve);
  }).then((status) => {
    for (const signal of endings) process.off(signal, passOn);
    if (endedBy !== null) process.exit(128 + constants.signals[endedBy]);
    return { status, errors };
  });
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
  if (npm && /npm-cli\.c?js$/.test(npm)) return runToEnd(process.execPath, [npm, ...args], { keepErrors: true });
  return runToEnd('npm', args, { keepErrors: true, shell: process.platform === 'win32' });
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

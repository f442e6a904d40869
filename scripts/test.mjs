// `npm test`: everything that says whether this tree is good. Installs what is missing, then format and lint, types,
// build, every test, and a look for processes that a test left behind. The last line is `N passed, N failed`
// (`, N skipped` where tests were); each check before and after the tests counts as one. Arguments after `--` go to
// Vitest: `npm test -- test/core`.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureServer } from './test-servers.mjs';
import { checkNode, installMissing, root } from './toolchain.mjs';

const totals = { passed: 0, failed: 0, skipped: 0 };
const failures = [];
// Logs of a CI are read as plain text.
const environment = process.stdout.isTTY ? process.env : { ...process.env, NO_COLOR: '1', FORCE_COLOR: undefined };

checkNode();
count('packages', await installMissing());
if (totals.failed === 0) runChecks();
for (const failure of failures) console.log(`failed: ${failure}`);
const skipped = totals.skipped > 0 ? `, ${totals.skipped} skipped` : '';
console.log(`${totals.passed} passed, ${totals.failed} failed${skipped}`);
process.exit(totals.failed > 0 ? 1 : 0);

function count(name, failure) {
  if (failure === null) totals.passed++;
  else {
    totals.failed++;
    failures.push(`${name}: ${failure}`);
  }
  return failure === null;
}

function bin(name, script) {
  return [process.execPath, join(root, 'node_modules', name, script)];
}

/** Runs one step with its output shown. Returns null, or what went wrong. */
function step(title, [command, ...args], more = {}) {
  console.log(`\n── ${title}`);
  const result = spawnSync(command, args, {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...environment, ...more },
  });
  if (result.error) return result.error.message;
  if (result.signal) return `ended by ${result.signal}`;
  return result.status === 0 ? null : `exit code ${result.status}`;
}

function runChecks() {
  const biome = [...bin('@biomejs/biome', 'bin/biome'), 'ci', ...(process.stdout.isTTY ? [] : ['--colors=off']), '.'];
  count('redis-server', ensureServer('redis'));
  // Not everybody may install it: without it the tests that need it are skipped, which is counted.
  const noPrometheus = ensureServer('prometheus');
  if (noPrometheus !== null) console.log(`gpumix: tests are skipped: ${noPrometheus}`);
  count('format and lint', step('format and lint', biome));
  count('types', step('types', [...bin('typescript', 'bin/tsc'), '--noEmit', '-p', 'tsconfig.json']));
  count('build', step('build', [process.execPath, join(root, 'scripts', 'build.mjs')]));
  // After a failed build too: the compiler emits all the same, and what the tests say helps to mend it.
  runTests(process.argv.slice(2));
}

function runTests(args) {
  const folder = mkdtempSync(join(tmpdir(), 'gpumix-test-'));
  const reportFile = join(folder, 'report.json');
  // Every process that a test starts inherits this mark; it is how one that is left behind is recognised.
  const mark = `TEST_RUN_OF_GPUMIX=${process.pid}-${Date.now()}`;
  const [name, value] = mark.split('=');
  const reporters = args.some((arg) => arg.startsWith('--reporter')) ? [] : ['--reporter=default'];
  const failure = step(
    'tests',
    [
      ...bin('vitest', 'vitest.mjs'),
      'run',
      ...reporters,
      '--reporter=json',
      `--outputFile.json=${reportFile}`,
      ...args,
    ],
    { [name]: value },
  );
  const failedBefore = totals.failed;
  try {
    const report = JSON.parse(readFileSync(reportFile, 'utf8'));
    totals.passed += report.numPassedTests;
    totals.skipped += report.numPendingTests + report.numTodoTests;
    totals.failed += report.numFailedTests;
    for (const file of report.testResults) {
      // A file that could not even be loaded holds no test that could fail.
      if (file.status === 'failed' && file.assertionResults.every((test) => test.status !== 'failed')) {
        count(file.name, 'could not be run');
      }
    }
    // Exit codes say more than tests: an error outside of any test, or no test found at all.
    if (failure !== null && totals.failed === failedBefore) count('tests', failure);
  } catch (error) {
    count('tests', `Vitest ended without a report (${failure ?? error.message})`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  count('nothing left running', describeLeftovers(mark));
}

/** Waits a moment for processes of the run to end, ends those that did not, and names them; null = none. */
function describeLeftovers(mark) {
  // Only Linux shows the environment of a process; elsewhere there is nothing to look at.
  if (process.platform !== 'linux') return null;
  const patienceMs = 5000;
  const until = Date.now() + patienceMs;
  let left = processesWith(mark);
  while (left.length > 0 && Date.now() < until) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
    left = processesWith(mark);
  }
  if (left.length === 0) return null;
  for (const { pid } of left) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It ended by itself meanwhile.
    }
  }
  return `${left.map(({ pid, command }) => `${pid} (${command})`).join(', ')} had to be ended`;
}

function processesWith(mark) {
  const found = [];
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)) {
    try {
      const environment = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
      if (!environment.includes(mark)) continue;
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').join(' ').trim();
      // A zombie has an empty command line: it has ended, and waits for its parent to notice.
      if (command !== '') found.push({ pid: Number(pid), command: command.slice(0, 80) });
    } catch {
      // Of another user, or gone.
    }
  }
  return found;
}

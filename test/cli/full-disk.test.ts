import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { childEnvironment } from '../support/child-environment.js';
import { freePort } from '../support/redis-server.js';

/** A device on which every write fails as on a full disk. */
const full = '/dev/full';
const hasFull = existsSync(full);

type Ended = { readonly code: number | null; readonly stdout: string; readonly stderr: string };

function start(
  args: readonly string[],
  options: { readonly stdout?: number | 'pipe'; readonly stderr?: number | 'pipe'; readonly temporary?: string } = {},
): { readonly child: ChildProcess; readonly ended: Promise<Ended> } {
  const { stdout = 'pipe', stderr = 'pipe', temporary } = options;
  const child = spawn(process.execPath, ['dist/cli/main.js', ...args], {
    env: childEnvironment({ HOME: tmpdir(), ...(temporary === undefined ? {} : { TMPDIR: temporary }) }),
    stdio: ['ignore', stdout, stderr],
  });
  const text = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) child[name]?.on('data', (chunk) => (text[name] += chunk));
  const ended = new Promise<Ended>((resolve) => child.once('close', (code) => resolve({ code, ...text })));
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  return { child, ended };
}

function opened(path: string): number {
  const file = openSync(path, 'w');
  onTestFinished(() => closeSync(file));
  return file;
}

/** A file system with hardly any room; null where this process may not make one. */
function smallFileSystem(): string | null {
  const folder = mkdtempSync(join(tmpdir(), 'gpumix-full-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=512k', 'tmpfs', folder], { stdio: 'ignore' });
  } catch {
    rmSync(folder, { recursive: true });
    return null;
  }
  onTestFinished(() => {
    execFileSync('umount', [folder]);
    rmSync(folder, { recursive: true });
  });
  return folder;
}

/** Leaves less room than any of the results needs. */
function fill(folder: string): void {
  const file = openSync(join(folder, 'fill'), 'w');
  try {
    for (;;) writeFileSync(file, Buffer.alloc(1024));
  } catch (error) {
    expect(error).toMatchObject({ code: 'ENOSPC' });
  } finally {
    closeSync(file);
  }
}

describe.skipIf(!hasFull)('a standard output that is full', () => {
  it.each([
    ['plan', ['plan', 'samples/problems/budget.json']],
    ['plan --json', ['plan', 'samples/problems/budget.json', '--json']],
    ['explain', ['explain', 'samples/problems/budget.json']],
    ['estimate', ['estimate', '--gpu', 'H100', '--model', 'qwen3-14b', '--ttft', '2', '--tpot', '0.1']],
    ['--help', ['--help']],
  ])('is said of %s in one line, and is no success', async (_, args) => {
    const { ended } = start(args, { stdout: opened(full) });
    const { code, stderr } = await ended;
    expect([code, stderr.trim().split('\n').at(-1)]).toEqual([
      2,
      'gpumix: standard output: found a full disk, expected room for the result',
    ]);
  });
});

describe('a file that does not fit', () => {
  it('leaves what stood there, nothing half-written beside it, and is said', async ({ skip }) => {
    const folder = smallFileSystem();
    if (folder === null) return skip('no file system can be mounted here');
    const file = join(folder, 'profile.json');
    writeFileSync(file, 'the one before');
    fill(folder);
    const estimate = ['estimate', '--gpu', 'H100', '--model', 'qwen3-14b', '--ttft', '2', '--tpot', '0.1'];
    const { code, stderr } = await start([...estimate, '--output', file]).ended;
    expect([code, stderr]).toEqual([2, expect.stringContaining('found a full disk')]);
    expect(readFileSync(file, 'utf8')).toBe('the one before');
    expect(readdirSync(folder).sort()).toEqual(['fill', 'profile.json']);
  });

  it('of a document or report is not there, and is said', async ({ skip }) => {
    const folder = smallFileSystem();
    if (folder === null) return skip('no file system can be mounted here');
    fill(folder);
    const what = ['--trace', 'samples/backtest/trace.csv.gz', '--config', 'samples/backtest/gpumix.yaml'];
    const how = ['--policy', 'aibrix', '--duration', '10m', '--report', join(folder, 'report.html')];
    const { code, stderr } = await start(['simulate', ...what, ...how]).ended;
    expect([code, stderr]).toEqual([2, expect.stringContaining('--report: ')]);
    expect(stderr).toContain('report.html: found a full disk');
    expect(readdirSync(folder)).toEqual(['fill']);
  });

  it('of rows ends with a whole row, and the benchmark goes on with it once there is room', async ({ skip }) => {
    const folder = smallFileSystem();
    if (folder === null) return skip('no file system can be mounted here');
    const file = join(folder, 'rows.jsonl');
    const measure = ['benchmark', '--model', 'llama-3.1-8b', '--simulate', '--gpu', 'L4', '--slo-ttft', '2'];
    const cells = ['--inputs', '128,256', '--outputs', '64,128', '-o', file];
    // Some rows fit.
    writeFileSync(join(folder, 'fill'), Buffer.alloc((512 - 48) * 1024));
    const first = await start([...measure, ...cells]).ended;
    expect([first.code, first.stderr]).toEqual([2, expect.stringContaining('rows.jsonl: found a full disk')]);
    const rows = readFileSync(file, 'utf8');
    expect(rows.endsWith('\n')).toBe(true);
    for (const row of rows.trim().split('\n')) JSON.parse(row);
    rmSync(join(folder, 'fill'));
    const second = await start([...measure, ...cells, '--resume']).ended;
    expect([second.code, second.stderr]).toEqual([0, expect.any(String)]);
    expect(readFileSync(file, 'utf8').startsWith(rows)).toBe(true);
    expect(readFileSync(file, 'utf8').length).toBeGreaterThan(rows.length);
  });
});

describe('gpumix serve whose log cannot be written', () => {
  async function serving(stdout: number | 'pipe', stderr: number | 'pipe' = 'pipe') {
    const port = await freePort();
    const service = start(['serve', '--quickstart', '--port', String(port)], { stdout, stderr });
    const url = `http://127.0.0.1:${port}`;
    const isServing = async () => {
      const answer = await fetch(`${url}/api/v1/replicas/default/qwen3-14b-l4`);
      expect(answer.status).toBe(200);
      return (await answer.json()) as { at: string };
    };
    await vi.waitFor(isServing, { timeout: 30_000, interval: 50 });
    return { ...service, url, isServing };
  }

  it.skipIf(!hasFull)('because the disk is full goes on, says so once, and ends with 0', async () => {
    const { child, ended, isServing } = await serving(opened(full));
    const { at } = await isServing();
    // The next cycle, with its lines.
    await vi.waitFor(async () => expect((await isServing()).at).not.toBe(at), { timeout: 30_000, interval: 50 });
    child.kill('SIGTERM');
    const { code, stderr } = await ended;
    expect([code, stderr]).toEqual([
      0,
      'gpumix: the log cannot be written, the disk is full: the service goes on without those lines\n',
    ]);
  });

  it('because nobody reads it any more goes on, also where nobody hears that', async () => {
    const { child, ended, isServing } = await serving('pipe');
    child.stdout?.destroy();
    child.stderr?.destroy();
    const { at } = await isServing();
    await vi.waitFor(async () => expect((await isServing()).at).not.toBe(at), { timeout: 30_000, interval: 50 });
    child.kill('SIGTERM');
    expect((await ended).code).toBe(0);
  });

  it('for a while goes on with its log once there is room', async ({ skip }) => {
    const folder = smallFileSystem();
    if (folder === null) return skip('no file system can be mounted here');
    const log = opened(join(folder, 'log'));
    fill(folder);
    // Without a store it holds, and says so in its log, which a quickstart does not.
    const port = await freePort();
    const config = mkdtempSync(join(tmpdir(), 'gpumix-'));
    onTestFinished(() => rmSync(config, { recursive: true }));
    const file = join(config, 'gpumix.yaml');
    const list = '[{ namespace: default, name: a, model: m, gpuType: L4 }]';
    writeFileSync(
      file,
      `server: { port: ${port} }\nredis: { url: 'redis://127.0.0.1:1' }\ndeployments: { source: config, list: ${list} }\n`,
    );
    const { child, ended } = start(['serve', '--config', file], { stdout: log });
    await vi.waitFor(async () => expect((await fetch(`http://127.0.0.1:${port}/healthz`)).status).toBe(200), {
      timeout: 30_000,
      interval: 50,
    });
    expect(readFileSync(join(folder, 'log'), 'utf8')).not.toContain('listening');
    rmSync(join(folder, 'fill'));
    child.kill('SIGTERM');
    const { code, stderr } = await ended;
    expect([code, stderr]).toEqual([0, expect.stringContaining('the log cannot be written, the disk is full')]);
    expect(readFileSync(join(folder, 'log'), 'utf8')).toContain('"msg":"stopped"');
  });
});

import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { commandRunner } from '../../../src/adapters/gpu-detection/command-runner.js';
import { makeToolFolder, type ToolFolder } from './tool-folder.js';

let tools: ToolFolder;
beforeEach(async () => {
  tools = await makeToolFolder();
});
afterEach(() => tools.remove());

const runner = (limitMs?: number) =>
  commandRunner({ path: tools.path, root: tools.root, ...(limitMs === undefined ? {} : { limitMs }) });

it('tells what a tool printed and how it ended, in the language of programs', async () => {
  await tools.script('tool', 'echo "$1 $LC_ALL"; echo sorry >&2; exit 9');
  expect(await runner()('tool', ['-L'])).toEqual({ kind: 'ended', exitCode: 9, stdout: '-L C\n', stderr: 'sorry\n' });
  await tools.script('tool', 'kill -9 $$');
  expect(await runner()('tool', [])).toEqual({ kind: 'ended', exitCode: null, stdout: '', stderr: '' });
});

it('tells that a tool is absent, or cannot be started', async () => {
  expect(await runner()('tool', [])).toEqual({ kind: 'absent' });
  await writeFile(join(tools.path, 'tool'), 'no program', { mode: 0o644 });
  expect(await runner()('tool', [])).toEqual({ kind: 'refused', code: 'EACCES' });
});

it('looks where the packages of the vendors put tools that are not on PATH', async () => {
  await mkdir(join(tools.root, 'opt/rocm/bin'), { recursive: true });
  const file = join(tools.root, 'opt/rocm/bin/rocm-smi');
  await writeFile(file, '#!/bin/sh\necho here\n');
  await chmod(file, 0o755);
  expect(await runner()('rocm-smi', [])).toMatchObject({ stdout: 'here\n' });
});

it('ends a tool that hangs, with what it started, and does not wait for it', async () => {
  const file = join(tools.root, 'pids');
  await writeFile(file, '');
  // It ignores the polite signal, and its child would hold the output open.
  await tools.script('tool', `trap '' TERM; /bin/sleep 600 & echo "$$ $!" > '${file}'; wait; wait`);
  const outcome = await runner(3000)('tool', []);
  expect(outcome).toEqual({ kind: 'late', limitMs: 3000 });
  const pids = (await readFile(file, 'utf8')).trim().split(' ').map(Number);
  expect(pids).toHaveLength(2);
  for (const pid of pids) await expect.poll(() => isRunning(pid), { timeout: 5000 }).toBe(false);
});

it('ends a tool that does not stop to print', async () => {
  await tools.script('tool', 'exec /usr/bin/env yes aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa');
  const run = commandRunner({ path: `${tools.path}:/usr/bin:/bin`, root: tools.root });
  expect(await run('tool', [])).toEqual({ kind: 'flood', limitBytes: 4 * 1024 * 1024 });
});

/** A zombie that nobody has waited for yet counts as ended. */
async function isRunning(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return stat !== '' && !/\) [ZX] /.test(stat);
}

import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, it } from 'vitest';
import { childEnvironment } from '../support/child-environment.js';

/** Runs the real program, as it is installed. */
function gpumix(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  onStart: (child: ChildProcess) => void = () => {},
) {
  return new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve, reject) => {
    const child = spawn(process.execPath, ['dist/cli/main.js', ...args], {
      env: childEnvironment(env),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    onStart(child);
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
    });
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}

describe('gpumix', () => {
  it('prints its version', async () => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
    expect(await gpumix(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
  });

  it.each([[[]], [['--help']], [['help']]])('prints commands and examples for %j', async (args) => {
    const { code, stdout, stderr } = await gpumix(args);
    expect([code, stderr]).toEqual([0, '']);
    for (const text of ['serve', 'plan', 'explain', 'replay', 'Examples:']) expect(stdout).toContain(text);
  });

  it.each([[['plan', '--help']], [['help', 'plan']]])('prints the flags of a command for %j', async (args) => {
    const { code, stdout } = await gpumix(args);
    expect(code).toBe(0);
    expect(stdout).toContain('--solver');
  });

  it('suggests the nearest command and exits with 2', async () => {
    const { code, stdout, stderr } = await gpumix(['serv']);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain("unknown command 'serv'");
    expect(stderr).toContain('Did you mean serve?');
  });

  it('suggests the nearest flag and exits with 2', async () => {
    const { code, stderr } = await gpumix(['serve', '--prot', '8080']);
    expect(code).toBe(2);
    expect(stderr).toContain('--port');
  });

  it('says that it was called off by a signal, which is no fault, and exits with 1', async () => {
    let child: ChildProcess | undefined;
    // Asked for its models, the server is silent; then comes Ctrl-C.
    const silent = createServer(() => child?.kill('SIGINT'));
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
    const args = ['benchmark', '--base-url', url, '--model', 'm', '--slo-ttft', '1'];
    const { code, stdout, stderr } = await gpumix(args, {}, (started) => {
      child = started;
    });
    silent.closeAllConnections();
    silent.close();
    expect([code, stdout, stderr]).toEqual([1, '', 'gpumix: called off before there was a result\n']);
  });

  it.each([
    ['benchmark', ['--model', 'm', '--base-url', 'http://127.0.0.1:1', '--slo-ttft', '1']],
    ['replay', ['--trace', 'samples/quickstart/trace.csv.gz', '--model', 'm', '--redis', 'redis://127.0.0.1:1']],
    [
      'estimate',
      ['--gpu', 'L4', '--model', 'llama-3.1-8b', '--ttft', '2', '--tpot', '0.1', '-o', 'redis://127.0.0.1:1/?model=m'],
    ],
  ])('%s exits with 1 where what it needs does not answer: a script may try again', async (command, args) => {
    const { code, stderr } = await gpumix([command, ...args]);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/ECONNREFUSED/)]);
  });

  it('lists its exit codes, and every command says what its own mean', async () => {
    const { stdout } = await gpumix(['--help']);
    expect(stdout).toMatch(/Exit codes of every command:\n {2}0 .*\n {2}1 .*\n {2}2 .*\n {2}70 /);
    for (const [, command] of stdout.slice(stdout.indexOf('Commands:')).matchAll(/^ {2}([a-z-]+) .*\S$/gm)) {
      if (command === 'help' || command === 'gpumix') continue;
      expect([command, (await gpumix([command!, '--help'])).stdout]).toEqual([
        command,
        expect.stringMatching(/Exit code: 0 [\s\S]*\b2\s+bad\s+input/),
      ]);
    }
  });

  it('reports bad input with its place, without a stack, and exits with 2', async () => {
    const { code, stdout, stderr } = await gpumix(['plan', 'no-such-file.json']);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^gpumix: no-such-file\.json: found /);
    expect(stderr).not.toContain('    at ');
  });

  it('ends quietly where its reader has read enough', async () => {
    const child = spawn('sh', ['-c', `${process.execPath} dist/cli/main.js --help | true; echo "$?"`], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stderr = '';
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    await new Promise((resolve) => child.on('close', resolve));
    expect(stderr).toBe('');
  });
});

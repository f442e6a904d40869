import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, describe, expect, it } from 'vitest';
import { type EngineFlags, engineCommand, runEngine } from '../../src/cli/engine.js';
import { childEnvironment } from '../support/child-environment.js';

const children: ChildProcess[] = [];
afterAll(() => {
  for (const child of children) child.kill('SIGKILL');
});

/** Starts the real program; resolves with its first line. */
async function gpumixEngine(args: readonly string[]) {
  const child = spawn(process.execPath, ['dist/cli/main.js', 'engine', ...args], {
    env: childEnvironment({}),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.push(child);
  let [stdout, stderr] = ['', ''];
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  const ended = once(child, 'close').then(([code]) => ({ code: code as number | null, stdout, stderr }));
  const started = new Promise<string>((resolve) => {
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
      if (stdout.includes('\n')) resolve(stdout.slice(0, stdout.indexOf('\n')));
    });
  });
  return { child, firstLine: await Promise.race([started, ended.then(() => '')]), ended };
}

/** Parses flags as the command does, without running it. */
function flagsOf(args: readonly string[]): EngineFlags {
  const command = engineCommand()
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .action(() => {});
  return command.parse(args, { from: 'user' }).opts<EngineFlags>();
}

/** Runs the command in this process until `during` is done with it. */
async function run(args: readonly string[], during: (url: string) => Promise<void> = async () => {}): Promise<string> {
  let output = '';
  let stop: (signal: string) => void = () => {};
  const stopped = new Promise<string>((resolve) => {
    stop = resolve;
  });
  let listening: (text: string) => void = () => {};
  const written = new Promise<string>((resolve) => {
    listening = resolve;
  });
  const ran = runEngine(flagsOf(args), {
    write: (text) => {
      output += text;
      listening(text);
    },
    untilStopped: () => stopped,
  });
  const first = await Promise.race([written, ran.then(() => '')]);
  await during(/http:\/\/[\d.:]+/.exec(first)![0]);
  stop('SIGTERM');
  await ran;
  return output;
}

describe('gpumix engine', () => {
  it('says in its first line that it is simulated, of what, and where; and ends cleanly on Ctrl-C', async () => {
    const { child, firstLine, ended } = await gpumixEngine([
      '--gpu',
      'l4',
      '--model',
      'org/Llama-3.1-8B-Instruct',
      '--port',
      '0',
    ]);
    const url =
      /^simulated engine \(gpu=L4; gpus=1; model=llama-3\.1-8b; precision=bf16\) at (http:\/\/127\.0\.0\.1:\d+)\/v1: no GPU/.exec(
        firstLine,
      )?.[1];
    expect([firstLine, url]).toEqual([expect.any(String), expect.any(String)]);
    const response = await fetch(`${url}/v1/models`);
    expect(response.headers.get('x-gpumix-simulated')).toBe('true; gpu=L4; gpus=1; model=llama-3.1-8b; precision=bf16');
    expect(await response.json()).toMatchObject({ data: [{ id: 'org/Llama-3.1-8B-Instruct' }] });
    child.kill('SIGINT');
    const { code, stdout, stderr } = await ended;
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout.endsWith('stopped by SIGINT after 0 requests\n')).toBe(true);
  });

  it('ends cleanly while it answers', async () => {
    const { child, firstLine, ended } = await gpumixEngine(['--null', '--port', '0', '--json', '--fault-hang', '1']);
    const { url, simulated, model, maxModelTokens, kvCacheTokens } = JSON.parse(firstLine);
    expect({ simulated, model, maxModelTokens, kvCacheTokens }).toEqual({
      simulated: true,
      model: 'null',
      maxModelTokens: 131_072,
      kvCacheTokens: null,
    });
    const cutOff = fetch(`${url}/v1/completions`, { method: 'POST', body: '{"prompt":"a"}' }).catch(() => 'cut off');
    // Requests of one process are taken in order: once this one is answered, the other is held.
    await fetch(`${url}/health`);
    child.kill('SIGTERM');
    expect(await cutOff).toBe('cut off');
    expect(await ended).toMatchObject({ code: 0, stderr: '' });
  });

  it('exits with 2 where its port is in use', async () => {
    const { firstLine } = await gpumixEngine(['--null', '--port', '0', '--json']);
    const port = new URL(JSON.parse(firstLine).url).port;
    const { ended } = await gpumixEngine(['--null', '--port', port]);
    expect(await ended).toEqual({
      code: 2,
      stdout: '',
      stderr: `gpumix: --port: found ${port}, on which another process listens already, expected a free port, or 0 for any\n`,
    });
  });

  it('prints its flags', async () => {
    const { ended } = await gpumixEngine(['--help']);
    const { code, stdout } = await ended;
    expect(code).toBe(0);
    for (const flag of ['--gpu', '--model', '--null', '--speed', '--fault-drop', '--api-key', '--max-num-seqs']) {
      expect(stdout).toContain(flag);
    }
  });

  it('suggests the nearest flag', async () => {
    const { ended } = await gpumixEngine(['--null', '--fault-erors', '1']);
    const { code, stderr } = await ended;
    expect(code).toBe(2);
    expect(stderr).toContain('--fault-errors');
  });

  it.each<[string, readonly string[], string]>([
    ['nothing to simulate', [], '--gpu: found nothing, expected a GPU type, such as L4, or --null to simulate nothing'],
    ['no model', ['--gpu', 'L4'], '--model: found nothing, expected a model, such as llama-3.1-8b'],
    [
      'an unknown GPU',
      ['--gpu', 'H10O', '--model', 'llama-3.1-8b'],
      '--gpu: found "H10O", expected a name of the GPU catalogue; did you mean "H100"?',
    ],
    ['a GPU like no other', ['--gpu', 'abacus-9000', '--model', 'm'], 'a name of the GPU catalogue: T4, '],
    ['an unknown model', ['--gpu', 'L4', '--model', 'lama-3.1-8b'], 'did you mean "llama-3.1-8b"?'],
    ['weights that do not fit', ['--gpu', 'L4', '--model', 'llama-3.1-70b'], 'llama-3.1-70b on 1 × L4: found '],
    [
      'a context that the cache cannot hold',
      ['--gpu', 'L4', '--model', 'llama-3.1-8b', '--max-model-len', '100000'],
      '--max-model-len: found 100000, expected at most ',
    ],
    [
      'a context that the model was not made for',
      ['--gpu', 'H200', '--model', 'llama-3.1-8b', '--max-model-len', '200000'],
      '--max-model-len: found 200000, expected at most 131072, the context that llama-3.1-8b is made for',
    ],
    ['a GPU beside --null', ['--null', '--gpu', 'L4'], '--gpu: found a value beside --null, expected one of the two'],
    ['a speed beside --null', ['--null', '--speed', '2'], '--speed: found a value beside --null'],
    ['no name', ['--null', '--served-model-name', ''], '--served-model-name: found "", expected the name of a model'],
    ['no address', ['--null', '--host', ''], '--host: found "", expected an address of this machine'],
    ['an empty key', ['--null', '--api-key', ''], '--api-key: found "", expected a key, or no such flag'],
    [
      'too many faults',
      ['--null', '--fault-errors', '0.6', '--fault-drop', '0.5'],
      'faults: found rates that add up to 1.1',
    ],
  ])('refuses %s with a sentence', async (_, args, message) => {
    await expect(run([...args, '--port', '0'])).rejects.toThrow(message);
  });

  it.each<[readonly string[], string]>([
    [['--port', '65536'], 'expected a whole number from 0 to 65535.'],
    [['--gpus', '0'], 'expected a whole number >= 1.'],
    [['--speed', '0'], 'expected a number > 0.'],
    [['--eos-rate', '1.5'], 'expected a probability, 0 to 1.'],
    [['--fault-errors', 'x'], 'expected a probability, 0 to 1.'],
    [['--fault-slow-start', '-1'], 'expected a number >= 0.'],
    [['--precision', 'fp7'], 'Allowed choices are bf16, fp8, int8, int4, fp4.'],
    [['--kv-precision', 'int4'], 'Allowed choices are bf16, fp8.'],
  ])('refuses %j', (args, message) => {
    expect(() => flagsOf(args)).toThrow(message);
  });

  it('obeys its flags', async () => {
    const output = await run(
      [
        '--gpu',
        'H100',
        '--gpus',
        '2',
        '--model',
        'Qwen/Qwen3-32B-AWQ',
        '--served-model-name',
        'qwen',
        '--max-model-len',
        '5000',
        '--speed',
        '50',
        '--api-key',
        'k',
        '--fault-no-usage',
        '--eos-rate',
        '0',
        '--port',
        '0',
      ],
      async (url) => {
        expect((await fetch(`${url}/v1/models`)).status).toBe(401);
        const headers = { authorization: 'Bearer k' };
        expect(await (await fetch(`${url}/v1/models`, { headers })).json()).toMatchObject({
          data: [{ id: 'qwen', max_model_len: 5000 }],
        });
        const response = await fetch(`${url}/v1/completions`, { method: 'POST', headers, body: '{"prompt":"a"}' });
        expect(response.headers.get('x-gpumix-simulated')).toBe(
          'true; gpu=H100; gpus=2; model=qwen3-32b; precision=int4; speed=50',
        );
        expect(await response.json()).not.toHaveProperty('usage');
      },
    );
    expect(output).toContain('model "qwen", requests of up to 5000 tokens, a KV cache of ');
    expect(output.endsWith('stopped by SIGTERM after 1 request\n')).toBe(true);
  });
});

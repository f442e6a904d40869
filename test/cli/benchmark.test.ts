import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { type BenchmarkSurroundings, benchmarkCommand, runBenchmarkCommand } from '../../src/cli/benchmark.js';
import { type BenchmarkFlags, benchmarkFlags } from '../../src/cli/benchmark-flags.js';
import { genProfileCommand, runGenProfile } from '../../src/cli/gen-profile.js';
import { parseProfile } from '../../src/core/profile.js';
import { type ScriptedServer, scriptedServer, streamWords } from '../adapters/openai/scripted-server.js';
import { childEnvironment } from '../support/child-environment.js';

/** Parses a command line as the command does. */
function flagsOf(...args: readonly string[]): BenchmarkFlags {
  const command = benchmarkFlags()
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  command.parse(['--model', 'm', ...args], { from: 'user' });
  return command.opts<BenchmarkFlags>();
}

async function run(args: readonly string[], around: Partial<BenchmarkSurroundings> = {}) {
  let output = '';
  let errors = '';
  const code = await runBenchmarkCommand(flagsOf(...args), {
    env: {},
    stdin: process.stdin,
    write: (text) => {
      output += text;
    },
    writeError: (text) => {
      errors += text;
    },
    isTerminal: false,
    width: () => undefined,
    nowSeconds: () => performance.now() / 1000,
    signal: new AbortController().signal,
    ...around,
  });
  return { code, output, errors };
}

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'gpumix-benchmark-'));
});
afterEach(() => rmSync(folder, { recursive: true }));
const inFolder = (name: string) => join(folder, name);

type Row = Readonly<Record<string, unknown>>;
const rowsIn = (text: string): readonly Row[] =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Row);

const l4 = ['--model', 'llama-3.1-8b', '--simulate', '--gpu', 'L4', '--slo-ttft', '2', '--slo-tpot', '0.1'];
const cells = ['--inputs', '128,1024', '--outputs', '32,128', '--requests', '40', '--resolution', '0.1'];

describe('flags of gpumix benchmark', () => {
  it.each<[string, readonly string[], string]>([
    ['no server', [], '--base-url: found nothing, expected a server: http://host:8000 (or --simulate --gpu TYPE)'],
    [
      'a search for nothing',
      ['--search'],
      '--search: found no SLO, expected what to look for: --slo-ttft, --slo-tpot or --slo-e2e',
    ],
    [
      'two modes',
      ['--search', '--sweep', '--slo-e2e', '1'],
      '--sweep: found --search beside it, expected one of the two',
    ],
    [
      'rates upside down',
      ['--rate-start', '8', '--rate-limit', '4', '--base-url', 'http://h'],
      '--rate-limit: found 4, expected at least the 8 of --rate-start',
    ],
    [
      'lengths upside down',
      ['--input-start', '8', '--input-limit', '4', '--base-url', 'http://h'],
      '--input-limit: found 4, expected at least the 8 of --input-start',
    ],
    [
      'a server and none',
      ['--simulate', '--gpu', 'L4', '--base-url', 'http://h'],
      '--simulate: found --base-url beside it, expected one of the two',
    ],
    ['no GPU', ['--simulate'], '--gpu: found nothing, expected the GPU type to simulate, such as L4'],
    [
      'a GPU for a server',
      ['--gpu', 'L4', '--base-url', 'http://h'],
      '--gpu: found no --simulate, expected --simulate, which it is about',
    ],
    [
      'a key for no server',
      ['--simulate', '--gpu', 'L4', '--api-key', 'k'],
      '--api-key: found --simulate, expected a server (--base-url), which it is about',
    ],
    [
      'nothing to resume',
      ['--resume', '--base-url', 'http://h'],
      '--resume: found no --output, expected the file to go on with',
    ],
    [
      'a trace without a log',
      ['--arrivals', 'trace', '--base-url', 'http://h'],
      '--arrivals trace: found no --trace and no --mix, expected the request log whose times are taken',
    ],
    [
      'what prompts add to no limit',
      ['--slo-ttft-per-input-token', '0.0002', '--slo-tpot', '1', '--base-url', 'http://h'],
      '--slo-ttft-per-input-token: found no --slo-ttft, expected --slo-ttft, the limit of the shortest prompt, to which it is added',
    ],
    [
      'TTFT without streaming',
      ['--no-stream', '--slo-ttft', '1', '--base-url', 'http://h'],
      '--no-stream: found an SLO on TTFT or TPOT, expected streaming: without it only E2E is known',
    ],
    [
      'TPOT of one token',
      ['--outputs', '1', '--slo-tpot', '1', '--base-url', 'http://h'],
      '--slo-tpot: found answers of one token, expected answers of two tokens and more',
    ],
    [
      'a comparison without a mixture',
      ['--profile', 'p.json', '--base-url', 'http://h'],
      '--profile: found no --mix, expected --mix, which is compared with it',
    ],
  ])('refuse %s with a sentence', async (_, args, message) => {
    await expect(run(args)).rejects.toMatchObject({ name: 'InputError', message });
  });

  it.each<[readonly string[], RegExp]>([
    [['--percentile', '42'], /expected one of 0, 50, 90, 95, 99/],
    [['--inputs', '12,x'], /expected whole numbers of tokens/],
    [['--rate-start', '0'], /expected requests\/s, above 0/],
    [['--requests', '1'], /expected a whole number from 5/],
    [['--resolution', '2'], /expected a number from 0.001 to 1/],
    [['--arrivals', 'sometimes'], /Allowed choices are poisson, constant, trace/],
    [['--slo-tttf', '1'], /unknown option '--slo-tttf'/],
  ])('refuse %j as commander words it', (args, message) => {
    expect(() => flagsOf(...args)).toThrow(message);
  });

  it('have the defaults of AIBrix where it has them', () => {
    expect(flagsOf()).toMatchObject({
      inputStart: 4,
      inputLimit: 4096,
      outputStart: 4,
      outputLimit: 4096,
      temperature: 0,
    });
    expect(benchmarkCommand().name()).toBe('benchmark');
  });
});

describe('a dry run', () => {
  it('prints the runs of a sweep, and asks nobody', async () => {
    const { code, output } = await run(['--dry-run', '--sweep', '--base-url', 'http://127.0.0.1:1']);
    const lines = output.trimEnd().split('\n');
    expect(code).toBe(0);
    expect(lines).toHaveLength(848);
    expect(lines[0]).toBe('4 input, 4 output, 1 requests/s, 100 requests');
    expect(lines.at(-1)).toBe('847 runs, 84700 requests, and those that fill the server');
  });

  it('prints the cells of a search in their order', async () => {
    const { output } = await run(['--dry-run', '--slo-e2e', '5', '--inputs', '64,128,256', '--outputs', '8']);
    expect(
      output
        .split('\n')
        .slice(0, 3)
        .map((line) => line.split(',')[0]),
    ).toEqual(['64 input', '256 input', '128 input']);
    expect(output).toContain('3 cells, in this order; how many runs each takes, the runs decide');
  });
});

describe('gpumix benchmark in virtual time', () => {
  it('writes rows that gen-profile makes a profile of: that of the table', async () => {
    const file = inFolder('l4.jsonl');
    const { code, output, errors } = await run([...l4, ...cells, '-o', file]);
    expect({ code, errors }).toEqual({ code: 0, errors: '' });
    const [title, , header, short, long] = output.split('\n');
    expect(title).toBe('Highest rate within TTFT 2 s, TPOT 0.1 s (P95) [requests/s]');
    expect(header).toMatch(/^output \\ input +128 +1024$/);
    const shown = [short!, long!].map((line) => line.trim().split(/\s+/).slice(1).map(Number));
    expect(output).toContain(
      `Next: gpumix gen-profile DEPLOYMENT --benchmark ${file} --ttft 2 --tpot 0.1 --percentile 95`,
    );
    const command = genProfileCommand().exitOverride();
    command.parseOptions(['--benchmark', file, '--ttft', '2', '--tpot', '0.1', '--percentile', '95']);
    let profile = '';
    const profiled = await runGenProfile('l4', command.opts(), {
      stdin: process.stdin,
      write: (text) => {
        profile += text;
      },
      writeError: () => {},
      now: () => 0,
    });
    expect(profiled).toBe(0);
    const { grid } = parseProfile(profile, 'profile');
    expect(grid.indexes).toEqual([
      [32, 128],
      [128, 1024],
    ]);
    grid.tputs.forEach((row, r) => {
      row.forEach((tput, c) => {
        // What was completed at that rate, which the server kept up with.
        expect(tput! / shown[r]![c]!).toBeGreaterThan(0.89);
        expect(tput! / shown[r]![c]!).toBeLessThan(1.11);
      });
    });
  });

  it('goes on with its file: nothing is measured twice, and other settings are refused', async () => {
    const [whole, part] = [inFolder('whole.jsonl'), inFolder('part.jsonl')];
    await run([...l4, ...cells, '-o', whole]);
    const text = readFileSync(whole, 'utf8');
    // Killed while it wrote: half of a run, and half of a line.
    const kept = text.split('\n').slice(0, 9).join('\n');
    writeFileSync(part, kept.slice(0, -20));
    const { code, errors } = await run([...l4, ...cells, '-o', part, '--resume']);
    expect({ code, errors }).toEqual({
      code: 0,
      errors: `gpumix: ${part}: its last run was cut off and is measured again\n`,
    });
    expect(readFileSync(part, 'utf8')).toBe(text);
    const again = await run([...l4, ...cells, '-o', part, '--resume']);
    expect(again.code).toBe(0);
    expect(readFileSync(part, 'utf8')).toBe(text);
    await expect(run([...l4, ...cells, '--seed', '7', '-o', part, '--resume'])).rejects.toThrow(
      `--resume: seed: found 7, expected 0, as ${part} was made with (line 1)`,
    );
    await expect(run([...l4, ...cells, '-o', part])).rejects.toThrow('found a file that exists');
  });

  it('takes further cells and rates when it goes on', async () => {
    const file = inFolder('l4.jsonl');
    await run([...l4, '--requests', '40', '--inputs', '128', '--outputs', '32', '-o', file]);
    const before = readFileSync(file, 'utf8');
    await run([...l4, '--requests', '40', '--inputs', '128,256', '--outputs', '32', '-o', file, '--resume']);
    const after = readFileSync(file, 'utf8');
    expect(after.startsWith(before)).toBe(true);
    expect(rowsIn(after.slice(before.length)).every(({ input_tokens }) => input_tokens === 256)).toBe(true);
  });

  it('keeps to --max-minutes, says what it left out, and how to go on', async () => {
    const { code, output } = await run([...l4, ...cells, '--max-minutes', '8', '-o', inFolder('l4.jsonl')]);
    expect(code).toBe(0);
    expect(output).toMatch(/not measured to the end \(input\/output\): .*\d+\/\d+/);
    expect(output).toContain('The time allowed is over.');
    expect(output).toContain('To go on: the same command with --resume (and more --max-minutes)');
  });

  it('without --output, rows go to standard output and the table to standard error', async () => {
    const { output, errors } = await run([...l4, '--requests', '40', '--inputs', '128', '--outputs', '32']);
    expect(rowsIn(output).every(({ metric }) => typeof metric === 'string')).toBe(true);
    expect(errors).toContain('Highest rate within');
  });

  it('prints its result as JSON', async () => {
    const { output } = await run([
      ...l4,
      '--requests',
      '40',
      '--inputs',
      '128',
      '--outputs',
      '32',
      '-o',
      inFolder('a.jsonl'),
      '--json',
    ]);
    expect(JSON.parse(output)).toMatchObject({
      ended: 'done',
      results: [{ cell: { inputTokens: 128, outputTokens: 32 }, state: 'found', rate: expect.any(Number) }],
      runs: expect.any(Number),
      warnings: [],
    });
  });

  it('measures a mixture, and says how far the sum of single-cell works was from it', async () => {
    const file = inFolder('cells.jsonl');
    await run([...l4, ...cells, '-o', file]);
    const log = inFolder('log.csv');
    const lines = Array.from(
      { length: 60 },
      (_, i) => `${i * 100},${i % 3 === 0 ? 1024 : 128},${i % 2 === 0 ? 32 : 128}`,
    );
    writeFileSync(log, `timestamp_ms,input_tokens,output_tokens\n${lines.join('\n')}\n`);
    const { code, output } = await run([
      ...l4,
      '--requests',
      '60',
      '--mix',
      log,
      '--profile',
      file,
      '-o',
      inFolder('mix.jsonl'),
    ]);
    expect(code).toBe(0);
    expect(output).toMatch(/the mixture: [\d.]+ requests\/s/);
    const error = Number(/predicts [\d.]+ requests\/s: ([\d.]+) % too (much|little)/.exec(output)?.[1]);
    expect(error).toBeGreaterThanOrEqual(0);
    expect(error).toBeLessThan(60);
    expect(rowsIn(readFileSync(inFolder('mix.jsonl'), 'utf8')).every(({ mix }) => mix === 'log.csv')).toBe(true);
  });

  it('refuses a log of which nothing can be asked', async () => {
    const log = inFolder('log.csv');
    writeFileSync(log, 'timestamp_ms,input_tokens,output_tokens\n0,900000,900000\n1,0,5\n');
    await expect(run([...l4, '--mix', log])).rejects.toThrow(/found 2 requests, none of which can be asked/);
  });

  it('draws one line on a terminal, no wider than it is, and clears it', async () => {
    const drawn: string[] = [];
    let now = 0;
    await run([...l4, '--requests', '40', '--inputs', '128', '--outputs', '32', '-o', inFolder('a.jsonl')], {
      isTerminal: true,
      width: () => 50,
      nowSeconds: () => {
        now += 0.01;
        return now;
      },
      writeError: (text) => drawn.push(text),
    });
    expect(drawn.length).toBeGreaterThan(3);
    expect(drawn.at(-1)).toBe('\r\u001b[K');
    const lines = drawn.map((text) => text.replace('\r\u001b[K', ''));
    expect(lines[1]).toMatch(/^128 in, 32 out · [\d.]+ requests\/s · \d+\/\d+ · TTFT/);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(49);
  });
});

describe('gpumix benchmark of a server', () => {
  let server: ScriptedServer;
  beforeAll(async () => {
    server = await scriptedServer();
  });
  afterAll(() => server.close());

  const fast = [
    '--slo-ttft',
    '1',
    '--requests',
    '20',
    '--rate-start',
    '50',
    '--rate-limit',
    '50',
    '--inputs',
    '8',
    '--outputs',
    '4',
  ];

  // Whether a run is believed depends on how busy this machine is: a generator that falls behind says so.
  it('asks it over HTTP, each prompt anew, and writes what it saw', async () => {
    const file = inFolder('a.jsonl');
    const { code, output } = await run([...fast, '--base-url', server.url, '-o', file]);
    const rows = rowsIn(readFileSync(file, 'utf8'));
    const runs = rows.filter(({ metric }) => metric === 'TPUT');
    const believed = runs.some(({ valid }) => valid !== false);
    expect(code).toBe(believed ? 0 : 1);
    expect(output).toMatch(believed ? />=50/ : /!/);
    expect(runs[0]).toMatchObject({ input_tokens: 8, output_tokens: 4, request_rate: 50, model: 'm', failed: 0 });
    expect(rows.every(({ method }) => method === undefined)).toBe(true);
    expect(new Set(server.requests.map(({ body }) => body.prompt)).size).toBe(server.requests.length);
  });

  it('takes its key from OPENAI_API_KEY', async () => {
    const before = server.requests.length;
    await run([...fast, '--base-url', server.url, '-o', inFolder('a.jsonl')], { env: { OPENAI_API_KEY: 'sk-1' } });
    expect(server.requests.slice(before).every(({ headers }) => headers.authorization === 'Bearer sk-1')).toBe(true);
  });

  it('refuses a model that the server has not, and a server that is not there', async () => {
    await expect(run([...fast, '--model', 'n', '--base-url', server.url])).rejects.toMatchObject({
      name: 'InputError',
    });
    await expect(run([...fast, '--base-url', 'http://127.0.0.1:1'])).rejects.toThrow(/ECONNREFUSED/);
    // One of two is enough to refuse.
    await expect(run([...fast, '--base-url', server.url, '--base-url', 'http://127.0.0.1:1'])).rejects.toThrow(
      /ECONNREFUSED/,
    );
  });

  it('answers 1 where the server goes away, and says how to go on', async () => {
    let asked = 0;
    const leaving = await scriptedServer({
      complete: ({ path }, response) => {
        asked += 1;
        if (asked < 12) {
          response.writeHead(200, { 'content-type': 'application/json' });
          response.end(
            JSON.stringify({ choices: [{ text: ` ${path}` }], usage: { prompt_tokens: 8, completion_tokens: 4 } }),
          );
        } else {
          response.writeHead(404);
          response.end();
        }
      },
    });
    try {
      const { code, output } = await run([
        ...['--slo-e2e', '1', '--requests', '20', '--rate-start', '50', '--rate-limit', '100'],
        ...['--inputs', '8', '--outputs', '4', '--no-stream', '--base-url', leaving.url, '-o', inFolder('a.jsonl')],
      ]);
      expect(code).toBe(1);
      expect(output).toContain('No server answers any more.');
      expect(output).toContain('To go on: the same command with --resume');
    } finally {
      await leaving.close();
    }
  });

  describe('as a process', () => {
    const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
    let child: ChildProcess | null = null;
    afterEach(() => {
      child?.kill('SIGKILL');
    });

    it('leaves a valid file at Ctrl-C, and goes on with it', async () => {
      const file = inFolder('a.jsonl');
      const answer = streamWords();
      let isCalledOff = false;
      // It is called off by the first request after its first row, and gets no answer any more: it cannot be done before.
      const own = await scriptedServer({
        complete: (request, response) => {
          if (!isCalledOff && written() > 0) {
            isCalledOff = true;
            first.child.kill('SIGINT');
          }
          if (!isCalledOff || first.child.exitCode !== null) answer(request, response);
        },
      });
      onTestFinished(() => own.close());
      const written = () => (existsSync(file) ? readFileSync(file, 'utf8').length : 0);
      const args = [
        ...['benchmark', '--model', 'm', '--base-url', own.url, '--sweep', '--requests', '20', '-o', file],
        ...['--rate-start', '40', '--rate-limit', '80', '--inputs', '8,16', '--outputs', '2,4'],
      ];
      const start = (...more: readonly string[]) => {
        child = spawn(process.execPath, [main, ...args, ...more], {
          env: childEnvironment(),
          stdio: ['ignore', 'pipe', 'pipe'],
        });
        let output = '';
        child.stdout!.on('data', (text) => {
          output += String(text);
        });
        child.stderr!.on('data', (text) => {
          output += String(text);
        });
        return { child, exit: once(child, 'exit'), output: () => output };
      };
      const first = start();
      const [code] = await first.exit;
      expect(first.output()).toContain('Called off.');
      expect(first.output()).toContain('To go on: the same command with --resume');
      expect(code).toBe(1);
      const text = readFileSync(file, 'utf8');
      expect(text.endsWith('\n')).toBe(true);
      const done = rowsIn(text).filter(({ metric }) => metric === 'TPUT').length;
      expect(done).toBeGreaterThanOrEqual(1);
      expect(done).toBeLessThan(8);

      const second = start('--resume');
      expect(await second.exit, second.output()).toEqual([0, null]);
      const whole = readFileSync(file, 'utf8');
      expect(whole.startsWith(text)).toBe(true);
      const runs = rowsIn(whole).filter(({ metric }) => metric === 'TPUT');
      expect(new Set(runs.map((row) => `${row.input_tokens} ${row.output_tokens} ${row.request_rate}`)).size).toBe(8);
    });
  });
});

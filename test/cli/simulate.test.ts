import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { InvalidArgumentError } from 'commander';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { runSimulate, type SimulateFlags, type Simulator, simulateCommand } from '../../src/cli/simulate.js';
import { cadence, copies, profileError, timeSpan, warmUpShare } from '../../src/cli/simulate-flags.js';
import { simulateProgressLine } from '../../src/cli/simulate-progress.js';
import { InputError } from '../../src/core/input-error.js';
import { policies } from '../../src/service/backtest/backtest-policies.js';
import { runBacktest } from '../../src/service/backtest/run-backtest.js';
import type { BacktestDocument } from '../../src/simulation/backtest/backtest-document.js';
import { backtest } from '../support/backtest-documents.js';

const folder = mkdtempSync(join(tmpdir(), 'gpumix-simulate-'));
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
function fileOf(content: string | Buffer, name = ''): string {
  files += 1;
  const file = join(folder, `${files}-${name}`);
  writeFileSync(file, content);
  return file;
}

const header = 'timestamp_ms,input_tokens,output_tokens\n';
/** One request a second for ten minutes. */
const tenMinutes = header + Array.from({ length: 600 }, (_, i) => `${i * 1000},400,60\n`).join('');
const trace = fileOf(tenMinutes, 'trace.csv');

/** A gzip file of many blocks, its check sum wrong. */
const long = gzipSync(
  header + Array.from({ length: 60_000 }, (_, i) => `${i},${(i * 7919) % 9973},${i % 997}\n`).join(''),
);
const damaged = Buffer.from(long.map((byte, i) => (i === long.length - 6 ? byte ^ 255 : byte)));

const profiles = join(folder, 'profiles');
mkdirSync(profiles);
writeFileSync(
  join(profiles, 'small.json'),
  JSON.stringify({
    gpu: 'small',
    cost: 1.5,
    tputs: [
      [9, 3],
      [5, 2],
    ],
    indexes: [
      [64, 256],
      [256, 2048],
    ],
    created: 0,
    e2e: 0,
    ttft: 2,
    tpot: 0.1,
  }),
);

const yaml = (deployments: string, more = ''): string =>
  `profiles: { source: files, directory: ${JSON.stringify(profiles)} }\ndeployments:\n  source: config\n  list:\n${deployments}\n${more}`;
const small = '  - { name: small, model: llama-3.1-8b, gpuType: L40S, maxReplicas: 8 }';
const config = fileOf(yaml(small), 'gpumix.yaml');

const defaults: SimulateFlags = {
  trace,
  config,
  policy: ['static'],
  router: 'least-request',
  fidelity: 'request',
  seed: 1,
  copies: 1,
  jitter: 60,
  from: 0,
  warmUp: 0.1,
  cadence: 60,
  sweep: false,
  knob: [],
  oracle: false,
  ttft: 2,
  ttftPerInputToken: 0.0002,
  tpot: 0.1,
  attainment: 0.99,
  json: false,
};

const real: Simulator = { run: runBacktest, policies };

type Outcome = { readonly code: number; readonly output: string; readonly errors: string };

async function run(
  flags: Partial<SimulateFlags> = {},
  around: { readonly stdin?: Readable; readonly isTerminal?: boolean; readonly signal?: AbortSignal } = {},
  simulator: Simulator = real,
): Promise<Outcome> {
  let output = '';
  let errors = '';
  const code = await runSimulate(
    { ...defaults, ...flags },
    {
      env: {},
      stdin: around.stdin ?? Readable.from([]),
      write: (text) => {
        output += text;
      },
      writeError: (text) => {
        errors += text;
      },
      isTerminal: around.isTerminal ?? false,
      width: () => 100,
      errorWidth: () => 100,
      color: false,
      steadyMs: () => 0,
      signal: around.signal ?? new AbortController().signal,
    },
    simulator,
  );
  return { code, output, errors };
}

/** The message of the InputError that the command ends with; its exit code is 2. */
async function refusal(flags: Partial<SimulateFlags>, stdin?: Readable): Promise<string> {
  try {
    await run(flags, stdin === undefined ? {} : { stdin });
  } catch (error) {
    if (error instanceof InputError) return error.message.replaceAll(folder, 'FOLDER');
    throw error;
  }
  throw new Error('it was simulated');
}

describe('gpumix simulate', () => {
  it('prints a table of what a policy cost', async () => {
    const { code, output, errors } = await run();
    expect(code).toBe(0);
    expect(errors).toBe('');
    expect(output).toContain('540 requests over 8.99 min that count');
    expect(output).toMatch(/^static +\d+\.\d\d +/m);
  });

  it('prints the document with --json, the same to the byte each time', async () => {
    const first = await run({ json: true });
    const document = JSON.parse(first.output) as BacktestDocument;
    expect(document).toMatchObject({
      apiVersion: 'gpumix/v1',
      kind: 'Backtest',
      asked: { trace, policies: ['static'], router: 'least-request', seed: 1, targetAttainment: 0.99 },
      window: { fromSeconds: 0, requests: 540, inputTokens: 540 * 400, outputTokens: 540 * 60 },
    });
    expect((await run({ json: true })).output).toBe(first.output);
  });

  it('writes document and report whole, and the table besides', async () => {
    const out = join(folder, 'results');
    mkdirSync(out);
    const report = join(out, 'report.html');
    const output = join(out, 'out.json');
    const { output: table } = await run({ report, output });
    expect(table).toContain('static');
    expect(JSON.parse(readFileSync(output, 'utf8'))).toMatchObject({ kind: 'Backtest' });
    expect(readFileSync(report, 'utf8')).toMatch(/^<!doctype html>[\s\S]*<\/html>\n$/);
    // Nothing of the temporary files is left.
    expect(readdirSync(out).sort()).toEqual(['out.json', 'report.html']);
  });

  it.skipIf(process.platform === 'win32')(
    'reads a trace from a pipe with a name, as often as there are runs',
    async () => {
      const pipe = join(folder, 'pipe');
      execFileSync('mkfifo', [pipe]);
      const [{ output }] = await Promise.all([
        run({ trace: pipe, policy: ['static'], knob: ['1,3'], json: true }),
        writeFile(pipe, gzipSync(tenMinutes)),
      ]);
      const { asked, runs } = JSON.parse(output) as BacktestDocument;
      expect([asked.trace, runs.map(({ result }) => result.requests)]).toEqual([pipe, [540, 540]]);
    },
  );

  it('reads a trace from standard input, as often as there are runs', async () => {
    const stdin = Readable.from([gzipSync(tenMinutes)]);
    const { output } = await run({ trace: '-', policy: ['static'], knob: ['1,3'], json: true }, { stdin });
    const { asked, runs } = JSON.parse(output) as BacktestDocument;
    expect(asked.trace).toBe('standard input');
    expect(runs.map(({ knob, result }) => [knob?.value, result.requests])).toEqual([
      [1, 540],
      [3, 540],
    ]);
    expect(readdirSync(tmpdir()).filter((name) => name.startsWith('gpumix-trace-'))).toEqual([]);
  });

  it('hands every flag to the backtest', async () => {
    const asked: unknown[] = [];
    const recorder: Simulator = {
      policies,
      run: async ({ trace: _, config: __, ...others }) => {
        asked.push(others);
        return backtest();
      },
    };
    await run(
      {
        policy: ['gpumix,aibrix', 'static'],
        router: 'random',
        fidelity: 'fluid',
        seed: 7,
        copies: 2.5,
        jitter: 30,
        from: 100,
        duration: 200,
        warmUp: 0.2,
        cadence: 30,
        profileError: 0.2,
        sweep: true,
        knob: ['aibrix=100,80'],
        oracle: true,
        ttft: 1,
        ttftPerInputToken: 0,
        tpot: 0.05,
        attainment: 0.95,
      },
      {},
      recorder,
    );
    expect(asked).toEqual([
      {
        configSource: config,
        policies: ['gpumix', 'aibrix', 'static'],
        knobs: { aibrix: [100, 80] },
        router: 'random',
        fidelity: 'fluid',
        seed: 7,
        copies: 2.5,
        jitterSeconds: 30,
        fromSeconds: 100,
        durationSeconds: 200,
        warmUpShare: 0.2,
        cadenceSeconds: 30,
        profileErrors: [0, 0.2, -0.2],
        sweep: true,
        oracle: true,
        objective: { ttftSeconds: 1, ttftSecondsPerInputToken: 0, tpotSeconds: 0.05 },
        targetAttainment: 0.95,
      },
    ]);
  });

  it('is called off while it simulates', async () => {
    const stop = new AbortController();
    const endless = new Readable({ read() {} });
    endless.push(header);
    const running = run({ trace: '-' }, { stdin: endless, signal: stop.signal });
    stop.abort();
    await expect(running).rejects.toMatchObject({ name: 'AbortError' });
  });

  it('is called off in the middle of a run, whatever the run says of it', async () => {
    const stop = new AbortController();
    const stopped: Simulator = {
      policies,
      run: async () => {
        stop.abort();
        throw new Error('the run was stopped');
      },
    };
    await expect(run({}, { signal: stop.signal }, stopped)).rejects.toMatchObject({ name: 'AbortError' });
  });

  it('draws its progress on a terminal only', async () => {
    const { errors } = await run({}, { isTerminal: true });
    expect(errors).toContain('run 1 of 1: static');
    expect(errors.endsWith('\r\u001b[K')).toBe(true);
    expect((await run()).errors).toBe('');
  });

  it('says in its progress which run of how many, and how long it will take', () => {
    let now = 0;
    const drawn: string[] = [];
    const line = simulateProgressLine({
      writeError: (text) => drawn.push(text),
      width: () => 200,
      steadyMs: () => now,
    });
    now = 60_000;
    line.show({ runsDone: 2, runs: 5, runShare: 0, now: 'aibrix, targetValue 80' });
    expect(drawn[0]).toBe(
      '\r\u001b[Krun 3 of 5: aibrix, targetValue 80 · 60 s so far, about 90 s left'.replace('90 s', '2 min'),
    );
    line.show({ runsDone: 0, runs: 4, runShare: 0.02, now: 'gpumix, quantile 0.95' });
    expect(drawn[1]).toBe('\r\u001b[Krun 1 of 4: gpumix, quantile 0.95, 2 % · 60 s so far');
    line.show({ runsDone: 0, runs: 4, runShare: 0.5, now: 'gpumix, quantile 0.95' });
    expect(drawn[2]).toBe('\r\u001b[Krun 1 of 4: gpumix, quantile 0.95, 50 % · 60 s so far, about 7 min left');
  });
});

describe('gpumix simulate refuses', () => {
  it.each<[string, Partial<SimulateFlags>, string]>([
    [
      'a policy that is none',
      { policy: ['gpumix,abirix'] },
      '--policy: found "abirix", expected policies, separated by commas: gpumix, gpumix-reactive, aibrix, hpa-concurrency, hpa-utilisation, single-type-best, static (or all); did you mean "aibrix"?',
    ],
    ['a policy twice', { policy: ['aibrix', 'aibrix'] }, '--policy: found aibrix twice, expected each policy once'],
    ['all and more', { policy: ['all,aibrix'] }, '--policy: found all beside others, expected all alone, or names'],
    [
      'a knob without its policy',
      { policy: ['aibrix', 'static'], knob: ['1,2'] },
      '--knob: found "1,2", expected whose knob it is, as 2 policies are asked for: POLICY=VALUES',
    ],
    [
      'the knob of a policy that is not asked for',
      { policy: ['static'], knob: ['aibrix=90'] },
      '--knob: found aibrix, expected a policy that is asked for: static',
    ],
    [
      'a share above 1 as a knob',
      { policy: ['gpumix'], knob: ['0.9,1.5'] },
      '--knob: found "1.5", expected a number above 0 and below 1 for quantile of gpumix',
    ],
    [
      'a word as a knob',
      { policy: ['static'], knob: ['static=many'] },
      '--knob: found "many", expected a number above 0 for rateFactor of static (times the mean rate)',
    ],
    [
      'the same file for two results',
      { report: 'same', output: './same' },
      '--output: found the file of --report, expected a file of its own',
    ],
    [
      'the trace as a report, which would be gone',
      { report: trace },
      '--report: found the file of --trace, expected a file of its own: it would be replaced',
    ],
    [
      'the configuration as a document, by another name',
      { output: join(folder, 'profiles', '..', basename(config)) },
      '--output: found the file of --config, expected a file of its own: it would be replaced',
    ],
    [
      'a folder as a report',
      { report: folder },
      '--report: FOLDER: found a folder, expected a file that can be written',
    ],
    [
      'a report in no folder',
      { report: join(folder, 'missing', 'r.html') },
      '--report: FOLDER/missing/r.html: found no such folder, expected a file that can be written',
    ],
    [
      'standard output as a document',
      { output: '-' },
      '--output: found "-", expected a file (--json prints the document)',
    ],
    [
      'an objective that nothing meets',
      { ttft: 0, ttftPerInputToken: 0 },
      '--ttft: found 0, expected a number > 0, or --ttft-per-input-token above 0',
    ],
    [
      'no configuration',
      { config: join(folder, 'missing.yaml') },
      'FOLDER/missing.yaml: found no such file, expected a configuration in YAML',
    ],
    ['a misspelt key', { config: fileOf(yaml(small, 'simulaton: {}'), 'bad.yaml') }, 'simulaton: found an unknown key'],
    [
      'a deployment without a profile',
      { config: fileOf(yaml(`${small}\n  - { name: large, model: llama-3.1-8b, gpuType: H100 }`), 'no-profile.yaml') },
      'no-profile.yaml: default/large: found no profile of llama-3.1-8b for it, expected llama-3.1-8b/large.json or large.json in profiles.directory',
    ],
  ])('%s', async (_, flags, message) => {
    expect(await refusal(flags)).toContain(message);
  });

  it.each<[string, string | Buffer, string]>([
    [
      'unsorted',
      `${header}0,1,2\n9,1,2\n8,1,2\n`,
      'line 4, timestamp_ms: found 8, expected at least the 9 of the row before it',
    ],
    [
      'with negative tokens',
      `${header}0,1,2\n5,-3,2\n`,
      'line 3, input_tokens: found "-3", expected a whole number of tokens >= 0',
    ],
    ['cut within a row', `${header}0,1,2\n5,1`, 'line 3, output_tokens: found nothing'],
    ['cut within gzip', gzipSync(tenMinutes).subarray(0, -20), 'found a gzip file that ends too early'],
    ['damaged within gzip', damaged, 'damaged gzip data'],
    ['empty', '', 'found an empty file, expected a header line with timestamp_ms,input_tokens,output_tokens'],
    ['without a request', header, 'found no request'],
    ['of another format', Buffer.from('PAR1xxxx'), 'found a Parquet file, expected CSV text, plain or gzip'],
  ])('a trace that is %s, with its place', async (_, content, message) => {
    const file = fileOf(content, 'bad-trace.csv');
    const text = await refusal({ trace: file });
    expect(text).toContain(message);
    expect(text.startsWith(file.replace(folder, 'FOLDER'))).toBe(true);
    // The same through a pipe, which has no name.
    expect(await refusal({ trace: '-' }, Readable.from([Buffer.from(content)]))).toMatch(/^standard input: /);
  });

  it('a gzip file that is damaged late, with how far it could be read', async () => {
    const message = await refusal({ trace: fileOf(damaged, 'damaged.gz') });
    expect(message).toMatch(/damaged\.gz: after line \d{4,}: found damaged gzip data/);
  });

  it('a window outside the trace', async () => {
    expect(await refusal({ from: 3600 })).toMatch(
      /trace\.csv: found a trace of 599 s, expected requests from 1 h|3600 s on/,
    );
  });

  it('writes nothing when it refuses', async () => {
    const report = join(folder, 'never.html');
    await refusal({ report, trace: fileOf(`${header}x`, 'bad.csv') });
    expect(existsSync(report)).toBe(false);
  });
});

describe('gpumix simulate takes', () => {
  it('two requests in one millisecond, and counts both', async () => {
    const rows = Array.from({ length: 200 }, (_, i) => `${Math.floor(i / 2) * 1000},100,20\n`).join('');
    const { output } = await run({ trace: fileOf(header + rows, 'pairs.csv'), warmUp: 0, json: true });
    expect((JSON.parse(output) as BacktestDocument).window.requests).toBe(200);
  });

  it('a hole of hours, and says so', async () => {
    const rows = [0, 60, 4 * 3600, 4 * 3600 + 60].map((s) => `${s * 1000},100,20\n`).join('');
    const { output } = await run({ trace: fileOf(header + rows, 'hole.csv'), warmUp: 0 });
    expect(output).toContain('note: the trace has no request for 3.98 h: that time counts as idle');
  });

  it('a window of a trace without reading what comes after it', async () => {
    const file = fileOf(`${tenMinutes}not a row\n`, 'late-fault.csv');
    const { output } = await run({ trace: file, duration: 300, json: true });
    const { window } = JSON.parse(output) as BacktestDocument;
    expect(window.requests).toBe(270);
    await expect(run({ trace: file })).rejects.toThrow(/line 602, timestamp_ms: found "not a row"/);
  });
});

describe('a flag of gpumix simulate', () => {
  it('reads times as people write them', () => {
    expect(['90', '90s', '1.5m', '6h', '7d', '15 min', '0'].map(timeSpan)).toEqual([
      90, 90, 90, 21_600, 604_800, 900, 0,
    ]);
  });

  it.each(['', 'h', '-1', '6 hours', '1e9', 'NaN', '0x10', '1h30m', '500d', 'constructor'])(
    'refuses %j as a time',
    (text) => {
      expect(() => timeSpan(text)).toThrow(InvalidArgumentError);
    },
  );

  it('of any text is a number in its range, or refused', () => {
    const text = fc.oneof(fc.string(), fc.double().map(String), fc.stringMatching(/^[\d.e+-]{0,8}[smhd]?$/));
    fc.assert(
      fc.property(text, fc.constantFrom(timeSpan, copies, warmUpShare, profileError), (value, read) => {
        try {
          expect(read(value)).toSatisfy((number: number) => number >= 0 && Number.isFinite(number));
        } catch (error) {
          if (!(error instanceof InvalidArgumentError)) throw error;
        }
      }),
    );
  });

  it('plan at most once a second', () => {
    expect(['1', '90s', '2m'].map(cadence)).toEqual([1, 90, 120]);
    for (const text of ['0', '0.001', '0.99s', 'often']) expect(() => cadence(text)).toThrow(InvalidArgumentError);
  });

  it('is known to the help, each with its meaning', () => {
    const help = simulateCommand().helpInformation();
    for (const flag of [
      '--trace',
      '--config',
      '--policy',
      '--router',
      '--fidelity',
      '--sweep',
      '--oracle',
      '--report',
    ]) {
      expect(help).toContain(flag);
    }
  });
});

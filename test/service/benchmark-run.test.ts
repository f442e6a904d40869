import { describe, expect, it } from 'vitest';
import { loadGpuCatalogue, loadModelCatalogue } from '../../src/adapters/catalogue-file.js';
import { gpuByName } from '../../src/core/gpu-types.js';
import { modelByName } from '../../src/core/model-types.js';
import { searchAgenda, sweepAgenda } from '../../src/profiling/benchmark-agenda.js';
import type { Cell, RequestOutcome, ScheduledRequest } from '../../src/profiling/measurement.js';
import type { SearchSettings } from '../../src/profiling/rate-search.js';
import { coarseFirstCells } from '../../src/profiling/sweep.js';
import { notedLines, readNotes } from '../../src/service/benchmark-notes.js';
import {
  type BenchmarkProgress,
  type BenchmarkWork,
  prefixCacheSuspicion,
  runBenchmark,
  runSeed,
  saltOf,
} from '../../src/service/benchmark-run.js';
import { type BenchmarkServer, simulatedBenchmarkServer } from '../../src/service/benchmark-server.js';
import { stepTimesOf } from '../../src/simulation/step-time.js';
import { outcome, slo } from '../profiling/run-builders.js';

const stepTimes = stepTimesOf({
  gpu: gpuByName(await loadGpuCatalogue(), 'L4')!,
  model: modelByName(await loadModelCatalogue(), 'llama-3.1-8b')!,
  gpusPerReplica: 1,
  weightPrecision: 'bf16',
});
const limits = { maxSequences: 256, maxBatchedTokens: 8192, maxTokens: 16_384 };
const l4 = (name = 'l4'): BenchmarkServer => simulatedBenchmarkServer({ name, stepTimes, limits });

const objective = slo({ ttftSeconds: 2 });
const searchSettings = (overrides: Partial<SearchSettings> = {}): SearchSettings => ({
  cells: coarseFirstCells([128, 512], [32, 128]),
  slo: objective,
  rateStart: 1 / 16,
  rateLimit: 64,
  requests: 60,
  resolution: 0.1,
  confidence: 0.9,
  maxTokens: null,
  ...overrides,
});

const work = (overrides: Partial<BenchmarkWork> = {}): BenchmarkWork => ({
  model: 'llama-3.1-8b',
  agenda: searchAgenda(searchSettings()),
  slo: objective,
  abortsEarly: true,
  mix: null,
  arrivals: 'poisson',
  trace: null,
  seed: 1,
  temperature: 0,
  maxSeconds: null,
  ...overrides,
});

const settings = { mode: 'search', seed: 1 };

/** Runs a benchmark, and keeps the file that it would write. */
async function bench(
  made: BenchmarkWork,
  options: {
    readonly servers?: readonly BenchmarkServer[];
    readonly before?: string;
    /** Calls it off after so many runs. */
    readonly stopAfter?: number;
    readonly onProgress?: (progress: BenchmarkProgress) => void;
  } = {},
) {
  const { servers = [l4()], before = '', stopAfter, onProgress } = options;
  const stop = new AbortController();
  let text = before;
  let written = 0;
  const { records } = readNotes(before, { source: 'rows', settings });
  const report = await runBenchmark(
    made,
    {
      servers,
      signal: stop.signal,
      write: async (rows, record) => {
        text += notedLines(rows, { record, settings });
        written += 1;
        if (written === stopAfter) stop.abort();
      },
      ...(onProgress === undefined ? {} : { onProgress }),
    },
    records,
  );
  return { report, text, written };
}

describe('a benchmark in virtual time', () => {
  it('finds every cell, writes a group of rows for every run, and gives the same twice', async () => {
    const first = await bench(work());
    expect(first.report).toMatchObject({ ended: 'done', warnings: [], runs: first.written });
    expect(first.report.results.map(({ state }) => state)).toEqual(['found', 'found', 'found', 'found']);
    for (const { rate, missedRate, confidence } of first.report.results) {
      expect(rate).toBeGreaterThan(0.5);
      expect(missedRate ?? Number.POSITIVE_INFINITY).toBeGreaterThan(rate!);
      expect(confidence).toBeGreaterThan(0.5);
    }
    const rows = first.text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(rows.filter(({ metric }) => metric === 'TPUT')).toHaveLength(first.written);
    expect(rows.every(({ method }) => method === 'simulated')).toBe(true);
    expect((await bench(work())).text).toBe(first.text);
  });

  it.each([1, 4, 9])('called off after %i runs and resumed, it ends as if it had not been', async (stopAfter) => {
    const whole = await bench(work());
    const half = await bench(work(), { stopAfter });
    expect(half.report.ended).toBe('interrupted');
    expect(half.written).toBe(stopAfter);
    expect(whole.text.startsWith(half.text)).toBe(true);
    const rest = await bench(work(), { before: half.text });
    expect(rest.text).toBe(whole.text);
    expect(rest.report.results).toEqual(whole.report.results);
    expect(rest.report.runs).toBe(whole.report.runs);
  });

  it('keeps to its time, and says what it did not measure', async () => {
    const whole = await bench(work());
    const budget = whole.report.seconds / 2;
    const short = await bench(work({ maxSeconds: budget }));
    expect(short.report.ended).toBe('time');
    expect(short.report.seconds).toBeLessThanOrEqual(1.1 * budget);
    expect(short.report.results.some(({ state }) => state === 'not_measured' || state === 'unfinished')).toBe(true);
    expect(short.written).toBeLessThan(whole.written);
  });

  it('shares cells out between replicas, none on two at once', async () => {
    const at = new Map<string, string>();
    const used = new Set<string>();
    const watched = (name: string): BenchmarkServer => {
      const server = l4(name);
      return {
        ...server,
        now: () => server.now(),
        serve: async (load) => {
          const { inputTokens, outputTokens } = load.requests[0]!;
          const key = `${inputTokens}/${outputTokens}`;
          expect([...at.values()]).not.toContain(key);
          at.set(name, key);
          used.add(name);
          const served = await server.serve(load);
          at.delete(name);
          return served;
        },
      };
    };
    const { report } = await bench(work(), { servers: [watched('a'), watched('b')] });
    expect(report.ended).toBe('done');
    expect(report.results.every(({ state }) => state === 'found')).toBe(true);
    expect(used).toEqual(new Set(['a', 'b']));
  });

  it('tells how far it is', async () => {
    const told: BenchmarkProgress[] = [];
    await bench(work(), { onProgress: (progress) => told.push(progress) });
    expect(told[0]).toMatchObject({ ended: 0, ttftSeconds: null, cellsDone: 0, cells: 4, server: 'l4' });
    const last = told.at(-1)!;
    expect(last.cellsDone).toBeGreaterThanOrEqual(3);
    expect(last.ttftSeconds).toBeGreaterThan(0);
    for (const { remainingSeconds } of told) expect(Number.isFinite(remainingSeconds)).toBe(true);
  });

  it('sweeps every cell at every rate, and makes runs that were too short once more', async () => {
    const cells = coarseFirstCells([128], [32, 256]);
    const agenda = sweepAgenda({ cells, rates: [0.5, 4], requests: 60, maxTokens: null });
    const { report, text } = await bench(work({ agenda, slo: null, abortsEarly: false }));
    const rates = new Set(
      text
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as { output_tokens: number; request_rate: number })
        .map(({ output_tokens, request_rate }) => `${output_tokens} at ${request_rate}`),
    );
    expect(rates).toEqual(new Set(['32 at 0.5', '32 at 4', '256 at 0.5', '256 at 4']));
    expect(report.results.map(({ state, rate }) => [state, rate])).toEqual([['at_limit', 4], expect.anything()]);
  });

  it('measures a mixture as one, lengths drawn from its log, and arrivals as the log has them', async () => {
    const lengths: Cell[] = [
      { inputTokens: 100, outputTokens: 20 },
      { inputTokens: 300, outputTokens: 40 },
    ];
    const trace = Array.from({ length: 50 }, (_, i) => ({ ...lengths[i % 2]!, atMs: 1000 * (i - (i % 5)) }));
    const seen: ScheduledRequest[][] = [];
    const server = l4();
    const spy: BenchmarkServer = {
      ...server,
      serve: (load) => {
        seen.push([...load.requests]);
        return server.serve(load);
      },
    };
    const agenda = searchAgenda(searchSettings({ cells: [{ inputTokens: 200, outputTokens: 30 }] }));
    const mix = { name: 'log.csv', lengths, leftOut: 0 };
    const { report, text } = await bench(work({ agenda, mix, trace, arrivals: 'trace' }), { servers: [spy] });
    expect(report.results[0]!.state).toBe('found');
    expect(text).toContain('"mix":"log.csv"');
    for (const requests of seen) {
      expect(new Set(requests.map(({ inputTokens }) => inputTokens))).toEqual(new Set([100, 300]));
      // Five at a time, as in the log.
      const times = new Set(requests.map(({ atSeconds }) => atSeconds));
      expect(times.size).toBeLessThan(requests.length / 4);
    }
  });
});

/** A server whose answers a test makes up. */
function scripted(answer: (request: ScheduledRequest) => Partial<RequestOutcome>): BenchmarkServer {
  return {
    name: 'http://scripted',
    method: 'measured',
    maxTokens: null,
    streams: true,
    warnings: [],
    now: () => 0,
    serve: async ({ requests, onOutcome, shouldAbort }) => {
      const outcomes: RequestOutcome[] = [];
      let aborted: string | null = null;
      for (const request of requests) {
        const made = outcome({
          id: request.id,
          sentSeconds: request.atSeconds,
          outputTokens: request.outputTokens,
          inputTokens: request.inputTokens,
          ...answer(request),
        });
        outcomes.push(made);
        onOutcome(made);
        aborted = shouldAbort(outcomes, request.atSeconds);
        if (aborted !== null) break;
      }
      return { outcomes, aborted, generatorFault: null, generatorStall: null };
    },
    close: async () => {},
  };
}

const refused = {
  failure: 'connect',
  firstTokenSeconds: null,
  outputTokens: 0,
  failureDetail: 'ECONNREFUSED',
} as const;

describe('a benchmark of servers that misbehave', () => {
  const small = work({ agenda: searchAgenda(searchSettings({ cells: [{ inputTokens: 128, outputTokens: 32 }] })) });

  it('ends where the server is gone, and writes nothing of that run', async () => {
    let calls = 0;
    const server = scripted(() => {
      calls += 1;
      return calls > 100 ? refused : {};
    });
    const { report, text } = await bench(small, { servers: [server] });
    expect(report.ended).toBe('lost');
    expect(report.warnings).toContain('http://scripted is gone: ECONNREFUSED');
    expect(calls).toBeLessThan(250);
    expect(text).not.toContain('"failed":5');
  });

  it('goes on with the servers that are left', async () => {
    const { report } = await bench(work(), { servers: [scripted(() => refused), l4()] });
    expect(report.ended).toBe('done');
    expect(report.warnings).toContain('http://scripted is gone: ECONNREFUSED');
    expect(report.results.every(({ state }) => state === 'found')).toBe(true);
  });

  it('counts errors under load as misses: that is an answer', async () => {
    const { report } = await bench(small, {
      servers: [scripted(() => ({ failure: 'http_5xx', firstTokenSeconds: null, outputTokens: 0 }))],
    });
    expect(report.ended).toBe('done');
    expect(report.results[0]).toMatchObject({ state: 'none', rate: null });
  });

  it('warns of missing usage, of answers that end early, and of prompts that are not read', async () => {
    const cells = coarseFirstCells([64, 4096], [32]);
    const agenda = searchAgenda(searchSettings({ cells, rateLimit: 1 }));
    const { report } = await bench(work({ agenda }), {
      servers: [
        scripted(({ outputTokens }) => ({
          usage: 'counted',
          outputTokens: outputTokens / 2,
          wantedOutputTokens: outputTokens,
        })),
      ],
    });
    expect(report.warnings).toEqual([
      expect.stringMatching(/^the server sends no usage: output tokens were counted by us/),
      expect.stringMatching(/^answers ended before the wanted length/),
      expect.stringMatching(/^prompts of 4096 tokens are answered as fast as those of 64 .*a cache of prompts/),
    ]);
  });

  it('does not count runs whose generator did something else than was asked of it, and says so', async () => {
    const faulty = scripted(() => ({}));
    const server: BenchmarkServer = {
      ...faulty,
      serve: async (load) => ({ ...(await faulty.serve(load)), generatorFault: 'no file descriptor was left' }),
    };
    const { report, text } = await bench(small, { servers: [server] });
    expect(report.results[0]).toMatchObject({ state: 'not_measurable', rate: null });
    expect(report.results[0]!.note).toContain('no file descriptor was left');
    expect(report.warnings[0]).toMatch(/^\d+ runs were invalid and count for nothing/);
    expect(text).toContain('"valid":false');
  });

  it('finds what it can where its own machine is busy: what meets the SLO all the same counts, and it says so', async () => {
    const awakeAt = (seconds: number) => Math.max(seconds, Math.floor(seconds) + 0.1);
    const quick = l4();
    const server: BenchmarkServer = {
      ...quick,
      serve: async (load) => {
        const requests = load.requests.map((request) => ({ ...request, atSeconds: awakeAt(request.atSeconds) }));
        const dueAt = new Map(load.requests.map(({ id, atSeconds }) => [id, atSeconds]));
        const served = await quick.serve({ ...load, requests });
        const outcomes = served.outcomes.map((one) => ({
          ...one,
          scheduledSeconds: dueAt.get(one.id)!,
          firstTokenSeconds: one.firstTokenSeconds === null ? null : awakeAt(one.firstTokenSeconds),
          endSeconds: awakeAt(one.endSeconds),
        }));
        return { ...served, outcomes, generatorStall: 'the event loop stood for over 95 ms' };
      },
    };
    const punctual = (await bench(small, { servers: [l4()] })).report.results[0]!;
    const { report, text } = await bench(small, { servers: [server] });
    const [late] = report.results;
    expect(late!.rate!).toBeGreaterThan(0.5 * punctual.rate!);
    expect(late!.rate!).toBeLessThan(1.1 * punctual.rate!);
    expect(report.warnings).toContainEqual(
      expect.stringMatching(/^gpumix was not given the processor in time in \d+ runs that met the SLO all the same/),
    );
    // What a profile is made of: the rows that count have their lateness in them.
    const counted = text.split('\n').filter((line) => line.includes('"TPUT"') && !line.includes('"valid":false'));
    expect(counted.length).toBeGreaterThan(0);
    for (const line of counted) expect(JSON.parse(line).schedule_error_p99).toBeGreaterThan(0.05);
  });
});

describe('seeds of runs', () => {
  const run = { cell: { inputTokens: 128, outputTokens: 32 }, requestRate: 4 };
  it("are the benchmark's own, and another where a run is repeated", () => {
    expect(runSeed(7, 0)).toBe(7);
    expect(new Set([runSeed(7, 0), runSeed(7, 1), runSeed(7, 2), runSeed(8, 1)]).size).toBe(4);
  });

  it('give every run prompts of its own', () => {
    const salts = [
      saltOf(1, 7, run),
      saltOf(2, 7, run),
      saltOf(1, 8, run),
      saltOf(1, 7, { ...run, requestRate: 4.001 }),
      saltOf(1, 7, { ...run, cell: { inputTokens: 129, outputTokens: 32 } }),
      saltOf(1, 7, { ...run, cell: { inputTokens: 32, outputTokens: 128 } }),
    ];
    expect(new Set(salts).size).toBe(salts.length);
    expect(saltOf(1, 7, { ...run })).toBe(salts[0]);
  });
});

describe('a cache of prompts', () => {
  const cells = [128, 4096].map((inputTokens) => ({ inputTokens, outputTokens: 32 }));
  it('is suspected where long prompts take no longer than short ones', () => {
    expect(prefixCacheSuspicion(cells, () => 0.05)).toMatch(
      /^prompts of 4096 tokens are answered as fast as those of 128/,
    );
    expect(prefixCacheSuspicion(cells, ({ inputTokens }) => inputTokens / 1e4)).toBeNull();
    expect(prefixCacheSuspicion(cells, () => null)).toBeNull();
  });
});

describe('the notes in the rows', () => {
  it('name what differs where a file was made with other settings', async () => {
    const { text } = await bench(work(), { stopAfter: 1 });
    expect(() => readNotes(text, { source: 'out.jsonl', settings: { ...settings, seed: 2 } })).toThrow(
      '--resume: seed: found 2, expected 1, as out.jsonl was made with (line 1)',
    );
  });

  it('cut off a run whose rows are not all there', async () => {
    const { text } = await bench(work(), { stopAfter: 2 });
    const lines = text.trimEnd().split('\n');
    const torn = `${lines.slice(0, -1).join('\n')}\n`;
    const { records, wholeCharacters } = readNotes(torn, { source: 'rows', settings });
    expect(records).toHaveLength(1);
    expect(readNotes(torn.slice(0, wholeCharacters), { source: 'rows', settings })).toEqual({
      records,
      wholeCharacters,
    });
    const rest = await bench(work(), { before: torn.slice(0, wholeCharacters) });
    expect(rest.text).toBe((await bench(work())).text);
  });

  it('refuse rows of others', () => {
    const row = '{"input_tokens":4,"output_tokens":4,"request_rate":1,"metric":"TPUT","mean":1}\n';
    expect(() => readNotes(row, { source: 'a.jsonl', settings })).toThrow(
      'a.jsonl: line 1: found a row without the note of a run, expected rows that gpumix benchmark wrote',
    );
    expect(() => readNotes('[]\n', { source: 'a.jsonl', settings })).toThrow('a.jsonl, line 1: found []');
    expect(() => readNotes('{"gpumix":{"rows":0}}\n', { source: 'a.jsonl', settings })).toThrow(
      'a.jsonl, line 1, gpumix',
    );
  });
});

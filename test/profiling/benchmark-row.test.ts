import { existsSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/core/input-error.js';
import { type BenchmarkRow, parseRows, rowsOf, runsOfRows } from '../../src/profiling/benchmark-row.js';
import type { Measurement } from '../../src/profiling/measurement.js';

const summary = (mean: number) => ({ count: 90, mean, p50: mean, p90: 2 * mean, p95: 3 * mean, p99: 4 * mean });

function measurement(overrides: Partial<Measurement> = {}): Measurement {
  return {
    model: 'llama',
    cell: { inputTokens: 512, outputTokens: 64 },
    mix: null,
    requestRate: 4,
    arrivals: 'poisson',
    seed: 7,
    temperature: 0,
    counts: {
      sent: 120,
      completed: 118,
      counted: 90,
      countedCompletions: 91,
      countedArrivals: 92,
      failed: { timeout: 2 },
      shortened: 1,
    },
    throughputRps: 3.9,
    outputTokensPerSecond: 249.6,
    ttft: summary(0.1),
    tpot: summary(0.02),
    itl: summary(0.02),
    e2e: summary(1.4),
    meanInputTokens: 511.7,
    meanOutputTokens: 63.9,
    scheduleError: summary(0.001),
    steadyState: { startSeconds: 5, endSeconds: 30 },
    valid: true,
    invalidBecause: null,
    servedShare: 1,
    saturated: false,
    aborted: null,
    seconds: 31,
    usage: 'server',
    ...overrides,
  };
}

const line = (overrides: Record<string, unknown> = {}) =>
  JSON.stringify({
    input_tokens: 128,
    output_tokens: 4,
    request_rate: 1,
    seed: 0,
    model: 'llama2-7b',
    samples: 100,
    metric: 'TPUT',
    mean: 1.08,
    ...overrides,
  });
const parse = (...lines: readonly string[]) => parseRows(lines.join('\n'), 'out.jsonl');

function faultOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof InputError) return error.message;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('the rows of a measurement', () => {
  it('are those of AIBrix, one metric a line, with P95 and the gaps between tokens besides', () => {
    const rows = rowsOf(measurement());
    expect(rows.map(({ metric }) => metric)).toEqual(['TPUT', 'TT', 'E2E', 'TTFT', 'TPOT', 'ITL']);
    expect(rows[0]).toMatchObject({
      input_tokens: 512,
      output_tokens: 64,
      request_rate: 4,
      seed: 7,
      model: 'llama',
      temperature: 0,
      samples: 90,
      mean: 3.9,
      sent: 120,
      failed: 2,
      shortened: 1,
      seconds: 31,
      usage: 'server',
    });
    expect(rows[2]).toEqual({
      input_tokens: 512,
      output_tokens: 64,
      request_rate: 4,
      seed: 7,
      model: 'llama',
      temperature: 0,
      samples: 90,
      metric: 'E2E',
      mean: 1.4,
      P50: 1.4,
      P90: 2.8,
      P95: 1.4 * 3,
      P99: 5.6,
    });
  });

  it.each([
    ['invalid', { valid: false, invalidBecause: 'the generator fell behind' }],
    ['ended early', { aborted: 'TTFT is far beyond the limit' }],
  ])("of a run that is %s have no throughput, so that AIBrix's reader drops the rate too", (_, overrides) => {
    const [tput] = rowsOf(measurement(overrides));
    expect(tput).toMatchObject({ mean: null, unreliable_mean: 3.9 });
    expect(JSON.stringify(tput)).toContain('"mean":null');
  });

  it('leave out what was not measured: without streaming there is no time to the first token', () => {
    const rows = rowsOf(measurement({ ttft: null, tpot: null, itl: null }));
    expect(rows.map(({ metric }) => metric)).toEqual(['TPUT', 'TT', 'E2E']);
  });

  it('are read as they were written', () => {
    for (const one of [
      measurement(),
      measurement({ valid: false, invalidBecause: 'late' }),
      measurement({ aborted: 'hopeless', seed: 1 }),
    ]) {
      const rows = rowsOf(one, { method: 'simulated' });
      const { rows: again, notices } = parseRows(rows.map((row) => JSON.stringify(row)).join('\n'), 'x');
      expect(notices).toEqual([]);
      expect(JSON.parse(JSON.stringify(again))).toEqual(JSON.parse(JSON.stringify(rows)));
    }
  });

  it('say how many requests failed, and nothing of those that we cut off', () => {
    const runOf = (sent: number, failed: Measurement['counts']['failed']) => {
      const text = rowsOf(measurement({ counts: { ...measurement().counts, sent, failed } }))
        .map((row) => JSON.stringify(row))
        .join('\n');
      return runsOfRows(parseRows(text, 'x'), { source: 'x' }).runs[0]!;
    };
    expect(runOf(120, { http_429: 8, dropped: 5 }).failures).toBe('13 of 120 requests failed');
    expect(runOf(120, { http_429: 12 }).failures).toBeNull();
    expect(runOf(220, { http_429: 13, cancelled: 100 }).failures).toBe('13 of 120 requests failed');
    expect(runOf(120, { cancelled: 120 }).failures).toBeNull();
  });

  it('of a mix are no cells of a profile', () => {
    const rows = [
      ...rowsOf(measurement()),
      ...rowsOf(measurement({ cell: null, mix: 'chat.csv.gz', meanInputTokens: 900.4 })),
    ];
    const { runs, notices } = runsOfRows({ rows, notices: [] }, { source: 'x' });
    expect(rows.at(-1)).toMatchObject({ input_tokens: 900, mix: 'chat.csv.gz' });
    expect(runs).toHaveLength(1);
    expect(notices.map(({ kind }) => kind)).toEqual(['mixes']);
  });
});

describe('JSON lines of a benchmark', () => {
  it('of an older AIBrix, without temperature and P95, are read', () => {
    const { rows, notices } = parse(line(), '', line({ metric: 'E2E', mean: 0.5, P50: 0.4, P90: 0.9, P99: 3 }), '');
    expect(notices).toEqual([]);
    const { runs } = runsOfRows({ rows, notices }, { source: 'out.jsonl' });
    expect(runs).toHaveLength(1);
    expect(runs[0]).toMatchObject({
      model: 'llama2-7b',
      inputTokens: 128,
      outputTokens: 4,
      requestRate: 1,
      invalid: null,
      metrics: { TPUT: { mean: 1.08, row: 0 }, E2E: { mean: 0.5, P50: 0.4, P90: 0.9, P95: null, P99: 3, row: 1 } },
    });
  });

  it('with a last line that is cut off are used up to there, and it is said', () => {
    const { rows, notices } = parse(line(), line({ metric: 'TT' }), line({ metric: 'E2E' }).slice(0, 40));
    expect(rows).toHaveLength(2);
    expect(notices).toEqual([
      { kind: 'truncated', message: 'line 3 is cut off: it is left out, the 2 rows before it are used' },
    ]);
  });

  it('with a broken line among others are refused with its number and column', () => {
    expect(faultOf(() => parse(line(), line().slice(0, 40), line()))).toMatch(
      /^out\.jsonl: line 2, column 41: found the end of the text, expected strict JSON/,
    );
  });

  it("with NaN, which AIBrix's tool writes where nothing was measured, are read as not measured", () => {
    const { rows, notices } = parse(
      line(),
      line({ metric: 'E2E', mean: 'HERE', P99: 'THERE', model: 'NaN Infinity' })
        .replace('"HERE"', 'NaN')
        .replace('"THERE"', 'Infinity'),
    );
    expect(rows[1]).toMatchObject({ mean: null, P99: null, model: 'NaN Infinity' });
    expect(notices.map(({ kind }) => kind)).toEqual(['not_a_number']);
  });

  it('may offer all requests at once', () => {
    const { rows } = parse(line({ request_rate: 'HERE' }).replace('"HERE"', 'Infinity'), line({ request_rate: 'inf' }));
    expect(rows.map((row) => row.request_rate)).toEqual([Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]);
  });

  it.each([
    ['a text for a number', line({ mean: 'fast' }), 'line 2: mean: found "fast", expected a number, 0 to'],
    ['a negative latency', line({ P50: -1 }), 'line 2: P50: found -1, expected a number'],
    [
      'no lengths',
      line({ input_tokens: undefined }),
      'line 2: input_tokens: found nothing, expected a number of tokens',
    ],
    ['a rate of 0', line({ request_rate: 0 }), 'line 2: request_rate: found 0, expected requests/s, above 0'],
    ['no metric', line({ metric: undefined }), 'line 2: metric: found nothing, expected one of TPUT, TT, E2E'],
    ['a list', '[1]', 'line 2: found [1], expected a row'],
    ['a number', '3', 'line 2: found 3, expected a row'],
    ['words', 'done.', 'line 2, column 1: found "done", expected strict JSON'],
  ])('with %s are refused with the place', (_, second, message) => {
    expect(faultOf(() => parse(line(), second))).toContain(`out.jsonl: ${message}`);
  });

  it('without any row are refused', () => {
    expect(faultOf(() => parse('', '  '))).toContain('found no row at all');
  });

  it('make one run of a cell and rate until a metric comes again', () => {
    const rows: BenchmarkRow[] = [...rowsOf(measurement()), ...rowsOf(measurement({ throughputRps: 3.5 }))];
    const { runs } = runsOfRows({ rows, notices: [] }, { source: 'x', firstRow: 100 });
    expect(runs.map((run) => run.metrics.TPUT)).toMatchObject([
      { mean: 3.9, row: 100 },
      { mean: 3.5, row: 106 },
    ]);
  });

  it('throw nothing but InputError, and never hold a number that is none', () => {
    const value = fc.oneof(
      { weight: 6, arbitrary: fc.double({ min: 0.001, max: 100, noNaN: true }) as fc.Arbitrary<unknown> },
      { weight: 1, arbitrary: fc.jsonValue() as fc.Arbitrary<unknown> },
    );
    const row = fc
      .record(
        {
          input_tokens: value,
          output_tokens: value,
          request_rate: value,
          metric: fc.oneof(fc.constantFrom('TPUT', 'TT', 'E2E'), fc.string()),
          mean: value,
          P99: value,
          mix: fc.jsonValue(),
          valid: fc.jsonValue(),
        },
        { requiredKeys: ['input_tokens', 'output_tokens', 'request_rate', 'metric'] },
      )
      .map((object) => JSON.stringify(object));
    let read = 0;
    fc.assert(
      fc.property(
        fc.array(fc.oneof({ weight: 9, arbitrary: row }, fc.json(), fc.string()), { maxLength: 3 }),
        (lines) => {
          try {
            const parsed = parse(...lines);
            const { runs } = runsOfRows(parsed, { source: 'x' });
            read += runs.length;
            for (const run of runs) {
              expect(run.inputTokens >= 0 && run.outputTokens >= 0 && run.requestRate > 0).toBe(true);
              for (const metric of Object.values(run.metrics)) {
                for (const number of Object.values(metric))
                  expect(number === null || Number.isFinite(number)).toBe(true);
              }
            }
          } catch (error) {
            expect(error).toBeInstanceOf(InputError);
          }
        },
      ),
      { numRuns: 2000 },
    );
    expect(read).toBeGreaterThan(200);
  });
});

const shipped = '../shared/data/aibrix/simulator-llama2-7b-a100.jsonl';

describe.skipIf(!existsSync(shipped))('a file of the gateway project (skipped where ../shared is absent)', () => {
  it('is 280 runs of five metrics', () => {
    const read = parseRows(readFileSync(shipped, 'utf8'), 'a100.jsonl');
    const { runs, notices } = runsOfRows(read, { source: 'a100.jsonl' });
    expect(notices).toEqual([]);
    expect(runs).toHaveLength(280);
    expect(runs.every((run) => Object.keys(run.metrics).length === 5)).toBe(true);
  });
});

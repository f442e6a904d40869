import { existsSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/core/input-error.js';
import { parseProfile, profileDocument } from '../../src/core/profile.js';
import { type SloPercentile, sloPercentiles } from '../../src/profiling/attainment.js';
import type { BenchmarkRow, BenchmarkRun, MetricName, MetricSummary } from '../../src/profiling/benchmark-row.js';
import { parseRows, runsOfRows } from '../../src/profiling/benchmark-row.js';
import { type GenerateOptions, generateProfile, type ProfileSlo, unsetSlo } from '../../src/profiling/gen-profile.js';
import { seededRandom } from '../support/seeded-random.js';

type Times = { readonly e2e?: number; readonly ttft?: number; readonly tpot?: number };

/** A run whose percentiles are 1, 2, 3 and 4 times the mean. */
function run(
  inputTokens: number,
  outputTokens: number,
  requestRate: number,
  measured: Times & { readonly tput?: number } = {},
  overrides: Partial<BenchmarkRun> = {},
): BenchmarkRun {
  const { tput = requestRate, e2e = 1, ttft = 0.1, tpot = 0.02 } = measured;
  const times = (mean: number): MetricSummary => ({
    row: 0,
    mean,
    P50: mean,
    P90: 2 * mean,
    P95: 3 * mean,
    P99: 4 * mean,
  });
  const plain = (mean: number): MetricSummary => ({ row: 0, mean, P50: null, P90: null, P95: null, P99: null });
  return {
    place: 'x',
    model: 'llama',
    inputTokens,
    outputTokens,
    requestRate,
    arrivals: 'rate',
    metrics: {
      TPUT: plain(tput),
      TT: plain(tput * outputTokens),
      E2E: times(e2e),
      TTFT: times(ttft),
      TPOT: times(tpot),
    },
    invalid: null,
    failures: null,
    aborted: null,
    method: 'measured',
    ...overrides,
  };
}

function without(one: BenchmarkRun, ...names: readonly MetricName[]): BenchmarkRun {
  const metrics = Object.entries(one.metrics).filter(([name]) => !names.includes(name as MetricName));
  return { ...one, metrics: Object.fromEntries(metrics) };
}

function generate(runs: readonly BenchmarkRun[], slo: Partial<ProfileSlo> = {}, more: Partial<GenerateOptions> = {}) {
  const { profile, decisions, notices } = generateProfile({
    deployment: 'llama-l4',
    runs,
    slo: { ...unsetSlo, ...slo },
    percentile: 0,
    cost: 0.7,
    strict: false,
    createdSeconds: 1_800_000_000,
    by: 'a test',
    source: 'runs.jsonl',
    ...more,
  });
  return { profile, tputs: profile.grid.tputs, decisions, codes: notices.map(({ kind }) => kind), notices };
}

function faultOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof InputError) return error.message;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('the throughput of a cell', () => {
  it('is the one measured at the highest rate that meets the SLO and keeps up', () => {
    const runs = [
      run(128, 64, 1, { tput: 1.02, e2e: 1 }),
      run(128, 64, 2, { tput: 1.97, e2e: 1.5 }),
      run(128, 64, 4, { tput: 3.9, e2e: 2.4 }),
      run(128, 64, 8, { tput: 4.1, e2e: 9 }),
    ];
    expect(generate(runs, { e2e: 2 }).tputs).toEqual([[1.97]]);
    expect(generate(runs, { e2e: 100 }).tputs).toEqual([[3.9]]);
    expect(generate(runs).tputs).toEqual([[3.9]]);
    expect(generate(runs, { e2e: 2 }).profile).toMatchObject({ e2e: [[1.5]], ttft: [[0.1]], tpot: [[0.02]] });
  });

  it('counts a run as keeping up from nine tenths of its rate, exactly', () => {
    expect(generate([run(1, 1, 1), run(1, 1, 10, { tput: 9 })]).tputs).toEqual([[9]]);
    expect(generate([run(1, 1, 1), run(1, 1, 10, { tput: 8.999 })]).tputs).toEqual([[1]]);
  });

  it('is that of the lowest rate that qualifies where none keeps up', () => {
    expect(generate([run(1, 1, 4, { tput: 3 }), run(1, 1, 8, { tput: 3.4 })]).tputs).toEqual([[3]]);
  });

  it('is 0 where the SLO is met exactly: times must be below it, throughputs reach it', () => {
    const runs = [run(128, 64, 1, { e2e: 2, ttft: 0.5, tpot: 0.03, tput: 1 })];
    for (const slo of [{ e2e: 2 }, { ttft: 0.5 }, { tpot: 0.03 }, { tpat: 2 / 192 }]) {
      expect(generate(runs, slo).tputs).toEqual([[0]]);
    }
    for (const slo of [{ tput: 1 }, { tt: 64 }, { e2e: 2.0001 }, { tpat: 2 / 191 }]) {
      expect(generate(runs, slo).tputs).toEqual([[1]]);
    }
    expect(generate(runs, { tput: 1.001 }).tputs).toEqual([[0]]);
    expect(generate(runs, { tt: 64.1 }).tputs).toEqual([[0]]);
  });

  it.each([
    [50, 1],
    [90, 2],
    [95, 3],
    [99, 4],
  ] as const)('goes by P%i where that is asked for, by the mean else', (percentile, factor) => {
    const runs = [run(128, 64, 1, { ttft: 0.1 })];
    expect(generate(runs, { ttft: 0.1 * factor + 0.001 }, { percentile }).tputs).toEqual([[1]]);
    expect(generate(runs, { ttft: 0.1 * factor - 0.001 }, { percentile }).tputs).toEqual([[0]]);
    expect(generate(runs, { ttft: 0.1 * factor + 0.001 }, { percentile }).profile.slos).toEqual({
      percentile,
      ttft: 0.1 * factor + 0.001,
    });
    // Latencies of the profile are means, whatever the percentile of the SLO.
    expect(generate(runs, {}, { percentile }).profile.ttft).toEqual([[0.1]]);
  });

  it('of 0 has the latencies of the first run of the cell in the files, and is no failure', () => {
    const second = run(128, 64, 1, { e2e: 5 });
    const first = run(128, 64, 8, { e2e: 50 });
    const at = (one: BenchmarkRun, row: number): BenchmarkRun => ({
      ...one,
      metrics: { ...one.metrics, E2E: { ...one.metrics.E2E!, row } },
    });
    const { tputs, profile, codes, notices } = generate([at(second, 9), at(first, 3)], { e2e: 1 });
    expect(tputs).toEqual([[0]]);
    expect(profile.e2e).toEqual([[50]]);
    expect(codes).toEqual(['nothing_meets_slo']);
    expect(notices[0]!.message).toContain('The smallest cell (128 in, 64 out) at its lowest rate, 1/s: E2E mean 5.');
    const silent = generate([run(128, 64, 1, { tput: 0 })], { e2e: 5 });
    expect(silent.notices[0]!.message).toContain('at its lowest rate, 1/s: its throughput is 0.');
  });
});

describe('what must not be believed', () => {
  it('does not count: invalid runs are as if they were not there', () => {
    const bad = { invalid: 'the generator fell behind by 2 s' };
    const { tputs, notices } = generate([run(1, 1, 1), run(1, 1, 8, {}, bad)]);
    expect(tputs).toEqual([[1]]);
    expect(notices[0]!.message).toBe(
      '1 of 2 runs are invalid and do not count, e.g. 1 in, 1 out at 8/s: the generator fell behind by 2 s',
    );
    expect(faultOf(() => generate([run(1, 1, 8, {}, bad)]))).toContain(
      'found 1 runs that are all invalid (the generator fell behind by 2 s), expected at least one valid run',
    );
  });

  it('is no measurement of zero: a cell whose runs are all invalid is a gap', () => {
    const runs = [run(128, 64, 4), run(512, 64, 2), run(256, 64, 4, {}, { invalid: 'late' })];
    const { tputs, profile } = generate(runs);
    expect(profile.cells).toEqual([['measured', 'interpolated', 'measured']]);
    expect(tputs[0]![1]).toBeGreaterThan(2);
  });

  it('says no more than that its rate is too high where it was ended early', () => {
    const aborted = (rate: number) => without(run(1, 1, rate, { e2e: 0.1 }, { aborted: 'hopeless' }), 'TPUT');
    expect(generate([run(1, 1, 1, { e2e: 0.1 }), aborted(8)], { e2e: 1 }).tputs).toEqual([[1]]);
    const { tputs, profile, codes } = generate([run(2, 1, 1, { e2e: 0.1 }), aborted(1)], { e2e: 1 });
    expect(tputs).toEqual([[0, 1]]);
    expect(profile.cells).toEqual([['measured', 'measured']]);
    expect(codes).toEqual(['aborted_runs']);
    // Also where a file states a throughput for it.
    const stated = run(1, 1, 8, { e2e: 0.1 }, { aborted: 'hopeless' });
    expect(generate([run(1, 1, 1, { e2e: 0.1 }), stated], { e2e: 1 }).tputs).toEqual([[1]]);
  });
});

describe('a run of which too many requests failed', () => {
  const failures = '30 of 100 requests failed';

  it('meets no SLO, however fast the answers were that came', () => {
    const fast = run(512, 64, 4, { tput: 3.9, e2e: 0.1 }, { failures });
    expect(generate([run(512, 64, 2), fast], { e2e: 2 }).tputs).toEqual([[2]]);
    expect(generate([run(512, 64, 2), fast]).tputs).toEqual([[2]]);
  });

  it('is no gap: a cell with no other serves nothing, whatever its neighbours do', () => {
    const cells = [run(128, 64, 4), run(512, 64, 1, {}, { failures }), run(2048, 64, 2)];
    expect(generate(cells).tputs).toEqual([[4, 0, 2]]);
  });
});

describe('of two runs of one cell and rate', () => {
  it('the last counts, and it is said', () => {
    const { tputs, notices } = generate([run(1, 1, 1, { tput: 0.95 }), run(1, 1, 1, { tput: 0.99 })]);
    expect(tputs).toEqual([[0.99]]);
    expect(notices.map(({ message }) => message)).toEqual([
      '1 run repeats the cell and rate of an earlier one (e.g. 1 in, 1 out at 1/s): the last whole one counts',
    ]);
  });

  it('the earlier one counts where the last was cut off while it was written', () => {
    const cutOff = without(run(1, 1, 1, { tput: 0.99 }), 'TTFT', 'TPOT');
    expect(generate([run(1, 1, 1, { tput: 0.95 }), cutOff]).tputs).toEqual([[0.95]]);
  });

  it('an invalid one does not replace a valid one', () => {
    expect(generate([run(1, 1, 1, { tput: 0.95 }), run(1, 1, 1, {}, { invalid: 'late' })]).tputs).toEqual([[0.95]]);
  });
});

describe('a metric that was not measured', () => {
  it('is an error where an objective is set on it, and names it', () => {
    const runs = [without(run(1, 1, 1), 'TTFT', 'TPOT')];
    expect(faultOf(() => generate(runs, { ttft: 1 }))).toBe(
      'runs.jsonl: TTFT: found no row of this metric, expected rows of TTFT, on which --ttft sets an objective',
    );
    expect(faultOf(() => generate([without(run(1, 1, 1), 'E2E')], { tpat: 1 }))).toContain('E2E: found no row');
  });

  it('is not needed where none is', () => {
    const { tputs, profile } = generate([without(run(1, 8, 1), 'TTFT', 'TPOT', 'TT')], { e2e: 2 });
    expect(tputs).toEqual([[1]]);
    expect(profile).not.toHaveProperty('ttft');
    expect(profile).not.toHaveProperty('tpot');
  });

  it('of a percentile that the files lack is an error that says what they have', () => {
    const old = run(1, 1, 1);
    const runs = [{ ...old, metrics: { ...old.metrics, TTFT: { ...old.metrics.TTFT!, P95: null } } }];
    expect(faultOf(() => generate(runs, { ttft: 1 }, { percentile: 95 }))).toContain(
      'TTFT.P95: found no value; the rows have mean, P50, P90, P99, expected the percentile of --percentile 95, since --ttft',
    );
    expect(generate(runs, {}, { percentile: 95 }).tputs).toEqual([[1]]);
    expect(generate(runs, { e2e: 4 }, { percentile: 95 }).tputs).toEqual([[1]]);
  });

  it('in some runs only keeps those from qualifying, and is said', () => {
    const { tputs, codes } = generate([run(1, 1, 1), without(run(1, 1, 2), 'TTFT')], { ttft: 1 });
    expect(tputs).toEqual([[1]]);
    expect(codes).toEqual(['missing_metric']);
  });

  it('of E2E is the sum that it is by definition, since the gateway divides by it', () => {
    expect(generate([without(run(1, 11, 1, { ttft: 0.5, tpot: 0.02 }), 'E2E')]).profile.e2e).toEqual([[0.7]]);
    expect(faultOf(() => generate([without(run(1, 1, 1), 'E2E', 'TTFT', 'TPOT')]))).toContain(
      'E2E: found no latency above 0 in any run that counts',
    );
    expect(generate([run(1, 11, 1, { e2e: 0, ttft: 0.5, tpot: 0.02 })]).profile.e2e).toEqual([[0.7]]);
  });
});

describe('a cell without a run', () => {
  const corners = [
    run(128, 64, 4, { e2e: 1 }),
    run(512, 64, 2, { e2e: 3 }),
    run(128, 256, 2, { e2e: 5 }),
    run(512, 256, 1, { e2e: 7 }),
    run(256, 64, 4, { tput: 3.8, e2e: 1.5 }),
  ];

  it('is one too where a search ended before it found a rate: that none meets the SLO would be another answer', () => {
    const slo = { e2e: 5 };
    const missed = run(512, 256, 4, { e2e: 9 });
    const closed = generate([run(128, 256, 8), missed], slo);
    expect(closed.tputs).toEqual([[8, 0]]);
    const open = generate([run(128, 256, 8), { ...missed, lowerRatesOpen: true }], slo);
    expect(open.profile.cells).toEqual([['measured', 'interpolated']]);
    // Work grows with tokens: a quarter of the rate.
    expect(open.tputs[0]![1]).toBeCloseTo(2, 9);
    // What was seen to miss is an upper bound.
    const nearer = generate([run(128, 256, 8), { ...missed, requestRate: 0.5, lowerRatesOpen: true }], slo);
    expect(nearer.tputs[0]![1]).toBe(0.5);
    expect(faultOf(() => generate([{ ...missed, lowerRatesOpen: true }], slo))).toBe(
      'runs.jsonl: found a search that ended before it had found any rate, expected one that went on (gpumix benchmark --resume)',
    );
    // A lower rate that missed for good settles it.
    const settled = generate(
      [run(128, 256, 8), { ...missed, lowerRatesOpen: true }, run(512, 256, 0.1, { e2e: 8 })],
      slo,
    );
    expect(settled.tputs).toEqual([[8, 0]]);
  });

  it('is interpolated by its works in tokens, marked and said', () => {
    const { tputs, profile, notices } = generate(corners);
    // 256 lies a third of the way from 128 to 512: work 1/2 + (1/2)/3 along the row; nothing is known beyond it on the column.
    expect(tputs[1]![1]).toBeCloseTo(1.5, 12);
    expect(profile.cells).toEqual([
      ['measured', 'measured', 'measured'],
      ['measured', 'interpolated', 'measured'],
    ]);
    expect(profile.e2e![1]![1]).toBeCloseTo(5 + 2 / 3, 12);
    expect(notices.map(({ message }) => message)).toEqual([
      '1 cell has no run that counts and is interpolated (1 between measured ones): 256 in, 256 out',
    ]);
  });

  it('is refused where the profile is to be strict, with every gap named', () => {
    expect(faultOf(() => generate(corners, {}, { strict: true }))).toBe(
      'runs.jsonl: 256 in, 256 out: found no run that counts, expected a run of every cell of the grid (without --strict it is interpolated)',
    );
  });

  it('takes the verdict of its neighbours', () => {
    const { tputs } = generate(
      corners.map((one) =>
        one.outputTokens === 256
          ? { ...one, metrics: { ...one.metrics, E2E: { ...one.metrics.E2E!, mean: 99 } } }
          : one,
      ),
      { e2e: 10 },
    );
    expect(tputs[1]).toEqual([0, 0, 0]);
  });
});

describe('several models in the files', () => {
  const runs = [run(1, 1, 1, {}, { model: 'llama' }), run(1, 1, 2, {}, { model: 'qwen3-32b' })];

  it('need a word of which the profile is', () => {
    expect(faultOf(() => generate(runs))).toContain('runs of 2 models: "llama", "qwen3-32b", expected --model NAME');
    expect(faultOf(() => generate(runs, {}, { model: 'qwen3-32' }))).toContain('did you mean "qwen3-32b"?');
    expect(generate(runs, {}, { model: 'qwen3-32b' })).toMatchObject({ tputs: [[2]], profile: { model: 'qwen3-32b' } });
  });

  it('are not one model under another name', () => {
    expect(generate(runs.slice(0, 1), {}, { model: 'alias' }).profile.model).toBe('llama');
  });
});

describe('the document', () => {
  it('says what it is made of', () => {
    const { profile } = generate(
      [run(128, 64, 1, {}, { method: 'simulated' })],
      { tput: 0.5, e2e: 5 },
      { percentile: 90, gpuType: 'L4', gpusPerReplica: 2 },
    );
    expect(profileDocument(profile)).toEqual({
      gpu: 'llama-l4',
      cost: 0.7,
      tputs: [[1]],
      indexes: [[64], [128]],
      created: 1_800_000_000,
      e2e: [[1]],
      ttft: [[0.1]],
      tpot: [[0.02]],
      slos: { percentile: 90, tput: 0.5, e2e: 5 },
      apiVersion: 'gpumix/v1',
      kind: 'GpuProfile',
      model: 'llama',
      gpuType: 'L4',
      gpusPerReplica: 2,
      cells: [['simulated']],
      provenance: {
        method: 'simulated',
        by: 'a test',
        at: '2027-01-15T08:00:00.000Z',
        details: '1 run of runs.jsonl; all cells have runs of their own',
        relativeError: null,
      },
    });
  });

  it('of any runs is one that both readers take, or the runs are refused', () => {
    const number = fc.oneof(
      fc.constantFrom(0, 1, 1e-12, 1e9, 0.9),
      fc.double({ min: 0, max: 1e9, noNaN: true }),
      fc.double({ min: 0.1, max: 10, noNaN: true }),
    );
    const statistic = fc.option(number, { freq: 12 });
    const summary = fc.record({
      row: fc.nat(20),
      mean: statistic,
      P50: statistic,
      P90: statistic,
      P95: statistic,
      P99: statistic,
    });
    const metrics = fc.record(
      { TPUT: summary, TT: summary, E2E: summary, TTFT: summary, TPOT: summary, ITL: summary },
      { requiredKeys: ['TPUT'] },
    );
    const arbitraryRun = fc.record({
      place: fc.constant('x'),
      model: fc.constantFrom('llama', 'llama', null),
      inputTokens: fc.constantFrom(0, 1, 128, 1e12),
      outputTokens: fc.constantFrom(0, 1, 64, 4096),
      requestRate: fc.constantFrom(0.5, 1, 4, Number.POSITIVE_INFINITY),
      arrivals: fc.constant('rate' as const),
      metrics,
      invalid: fc.constantFrom(null, null, null, 'late'),
      failures: fc.constantFrom(null, null, null, '2 of 9 requests failed'),
      aborted: fc.constantFrom(null, null, null, 'hopeless'),
      method: fc.constant('measured' as const),
    });
    const slo = fc.oneof(
      fc.constant({}),
      fc.record({ e2e: number }),
      fc.record(
        { tput: number, tt: number, e2e: number, ttft: number, tpat: number, tpot: number },
        { requiredKeys: [] },
      ),
    );
    let written = 0;
    fc.assert(
      fc.property(
        fc.array(arbitraryRun, { minLength: 1, maxLength: 12 }),
        slo,
        fc.constantFrom(...sloPercentiles),
        (runs, objectives, percentile) => {
          try {
            const { profile } = generate(runs, objectives, { percentile });
            const text = JSON.stringify(profileDocument(profile));
            expect(text).not.toMatch(/NaN|Infinity/);
            if (profile.grid.tputs.flat().every((tput) => tput === 0)) return;
            written += 1;
            expect(parseProfile(text, 'again')).toEqual(profile);
          } catch (error) {
            if (!(error instanceof InputError)) throw error;
          }
        },
      ),
      { numRuns: 1500 },
    );
    expect(written).toBeGreaterThan(100);
  });
});

/**
 * The rule once more, as it is written in the contract, over plain rows with no thought of speed: what AIBrix's tool
 * does with its data frames. The first row counts where it does; the shared files have no duplicates.
 */
function byTheContract(rows: readonly BenchmarkRow[], slo: ProfileSlo, percentile: SloPercentile) {
  const column = percentile === 0 ? 'mean' : (`P${percentile}` as 'P50');
  const unique = (key: 'input_tokens' | 'output_tokens') =>
    [...new Set(rows.map((row) => row[key]))].sort((a, b) => a - b);
  const withTpat = [
    ...rows,
    ...rows.flatMap((row) => {
      if (row.metric !== 'E2E') return [];
      const all = row.input_tokens + row.output_tokens;
      return [
        {
          ...row,
          metric: 'TPAT',
          mean: row.mean! / all,
          P50: row.P50! / all,
          P90: row.P90! / all,
          P99: row.P99! / all,
        },
      ];
    }),
  ];
  const cells = unique('output_tokens').map((output) =>
    unique('input_tokens').map((input) => {
      const cell = withTpat.filter((row) => row.input_tokens === input && row.output_tokens === output);
      let left = cell;
      for (const [metric, limit] of [
        ['TPUT', slo.tput],
        ['TT', slo.tt],
        ['E2E', slo.e2e],
        ['TTFT', slo.ttft],
        ['TPAT', slo.tpat],
        ['TPOT', slo.tpot],
      ] as const) {
        const good = left.filter(
          (row) =>
            row.metric === metric && (metric === 'TPUT' || metric === 'TT' ? row.mean! >= limit : row[column]! < limit),
        );
        left = left.filter((row) => good.some(({ request_rate }) => request_rate === row.request_rate));
      }
      let source = cell;
      let tput = 0;
      if (left.length > 0) {
        const fast = left.filter((row) => row.metric === 'TPUT' && row.mean! >= row.request_rate * 0.9);
        const rate =
          fast.length > 0
            ? Math.max(...fast.map((row) => row.request_rate))
            : Math.min(...left.map((row) => row.request_rate));
        source = left.filter((row) => row.request_rate === rate);
        tput = source.find((row) => row.metric === 'TPUT')!.mean!;
      }
      const first = (metric: string) => source.find((row) => row.metric === metric)!.mean!;
      return { tput, e2e: first('E2E'), ttft: first('TTFT') };
    }),
  );
  return {
    tputs: cells.map((row) => row.map(({ tput }) => tput)),
    e2e: cells.map((row) => row.map(({ e2e }) => e2e)),
    ttft: cells.map((row) => row.map(({ ttft }) => ttft)),
  };
}

const shared = '../shared/data/aibrix';

describe.skipIf(!existsSync(shared))('any set of flags (skipped where ../shared is absent)', () => {
  it.each(['simulator-llama2-7b-a100.jsonl', 'simulator-llama2-7b-a40.jsonl'])(
    'gives the numbers of the rule as the contract has it, on %s in any order of its rows',
    (file) => {
      const random = seededRandom(11);
      const read = parseRows(readFileSync(`${shared}/${file}`, 'utf8'), file);
      let zeros = 0;
      for (let i = 0; i < 25; i++) {
        const rows = [...read.rows];
        for (let j = rows.length - 1; i % 2 === 1 && j > 0; j--) {
          const other = random.whole(0, j);
          [rows[j], rows[other]] = [rows[other]!, rows[j]!];
        }
        const pick = <T>(none: T, ...values: readonly T[]): T =>
          random.chance(0.65) ? none : values[random.whole(0, values.length - 1)]!;
        const slo: ProfileSlo = {
          tput: pick(0, 0.5, 2, 8),
          tt: pick(0, 10, 100, 400),
          e2e: pick(Number.POSITIVE_INFINITY, 0, 0.5, 1, 2, 5, 10),
          ttft: pick(Number.POSITIVE_INFINITY, 1e-5, 2e-5, 0.001, 1),
          tpat: pick(Number.POSITIVE_INFINITY, 0.001, 0.005, 0.01),
          tpot: pick(Number.POSITIVE_INFINITY, 1e-6, 0.01, 0.02, 0.1),
        };
        const percentile = ([0, 50, 90, 99] as const)[random.whole(0, 3)]!;
        const { runs } = runsOfRows({ rows, notices: [] }, { source: file });
        const { profile, tputs } = generate(runs, slo, { percentile });
        const expected = byTheContract(rows, slo, percentile);
        expect({ tputs, e2e: profile.e2e, ttft: profile.ttft }).toEqual(expected);
        if (tputs.flat().every((tput) => tput === 0)) zeros += 1;
      }
      expect(zeros).toBeLessThan(15);
    },
  );
});

describe('an objective on TTFT that grows with the prompt', () => {
  // Means of 0.5 s for 100 tokens and of 1.5 s for 1,000; the limit is 0.4 s and 1 ms a token: 0.5 s (not below) and 1.4 s.
  const runs = [run(100, 10, 2, { ttft: 0.45 }), run(100, 10, 4, { ttft: 0.5 }), run(1000, 10, 1, { ttft: 1.3 })];

  it('is that of each cell, and stands in the profile', () => {
    const { profile } = generate(runs, { ttft: 0.4 }, { ttftPerInputToken: 0.001 });
    expect(profile.grid.tputs).toEqual([[2, 1]]);
    expect(profile.slos).toEqual({ percentile: 0, ttft: 0.4, ttft_per_input_token: 0.001 });
    expect(parseProfile(JSON.stringify(profileDocument(profile)), 'x').slos).toEqual(profile.slos);
  });

  it("absent or 0 is today's profile, and without an objective on TTFT it is none", () => {
    const plain = generate(runs, { ttft: 0.47 });
    expect(generate(runs, { ttft: 0.47 }, { ttftPerInputToken: 0 })).toEqual(plain);
    expect(plain.profile.slos).toEqual({ percentile: 0, ttft: 0.47 });
    expect(generate(runs, {}, { ttftPerInputToken: 0.001 })).toEqual(generate(runs));
  });
});

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Cell } from '../../src/profiling/measurement.js';
import {
  type CellResult,
  cellResults,
  leavesLowerRatesOpen,
  nextRun,
  normalCdf,
  type PlannedRun,
  type RunRecord,
  remainingSeconds,
  runLength,
  type SearchSettings,
} from '../../src/profiling/rate-search.js';
import { coarseFirstCells, doubling } from '../../src/profiling/sweep.js';
import { seededRandom } from '../support/seeded-random.js';
import { cell, slo } from './run-builders.js';

const settings = (overrides: Partial<SearchSettings> = {}): SearchSettings => ({
  cells: [cell(128, 128)],
  slo: slo({ ttftSeconds: 2 }),
  rateStart: 1 / 256,
  rateLimit: 1024,
  requests: 100,
  resolution: 0.05,
  confidence: 0.9,
  maxTokens: null,
  ...overrides,
});

/** Requests/s of a server as roofline models have it. */
const capacity = ({ inputTokens: i, outputTokens: o }: Cell): number =>
  1 / (0.002 + 3e-5 * i + 2e-4 * o + 2e-8 * o * (i + o / 2));

type Server = (run: PlannedRun, made: number) => Partial<RunRecord>;

/** What is recorded of a run that a test makes up. */
function record(run: PlannedRun, made: Partial<RunRecord>): RunRecord {
  return {
    cell: run.cell,
    requestRate: run.requestRate,
    requests: run.requests,
    presumed: run.presumed,
    verdict: 'meets',
    invalidBecause: null,
    aborted: false,
    evidence: 5,
    nearness: null,
    nearestLimit: null,
    decidedBy: 'ttft',
    projection: null,
    sent: run.requests,
    throughputRps: run.requestRate,
    e2eSeconds: 1,
    seconds: run.requests / run.requestRate,
    ...made,
  };
}

/** Requests meet a P90 with a share that falls with the rate, from all to none over some percent around the capacity. */
function noisyServer(seed: number, { softness = 0.03 }: { readonly softness?: number } = {}): Server {
  const random = seededRandom(seed);
  return ({ cell: one, requestRate, requests, presumed }) => {
    if (presumed !== null) return { verdict: 'misses', aborted: true, evidence: -3.7, sent: 1 };
    const over = Math.log(requestRate / capacity(one)) / softness;
    const share = over < 0 ? 0.9 + 0.1 * Math.min(1, -over) : Math.max(0, 0.9 - 0.3 * over);
    let met = 0;
    for (let i = 0; i < requests; i++) if (random.chance(share)) met += 1;
    const evidence = (met / requests - 0.9) / Math.sqrt(0.09 / requests);
    return { verdict: evidence >= 0 ? 'meets' : 'misses', evidence };
  };
}

function search(settings: SearchSettings, server: Server): { records: RunRecord[]; results: readonly CellResult[] } {
  const records: RunRecord[] = [];
  for (let run = nextRun(settings, records); run !== null; run = nextRun(settings, records)) {
    expect(run.requestRate).toBeGreaterThanOrEqual(settings.rateStart);
    expect(run.requestRate).toBeLessThanOrEqual(settings.rateLimit);
    expect(Number.isInteger(run.requests) && run.requests > 0).toBe(true);
    expect(Number.isFinite(run.expectedSeconds)).toBe(true);
    records.push(record(run, server(run, records.length)));
    expect(records.length, 'the search ends').toBeLessThan(20 * settings.cells.length);
  }
  return { records, results: cellResults(settings, records) };
}

/** A server without chance. */
const exactServer: Server = ({ cell: one, requestRate, presumed }) =>
  presumed === null && requestRate <= capacity(one)
    ? { verdict: 'meets', evidence: 5 }
    : { verdict: 'misses', evidence: -5, throughputRps: Math.min(requestRate, capacity(one)) };

describe('the search for the highest rate', () => {
  it.each([
    [0, 1],
    [0.0002, 4],
  ])(
    'looks at longer prompts where shorter ones miss TTFT, if length allows them more: %f s a token',
    (per, looked) => {
      // Alone in the server the short prompt is late already.
      const cells = [cell(128, 128), cell(512, 128)];
      const server: Server = ({ cell: { inputTokens }, requestRate, presumed }) =>
        presumed === null && inputTokens === 512 && requestRate <= 3
          ? { verdict: 'meets', e2eSeconds: 0.1 }
          : { verdict: 'misses', evidence: -9, e2eSeconds: 0.1, decidedBy: 'ttft' };
      const asked = settings({ cells, slo: slo({ ttftSeconds: 2, tpotSeconds: null, ttftSecondsPerInputToken: per }) });
      const { records, results } = search(asked, server);
      const longer = records.filter((one) => one.cell.inputTokens === 512);
      expect(longer.length).toBeGreaterThanOrEqual(looked);
      expect(longer.some(({ presumed }) => presumed !== null)).toBe(per === 0);
      expect(results.map(({ state }) => state)).toEqual(['none', per === 0 ? 'none' : 'found']);
    },
  );

  it('brackets the capacity of any cell within the resolution', () => {
    const lengths = fc.integer({ min: 1, max: 8192 });
    fc.assert(
      fc.property(lengths, lengths, fc.constantFrom(0.02, 0.05, 0.2), (inputTokens, outputTokens, resolution) => {
        const one = cell(inputTokens, outputTokens);
        const { results, records } = search(settings({ cells: [one], resolution }), exactServer);
        const [{ state, rate, missedRate }] = results as [CellResult];
        expect(state).toBe('found');
        expect(rate).toBeLessThanOrEqual(capacity(one));
        expect(missedRate).toBeGreaterThan(capacity(one));
        expect(missedRate! / rate!).toBeLessThanOrEqual((1 + resolution) * 1.003);
        expect(records.length).toBeLessThanOrEqual(14);
      }),
    );
  });

  it('takes few runs for each cell of a grid, since cells predict each other', () => {
    const axis = doubling(4, 4096);
    const cells = coarseFirstCells(axis, axis);
    const { results, records } = search(settings({ cells }), exactServer);
    expect(results.filter(({ state }) => state === 'found')).toHaveLength(121);
    for (const { cell: one, rate } of results) {
      expect(rate! / capacity(one)).toBeGreaterThan(1 / 1.054);
      expect(rate! / capacity(one)).toBeLessThanOrEqual(1);
    }
    // Bisection from 1/256 to 1024 at 5 % takes 8 runs a cell: log2(ln(2^18) / ln 1.05).
    expect(records.length / 121).toBeLessThan(3.5);
    const later =
      records.slice(-200).length /
      new Set(records.slice(-200).map((r) => `${r.cell.inputTokens} ${r.cell.outputTokens}`)).size;
    expect(later).toBeLessThan(3);
  });

  it('is hardly ever above the truth by more than the resolution, and seldom below it by more, on noisy servers', () => {
    let above = 0;
    let below = 0;
    let cells = 0;
    const grid = coarseFirstCells([64, 512, 4096], [64, 512, 4096]);
    for (let seed = 0; seed < 25; seed++) {
      for (const { cell: one, rate, state } of search(settings({ cells: grid }), noisyServer(seed)).results) {
        expect(state).toBe('found');
        cells += 1;
        if (rate! > 1.05 * capacity(one)) above += 1;
        if (rate! < capacity(one) / 1.1) below += 1;
      }
    }
    // The confidence that was asked for is 90 % for each of the two rates.
    expect(above / cells).toBeLessThan(0.1);
    expect(below / cells).toBeLessThan(0.1);
  });

  it('lengthens runs that leave it open, and says the confidence it came to', () => {
    const soft = search(settings(), noisyServer(3, { softness: 0.3 }));
    const sharp = search(settings(), noisyServer(3, { softness: 0.005 }));
    const repeated = (records: readonly RunRecord[]) =>
      records.some((one, i) =>
        records.some((other, j) => j < i && other.requestRate === one.requestRate && one.requests > other.requests),
      );
    expect(repeated(soft.records)).toBe(true);
    expect(sharp.results[0]!.confidence).toBeGreaterThan(soft.results[0]!.confidence!);
    expect(soft.results[0]!.confidence).toBeGreaterThan(0.5);
    expect(soft.results[0]!.confidence).toBeLessThanOrEqual(1);
  });
});

describe('the ends of the range', () => {
  it('a cell that meets at the highest rate is done with it', () => {
    const { results } = search(settings({ rateLimit: 8, rateStart: 1 }), exactServer);
    expect(results[0]).toMatchObject({ state: 'at_limit', rate: 8, missedRate: null });
  });

  it('cells with no more tokens than such a one begin there: one run each', () => {
    const cells = [cell(128, 128), cell(64, 128), cell(64, 64)];
    const { results } = search(settings({ cells, rateLimit: 8, rateStart: 1 }), exactServer);
    expect(results.slice(1).map(({ state, runs }) => [state, runs])).toEqual([
      ['at_limit', 1],
      ['at_limit', 1],
    ]);
  });

  it('a cell that misses at the lowest rate has none, and larger ones are presumed so for one request', () => {
    const cells = [cell(4096, 4096), cell(8192, 4096), cell(4096, 8192), cell(128, 128)];
    const { results, records } = search(
      settings({ cells, rateStart: 4, slo: slo({ tpotSeconds: null }) }),
      exactServer,
    );
    expect(results.map(({ state }) => state)).toEqual(['none', 'none', 'none', 'found']);
    // Of a missed rate it is known whether lower ones meet the SLO only at the end of the search.
    const missed = records.filter(({ verdict }) => verdict === 'misses');
    const ofFirst = missed.filter(({ cell: of }) => of === cells[0]);
    expect(ofFirst.at(-1)!.requestRate).toBe(4);
    for (const one of missed) {
      const isOpen = one.presumed === null && one.requestRate > 4;
      expect(leavesLowerRatesOpen(settings({ cells, rateStart: 4 }), one)).toBe(isOpen);
    }
    const presumed = records.filter((one) => one.presumed !== null);
    expect(presumed.map(({ requests, presumed: why }) => [requests, why])).toEqual([
      [1, '4096 input and 4096 output tokens already miss the SLO at this rate'],
      [1, '4096 input and 4096 output tokens already miss the SLO at this rate'],
    ]);
  });

  it('does not presume across answer lengths where TPOT decided: a longer answer may meet it', () => {
    const cells = [cell(4096, 4), cell(4096, 64)];
    const server: Server = (run) =>
      run.cell.outputTokens === 4
        ? { verdict: 'misses', evidence: -5, decidedBy: 'tpot', aborted: true }
        : exactServer(run, 0);
    const { results } = search(settings({ cells, rateStart: 1 }), server);
    expect(results.map(({ state }) => state)).toEqual(['none', 'found']);
  });

  it('a request that misses although it has the server to itself needs no lower rate', () => {
    const server: Server = () => ({ verdict: 'misses', evidence: -9, e2eSeconds: 0.5, throughputRps: 0.1 });
    const { results, records } = search(settings(), server);
    expect(results[0]).toMatchObject({ state: 'none', rate: null });
    expect(Math.min(...records.map(({ requestRate }) => requestRate))).toBeGreaterThan(0.05);
  });

  it('leaves out what the model cannot take', () => {
    const cells = [cell(100, 29), cell(100, 28)];
    const { results, records } = search(settings({ cells, maxTokens: 128 }), exactServer);
    expect(results.map(({ state }) => state)).toEqual(['too_long', 'found']);
    expect(records.every((one) => one.cell.outputTokens === 28)).toBe(true);
  });
});

describe('runs that do not count', () => {
  it('are repeated once, then the rate is given up: nothing from there on is looked at, and it is said', () => {
    const limit = 12;
    const server: Server = (run) =>
      run.requestRate >= limit
        ? { verdict: 'invalid', invalidBecause: 'the generator fell behind', evidence: 0 }
        : { verdict: 'meets' };
    const { results, records } = search(settings(), server);
    expect(results[0]).toMatchObject({ state: 'found', missedRate: null });
    expect(results[0]!.rate).toBeLessThan(limit);
    expect(results[0]!.rate! * 1.06).toBeGreaterThan(limit);
    expect(results[0]!.note).toMatch(/^not measured from 12.* requests\/s on: the generator fell behind$/);
    const invalid = records.filter(({ verdict }) => verdict === 'invalid');
    for (const { requestRate } of invalid) {
      expect(invalid.filter((one) => one.requestRate === requestRate).length).toBeLessThanOrEqual(2);
    }
  });

  it('alone leave a cell unmeasurable, with the reason', () => {
    const server: Server = () => ({ verdict: 'invalid', invalidBecause: 'no request was sent', evidence: 0 });
    const { results } = search(settings(), server);
    expect(results[0]).toMatchObject({ state: 'not_measurable', rate: null, confidence: null });
    expect(results[0]!.note).toContain('no request was sent');
  });

  it('are no answer when they were too short to be steady: the rate is measured again, at length', () => {
    const seen = new Map<number, number>();
    const server: Server = (run) => {
      seen.set(run.requestRate, (seen.get(run.requestRate) ?? 0) + 1);
      // A request takes 40 s: 100 of them fill the server at 2 requests/s only when they are more.
      if (run.requestRate > 5) return { verdict: 'misses', evidence: -5 };
      return run.requests < 3.3 * run.requestRate * 40
        ? { verdict: 'short', invalidBecause: 'too short', e2eSeconds: 40, nearness: 0.5 }
        : { verdict: 'meets', e2eSeconds: 40 };
    };
    const { results, records } = search(settings({ slo: slo({ ttftSeconds: 100 }) }), server);
    const answer = records.findLast(
      ({ requestRate, verdict }) => requestRate === results[0]!.rate && verdict === 'meets',
    );
    expect(results[0]!.state).toBe('found');
    expect(answer!.requests).toBeGreaterThanOrEqual(3.3 * answer!.requestRate * 40);
  });
});

describe('a verdict that chance turned', () => {
  it('is measured again where a rate misses below one that meets: the less sure of the two', () => {
    const runs: [number, Partial<RunRecord>][] = [
      [4, { verdict: 'misses', evidence: -0.2 }],
      [5, { verdict: 'meets', evidence: 3 }],
    ];
    const records = runs.map(([requestRate, made]) =>
      record({ cell: cell(128, 128), requestRate, requests: 200, presumed: null, expectedSeconds: 1 }, made),
    );
    const next = nextRun(settings(), records)!;
    expect(next.requestRate).toBe(4);
    expect(next.requests).toBeGreaterThanOrEqual(200);
  });
});

describe('what a search knows lies in its runs', () => {
  const axis = [16, 64, 256, 1024];
  const grid = settings({ cells: coarseFirstCells(axis, axis) });

  it('so that it goes on from any of them as if it had never stopped', () => {
    const whole = search(grid, exactServer);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: whole.records.length }), (at) => {
        const kept = JSON.parse(JSON.stringify(whole.records.slice(0, at))) as RunRecord[];
        const next = nextRun(grid, kept);
        const made = whole.records[at];
        expect(next && [next.cell, next.requestRate, next.requests]).toEqual(
          made === undefined ? null : [made.cell, made.requestRate, made.requests],
        );
      }),
      { numRuns: 30 },
    );
  });

  it('leaves a coarse grid when it is stopped: every finished cell is known, and they span the grid', () => {
    const { records } = search(grid, exactServer);
    const half = cellResults(grid, records.slice(0, Math.floor(records.length / 2)));
    const done = half.filter(({ state }) => state === 'found');
    expect(done.length).toBeGreaterThan(4);
    expect(Math.max(...done.map((one) => one.cell.inputTokens))).toBe(1024);
    expect(Math.max(...done.map((one) => one.cell.outputTokens))).toBe(1024);
    expect(half.filter(({ state }) => state === 'unfinished').length).toBeLessThanOrEqual(1);
    expect(half.some(({ state }) => state === 'not_measured')).toBe(true);
  });

  it('gives two servers different cells, and no run that does not fit the time', () => {
    const first = nextRun(grid, [])!;
    const second = nextRun(grid, [], { isBusy: (one) => one === first.cell })!;
    expect(second.cell).not.toEqual(first.cell);
    expect(nextRun(grid, [], { fits: () => false })).toBeNull();
    const fast = nextRun(grid, [], { fits: ({ expectedSeconds }) => expectedSeconds < 1e9 })!;
    expect(fast.cell).toEqual(first.cell);
  });

  it('says about how long is left, which falls to nothing', () => {
    const { records } = search(grid, exactServer);
    const left = [0, 0.3, 0.6, 0.9, 1].map((share) =>
      remainingSeconds(grid, records.slice(0, Math.floor(share * records.length))),
    );
    expect(left[0]).toBeGreaterThan(0);
    expect(left.at(-1)).toBe(0);
    expect(left[3]).toBeLessThan(left[1]!);
  });
});

describe('the length of a run', () => {
  it('is what is counted, what fills the server, and what keeps it full meanwhile; at least three stays', () => {
    const length = (requestRate: number, staySeconds: number) =>
      runLength({ requestRate, staySeconds, requests: 100, length: 1 });
    expect(length(1, 0)).toBe(100);
    expect(length(1, 10)).toBe(120);
    // 200 at once: 1.1 × 3 × 200.
    expect(length(2, 100)).toBe(660);
    // No engine runs 10,000 at once: a wrong guess of the stay must not ask for them.
    expect(length(100, 100)).toBe(845);
  });
});

it('the normal distribution to six digits', () => {
  const known: [number, number][] = [
    [0, 0.5],
    [1, 0.8413447461],
    [-1.281551566, 0.1],
    [1.644853627, 0.95],
    [3, 0.998650102],
    [-8, 0],
  ];
  for (const [z, p] of known) expect(normalCdf(z)).toBeCloseTo(p, 6);
});

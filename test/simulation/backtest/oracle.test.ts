import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { randomFrom } from '../../../src/profiling/random.js';
import {
  type BacktestRequest,
  defaultObjective,
  type FleetDeployment,
  type FleetSettings,
  type Policy,
} from '../../../src/simulation/backtest/backtest.js';
import { type OracleBound, oracleBound } from '../../../src/simulation/backtest/oracle.js';
import { ascend, DualEvaluator, pricesOf } from '../../../src/simulation/backtest/oracle-prices.js';
import { runRequests } from '../../../src/simulation/backtest/request-run.js';
import { WindowMinimum } from '../../../src/simulation/backtest/window-minimum.js';
import type { Step } from '../../../src/simulation/step-time.js';

const minuteMs = 60_000;

/** `speed` 2 takes half the time. */
function deployment(
  name: string,
  overrides: Partial<FleetDeployment> & { readonly speed?: number } = {},
): FleetDeployment {
  const { speed = 1, ...rest } = overrides;
  const stepMs = (step: Step): number =>
    (25 +
      0.5 * step.prefillTokens +
      1e-6 * step.prefillAttention +
      0.5 * step.decodeSequences +
      2e-4 * step.decodeContextTokens) /
    speed;
  return {
    id: `default/${name}`,
    gpuType: name,
    gpusPerReplica: 1,
    usdPerReplicaHour: 2,
    minReplicas: 0,
    maxReplicas: 100,
    startup: { medianSeconds: 60, spread: 0 },
    engine: {
      stepTimes: { kvCacheTokens: 30_000, stepMs },
      limits: { maxSequences: 32, maxBatchedTokens: 2048, maxTokens: 8192 },
    },
    profile: { indexes: [[1], [1]], tputs: [[1]] } as never,
    ...rest,
  };
}

function settings(overrides: Partial<FleetSettings> = {}): FleetSettings {
  return {
    deployments: [deployment('a')],
    router: 'least-request',
    objective: defaultObjective,
    seed: 1,
    startMs: 0,
    scoredFromMs: 0,
    endMs: 10 * minuteMs,
    initialReplicas: new Map(),
    queueTimeoutSeconds: 30,
    drainSeconds: 60,
    meanHoursBetweenFailures: null,
    seriesSeconds: 60,
    ...overrides,
  };
}

/** Requests in bursts: every minute has a rate of its own. */
function bursts(
  seed: number,
  { minutes, most }: { readonly minutes: number; readonly most: number },
): BacktestRequest[] {
  const chance = randomFrom(seed);
  const requests: BacktestRequest[] = [];
  for (let minute = 0; minute < minutes; minute++) {
    const count = Math.floor(chance.unit() ** 2 * most);
    for (let i = 0; i < count; i++) {
      const inputTokens = 1 + Math.floor(2000 ** chance.unit());
      const outputTokens = 1 + Math.floor(400 ** chance.unit());
      requests.push({ atMs: (minute + chance.unit()) * minuteMs, inputTokens, outputTokens });
    }
  }
  return requests.sort((a, b) => a.atMs - b.atMs);
}

/** Follows a schedule that it was given, whatever it sees: replicas by minute of each deployment. */
function schedule(counts: readonly (readonly number[])[], ids: readonly string[]): Policy {
  let minute = 0;
  return {
    periodSeconds: 60,
    lagSeconds: 0,
    decide: () => {
      const now = counts[Math.min(minute++, counts.length - 1)]!;
      return { replicas: new Map(ids.map((id, d) => [id, now[d]!])), routing: null, forecastRps: null };
    },
  };
}

async function runSchedule(
  given: FleetSettings,
  requests: readonly BacktestRequest[],
  counts: readonly (readonly number[])[],
) {
  const ids = given.deployments.map(({ id }) => id);
  const initialReplicas = new Map(ids.map((id, d) => [id, counts[0]![d]!]));
  return runRequests({ settings: { ...given, initialReplicas }, requests, policy: schedule(counts, ids) });
}

function usdOf(bound: OracleBound, attainment: number): number {
  return bound.points.find((point) => point.attainment === attainment)!.usd;
}

describe('the oracle', () => {
  it('is below every fleet that is tried, at what that attained', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 1e6 }),
        fc.integer({ min: 20, max: 1200 }),
        fc.constantFrom(0, 60, 150),
        fc.constantFrom(0, 0.3),
        fc.array(fc.tuple(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 0, max: 3 })), {
          minLength: 1,
          maxLength: 10,
        }),
        fc.constantFrom('least-request', 'random'),
        async (seed, most, medianSeconds, spread, counts, router) => {
          const startup = { medianSeconds, spread };
          const given = settings({
            deployments: [deployment('a', { startup }), deployment('b', { startup, speed: 3, usdPerReplicaHour: 5 })],
            router,
            seed,
            scoredFromMs: 2 * minuteMs,
          });
          const requests = bursts(seed, { minutes: 10, most });
          const bound = await oracleBound({
            settings: given,
            requests,
            missAllowance: [0, 0.05, 0.3],
            slotSeconds: 20,
          });
          for (const tried of [counts, [[2, 1]], [[5, 0]], [[0, 2]], [[8, 4]]]) {
            const run = await runSchedule(given, requests, tried);
            const usd = bound.usdAt(run.attainment);
            expect(usd).toBeLessThanOrEqual(run.usd);
          }
        },
      ),
      { numRuns: 6 },
    );
  });

  it('is near what a full fleet costs', async () => {
    const chance = randomFrom(9);
    const requests: BacktestRequest[] = [];
    for (let atMs = 0; atMs < 4 * minuteMs; atMs += 60 * chance.exponential()) {
      requests.push({ atMs, inputTokens: 200, outputTokens: 50 });
    }
    const given = settings({ endMs: 4 * minuteMs });
    const bound = await oracleBound({ settings: given, requests, missAllowance: [] });
    let ratio = 0;
    for (let replicas = 1; ratio === 0; replicas++) {
      const run = await runSchedule(given, requests, [[replicas]]);
      if (run.attainment >= 0.99) ratio = bound.usdAt(run.attainment) / run.usd;
    }
    expect(ratio).toBeGreaterThan(0.6);
    expect(ratio).toBeLessThanOrEqual(1);
  });

  it('is below all fleets of up to two replicas that change by the minute, on a small span', async () => {
    const given = settings({ endMs: 4 * minuteMs });
    const requests = bursts(12, { minutes: 4, most: 450 });
    const bound = await oracleBound({ settings: given, requests, missAllowance: [0], slotSeconds: 10 });
    let best = Number.POSITIVE_INFINITY;
    for (let code = 0; code < 3 ** 4; code++) {
      const counts = Array.from({ length: 4 }, (_, minute) => [Math.floor(code / 3 ** minute) % 3]);
      const run = await runSchedule(given, requests, counts);
      const usd = bound.usdAt(run.attainment);
      expect(usd).toBeLessThanOrEqual(run.usd);
      if (usd > 0) best = Math.min(best, run.usd / usd);
    }
    expect(best).toBeLessThan(4);
  });

  it('falls with the misses allowed, down to nothing where all may miss', async () => {
    const requests = bursts(5, { minutes: 10, most: 200 });
    const missAllowance = [1, 0.5, 0.1, 0.05, 0.02, 0.01, 0.001, 0];
    const { points, usdAt } = await oracleBound({ settings: settings(), requests, missAllowance });
    expect(points.map(({ attainment }) => attainment)).toEqual(missAllowance.map((share) => 1 - share));
    for (let i = 1; i < points.length; i++) expect(points[i]!.usd).toBeGreaterThanOrEqual(points[i - 1]!.usd);
    expect(points[0]!.usd).toBe(0);
    expect(points.at(-1)!.usd).toBeGreaterThan(points[1]!.usd);
    expect(usdAt(0.97)).toBeLessThanOrEqual(usdOf({ points } as OracleBound, 0.98));
  });

  it('doubles with the prices, and with every request twice', async () => {
    const requests = bursts(6, { minutes: 10, most: 150 });
    const options = { settings: settings(), requests, missAllowance: [0, 0.02] };
    const once = await oracleBound(options);
    const dearer = await oracleBound({
      ...options,
      settings: settings({ deployments: [deployment('a', { usdPerReplicaHour: 4 })] }),
    });
    const twice = await oracleBound({ ...options, requests: requests.flatMap((request) => [request, request]) });
    for (const attainment of [1, 0.98]) {
      expect(usdOf(dearer, attainment) / usdOf(once, attainment)).toBeCloseTo(2, 2);
      expect(usdOf(twice, attainment) / usdOf(once, attainment)).toBeCloseTo(2, 1);
    }
  });

  it('is no higher with one more deployment to choose from', async () => {
    const requests = bursts(6, { minutes: 10, most: 150 });
    const missAllowance = [0, 0.02];
    const one = await oracleBound({ settings: settings(), requests, missAllowance });
    const deployments = [deployment('a'), deployment('b', { speed: 2 })];
    const two = await oracleBound({ settings: settings({ deployments }), requests, missAllowance });
    expect(usdOf(two, 1)).toBeLessThan(0.7 * usdOf(one, 1));
  });

  it('counts the start-up of what a burst needs', async () => {
    // A minute of load in ten of none: the replicas run for it, and are billed while they start.
    const requests = bursts(3, { minutes: 10, most: 1000 }).filter(({ atMs }) => Math.floor(atMs / minuteMs) === 7);
    const boundAt = async (medianSeconds: number) =>
      usdOf(
        await oracleBound({
          settings: settings({ deployments: [deployment('a', { startup: { medianSeconds, spread: 0 } })] }),
          requests,
          missAllowance: [0],
          slotSeconds: 60,
        }),
        1,
      );
    expect((await boundAt(120)) / (await boundAt(0))).toBeGreaterThan(2);
  });

  it('says what no replica can make attain', async () => {
    const fine = bursts(4, { minutes: 10, most: 60 });
    const long = { atMs: 1000, inputTokens: 9000, outputTokens: 10 };
    const bound = await oracleBound({ settings: settings(), requests: [long, ...fine], missAllowance: [0, 0.5] });
    expect(bound.hopelessRequests).toBe(1);
    expect(bound.points.map(({ attainment }) => attainment)).toEqual([0.5]);
    expect(bound.usdAt(1)).toBe(Number.POSITIVE_INFINITY);
    expect(bound.assumptions.join(' ')).toContain(`1 of ${fine.length + 1} requests attain on no deployment`);
  });

  it('reads a stream again for each pass, and nothing outside of the span', async () => {
    const requests = bursts(8, { minutes: 10, most: 100 });
    let opened = 0;
    async function* stream() {
      opened++;
      yield* requests;
    }
    const given = settings({ scoredFromMs: 4 * minuteMs, endMs: 8 * minuteMs });
    const streamed = await oracleBound({ settings: given, requests: stream, missAllowance: [0.01] });
    const inside = requests.filter(({ atMs }) => atMs >= given.scoredFromMs && atMs < given.endMs);
    const listed = await oracleBound({ settings: given, requests: inside, missAllowance: [0.01] });
    expect(opened).toBe(2);
    expect(streamed.requests).toBe(inside.length);
    expect(streamed.points).toEqual(listed.points);
  });

  it('is nothing without requests, and refuses shares that are none', async () => {
    const bound = await oracleBound({ settings: settings(), requests: [], missAllowance: [0, 0.1] });
    expect(bound.points.map(({ usd }) => usd)).toEqual([0, 0]);
    await expect(oracleBound({ settings: settings(), requests: [], missAllowance: [1.5] })).rejects.toThrow(
      'a miss allowance of 1.5, expected a share from 0 to 1',
    );
  });
});

describe('prices on the time of replicas', () => {
  const potentials = fc.array(fc.double({ min: -2, max: 3, noNaN: true }), { minLength: 2, maxLength: 40 });

  it('let no replica earn more than it costs, whenever it runs', () => {
    fc.assert(
      fc.property(potentials, fc.double({ min: 0, max: 200_000, noNaN: true }), (values, startupMs) => {
        const slots = values.length - 1;
        const slotLengths = new Float64Array(slots).fill(20_000);
        slotLengths[slots - 1] = 7000;
        const usdPerMs = 0.5;
        const [prices] = pricesOf([Float64Array.from(values)], { deployments: [{ usdPerMs, startupMs }], slotLengths });
        for (let from = 0; from < slots; from++) {
          let earned = 0;
          let lengthMs = 0;
          for (let to = from; to < slots; to++) {
            earned += prices![to]! * slotLengths[to]!;
            lengthMs += slotLengths[to]!;
            // Before the span nothing is billed, so that a start in its first moments was paid in part only.
            const cost = usdPerMs * (lengthMs + Math.min(startupMs, from * 20_000));
            expect(earned).toBeLessThanOrEqual(cost * (1 + 1e-9) + 1e-6);
            expect(prices![to]!).toBeGreaterThanOrEqual(0);
          }
        }
        expect(prices![slots]).toBe(0);
      }),
    );
  });

  it('are found to be worth what the best fleet costs, where that can be said', () => {
    // Load of one replica in slots 2 and 4 of six minutes, with a start-up of three: it is kept through slot 3.
    const slots = 6;
    const one = (values: readonly number[]) => Float64Array.from(values);
    const classes = {
      requests: one([1, 1]),
      first: Int32Array.from([4, 5]),
      prefillLast: Int32Array.from([4, 5]),
      decodeLast: Int32Array.from([4, 5]),
      decodeTokens: one([0, 0]),
      decodeContextTokens: one([0, 0]),
      prefillTokens: one([1, 1]),
      prefillAttention: one([0, 0]),
    };
    const search = {
      classes,
      work: [{ prefillMs: one([60_000, 30_000]), decodeMs: one([0, 0]) }],
      deployments: [{ usdPerMs: 1 / 60_000, startupMs: 180_000 }],
      slotLengths: new Float64Array(slots).fill(60_000),
    };
    const found = ascend(search, { from: [new Float64Array(slots + 1)], misses: 0, rounds: 200 });
    const usd = new DualEvaluator(search).evaluate(pricesOf(found, search), { misses: 0, near: 0 });
    // Half a replica for two minutes and half for one, 3 minutes of start-up each: 4.5.
    expect(usd).toBeGreaterThan(4.4);
    expect(usd).toBeLessThanOrEqual(4.5 + 1e-9);
  });
});

it('the minimum of any window of a list is found', () => {
  fc.assert(
    fc.property(fc.array(fc.double({ noNaN: true }), { minLength: 1, maxLength: 50 }), (values) => {
      const minimum = new WindowMinimum(Float64Array.from(values));
      for (let first = 0; first < values.length; first++) {
        for (let last = first; last < values.length; last++) {
          expect(minimum.of(first, last)).toBe(Math.min(...values.slice(first, last + 1)));
        }
      }
    }),
  );
});

import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { loadGpuCatalogue, loadModelCatalogue } from '../../../src/adapters/catalogue-file.js';
import { type GpuCatalogue, gpuByName } from '../../../src/core/gpu-types.js';
import { type ModelCatalogue, modelByName } from '../../../src/core/model-types.js';
import type {
  BacktestRequest,
  FleetDeployment,
  FleetSettings,
  LatencyPercentiles,
  Policy,
  RunResult,
} from '../../../src/simulation/backtest/backtest.js';
import { type FluidRunOptions, runFluid } from '../../../src/simulation/backtest/fluid-run.js';
import { RunStopped, runRequests } from '../../../src/simulation/backtest/request-run.js';
import { stepTimesOf } from '../../../src/simulation/step-time.js';
import { seededRandom } from '../../support/seeded-random.js';
import { constantSteps, decision, deployment, fleet, request, scripted, startMs } from './fleets.js';

const outcomes = ({ requests, attained, late, failed, unserved }: RunResult) => ({
  requests,
  attained,
  late,
  failed,
  unserved,
});

describe('where every group is one replica', () => {
  const script = fc.dictionary(
    fc.integer({ min: 0, max: 40 }).map((decade) => String(decade * 10)),
    fc.integer({ min: 0, max: 6 }),
    { maxKeys: 6 },
  );

  test('a run comes to what it does in request fidelity, and its policy sees the same fleet', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          script,
          seed: fc.integer({ min: 0, max: 1000 }),
          initial: fc.integer({ min: 0, max: 5 }),
          lagSeconds: fc.constantFrom(0, 15),
          drainSeconds: fc.constantFrom(1, 600),
          queueTimeoutSeconds: fc.constantFrom(5, 60),
          meanHoursBetweenFailures: fc.constantFrom(null, 0.2),
          router: fc.constantFrom('least-request' as const, 'shares' as const),
          spread: fc.constantFrom(0, 0.5),
        }),
        async ({ script, initial, lagSeconds, spread, ...settingsOf }) => {
          const settings = fleet({
            ...settingsOf,
            deployments: [deployment({ startup: { medianSeconds: 25, spread } })],
            initialReplicas: new Map([['default/a', initial]]),
            scoredFromMs: startMs + 60_000,
            endMs: startMs + 400_000,
          });
          const random = seededRandom(settings.seed);
          const requests = Array.from({ length: 300 }, (_, i) =>
            request(i * 1.3 + random.next(), 1 + Math.floor(random.next() * 500), 1 + Math.floor(random.next() * 60)),
          );
          const policy = () => scripted(script, { lagSeconds });
          const [exact, fluidly] = [policy(), policy()];
          const truth = await runRequests({ settings, requests, policy: exact });
          const result = await runFluid({ settings, requests, policy: fluidly });
          expect(result.requests).toBe(truth.requests);
          expect(result.attained + result.late + result.failed + result.unserved).toBe(truth.requests);
          // Which replica fails is not the same, and with it what it holds, and which is there to be drained.
          if (settings.meanHoursBetweenFailures !== null) return;
          const { starts, stops, unserved, meanReplicas } = truth;
          expect(result).toMatchObject({ starts, stops, unserved });
          // A draining replica is paid for until its last request ends, and of two that hold as many either may get
          // the next one, so that it may come a longest request (60 steps) later or earlier.
          const longestRequestUsd = 6.5 * (3.6 / 3600);
          expect(Math.abs(result.usd - truth.usd)).toBeLessThan(Math.max(1, stops) * longestRequestUsd);
          expect(result.meanReplicas).toBeCloseTo(meanReplicas, 1);
          expect(Math.abs(result.failed - truth.failed)).toBeLessThanOrEqual(2);
          expect(Math.abs(result.attained - truth.attained)).toBeLessThanOrEqual(4);
          // What policies see of replicas, and of arrivals.
          const seen = ({ views }: typeof exact) =>
            views.map(({ deployments, intervals }) => [
              deployments.map(({ wanted, ready, starting, startupSeconds }) => [
                wanted,
                ready,
                starting,
                startupSeconds,
              ]),
              intervals.reduce((sum, { record }) => sum + record.arrivals, 0),
            ]);
          expect(seen(fluidly)).toEqual(seen(exact));
        },
      ),
      { numRuns: 60 },
    );
  });
});

describe('where every group is one replica, and requests overflow', () => {
  const inFlight = fc.option(fc.double({ min: 0.5, max: 6, noNaN: true }));

  test('a run comes to what it does in request fidelity', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          seed: fc.integer({ min: 0, max: 1000 }),
          replicas: fc.tuple(fc.nat({ max: 3 }), fc.integer({ min: 1, max: 4 })),
          share: fc.constantFrom(0, 0.3, 0.9, 1),
          full: fc.tuple(inFlight, inFlight),
          alsoTo: fc.subarray(['default/a', 'default/b']),
          later: fc.tuple(fc.nat({ max: 3 }), fc.nat({ max: 3 })),
        }),
        async ({ seed, replicas, share, full, alsoTo, later }) => {
          const ids = ['default/a', 'default/b'] as const;
          const of = (counts: readonly number[]) => new Map(ids.map((id, at) => [id, counts[at]!]));
          const settings = fleet({
            seed,
            router: 'shares',
            deployments: ids.map((id) => deployment({ id, startup: { medianSeconds: 25, spread: 0.5 } })),
            initialReplicas: of(replicas),
            endMs: startMs + 300_000,
          });
          const random = seededRandom(seed);
          const requests = Array.from({ length: 600 }, (_, i) =>
            request(i * 0.45 + 0.4 * random.next(), 1 + random.whole(0, 500), 1 + random.whole(0, 60)),
          );
          const to = ids.map((id, at) => ({ deployment: id, share: at === 0 ? share : 1 - share }));
          const known = ids.flatMap((id, at) => (full[at] === null ? [] : [[id, full[at]!] as const]));
          const routing = { shares: [{ ...shares(100, 0), to, alsoTo }], fullInFlight: new Map(known) };
          const policy: Policy = {
            periodSeconds: 10,
            lagSeconds: 0,
            decide: ({ nowMs }) => decision({ replicas: of(nowMs < startMs + 100_000 ? replicas : later), routing }),
          };
          const truth = await runRequests({ settings, requests, policy });
          const result = await runFluid({ settings, requests, policy });
          expect(result.requests).toBe(600);
          expect(result.attained + result.late + result.failed + result.unserved).toBe(600);
          expect(result.unserved).toBe(truth.unserved);
          expect(Math.abs(result.attained - truth.attained)).toBeLessThanOrEqual(12);
          // What drains is paid for until its last request ends.
          expect(result.usd / truth.usd).toBeCloseTo(1, 1);
        },
      ),
      { numRuns: 60 },
    );
  });
});

describe('fleets of which fluid computes a part', () => {
  let deployments: Record<'h100' | 'l40s' | 'a100', FleetDeployment>;
  beforeAll(async () => {
    const [gpus, models] = await Promise.all([loadGpuCatalogue(), loadModelCatalogue()]);
    const of = (gpu: string, usdPerReplicaHour: number) => servedBy({ gpus, models, gpu, usdPerReplicaHour });
    deployments = { h100: of('H100', 3), l40s: of('L40S', 1), a100: of('A100', 2) };
  });

  type Scenario = {
    readonly name: string;
    readonly fleet: () => Partial<FleetSettings> & Pick<FleetSettings, 'deployments' | 'initialReplicas'>;
    readonly rps: (seconds: number) => number;
    readonly seconds: number;
    readonly input?: number;
    readonly output?: number;
    readonly policy?: () => Policy;
    /** Tolerated difference in attainment; 0.5 points where not said. */
    readonly points?: number;
  };
  const l40s = (count: number, more: Partial<FleetSettings> = {}) => ({
    deployments: [deployments.l40s],
    initialReplicas: new Map([['default/L40S', count]]),
    ...more,
  });
  const after = (seconds: number, count: number, before: number): Policy => ({
    periodSeconds: 30,
    lagSeconds: 15,
    decide: ({ nowMs }) =>
      decision({ replicas: new Map([['default/L40S', nowMs >= startMs + seconds * 1000 ? count : before]]) }),
  });
  const scenarios: readonly Scenario[] = [
    { name: 'a calm fleet', fleet: () => l40s(60), rps: () => 75, seconds: 200 },
    { name: 'a busy fleet', fleet: () => l40s(60), rps: () => 215, seconds: 150 },
    {
      name: 'a busy fleet behind a random router',
      fleet: () => l40s(60, { router: 'random' }),
      rps: () => 215,
      seconds: 150,
    },
    {
      name: 'long prompts and answers',
      fleet: () => ({ deployments: [deployments.a100], initialReplicas: new Map([['default/A100', 50]]) }),
      rps: () => 62,
      seconds: 300,
      input: 3000,
      output: 500,
    },
    {
      name: 'two kinds of GPU and the fewest requests',
      fleet: () => ({
        deployments: [deployments.h100, deployments.l40s],
        initialReplicas: new Map([
          ['default/H100', 24],
          ['default/L40S', 36],
        ]),
      }),
      rps: () => 240,
      seconds: 120,
    },
    {
      name: 'two kinds of GPU and shares',
      fleet: () => ({
        router: 'shares',
        deployments: [deployments.h100, deployments.l40s],
        initialReplicas: new Map([
          ['default/H100', 24],
          ['default/L40S', 36],
        ]),
      }),
      policy: () => ({
        periodSeconds: 30,
        lagSeconds: 0,
        decide: () => decision({ routing: { shares: [shares(500, 0.5), shares(2000, 0.8)], fullInFlight: new Map() } }),
      }),
      rps: () => 240,
      seconds: 120,
    },
    {
      name: 'a small group whose shares are more than it holds, and that overflows',
      fleet: () => ({
        router: 'shares',
        deployments: [deployments.h100, deployments.l40s],
        initialReplicas: new Map([
          ['default/H100', 4],
          ['default/L40S', 60],
        ]),
      }),
      policy: () => overflowing(0.6, { 'default/H100': 54, 'default/L40S': 40 }),
      rps: () => 240,
      seconds: 120,
    },
    {
      name: 'a large group that overflows into a small one',
      fleet: () => ({
        router: 'shares',
        deployments: [deployments.h100, deployments.l40s],
        initialReplicas: new Map([
          ['default/H100', 8],
          ['default/L40S', 30],
        ]),
      }),
      policy: () => overflowing(0.15, { 'default/H100': 54, 'default/L40S': 30 }),
      rps: () => 200,
      seconds: 120,
    },
    {
      name: 'a step up that overloads it until more have started',
      fleet: () => l40s(25),
      policy: () => after(120, 70, 25),
      rps: (seconds) => (seconds < 100 ? 62 : 170),
      seconds: 400,
      points: 2,
    },
    {
      name: 'a ramp that is followed',
      fleet: () => l40s(32),
      policy: () => ({
        periodSeconds: 30,
        lagSeconds: 15,
        decide: ({ nowMs }) => {
          const count = 32 + Math.floor(((nowMs - startMs) / 1000) * 0.1);
          return decision({ replicas: new Map([['default/L40S', count]]) });
        },
      }),
      rps: (seconds) => 90 + seconds * 0.3,
      seconds: 300,
    },
    {
      name: 'a fleet that shrinks, and cuts off what does not drain in time',
      fleet: () => l40s(80, { drainSeconds: 5 }),
      policy: () => after(90, 35, 80),
      rps: (seconds) => (seconds < 90 ? 170 : 85),
      seconds: 200,
    },
    {
      name: 'replicas that fail',
      fleet: () => l40s(60, { meanHoursBetweenFailures: 0.5 }),
      rps: () => 150,
      seconds: 150,
    },
    {
      name: 'far too few replicas',
      fleet: () => l40s(40),
      rps: () => 280,
      seconds: 150,
      points: 2,
    },
  ];

  test.each(scenarios)('$name: as in request fidelity', async (scenario) => {
    const { seconds, rps, input = 1000, output = 150, points = 0.5 } = scenario;
    const settings = fleet({
      endMs: startMs + seconds * 1000,
      scoredFromMs: startMs + seconds * 100,
      ...scenario.fleet(),
    });
    const requests = [...poisson({ seconds, rps, input, output })];
    const policy = scenario.policy ?? (() => scripted());
    const truth = await runRequests({ settings, requests, policy: policy() });
    // Groups of two to six replicas.
    const result = await runFluid({ settings, requests, policy: policy(), groupsPerDeployment: 16 });
    expect(result).toMatchObject({
      requests: truth.requests,
      starts: truth.starts,
      stops: truth.stops,
      failures: truth.failures,
    });
    expect(result.attained + result.late + result.failed + result.unserved).toBe(result.requests);
    expect(result.usd / truth.usd).toBeCloseTo(1, 2);
    expect(Math.abs(result.attainment - truth.attainment) * 100).toBeLessThan(points);
    expect(result.utilization).toBeCloseTo(truth.utilization, 2);
    expect((result.inputTokens + result.outputTokens) / (truth.inputTokens + truth.outputTokens)).toBeCloseTo(1, 1.3);
    const differs = (what: 'ttft' | 'tpot' | 'e2e', at: keyof LatencyPercentiles): number =>
      Math.abs(result[what]![at] / truth[what]![at] - 1);
    expect(differs('ttft', 'p50')).toBeLessThan(0.1);
    expect(differs('tpot', 'p50')).toBeLessThan(0.03);
    expect(differs('e2e', 'p50')).toBeLessThan(0.05);
    expect(differs('ttft', 'p90')).toBeLessThan(0.1);
    expect(differs('tpot', 'p90')).toBeLessThan(0.05);
    // Of some thousand requests that were computed.
    expect(differs('ttft', 'p99')).toBeLessThan(0.12);
    expect(differs('tpot', 'p99')).toBeLessThan(0.12);
  });

  test('fixed shares that overload a small group lose what overflow serves, in both fidelities', async () => {
    const settings = fleet({
      router: 'shares',
      deployments: [deployments.h100, deployments.l40s],
      initialReplicas: new Map([
        ['default/H100', 4],
        ['default/L40S', 60],
      ]),
      endMs: startMs + 120_000,
      scoredFromMs: startMs + 12_000,
    });
    const requests = [...poisson({ seconds: 120, rps: () => 240 })];
    const full = { 'default/H100': 54, 'default/L40S': 40 };
    const attainments = async (fullInFlight: Readonly<Record<string, number>>) => {
      const policy = overflowing(0.6, fullInFlight);
      const truth = await runRequests({ settings, requests, policy });
      const result = await runFluid({ settings, requests, policy, groupsPerDeployment: 16 });
      expect(result.usd).toBeCloseTo(truth.usd, 6);
      return [truth.attainment, result.attainment];
    };
    for (const fixed of await attainments({})) expect(fixed).toBeLessThan(0.6);
    for (const overflown of await attainments(full)) expect(overflown).toBeGreaterThan(0.99);
  });

  test('two runs are the same to the byte, also with chance', async () => {
    const settings = fleet({
      ...l40s(70, { router: 'random', meanHoursBetweenFailures: 1, seed: 5 }),
      endMs: startMs + 120_000,
    });
    const run = () =>
      runFluid({ settings, requests: poisson({ seconds: 120, rps: () => 150 }), policy: after(30, 40, 70) });
    expect(JSON.stringify(await run())).toBe(JSON.stringify(await run()));
  });

  test('a stream of fewer requests that weigh more comes to the same load', async () => {
    const settings = fleet({ ...l40s(90), endMs: startMs + 300_000, scoredFromMs: startMs + 60_000 });
    const every = [...poisson({ seconds: 300, rps: () => 240 })];
    const fourth = every.filter((_, i) => i % 4 === 0);
    const policies = [scripted(), scripted()] as const;
    const options = { settings, groupsPerDeployment: 16 };
    const whole = await runFluid({ ...options, requests: every, policy: policies[0] });
    const weighed = await runFluid({ ...options, requests: fourth, policy: policies[1], requestWeight: 4 });
    expect(Math.abs(weighed.requests / whole.requests - 1)).toBeLessThan(0.001);
    expect(Math.abs(weighed.attainment - whole.attainment)).toBeLessThan(0.005);
    expect(weighed.ttft!.p50 / whole.ttft!.p50).toBeCloseTo(1, 1);
    expect(weighed.tpot!.p50 / whole.tpot!.p50).toBeCloseTo(1, 1.5);
    const arrivals = ({ views }: (typeof policies)[0]) =>
      views.flatMap(({ intervals }) => intervals).reduce((sum, { record }) => sum + record.arrivals, 0);
    expect(Math.abs(arrivals(policies[1]) - arrivals(policies[0]))).toBeLessThan(8);
  });

  test('the gateway counts every arrival, and completions by bucket as whole numbers', async () => {
    const settings = fleet({ ...l40s(70), endMs: startMs + 200_000 });
    const requests = [...poisson({ seconds: 200, rps: () => 150 })];
    // Replicas that leave make parts of requests.
    const policy = scripted({ 50: new Map([['default/L40S', 41]]), 70: new Map([['default/L40S', 57]]) });
    await runFluid({ settings, requests, policy, groupsPerDeployment: 8 });
    const intervals = policy.views.flatMap((view) => view.intervals);
    expect(intervals.map(({ endSeconds }) => endSeconds - startMs / 1000)).toEqual(
      Array.from({ length: 19 }, (_, i) => (i + 1) * 10),
    );
    let open = 0;
    for (const { endSeconds, record } of intervals) {
      const arrived = requests.filter(
        ({ atMs }) => atMs >= (endSeconds - 10) * 1000 && atMs < endSeconds * 1000,
      ).length;
      expect(record.arrivals).toBe(arrived);
      const completed = record.buckets.reduce((sum, { count }) => sum + count, record.unknownLength);
      open += arrived - completed;
      expect(Math.abs(record.pending - open)).toBeLessThanOrEqual(1);
      expect(record.buckets.every(({ count }) => Number.isInteger(count) && count > 0)).toBe(true);
    }
    expect(open).toBeGreaterThan(0);
    // Means of what a policy sees agree with Little's law: in flight = rate × time.
    const last = policy.views.at(-1)!.deployments[0]!;
    expect(last.meanInFlight / 150).toBeGreaterThan(2);
    expect(last.meanInFlight / (last.runningRequests + last.waitingRequests)).toBeCloseTo(1, 0.5);
    expect(last.busyShare).toBeGreaterThan(0.9);
  });
});

describe('what no run can follow', () => {
  const run = (overrides: Partial<FluidRunOptions>) =>
    runFluid({ settings: fleet(), requests: [], policy: scripted(), ...overrides });

  test('is refused by name', async () => {
    await expect(run({ requests: [request(5), request(4)] })).rejects.toThrow('expected ascending times');
    await expect(run({ requests: [request(Number.NaN)] })).rejects.toThrow('a request at NaN ms');
    await expect(run({ requests: [request(-1)] })).rejects.toThrow(`from the start at ${startMs} ms on`);
    await expect(run({ requestWeight: 0 })).rejects.toThrow('requestWeight is 0, expected a number > 0');
    await expect(run({ groupsPerDeployment: 1 })).rejects.toThrow(
      'groupsPerDeployment is 1, expected a whole number >= 2',
    );
    await expect(run({ policy: scripted({}, { periodSeconds: 0 }) })).rejects.toThrow('periodSeconds');
    await expect(run({ settings: fleet({ initialReplicas: new Map([['default/b', 1]]) }) })).rejects.toThrow(
      'replicas of default/b are asked for, expected one of default/a',
    );
    await expect(run({ policy: scripted({ 10: 1.5 }) })).rejects.toThrow('1.5 replicas of default/a are asked for');
    await expect(run({ policy: scripted({ 10: new Map([['x/y', 1]]) }) })).rejects.toThrow('replicas of x/y');
  });

  test('ends when it is called off, and closes what it reads', async () => {
    let closed = false;
    async function* endless(): AsyncGenerator<BacktestRequest, void, void> {
      try {
        for (let i = 0; ; i++) yield request(i);
      } finally {
        closed = true;
      }
    }
    let asked = 0;
    await expect(run({ requests: endless(), shouldStop: () => ++asked > 5 })).rejects.toThrow(RunStopped);
    expect(closed).toBe(true);
  });
});

describe('requests that no replica takes', () => {
  test('wait for the first that starts, or are unserved in the end', async () => {
    const settings = fleet({
      deployments: [deployment({ engine: { ...deployment().engine, stepTimes: constantSteps(50) } })],
      initialReplicas: new Map(),
    });
    const policy = scripted({ 10: 1 });
    // Ready at 110 s: what came before 50 s has waited more than a minute by then.
    const result = await runFluid({ settings, requests: [20, 49, 51, 109, 200].map((at) => request(at)), policy });
    expect(outcomes(result)).toEqual({ requests: 5, attained: 2, late: 1, failed: 0, unserved: 2 });
    expect(policy.views[6]!.queuedRequests).toBe(3);
    expect(result.usd).toBeCloseTo((3.6 / 3600) * 890, 9);
  });
});

/** The same shares for all requests, of which each replica takes only so many. */
function overflowing(h100: number, fullInFlight: Readonly<Record<string, number>>): Policy {
  const routing = { shares: [shares(700, h100)], fullInFlight: new Map(Object.entries(fullInFlight)) };
  return { periodSeconds: 30, lagSeconds: 0, decide: () => decision({ routing }) };
}

function shares(inputTokens: number, h100: number) {
  return {
    model: 'm',
    inputTokens,
    outputTokens: 150,
    rps: 1,
    bestEffort: false,
    extrapolated: false,
    to: [
      { deployment: 'default/H100', share: h100 },
      { deployment: 'default/L40S', share: 1 - h100 },
    ],
    unservedShare: 0,
  };
}

function servedBy(options: {
  readonly gpus: GpuCatalogue;
  readonly models: ModelCatalogue;
  readonly gpu: string;
  readonly usdPerReplicaHour: number;
}): FleetDeployment {
  const stepTimes = stepTimesOf({
    gpu: gpuByName(options.gpus, options.gpu)!,
    model: modelByName(options.models, 'llama-3.1-8b')!,
    gpusPerReplica: 1,
    weightPrecision: 'bf16',
  });
  return deployment({
    id: `default/${options.gpu}`,
    gpuType: options.gpu,
    usdPerReplicaHour: options.usdPerReplicaHour,
    maxReplicas: 1000,
    startup: { medianSeconds: 120, spread: 0.2 },
    engine: { stepTimes, limits: { maxSequences: 256, maxBatchedTokens: 2048, maxTokens: 131_072 } },
  });
}

/** Poisson arrivals of exponential lengths. */
function* poisson(options: {
  readonly seconds: number;
  readonly rps: (seconds: number) => number;
  readonly input?: number;
  readonly output?: number;
}): Generator<BacktestRequest, void, void> {
  const { seconds, rps, input = 1000, output = 150 } = options;
  const random = seededRandom(3);
  const exponential = (mean: number): number => -Math.log(1 - random.next()) * mean;
  for (let at = exponential(1 / rps(0)); at < seconds; at += exponential(1 / rps(at))) {
    yield request(at, 1 + Math.floor(exponential(input)), 1 + Math.floor(exponential(output)));
  }
}

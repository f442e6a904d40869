import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { GpuProfile } from '../../src/core/profile.js';
import { PoolReader, poolingFactor } from '../../src/profiling/pooling.js';
import { randomFrom } from '../../src/profiling/random.js';
import { type BacktestRequest, defaultObjective } from '../../src/simulation/backtest/backtest.js';
import { runRequests } from '../../src/simulation/backtest/request-run.js';
import { staticPolicy } from '../../src/simulation/policies/constant-fleets.js';
import { fleetOf } from '../service/backtest/scenario.js';

const p99 = { percentile: 99 };

describe('what replicas gain by sharing load', () => {
  it('is nothing for one replica, and counts as the worked line says', () => {
    expect(poolingFactor({ inFlight: 20, replicas: 1, ...p99 })).toBe(1);
    // Square-root staffing by hand: 20 + 2.326 √20 = 30.40 = x + 2.326 √(x/4) has x = 24.62; 0.65 of the gain.
    expect(poolingFactor({ inFlight: 20, replicas: 4, ...p99 })).toBeCloseTo(1 + 0.65 * (24.62 / 20 - 1), 3);
  });

  it('is nothing where the profile keeps a mean, which leaves no room for chance', () => {
    expect(poolingFactor({ inFlight: 20, replicas: 9, percentile: 0 })).toBe(1);
    expect(poolingFactor({ inFlight: 20, replicas: 9, percentile: 50 })).toBe(1);
  });

  it('is nothing where a replica is full by its largest batch', () => {
    expect(poolingFactor({ inFlight: 256, replicas: 9, ...p99 })).toBe(1);
    expect(poolingFactor({ inFlight: 1000, replicas: 9, ...p99 })).toBe(1);
  });

  it('never falls with more replicas, a higher percentile or fewer requests in flight, and is never below 1', () => {
    const positive = fc.double({ min: 0.01, max: 400, noNaN: true });
    const replicas = fc.integer({ min: 1, max: 2000 });
    const percentile = fc.double({ min: 0, max: 100, noNaN: true });
    fc.assert(
      fc.property(positive, positive, replicas, replicas, percentile, percentile, (n1, n2, r1, r2, q1, q2) => {
        const least = { inFlight: Math.max(n1, n2), replicas: Math.min(r1, r2), percentile: Math.min(q1, q2) };
        const most = { inFlight: Math.min(n1, n2), replicas: Math.max(r1, r2), percentile: Math.max(q1, q2) };
        const low = poolingFactor(least);
        expect(low).toBeGreaterThanOrEqual(1);
        expect(poolingFactor(most)).toBeGreaterThanOrEqual(low - 1e-12);
        expect(poolingFactor(most)).toBeLessThan(Number.POSITIVE_INFINITY);
        // More replicas never serve less than fewer of them.
        expect(most.replicas * poolingFactor(most)).toBeGreaterThanOrEqual(least.replicas * low - 1e-9);
      }),
    );
  });
});

describe('the requests in flight on a full replica', () => {
  const profile: GpuProfile = {
    gpu: 'x',
    cost: 1,
    created: null,
    slos: p99,
    grid: {
      indexes: [
        [64, 1024],
        [128, 4096],
      ],
      tputs: [
        [10, 2],
        [1, 0.5],
      ],
    },
    e2e: [
      [2, 5],
      [20, 40],
    ],
  };

  it('are throughput times latency, by Little’s law', () => {
    const traits = new PoolReader().traitsOf(profile, [{ inputTokens: 128, outputTokens: 64, rps: 3 }]);
    expect(traits?.inFlight).toBeCloseTo(20, 9);
    expect(traits?.percentile).toBe(99);
  });

  it('of a mix are those of all lengths, over the replicas that they fill', () => {
    const demand = [
      { inputTokens: 128, outputTokens: 64, rps: 5 },
      { inputTokens: 128, outputTokens: 1024, rps: 1 },
    ];
    // 5 · 2 s + 1 · 20 s in flight on 0.5 + 1 replicas.
    expect(new PoolReader().traitsOf(profile, demand)!.inFlight).toBeCloseTo(20, 12);
    const lopsided = demand.map((bucket, index) => ({ ...bucket, rps: index === 0 ? 10 : 0.1 }));
    expect(new PoolReader().traitsOf(profile, lopsided)!.inFlight).toBeCloseTo((20 + 2) / (1 + 0.1), 12);
  });

  it('of requests that are shorter than the grid are those of its edge, as their work is', () => {
    const demand = [
      { inputTokens: 100, outputTokens: 8, rps: 5 },
      { inputTokens: 128, outputTokens: 1024, rps: 1 },
    ];
    expect(new PoolReader().traitsOf(profile, demand)!.inFlight).toBeCloseTo(20, 12);
    const lopsided = demand.map((bucket, index) => ({ ...bucket, rps: index === 0 ? 10 : 0.1 }));
    expect(new PoolReader().traitsOf(profile, lopsided)!.inFlight).toBeCloseTo((20 + 2) / (1 + 0.1), 12);
  });

  it('are not known without latencies, without demand, and without a percentile', () => {
    const some = [{ inputTokens: 128, outputTokens: 64, rps: 3 }];
    const { e2e: _, ...without } = profile;
    const reader = new PoolReader();
    expect(reader.traitsOf(without, some)).toBeNull();
    expect(reader.traitsOf(profile, [])).toBeNull();
    expect(reader.traitsOf({ ...profile, slos: {} }, some)).toBeNull();
  });
});

/**
 * Against the simulated engines: a pool that is given what the factor says of each replica, by a gateway that minds who has
 * the fewest, keeps the percentile of the profile. Nothing of the factor is in the engines.
 */
describe('a simulated pool at the rate that the factor says', async () => {
  const { members } = await fleetOf();
  const startMs = 0;
  const seconds = 400;
  const scoredFromSeconds = 100;

  async function attainment(input: {
    readonly gpuType: string;
    readonly lengths: readonly [number, number];
    readonly replicas: number;
    readonly router: 'least-request' | 'random';
  }): Promise<{ readonly factor: number; readonly attained: number; readonly requests: number }> {
    const { gpuType, lengths, replicas, router } = input;
    const [inputTokens, outputTokens] = lengths;
    const { profile, deployment } = members.find((member) => member.deployment.gpuType === gpuType)!;
    const [outputs, inputs] = profile.grid.indexes;
    const rps = profile.grid.tputs[outputs!.indexOf(outputTokens)]![inputs!.indexOf(inputTokens)]!;
    const traits = new PoolReader().traitsOf(profile, [{ inputTokens, outputTokens, rps }])!;
    const factor = poolingFactor({ ...traits, replicas });
    const random = randomFrom(11);
    const requests: BacktestRequest[] = [];
    const rate = replicas * rps * factor;
    for (let at = 0; ; ) {
      at -= Math.log(1 - random.unit()) / rate;
      if (at >= seconds) break;
      requests.push({ atMs: at * 1000, inputTokens, outputTokens });
    }
    const initialReplicas = new Map([[deployment.id, replicas]]);
    const result = await runRequests({
      settings: {
        deployments: [deployment],
        router,
        objective: defaultObjective,
        seed: 1,
        startMs,
        scoredFromMs: scoredFromSeconds * 1000,
        endMs: seconds * 1000,
        initialReplicas,
        queueTimeoutSeconds: 600,
        drainSeconds: 600,
        meanHoursBetweenFailures: null,
        seriesSeconds: 60,
      },
      requests,
      policy: staticPolicy({ replicas: initialReplicas }),
    });
    return { factor, attained: result.attainment, requests: result.requests };
  }

  const cases: readonly [string, readonly [number, number], number][] = [
    ['L40S', [512, 16], 4],
    ['L40S', [1024, 256], 4],
    ['L40S', [4096, 64], 8],
    ['L40S', [8192, 256], 8],
    ['A100-80GB', [2048, 64], 6],
    ['H100', [512, 16], 3],
    ['H100', [4096, 64], 8],
    ['H100', [16384, 64], 8],
  ];

  it.each(cases)('keeps its objective: %s, lengths %j, %i replicas', async (gpuType, lengths, replicas) => {
    const { factor, attained, requests } = await attainment({ gpuType, lengths, replicas, router: 'least-request' });
    expect(factor).toBeGreaterThan(1.05);
    // 99 %, less what chance makes of so few requests (two standard deviations).
    expect(attained).toBeGreaterThanOrEqual(0.99 - 2 * Math.sqrt((0.99 * 0.01) / requests));
  });

  it('does not where requests go to replicas by chance: then nothing is shared', async () => {
    const at = { gpuType: 'L40S', lengths: [4096, 64], replicas: 8 } as const;
    const shared = await attainment({ ...at, router: 'least-request' });
    const apart = await attainment({ ...at, router: 'random' });
    expect(shared.attained).toBeGreaterThan(0.985);
    expect(apart.attained).toBeLessThan(0.9);
  });
});

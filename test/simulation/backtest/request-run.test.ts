import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { tokensOfBucketIndex } from '../../../src/core/token-bucket.js';
import type { Policy } from '../../../src/simulation/backtest/backtest.js';
import { RunStopped, runRequests } from '../../../src/simulation/backtest/request-run.js';
import { seededRandom } from '../../support/seeded-random.js';
import { constantSteps, decision, deployment, fleet, poisson, request, scripted, startMs } from './fleets.js';

describe('a request on a fleet of one replica', () => {
  test('has its times counted from its arrival at the gateway', async () => {
    // A step for the prompt and ten more, 0.1 s each.
    const result = await runRequests({ settings: fleet(), requests: [request(30)], policy: scripted() });
    expect(result).toMatchObject({ requests: 1, attained: 1, late: 0, failed: 0, unserved: 0, attainment: 1 });
    expect(result.ttft!.p50).toBeCloseTo(0.1, 9);
    expect(result.tpot!.p99).toBeCloseTo(0.1, 9);
    expect(result.e2e!.mean).toBeCloseTo(1.1, 9);
    expect([result.inputTokens, result.outputTokens]).toEqual([100, 11]);
    expect(result.utilization).toBeCloseTo(1.1 / 900, 9);
  });

  test('is late when its first token is, allowing for the length of its prompt', async () => {
    const settings = fleet({ objective: { ttftSeconds: 0.05, ttftSecondsPerInputToken: 0.001, tpotSeconds: 1 } });
    const result = await runRequests({
      settings,
      requests: [request(10, 40), request(20, 60)],
      policy: scripted(),
    });
    expect(result).toMatchObject({ requests: 2, attained: 1, late: 1, attainment: 0.5 });
  });

  test('is late when its tokens come too slowly, unless there is only one', async () => {
    const settings = fleet({ objective: { ttftSeconds: 1, ttftSecondsPerInputToken: 0, tpotSeconds: 0.09 } });
    const result = await runRequests({
      settings,
      requests: [request(10, 40, 2), request(20, 40, 1), request(30, 40, 0)],
      policy: scripted(),
    });
    expect(result).toMatchObject({ attained: 2, late: 1, outputTokens: 4 });
    expect(result.tpot!.mean).toBeCloseTo(0.1, 9);
  });

  test('fails when it is longer than the engine holds', async () => {
    const result = await runRequests({ settings: fleet(), requests: [request(1, 20_000)], policy: scripted() });
    expect(result).toMatchObject({ requests: 1, failed: 1, attainment: 0, usdPerMillionTokens: null, ttft: null });
  });

  test('is served to its end after the end of the span, without cost', async () => {
    const settings = fleet({ endMs: startMs + 60_000 });
    const result = await runRequests({ settings, requests: [request(59, 10, 101), request(61)], policy: scripted() });
    expect(result).toMatchObject({ requests: 1, late: 0, attained: 1 });
    expect(result.usd).toBeCloseTo(3.6 / 60, 9);
    expect(result.utilization).toBeCloseTo(1 / 60, 9);
  });

  test('counts only when it arrives in the scored span', async () => {
    const settings = fleet({ scoredFromMs: startMs + 60_000 });
    const result = await runRequests({
      settings,
      requests: [request(59.5), request(70), request(899.9), request(900)],
      policy: scripted(),
    });
    expect(result.requests).toBe(2);
    expect(result.hours).toBeCloseTo(840 / 3600, 9);
    // Of the first request 0.6 s lie in the span, of the last 0.1 s.
    expect(result.utilization * 840).toBeCloseTo(0.6 + 1.1 + 0.1, 6);
  });
});

describe('money', () => {
  test('is paid per second from the creation of a replica until it has drained', async () => {
    // Created at 60 s, ready at 160 s; scaled down at 300 s with a request on each, which ends at 310 s on both.
    const requests = [request(299, 10, 110), request(299, 10, 110), request(299, 10, 110)];
    const policy = scripted({ 60: 2, 300: 1 });
    const result = await runRequests({ settings: fleet(), requests, policy });
    const seconds = 900 + (310 - 60);
    expect(result.usd).toBeCloseTo((seconds * 3.6) / 3600, 6);
    expect(result.gpuHours).toEqual({ A100: expect.closeTo(seconds / 3600, 6) });
    expect(result.meanReplicas).toBeCloseTo(seconds / 900, 6);
    expect(result).toMatchObject({ starts: 1, stops: 1, failures: 0, attained: 3 });
    // Steps of a minute: the second replica is ready from 160 s to 300 s and paid for from 60 s to 310 s.
    expect(result.series.readyReplicas['default/a']!.slice(0, 7)).toEqual([1, 1, 2, 2, 2, 1, 1]);
    for (const [step, usdPerHour] of [3.6, 7.2, 7.2, 7.2, 7.2, 3.6 + 3.6 / 6, 3.6].entries()) {
      expect(result.series.usdPerHour[step]).toBeCloseTo(usdPerHour, 6);
    }
  });

  test('counts in the scored span only, pro rata, and by the GPUs of a replica', async () => {
    const settings = fleet({
      scoredFromMs: startMs + 450_000,
      deployments: [
        deployment({ gpusPerReplica: 4, usdPerReplicaHour: 12 }),
        deployment({ id: 'default/b', gpuType: 'L4' }),
      ],
      initialReplicas: new Map([
        ['default/a', 2],
        ['default/b', 1],
      ]),
    });
    const result = await runRequests({ settings, requests: [], policy: scripted({ 400: 3, 500: 2 }) });
    // The third of a: created at 400 s, called off at 500 s while it starts.
    expect(result.usd).toBeCloseTo((450 * (2 * 12 + 3.6) + 50 * 12) / 3600, 9);
    expect(result.gpuHours).toEqual({ A100: expect.closeTo((4 * 950) / 3600, 9), L4: expect.closeTo(450 / 3600, 9) });
    expect(result).toMatchObject({ starts: 0, stops: 1, requests: 0, attainment: 1 });
  });
});

describe('scaling', () => {
  test('takes the policy’s lag and the start-up time; the view says what starts, and how long it took', async () => {
    const policy = scripted({ 20: 3 }, { lagSeconds: 15 });
    await runRequests({ settings: fleet(), requests: [], policy });
    const seen = (seconds: number) => policy.views[seconds / 10]!.deployments[0]!;
    expect(policy.views[0]!.nowMs).toBe(startMs);
    expect(policy.views).toHaveLength(90);
    expect(seen(30)).toMatchObject({ wanted: 3, ready: 1, starting: 0 });
    expect(seen(40)).toMatchObject({ ready: 1, starting: 2, startingSinceMs: [startMs + 35_000, startMs + 35_000] });
    expect(seen(130)).toMatchObject({ ready: 1, starting: 2, startupSeconds: [] });
    expect(seen(140)).toMatchObject({ ready: 3, starting: 0, startupSeconds: [100, 100] });
    expect(seen(150).startupSeconds).toEqual([]);
  });

  test('down takes starting replicas first, the newest before, then the ready ones with the fewest requests', async () => {
    const settings = fleet({ initialReplicas: new Map([['default/a', 3]]) });
    // 3, 1 and 1 requests: the router fills up evenly, and two of the five end early.
    const requests = [request(50, 10, 301), request(50, 10, 301), request(50, 10, 301), request(51, 10, 301)];
    const policy = scripted({ 10: 4, 20: 5, 60: 4, 100: 1 });
    await runRequests({ settings, requests, policy });
    const seen = (seconds: number) => policy.views[seconds / 10]!.deployments[0]!;
    expect(seen(70)).toMatchObject({ ready: 3, starting: 1, startingSinceMs: [startMs + 10_000] });
    // At 100 s nothing runs any more (30 s each), so that what drains is gone at once.
    expect(seen(90)).toMatchObject({ ready: 3, starting: 1, runningRequests: 0 });
    expect(seen(110)).toMatchObject({ ready: 1, starting: 0, draining: 0 });
  });

  test('down drains the one with the fewest requests', async () => {
    const settings = fleet({ initialReplicas: new Map([['default/a', 3]]) });
    const requests = [request(5, 10, 400), request(5, 10, 400), request(5, 10, 400), request(6, 10, 400)];
    const policy = scripted({ 20: 2 });
    await runRequests({ settings, requests, policy });
    expect(policy.views[3]!.deployments[0]).toMatchObject({ ready: 2, draining: 1, runningRequests: 3 });
  });

  test('down drains: what runs ends, nothing new comes, and what is left after drainSeconds fails', async () => {
    const settings = fleet({ initialReplicas: new Map([['default/a', 2]]), drainSeconds: 20 });
    const requests = [request(5, 10, 100), request(6, 10, 400), request(6, 10, 400), request(25), request(26)];
    const policy = scripted({ 20: 1 });
    const result = await runRequests({ settings, requests, policy });
    const seen = (seconds: number) => policy.views[seconds / 10]!.deployments[0]!;
    // The first has gone by 20 s, so its replica has one request of 40 s and the other as well; the newest drains.
    expect(seen(30)).toMatchObject({ ready: 1, draining: 1, runningRequests: 1 });
    expect(seen(50)).toMatchObject({ ready: 1, draining: 0 });
    expect(result).toMatchObject({ requests: 5, failed: 1, attained: 4 });
    expect(result.usd).toBeCloseTo((900 + 40) * 0.001, 9);
  });

  test('stays within the limits of a deployment, also at the start', async () => {
    const settings = fleet({
      deployments: [deployment({ minReplicas: 2, maxReplicas: 3 })],
      initialReplicas: new Map([['default/a', 1]]),
    });
    const policy = scripted({ 10: 9, 300: 0 });
    await runRequests({ settings, requests: [], policy });
    const wanted = policy.views.map(({ deployments }) => deployments[0]!.wanted);
    expect([wanted[0], wanted[10], wanted[80]]).toEqual([2, 3, 2]);
  });

  test('refuses what is no number of replicas, and deployments that are not there', async () => {
    const asked = (id: string, count: number): Promise<unknown> =>
      runRequests({ settings: fleet(), requests: [], policy: scripted({ 0: new Map([[id, count]]) }) });
    await expect(asked('default/a', 1.5)).rejects.toThrow('1.5 replicas of default/a are asked for');
    await expect(asked('default/a', Number.NaN)).rejects.toThrow('NaN replicas');
    await expect(asked('default/x', 1)).rejects.toThrow('expected one of default/a');
  });

  test('start-up times are log-normal and belong to the replica, whatever happens before', async () => {
    const settings = fleet({
      deployments: [deployment({ startup: { medianSeconds: 100, spread: 0.3 }, maxReplicas: 1000 })],
      initialReplicas: new Map(),
      endMs: startMs + 3_600_000,
    });
    const startups = async (script: Record<number, number>): Promise<readonly number[]> => {
      const policy = scripted(script);
      await runRequests({ settings, requests: [], policy });
      return policy.views.flatMap(({ deployments }) => deployments[0]!.startupSeconds).toSorted((a, b) => a - b);
    };
    const atOnce = await startups({ 0: 400 });
    expect(await startups({ 0: 100, 600: 200, 900: 400 })).toEqual(atOnce.map((one) => expect.closeTo(one, 6)));
    const logs = atOnce.map((seconds) => Math.log(seconds / 100));
    const mean = logs.reduce((sum, log) => sum + log, 0) / logs.length;
    const deviation = Math.sqrt(logs.reduce((sum, log) => sum + (log - mean) ** 2, 0) / logs.length);
    // Three standard errors of 400.
    expect(Math.abs(mean)).toBeLessThan(0.045);
    expect(Math.abs(deviation - 0.3)).toBeLessThan(0.032);
  });
});

describe('without a ready replica', () => {
  test('requests wait at the gateway in order, until one is ready or they have waited too long', async () => {
    const settings = fleet({
      deployments: [
        deployment({
          engine: {
            stepTimes: constantSteps(1000),
            limits: { maxSequences: 1, maxBatchedTokens: 2048, maxTokens: 10_000 },
          },
        }),
      ],
      initialReplicas: new Map(),
      objective: { ttftSeconds: 1000, ttftSecondsPerInputToken: 0, tpotSeconds: 10 },
    });
    const policy = scripted({ 0: 1 });
    const result = await runRequests({
      settings,
      requests: [request(30, 10, 1), request(41, 10, 1), request(42, 10, 1)],
      policy,
    });
    expect(policy.views[5]).toMatchObject({ queuedRequests: 3 });
    expect(policy.views[9]).toMatchObject({ queuedRequests: 2 });
    expect(policy.views[10]).toMatchObject({ queuedRequests: 0 });
    expect(result).toMatchObject({ requests: 3, attained: 2, unserved: 1, failed: 0 });
    // Ready at 100 s: 60 s from 41 s, 60 s from 42 s.
    expect(result.ttft!.mean).toBeCloseTo(60, 6);
    expect(result.series.attainment.slice(0, 2)).toEqual([2 / 3, null]);
  });

  test('a fleet without replicas for good leaves everything unserved, and ends', async () => {
    const settings = fleet({ initialReplicas: new Map(), queueTimeoutSeconds: Number.POSITIVE_INFINITY });
    const result = await runRequests({ settings, requests: [request(1), request(2)], policy: scripted() });
    expect(result).toMatchObject({ requests: 2, unserved: 2, usd: 0, utilization: 0 });
  });

  test('what waits at the end of the span is still served by a replica that starts then', async () => {
    const settings = fleet({ initialReplicas: new Map(), endMs: startMs + 60_000 });
    const result = await runRequests({ settings, requests: [request(50)], policy: scripted({ 0: 1 }) });
    expect(result).toMatchObject({ requests: 1, late: 1, unserved: 0 });
    expect(result.e2e!.mean).toBeCloseTo(51.1, 6);
  });
});

describe('failures', () => {
  test('come after an exponential time, lose what is on the replica, and start another one', async () => {
    const settings = fleet({
      meanHoursBetweenFailures: 0.5,
      endMs: startMs + 60 * 3.6e6,
      seriesSeconds: 3600,
      initialReplicas: new Map([['default/a', 10]]),
    });
    const requests = poisson(settings, { rps: 1, random: seededRandom(3), lengths: () => [10, 51] });
    const policy = scripted({}, { periodSeconds: 3600 });
    const result = await runRequests({ settings, requests, policy });
    // Each lives 1800 s and starts 100 s: 10 × 60 h / 1900 s, its spread that of a sum of exponentials.
    const expected = (600 * 3600) / 1900;
    expect(Math.abs(result.failures - expected)).toBeLessThan(4 * Math.sqrt(expected));
    expect(result.starts).toBe(result.failures);
    // One failure loses what is on it: 1 request/s × 5.1 s / 10 replicas, times 19/18 for those that are not ready.
    expect(result.failed / result.failures / (0.51 * (1900 / 1800))).toBeGreaterThan(0.9);
    expect(result.failed / result.failures / (0.51 * (1900 / 1800))).toBeLessThan(1.1);
    expect(result.attained + result.late + result.failed + result.unserved).toBe(result.requests);
    expect(result.meanReplicas).toBeCloseTo(10, 9);
    expect(policy.views.at(-1)!.deployments[0]!.wanted).toBe(10);
  });
});

describe('what a policy sees', () => {
  test('interval records as the gateway writes them: arrivals, completions by bucket, pending', async () => {
    const requests = [request(1, 250, 33), request(2, 250, 33), request(8, 20_000, 50), request(9, 250, 33)];
    const policy = scripted();
    await runRequests({ settings: fleet(), requests, policy });
    const tokens = { inputTokens: tokensOfBucketIndex(80, 10), outputTokens: tokensOfBucketIndex(50, 10) };
    // 3.3 s each: two have ended in the first ten seconds, one is refused, one is pending.
    expect(policy.views[0]!.intervals).toEqual([]);
    expect(policy.views[1]!.intervals).toMatchObject([
      { endSeconds: startMs / 1000 + 10, record: { arrivals: 4, pending: 1, buckets: [{ ...tokens, count: 2 }] } },
    ]);
    expect(policy.views[2]!.intervals).toMatchObject([
      { endSeconds: startMs / 1000 + 20, record: { arrivals: 0, pending: 0, buckets: [{ ...tokens, count: 1 }] } },
    ]);
    expect(policy.views[3]!.intervals).toEqual([]);
  });

  test('requests in batches and queues, their mean since the last view, and the share of busy time', async () => {
    const engine = {
      stepTimes: constantSteps(100),
      limits: { maxSequences: 1, maxBatchedTokens: 2048, maxTokens: 10_000 },
    };
    const settings = fleet({ deployments: [deployment({ engine })] });
    // 4 s each, one after the other: from 15 to 19 s, 19 to 23 s.
    const policy = scripted();
    await runRequests({ settings, requests: [request(15, 10, 40), request(17, 10, 40)], policy });
    expect(policy.views[2]!.deployments[0]).toMatchObject({ runningRequests: 1, waitingRequests: 0 });
    expect(policy.views[2]!.deployments[0]!.meanInFlight).toBeCloseTo((4 + 3) / 10, 9);
    expect(policy.views[2]!.deployments[0]!.busyShare).toBeCloseTo(0.5, 9);
    expect(policy.views[3]!.deployments[0]!.meanInFlight).toBeCloseTo(0.3, 9);
    expect(policy.views[3]!.deployments[0]!.busyShare).toBeCloseTo(0.3, 9);
    expect(policy.views[4]!.deployments[0]).toMatchObject({ meanInFlight: 0, busyShare: 0 });
  });

  test('a decision may be a promise', async () => {
    const policy: Policy = {
      periodSeconds: 60,
      lagSeconds: 0,
      decide: async ({ nowMs }) =>
        decision({ replicas: new Map([['default/a', nowMs < startMs + 300_000 ? 2 : 1]]), forecastRps: 7 }),
    };
    const result = await runRequests({ settings: fleet(), requests: [request(1)], policy });
    expect(result.usd).toBeCloseTo((900 + 300) * 0.001, 9);
    expect(result.series.forecastRps).toEqual(Array.from({ length: 15 }, () => 7));
  });
});

describe('whatever happens', () => {
  const world = fc.record({
    seed: fc.nat(),
    rps: fc.double({ min: 0.1, max: 20, noNaN: true }),
    router: fc.constantFrom('shares', 'least-request', 'random'),
    meanHoursBetweenFailures: fc.option(fc.double({ min: 0.01, max: 1, noNaN: true })),
    queueTimeoutSeconds: fc.double({ min: 0, max: 50, noNaN: true }),
    drainSeconds: fc.double({ min: 0, max: 20, noNaN: true }),
    lagSeconds: fc.double({ min: 0, max: 30, noNaN: true }),
    asked: fc.array(fc.tuple(fc.nat({ max: 4 }), fc.nat({ max: 4 })), { minLength: 1, maxLength: 12 }),
    /** Of `default/a` and `default/b`; null = there are no shares. */
    fullInFlight: fc.option(
      fc.tuple(fc.double({ min: 0.5, max: 9, noNaN: true }), fc.double({ min: 0.5, max: 9, noNaN: true })),
    ),
  } as const);
  type World = typeof world extends fc.Arbitrary<infer One> ? One : never;

  const runOf = async ({ seed, rps, asked, lagSeconds, fullInFlight, ...settings }: World, async = false) => {
    const ids = ['default/a', 'default/b'] as const;
    const whole = fleet({
      ...settings,
      seed,
      scoredFromMs: startMs + 30_000,
      endMs: startMs + 300_000,
      deployments: ids.map((id, place) =>
        deployment({
          id,
          startup: { medianSeconds: 15, spread: 0.5 },
          engine: {
            stepTimes: {
              kvCacheTokens: 3200,
              stepMs: ({ prefillTokens, decodeSequences }) => 5 + prefillTokens / 10 + decodeSequences,
            },
            limits: { maxSequences: 4 + 4 * place, maxBatchedTokens: 256, maxTokens: 1800 },
          },
        }),
      ),
      initialReplicas: new Map([['default/a', 1]]),
    });
    const random = seededRandom(seed);
    const requests = [...poisson(whole, { rps, random, lengths: () => [random.whole(0, 1500), random.whole(0, 400)] })];
    const views: unknown[] = [];
    const bucket = {
      model: 'm',
      inputTokens: 700,
      outputTokens: 200,
      rps,
      bestEffort: false,
      extrapolated: false,
      to: [{ deployment: ids[0], share: 1 }],
      unservedShare: 0,
      alsoTo: [ids[1]],
    };
    const routing =
      fullInFlight === null
        ? null
        : { shares: [bucket], fullInFlight: new Map(ids.map((id, place) => [id, fullInFlight[place]!])) };
    const policy: Policy = {
      periodSeconds: 10,
      lagSeconds,
      decide: (view) => {
        views.push(view);
        const [a, b] = asked[(views.length - 1) % asked.length]!;
        const one = decision({
          replicas: new Map([
            [ids[0], a],
            [ids[1], b],
          ]),
          routing,
          forecastRps: rps,
        });
        return async ? Promise.resolve(one) : one;
      },
    };
    return { settings: whole, requests, views, result: await runRequests({ settings: whole, requests, policy }) };
  };

  test('every request ends once, records add up, and money is that of the series', async () => {
    await fc.assert(
      fc.asyncProperty(world, async (one) => {
        const { result, requests, settings, views } = await runOf(one);
        const { attained, late, failed, unserved, series, usd } = result;
        const scored = requests.filter(({ atMs }) => atMs >= settings.scoredFromMs);
        expect(result.requests).toBe(scored.length);
        expect(attained + late + failed + unserved).toBe(result.requests);
        const sum = (list: readonly number[]): number => list.reduce((total, value) => total + value, 0);
        expect(sum(series.usdPerHour.map((perHour, i) => (perHour * (i === 4 ? 30 : 60)) / 3600))).toBeCloseTo(usd, 9);
        expect(sum(series.rps.map((rps, i) => rps * (i === 4 ? 30 : 60)))).toBeCloseTo(scored.length, 6);
        expect(result.utilization).toBeLessThanOrEqual(1);
        const records = (
          views as {
            readonly intervals: readonly { readonly record: { readonly arrivals: number; readonly pending: number } }[];
          }[]
        ).flatMap(({ intervals }) => intervals);
        const recorded = requests.filter(({ atMs }) => atMs < startMs + 290_000);
        expect(sum(records.map(({ record }) => record.arrivals))).toBe(recorded.length);
        for (const { record } of records) expect(record.pending).toBeGreaterThanOrEqual(0);
        expect(JSON.stringify(result)).not.toMatch(/null,null,null,null,null,null|NaN|Infinity/);
      }),
      { numRuns: 60 },
    );
  });

  test('the same seed gives the same result to the byte, also where decisions are promises', async () => {
    await fc.assert(
      fc.asyncProperty(world, async (one) => {
        const first = await runOf(one);
        const second = await runOf(one, true);
        expect(JSON.stringify(second.result)).toBe(JSON.stringify(first.result));
        expect(JSON.stringify(second.views)).toBe(JSON.stringify(first.views));
      }),
      { numRuns: 20 },
    );
  });
});

describe('what cannot be run', () => {
  const run = (settings = fleet(), requests = [request(1)]): Promise<unknown> =>
    runRequests({ settings, requests, policy: scripted() });

  test('is refused with what was found and what was expected', async () => {
    await expect(run(fleet(), [request(2), request(1)])).rejects.toThrow('expected ascending times');
    await expect(run(fleet(), [request(-1)])).rejects.toThrow(`from the start at ${startMs} ms on`);
    await expect(run(fleet({ endMs: startMs }))).rejects.toThrow('expected a span with a length');
    await expect(run(fleet({ drainSeconds: -1 }))).rejects.toThrow('drainSeconds is -1');
    await expect(run(fleet({ meanHoursBetweenFailures: 0 }))).rejects.toThrow('meanHoursBetweenFailures is 0');
    await expect(run(fleet({ deployments: [deployment(), deployment()] }))).rejects.toThrow('default/a is there twice');
    await expect(run(fleet(), [request(1, 1.5)])).rejects.toThrow('expected whole numbers');
  });

  test('ends when it is told to between arrivals, too', async () => {
    let asked = 0;
    const settings = fleet({ endMs: startMs + 1e12, seriesSeconds: 1e9 });
    const running = runRequests({ settings, requests: [], policy: scripted(), shouldStop: () => ++asked > 3 });
    await expect(running).rejects.toThrow(RunStopped);
  });

  test('ends when it is told to, and closes what it reads', async () => {
    let closed = false;
    async function* endless() {
      try {
        for (let at = 0; ; at += 0.01) yield request(at);
      } finally {
        closed = true;
      }
    }
    let asked = 0;
    const settings = fleet({ endMs: startMs + 1e12, seriesSeconds: 1e9 });
    const running = runRequests({ settings, requests: endless(), policy: scripted(), shouldStop: () => ++asked > 3 });
    await expect(running).rejects.toThrow(RunStopped);
    expect(closed).toBe(true);
  });
});

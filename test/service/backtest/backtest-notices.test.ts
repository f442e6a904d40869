import { describe, expect, it } from 'vitest';
import { backtestNotices, type NoticedBacktest } from '../../../src/service/backtest/backtest-notices.js';
import { configOf, fleetOf, gpus } from './scenario.js';

const unshared = configOf();
const asked: NoticedBacktest['asked'] = {
  policies: ['gpumix'],
  router: 'shares',
  objective: { ttftSeconds: 2, ttftSecondsPerInputToken: 0.0002, tpotSeconds: 0.1 },
  targetAttainment: 0.99,
};

async function noticesOf(changes: Partial<NoticedBacktest> = {}) {
  return backtestNotices({
    asked,
    config: { profiles: { ...unshared.profiles, pooling: 'least-request' } },
    fleet: await fleetOf(),
    gpus,
    facts: { longestGapSeconds: 60 },
    warmUpSeconds: 180,
    ...changes,
  });
}

describe('the notices of a backtest', () => {
  it('are none where nothing is amiss', async () => {
    expect(await noticesOf()).toEqual([]);
  });

  it('say that the warm-up is shorter than replicas take to start', async () => {
    const [notice, ...others] = await noticesOf({ warmUpSeconds: 90 });
    expect(others).toEqual([]);
    expect(notice).toMatchObject({ code: 'short_warm_up' });
    expect(notice!.message).toContain('90 s, and replicas take 180 s to start');
  });

  it('say so where plans count on sharing that the router does not do, and the other way round', async () => {
    const random = { ...asked, policies: ['single-type-best'], router: 'random' } as const;
    const counted = await noticesOf({ asked: random });
    expect(counted.map(({ code }) => code)).toEqual(['pooling_mismatch']);
    expect(counted[0]!.message).toContain('profiles.pooling: none');
    const uncounted = await noticesOf({ config: unshared });
    expect(uncounted.map(({ code }) => code)).toEqual(['pooling_mismatch']);
    expect(uncounted[0]!.message).toContain('profiles.pooling: least-request');
    expect(await noticesOf({ asked: random, config: unshared })).toEqual([]);
    // Nobody here reads it.
    expect(await noticesOf({ asked: { ...asked, policies: ['aibrix', 'static'] }, config: unshared })).toEqual([]);
  });

  it('say that chance among replicas of several types is no gateway for a mix', async () => {
    const random = { ...asked, router: 'random' } as const;
    const notices = await noticesOf({ asked: random, config: unshared });
    expect(notices.map(({ code }) => code)).toEqual(['mix_without_shares']);
    expect(notices[0]!.message).toContain('mixes 3 GPU types');
    const oneType = `
    - { name: h100, model: llama-3.1-8b, gpuType: H100 }`;
    const fleet = await fleetOf(configOf({ deployments: oneType }));
    expect(await noticesOf({ asked: random, config: unshared, fleet })).toEqual([]);
  });

  it('say that profiles were made for another objective than requests are counted by, once for those alike', async () => {
    const flat = { ...asked, objective: { ...asked.objective, ttftSecondsPerInputToken: 0 }, targetAttainment: 0.95 };
    const notices = await noticesOf({ asked: flat });
    expect(notices).toEqual([
      {
        code: 'slo_mismatch',
        message:
          'the profiles of default/l40s, default/a100-80gb, default/h100 were made for another objective than requests are counted by: ttft 0.2 ms per input token instead of 0 ms, the 99th percentile instead of 95 % of requests',
      },
    ]);
    expect(await noticesOf({ asked: { ...flat, policies: ['hpa-concurrency', 'hpa-utilisation'] } })).toEqual([]);
  });

  it('say that a profile is of another GPU than its replicas are simulated on', async () => {
    const deployments = `
    - { name: l40s, model: llama-3.1-8b, gpuType: L40 }
    - { name: h100, model: llama-3.1-8b, gpuType: H100 }`;
    const notices = await noticesOf({ fleet: await fleetOf(configOf({ deployments })) });
    expect(notices).toEqual([
      {
        code: 'profile_gpu_mismatch',
        message: 'the profile of default/l40s was made on L40S, and its replicas are simulated on L40',
      },
    ]);
  });
});

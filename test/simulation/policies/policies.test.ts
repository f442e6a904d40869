import { describe, expect, test } from 'vitest';
import type { Decision, FleetView, Policy } from '../../../src/simulation/backtest/backtest.js';
import { constantFleets, rateFactorsOf } from '../../../src/simulation/policies/constant-fleets.js';
import { cheapestAlone } from '../../../src/simulation/policies/hpa-policies.js';
import { policyTable, purePolicyNames } from '../../../src/simulation/policies/policies.js';
import { flatProfile, fleetDeployment, seen, view } from './fleets.js';

const large = fleetDeployment('default/large', { usdPerReplicaHour: 3, profile: flatProfile(10) });
const small = fleetDeployment('default/small', { usdPerReplicaHour: 1, profile: flatProfile(4) });
const deployments = [large, small];
const meanDemand = [{ inputTokens: 512, outputTokens: 64, rps: 10 }];

function decide(policy: Policy, at: FleetView): Decision {
  const decision = policy.decide(at);
  if (decision instanceof Promise) throw new Error('a pure policy decides at once');
  return decision;
}

describe('the table', () => {
  test.each(purePolicyNames)('%s has a usual knob, a sweep around it from thrifty to generous, and decides', (name) => {
    const { about, knob, create } = policyTable[name];
    expect(about).not.toBe('');
    expect(knob.values as readonly number[]).toContain(knob.usual);
    expect(new Set(knob.values).size).toBe(knob.values.length);
    const policy = create({ deployments, meanDemand, knob: knob.usual });
    const first = view(0, { deployments: [seen(large.id), seen(small.id, { wanted: 2 })] });
    const { replicas } = decide(policy, first);
    expect([...replicas.values()].every((count) => Number.isInteger(count) && count >= 0)).toBe(true);
    expect(replicas.get(small.id)).toBeGreaterThan(0);
  });

  test('two runs of a policy share nothing', () => {
    const { create } = policyTable['hpa-concurrency'];
    const options = { deployments, meanDemand, knob: 10 };
    const busy = view(15, { deployments: [seen(large.id), seen(small.id, { wanted: 2, meanInFlight: 200 })] });
    const first = create(options);
    decide(first, view(0, { deployments: [seen(large.id), seen(small.id, { wanted: 2 })] }));
    expect(decide(first, busy).replicas.get(small.id)).toBe(6);
    expect(decide(create(options), busy).replicas.get(small.id)).toBe(2);
  });
});

describe('an HPA on one type', () => {
  const at = (seconds: number, overrides: Parameters<typeof seen>[1], queuedRequests = 0) =>
    view(seconds, { queuedRequests, deployments: [seen(large.id, { wanted: 1 }), seen(small.id, overrides)] });

  test('counts requests that wait at the gateway as well, and stops what runs on other types', () => {
    const policy = policyTable['hpa-concurrency'].create({ deployments, meanDemand, knob: 10 });
    expect(decide(policy, at(0, { wanted: 4 })).replicas).toEqual(
      new Map([
        [small.id, 4],
        [large.id, 0],
      ]),
    );
    expect(decide(policy, at(15, { wanted: 4, meanInFlight: 30 }, 30)).replicas.get(small.id)).toBe(6);
  });

  test('leaves the other types alone until its own serves, and starts at one', () => {
    const policy = policyTable['hpa-concurrency'].create({ deployments, meanDemand, knob: 10 });
    expect(decide(policy, at(0, { wanted: 0 })).replicas).toEqual(new Map([[small.id, 1]]));
    expect(decide(policy, at(15, { wanted: 1, ready: 0, starting: 1 }, 99)).replicas).toEqual(new Map([[small.id, 1]]));
  });

  test('by utilisation: half busy at a target of 80 % is five eighths of the replicas, once five minutes are over', () => {
    const policy = policyTable['hpa-utilisation'].create({ deployments, meanDemand, knob: 80 });
    const found = Array.from({ length: 23 }, (_, i) =>
      decide(policy, at(15 * i, { wanted: 8, busyShare: 0.5 })).replicas.get(small.id),
    );
    expect(found.slice(0, 21)).toEqual(new Array(21).fill(8));
    expect(found.at(-1)).toBe(5);
    const busy = policyTable['hpa-utilisation'].create({ deployments, meanDemand, knob: 50 });
    decide(busy, at(0, { wanted: 8 }));
    expect(decide(busy, at(15, { wanted: 8, busyShare: 0.9 })).replicas.get(small.id)).toBe(15);
  });

  test('runs on the type that is asked for, and says so where there is none of that name', () => {
    const policy = policyTable['hpa-concurrency'].create({ deployments, meanDemand, knob: 10, on: large.id });
    expect(decide(policy, at(0, {})).replicas.get(large.id)).toBe(1);
    expect(() => policyTable['hpa-concurrency'].create({ deployments, meanDemand, knob: 10, on: 'other' })).toThrow(
      'other is none of the deployments: default/large, default/small',
    );
  });

  test('by default it is the type that serves the mix for the least money', () => {
    expect(cheapestAlone(deployments, meanDemand)).toBe(small);
    expect(cheapestAlone([{ ...large, usdPerReplicaHour: 2 }, small], meanDemand).id).toBe(large.id);
    // What does not fit its context at all it cannot be chosen for.
    const { limits } = small.engine;
    const cramped = { ...small, engine: { ...small.engine, limits: { ...limits, maxTokens: 256 } } };
    expect(cheapestAlone([cramped, large], meanDemand)).toBe(large);
    expect(() => cheapestAlone([], meanDemand)).toThrow('no deployments');
  });
});

describe('constant fleets', () => {
  test('are the cheapest ones for each rate, each once, cheapest first', () => {
    // 10 requests/s: three small ones for 3 USD (one large one holds exactly 10 for the same money); 20: 5 small.
    const fleets = constantFleets({ deployments, meanDemand, rateFactors: [2, 1, 0.9, 4] });
    expect(fleets.map(({ usdPerHour }) => usdPerHour)).toEqual([3, 5, 10]);
    expect(fleets.map(({ rateFactor }) => rateFactor)).toEqual([0.9, 2, 4]);
    expect(fleets.at(-1)!.replicas).toEqual(
      new Map([
        [large.id, 0],
        [small.id, 10],
      ]),
    );
  });

  test('keep to the replicas that a deployment may have', () => {
    const few = { ...small, maxReplicas: 2 };
    const [fleet] = constantFleets({ deployments: [large, few], meanDemand, rateFactors: [4] });
    expect([...fleet!.replicas.values()]).toEqual([4, 0]);
  });

  test('the policy never changes its mind, and says how its plan routes', () => {
    const fixed = policyTable.static.create({ deployments, meanDemand, knob: 4 });
    for (const seconds of [0, 3600]) {
      const at = view(seconds, { deployments: [seen(large.id), seen(small.id)], queuedRequests: 50 });
      expect(decide(fixed, at).replicas).toEqual(
        new Map([
          [large.id, 0],
          [small.id, 10],
        ]),
      );
    }
    const [shares] = decide(fixed, view(0)).routing!.shares;
    expect(shares).toMatchObject({ ...meanDemand[0], rps: 40, to: [{ deployment: small.id, share: 1 }] });
    expect(decide(fixed, view(0)).routing!.fullInFlight.size).toBe(0);
    const fullInFlight = new Map([[small.id, 12]]);
    const told = policyTable.static.create({ deployments, meanDemand, knob: 4, fullInFlight });
    expect(decide(told, view(0)).routing).toEqual({ shares: [shares], fullInFlight });
  });

  test('are tried where they matter: from the rate of the calmer half of the requests to beyond the busiest minute', () => {
    const steady = rateFactorsOf(new Array(60).fill(100));
    expect(steady).toHaveLength(16);
    expect([steady[0], steady.at(-1)]).toEqual([0.85, 1.4]);
    expect(steady).toContain(1);
    // Half of the requests come in a tenth of the time, nine times as many a minute.
    const bursts = rateFactorsOf([...new Array(90).fill(100), ...new Array(10).fill(900)]);
    const mean = 180;
    expect(bursts).toContain(900 / mean);
    expect(bursts[0]).toBeCloseTo((0.85 * 100) / mean, 2);
    expect(bursts.at(-1)).toBe((1.4 * 900) / mean);
    expect(bursts.every((factor, i) => i === 0 || factor / bursts[i - 1]! < 1.4)).toBe(true);
    expect(rateFactorsOf([])).toEqual([1]);
    expect(rateFactorsOf([0, 0])).toEqual([1]);
  });
});

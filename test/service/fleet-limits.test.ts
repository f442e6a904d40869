import { describe, expect, it } from 'vitest';
import { configSchema } from '../../src/service/config.js';
import { fleetLimits, gpusAllowed, isLimited, unlimited } from '../../src/service/fleet-limits.js';
import type { Shortage } from '../../src/service/stock-out.js';
import { catalogue, deployment } from '../support/controller-world.js';

const a100 = deployment({ name: 'a100', currentReplicas: 2, readyReplicas: 3, gpusPerReplica: 4 });
const l4 = deployment({ name: 'l4', gpuType: 'L4', currentReplicas: 5, readyReplicas: 1 });

const short: Shortage = {
  gpuType: 'A100-80GB',
  shortGpus: 2,
  usableGpus: 6,
  until: Date.UTC(2026, 10, 20, 10, 15),
  deployments: ['default/a100'],
};

function limitsOf(
  config: Readonly<Record<string, unknown>>,
  { deployments = [a100, l4], shortages = [] as readonly Shortage[], seenGpus = new Map<string, number>() } = {},
) {
  const parsed = configSchema.parse({ redis: { url: 'redis://unused' }, ...config });
  return fleetLimits({ config: parsed, catalogue, deployments, shortages, seenGpus });
}

describe('the limits of the fleet', () => {
  it('are none where none are configured and nothing is short', () => {
    const limits = limitsOf({});
    expect(limits).toEqual(unlimited);
    expect(isLimited(limits)).toBe(false);
  });

  it.each<readonly [string, Record<string, unknown>]>([
    ['a pool', { pools: [{ gpuType: 'L4', gpus: 0 }] }],
    ['a quota', { quotas: [{ namespace: 'a', gpuType: 'L4', gpus: 9 }] }],
    ['a budget', { budgetUsdPerHour: 0 }],
  ])('are some with %s', (_, config) => {
    expect(isLimited(limitsOf(config))).toBe(true);
  });

  it('call every GPU type as the catalogue does', () => {
    const limits = limitsOf({
      pools: [
        { gpuType: 'a100', gpus: 16 },
        { gpuType: 'L4', gpus: null },
      ],
      quotas: [{ namespace: 'team-a', gpuType: 'a100', gpus: 4 }],
    });
    expect(limits.pools).toEqual([
      { gpuType: 'A100-80GB', gpus: 16 },
      { gpuType: 'L4', gpus: null },
    ]);
    expect(limits.quotas).toEqual([{ namespace: 'team-a', gpuType: 'A100-80GB', gpus: 4 }]);
    expect(limits.notices).toEqual([]);
  });

  it('hold a type that pools leaves out to what runs: ready replicas on their way out, and those on their way in', () => {
    const unnamed = deployment({ name: 'b', gpuType: null, currentReplicas: 1, readyReplicas: 1 });
    const limits = limitsOf({ pools: [{ gpuType: 'H100', gpus: 8 }] }, { deployments: [l4, a100, unnamed] });
    expect(limits.pools).toEqual([
      { gpuType: 'H100', gpus: 8 },
      { gpuType: 'A100-80GB', gpus: 12 },
      { gpuType: 'L4', gpus: 5 },
      { gpuType: 'b', gpus: 1 },
    ]);
    expect(limits.notices.map(({ code, message }) => [code, message])).toEqual([
      ['implicit_pool', expect.stringMatching(/^A100-80GB: pools does not name it, so it may use the 12 GPUs/)],
      [
        'implicit_pool',
        expect.stringMatching(/^L4: .* the 5 GPUs that ran at most since gpumix started and no more; add it to pools/),
      ],
      ['implicit_pool', expect.stringMatching(/^b: /)],
    ]);
    expect(limits.uncounted).toEqual(new Set());
  });

  it('remember what ran of such a type, until it is gone: a replica makes room for another one of the type', () => {
    const config = { pools: [{ gpuType: 'a100', gpus: 8 }] };
    const before = limitsOf(config);
    expect(before.seenGpus).toEqual(new Map([['L4', 5]]));
    const gone = { ...l4, currentReplicas: 1, readyReplicas: 1 };
    const after = limitsOf(config, { deployments: [gone], seenGpus: new Map(before.seenGpus) });
    expect(after.pools[1]).toEqual({ gpuType: 'L4', gpus: 5 });
    expect(limitsOf(config, { deployments: [], seenGpus: new Map(before.seenGpus) }).seenGpus).toEqual(new Map());
  });

  it('name the deployments of such a type of which nobody knows what runs', () => {
    const unknown = deployment({ name: 'x', gpuType: 'L4', currentReplicas: null, readyReplicas: null });
    const pooled = deployment({ name: 'y', currentReplicas: null, readyReplicas: null });
    const limits = limitsOf({ pools: [{ gpuType: 'a100', gpus: 8 }] }, { deployments: [l4, unknown, pooled] });
    expect(limits.pools[1]).toEqual({ gpuType: 'L4', gpus: 5 });
    expect(limits.uncounted).toEqual(new Set(['default/x']));
    expect(limits.notices[0]?.message).toContain('of default/x nobody knows what runs: no number is published');
  });

  it('cap a type that cannot be had, and no other type', () => {
    const limits = limitsOf({}, { shortages: [short] });
    expect(limits.pools).toEqual([{ gpuType: 'A100-80GB', gpus: 6 }]);
    expect(limits.notices.map(({ code }) => code)).toEqual(['stock_out']);
    expect(isLimited(limits)).toBe(true);
  });

  it.each([
    [16, 6],
    [4, 4],
    [null, 6],
  ])('of a pool of %s GPUs leave %s while its type cannot be had', (gpus, left) => {
    const limits = limitsOf(
      {
        pools: [
          { gpuType: 'a100', gpus },
          { gpuType: 'L4', gpus: null },
        ],
      },
      { shortages: [short] },
    );
    expect(limits.pools[0]).toEqual({ gpuType: 'A100-80GB', gpus: left });
  });
});

describe('the GPUs that a deployment may use at most', () => {
  const allowed = gpusAllowed({
    pools: [
      { gpuType: 'L4', gpus: 4 },
      { gpuType: 'H100', gpus: null },
    ],
    quotas: [
      { namespace: 'a', gpuType: 'L4', gpus: 1 },
      { namespace: 'b', gpuType: 'L4', gpus: 9 },
      { namespace: 'a', gpuType: 'T4', gpus: 0 },
    ],
  });

  it.each([
    ['a', 'L4', 1],
    ['b', 'L4', 4],
    ['c', 'L4', 4],
    ['a', 'T4', 0],
    ['b', 'T4', Number.POSITIVE_INFINITY],
    ['a', 'H100', Number.POSITIVE_INFINITY],
  ])('of namespace %s on %s are %s', (namespace, gpuType, expected) => {
    expect(allowed({ namespace }, gpuType)).toBe(expected);
  });
});

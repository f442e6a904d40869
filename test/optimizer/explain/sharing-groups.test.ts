import { describe, expect, it } from 'vitest';
import { problemOfGroup, sharingGroups } from '../../../src/optimizer/explain/sharing-groups.js';
import { deployment, model, problem } from '../builders.js';

/** Four models: a on X, b on X and Y, c on Y, d on Z, in namespaces of the same names. */
const models = (
  [
    ['a', ['X']],
    ['b', ['X', 'Y']],
    ['c', ['Y']],
    ['d', ['Z']],
  ] as const
).map(([name, types]) =>
  model({ name, deployments: types.map((gpuType) => deployment({ id: `${name}/${gpuType}`, gpuType })) }),
);

function groupsOf(limits: Parameters<typeof problem>[0]): readonly (readonly string[])[] {
  return sharingGroups(problem({ models, ...limits })).map((group) => group.map(({ name }) => name));
}

describe('models that share limits', () => {
  it('are none where nothing is limited', () => {
    expect(groupsOf({})).toEqual([['a'], ['b'], ['c'], ['d']]);
    expect(groupsOf({ pools: [{ gpuType: 'X', gpus: null }] })).toEqual([['a'], ['b'], ['c'], ['d']]);
  });

  it('share a pool directly or by way of another model', () => {
    expect(groupsOf({ pools: [{ gpuType: 'X', gpus: 1 }] })).toEqual([['a', 'b'], ['c'], ['d']]);
    const both = [
      { gpuType: 'Y', gpus: 1 },
      { gpuType: 'X', gpus: 1 },
    ];
    expect(groupsOf({ pools: both })).toEqual([['a', 'b', 'c'], ['d']]);
  });

  it('share a quota only within its namespace', () => {
    expect(groupsOf({ quotas: [{ namespace: 'b', gpuType: 'X', gpus: 1 }] })).toEqual([['a'], ['b'], ['c'], ['d']]);
    const shared = problem({
      models: models.map((each) => ({
        ...each,
        deployments: each.deployments.map((one) => ({ ...one, id: `team/${each.name}-${one.gpuType}` })),
      })),
      quotas: [{ namespace: 'team', gpuType: 'Y', gpus: 1 }],
    });
    expect(sharingGroups(shared).map((group) => group.map(({ name }) => name))).toEqual([['a'], ['b', 'c'], ['d']]);
    // A name that only begins alike is another namespace.
    const other = { ...shared, quotas: [{ namespace: 'tea', gpuType: 'Y', gpus: 1 }] };
    expect(sharingGroups(other)).toHaveLength(4);
  });

  it('are all models under one budget', () => {
    expect(groupsOf({ budgetUsdPerHour: 5 })).toEqual([['a', 'b', 'c', 'd']]);
  });

  it('make a problem of their own with the limits that concern them', () => {
    const whole = problem({
      models,
      pools: [
        { gpuType: 'X', gpus: 1 },
        { gpuType: 'Z', gpus: 2 },
        { gpuType: 'Y', gpus: null },
      ],
      quotas: [
        { namespace: 'd', gpuType: 'Z', gpus: 1 },
        { namespace: 'a', gpuType: 'X', gpus: 1 },
      ],
    });
    const own = problemOfGroup(whole, whole.models.slice(0, 2));
    expect([own.pools, own.quotas]).toEqual([[{ gpuType: 'X', gpus: 1 }], [{ namespace: 'a', gpuType: 'X', gpus: 1 }]]);
  });
});

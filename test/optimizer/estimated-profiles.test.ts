import { describe, expect, it } from 'vitest';
import { plan } from '../../src/optimizer/plan.js';
import { deployment, flat, long, model, problem, short, shortAndLong } from './builders.js';

const estimated = { ...flat(10), method: 'estimated' as const };
const measured = { ...flat(10), method: 'measured' as const };

const estimatesIn = (asked: ReturnType<typeof problem>) =>
  plan(asked).warnings.filter(({ code }) => code === 'estimated_profile');

describe('a plan that rests on estimates', () => {
  it('says so once a model, and names the deployments', () => {
    // Each alone serves one of the two lengths, so that both are used.
    const warnings = estimatesIn(
      problem({
        demand: [short(5), long(5)],
        deployments: [
          deployment({ id: 'default/l4', profile: { ...shortAndLong(10, 0), method: 'estimated' } }),
          deployment({ id: 'default/h100', profile: { ...shortAndLong(0, 10), method: 'estimated' } }),
        ],
      }),
    );
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatchObject({ model: 'llama' });
    expect(warnings[0]!.deployment).toBeUndefined();
    expect(warnings[0]!.message).toContain('default/l4 (estimated), default/h100 (estimated)');
  });

  it('names the one deployment that it concerns, also as such', () => {
    expect(estimatesIn(problem({ deployments: [deployment({ profile: estimated })] }))).toMatchObject([
      { model: 'llama', deployment: 'default/a' },
    ]);
  });

  it('says so of profiles that were measured on a simulated engine', () => {
    const [warning] = estimatesIn(
      problem({ deployments: [deployment({ profile: { ...flat(10), method: 'simulated' } })] }),
    );
    expect(warning!.message).toContain('default/a (simulated)');
  });

  it('does not where no demand and no replica goes to the estimated deployment', () => {
    const deployments = [
      deployment({ id: 'default/measured', profile: measured }),
      deployment({ id: 'default/guessed', profile: estimated, usdPerReplicaHour: 100 }),
    ];
    expect(estimatesIn(problem({ deployments }))).toEqual([]);
  });

  it('does where a floor keeps a replica there without demand', () => {
    const deployments = [
      deployment({ id: 'default/measured', profile: measured }),
      deployment({ id: 'default/guessed', profile: estimated, usdPerReplicaHour: 100, minReplicas: 1 }),
    ];
    expect(estimatesIn(problem({ deployments }))).toMatchObject([{ deployment: 'default/guessed' }]);
  });

  it('does not for profiles that were measured, or do not say how they were made', () => {
    expect(estimatesIn(problem({ deployments: [deployment({ profile: measured })] }))).toEqual([]);
    expect(estimatesIn(problem({ deployments: [deployment()] }))).toEqual([]);
  });

  it('says it of each model where models share a pool', () => {
    const models = ['chat', 'code'].map((name) =>
      model({ name, deployments: [deployment({ id: `default/${name}`, profile: estimated })] }),
    );
    const warnings = estimatesIn(problem({ models, pools: [{ gpuType: 'A', gpus: 4 }] }));
    expect(warnings.map((warning) => warning.model).toSorted()).toEqual(['chat', 'code']);
  });
});

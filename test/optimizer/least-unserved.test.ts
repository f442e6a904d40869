import { describe, expect, it } from 'vitest';
import { checkPlan } from '../../src/optimizer/check.js';
import { plan } from '../../src/optimizer/plan.js';
import { deployment, problem } from './builders.js';

describe('demand that must stay unserved', () => {
  it('is filled in by hand where its program cannot be solved, and the plan is then not called optimal', () => {
    // Works over fifteen orders of magnitude in one model: the linear program loses its footing here. An instance that
    // it learns to solve must be replaced by one that it cannot.
    const demand = [
      { inputTokens: 123456, outputTokens: 319, rps: 6196.175733755831 },
      { inputTokens: 0, outputTokens: 1767, rps: 0.009982913176881339 },
      { inputTokens: 1000000, outputTokens: 838, rps: 1436082.9623653614 },
      { inputTokens: 123456, outputTokens: 655, rps: 24686979.347846918 },
    ];
    const outputs = [16, 32, 64, 128, 256, 512, 1024, 2048];
    const column = (values: readonly number[]) => values.map((value) => [value]);
    const hard = problem({
      demand,
      deployments: [
        deployment({
          id: 'ns/a',
          maxReplicas: 3,
          targetUtilization: 0.000001,
          profile: {
            indexes: [outputs, [1]],
            tputs: column([
              11.791472110100589, 11.289470144828691, 0, 2.743792511411474, 2.184536542381279, 0, 2.685039834156906,
              1.5578152083370977,
            ]),
          },
        }),
        deployment({
          id: 'ns/b',
          maxReplicas: 1,
          targetUtilization: 0.8,
          profile: {
            indexes: [[1, 2, 4, 8, 16, 32, 64, 128], [64]],
            tputs: column([
              10.673601599070476, 0.0000017718235010861298, 3.4483719385940073, 0.724664315967982, 0.9790143502374278,
              1.0918988448217481, 0.7230344868398422, 0.3437019854005979,
            ]),
          },
        }),
        deployment({
          id: 'ns/c',
          maxTokens: 100000,
          targetUtilization: 0.000001,
          profile: {
            indexes: [[64, 128, 256, 512, 1024, 2048, 4096, 8192], [64]],
            tputs: column([
              7.627559828695632, 6.9338880563370715, 1614288.9882679237, 3.4193643816362416, 1.4481509343554766,
              804769.8766299799, 2.220276546586914, 1.0066446011842967,
            ]),
          },
        }),
      ],
    });
    const result = plan(hard);
    expect(result.status).toBe('feasible');
    expect(result.warnings.map(({ code }) => code)).toContain('unserved_not_proven');
    expect(checkPlan(hard, result)).toEqual([]);
  });
});

import { describe, expect, it } from 'vitest';
import { parseSetEdit } from '../../src/core/edit-syntax.js';
import { comparePlans, ratesOf } from '../../src/core/plan-comparison.js';
import { applyEdits } from '../../src/core/problem-edits.js';
import { plan } from '../../src/optimizer/plan.js';
import { deployment, flat, problem, short } from '../optimizer/builders.js';

const run = { shouldStop: () => false };
const given = problem({
  demand: [short(15)],
  deployments: [deployment(), deployment({ id: 'default/b', gpuType: 'B', usdPerReplicaHour: 5, profile: flat(1) })],
});

describe('a comparison of two plans', () => {
  it('has the difference in money by the hour and by the month of 730 hours', () => {
    // Ten requests/s a replica at one USD: two replicas for 15 requests/s, five for 45.
    const edits = [parseSetEdit('models.llama.rps*=3')];
    const base = plan(given, run);
    const edited = plan(applyEdits(given, edits, 'p.json'), run);
    const comparison = comparePlans({ base, edited, edits });
    expect(comparison).toMatchObject({
      apiVersion: 'gpumix/v1',
      kind: 'PlanComparison',
      edits: [{ set: 'models.llama.rps*=3' }],
      differenceUsdPerHour: 3,
      differenceUsdPerMonth: 2190,
    });
    expect(comparison.differenceServedRps).toBeCloseTo(30, 9);
    expect(comparison.deployments).toEqual([
      {
        id: 'default/a',
        model: 'llama',
        gpuType: 'A',
        base: { targetReplicas: 2, usdPerHour: 2 },
        edited: { targetReplicas: 5, usdPerHour: 5 },
        differenceUsdPerHour: 3,
      },
      {
        id: 'default/b',
        model: 'llama',
        gpuType: 'B',
        base: { targetReplicas: 0, usdPerHour: 0 },
        edited: { targetReplicas: 0, usdPerHour: 0 },
        differenceUsdPerHour: 0,
      },
    ]);
    expect(comparison.base).toBe(base);
    expect(comparison.edited).toBe(edited);
  });

  it('has no other side for a deployment that was taken away, and counts what then goes unserved', () => {
    const edits = [{ kind: 'without', gpuType: 'A' } as const, parseSetEdit('deployments.default/b.maxReplicas=4')];
    const edited = plan(applyEdits(given, edits, 'p.json'), run);
    const comparison = comparePlans({ base: plan(given, run), edited, edits });
    expect(comparison.edits[0]).toEqual({ without: 'A' });
    expect(comparison.deployments.map((item) => item.edited?.targetReplicas ?? null)).toEqual([null, 4]);
    expect(comparison.differenceUsdPerHour).toBe(4 * 5 - 2);
    expect(comparison.differenceServedRps).toBeCloseTo(4 - 15, 6);
    expect(ratesOf(edited).unservedRps).toBeCloseTo(11, 6);
  });
});

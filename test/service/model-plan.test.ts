import { describe, expect, it } from 'vitest';
import type { Plan } from '../../src/core/plan.js';
import { planningProblemSchema } from '../../src/core/planning-problem.js';
import { heldPart, joinPlan, splitPlan, unproven } from '../../src/service/model-plan.js';
import { modelView, planOf } from '../support/scripted-view.js';

const names = ['a', 'b', 'c'];
const weights = [1, 2, 3];

/** Three models of 5 requests/s, two of one priority; of `a` and `b` a part is unserved. */
function scarcePlan(proven: boolean): Plan {
  const plan = planOf(
    names.map((name) =>
      modelView({ name, deployments: modelView().deployments.map((d) => ({ ...d, id: `${name}/${d.name}` })) }),
    ),
  );
  const unservedShares: Record<string, number> = { a: 0.2, b: 0.1, c: 0 };
  const penaltyUsdPerHour = 3600 * (1 * 1 + 2 * 0.5);
  return {
    ...plan,
    shares: plan.shares.map((bucket) => ({ ...bucket, unservedShare: unservedShares[bucket.model]! })),
    scarcity: [
      {
        priority: 7,
        unservedRps: 1.5,
        penaltyUsdPerHour,
        boundUsdPerHour: proven ? penaltyUsdPerHour : penaltyUsdPerHour / 2,
        proven,
      },
    ],
    penaltyUsdPerHour,
    models: plan.models.map((model, index) => ({
      ...model,
      switchingUsdPerHour: index / 4,
      boundUsdPerHour: model.usdPerHour - 1,
      gap: 1 / model.usdPerHour,
    })),
  };
}

const problems = planningProblemSchema.parse({
  apiVersion: 'gpumix/v1',
  kind: 'PlanningProblem',
  models: names.map((name, index) => ({
    name,
    priority: name === 'c' ? 0 : 7,
    unservedUsdPerRequest: weights[index],
    demand: [],
    deployments: [],
  })),
}).models;

const frame = {
  at: undefined,
  routing: 'proportional' as const,
  solver: { name: 's', nodes: 1, milliseconds: 0 },
  notices: [],
};

describe('a plan that is cut in its models and joined again', () => {
  it.each([true, false])('says the same of money and unserved demand (proven: %s)', (proven) => {
    const plan = scarcePlan(proven);
    const parts = [...splitPlan(plan, problems).values()];
    const joined = joinPlan(parts, frame);
    expect(joined.scarcity).toHaveLength(1);
    expect(joined.scarcity[0]).toMatchObject({ priority: 7, unservedRps: 1.5, proven });
    for (const key of ['penaltyUsdPerHour', 'boundUsdPerHour'] as const) {
      expect(joined.scarcity[0]![key]).toBeCloseTo(plan.scarcity[0]![key], 6);
    }
    expect(joined.penaltyUsdPerHour).toBeCloseTo(plan.penaltyUsdPerHour, 6);
    expect(joined.switchingUsdPerHour).toBe(0.75);
    expect(joined.objectiveUsdPerHour).toBeCloseTo(plan.usdPerHour + 0.75, 9);
    expect(joined.boundUsdPerHour).toBeCloseTo(plan.usdPerHour - 3, 9);
    expect(joined.gap).toBeCloseTo(3.75 / (plan.usdPerHour + 0.75), 9);
    expect(joined.routing).toBe('proportional');
    expect(joined.deployments).toEqual(plan.deployments);
    expect(joined.shares).toEqual(plan.shares);
  });

  it('claims nothing about models that were planned apart', () => {
    const parts = [...splitPlan(scarcePlan(true), problems).values()].map(unproven);
    const joined = joinPlan(parts, frame);
    expect([joined.status, joined.boundUsdPerHour, joined.gap]).toEqual(['feasible', 0, 1]);
    expect(joined.scarcity[0]).toMatchObject({ boundUsdPerHour: 0, proven: false });
  });
});

describe('a held model', () => {
  const last = splitPlan(planOf([modelView()]), []).get('llama')!;
  const held = (replicas: readonly (number | null)[]) =>
    heldPart({
      name: 'llama',
      reason: 'no_traces',
      last,
      deployments: new Map([
        ['default/llama-a100', { gpuType: 'A100', replicas: replicas[0]!, usdPerReplicaHour: 3.67 }],
        ['default/llama-l4', { gpuType: 'L4', replicas: replicas[1]!, usdPerReplicaHour: null }],
      ]),
    });

  it('heads for what it keeps, at the price of that', () => {
    // Planned 2 × 3.67 + 4 × 0.7; it keeps 3 and 2.
    const part = held([3, 2]);
    expect(part.deployments.map(({ targetReplicas }) => targetReplicas)).toEqual([3, 2]);
    expect(part.model).toMatchObject({ status: 'held', heldReason: 'no_traces', switchingUsdPerHour: 0 });
    expect(part.model.usdPerHour).toBeCloseTo(3 * 3.67 + 2 * 0.7, 9);
    expect(part.deployments.map(({ utilization }) => utilization)).toEqual([0.5 * (2 / 3), 0.5 * 2]);
  });

  it('has the targets of its last plan where nobody knows what it keeps', () => {
    expect(held([null, null]).deployments).toEqual(last.deployments);
  });

  it('leaves nothing unserved that counts: its demand is that of another time', () => {
    const plan = scarcePlan(true);
    const [a, b] = [...splitPlan(plan, problems).values()];
    const gone = heldPart({ name: 'a', reason: 'no_traces', last: a!, deployments: new Map() });
    const joined = joinPlan([gone, b!], frame);
    expect(joined.scarcity).toMatchObject([{ priority: 7, unservedRps: 0.5 }]);
    expect(joined.penaltyUsdPerHour).toBeCloseTo(3600 * 2 * 0.5, 9);
    expect(joined.status).toBe('held');
  });
});

import { describe, expect, it } from 'vitest';
import { renderPlan } from '../../src/cli/plan-table.js';
import type { Plan, PlannedDeployment } from '../../src/core/plan.js';
import { type PlanningProblemInput, planningProblemSchema } from '../../src/core/planning-problem.js';

const profile = { indexes: [[128], [512]], tputs: [[4]] } satisfies {
  indexes: [number[], number[]];
  tputs: number[][];
};

function problem(
  over: Partial<PlanningProblemInput['models'][number]> = {},
  document: Partial<PlanningProblemInput> = {},
) {
  return planningProblemSchema.parse({
    apiVersion: 'gpumix/v1',
    kind: 'PlanningProblem',
    models: [
      {
        name: 'chat',
        demand: [
          { inputTokens: 512, outputTokens: 128, rps: 9 },
          { inputTokens: 600, outputTokens: 128, rps: 0.25 },
        ],
        deployments: [
          { id: 'default/chat-a100', gpuType: 'A100-80GB', usdPerReplicaHour: 3.4, currentReplicas: 2, profile },
          { id: 'default/chat-l4', gpuType: 'L4', usdPerReplicaHour: 0.8, profile },
          { id: 'default/chat-h100', gpuType: 'H100-80GB', usdPerReplicaHour: 9.8, profile },
        ],
        ...over,
      },
    ],
    ...document,
  });
}

function deployment(over: Partial<PlannedDeployment> = {}): PlannedDeployment {
  return {
    id: 'default/chat-a100',
    model: 'chat',
    gpuType: 'A100-80GB',
    replicas: 1,
    targetReplicas: 1,
    utilization: 1,
    usdPerHour: 3.4,
    reason: 'Serves the long prompts.',
    ...over,
  };
}

function plan(over: Partial<Plan> = {}): Plan {
  return {
    apiVersion: 'gpumix/v1',
    kind: 'Plan',
    status: 'optimal',
    routing: 'free',
    usdPerHour: 5.8,
    publishedUsdPerHour: 5.8,
    objectiveUsdPerHour: 5.8,
    boundUsdPerHour: 5.8,
    gap: 0,
    penaltyUsdPerHour: 0,
    switchingUsdPerHour: 0,
    deployments: [
      deployment(),
      deployment({
        id: 'default/chat-l4',
        gpuType: 'L4',
        replicas: 3,
        targetReplicas: 3,
        utilization: 0.77,
        usdPerHour: 2.4,
        reason: 'Cheapest for what the others leave over.',
      }),
      deployment({
        id: 'default/chat-h100',
        gpuType: 'H100-80GB',
        replicas: 0,
        targetReplicas: 0,
        utilization: 0,
        usdPerHour: 0,
        reason: 'Not needed.',
      }),
    ],
    shares: [],
    unserved: [],
    scarcity: [],
    shortfalls: [],
    warnings: [],
    models: [
      {
        name: 'chat',
        status: 'optimal',
        heldReason: null,
        planAt: null,
        usdPerHour: 5.8,
        switchingUsdPerHour: 0,
        boundUsdPerHour: 5.8,
        gap: 0,
      },
    ],
    solver: { name: 'builtin', nodes: 3, milliseconds: 1.24 },
    ...over,
  };
}

const view = { title: 'hello.json', color: false, width: 80 };

describe('the table of a plan', () => {
  it('shows replicas, GPU types, money, load, reasons, the proof and the routing', () => {
    expect(renderPlan(plan(), problem(), view)).toBe(`\
hello.json: 1 model, 9.25 requests/s in 2 buckets

  GPU        DEPLOYMENT         REPLICAS  USD/h  LOAD
chat                                       5.80  proven optimal
  A100-80GB  default/chat-a100     2 → 1   3.40  ██████████ 100 %
    Serves the long prompts.
  L4         default/chat-l4           3   2.40  ████████░░  77 %
    Cheapest for what the others leave over.
  H100-80GB  default/chat-h100         0   0.00
    Not needed.

total    5.80 USD/h, proven optimal
routing  free: each bucket has shares of its own (--json lists them), which the
         router must follow
solver   builtin, 3 nodes, 1.2 ms
`);
  });

  it('says how far from the optimum an unfinished proof may be', () => {
    const open = { status: 'feasible', boundUsdPerHour: 5.6, gap: 0.2 / 5.8 } as const;
    const text = renderPlan(plan({ ...open, models: [{ ...plan().models[0]!, ...open }] }), problem(), view);
    expect(text).toContain('total    5.80 USD/h, optimum at most 3.4 % lower (bound 5.60)');
  });

  it('sums unserved demand by model and reason, in words', () => {
    const text = renderPlan(
      plan({
        unserved: [
          { model: 'chat', inputTokens: 512, outputTokens: 128, rps: 2, reason: 'max_replicas' },
          { model: 'chat', inputTokens: 600, outputTokens: 128, rps: 0.25, reason: 'max_replicas' },
          { model: 'chat', inputTokens: 9000, outputTokens: 128, rps: 1, reason: 'slo' },
        ],
      }),
      problem(),
      view,
    );
    expect(text).toContain(`
unserved
  - chat: 2.25 requests/s in 2 buckets: every deployment that could serve it is
    at its maxReplicas
  - chat: 1 requests/s in 1 bucket: no deployment meets the SLO for it
`);
  });

  it('puts unserved demand under its priority, with how sure it is that no less could be', () => {
    const models = [
      { ...problem().models[0]!, priority: 10 },
      { ...problem().models[0]!, name: 'batch', priority: -1, deployments: [] },
    ];
    const text = renderPlan(
      plan({
        unserved: [
          { model: 'batch', inputTokens: 512, outputTokens: 128, rps: 3, reason: 'budget' },
          { model: 'chat', inputTokens: 512, outputTokens: 128, rps: 2, reason: 'capacity' },
          { model: 'chat', inputTokens: 512, outputTokens: 128, rps: 0.5, reason: 'quota' },
        ],
        scarcity: [
          { priority: 10, unservedRps: 2.5, penaltyUsdPerHour: 9e6, boundUsdPerHour: 9e6, proven: true },
          { priority: -1, unservedRps: 3, penaltyUsdPerHour: 10_800, boundUsdPerHour: 9000, proven: false },
        ],
      }),
      problem({}, { models }),
      { ...view, width: 100 },
    );
    expect(text).toContain(`
unserved
  priority 10: 2.5 requests/s, penalty 9,000,000 USD/h, proven the least
    - chat: 2 requests/s in 1 bucket: the GPUs that exist are used up
    - chat: 0.5 requests/s in 1 bucket: a quota is used up
  priority -1: 3 requests/s, penalty 10,800 USD/h, not proven the least (bound 9,000)
    - batch: 3 requests/s in 1 bucket: the budget is used up
`);
  });

  it('says how much of pools, quotas and the budget is used, and which are full', () => {
    const limits = {
      pools: [
        { gpuType: 'A100-80GB', gpus: 1 },
        { gpuType: 'L4', gpus: null },
        { gpuType: 'H100-80GB', gpus: 2 },
      ],
      quotas: [{ namespace: 'default', gpuType: 'L4', gpus: 4 }],
      budgetUsdPerHour: 6,
    };
    expect(renderPlan(plan(), problem({}, limits), view)).toContain(`
limits   A100-80GB      1 of 1 GPUs, full
         H100-80GB      0 of 2 GPUs
         default on L4  3 of 4 GPUs
         budget         5.80 of 6.00 USD/h
solver`);
  });

  it('says that a pool is fuller for as long as old and new replicas run beside each other', () => {
    const moving = plan({ deployments: [deployment({ replicas: 2, targetReplicas: 1 })] });
    const text = renderPlan(moving, problem({}, { pools: [{ gpuType: 'A100-80GB', gpus: 4 }] }), view);
    expect(text).toContain('limits   A100-80GB  1 of 4 GPUs, 2 until the change is made\n');
  });

  it('lists the limits that are used up first where there are too many to list', () => {
    const pools = Array.from({ length: 20 }, (_, i) => ({ gpuType: i === 19 ? 'L4' : `T${i}`, gpus: 3 }));
    const text = renderPlan(plan(), problem({}, { pools }), view);
    expect(text).toContain('limits   L4   3 of 3 GPUs, full\n');
    expect(text).toContain('         … and 8 more\n');
  });

  it('says what is paid now and what moving costs, where either differs', () => {
    const text = renderPlan(
      plan({ publishedUsdPerHour: 7.2, switchingUsdPerHour: 0.5 }),
      problem({}, { options: { horizonHours: 4 } }),
      view,
    );
    expect(text).toContain(`
now      7.20 USD/h for the replicas to publish now
moving   0.50 USD/h on top: starts and stops, spread over 4 hours
routing  free`);
    expect(renderPlan(plan(), problem(), view)).not.toMatch(/^(now|moving|limits) /m);
  });

  it('says which routing the money assumes', () => {
    expect(renderPlan(plan(), problem(), view)).toContain('which the\n         router must follow');
    expect(renderPlan(plan({ routing: 'proportional' }), problem(), view)).toContain(
      'routing  proportional: all buckets share alike, as a weighted Service does',
    );
  });

  it('calls a small gap by its size', () => {
    const open = { status: 'feasible', boundUsdPerHour: 5.7991, gap: 0.000_155 } as const;
    expect(renderPlan(plan(open), problem(), view)).toContain('optimum at most 0.02 % lower (bound 5.80)');
  });

  it('lists warnings and shortfalls with their codes, and counts what it leaves out', () => {
    const warnings = Array.from({ length: 15 }, (_, i) => ({ code: 'best_effort', message: `Bucket ${i}.` }));
    const text = renderPlan(
      plan({ warnings, shortfalls: [{ code: 'floor', message: 'One short.' }] }),
      problem(),
      view,
    );
    expect(text).toContain('\nshortfalls\n  - One short. (floor)\n');
    expect(text).toContain('  - Bucket 11. (best_effort)\n  … and 3 more (--json has them all)\n');
    expect(text).not.toContain('Bucket 12.');
  });

  it('writes `not known` instead of a number that nobody knows', () => {
    const unknown = deployment({ replicas: null, targetReplicas: null, utilization: 0, usdPerHour: 0 });
    expect(renderPlan(plan({ deployments: [unknown] }), problem(), view)).toContain('default/chat-a100  not known');
  });

  it('says what to publish while a change is made in steps', () => {
    const text = renderPlan(plan({ deployments: [deployment({ replicas: 2 })] }), problem(), view);
    expect(text).toContain('2 → 1, publish 2');
  });

  it('stays within the width, whatever the names are', () => {
    const long = `${'n'.repeat(90)}/${'d'.repeat(300)}`;
    for (const width of [20, 60, 80, 100, 400]) {
      const text = renderPlan(
        plan({
          deployments: [deployment({ id: long, gpuType: 'g'.repeat(200), reason: 'r'.repeat(500) })],
          models: [{ ...plan().models[0]!, name: 'm'.repeat(500), status: 'feasible', gap: 0.5 }],
        }),
        problem(),
        { ...view, width },
      );
      const [, ...table] = text.split('\n');
      expect(Math.max(...table.map((line) => line.length))).toBeLessThanOrEqual(Math.max(60, Math.min(100, width)));
    }
  });

  it('keeps control characters of hostile names away from the terminal', () => {
    const text = renderPlan(
      plan({
        deployments: [deployment({ id: 'a/\u001b[2Jb\nc', reason: '\u009b31m' })],
        models: [{ ...plan().models[0]!, name: 'chat' }],
      }),
      problem(),
      view,
    );
    expect(text).toContain('a/�[2Jb�c');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: none of them may be there
    expect(text.replaceAll('\n', '')).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
  });

  it('colours only where it was asked to, and changes nothing else', () => {
    const coloured = renderPlan(plan(), problem(), { ...view, color: true });
    expect(coloured).toContain('\u001b[32mproven optimal\u001b[39m');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the colours
    const stripped = coloured.replace(/\u001b\[\d+m/g, '');
    const trimmed = stripped.split('\n').map((line) => line.trimEnd());
    expect(trimmed.join('\n')).toBe(renderPlan(plan(), problem(), view));
  });
});

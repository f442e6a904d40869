import { describe, expect, it } from 'vitest';
import { renderComparison } from '../../src/cli/comparison-table.js';
import { type ProblemEdit, parseSetEdit } from '../../src/core/edit-syntax.js';
import { comparePlans } from '../../src/core/plan-comparison.js';
import type { PlanningProblem } from '../../src/core/planning-problem.js';
import { applyEdits } from '../../src/core/problem-edits.js';
import { plan } from '../../src/optimizer/plan.js';
import { deployment, model, problem, short } from '../optimizer/builders.js';

const view = { title: 'p.json', color: false, width: 80 };

const given = problem({
  models: [
    model({
      name: 'chat',
      demand: [short(15)],
      deployments: [
        deployment({ id: 'prod/chat-a', maxReplicas: 1 }),
        deployment({ id: 'prod/chat-b', gpuType: 'B', usdPerReplicaHour: 5, maxReplicas: 3 }),
      ],
    }),
    model({ name: 'search', deployments: [deployment({ id: 'prod/search-a' })] }),
  ],
});

function rendered(texts: readonly string[], more: readonly ProblemEdit[] = [], over: PlanningProblem = given) {
  const edits = [...texts.map(parseSetEdit), ...more];
  const edited = applyEdits(over, edits, 'p.json');
  const run = { shouldStop: () => false };
  const comparison = comparePlans({ base: plan(over, run), edited: plan(edited, run), edits });
  return (options: Partial<typeof view> = {}): string =>
    renderComparison(comparison, { base: over, edited }, { ...view, ...options });
}

describe('two plans side by side', () => {
  it('shows replicas and money of both, the change, the difference, the proofs and the routing', () => {
    expect(rendered(['deployments.prod/chat-a.maxReplicas=2', 'models.search.rps*=3'])()).toBe(`\
what if  deployments.prod/chat-a.maxReplicas=2, models.search.rps*=3
in       p.json

                             AS GIVEN          WHAT IF  CHANGE
  GPU  DEPLOYMENT     REPLICAS  USD/h  REPLICAS  USD/h   USD/h
chat                             6.00             2.00   −4.00
  A    prod/chat-a           1   1.00         2   2.00   +1.00
  B    prod/chat-b           1   5.00         0   0.00   −5.00
search                           1.00             2.00   +1.00
  A    prod/search-a         1   1.00         2   2.00   +1.00

total USD/h                      7.00             4.00   −3.00
demand, requests/s                 20               30     +10
USD per 1,000 served            0.097            0.037  −0.060

difference  −3.00 USD/h, −2,190 USD a month (730 h)
as given    proven optimal
what if     proven optimal
routing     free: each bucket has shares of its own (--json lists them), which
            the router must follow
`);
  });

  it('says what either leaves unserved, and marks what is not there any more', () => {
    const text = rendered([], [{ kind: 'without', gpuType: 'B' }])();
    expect(text).toContain('what if  without B\n');
    expect(text).toMatch(/ B {4}prod\/chat-b +1 +5\.00 +– +−5\.00\n/);
    expect(text).toMatch(/\nunserved, requests\/s +0 +5 +\+5\n/);
    expect(text).not.toContain('unserved as given');
    expect(text).toContain('\nunserved what if\n');
    expect(text).toContain('chat: 5 requests/s in 1 bucket: every deployment that could serve it is at');
  });

  it('names the routing of each where they differ', () => {
    const open = problem({ deployments: [deployment()] });
    const edits = [parseSetEdit('options.routing=proportional')];
    const edited = applyEdits(open, edits, 'p.json');
    const base = plan(open, { shouldStop: () => false });
    // The table shows what the plans say of themselves.
    const comparison = comparePlans({ base, edited: { ...base, routing: 'proportional' }, edits });
    const text = renderComparison(comparison, { base: open, edited }, view);
    expect(text).toContain('routing     as given free: each bucket has shares of its own');
    expect(text).toContain('            what if proportional: all buckets share alike');
  });

  it('shows the limits of both', () => {
    const base = plan(given, { shouldStop: () => false });
    const edits = [parseSetEdit('pools.A=2'), parseSetEdit('budgetUsdPerHour=9')];
    const pooled = { ...given, pools: [{ gpuType: 'B', gpus: 3 }] };
    const edited = applyEdits(pooled, edits, 'p.json');
    const text = renderComparison(comparePlans({ base, edited: base, edits }), { base: pooled, edited }, view);
    expect(text).toContain('limits      B: 1 of 3 GPUs in both\n');
    expect(text).toContain('            A: as given no limit; what if 2 of 2 GPUs, full\n');
    expect(text).toContain('            budget: as given no limit; what if 7.00 of 9.00 USD/h\n');
  });

  it('lists only what changes where there are many deployments', () => {
    const models = Array.from({ length: 60 }, (_, i) =>
      model({ name: `m${i}`, deployments: [deployment({ id: `d/m${i}` })] }),
    );
    const text = rendered(['models.m7.rps*=5'], [], problem({ models }))();
    expect(text).toContain('d/m7 ');
    expect(text).not.toContain('d/m8 ');
    expect(text).toContain('… and 59 deployments that are the same in both\n');
  });

  it('counts a deployment that ran nothing and is not there any more as the same', () => {
    const dear = deployment({ id: 'd/dear', gpuType: 'X', usdPerReplicaHour: 9 });
    const models = Array.from({ length: 60 }, (_, i) =>
      model({ name: `m${i}`, deployments: [deployment({ id: `d/m${i}` }), ...(i === 0 ? [dear] : [])] }),
    );
    const text = rendered([], [{ kind: 'without', gpuType: 'X' }], problem({ models }))();
    expect(text).toContain('… and 61 deployments that are the same in both\n');
  });

  it('stays within the width, whatever the names are, and keeps the numbers', () => {
    const long = problem({
      models: [
        model({
          name: `m${'\u001b[2J'.repeat(80)}`,
          deployments: [deployment({ id: `${'n'.repeat(90)}/${'d'.repeat(300)}`, gpuType: 'g'.repeat(200) })],
        }),
      ],
    });
    const draw = rendered(['models.*.rps*=123456'], [], long);
    for (const width of [20, 60, 80, 100, 400]) {
      const text = draw({ width, title: 't'.repeat(500) });
      const lines = text.split('\n');
      expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(Math.max(60, Math.min(100, width)));
      expect(text).toMatch(/1000\.00 +\+999\.00/);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: none of them may be there
      expect(text.replaceAll('\n', '')).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
    }
  });

  it('colours only where it was asked to, and changes nothing else', () => {
    const draw = rendered(['models.chat.rps*=9']);
    const coloured = draw({ color: true });
    expect(coloured).toContain('\u001b[1m');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the colours
    const stripped = coloured.replace(/\u001b\[\d+m/g, '');
    expect(
      stripped
        .split('\n')
        .map((line) => line.trimEnd())
        .join('\n'),
    ).toBe(draw());
  });
});

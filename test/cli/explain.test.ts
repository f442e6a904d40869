import { readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { type ExplainFlags, explainCommand, runExplain } from '../../src/cli/explain.js';
import { explanationSchema } from '../../src/core/explanation.js';
import type { PlanningProblemInput } from '../../src/core/planning-problem.js';
import { deployment, long, model, short, shortAndLong } from '../optimizer/builders.js';

const mixed = model({
  name: 'chat',
  demand: [short(8), long(1)],
  deployments: [
    deployment({ id: 'default/chat-l4', gpuType: 'L4', usdPerReplicaHour: 0.8, profile: shortAndLong(2, 0.3) }),
    deployment({ id: 'default/chat-a100', gpuType: 'A100', usdPerReplicaHour: 3.4, profile: shortAndLong(9, 1.6) }),
    deployment({ id: 'default/chat-h100', gpuType: 'H100', usdPerReplicaHour: 9, profile: shortAndLong(16, 4) }),
  ],
});

function text(models: readonly PlanningProblemInput['models'][number][]): string {
  return JSON.stringify({ apiVersion: 'gpumix/v1', kind: 'PlanningProblem', models });
}

async function run(
  input: string,
  flags: Partial<ExplainFlags> = {},
  around: { readonly width?: number; readonly color?: boolean } = {},
): Promise<{ readonly code: number; readonly text: string }> {
  let written = '';
  const code = await runExplain(
    '-',
    { json: false, timeLimit: 30, maxPlans: 200, maxMib: 64, ...flags },
    {
      stdin: Readable.from([input]),
      write: (piece) => {
        written += piece;
      },
      color: around.color ?? false,
      width: around.width ?? 100,
    },
  );
  return { code, text: written };
}

describe('gpumix explain', () => {
  it('prints a page: what the plan costs, what comes next, what would change it, who pays for what', async () => {
    const { code, text: page } = await run(text([mixed]));
    expect(code).toBe(0);
    expect(page).toBe(`standard input: 1 model, 9 requests/s in 2 buckets

The plan costs 5.80 USD/h: no plan that serves this demand is cheaper (proven).
Routing is assumed to be free: each bucket has shares of its own, which the router must follow.

chat  5.80 USD/h, 0.18 USD per 1,000 requests
  runs       3 × L4 and 1 × A100
  next best  8 × L4: 0.60 USD/h more
  10 % less  demand would save 0.80 USD/h
  10 % more  demand would change nothing
  not used   H100 (default/chat-h100): it would enter below 5.80 USD/h per replica (now 9.00, 36 %
             less)

  INPUT  OUTPUT  REQUESTS/S  COST  USD/1,000  SERVED BY
    256      64           8  60 %       0.12  L4 68 %, A100 32 %
  2,048      64           1  40 %       0.65  A100 100 %
`);
  });

  it('prints the whole Explanation with --json and nothing else', async () => {
    const { text: json } = await run(text([mixed]), { json: true });
    const document = explanationSchema.parse(JSON.parse(json));
    expect(document).toMatchObject({ kind: 'Explanation', routing: 'free', notComputed: [] });
    expect(document.solver.milliseconds).toBeGreaterThan(0);
  });

  it('stays within the width of the terminal, and uses colours only where they show', async () => {
    const input = readFileSync('samples/problems/scarcity.json', 'utf8');
    for (const width of [60, 72, 100, 200]) {
      const { text: page } = await run(input, {}, { width });
      expect(page.split('\n').filter((line) => line.length > Math.min(width, 100))).toEqual([]);
      expect(page).not.toContain('\u001b');
    }
    expect((await run(input, {}, { color: true })).text).toContain('\u001b[1m');
  });

  it('explains one model alone, and names the nearest for one that is misspelt', async () => {
    const other = model({ name: 'other', deployments: [deployment({ id: 'default/other' })] });
    const { text: page } = await run(text([mixed, other]), { model: 'other' });
    expect(page).toContain('other  1.00 USD/h');
    expect(page).not.toContain('chat-h100');
    await expect(run(text([mixed, other]), { model: 'othr' })).rejects.toThrow(
      'flag --model: found "othr", expected a model of the problem; did you mean "other"?',
    );
  });

  it('says what it did not compute', async () => {
    const { text: page } = await run(text([mixed]), { maxPlans: 1 });
    expect(page).toContain('not computed\n  - What less and more demand would change (chat): ');
    expect((await run(text([mixed]), { timeLimit: 1e-9 })).text).toContain('the time of one explanation was used up');
  });

  it('lists twelve of many models and of many buckets, and says how many more there are', async () => {
    const models = Array.from({ length: 14 }, (_, m) =>
      model({
        name: `m${m}`,
        demand: Array.from({ length: 20 }, (_, b) => ({ inputTokens: 100 + b, outputTokens: 64, rps: 1 })),
        deployments: [deployment({ id: `default/m${m}` })],
      }),
    );
    const { text: page } = await run(text(models), { maxPlans: 1 });
    expect(page).toContain('… and 2 cheaper models (--model NAME explains one, --json has them all)');
    expect(page).toContain('… and 8 cheaper buckets (--json has them all)');
  });

  it('ends with 1 where a promise in the problem cannot be kept', async () => {
    const { code, text: page } = await run(
      text([model({ minServedShare: 1, demand: [short(15)], deployments: [deployment({ maxReplicas: 1 })] })]),
    );
    expect(code).toBe(1);
    expect(page).toContain('It leaves 5 of 15 requests/s unserved.');
  });

  it('refuses what is no PlanningProblem, and says where it came from', async () => {
    await expect(run('{"kind": "Plan"}')).rejects.toThrow('standard input: ');
  });

  it.each([
    ['--time-limit', '0', 'expected a number > 0.'],
    ['--max-plans', '1.5', 'expected a whole number >= 1.'],
    ['--max-mib', 'much', 'expected a number > 0, at most 500.'],
  ])('refuses %s %s', async (flag, value, expected) => {
    const command = explainCommand()
      .exitOverride()
      .configureOutput({ writeErr: () => undefined });
    await expect(command.parseAsync(['-', flag, value], { from: 'user' })).rejects.toThrow(expected);
  });
});

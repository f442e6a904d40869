import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { solverNames } from '../../src/adapters/solvers/engines.js';
import { highsRuntime } from '../../src/adapters/solvers/highs.js';
import { runExplain } from '../../src/cli/explain.js';
import { type PlanFlags, runPlan } from '../../src/cli/plan.js';
import { parseSetEdit } from '../../src/core/edit-syntax.js';
import { gpuByName, parseGpuCatalogue } from '../../src/core/gpu-types.js';
import { limitUses } from '../../src/core/limit-use.js';
import { type Plan, planSchema } from '../../src/core/plan.js';
import { type PlanningProblem, parsePlanningProblem } from '../../src/core/planning-problem.js';
import { applyEdits } from '../../src/core/problem-edits.js';
import { plan } from '../../src/optimizer/plan.js';
import { jointOptimumByHighs } from '../optimizer/joint-reference.js';

const folder = 'samples/problems';

async function planOf(file: string, flags: Partial<PlanFlags> = {}): Promise<Plan> {
  let text = '';
  const code = await runPlan(
    join(folder, file),
    { json: true, solver: 'builtin', from: 'gpumix', maxMib: 64, ...flags },
    {
      stdin: Readable.from([]),
      write: (piece) => {
        text += piece;
      },
      writeError: () => undefined,
      color: false,
      width: 100,
    },
  );
  expect(code).toBe(0);
  return JSON.parse(text) as Plan;
}

/** Problems whose plan and explanation lie beside them. */
const documented = ['scarce-h100s', 'budget', 'tenants', 'moving', 'stock-out'] as const;

function problemOf(name: string): PlanningProblem {
  return parsePlanningProblem(readFileSync(join(folder, `${name}.json`), 'utf8'), name);
}

/** The plan of a problem after edits as the command line takes them. */
function whatIf(name: string, ...edits: readonly string[]): Plan {
  return plan(applyEdits(problemOf(name), edits.map(parseSetEdit), name));
}

function targetsOf(answer: Plan): Record<string, number | null> {
  return Object.fromEntries(answer.deployments.map(({ id, targetReplicas }) => [id.split('/')[1]!, targetReplicas]));
}

/** What is left unserved, in thousandths of a request/s by model and reason. */
function unservedOf(answer: Plan): Record<string, number> {
  const sums = new Map<string, number>();
  for (const { model, reason, rps } of answer.unserved) {
    const key = `${model} ${reason}`;
    sums.set(key, (sums.get(key) ?? 0) + rps);
  }
  // Reasons are attributed by solving again, so that one may be left with what rounding leaves.
  const rounded = [...sums].map(([key, rps]) => [key, Number(rps.toFixed(3))] as const);
  return Object.fromEntries(rounded.filter(([, rps]) => rps > 0));
}

function replicasOf(plan: Plan): Record<string, number | null> {
  return Object.fromEntries(plan.deployments.map((deployment) => [deployment.id, deployment.replicas]));
}

describe('the sample problems', () => {
  it('are all run here', () => {
    const files = documented.flatMap((name) => [`${name}.json`, `${name}.plan.json`, `${name}.explanation.txt`]);
    const others = ['README.md', 'hello-world.json', 'melange.json', 'regenerate.mjs', 'scarcity.json'];
    expect(readdirSync(folder).sort()).toEqual([...files, ...others].sort());
  });

  it.each(solverNames)('hello-world: one large GPU and three small ones are cheapest, says %s', async (solver) => {
    const plan = await planOf('hello-world.json', { solver });
    expect(replicasOf(plan)).toEqual({ 'default/chat-l4': 3, 'default/chat-a100': 1 });
    expect(plan.usdPerHour).toBeCloseTo(3 * 0.8 + 3.4, 9);
    expect(plan.status).toBe('optimal');
    // By hand: eight L4 alone are 6.40, two A100 alone 6.80, and one A100 with two L4 too few: with all of the long
    // prompts (0.625) the A100 has room for 0.375 × 9 = 3.375 of the 8 short requests/s; 4.625 / 2 = 2.31 L4.
    expect(plan.usdPerHour).toBeLessThan(Math.min(8 * 0.8, 2 * 3.4));
  });

  it('scarcity: what does not fit is counted with its reason, and what meets no SLO is still served', async () => {
    const plan = await planOf('scarcity.json');
    expect(replicasOf(plan)).toEqual({
      'shop/search-l4': 3,
      'docs/reader-a100': 2,
      'docs/reader-mi300x': 1,
      'docs/batch-l4': 1,
    });
    // Three replicas of 4 requests/s against 20.
    expect(plan.unserved).toEqual([
      { model: 'search', inputTokens: 512, outputTokens: 64, rps: expect.closeTo(8, 6), reason: 'max_replicas' },
    ]);
    expect(plan.shares.find((bucket) => bucket.inputTokens === 16_000)).toMatchObject({
      bestEffort: true,
      unservedShare: 0,
    });
    expect(plan.warnings.map((warning) => warning.code).sort()).toEqual(['best_effort', 'no_profile']);
  });

  it.each(solverNames)('melange: each cell of the configuration is a bucket, says %s', async (solver) => {
    const plan = await planOf('melange.json', { from: 'melange', solver });
    expect(plan.status).toBe('optimal');
    const config = JSON.parse(readFileSync(join(folder, 'melange.json'), 'utf8')) as MelangeConfig;
    const replicas = Object.keys(config.gpu_info).map(
      (gpu) => plan.deployments.find((deployment) => deployment.gpuType === gpu)!.replicas!,
    );
    expect(plan.usdPerHour).toBeCloseTo(cheapestOf(config), 9);
    expect(costOf(config, replicas)).toBeCloseTo(plan.usdPerHour, 9);
  });
});

describe.each(documented)('the documented problem %s', (name) => {
  it('has the plan beside it', () => {
    const { solver: _, ...answer } = plan(problemOf(name));
    const { solver: __, ...golden } = planSchema.parse(
      JSON.parse(readFileSync(join(folder, `${name}.plan.json`), 'utf8')),
    );
    expect(answer.status).toBe('optimal');
    expectAlike(answer, golden, 'plan');
  });

  it('costs as much by HiGHS on the whole program, with as much left unserved', async () => {
    const optimum = jointOptimumByHighs(await highsRuntime(), problemOf(name));
    const answer = plan(problemOf(name));
    expect(answer.objectiveUsdPerHour).toBeCloseTo(optimum.objectiveUsdPerHour, 6);
    // Weights are those of the problem, 1,000 USD a request: USD/s of penalty.
    const penalty = optimum.unserved.reduce((sum, { weightedRps }) => sum + weightedRps, 0);
    expect(answer.penaltyUsdPerHour / 3600).toBeCloseTo(penalty, 3);
  });

  it('has the explanation beside it', async () => {
    let text = '';
    const flags = { json: false, timeLimit: 600, maxPlans: 200, maxMib: 64 };
    const code = await runExplain(`${folder}/${name}.json`, flags, {
      stdin: Readable.from([]),
      write: (piece) => {
        text += piece;
      },
      color: false,
      width: 100,
    });
    expect(code).toBe(0);
    expect(text).toBe(readFileSync(join(folder, `${name}.explanation.txt`), 'utf8'));
  });

  it('has the prices of the catalogue', () => {
    const catalogue = parseGpuCatalogue(JSON.parse(readFileSync('profiles/gpus.json', 'utf8')), 'profiles/gpus.json');
    for (const { gpuType, gpusPerReplica, usdPerReplicaHour } of problemOf(name).models.flatMap((m) => m.deployments)) {
      const { usdPerGpuHour } = gpuByName(catalogue, gpuType)!;
      expect(usdPerReplicaHour).toBeCloseTo(usdPerGpuHour! * gpusPerReplica, 9);
    }
  });
});

/** Equal but for rounding: relative 1e-6, so that another version of Node may round otherwise. */
function expectAlike(found: unknown, expected: unknown, place: string): void {
  if (typeof found === 'number' && typeof expected === 'number') {
    const room = 1e-6 * Math.max(1, Math.abs(expected));
    expect(Math.abs(found - expected), `${place}: ${found} for ${expected}`).toBeLessThanOrEqual(room);
  } else if (typeof found === 'object' && found !== null && typeof expected === 'object' && expected !== null) {
    expect(Object.keys(found).sort(), place).toEqual(Object.keys(expected).sort());
    for (const [key, value] of Object.entries(found)) {
      expectAlike(value, (expected as Record<string, unknown>)[key], `${place}.${key}`);
    }
  } else {
    expect(found, place).toBe(expected);
  }
}

describe('what the page about the problems says', () => {
  it('of scarce-h100s: six H100s in pairs where a pair saves most, and value that comes in lumps', () => {
    const usd = (...edits: readonly string[]): number => whatIf('scarce-h100s', ...edits).usdPerHour;
    expect(targetsOf(whatIf('scarce-h100s'))).toMatchObject({
      'chat-8b-h100': 0,
      'code-32b-a100-x2': 4,
      'code-32b-h100-x2': 3,
      'assistant-70b-h100-x4': 0,
    });
    expect(targetsOf(whatIf('scarce-h100s', 'pools.H100=null'))).toMatchObject({
      'chat-8b-h100': 3,
      'code-32b-a100-x2': 1,
      'code-32b-h100-x2': 4,
    });
    expect(usd('pools.H100=null')).toBeCloseTo(140.66, 2);
    expect(usd()).toBeCloseTo(149.63, 2);
    expect(usd() - usd('pools.H100=7')).toBeCloseTo(0.79, 2);
    expect(usd() - usd('pools.H100=8')).toBeCloseTo(6.83, 2);
    expect(unservedOf(whatIf('scarce-h100s', 'pools.H100=3'))).toEqual({ 'code-32b capacity': 0.358 });
  });

  it('of budget: a promised share comes before priorities, and they before money', () => {
    expect(whatIf('budget', 'budgetUsdPerHour=null').usdPerHour).toBeCloseTo(53.07, 2);
    const answer = whatIf('budget');
    expect(answer.usdPerHour).toBeLessThanOrEqual(30);
    expect(unservedOf(answer)).toEqual({ 'support-14b budget': 0.386, 'reports-32b budget': 2.91 });
    expect(answer.scarcity.map(({ priority, proven }) => [priority, proven])).toEqual([
      [0, true],
      [-10, true],
    ]);
    expect(unservedOf(whatIf('budget', 'budgetUsdPerHour=32'))).toEqual({ 'reports-32b budget': 2.91 });
    const unpromised = whatIf('budget', 'models.reports-32b.minServedShare=0');
    expect(unpromised.usdPerHour).toBeCloseTo(23.87, 2);
    expect(unservedOf(unpromised)).toEqual({ 'reports-32b budget': 4 });
  });

  it('of tenants: two GPUs stand idle where a quota binds, not the pool', () => {
    const answer = whatIf('tenants');
    expect(targetsOf(answer)).toMatchObject({
      'search-14b-a100': 4,
      'search-14b-l40s-x2': 4,
      'research-32b-a100-x2': 4,
      'tagging-8b-a100': 2,
    });
    expect(unservedOf(answer)).toEqual({ 'research-32b quota': 0.874, 'research-32b capacity': 1.126 });
    expect(limitUses(problemOf('tenants'), answer)[0]).toMatchObject({ limit: 16, used: 14 });
    const granted = whatIf('tenants', 'quotas.team-research.A100-80GB=10');
    expect(targetsOf(granted)['research-32b-a100-x2']).toBe(5);
    expect(unservedOf(granted)).toEqual({ 'research-32b capacity': 1.126 });
    expect(granted.usdPerHour - answer.usdPerHour).toBeCloseTo(6.86, 2);
  });

  it('of moving: as much of the move as pays within the horizon, and the new replicas before the old ones go', () => {
    const answer = whatIf('moving');
    expect(targetsOf(answer)).toEqual({
      'chat-14b-a100': 2,
      'chat-14b-l40s': 3,
      'tagging-8b-l4': 5,
      'tagging-8b-l40s': 0,
    });
    const free = whatIf('moving', 'options.startUsdPerReplica=0', 'options.stopUsdPerReplica=0');
    expect(free.usdPerHour).toBeCloseTo(14.64, 2);
    expect(whatIf('moving', 'options.horizonHours=8').usdPerHour).toBeCloseTo(14.64, 2);
    expect(whatIf('moving', 'options.horizonHours=0.25').usdPerHour).toBeCloseTo(21.18, 2);
    const published = (over: Plan) => over.deployments.slice(0, 2).map(({ replicas }) => replicas);
    expect(published(answer)).toEqual([5, 3]);
    const chat = 'deployments.prod/chat-14b-l40s';
    const [old, fresh] = published(whatIf('moving', `${chat}.currentReplicas=3`, `${chat}.readyReplicas=2`));
    expect(fresh).toBe(3);
    expect(old).toBeLessThan(5);
    expect(old).toBeGreaterThan(2);
    expect(published(whatIf('moving', `${chat}.currentReplicas=3`, `${chat}.readyReplicas=3`))).toEqual([2, 3]);
  });

  it('of stock-out: the model that is not short gives up its GPU where that is cheaper for both', () => {
    const answer = whatIf('stock-out');
    expect(targetsOf(answer)).toEqual({
      'chat-14b-l40s': 4,
      'chat-14b-a100': 0,
      'chat-14b-h100': 1,
      'tagging-8b-l40s': 0,
      'tagging-8b-l4': 3,
    });
    expect(answer.usdPerHour).toBeCloseTo(16.74, 2);
    expect(whatIf('stock-out', 'pools.L40S=null').usdPerHour).toBeCloseTo(14.89, 2);
    const alone = whatIf('stock-out', 'deployments.prod/tagging-8b-l40s.minReplicas=1');
    expect(alone.usdPerHour).toBeCloseTo(17.46, 2);
    // The one L40S of tagging-8b runs on until its L4 are ready; then chat-14b has the fourth.
    const published = (...edits: readonly string[]) => {
      const replicas = replicasOf(whatIf('stock-out', ...edits));
      return [replicas['prod/chat-14b-l40s'], replicas['prod/tagging-8b-l40s'], replicas['prod/tagging-8b-l4']];
    };
    const runs = (id: string, count: number) =>
      ['currentReplicas', 'readyReplicas'].map((key) => `deployments.prod/${id}.${key}=${count}`);
    expect(published()).toEqual([3, 1, 3]);
    expect(published(...runs('tagging-8b-l4', 3))).toEqual([3, 0, 3]);
    expect(published(...runs('tagging-8b-l4', 3), ...runs('tagging-8b-l40s', 0))).toEqual([4, 0, 3]);
  });
});

type MelangeConfig = {
  readonly gpu_info: Readonly<
    Record<string, { readonly cost: number; readonly tputs: readonly (readonly number[])[] }>
  >;
  readonly workload_distribution: readonly (readonly number[])[];
  readonly total_request_rate: number;
};

function costOf(config: MelangeConfig, replicas: readonly number[]): number {
  return Object.values(config.gpu_info).reduce((sum, gpu, g) => sum + gpu.cost * replicas[g]!, 0);
}

/**
 * The optimum by enumeration, independent of the optimizer. Whether some replica counts suffice is decided by duality:
 * they do exactly if for all prices p >= 0 the work priced at its cheapest, Σ_b min_g p_g·work_bg, is at most Σ_g p_g·y_g.
 * The worst prices are at a corner where buckets tie, so that with three GPU types pairs of ties are enough to try.
 */
function cheapestOf(config: MelangeConfig): number {
  const gpus = Object.values(config.gpu_info);
  const works = config.workload_distribution.flatMap((row, i) =>
    row.map((share, j) => gpus.map((gpu) => (share * config.total_request_rate) / gpu.tputs[i]![j]!)),
  );
  const prices = cornerPrices(works);
  const fits = (replicas: readonly number[]): boolean =>
    prices.every((price) => {
      const needed = works.reduce((sum, work) => sum + Math.min(...work.map((amount, g) => amount * price[g]!)), 0);
      return needed <= replicas.reduce((sum, count, g) => sum + count * price[g]!, 0) + 1e-9;
    });
  const most = gpus.map((_, g) => Math.ceil(works.reduce((sum, work) => sum + work[g]!, 0)));
  let best = Number.POSITIVE_INFINITY;
  for (let a = 0; a <= most[0]!; a++) {
    for (let b = 0; b <= most[1]!; b++) {
      for (let c = 0; c <= most[2]!; c++) {
        const cost = costOf(config, [a, b, c]);
        if (cost < best && fits([a, b, c])) best = cost;
      }
    }
  }
  return best;
}

function cornerPrices(works: readonly (readonly number[])[]): readonly (readonly number[])[] {
  // p_g / p_h at which a bucket is indifferent between g and h.
  const ratios = (g: number, h: number): readonly number[] => [0, ...works.map((work) => work[h]! / work[g]!)];
  const corners: number[][] = [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ];
  for (const [base, g, h] of [
    [0, 1, 2],
    [1, 0, 2],
    [2, 0, 1],
  ] as const) {
    for (const first of ratios(g, base)) {
      for (const second of ratios(h, base)) {
        const price = [0, 0, 0];
        price[base] = 1;
        price[g] = first;
        price[h] = second;
        corners.push(price);
      }
      for (const second of ratios(h, g)) {
        const price = [0, 0, 0];
        price[base] = 1;
        price[g] = first;
        price[h] = first * second;
        corners.push(price);
      }
    }
  }
  return corners;
}

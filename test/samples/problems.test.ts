import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { solverNames } from '../../src/adapters/solvers/engines.js';
import { type PlanFlags, runPlan } from '../../src/cli/plan.js';
import type { Plan } from '../../src/core/plan.js';

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

function replicasOf(plan: Plan): Record<string, number | null> {
  return Object.fromEntries(plan.deployments.map((deployment) => [deployment.id, deployment.replicas]));
}

describe('the sample problems', () => {
  it('are all run here', () => {
    expect(readdirSync(folder).sort()).toEqual(['README.md', 'hello-world.json', 'melange.json', 'scarcity.json']);
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

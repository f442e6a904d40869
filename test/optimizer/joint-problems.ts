import {
  type PlanningProblem,
  type PlanningProblemInput,
  planningProblemSchema,
} from '../../src/core/planning-problem.js';
import { type SeededRandom, seededRandom } from '../support/seeded-random.js';

/**
 * Random joint problems with everything that a document can say about scarcity: pools from empty to ample, quotas,
 * budgets, priorities, minServedShare, floors (also above their pools), fixed and unprofiled deployments, starting and
 * stopping costs, both routings, idle models, context limits, best effort, replicas of 0 to 8 GPUs and of a part of
 * one, equal prices. The same problem for the same seed.
 */
export type JointSize = {
  readonly models: readonly [least: number, most: number];
  readonly gpuTypes: readonly [least: number, most: number];
  /** Deployments of a model, at most. */
  readonly deployments: number;
  readonly buckets: readonly [least: number, most: number];
  /** Replicas that a model needs alone, about, at most. */
  readonly replicas: number;
  /** True: throughputs, rates and prices of few digits, so that deployments are often exactly full and plans tie. */
  readonly coarse: boolean;
  /** True: some models have next to no demand beside the others, below what HiGHS can tell from none. */
  readonly specks: boolean;
};

/** For HiGHS: 2–5 models × 2–4 types × 1–6 buckets. */
export const smallJoint: JointSize = {
  models: [2, 5],
  gpuTypes: [2, 4],
  deployments: 3,
  buckets: [1, 6],
  replicas: 5,
  coarse: false,
  specks: false,
};

/** For a look at every vector of replicas. */
export const tinyJoint: JointSize = {
  models: [1, 3],
  gpuTypes: [1, 3],
  deployments: 2,
  buckets: [1, 3],
  replicas: 3,
  coarse: true,
  specks: false,
};

/** Tiny ones with specks of demand. */
export const speckledJoint: JointSize = { ...tinyJoint, specks: true };

type ModelInput = PlanningProblemInput['models'][number];
type DeploymentInput = ModelInput['deployments'][number];

const inputs = [128, 512, 2048] as const;
const outputs = [32, 256] as const;

export function jointProblem(seed: number, size: JointSize): PlanningProblem {
  const random = seededRandom(seed);
  const types = Array.from({ length: random.whole(...size.gpuTypes) }, (_, t) => gpuType(random, t, size));
  if (random.chance(0.15)) for (const type of types) type.price = 1;
  const models = Array.from({ length: random.whole(...size.models) }, (_, m) => jointModel(random, m, types, size));
  return planningProblemSchema.parse({
    apiVersion: 'gpumix/v1',
    kind: 'PlanningProblem',
    models,
    ...sharedLimits(random, models, types),
    options: {
      routing: random.chance(0.3) ? 'proportional' : 'free',
      ...(random.chance(0.35)
        ? {
            startUsdPerReplica: random.chance(0.8) ? money(random, 0.05, 3, size) : 0,
            stopUsdPerReplica: random.chance(0.6) ? money(random, 0.05, 3, size) : 0,
            horizonHours: random.pick([0.5, 1, 1, 4]),
          }
        : {}),
      timeLimitMs: 60_000,
    },
  });
}

type GpuType = { name: string; power: number; price: number; gpusPerReplica: number };

function gpuType(random: SeededRandom, t: number, size: JointSize): GpuType {
  const power = random.logBetween(0.7, 4);
  return {
    name: `G${t}`,
    power,
    price: Math.max(0.125, eighths(power * random.between(0.6, 1.4), size)),
    gpusPerReplica: random.pick([1, 1, 1, 1, 2, 4, 8, 0, 0.5]),
  };
}

/** A number as it is, or in eighths. */
function eighths(value: number, { coarse }: JointSize): number {
  return coarse ? Math.round(value * 8) / 8 : value;
}

function money(random: SeededRandom, low: number, high: number, size: JointSize): number {
  return Math.max(0.125, eighths(random.logBetween(low, high), size));
}

function jointModel(random: SeededRandom, m: number, types: readonly GpuType[], size: JointSize): ModelInput {
  const name = `m${m}`;
  const count = random.whole(1, size.deployments);
  const chosen = random.shuffle([...types, ...types]).slice(0, count);
  const isIdle = random.chance(0.06);
  const buckets = random.whole(...size.buckets);
  // So much that a type of power 1 would need about this many replicas for all of it.
  const rate = random.between(0.3, size.replicas);
  // Some have next to none.
  const scale = size.specks && random.chance(0.3) ? 10 ** -random.whole(2, 9) : 1;
  const weights = Array.from({ length: buckets }, () => random.between(0.2, 1));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return {
    name,
    priority: random.pick([0, 0, 0, 1, 1, 2, -1]),
    ...(random.chance(0.4) ? { unservedUsdPerRequest: random.pick([1, 10, 500, 2000]) } : {}),
    ...(random.chance(0.3) ? { minServedShare: random.pick([0.25, 0.5, 0.9, 1]) } : {}),
    demand: weights.map((weight) => ({
      inputTokens: random.chance(0.8) ? random.pick(inputs) : Math.round(random.logBetween(20, 9000)),
      outputTokens: random.chance(0.8) ? random.pick(outputs) : Math.round(random.logBetween(8, 2000)),
      rps: isIdle || random.chance(0.03) ? 0 : scale * Math.max(0.125, eighths((rate * weight) / total, size)),
    })),
    deployments: chosen.map((type, d) =>
      jointDeployment(random, `${random.pick(['a', 'b'])}/${name}-${d}`, type, size),
    ),
  };
}

function jointDeployment(random: SeededRandom, id: string, type: GpuType, size: JointSize): DeploymentInput {
  const most = size.coarse ? 4 : 12;
  const power = type.power * random.between(0.7, 1.3);
  const length = random.between(0.1, 0.5);
  const runs = random.chance(0.5) ? random.whole(0, size.coarse ? 3 : 6) : null;
  const kind = random.next();
  const maxReplicas = random.chance(0.2) ? random.whole(0, size.coarse ? 2 : 4) : most;
  return {
    id,
    gpuType: type.name,
    gpusPerReplica: random.chance(0.85) ? type.gpusPerReplica : random.pick([1, 2, 4, 8, 0]),
    usdPerReplicaHour: random.chance(0.03) ? 0 : type.price,
    maxReplicas,
    ...(random.chance(0.15) ? { minReplicas: Math.min(maxReplicas, random.whole(0, 2)) } : {}),
    ...(random.chance(0.15) ? { idleMinReplicas: random.whole(0, 2) } : {}),
    currentReplicas: runs,
    ...(runs !== null && random.chance(0.3) ? { readyReplicas: random.whole(0, runs) } : {}),
    ...(kind < 0.08 ? { fixedReplicas: random.whole(0, 2) } : {}),
    ...(random.chance(0.2) ? { targetUtilization: random.pick([0.5, 0.75, 0.9]) } : {}),
    ...(random.chance(0.1) ? { maxTokens: random.pick([1000, 2304, 4000]) } : {}),
    profile:
      kind > 0.94
        ? null
        : {
            indexes: [[...outputs], [...inputs]],
            tputs: outputs.map((output, o) =>
              inputs.map((_, i) => {
                if (random.chance(0.07)) return 0;
                const rps = (power * 2) / (1 + length * (i + (output === outputs[0] ? 0 : 2 * o)));
                return Math.max(0.125, eighths(rps, size));
              }),
            ),
          },
  } as DeploymentInput;
}

/** Limits around what the models would use if each took its first deployment, from nothing to more than enough. */
function sharedLimits(random: SeededRandom, models: readonly ModelInput[], types: readonly GpuType[]) {
  const estimates = models.map((model) => {
    const deployment = model.deployments[0]!;
    const rate = model.demand.reduce((sum, { rps }) => sum + rps, 0);
    const best = Math.max(0.125, ...(deployment.profile?.tputs.flat().map(Number) ?? []));
    return { deployment, replicas: Math.ceil((1.3 * rate) / best) };
  });
  // About half of the problems have room for nearly all of their demand.
  const isAmple = random.chance(0.5);
  const tightness = () => random.pick(isAmple ? [1.2, 1.5, 2, 3, 5] : [0, 0.4, 0.6, 0.8, 0.9, 1, 1.1, 1.3, 2]);
  const gpusOf = (name: string): number =>
    models
      .flatMap(({ deployments }, m) => deployments.map((it) => ({ it, replicas: estimates[m]!.replicas })))
      .filter(({ it }) => it.gpuType === name)
      .reduce((sum, { it, replicas }) => sum + (it.gpusPerReplica ?? 1) * replicas, 0);
  const usdPerHour = estimates.reduce(
    (sum, { deployment, replicas }) => sum + deployment.usdPerReplicaHour * replicas,
    0,
  );
  return {
    pools: types
      .filter(() => random.chance(0.7))
      .map(({ name }) => ({
        gpuType: name,
        gpus: random.chance(0.1) ? null : Math.round(0.7 * tightness() * gpusOf(name)),
      })),
    quotas: types
      .filter(() => random.chance(0.2))
      .map(({ name }) => ({
        namespace: random.pick(['a', 'b']),
        gpuType: name,
        gpus: Math.round(0.4 * tightness() * gpusOf(name)),
      })),
    ...(random.chance(0.35) ? { budgetUsdPerHour: Math.round(800 * tightness() * usdPerHour) / 1000 } : {}),
  };
}

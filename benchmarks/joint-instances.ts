import {
  type PlanningProblem,
  type PlanningProblemInput,
  type ProblemModel,
  planningProblemSchema,
} from '../src/core/planning-problem.js';
import { plan } from '../src/optimizer/plan.js';
import { type SeededRandom, seededRandom } from '../test/support/seeded-random.js';

/**
 * The published generator of joint instances: many models that need a few replicas each and share limited pools of GPU
 * types. Described for readers in benchmarks/README.md.
 *
 * Everything is servable, by construction: beside the problem there is a *witness*, whole replicas for every deployment
 * that serve all demand and fit the pools. So no price of unserved demand can hide a gap, and any two plans of an
 * instance compare by money alone.
 *
 * The same options always give the same instance: chance is seeded, and the plans of single models that pools are made
 * from are proven optimal, not stopped by a clock.
 */
export type JointFleetOptions = {
  readonly models: number;
  /** 1 to 12: the first so many of `marketTypes`. */
  readonly gpuTypes: number;
  /** Buckets of each model. */
  readonly buckets: number;
  readonly seed: number;
};

export type JointInstanceOptions = JointFleetOptions & {
  /** GPUs of a pool as a share of what the type would be used without pools: 0.7, 0.9, 1.1; Infinity = unlimited. */
  readonly poolShare: number;
};

/** Models that do not share anything yet, and what each would use if every GPU type were unlimited. */
export type JointFleet = {
  readonly models: readonly ProblemModel[];
  /** Replicas by model and deployment, in the order of the documents, of each model's optimal plan alone. */
  readonly freeReplicas: readonly (readonly number[])[];
  readonly freeUsdPerHour: number;
  /** GPU types, in the order of every model's deployments. */
  readonly gpuTypes: readonly string[];
};

export type JointInstance = {
  readonly problem: PlanningProblem;
  /** Replicas by model and deployment that serve everything within the pools. */
  readonly witness: readonly (readonly number[])[];
  readonly witnessUsdPerHour: number;
  /** GPU type → GPUs that would be used without pools. */
  readonly freeGpus: ReadonlyMap<string, number>;
  /** The type that takes what the others cannot hold; its pool may be above its share. */
  readonly relief: string;
};

/**
 * GPU types with the USD per hour of profiles/gpus.json (on-demand list prices, named and dated there) and two facts
 * of the part: memory [GiB] and throughput relative to an L4's on short requests.
 *
 * The throughputs are no measurements. They follow the shape that Mélange (Griggs et al., 2024)
 * reports: per dollar, small types win on short requests and large ones on long requests, because what is left of the
 * memory for the KV cache bounds the batch. The order makes a prefix of any length a mix of small and large types.
 */
export const marketTypes = [
  { gpuType: 'L4', usdPerGpuHour: 0.8048, memoryGib: 24, power: 1 },
  { gpuType: 'A100-80GB', usdPerGpuHour: 3.4309, memoryGib: 80, power: 3.9 },
  { gpuType: 'H100', usdPerGpuHour: 6.88, memoryGib: 80, power: 7.9 },
  { gpuType: 'A10G', usdPerGpuHour: 1.006, memoryGib: 24, power: 1.25 },
  { gpuType: 'L40S', usdPerGpuHour: 1.861, memoryGib: 48, power: 2.2 },
  { gpuType: 'MI300X', usdPerGpuHour: 6, memoryGib: 192, power: 6.6 },
  { gpuType: 'A100-40GB', usdPerGpuHour: 2.7447, memoryGib: 40, power: 3.4 },
  { gpuType: 'H200', usdPerGpuHour: 7.912, memoryGib: 141, power: 8.9 },
  { gpuType: 'RTX-PRO-6000', usdPerGpuHour: 3.3631, memoryGib: 96, power: 3.8 },
  { gpuType: 'B200', usdPerGpuHour: 14.2416, memoryGib: 180, power: 16 },
  { gpuType: 'T4', usdPerGpuHour: 0.526, memoryGib: 16, power: 0.62 },
  { gpuType: 'V100', usdPerGpuHour: 3.06, memoryGib: 16, power: 2.6 },
] as const;

/** Sizes of models: GiB of weights, how common they are, how much slower than the smallest. */
const modelSizes = [
  { weightsGib: 14, share: 0.7, slowness: 1 },
  { weightsGib: 30, share: 0.2, slowness: 2.1 },
  { weightsGib: 75, share: 0.1, slowness: 5 },
] as const;

/** What requests look like: medians of prompt and answer [tokens], and how far they spread (sigma of log2). */
const workloads = [
  { inputTokens: 220, outputTokens: 200, spread: 1.3 }, // chat
  { inputTokens: 2600, outputTokens: 160, spread: 1 }, // documents
  { inputTokens: 700, outputTokens: 60, spread: 1.1 }, // completion
  { inputTokens: 1500, outputTokens: 500, spread: 1.4 }, // agents
] as const;

const inputGrid = [64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384];
const outputGrid = [16, 32, 64, 128, 256, 512, 1024, 2048];
/** What one replica may take at most alone; more than any relief can need. */
const manyReplicas = 1_000_000;
/** No search of one model comes near it: reaching it would make an instance depend on the solver. */
const guardNodes = 1_000_000;

/** A problem of the generator; see `jointInstanceWithWitness` for the proof that it is servable. */
export function jointInstance(options: JointInstanceOptions): PlanningProblem {
  return jointInstanceWithWitness(options).problem;
}

/** A problem with the replicas that prove it servable. */
export function jointInstanceWithWitness(options: JointInstanceOptions): JointInstance {
  return withPools(jointFleet(options), options.poolShare);
}

/** The models of an instance; `withPools` makes them share. For several pool shares of one fleet. */
export function jointFleet({ models: count, gpuTypes, buckets, seed }: JointFleetOptions): JointFleet {
  if (gpuTypes > marketTypes.length) {
    throw new RangeError(`gpuTypes: expected at most ${marketTypes.length}, found ${gpuTypes}`);
  }
  const random = seededRandom(seed);
  // Prices of a region or a contract: within a tenth of the list, the same for all models.
  const types = marketTypes
    .slice(0, gpuTypes)
    .map((type) => ({ ...type, usdPerGpuHour: round(type.usdPerGpuHour * random.between(0.9, 1.1), 4) }));
  const models: ProblemModel[] = [];
  const freeReplicas: (readonly number[])[] = [];
  let freeUsdPerHour = 0;
  for (let m = 0; m < count; m++) {
    // Each model has a seed of its own, so that a larger fleet begins with the smaller one's models.
    const { model, replicas } = fewReplicas(
      seededRandom(seed + 7_919 * (m + 1)),
      modelOf(seededRandom(seed + 104_729 * (m + 1)), m, { types, buckets }),
    );
    models.push(model);
    freeReplicas.push(replicas);
    freeUsdPerHour += usdOf(model, replicas);
  }
  return { models, freeReplicas, freeUsdPerHour, gpuTypes: types.map(({ gpuType }) => gpuType) };
}

/**
 * Pools for a fleet: of each GPU type the whole GPUs in `poolShare` × its free use, and room for all demand.
 *
 * With every type at 70 % not all demand could be served. One type is therefore the *relief*: of those that can serve
 * every bucket, the one that free plans spend least on. The witness starts from the free plans; while a pool is
 * exceeded, a model that uses that type is planned again without the types that are full, in a seeded order. The
 * relief's pool is what the witness needs of it, or its share, whichever is more.
 */
export function withPools(fleet: JointFleet, poolShare: number): JointInstance {
  const { models, freeReplicas, gpuTypes } = fleet;
  const free = gpusOf(fleet, freeReplicas);
  const atShare = (gpus: number) => (Number.isFinite(poolShare) ? Math.floor(poolShare * gpus + 1e-9) : poolShare);
  const pools = free.map(atShare);
  const relief = reliefOf(fleet);
  pools[relief] = Number.POSITIVE_INFINITY;

  const witness = [...freeReplicas];
  const used = [...free];
  const order = seededRandom(models.length).shuffle(models.map((_, m) => m));
  for (const g of gpuTypes.keys()) {
    for (const m of order) {
      if (used[g]! <= pools[g]!) break;
      const replicas = witness[m]!;
      if (replicas[g] === 0) continue;
      const { deployments } = models[m]!;
      deployments.forEach((deployment, d) => {
        used[d]! -= replicas[d]! * deployment.gpusPerReplica;
      });
      // What is left of each type is the model's; of this one nothing, so that each step relieves it for good.
      const room = deployments.map(({ gpusPerReplica }, d) =>
        d === g ? 0 : Math.min(manyReplicas, Math.max(0, Math.floor((pools[d]! - used[d]!) / gpusPerReplica))),
      );
      const next = optimalReplicas(models[m]!, room);
      deployments.forEach((deployment, d) => {
        used[d]! += next[d]! * deployment.gpusPerReplica;
      });
      witness[m] = next;
    }
  }
  pools[relief] = Math.max(used[relief]!, atShare(free[relief]!));

  const problem = planningProblemSchema.parse({
    ...problemOf(models),
    pools: gpuTypes.map((gpuType, g) => ({ gpuType, gpus: Number.isFinite(pools[g]) ? pools[g]! : null })),
  });
  return {
    problem,
    witness,
    witnessUsdPerHour: models.reduce((sum, model, m) => sum + usdOf(model, witness[m]!), 0),
    freeGpus: new Map(gpuTypes.map((gpuType, g) => [gpuType, free[g]!])),
    relief: gpuTypes[relief]!,
  };
}

/** The index of the type that every model can be served on alone, and that free plans spend least on. */
function reliefOf({ models, freeReplicas, gpuTypes }: JointFleet): number {
  const spent = gpuTypes.map((_, g) =>
    models.reduce((sum, model, m) => sum + freeReplicas[m]![g]! * model.deployments[g]!.usdPerReplicaHour, 0),
  );
  const complete = gpuTypes.map((_, g) =>
    models.every(({ deployments }) => deployments[g]!.profile!.tputs.every((row) => row.every((tput) => tput !== 0))),
  );
  const candidates = [...gpuTypes.keys()].filter((g) => complete[g]);
  return candidates.reduce((least, g) => (spent[g]! < spent[least]! ? g : least), candidates[0]!);
}

type PricedType = {
  readonly gpuType: string;
  readonly usdPerGpuHour: number;
  readonly memoryGib: number;
  readonly power: number;
};

/** A model with one deployment on every GPU type; its rate is settled afterwards. */
function modelOf(
  random: SeededRandom,
  index: number,
  { types, buckets }: { readonly types: readonly PricedType[]; readonly buckets: number },
): ProblemModel {
  const size = sizeAt(random.next());
  const workload = random.pick(workloads);
  const model = {
    name: `model-${index}`,
    demand: demandOf(random, workload, buckets),
    deployments: types.map((type): ProblemModelInput['deployments'][number] => {
      const gpusPerReplica = gpusFor(size.weightsGib, type.memoryGib);
      return {
        id: `default/model-${index}-${type.gpuType.toLowerCase()}`,
        gpuType: type.gpuType,
        gpusPerReplica,
        usdPerReplicaHour: round(type.usdPerGpuHour * gpusPerReplica, 4),
        maxReplicas: manyReplicas,
        // How well an engine suits a type differs by model.
        profile: profileOf(type, { gpusPerReplica, ...size, suits: random.between(0.85, 1.15) }),
      };
    }),
  };
  return problemOf([model]).models[0]!;
}

type ProblemModelInput = PlanningProblemInput['models'][number];

function sizeAt(point: number): (typeof modelSizes)[number] {
  let below = 0;
  for (const size of modelSizes) {
    below += size.share;
    if (point < below) return size;
  }
  return modelSizes[0];
}

/** GPUs of a replica: 1, 2, 4 or 8, so that the weights take at most 70 % of their memory. */
function gpusFor(weightsGib: number, memoryGib: number): number {
  return [1, 2, 4, 8].find((gpus) => weightsGib <= 0.7 * gpus * memoryGib) ?? 8;
}

/**
 * Requests/s of one replica. A request costs a fixed part, its prompt, and its answer; the answer costs more as its
 * context fills what is left of the memory, since fewer requests then share a batch. Zero where the context is more
 * than a replica keeps within the SLO.
 */
function profileOf(
  { memoryGib, power }: PricedType,
  replica: {
    readonly gpusPerReplica: number;
    readonly weightsGib: number;
    readonly slowness: number;
    readonly suits: number;
  },
): NonNullable<ProblemModelInput['deployments'][number]['profile']> {
  const cacheGib = 0.9 * memoryGib * replica.gpusPerReplica - replica.weightsGib;
  // Two GPUs do not serve twice as much.
  const speed = (power * replica.suits * replica.gpusPerReplica ** 0.9) / replica.slowness;
  // GiB of cache that a thousand tokens take grow slower than the weights.
  const thousandTokensGib = 0.12 * Math.sqrt(replica.slowness);
  /** Requests of this context that fit at once. */
  const fit = (tokens: number) => cacheGib / ((tokens / 1000) * thousandTokensGib);
  return {
    indexes: [outputGrid, inputGrid],
    tputs: outputGrid.map((output) =>
      inputGrid.map((input) => {
        const batch = fit(input + output);
        if (batch < smallestBatch && memoryGib < largeGib) return 0;
        const seconds = 0.03 + input / 9_000 + (output / 900) * (1 + 14 / batch);
        return significant(speed / seconds);
      }),
    ),
  };
}

/** A small type with fewer requests at once than this misses the SLO. */
const smallestBatch = 5;
/** From here on a type serves every length of the grid. */
const largeGib = 80;

/** Log-normal lengths on a grid of half octaves, as shares of one request/s. */
function demandOf(
  random: SeededRandom,
  { inputTokens, outputTokens, spread }: (typeof workloads)[number],
  buckets: number,
): ProblemModelInput['demand'] {
  const inputCentre = Math.log2(inputTokens) + 0.7 * random.normal();
  const outputCentre = Math.log2(outputTokens) + 0.7 * random.normal();
  const weights = new Map<string, { inputTokens: number; outputTokens: number; rps: number }>();
  // A grid finer than half octaves where so many buckets do not fit.
  for (let tries = 0; weights.size < buckets; tries++) {
    const step = tries < 200 * buckets ? 2 : 20;
    const input = clamp(Math.round(step * (inputCentre + spread * random.normal())) / step, 4, 14);
    const output = clamp(Math.round(step * (outputCentre + spread * random.normal())) / step, 3, 11);
    const key = `${input}:${output}`;
    const known = weights.get(key);
    if (known === undefined) {
      weights.set(key, { inputTokens: round(2 ** input, 1), outputTokens: round(2 ** output, 1), rps: 1 });
    } else known.rps++;
  }
  const all = [...weights.values()];
  const total = all.reduce((sum, { rps }) => sum + rps, 0);
  return all.map((bucket) => ({ ...bucket, rps: bucket.rps / total }));
}

/** Scales a model's rate so that it needs 1 to 5 replicas alone, and says which. */
function fewReplicas(
  random: SeededRandom,
  model: ProblemModel,
): { readonly model: ProblemModel; readonly replicas: readonly number[] } {
  // At a rate where whole replicas hardly matter: how many of them one request/s fills in the cheapest mix.
  const manyRps = 1e4;
  const replicasPerRps = sum(optimalReplicas(at(model, manyRps))) / manyRps;
  let rps = random.between(0.5, 4.9) / replicasPerRps;
  for (;;) {
    const scaled = at(model, round(rps, 6));
    const replicas = optimalReplicas(scaled);
    if (sum(replicas) <= 5) return { model: scaled, replicas };
    rps *= 0.8;
  }
}

function at(model: ProblemModel, rps: number): ProblemModel {
  return { ...model, demand: model.demand.map((bucket) => ({ ...bucket, rps: significant(bucket.rps * rps) })) };
}

/** Replicas of the model's optimal plan alone, with ceilings. */
function optimalReplicas(model: ProblemModel, ceilings?: readonly number[]): readonly number[] {
  const limited =
    ceilings === undefined
      ? model
      : {
          ...model,
          deployments: model.deployments.map((deployment, d) => ({ ...deployment, maxReplicas: ceilings[d]! })),
        };
  const answer = plan({ ...problemOf([limited]), options: { ...problemOf([]).options, nodeLimit: guardNodes } });
  if (answer.status !== 'optimal' || answer.unserved.length > 0) {
    throw new Error(`the generator expected an optimal plan of ${model.name} that serves all, found ${answer.status}`);
  }
  return answer.deployments.map(({ targetReplicas }) => targetReplicas!);
}

function problemOf(models: readonly (ProblemModel | ProblemModelInput)[]): PlanningProblem {
  return planningProblemSchema.parse({ apiVersion: 'gpumix/v1', kind: 'PlanningProblem', models });
}

/** GPUs of each type that replicas take, in the order of `gpuTypes`. */
export function gpusOf(
  { models, gpuTypes }: Pick<JointFleet, 'models' | 'gpuTypes'>,
  replicas: readonly (readonly number[])[],
): readonly number[] {
  return gpuTypes.map((_, g) =>
    models.reduce((all, { deployments }, m) => all + replicas[m]![g]! * deployments[g]!.gpusPerReplica, 0),
  );
}

function usdOf({ deployments }: ProblemModel, replicas: readonly number[]): number {
  return deployments.reduce((all, { usdPerReplicaHour }, d) => all + usdPerReplicaHour * replicas[d]!, 0);
}

const sum = (values: readonly number[]): number => values.reduce((all, value) => all + value, 0);
const clamp = (value: number, low: number, high: number): number => Math.min(high, Math.max(low, value));
const round = (value: number, digits: number): number => Number(value.toFixed(digits));
/** Four digits, as a profile would be written. */
const significant = (value: number): number => Number(value.toPrecision(4));

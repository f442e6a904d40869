import type { PlanningProblem, PlanningProblemInput } from '../../src/core/planning-problem.js';
import { planningProblemSchema } from '../../src/core/planning-problem.js';
import { type SeededRandom, seededRandom } from '../support/seeded-random.js';

/**
 * The seeded corpus of planning problems that every solver engine is held to, and that benchmarks run.
 *
 * One model each. The families differ in what makes them hard: economic structure (`structured`), caps that leave
 * demand unserved (`capped`), floors and fixed counts (`bounded`), ties (`degenerate`), `target-utilization`,
 * `single-bucket`, works of 1e-9 replicas (`tiny`), of 1e5 (`huge`), lengths and grids as they come from a gateway
 * (`real-like`), and no structure at all (`adversarial`).
 */
export const corpusFamilies = [
  'structured',
  'capped',
  'bounded',
  'degenerate',
  'target-utilization',
  'single-bucket',
  'tiny',
  'huge',
  'real-like',
  'adversarial',
] as const;
export type CorpusFamily = (typeof corpusFamilies)[number];

export type CorpusInstance = {
  /** `family/number`, for messages. */
  readonly name: string;
  readonly family: CorpusFamily;
  readonly gpuTypes: number;
  readonly buckets: number;
  readonly problem: PlanningProblem;
};

type ModelInput = PlanningProblemInput['models'][number];
type DeploymentInput = ModelInput['deployments'][number];
type Demand = ModelInput['demand'];

/** How many of each: 312 in all. */
const counts: Record<CorpusFamily, number> = {
  structured: 120,
  capped: 45,
  bounded: 30,
  degenerate: 30,
  'target-utilization': 15,
  'single-bucket': 12,
  tiny: 18,
  huge: 10,
  'real-like': 20,
  adversarial: 12,
};

/** The whole corpus, always the same for the same seed. */
export function corpus(seed = 20261120): readonly CorpusInstance[] {
  return corpusFamilies.flatMap((family, familyIndex) =>
    Array.from({ length: counts[family] }, (_, index) => {
      // Each instance has a seed of its own, so that adding one to a family changes no other.
      const random = seededRandom(seed + familyIndex * 1_000_003 + index * 7_919);
      return instance(`${family}/${index}`, family, makers[family](random, index));
    }),
  );
}

/** Structured instances of a given size, for timings by number of GPU types. */
export function structuredInstances(options: {
  readonly gpuTypes: number;
  readonly count: number;
  readonly seed: number;
}): readonly CorpusInstance[] {
  return Array.from({ length: options.count }, (_, index) => {
    const random = seededRandom(options.seed + options.gpuTypes * 1_000_003 + index * 7_919);
    const model = structured(random, { gpuTypes: options.gpuTypes, side: random.pick(sides) });
    return instance(`structured-${options.gpuTypes}/${index}`, 'structured', model);
  });
}

/** A window of raw buckets as a gateway writes them, `rawBuckets` distinct ones, on 4 to 6 GPU types. */
export function rawWindowInstance(rawBuckets: number, seed: number): CorpusInstance {
  const random = seededRandom(seed);
  const deployments = realLikeDeployments(random, random.whole(4, 6));
  return instance(`raw-${rawBuckets}`, 'real-like', {
    name: 'model',
    demand: gatewayDemand(random, rawBuckets, 400),
    deployments,
  });
}

function instance(name: string, family: CorpusFamily, model: ModelInput): CorpusInstance {
  const problem = planningProblemSchema.parse({
    apiVersion: 'gpumix/v1',
    kind: 'PlanningProblem',
    models: [model],
    options: { timeLimitMs: 60_000 },
  });
  return { name, family, gpuTypes: model.deployments.length, buckets: model.demand.length, problem };
}

/** Sides of the square grids of `structured`: 1 to 256 buckets. */
const sides = [3, 4, 5, 6, 8, 10, 12, 16] as const;

const makers: Record<CorpusFamily, (random: SeededRandom, index: number) => ModelInput> = {
  structured: (random, index) => structured(random, { gpuTypes: 1 + (index % 12), side: random.pick(sides) }),
  capped: (random, index) => {
    const model = structured(random, { gpuTypes: 1 + (index % 8), side: random.pick([2, 3, 4, 6, 8]) });
    // Caps around what the demand needs: some bind and shift load, some leave demand unserved.
    return {
      ...model,
      deployments: model.deployments.map((deployment) => ({
        ...deployment,
        maxReplicas: random.chance(0.2) ? 0 : Math.floor(random.logBetween(1, 12)),
      })),
    };
  },
  bounded: (random, index) => {
    const model = structured(random, { gpuTypes: 2 + (index % 7), side: random.pick([2, 3, 5, 8]) });
    return {
      ...model,
      deployments: model.deployments.map((deployment): DeploymentInput => {
        if (random.chance(0.2)) return { ...deployment, fixedReplicas: random.whole(0, 4) };
        if (random.chance(0.4))
          return { ...deployment, minReplicas: random.whole(1, 3), maxReplicas: random.whole(3, 40) };
        return deployment;
      }),
    };
  },
  degenerate: (random, index) => {
    const model = structured(random, { gpuTypes: 2 + (index % 7), side: random.pick([2, 3, 4, 6]) });
    const first = model.deployments[0]!;
    const price = random.pick([1, 2.5, 0.1]);
    switch (index % 3) {
      // Equal prices, different throughputs.
      case 0:
        return { ...model, deployments: model.deployments.map((it) => ({ ...it, usdPerReplicaHour: price })) };
      // Throughput in proportion to price: every mix costs the same before whole replicas.
      case 1:
        return {
          ...model,
          deployments: model.deployments.map((it, d) => ({
            ...it,
            usdPerReplicaHour: price * (d + 1),
            profile: scaleProfile(first.profile!, d + 1),
          })),
        };
      // The same thing under several names.
      default:
        return {
          ...model,
          deployments: model.deployments.map((it) => ({
            ...it,
            usdPerReplicaHour: first.usdPerReplicaHour,
            profile: first.profile,
          })),
        };
    }
  },
  'target-utilization': (random, index) => {
    const model = structured(random, { gpuTypes: 1 + (index % 8), side: random.pick([2, 3, 5, 8]) });
    return {
      ...model,
      deployments: model.deployments.map((it) => ({ ...it, targetUtilization: random.between(0.4, 1) })),
    };
  },
  'single-bucket': (random, index) => structured(random, { gpuTypes: 1 + index, side: 1 }),
  tiny: (random, index) => {
    const model = structured(random, { gpuTypes: 1 + (index % 6), side: random.pick([2, 3, 5]) });
    // All tiny, or tiny ones among ordinary ones.
    return {
      ...model,
      demand: model.demand.map((bucket) => ({
        ...bucket,
        rps: index % 3 === 0 || random.chance(0.5) ? random.logBetween(1e-10, 1e-6) : bucket.rps,
      })),
    };
  },
  huge: (random, index) => {
    const model = structured(random, { gpuTypes: 2 + (index % 5), side: random.pick([2, 4, 8]) });
    return {
      ...model,
      demand: model.demand.map((bucket) => ({ ...bucket, rps: bucket.rps * random.logBetween(1e2, 1e4) })),
      deployments: model.deployments.map((it) => ({ ...it, maxReplicas: 1_000_000 })),
    };
  },
  'real-like': (random, index) => ({
    name: 'model',
    demand: gatewayDemand(random, random.pick([20, 60, 120, 250]), random.logBetween(0.5, 200)),
    deployments: realLikeDeployments(random, 2 + (index % 5)),
  }),
  adversarial: (random, index) => adversarial(random, 8 + (index % 5), random.pick([3, 4, 5, 6])),
};

/**
 * GPU types with economic structure: a faster type costs more, roughly in proportion, is relatively better at long
 * requests, and the small ones cannot serve the longest within the SLO.
 */
function structured(random: SeededRandom, size: { readonly gpuTypes: number; readonly side: number }): ModelInput {
  const tokens = Array.from({ length: size.side }, (_, i) =>
    Math.round(25 * 2 ** ((i * 10) / Math.max(size.side, 10))),
  );
  const deployments = Array.from({ length: size.gpuTypes }, (_, g): DeploymentInput => {
    const power = random.logBetween(0.5, 12);
    // Price per unit of power differs by up to a third either way.
    const usdPerReplicaHour = round(power * random.between(0.35, 0.75), 3);
    const prefillCost = random.between(0.6, 1.4) / 8000;
    const decodeCost = random.between(0.6, 1.4) / 600;
    const overhead = random.between(0.01, 0.05);
    // Longest request that still meets the SLO: larger types reach further.
    const reach = 6000 * power * random.between(0.4, 2);
    return {
      id: `default/model-gpu${g}`,
      gpuType: `GPU${g}`,
      usdPerReplicaHour,
      profile: {
        indexes: [tokens, tokens],
        tputs: tokens.map((output) =>
          tokens.map((input) => {
            if (input + 8 * output > reach || random.chance(0.02)) return 0;
            return round(power / (overhead + input * prefillCost + output * decodeCost), 4);
          }),
        ),
      },
    };
  });
  const weights = tokens.flatMap((input) =>
    tokens.map((output) => ({ inputTokens: input, outputTokens: output, weight: Math.exp(1.2 * random.normal()) })),
  );
  return { name: 'model', demand: spread(weights, random.logBetween(0.5, 2000)), deployments };
}

/** No structure: every price and every throughput by itself. Bounds are loose and the search is wide. */
function adversarial(random: SeededRandom, gpuTypes: number, side: number): ModelInput {
  const tokens = Array.from({ length: side }, (_, i) => 32 * 2 ** i);
  const demand = tokens.flatMap((input) =>
    tokens.map((output) => ({ inputTokens: input, outputTokens: output, rps: round(random.between(0.1, 4), 3) })),
  );
  const deployments = Array.from(
    { length: gpuTypes },
    (_, g): DeploymentInput => ({
      id: `default/model-gpu${g}`,
      gpuType: `GPU${g}`,
      usdPerReplicaHour: round(random.between(0.5, 10), 2),
      profile: {
        indexes: [tokens, tokens],
        tputs: tokens.map(() => tokens.map(() => (random.chance(0.15) ? 0 : round(random.logBetween(0.3, 15), 3)))),
      },
    }),
  );
  return { name: 'model', demand, deployments };
}

/** Buckets at a gateway's indexes (2^(i/10) tokens), lengths log-normal, heaviest first. */
function gatewayDemand(random: SeededRandom, bucketCount: number, rps: number): Demand {
  const weights = new Map<string, { inputTokens: number; outputTokens: number; weight: number }>();
  const inputCentre = random.between(80, 105);
  const outputCentre = random.between(60, 85);
  const correlation = random.between(-0.3, 0.6);
  while (weights.size < bucketCount) {
    const first = random.normal();
    const second = correlation * first + Math.sqrt(1 - correlation ** 2) * random.normal();
    const input = Math.min(150, Math.max(0, Math.round(inputCentre + 17 * first)));
    const output = Math.min(130, Math.max(0, Math.round(outputCentre + 14 * second)));
    const key = `${input}:${output}`;
    const known = weights.get(key);
    if (known === undefined) {
      weights.set(key, { inputTokens: 2 ** (input / 10), outputTokens: 2 ** (output / 10), weight: 1 });
    } else known.weight++;
  }
  return spread([...weights.values()], rps);
}

/** Types by the names and market prices of the field, on a grid of powers of two that the buckets fall between. */
function realLikeDeployments(random: SeededRandom, count: number): DeploymentInput[] {
  const catalogue = [
    { gpuType: 'L4', price: 0.8, power: 0.6, reach: 6_000 },
    { gpuType: 'A10G', price: 1.0, power: 0.9, reach: 8_000 },
    { gpuType: 'L40S', price: 1.9, power: 1.9, reach: 20_000 },
    { gpuType: 'A100-80GB', price: 3.7, power: 3.2, reach: 60_000 },
    { gpuType: 'H100', price: 6.9, power: 6.1, reach: 120_000 },
    { gpuType: 'MI300X', price: 5.4, power: 4.6, reach: 150_000 },
  ];
  const inputs = [128, 256, 512, 1024, 2048, 4096, 8192];
  const outputs = [32, 64, 128, 256, 512, 1024];
  return random
    .shuffle(catalogue)
    .slice(0, count)
    .map(({ gpuType, price, power, reach }) => ({
      id: `default/model-${gpuType.toLowerCase()}`,
      gpuType,
      usdPerReplicaHour: round(price * random.between(0.85, 1.15), 2),
      maxTokens: random.chance(0.3) ? 16_384 : null,
      profile: {
        indexes: [outputs, inputs] as [number[], number[]],
        tputs: outputs.map((output) =>
          inputs.map((input) => {
            if (input + 4 * output > reach) return 0;
            if (random.chance(0.02)) return null;
            const seconds = 0.02 + (input * random.between(0.9, 1.1)) / 12_000 + output / 700;
            return round(power / seconds, 4);
          }),
        ),
      },
    }));
}

function spread(
  weights: readonly { readonly inputTokens: number; readonly outputTokens: number; readonly weight: number }[],
  rps: number,
): Demand {
  const total = weights.reduce((sum, { weight }) => sum + weight, 0);
  return weights.map(({ inputTokens, outputTokens, weight }) => ({
    inputTokens,
    outputTokens,
    rps: (rps * weight) / total,
  }));
}

function scaleProfile(profile: NonNullable<DeploymentInput['profile']>, factor: number): typeof profile {
  return { ...profile, tputs: profile.tputs.map((row) => row.map((cell) => (cell === null ? null : cell * factor))) };
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

import { flatten } from '../../../src/optimizer/flatten.js';
import type { Program, SharedLimit } from '../../../src/optimizer/program.js';
import { randomProgram } from '../../optimizer/random-program.js';
import type { SeededRandom } from '../../support/seeded-random.js';

/**
 * Tiny programs with everything that a program can say, for the exact oracle: works in eighths, so that deployments and
 * limits are often exactly full, whole GPUs, prices in quarters.
 */
export function tinyJointProgram(random: SeededRandom): Program {
  const parts = Array.from({ length: random.whole(1, 3) }, () => tinyPart(random));
  const deploymentCount = parts.reduce((sum, part) => sum + part.deploymentCount, 0);
  const limits: SharedLimit[] = [];
  if (random.chance(0.7)) {
    // A pool of GPUs that some deployments take one, two or four of.
    const use = Float64Array.from({ length: deploymentCount }, () => random.pick([0, 1, 1, 2, 4]));
    limits.push({ use, limit: random.chance(0.1) ? Number.POSITIVE_INFINITY : random.whole(0, 9) });
  }
  if (random.chance(0.4)) {
    const use = Float64Array.from(parts.flatMap((part) => [...part.cost]));
    limits.push({ use, limit: random.whole(4, 40) / 4 });
  }
  return flatten(parts, limits).program;
}

function tinyPart(random: SeededRandom): Program {
  const bucketCount = random.whole(1, 2);
  const deploymentCount = random.whole(1, 2);
  const perBucket = (amount: () => number) => Float64Array.from({ length: bucketCount }, amount);
  const perDeployment = (amount: () => number) => Float64Array.from({ length: deploymentCount }, amount);
  const quarters = () => random.whole(1, 12) / 4;
  const lower = perDeployment(() => (random.chance(0.1) ? 1 : 0));
  const upper = lower.map((least) => least + random.whole(1, 4));
  const rate = perBucket(() => random.whole(1, 8) / 4);
  const mayLeave = random.chance(0.8);
  return {
    bucketCount,
    deploymentCount,
    work: Float64Array.from({ length: bucketCount * deploymentCount }, () =>
      random.chance(0.15)
        ? Number.POSITIVE_INFINITY
        : random.chance(0.05)
          ? random.pick([1e-12, 1e-8])
          : random.whole(1, 16) / 8,
    ),
    rate,
    // A stage that only minimises unserved demand has no prices on replicas.
    cost: random.chance(0.1) ? new Float64Array(deploymentCount) : perDeployment(quarters),
    capacity: perDeployment(() => random.pick([1, 1, 0.75])),
    lower,
    upper,
    unservedLimit: !mayLeave ? 0 : random.chance(0.5) ? Number.POSITIVE_INFINITY : random.whole(1, 8) / 4,
    ...(mayLeave && random.chance(0.8)
      ? { unservedPrice: perBucket(() => random.pick([0, 0.5, 3, 7.25, 1000, 3_600_000])) }
      : {}),
    ...(mayLeave && random.chance(0.3)
      ? { unservedLimits: [{ weight: perBucket(() => random.whole(0, 4) / 4), limit: random.whole(0, 3) / 2 }] }
      : {}),
    ...(random.chance(0.6)
      ? {
          switching: {
            current: lower.map((least, d) => (random.chance(0.2) ? Number.NaN : random.whole(least, upper[d]!))),
            start: perDeployment(() => (random.chance(0.3) ? 0 : quarters() / 4)),
            stop: perDeployment(() => (random.chance(0.3) ? 0 : quarters() / 4)),
          },
        }
      : {}),
  };
}

/**
 * Three models of up to four buckets and three deployments that share a pool and a budget, with real works and prices.
 *
 * @param scale how many times the replicas, rates and limits of a small program
 */
export function threeModels(random: SeededRandom, scale: number): Program {
  const parts = [1, 2, 3].map((): Program => {
    const small = randomProgram(random, { buckets: 4, deployments: 3, most: 4 });
    const rate = small.rate.map((rps) => rps * scale);
    const upper = small.upper.map((most) => most * scale);
    const part = { ...small, work: small.work.map((work) => work * scale), rate, upper };
    const current = part.lower.map((least, d) => random.whole(least, upper[d]!));
    const switching = { current, start: part.cost.map((usd) => usd / 10), stop: part.cost.map((usd) => usd / 20) };
    return {
      ...part,
      ...(random.chance(0.5) ? { switching } : {}),
      ...(random.chance(0.6)
        ? {
            unservedLimit: random.chance(0.5) ? Number.POSITIVE_INFINITY : random.between(0.1, 2) * scale,
            unservedPrice: rate.map((rps) => rps * random.pick([0.1, 10, 3600])),
          }
        : {}),
    };
  });
  const cost = Float64Array.from(parts.flatMap((part) => [...part.cost]));
  return flatten(parts, [
    { use: cost.map(() => random.pick([1, 1, 2, 4, 8])), limit: Math.round(random.between(8, 24) * scale) },
    { use: cost, limit: random.between(12, 40) * scale },
  ]).program;
}

/** What an answer costs by the words of src/optimizer/program.ts. */
export function objectiveInWords(program: Program, replicas: Float64Array, unserved: Float64Array | undefined): number {
  const { cost, switching, unservedPrice } = program;
  let total = 0;
  replicas.forEach((count, d) => {
    const current = switching?.current[d] ?? Number.NaN;
    total += count * cost[d]!;
    if (Number.isNaN(current)) return;
    total += switching!.start[d]! * Math.max(0, count - current) + switching!.stop[d]! * Math.max(0, current - count);
  });
  unserved?.forEach((share, b) => {
    total += share * (unservedPrice?.[b] ?? 0);
  });
  return total;
}

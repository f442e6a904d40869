import type { Program } from '../../src/optimizer/program.js';
import type { SeededRandom } from '../support/seeded-random.js';

/** A small random program: every bucket is served by some deployment, works and prices are partly round numbers. */
export function randomProgram(
  random: SeededRandom,
  size: { readonly buckets: number; readonly deployments: number; readonly most: number },
): Program {
  const deploymentCount = random.whole(1, size.deployments);
  const bucketCount = random.whole(1, size.buckets);
  const work = new Float64Array(bucketCount * deploymentCount);
  for (let b = 0; b < bucketCount; b++) {
    const always = random.whole(0, deploymentCount - 1);
    const scale = random.between(0.1, 1.2);
    for (let d = 0; d < deploymentCount; d++) {
      const serves = d === always || random.chance(0.85);
      const amount = random.chance(0.3) ? random.pick([0.25, 0.5, 1]) : scale * random.between(0.5, 2);
      work[b * deploymentCount + d] = serves ? amount : Number.POSITIVE_INFINITY;
    }
  }
  const lower = Float64Array.from({ length: deploymentCount }, () => (random.chance(0.15) ? 1 : 0));
  return {
    bucketCount,
    deploymentCount,
    work,
    rate: Float64Array.from({ length: bucketCount }, () => random.between(0.5, 2)),
    cost: Float64Array.from({ length: deploymentCount }, () =>
      random.chance(0.5) ? random.whole(1, 4) : Math.round(random.between(50, 400)) / 100,
    ),
    capacity: Float64Array.from({ length: deploymentCount }, () => random.pick([1, 1, 0.8]) * (1 + 5e-10)),
    lower,
    upper: lower.map((low) => low + random.whole(1, size.most)),
    unservedLimit: 0,
  };
}

export function costOf(program: Program, replicas: Float64Array): number {
  return replicas.reduce((sum, count, d) => sum + count * program.cost[d]!, 0);
}

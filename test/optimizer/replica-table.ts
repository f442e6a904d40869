import type { Program } from '../../src/optimizer/program.js';
import type { Costs } from '../../src/optimizer/program-lp.js';
import type { SeededRandom } from '../support/seeded-random.js';
import { mostServed } from './joint-brute-force.js';
import { randomProgram } from './random-program.js';

/**
 * Everything that there is to know of a small program: each vector of whole replicas in its box with the least demand
 * that it leaves, by a linear program that shares no code with the one under test. Costs come afterwards, so that one
 * table answers for any of them.
 */
export type ReplicaTable = readonly {
  readonly replicas: readonly number[];
  readonly unservedRps: number;
  readonly keepsLimits: boolean;
}[];

const equal = 1e-9;

export function replicaTable(program: Program): ReplicaTable {
  const { bucketCount, deploymentCount, work, rate, capacity, lower, upper, sharedLimits = [] } = program;
  let vectors: number[][] = [[]];
  for (let d = 0; d < deploymentCount; d++) {
    const counts = Array.from({ length: upper[d]! - lower[d]! + 1 }, (_, above) => lower[d]! + above);
    vectors = vectors.flatMap((vector) => counts.map((count) => [...vector, count]));
  }
  if (vectors.length > 20_000) throw new Error('the program is too large for a table');
  const works = Array.from({ length: bucketCount }, (_, b) =>
    Array.from(work.subarray(b * deploymentCount, (b + 1) * deploymentCount)),
  );
  const total = rate.reduce((sum, each) => sum + each, 0);
  return vectors.map((replicas) => {
    const rooms = replicas.map((count, d) => count * capacity[d]!);
    const unserved = total - mostServed(Array.from(rate), works, rooms);
    return {
      replicas,
      unservedRps: unserved <= equal * total ? 0 : unserved,
      keepsLimits: sharedLimits.every(({ use, limit }) => {
        const used = replicas.reduce((sum, count, d) => sum + count * use[d]!, 0);
        return used <= limit + equal * Math.max(1, limit);
      }),
    };
  });
}

/** What an entry of a table costs: Infinity where it leaves more unserved than it may, or overruns a limit. */
export function valueIn(program: Program, costs: Costs, entry: ReplicaTable[number]): number {
  if (!entry.keepsLimits) return Number.POSITIVE_INFINITY;
  let value = costs.offset;
  entry.replicas.forEach((count, d) => {
    const current = program.switching?.current[d] ?? Number.NaN;
    for (let y = 1; y <= count; y++) value += y > current ? costs.above[d]! : costs.below[d]!;
  });
  let left = entry.unservedRps;
  if (costs.unserved === null) {
    return left <= program.unservedLimit + equal ? value : Number.POSITIVE_INFINITY;
  }
  for (const { room, price } of costs.unserved) {
    const part = Math.min(room, left);
    value += price * part;
    left -= part;
  }
  return left <= equal ? value : Number.POSITIVE_INFINITY;
}

/** The least value of a table; Infinity where nothing serves what it must within the limits. */
export function leastValue(program: Program, costs: Costs, table: ReplicaTable): number {
  return table.reduce((least, entry) => Math.min(least, valueIn(program, costs, entry)), Number.POSITIVE_INFINITY);
}

/** A small program with everything that one model can have: what runs now, limits of its own, coarse and fine numbers. */
export function limitedProgram(
  random: SeededRandom,
  having: { readonly switching: boolean; readonly limits: number },
): Program {
  const program = randomProgram(random, { buckets: 4, deployments: 3, most: 4 });
  const { deploymentCount, lower, upper } = program;
  const money = (): number => (random.chance(0.5) ? random.whole(0, 12) / 4 : random.between(0, 3));
  const each = (amountOf: (d: number) => number): Float64Array =>
    Float64Array.from({ length: deploymentCount }, (_, d) => amountOf(d));
  const limits = Array.from({ length: having.limits }, () => {
    const use = each(() => random.pick([0, 1, 1, 2, 0.1, 0.7]));
    const most = use.reduce((sum, amount, d) => sum + amount * upper[d]!, 0);
    const least = use.reduce((sum, amount, d) => sum + amount * lower[d]!, 0);
    // Often a limit that some replicas reach exactly.
    const reached = use.reduce((sum, amount, d) => sum + amount * random.whole(lower[d]!, upper[d]!), 0);
    return { use, limit: random.chance(0.5) ? reached : random.between(least, most) };
  });
  return {
    ...program,
    ...(having.switching
      ? {
          switching: {
            current: each((d) => (random.chance(0.2) ? Number.NaN : random.whole(lower[d]!, upper[d]!))),
            start: each(() => (random.chance(0.2) ? 0 : money())),
            stop: each(() => (random.chance(0.2) ? 0 : money())),
          },
        }
      : {}),
    ...(limits.length === 0 ? {} : { sharedLimits: limits }),
  };
}

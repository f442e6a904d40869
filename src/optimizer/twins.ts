import type { Program } from './program.js';

/**
 * Deployments that differ in nothing but their names (one GPU type in two namespaces or zones) make every count of
 * their replicas a tie. The program solves such twins as one deployment and shares its replicas out afterwards.
 *
 * Exact (twins also take the same of every shared limit, and start and stop at the same price): work fits in y₁ + y₂
 * replicas of the joint deployment if and only if it fits in y₁ and y₂ of the twins, as it may be split between them in
 * any proportion.
 */
export type JoinedTwins = {
  readonly program: Program;
  /** Replicas of the joint deployments from those of the single ones. */
  readonly join: (replicas: Float64Array) => Float64Array;
  /** Replicas of the single ones: as near to `current` as their bounds allow, the rest in the order of their names. */
  readonly part: (replicas: Float64Array, current: Float64Array | null) => Float64Array;
  /** The same joint deployments over other buckets (the unmerged ones). */
  readonly joinOver: (program: Program) => Program;
};

export function joinTwins(program: Program): JoinedTwins {
  const classOf = twinClasses(program);
  const classes = classOf.reduce((most, index) => Math.max(most, index + 1), 0);
  const members: number[][] = Array.from({ length: classes }, () => []);
  classOf.forEach((index, d) => {
    members[index]!.push(d);
  });
  if (classes === program.deploymentCount) {
    return { program, join: (y) => y, part: (y) => y, joinOver: (other) => other };
  }

  const sumOver = (values: Float64Array): Float64Array =>
    Float64Array.from(members, (group) => group.reduce((sum, d) => sum + values[d]!, 0));
  const joinOver = (other: Program): Program => {
    const first = members.map((group) => group[0]!);
    const work = new Float64Array(other.bucketCount * classes);
    for (let b = 0; b < other.bucketCount; b++) {
      first.forEach((d, index) => {
        work[b * classes + index] = other.work[b * other.deploymentCount + d]!;
      });
    }
    const { switching, sharedLimits } = other;
    return {
      ...other,
      ...(switching === undefined
        ? {}
        : {
            switching: {
              current: sumOver(switching.current),
              start: Float64Array.from(first, (d) => switching.start[d]!),
              stop: Float64Array.from(first, (d) => switching.stop[d]!),
            },
          }),
      ...(sharedLimits === undefined
        ? {}
        : {
            sharedLimits: sharedLimits.map(({ use, limit }) => ({
              use: Float64Array.from(first, (d) => use[d]!),
              limit,
            })),
          }),
      deploymentCount: classes,
      work,
      cost: Float64Array.from(first, (d) => other.cost[d]!),
      capacity: Float64Array.from(first, (d) => other.capacity[d]!),
      lower: sumOver(other.lower),
      upper: sumOver(other.upper),
    };
  };

  return {
    program: joinOver(program),
    join: sumOver,
    part: (replicas, current) => {
      const parted = new Float64Array(program.deploymentCount);
      members.forEach((group, index) => {
        let left = replicas[index]!;
        for (const d of group) {
          parted[d] = program.lower[d]!;
          left -= parted[d]!;
        }
        const raise = (d: number, ceiling: number): void => {
          const more = Math.max(0, Math.min(left, ceiling - parted[d]!));
          parted[d] = parted[d]! + more;
          left -= more;
        };
        if (current !== null) for (const d of group) raise(d, Math.min(program.upper[d]!, current[d]!));
        for (const d of group) raise(d, program.upper[d]!);
      });
      return parted;
    },
    joinOver,
  };
}

/** Class of each deployment; classes are numbered in the order of their first members. */
function twinClasses(program: Program): Int32Array {
  const { bucketCount, deploymentCount, work, cost, capacity, switching, sharedLimits = [] } = program;
  const classOf = new Int32Array(deploymentCount);
  const first: number[] = [];
  for (let d = 0; d < deploymentCount; d++) {
    const index = first.findIndex((e) => isTwin(d, e));
    classOf[d] = index >= 0 ? index : first.length;
    if (index < 0) first.push(d);
  }
  return classOf;

  function isTwin(d: number, e: number): boolean {
    if (cost[d] !== cost[e] || capacity[d] !== capacity[e]) return false;
    if (sharedLimits.some(({ use }) => use[d] !== use[e])) return false;
    if (switching !== undefined) {
      if (Number.isNaN(switching.current[d]!) !== Number.isNaN(switching.current[e]!)) return false;
      if (switching.start[d] !== switching.start[e] || switching.stop[d] !== switching.stop[e]) return false;
    }
    for (let at = 0; at < bucketCount * deploymentCount; at += deploymentCount) {
      if (work[at + d] !== work[at + e]) return false;
    }
    return true;
  }
}

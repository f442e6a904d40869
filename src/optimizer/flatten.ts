import { InputError } from '../core/input-error.js';
import type { Program, SharedLimit, Switching } from './program.js';

/**
 * The programs of several models as one: what an engine that knows nothing of models is given.
 *
 * Buckets and deployments stand one part after the other; a bucket has no work on deployments of other parts. Limits on
 * unserved demand stay each part's own.
 */
export type FlattenedProgram = {
  readonly program: Program;
  /** Where each part begins among the buckets and the deployments. */
  readonly offsets: readonly { readonly bucket: number; readonly deployment: number }[];
};

/**
 * Most pairs of a bucket and a deployment that a joint program may have. Most of them are empty, but all are in memory,
 * in several copies: 64 MiB each at this size. The built-in solver never joins its models and has no such limit.
 */
export const mostFlattenedPairs = 8 * 1024 * 1024;

/**
 * Joins programs into one.
 *
 * @param sharedLimits limits over the deployments of all parts, in the order of the parts; a part's own are kept too
 * @throws InputError where the joint program would be larger than `mostFlattenedPairs`
 * @throws RangeError where a shared limit does not have one use per deployment
 */
export function flatten(parts: readonly Program[], sharedLimits: readonly SharedLimit[] = []): FlattenedProgram {
  const offsets: { bucket: number; deployment: number }[] = [];
  let bucketCount = 0;
  let deploymentCount = 0;
  for (const part of parts) {
    offsets.push({ bucket: bucketCount, deployment: deploymentCount });
    bucketCount += part.bucketCount;
    deploymentCount += part.deploymentCount;
  }
  refuseTooLarge(parts.length, bucketCount, deploymentCount);
  for (const { use } of sharedLimits) {
    if (use.length === deploymentCount) continue;
    throw new RangeError(`a shared limit has ${use.length} uses for ${deploymentCount} deployments`);
  }

  const work = new Float64Array(bucketCount * deploymentCount).fill(Number.POSITIVE_INFINITY);
  parts.forEach((part, p) => {
    const { bucket, deployment } = offsets[p]!;
    for (let b = 0; b < part.bucketCount; b++) {
      const row = part.work.subarray(b * part.deploymentCount, (b + 1) * part.deploymentCount);
      work.set(row, (bucket + b) * deploymentCount + deployment);
    }
  });
  const joinedOver =
    (kind: 'bucket' | 'deployment', length: number): Join =>
    (valuesOf, missing = 0) => {
      const all = new Float64Array(length).fill(missing);
      parts.forEach((part, p) => {
        const values = valuesOf(part, p);
        if (values !== undefined) all.set(values, offsets[p]![kind]);
      });
      return all;
    };
  const overBuckets = joinedOver('bucket', bucketCount);
  const overDeployments = joinedOver('deployment', deploymentCount);
  const limits = [
    ...sharedLimits,
    ...parts.flatMap((part, p) =>
      (part.sharedLimits ?? []).map(({ use, limit }) => ({
        use: overDeployments((_, at) => (at === p ? use : undefined)),
        limit,
      })),
    ),
  ];
  const switching: Switching | undefined = parts.some((part) => part.switching !== undefined)
    ? {
        current: overDeployments((part) => part.switching?.current, Number.NaN),
        start: overDeployments((part) => part.switching?.start),
        stop: overDeployments((part) => part.switching?.stop),
      }
    : undefined;
  return {
    offsets,
    program: {
      bucketCount,
      deploymentCount,
      work,
      rate: overBuckets((part) => part.rate),
      cost: overDeployments((part) => part.cost),
      capacity: overDeployments((part) => part.capacity),
      lower: overDeployments((part) => part.lower),
      upper: overDeployments((part) => part.upper),
      ...unservedOf(parts, overBuckets),
      ...(parts.some((part) => part.unservedPrice !== undefined)
        ? { unservedPrice: overBuckets((part) => part.unservedPrice) }
        : {}),
      ...(switching === undefined ? {} : { switching }),
      ...(limits.length === 0 ? {} : { sharedLimits: limits }),
    },
  };
}

/** Arrays of the parts one after the other; `missing` (default 0) where a part has none. */
type Join = (valuesOf: (part: Program, p: number) => Float64Array | undefined, missing?: number) => Float64Array;

/** The parts' limits on unserved demand: none over all of it, but each part's own. */
function unservedOf(parts: readonly Program[], overBuckets: Join): Pick<Program, 'unservedLimit' | 'unservedLimits'> {
  if (parts.every(({ unservedLimit }) => unservedLimit === 0)) return { unservedLimit: 0 };
  const limits = parts.flatMap(({ rate, unservedLimit, unservedLimits = [] }, p) => {
    if (unservedLimit === 0) return [];
    const own = unservedLimit < Number.POSITIVE_INFINITY ? [{ weight: rate, limit: unservedLimit }] : [];
    return [...own, ...unservedLimits].map(({ weight, limit }) => ({
      weight: overBuckets((_, at) => (at === p ? weight : undefined)),
      limit,
    }));
  });
  // One limit for all parts in which everything is served; of every bucket, also of one without arrivals, which a limit
  // on rates would not hold.
  const served = ({ unservedLimit }: Program) => unservedLimit === 0;
  if (parts.some(served)) {
    const weight = overBuckets((part) => (served(part) ? new Float64Array(part.bucketCount).fill(1) : undefined));
    limits.push({ weight, limit: 0 });
  }
  return {
    unservedLimit: Number.POSITIVE_INFINITY,
    ...(limits.length === 0 ? {} : { unservedLimits: limits }),
  };
}

function refuseTooLarge(models: number, buckets: number, deployments: number): void {
  const pairs = buckets * deployments;
  if (pairs <= mostFlattenedPairs) return;
  throw new InputError('joint program', [
    {
      place: 'models',
      found: `${models} models that share limits, ${buckets} buckets × ${deployments} deployments together: ${pairs} pairs`,
      expected: `at most ${mostFlattenedPairs} pairs for this solver; the built-in one has no such limit`,
    },
  ]);
}

import { compileDeploymentWork, isProfiled } from '../../core/deployment-work.js';
import type { BucketShares } from '../../core/plan.js';
import type { BucketDemand, ProblemModel } from '../../core/planning-problem.js';
import { bestEffortWork, bucketWork, type WorkTable } from '../../core/work.js';

/** What the deployments of a model can do for one bucket, read from the profiles. */
export type BucketFacts = {
  /** Work per request of those that may take it; best effort where none meets the SLO. Empty: none can serve it. */
  readonly works: ReadonlyMap<string, number>;
  readonly bestEffort: boolean;
  readonly extrapolated: boolean;
};

/** The works of one model. Reading them is most of what a check costs: buckets that are plainly served are read in part. */
export type ModelWorks = {
  readonly hasProfile: (deployment: string) => boolean;
  readonly factsOf: (bucket: BucketDemand) => BucketFacts;
  /** The same of a bucket as its plan has it; `works` may be only those of its own shares where these settle the rest. */
  readonly factsFor: (bucket: BucketDemand, entry: BucketShares) => BucketFacts;
};

export function modelWorks(model: ProblemModel): ModelWorks {
  const tables = new Map<string, WorkTable>();
  for (const deployment of model.deployments) {
    if (isProfiled(deployment)) tables.set(deployment.id, compileDeploymentWork(deployment));
  }
  // Inside every grid nothing is extrapolated, and one servable share says that the SLO can be met: most buckets need
  // no more than the works of their own shares.
  const least = (last: (table: WorkTable) => number): number => Math.min(...[...tables.values()].map(last));
  const insideInputs = least((table) => table.inputs.at(-1)!);
  const insideOutputs = least((table) => table.outputs.at(-1)!);
  return {
    hasProfile: (deployment) => tables.has(deployment),
    factsOf: (bucket) => bucketFacts(tables, bucket),
    factsFor: (bucket, entry) => {
      const isPlain =
        !entry.bestEffort &&
        entry.unservedShare === 0 &&
        bucket.inputTokens <= insideInputs &&
        bucket.outputTokens <= insideOutputs;
      if (isPlain) {
        const own = new Map<string, WorkTable>();
        for (const { deployment } of entry.to) {
          const table = tables.get(deployment);
          if (table !== undefined) own.set(deployment, table);
        }
        const facts = bucketFacts(own, bucket);
        if (facts.works.size > 0 && !facts.bestEffort) return facts;
      }
      return bucketFacts(tables, bucket);
    },
  };
}

function bucketFacts(tables: ReadonlyMap<string, WorkTable>, { inputTokens, outputTokens }: BucketDemand): BucketFacts {
  const works = new Map<string, number>();
  let extrapolated = false;
  for (const [id, table] of tables) {
    const answer = bucketWork(table, inputTokens, outputTokens);
    if (!answer.servable) continue;
    works.set(id, answer.work);
    if (answer.extrapolated) extrapolated = true;
  }
  if (works.size > 0) return { works, bestEffort: false, extrapolated };
  for (const [id, table] of tables) {
    const work = bestEffortWork(table, inputTokens, outputTokens);
    if (work < Number.POSITIVE_INFINITY) works.set(id, work);
  }
  return { works, bestEffort: works.size > 0, extrapolated };
}

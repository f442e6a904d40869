import type { BucketShares, UnservedDemand } from '../../core/plan.js';
import type { PlanOptions, ProblemModel } from '../../core/planning-problem.js';
import { close, groupBy, quote, type Say } from './faults.js';
import type { Ledger } from './ledger.js';
import { type BucketFacts, modelWorks } from './works.js';

/** What a model's shares come to, added up again. */
export type ModelService = {
  readonly model: ProblemModel;
  /** All demand [requests/s]. */
  readonly demandRps: number;
  readonly unservedRps: number;
  /** Buckets with demand that is left, and what could serve each. */
  readonly left: readonly LeftBucket[];
  /** Every bucket with demand and what can serve it; only where some of the demand is left. */
  readonly buckets: readonly { readonly rps: number; readonly works: ReadonlyMap<string, number> }[];
  /** Replicas of work on each deployment. */
  readonly load: ReadonlyMap<string, number>;
  readonly servesByBestEffort: boolean;
};

export type LeftBucket = {
  /** `bucket 256:64 of model "chat"`. */
  readonly where: string;
  readonly key: string;
  readonly rps: number;
  /** Work per request of the deployments that may take it; empty: none can (`slo`). */
  readonly works: ReadonlyMap<string, number>;
};

type CheckShares = {
  /** Is there a notice of this code on the model? */
  readonly isSaid: (code: string) => boolean;
  readonly ledger: Ledger;
  readonly options: PlanOptions;
  readonly shares: readonly BucketShares[];
  readonly unserved: readonly UnservedDemand[];
  readonly say: Say;
};

/**
 * Every bucket is placed whole, on deployments that can serve it, within what their replicas hold; what is left is
 * listed. With proportional routing all buckets that can be served have the same shares.
 */
export function checkShares(model: ProblemModel, input: CheckShares): ModelService {
  const { ledger, options, shares, unserved, say } = input;
  const name = quote(model.name);
  const nothing = {
    model,
    demandRps: 0,
    unservedRps: 0,
    left: [],
    buckets: [],
    load: new Map(),
    servesByBestEffort: false,
  };
  if (shares.length !== model.demand.length) {
    say(`model ${name} has shares for ${shares.length} of ${model.demand.length} buckets`);
    return nothing;
  }
  const works = modelWorks(model);
  const load = new Map<string, number>();
  const found: { readonly where: string; readonly key: string; readonly rps: number; readonly facts: BucketFacts }[] =
    [];
  let demandRps = 0;
  let unservedRps = 0;
  let servesByBestEffort = false;
  model.demand.forEach((bucket, b) => {
    const entry = shares[b]!;
    const key = `${bucket.inputTokens}:${bucket.outputTokens}`;
    const where = `bucket ${key} of model ${name}`;
    if (
      entry.inputTokens !== bucket.inputTokens ||
      entry.outputTokens !== bucket.outputTokens ||
      entry.rps !== bucket.rps
    ) {
      say(`${where} is not the bucket at its place in shares`);
      return;
    }
    const facts = works.factsFor(bucket, entry);
    if (entry.bestEffort !== facts.bestEffort) {
      say(
        `${where} is ${entry.bestEffort ? '' : 'not '}called best effort, yet ${facts.bestEffort ? 'no' : 'a'} deployment meets its SLO`,
      );
    }
    if (entry.extrapolated !== facts.extrapolated) {
      say(`${where} is ${entry.extrapolated ? '' : 'not '}called extrapolated against its profiles`);
    }
    if (bucket.rps === 0) {
      if (entry.to.length > 0 || entry.unservedShare !== 0) say(`${where} has no demand but shares`);
      return;
    }
    if (facts.bestEffort && entry.to.length > 0) servesByBestEffort = true;
    if (!(entry.unservedShare >= 0 && entry.unservedShare <= 1 + 1e-9)) {
      say(`${where} has an unserved share of ${entry.unservedShare}`);
    }
    if (new Set(entry.to.map(({ deployment }) => deployment)).size !== entry.to.length) {
      say(`${where} names a deployment twice`);
    }
    let sum = entry.unservedShare;
    for (const { deployment, share } of entry.to) {
      if (!works.hasProfile(deployment) || !(share > 0 && share <= 1 + 1e-9)) {
        say(`${where} has share ${share} on ${deployment}`);
        continue;
      }
      const work = facts.works.get(deployment);
      if (work === undefined) say(`${where} is placed on ${deployment}, which cannot serve it`);
      else load.set(deployment, (load.get(deployment) ?? 0) + share * bucket.rps * work);
      sum += share;
    }
    if (!(Math.abs(sum - 1) <= 1e-8)) say(`${where} has shares that sum to ${sum}`);
    demandRps += bucket.rps;
    const rps = bucket.rps * entry.unservedShare;
    unservedRps += rps;
    if (rps > 0) found.push({ where, key, rps, facts });
  });
  checkLoads(model, { ledger, load, say });

  const isProportional = options.routing === 'proportional';
  // What can serve a bucket matters, bucket by bucket, only where something is left.
  const isShort = found.length > 0;
  const worksAt = isShort ? model.demand.map((bucket) => works.factsOf(bucket).works) : [];
  const buckets = worksAt.flatMap((all, b) => {
    const { rps } = model.demand[b]!;
    return rps > 0 ? [{ rps, works: all }] : [];
  });
  if (isProportional) checkSameShares(model, shares, { isLost: (b) => isShort && worksAt[b]!.size === 0, say });
  const common = isProportional && isShort ? commonDeployments(buckets) : null;
  const restrict = (all: ReadonlyMap<string, number>): ReadonlyMap<string, number> =>
    common === null ? all : new Map([...all].filter(([id]) => common.has(id)));
  const left = found.map(({ facts, ...bucket }): LeftBucket => ({ ...bucket, works: restrict(facts.works) }));
  if (common !== null && common.size === 0 && buckets.some((bucket) => bucket.works.size > 0)) {
    if (!input.isSaid('no_common_deployment')) {
      say(`model ${name} has no deployment that serves all of its buckets, and nothing says so`);
    }
  }
  checkListed(model, left, unserved, say);
  return {
    model,
    demandRps,
    unservedRps,
    left,
    buckets: buckets.map((bucket) => ({ rps: bucket.rps, works: restrict(bucket.works) })),
    load,
    servesByBestEffort,
  };
}

/** Does the work fit, and is it what the plan says? */
function checkLoads(
  model: ProblemModel,
  { ledger, load, say }: { readonly ledger: Ledger; readonly load: ReadonlyMap<string, number>; readonly say: Say },
): void {
  for (const deployment of model.deployments) {
    const entry = ledger.planned.get(deployment.id);
    if (entry === undefined) continue;
    const work = load.get(deployment.id) ?? 0;
    const replicas = entry.targetReplicas ?? 0;
    if (!(work <= deployment.targetUtilization * replicas * (1 + 1.01e-9))) {
      say(`${deployment.id} has work for ${work} replicas at ${replicas} × ${deployment.targetUtilization}`);
    }
    const utilization = replicas > 0 ? work / replicas : 0;
    if (!close(entry.utilization, utilization, 1e-8)) {
      say(`${deployment.id} states utilization ${entry.utilization}, its work gives ${utilization}`);
    }
  }
}

/** Deployments that can serve every bucket that any can serve. */
function commonDeployments(buckets: ModelService['buckets']): ReadonlySet<string> {
  const servable = buckets.filter(({ works }) => works.size > 0);
  const [first, ...rest] = servable;
  return new Set([...(first?.works.keys() ?? [])].filter((id) => rest.every(({ works }) => works.has(id))));
}

function checkSameShares(
  model: ProblemModel,
  shares: readonly BucketShares[],
  { isLost, say }: { readonly isLost: (b: number) => boolean; readonly say: Say },
): void {
  let first: BucketShares | undefined;
  shares.forEach((entry, b) => {
    if (model.demand[b]!.rps === 0 || isLost(b)) return;
    first ??= entry;
    if (!sameShares(first, entry)) {
      say(
        `bucket ${entry.inputTokens}:${entry.outputTokens} of model ${quote(model.name)} has other shares than ${first.inputTokens}:${first.outputTokens}, though routing is proportional`,
      );
    }
  });
}

function sameShares(one: BucketShares, other: BucketShares): boolean {
  if (one.to.length !== other.to.length || !(Math.abs(one.unservedShare - other.unservedShare) <= 1e-9)) return false;
  const shareOf = new Map(one.to.map(({ deployment, share }) => [deployment, share]));
  return other.to.every(({ deployment, share }) => Math.abs(share - (shareOf.get(deployment) ?? Number.NaN)) <= 1e-9);
}

/** All that is left is listed, with the reason `slo` exactly where nothing can serve it. */
function checkListed(
  model: ProblemModel,
  left: readonly LeftBucket[],
  unserved: readonly UnservedDemand[],
  say: Say,
): void {
  const name = quote(model.name);
  const expected = new Map<string, { rps: number; isSlo: boolean }>();
  for (const { key, rps, works } of left) {
    expected.set(key, { rps: (expected.get(key)?.rps ?? 0) + rps, isSlo: works.size === 0 });
  }
  const listed = groupBy(unserved, ({ inputTokens, outputTokens }) => `${inputTokens}:${outputTokens}`);
  for (const [key, entries] of listed) {
    const { rps: rpsLeft, isSlo } = expected.get(key) ?? { rps: 0, isSlo: false };
    expected.delete(key);
    const rps = entries.reduce((sum, entry) => sum + entry.rps, 0);
    if (!(Math.abs(rps - rpsLeft) <= 1e-9 * rpsLeft) || !entries.every((entry) => entry.rps > 0)) {
      say(`bucket ${key} of model ${name} lists ${rps} unserved requests/s, its shares leave ${rpsLeft}`);
    }
    if (entries.some(({ reason }) => (reason === 'slo') !== isSlo)) {
      say(
        `bucket ${key} of model ${name} is unserved because of ${entries.map(({ reason }) => reason).join(', ')}, yet ${isSlo ? 'nothing' : 'a deployment'} can serve it`,
      );
    }
  }
  for (const [key, { rps }] of expected) {
    say(`bucket ${key} of model ${name} leaves ${rps} requests/s unserved, which are not listed`);
  }
}

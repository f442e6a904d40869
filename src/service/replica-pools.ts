import type { BucketDemand, ProblemModel } from '../core/planning-problem.js';
import type { ObservedDeployment } from '../core/ports.js';
import type { GpuProfile } from '../core/profile.js';
import { meanLengths } from '../demand/forecast.js';
import { mixCapacity } from '../optimizer/mix-capacity.js';
import { PoolReader, type PoolTraits, poolingFactor } from '../profiling/pooling.js';
import type { KnownProfile } from './known-profiles.js';

/**
 * How full a replica of each deployment can be, and what replicas gain by sharing load, as their profiles tell of the
 * lengths that come now (`profiling/pooling.ts`).
 */
export class ReplicaPools {
  readonly #reader = new PoolReader();
  readonly #byModel = new Map<string, Reading>();

  /** What is known of the deployments of a model, by id. */
  traitsOf(
    model: string,
    input: {
      readonly deployments: readonly ObservedDeployment[];
      readonly profileOf: (deployment: ObservedDeployment) => KnownProfile;
      readonly demand: readonly BucketDemand[];
      readonly nowMs: number;
    },
  ): ReadonlyMap<string, PoolTraits> {
    const { deployments, profileOf, demand, nowMs } = input;
    // Of no lengths nothing can be said, and the first ones are read at once.
    const totalRps = demand.reduce((sum, { rps }) => sum + rps, 0);
    const lengths = meanLengths(demand.map(({ rps, ...bucket }) => ({ ...bucket, share: rps / totalRps })));
    if (!(totalRps > 0) || lengths === null) {
      this.#byModel.delete(model);
      return nothing;
    }
    const profiles = deployments.map((deployment) => {
      const known = profileOf(deployment);
      return known.kind === 'known' ? known.profile : null;
    });
    const before = this.#byModel.get(model);
    const isFresh =
      before !== undefined &&
      before.readMs <= nowMs &&
      nowMs - before.readMs < readAgainMs &&
      areAlike(before.lengths, lengths) &&
      before.profiles.length === profiles.length &&
      before.profiles.every((profile, index) => profile === profiles[index]);
    if (isFresh) return before.traits;
    const traits = new Map<string, PoolTraits>();
    for (const [index, { id }] of deployments.entries()) {
      const profile = profiles[index];
      const read = profile == null ? null : this.#reader.traitsOf(profile, demand);
      if (read !== null) traits.set(id, read);
    }
    this.#byModel.set(model, { readMs: nowMs, lengths, profiles, traits });
    return traits;
  }

  /** Forgets models that are gone. */
  keepOnly(models: ReadonlyMap<string, unknown>): void {
    for (const name of this.#byModel.keys()) if (!models.has(name)) this.#byModel.delete(name);
  }
}

const nothing: ReadonlyMap<string, PoolTraits> = new Map();

type MeanLengths = { readonly inputTokens: number; readonly outputTokens: number };

type Reading = {
  readonly readMs: number;
  readonly lengths: MeanLengths;
  readonly profiles: readonly (GpuProfile | null)[];
  readonly traits: ReadonlyMap<string, PoolTraits>;
};

/** Lengths change slowly, and all buckets are read: of a thousand models not in every cycle. */
const readAgainMs = 60_000;

/** Means that differ by a larger share are other lengths, which are read at once. */
const otherLengths = 0.05;

function areAlike(a: MeanLengths, b: MeanLengths): boolean {
  const isNear = (before: number, now: number) => Math.abs(now - before) <= otherLengths * before;
  return isNear(a.inputTokens, b.inputTokens) && isNear(a.outputTokens, b.outputTokens);
}

/** Factors that differ by less are the same. */
const hardlyAny = 0.002;

/**
 * A model whose deployments have so many replicas that share load.
 *
 * @param traits of those that share load, by id
 */
export function pooledModel(
  model: ProblemModel,
  traits: ReadonlyMap<string, PoolTraits>,
  replicasOf: (id: string) => number,
): ProblemModel {
  if (traits.size === 0) return model;
  const deployments = model.deployments.map((deployment) => {
    const own = traits.get(deployment.id);
    if (own === undefined) return deployment;
    return { ...deployment, poolingFactor: poolingFactor({ ...own, replicas: replicasOf(deployment.id) }) };
  });
  return { ...model, deployments };
}

/**
 * The model as it is with the replicas that a plan gave it; null where it was planned so.
 *
 * @param plan.onlyLess only where replicas were counted on to serve more than so few of them do
 */
export function replannedModel(
  model: ProblemModel,
  traits: ReadonlyMap<string, PoolTraits>,
  plan: { readonly targetOf: (id: string) => number | null; readonly onlyLess: boolean },
): ProblemModel | null {
  const next = pooledModel(model, traits, (id) => plan.targetOf(id) ?? 1);
  let isOther = false;
  const deployments = model.deployments.map((before, index) => {
    const after = next.deployments[index]!;
    const change = after.poolingFactor / before.poolingFactor - 1;
    // What the plan does not use is as it is: its factor decided nothing but that.
    const isUsed = (plan.targetOf(before.id) ?? 0) > 0;
    if (!isUsed || Math.abs(change) < hardlyAny || (plan.onlyLess && change > 0)) return before;
    isOther = true;
    return after;
  });
  return isOther ? { ...model, deployments } : null;
}

/**
 * The model as it is for whoever compares its deployments, each alone with all of the demand: as many replicas share it as
 * would serve it without sharing. That is a few more than are needed, so that no single one is made out too dear.
 */
export function pooledAlone(model: ProblemModel, traits: ReadonlyMap<string, PoolTraits>): ProblemModel {
  if (traits.size === 0) return model;
  const apart = model.deployments.map((deployment) => ({ ...deployment, poolingFactor: 1 }));
  const { rpsPerReplica, demandRps } = mixCapacity({ ...model, deployments: apart });
  return pooledModel(model, traits, (id) => {
    const rps = rpsPerReplica.get(id) ?? 0;
    return rps > 0 ? Math.ceil(demandRps / rps) : 1;
  });
}

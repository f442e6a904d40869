import { type GpuCatalogue, gpuByName } from '../core/gpu-types.js';
import type { ModelCatalogue } from '../core/model-types.js';
import type { PlanNotice } from '../core/plan.js';
import type { BucketDemand, ProblemDeployment, ProblemModel } from '../core/planning-problem.js';
import type { ObservedDeployment } from '../core/ports.js';
import { type GpuProfile, largestUsd } from '../core/profile.js';
import { ttftPerInputTokenName } from '../profiling/attainment.js';
import type { ModelConfig, SloConfig } from './config.js';
import type { KnownProfile } from './known-profiles.js';
import { weightsThatCannotFit } from './weights-memory.js';

/**
 * From what was observed to what is planned: one model's deployments, profiles, prices, demand and overrides become
 * its part of the PlanningProblem. Whatever is not as its owner meant it becomes a notice in the plan.
 */

export type ModelProblemInput = {
  readonly name: string;
  /** Every followed deployment of the model, over all namespaces: a model name is one pool. */
  readonly deployments: readonly ObservedDeployment[];
  readonly profileOf: (deployment: ObservedDeployment) => KnownProfile;
  readonly demand: readonly BucketDemand[];
  /** Replicas that a person fixed, by deployment id. */
  readonly fixedReplicas: ReadonlyMap<string, { readonly replicas: number }>;
  /** By deployment id; see `Fleet.readyReplicas`. */
  readonly readyReplicasOf: (id: string) => number | null;
  /** What was published when a deployment could last be planned, by its id; null = it never could. */
  readonly plannedReplicasOf: (id: string) => number | null;
  readonly previousShares: ProblemModel['previousShares'];
  /** What a start costs: its price for the seconds from asked-for to ready, so many times; null = the options say. */
  readonly starts: {
    readonly secondsOf: (deployment: ObservedDeployment) => number;
    /** Above 1 where it must be earned back sooner than within `options.horizonHours`. */
    readonly weight: number;
  } | null;
  /** Requests wait for a model of which nothing is known to run and no length is known: one replica is started. */
  readonly wakes: boolean;
  /** Where models share limits, what must be published whatever the plan says is told to the plan; null = they do not. */
  readonly shared: {
    /** The fewest replicas of a deployment that may be published now, by its id: it may not fall faster. */
    readonly lowestReplicasOf: (id: string) => number;
    /** GPUs that its type may use at most. */
    readonly gpusAllowed: (deployment: ObservedDeployment, gpuType: string) => number;
  } | null;
  readonly settings: ModelConfig;
  readonly catalogue: GpuCatalogue;
  readonly modelCatalogue: ModelCatalogue;
};

export type ModelProblem = {
  readonly model: ProblemModel;
  readonly notices: readonly PlanNotice[];
  /** USD per replica-hour by deployment id; null = no price is known. */
  readonly prices: ReadonlyMap<string, number | null>;
  /** The deployment that is started because requests wait; null = none is. */
  readonly woken: string | null;
  /** Deployments with a profile and a price. With none there is nothing to plan: the model is held. */
  readonly usableDeployments: number;
};

/** Builds one model's part of the problem. Never throws on what was observed. */
export function buildModelProblem(input: ModelProblemInput): ModelProblem {
  const notices: PlanNotice[] = [];
  const prices = new Map<string, number | null>();
  const parts = input.deployments.map((deployment) => {
    const notice = (code: string, message: string) =>
      notices.push({ code, message: `${deployment.id}: ${message}`, model: input.name, deployment: deployment.id });
    for (const { code, message } of deployment.notices) notice(code, message);
    noteReadiness(deployment, input.readyReplicasOf(deployment.id), notice);
    const known = input.profileOf(deployment);
    const profile = usableProfile(known, notice);
    const price = priceOf(deployment, known, input.catalogue);
    prices.set(deployment.id, price);
    if (profile !== null && price === null) {
      notice(
        'no_price',
        'neither an annotation, the configuration, its profile nor the catalogue says what a replica costs: it keeps its current replicas and serves nothing in the plan',
      );
    }
    if (profile !== null) noteSlo(profile, input.settings.slo, notice);
    if (deployment.gpuType === null) {
      notice('no_gpu_type', `nothing names its GPU type: ${JSON.stringify(deployment.name)} is taken as one`);
    }
    const tooLarge = weightsThatCannotFit(deployment, {
      gpus: input.catalogue,
      models: input.modelCatalogue,
      weightPrecision: input.settings.weightPrecision,
    });
    if (tooLarge !== null) notice('weights_exceed_gpu_memory', tooLarge);
    return toProblem({ deployment, profile: price === null ? null : profile, price, input, notice });
  });
  const woken = input.wakes ? wakingDeployment(parts, input) : null;
  const model: ProblemModel = {
    name: input.name,
    priority: input.settings.priority,
    unservedUsdPerRequest: input.settings.unservedUsdPerRequest,
    minServedShare: input.settings.minServedShare,
    demand: input.demand,
    deployments: withIdleFloor(
      parts.map((part) => (part.id === woken ? { ...part, minReplicas: 1 } : part)),
      input,
    ),
    previousShares: keptShares(input.previousShares, prices),
  };
  return { model, notices, prices, woken, usableDeployments: parts.filter((part) => part.profile !== null).length };
}

/** Where nothing names a GPU type, the deployment's name stands for one. */
function gpuTypeOf({ gpuType, name }: ObservedDeployment): string {
  return gpuType ?? name;
}

type Note = (code: string, message: string) => void;

/** Not of a source that never tells: there is nothing to be mended. */
function noteReadiness({ readyReplicas }: ObservedDeployment, planned: number | null, notice: Note): void {
  if (readyReplicas !== null || planned === null) return;
  const before = `the ${planned} that were ready when it was last known are counted`;
  notice('readiness_unread', `how many of its replicas are ready is not known now: ${before}`);
}

function usableProfile(known: KnownProfile, notice: Note): GpuProfile | null {
  switch (known.kind) {
    case 'known':
      if (known.concern !== null) notice('profile_kept', known.concern);
      if (known.correctionFactor !== undefined) noteCorrection(known.correctionFactor, notice);
      return known.profile;
    case 'none':
      notice(known.code, `${known.message}: it keeps its current replicas and serves nothing in the plan`);
      return null;
    case 'unread':
      notice('profile_unread', 'its profile could not be read yet: it keeps its current replicas');
      return null;
  }
}

function noteCorrection(factor: number, notice: Note): void {
  const how = factor < 1 ? 'slower' : 'faster';
  notice(
    'profile_corrected',
    `the throughputs of its profile are multiplied by ${factor}, because its engines are ${how} than it says`,
  );
}

/** Annotation or config, then the profile's `cost` (already per replica), then list price × GPUs. */
function priceOf(deployment: ObservedDeployment, known: KnownProfile, catalogue: GpuCatalogue): number | null {
  if (deployment.usdPerReplicaHour !== null) return deployment.usdPerReplicaHour;
  const cost = known.kind === 'known' ? known.profile.cost : null;
  if (cost !== null) return cost;
  const usdPerGpuHour = deployment.gpuType === null ? null : gpuByName(catalogue, deployment.gpuType)?.usdPerGpuHour;
  // A replica that takes no GPU at all is not free: what it costs is just not known.
  return usdPerGpuHour && deployment.gpusPerReplica > 0 ? usdPerGpuHour * deployment.gpusPerReplica : null;
}

type Part = {
  readonly deployment: ObservedDeployment;
  readonly profile: GpuProfile | null;
  readonly price: number | null;
  readonly input: ModelProblemInput;
  readonly notice: Note;
};

function toProblem({ deployment, profile, price, input, notice }: Part): ProblemDeployment {
  const { maxReplicas } = deployment;
  // A number that may not fall faster is a floor for a while: nobody else can have those GPUs yet.
  const lowest = Math.min(input.shared?.lowestReplicasOf(deployment.id) ?? 0, maxReplicas);
  const floor = (asked: number, what: string): number => {
    if (asked <= maxReplicas) return asked;
    notice('floor_above_max', `${what} ${asked} is above its maximum of ${maxReplicas} replicas, which wins`);
    return maxReplicas;
  };
  return {
    id: deployment.id,
    gpuType: gpuTypeOf(deployment),
    gpusPerReplica: deployment.gpusPerReplica,
    usdPerReplicaHour: price ?? 0,
    minReplicas: Math.max(floor(deployment.minReplicas, 'a minimum of'), lowest),
    idleMinReplicas: floor(deployment.idleMinReplicas ?? 0, 'an idle minimum of'),
    maxReplicas,
    currentReplicas: profile === null ? keptReplicas(deployment, input) : deployment.currentReplicas,
    readyReplicas: input.readyReplicasOf(deployment.id),
    pendingReplicas: deployment.pendingReplicas,
    fixedReplicas: fixedReplicas(deployment, input),
    startupSeconds: deployment.startupSeconds,
    ...(input.starts === null || price === null
      ? {}
      : { startUsdPerReplica: startUsd(price, input.starts.secondsOf(deployment) * input.starts.weight) }),
    targetUtilization: 1,
    poolingFactor: 1,
    maxTokens: deployment.maxTokens,
    profile: profile?.grid ?? null,
  };
}

/** Until it serves, a replica is paid for nothing [USD]. */
function startUsd(usdPerReplicaHour: number, startupSeconds: number): number {
  return Math.min(largestUsd, (usdPerReplicaHour * startupSeconds) / 3600);
}

/**
 * What a person fixed. And where models share limits, what a paused deployment runs: it is published whatever the plan
 * says, so nobody else can have its GPUs.
 */
function fixedReplicas(deployment: ObservedDeployment, input: ModelProblemInput): number | null {
  const override = input.fixedReplicas.get(deployment.id);
  if (override !== undefined) return override.replicas;
  return input.shared !== null && deployment.paused ? deployment.currentReplicas : null;
}

/**
 * A model that is held, in a problem whose models share limits: it asks for nothing, and its replicas stand where they
 * are, so that nobody else gets their GPUs.
 */
export function standingModel(input: {
  readonly name: string;
  readonly deployments: readonly ObservedDeployment[];
  /** At how many replicas each stays, by id; null or absent = at what runs now. */
  readonly replicas: ReadonlyMap<string, number | null>;
  /** By deployment id; see `Fleet.readyReplicas`. */
  readonly readyReplicasOf: (id: string) => number | null;
  /** USD per replica-hour; null = not known, counts nothing. */
  readonly priceOf: (id: string) => number | null;
  readonly settings: ModelConfig;
}): ProblemModel {
  const { name, deployments, replicas, readyReplicasOf, priceOf, settings } = input;
  return {
    name,
    priority: settings.priority,
    unservedUsdPerRequest: settings.unservedUsdPerRequest,
    minServedShare: 0,
    demand: [],
    deployments: deployments.map((deployment) => ({
      id: deployment.id,
      gpuType: gpuTypeOf(deployment),
      gpusPerReplica: deployment.gpusPerReplica,
      usdPerReplicaHour: priceOf(deployment.id) ?? 0,
      minReplicas: 0,
      idleMinReplicas: 0,
      maxReplicas: deployment.maxReplicas,
      currentReplicas: deployment.currentReplicas,
      readyReplicas: readyReplicasOf(deployment.id),
      pendingReplicas: deployment.pendingReplicas,
      fixedReplicas: replicas.get(deployment.id) ?? null,
      startupSeconds: deployment.startupSeconds,
      targetUtilization: 1,
      poolingFactor: 1,
      maxTokens: deployment.maxTokens,
      profile: null,
    })),
    previousShares: [],
  };
}

/**
 * Where nothing can be planned, what runs stays; and where it lost its profile or its price on its way up, what was
 * asked for then.
 */
function keptReplicas(deployment: ObservedDeployment, { plannedReplicasOf }: ModelProblemInput): number | null {
  const { id, currentReplicas, maxReplicas } = deployment;
  const planned = plannedReplicasOf(id);
  return planned === null ? currentReplicas : Math.max(currentReplicas ?? 0, Math.min(planned, maxReplicas));
}

/**
 * A model at zero replicas produces no traces that would wake it. So where no deployment of the model says anything
 * about idleness, its cheapest one keeps one replica, unless the configuration says that something else wakes it, or
 * a floor keeps the model awake anyway.
 */
function withIdleFloor(parts: readonly ProblemDeployment[], input: ModelProblemInput): readonly ProblemDeployment[] {
  const saysSomething = input.deployments.some((deployment) => deployment.idleMinReplicas !== null);
  if (input.settings.scaleToZero || saysSomething || isKeptAwake(parts)) return parts;
  const cheapest = cheapestToRun(parts, input);
  return parts.map((part) => (part.id === cheapest ? { ...part, idleMinReplicas: 1 } : part));
}

/** Which deployment gets the replica of a model that has to wake; null = a floor wakes it already, or nothing can. */
function wakingDeployment(parts: readonly ProblemDeployment[], input: ModelProblemInput): string | null {
  return isKeptAwake(parts) ? null : cheapestToRun(parts, input);
}

function isKeptAwake(parts: readonly ProblemDeployment[]): boolean {
  return parts.some((part) => (part.fixedReplicas ?? part.minReplicas) > 0 && part.profile !== null);
}

/** The deployment that serves a little at the lowest price; null = none can be run. */
function cheapestToRun(parts: readonly ProblemDeployment[], input: ModelProblemInput): string | null {
  const paused = new Set(input.deployments.filter(({ paused }) => paused).map(({ id }) => id));
  const { shared } = input;
  // A type that has no room for one replica wakes nobody.
  const roomless = new Set(
    input.deployments
      .filter((each) => shared !== null && shared.gpusAllowed(each, gpuTypeOf(each)) < each.gpusPerReplica)
      .map(({ id }) => id),
  );
  const candidates = parts
    .filter((part) => part.profile !== null && part.maxReplicas > 0 && part.fixedReplicas === null)
    .sort(
      (a, b) =>
        Number(roomless.has(a.id)) - Number(roomless.has(b.id)) ||
        Number(paused.has(a.id)) - Number(paused.has(b.id)) ||
        a.usdPerReplicaHour - b.usdPerReplicaHour ||
        (a.id < b.id ? -1 : 1),
    );
  return candidates[0]?.id ?? null;
}

/** Shares of deployments that are gone mean nothing to the next plan. */
function keptShares(
  shares: ProblemModel['previousShares'],
  deployments: ReadonlyMap<string, unknown>,
): ProblemModel['previousShares'] {
  if (shares.every((bucket) => bucket.to.every(({ deployment }) => deployments.has(deployment)))) return shares;
  return shares
    .map((bucket) => ({ ...bucket, to: bucket.to.filter(({ deployment }) => deployments.has(deployment)) }))
    .filter((bucket) => bucket.to.length > 0);
}

/** The profile format's names of what the configuration calls by its unit. */
const sloNames = [
  ['ttft', 'ttftSeconds'],
  ['tpot', 'tpotSeconds'],
  ['e2e', 'e2eSeconds'],
] as const;

/** A profile that was made for another SLO than the configured one may promise too much, or too little. */
function noteSlo(profile: GpuProfile, slo: SloConfig | null, notice: Note): void {
  const differences = slo === null ? [] : sloDifferences(profile, slo);
  if (differences.length > 0) {
    notice(
      'slo_mismatch',
      `its profile was made for another objective than the configured one: ${differences.join(', ')}`,
    );
  }
}

/** In what the objective that a profile was made for is another one; empty where it is the same. */
export function sloDifferences(profile: Pick<GpuProfile, 'slos'>, slo: SloConfig): readonly string[] {
  const differences: string[] = [];
  for (const [name, key] of sloNames) {
    const wanted = slo[key];
    const made = profile.slos[name];
    if (wanted === null ? made !== undefined : made === undefined || !nearly(made, wanted)) {
      differences.push(
        `${name} ${made === undefined ? 'any' : `${made} s`} instead of ${wanted === null ? 'any' : `${wanted} s`}`,
      );
    }
  }
  const perToken = profile.slos[ttftPerInputTokenName] ?? 0;
  if (!nearly(perToken, slo.ttftSecondsPerInputToken)) {
    const inMs = (seconds: number): string => `${Number((1000 * seconds).toPrecision(6))} ms`;
    differences.push(`ttft ${inMs(perToken)} per input token instead of ${inMs(slo.ttftSecondsPerInputToken)}`);
  }
  // A profile of the mean (percentile 0, or none stated) promises nothing about a share of requests.
  const percentile = profile.slos.percentile ?? 0;
  if (!nearly(percentile, slo.attainment * 100)) {
    const made = percentile === 0 ? 'the mean' : `the ${percentile}th percentile`;
    differences.push(`${made} instead of ${(slo.attainment * 100).toPrecision(4).replace(/\.?0+$/, '')} % of requests`);
  }
  return differences;
}

function nearly(a: number, b: number): boolean {
  return Math.abs(a - b) <= 1e-9 * Math.max(1, Math.abs(a), Math.abs(b));
}

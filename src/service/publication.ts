import type { Plan, PlannedDeployment } from '../core/plan.js';
import type { HoldSettings, ReplicaHold } from './replica-holds.js';

/**
 * From what is planned to what is published: the number that an autoscaler acts on.
 *
 * In this order: a person's override wins; in shadow mode, and for a paused deployment, the current replicas are
 * published; a held model keeps its numbers; otherwise it is the plan's next step towards its target, limited in how
 * fast it may fall and rise.
 */

/**
 * What AIBrix's PodAutoscaler reads for `replicas` whole replicas: unit × n − unit / 2, and 0 for none.
 *
 * It divides by `targetValue` (the unit, 100), rounds up, and ignores a value within 10 % of the target itself: 100 for
 * one replica would hold whatever runs. Half a unit below is far from that band, survives the averaging over its
 * window, and every value in (100(n − 1), 100n] rounds up to n.
 *
 * @param replicas whole, >= 0
 * @param unit whole, >= 4
 * @returns a whole number
 */
export function aibrixMetric(replicas: number, unit: number): number {
  return replicas <= 0 ? 0 : unit * replicas - Math.floor(unit / 2);
}

/** What is known of a deployment besides its plan. */
export type PublicationFacts = {
  readonly currentReplicas: number | null;
  readonly paused: boolean;
  /** Null = no price is known: it counts nothing in `publishedUsdPerHour`. */
  readonly usdPerReplicaHour: number | null;
  /** Set by a person; `expiresAt` is ISO 8601, null = until cleared. */
  readonly override: { readonly replicas: number; readonly expiresAt: string | null } | null;
  /** What was published last; null = nothing yet. */
  readonly published: number | null;
  /** See `PublishedEntry`: what a held model keeps, also where `published` is what a person fixed. */
  readonly ownReplicas: number | null;
  /**
   * It cannot be planned now (no profile or no price), and this was published when it last could; null = it can, or never
   * could.
   */
  readonly keptReplicas: number | null;
  /** `published` comes from an earlier process, which cannot know what was changed since. */
  readonly restored: boolean;
  /** Its GPU type may hold no more than what runs, and nobody knows what runs. */
  readonly isUncounted: boolean;
  /** Highest number published within the last minute; null = none. */
  readonly highestWithinMinute: number | null;
  /** Lowest number published within the last minute; null = none. */
  readonly lowestWithinMinute: number | null;
  /** Why the plan has more than the demand needs now; null = it has not. */
  readonly hold: ReplicaHold | null;
  /** Replicas that stay because the demand needs them, while what others have is kept; null = none that no floor keeps anyway. */
  readonly wantedBesideKept: number | null;
  /** Its GPU type is short, and nothing else serves what its replicas would that do not come: at most so many stay asked for. */
  readonly askedForInVain: number | null;
  /** It is started because requests wait of which nothing is known. */
  readonly isWoken: boolean;
};

export type PublicationSettings = {
  readonly mode: 'live' | 'shadow';
  /** Null = no limit, or one that the plan keeps already. */
  readonly maxStepsDownPerMinute: number | null;
  /** The same for a held model, which no plan makes fall; null = no limit. */
  readonly maxHeldStepsDownPerMinute: number | null;
  /** Null = no limit. */
  readonly maxStepsUpPerMinute: number | null;
  /** What holds are told by. */
  readonly stability: HoldSettings;
};

type Published = { readonly replicas: number | null; readonly reason: string };

/**
 * The plan with what is published for each deployment: `replicas`, `reason` and `publishedUsdPerHour` are set,
 * everything else stays as planned.
 *
 * @param factsOf by deployment id; undefined where nothing is known of it
 */
export function publishPlan(
  plan: Plan,
  factsOf: (id: string) => PublicationFacts | undefined,
  settings: PublicationSettings,
): Plan {
  const heldReasons = new Map(plan.models.map((model) => [model.name, model.heldReason]));
  let publishedUsdPerHour = 0;
  const deployments = plan.deployments.map((deployment) => {
    const facts = factsOf(deployment.id);
    if (facts === undefined) return deployment;
    const heldReason = heldReasons.get(deployment.model) ?? null;
    const published = publishDeployment({ deployment, heldReason, facts, settings });
    publishedUsdPerHour += (published.replicas ?? 0) * (facts.usdPerReplicaHour ?? 0);
    return { ...deployment, ...published };
  });
  return { ...plan, deployments, publishedUsdPerHour };
}

/** What is published for one deployment, and why in one sentence. */
export function publishDeployment(input: {
  readonly deployment: PlannedDeployment;
  readonly heldReason: string | null;
  readonly facts: PublicationFacts;
  readonly settings: PublicationSettings;
}): Published {
  const { deployment, heldReason, facts, settings } = input;
  const { currentReplicas: current, override } = facts;
  if (override !== null) {
    const until = override.expiresAt === null ? 'until it is cleared' : `until ${override.expiresAt}`;
    return { replicas: override.replicas, reason: `A person fixed it at ${override.replicas} ${until}.` };
  }
  if (settings.mode === 'shadow' || facts.paused) {
    const cause = facts.paused ? 'It is paused' : 'In shadow mode';
    if (current === null) {
      return { replicas: null, reason: `${cause}, and its current replicas are not known: nothing is published.` };
    }
    return {
      replicas: current,
      reason: `${cause}: its current ${current} are published; the plan asks for ${deployment.targetReplicas ?? '?'}.`,
    };
  }
  if (heldReason !== null) return heldNumber(heldReason, { facts, deployment, settings });
  const step = deployment.replicas;
  if (step === null) {
    return { replicas: null, reason: 'Its current replicas are not known, and no profile says more.' };
  }
  if (facts.isUncounted) return uncountedNumber(facts, deployment);
  // What was on its way up is not cut because its profile went away.
  const isKept = facts.keptReplicas !== null && step > (current ?? 0);
  const waiting = Math.min(facts.published ?? 0, facts.askedForInVain ?? 0);
  if (waiting > step) {
    return {
      replicas: waiting,
      reason: `Still asked for: ${deployment.gpuType} comes for ${step} only, and nothing else serves this demand.`,
    };
  }
  const reason = isKept
    ? `It lost its profile or its price: it keeps the ${step} that were published when it could last be planned.`
    : (heldUpReason(facts, { deployment, settings }) ?? deployment.reason);
  const { maxStepsDownPerMinute, maxStepsUpPerMinute } = settings;
  return limitRise(limitFall({ replicas: step, reason }, facts, maxStepsDownPerMinute), facts, maxStepsUpPerMinute);
}

/** Why the target is what it is, where the demand alone does not say it. */
function heldUpReason(
  { hold, wantedBesideKept, isWoken }: PublicationFacts,
  { deployment, settings }: { readonly deployment: PlannedDeployment; readonly settings: PublicationSettings },
): string | null {
  const { targetReplicas: target, utilization } = deployment;
  if (isWoken && target === 1)
    return 'Woken: requests wait or are expected, and no replica runs that could tell how long they are.';
  if (hold !== null) return target === hold.replicas ? holdReason(hold, settings.stability) : null;
  // Where its part of the demand fills them all the same, the plan has said so.
  if (target === null || target !== wantedBesideKept || utilization * target > target - 1) return null;
  return `Kept at ${target}: the demand needs them once what is kept beside them has gone.`;
}

/** Which rule holds a number up, and until when, in one sentence. */
export function holdReason({ rule, replicas, wanted, untilMs }: ReplicaHold, settings: HoldSettings): string {
  const until = untilMs === null ? '' : `, until ${new Date(untilMs).toISOString().replace('.000Z', 'Z')}`;
  const kept = `Kept at ${replicas} where the demand now needs ${wanted}`;
  switch (rule) {
    case 'stabilization':
      return `${kept}: ${replicas} were planned for within the last ${settings.scaleDownStabilizationSeconds} s${until}.`;
    case 'tolerance': {
      const room = percentText(settings.scaleDownTolerance);
      return `${kept}: ${wanted} would have no room for ${room} more demand, until it falls further.`;
    }
    case 'lifetime':
      return `${kept}: a start is kept for ${settings.minReplicaLifetimeSeconds} s${until}.`;
  }
}

function percentText(share: number): string {
  return `${Number((share * 100).toPrecision(3))} %`;
}

function limitRise(published: Published, facts: PublicationFacts, limit: number | null): Published {
  // What runs counts as published before the first number.
  const lowest = facts.lowestWithinMinute ?? facts.published ?? facts.currentReplicas;
  if (limit === null || lowest === null || published.replicas === null) return published;
  const highest = Math.max(lowest + limit, facts.published ?? 0);
  if (published.replicas <= highest) return published;
  return {
    replicas: highest,
    reason: `On its way from ${lowest} up to ${published.replicas}, by at most ${limit} a minute.`,
  };
}

/** A type that no pool names may hold what runs; where that is not known, neither is the number. */
function uncountedNumber({ published }: PublicationFacts, { gpuType }: PlannedDeployment): Published {
  const cause = `No pool names ${gpuType}, and what runs of it is not known`;
  return published === null
    ? { replicas: null, reason: `${cause}: nothing is published.` }
    : { replicas: published, reason: `${cause}: it keeps its ${published}.` };
}

/**
 * What a held model keeps of a deployment, or goes back to where a person had fixed another number: what gpumix itself
 * published; without a profile anywhere, what runs. Never a guess, never 0 for unknown; null = not known.
 */
export function heldReplicas(
  heldReason: string,
  { currentReplicas: current, published, ownReplicas: own, restored }: PublicationFacts,
): number | null {
  if (own !== null) {
    // A number of an earlier process must not undo what people or autoscalers did while nobody planned: what runs beyond
    // what was published. Up to there it is what was asked for.
    const isRaised = restored && current !== null && current > (published ?? 0);
    return isRaised ? Math.max(own, current) : own;
  }
  return heldReason === 'nothing_servable' || heldReason === 'no_profile' ? current : null;
}

function heldNumber(
  heldReason: string,
  {
    facts,
    deployment,
    settings,
  }: {
    readonly facts: PublicationFacts;
    readonly deployment: PlannedDeployment;
    readonly settings: PublicationSettings;
  },
): Published {
  const replicas = heldReplicas(heldReason, facts);
  if (replicas === null) {
    return {
      replicas,
      reason: `No number is known yet for ${deployment.id}: its model is held (${heldReason}) before its first plan.`,
    };
  }
  if (isGoingBack(facts)) {
    const back = { replicas, reason: `Held (${heldReason}): back at the ${replicas} from before a person fixed it.` };
    const fallen = limitFall(back, facts, settings.maxHeldStepsDownPerMinute);
    // What runs already is no rise.
    return facts.restored ? fallen : limitRise(fallen, facts, settings.maxStepsUpPerMinute);
  }
  if (facts.ownReplicas !== null) {
    const origin = facts.restored ? ' published before the restart' : '';
    return { replicas, reason: `Held (${heldReason}): it keeps the ${replicas}${origin}.` };
  }
  const cause =
    heldReason === 'nothing_servable'
      ? 'No profile serves any request of the model'
      : 'No deployment of the model has a usable profile';
  return { replicas, reason: `${cause}: it keeps its ${replicas}.` };
}

/** Whether a person's number is published though it ended, and gpumix's own one is known. */
export function isGoingBack({ published, ownReplicas: own }: PublicationFacts): boolean {
  return own !== null && published !== null && own !== published;
}

function limitFall(
  published: Published & { readonly replicas: number },
  facts: PublicationFacts,
  limit: number | null,
): Published {
  const lowest = lowestReplicas(facts, limit);
  if (limit === null || published.replicas >= lowest) return published;
  return {
    replicas: lowest,
    reason: `On its way from ${lowest + limit} down to ${published.replicas}, by at most ${limit} a minute.`,
  };
}

/** The fewest replicas that may be published now, where a number may fall by `limit` a minute; null = by any. */
export function lowestReplicas(
  facts: Pick<PublicationFacts, 'highestWithinMinute' | 'published' | 'currentReplicas'>,
  limit: number | null,
): number {
  if (limit === null) return 0;
  // What runs counts as published before the first number, so that a start does not fall faster than later cycles.
  const highest = facts.highestWithinMinute ?? facts.published ?? facts.currentReplicas;
  return highest === null ? 0 : Math.max(0, highest - limit);
}

/** Highest and lowest numbers published within the last minute, per deployment. Times are Unix milliseconds. */
export class RecentlyPublished {
  readonly #byId = new Map<string, { readonly atMs: number; readonly replicas: number }[]>();

  add(id: string, replicas: number, atMs: number): void {
    const entries = this.#byId.get(id) ?? [];
    this.#byId.set(id, [...entries.filter((entry) => isWithinMinute(entry.atMs, atMs)), { atMs, replicas }]);
  }

  highest(id: string, nowMs: number): number | null {
    let highest: number | null = null;
    for (const entry of this.#byId.get(id) ?? []) {
      if (isWithinMinute(entry.atMs, nowMs) && (highest === null || entry.replicas > highest)) highest = entry.replicas;
    }
    return highest;
  }

  lowest(id: string, nowMs: number): number | null {
    let lowest: number | null = null;
    for (const entry of this.#byId.get(id) ?? []) {
      if (isWithinMinute(entry.atMs, nowMs) && (lowest === null || entry.replicas < lowest)) lowest = entry.replicas;
    }
    return lowest;
  }

  /** Forgets deployments that are gone. */
  keepOnly(known: ReadonlySet<string> | ReadonlyMap<string, unknown>): void {
    for (const id of this.#byId.keys()) if (!known.has(id)) this.#byId.delete(id);
  }
}

/** A clock that was set back leaves entries that are later than now: they are nobody's past. */
function isWithinMinute(atMs: number, nowMs: number): boolean {
  return atMs <= nowMs && nowMs - atMs < 60_000;
}

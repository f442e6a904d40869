import { z } from 'zod';
import { check } from '../core/parse.js';
import type { Plan, PlanNotice } from '../core/plan.js';
import type { PlanningProblem } from '../core/planning-problem.js';
import type { ObservedDeployment } from '../core/ports.js';

/**
 * Stock-outs: replicas that were asked for and do not come, because the cloud or the cluster has no more GPUs of their
 * type. The demand then has to go to other types, and nobody should wait for ever.
 *
 * Glossary: a replica *waits* while it is asked for and not ready; it is *overdue* beyond its start-up allowance; a GPU
 * type is *short* from the first overdue replica on, for a *back-off*, and while it is short the plan may use no more of
 * it than what ran when it was marked.
 *
 * Per GPU type:
 *
 *     well ──a replica is overdue──► short (back-off 10 min) ──back-off over──► on trial ──overdue again──► short, twice as long
 *      ▲                                │                                          │
 *      └────────── more GPUs run than when it was marked ◄─────────────────────────┘   (or an hour without another one)
 *
 * No I/O and no clock: time is an argument. The state is plain JSON, so that a restart keeps it.
 */

/** What is seen of one deployment; `gpuType` null means that its name stands for the type, as in the problem. */
export type SupplyObservation = Pick<
  ObservedDeployment,
  | 'id'
  | 'name'
  | 'gpuType'
  | 'gpusPerReplica'
  | 'currentReplicas'
  | 'readyReplicas'
  | 'pendingReplicas'
  | 'startupSeconds'
>;

/** A GPU type of which fewer can be had than were asked for. */
export type Shortage = {
  readonly gpuType: string;
  /** GPUs of overdue replicas: the most that were seen in this back-off. */
  readonly shortGpus: number;
  /** GPUs that ran when the type was marked: the plan may use this many of the type, in all, and no more. */
  readonly usableGpus: number;
  /** End of the back-off [Unix ms]; then more may be asked for again. */
  readonly until: number;
  /** Ids of the deployments with overdue replicas, by name. */
  readonly deployments: readonly string[];
};

export type StockOutSettings = {
  /** Start-up time of a deployment that says none [s]. An engine loads an image and weights of tens of GB first. */
  readonly startupSeconds: number;
  /** First back-off [s]. */
  readonly backOffSeconds: number;
  /** Each further back-off in a row is twice as long, up to this [s]. */
  readonly longestBackOffSeconds: number;
};

export const defaultStockOutSettings: StockOutSettings = {
  startupSeconds: 300,
  backOffSeconds: 600,
  longestBackOffSeconds: 3600,
};

const count = z.int().min(0);
const amount = z.number().min(0);

const waitingSchema = z.strictObject({
  /** Unix ms. */
  sinceMs: z.number(),
  replicas: z.int().min(1),
  /** It was ready before (a crash, a rollout, a lost node): its GPU may still be there. */
  wasReady: z.boolean(),
});
type Waiting = z.output<typeof waitingSchema>;

const supplySchema = z.strictObject({
  id: z.string(),
  gpuType: z.string(),
  readyReplicas: count,
  /** Oldest first; the replicas add up to those that wait. */
  waiting: z.array(waitingSchema),
});
type Supply = z.output<typeof supplySchema>;

const markSchema = z.strictObject({
  gpuType: z.string(),
  shortGpus: amount,
  usableGpus: amount,
  untilMs: z.number(),
  backOffMs: amount,
  deployments: z.array(z.string()),
});
type Mark = z.output<typeof markSchema>;

export const stockOutStateSchema = z.strictObject({
  supplies: z.array(supplySchema),
  marks: z.array(markSchema),
});

/** All that the watch remembers. */
export type StockOutState = z.output<typeof stockOutStateSchema>;

/**
 * How long a replica may take to become ready before its GPU counts as not to be had [ms]: twice its start-up time, and
 * at least a minute more than it (schedulers, node provisioning).
 */
export function startupAllowanceMs(startupSeconds: number): number {
  return Math.max(2 * startupSeconds, startupSeconds + 60) * 1000;
}

/**
 * Follows what was asked for and what came, from one complete view of the deployments to the next.
 *
 * `observe` once a cycle with a view that is synced and not stale (an old view would let replicas age that came long
 * ago); then `shortages`. Not thread-safe, nothing to close.
 */
export class StockOutWatch {
  readonly #settings: StockOutSettings;
  #supplies: ReadonlyMap<string, Supply>;
  readonly #marks: Map<string, Mark>;

  constructor(settings: Partial<StockOutSettings> = {}, state: StockOutState = { supplies: [], marks: [] }) {
    this.#settings = { ...defaultStockOutSettings, ...settings };
    this.#supplies = new Map(state.supplies.map((supply) => [supply.id, supply]));
    this.#marks = new Map(state.marks.map((mark) => [mark.gpuType, mark]));
  }

  /**
   * Takes up what `toJSON` left.
   *
   * @throws InputError where it is something else
   */
  static fromJSON(value: unknown, settings: Partial<StockOutSettings> = {}): StockOutWatch {
    return new StockOutWatch(settings, check(stockOutStateSchema, value, 'state stock-out'));
  }

  toJSON(): StockOutState {
    return { supplies: [...this.#supplies.values()], marks: [...this.#marks.values()] };
  }

  /** The clock was set by so much: who waits goes on to wait as long as before, and so does a back-off. */
  clockWasSet(byMs: number): void {
    this.#supplies = new Map(
      [...this.#supplies].map(([id, supply]) => {
        const waiting = supply.waiting.map((group) => ({ ...group, sinceMs: group.sinceMs + byMs }));
        return [id, { ...supply, waiting }];
      }),
    );
    for (const [gpuType, mark] of this.#marks) this.#marks.set(gpuType, { ...mark, untilMs: mark.untilMs + byMs });
  }

  /**
   * Takes one complete view. A deployment whose pending or ready replicas are not known keeps what was known of it, and
   * is overdue with nothing; one that is not in the view is gone.
   *
   * @param nowMs Unix ms; does not fall from call to call (where it does, waiting and back-offs begin anew)
   */
  observe(deployments: Iterable<SupplyObservation>, nowMs: number): void {
    const supplies = new Map<string, Supply>();
    const types = new Map<string, TypeView>();
    for (const seen of deployments) {
      const gpuType = seen.gpuType ?? seen.name;
      const type = types.get(gpuType) ?? { runningGpus: 0, comingBackGpus: 0, overdue: [] };
      types.set(gpuType, type);
      const before = this.#supplies.get(seen.id);
      const known = before?.gpuType === gpuType ? before : undefined;
      const { readyReplicas, pendingReplicas, gpusPerReplica } = seen;
      if (readyReplicas === null || pendingReplicas === null) {
        if (known !== undefined) supplies.set(seen.id, known);
        type.runningGpus += gpusPerReplica * (readyReplicas ?? seen.currentReplicas ?? known?.readyReplicas ?? 0);
        continue;
      }
      const waiting = follow(known, { ready: readyReplicas, pending: pendingReplicas, nowMs });
      supplies.set(seen.id, { id: seen.id, gpuType, readyReplicas, waiting });
      type.runningGpus += gpusPerReplica * readyReplicas;
      const allowanceMs = startupAllowanceMs(seen.startupSeconds ?? this.#settings.startupSeconds);
      for (const { sinceMs, replicas, wasReady } of waiting) {
        const gpus = replicas * gpusPerReplica;
        if (gpus === 0) continue;
        if (nowMs - sinceMs > allowanceMs) type.overdue.push({ id: seen.id, gpus, sinceMs });
        else if (wasReady) type.comingBackGpus += gpus;
      }
    }
    this.#supplies = supplies;
    // A clock that ran ahead must not leave a back-off of years behind.
    for (const [gpuType, mark] of this.#marks) {
      if (mark.untilMs > nowMs + mark.backOffMs) this.#marks.set(gpuType, { ...mark, untilMs: nowMs + mark.backOffMs });
    }
    this.#forget(types, nowMs);
    for (const [gpuType, view] of types) this.#judge(gpuType, view, nowMs);
  }

  /** The GPU types that are short at this moment, by name. */
  shortages(nowMs: number): readonly Shortage[] {
    return [...this.#marks.values()]
      .filter((mark) => nowMs < mark.untilMs)
      .sort((a, b) => (a.gpuType < b.gpuType ? -1 : 1))
      .map(({ gpuType, shortGpus, usableGpus, untilMs, deployments }) => ({
        gpuType,
        shortGpus,
        usableGpus,
        until: untilMs,
        deployments,
      }));
  }

  #judge(gpuType: string, view: TypeView, nowMs: number): void {
    const { runningGpus, comingBackGpus, overdue } = view;
    const usableBefore = this.#marks.get(gpuType)?.usableGpus ?? Number.POSITIVE_INFINITY;
    // More run than when it was marked, so there are more to be had. Replicas that are overdue all the same mark it anew.
    if (runningGpus > usableBefore * (1 + tolerance) + tolerance) this.#marks.delete(gpuType);
    if (overdue.length === 0) return;
    const mark = this.#marks.get(gpuType);
    const shortGpus = overdue.reduce((sum, { gpus }) => sum + gpus, 0);
    const ids = [...new Set(overdue.map(({ id }) => id))];
    // A replica that restarts on a GPU it holds is not one that could not be had.
    const usableGpus = runningGpus + comingBackGpus;
    if (mark !== undefined && nowMs < mark.untilMs) {
      // What shrinks meanwhile may be had again; only where more cannot be had, less can.
      if (shortGpus <= mark.shortGpus * (1 + tolerance)) return;
      const fewer = Math.min(mark.usableGpus, usableGpus);
      const deployments = [...new Set([...mark.deployments, ...ids])].sort();
      this.#marks.set(gpuType, { ...mark, shortGpus, usableGpus: fewer, deployments });
      return;
    }
    const { backOffSeconds, longestBackOffSeconds } = this.#settings;
    const nextMs = mark === undefined ? backOffSeconds * 1000 : 2 * mark.backOffMs;
    const backOffMs = Math.min(nextMs, longestBackOffSeconds * 1000);
    const untilMs = nowMs + backOffMs;
    this.#marks.set(gpuType, { gpuType, shortGpus, usableGpus, untilMs, backOffMs, deployments: ids.sort() });
  }

  /**
   * Marks of types that nobody runs any more, and of back-offs after which nobody asked for more in the time of the
   * longest one: another shortage then has nothing to do with the last.
   */
  #forget(types: ReadonlyMap<string, TypeView>, nowMs: number): void {
    const longestMs = this.#settings.longestBackOffSeconds * 1000;
    const oldestAttemptMs = new Map<string, number>();
    for (const { gpuType, waiting } of this.#supplies.values()) {
      for (const { sinceMs } of waiting) {
        oldestAttemptMs.set(gpuType, Math.min(oldestAttemptMs.get(gpuType) ?? sinceMs, sinceMs));
      }
    }
    for (const [gpuType, { untilMs }] of this.#marks) {
      const isOver = (oldestAttemptMs.get(gpuType) ?? nowMs) > untilMs + longestMs;
      if (!types.has(gpuType) || isOver) this.#marks.delete(gpuType);
    }
  }
}

/** Fractions of a GPU are added up: equal sums may differ in the last digit. */
const tolerance = 1e-9;

/** One GPU type in one view. */
type TypeView = {
  runningGpus: number;
  /** Of replicas that were ready and are within their allowance. */
  comingBackGpus: number;
  readonly overdue: { readonly id: string; readonly gpus: number; readonly sinceMs: number }[];
};

/**
 * Who waits now, and since when.
 *
 * Replicas that become ready are first those that were ready before; where one that never was becomes ready, all others
 * wait anew, since GPUs are coming. Of replicas that are no longer asked for, the newest go, as Kubernetes does it.
 */
function follow(
  before: Supply | undefined,
  now: { readonly ready: number; readonly pending: number; readonly nowMs: number },
): Waiting[] {
  const { ready, pending, nowMs } = now;
  if (before === undefined) return pending > 0 ? [{ sinceMs: nowMs, replicas: pending, wasReady: false }] : [];
  // A clock that was set back would let nothing become overdue for as long.
  let back = before.waiting.filter(({ wasReady }) => wasReady).map((group) => notAfter(group, nowMs));
  let asked = before.waiting.filter(({ wasReady }) => !wasReady).map((group) => notAfter(group, nowMs));

  const gained = Math.max(0, ready - before.readyReplicas);
  const recovered = Math.min(gained, replicasIn(back));
  back = withoutOldest(back, recovered);
  if (gained > recovered) {
    const left = Math.max(0, replicasIn(asked) - (gained - recovered));
    asked = left > 0 ? [{ sinceMs: nowMs, replicas: left, wasReady: false }] : [];
  }
  // Some of them may have been released: then fewer are pending, and the surplus goes below.
  const lost = Math.max(0, before.readyReplicas - ready);
  if (lost > 0) back = [...back, { sinceMs: nowMs, replicas: lost, wasReady: true }];

  const surplus = replicasIn(back) + replicasIn(asked) - pending;
  if (surplus < 0) asked = [...asked, { sinceMs: nowMs, replicas: -surplus, wasReady: false }];
  if (surplus > 0) {
    const fromAsked = Math.min(surplus, replicasIn(asked));
    asked = withoutNewest(asked, fromAsked);
    back = withoutNewest(back, surplus - fromAsked);
  }
  return [...back, ...asked].sort((a, b) => a.sinceMs - b.sinceMs || Number(b.wasReady) - Number(a.wasReady));
}

function notAfter(group: Waiting, nowMs: number): Waiting {
  return group.sinceMs <= nowMs ? group : { ...group, sinceMs: nowMs };
}

function replicasIn(groups: readonly Waiting[]): number {
  return groups.reduce((sum, { replicas }) => sum + replicas, 0);
}

function withoutOldest(groups: readonly Waiting[], replicas: number): Waiting[] {
  let left = replicas;
  return groups.flatMap((group) => {
    const taken = Math.min(left, group.replicas);
    left -= taken;
    return taken === group.replicas ? [] : [{ ...group, replicas: group.replicas - taken }];
  });
}

function withoutNewest(groups: readonly Waiting[], replicas: number): Waiting[] {
  return withoutOldest(groups.toReversed(), replicas).toReversed();
}

/**
 * The problem with the GPUs that can be had: the pool of a short type holds no more than what ran when it was marked; a
 * type without a pool gets one.
 */
export function withShortages(problem: PlanningProblem, shortages: readonly Shortage[]): PlanningProblem {
  if (shortages.length === 0) return problem;
  const usable = new Map(shortages.map(({ gpuType, usableGpus }) => [gpuType, usableGpus]));
  const pools = problem.pools.map((pool) => {
    const most = usable.get(pool.gpuType);
    return most === undefined ? pool : { ...pool, gpus: Math.min(pool.gpus ?? most, most) };
  });
  const pooled = new Set(pools.map(({ gpuType }) => gpuType));
  const added = shortages
    .filter(({ gpuType }) => !pooled.has(gpuType))
    .map(({ gpuType, usableGpus }) => ({ gpuType, gpus: usableGpus }));
  return { ...problem, pools: [...pools, ...added] };
}

/**
 * The deployments whose replicas stay asked for although their GPU type is short: nothing else serves what they would, so
 * that letting them go frees nothing for anybody, takes back the request that a cluster's autoscaler is working on, and
 * leaves 0 replicas of a sole deployment whose image is broken, where its owner then looks for the mended one.
 *
 * Not where the plan takes ready replicas away, and not on a type on which somebody else grows into what was released.
 *
 * @param plan with the next steps, before anything is published
 * @param replicasOf by id of the deployment: ready ones, and those published before; null = not known
 */
export function stillAskedFor(
  plan: Pick<Plan, 'deployments' | 'unserved'>,
  {
    shortages,
    replicasOf,
  }: {
    readonly shortages: readonly Shortage[];
    readonly replicasOf: (id: string) => { readonly ready: number | null; readonly published: number | null };
  },
): ReadonlySet<string> {
  const short = new Set(shortages.map(({ gpuType }) => gpuType));
  const starved = new Set(plan.unserved.flatMap(({ model, reason }) => (reason === 'capacity' ? model : [])));
  const onShortTypes = plan.deployments.flatMap(({ id, model, gpuType, replicas: step }) =>
    short.has(gpuType) && step !== null ? { id, model, gpuType, step, ...replicasOf(id) } : [],
  );
  const grownInto = new Set(
    onShortTypes.flatMap(({ gpuType, step, published }) => (step > (published ?? 0) ? gpuType : [])),
  );
  return new Set(
    onShortTypes
      .filter(({ model, gpuType, step, ready }) => {
        return starved.has(model) && ready !== null && step >= ready && !grownInto.has(gpuType);
      })
      .map(({ id }) => id),
  );
}

/** One warning per short type, for the plan. */
export function stockOutNotices(shortages: readonly Shortage[]): readonly PlanNotice[] {
  return shortages.map(({ gpuType, shortGpus, usableGpus, until, deployments }) => ({
    code: 'stock_out',
    message: `${gpuType}: ${gpus(shortGpus)} that ${named(deployments)} asked for did not come in time; planned with the ${gpus(usableGpus)} that ran then, until ${new Date(until).toISOString()}`,
  }));
}

function gpus(many: number): string {
  return `${Number(many.toPrecision(6))} ${many === 1 ? 'GPU' : 'GPUs'}`;
}

/** Enough names to find the others by. */
const namedDeployments = 3;

function named(ids: readonly string[]): string {
  const shown = ids.slice(0, namedDeployments).join(', ');
  return ids.length > namedDeployments ? `${shown} and ${ids.length - namedDeployments} more` : shown;
}

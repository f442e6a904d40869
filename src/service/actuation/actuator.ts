import type { DeploymentNotice } from '../../core/ports.js';
import { type ScaleClient, type ScaleFault, type ScaleTarget, targetText } from '../../core/scale.js';
import type { Logger } from '../log.js';
import { RecentlyPublished } from '../publication.js';
import type { ActuationView, DeploymentActuationView } from '../view.js';
import { ActuationState } from './actuation-state.js';
import type { OtherScalers } from './other-scalers.js';
import {
  decideScale,
  recentReplicas,
  type ScaleDecision,
  type ScaleFacts,
  type ScaleLimits,
} from './scale-decision.js';
import { ScaleEvents } from './scale-events.js';
import { Waiting } from './waiting.js';

/**
 * Direct actuation: what is published is written into the `scale` of the objects themselves, where no autoscaler does it.
 *
 *   a cycle ends → `follow` decides for each deployment from memory → those that should change are queued, what adds
 *   replicas first → a few at a time: read `scale`, decide again by what it says, write with the version that was read
 *
 * A newer cycle replaces what still waits of an older one, so that never a number is written that is not the newest one.
 * Nothing here is waited for by the cycle. What fails is tried again with a later cycle, never in a loop of its own;
 * only a conflict is read again at once.
 */

/** One deployment, as a cycle left it. */
export type ScaleRequest = {
  /** namespace/name of the deployment. */
  readonly id: string;
  readonly target: ScaleTarget;
  readonly facts: Omit<ScaleFacts, 'ageMs' | 'otherScalers'>;
  /** When its number was decided. Unix [ms] */
  readonly decidedAtMs: number;
  /** Why that number, in one sentence. */
  readonly sentence: string;
};

export type ActuatorOptions = {
  readonly mode: 'scale' | 'dry-run';
  readonly client: ScaleClient;
  readonly otherScalers: OtherScalers;
  readonly limits: ScaleLimits;
  readonly clock: { now(): number };
  readonly steadyMs: () => number;
  /** Starts a timer; the answer cancels it. */
  readonly timer: (delayMs: number, callback: () => void) => () => void;
  /** In [0, 1), for jitter. */
  readonly random: () => number;
  readonly logger: Pick<Logger, 'info' | 'warn' | 'error'>;
};

/**
 * At a few milliseconds an answer, a thousand objects (two requests each) are done within two seconds; an API server
 * gives a client that it does not know well about as many seats at once.
 */
const requestsAtOnce = 8;
/** An object that others write to so often is left to the next cycle. */
const conflictsAtOnce = 2;
/** A dry run of the same change says the same: once in so long is enough to see that it would still work. [ms] */
const dryRunAgainMs = 600_000;

export class Actuator {
  readonly #options: ActuatorOptions;
  readonly #state: ActuationState;
  readonly #events: ScaleEvents;
  readonly #waiting: Waiting;
  readonly #recent = new RecentlyPublished();
  /** What the last cycle left, by deployment id. */
  #requests: ReadonlyMap<string, ScaleRequest> = new Map();
  /** Ids of `#requests` that wait for their turn, first come first. */
  #queue: string[] = [];
  readonly #underWay = new Map<string, Promise<void>>();
  /** What was tried last, for as long as nothing else has come of it since. */
  readonly #dryRuns = new Map<string, { readonly replicas: number; readonly current: number; readonly atMs: number }>();
  /** When the last cycle began. Unix [ms] */
  #atMs = 0;
  #cancelWait: (() => void) | null = null;
  #isStopping = false;

  constructor(options: ActuatorOptions) {
    const { client, clock, steadyMs, random, logger, mode } = options;
    this.#options = options;
    this.#state = new ActuationState({ mode, clock, logger });
    this.#waiting = new Waiting(random);
    this.#events = new ScaleEvents({
      client,
      clock,
      steadyMs,
      onFault: (fault) => this.#state.eventFailed(fault),
    });
  }

  /** @throws InputError where no cluster is described */
  async start(): Promise<void> {
    await this.#options.client.start();
  }

  /**
   * Takes what a cycle decided, for all deployments that are followed; what is not named any more is forgotten. Returns
   * at once.
   *
   * @param atMs when the cycle began: limits per minute go by it, as publication does
   */
  follow(requests: readonly ScaleRequest[], atMs: number): void {
    if (this.#isStopping) return;
    const nowMs = this.#options.steadyMs();
    this.#state.report();
    this.#atMs = atMs;
    this.#requests = new Map(requests.map((request) => [request.id, request]));
    for (const kept of [this.#state, this.#recent, this.#events]) kept.keepOnly(this.#requests);
    this.#waiting.keepOnly(this.#requests, nowMs);
    for (const id of this.#dryRuns.keys()) if (!this.#requests.has(id)) this.#dryRuns.delete(id);
    const rising: string[] = [];
    const falling: string[] = [];
    for (const request of requests) {
      const { id, facts } = request;
      const current = facts.plannedOn;
      if (current !== null) this.#recent.add(id, current, atMs);
      const decision = this.#decide(request, current);
      if (decision.kind !== 'write') this.#leave(id, decision);
      else if (current === null || !this.#wasTried(id, decision.replicas, current)) {
        this.#state.queued(id);
        (current !== null && decision.replicas < current ? falling : rising).push(id);
      }
    }
    // Where the server slows us down, what adds replicas lands before what takes some away.
    this.#queue = [...rising, ...falling];
    this.#events.send();
    this.#work();
  }

  /** Grows with every change of what `of` and `noticesOf` say. */
  get version(): number {
    return this.#state.version;
  }

  /** Why a deployment is not scaled although its owner may think so. */
  noticesOf(id: string): readonly DeploymentNotice[] {
    return this.#state.noticesOf(id);
  }

  /** Why a deployment has not been scaled yet, for people; null in a dry run, where gpumix scales nothing. */
  whyNotScaled(id: string): string | null {
    if (this.#options.mode === 'dry-run') return null;
    const { state, message } = this.#state.of(id) ?? { state: 'waiting', message: null };
    if (state === 'withheld' || state === 'failed') return `gpumix has not scaled it: ${message}`;
    return state === 'waiting'
      ? 'it waits for gpumix to scale it'
      : 'somebody else changes it after gpumix has scaled it';
  }

  /** What became of a deployment's number; null = nothing was decided yet. */
  of(id: string): DeploymentActuationView | null {
    return this.#state.of(id);
  }

  view(): ActuationView {
    return this.#state.view(this.#events.counts);
  }

  /** Begins nothing new; resolves when the writes that are under way have ended. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#queue = [];
    this.#cancelWait?.();
    await Promise.all(this.#underWay.values());
    await this.#events.stop();
  }

  /** Resolves when everything is done that can be done now, Events too. */
  async settled(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.race(this.#underWay.values());
    await this.#events.settled();
  }

  #work(): void {
    while (!this.#isStopping && this.#queue.length > 0 && this.#underWay.size < requestsAtOnce) {
      const waitMs = this.#waiting.serverWaitMs(this.#options.steadyMs());
      if (waitMs > 0) {
        this.#workLater(waitMs);
        return;
      }
      const index = this.#queue.findIndex((id) => !this.#underWay.has(id));
      if (index < 0) return;
      const [id] = this.#queue.splice(index, 1);
      const request = this.#requests.get(id!);
      if (request === undefined || this.#mustWait(request)) continue;
      const scaling = this.#scale(request)
        .catch((error) => this.#options.logger.error({ deployment: id, err: error }, `${id} could not be scaled`))
        .finally(() => {
          this.#underWay.delete(request.id);
          this.#work();
        });
      this.#underWay.set(request.id, scaling);
    }
    if (this.#queue.length === 0 && this.#underWay.size === 0) this.#state.report();
  }

  #workLater(waitMs: number): void {
    if (this.#cancelWait !== null) return;
    const cancel = this.#options.timer(waitMs, () => {
      this.#cancelWait = null;
      this.#work();
    });
    this.#cancelWait = () => {
      this.#cancelWait = null;
      cancel();
    };
  }

  /** It, or what it needs, failed a moment ago. */
  #mustWait({ id, target }: ScaleRequest): boolean {
    const nowMs = this.#options.steadyMs();
    const refusal = this.#waiting.forbiddenBy(permissionOf(target), nowMs);
    if (refusal !== null) this.#state.refused(id, target, refusal);
    return refusal !== null || this.#waiting.isTargetWaiting(id, nowMs);
  }

  #decide(request: ScaleRequest, current: number | null): ScaleDecision {
    const { clock, limits, otherScalers } = this.#options;
    const facts: ScaleFacts = {
      ...request.facts,
      ageMs: clock.now() - request.decidedAtMs,
      otherScalers: otherScalers({ id: request.id, namespace: request.target.namespace }),
    };
    return decideScale(facts, { current, recent: recentReplicas(this.#recent, request.id, this.#atMs), limits });
  }

  async #scale(queued: ScaleRequest): Promise<void> {
    const { client, mode } = this.#options;
    const { id, target } = queued;
    let request = queued;
    for (let conflicts = 0; ; conflicts += 1) {
      const read = await client.read(target);
      if (read.kind === 'fault') return this.#failed(request, read);
      if (this.#isStopping) return;
      const { scale } = read;
      this.#recent.add(id, scale.replicas, this.#atMs);
      // A cycle that ended meanwhile knows better. What was read serves it as well: where reading takes longer than a cycle,
      // whoever began anew each time would never write.
      const newest = this.#requests.get(id);
      if (newest === undefined || targetText(newest.target) !== targetText(target)) return;
      if (newest !== request) this.#queue = this.#queue.filter((other) => other !== id);
      request = newest;
      const decision = this.#decide(request, scale.replicas);
      if (decision.kind !== 'write') {
        this.#waiting.succeeded(id, permissionOf(target));
        return this.#leave(id, decision);
      }
      const { replicas } = decision;
      const dryRun = mode === 'dry-run';
      if (dryRun && this.#wasTried(id, replicas, scale.replicas)) return;
      const answer = await client.write(target, { replicas, resourceVersion: scale.resourceVersion, dryRun });
      if (answer.kind === 'fault') {
        if (answer.fault === 'conflict' && conflicts < conflictsAtOnce && !this.#isStopping) continue;
        return this.#failed(request, answer);
      }
      this.#waiting.succeeded(id, permissionOf(target));
      this.#landed(request, { from: scale.replicas, to: replicas, uid: scale.uid, isLimited: decision.isLimited });
      return;
    }
  }

  /** It is as it should be, or stays as it runs. */
  #leave(id: string, decision: Exclude<ScaleDecision, { readonly kind: 'write' }>): void {
    this.#dryRuns.delete(id);
    this.#state.decided(id, decision);
  }

  #landed(
    { id, target, sentence, facts }: ScaleRequest,
    change: { readonly from: number; readonly to: number; readonly uid: string | null; readonly isLimited: boolean },
  ): void {
    const { mode, logger, steadyMs } = this.#options;
    const { from, to, uid, isLimited } = change;
    const way = isLimited ? `${sentence} On its way to ${facts.published}, as far as a minute allows.` : sentence;
    if (mode === 'dry-run') {
      this.#dryRuns.set(id, { replicas: to, current: from, atMs: steadyMs() });
      logger.info(
        { deployment: id, from, to, dryRun: true },
        `dry run: ${targetText(target)} would go ${from} → ${to}: ${way}`,
      );
      this.#state.wrote(id, { from, to, dryRun: true });
      return;
    }
    this.#recent.add(id, to, this.#atMs);
    logger.info({ deployment: id, from, to }, `scaled ${targetText(target)} ${from} → ${to}: ${way}`);
    this.#state.wrote(id, { from, to, dryRun: false });
    this.#events.record({ id, target, uid, from, to, sentence: way });
  }

  #failed({ id, target }: ScaleRequest, fault: ScaleFault): void {
    const nowMs = this.#options.steadyMs();
    this.#dryRuns.delete(id);
    this.#state.failed(id, target, fault);
    switch (fault.fault) {
      case 'forbidden':
        this.#waiting.forbidden(permissionOf(target), fault, nowMs);
        break;
      case 'throttled':
        this.#waiting.serverAsksToWait(fault.retryAfterSeconds, nowMs);
        break;
      case 'server_error':
      case 'unreachable':
      case 'unauthorized':
      case 'bad_answer':
        this.#waiting.targetFailed(id, nowMs);
        if (fault.retryAfterSeconds === null) this.#waiting.serverFailed(nowMs);
        else this.#waiting.serverAsksToWait(fault.retryAfterSeconds, nowMs);
        break;
      case 'not_found':
      case 'rejected':
        this.#waiting.targetFailed(id, nowMs);
        break;
      case 'conflict':
        // Somebody else writes it: the next cycle reads it again.
        break;
    }
  }

  #wasTried(id: string, replicas: number, current: number): boolean {
    const before = this.#dryRuns.get(id);
    if (before === undefined || before.replicas !== replicas || before.current !== current) return false;
    return this.#options.steadyMs() - before.atMs < dryRunAgainMs;
  }
}

/** What RBAC gives or refuses as one. */
function permissionOf({ group, resource, namespace }: ScaleTarget): string {
  return `${resource}.${group} ${namespace}`;
}

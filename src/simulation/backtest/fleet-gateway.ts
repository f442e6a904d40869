import type { ModelRouting } from '../../core/routing.js';
import type { BacktestRequest, DeploymentView, FleetSettings } from './backtest.js';
import { chanceOf } from './chance.js';
import { Fleet, type FleetReplica, type FleetTally, type Flight } from './fleet.js';
import { RequestRouter } from './router.js';

/**
 * The gateway in front of a fleet: routes every request to a replica, queues those that none takes, and does what was
 * decided about the fleet once its time has come.
 *
 * Time goes from one thing that happens to the next, and whoever owns the gateway stops at `nextEventMs` in between. What
 * happens at the same moment happens in this order: steps of replicas end, replicas change, decisions are done, the queue
 * is served.
 */
export type FleetGatewaySettings = Pick<
  FleetSettings,
  | 'deployments'
  | 'router'
  | 'seed'
  | 'startMs'
  | 'initialReplicas'
  | 'queueTimeoutSeconds'
  | 'drainSeconds'
  | 'meanHoursBetweenFailures'
>;

/** Told how requests end. In the order of time on each replica, not over all of them. */
export type OutcomeListener = {
  readonly answered: (flight: Flight, endMs: number) => void;
  /** Lost with its replica, or refused by it. */
  readonly failed: (flight: Flight, endMs: number) => void;
  /** No replica took it in time. */
  readonly unserved: (flight: Flight, endMs: number) => void;
};

/** One fleet and its queue. */
export class FleetGateway {
  readonly fleet: Fleet;
  readonly #settings: FleetGatewaySettings;
  readonly #listener: OutcomeListener;
  readonly #router: RequestRouter<FleetReplica>;
  /** Requests that no replica took yet, from `#head` on. */
  #queue: Flight[] = [];
  #head = 0;
  /** Decisions that are not done yet, oldest first. */
  #decided: { readonly atMs: number; readonly replicas: ReadonlyMap<string, number> }[] = [];
  #nowMs: number;
  #lastId = 0;

  constructor(settings: FleetGatewaySettings, tally: FleetTally, listener: OutcomeListener) {
    this.#settings = settings;
    this.#listener = listener;
    this.#nowMs = settings.startMs;
    this.fleet = new Fleet(settings, tally, listener);
    this.#router = new RequestRouter({
      router: settings.router,
      deployments: settings.deployments.map(({ id }) => id),
      chance: chanceOf(settings.seed, 'router'),
    });
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  /** Requests that no replica took yet. */
  get queued(): number {
    return this.#queue.length - this.#head;
  }

  /** When something happens by itself next; Infinity = nothing does. */
  get nextEventMs(): number {
    return Math.min(this.fleet.nextEventMs, this.#decided[0]?.atMs ?? Number.POSITIVE_INFINITY, this.#queueEndMs());
  }

  /** Computes everything up to a moment that does not lie beyond `nextEventMs`; what happens at it has not happened yet. */
  moveTo(untilMs: number): void {
    this.fleet.advance(untilMs);
    this.#nowMs = untilMs;
  }

  /** Lets happen what happens at this moment or before. */
  happen(): void {
    this.fleet.happen();
    while (this.#decided.length > 0 && this.#decided[0]!.atMs <= this.#nowMs) {
      this.fleet.scale(this.#decided.shift()!.replicas);
    }
    this.#serveQueue();
  }

  /** Moves on to a moment through everything that happens until then, included. */
  advanceTo(untilMs: number): void {
    for (;;) {
      const eventMs = this.nextEventMs;
      if (eventMs > untilMs) break;
      this.moveTo(Math.max(this.#nowMs, eventMs));
      this.happen();
    }
    this.moveTo(untilMs);
  }

  /** A request comes in, now. */
  arrive({ inputTokens, outputTokens }: Pick<BacktestRequest, 'inputTokens' | 'outputTokens'>): void {
    const flight = {
      arrivedMs: this.#nowMs,
      inputTokens: Math.max(1, inputTokens),
      outputTokens: Math.max(1, outputTokens),
      firstTokenMs: this.#nowMs,
    };
    if (!this.#send(flight)) this.#queue.push(flight);
  }

  /**
   * Takes numbers of replicas, which are acted on after `lagSeconds`.
   *
   * @throws RangeError for a deployment that is not the fleet's, and for what is no whole number of replicas
   */
  want(replicas: ReadonlyMap<string, number>, lagSeconds: number): void {
    const wanted = this.fleet.want(replicas);
    if (lagSeconds > 0) this.#decided.push({ atMs: this.#nowMs + lagSeconds * 1000, replicas: wanted });
    else this.fleet.scale(wanted);
  }

  /** Where requests go from now on: a gateway reads it when it is published. Null = there are no shares. */
  setRouting(routing: ModelRouting | null): void {
    this.#router.setRouting(routing);
  }

  /** What is seen of the deployments; means and lists are of the time since the last call. */
  view(): readonly DeploymentView[] {
    return this.fleet.view();
  }

  /** The fleet stays as it is: nothing more is billed or fails, decisions are forgotten; what is open is served to its end. */
  close(): void {
    this.#decided = [];
    this.fleet.endScoring();
    for (let eventMs = this.nextEventMs; eventMs !== Number.POSITIVE_INFINITY; eventMs = this.nextEventMs) {
      this.moveTo(eventMs);
      this.happen();
    }
    this.moveTo(Number.POSITIVE_INFINITY);
    for (const flight of this.#queue.slice(this.#head)) this.#listener.unserved(flight, this.#nowMs);
  }

  /** When the first of the queue has waited too long. */
  #queueEndMs(): number {
    const first = this.#queue[this.#head];
    return first === undefined ? Number.POSITIVE_INFINITY : first.arrivedMs + this.#settings.queueTimeoutSeconds * 1000;
  }

  /** False where no replica is ready. */
  #send(flight: Flight): boolean {
    const replica = this.#router.choose(flight, this.fleet.ready);
    replica?.submit(++this.#lastId, flight, this.#nowMs);
    return replica !== null;
  }

  /** Whoever waits goes to replicas that are ready now, or has waited too long. */
  #serveQueue(): void {
    const queue = this.#queue;
    while (this.#head < queue.length && this.#send(queue[this.#head]!)) this.#head++;
    while (this.#queueEndMs() <= this.#nowMs) this.#listener.unserved(queue[this.#head++]!, this.#nowMs);
    // What has left is cut off now and then, so that a long queue is not copied for each.
    if (this.#head > 0 && (this.#head === queue.length || this.#head > 1024)) {
      this.#queue = queue.slice(this.#head);
      this.#head = 0;
    }
  }
}

import { SimulatedReplica } from '../replica.js';
import type { DeploymentView, FleetDeployment, FleetSettings } from './backtest.js';
import { chanceOf, normalFrom } from './chance.js';
import type { Answered, RunTally } from './run-tally.js';

/**
 * The replicas of a run, from their creation until they are gone.
 *
 *     starting ──(start-up time)──► ready ──(scaled down)──► draining ──(empty, or drainSeconds)──► gone
 *         └──(scaled down)──► gone    └──(failure)──► gone, and another one starts
 *
 * A replica is billed from its creation until it is gone. A starting one serves nothing; a draining one takes nothing
 * new. What a replica that fails, or that is still not empty after `drainSeconds`, had in it fails.
 *
 * Time moves with `advance`, which computes all replicas up to a moment; whoever owns the fleet stops at `nextEventMs` in
 * between. Chance belongs to a replica's deployment and number: the third replica of a deployment starts as long, and
 * lives as long once it is ready, in every run of the same seed.
 */

/** A request on a replica. */
export type Flight = {
  readonly arrivedMs: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  firstTokenMs: number;
};

/** How long a request that ended then took, in seconds from its arrival. */
export function latenciesOf(
  { arrivedMs, firstTokenMs, outputTokens }: Pick<Flight, 'arrivedMs' | 'firstTokenMs' | 'outputTokens'>,
  endMs: number,
): Pick<Answered, 'ttftSeconds' | 'tpotSeconds' | 'e2eSeconds'> {
  return {
    ttftSeconds: (firstTokenMs - arrivedMs) / 1000,
    tpotSeconds: outputTokens > 1 ? (endMs - firstTokenMs) / 1000 / (outputTokens - 1) : null,
    e2eSeconds: (endMs - arrivedMs) / 1000,
  };
}

/** What the fleet itself counts: money, time and changes of its replicas. */
export type FleetTally = Pick<RunTally, 'bill' | 'ready' | 'countStart' | 'countStop' | 'countFailure'>;

/** Told how requests end. In the order of time on each replica, not over all of them. */
export type FlightListener = {
  readonly answered: (flight: Flight, endMs: number) => void;
  readonly failed: (flight: Flight, endMs: number) => void;
};

export type ReplicaState = 'starting' | 'ready' | 'draining' | 'gone';

/** One replica. */
export class FleetReplica {
  state: ReplicaState = 'starting';
  /** Of the state: the end of the start-up, the failure, the end of draining. */
  nextEventMs = Number.POSITIVE_INFINITY;
  readyMs = Number.POSITIVE_INFINITY;
  /** Exists once it is ready. */
  engine: SimulatedReplica | null = null;
  /** When it is told that a draining replica is empty. */
  onEmpty: ((atMs: number) => void) | null = null;
  readonly flights = new Map<number, Flight>();
  /** Requests × time since it was ready, until `#changedMs` [ms]. */
  #flightMs = 0;
  #changedMs = 0;
  readonly #listener: FlightListener;

  constructor(
    readonly number: number,
    readonly createdMs: number,
    /** Of this replica: start-up time, and life once it is ready. */
    readonly startupMs: number,
    readonly lifeMs: number,
    listener: FlightListener,
  ) {
    this.#listener = listener;
  }

  get inFlight(): number {
    return this.flights.size;
  }

  start(engine: SimulatedReplica, atMs: number): void {
    this.engine = engine;
    this.state = 'ready';
    this.readyMs = atMs;
    this.#changedMs = atMs;
  }

  submit(id: number, flight: Flight, atMs: number): void {
    const { inputTokens, outputTokens } = flight;
    this.#change(atMs);
    this.flights.set(id, flight);
    this.engine!.submit({ id, inputTokens, outputTokens }, atMs);
    // A rejection is known at once.
    this.advance(atMs);
  }

  advance(untilMs: number): void {
    if (this.flights.size > 0) this.engine!.advanceMilestones(untilMs, this.#tell);
  }

  /** All that is on it fails. */
  lose(atMs: number): void {
    this.#change(atMs);
    const lost = [...this.flights.values()];
    this.flights.clear();
    for (const flight of lost) this.#listener.failed(flight, atMs);
  }

  /** Requests × time since it was ready [ms]. */
  flightMsAt(atMs: number): number {
    return this.#flightMs + this.flights.size * (atMs - this.#changedMs);
  }

  #change(atMs: number): void {
    this.#flightMs += this.flights.size * (atMs - this.#changedMs);
    this.#changedMs = atMs;
  }

  readonly #tell = (kind: 'token' | 'finished' | 'rejected' | 'preempted', id: number, atMs: number): void => {
    if (kind === 'preempted') return;
    const flight = this.flights.get(id)!;
    if (kind === 'token') {
      flight.firstTokenMs = atMs;
      return;
    }
    this.#change(atMs);
    this.flights.delete(id);
    if (kind === 'finished') this.#listener.answered(flight, atMs);
    else this.#listener.failed(flight, atMs);
    if (this.flights.size === 0) this.onEmpty?.(atMs);
  };
}

/** What a view counts from: sums of the ready time of replicas, and how far each had come at the view before. */
type Since = { busyMs: number; flightMs: number };

class DeploymentReplicas {
  /** What it was last told to have, within its limits. */
  wanted: number;
  readonly starting: FleetReplica[] = [];
  readonly ready: FleetReplica[] = [];
  readonly draining: FleetReplica[] = [];
  created = 0;
  /** Of those that became ready since the last view. */
  startupSeconds: number[] = [];
  /** Of ready replicas since the last view, those that are ready no more. */
  leftReadyMs = 0;
  leftBusyMs = 0;
  leftFlightMs = 0;
  readonly since = new Map<FleetReplica, Since>();

  constructor(readonly settings: FleetDeployment) {
    this.wanted = settings.minReplicas;
  }
}

/** What replicas live by. */
type ReplicaSettings = Pick<
  FleetSettings,
  'deployments' | 'seed' | 'startMs' | 'initialReplicas' | 'drainSeconds' | 'meanHoursBetweenFailures'
>;

/** The fleet of one run. */
export class Fleet {
  readonly #settings: ReplicaSettings;
  readonly #tally: FleetTally;
  readonly #listener: FlightListener;
  readonly #deployments: readonly DeploymentReplicas[];
  readonly #byId: ReadonlyMap<string, DeploymentReplicas>;
  /** Busy time of ready replicas at the start of the scored span; those that were not there have none. */
  readonly #busyBefore = new Map<FleetReplica, number>();
  #viewedMs: number;
  #nowMs: number;
  #isClosed = false;
  /** When the first replica changes by itself; Infinity = none does [ms]. */
  #nextEventMs = Number.POSITIVE_INFINITY;
  /** Ready replicas by deployment, in the order of the settings. */
  readonly ready: readonly (readonly FleetReplica[])[];

  /** Begins with the initial replicas, within each deployment's limits, all ready. */
  constructor(settings: ReplicaSettings, tally: FleetTally, listener: FlightListener) {
    this.#settings = settings;
    this.#tally = tally;
    this.#listener = listener;
    this.#nowMs = settings.startMs;
    this.#viewedMs = settings.startMs;
    this.#deployments = settings.deployments.map((deployment) => new DeploymentReplicas(deployment));
    this.#byId = new Map(this.#deployments.map((deployment) => [deployment.settings.id, deployment]));
    this.ready = this.#deployments.map(({ ready }) => ready);
    for (const id of settings.initialReplicas.keys()) this.#known(id);
    for (const deployment of this.#deployments) {
      const { id } = deployment.settings;
      deployment.wanted = withinLimits(deployment.settings, settings.initialReplicas.get(id) ?? 0);
      for (let i = 0; i < deployment.wanted; i++) this.#becomeReady(deployment, this.#create(deployment));
    }
    this.#findNextEvent();
  }

  /** When something happens by itself next: a replica becomes ready or fails, or its draining is over; Infinity = nothing. */
  get nextEventMs(): number {
    return this.#nextEventMs;
  }

  /** Computes all replicas up to a moment, which must not lie beyond `nextEventMs`. */
  advance(untilMs: number): void {
    this.#nowMs = untilMs;
    for (const { ready, draining } of this.#deployments) {
      for (let i = 0; i < ready.length; i++) ready[i]!.advance(untilMs);
      // One that is empty leaves the list.
      for (let i = draining.length - 1; i >= 0; i--) draining[i]!.advance(untilMs);
    }
  }

  /** Lets happen what happens by itself at this moment or before. */
  happen(): void {
    if (this.#nextEventMs > this.#nowMs) return;
    for (const deployment of this.#deployments) {
      const { starting, ready, draining } = deployment;
      for (const replica of due(draining, this.#nowMs)) {
        replica.onEmpty = null;
        replica.lose(this.#nowMs);
        this.#leave(deployment, draining, replica);
      }
      for (const replica of due(ready, this.#nowMs)) {
        this.#endReady(deployment, replica);
        replica.lose(this.#nowMs);
        this.#leave(deployment, ready, replica);
        this.#tally.countFailure(this.#nowMs);
        this.#startOne(deployment);
      }
      for (const replica of due(starting, this.#nowMs)) {
        remove(starting, replica);
        deployment.startupSeconds.push((this.#nowMs - replica.createdMs) / 1000);
        this.#becomeReady(deployment, replica);
      }
    }
    this.#findNextEvent();
  }

  /**
   * Notes what a policy asked for, before it is acted on; returns the numbers within the deployments' limits.
   *
   * @throws RangeError for a deployment that is not the fleet's, and for what is no whole number of replicas
   */
  want(replicas: ReadonlyMap<string, number>): ReadonlyMap<string, number> {
    const wanted = new Map<string, number>();
    for (const [id, count] of replicas) {
      const deployment = this.#known(id);
      if (!(Number.isInteger(count) && count >= 0)) {
        throw new RangeError(`${count} replicas of ${id} are asked for, expected a whole number >= 0`);
      }
      deployment.wanted = withinLimits(deployment.settings, count);
      wanted.set(id, deployment.wanted);
    }
    return wanted;
  }

  /** Creates and drains replicas until there are so many, ready and starting. Starting ones go first, the newest before. */
  scale(replicas: ReadonlyMap<string, number>): void {
    for (const [id, count] of replicas) {
      const deployment = this.#known(id);
      const { starting, ready, draining } = deployment;
      while (starting.length + ready.length < count) this.#startOne(deployment);
      while (starting.length + ready.length > count) {
        this.#tally.countStop(this.#nowMs);
        const newest = starting.at(-1);
        if (newest !== undefined) {
          this.#leave(deployment, starting, newest);
          continue;
        }
        const replica = leastLoaded(ready);
        this.#endReady(deployment, replica);
        remove(ready, replica);
        draining.push(replica);
        replica.state = 'draining';
        replica.nextEventMs = this.#nowMs + this.#settings.drainSeconds * 1000;
        if (replica.inFlight === 0) this.#leave(deployment, draining, replica);
        else replica.onEmpty = (atMs) => this.#leave(deployment, draining, replica, atMs);
      }
    }
    this.#findNextEvent();
  }

  /** What a policy sees of the deployments; means and lists are of the time since the last call. */
  view(): readonly DeploymentView[] {
    const nowMs = this.#nowMs;
    const spanMs = nowMs - this.#viewedMs;
    const views = this.#deployments.map((deployment): DeploymentView => {
      const { settings, wanted, ready, starting, draining, startupSeconds } = deployment;
      let { leftReadyMs: readyMs, leftBusyMs: busyMs, leftFlightMs: flightMs } = deployment;
      let running = 0;
      let waiting = 0;
      for (const replica of ready) {
        const seen = this.#sinceView(deployment, replica);
        readyMs += seen.readyMs;
        busyMs += seen.busyMs;
        flightMs += seen.flightMs;
        running += replica.engine!.running;
        waiting += replica.engine!.waiting;
        deployment.since.set(replica, { busyMs: replica.engine!.busyMs, flightMs: replica.flightMsAt(nowMs) });
      }
      deployment.startupSeconds = [];
      deployment.leftReadyMs = 0;
      deployment.leftBusyMs = 0;
      deployment.leftFlightMs = 0;
      return {
        id: settings.id,
        wanted,
        ready: ready.length,
        starting: starting.length,
        draining: draining.length,
        startingSinceMs: starting.map(({ createdMs }) => createdMs),
        startupSeconds,
        runningRequests: running,
        waitingRequests: waiting,
        meanInFlight: spanMs > 0 ? flightMs / spanMs : running + waiting,
        busyShare: readyMs > 0 ? Math.min(1, Math.max(0, busyMs / readyMs)) : 0,
      };
    });
    this.#viewedMs = nowMs;
    return views;
  }

  /** The scored span begins now. */
  beginScoring(): void {
    for (const { ready } of this.#deployments) {
      for (const replica of ready) this.#busyBefore.set(replica, replica.engine!.busyMs);
    }
  }

  /** The scored span ends now: nothing is billed or fails from here on. */
  endScoring(): void {
    for (const deployment of this.#deployments) {
      for (const replica of deployment.ready) this.#endReady(deployment, replica);
      for (const list of [deployment.starting, deployment.ready, deployment.draining]) {
        for (const replica of list) this.#bill(deployment, replica, this.#nowMs);
      }
      for (const replica of deployment.ready) replica.nextEventMs = Number.POSITIVE_INFINITY;
    }
    this.#isClosed = true;
    this.#findNextEvent();
  }

  #known(id: string): DeploymentReplicas {
    const deployment = this.#byId.get(id);
    if (deployment !== undefined) return deployment;
    throw new RangeError(`replicas of ${id} are asked for, expected one of ${[...this.#byId.keys()].join(', ')}`);
  }

  #create(deployment: DeploymentReplicas): FleetReplica {
    const { id, startup } = deployment.settings;
    const { seed, meanHoursBetweenFailures } = this.#settings;
    const number = ++deployment.created;
    const chance = chanceOf(seed, `${id} ${number}`);
    const startupMs = startup.medianSeconds * 1000 * Math.exp(startup.spread * normalFrom(chance));
    const lifeMs =
      meanHoursBetweenFailures === null ? Infinity : meanHoursBetweenFailures * 3.6e6 * chance.exponential();
    return new FleetReplica(number, this.#nowMs, startupMs, lifeMs, this.#listener);
  }

  #startOne(deployment: DeploymentReplicas): void {
    const replica = this.#create(deployment);
    replica.nextEventMs = this.#nowMs + replica.startupMs;
    deployment.starting.push(replica);
    this.#tally.countStart(this.#nowMs);
  }

  #becomeReady(deployment: DeploymentReplicas, replica: FleetReplica): void {
    replica.start(new SimulatedReplica(deployment.settings.engine), this.#nowMs);
    replica.nextEventMs = this.#isClosed ? Number.POSITIVE_INFINITY : this.#nowMs + replica.lifeMs;
    deployment.ready.push(replica);
  }

  /** Counts the time in which a replica was ready, which ends now. */
  #endReady(deployment: DeploymentReplicas, replica: FleetReplica): void {
    if (this.#isClosed) return;
    const seen = this.#sinceView(deployment, replica);
    deployment.leftReadyMs += seen.readyMs;
    deployment.leftBusyMs += seen.busyMs;
    deployment.leftFlightMs += seen.flightMs;
    deployment.since.delete(replica);
    const busyMs = replica.engine!.busyMs - (this.#busyBefore.get(replica) ?? 0);
    this.#busyBefore.delete(replica);
    this.#tally.ready(deployment.settings, { fromMs: replica.readyMs, toMs: this.#nowMs, busyMs });
  }

  #sinceView(
    deployment: DeploymentReplicas,
    replica: FleetReplica,
  ): { readonly readyMs: number; readonly busyMs: number; readonly flightMs: number } {
    const before = deployment.since.get(replica);
    return {
      readyMs: this.#nowMs - Math.max(replica.readyMs, this.#viewedMs),
      busyMs: replica.engine!.busyMs - (before?.busyMs ?? 0),
      flightMs: replica.flightMsAt(this.#nowMs) - (before?.flightMs ?? 0),
    };
  }

  #leave(deployment: DeploymentReplicas, list: FleetReplica[], replica: FleetReplica, atMs = this.#nowMs): void {
    remove(list, replica);
    replica.state = 'gone';
    if (!this.#isClosed) this.#bill(deployment, replica, atMs);
    // Its event may have been the next one: that moment is stopped at, and nothing happens then.
  }

  #bill(deployment: DeploymentReplicas, replica: FleetReplica, toMs: number): void {
    this.#tally.bill(deployment.settings, { fromMs: replica.createdMs, toMs });
  }

  #findNextEvent(): void {
    this.#nextEventMs = Number.POSITIVE_INFINITY;
    for (const { starting, ready, draining } of this.#deployments) {
      for (const list of [starting, ready, draining]) {
        for (const { nextEventMs } of list) this.#nextEventMs = Math.min(this.#nextEventMs, nextEventMs);
      }
    }
  }
}

function withinLimits({ minReplicas, maxReplicas }: FleetDeployment, count: number): number {
  return Math.min(maxReplicas, Math.max(minReplicas, count));
}

function due(replicas: readonly FleetReplica[], nowMs: number): readonly FleetReplica[] {
  return replicas.filter(({ nextEventMs }) => nextEventMs <= nowMs);
}

function remove(replicas: FleetReplica[], replica: FleetReplica): void {
  replicas.splice(replicas.indexOf(replica), 1);
}

/** Of equals the newest. */
function leastLoaded(replicas: readonly FleetReplica[]): FleetReplica {
  return replicas.reduce((least, replica) => (replica.inFlight <= least.inFlight ? replica : least));
}

import type { DeploymentView, FleetDeployment } from './backtest.js';
import { chanceOf, normalFrom } from './chance.js';
import { type GroupListener, type LostRequests, ReplicaGroup } from './fluid-group.js';
import type { RunTally } from './run-tally.js';

/**
 * The replicas of one deployment in `fluid` fidelity: each is started, drained, lost and paid for by itself, and those
 * that are ready serve in groups of like ones.
 *
 * There are at most `mostGroups` groups, and no fewer than half of that while there are replicas enough. A replica that
 * becomes ready is a group of its own; where that makes one group too many, the two are merged whose replicas differ
 * least in load (Ward's criterion). Where draining leaves too few, the largest is split.
 */

export type FluidPoolOptions = {
  readonly deployment: FleetDeployment;
  readonly initial: number;
  readonly startMs: number;
  readonly drainSeconds: number;
  readonly meanHoursBetweenFailures: number | null;
  readonly seed: number;
  readonly mostGroups: number;
  readonly tally: RunTally;
  readonly onAnswer: GroupListener;
  readonly onLost: (requests: readonly LostRequests[]) => void;
};

type Starting = {
  readonly number: number;
  readonly sinceMs: number;
  readonly readyMs: number;
  readonly lifeMs: number;
};

type Draining = { readonly group: ReplicaGroup; readonly sinceMs: number; readonly untilMs: number };

const hourMs = 3_600_000;

export class FluidPool {
  readonly deployment: FleetDeployment;
  readonly #options: FluidPoolOptions;
  readonly #tally: RunTally;
  readonly #groups: ReplicaGroup[] = [];
  #ready = 0;
  #created = 0;
  #wanted: number;
  /** When each of the ready ones fails, in the order in which they became ready; Infinity where none does. */
  readonly #failuresMs: number[] = [];
  #nextFailureMs = Number.POSITIVE_INFINITY;
  #isClosed = false;
  /** By the time at which they are ready. */
  #starting: Starting[] = [];
  #draining: Draining[] = [];
  /** Since then ready and starting replicas are not paid for. */
  #billedMs: number;
  /** Of groups that are no more: what they add to the sums over ready ones. */
  #goneBusyMs = 0;
  #goneInFlightMs = 0;
  #billedBusyMs = 0;
  #viewMs: number;
  #viewBusyMs = 0;
  #viewInFlightMs = 0;
  #readyMsSinceView = 0;
  #startupSeconds: number[] = [];

  constructor(options: FluidPoolOptions) {
    const { deployment, startMs } = options;
    this.deployment = deployment;
    this.#options = options;
    this.#tally = options.tally;
    this.#billedMs = startMs;
    this.#viewMs = startMs;
    const initial = this.#withinLimits(options.initial);
    this.#wanted = initial;
    for (let i = 0; i < initial; i++) this.#live(startMs, this.#create(startMs).lifeMs);
    const groups = Math.min(initial, options.mostGroups);
    const until = (group: number): number => Math.floor((initial * group) / groups);
    for (let i = 0; i < groups; i++) this.#groups.push(this.#group(until(i + 1) - until(i), startMs));
    this.#ready = initial;
  }

  /** Those that are ready; changed in place. */
  get groups(): readonly ReplicaGroup[] {
    return this.#groups;
  }

  get ready(): number {
    return this.#ready;
  }

  /** When something happens to a replica of its own accord; Infinity = never. */
  get nextMs(): number {
    let next = Math.min(this.#starting[0]?.readyMs ?? Number.POSITIVE_INFINITY, this.#nextFailureMs);
    for (const { untilMs } of this.#draining) next = Math.min(next, untilMs);
    return next;
  }

  /** Lets its replicas compute until then. */
  advance(atMs: number): void {
    for (const group of this.#groups) if (group.nextEventMs <= atMs) group.advance(atMs);
    if (this.#draining.length > 0) this.#advanceDraining(atMs);
  }

  /** Does what is due by then; the pool has been advanced. */
  change(atMs: number): void {
    while (this.#draining.some(({ untilMs }) => untilMs <= atMs)) {
      const place = this.#draining.findIndex(({ untilMs }) => untilMs <= atMs);
      const [late] = this.#draining.splice(place, 1);
      this.#options.onLost(late!.group.abandon());
      this.#leave(late!, late!.untilMs);
    }
    while (this.#starting.length > 0 && this.#starting[0]!.readyMs <= atMs) {
      this.#account(atMs);
      const { sinceMs, lifeMs } = this.#starting.shift()!;
      this.#startupSeconds.push((atMs - sinceMs) / 1000);
      this.#live(atMs, lifeMs);
      this.#groups.push(this.#group(1, atMs));
      this.#ready++;
      this.#mergeAlike(atMs);
    }
    while (this.#nextFailureMs <= atMs) this.#failOne(atMs);
  }

  /**
   * Notes what a policy asked for, before it is acted on; returns it within the deployment's limits.
   *
   * @throws RangeError for what is no whole number of replicas
   */
  want(replicas: number): number {
    if (!(Number.isInteger(replicas) && replicas >= 0)) {
      throw new RangeError(`${replicas} replicas of ${this.deployment.id} are asked for, expected a whole number >= 0`);
    }
    this.#wanted = this.#withinLimits(replicas);
    return this.#wanted;
  }

  /** Starts or stops replicas until so many are ready or starting. Starting ones go first, the newest before. */
  scaleTo(replicas: number, atMs: number): void {
    if (replicas === this.#present) return;
    this.#account(atMs);
    while (this.#present < replicas) this.#start(atMs);
    while (this.#present > replicas && this.#starting.length > 0) {
      let newest = 0;
      for (let i = 1; i < this.#starting.length; i++) {
        if (this.#starting[i]!.number > this.#starting[newest]!.number) newest = i;
      }
      this.#starting.splice(newest, 1);
      this.#tally.countStop(atMs);
    }
    while (this.#present > replicas) this.#drain(this.#present - replicas, atMs);
    this.#splitLargest();
  }

  view(atMs: number): DeploymentView {
    this.#account(atMs);
    const busyMs = this.#busyMs(atMs);
    const inFlightMs = this.#inFlightMs(atMs);
    const spanMs = atMs - this.#viewMs;
    let running = 0;
    let waiting = 0;
    for (const group of this.#groups) {
      running += group.running;
      waiting += group.waiting;
    }
    let draining = 0;
    for (const { group } of this.#draining) draining += group.replicas;
    const readyMs = this.#readyMsSinceView;
    const view: DeploymentView = {
      id: this.deployment.id,
      wanted: this.#wanted,
      ready: this.#ready,
      starting: this.#starting.length,
      draining,
      startingSinceMs: this.#starting.map(({ sinceMs }) => sinceMs).sort((a, b) => a - b),
      startupSeconds: this.#startupSeconds,
      runningRequests: Math.round(running),
      waitingRequests: Math.round(waiting),
      meanInFlight: spanMs > 0 ? Math.max(0, inFlightMs - this.#viewInFlightMs) / spanMs : running + waiting,
      busyShare: readyMs > 0 ? Math.min(1, Math.max(0, (busyMs - this.#viewBusyMs) / readyMs)) : 0,
    };
    this.#viewMs = atMs;
    this.#viewBusyMs = busyMs;
    this.#viewInFlightMs = inFlightMs;
    this.#readyMsSinceView = 0;
    this.#startupSeconds = [];
    return view;
  }

  /** Tells the tally what was paid for until then. */
  settle(atMs: number): void {
    this.#account(atMs);
  }

  /** Nothing is paid for or fails from here on. */
  close(atMs: number): void {
    this.#account(atMs);
    for (const one of this.#draining) this.#leave(one, atMs);
    this.#isClosed = true;
    this.#failuresMs.length = 0;
    this.#nextFailureMs = Number.POSITIVE_INFINITY;
  }

  /** Serves what is left to its end. */
  finish(): void {
    for (const group of this.#groups) group.advance(Number.POSITIVE_INFINITY);
    while (this.#draining.length > 0) {
      const untilMs = Math.min(...this.#draining.map((each) => each.untilMs));
      this.#advanceDraining(untilMs);
      this.change(untilMs);
    }
  }

  #group(replicas: number, atMs: number): ReplicaGroup {
    const { stepTimes, limits } = this.deployment.engine;
    const { onAnswer: listener, startMs: originMs } = this.#options;
    return new ReplicaGroup({ stepTimes, limits, listener, replicas, atMs, originMs });
  }

  /** Ready and starting. */
  get #present(): number {
    return this.#ready + this.#starting.length;
  }

  #withinLimits(replicas: number): number {
    const { minReplicas, maxReplicas } = this.deployment;
    return Math.min(maxReplicas, Math.max(minReplicas, replicas));
  }

  /** The same chance as that of the replica of that number in `request` fidelity. */
  #create(atMs: number): Starting {
    const { id, startup } = this.deployment;
    const { seed, meanHoursBetweenFailures } = this.#options;
    const number = ++this.#created;
    const chance = chanceOf(seed, `${id} ${number}`);
    const startupMs = startup.medianSeconds * 1000 * Math.exp(startup.spread * normalFrom(chance));
    const lifeMs =
      meanHoursBetweenFailures === null ? Infinity : meanHoursBetweenFailures * hourMs * chance.exponential();
    return { number, sinceMs: atMs, readyMs: atMs + startupMs, lifeMs };
  }

  #start(atMs: number): void {
    const created = this.#create(atMs);
    const place = this.#starting.findIndex(({ readyMs }) => readyMs > created.readyMs);
    this.#starting.splice(place < 0 ? this.#starting.length : place, 0, created);
    this.#tally.countStart(atMs);
  }

  #live(atMs: number, lifeMs: number): void {
    if (this.#isClosed || lifeMs === Infinity) return;
    this.#failuresMs.push(atMs + lifeMs);
    this.#nextFailureMs = Math.min(this.#nextFailureMs, atMs + lifeMs);
  }

  /** Takes ready replicas out of service, at most so many, from the group with the fewest requests on a replica. */
  #drain(most: number, atMs: number): void {
    let place = 0;
    for (let i = 1; i < this.#groups.length; i++) if (this.#groups[i]!.load < this.#groups[place]!.load) place = i;
    const group = this.#takeOut(place, most, atMs);
    this.#tally.countStop(atMs, group.replicas);
    // Of equals the newest.
    if (this.#failuresMs.length > 0) this.#failuresMs.length -= group.replicas;
    this.#nextFailureMs = Math.min(...this.#failuresMs);
    const one: Draining = { group, sinceMs: atMs, untilMs: atMs + this.#options.drainSeconds * 1000 };
    if (group.isEmpty) this.#leave(one, atMs);
    else this.#draining.push(one);
  }

  #failOne(atMs: number): void {
    this.#account(atMs);
    this.#failuresMs.splice(this.#failuresMs.indexOf(this.#nextFailureMs), 1);
    // Groups are of replicas that are alike: any place is as good as the failing one's own.
    let nth = (atMs / 1000) % this.#ready;
    let place = 0;
    while (place < this.#groups.length - 1 && nth >= this.#groups[place]!.replicas) {
      nth -= this.#groups[place]!.replicas;
      place++;
    }
    this.#nextFailureMs = Math.min(...this.#failuresMs);
    const lost = this.#takeOut(place, 1, atMs);
    this.#options.onLost(lost.abandon());
    this.#tally.countFailure(atMs);
    this.#start(atMs);
    this.#splitLargest();
  }

  /** Some of a group's replicas, or all, which are no longer ready. */
  #takeOut(place: number, most: number, atMs: number): ReplicaGroup {
    const whole = this.#groups[place]!;
    let taken = whole;
    if (most < whole.replicas) taken = whole.split(most);
    else this.#groups.splice(place, 1);
    this.#ready -= taken.replicas;
    this.#goneBusyMs += taken.busyReplicaMs(atMs);
    this.#goneInFlightMs += taken.inFlightMs(atMs);
    return taken;
  }

  #advanceDraining(atMs: number): void {
    const left: Draining[] = [];
    for (const one of this.#draining) {
      one.group.advance(Math.min(atMs, one.untilMs));
      if (one.group.isEmpty) this.#leave(one, Math.max(one.sinceMs, one.group.lastEndMs));
      else left.push(one);
    }
    this.#draining = left;
  }

  #leave({ group, sinceMs }: Draining, atMs: number): void {
    if (this.#isClosed) return;
    this.#tally.bill(this.deployment, { fromMs: sinceMs, toMs: atMs, replicas: group.replicas });
  }

  /** Bills ready and starting replicas before their number changes. */
  #account(atMs: number): void {
    if (this.#isClosed) return;
    const fromMs = this.#billedMs;
    if (!(atMs > fromMs)) return;
    const busyMs = this.#busyMs(atMs);
    this.#tally.bill(this.deployment, { fromMs, toMs: atMs, replicas: this.#present });
    this.#tally.ready(this.deployment, {
      fromMs,
      toMs: atMs,
      replicas: this.#ready,
      busyMs: Math.max(0, busyMs - this.#billedBusyMs),
    });
    this.#readyMsSinceView += this.#ready * (atMs - fromMs);
    this.#billedBusyMs = busyMs;
    this.#billedMs = atMs;
  }

  #busyMs(atMs: number): number {
    let sum = this.#goneBusyMs;
    for (const group of this.#groups) sum += group.busyReplicaMs(atMs);
    return sum;
  }

  #inFlightMs(atMs: number): number {
    let sum = this.#goneInFlightMs;
    for (const group of this.#groups) sum += group.inFlightMs(atMs);
    return sum;
  }

  #mergeAlike(atMs: number): void {
    const groups = this.#groups;
    while (groups.length > this.#options.mostGroups) {
      let least = Number.POSITIVE_INFINITY;
      let into = 0;
      let from = 1;
      for (let i = 0; i < groups.length; i++) {
        const { replicas, load } = groups[i]!;
        for (let j = i + 1; j < groups.length; j++) {
          const other = groups[j]!;
          const weight = (replicas * other.replicas) / (replicas + other.replicas);
          // Of equally loaded ones the smallest, so that groups become equally large.
          const difference = weight * ((load - other.load) ** 2 + smallest);
          if (difference < least) {
            least = difference;
            into = i;
            from = j;
          }
        }
      }
      const [other] = groups.splice(from, 1);
      groups[into]!.merge(other!, atMs);
    }
  }

  #splitLargest(): void {
    const groups = this.#groups;
    const fewest = Math.min(this.#ready, Math.ceil(this.#options.mostGroups / 2));
    while (groups.length < fewest) {
      let largest = groups[0]!;
      for (const group of groups) if (group.replicas > largest.replicas) largest = group;
      groups.push(largest.split(Math.floor(largest.replicas / 2)));
    }
  }
}

/** What merging two groups of equal load costs, against a difference in load of one request squared. */
const smallest = 0.01;

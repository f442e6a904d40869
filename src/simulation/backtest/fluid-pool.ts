import type { RandomSource } from '../../profiling/random.js';
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

type Starting = { readonly sinceMs: number; readonly readyMs: number };

type Draining = { readonly group: ReplicaGroup; readonly sinceMs: number; readonly untilMs: number };

const hourMs = 3_600_000;

export class FluidPool {
  readonly deployment: FleetDeployment;
  readonly #options: FluidPoolOptions;
  readonly #tally: RunTally;
  readonly #startupChance: RandomSource;
  readonly #failureChance: RandomSource;
  readonly #groups: ReplicaGroup[] = [];
  #ready = 0;
  /** By the time at which they are ready. */
  #starting: Starting[] = [];
  #draining: Draining[] = [];
  /** Since then ready and starting replicas are not paid for. */
  #billedMs: number;
  /** Expected failures until the next one, at the number of ready replicas since `#hazardMs`. */
  #hazardLeft: number;
  #hazardMs: number;
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
    const { deployment, initial, startMs, seed } = options;
    this.deployment = deployment;
    this.#options = options;
    this.#tally = options.tally;
    this.#startupChance = chanceOf(seed, `startup ${deployment.id}`);
    this.#failureChance = chanceOf(seed, `failure ${deployment.id}`);
    this.#billedMs = startMs;
    this.#viewMs = startMs;
    this.#hazardMs = startMs;
    this.#hazardLeft = this.#failureChance.exponential();
    const groups = Math.min(initial, Math.ceil(options.mostGroups / 2));
    for (let i = 0; i < groups; i++) {
      this.#groups.push(
        this.#group(Math.floor((initial * (i + 1)) / groups) - Math.floor((initial * i) / groups), startMs),
      );
    }
    this.#ready = initial;
  }

  /** Those that are ready; changed in place. */
  get groups(): readonly ReplicaGroup[] {
    return this.#groups;
  }

  get ready(): number {
    return this.#ready;
  }

  get wanted(): number {
    return this.#ready + this.#starting.length;
  }

  /** When something happens to a replica of its own accord; Infinity = never. */
  get nextMs(): number {
    let next = Math.min(this.#starting[0]?.readyMs ?? Number.POSITIVE_INFINITY, this.#nextFailureMs());
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
      const { sinceMs, readyMs } = this.#starting.shift()!;
      this.#startupSeconds.push((readyMs - sinceMs) / 1000);
      this.#groups.push(this.#group(1, atMs));
      this.#ready++;
      this.#mergeAlike(atMs);
    }
    while (this.#nextFailureMs() <= atMs) this.#failOne(atMs);
  }

  /** Starts or stops replicas until so many are ready or starting, within the deployment's limits. */
  scaleTo(replicas: number, atMs: number): void {
    const { minReplicas, maxReplicas } = this.deployment;
    const wanted = Math.min(maxReplicas, Math.max(minReplicas, Math.round(replicas)));
    if (wanted === this.wanted) return;
    this.#account(atMs);
    while (this.wanted < wanted) this.#start(atMs);
    // The last that was started has the longest to go.
    while (this.wanted > wanted && this.#starting.length > 0) {
      let newest = 0;
      for (let i = 1; i < this.#starting.length; i++) {
        if (this.#starting[i]!.sinceMs >= this.#starting[newest]!.sinceMs) newest = i;
      }
      this.#starting.splice(newest, 1);
      this.#tally.countStop(atMs);
    }
    while (this.wanted > wanted) this.#drain(this.wanted - wanted, atMs);
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
      wanted: this.wanted,
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

  /** Serves what is left to its end; draining replicas are paid for until they are gone. */
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

  #start(atMs: number): void {
    const { medianSeconds, spread } = this.deployment.startup;
    const seconds = medianSeconds * Math.exp(spread * normalFrom(this.#startupChance));
    const readyMs = atMs + seconds * 1000;
    const place = this.#starting.findIndex((each) => each.readyMs > readyMs);
    this.#starting.splice(place < 0 ? this.#starting.length : place, 0, { sinceMs: atMs, readyMs });
    this.#tally.countStart(atMs);
  }

  /** Takes ready replicas out of service, at most so many, from the group with the fewest requests on a replica. */
  #drain(most: number, atMs: number): void {
    let place = 0;
    for (let i = 1; i < this.#groups.length; i++) if (this.#groups[i]!.load < this.#groups[place]!.load) place = i;
    const group = this.#takeOut(place, most, atMs);
    this.#tally.countStop(atMs, group.replicas);
    const one: Draining = { group, sinceMs: atMs, untilMs: atMs + this.#options.drainSeconds * 1000 };
    if (group.isEmpty) this.#leave(one, atMs);
    else this.#draining.push(one);
  }

  #failOne(atMs: number): void {
    this.#account(atMs);
    this.#hazardLeft = this.#failureChance.exponential();
    let place = 0;
    let nth = this.#failureChance.unit() * this.#ready;
    while (place < this.#groups.length - 1 && nth >= this.#groups[place]!.replicas) {
      nth -= this.#groups[place]!.replicas;
      place++;
    }
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
      if (one.group.isEmpty) this.#leave(one, one.group.lastEndMs);
      else left.push(one);
    }
    this.#draining = left;
  }

  #leave({ group, sinceMs }: Draining, atMs: number): void {
    this.#tally.bill(this.deployment, { fromMs: sinceMs, toMs: atMs, replicas: group.replicas });
  }

  /** Bills ready and starting replicas, and moves chance on, before their number changes. */
  #account(atMs: number): void {
    const fromMs = this.#billedMs;
    if (!(atMs > fromMs)) return;
    const busyMs = this.#busyMs(atMs);
    this.#tally.bill(this.deployment, { fromMs, toMs: atMs, replicas: this.wanted });
    this.#tally.ready(this.deployment, {
      fromMs,
      toMs: atMs,
      replicas: this.#ready,
      busyMs: Math.max(0, busyMs - this.#billedBusyMs),
    });
    this.#readyMsSinceView += this.#ready * (atMs - fromMs);
    this.#billedBusyMs = busyMs;
    this.#billedMs = atMs;
    const { meanHoursBetweenFailures } = this.#options;
    if (meanHoursBetweenFailures !== null) {
      this.#hazardLeft -= (this.#ready * (atMs - this.#hazardMs)) / (meanHoursBetweenFailures * hourMs);
      this.#hazardMs = atMs;
    }
  }

  #nextFailureMs(): number {
    const { meanHoursBetweenFailures } = this.#options;
    if (meanHoursBetweenFailures === null || this.#ready === 0) return Number.POSITIVE_INFINITY;
    return this.#hazardMs + (Math.max(0, this.#hazardLeft) * meanHoursBetweenFailures * hourMs) / this.#ready;
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

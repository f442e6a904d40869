import { type FinishedInterval, GatewayTrace } from '../../demand/gateway-trace.js';
import type { BacktestRequest, Decision, FleetSettings, FleetView, Policy, RunResult } from './backtest.js';
import { type Flight, latenciesOf } from './fleet.js';
import { FleetGateway } from './fleet-gateway.js';
import { RunTally } from './run-tally.js';
import type { RequestStream } from './trace-load.js';

/**
 * A run in `request` fidelity: every request of the load on a simulated replica.
 *
 * Time goes from one thing that happens to the next: a request arrives, a replica becomes ready, fails or has drained, a
 * policy is asked or what it said is done, a request has waited too long. All replicas are computed up to each of these
 * moments, so that whoever decides sees them as they are then. What happens at the same moment happens in that order:
 * steps of replicas end, replicas change, old decisions are done, the policy is asked, requests arrive.
 *
 * Memory is that of the open requests, of one interval of the gateway's records, and of the series.
 */

export type RunOptions = {
  readonly settings: FleetSettings;
  /** Ascending in time, none before `startMs`; from the first at or after `endMs` on they are not read. */
  readonly requests: RequestStream;
  readonly policy: Policy;
  /** Asked now and then; true ends the run with a `RunStopped`. */
  readonly shouldStop?: () => boolean;
};

/** `shouldStop` said so. */
export class RunStopped extends Error {
  override readonly name = 'RunStopped';

  constructor() {
    super('the run was stopped');
  }
}

/** Things that happen between two questions whether to stop. */
const eventsPerQuestion = 256;

/**
 * Runs a policy over a load.
 *
 * @throws RangeError for requests out of order, settings that are none, and decisions that no fleet can follow
 * @throws RunStopped
 */
export async function runRequests(options: RunOptions): Promise<RunResult> {
  const { settings, policy, shouldStop } = options;
  checkTimes(settings, policy);
  const run = new RequestRun(settings, policy);
  const source = new RequestSource(options.requests);
  let events = 0;
  try {
    const first = source.pull();
    let next = isPromise(first) ? await first : first;
    for (;;) {
      if (next !== null && !(next.atMs >= run.nowMs)) {
        throw new RangeError(
          `a request at ${next.atMs} ms after ${run.nowMs} ms: expected ascending times from the start at ${settings.startMs} ms on`,
        );
      }
      if (next !== null && next.atMs >= settings.endMs) next = null;
      const reached = run.advanceTo(next?.atMs ?? settings.endMs);
      // A promise is waited for only where there is one: a turn of the event loop for each request would take longest.
      if (isPromise(reached)) {
        await reached;
      } else if (reached) {
        if (next === null) break;
        run.arrive(next);
        const pulled = source.pull();
        next = isPromise(pulled) ? await pulled : pulled;
      }
      if (++events % eventsPerQuestion === 0 && shouldStop?.() === true) throw new RunStopped();
    }
  } finally {
    await source.close();
  }
  return run.finish();
}

function isPromise<Value>(value: Value | PromiseLike<Value>): value is PromiseLike<Value> {
  return typeof (value as Partial<PromiseLike<Value>> | null)?.then === 'function';
}

/** Pulls from a stream of either kind; a stream without promises makes none. */
class RequestSource {
  readonly #iterator: AsyncIterator<BacktestRequest> | Iterator<BacktestRequest>;

  constructor(requests: RequestStream) {
    this.#iterator = Symbol.asyncIterator in requests ? requests[Symbol.asyncIterator]() : requests[Symbol.iterator]();
  }

  /** Null at the end. */
  pull(): BacktestRequest | null | PromiseLike<BacktestRequest | null> {
    const pulled = this.#iterator.next();
    if (!isPromise(pulled)) return pulled.done === true ? null : pulled.value;
    return pulled.then((result) => (result.done === true ? null : result.value));
  }

  /** What the stream holds open is closed, however far it was read. */
  async close(): Promise<void> {
    await this.#iterator.return?.();
  }
}

/** One run: the gateway between the load, the fleet and the policy. */
class RequestRun {
  readonly #settings: FleetSettings;
  readonly #policy: Policy;
  readonly #tally: RunTally;
  readonly #gateway: FleetGateway;
  readonly #trace = new GatewayTrace();
  /** Records since the last view. */
  #intervals: FinishedInterval[] = [];
  #nextQuestionMs: number;
  #isScoring = false;
  #isOver = false;

  constructor(settings: FleetSettings, policy: Policy) {
    this.#nextQuestionMs = settings.startMs;
    this.#settings = settings;
    this.#policy = policy;
    this.#tally = new RunTally(settings);
    this.#gateway = new FleetGateway(settings, this.#tally, {
      answered: this.#answered,
      failed: this.#failed,
      unserved: this.#unserved,
    });
  }

  get nowMs(): number {
    return this.#gateway.nowMs;
  }

  /**
   * Lets everything happen up to a moment, included, or until the policy was asked.
   *
   * @returns true when the moment is reached; otherwise to be called again, where it is a promise after that is kept
   */
  advanceTo(untilMs: number): boolean | PromiseLike<boolean> {
    for (;;) {
      const eventMs = this.#nextEventMs();
      this.#gateway.moveTo(Math.min(eventMs, untilMs));
      if (eventMs > untilMs) return true;
      this.#gateway.happen();
      if (!this.#isScoring && this.#settings.scoredFromMs <= eventMs) {
        this.#isScoring = true;
        this.#gateway.fleet.beginScoring();
      }
      if (this.#nextQuestionMs <= eventMs && eventMs < this.#settings.endMs) {
        return this.#ask();
      }
    }
  }

  /** A request comes to the gateway, now. */
  arrive(request: BacktestRequest): void {
    const finished = this.#trace.arrive(this.nowMs);
    if (finished.length > 0) this.#intervals.push(...finished);
    this.#tally.arrive(this.nowMs);
    this.#gateway.arrive(request);
  }

  /** No arrivals from now on: what is open is served to its end. */
  finish(): RunResult {
    this.#isOver = true;
    this.#gateway.close();
    return this.#tally.result();
  }

  #nextEventMs(): number {
    return Math.min(
      this.#gateway.nextEventMs,
      this.#nextQuestionMs < this.#settings.endMs ? this.#nextQuestionMs : Number.POSITIVE_INFINITY,
      this.#isScoring ? Number.POSITIVE_INFINITY : this.#settings.scoredFromMs,
    );
  }

  #ask(): boolean | PromiseLike<boolean> {
    this.#nextQuestionMs += this.#policy.periodSeconds * 1000;
    this.#intervals.push(...this.#trace.advanceTo(this.nowMs));
    const view: FleetView = {
      nowMs: this.nowMs,
      deployments: this.#gateway.view(),
      queuedRequests: this.#gateway.queued,
      intervals: this.#intervals,
    };
    this.#intervals = [];
    const decision = this.#policy.decide(view);
    if (isPromise(decision)) return decision.then((kept) => this.#accept(kept));
    return this.#accept(decision);
  }

  /** Routing counts at once: a gateway reads it when it is published. Replicas take the consumer's time. */
  #accept({ replicas, routing, forecastRps }: Decision): false {
    this.#gateway.setRouting(routing);
    this.#tally.forecast(this.nowMs, forecastRps);
    this.#gateway.want(replicas, this.#policy.lagSeconds);
    return false;
  }

  readonly #answered = (flight: Flight, endMs: number): void => {
    const { arrivedMs, inputTokens, outputTokens } = flight;
    this.#tally.answer({ arrivedMs, inputTokens, outputTokens, ...latenciesOf(flight, endMs) });
    if (!this.#isOver) this.#trace.complete({ atMs: endMs, inputTokens, outputTokens });
  };

  readonly #failed = ({ arrivedMs }: Flight, endMs: number): void => {
    this.#tally.fail(arrivedMs);
    if (!this.#isOver) this.#trace.fail(endMs);
  };

  readonly #unserved = ({ arrivedMs }: Flight, endMs: number): void => {
    this.#tally.leaveUnserved(arrivedMs);
    if (!this.#isOver) this.#trace.fail(endMs);
  };
}

/** @throws RangeError for settings that no run can follow */
export function checkTimes(settings: FleetSettings, { periodSeconds, lagSeconds }: Policy): void {
  const { startMs, scoredFromMs, queueTimeoutSeconds, drainSeconds, meanHoursBetweenFailures, deployments } = settings;
  const atLeast = (name: string, value: number, least: number): void => {
    if (!(value >= least)) throw new RangeError(`${name} is ${value}, expected a number >= ${least}`);
  };
  const positive = (name: string, value: number): void => {
    if (!(value > 0)) throw new RangeError(`${name} is ${value}, expected a number > 0`);
  };
  if (!Number.isFinite(startMs)) throw new RangeError(`startMs is ${startMs}, expected milliseconds`);
  atLeast('scoredFromMs', scoredFromMs, startMs);
  positive('periodSeconds of the policy', periodSeconds);
  atLeast('lagSeconds of the policy', lagSeconds, 0);
  atLeast('queueTimeoutSeconds', queueTimeoutSeconds, 0);
  atLeast('drainSeconds', drainSeconds, 0);
  // Below seconds, replicas would do nothing but fail, and time would hardly move.
  if (meanHoursBetweenFailures !== null) atLeast('meanHoursBetweenFailures', meanHoursBetweenFailures, 0.001);
  const ids = new Set<string>();
  for (const { id, startup, minReplicas, maxReplicas, usdPerReplicaHour } of deployments) {
    if (ids.has(id)) throw new RangeError(`deployment ${id} is there twice, expected one of each name`);
    ids.add(id);
    atLeast(`startup.medianSeconds of ${id}`, startup.medianSeconds, 0);
    atLeast(`startup.spread of ${id}`, startup.spread, 0);
    atLeast(`minReplicas of ${id}`, minReplicas, 0);
    atLeast(`maxReplicas of ${id}`, maxReplicas, minReplicas);
    atLeast(`usdPerReplicaHour of ${id}`, usdPerReplicaHour, 0);
  }
}

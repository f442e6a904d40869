import type { RequestOutcome, ScheduledRequest } from '../profiling/measurement.js';
import type { ReplicaEventKind, SimulatedReplica } from './replica.js';

/**
 * A benchmark run in virtual time: a schedule of requests against a simulated replica, told in the same outcomes as a
 * run against a server, so that both are measured by the same code. Nothing waits; two runs give the same outcomes.
 */

/** What became of a run. */
export type SimulatedRun = {
  /** Of every request that was sent, in the order of the schedule. */
  readonly outcomes: readonly RequestOutcome[];
  /** Why it was ended early; null where the whole schedule was sent and answered. */
  readonly aborted: string | null;
};

export type LoadRunOptions = {
  /** Not used before: its clock starts with the run. */
  readonly replica: SimulatedReplica;
  /** Ascending in time, ids unique. */
  readonly requests: readonly ScheduledRequest[];
  /** Told in the order in which requests end. */
  readonly onOutcome?: (outcome: RequestOutcome) => void;
  /**
   * Asked after every step in which requests ended, and twice a second of virtual time; a sentence ends the run. Then
   * requests in flight are cancelled, and those not sent have no outcome.
   */
  readonly shouldAbort?: (soFar: readonly RequestOutcome[], elapsedSeconds: number) => string | null;
};

/** Time between two questions whether to abort, where nothing ends [ms]. */
const abortIntervalMs = 500;

type Flight = {
  readonly request: ScheduledRequest;
  readonly place: number;
  readonly gapsSeconds: Float64Array;
  firstTokenMs: number | null;
  lastTokenMs: number;
  produced: number;
};

/** Runs a schedule to its end, or until it is aborted. */
export function simulateLoad({ replica, requests, onOutcome, shouldAbort }: LoadRunOptions): SimulatedRun {
  const flights = new Map<number, Flight>();
  const byPlace: (RequestOutcome | undefined)[] = [];
  const ended: RequestOutcome[] = [];

  const end = (flight: Flight, atMs: number, failure: Pick<RequestOutcome, 'failure' | 'failureDetail'>): void => {
    const { request, firstTokenMs, produced } = flight;
    const outcome: RequestOutcome = {
      id: request.id,
      scheduledSeconds: request.atSeconds,
      sentSeconds: request.atSeconds,
      firstTokenSeconds: firstTokenMs === null ? null : firstTokenMs / 1000,
      endSeconds: atMs / 1000,
      inputTokens: request.inputTokens,
      outputTokens: produced,
      wantedInputTokens: request.inputTokens,
      wantedOutputTokens: request.outputTokens,
      tokenGapsSeconds: flight.gapsSeconds.subarray(0, Math.max(0, produced - 1)),
      usage: 'server',
      ...failure,
    };
    flights.delete(request.id);
    byPlace[flight.place] = outcome;
    ended.push(outcome);
    onOutcome?.(outcome);
  };

  const listen = (kind: ReplicaEventKind, id: number, atMs: number, outputTokens: number): void => {
    const flight = flights.get(id);
    if (flight === undefined) return;
    if (kind === 'token') {
      if (flight.firstTokenMs === null) flight.firstTokenMs = atMs;
      else flight.gapsSeconds[outputTokens - 2] = (atMs - flight.lastTokenMs) / 1000;
      flight.lastTokenMs = atMs;
      flight.produced = outputTokens;
    } else if (kind === 'finished') {
      end(flight, atMs, { failure: null });
    } else if (kind === 'rejected') {
      // As vLLM answers requests beyond its context: status 400.
      const tokens = flight.request.inputTokens + flight.request.outputTokens;
      end(flight, atMs, {
        failure: 'http_other',
        failureDetail: `400: ${tokens} tokens are more than the engine holds`,
      });
    }
  };

  let aborted: string | null = null;
  let asked = 0;
  let next = 0;
  let nextQuestionMs = abortIntervalMs;
  for (;;) {
    const request = requests[next];
    const arrivalMs = request === undefined ? Number.POSITIVE_INFINITY : request.atSeconds * 1000;
    const stepEndMs = replica.nextStepEndMs() ?? Number.POSITIVE_INFINITY;
    let nowMs = Math.min(arrivalMs, stepEndMs);
    if (nowMs === Number.POSITIVE_INFINITY) break;
    if (shouldAbort !== undefined && nextQuestionMs < nowMs) nowMs = nextQuestionMs;
    replica.advanceEach(nowMs, listen);
    if (request !== undefined && arrivalMs <= nowMs) {
      const gapsSeconds = new Float64Array(Math.max(0, request.outputTokens - 1));
      flights.set(request.id, { request, place: next, gapsSeconds, firstTokenMs: null, lastTokenMs: 0, produced: 0 });
      replica.submit(request, nowMs);
      next++;
      // A rejection is known at once.
      replica.advanceEach(nowMs, listen);
    }
    if (shouldAbort !== undefined && (ended.length > asked || nowMs >= nextQuestionMs)) {
      asked = ended.length;
      nextQuestionMs = nowMs + abortIntervalMs;
      aborted = shouldAbort(ended, nowMs / 1000);
      if (aborted !== null) {
        for (const flight of [...flights.values()]) {
          replica.cancel(flight.request.id, nowMs);
          end(flight, nowMs, { failure: 'cancelled', failureDetail: aborted });
        }
        break;
      }
    }
  }
  return { outcomes: byPlace.filter((outcome) => outcome !== undefined), aborted };
}

import { z } from 'zod';
import type { ObservedDeployment } from '../core/ports.js';

/**
 * How long replicas of a deployment take from asked for to ready, learnt from its counts.
 *
 * Kubernetes tells how many replicas a Deployment asks for and how many are ready, not which. So a *start* is a rise of
 * what is asked for while everything that was asked for before is ready; it took until as many are ready. Left out is
 * what tells nothing of a start-up: a rise during another one, replicas that were ready and come back (a rollout, a
 * crash), starts that were taken back, and those that took so long that their GPUs were not to be had.
 *
 * The horizon of a forecast needs a time that most starts keep: a high quantile of the last ones, with the prior in
 * place of two of them.
 */
export type StartupObservation = Pick<
  ObservedDeployment,
  'id' | 'currentReplicas' | 'readyReplicas' | 'startupSeconds'
>;

const startSchema = z.strictObject({
  /** Replicas that must be ready. */
  wanted: z.int().min(1),
  sinceMs: z.number(),
});

const deploymentSchema = z.strictObject({
  id: z.string(),
  /** The last ones, oldest first [s]. */
  seconds: z.array(z.number().min(0)),
  /** As last seen; null = not known. */
  current: z.int().min(0).nullable(),
  ready: z.int().min(0).nullable(),
  /** What is under way; null = nothing is, or something that tells nothing. */
  start: startSchema.nullable(),
});
type DeploymentStarts = z.output<typeof deploymentSchema>;

export const startupTimesSchema = z.array(deploymentSchema);
export type StartupTimesState = readonly z.output<typeof deploymentSchema>[];

/** Start-ups change with images and nodes: the last ones tell. */
const keptStarts = 20;

/** Of so many starts as many as this are over by then. */
const startQuantile = 0.9;

/** The prior counts as so many starts. */
const priorStarts = 2;

/** A start that takes longer than this many times the prior waits for a GPU, not for its engine; and for at least... */
const longestOverPrior = 5;
/** ... this long [s]: a prior of seconds is no reason to believe that. */
const longestAtLeastSeconds = 900;

export class StartupTimes {
  readonly #priorSeconds: number;
  #deployments: ReadonlyMap<string, DeploymentStarts>;

  /**
   * @param priorSeconds of a deployment that names none
   * @param state what `toJSON` gave in an earlier process
   */
  constructor(priorSeconds: number, state: StartupTimesState = []) {
    this.#priorSeconds = priorSeconds;
    this.#deployments = new Map(state.map((each) => [each.id, each]));
  }

  /** Takes one complete view; a deployment that is not in it is gone. */
  observe(deployments: Iterable<StartupObservation>, nowMs: number): void {
    const next = new Map<string, DeploymentStarts>();
    for (const seen of deployments) next.set(seen.id, this.#follow(seen, nowMs));
    this.#deployments = next;
  }

  /** The clock was set by so much: a start that is under way takes as long as it takes. */
  clockWasSet(byMs: number): void {
    this.#deployments = new Map(
      [...this.#deployments].map(([id, each]) => {
        const start = each.start === null ? null : { ...each.start, sinceMs: each.start.sinceMs + byMs };
        return [id, { ...each, start }];
      }),
    );
  }

  /** Time from asked for to ready that most starts of a deployment keep [s]. */
  secondsOf({ id, startupSeconds }: Pick<StartupObservation, 'id' | 'startupSeconds'>): number {
    const prior = startupSeconds ?? this.#priorSeconds;
    const seconds = this.#deployments.get(id)?.seconds ?? [];
    if (seconds.length === 0) return prior;
    const ascending = [...seconds, ...new Array<number>(priorStarts).fill(prior)].sort((a, b) => a - b);
    return ascending[Math.ceil(startQuantile * ascending.length) - 1]!;
  }

  /** Starts that were seen of a deployment, at most those that are kept. */
  startsOf(id: string): number {
    return this.#deployments.get(id)?.seconds.length ?? 0;
  }

  toJSON(): StartupTimesState {
    return [...this.#deployments.values()];
  }

  #follow(seen: StartupObservation, nowMs: number): DeploymentStarts {
    const { id, currentReplicas: current, readyReplicas: ready } = seen;
    const before = this.#deployments.get(id) ?? { id, seconds: [], current: null, ready: null, start: null };
    // A gap in the view may hide anything.
    if (current === null || ready === null) return { ...before, current: null, ready: null, start: null };
    const { seconds } = before;
    const start = this.#startNow(before, { current, ready, nowMs });
    if (start === null || ready < start.wanted) return { id, seconds, current, ready, start };
    const took = (nowMs - start.sinceMs) / 1000;
    const longest = Math.max(longestOverPrior * (seen.startupSeconds ?? this.#priorSeconds), longestAtLeastSeconds);
    const kept = took <= longest ? [...seconds, took].slice(-keptStarts) : seconds;
    return { id, seconds: kept, current, ready, start: null };
  }

  #startNow(
    before: DeploymentStarts,
    { current, ready, nowMs }: { readonly current: number; readonly ready: number; readonly nowMs: number },
  ): DeploymentStarts['start'] {
    if (before.current === null || before.ready === null) return null;
    const wasWhole = before.ready >= before.current;
    if (before.start === null) {
      return wasWhole && current > before.current && ready >= before.ready ? { wanted: current, sinceMs: nowMs } : null;
    }
    const isOther = current !== before.current || ready < before.ready || nowMs < before.start.sinceMs;
    return isOther ? null : before.start;
  }
}

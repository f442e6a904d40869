import type { RequestOutcome, ScheduledRequest } from '../../profiling/measurement.js';
import type { OpenAiTarget } from './target.js';

/** A run: what became of every request that was sent, in the order of the schedule. */
export type LoadRun = {
  readonly outcomes: readonly RequestOutcome[];
  /** Why it was ended early; null where the whole schedule was sent. Goes into MeasurementPlan.aborted. */
  readonly aborted: string | null;
  /** Goes into MeasurementPlan.generatorFault. */
  readonly generatorFault: string | null;
  readonly warnings: readonly string[];
};

/** Sends a schedule, open loop, and waits for the answers. */
export async function runLoad(_options: {
  readonly target: OpenAiTarget;
  readonly requests: readonly ScheduledRequest[];
  readonly signal?: AbortSignal;
  readonly onOutcome?: (outcome: RequestOutcome) => void;
  /** Asked after each outcome and at least twice a second; a sentence ends the run. */
  readonly shouldAbort?: (soFar: readonly RequestOutcome[], elapsedSeconds: number) => string | null;
}): Promise<LoadRun> {
  throw new Error('not yet');
}

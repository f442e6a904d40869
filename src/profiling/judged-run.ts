import { type Attainment, attainmentOf, type Slo } from './attainment.js';
import type { Measurement, MeasurementPlan, RequestOutcome } from './measurement.js';
import { withSettledThroughput } from './settled-throughput.js';
import { measure } from './steady-state.js';

/** A run, and what it says of the objectives. */
export type JudgedRun = {
  /** As they count: where the generator was late, as sent when they were due. */
  readonly outcomes: readonly RequestOutcome[];
  readonly measurement: Measurement;
  readonly attainment: Attainment;
  /** The generator was late, and the run counts all the same. */
  readonly fromSchedule: boolean;
};

/**
 * Measures a run and holds it against the objectives.
 *
 * A generator that is not given the processor in time (a virtual machine on a busy host) sends late, in bunches, and dates
 * answers late. Either makes latencies longer, counted from when the requests were due. So a run that meets the SLO even by
 * those counts, with those latencies. One that does not may have missed it by the generator's fault: it stays invalid.
 * Counting from the schedule is what wrk2 does against "coordinated omission" (Tene, "How NOT to measure latency").
 *
 * Bunches help a server a little, whose steps they share: of simulated runs that met so, one in a hundred would have missed with
 * a punctual generator, by 8 % at most.
 *
 * Pure.
 *
 * @param slo null: nothing to hold it against; a late generator's run is invalid
 */
export function judgeRun(outcomes: readonly RequestOutcome[], plan: MeasurementPlan, slo: Slo | null): JudgedRun {
  const asSent = judged(outcomes, plan, slo ?? noSlo);
  const isInDoubt = !asSent.measurement.valid && (plan.generatorFault ?? null) === null;
  if (!isInDoubt || slo === null || asSent.measurement.aborted !== null || outcomes.length === 0) return asSent;
  const due = outcomes.map((outcome) => ({ ...outcome, sentSeconds: outcome.scheduledSeconds }));
  const asDue = judged(due, { ...plan, generatorStall: null }, slo);
  if (!asDue.attainment.meets) return asSent;
  const { scheduleError } = asSent.measurement;
  return { ...asDue, measurement: { ...asDue.measurement, scheduleError }, fromSchedule: true };
}

const noSlo: Slo = { ttftSeconds: null, tpotSeconds: null, e2eSeconds: null, percentile: 0 };

function judged(outcomes: readonly RequestOutcome[], plan: MeasurementPlan, slo: Slo): JudgedRun {
  const measurement = withSettledThroughput(measure(outcomes, plan));
  return { outcomes, measurement, attainment: attainmentOf(outcomes, measurement, slo), fromSchedule: false };
}

import type { Measurement, MeasurementPlan, RequestOutcome } from './measurement.js';

/** What a run says, warm-up and drain left out. Pure. */
export function measure(_outcomes: readonly RequestOutcome[], _plan: MeasurementPlan): Measurement {
  throw new Error('not yet');
}

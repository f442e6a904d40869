import { type Attainment, attainmentOf, type Slo } from '../../src/profiling/attainment.js';
import type { Cell, Measurement, MeasurementPlan, RequestOutcome } from '../../src/profiling/measurement.js';
import { measure } from '../../src/profiling/steady-state.js';

/** Runs for tests of what is made of them. */

export const slo = (overrides: Partial<Slo> = {}): Slo => ({
  ttftSeconds: 1,
  tpotSeconds: 0.1,
  e2eSeconds: null,
  percentile: 90,
  ...overrides,
});

/** A success that was sent at `sentSeconds`, first heard after `ttft`, and then every `tpot`. */
export function outcome(
  overrides: Partial<RequestOutcome> & { readonly ttft?: number; readonly tpot?: number } = {},
): RequestOutcome {
  const { ttft = 0.2, tpot = 0.05, ...rest } = overrides;
  const sentSeconds = rest.sentSeconds ?? 0;
  const outputTokens = rest.outputTokens ?? 11;
  return {
    id: 0,
    scheduledSeconds: sentSeconds,
    sentSeconds,
    firstTokenSeconds: sentSeconds + ttft,
    endSeconds: sentSeconds + ttft + tpot * (outputTokens - 1),
    inputTokens: 100,
    outputTokens,
    wantedInputTokens: 100,
    wantedOutputTokens: outputTokens,
    usage: 'server',
    tokenGapsSeconds: [],
    failure: null,
    ...rest,
  };
}

/** One request a `gapSeconds`, as `make` has them. */
export function outcomes(
  count: number,
  make: (index: number) => Parameters<typeof outcome>[0] = () => ({}),
  gapSeconds = 1,
): readonly RequestOutcome[] {
  return Array.from({ length: count }, (_, id) => outcome({ id, sentSeconds: id * gapSeconds, ...make(id) }));
}

export const plan = (overrides: Partial<MeasurementPlan> = {}): MeasurementPlan => ({
  model: 'm',
  cell: { inputTokens: 100, outputTokens: 11 },
  mix: null,
  requestRate: 1,
  arrivals: 'constant',
  seed: 0,
  temperature: 0,
  ...overrides,
});

/** What a run of one request a second says. */
export function judged(
  run: readonly RequestOutcome[],
  options: { readonly slo?: Slo; readonly plan?: Partial<MeasurementPlan> } = {},
): { readonly measurement: Measurement; readonly attainment: Attainment } {
  const measurement = measure(run, plan(options.plan));
  return { measurement, attainment: attainmentOf(run, measurement, options.slo ?? slo()) };
}

export const cell = (inputTokens: number, outputTokens: number): Cell => ({ inputTokens, outputTokens });

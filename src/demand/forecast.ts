import { mean, quantile } from 'simple-statistics';
import type { BucketDemand } from '../core/planning-problem.js';
import type { DemandHistory, ShapeBucket } from './window.js';

/**
 * From what was seen to what is planned for: one rate per model, spread over the lengths of its requests.
 *
 * A forecaster says the rate; the shape is that of the window for all of them. A new one is a name, a function and one
 * line in the table.
 */

export const forecasterNames = ['window'] as const;
export type ForecasterName = (typeof forecasterNames)[number];

export type ForecastOptions = {
  readonly method: ForecasterName;
  /** Share of the known intervals whose rate the plan must cover, in [0, 1]. */
  readonly quantile: number;
};

/** The rates of the known intervals, oldest first and never empty, to the rate to plan for [requests/s]. */
export type Forecaster = (knownRps: readonly number[], options: ForecastOptions) => number;

const forecasters = {
  /**
   * The larger of a quantile and the mean of the window. The quantile covers bursts; the mean keeps sparse traffic,
   * which a quantile does not see: one request in 240 s is 0.1 rps in one interval of 24 and a 0.95 quantile of 0.
   */
  window: (knownRps, options) => Math.max(quantile([...knownRps], options.quantile), mean([...knownRps])),
} as const satisfies Record<ForecasterName, Forecaster>;

/** What to plan for. Empty demand with `rps` 0 = nothing known; with `hold` in the history it must not be planned with. */
export type DemandForecast = {
  /** Rate to plan for [requests/s]. */
  readonly rps: number;
  /** Mean rate of the known intervals [requests/s]. */
  readonly meanRps: number;
  /** The planned rate by length; sums to `rps` where any length is known. Every rps is 0 while the model is idle. */
  readonly demand: readonly BucketDemand[];
};

/** Forecasts the demand of one model from its window. */
export function forecastDemand(history: DemandHistory, options: ForecastOptions): DemandForecast {
  const known: number[] = [];
  for (const interval of history.intervals) if (interval.state === 'known') known.push(interval.rps);
  const meanRps = known.length === 0 ? 0 : mean(known);
  const rps = known.length === 0 ? 0 : forecasters[options.method](known, options);
  const demand = history.shape.map(({ inputTokens, outputTokens, share }) => ({
    inputTokens,
    outputTokens,
    rps: rps * share,
  }));
  return { rps, meanRps, demand };
}

/** Mean lengths of a shape's requests [tokens]; null where no length is known. */
export function meanLengths(
  shape: readonly ShapeBucket[],
): { readonly inputTokens: number; readonly outputTokens: number } | null {
  if (shape.length === 0) return null;
  let inputTokens = 0;
  let outputTokens = 0;
  for (const bucket of shape) {
    inputTokens += bucket.share * bucket.inputTokens;
    outputTokens += bucket.share * bucket.outputTokens;
  }
  return { inputTokens, outputTokens };
}

/** One minute of an earlier time: the mean rate of [endSeconds − 60, endSeconds) [requests/s]. */
export type KnownMinute = { readonly endSeconds: number; readonly rps: number };

/** What a forecaster says for one moment. */
export type RateForecast = {
  /** Rate to plan for [requests/s]: a quantile of the largest 60 s mean rate within the horizon. */
  readonly rps: number;
  /** What made it. */
  readonly method: ForecasterName;
  readonly horizonSeconds: number;
};

/** What `DemandForecaster.memory` gives and its constructor takes: plain JSON, under 200 kB. */
export type ForecastMemory = { readonly version: 1 };

/** The forecaster of one model. A cycle is: `observe` the window, `forecast`. */
export class DemandForecaster {
  readonly #options: ForecastOptions;
  #known: readonly number[] = [];

  constructor(options: ForecastOptions, _memory: ForecastMemory | null = null) {
    this.#options = options;
  }

  /** Hands over what is known of the time before the window, oldest first. */
  rememberMinutes(_minutes: readonly KnownMinute[]): void {}

  observe(history: Pick<DemandHistory, 'intervals'>, _nowMs: number): void {
    this.#known = history.intervals.flatMap((interval) => (interval.state === 'known' ? [interval.rps] : []));
  }

  forecast({ horizonSeconds }: { readonly nowMs: number; readonly horizonSeconds: number }): RateForecast {
    const { method } = this.#options;
    const rps = this.#known.length === 0 ? 0 : forecasters[method](this.#known, this.#options);
    return { rps, method, horizonSeconds };
  }

  memory(): ForecastMemory {
    return { version: 1 };
  }
}

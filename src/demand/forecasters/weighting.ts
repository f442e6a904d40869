/**
 * How much each of several forecasters counts: exponential weights, a learning rate for each from how much its losses
 * differed so far (Wintenberger, "Optimal learning with Bernstein online aggregation", Machine Learning 2017; delays as in
 * Joulani, György and Szepesvári, "Online learning under delayed feedback", ICML 2013). There the weights also carry
 * the rate as a factor; without it, forecasters that differ little from the mix do not take it over within an hour.
 *
 * A forecaster is judged by how the loss of the *combined* forecast would change if it counted more: the slope of the pinball
 * loss there, times how far the forecaster lies from it. The loss is convex, so the combined one comes to lose hardly
 * more than the best mean of forecasters, and that never loses more than the best of them. The weights are the same for
 * every quantile: means of quantiles that ascend ascend.
 */
export type WeightingMemory = {
  readonly losses: readonly number[];
  readonly squares: readonly number[];
  readonly largest: readonly number[];
};

/** Half of a loss is forgotten after a day of one a minute: what was best last week is not for ever. */
const fading = 0.5 ** (1 / 1440);

export class Weighting {
  /** By forecaster, beyond those of the combined forecast: their sum, that of their squares, and the largest size. */
  readonly #losses: number[];
  readonly #squares: number[];
  readonly #largest: number[];

  constructor(count: number, memory: WeightingMemory | null = null) {
    const isOurs = [memory?.losses, memory?.squares, memory?.largest].every((list) => list?.length === count);
    const known = isOurs ? memory : null;
    this.#losses = known === null ? new Array(count).fill(0) : [...known.losses];
    this.#squares = known === null ? new Array(count).fill(0) : [...known.squares];
    this.#largest = known === null ? new Array(count).fill(0) : [...known.largest];
  }

  /**
   * Sums to 1.
   *
   * @param delay how many losses are outstanding at a time: they overlap, so that as many say no more than one
   */
  weights(delay: number): readonly number[] {
    const exponents = this.#losses.map((loss, i) => -this.#rate(i, delay) * loss);
    const largest = Math.max(...exponents);
    const raw = exponents.map((exponent) => Math.exp(exponent - largest));
    const sum = raw.reduce((total, weight) => total + weight, 0);
    return raw.map((weight) => weight / sum);
  }

  /** Takes what came of one forecast of each [requests/s]; `delay` as for the weights. */
  add(outcome: {
    readonly forecasts: readonly number[];
    readonly actual: number;
    readonly quantile: number;
    readonly delay: number;
  }): void {
    const { forecasts, actual, quantile, delay } = outcome;
    const weights = this.weights(delay);
    const combined = forecasts.reduce((sum, forecast, i) => sum + weights[i]! * forecast, 0);
    const slope = actual >= combined ? -quantile : 1 - quantile;
    forecasts.forEach((forecast, i) => {
      const loss = slope * (forecast - combined);
      this.#squares[i] = this.#squares[i]! * fading + loss ** 2;
      this.#largest[i] = Math.max(this.#largest[i]! * fading, Math.abs(loss));
      // The square keeps a forecaster that is now far better, now far worse from counting by luck.
      this.#losses[i] = this.#losses[i]! * fading + loss + this.#rate(i, delay) * loss ** 2;
    });
  }

  memory(): WeightingMemory {
    return { losses: [...this.#losses], squares: [...this.#squares], largest: [...this.#largest] };
  }

  #rate(i: number, delay: number): number {
    const squares = delay * this.#squares[i]!;
    if (!(squares > 0)) return 0;
    return Math.min(1 / (2 * delay * this.#largest[i]!), Math.sqrt(Math.log(this.#losses.length) / squares));
  }
}

/** The loss whose mean is smallest at the quantile (Koenker and Bassett, "Regression quantiles", 1978). */
export function pinballLoss(options: {
  readonly forecast: number;
  readonly actual: number;
  readonly quantile: number;
}): number {
  const { forecast, actual, quantile } = options;
  return actual >= forecast ? quantile * (actual - forecast) : (1 - quantile) * (forecast - actual);
}

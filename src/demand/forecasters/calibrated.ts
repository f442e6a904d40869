import { fromStable, Residuals, type ResidualsMemory, toStable } from '../residuals.js';
import type { Moment, PointForecaster } from './moment.js';

/** What was expected at one moment, until it is known what came. */
export type Expectation = {
  /** Requests/s by variant. */
  readonly variants: readonly number[];
  readonly chosen: number;
  readonly scale: number;
};

export type CalibratedMemory = {
  readonly point: readonly number[];
  /** Mean size of the errors of each variant. */
  readonly errors: readonly number[];
  readonly errorWeight: number;
  readonly residuals: ResidualsMemory;
};

/** Half of the errors of a variant are forgotten after six hours of one a minute: nights and days differ. */
const errorFading = 0.5 ** (1 / 360);

/**
 * In place of so many residuals stands the quantile of the window: with none it is the forecast, with a hundred a
 * twentieth of it.
 */
const firstWeight = 5;

/**
 * A point forecaster and how far it was off, on the very target: the largest 60 s mean rate within the horizon. Its quantile
 * is the expectation of its best variant plus that quantile of its residuals.
 */
export class CalibratedForecaster {
  readonly point: PointForecaster;
  readonly #residuals: Residuals;
  readonly #errors: number[];
  #errorWeight = 0;

  constructor(point: PointForecaster, memory: CalibratedMemory | null = null) {
    this.point = point;
    const isOurs = memory?.errors.length === point.variants && memory.point.length === point.memory().length;
    if (memory !== null && isOurs) point.restore(memory.point);
    this.#residuals = new Residuals(isOurs ? memory.residuals : null);
    this.#errors = isOurs ? [...memory.errors] : new Array(point.variants).fill(0);
    this.#errorWeight = isOurs ? memory.errorWeight : 0;
  }

  expect(moment: Moment): Expectation {
    let chosen = 0;
    for (let i = 1; i < this.#errors.length; i += 1) if (this.#errors[i]! < this.#errors[chosen]!) chosen = i;
    return { variants: this.point.expect(moment), chosen, scale: this.#residuals.scale };
  }

  /**
   * A quantile of the target; grows with the quantile [requests/s].
   *
   * @param expectation of the moment
   * @param first what to plan for while nothing is learnt: `firstQuantile` [requests/s]
   */
  quantile(
    expectation: Expectation,
    { quantile, first }: { readonly quantile: number; readonly first: number },
  ): number {
    const { weight } = this.#residuals;
    if (weight === 0) return first;
    const expected = toStable(60 * expectation.variants[expectation.chosen]!);
    const learnt = Math.max(0, expected + this.#residuals.quantile(quantile));
    const share = weight / (weight + firstWeight);
    return fromStable(share * learnt + (1 - share) * toStable(60 * first)) / 60;
  }

  /** Learns what came of an expectation [requests/s]. */
  settle({ variants, chosen, scale }: Expectation, rps: number): void {
    const came = toStable(60 * rps);
    this.#errorWeight = this.#errorWeight * errorFading + 1;
    for (let i = 0; i < variants.length; i += 1) {
      const error = Math.abs(came - toStable(60 * variants[i]!));
      this.#errors[i]! += (error - this.#errors[i]!) / this.#errorWeight;
    }
    this.#residuals.add(came - toStable(60 * variants[chosen]!), scale);
  }

  memory(): CalibratedMemory {
    return {
      point: this.point.memory(),
      errors: [...this.#errors],
      errorWeight: this.#errorWeight,
      residuals: this.#residuals.memory(),
    };
  }
}

/**
 * How much each of several forecasters counts, from their losses so far: exponential weights whose learning rate is set
 * by the losses themselves (de Rooij, van Erven, Grünwald and Koolen, "Follow the leader if you can, hedge if you must",
 * JMLR 2014; Cesa-Bianchi, Mansour and Stoltz, "Improved second-order bounds for prediction with expert advice", 2007; Joulani,
 * György and Szepesvári, "Online learning under delayed feedback", ICML 2013).
 *
 * The pinball loss is convex, so a weighted mean of forecasts loses no more than the weighted mean of their losses, and
 * usually less than the best of them. The weights are the same for every quantile: means of quantiles that ascend ascend.
 */
export type WeightingMemory = {
  readonly losses: readonly number[];
  readonly spread: number;
  readonly largestSpread: number;
};

/** Half of a loss is forgotten after a day of one a minute: what was best last week is not for ever. */
const fading = 0.5 ** (1 / 1440);

export class Weighting {
  readonly #losses: number[];
  /** Sum of the squared differences between the best and the worst loss, and the largest of them. */
  #spread: number;
  #largestSpread: number;

  constructor(count: number, memory: WeightingMemory | null = null) {
    const isOurs = memory?.losses.length === count;
    this.#losses = isOurs ? [...memory.losses] : new Array(count).fill(0);
    this.#spread = isOurs ? memory.spread : 0;
    this.#largestSpread = isOurs ? memory.largestSpread : 0;
  }

  /**
   * Sums to 1.
   *
   * @param delay how many losses are outstanding at a time: they overlap, so that as many say no more than one
   */
  weights(delay: number): readonly number[] {
    const seen = delay * (this.#spread + this.#largestSpread);
    const rate = seen > 0 ? Math.sqrt((8 * Math.log(this.#losses.length)) / seen) : 0;
    const least = Math.min(...this.#losses);
    const raw = this.#losses.map((loss) => Math.exp(-rate * (loss - least)));
    const sum = raw.reduce((total, weight) => total + weight, 0);
    return raw.map((weight) => weight / sum);
  }

  /** Takes one loss of each. */
  add(losses: readonly number[]): void {
    const least = Math.min(...losses);
    const spread = Math.max(...losses) - least;
    this.#spread = this.#spread * fading + spread ** 2;
    this.#largestSpread = Math.max(this.#largestSpread * fading, spread ** 2);
    for (let i = 0; i < this.#losses.length; i += 1) {
      this.#losses[i] = this.#losses[i]! * fading + (losses[i]! - least);
    }
  }

  memory(): WeightingMemory {
    return { losses: [...this.#losses], spread: this.#spread, largestSpread: this.#largestSpread };
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

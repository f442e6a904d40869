import { packFloat64, unpackFloat64 } from './packed-numbers.js';

/**
 * How far what came lies from what was expected, and from that any quantile of what will come.
 *
 * Counts are compared on a scale on which their spread hardly depends on their size: with a variance of n + k n² (the
 * noise of arrivals and a share of the rate) that is g(n) = asinh(√(k n)) / √k: √n for sparse traffic, the logarithm for
 * dense traffic (Anscombe, "The transformation of Poisson, binomial and negative-binomial data", Biometrika 1948).
 * So one request more in a minute of two, and a tenth more in a minute of a thousand, are both ordinary.
 *
 * Residuals are divided by how much rates vary now, within bounds: calm and wild hours follow each other. That is told by
 * the last residuals and, sooner, by the window: how far its intervals lie from each other. What is kept is a histogram
 * whose old entries fade, so that memory and time do not grow.
 */

/**
 * k: rates vary by about a tenth (its root) from one minute to another beyond the noise of arrivals, so that this noise is
 * the smaller part above a hundred requests a minute.
 */
const overdispersion = 0.01;
const root = Math.sqrt(overdispersion);

/** Requests a minute to the scale on which residuals are taken. */
export function toStable(count: number): number {
  return Math.asinh(root * Math.sqrt(Math.max(0, count))) / root;
}

/** The inverse of `toStable`; values below that of no request are no request. */
export function fromStable(value: number): number {
  if (!(value > 0)) return 0;
  return (Math.sinh(Math.min(value, largestStable) * root) / root) ** 2;
}

/** A hundred billion billion requests a minute: sinh of more would be no number at some point. */
const largestStable = 250;

/** Half of the weight of a residual is gone after a day of one a minute: the season of most traffic. */
const fading = 0.5 ** (1 / 1440);

/** Half of what is known of the present spread is gone after an hour: as long as bursts last. */
const spreadFading = 0.5 ** (1 / 60);

/** The spread of single counts on this scale, in place of as many residuals as below. */
const firstSpread = 0.5;
const firstSpreadWeight = 10;

/** A present that is calmer or wilder than the day by more is not believed: few residuals say so. */
const largestSpreadRatio = 3;

/** Less is rounding of the history. */
const smallestSpread = 0.05;

/** Bins are evenly wide in asinh(residual / 0.5): a fortieth near 0, a twentieth of the residual far out. */
const binScale = 0.5;
const binWidth = 0.05;
/** asinh(500 / 0.5) / 0.05, more than any residual. */
const binsEachSide = 160;
const bins = 2 * binsEachSide + 1;

const leastWeight = 1e-6;

export type ResidualsMemory = {
  readonly weight: number;
  readonly spread: number;
  readonly spreadWeight: number;
  readonly longSpread: number;
  readonly longSpreadWeight: number;
  readonly longUnrest: number;
  /** 64 bits each in base64: weight by bin, then the sum of residuals by bin. */
  readonly bins: string;
};

export class Residuals {
  readonly #weights: Float64Array;
  /** Sum of the residuals in each bin: their mean is the place of the bin, so that equal residuals stay exact. */
  readonly #sums: Float64Array;
  #weight = 0;
  #spread = firstSpread;
  #spreadWeight = firstSpreadWeight;
  #longSpread = firstSpread;
  #longSpreadWeight = firstSpreadWeight;
  #longUnrest = firstSpread;

  constructor(memory: ResidualsMemory | null = null) {
    const packed = memory === null ? null : unpackFloat64(memory.bins, 2 * bins);
    this.#weights = packed?.slice(0, bins) ?? new Float64Array(bins);
    this.#sums = packed?.slice(bins) ?? new Float64Array(bins);
    if (memory === null || packed === null) return;
    this.#weight = memory.weight;
    this.#spread = memory.spread;
    this.#spreadWeight = memory.spreadWeight;
    this.#longSpread = memory.longSpread;
    this.#longSpreadWeight = memory.longSpreadWeight;
    this.#longUnrest = memory.longUnrest;
  }

  /** How many residuals the quantiles rest on, older ones for less. */
  get weight(): number {
    return this.#weight;
  }

  /**
   * By how much residuals vary now.
   *
   * @param unrest spread of the window's intervals on the stable scale
   */
  scale(unrest: number): number {
    const long = Math.max(smallestSpread, this.#longSpread);
    const byWindow = (long * Math.max(smallestSpread, unrest)) / Math.max(smallestSpread, this.#longUnrest);
    const both = Math.sqrt((this.#spread ** 2 + byWindow ** 2) / 2);
    return Math.min(largestSpreadRatio * long, Math.max(long / largestSpreadRatio, both));
  }

  /**
   * Takes one residual.
   *
   * @param residual what came minus what was expected, both on the stable scale
   * @param at the window's unrest, and `scale`, at the time of the forecast
   */
  add(residual: number, at: { readonly unrest: number; readonly scale: number }): void {
    for (let i = 0; i < bins; i += 1) {
      this.#weights[i]! *= fading;
      this.#sums[i]! *= fading;
    }
    const standard = residual / at.scale;
    const bin = Math.round(Math.asinh(standard / binScale) / binWidth);
    const index = binsEachSide + Math.max(-binsEachSide, Math.min(binsEachSide, bin));
    this.#weights[index]! += 1;
    this.#sums[index]! += standard;
    this.#weight = this.#weight * fading + 1;

    const size = Math.abs(residual);
    this.#spreadWeight = this.#spreadWeight * spreadFading + 1;
    this.#spread += (size - this.#spread) / this.#spreadWeight;
    this.#longSpreadWeight = this.#longSpreadWeight * fading + 1;
    this.#longSpread += (size - this.#longSpread) / this.#longSpreadWeight;
    this.#longUnrest += (at.unrest - this.#longUnrest) / this.#longSpreadWeight;
  }

  /** A quantile of the residuals at a scale; grows with the quantile. 0 without any. */
  quantile(quantile: number, scale: number): number {
    if (this.#weight === 0) return 0;
    let total = 0;
    for (const weight of this.#weights) total += weight;
    // Steps and no lines between them: a rare leap must not pull at the quantile of the ordinary.
    const wanted = quantile * total;
    let below = 0;
    let place = 0;
    for (let i = 0; i < bins && below < wanted; i += 1) {
      const weight = this.#weights[i]!;
      below += weight;
      // Entries of weeks ago are rounding errors.
      if (weight > leastWeight) place = this.#sums[i]! / weight;
    }
    return scale * place;
  }

  memory(): ResidualsMemory {
    const packed = new Float64Array(2 * bins);
    packed.set(this.#weights);
    packed.set(this.#sums, bins);
    return {
      weight: this.#weight,
      spread: this.#spread,
      spreadWeight: this.#spreadWeight,
      longSpread: this.#longSpread,
      longSpreadWeight: this.#longSpreadWeight,
      longUnrest: this.#longUnrest,
      bins: packFloat64(packed),
    };
  }
}

/** How far the rates of a window lie from each other on the stable scale: their standard deviation. */
export function unrestOf(rates: readonly number[]): number {
  let sum = 0;
  let squares = 0;
  for (const rps of rates) {
    const value = toStable(60 * rps);
    sum += value;
    squares += value * value;
  }
  const mean = sum / rates.length;
  return Math.sqrt(Math.max(0, squares / rates.length - mean * mean));
}

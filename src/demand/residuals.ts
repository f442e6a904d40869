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
 *
 * Nothing waits for the first residuals: `guessSpread` says from the window alone how large they will be, and a usual shape
 * stands for as many of them as it takes to see a tail. Both give way as residuals come in.
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

/** The guess from the window counts like so many residuals of a minute each: three that do not overlap at usual horizons. */
const guessWeight = 10;

/** A present that is calmer or wilder than the day by more is not believed: few residuals say so. */
const largestSpreadRatio = 3;

/** Residuals of less are rounding of the history: a constant load has none. */
const smallestSpread = 1e-3;

/** Bins are evenly wide in asinh(residual / 0.5): a fortieth near 0, a twentieth of the residual far out. */
const binScale = 0.5;
const binWidth = 0.05;
/** asinh(500 / 0.5) / 0.05, more than any residual. */
const binsEachSide = 160;
const bins = 2 * binsEachSide + 1;

const leastWeight = 1e-6;

/**
 * How residuals lie before any are known, in guessed spreads: a normal distribution, above 0 since the largest of several
 * minutes is seldom less than one of them. It counts like 40 residuals: those of neighbouring minutes share most of their
 * horizon, so that twenty overlapping ones, of which the 0.95 quantile would be the largest, are one leap seen often.
 * (Place and width as in the residuals of the last value on synthetic hours: noise, drift, bursts, ramps, waves.)
 */
const usualPlace = 0.4;
const usualWidth = 0.8;
const usualWeight = 40;
/** The tail of a normal distribution says nothing of what lies further out. */
const usualWidths = 4;
const usualShape = normalShape();
const usualPlaces = Float64Array.from({ length: bins }, (_, i) => placeOfBin(i));

export type ResidualsMemory = {
  readonly weight: number;
  readonly spread: number;
  readonly spreadWeight: number;
  readonly longSpread: number;
  readonly longSpreadWeight: number;
  readonly longGuess: number;
  readonly longGuessWeight: number;
  /** 64 bits each in base64: weight by bin, then the sum of residuals by bin. */
  readonly bins: string;
};

export class Residuals {
  readonly #weights: Float64Array;
  /** Sum of the residuals in each bin: their mean is the place of the bin, so that equal residuals stay exact. */
  readonly #sums: Float64Array;
  #weight = 0;
  #spread = 0;
  #spreadWeight = 0;
  #longSpread = 0;
  #longSpreadWeight = 0;
  /** Mean of the guesses that the residuals of `#longSpread` were made with. */
  #longGuess = 0;
  #longGuessWeight = 0;

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
    this.#longGuess = memory.longGuess;
    this.#longGuessWeight = memory.longGuessWeight;
  }

  /** How many residuals the quantiles rest on, older ones for less. */
  get weight(): number {
    return this.#weight;
  }

  /**
   * By how much residuals vary now: without any, as guessed.
   *
   * @param guess `guessSpread` of the window
   */
  scale(guess: number): number {
    const seen = this.#longSpreadWeight;
    const long = (guessWeight * guess + seen * this.#longSpread) / (guessWeight + seen);
    // What guesses were wrong by so far, the present one will be too.
    const guessed = guessWeight * (seen > 0 ? this.#longGuess : guess);
    const byGuesses = guessed + seen * this.#longGuess;
    // Residuals that were learnt from minutes had no window to guess from: then the window tells nothing of them yet.
    const told = this.#longGuessWeight;
    const byAll = byGuesses > 0 ? (guess * (guessed + seen * this.#longSpread)) / byGuesses : guess;
    const byWindow = told >= seen ? byAll : (guessWeight * long + told * byAll) / (guessWeight + told);
    const recent = this.#spreadWeight;
    const lately = (guessWeight * byWindow + recent * this.#spread) / (guessWeight + recent);
    const both = Math.sqrt((lately ** 2 + byWindow ** 2) / 2);
    return Math.min(largestSpreadRatio * long, Math.max(long / largestSpreadRatio, both));
  }

  /**
   * Takes one residual.
   *
   * @param residual what came minus what was expected, both on the stable scale
   * @param at the window's guess (null = there was no window finer than minutes), and `scale`, at the time of the forecast
   */
  add(residual: number, at: { readonly guess: number | null; readonly scale: number }): void {
    for (let i = 0; i < bins; i += 1) {
      this.#weights[i]! *= fading;
      this.#sums[i]! *= fading;
    }
    const standard = residual / Math.max(smallestSpread, at.scale);
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
    this.#longGuessWeight *= fading;
    if (at.guess === null) return;
    this.#longGuessWeight += 1;
    this.#longGuess += (at.guess - this.#longGuess) / this.#longGuessWeight;
  }

  /** A quantile of the residuals at a scale; grows with the quantile. */
  quantile(quantile: number, scale: number): number {
    let total = usualWeight;
    for (const weight of this.#weights) total += weight;
    // Steps and no lines between them: a rare leap must not pull at the quantile of the ordinary.
    const wanted = quantile * total;
    let below = 0;
    let place = 0;
    for (let i = 0; i < bins && below < wanted; i += 1) {
      const usual = usualWeight * usualShape[i]!;
      const weight = this.#weights[i]! + usual;
      below += weight;
      // Entries of weeks ago are rounding errors.
      if (weight > leastWeight) place = (this.#sums[i]! + usual * usualPlaces[i]!) / weight;
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
      longGuess: this.#longGuess,
      longGuessWeight: this.#longGuessWeight,
      bins: packFloat64(packed),
    };
  }
}

function placeOfBin(edge: number): number {
  return binScale * Math.sinh((edge - binsEachSide) * binWidth);
}

/** The share of each bin, of bins that lie near enough to matter. */
function normalShape(): Float64Array {
  const density = (place: number) => Math.exp(-0.5 * ((place - usualPlace) / usualWidth) ** 2);
  const shares = Float64Array.from({ length: bins }, (_, i) => {
    const place = placeOfBin(i);
    if (Math.abs(place - usualPlace) > usualWidths * usualWidth) return 0;
    return density(place) * (placeOfBin(i + 0.5) - placeOfBin(i - 0.5));
  });
  const sum = shares.reduce((total, share) => total + share, 0);
  return shares.map((share) => share / sum);
}

/**
 * How far what comes will lie from what is expected, from a window alone: the mean size of residuals on the stable scale.
 *
 * It is the spread of the window's intervals, for a longer horizon more. On synthetic hours of noise around a level the
 * residuals of the last value are 0.5, 0.6 and 0.8 of that spread for horizons of 1, 3 and 10 minutes, on such that drift
 * or burst 0.8, 1.2 and 1.9: between them lies 0.55 of it times the 0.4th power of the minutes. One step, as where traffic
 * begins, is no spread: it is bounded by three times the mean of the steps between intervals without the largest eighth.
 *
 * @param rates of the window's intervals, oldest first [requests/s]
 */
export function guessSpread(rates: readonly number[], horizonMinutes: number): number {
  const values = rates.map((rps) => toStable(60 * rps));
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
  return 0.55 * horizonMinutes ** 0.4 * Math.min(Math.sqrt(variance), 3 * ordinaryStep(values));
}

/** Fewer steps have none that is not ordinary. */
const fewSteps = 4;

function ordinaryStep(values: readonly number[]): number {
  const steps = values.slice(1).map((value, i) => Math.abs(value - values[i]!));
  if (steps.length < fewSteps) return Number.POSITIVE_INFINITY;
  steps.sort((a, b) => a - b);
  const kept = steps.slice(0, steps.length - Math.ceil(steps.length / 8));
  return kept.reduce((sum, step) => sum + step, 0) / kept.length;
}

import type { LatencyPercentiles } from './backtest.js';

/**
 * Values in bins of 1/128 of a power of two (log-linear, as HDR histograms): a quantile is the middle of its bin, off by
 * at most 0.4 %, and memory is the same for one value as for billions. Counts may be fractions: a fluid run adds shares
 * of a second's requests.
 */

/** Bins of one power of two. */
const binsPerOctave = 128;
/** Smallest power of two that is told from zero: 2⁻²⁰ s is a microsecond. */
const lowestExponent = -20;
/** Values from 2²² s (seven weeks) on share the last bin. */
const highestExponent = 22;
const binCount = (highestExponent - lowestExponent) * binsPerOctave + 1;

const bits = new DataView(new ArrayBuffer(8));
/** The exponent and the first 7 bits of the mantissa of 2^lowestExponent, as they stand in the first half of a double. */
const firstBin = ((1023 + lowestExponent) << 7) - 1;

/** 0 = below the smallest power; otherwise 1 + the bin. */
function binOf(value: number): number {
  bits.setFloat64(0, value);
  const bin = (bits.getUint32(0) >>> 13) - firstBin;
  return bin < 0 ? 0 : bin < binCount ? bin : binCount - 1;
}

function middleOf(bin: number): number {
  if (bin === 0) return 0;
  const octave = Math.floor((bin - 1) / binsPerOctave);
  return 2 ** (lowestExponent + octave) * (1 + (((bin - 1) % binsPerOctave) + 0.5) / binsPerOctave);
}

/** A distribution of values >= 0. */
export class LatencyHistogram {
  readonly #weights = new Float64Array(binCount);
  #count = 0;
  #sum = 0;
  #least = Number.POSITIVE_INFINITY;
  #most = 0;
  #lowBin = binCount;
  #highBin = -1;

  /** Values that were added, by weight. */
  get count(): number {
    return this.#count;
  }

  /** Exact; 0 where empty. */
  get mean(): number {
    return this.#count > 0 ? this.#sum / this.#count : 0;
  }

  /** @throws RangeError for values and weights that are negative or no numbers */
  add(value: number, weight = 1): void {
    if (!(value >= 0 && value < Infinity && weight >= 0 && weight < Infinity)) {
      throw new RangeError(`a latency of ${value} with weight ${weight}, expected numbers >= 0`);
    }
    if (weight === 0) return;
    const bin = binOf(value);
    this.#weights[bin]! += weight;
    this.#count += weight;
    this.#sum += value * weight;
    if (value < this.#least) this.#least = value;
    if (value > this.#most) this.#most = value;
    if (bin < this.#lowBin) this.#lowBin = bin;
    if (bin > this.#highBin) this.#highBin = bin;
  }

  /** Adds all of another's values. */
  merge(other: LatencyHistogram): void {
    for (let bin = other.#lowBin; bin <= other.#highBin; bin++) this.#weights[bin]! += other.#weights[bin]!;
    this.#count += other.#count;
    this.#sum += other.#sum;
    this.#least = Math.min(this.#least, other.#least);
    this.#most = Math.max(this.#most, other.#most);
    this.#lowBin = Math.min(this.#lowBin, other.#lowBin);
    this.#highBin = Math.max(this.#highBin, other.#highBin);
  }

  /** Forgets all values. */
  clear(): void {
    if (this.#highBin >= 0) this.#weights.fill(0, this.#lowBin, this.#highBin + 1);
    this.#count = 0;
    this.#sum = 0;
    this.#least = Number.POSITIVE_INFINITY;
    this.#most = 0;
    this.#lowBin = binCount;
    this.#highBin = -1;
  }

  /** The smallest value that this share of the weight does not exceed, to 0.4 %; null where empty. */
  quantile(share: number): number | null {
    if (this.#count <= 0) return null;
    // Sums of fractions end a rounding below the whole.
    const wanted = share * this.#count * (1 - 1e-12);
    let sum = 0;
    for (let bin = this.#lowBin; bin <= this.#highBin; bin++) {
      sum += this.#weights[bin]!;
      if (sum > 0 && sum >= wanted) return Math.min(this.#most, Math.max(this.#least, middleOf(bin)));
    }
    return this.#most;
  }

  /** Null where empty. */
  percentiles(): LatencyPercentiles | null {
    const [p50, p90, p95, p99] = [0.5, 0.9, 0.95, 0.99].map((share) => this.quantile(share));
    if (p50 == null || p90 == null || p95 == null || p99 == null) return null;
    return { mean: this.mean, p50, p90, p95, p99 };
  }
}

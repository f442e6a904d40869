/**
 * The way up a concave function of prices of which each evaluation says a value and a slope: a Lagrangian bound. The slope of
 * a price is by how much its service is short of being somewhere.
 */
export type Climb = {
  /** The value at these prices; leaves its slope in `slope`. */
  readonly valueAt: (prices: Float64Array) => number;
  readonly slope: Float64Array;
  /** Prices that may change, by their place; the others stay. */
  readonly places: readonly number[];
  /** The most that each may be, in the order of `places`; the least is 0. */
  readonly most: readonly number[];
  /** About the highest value there is: it sets the length of steps, and ends the climb. */
  readonly target: number;
  readonly steps: number;
  readonly shouldStop: () => boolean;
  /** Ends after a few steps where the target is out of reach. */
  readonly mayGiveUp: boolean;
};

/** The highest value that was found, 0 at least, and its prices. */
export type Summit = { readonly best: number; readonly bestPrices: Float64Array };

/** From so many steps on it pays to remember the slopes of those before, once the first few have brought it near. */
const manySteps = 200;
const firstSteps = 100;

/** Steps after which a value below this part of the target is given up. */
const stepsBeforeGivingUp = 2;
const hopeful = 0.96;

/** Climbs from these prices, which it changes. */
export function climb(prices: Float64Array, options: Climb): Summit {
  const { valueAt, slope, target, steps, shouldStop, mayGiveUp } = options;
  const first = new SubgradientAscent(prices, options);
  const isLong = steps >= manySteps;
  for (let step = 0; step < (isLong ? firstSteps : steps); step++) {
    if (step > 0 && shouldStop()) return first;
    if (!first.move(prices, valueAt(prices), slope) || first.best >= target) return first;
    // A few steps more raise it by a few hundredths at most.
    if (mayGiveUp && step >= stepsBeforeGivingUp && first.best < hopeful * target) return first;
  }
  if (!isLong) return first;
  prices.set(first.bestPrices);
  const second = new VolumeAscent(prices, options);
  for (let step = firstSteps; step < steps && !shouldStop() && second.best < target; step++) {
    if (!second.move(prices, valueAt(prices), slope)) break;
  }
  return second.best > first.best ? second : first;
}

type Ascent = Pick<Climb, 'places' | 'most' | 'target'>;

/** No step is shorter than towards a value so much higher. */
const leastRise = 1e-3;

/**
 * Along the slope, with steps that get shorter where nothing better is found (Held and Karp 1971). Good for a few steps
 * from prices that were good for a question much alike.
 */
class SubgradientAscent {
  readonly #options: Ascent;
  readonly bestPrices: Float64Array;
  #highest = Number.NEGATIVE_INFINITY;
  #length = 1.5;
  #stale = 0;

  constructor(prices: Float64Array, options: Ascent) {
    this.#options = options;
    this.bestPrices = Float64Array.from(prices);
  }

  get best(): number {
    return Math.max(0, this.#highest);
  }

  /** Takes in what was found at `prices`, and moves them to where to look next; false where there is nowhere to go. */
  move(prices: Float64Array, value: number, slope: Float64Array): boolean {
    const { places, most, target } = this.#options;
    if (value > this.#highest) {
      this.#highest = value;
      this.bestPrices.set(prices);
      this.#stale = 0;
    } else if (++this.#stale === subgradientPatience) {
      this.#length /= 2;
      this.#stale = 0;
    }
    let norm = 0;
    for (const i of places) norm += slope[i]! ** 2;
    if (norm === 0) return false;
    const scale = (this.#length * Math.max(leastRise, 1.05 * target - value)) / norm;
    places.forEach((i, k) => {
      prices[i] = Math.min(most[k]!, Math.max(0, prices[i]! + scale * slope[i]!));
    });
    return true;
  }
}

/** Steps without a better value after which they get shorter. */
const subgradientPatience = 15;

/**
 * From the best prices along a mean of the slopes seen, the later ones weighing more (the volume algorithm; Barahona and
 * Anbil 2000). Where many GPUs are alike, each slope alone says that all of them want the same services, or none does; their
 * mean says who is wanted too much. Of 200 services on 64 GPUs it was as high after 200 steps as the subgradient after 600,
 * and after 600 a tenth higher. From prices that are far off it may be stuck.
 */
class VolumeAscent {
  readonly #options: Ascent;
  readonly #mean: Float64Array;
  readonly bestPrices: Float64Array;
  #highest = Number.NEGATIVE_INFINITY;
  #length = 1;
  #stale = 0;

  constructor(prices: Float64Array, options: Ascent) {
    this.#options = options;
    this.bestPrices = Float64Array.from(prices);
    this.#mean = new Float64Array(prices.length);
  }

  get best(): number {
    return Math.max(0, this.#highest);
  }

  move(prices: Float64Array, value: number, slope: Float64Array): boolean {
    const { places, most, target } = this.#options;
    const weight = this.#highest === Number.NEGATIVE_INFINITY ? 1 : this.#weightOf(slope);
    for (const i of places) this.#mean[i] = weight * slope[i]! + (1 - weight) * this.#mean[i]!;
    if (value > this.#highest) {
      this.#highest = value;
      this.bestPrices.set(prices);
      this.#length = Math.min(longest, this.#length * lengthening);
      this.#stale = 0;
    } else if (++this.#stale === volumePatience) {
      this.#length *= shortening;
      this.#stale = 0;
    }
    let norm = 0;
    for (const i of places) {
      const isAtLeast = this.#mean[i]! < 0 && this.bestPrices[i]! <= 0;
      if (!isAtLeast) norm += this.#mean[i]! ** 2;
    }
    if (norm === 0) return false;
    const scale = (this.#length * Math.max(leastRise, target - this.#highest)) / norm;
    places.forEach((i, k) => {
      prices[i] = Math.min(most[k]!, Math.max(0, this.bestPrices[i]! + scale * this.#mean[i]!));
    });
    return true;
  }

  /** That which makes the mean shortest, within bounds. */
  #weightOf(slope: Float64Array): number {
    let along = 0;
    let square = 0;
    for (const i of this.#options.places) {
      const difference = this.#mean[i]! - slope[i]!;
      along += this.#mean[i]! * difference;
      square += difference ** 2;
    }
    return square === 0 ? leastWeight : Math.min(mostWeight, Math.max(leastWeight, along / square));
  }
}

/** Of the slope of a step, in the mean of all. */
const leastWeight = 0.01;
const mostWeight = 0.2;
/** Steps without a better value after which they get shorter, and by what factors they get shorter or longer. */
const volumePatience = 5;
const shortening = 0.66;
const lengthening = 1.1;
const longest = 2;

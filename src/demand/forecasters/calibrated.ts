import { fromStable, guessSpread, Residuals, type ResidualsMemory, toStable } from '../residuals.js';
import type { Moment, PointForecaster } from './moment.js';
import { pinballLoss } from './weighting.js';
import type { SparseTraffic } from './window.js';

/** What was expected at one moment, until it is known what came. */
export type Expectation = {
  /** `guessSpread` of the window; null where only minutes are known of it. */
  readonly guess: number | null;
  readonly variants: readonly {
    /** On the stable scale. */
    readonly expected: number;
    readonly scale: number;
    /** At the quantile that is learnt for [requests/s]. */
    readonly quantileRps: number;
  }[];
};

export type CalibratedMemory = {
  readonly point: readonly number[];
  /** Mean loss of each variant, and how many losses that rests on. */
  readonly variants: readonly { readonly loss: number; readonly residuals: ResidualsMemory }[];
  readonly lossWeight: number;
};

/** Half of the losses of a variant are forgotten after six hours of one a minute: nights and days differ. */
const lossFading = 0.5 ** (1 / 360);

/**
 * A point forecaster and how far it was off, on the very target: the largest 60 s mean rate within the horizon. Its quantile
 * is what its best variant expects, plus that quantile of the variant's residuals.
 */
export class CalibratedForecaster {
  readonly point: PointForecaster;
  readonly #quantile: number;
  readonly #firstWeight: number;
  readonly #variants: { loss: number; readonly residuals: Residuals }[];
  #lossWeight = 0;

  /** @param options.quantile that the variants are chosen for */
  constructor(
    point: PointForecaster,
    { quantile, memory }: { readonly quantile: number; readonly memory: CalibratedMemory | null },
  ) {
    this.point = point;
    this.#quantile = quantile;
    // A quantile of 0.95 is seen in one of twenty residuals: before there are as many, nothing is known of it.
    this.#firstWeight = Math.min(mostFirstWeight, 1 / (1 - quantile));
    const isOurs = memory?.variants.length === point.variants && memory.point.length === point.memory().length;
    if (memory !== null && isOurs) point.restore(memory.point);
    this.#lossWeight = isOurs ? memory.lossWeight : 0;
    this.#variants = Array.from({ length: point.variants }, (_, i) => ({
      loss: isOurs ? memory.variants[i]!.loss : 0,
      residuals: new Residuals(isOurs ? memory.variants[i]!.residuals : null),
    }));
  }

  /** @param sparse as in `quantile`, at the quantile that is learnt for */
  expect(moment: Moment, sparse: SparseTraffic): Expectation {
    const guess = guessSpread(moment.windowRps, moment.horizonMinutes);
    const rates = this.point.expect(moment);
    const variants = this.#variants.map((variant, i) => {
      const expected = toStable(60 * rates[i]!);
      const scale = variant.residuals.scale(guess);
      return {
        expected,
        scale,
        quantileRps: this.#quantileOf(variant.residuals, { expected, scale, quantile: this.#quantile, sparse }),
      };
    });
    return { guess: moment.isByMinutes ? null : guess, variants };
  }

  /**
   * A quantile of the target; grows with the quantile [requests/s].
   *
   * @param options.sparse what says most while little is learnt of sparse traffic, at this quantile
   */
  quantile(
    moment: Moment,
    { quantile, sparse }: { readonly quantile: number; readonly sparse: SparseTraffic },
  ): number {
    const { residuals } = this.#variants[this.#best()]!;
    const expected = toStable(60 * this.point.expect(moment)[this.#best()]!);
    return this.#quantileOf(residuals, {
      expected,
      scale: residuals.scale(guessSpread(moment.windowRps, moment.horizonMinutes)),
      quantile,
      sparse,
    });
  }

  /** Learns what came of an expectation [requests/s]. */
  settle({ guess, variants }: Expectation, rps: number): void {
    const came = toStable(60 * rps);
    this.#lossWeight = this.#lossWeight * lossFading + 1;
    variants.forEach(({ expected, scale, quantileRps }, i) => {
      const variant = this.#variants[i]!;
      const loss = pinballLoss({ forecast: quantileRps, actual: rps, quantile: this.#quantile });
      variant.loss += (loss - variant.loss) / this.#lossWeight;
      variant.residuals.add(came - expected, { guess, scale });
    });
  }

  memory(): CalibratedMemory {
    return {
      point: this.point.memory(),
      variants: this.#variants.map(({ loss, residuals }) => ({ loss, residuals: residuals.memory() })),
      lossWeight: this.#lossWeight,
    };
  }

  #best(): number {
    let best = 0;
    for (let i = 1; i < this.#variants.length; i += 1)
      if (this.#variants[i]!.loss < this.#variants[best]!.loss) best = i;
    return best;
  }

  #quantileOf(
    residuals: Residuals,
    {
      expected,
      scale,
      quantile,
      sparse,
    }: {
      readonly expected: number;
      readonly scale: number;
      readonly quantile: number;
      readonly sparse: SparseTraffic;
    },
  ): number {
    const learnt = Math.max(0, expected + residuals.quantile(quantile, scale));
    const share = (sparse.share * this.#firstWeight) / (residuals.weight + this.#firstWeight);
    return fromStable((1 - share) * learnt + share * toStable(60 * sparse.rps)) / 60;
  }
}

/** Quantiles that are seen less than once in some hours are not waited for. */
const mostFirstWeight = 100;

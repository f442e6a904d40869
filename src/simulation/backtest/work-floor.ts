import { blockTokens } from '../../core/gpu-memory.js';
import type { ReplicaLimits } from '../replica.js';
import type { Step, StepTimes } from '../step-time.js';
import type { RequestObjective } from './backtest.js';
import { leastCostMix } from './work-floor-lp.js';

/**
 * What a request costs a replica at least, however it is batched: linear prices on tokens that no step undercuts.
 *
 * A step takes f(x) ms, x = (decoding sequences n, tokens in their caches C, prompt tokens p, their attention A). Prices
 * α, β, γ, δ ≥ 0 and a weight θ ≥ 0 are a floor where for every step that fits the engine
 *
 *     α n + β C + γ p + δ A  ≤  f(x) + θ n (f(x) − τ)          τ = the objective's time per output token
 *
 * Over a replica's steps the left side adds up to what its requests' tokens are worth. A request that attains sees steps of
 * τ on average while it decodes, so that its terms f − τ add up to 0 or less: the right side adds up to no more than the
 * time that the replica computed. The proof, and why prices may differ from slot to slot, is in docs/backtest.md.
 *
 * The prices are the dual values of the cheapest mix of steps that works off a given mix of tokens, found on a grid and
 * then certified on the whole of it, by bounds on boxes: what is returned holds whatever the search did.
 */

/** The work of requests: what the steps in which they are computed add up to, at least. */
export type WorkTotals = {
  /** Tokens after the first of each request. */
  readonly decodeTokens: number;
  /** Sum over those of the tokens in the cache. */
  readonly decodeContextTokens: number;
  readonly prefillTokens: number;
  /** Sum of input² / 2. */
  readonly prefillAttention: number;
};

/** Prices of tokens [ms of a replica]. */
export type WorkFloor = {
  readonly msPerDecodeToken: number;
  readonly msPerContextToken: number;
  readonly msPerPrefillToken: number;
  readonly msPerAttention: number;
  /** θ: what is granted for each decoding sequence and ms that a step is shorter than the objective's time per token. */
  readonly tpotWeight: number;
  readonly tpotMs: number;
  /**
   * From so many tokens on, computing a preempted sequence again is never cheaper than decoding its next token; 0 where
   * this engine never preempts.
   */
  readonly decodesFromTokens: number;
  /** The found prices were multiplied by this to be certain of them; 1 = nothing was lost. */
  readonly certifiedShare: number;
};

export type FloorEngine = {
  readonly stepTimes: StepTimes;
  readonly limits: ReplicaLimits;
};

/** Longest request, and most tokens in the cache: finite, so that the space of steps is closed. */
type StepSpace = {
  readonly maxSequences: number;
  readonly maxBatchedTokens: number;
  readonly maxTokens: number;
  readonly cacheTokens: number;
};

/** Where a limit is infinite: more sequences and tokens than any simulated replica holds. */
const unlimitedSequences = 1e5;
const unlimitedTokens = 1e7;

/** Values on each axis of the grid of steps that prices are looked for on. */
const gridSequences = 40;
const gridTokens = 64;
const gridRounds = 3;

/** Boxes that a certificate may take: about a second at most. */
const maxBoxes = 400_000;
/** Shares of the found prices that are tried, in this order. */
const certifiedShares = [0.999, 0.998, 0.997, 0.996, 0.99, 0.98, 0.95, 0.9, 0.75, 0.5, 0.2];

function spaceOf({ stepTimes, limits }: FloorEngine): StepSpace {
  const maxBatchedTokens = Math.min(limits.maxBatchedTokens, unlimitedTokens);
  const maxSequences = Math.min(limits.maxSequences, maxBatchedTokens, unlimitedSequences);
  const cache = Math.floor(stepTimes.kvCacheTokens / blockTokens) * blockTokens;
  const maxTokens = Math.min(limits.maxTokens, cache, unlimitedTokens);
  // Without a cache, what all sequences at their longest would keep.
  return {
    maxSequences,
    maxBatchedTokens,
    maxTokens,
    cacheTokens: Math.min(cache, maxSequences * maxTokens + maxBatchedTokens),
  };
}

/**
 * The floor that is worth most for that mix of work, on an engine of whose step times is required that they do not fall
 * as any part of the step grows, and are straight or bend downwards in `decodeContextTokens` and in `prefillAttention`.
 *
 * @throws RangeError for step times that a look at a few thousand steps shows to be otherwise
 */
export function workFloorOf(
  engine: FloorEngine,
  { mix, objective }: { readonly mix: WorkTotals; readonly objective: Pick<RequestObjective, 'tpotSeconds'> },
): WorkFloor {
  const space = spaceOf(engine);
  checkShape(engine.stepTimes, space);
  const tpotMs = objective.tpotSeconds * 1000;
  const found = searchPrices({ stepTimes: engine.stepTimes, space, tpotMs, mix });
  const certified = certify({ stepTimes: engine.stepTimes, space, tpotMs, prices: found });
  const [decode, context, prefill, attention, tpotWeight] = certified.prices;
  // With context dearer than prompts, computing again would be the cheaper one however long the sequence is.
  const mayPreempt = space.maxSequences * space.maxTokens > space.cacheTokens && space.maxSequences > 1;
  const msPerContextToken = mayPreempt ? Math.min(context, 0.9 * prefill) : context;
  const dearer = prefill - msPerContextToken;
  const decodesFrom = dearer > 0 ? Math.ceil((decode + tpotWeight * tpotMs) / dearer) : Number.POSITIVE_INFINITY;
  return {
    msPerDecodeToken: decode,
    msPerContextToken,
    msPerPrefillToken: prefill,
    msPerAttention: attention,
    tpotWeight,
    tpotMs,
    decodesFromTokens: mayPreempt ? decodesFrom : 0,
    certifiedShare: certified.share,
  };
}

/** What computing the prompt takes of a replica at least [ms]. */
export function prefillFloorMs(floor: WorkFloor, inputTokens: number): number {
  return floor.msPerPrefillToken * inputTokens + (floor.msPerAttention * inputTokens * inputTokens) / 2;
}

/**
 * What the tokens after the first take of a replica at least [ms], never below 0.
 *
 * The k-th of them is decoded with input + k tokens in the cache; or, where the sequence was preempted, it comes of
 * computing that many tokens again, which also leaves its other tokens the time of one more: the cheaper of the two.
 */
export function decodeFloorMs(floor: WorkFloor, inputTokens: number, outputTokens: number): number {
  const tokens = Math.max(1, outputTokens) - 1;
  if (tokens === 0) return 0;
  const first = inputTokens + 1;
  const last = inputTokens + tokens;
  const again = Math.min(last, floor.decodesFromTokens - 1);
  if (again < first) {
    return floor.msPerDecodeToken * tokens + (floor.msPerContextToken * (first + last) * tokens) / 2;
  }
  // Below that length computing again is the cheaper one throughout, even if its attention were free.
  const computed = again - first + 1;
  const byComputing =
    (floor.msPerPrefillToken * (first + again) * computed) / 2 - floor.tpotWeight * floor.tpotMs * computed;
  const decoded = last - again;
  const byDecoding = floor.msPerDecodeToken * decoded + (floor.msPerContextToken * (again + 1 + last) * decoded) / 2;
  return Math.max(0, byComputing + byDecoding);
}

/** What one step is worth at those prices less what it takes: 0 or less for a floor that holds there. */
export function floorExcessMs(floor: WorkFloor, step: Step, stepMs: number): number {
  const worth =
    floor.msPerDecodeToken * step.decodeSequences +
    floor.msPerContextToken * step.decodeContextTokens +
    floor.msPerPrefillToken * step.prefillTokens +
    floor.msPerAttention * step.prefillAttention;
  return worth - stepMs - floor.tpotWeight * step.decodeSequences * (stepMs - floor.tpotMs);
}

/** α, β, γ, δ, θ. */
type Prices = readonly [number, number, number, number, number];

type PriceQuestion = {
  readonly stepTimes: StepTimes;
  readonly space: StepSpace;
  readonly tpotMs: number;
};

function mostContext(space: StepSpace, sequences: number, prefillTokens: number): number {
  return Math.max(0, Math.min(space.cacheTokens - prefillTokens, sequences * space.maxTokens));
}

/** Dual values of the cheapest mix of steps for that work, on a grid that is laid finer around the steps of the mix. */
function searchPrices(question: PriceQuestion & { readonly mix: WorkTotals }): Prices {
  const { stepTimes, space, tpotMs, mix } = question;
  // About a step's worth, so that no coefficient is very small or large.
  const unit = 256 / Math.max(1, mix.decodeTokens, mix.prefillTokens);
  const totals = [mix.decodeTokens, mix.decodeContextTokens, mix.prefillTokens, mix.prefillAttention].map(
    (total) => total * unit,
  );
  const rows = totals.map((total) => (total > 0 ? 1 / total : 0));
  const columns: { readonly cost: number; readonly rows: readonly number[]; readonly n: number; readonly p: number }[] =
    [];
  const seen = new Set<string>();
  const add = (n: number, p: number): void => {
    if (n < 0 || p < 0 || n + p <= 0 || n > space.maxSequences || n + p > space.maxBatchedTokens) return;
    if (p > space.cacheTokens || seen.has(`${n},${p}`)) return;
    seen.add(`${n},${p}`);
    const contexts = n > 0 ? [0, mostContext(space, n, p)] : [0];
    const attentions = p > 0 ? [0, p * space.maxTokens] : [0];
    for (const C of contexts) {
      for (const A of attentions) {
        const step = { prefillTokens: p, prefillAttention: A, decodeSequences: n, decodeContextTokens: C };
        const ms = stepTimes.stepMs(step);
        const vector = [n * rows[0]!, C * rows[1]!, p * rows[2]!, A * rows[3]!, n * (tpotMs - ms)];
        columns.push({ cost: ms, rows: vector, n, p });
      }
    }
  };
  const sequences = axis(space.maxSequences, gridSequences);
  const tokens = axis(Math.min(space.maxBatchedTokens, space.cacheTokens), gridTokens);
  for (const n of sequences) {
    for (const p of tokens) add(n, Math.min(p, space.maxBatchedTokens - n));
  }
  let gapN = Math.max(1, space.maxSequences / gridSequences);
  let gapP = Math.max(1, space.maxBatchedTokens / gridTokens);
  for (let round = 0; ; round++) {
    const { prices, used } = leastCostMix(columns, rows.map((scale) => (scale > 0 ? 1 : 0)).concat(0));
    if (round === gridRounds) {
      const [decode, context, prefill, attention] = prices.map((price, row) => price * (rows[row] ?? 1));
      return [decode!, context!, prefill!, attention!, prices[4]!];
    }
    for (const column of used) {
      const { n, p } = columns[column]!;
      for (let i = -6; i <= 6; i++) {
        for (let k = -6; k <= 6; k++) {
          add(Math.round(n + (i * gapN) / 6), Math.round(p + (k * gapP) / 6));
        }
      }
    }
    gapN = Math.max(1, gapN / 6);
    gapP = Math.max(1, gapP / 6);
  }
}

/** 0, all of it, and whole numbers between: the small ones close together, the large ones in even steps. */
function axis(most: number, count: number): number[] {
  const values = new Set([0, Math.floor(most)]);
  for (let i = 1; i <= count; i++) values.add(Math.round((most * i) / count));
  for (let value = 1; value < most; value *= 1.5) values.add(Math.round(value));
  return [...values].sort((a, b) => a - b);
}

/** Scales prices down until no step of the whole space undercuts them. */
function certify(question: PriceQuestion & { readonly prices: Prices }): {
  readonly prices: Prices;
  readonly share: number;
} {
  const { prices } = question;
  const [, , , , tpotWeight] = prices;
  for (const share of certifiedShares) {
    const scaled: Prices = [
      prices[0] * share,
      prices[1] * share,
      prices[2] * share,
      prices[3] * share,
      tpotWeight * share,
    ];
    if (holdsEverywhere({ ...question, prices: scaled })) return { prices: scaled, share };
  }
  return { prices: [0, 0, 0, 0, 0], share: 0 };
}

/** A box so small that the prices fail at its corner, if at all [sequences, tokens]. */
const cornerBox = 2;

/**
 * Whether f + θ n (f − τ) ≥ α n + β C + γ p + δ A for all real n ≤ maxSequences, p ≤ maxBatchedTokens − n,
 * C ≤ min(cache − p, n · maxTokens), A ≤ p · maxTokens.
 *
 * For fixed n and p the difference bends downwards in C and in A, so that it is least at the ends of both. On a box of n
 * and p, f is at least what it is at the lower corner, and f + θ n (f − τ) with that f is straight in n. A box that is not
 * certain is halved.
 */
function holdsEverywhere({ stepTimes, space, tpotMs, prices }: PriceQuestion & { readonly prices: Prices }): boolean {
  const [decode, context, prefill, attention, tpotWeight] = prices;
  /** Least difference on a box, by the bounds above; that of its corner where the box is a point. */
  const leastOn = (n1: number, n2: number, p1: number, p2: number): number => {
    const mostC = mostContext(space, n2, p1);
    const mostA = p2 * space.maxTokens;
    let least = Number.POSITIVE_INFINITY;
    for (let end = 0; end < 4; end++) {
      const C = (end & 1) === 0 ? 0 : mostC;
      const A = (end & 2) === 0 ? 0 : mostA;
      const ms = stepTimes.stepMs({
        prefillTokens: p1,
        prefillAttention: A,
        decodeSequences: n1,
        decodeContextTokens: C,
      });
      const granted = tpotWeight * (ms >= tpotMs ? n1 : n2) * (ms - tpotMs);
      least = Math.min(least, ms + granted - (decode * n2 + context * C + prefill * p2 + attention * A));
    }
    return least;
  };
  // n from, n to, p from, p to of each open box.
  const open: number[] = [0, space.maxSequences, 0, Math.min(space.maxBatchedTokens, space.cacheTokens)];
  let boxes = 0;
  while (open.length > 0) {
    const p2 = open.pop()!;
    const p1 = open.pop()!;
    const n2 = open.pop()!;
    const n1 = open.pop()!;
    if (n1 + p1 > space.maxBatchedTokens || n2 + p2 === 0) continue;
    if (++boxes > maxBoxes) return false;
    if (leastOn(n1, n2, p1, p2) >= 0) continue;
    if (n1 + p1 > 0 && n2 - n1 < cornerBox && p2 - p1 < cornerBox && leastOn(n1, n1, p1, p1) < 0) return false;
    // The side along which the prices grow more is the one that keeps the box from being certain.
    const spreadN = (decode + tpotWeight * tpotMs + context * space.maxTokens) * (n2 - n1);
    const spreadP = (prefill + (attention + context) * space.maxTokens) * (p2 - p1);
    const middleN = (n1 + n2) / 2;
    const middleP = (p1 + p2) / 2;
    if (spreadN >= spreadP) open.push(n1, middleN, p1, p2, middleN, n2, p1, p2);
    else open.push(n1, n2, p1, middleP, n1, n2, middleP, p2);
  }
  return true;
}

/** A look at whether step times have the shape that a certificate rests on. */
function checkShape(stepTimes: StepTimes, space: StepSpace): void {
  const at = (n: number, C: number, p: number, A: number): number =>
    stepTimes.stepMs({ prefillTokens: p, prefillAttention: A, decodeSequences: n, decodeContextTokens: C });
  for (const n of axis(space.maxSequences, 6)) {
    for (const p of axis(Math.min(space.maxBatchedTokens - n, space.cacheTokens), 6)) {
      if (n + p <= 0 || p < 0) continue;
      const C = mostContext(space, n, p);
      const A = p * space.maxTokens;
      const low = at(n, 0, p, 0);
      const high = at(n, C, p, A);
      const grows = high >= low && at(n + 1, C, p, A) >= high * (1 - 1e-12) && at(n, C, p + 1, A) >= high * (1 - 1e-12);
      const tolerance = 1e-9 * high;
      const bends =
        2 * at(n, C / 2, p, 0) >= low + at(n, C, p, 0) - tolerance &&
        2 * at(n, 0, p, A / 2) >= low + at(n, 0, p, A) - tolerance;
      if (!(low > 0 && Number.isFinite(high) && grows && bends)) {
        throw new RangeError(
          `step times at ${n} decoding sequences and ${p} prompt tokens are ${low} to ${high} ms, ` +
            'expected times above 0 that do not fall as a step grows and do not bend upwards in contexts and attention',
        );
      }
    }
  }
}

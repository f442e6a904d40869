import type { BacktestRequest, RequestObjective } from './backtest.js';
import type { WorkTotals } from './work-floor.js';

/**
 * The demand of a scored span in slots: what the oracle's search for prices looks at. The bound itself is evaluated
 * request by request, so that what is merged here costs tightness at most.
 */

export type SlotGrid = {
  readonly fromMs: number;
  readonly endMs: number;
  readonly slotMs: number;
  readonly slots: number;
};

export function slotGrid({
  fromMs,
  endMs,
  slotMs,
}: {
  readonly fromMs: number;
  readonly endMs: number;
  readonly slotMs: number;
}): SlotGrid {
  return { fromMs, endMs, slotMs, slots: Math.max(0, Math.ceil((endMs - fromMs) / slotMs)) };
}

/** Length of each slot [ms]; the last one ends with the span. */
export function slotLengths({ fromMs, endMs, slotMs, slots }: SlotGrid): Float64Array {
  const lengths = new Float64Array(slots).fill(slotMs);
  if (slots > 0) lengths[slots - 1] = endMs - fromMs - (slots - 1) * slotMs;
  return lengths;
}

/** Where the work of a request lies if it attains: slots, both ends included; `slots` and more = after the span. */
export type WorkWindow = { readonly first: number; readonly prefillLast: number; readonly decodeLast: number };

/** Latest time of the first token of a request that attains, and of its last one [ms after arrival]. */
export function attainingMs(
  { inputTokens, outputTokens }: Pick<BacktestRequest, 'inputTokens' | 'outputTokens'>,
  objective: RequestObjective,
): { readonly firstTokenMs: number; readonly lastTokenMs: number } {
  const firstTokenMs = 1000 * (objective.ttftSeconds + objective.ttftSecondsPerInputToken * inputTokens);
  const further = Math.max(1, outputTokens) - 1;
  return { firstTokenMs, lastTokenMs: firstTokenMs + 1000 * objective.tpotSeconds * further };
}

/** Classes of requests that have their work in the same slots and similar lengths. All lists are equally long. */
export type DemandClasses = {
  readonly requests: Float64Array;
  readonly first: Int32Array;
  readonly prefillLast: Int32Array;
  readonly decodeLast: Int32Array;
  readonly decodeTokens: Float64Array;
  readonly decodeContextTokens: Float64Array;
  readonly prefillTokens: Float64Array;
  readonly prefillAttention: Float64Array;
};

export type SpanDemand = {
  readonly grid: SlotGrid;
  readonly requests: number;
  readonly totals: WorkTotals;
  readonly classes: DemandClasses;
};

/** Lengths that differ by less than this factor are one class. */
const lengthFactor = 4;
const inputClasses = 12;
const outputClasses = 10;
/** Windows of more slots are classed by these. */
const windowSlots = [0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 256, 512, 1024];

const fields = 5;

/**
 * Counts the requests of the span.
 *
 * @param requests any order; those outside of the span are left out
 */
export async function countDemand(
  requests: AsyncIterable<BacktestRequest> | Iterable<BacktestRequest>,
  { grid, objective }: { readonly grid: SlotGrid; readonly objective: RequestObjective },
): Promise<SpanDemand> {
  const places = new Map<number, number>();
  let sums = new Float64Array(fields * 1024);
  let keys = new Float64Array(1024);
  let count = 0;
  const totals = { decodeTokens: 0, decodeContextTokens: 0, prefillTokens: 0, prefillAttention: 0 };
  let counted = 0;
  for await (const request of requests) {
    const { atMs } = request;
    if (!(atMs >= grid.fromMs && atMs < grid.endMs)) continue;
    counted++;
    const { inputTokens } = request;
    const decodeTokens = Math.max(1, request.outputTokens) - 1;
    const window = workWindow(request, { grid, objective });
    const key =
      (((window.first * windowSlots.length + classOfWindow(window.prefillLast - window.first)) * windowSlots.length +
        classOfWindow(window.decodeLast - window.first)) *
        inputClasses +
        classOfLength(inputTokens, inputClasses)) *
        outputClasses +
      classOfLength(decodeTokens, outputClasses);
    let place = places.get(key);
    if (place === undefined) {
      place = count++;
      places.set(key, place);
      if (count > keys.length) {
        keys = grown(keys);
        sums = grown(sums);
      }
      keys[place] = key;
    }
    const context = decodeTokens * inputTokens + (decodeTokens * (decodeTokens + 1)) / 2;
    const attention = (inputTokens * inputTokens) / 2;
    const at = place * fields;
    sums[at] = sums[at]! + 1;
    sums[at + 1] = sums[at + 1]! + decodeTokens;
    sums[at + 2] = sums[at + 2]! + context;
    sums[at + 3] = sums[at + 3]! + inputTokens;
    sums[at + 4] = sums[at + 4]! + attention;
    totals.decodeTokens += decodeTokens;
    totals.decodeContextTokens += context;
    totals.prefillTokens += inputTokens;
    totals.prefillAttention += attention;
  }
  // In the order of time, so that passes over them touch prices side by side.
  const order = Array.from({ length: count }, (_, place) => place).sort((a, b) => keys[a]! - keys[b]!);
  const pick = (field: number): Float64Array => Float64Array.from(order, (place) => sums[place * fields + field]!);
  const perLength = inputClasses * outputClasses;
  const first = Int32Array.from(order, (place) => Math.floor(keys[place]! / perLength / windowSlots.length ** 2));
  const lastOf = (divisor: number) =>
    Int32Array.from(
      order,
      (place, i) => first[i]! + windowSlots[Math.floor(keys[place]! / perLength / divisor) % windowSlots.length]!,
    );
  return {
    grid,
    requests: counted,
    totals,
    classes: {
      requests: pick(0),
      first,
      prefillLast: lastOf(windowSlots.length),
      decodeLast: lastOf(1),
      decodeTokens: pick(1),
      decodeContextTokens: pick(2),
      prefillTokens: pick(3),
      prefillAttention: pick(4),
    },
  };
}

/** The slots in which a request of the span is worked on if it attains. */
export function workWindow(
  request: BacktestRequest,
  { grid, objective }: { readonly grid: SlotGrid; readonly objective: RequestObjective },
): WorkWindow {
  const { firstTokenMs, lastTokenMs } = attainingMs(request, objective);
  const after = request.atMs - grid.fromMs;
  return {
    first: Math.floor(after / grid.slotMs),
    prefillLast: slotAt(grid, after + firstTokenMs),
    decodeLast: slotAt(grid, after + lastTokenMs),
  };
}

/** What ends after the span can be computed after it, which costs nothing: all such slots are the one past the last. */
function slotAt(grid: SlotGrid, afterMs: number): number {
  return afterMs >= grid.endMs - grid.fromMs ? grid.slots : Math.floor(afterMs / grid.slotMs);
}

function classOfWindow(slots: number): number {
  let low = 0;
  while (low + 1 < windowSlots.length && windowSlots[low + 1]! <= slots) low++;
  return low;
}

function classOfLength(tokens: number, classes: number): number {
  return tokens < 1 ? 0 : Math.min(classes - 1, 1 + Math.floor(Math.log(tokens) / Math.log(lengthFactor)));
}

function grown(array: Float64Array<ArrayBuffer>): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(array.length * 2);
  larger.set(array);
  return larger;
}

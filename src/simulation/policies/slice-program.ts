/**
 * Mélange's program (Griggs et al., 2024) for few cells, solved exactly: every cell's load is cut in equal slices, each
 * slice goes to one GPU type, and a type needs whole units for the sum of its slices.
 *
 *   minimise Σ_g c_g y_g   subject to   Σ_g k_ig = slices, k whole, each cell i;   y_g = ⌈Σ_i k_ig l_ig⌉
 *
 * Slices of one cell are alike, so they are counted by type and not told apart. Branch and bound by cell, the one with
 * the largest load first: below a node no fleet is cheaper than its loads without rounding up plus the cheapest place of
 * every slice to come, and none is cheaper than the whole units it has by then.
 */
export type SliceProgram = {
  readonly slices: number;
  /** Price of a unit of each type [USD/hour]. */
  readonly usdPerUnit: readonly number[];
  /** [cell][type]: units that one slice takes; Infinity = the type cannot serve it. */
  readonly loads: readonly (readonly number[])[];
  /** Nodes after which the best fleet so far is taken. */
  readonly nodeLimit?: number;
};

export type SliceAnswer = {
  /** Whole units by type. */
  readonly units: readonly number[];
  readonly usdPerHour: number;
  /** No fleet is cheaper. False only where the node limit ended the search. */
  readonly proven: boolean;
};

/** Loads this much above whole units still fit them: sums of slices are not exact. */
const fitTolerance = 1e-9;

/** Some hundredths of a second; fleets of a few cells take tens to thousands. What is left then is a few units. */
const defaultNodeLimit = 20_000;

/** One way to place the slices of a cell. */
type Choice = { readonly added: readonly number[]; readonly usd: number };

/** The cheapest units, ties by the first found; null where some cell fits no type. */
export function solveSlices(program: SliceProgram): SliceAnswer | null {
  const { slices, usdPerUnit, nodeLimit = defaultNodeLimit } = program;
  const types = usdPerUnit.length;
  const cells = program.loads
    .filter((loads) => loads.some((load) => load > 0))
    .map((loads) => choicesOf({ loads, slices, usdPerUnit }))
    .sort((a, b) => (b[0]?.usd ?? Infinity) - (a[0]?.usd ?? Infinity));
  if (cells.some((choices) => choices.length === 0)) return null;
  const cheapestFrom = new Float64Array(cells.length + 1);
  for (let i = cells.length - 1; i >= 0; i--) cheapestFrom[i] = cheapestFrom[i + 1]! + cells[i]![0]!.usd;

  const unitsOf = (load: number) => Math.max(0, Math.ceil(load - fitTolerance * Math.max(1, load)));
  const priceOf = (loads: ArrayLike<number>): number => {
    let usd = 0;
    for (let g = 0; g < types; g++) usd += usdPerUnit[g]! * unitsOf(loads[g]!);
    return usd;
  };
  let bestLoads: ArrayLike<number> = firstFleet(cells, types, priceOf);
  let best = priceOf(bestLoads);
  let nodes = 0;
  let proven = true;
  // One set of sums for each depth, so that a node allocates nothing.
  const sums = Array.from({ length: cells.length + 1 }, () => new Float64Array(types));
  const descend = (i: number, usd: number): void => {
    if (nodes >= nodeLimit) {
      proven = false;
      return;
    }
    nodes++;
    const loads = sums[i]!;
    if (i === cells.length) {
      best = priceOf(loads);
      bestLoads = loads.slice();
      return;
    }
    const next = sums[i + 1]!;
    for (const choice of cells[i]!) {
      const enough = best - priceTolerance(best);
      // Choices ascend in price: those that follow are no better.
      if (usd + choice.usd + cheapestFrom[i + 1]! >= enough) return;
      for (let g = 0; g < types; g++) next[g] = loads[g]! + choice.added[g]!;
      if (priceOf(next) < enough) descend(i + 1, usd + choice.usd);
    }
  };
  descend(0, 0);
  return { units: Array.from(bestLoads, unitsOf), usdPerHour: best, proven };
}

/** Fleets that differ by less are equally dear. */
function priceTolerance(usd: number): number {
  return 1e-9 * Math.max(1, usd);
}

/** All ways to spread equal slices over the types that can serve them, cheapest first. */
function choicesOf(of: {
  readonly loads: readonly number[];
  readonly slices: number;
  readonly usdPerUnit: readonly number[];
}): readonly Choice[] {
  const { loads, slices, usdPerUnit } = of;
  const able = loads.flatMap((load, g) => (load < Infinity ? [g] : []));
  if (able.length === 0) return [];
  const choices: Choice[] = [];
  const counts = loads.map(() => 0);
  const spread = (at: number, left: number): void => {
    const g = able[at]!;
    if (at === able.length - 1) {
      counts[g] = left;
      const added = counts.map((count, type) => (count === 0 ? 0 : count * loads[type]!));
      choices.push({ added, usd: added.reduce((sum, load, type) => sum + load * usdPerUnit[type]!, 0) });
      return;
    }
    for (let count = left; count >= 0; count--) {
      counts[g] = count;
      spread(at + 1, left - count);
    }
    counts[g] = 0;
  };
  spread(0, slices);
  return choices.sort((a, b) => a.usd - b.usd);
}

/** A good fleet to begin with: the cheapest choice of each cell, then each cell moved while that saves whole units. */
function firstFleet(
  cells: readonly (readonly Choice[])[],
  types: number,
  priceOf: (loads: ArrayLike<number>) => number,
): readonly number[] {
  const chosen = cells.map((choices) => choices[0]!);
  const totalOf = () =>
    chosen.reduce<number[]>((sum, { added }) => sum.map((load, g) => load + added[g]!), new Array(types).fill(0));
  let loads = totalOf();
  for (let better = true; better; ) {
    better = false;
    cells.forEach((choices, i) => {
      for (const choice of choices) {
        const price = priceOf(loads);
        const moved = loads.map((load, g) => load - chosen[i]!.added[g]! + choice.added[g]!);
        if (priceOf(moved) >= price - priceTolerance(price)) continue;
        chosen[i] = choice;
        loads = totalOf();
        better = true;
      }
    });
  }
  return loads;
}

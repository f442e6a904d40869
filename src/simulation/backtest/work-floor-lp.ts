/**
 * A linear program with a handful of rows and thousands of columns, by the revised simplex method with a dense inverse.
 *
 * Only its prices are used, and only after they were checked by other means: a wrong answer costs tightness, not truth.
 */

export type MixColumn = { readonly cost: number; readonly rows: readonly number[] };

export type LeastCostMix = {
  /** Dual values of the rows, 0 or more. */
  readonly prices: readonly number[];
  /** Columns with a positive amount. */
  readonly used: readonly number[];
};

/** Cost of a unit that a row lacks, in units of the dearest column: above what any mix pays. */
const lackingCost = 1e4;
const tolerance = 1e-10;
/** The programs of work floors take tens; more is cycling, whose prices are as good. */
const maxPivots = 5000;

/** Minimises Σ cost·z subject to Σ rows·z ≥ required, z ≥ 0. Costs are > 0, and `required` is 0 or more. */
export function leastCostMix(columns: readonly MixColumn[], required: readonly number[]): LeastCostMix {
  const size = required.length;
  const dearest = columns.reduce((most, { cost }) => Math.max(most, cost), 1e-12) * lackingCost;
  // Basis: for every row what it lacks (−1), a surplus (−2 − row) or a column. It begins with what is lacking, and a
  // surplus of 0 where nothing is required.
  const basis: number[] = required.map((amount, row) => (amount > 0 ? -1 : -2 - row));
  const inverse = required.map((amount, row) =>
    required.map((_, column): number => (row !== column ? 0 : amount > 0 ? 1 : -1)),
  );
  const amounts = [...required];
  let prices: number[] = [];
  for (let pivot = 0; pivot < maxPivots; pivot++) {
    const costs = basis.map((entry) => (entry >= 0 ? columns[entry]!.cost : entry === -1 ? dearest : 0));
    prices = required.map((_, row) => costs.reduce((sum, cost, i) => sum + cost * inverse[i]![row]!, 0));
    let entering = -1;
    let most = tolerance;
    for (let c = 0; c < columns.length; c++) {
      // What is in the basis is worth its cost; while something lacks, rounding beside its price says otherwise, for ever.
      if (basis.includes(c)) continue;
      const { cost, rows } = columns[c]!;
      let worth = 0;
      for (let row = 0; row < size; row++) worth += prices[row]! * rows[row]!;
      const gain = worth / cost - 1;
      if (gain > most) {
        most = gain;
        entering = c;
      }
    }
    let surplus = -1;
    if (entering < 0) {
      const lowest = Math.min(...prices);
      if (lowest >= -tolerance) break;
      surplus = prices.indexOf(lowest);
    }
    const direction = inverse.map((line) =>
      entering >= 0
        ? line.reduce((sum, value, row) => sum + value * columns[entering]!.rows[row]!, 0)
        : -line[surplus]!,
    );
    let leaving = -1;
    let ratio = Number.POSITIVE_INFINITY;
    for (let i = 0; i < size; i++) {
      if (direction[i]! <= 1e-9) continue;
      const here = amounts[i]! / direction[i]!;
      if (here < ratio - 1e-15 || (here <= ratio && direction[i]! > direction[leaving]!)) {
        ratio = here;
        leaving = i;
      }
    }
    if (leaving < 0) break;
    const by = direction[leaving]!;
    for (let row = 0; row < size; row++) inverse[leaving]![row] = inverse[leaving]![row]! / by;
    for (let i = 0; i < size; i++) {
      if (i === leaving || direction[i] === 0) continue;
      for (let row = 0; row < size; row++)
        inverse[i]![row] = inverse[i]![row]! - direction[i]! * inverse[leaving]![row]!;
      amounts[i] = Math.max(0, amounts[i]! - direction[i]! * ratio);
    }
    amounts[leaving] = ratio;
    basis[leaving] = entering >= 0 ? entering : -2 - surplus;
  }
  return {
    prices: prices.map((price) => Math.max(0, price)),
    used: basis.filter((entry) => entry >= 0),
  };
}

import type { PlanningProblem } from '../core/planning-problem.js';

/**
 * The demand that a plan is made for, by length, in so few cells that a fleet of any size can be scraped: powers of two
 * of tokens, and models of their own only as long as they are few.
 */

/** Upper ends of the cells [tokens]; beyond the last one is `+Inf`. Below 64 prompts cost the same, above 32k they are rare. */
const ends = [64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768] as const;
const cells = ends.length + 1;
const endLabels = [...ends.map(String), '+Inf'];

/** Models that have cells of their own, the busiest; with at most 121 cells each, 2,420 series. */
const ownCells = 20;

/** Stands for all models that have no cells of their own. */
export const otherModels = '(others)';

export type LengthCell = {
  readonly model: string;
  /** Longest input and output of the cell, as Prometheus writes `le`. */
  readonly inputTokens: string;
  readonly outputTokens: string;
  readonly rps: number;
};

/**
 * The rates of every cell between the lengths that occur at all; they add up to the demand of the problem.
 *
 * Of a model that has none of such a length it is 0: a table of the sums has no holes then.
 */
export function demandByLength(models: PlanningProblem['models']): readonly LengthCell[] {
  const rateOf = new Map(models.map((model) => [model.name, model.demand.reduce((sum, { rps }) => sum + rps, 0)]));
  // Names decide between equals, so that the choice stays the same from scrape to scrape.
  const busiest = [...rateOf].sort(([a, rpsOfA], [b, rpsOfB]) => rpsOfB - rpsOfA || (a < b ? -1 : 1));
  const own = new Set(busiest.slice(0, ownCells).map(([name]) => name));
  const rates = new Map<string, Float64Array>();
  const inputs = new Set<number>();
  const outputs = new Set<number>();
  for (const { name, demand } of models) {
    if (demand.length === 0) continue;
    const group = own.has(name) ? name : otherModels;
    const grid = rates.get(group) ?? new Float64Array(cells * cells);
    rates.set(group, grid);
    for (const { inputTokens, outputTokens, rps } of demand) {
      const [input, output] = [cellOf(inputTokens), cellOf(outputTokens)];
      inputs.add(input);
      outputs.add(output);
      grid[input * cells + output]! += rps;
    }
  }
  return [...rates].flatMap(([model, grid]) =>
    [...inputs].flatMap((input) =>
      [...outputs].map((output) => ({
        model,
        inputTokens: endLabels[input]!,
        outputTokens: endLabels[output]!,
        rps: grid[input * cells + output]!,
      })),
    ),
  );
}

function cellOf(tokens: number): number {
  const cell = ends.findIndex((end) => tokens <= end);
  return cell === -1 ? ends.length : cell;
}

import type { BenchmarkRun, ReadNotice } from '../benchmark-row.js';

/**
 * Lengths that other tools measured (means over the requests of a run) as the axes of a grid: 1019.7, 1023.4 and 1022.8
 * tokens are one column, not three.
 *
 * Values within a twentieth of the smallest of their group are one; the group takes its median, rounded. Cells of a grid
 * lie far further apart than that, and by no more does the work of a request differ.
 */
const groupWidth = 1.05;

export function mergeLengths(runs: readonly BenchmarkRun[]): {
  readonly runs: readonly BenchmarkRun[];
  readonly notices: readonly ReadNotice[];
} {
  const inputs = groupsOf(runs.map((run) => run.inputTokens));
  const outputs = groupsOf(runs.map((run) => run.outputTokens));
  const merged = runs.map((run) => ({
    ...run,
    inputTokens: inputs.get(run.inputTokens)!,
    outputTokens: outputs.get(run.outputTokens)!,
  }));
  const spread = [...spreadOf(inputs, 'input'), ...spreadOf(outputs, 'output')];
  if (spread.length === 0) return { runs: merged, notices: [] };
  const message = `lengths that differ by less than 5 % are one cell: ${spread.slice(0, 4).join('; ')}${spread.length > 4 ? '; …' : ''}`;
  return { runs: merged, notices: [{ kind: 'merged_lengths', message }] };
}

/** What each value becomes. */
function groupsOf(values: readonly number[]): ReadonlyMap<number, number> {
  const sorted = [...new Set(values)].sort((a, b) => a - b);
  const groups = new Map<number, number>();
  for (let start = 0; start < sorted.length; ) {
    let end = start + 1;
    while (end < sorted.length && sorted[end]! <= sorted[start]! * groupWidth) end += 1;
    const group = sorted.slice(start, end);
    const middle = Math.max(1, Math.round(group[(group.length - 1) >> 1]!));
    for (const value of group) groups.set(value, middle);
    start = end;
  }
  return groups;
}

/** Groups whose members differ by a token or more: rounding alone is not worth a word. */
function spreadOf(groups: ReadonlyMap<number, number>, axis: 'input' | 'output'): readonly string[] {
  const members = new Map<number, number[]>();
  for (const [value, middle] of groups) members.set(middle, [...(members.get(middle) ?? []), value]);
  return [...members].flatMap(([middle, values]) => {
    const low = Math.min(...values);
    const high = Math.max(...values);
    if (high - low < 1) return [];
    return [`${Number(low.toFixed(1))} to ${Number(high.toFixed(1))} ${axis} tokens as ${middle}`];
  });
}

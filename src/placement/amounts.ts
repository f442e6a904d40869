/** Amounts of memory as people say them. */

/** MiB as GB (of 1,024 MiB, as card sizes are named) with at most one decimal: 3,584 → `3.5 GB`, 4,094 → `4 GB`. */
export function gigabytes(mib: number): string {
  return `${Number((mib / 1024).toFixed(1))} GB`;
}

/**
 * Part of a memory that a budget is, in hundredths rounded down: what an engine is told. Budgets are whole MiB, so one MiB
 * is let through: 95 % of 65,536 MiB is 62,259 and comes back as 0.95.
 */
export function memoryFractionOf(budgetMb: number, memoryMb: number): number {
  return Math.floor(((budgetMb + 1) * 100) / memoryMb) / 100;
}

/** `a`, `a and b`, `a, b and c`. */
export function listed(items: readonly string[]): string {
  if (items.length < 2) return items.join('');
  return `${items.slice(0, -1).join(', ')} and ${items.at(-1)}`;
}

/** The same, of many only the first few. */
export function fewOf(items: readonly string[], most = 6): string {
  return items.length <= most ? listed(items) : `${items.slice(0, most).join(', ')} and ${items.length - most} more`;
}

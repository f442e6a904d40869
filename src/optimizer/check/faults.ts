/** What is wrong with a plan, in one sentence. */
export type PlanFault = {
  readonly message: string;
  /** Models that are at fault together: without their parts of the plan the fault would be gone. None: the document is. */
  readonly models: readonly string[];
};

/** Notes a fault of some models, or of the document where none is named. */
export type Say = (message: string, ...models: readonly string[]) => void;

/**
 * Equal up to rounding, absolutely below 1 and relatively above. A NaN equals nothing: numbers are compared so that a NaN
 * breaks a promise (`!(a <= b)`, never `a > b`).
 */
export function close(a: number, b: number, tolerance = 1e-8): boolean {
  return Math.abs(a - b) <= tolerance * Math.max(1, Math.abs(a), Math.abs(b));
}

/** A name in a sentence: on one line, and not longer than one. */
export function quote(name: string): string {
  return JSON.stringify(name.length > 60 ? `${name.slice(0, 60)}…` : name);
}

/** Items by a key, in their order. */
export function groupBy<Item>(items: readonly Item[], keyOf: (item: Item) => string): Map<string, Item[]> {
  const groups = new Map<string, Item[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [item]);
    else group.push(item);
  }
  return groups;
}

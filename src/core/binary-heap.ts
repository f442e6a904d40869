/**
 * Binary heaps on plain arrays: `heap[0]` comes before all others (of those that come together, any), and an array in
 * order is one. `push` and `pop` take O(log n).
 */
export type HeapOrder<Item> = {
  readonly push: (heap: Item[], item: Item) => void;
  /** Undefined where there is none. */
  readonly pop: (heap: Item[]) => Item | undefined;
};

/** @param precedes a strict order: never true of two items both ways */
export function heapOrder<Item>(precedes: (one: Item, other: Item) => boolean): HeapOrder<Item> {
  return {
    push(heap, item) {
      let at = heap.length;
      heap.push(item);
      while (at > 0) {
        const parent = (at - 1) >> 1;
        if (!precedes(item, heap[parent]!)) break;
        heap[at] = heap[parent]!;
        at = parent;
      }
      heap[at] = item;
    },
    pop(heap) {
      const first = heap[0];
      const last = heap.pop();
      if (first === undefined || last === undefined || heap.length === 0) return first;
      let at = 0;
      for (;;) {
        let child = 2 * at + 1;
        if (child >= heap.length) break;
        if (child + 1 < heap.length && precedes(heap[child + 1]!, heap[child]!)) child += 1;
        if (!precedes(heap[child]!, last)) break;
        heap[at] = heap[child]!;
        at = child;
      }
      heap[at] = last;
      return first;
    },
  };
}

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { heapOrder } from '../../src/core/binary-heap.js';

const ascending = heapOrder<number>((one, other) => one < other);

/** A number joins, or the first goes (null). */
const steps = fc.array(fc.oneof(fc.integer({ min: 0, max: 20 }), fc.constant(null)), { maxLength: 200 });

describe('a heap', () => {
  it('gives the first of what it holds each time, as a list that is sorted anew would', () => {
    fc.assert(
      fc.property(steps, (numbers) => {
        const heap: number[] = [];
        let sorted: number[] = [];
        for (const number of numbers) {
          if (number === null) expect(ascending.pop(heap)).toBe(sorted.shift());
          else {
            ascending.push(heap, number);
            sorted = [...sorted, number].sort((a, b) => a - b);
          }
          expect(heap[0]).toBe(sorted[0]);
          expect(heap.length).toBe(sorted.length);
        }
      }),
    );
  });

  it('is any list in order', () => {
    const heap = Array.from({ length: 50 }, (_, i) => i);
    ascending.push(heap, 20.5);
    const popped = Array.from({ length: 51 }, () => ascending.pop(heap));
    expect(popped).toEqual([...popped].sort((a, b) => a! - b!));
  });

  it('that is empty has nothing first', () => {
    expect(ascending.pop([])).toBeUndefined();
  });
});

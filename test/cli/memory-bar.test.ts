import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { markOf, memoryBar, othersMark } from '../../src/cli/memory-bar.js';
import { huesOf, inkOf } from '../../src/cli/terminal-text.js';

const plain = huesOf(false);

/** Services of these sizes on a GPU of 100 MiB, in a bar of ten cells. */
function bar(sizes: readonly number[], over: { readonly othersMb?: number; readonly overCells?: number } = {}): string {
  const { othersMb = 0, overCells = 0 } = over;
  return memoryBar({
    memoryMb: 100,
    parts: [
      ...(othersMb === 0 ? [] : [{ memoryMb: othersMb, mark: othersMark }]),
      ...sizes.map((memoryMb, at) => ({ memoryMb, mark: markOf(at, plain) })),
    ],
    size: { cells: 10, overCells },
    ink: inkOf(false),
  });
}

describe('the bar of a GPU', () => {
  it('gives each service cells as its memory', () => {
    expect(bar([50, 20, 10])).toBe('[█████▓▓▒··]');
    expect(bar([30], { othersMb: 20 })).toBe('[░░███·····]');
  });

  it('shows a small service, and a little that is free', () => {
    expect(bar([96, 1])).toBe('[████████▓·]');
    expect(bar([1, 1, 1, 1])).toBe('[█▓▒▚······]');
    expect(bar([])).toBe('[··········]');
  });

  it('is full where nothing is free, and no fuller', () => {
    expect(bar([60, 40])).toBe('[██████▓▓▓▓]');
  });

  it('shows behind the bracket what is too much, however little', () => {
    expect(bar([101], { overCells: 4 })).toBe('[██████████]█   ');
    expect(bar([100, 30], { overCells: 4 })).toBe('[██████████]▓▓▓ ');
    expect(bar([100, 900], { overCells: 4 })).toBe('[██████████]▓▓▓»');
  });

  it('is as wide as it should be, whatever the services', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 200 }), { maxLength: 30 }),
        fc.integer({ min: 0, max: 120 }),
        (sizes, othersMb) => {
          expect(bar(sizes, { othersMb, overCells: 5 })).toMatch(/^\[[█▓▒▚░·]{10}\][█▓▒▚░]{0,5}»? *$/);
          expect(bar(sizes, { othersMb, overCells: 5 })).toHaveLength(17);
        },
      ),
    );
  });
});

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { memoryFractionOf } from '../../src/placement/amounts.js';

describe('the part that an engine is told', () => {
  it('is in hundredths, and a MiB more than the budget at most', () => {
    expect(memoryFractionOf(20_890, 24_576)).toBe(0.85);
    expect(memoryFractionOf(20_888, 24_576)).toBe(0.84);
    expect(memoryFractionOf(4096, 8192)).toBe(0.5);
    fc.assert(
      fc.property(fc.nat(2 ** 30), fc.integer({ min: 1, max: 2 ** 30 }), (budgetMb, memoryMb) => {
        const hundredths = Math.round(memoryFractionOf(budgetMb, memoryMb) * 100);
        expect(hundredths * memoryMb).toBeLessThanOrEqual((budgetMb + 1) * 100);
        expect((hundredths + 1) * memoryMb).toBeGreaterThan((budgetMb + 1) * 100);
      }),
    );
  });

  it('gives back the part that a budget in whole MiB was made of', () => {
    expect(memoryFractionOf(Math.floor(0.95 * 65_536), 65_536)).toBe(0.95);
  });
});

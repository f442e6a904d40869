import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cellPredictor } from '../../src/profiling/cell-prediction.js';
import type { Cell } from '../../src/profiling/measurement.js';
import { coarseFirstCells, doubling } from '../../src/profiling/sweep.js';
import { cell } from './run-builders.js';

/** Work of a request on an engine as roofline models have it: prefill, decoding, reading the context. */
const work = ({ inputTokens: i, outputTokens: o }: Cell): number =>
  0.001 + 3e-5 * i + 2e-4 * o + 2e-8 * o * (i + o / 2);
const axis = doubling(4, 4096);
const cells = coarseFirstCells(axis, axis);
const known = (count: number) => cells.slice(0, count).map((one) => ({ cell: one, value: work(one) }));

describe('the work of a cell, predicted from others', () => {
  it('is within 10 % of a law of tokens once a coarse grid is known, and within 5 % for most', () => {
    const predict = cellPredictor(known(25));
    const errors = cells.slice(25).map((one) => Math.abs(Math.log(predict(one)!.value / work(one))));
    expect(Math.max(...errors)).toBeLessThan(0.1);
    expect(errors.filter((error) => error < 0.05).length / errors.length).toBeGreaterThan(0.9);
  });

  it('says how far to trust it: errors lie within three of its deviations', () => {
    for (const count of [3, 5, 9, 25, 60]) {
      const predict = cellPredictor(known(count));
      for (const one of cells.slice(count)) {
        const { value, logDeviation } = predict(one)!;
        expect(Math.abs(Math.log(value / work(one)))).toBeLessThan(3 * logDeviation);
      }
    }
  });

  it('gives back what is known, closely', () => {
    const predict = cellPredictor(known(25));
    for (const one of cells.slice(0, 25)) expect(predict(one)!.value / work(one)).toBeCloseTo(1, 1);
  });

  it('is wider the farther a cell is from those known', () => {
    const predict = cellPredictor(known(9).concat([]));
    expect(predict(cell(4, 8))!.logDeviation).toBeLessThan(predict(cell(16, 1024))!.logDeviation);
  });

  it('knows nothing from nothing', () => {
    expect(cellPredictor([])(cell(1, 1))).toBeNull();
    expect(cellPredictor([{ cell: cell(1, 1), value: 0 }])(cell(1, 1))).toBeNull();
  });

  it('is a positive number whatever is known, twins and contradictions too', () => {
    const tokens = fc.integer({ min: 1, max: 1e6 });
    const one = fc.record({
      cell: fc.record({ inputTokens: tokens, outputTokens: tokens }),
      value: fc.double({ min: 1e-9, max: 1e6, noNaN: true }),
    });
    fc.assert(
      fc.property(fc.array(one, { minLength: 1, maxLength: 12 }), one, (values, other) => {
        const { value, logDeviation } = cellPredictor(values)(other.cell)!;
        expect(value).toBeGreaterThan(0);
        expect(Number.isFinite(value)).toBe(true);
        expect(logDeviation).toBeGreaterThan(0);
        expect(Number.isFinite(logDeviation)).toBe(true);
      }),
    );
  });
});

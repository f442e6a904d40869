import { describe, expect, it } from 'vitest';
import { compileWork } from '../../src/core/work.js';
import { additivityOf, meanCell, mixOf } from '../../src/profiling/mix.js';
import { cell } from './run-builders.js';

describe('a mixture of lengths', () => {
  it('leaves out what cannot be asked: nothing in, nothing out, more than the model takes', () => {
    const requests = [cell(10, 5), cell(0, 5), cell(10, 0), cell(90, 11), cell(90, 10)];
    expect(mixOf({ name: 'log', requests, maxTokens: 100 })).toEqual({
      name: 'log',
      lengths: [cell(10, 5), cell(90, 10)],
      leftOut: 3,
    });
    expect(mixOf({ name: 'log', requests, maxTokens: null }).leftOut).toBe(2);
  });

  it('is filed under its mean lengths', () => {
    expect(meanCell([cell(100, 10), cell(300, 20)])).toEqual(cell(200, 15));
  });
});

describe('the sum of single-cell works', () => {
  // Works 0.25 and 1 replica-second: throughputs 4 and 1.
  const works = compileWork({ indexes: [[10], [100, 200]], tputs: [[4, 1]] }, null);

  it('is 1 / mean work, compared with what was measured', () => {
    const lengths = [cell(100, 10), cell(200, 10)];
    expect(additivityOf({ lengths, works, measuredRps: 1.6 })).toEqual({
      predictedRps: 1.6,
      measuredRps: 1.6,
      relativeError: 0,
      unservableShare: 0,
      extrapolatedShare: 0,
    });
    // A replica that serves less of the mixture than the sum says: planning promises too much.
    expect(additivityOf({ lengths, works, measuredRps: 1.28 }).relativeError).toBeCloseTo(0.25, 12);
  });

  it('says which share lies beyond the profile, and which has no cell within the SLO', () => {
    const partly = compileWork({ indexes: [[10], [100, 200]], tputs: [[4, 0]] }, null);
    const lengths = [cell(100, 10), cell(200, 10), cell(100, 20), cell(100, 10)];
    const result = additivityOf({ lengths, works: partly, measuredRps: 1 });
    expect(result).toMatchObject({ unservableShare: 0.25, extrapolatedShare: 0.25 });
    expect(result.predictedRps).toBeGreaterThan(0);
  });

  it('predicts nothing where nothing can be served, and has no error without a measured rate', () => {
    const nothing = compileWork({ indexes: [[10], [100]], tputs: [[0]] }, null);
    expect(additivityOf({ lengths: [cell(100, 10)], works: nothing, measuredRps: 1 })).toMatchObject({
      predictedRps: null,
      relativeError: null,
    });
    expect(additivityOf({ lengths: [cell(100, 10)], works, measuredRps: 0 }).relativeError).toBeNull();
  });
});

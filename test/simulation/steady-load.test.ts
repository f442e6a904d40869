import { describe, expect, it } from 'vitest';
import type { ReplicaLimits } from '../../src/simulation/replica.js';
import { mostSequences, steadyLoad } from '../../src/simulation/steady-load.js';
import type { StepTimes } from '../../src/simulation/step-time.js';

const limits: ReplicaLimits = { maxSequences: 256, maxBatchedTokens: 8192, maxTokens: 131_072 };

/** 10 ms a step, 0.05 ms a prompt token, 0.1 ms a decoding sequence. */
const stepTimes: StepTimes = {
  kvCacheTokens: 1_000_000,
  stepMs: ({ prefillTokens, decodeSequences }) => 10 + prefillTokens / 20 + decodeSequences / 10,
};

describe('a steady load', () => {
  it('has steps that only decode, and such that also compute a prompt, in the shares that requests need', () => {
    const cell = { inputTokens: 1000, outputTokens: 101 };
    const load = steadyLoad({ stepTimes, limits, cell }, 20)!;
    // 100 decodes of each among 20: five steps a request, of which one also computes its prompt.
    expect(load.decodeStepMs).toBeCloseTo(12, 6);
    expect(load.mixedStepMs).toBeCloseTo(62, 6);
    expect(1 / load.requestsPerMs).toBeCloseTo(62 + 4 * 12, 6);
    // Little: as many decode as their rate times the time that they do.
    expect(load.requestsPerMs * 100 * load.tpotMs).toBeCloseTo(20, 6);
    expect(load).toMatchObject({ decoding: 20, promptsPerMixedStep: 1 });
    expect(load.promptMs).toBeCloseTo(62, 6);
  });

  it('computes a prompt that is longer than a step in several', () => {
    const cell = { inputTokens: 20_000, outputTokens: 1001 };
    const load = steadyLoad({ stepTimes, limits, cell }, 10)!;
    // Three chunks beside 10 decoding sequences.
    expect(load.promptsPerMixedStep).toBeCloseTo(1 / 3, 9);
    expect(load.promptMs).toBeCloseTo(3 * (11 + 20_000 / 3 / 20), 6);
  });

  it('is none where prompts cannot come in as fast as so many sequences end', () => {
    const cell = { inputTokens: 8000, outputTokens: 11 };
    expect(steadyLoad({ stepTimes, limits, cell }, 5)).not.toBeNull();
    expect(steadyLoad({ stepTimes, limits, cell }, 50)).toBeNull();
  });
});

describe('sequences that run at once', () => {
  it('are those whose prompts and half of their outputs fit into the cache, at least one', () => {
    const cell = { inputTokens: 900, outputTokens: 200 };
    const withCache = (kvCacheTokens: number) =>
      mostSequences({ stepTimes: { ...stepTimes, kvCacheTokens }, limits, cell });
    expect(withCache(10_000)).toBe(10);
    expect(withCache(1100)).toBe(1);
    expect(withCache(1099)).toBe(0);
    expect(withCache(1e9)).toBe(256);
  });
});

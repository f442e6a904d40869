import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Answer, type AnswerOptions, settleAnswer } from '../../../src/adapters/engine/answer.js';
import { countTokens } from '../../../src/adapters/engine/tokenizer.js';

const options = (overrides: Partial<AnswerOptions> = {}): AnswerOptions => ({
  seed: 7,
  maxTokens: 50,
  minTokens: 0,
  ignoreEos: true,
  eosRate: 0.05,
  stop: [],
  includeStop: false,
  ...overrides,
});

const textOf = (answer: Answer): string =>
  Array.from({ length: answer.outputTokens }, (_, i) => answer.textAt(i)).join('');

describe('an answer of the simulated engine', () => {
  it('is one word a token, which the tokenizer counts alike', () => {
    const answer = settleAnswer(options());
    expect(answer).toMatchObject({ outputTokens: 50, finishReason: 'length', stopReason: null });
    expect(countTokens(textOf(answer))).toBe(50);
  });

  it('is the same for one seed, and another for another', () => {
    expect(textOf(settleAnswer(options()))).toBe(textOf(settleAnswer(options())));
    expect(textOf(settleAnswer(options({ seed: 8 })))).not.toBe(textOf(settleAnswer(options())));
  });

  it('ends by itself after a geometric number of tokens, its end mark counted and without text', () => {
    const lengths: number[] = [];
    for (let seed = 0; seed < 20_000; seed++) {
      const answer = settleAnswer(options({ seed, ignoreEos: false, maxTokens: 100_000 }));
      lengths.push(answer.outputTokens);
      expect(answer.finishReason).toBe('stop');
      expect(answer.textAt(answer.outputTokens - 1)).toBe('');
    }
    // Geometric with p = 0.05: mean 20, standard deviation 19.5; the mean of 20,000 is within 5 of its own deviations.
    const mean = lengths.reduce((sum, length) => sum + length, 0) / lengths.length;
    expect(Math.abs(mean - 20)).toBeLessThan((5 * 19.5) / Math.sqrt(lengths.length));
    // Half of them are done by the median, 13.5.
    const short = lengths.filter((length) => length <= 13).length / lengths.length;
    expect(short).toBeGreaterThan(1 - 0.95 ** 13 - 0.02);
    expect(short).toBeLessThan(1 - 0.95 ** 13 + 0.02);
  });

  it('obeys minTokens, maxTokens and rates of nothing and all', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1, max: 60 }), fc.nat({ max: 60 }), (seed, maxTokens, min) => {
        const minTokens = Math.min(min, maxTokens);
        const answer = settleAnswer(options({ seed, maxTokens, minTokens, ignoreEos: false, eosRate: 0.2 }));
        expect(answer.outputTokens).toBeLessThanOrEqual(maxTokens);
        expect(answer.outputTokens).toBeGreaterThanOrEqual(Math.min(minTokens + 1, maxTokens));
        expect(countTokens(textOf(answer))).toBe(answer.outputTokens - (answer.finishReason === 'stop' ? 1 : 0));
      }),
    );
    expect(settleAnswer(options({ ignoreEos: false, eosRate: 0 })).outputTokens).toBe(50);
    expect(settleAnswer(options({ ignoreEos: false, eosRate: 1 }))).toMatchObject({
      outputTokens: 1,
      finishReason: 'stop',
    });
    expect(settleAnswer(options({ ignoreEos: false, eosRate: 1, minTokens: 10 })).outputTokens).toBe(11);
  });

  it('ends before the stop string that is complete first, or with it', () => {
    const whole = textOf(settleAnswer(options()));
    const words = whole.trim().split(' ');
    const stop = [`${words[12]!.slice(-2)} ${words[13]!.slice(0, 2)}`, `${words[7]!}`];
    const first = Math.min(...stop.map((one) => whole.indexOf(one) + one.length));
    const by = stop.find((one) => whole.indexOf(one) + one.length === first)!;
    const without = settleAnswer(options({ stop }));
    expect(without).toMatchObject({ finishReason: 'stop', stopReason: by });
    expect(textOf(without)).toBe(whole.slice(0, first - by.length));
    expect(textOf(settleAnswer(options({ stop, includeStop: true })))).toBe(whole.slice(0, first));
  });

  it('produces the token that completes a stop string, and none after, whatever the string', () => {
    fc.assert(
      fc.property(fc.integer(), fc.nat({ max: 200 }), fc.integer({ min: 1, max: 12 }), (seed, from, length) => {
        const whole = textOf(settleAnswer(options({ seed })));
        const by = whole.slice(from, from + length);
        fc.pre(by.length > 0);
        const end = whole.indexOf(by) + by.length;
        const answer = settleAnswer(options({ seed, stop: [by] }));
        // The tokens of the text up to there, cut through the last one or not.
        expect(answer.outputTokens).toBe(countTokens(whole.slice(0, end).replace(/ $/, ' x')));
        expect(textOf(answer)).toBe(whole.slice(0, end - by.length));
      }),
    );
  });

  it('looks for stop strings behind minTokens only', () => {
    const whole = textOf(settleAnswer(options()));
    const stop = [' '];
    expect(settleAnswer(options({ stop })).outputTokens).toBe(1);
    const later = settleAnswer(options({ stop, minTokens: 10 }));
    expect(later.outputTokens).toBe(11);
    expect(whole.startsWith(textOf(later))).toBe(true);
    expect(settleAnswer(options({ stop, minTokens: 50 })).finishReason).toBe('length');
  });
});

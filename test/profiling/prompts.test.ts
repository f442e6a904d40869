import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  assumedPromptLengths,
  findSingleTokenWords,
  fitPromptLengths,
  numberingWords,
  promptSource,
  wordsFor,
} from '../../src/profiling/prompts.js';
import { promptWords } from '../../src/profiling/words.js';

describe('the words of prompts', () => {
  it('are several hundred, small letters only, each once', () => {
    expect(promptWords.length).toBeGreaterThan(500);
    expect(new Set(promptWords).size).toBe(promptWords.length);
    expect(promptWords.filter((word) => !/^[a-z]{2,10}$/.test(word))).toEqual([]);
  });
});

describe('prompts of a run', () => {
  it('begin with three words that no other prompt begins with, so that no block of a prefix cache is found again', () => {
    const source = promptSource({ salt: 11 });
    const beginnings = new Set<string>();
    for (let i = 0; i < 50_000; i++) beginnings.add(source.prompt(i, numberingWords));
    expect(beginnings.size).toBe(50_000);
  });

  it('differ in their first three words for any two numbers, any salt and any list of words', () => {
    fc.assert(
      fc.property(
        fc.integer(),
        fc.integer({ min: 2, max: 40 }),
        fc.nat(2 ** 31 - 1),
        fc.nat(2 ** 31 - 1),
        (salt, size, one, other) => {
          const source = promptSource({ salt, words: promptWords.slice(0, size) });
          fc.pre(one % size ** numberingWords !== other % size ** numberingWords);
          expect(source.prompt(one, 3)).not.toBe(source.prompt(other, 3));
        },
      ),
      { numRuns: 300 },
    );
  });

  it('do not begin alike in two runs of different salt: of 1,000 pairs of prompts none shares 16 words', () => {
    const runs = [promptSource({ salt: 1 }), promptSource({ salt: 2 })];
    const beginnings = runs.flatMap((source) => Array.from({ length: 1000 }, (_, i) => source.prompt(i, 16)));
    expect(new Set(beginnings).size).toBe(2000);
  });

  it('have exactly the words asked for, from the list, and the same ones when asked again', () => {
    fc.assert(
      fc.property(fc.integer(), fc.nat(1e6), fc.integer({ min: 1, max: 300 }), (salt, index, words) => {
        const prompt = promptSource({ salt }).prompt(index, words);
        expect(prompt.split(' ')).toHaveLength(words);
        expect(prompt.split(' ').every((word) => promptWords.includes(word))).toBe(true);
        expect(promptSource({ salt }).prompt(index, words)).toBe(prompt);
      }),
      { numRuns: 50 },
    );
  });
});

describe('what is learnt of how a server counts', () => {
  it('is the line through counted prompts: tokens per word and those of an empty prompt', () => {
    const counted = [8, 64, 160, 700].map((words) => ({ words, tokens: 21 + 1.3 * words }));
    const lengths = fitPromptLengths(counted);
    expect(lengths.tokensPerWord).toBeCloseTo(1.3, 10);
    expect(lengths.overheadTokens).toBeCloseTo(21, 8);
    expect(wordsFor(1024, lengths)).toBe(Math.round((1024 - 21) / 1.3));
  });

  it('keeps the overhead already known where all prompts were of one length', () => {
    const lengths = fitPromptLengths([{ words: 100, tokens: 135 }], { overheadTokens: 5, tokensPerWord: 1 });
    expect(lengths).toEqual({ overheadTokens: 5, tokensPerWord: 1.3 });
  });

  it('is what was known where nothing was counted', () => {
    expect(fitPromptLengths([])).toBe(assumedPromptLengths);
    expect(fitPromptLengths([{ words: 3, tokens: Number.NaN }])).toBe(assumedPromptLengths);
  });

  it('never gives less than one word, whatever a server claims', () => {
    const counts = fc.array(fc.record({ words: fc.nat(1000), tokens: fc.nat(5000) }), { maxLength: 6 });
    fc.assert(
      fc.property(counts, fc.integer({ min: 1, max: 32_768 }), (counted, tokens) => {
        const words = wordsFor(tokens, fitPromptLengths(counted));
        expect(Number.isInteger(words)).toBe(true);
        expect(words).toBeGreaterThanOrEqual(1);
        expect(words).toBeLessThanOrEqual(2 * tokens);
      }),
    );
  });
});

describe('words of one token each', () => {
  /** A tokenizer with a beginning mark, to which some words are two tokens. */
  function tokenizer(long: ReadonlySet<string>) {
    let questions = 0;
    const count = async (text: string) => {
      questions += 1;
      return 1 + text.split(' ').reduce((sum, word) => sum + (long.has(word) ? 2 : 1), 0);
    };
    return { count, questions: () => questions };
  }

  it('are found among others with far fewer questions than words', async () => {
    const long = new Set(promptWords.filter((_, i) => i % 120 === 7));
    const { count, questions } = tokenizer(long);
    const found = await findSingleTokenWords(count);
    expect(found.overheadTokens).toBe(1);
    expect(found.words.length).toBeGreaterThanOrEqual(256);
    expect(new Set(found.words).size).toBe(found.words.length);
    expect(found.words.filter((word) => long.has(word))).toEqual([]);
    expect(questions()).toBeLessThan(60);
  });

  it('are all of them where they are few, and none is taken for one that is not', async () => {
    const words = promptWords.slice(0, 300);
    const long = new Set(words.filter((_, i) => i % 2 === 0));
    const found = await findSingleTokenWords(tokenizer(long).count, words);
    expect(found.words).toEqual(words.filter((word) => !long.has(word)));
  });

  it('are none where every word is two tokens', async () => {
    const { count } = tokenizer(new Set(promptWords));
    expect((await findSingleTokenWords(count)).words).toEqual([]);
  });
});

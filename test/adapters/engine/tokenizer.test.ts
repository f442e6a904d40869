import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { answerWords } from '../../../src/adapters/engine/answer.js';
import {
  beginningToken,
  countChatTokens,
  countTokens,
  detokenize,
  endToken,
  largestToken,
  tokenize,
} from '../../../src/adapters/engine/tokenizer.js';

/** Texts of any kind, halves of surrogate pairs among them, and texts that look like prompts. */
const text = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ unit: fc.constantFrom('a', 'b', 'Z', ' ', '  ', '1', '\n', '.', 'é', '\ud83d', '😀') }),
  fc
    .array(fc.constantFrom(' the', ' Engine', ' deployments', 'HTTP', ' 12345', ', ', '\n\n'), { maxLength: 200 })
    .map((words) => words.join('')),
);

describe('the tokenizer of the simulated engine', () => {
  it.each<[string, readonly string[]]>([
    ['the engine', ['the', ' engine']],
    ['The deployments', ['The', ' deploy', 'ments']],
    ['a HTTP getName', ['a', ' H', 'T', 'T', 'P', ' get', 'Name']],
    ['12345', ['123', '45']],
    [' 12', [' ', '12']],
    ['007 42', ['007', ' ', '42']],
    ['x    y', ['x', '   ', ' y']],
    ['a  ', ['a', '  ']],
    [' '.repeat(20), [' '.repeat(16), ' '.repeat(4)]],
    ['yes, é😀\n', ['yes', ',', ' ', 'é', '😀', '\n']],
    ['', []],
  ])('cuts %j as documented', (whole, pieces) => {
    expect(tokenize(whole).map((id) => detokenize([id]))).toEqual(pieces);
  });

  it('gives back every text', () => {
    fc.assert(fc.property(text, (one) => detokenize(tokenize(one)) === one));
  });

  it('counts what it cuts', () => {
    fc.assert(fc.property(text, (one) => countTokens(one) === tokenize(one).length));
  });

  it('has one id for one piece, in range', () => {
    fc.assert(
      fc.property(text, (one) => {
        for (const id of tokenize(one)) {
          expect(Number.isInteger(id) && id >= 0 && id <= largestToken).toBe(true);
          expect(tokenize(detokenize([id]))).toEqual([id]);
        }
      }),
    );
  });

  it('reads texts that a line end divides one by one', () => {
    fc.assert(
      fc.property(text, text, (a, b) => {
        expect(tokenize(`${a}\n${b}`)).toEqual([...tokenize(a), 10, ...tokenize(b)]);
      }),
    );
  });

  it('never has more tokens for a beginning than for the whole, nor more tokens than characters', () => {
    fc.assert(
      fc.property(text, fc.nat(), (one, cut) => {
        const beginning = one.slice(0, cut % (one.length + 1));
        expect(countTokens(beginning)).toBeLessThanOrEqual(countTokens(one) + 1);
        expect(countTokens(one)).toBeLessThanOrEqual(one.length);
      }),
    );
  });

  it('turns any ids into some text, and special ones into none', () => {
    expect(detokenize([beginningToken, endToken, -1, largestToken + 1, 0.5, Number.NaN])).toBe('');
    fc.assert(fc.property(fc.array(fc.nat({ max: largestToken })), (ids) => typeof detokenize(ids) === 'string'));
    expect(largestToken).toBeLessThan(2 ** 31);
  });

  it('has one token for each word that the engine says, and no word twice', () => {
    expect(new Set(answerWords).size).toBe(answerWords.length);
    expect(answerWords.filter((word) => countTokens(` ${word}`) !== 1 || countTokens(`x ${word}`) !== 2)).toEqual([]);
  });

  it('counts a chat as its contents and what a template adds', () => {
    const bare = countChatTokens([''], { beforeAnswer: false });
    expect(countChatTokens(['hello there'], { beforeAnswer: false })).toBe(bare + 2);
    expect(countChatTokens(['', ''], { beforeAnswer: false })).toBe(2 * bare - 1);
    expect(countChatTokens([''], { beforeAnswer: true })).toBeGreaterThan(bare);
  });

  it('counts long prompts in no time to speak of', () => {
    expect(countTokens(' engine'.repeat(200_000))).toBe(200_000);
    expect(countTokens('x'.repeat(1_200_000))).toBe(200_000);
  });
});

/**
 * The tokenizer of the simulated engine: no real model's, but of the same kind, and the whole of it stands here.
 *
 * A text is cut from the left; at each place the first rule that fits makes one token:
 *
 * 1. up to six letters with the space before them: all small, or a capital and small ones (` engine`, `The`, ` A`);
 * 2. up to three digits;
 * 3. up to sixteen spaces, less the one that belongs to a following word;
 * 4. any one character (Unicode code point).
 *
 * So a short word is one token and a long one two or three (` deploy` + `ments`), a word in capitals one per letter:
 * English runs at about 1.3 tokens a word. Ids are places in a numbering of all such pieces, so that they turn back into
 * text without a table; they are not bounded by the vocabulary of the model that is simulated.
 */

/** Most letters of one token. */
const longestWord = 6;
const longestNumber = 3;
const longestSpaces = 16;

/** Ids 0 … 0x10ffff are characters, then come numbers of two and three digits, runs of spaces, and words. */
const numbersStart = 0x11_0000;
const spacesStart = numbersStart + 100 + 1000;
/** What comes before a prompt, as most models want it. */
export const beginningToken = spacesStart + longestSpaces;
/** What ends an answer. */
export const endToken = beginningToken + 1;
const wordsStart = endToken + 1;

/** Words of 1 … n letters before those of n + 1: 0, 26, 702, … */
const wordsShorterThan: readonly number[] = Array.from({ length: longestWord + 2 }, (_, letters) => {
  let sum = 0;
  for (let n = 1; n < letters; n++) sum += 26 ** n;
  return sum;
});
const wordCount = wordsShorterThan[longestWord + 1]!;

/** Largest id, below 2^31. */
export const largestToken = wordsStart + 4 * wordCount - 1;

const space = 0x20;

function isSmall(code: number): boolean {
  return code >= 0x61 && code <= 0x7a;
}

function isCapital(code: number): boolean {
  return code >= 0x41 && code <= 0x5a;
}

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}

/** Where the token that begins at `at` ends; `at` is before the end of the text. */
function tokenEnd(text: string, at: number): number {
  const code = text.charCodeAt(at);
  let from = at;
  let first = code;
  if (code === space) {
    from = at + 1;
    first = from < text.length ? text.charCodeAt(from) : 0;
  }
  if (isSmall(first) || isCapital(first)) {
    let end = from + 1;
    while (end < text.length && end - from < longestWord && isSmall(text.charCodeAt(end))) end += 1;
    return end;
  }
  if (code === space) {
    let end = at + 1;
    while (end < text.length && end - at < longestSpaces && text.charCodeAt(end) === space) end += 1;
    const next = end < text.length ? text.charCodeAt(end) : 0;
    return isSmall(next) || isCapital(next) ? end - 1 : end;
  }
  if (isDigit(code)) {
    let end = at + 1;
    while (end < text.length && end - at < longestNumber && isDigit(text.charCodeAt(end))) end += 1;
    return end;
  }
  return code >= 0xd800 && code <= 0xdbff && text.codePointAt(at)! > 0xffff ? at + 2 : at + 1;
}

/** Tokens of a text, without special ones. Linear, about a nanosecond a character. */
export function countTokens(text: string): number {
  let tokens = 0;
  for (let at = 0; at < text.length; at = tokenEnd(text, at)) tokens += 1;
  return tokens;
}

/** The ids of a text's tokens, without special ones. */
export function tokenize(text: string): number[] {
  const ids: number[] = [];
  for (let at = 0; at < text.length; ) {
    const end = tokenEnd(text, at);
    ids.push(idOf(text.slice(at, end)));
    at = end;
  }
  return ids;
}

/** The text of token ids; special ones and ids that no text has are nothing. Inverse of `tokenize`. */
export function detokenize(ids: readonly number[]): string {
  return ids.map(textOf).join('');
}

function idOf(piece: string): number {
  const code = piece.codePointAt(0)!;
  const spaced = code === space;
  const letters = spaced ? piece.slice(1) : piece;
  const first = letters.charCodeAt(0);
  if (isSmall(first) || isCapital(first)) {
    let number = 0;
    for (let i = 0; i < letters.length; i++) number = number * 26 + ((letters.charCodeAt(i) | space) - 0x61);
    const form = (spaced ? 2 : 0) + (isCapital(first) ? 1 : 0);
    return wordsStart + form * wordCount + wordsShorterThan[letters.length]! + number;
  }
  if (piece.length === 1 || !(spaced || isDigit(code))) return code;
  if (spaced) return spacesStart + piece.length - 1;
  return numbersStart + (piece.length === 2 ? 0 : 100) + Number(piece);
}

function textOf(id: number): string {
  if (id < 0 || id > largestToken || !Number.isInteger(id)) return '';
  if (id < numbersStart) return String.fromCodePoint(id);
  if (id < numbersStart + 100) return String(id - numbersStart).padStart(2, '0');
  if (id < spacesStart) return String(id - numbersStart - 100).padStart(3, '0');
  if (id < beginningToken) return ' '.repeat(id - spacesStart + 1);
  if (id < wordsStart) return '';
  const form = Math.floor((id - wordsStart) / wordCount);
  const place = (id - wordsStart) % wordCount;
  let length = 1;
  while (place >= wordsShorterThan[length + 1]!) length += 1;
  let number = place - wordsShorterThan[length]!;
  let letters = '';
  for (let i = 0; i < length; i++) {
    letters = String.fromCharCode(0x61 + (number % 26)) + letters;
    number = Math.floor(number / 26);
  }
  if (form % 2 === 1) letters = letters[0]!.toUpperCase() + letters.slice(1);
  return form >= 2 ? ` ${letters}` : letters;
}

/** Tokens that a chat template adds around each message: its role, two marks and a line end. */
const tokensAroundMessage = 4;
/** … and before the answer: the assistant's role and its marks. */
const tokensBeforeAnswer = 3;

/** Prompt tokens of a chat: its contents, what a template adds around each, and before the answer. */
export function countChatTokens(contents: readonly string[], options: { readonly beforeAnswer: boolean }): number {
  let tokens = 1 + (options.beforeAnswer ? tokensBeforeAnswer : 0);
  for (const content of contents) tokens += tokensAroundMessage + countTokens(content);
  return tokens;
}

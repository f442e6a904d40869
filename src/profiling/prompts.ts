import { randomFrom } from './random.js';
import { promptWords } from './words.js';

/**
 * Prompts of a wanted length that share no beginning.
 *
 * A server that keeps the keys and values of prompts it has seen (vLLM in blocks of 16 tokens, SGLang in a tree) skips
 * what it finds again at the beginning of a prompt: one prompt sent a hundred times measures a hundredth of the prefill.
 * So every prompt is drawn anew, word by word, and its first three words say its number: no two prompts of a run begin
 * alike, and a run of another salt has other beginnings too.
 */
export type PromptSource = {
  /**
   * A prompt of so many words, >= 1.
   *
   * @param index which prompt of the run, 0 … 2^31 − 1; the same index and length always give the same prompt
   */
  prompt(index: number, words: number): string;
};

/** Words that tell prompts apart. Three from a list of several hundred number hundreds of millions of prompts. */
export const numberingWords = 3;

/**
 * @param options.salt another salt gives other prompts
 * @param options.words at least two, each once; by default our own list
 */
export function promptSource(options: { readonly salt: number; readonly words?: readonly string[] }): PromptSource {
  const { salt, words: list = promptWords } = options;
  const capacity = list.length ** numberingWords;
  const random = randomFrom(salt);
  const offset = random.whole(Math.min(capacity, 2 ** 32));
  const stride = strideFor(capacity, random.unit());
  // 21 bits of the salt beside 31 of the index, exact in a double: prompts of a run never share their stream of words.
  const stream = random.whole(2 ** 21) * 2 ** 31;
  return {
    prompt: (index, words) => {
      // A permutation of the numbers, so that successive prompts do not begin with neighbours of each other.
      let code = Number((BigInt(index) * BigInt(stride) + BigInt(offset)) % BigInt(capacity));
      const rest = randomFrom(stream + index);
      const chosen: string[] = new Array(words);
      for (let i = 0; i < words; i++) {
        if (i < numberingWords) {
          chosen[i] = list[code % list.length]!;
          code = Math.floor(code / list.length);
        } else chosen[i] = list[rest.whole(list.length)]!;
      }
      return chosen.join(' ');
    },
  };
}

/** A step that visits all numbers below capacity before it repeats: one without a common divisor. */
function strideFor(capacity: number, share: number): number {
  let stride = Math.floor(capacity * (0.2 + 0.6 * share)) | 1;
  while (commonDivisor(stride, capacity) !== 1) stride += 1;
  return stride;
}

function commonDivisor(a: number, b: number): number {
  return b === 0 ? a : commonDivisor(b, a % b);
}

/** How a server counts prompts: tokens = overhead + perWord × words. */
export type PromptLengths = {
  /** Tokens of an empty prompt: beginning of text, chat template. */
  readonly overheadTokens: number;
  readonly tokensPerWord: number;
};

/** Before anything is known of a server: a word is a token. */
export const assumedPromptLengths: PromptLengths = { overheadTokens: 0, tokensPerWord: 1 };

/** A prompt that a server counted. */
export type CountedPrompt = { readonly words: number; readonly tokens: number };

/**
 * Least squares through counted prompts, kept to what can be: at least half a token a word (below, the server counts
 * something else), no negative overhead. With prompts of one length only, the overhead already known is kept and the
 * slope follows; with none, everything known is kept.
 */
export function fitPromptLengths(
  counted: readonly CountedPrompt[],
  known: PromptLengths = assumedPromptLengths,
): PromptLengths {
  const usable = counted.filter(({ words, tokens }) => words > 0 && tokens > 0 && Number.isFinite(tokens));
  if (usable.length === 0) return known;
  const meanWords = usable.reduce((sum, { words }) => sum + words, 0) / usable.length;
  const meanTokens = usable.reduce((sum, { tokens }) => sum + tokens, 0) / usable.length;
  let squares = 0;
  let products = 0;
  for (const { words, tokens } of usable) {
    squares += (words - meanWords) ** 2;
    products += (words - meanWords) * (tokens - meanTokens);
  }
  const slope = squares > 0 ? products / squares : (meanTokens - known.overheadTokens) / meanWords;
  const tokensPerWord = Math.max(leastTokensPerWord, slope);
  const overheadTokens = meanTokens - tokensPerWord * meanWords;
  return overheadTokens >= 0
    ? { tokensPerWord, overheadTokens }
    : { tokensPerWord: Math.max(leastTokensPerWord, meanTokens / meanWords), overheadTokens: 0 };
}

const leastTokensPerWord = 0.5;

/** Words for a prompt of so many tokens: the nearest whole number, at least one. */
export function wordsFor(tokens: number, { overheadTokens, tokensPerWord }: PromptLengths): number {
  return Math.max(1, Math.round((tokens - overheadTokens) / tokensPerWord));
}

/** Words that are looked at as one group, and groups that are asked about at once: a tokenizer may be a network away. */
const groupSize = 16;
const groupsAtOnce = 8;
/** So many words are enough: three of them number sixteen million prompts. */
const enoughWords = 256;

/**
 * Words that are exactly one token each within a prompt, found with few questions: a group whose count says that all are
 * one token is taken whole, another is halved. Prompts of these words have exactly the wanted length.
 *
 * @param countTokens tokens of a text, as the server's tokenizer counts them
 * @returns the words, several hundred where there are, and the tokens that every prompt has beside them
 */
export async function findSingleTokenWords(
  countTokens: (text: string) => Promise<number>,
  list: readonly string[] = promptWords,
): Promise<{ readonly words: readonly string[]; readonly overheadTokens: number }> {
  // Doubling a text adds its words once more, whatever stands around them.
  const probe = list[0]!;
  const once = await countTokens(repeated(probe, 8));
  const twice = await countTokens(repeated(probe, 16));
  const overheadTokens = Math.max(0, 2 * once - twice);
  const search = async (group: readonly string[]): Promise<readonly string[]> => {
    if (group.length === 0 || (await countTokens(group.join(' '))) - overheadTokens === group.length) return group;
    if (group.length === 1) return [];
    const half = group.length >> 1;
    return [...(await search(group.slice(0, half))), ...(await search(group.slice(half)))];
  };
  const words: string[] = [];
  for (let at = 0; at < list.length && words.length < enoughWords; at += groupSize * groupsAtOnce) {
    const groups = Array.from({ length: groupsAtOnce }, (_, i) =>
      list.slice(at + i * groupSize, at + (i + 1) * groupSize),
    );
    words.push(...(await Promise.all(groups.map(search))).flat());
  }
  return { words, overheadTokens };
}

function repeated(word: string, times: number): string {
  return Array.from({ length: times }, () => word).join(' ');
}

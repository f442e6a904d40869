import { chanceOf } from './chance.js';

/**
 * What a simulated engine answers: words from a short list, one token each, and where the answer ends.
 *
 * A real model decides token by token whether it is done; here the whole answer is settled when its request arrives, by
 * seed, so that the replica knows the work and the same seed gives the same answer.
 */
export type Answer = {
  /** Tokens to produce, the end mark included where the answer ends by itself; at least 1. */
  readonly outputTokens: number;
  readonly finishReason: 'stop' | 'length';
  /** The stop string that was met; null for the end mark and for `length`. */
  readonly stopReason: string | null;
  /** Text that comes with the n-th token, from 0; empty for the end mark and for what a stop string cuts off. */
  textAt(index: number): string;
};

export type AnswerOptions = {
  readonly seed: number;
  /** Most tokens, at least 1. */
  readonly maxTokens: number;
  /** Neither the end mark nor a stop string ends the answer before. */
  readonly minTokens: number;
  /** The model never ends by itself. */
  readonly ignoreEos: boolean;
  /** Probability that the model ends its answer with a given token, 0 … 1. */
  readonly eosRate: number;
  readonly stop: readonly string[];
  readonly includeStop: boolean;
};

/** Each is one token with its space, under the engine's tokenizer; no two are alike. */
export const answerWords: readonly string[] = (
  'able about above acid across action active actual after again age agent air all alone along also always amber among ' +
  'anchor angle answer any apart apple april arch area arrow ash ask autumn away axis back badge baker band bank bare ' +
  'barn base basin beach beam bean bell belt bench best better beyond birch bird blank block bloom blue board boat body ' +
  'bold bone book border both bottle bough bow bowl box branch brass bread break brick bridge brief bright bring broad ' +
  'brook brown brush build bulb burn bus button cabin cable cake call calm camp canal candle card care carry cart case ' +
  'cast cause cedar cell center chain chair chalk chance change chart check chest chief city claim class clay clean ' +
  'clear clerk cliff clock cloth cloud coal coast coat code coin cold color column comma common copper coral cord core ' +
  'corn corner cost cotton count course cover craft crane cream crew crisp cross crowd crown cube cup curve cut daily ' +
  'dark data dawn day deal deep degree desert desk detail dial doctor door dot double down dozen draft draw dream drift ' +
  'drive drop dry dust each ear early earth east easy echo edge effect eight elbow elm else empty end energy engine ' +
  'enough entry equal even event ever exact extra fabric face fact fair fall farm fast fern few field figure film final ' +
  'find fine finger fire first fish five flag flame flat fleet floor flour flow fog fold follow forest form forty four ' +
  'frame free fresh from front frost fruit full garden gate gentle give glass globe glue gold good grain grand grass ' +
  'gravel great green grid ground group grow guide half hall hammer hand harbor hard haze head heat hedge height here'
).split(' ');

const spacedWords = answerWords.map((word) => ` ${word}`);

/** Settles an answer. */
export function settleAnswer(options: AnswerOptions): Answer {
  const { seed, maxTokens, minTokens, ignoreEos, eosRate } = options;
  const before = ignoreEos ? Number.POSITIVE_INFINITY : minTokens + tokensBeforeEnd(eosRate, seed);
  const endsItself = before < maxTokens;
  const words = endsItself ? before : maxTokens;
  const word = (index: number): string =>
    index < words ? spacedWords[Math.floor(chanceOf(seed, index) * spacedWords.length)]! : '';
  const stopped = options.stop.length === 0 ? null : meetStop(options, words, word);
  if (stopped !== null) return stopped;
  return {
    outputTokens: endsItself ? before + 1 : maxTokens,
    finishReason: endsItself ? 'stop' : 'length',
    stopReason: null,
    textAt: word,
  };
}

/** Words before the end mark: geometric, as each token ends the answer with the same probability. */
function tokensBeforeEnd(rate: number, seed: number): number {
  if (rate >= 1) return 0;
  if (rate <= 0) return Number.POSITIVE_INFINITY;
  return Math.floor(Math.log1p(-chanceOf(seed, -1)) / Math.log1p(-rate));
}

/** The answer up to the stop string that is complete first; null where none is met. */
function meetStop(
  { stop, minTokens, includeStop }: AnswerOptions,
  words: number,
  word: (index: number) => string,
): Answer | null {
  /** Where the text of each token ends. */
  const ends: number[] = [];
  let text = '';
  for (let i = 0; i < words; i++) {
    text += word(i);
    ends.push(text.length);
  }
  // As in vLLM, text of the first minTokens tokens is not searched.
  const from = minTokens === 0 ? 0 : (ends[Math.min(minTokens, words) - 1] ?? 0);
  let met: { readonly start: number; readonly end: number; readonly by: string } | null = null;
  for (const by of stop) {
    const start = text.indexOf(by, from);
    if (start !== -1 && (met === null || start + by.length < met.end)) met = { start, end: start + by.length, by };
  }
  if (met === null) return null;
  const { end, start, by } = met;
  const last = ends.findIndex((tokenEnd) => tokenEnd >= end);
  const cut = includeStop ? end : start;
  return {
    outputTokens: last + 1,
    finishReason: 'stop',
    stopReason: by,
    textAt: (index) =>
      index > last ? '' : text.slice(index === 0 ? 0 : ends[index - 1]!, Math.min(ends[index]!, cut)),
  };
}

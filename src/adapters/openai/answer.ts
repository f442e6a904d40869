import { StringDecoder } from 'node:string_decoder';
import { createParser } from 'eventsource-parser';
import type { FailureKind } from '../../profiling/measurement.js';

/** What an answer of status 200 said. Times are of the caller's clock. */
export type Answer = {
  /** First chunk with text, reasoning counted as text; null where none came, and without streaming. */
  readonly firstTextSeconds: number | null;
  /** Last chunk with text; null as above. */
  readonly lastTextSeconds: number | null;
  /** Time between a chunk with text and the one before [s]; n − 1 for n chunks. */
  readonly gapsSeconds: readonly number[];
  /** Characters of each chunk with text. */
  readonly chunkCharacters: readonly number[];
  /** Characters of the answer without streaming. */
  readonly characters: number;
  readonly usage: { readonly inputTokens: number; readonly outputTokens: number } | null;
  readonly failure: FailureKind | null;
  readonly failureDetail: string | null;
};

/** Longest event and longest whole answer that are taken in, in characters: a server gone wild must not fill the memory. */
const longestEvent = 4 * 2 ** 20;
const longestAnswer = 64 * 2 ** 20;

/**
 * Reads the body of one answer as it comes: server-sent events, or one JSON document.
 *
 * `feed` every chunk with its time, then `end` once. A stream is over at `[DONE]`, or, where a server sends none, at its
 * end after a `finish_reason`; one that ends before either was `dropped`.
 */
export class AnswerReader {
  readonly #isStream: boolean;
  readonly #decoder = new StringDecoder('utf8');
  readonly #events = createParser({
    onEvent: (event) => this.#readEvent(event.event, event.data),
    onError: ({ type, line }) => {
      // Unknown fields are ignored by the standard; here they mean that this is no event stream.
      if (type !== 'invalid-retry') this.#fail('malformed', `found ${quote(line ?? type)} in the event stream`);
    },
    maxBufferSize: longestEvent,
  });
  readonly #gapsSeconds: number[] = [];
  readonly #chunkCharacters: number[] = [];
  #body = '';
  #nowSeconds = 0;
  #firstTextSeconds: number | null = null;
  #lastTextSeconds: number | null = null;
  #characters = 0;
  #usage: Answer['usage'] = null;
  #isFinished = false;
  #isDone = false;
  #isEnding = false;
  #failure: FailureKind | null = null;
  #failureDetail: string | null = null;

  /** @param options.isStream whether events were asked for and announced */
  constructor(options: { readonly isStream: boolean }) {
    this.#isStream = options.isStream;
  }

  /** @returns whether all is known, so that nothing more need be fed */
  feed(chunk: Buffer, nowSeconds: number): boolean {
    this.#nowSeconds = nowSeconds;
    const text = this.#decoder.write(chunk);
    if (this.#isStream) this.#events.feed(text);
    else if (this.#body.length + text.length > longestAnswer) this.#fail('malformed', 'the answer is too long');
    else this.#body += text;
    return this.#isDone || this.#failure !== null;
  }

  end(nowSeconds: number): Answer {
    this.#nowSeconds = nowSeconds;
    this.#isEnding = true;
    if (this.#failure === null && !this.#isDone) {
      if (this.#isStream) this.#endStream();
      else this.#readWhole();
    }
    return {
      firstTextSeconds: this.#firstTextSeconds,
      lastTextSeconds: this.#lastTextSeconds,
      gapsSeconds: this.#gapsSeconds,
      chunkCharacters: this.#chunkCharacters,
      characters: this.#characters,
      usage: this.#usage,
      failure: this.#failure,
      failureDetail: this.#failureDetail,
    };
  }

  #endStream(): void {
    // A last event without its blank line: some servers end so.
    this.#events.feed('\n\n');
    if (this.#failure === null && !this.#isDone && !this.#isFinished) {
      this.#fail('dropped', 'the stream ended before the answer did');
    }
  }

  #readEvent(name: string | undefined, data: string): void {
    if (this.#isDone || this.#failure !== null) return;
    if (data === '[DONE]') {
      this.#isDone = true;
      return;
    }
    const document = parsed(data);
    if (document === undefined) {
      if (this.#isEnding) this.#fail('dropped', 'the stream ended within an event');
      else this.#fail('malformed', `found ${quote(data)} in the event stream, expected JSON`);
      return;
    }
    if (name === 'error') this.#fail('error_in_stream', errorText(document) ?? quote(data));
    else this.#readDocument(document);
  }

  #readWhole(): void {
    const document = parsed(this.#body);
    if (document === undefined) this.#fail('malformed', `found ${quote(this.#body)}, expected JSON`);
    else this.#readDocument(document);
    if (this.#failure === null && !this.#isFinished && this.#characters === 0 && this.#usage === null) {
      this.#fail('malformed', `found ${quote(this.#body)}, expected choices`);
    }
  }

  #readDocument(document: Fields): void {
    const error = errorText(document);
    if (error !== null) {
      this.#fail('error_in_stream', error);
      return;
    }
    const usage = usageOf(document.usage);
    if (usage !== null) this.#usage = usage;
    if (!Array.isArray(document.choices)) return;
    const choice: unknown = document.choices[0];
    if (!isFields(choice)) return;
    const characters = textLength(choice);
    if (characters > 0) this.#count(characters);
    const reason = choice.finish_reason;
    if (typeof reason !== 'string' || reason === '') return;
    this.#isFinished = true;
    // SGLang and vLLM end a stream they gave up so, with status 200.
    if (reason === 'abort' || reason === 'error') this.#fail('error_in_stream', `finish_reason ${quote(reason)}`);
  }

  #count(characters: number): void {
    this.#characters += characters;
    if (!this.#isStream) return;
    if (this.#lastTextSeconds === null) this.#firstTextSeconds = this.#nowSeconds;
    else this.#gapsSeconds.push(this.#nowSeconds - this.#lastTextSeconds);
    this.#lastTextSeconds = this.#nowSeconds;
    this.#chunkCharacters.push(characters);
  }

  #fail(kind: FailureKind, detail: string): void {
    if (this.#failure !== null) return;
    this.#failure = kind;
    this.#failureDetail = detail;
  }
}

/**
 * The gap before each token after those of the first chunk: a chunk of n tokens gives n gaps of an n-th each.
 *
 * Which chunk held how many tokens is not said by servers: with as many tokens as chunks each held one; more tokens than
 * chunks are spread by their characters (largest remainders), at least one each.
 */
export function tokenGaps(
  answer: Pick<Answer, 'gapsSeconds' | 'chunkCharacters'>,
  outputTokens: number,
): Float32Array | readonly number[] {
  const { gapsSeconds, chunkCharacters } = answer;
  const chunks = chunkCharacters.length;
  if (outputTokens <= chunks || chunks === 0) return Float32Array.from(gapsSeconds);
  const spare = outputTokens - chunks;
  const characters = chunkCharacters.reduce((sum, count) => sum + count, 0);
  const shares = chunkCharacters.map((count) => (spare * count) / characters);
  const tokens = shares.map((share) => 1 + Math.floor(share));
  const left = outputTokens - tokens.reduce((sum, count) => sum + count, 0);
  const byRemainder = shares
    .map((share, i) => ({ i, remainder: share - Math.floor(share) }))
    .sort((a, b) => b.remainder - a.remainder || a.i - b.i);
  for (const { i } of byRemainder.slice(0, left)) tokens[i]! += 1;
  const gaps = new Float32Array(outputTokens - tokens[0]!);
  let at = 0;
  for (let chunk = 1; chunk < chunks; chunk++) {
    gaps.fill(gapsSeconds[chunk - 1]! / tokens[chunk]!, at, at + tokens[chunk]!);
    at += tokens[chunk]!;
  }
  return gaps;
}

type Fields = { readonly [key: string]: unknown };

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parsed(text: string): Fields | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isFields(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** The error of a document that is one: OpenAI's `error`, or the older form of vLLM, `object: 'error'`. */
function errorText(document: Fields): string | null {
  const { error } = document;
  if (isFields(error)) return typeof error.message === 'string' ? error.message : JSON.stringify(error);
  if (typeof error === 'string' && error !== '') return error;
  if (document.object !== 'error') return null;
  return typeof document.message === 'string' ? document.message : 'an error without a message';
}

function usageOf(usage: unknown): Answer['usage'] {
  if (!isFields(usage)) return null;
  const { prompt_tokens: inputTokens, completion_tokens: outputTokens } = usage;
  // Some servers leave out what is 0 of a chunk in progress; half a usage is none.
  return isCount(inputTokens) && isCount(outputTokens) ? { inputTokens, outputTokens } : null;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** Characters of a choice: completion text, chat delta or message; thinking is output like any other. */
function textLength(choice: Fields): number {
  if (typeof choice.text === 'string') return choice.text.length;
  const message = isFields(choice.delta) ? choice.delta : choice.message;
  if (!isFields(message)) return 0;
  const length = (text: unknown) => (typeof text === 'string' ? text.length : 0);
  return length(message.content) + (length(message.reasoning_content) || length(message.reasoning));
}

function quote(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
}

import { z } from 'zod';
import { InputError } from '../../core/input-error.js';
import { check, parseJson } from '../../core/parse.js';
import { hashText } from './chance.js';
import { beginningToken, countChatTokens, countTokens, tokenize } from './tokenizer.js';

/** A request that the engine refuses, as HTTP says it. */
export class Refusal extends Error {
  readonly status: number;
  /** The name of the fault in the error body, `BadRequestError`. */
  readonly type: string;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.status = status;
    this.type = faultTypes[status] ?? 'APIError';
    this.headers = headers;
  }

  /** OpenAI's error body, with the status as code as vLLM gives it. */
  get body(): string {
    return JSON.stringify({ error: { message: this.message, type: this.type, param: null, code: this.status } });
  }
}

const faultTypes: Readonly<Record<number, string>> = {
  400: 'BadRequestError',
  401: 'AuthenticationError',
  404: 'NotFoundError',
  405: 'MethodNotAllowedError',
  408: 'RequestTimeoutError',
  413: 'PayloadTooLargeError',
  417: 'ExpectationFailedError',
  429: 'RateLimitError',
  431: 'HeadersTooLargeError',
  500: 'InternalServerError',
  503: 'ServiceUnavailableError',
};

/** What a completion or chat request asks of the engine, once it is understood. */
export type GenerationRequest = {
  readonly kind: 'completion' | 'chat';
  readonly inputTokens: number;
  /** Of the prompt, so that one prompt can have one answer. */
  readonly promptHash: number;
  readonly maxTokens: number;
  readonly minTokens: number;
  readonly ignoreEos: boolean;
  readonly stop: readonly string[];
  readonly includeStop: boolean;
  readonly stream: boolean;
  readonly usage: 'none' | 'last' | 'every';
  /** Settles the answer where it is given. */
  readonly seed: number | null;
  readonly temperature: number;
};

/** Longest list of stop strings, and longest of them: each is searched for in the whole answer. */
const stopLimits = { strings: 16, characters: 1000 };

const stopString = z.string().min(1).max(stopLimits.characters);
/** AIBrix's benchmark sends 1 for true. */
const flag = z.union([z.boolean(), z.literal(0).transform(() => false), z.literal(1).transform(() => true)]);
const one = z.literal(1, { message: '1: this engine gives one answer a request' }).nullish();
const absent = (what: string) =>
  z
    .union([z.null(), z.literal(false), z.literal(0), z.literal('')], {
      message: `nothing: this engine has no ${what}`,
    })
    .optional();

/**
 * Keys that settle how much is produced and how it is sent. Unknown ones are let through, as vLLM does; sampling
 * parameters change no length and no time, and have no effect on made-up words. Whatever would change the answer's shape
 * is refused.
 */
const common = {
  model: z.string().max(1000).nullish(),
  min_tokens: z.int().min(0).nullish(),
  ignore_eos: flag.nullish(),
  stop: z.union([stopString, z.array(stopString).max(stopLimits.strings)]).nullish(),
  include_stop_str_in_output: flag.nullish(),
  stream: flag.nullish(),
  stream_options: z.looseObject({ include_usage: flag.nullish(), continuous_usage_stats: flag.nullish() }).nullish(),
  temperature: z.number().min(0).nullish(),
  seed: z.int().nullish(),
  n: one,
  best_of: one,
  use_beam_search: absent('beam search'),
  echo: absent('echo of prompts'),
  suffix: absent('text after the answer'),
  prompt_logprobs: absent('log probabilities'),
  top_logprobs: absent('log probabilities'),
};

const tokenIds = z.custom<readonly number[]>(
  (value) =>
    Array.isArray(value) &&
    value.every((id) => Number.isInteger(id) && (id as number) >= 0 && (id as number) < 2 ** 31),
  { message: 'an array of token ids' },
);

const completionSchema = z.looseObject({
  ...common,
  prompt: z.union([z.string(), z.array(z.unknown())], { message: 'a text, or an array of token ids' }),
  max_tokens: z.int().min(1).nullish(),
  logprobs: z.null({ message: 'nothing: this engine has no log probabilities' }).optional(),
});

const contentSchema = z
  .union([
    z.string(),
    z.array(
      z.looseObject({ type: z.literal('text', { message: 'text: this engine sees no pictures' }), text: z.string() }),
    ),
  ])
  .nullish();

const messagesSchema = z.array(z.looseObject({ role: z.string(), content: contentSchema })).min(1);

const chatSchema = z.looseObject({
  ...common,
  messages: messagesSchema,
  max_tokens: z.int().min(1).nullish(),
  max_completion_tokens: z.int().min(1).nullish(),
  logprobs: absent('log probabilities'),
  tools: z.array(z.unknown()).max(0, { message: 'nothing: this engine calls no tools' }).nullish(),
  response_format: z
    .looseObject({ type: z.literal('text', { message: 'text: the words of this engine are made up' }) })
    .nullish(),
});

/** What the engine's model can take. */
export type ModelLimits = {
  readonly modelName: string;
  /** Longest request, input + output. */
  readonly maxModelTokens: number;
};

/** Where max_tokens is not given: OpenAI's and vLLM's default of completions. Chats run to the context's end. */
const defaultCompletionTokens = 16;

/**
 * Reads the body of POST /v1/completions.
 *
 * @throws Refusal 400 for a body that is wrong or too long for the model, 404 for another model
 */
export function readCompletion(body: string, limits: ModelLimits): GenerationRequest {
  const request = parsed(completionSchema, body);
  refuseOtherModel(request.model, limits);
  const prompt = promptOf(request.prompt);
  return settle('completion', { request, prompt, maxTokens: request.max_tokens ?? defaultCompletionTokens }, limits);
}

/** Reads the body of POST /v1/chat/completions. @throws Refusal as readCompletion */
export function readChat(body: string, limits: ModelLimits): GenerationRequest {
  const request = parsed(chatSchema, body);
  refuseOtherModel(request.model, limits);
  const contents = request.messages.map(({ content }) => textOfContent(content));
  const tokens = countChatTokens(contents, { beforeAnswer: true });
  const prompt = { tokens, hash: contents.reduce((hash, content) => hashText(content, hash), 0) };
  const maxTokens = request.max_completion_tokens ?? request.max_tokens ?? Math.max(1, limits.maxModelTokens - tokens);
  return settle('chat', { request, prompt, maxTokens }, limits);
}

type Prompt = { readonly tokens: number; readonly hash: number };

type CommonKeys = z.output<z.ZodObject<typeof common>>;

function settle(
  kind: GenerationRequest['kind'],
  { request, prompt, maxTokens }: { readonly request: CommonKeys; readonly prompt: Prompt; readonly maxTokens: number },
  { maxModelTokens }: ModelLimits,
): GenerationRequest {
  const minTokens = request.min_tokens ?? 0;
  if (minTokens > maxTokens) refuse(`min_tokens: found ${minTokens}, expected at most max_tokens, ${maxTokens}`);
  if (prompt.tokens === 0) refuse('prompt: found nothing, expected at least one token');
  if (prompt.tokens + maxTokens > maxModelTokens) {
    // Clients look for the first sentence: it is OpenAI's, vLLM's and everybody's.
    refuse(
      `This model's maximum context length is ${maxModelTokens} tokens. Found a prompt of ${prompt.tokens} tokens and ` +
        `${maxTokens} to produce, expected at most ${maxModelTokens} together`,
    );
  }
  const stream = request.stream ?? false;
  const options = request.stream_options;
  if (!stream && options !== undefined && options !== null) {
    refuse('stream_options: found options, expected none without "stream": true');
  }
  const stop = request.stop ?? [];
  return {
    kind,
    inputTokens: prompt.tokens,
    promptHash: prompt.hash,
    maxTokens,
    minTokens,
    ignoreEos: request.ignore_eos ?? false,
    stop: typeof stop === 'string' ? [stop] : stop,
    includeStop: request.include_stop_str_in_output ?? false,
    stream,
    usage: options?.continuous_usage_stats ? 'every' : options?.include_usage ? 'last' : 'none',
    seed: request.seed ?? null,
    temperature: request.temperature ?? 1,
  };
}

function promptOf(prompt: string | readonly unknown[]): Prompt {
  if (typeof prompt === 'string') return { tokens: 1 + countTokens(prompt), hash: hashText(prompt) };
  const [first] = prompt;
  if (prompt.length === 1 && (typeof first === 'string' || Array.isArray(first))) return promptOf(first);
  if (typeof first === 'string' || Array.isArray(first)) {
    refuse(`prompt: found ${prompt.length} prompts, expected one: this engine gives one answer a request`);
  }
  const ids = checked(tokenIds, prompt, 'body: prompt');
  return { tokens: ids.length, hash: ids.reduce((hash, id) => Math.imul(hash ^ id, 0x01000193) >>> 0, 0x811c9dc5) };
}

const tokenizeSchema = z
  .looseObject({
    model: z.string().max(1000).nullish(),
    prompt: z.string().optional(),
    messages: messagesSchema.optional(),
    add_special_tokens: flag.nullish(),
    add_generation_prompt: flag.nullish(),
    return_token_strs: absent('token texts: /detokenize has them'),
  })
  .refine(({ prompt, messages }) => (prompt === undefined) !== (messages === undefined), {
    message: 'either prompt or messages',
  });

/** The answer of vLLM's POST /tokenize. @throws Refusal as readCompletion */
export function answerTokenize(body: string, limits: ModelLimits): object {
  const request = parsed(tokenizeSchema, body);
  refuseOtherModel(request.model, limits);
  const max_model_len = limits.maxModelTokens;
  if (request.messages !== undefined) {
    const contents = request.messages.map(({ content }) => textOfContent(content));
    const count = countChatTokens(contents, { beforeAnswer: request.add_generation_prompt ?? true });
    // What a template adds has no text here: its tokens stand as the one special token there is.
    const words = contents.flatMap((content) => tokenize(content));
    const tokens = [...Array.from({ length: count - words.length }, () => beginningToken), ...words];
    return { count, max_model_len, tokens, token_strs: null };
  }
  const special = (request.add_special_tokens ?? true) ? [beginningToken] : [];
  const tokens = [...special, ...tokenize(request.prompt ?? '')];
  return { count: tokens.length, max_model_len, tokens, token_strs: null };
}

const detokenizeSchema = z.looseObject({ model: z.string().max(1000).nullish(), tokens: tokenIds });

/** The token ids of POST /detokenize. @throws Refusal as readCompletion */
export function readDetokenize(body: string, limits: ModelLimits): readonly number[] {
  const request = parsed(detokenizeSchema, body);
  refuseOtherModel(request.model, limits);
  return request.tokens;
}

function textOfContent(content: z.output<typeof contentSchema>): string {
  if (content === null || content === undefined) return '';
  return typeof content === 'string' ? content : content.map(({ text }) => text).join('\n');
}

function refuseOtherModel(model: string | null | undefined, { modelName }: ModelLimits): void {
  if (model === undefined || model === null || model === modelName) return;
  throw new Refusal(404, `The model \`${model}\` does not exist.`);
}

function refuse(message: string): never {
  throw new Refusal(400, message);
}

function parsed<Schema extends z.ZodType>(schema: Schema, body: string): z.output<Schema> {
  return refusing(() => check(schema, parseJson(body, 'body'), 'body'));
}

function checked<Schema extends z.ZodType>(schema: Schema, value: unknown, source: string): z.output<Schema> {
  return refusing(() => check(schema, value, source));
}

/** Bad input of a request is 400, with what a person would be told on a command line. */
function refusing<Result>(read: () => Result): Result {
  try {
    return read();
  } catch (error) {
    if (error instanceof InputError) throw new Refusal(400, error.message);
    throw error;
  }
}

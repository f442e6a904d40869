import { InputError, type InputIssue, quoteInput } from '../../core/input-error.js';
import { nearestName } from '../../core/parse.js';
import { Unavailable } from '../../core/ports.js';
import { type CountedPrompt, findSingleTokenWords, type PromptSource, promptSource } from '../../profiling/prompts.js';
import { promptWords } from '../../profiling/words.js';
import { RequestFailed } from '../bounded-request.js';
import type { Exchange } from './exchange.js';
import { OpenAiServer } from './server.js';
import { type ExtraField, extraFields, type OpenAiTarget } from './target.js';

/**
 * Finds out, with a few small requests, whether a server can be measured and how to ask it: is it there, does it take the
 * key, has it the model, which fields beyond OpenAI's own does it accept, does it stream, does it count tokens, and how
 * many tokens are a word.
 *
 * What is missing but leaves something to measure is a sentence in `warnings`.
 *
 * @returns a server to run load on, and to `close`
 * @throws Unavailable where nothing answers, or only that it cannot now; InputError where there is nothing to measure;
 *   AbortError by the signal
 */
export async function probe(
  target: OpenAiTarget,
  options: { readonly signal?: AbortSignal; readonly promptSalt: number },
): Promise<OpenAiServer> {
  const server = new OpenAiServer(target);
  try {
    const { signal } = options;
    await checkModel(server, signal);
    const prompts = promptSource({ salt: options.promptSalt });
    const first = await findShape(server, { prompts, signal });
    noteAnswer(server, first);
    await learnLengths(server, { prompts, signal, first });
    return server;
  } catch (error) {
    await server.close();
    throw error;
  }
}

/** Words and tokens of the first request: enough for a chunk after the first, cheap on any server. */
const firstWords = 8;
const firstTokens = 4;

function refuse(server: OpenAiServer, issue: InputIssue): never {
  throw refusal(server, issue);
}

/** For what may go well a minute later, with the same flags. */
function giveUp(server: OpenAiServer, issue: InputIssue): never {
  throw new Unavailable('server_unreachable', refusal(server, issue).message);
}

function refusal(server: OpenAiServer, issue: InputIssue): InputError {
  return new InputError(server.address.name, [{ ...issue, found: server.shown(issue.found) }]);
}

async function checkModel(server: OpenAiServer, signal: AbortSignal | undefined): Promise<void> {
  const { target, address } = server;
  const path = `${address.apiPath}/models`;
  let answer: Awaited<ReturnType<OpenAiServer['question']>>;
  try {
    answer = await server.question({ method: 'GET', path, ...(signal === undefined ? {} : { signal }) });
  } catch (error) {
    if (!(error instanceof RequestFailed)) throw error;
    return giveUp(server, { place: '', found: error.message, expected: 'a running OpenAI-compatible server' });
  }
  const { status, document } = answer;
  refuseStatus(server, status, path);
  const models = modelNames(document);
  if (models === null) {
    server.warnings.push(
      `${path} lists no models (status ${status}): whether ${target.model} is there shows only in use`,
    );
    return;
  }
  const entry = models.find(({ name }) => name === target.model || name === `${target.model}:latest`);
  if (entry === undefined) {
    const names = models.map(({ name }) => name);
    const suggestion = nearestName(target.model, names);
    const listed = names.slice(0, 8).join(', ') + (names.length > 8 ? `, … (${names.length})` : '');
    refuse(server, {
      place: 'model',
      found: quoteInput(target.model),
      expected: names.length === 0 ? 'a model, but the server has none' : `one of ${listed}`,
      ...(suggestion === undefined ? {} : { suggestion }),
    });
  }
  server.abilities = { ...server.abilities, maxModelTokens: entry.maxModelTokens };
}

/** Statuses that no other request would fare better with. */
function refuseStatus(server: OpenAiServer, status: number, path: string): void {
  if (status === 401 || status === 403) {
    const found = `status ${status} ${server.target.apiKey === null ? 'without an API key' : 'with the API key given'}`;
    refuse(server, { place: path, found, expected: 'an API key that the server takes' });
  }
  if (status === 429 || status >= 500) {
    giveUp(server, { place: path, found: `status ${status}`, expected: 'a server that is ready (status 200)' });
  }
  if (status >= 300 && status < 400) {
    refuse(server, {
      place: path,
      found: `status ${status}, a redirect`,
      expected: 'the server itself (redirects are not followed: give the URL that it leads to)',
    });
  }
}

/** Models of a `/v1/models` document; null where it is none. `max_model_len` is vLLM's. */
function modelNames(
  document: unknown,
): readonly { readonly name: string; readonly maxModelTokens: number | null }[] | null {
  const list: unknown = (document as { data?: unknown } | null)?.data;
  if (!Array.isArray(list)) return null;
  return (list as unknown[]).flatMap((entry) => {
    const { id, max_model_len: longest } = (entry ?? {}) as { id?: unknown; max_model_len?: unknown };
    if (typeof id !== 'string') return [];
    return [{ name: id, maxModelTokens: Number.isInteger(longest) ? (longest as number) : null }];
  });
}

type Asking = { readonly prompts: PromptSource; readonly signal: AbortSignal | undefined };

/** Sends first requests until one is taken, each without the fields that the server refused. */
async function findShape(server: OpenAiServer, { prompts, signal }: Asking): Promise<Exchange> {
  const refused: ExtraField[] = [];
  let index = 0;
  const attempt = async (): Promise<Exchange> => {
    const prompt = prompts.prompt(index++, firstWords);
    const exchange = await server.ask({ prompt, outputTokens: firstTokens }, signal);
    signal?.throwIfAborted();
    return exchange;
  };
  const shapeWith = (change: Partial<OpenAiServer['abilities']['shape']>) => {
    server.abilities = { ...server.abilities, shape: { ...server.abilities.shape, ...change } };
  };
  const without = (fields: readonly ExtraField[]) =>
    shapeWith({ extras: extraFields.filter((field) => !fields.includes(field)) });
  let exchange = await attempt();
  let mayDropAll = true;
  while (isRefusal(exchange)) {
    const detail = exchange.failureDetail ?? '';
    const { extras, lengthField } = server.abilities.shape;
    const named = extras.filter((field) => detail.includes(field));
    if (named.length > 0) {
      refused.push(...named);
      without(refused);
    } else if (lengthField === 'max_tokens' && detail.includes('max_completion_tokens')) {
      shapeWith({ lengthField: 'max_completion_tokens' });
    } else if (extras.length > 0 && mayDropAll) {
      mayDropAll = false;
      // It did not say which: without any, then with each alone.
      without(extraFields);
      const bare = await attempt();
      if (isRefusal(bare)) {
        exchange = bare;
        break;
      }
      for (const field of extras) {
        without(extraFields.filter((other) => other !== field));
        if (isRefusal(await attempt())) refused.push(field);
      }
      without(refused);
    } else break;
    exchange = await attempt();
  }
  noteRefused(server, refused);
  if (exchange.failure === 'malformed' && server.abilities.shape.streaming && (exchange.answer?.characters ?? 0) > 0) {
    shapeWith({ streaming: false });
    server.warnings.push('the server does not stream: TTFT, TPOT and ITL cannot be measured');
    exchange = await attempt();
  }
  if (exchange.failure !== null) refuseExchange(server, exchange);
  return exchange;
}

/** 400 and 422 are how servers say that they do not know a field. */
function isRefusal({ status }: Exchange): boolean {
  return status === 400 || status === 422;
}

function noteRefused(server: OpenAiServer, refused: readonly ExtraField[]): void {
  if (refused.includes('ignore_eos') || refused.includes('min_tokens')) {
    const names = refused.filter((field) => field !== 'stream_options').join(' and ');
    server.warnings.push(`the server refuses ${names}: answers may end before the wanted length`);
  }
  if (refused.includes('stream_options')) {
    server.warnings.push('the server refuses stream_options: it may not count tokens of streams');
  }
}

function refuseExchange(server: OpenAiServer, exchange: Exchange): never {
  const { target, address } = server;
  const path = `${address.apiPath}/${target.api === 'chat' ? 'chat/completions' : 'completions'}`;
  const { status, failure, failureDetail } = exchange;
  if (status !== null) refuseStatus(server, status, path);
  const other = target.api === 'chat' ? 'completions' : 'chat';
  // Without a status nothing came, or not in time.
  const issue = {
    place: path,
    found: `${failureDetail ?? failure}`,
    expected: status === 404 ? `an answer (does this server speak the ${other} API instead?)` : 'an answer with text',
  };
  return status === null ? giveUp(server, issue) : refuse(server, issue);
}

function noteAnswer(server: OpenAiServer, { answer }: Exchange): void {
  if (answer?.usage != null) return;
  server.abilities = { ...server.abilities, hasUsage: false };
  server.warnings.push(
    server.abilities.shape.streaming
      ? 'the server sends no usage: produced tokens are counted as chunks of the stream, prompt tokens are assumed'
      : 'the server sends no usage and does not stream: token counts are those that were asked for',
  );
}

/** Lengths of prompts that show how tokens grow with words. */
const learningWords = [64, 160] as const;
/** Fewer words than this would make prompts too alike. */
const fewestWords = 64;

async function learnLengths(
  server: OpenAiServer,
  { prompts, signal, first }: Asking & { readonly first: Exchange },
): Promise<void> {
  const ask = async (prompt: string): Promise<number | null> => {
    const { answer } = await server.ask({ prompt, outputTokens: 1 }, signal);
    signal?.throwIfAborted();
    return answer?.usage?.inputTokens ?? null;
  };
  const countTokens = await findTokenizer(server, signal);
  if (countTokens !== null && (await useExactWords(server, { countTokens, ask }))) return;
  const counted: CountedPrompt[] = [];
  if (first.answer?.usage != null) counted.push({ words: firstWords, tokens: first.answer.usage.inputTokens });
  if (counted.length > 0) {
    for (const words of learningWords) {
      const tokens = await ask(prompts.prompt(1000 + words, words));
      if (tokens !== null) counted.push({ words, tokens });
    }
  }
  server.learnLengths(counted);
}

async function useExactWords(
  server: OpenAiServer,
  how: {
    readonly countTokens: (text: string) => Promise<number>;
    readonly ask: (prompt: string) => Promise<number | null>;
  },
): Promise<boolean> {
  let found: Awaited<ReturnType<typeof findSingleTokenWords>>;
  try {
    found = await findSingleTokenWords(how.countTokens);
  } catch (error) {
    if (!(error instanceof NoCount)) throw error;
    return false;
  }
  if (found.words.length < fewestWords) return false;
  // What the server counts in use is what matters: a chat template adds its own.
  const sample = found.words.slice(0, 32);
  const tokens = await how.ask(sample.join(' '));
  const overheadTokens = tokens === null ? found.overheadTokens : tokens - sample.length;
  if (overheadTokens < 0) return false;
  server.abilities = { ...server.abilities, words: found.words, hasExactLengths: true };
  server.setExactLengths(overheadTokens);
  return true;
}

/** The tokenizer stopped answering. */
class NoCount extends Error {}

/** The two forms of /tokenize: vLLM and SGLang take `prompt` and say `count`, llama.cpp takes `content`. */
const tokenizeForms = [
  (server: OpenAiServer, text: string) => ({ model: server.target.model, prompt: text }),
  (_server: OpenAiServer, text: string) => ({ content: text }),
] as const;

/** Asks for /tokenize in its forms. @returns null where the server has none */
async function findTokenizer(
  server: OpenAiServer,
  signal: AbortSignal | undefined,
): Promise<((text: string) => Promise<number>) | null> {
  const path = `${server.address.rootPath}/tokenize`;
  for (const form of tokenizeForms) {
    const count = async (text: string): Promise<number> => {
      try {
        const options = {
          method: 'POST',
          path,
          body: form(server, text),
          ...(signal === undefined ? {} : { signal }),
        } as const;
        const { status, document } = await server.question(options);
        const tokens = status === 200 ? tokenCount(document) : null;
        if (tokens !== null) return tokens;
      } catch (error) {
        if (!(error instanceof RequestFailed)) throw error;
      }
      throw new NoCount();
    };
    try {
      // llama.cpp answers any body, one without `content` with no tokens.
      if ((await count(promptWords.slice(0, 4).join(' '))) >= 4) return count;
    } catch (error) {
      if (!(error instanceof NoCount)) throw error;
    }
  }
  return null;
}

function tokenCount(document: unknown): number | null {
  const { count, tokens } = (document ?? {}) as { count?: unknown; tokens?: unknown };
  if (Number.isSafeInteger(count)) return count as number;
  return Array.isArray(tokens) ? tokens.length : null;
}

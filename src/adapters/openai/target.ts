import { InputError, quoteInput } from '../../core/input-error.js';

/** A server that speaks OpenAI's interface, and how to ask it. */
export type OpenAiTarget = {
  /** `http://host:8000`, with or without `/v1` at the end. */
  readonly baseUrl: string;
  /** As the server names it. */
  readonly model: string;
  readonly apiKey: string | null;
  /** `completions` measures the model alone; `chat` adds the template's tokens, whose beginning all prompts share. */
  readonly api: 'completions' | 'chat';
  /** Without it, times to first token and per token are not known. */
  readonly streaming: boolean;
  readonly temperature: number;
  /** Most seconds one request may take. */
  readonly timeoutSeconds: number;
  /** Most requests at once, one connection each: a bound on file descriptors. */
  readonly maxInFlight: number;
};

/** What a target is where nothing is said. */
export const targetDefaults = {
  apiKey: null,
  api: 'completions',
  streaming: true,
  temperature: 0,
  // Long enough for 4,096 tokens at 10 tokens/s behind a queue as long again.
  timeoutSeconds: 900,
  maxInFlight: 4096,
} as const satisfies Partial<OpenAiTarget>;

/** Where a server's routes are. */
export type ServerAddress = {
  /** Scheme, host and port. */
  readonly origin: string;
  /** Path before `/completions`: usually `/v1`. */
  readonly apiPath: string;
  /** Path before `/tokenize`, which servers keep outside of `/v1`. */
  readonly rootPath: string;
  /** For messages. */
  readonly name: string;
};

/**
 * Reads a base URL.
 *
 * @throws InputError for what is no http or https URL, and for one with a user name and password (they would end up in
 *   messages and in process lists; a key has its own place)
 */
export function readAddress(baseUrl: string): ServerAddress {
  const reject = (found: string, expected: string): never => {
    throw new InputError('base URL', [{ place: '', found, expected }]);
  };
  const parsed = URL.canParse(baseUrl) ? new URL(baseUrl) : reject(quoteInput(baseUrl), 'a URL: http://host:8000');
  if (parsed.username !== '' || parsed.password !== '') {
    reject('a URL with a user name or password', 'a URL without (the API key is given apart)');
  }
  if (parsed.protocol !== 'http:' && parsed.protocol !== 'https:') {
    reject(quoteInput(baseUrl), 'a URL of http or https: http://host:8000');
  }
  if (parsed.search !== '' || parsed.hash !== '') reject(quoteInput(baseUrl), 'a URL without ? and #');
  const path = parsed.pathname.replace(/\/+$/, '');
  const rootPath = path.replace(/\/v1$/, '');
  return { origin: parsed.origin, apiPath: `${rootPath}/v1`, rootPath, name: `${parsed.origin}${rootPath}` };
}

/** @throws InputError for what cannot stand in a header */
export function checkApiKey(apiKey: string | null): string | null {
  if (apiKey === null || /^[\x21-\x7e]+$/.test(apiKey)) return apiKey;
  // The key itself is not repeated.
  const found = apiKey === '' ? 'an empty text' : 'characters that cannot stand in a header (a space, a line end?)';
  throw new InputError('API key', [{ place: '', found, expected: 'printable ASCII without spaces' }]);
}

/** Fields beyond what every server must take. A server that refuses one is asked without it. */
export const extraFields = ['ignore_eos', 'min_tokens', 'stream_options'] as const;
export type ExtraField = (typeof extraFields)[number];

/** What the probe learnt of how to ask. */
export type RequestShape = {
  readonly extras: readonly ExtraField[];
  /** Newer models of OpenAI take another name. */
  readonly lengthField: 'max_tokens' | 'max_completion_tokens';
  readonly streaming: boolean;
};

/** The body of one request, as JSON. */
export function requestBody(
  target: Pick<OpenAiTarget, 'api' | 'model' | 'temperature'>,
  shape: RequestShape,
  request: { readonly prompt: string; readonly outputTokens: number },
): string {
  const { extras, lengthField, streaming } = shape;
  return JSON.stringify({
    model: target.model,
    ...(target.api === 'chat' ? { messages: [{ role: 'user', content: request.prompt }] } : { prompt: request.prompt }),
    [lengthField]: request.outputTokens,
    temperature: target.temperature,
    stream: streaming,
    // Runs are of a stated output length: the model must neither end early …
    ...(extras.includes('ignore_eos') ? { ignore_eos: true } : {}),
    ...(extras.includes('min_tokens') ? { min_tokens: request.outputTokens } : {}),
    // … nor may its tokens go uncounted.
    ...(streaming && extras.includes('stream_options') ? { stream_options: { include_usage: true } } : {}),
  });
}

import { InputError, quoteInput } from '../../core/input-error.js';
import { certificatesOf } from '../tls-files.js';
import { type ApiClient, ApiError, messageOf } from './api-client.js';
import { record, textOf } from './wire.js';

/**
 * How an aggregated API server knows the API server that asks it, and for whom that asks: the ConfigMap
 * `extension-apiserver-authentication` of `kube-system`, which every cluster keeps for this.
 *
 * It is read again every minute and not watched: the Role that Kubernetes ships for it grants this one object by its name,
 * and an authority of front proxies is replaced in days.
 */

export type RequestHeaderAuthentication = {
  /** PEM of the authorities of front proxies. */
  readonly clientCa: string;
  /** Common names that their certificates may have; empty = any. */
  readonly allowedNames: readonly string[];
  /** Headers that name the user, lower-case; the first that is there counts. */
  readonly usernameHeaders: readonly string[];
};

const configMapPath = '/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication';

/** How often the ConfigMap is read again, and where it could not be read [ms]. */
export const rereadMs = 60_000;
export const retryMs = 5_000;

/** For one reading [ms]. */
const defaultAnswerTimeoutMs = 5_000;

/** @throws InputError that names the key of the ConfigMap */
export function parseRequestHeaderAuthentication(configMap: unknown): RequestHeaderAuthentication {
  const data = record(record(configMap).data);
  const clientCa = textOf(data, 'requestheader-client-ca-file') ?? '';
  if (certificatesOf(clientCa).length === 0) {
    const found = clientCa === '' ? 'nothing' : 'no certificate in PEM';
    throw refused(
      'requestheader-client-ca-file',
      found,
      'authorities in PEM (an API server with aggregation switched on)',
    );
  }
  return {
    clientCa,
    allowedNames: namesOf(data, 'requestheader-allowed-names'),
    usernameHeaders: namesOf(data, 'requestheader-username-headers', ['X-Remote-User']).map((name) =>
      name.toLowerCase(),
    ),
  };
}

/** A list of texts, as JSON inside the text of a ConfigMap. */
function namesOf(
  data: Readonly<Record<string, unknown>>,
  key: string,
  fallback: readonly string[] = [],
): readonly string[] {
  const text = textOf(data, key) ?? '';
  if (text === '') return fallback;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = undefined;
  }
  // Taken as "any name" or "no header", a list that cannot be read would let in whom it was to keep out.
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string')) {
    throw refused(key, quoteInput(text), 'a JSON array of texts');
  }
  return value.length === 0 ? fallback : (value as string[]);
}

function refused(key: string, found: string, expected: string): InputError {
  return new InputError('ConfigMap kube-system/extension-apiserver-authentication', [{ place: key, found, expected }]);
}

export type RequestHeaderSourceOptions = {
  readonly api: ApiClient;
  /** For one reading [ms]. */
  readonly answerTimeoutMs?: number;
  /** Calls back once after a delay [ms]; the result cancels it. */
  readonly timer: (delayMs: number, callback: () => void) => () => void;
  readonly log: { info(fields: object, message: string): void; warn(fields: object, message: string): void };
  /** Called with what was read, where it differs from before. */
  readonly onChange: (read: RequestHeaderAuthentication) => void;
};

/** Follows the ConfigMap until the returned function is called. What cannot be read leaves what was read before. */
export function followRequestHeaderAuthentication(options: RequestHeaderSourceOptions): () => void {
  const { api, timer, log, onChange, answerTimeoutMs = defaultAnswerTimeoutMs } = options;
  const stopping = new AbortController();
  let known = '';
  let problem: string | null = null;
  let cancel = () => {};
  const look = async (): Promise<void> => {
    let waitMs = rereadMs;
    try {
      const document = await api.send({
        method: 'GET',
        path: configMapPath,
        query: {},
        body: null,
        contentType: null,
        answerTimeoutMs,
        signal: stopping.signal,
      });
      const read = parseRequestHeaderAuthentication(document);
      const text = JSON.stringify(read);
      if (stopping.signal.aborted) return;
      if (text !== known) onChange(read);
      if (text !== known || problem !== null)
        log.info({ input: 'front-proxy' }, 'the authority of front proxies was read');
      known = text;
      problem = null;
    } catch (error) {
      if (stopping.signal.aborted) return;
      waitMs = retryMs;
      const hint =
        error instanceof ApiError && error.status === 403
          ? ' (needs the Role extension-apiserver-authentication-reader of kube-system)'
          : '';
      const text = `${error instanceof InputError ? '' : `GET ${api.server}${configMapPath}: `}${messageOf(error)}${hint}`;
      if (text !== problem) log.warn({ input: 'front-proxy' }, text);
      problem = text;
    }
    cancel = timer(waitMs, () => void look());
  };
  void look();
  return () => {
    stopping.abort();
    cancel();
  };
}

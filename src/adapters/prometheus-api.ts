import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { InputError } from '../core/input-error.js';
import { check, parseJson } from '../core/parse.js';
import { Unavailable } from '../core/ports.js';
import { createAgent, RequestFailed, readBounded, shownUrl } from './bounded-request.js';

/** The HTTP API of a Prometheus server (or Thanos, Mimir, VictoriaMetrics), as far as gpumix asks it. */

export type PrometheusAccess = {
  /** Of the server; `/api/v1/query` is added. */
  readonly url: string;
  /** File with a token that is sent as `Authorization: Bearer`; read anew for each query, since tokens are renewed. */
  readonly bearerTokenFile: string | null;
  /** PEM text of the authority to trust, instead of the system's. */
  readonly ca: string | null;
  readonly timeoutMs: number;
};

/** The labels of one series. */
export type SeriesLabels = Readonly<Record<string, string>>;

/** One value of each series, at one moment. */
export type Vector = readonly {
  readonly metric: SeriesLabels;
  /** [Unix s, the number as text] */
  readonly value: readonly [number, string];
}[];

/** Values of each series at the steps where it has one. */
export type Matrix = readonly {
  readonly metric: SeriesLabels;
  readonly values: readonly (readonly [number, string])[];
}[];

export type PrometheusApi = {
  /** The server for people: its URL without user, password and query. */
  readonly name: string;
  /**
   * An instant query; `atSeconds` null = now, as the server sees it.
   *
   * @throws Unavailable
   */
  instant(query: string, atSeconds: number | null): Promise<Vector>;
  /**
   * A range query: both ends are steps.
   *
   * @throws Unavailable
   */
  range(
    query: string,
    range: { readonly startSeconds: number; readonly endSeconds: number; readonly stepSeconds: number },
  ): Promise<Matrix>;
  close(): Promise<void>;
};

/** Counters of a thousand replicas have about 3 MB at one moment. */
const largestAnswerBytes = 64 * 1024 * 1024;

const labels = z.record(z.string(), z.string());
const sample = z.tuple([z.number(), z.string()]);

function answerSchema<Type extends 'vector' | 'matrix', Series extends z.ZodType>(resultType: Type, series: Series) {
  return z.object({
    status: z.literal('success'),
    data: z.object({ resultType: z.literal(resultType), result: z.array(series) }),
  });
}

const vectorSchema = answerSchema('vector', z.object({ metric: labels, value: sample }));
const matrixSchema = answerSchema('matrix', z.object({ metric: labels, values: z.array(sample) }));

/** A client with a connection pool of its own. */
export function createPrometheusApi(access: PrometheusAccess): PrometheusApi {
  const agent = createAgent(access.ca);
  const urlOf = (path: string): URL => {
    const url = new URL(access.url);
    url.pathname = `${url.pathname.replace(/\/$/, '')}${path}`;
    return url;
  };
  const ask = async <Schema extends z.ZodType>(
    path: string,
    parameters: Readonly<Record<string, string>>,
    schema: Schema,
  ): Promise<z.output<Schema>> => {
    const url = urlOf(path);
    const source = `Prometheus at ${shownUrl(url)}`;
    try {
      const text = await readBounded({
        url,
        method: 'POST',
        headers: {
          accept: 'application/json',
          'content-type': 'application/x-www-form-urlencoded',
          ...(await authorization(access.bearerTokenFile)),
        },
        body: new URLSearchParams(parameters).toString(),
        timeoutMs: access.timeoutMs,
        largestBytes: largestAnswerBytes,
        dispatcher: agent,
      });
      return check(schema, parseJson(text, source), source);
    } catch (error) {
      if (error instanceof RequestFailed) {
        throw new Unavailable(
          'prometheus_unreachable',
          `${source}: found ${error.message}, expected the answer to a query`,
        );
      }
      if (error instanceof InputError) throw new Unavailable('prometheus_malformed', error.message);
      throw error;
    }
  };
  return {
    name: shownUrl(new URL(access.url)),
    async instant(query, atSeconds) {
      const parameters = { query, ...(atSeconds === null ? {} : { time: String(atSeconds) }) };
      return (await ask('/api/v1/query', parameters, vectorSchema)).data.result;
    },
    async range(query, { startSeconds, endSeconds, stepSeconds }) {
      const parameters = {
        query,
        start: String(startSeconds),
        end: String(endSeconds),
        step: String(stepSeconds),
        // Thanos would answer with what it has while a store of its is away, which reads as fewer requests.
        partial_response: 'false',
      };
      return (await ask('/api/v1/query_range', parameters, matrixSchema)).data.result;
    },
    close: () => agent.destroy(),
  };
}

async function authorization(file: string | null): Promise<Record<string, string>> {
  if (file === null) return {};
  try {
    return { authorization: `Bearer ${(await readFile(file, 'utf8')).trim()}` };
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
    throw new RequestFailed(`no token in ${file} (${code})`);
  }
}

/** The value of a label as an exact match inside a query. */
export function quotedText(text: string): string {
  return JSON.stringify(text);
}

/** Texts as one regular expression that matches exactly these, quoted for a query. */
export function quotedAlternatives(texts: readonly string[]): string {
  // First as a regular expression, then as a text in double quotes.
  return JSON.stringify(texts.map((text) => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')).join('|'));
}

/** Grafana's part between a dashboard's JSON and Prometheus: variables, and the queries that a panel sends. */

/** What a data source is set to scrape with where nobody says otherwise [s]. */
const scrapeIntervalSeconds = 15;

/** A choice: one value, several, or all (which stands for the variable's own `allValue`). */
export type Choice = string | readonly string[] | { readonly all: string };

export type Moment = { readonly rangeSeconds: number; readonly points: number };

export const stepSeconds = ({ rangeSeconds, points }: Moment): number =>
  Math.max(scrapeIntervalSeconds, Math.ceil(rangeSeconds / points));

/** The text that Grafana sends for an expression: chosen variables, and those that it knows by itself. */
export function interpolate(expr: string, choices: Readonly<Record<string, Choice>>, moment: Moment): string {
  const step = stepSeconds(moment);
  const own: Readonly<Record<string, string>> = {
    __interval: `${step}s`,
    __interval_ms: String(step * 1000),
    __rate_interval: `${Math.max(step + scrapeIntervalSeconds, 4 * scrapeIntervalSeconds)}s`,
    __range: `${moment.rangeSeconds}s`,
    __range_s: String(moment.rangeSeconds),
  };
  return expr.replace(/\$(?:(\w+)|\{(\w+)\})/g, (whole, plain: string | undefined, braced: string | undefined) => {
    const name = plain ?? braced!;
    const choice = choices[name];
    if (choice !== undefined) return textOf(choice);
    const value = own[name];
    if (value === undefined) throw new Error(`${whole} is no variable: ${expr}`);
    return value;
  });
}

/** Several values become a regular expression, each taken literally; the text of `all` is taken as it is. */
function textOf(choice: Choice): string {
  if (typeof choice === 'string') return choice.replace(/\\/g, '\\\\').replace(/"/g, '\\"');
  if ('all' in choice) return choice.all;
  const literal = choice.map((value) => value.replace(/[\\^$*+?.()|[\]{}]/g, '\\\\$&'));
  return literal.length === 1 ? literal[0]! : `(${literal.join('|')})`;
}

export type Series = { readonly metric: Readonly<Record<string, string>>; readonly values: readonly number[] };

/** Asks Prometheus for a moment, or for the course of a time that ends now. */
export async function queryPrometheus(
  url: string,
  { expr, instant, moment }: { readonly expr: string; readonly instant: boolean; readonly moment: Moment },
): Promise<readonly Series[]> {
  const end = Date.now() / 1000;
  const parameters: Readonly<Record<string, string>> = instant
    ? { query: expr, time: String(end) }
    : { query: expr, start: String(end - moment.rangeSeconds), end: String(end), step: String(stepSeconds(moment)) };
  const body = await post(`${url}/api/v1/${instant ? 'query' : 'query_range'}`, parameters);
  const { result } = body.data as { result: { metric: Record<string, string>; value?: Point; values?: Point[] }[] };
  return result.map(({ metric, value, values }) => ({
    metric,
    values: (values ?? (value === undefined ? [] : [value])).map(([, text]) => Number(text)),
  }));
}

/** The options of a variable: `label_values([selector, ]label)`. */
export async function labelValues(url: string, query: string): Promise<readonly string[]> {
  const [, selector, label] = /^label_values\((?:(.+), *)?(\w+)\)$/.exec(query) ?? [];
  if (label === undefined) throw new Error(`no label_values: ${query}`);
  const match = selector === undefined ? '' : `?match[]=${encodeURIComponent(selector)}`;
  const answer = await fetch(`${url}/api/v1/label/${label}/values${match}`);
  return ((await answer.json()) as { data: string[] }).data;
}

type Point = readonly [number, string];

async function post(url: string, parameters: Readonly<Record<string, string>>): Promise<{ readonly data: unknown }> {
  const answer = await fetch(url, { method: 'POST', body: new URLSearchParams(parameters) });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${parameters.query}: ${text}`);
  return JSON.parse(text) as { readonly data: unknown };
}

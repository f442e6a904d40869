import { InputError, quoteInput } from '../../core/input-error.js';
import type { MetricSummary } from '../benchmark-row.js';

/**
 * Reading single fields of documents that other tools write: their formats grow, so that what is not needed is not
 * looked at, and what is needed is named where it is missing.
 */
export type JsonObject = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is JsonObject {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

/** The value at a path of keys; undefined where any of them is missing. */
export function at(document: unknown, ...path: readonly string[]): unknown {
  let value = document;
  for (const key of path) {
    if (!isObject(value) || !Object.hasOwn(value, key)) return undefined;
    value = value[key];
  }
  return value;
}

/** A finite number >= 0 at a path; null where there is none. */
export function numberAt(document: unknown, ...path: readonly string[]): number | null {
  const value = at(document, ...path);
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : null;
}

export function textAt(document: unknown, ...path: readonly string[]): string | null {
  const value = at(document, ...path);
  return typeof value === 'string' && value !== '' ? value : null;
}

/** The first of several alternatives that is there. */
export function firstOf<T>(...values: readonly (T | null)[]): T | null {
  return values.find((value) => value !== null) ?? null;
}

/** A number > 0 that a run cannot do without. */
export function needed(
  value: number | null,
  options: { readonly source: string; readonly place: string; readonly found: unknown; readonly expected: string },
): number {
  if (value !== null && value > 0) return value;
  const { source, place, found, expected } = options;
  throw new InputError(source, [{ place, found: quoteInput(found), expected }]);
}

/** A summary of which only the mean is known. */
export function meanOnly(mean: number | null, row: number): MetricSummary {
  return { mean, row, P50: null, P90: null, P95: null, P99: null };
}

/**
 * A summary in seconds, from a unit of which so many are a second. Divided, not multiplied: 20 ms are then 0.02 s to the
 * last bit, which a strict comparison with an SLO of 0.02 s sees.
 */
export function inSeconds(summary: MetricSummary, perSecond: number): MetricSummary {
  const convert = (value: number | null): number | null => (value === null ? null : value / perSecond);
  return {
    row: summary.row,
    mean: convert(summary.mean),
    P50: convert(summary.P50),
    P90: convert(summary.P90),
    P95: convert(summary.P95),
    P99: convert(summary.P99),
  };
}

/** Is anything of it known? */
export function isKnown(summary: MetricSummary): boolean {
  return [summary.mean, summary.P50, summary.P90, summary.P95, summary.P99].some((value) => value !== null);
}

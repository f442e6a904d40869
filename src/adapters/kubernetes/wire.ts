/**
 * Reading JSON that an API server sent: any field may be absent or have another shape than its schema says (a broken
 * admission webhook, an aggregated server, a proxy). These readers answer with nothing instead of throwing.
 */

type AnyRecord = Readonly<Record<string, unknown>>;

const nothing: AnyRecord = Object.freeze({});

export function isRecord(value: unknown): value is AnyRecord {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

/** The value as an object; an empty one where it is none. */
export function record(value: unknown): AnyRecord {
  return isRecord(value) ? value : nothing;
}

/** The value as an array; an empty one where it is none. */
export function items(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** The entries of an object whose values are texts. */
export function textEntries(value: unknown): readonly (readonly [string, string])[] {
  return Object.entries(record(value)).filter((entry): entry is [string, string] => typeof entry[1] === 'string');
}

/** A text field of an object; undefined where it is absent or no text. Keys such as `constructor` are only own keys. */
export function textOf(object: AnyRecord, key: string): string | undefined {
  const value = Object.hasOwn(object, key) ? object[key] : undefined;
  return typeof value === 'string' ? value : undefined;
}

/** A whole number >= 0; undefined where it is absent or none. */
export function countOf(object: AnyRecord, key: string): number | undefined {
  const value = Object.hasOwn(object, key) ? object[key] : undefined;
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

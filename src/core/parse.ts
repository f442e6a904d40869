import { closest, distance } from 'fastest-levenshtein';
import { z } from 'zod';
import { InputError, type InputIssue, quoteInput } from './input-error.js';

/**
 * Strict JSON text to a value; `NaN`, `Infinity`, comments and trailing commas are refused.
 *
 * @throws InputError that names the line and column.
 */
export function parseJson(text: string, source: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new InputError(source, [jsonIssue(text, error)]);
  }
}

function jsonIssue(text: string, error: unknown): InputIssue {
  const message = error instanceof Error ? error.message : String(error);
  const at = /position (\d+)/.exec(message)?.[1];
  const offset = at === undefined ? text.length : Number(at);
  const before = text.slice(0, offset);
  const line = before.split('\n').length;
  const column = offset - before.lastIndexOf('\n');
  const word = /^[A-Za-z]+/.exec(text.slice(offset, offset + 20))?.[0];
  const found =
    text.trim() === ''
      ? 'an empty text'
      : offset >= text.length
        ? 'the end of the text'
        : quoteInput(word ?? text[offset]);
  const isNotANumber = word !== undefined && /^(NaN|Infinity|nan|inf)/.test(word);
  return {
    place: `line ${line}, column ${column}`,
    found,
    expected: isNotANumber ? 'strict JSON, which has no such number (use null or 0)' : 'strict JSON',
  };
}

/** A path as a person writes it: `models[0].demand[2].rps`. */
export function formatPath(path: readonly PropertyKey[]): string {
  let text = '';
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`;
    else {
      const key = String(part);
      const plain = /^[A-Za-z_][\w-]*$/.test(key);
      text += plain ? (text === '' ? key : `.${key}`) : `[${quoteInput(key)}]`;
    }
  }
  return text;
}

/** The known name nearest to a misspelt one, or undefined where none is near enough to be meant. */
export function nearestName(name: string, known: readonly string[]): string | undefined {
  if (known.length === 0 || name.length > 200) return undefined;
  const lower = name.toLowerCase();
  const sameLetters = known.find(
    (candidate) => candidate.toLowerCase().replace(/[-_]/g, '') === lower.replace(/[-_]/g, ''),
  );
  if (sameLetters !== undefined) return sameLetters;
  const best = closest(name, [...known]);
  return distance(name, best) <= Math.max(2, Math.floor(best.length / 3)) ? best : undefined;
}

/**
 * Checks a plain value against a schema and returns it typed, with defaults applied.
 *
 * @throws InputError with one issue per fault: unknown keys (with the nearest known one), wrong types, bounds.
 */
export function check<Schema extends z.ZodType>(schema: Schema, value: unknown, source: string): z.output<Schema> {
  const result = schema.safeParse(value, { reportInput: true });
  if (result.success) return result.data;
  throw new InputError(
    source,
    result.error.issues.flatMap((issue) => toInputIssues(issue, value, schema)),
  );
}

function toInputIssues(issue: z.core.$ZodIssue, root: unknown, schema: z.ZodType): readonly InputIssue[] {
  if (issue.code === 'unrecognized_keys') {
    const known = knownKeys(schema, issue.path);
    return issue.keys.map((key) => {
      const suggestion = nearestName(key, known);
      return {
        place: formatPath([...issue.path, key]),
        found: 'an unknown key',
        expected: known.length === 0 ? 'no such key' : `one of ${known.join(', ')}`,
        ...(suggestion === undefined ? {} : { suggestion }),
      };
    });
  }
  const found = valueAt(root, issue.path);
  const suggestion =
    issue.code === 'invalid_value' && typeof found === 'string'
      ? nearestName(found, issue.values.map(String))
      : undefined;
  return [
    {
      place: formatPath(issue.path),
      found: quoteInput(found),
      expected: expectation(issue),
      ...(suggestion === undefined ? {} : { suggestion }),
    },
  ];
}

function expectation(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return issue.expected === 'int' ? 'a whole number' : withArticle(issue.expected);
    case 'too_small':
      return bound(issue.origin, issue.inclusive === false ? '>' : '>=', issue.minimum);
    case 'too_big':
      return bound(issue.origin, issue.inclusive === false ? '<' : '<=', issue.maximum);
    case 'invalid_value':
      return issue.values.length === 1 ? quoteInput(issue.values[0]) : `one of ${issue.values.map(String).join(', ')}`;
    default:
      return issue.message;
  }
}

function withArticle(noun: string): string {
  return /^[aeiou]/.test(noun) ? `an ${noun}` : `a ${noun}`;
}

function bound(origin: string, sign: string, limit: number | bigint): string {
  if (origin === 'array') return `an array with ${sign} ${limit} items`;
  if (origin === 'string') return `a text with ${sign} ${limit} characters`;
  return `a ${origin === 'int' ? 'whole number' : 'number'} ${sign} ${limit}`;
}

function valueAt(root: unknown, path: readonly PropertyKey[]): unknown {
  let value = root;
  for (const part of path) {
    if (value === null || typeof value !== 'object') return undefined;
    value = (value as Record<PropertyKey, unknown>)[part];
  }
  return value;
}

/** The keys that an object schema knows at a path. */
function knownKeys(schema: z.ZodType, path: readonly PropertyKey[]): readonly string[] {
  let current: unknown = schema;
  for (const part of [...path, undefined]) {
    current = unwrap(current);
    if (part === undefined) break;
    if (current instanceof z.ZodObject) current = current.shape[String(part)];
    else if (current instanceof z.ZodArray) current = current.element;
    else if (current instanceof z.ZodRecord) current = current.valueType;
    else return [];
  }
  return current instanceof z.ZodObject ? Object.keys(current.shape) : [];
}

function unwrap(schema: unknown): unknown {
  let current = schema;
  while (
    current instanceof z.ZodOptional ||
    current instanceof z.ZodDefault ||
    current instanceof z.ZodPrefault ||
    current instanceof z.ZodNullable ||
    current instanceof z.ZodReadonly ||
    current instanceof z.ZodPipe
  ) {
    current = current instanceof z.ZodPipe ? current.in : current.unwrap();
  }
  return current;
}

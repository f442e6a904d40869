import { closest, distance } from 'fastest-levenshtein';
import { z } from 'zod';
import { InputError, type InputIssue, quoteInput } from './input-error.js';
import { findJsonFault } from './json-fault.js';

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
  const fault = findJsonFault(text) ?? { offset: 0, expected: error instanceof Error ? error.message : 'strict JSON' };
  const { offset } = fault;
  let line = 1;
  let lineStart = 0;
  for (let at = text.indexOf('\n'); at !== -1 && at < offset; at = text.indexOf('\n', at + 1)) {
    line += 1;
    lineStart = at + 1;
  }
  const word = /^[+-]?[A-Za-z]+/.exec(text.slice(offset, offset + 20))?.[0];
  const found =
    text.trim() === ''
      ? 'an empty text'
      : offset >= text.length
        ? 'the end of the text'
        : quoteInput(word ?? String.fromCodePoint(text.codePointAt(offset)!));
  const isNotANumber = word !== undefined && /^[+-]?(?:nan|inf(?:inity)?)$/i.test(word);
  return {
    place: `line ${line}, column ${offset - lineStart + 1}`,
    found,
    expected: isNotANumber
      ? 'a number: strict JSON has no such one (use null or 0)'
      : `strict JSON, here ${fault.expected}`,
  };
}

/** A path as a person writes it: `models[0].demand[2].rps`. */
export function formatPath(path: readonly PropertyKey[]): string {
  let text = '';
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`;
    else {
      const key = String(part);
      const plain = key.length <= 60 && /^[A-Za-z_][\w-]*$/.test(key);
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
  const edits = distance(name, best);
  // Two letters apart is a slip in a word of three (tow, two), and no likeness at all in one of two (k0, at).
  const isSlip = edits <= Math.max(2, Math.floor(best.length / 3)) && edits < 0.7 * Math.max(name.length, best.length);
  return isSlip ? best : undefined;
}

/** What `check` gives, for those who only read it. */
export type DeepReadonly<T> = T extends (infer Item)[]
  ? readonly DeepReadonly<Item>[]
  : T extends object
    ? { readonly [Key in keyof T]: DeepReadonly<T[Key]> }
    : T;

/** Faults of one input that are worded one by one; beyond it they are only counted. */
const wordedIssues = 50;

/**
 * Checks a plain value against a schema and returns it typed, with defaults applied.
 *
 * A schema words its own rules as noun phrases (`message: 'at most maxReplicas'`): they stand after "expected".
 *
 * @throws InputError with the first faults: unknown keys (with the nearest known one), wrong types, bounds.
 */
export function check<Schema extends z.ZodType>(schema: Schema, value: unknown, source: string): z.output<Schema> {
  const result = parseOrSample(schema, value, source);
  if (result.success) return result.data;
  const issues: InputIssue[] = [];
  const wrongTypes = new Set<string>();
  let omitted = 0;
  for (const issue of result.error.issues) {
    // A value of the wrong type often fails bounds as well: that adds nothing.
    const place = issue.path.join('\0');
    if (issue.code === 'invalid_type') wrongTypes.add(place);
    else if (wrongTypes.has(place)) continue;
    const faults = issue.code === 'unrecognized_keys' ? issue.keys.length : 1;
    const room = wordedIssues - issues.length;
    omitted += Math.max(0, faults - room);
    if (room > 0) issues.push(...toInputIssues(issue, value, schema, room));
  }
  throw new InputError(source, issues, omitted);
}

/** Items of each array that are looked at once the whole has too many faults to be collected. */
const sampledItems = 1000;

/**
 * Parses; where a value has so many faults that zod's lists of them exceed the stack (about 65,000 in one array), parses
 * the beginning of every array instead, which names the first of them.
 */
function parseOrSample<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  source: string,
): z.ZodSafeParseResult<z.output<Schema>> {
  try {
    return schema.safeParse(value, { reportInput: true });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  const sample = schema.safeParse(beginningOf(value, 0), { reportInput: true });
  if (!sample.success) return sample;
  throw new InputError(source, [
    { place: '', found: 'tens of thousands of faults', expected: 'a document that fits its schema' },
  ]);
}

/** A copy with at most the first items of every array. No schema of ours is deeper than the depth copied. */
function beginningOf(value: unknown, depth: number): unknown {
  if (value === null || typeof value !== 'object' || depth > 20) return value;
  if (Array.isArray(value)) return value.slice(0, sampledItems).map((item) => beginningOf(item, depth + 1));
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, beginningOf(item, depth + 1)]));
}

function toInputIssues(
  issue: z.core.$ZodIssue,
  root: unknown,
  schema: z.ZodType,
  atMost: number,
): readonly InputIssue[] {
  if (issue.code === 'unrecognized_keys') {
    const known = knownKeys(schema, issue.path);
    return issue.keys.slice(0, atMost).map((key) => {
      const suggestion = nearestName(key, known);
      return {
        place: formatPath([...issue.path, key]),
        found: 'an unknown key',
        expected: known.length === 0 ? 'no such key' : `one of ${known.join(', ')}`,
        ...(suggestion === undefined ? {} : { suggestion }),
      };
    });
  }
  if (issue.code === 'invalid_union') {
    const deeper = meantBranch(issue);
    if (deeper !== null) {
      return deeper
        .slice(0, atMost)
        .flatMap((inner) => toInputIssues({ ...inner, path: [...issue.path, ...inner.path] }, root, schema, atMost));
    }
  }
  const found = valueAt(root, issue.path);
  const suggestion = typeof found === 'string' ? nearestName(found, allowedValues(issue).map(String)) : undefined;
  return [
    {
      place: formatPath(issue.path),
      found: quoteInput(issue.code === 'invalid_key' ? String(issue.path.at(-1)) : found),
      expected: expectation(issue, found),
      ...(suggestion === undefined ? {} : { suggestion }),
    },
  ];
}

/** The issues of the one alternative that the writer meant: it has the right type, and faults only inside. */
function meantBranch(issue: z.core.$ZodIssueInvalidUnion): readonly z.core.$ZodIssue[] | null {
  const inside = issue.errors.filter(
    (branch) =>
      branch.length > 0 && branch.every((inner) => inner.path.length > 0 || inner.code === 'unrecognized_keys'),
  );
  return inside.length === 1 ? inside[0]! : null;
}

/** Beginnings of zod's own messages, which are no noun phrases; what a schema says itself goes before them. */
const stockMessage = /^(?:Invalid|Too big|Too small|Unrecognized|Expected)\b/;

function expectation(issue: z.core.$ZodIssue, found: unknown): string {
  if (!stockMessage.test(issue.message)) return issue.message;
  switch (issue.code) {
    case 'invalid_type':
      return expectedType(issue.expected, found);
    case 'too_small':
      return bound(issue.origin, issue.inclusive === false ? '>' : '>=', issue.minimum);
    case 'too_big':
      return bound(issue.origin, issue.inclusive === false ? '<' : '<=', issue.maximum);
    case 'invalid_value':
      return issue.values.length === 1 ? quoteInput(issue.values[0]) : `one of ${allowedValues(issue).join(', ')}`;
    case 'not_multiple_of':
      return `a multiple of ${issue.divisor}`;
    case 'invalid_format':
      return expectedFormat(issue);
    case 'invalid_key':
      return `as key ${alternatives(issue.issues)}`;
    case 'invalid_element':
      return `entries of which each is ${alternatives(issue.issues)}`;
    case 'invalid_union':
      return allowedValues(issue).length > 0
        ? `one of ${allowedValues(issue).join(', ')}`
        : alternatives(issue.errors.flat());
    default:
      return 'another value';
  }
}

/** The values that a fault lists as allowed: of an enum, or of the key that tells the members of a union apart. */
function allowedValues(issue: z.core.$ZodIssue): readonly unknown[] {
  if (issue.code === 'invalid_value') return issue.values;
  return issue.code === 'invalid_union' && 'options' in issue ? (issue.options ?? []) : [];
}

function expectedType(type: string, found: unknown): string {
  if (type === 'int') return 'a whole number';
  if (type === 'number' && typeof found === 'number') return 'a finite number';
  if (type === 'string') return 'a text';
  if (type === 'record') return 'an object';
  if (type === 'boolean') return 'true or false';
  if (type === 'tuple') return 'an array';
  return type === 'null' || type === 'undefined' ? type : withArticle(type);
}

function expectedFormat(issue: z.core.$ZodIssueInvalidStringFormat): string {
  if (issue.format === 'datetime') return 'a date and time as ISO 8601 with its zone (2026-11-20T10:00:00Z)';
  if (issue.format === 'url') return 'a URL';
  return issue.pattern === undefined ? `a valid ${issue.format}` : `a text that matches ${issue.pattern}`;
}

/** What several alternatives expect, joined; each once. */
function alternatives(issues: readonly z.core.$ZodIssue[]): string {
  const wordings = new Set(
    issues.filter((issue) => issue.path.length === 0).map((issue) => expectation(issue, undefined)),
  );
  return wordings.size === 0 ? 'another value' : [...wordings].join(', or ');
}

function withArticle(noun: string): string {
  return /^[aeiou]/.test(noun) ? `an ${noun}` : `a ${noun}`;
}

function bound(origin: string, sign: string, limit: number | bigint): string {
  const items = limit === 1 ? 'item' : 'items';
  if (origin === 'array' || origin === 'set' || origin === 'map') return `an array with ${sign} ${limit} ${items}`;
  if (origin === 'string') return `a text with ${sign} ${limit} ${limit === 1 ? 'character' : 'characters'}`;
  return `a ${origin === 'int' ? 'whole number' : 'number'} ${sign} ${limit}`;
}

function valueAt(root: unknown, path: readonly PropertyKey[]): unknown {
  let value = root;
  for (const part of path) {
    if (value === null || typeof value !== 'object' || !Object.hasOwn(value, part)) return undefined;
    value = (value as Record<PropertyKey, unknown>)[part];
  }
  return value;
}

/** The keys that an object schema knows at a path; of several alternatives, those of all. */
function knownKeys(schema: z.ZodType, path: readonly PropertyKey[]): readonly string[] {
  let schemas = alternativesOf(schema);
  for (const part of path) schemas = schemas.flatMap((current) => alternativesOf(stepInto(current, part)));
  return [...new Set(schemas.flatMap((current) => (current instanceof z.ZodObject ? Object.keys(current.shape) : [])))];
}

function stepInto(schema: unknown, part: PropertyKey): unknown {
  if (schema instanceof z.ZodObject) {
    const key = String(part);
    return Object.hasOwn(schema.shape, key) ? schema.shape[key] : undefined;
  }
  if (schema instanceof z.ZodArray) return schema.element;
  if (schema instanceof z.ZodRecord) return schema.valueType;
  if (schema instanceof z.ZodTuple) return schema.def.items[Number(part)];
  return undefined;
}

/** A schema without its wrappers (optional, default, …), and a union as its members. */
function alternativesOf(schema: unknown): readonly unknown[] {
  if (schema instanceof z.ZodUnion) return schema.options.flatMap((option) => alternativesOf(option));
  if (schema instanceof z.ZodPipe) return alternativesOf(schema.in);
  if (
    schema instanceof z.ZodOptional ||
    schema instanceof z.ZodDefault ||
    schema instanceof z.ZodPrefault ||
    schema instanceof z.ZodNullable ||
    schema instanceof z.ZodNonOptional ||
    schema instanceof z.ZodCatch ||
    schema instanceof z.ZodReadonly
  ) {
    return alternativesOf(schema.unwrap());
  }
  return [schema];
}

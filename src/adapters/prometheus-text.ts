import { InputError, quoteInput } from '../core/input-error.js';

/**
 * The text that `/metrics` answers with: Prometheus' exposition format 0.0.4, as client libraries write it. A line that
 * is none is a fault of the whole text, as it is for Prometheus itself.
 *
 * No library: the one parser that is used has not been kept since 2019 and gathers every sample into families first,
 * where some ten of several thousand are wanted here.
 */

/** One sample of a text. */
export type MetricSample = {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** As written; may be NaN or infinite, which Prometheus allows. */
  readonly value: number;
};

const namePattern = /[a-zA-Z_:][a-zA-Z0-9_:]*/y;
const labelPattern = /[a-zA-Z_][a-zA-Z0-9_]*/y;
/** A number as Go reads it, and the words for what is none. */
const numberPattern = /^(?:[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf|infinity)|nan)$/i;
const timestampPattern = /^[+-]?\d+$/;

/** Longest piece of a line that an error repeats, in characters. */
const shownLength = 120;

/**
 * The samples whose name is wanted; every line is checked all the same.
 *
 * @param source names the text in errors, e.g. its URL
 * @throws InputError that names the line
 */
export function parseMetricSamples(
  text: string,
  { source, wanted = () => true }: { readonly source: string; readonly wanted?: (name: string) => boolean },
): readonly MetricSample[] {
  const samples: MetricSample[] = [];
  let line = 0;
  for (let start = 0; start < text.length; ) {
    line += 1;
    const end = text.indexOf('\n', start);
    const stop = end === -1 ? text.length : end;
    const sample = parseLine(text.slice(start, stop).trim());
    if (typeof sample === 'string') {
      const shown = quoteInput(text.slice(start, Math.min(stop, start + shownLength)));
      throw new InputError(source, [{ place: `line ${line}`, found: shown, expected: sample }]);
    }
    if (sample !== null && wanted(sample.name)) samples.push(sample);
    start = stop + 1;
  }
  return samples;
}

/** A sample; null for an empty line or a comment; or what was expected of it. */
function parseLine(line: string): MetricSample | null | string {
  if (line === '' || line.startsWith('#')) return null;
  let name = match(namePattern, line, 0);
  let at = name?.length ?? 0;
  const labels: [string, string][] = [];
  at = skipSpace(line, at);
  if (line[at] === '{') {
    at = skipSpace(line, at + 1);
    while (line[at] !== '}') {
      // From Prometheus 3 on a name of other characters stands quoted among the labels.
      const isQuoted = line[at] === '"';
      const label = isQuoted ? quotedText(line, at) : unquoted(match(labelPattern, line, at), at);
      if (label === null) return 'a label, or } after the labels';
      at = skipSpace(line, label.end);
      if (line[at] === '=') {
        const value = quotedText(line, skipSpace(line, at + 1));
        if (value === null) return 'the value of the label in double quotes';
        labels.push([label.text, value.text]);
        at = skipSpace(line, value.end);
      } else if (isQuoted && name === null) name = label.text;
      else return 'a label as name="value"';
      if (line[at] === ',') at = skipSpace(line, at + 1);
      else if (line[at] !== '}') return 'a comma or } after a label';
    }
    at += 1;
  }
  if (name === null) return 'the name of a metric, or # before a comment';
  const [value = '', timestamp, ...rest] = line
    .slice(at)
    .trim()
    .split(/[ \t]+/);
  if (!numberPattern.test(value)) return 'a number after the name and its labels';
  if (rest.length > 0 || (timestamp !== undefined && !timestampPattern.test(timestamp))) {
    return 'nothing after the number but a time in whole milliseconds';
  }
  return { name, labels: Object.fromEntries(labels), value: toNumber(value) };
}

function toNumber(text: string): number {
  const word = /^([+-]?)(inf|nan)/i.exec(text);
  if (word === null) return Number(text);
  if (word[2]!.toLowerCase() === 'nan') return Number.NaN;
  return word[1] === '-' ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
}

function match(pattern: RegExp, line: string, at: number): string | null {
  pattern.lastIndex = at;
  return pattern.exec(line)?.[0] ?? null;
}

type Piece = { readonly text: string; readonly end: number };

function unquoted(text: string | null, at: number): Piece | null {
  return text === null ? null : { text, end: at + text.length };
}

/** A text in double quotes, in which \\, \" and \n are escaped. */
function quotedText(line: string, at: number): Piece | null {
  if (line[at] !== '"') return null;
  let text = '';
  for (let i = at + 1; i < line.length; i += 1) {
    const character = line[i]!;
    if (character === '"') return { text, end: i + 1 };
    if (character !== '\\') text += character;
    else {
      i += 1;
      const escaped = line[i];
      if (escaped === undefined) return null;
      // An unknown escape is taken as it stands, as Prometheus' own clients do.
      text += escaped === 'n' ? '\n' : escaped === '"' || escaped === '\\' ? escaped : `\\${escaped}`;
    }
  }
  return null;
}

function skipSpace(line: string, from: number): number {
  let at = from;
  while (line[at] === ' ' || line[at] === '\t') at += 1;
  return at;
}

/**
 * Bad input, said so that a person can mend it: where, what was found, what was expected.
 *
 * Every parser of the project reports through this one type; the command line turns it into exit code 2,
 * the HTTP routes into 400.
 */

/** One thing that is wrong with an input. */
export type InputIssue = {
  /** The place inside the source: a path (`models[0].deployments[1].profile.tputs[2][0]`) or `line 3`; '' is the whole. */
  readonly place: string;
  /** What stands there, shortened. */
  readonly found: string;
  /** What should stand there, as a noun phrase: `a number >= 0`. */
  readonly expected: string;
  /** The nearest known name, where a misspelling is likely. */
  readonly suggestion?: string;
};

/** Longest piece of foreign input that a message repeats, in characters. */
const quotedLength = 60;

/**
 * Characters that JSON leaves as they are and that change how a terminal or an editor shows the rest of a line: C1
 * controls, direction marks, line separators, the byte order mark, halves of surrogate pairs.
 */
const invisible = /[\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|\p{Surrogate}/gu;

/**
 * Renders an unknown value for an error message: JSON, on one line, cut to a length that fits a terminal. Large and
 * deep values are not written out for it; never throws.
 */
export function quoteInput(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'number') return String(value);
  const text = preview(value, quotedLength).replace(
    invisible,
    (character) => `\\u${character.codePointAt(0)!.toString(16).padStart(4, '0')}`,
  );
  return text.length > quotedLength ? `${text.slice(0, quotedLength)}…` : text;
}

/** JSON of a value, given up somewhere after `room` characters, which also bounds the depth. */
function preview(value: unknown, room: number): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, room + 1));
  if (typeof value === 'function' || typeof value === 'symbol') return `a ${typeof value}`;
  if (value === null || typeof value !== 'object') return String(value ?? null);
  if (Array.isArray(value)) {
    if (value.length > 8) return `an array of ${value.length} items`;
    let text = '[';
    for (const [i, item] of value.entries()) {
      text += `${i === 0 ? '' : ','}${text.length < room ? preview(item, room - text.length) : ''}`;
      if (text.length > room) return text;
    }
    return `${text}]`;
  }
  let text = '{';
  for (const key of Object.keys(value)) {
    text += `${text === '{' ? '' : ','}${preview(key, room - text.length)}:`;
    if (text.length < room) text += preview((value as Record<string, unknown>)[key], room - text.length);
    if (text.length > room) return text;
  }
  return `${text}}`;
}

/** One issue as one line: `FILE: PLACE: found X, expected Y; did you mean Z?` */
export function describeIssue(source: string, issue: InputIssue): string {
  const where = issue.place === '' ? source : `${source}: ${issue.place}`;
  const hint = issue.suggestion === undefined ? '' : `; did you mean ${JSON.stringify(issue.suggestion)}?`;
  return `${where}: found ${issue.found}, expected ${issue.expected}${hint}`;
}

/** Most issues that one message lists. */
const listedIssues = 8;

/** Thrown by every parser for input that cannot be used. `source` is the file, key, flag or route it came from. */
export class InputError extends Error {
  readonly source: string;
  readonly issues: readonly InputIssue[];

  /** @param omitted how many further faults there were, for which no issue was made */
  constructor(source: string, issues: readonly InputIssue[], omitted = 0) {
    const lines = issues.slice(0, listedIssues).map((issue) => describeIssue(source, issue));
    const unlisted = Math.max(0, issues.length - listedIssues) + omitted;
    if (unlisted > 0) lines.push(`… and ${unlisted} more`);
    super(lines.join('\n'));
    this.name = 'InputError';
    this.source = source;
    this.issues = issues;
  }
}

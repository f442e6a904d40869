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

/** Renders an unknown value for an error message: JSON, on one line, cut to a length that fits a terminal. */
export function quoteInput(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'number') return String(value);
  if (Array.isArray(value) && value.length > 8) return `an array of ${value.length} items`;
  let text: string;
  try {
    text = JSON.stringify(value) ?? String(value);
  } catch {
    text = String(value);
  }
  return text.length > quotedLength ? `${text.slice(0, quotedLength)}…` : text;
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

  constructor(source: string, issues: readonly InputIssue[]) {
    const lines = issues.slice(0, listedIssues).map((issue) => describeIssue(source, issue));
    if (issues.length > listedIssues) lines.push(`… and ${issues.length - listedIssues} more`);
    super(lines.join('\n'));
    this.name = 'InputError';
    this.source = source;
    this.issues = issues;
  }
}

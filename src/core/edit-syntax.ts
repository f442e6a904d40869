import { InputError, type InputIssue, quoteInput } from './input-error.js';

/**
 * What-if edits of a PlanningProblem, as people write them on a command line: `PATH OPERATOR VALUE`.
 *
 *   pools.H100=8                          the GPUs of a pool; null = unlimited; a pool that is not there is added
 *   quotas.team-a.H100+=4                 a quota of a namespace; null takes it away
 *   budgetUsdPerHour=40                   null = no budget
 *   options.startUsdPerReplica=2          any key of `options`
 *   models.chat.rps*=1.5                  the demand of a model, its shape kept: = and += and -= are of the total
 *   models.*.inputTokens*=2               longer prompts, for every model
 *   models."a.b".priority=10              priority, unservedUsdPerRequest, minServedShare
 *   deployments.prod/chat-l4.maxReplicas=8    any number of a deployment
 *   deployments.prod/chat-l4.throughput*=1.2  every cell of its profile
 *   gpuTypes.A100.usdPerReplicaHour*=0.8      the same for all deployments of a GPU type
 *
 * Operators: `=` sets, `*=` multiplies, `+=` adds, `-=` subtracts. A name may hold dots and slashes as it is: it is all
 * that stands between the first word and the key. Quotes (as in JSON) are needed around a name with `=` or `"`, one that
 * is `*`, and one that ends in `*`, `+` or `-` right before the operator. `*` stands for every name.
 */
export const editOperators = ['=', '*=', '+=', '-='] as const;
export type EditOperator = (typeof editOperators)[number];

/** One name of a path. A quoted `*` is a name; a bare one stands for every name. */
export type EditSegment = { readonly name: string; readonly quoted: boolean };

export type SetEdit = {
  readonly kind: 'set';
  /** As it was written, for messages. */
  readonly text: string;
  readonly path: readonly EditSegment[];
  readonly operator: EditOperator;
  readonly value: number | string | null;
};
/** All deployments of a GPU type, its pools and its quotas are taken away. */
export type WithoutEdit = { readonly kind: 'without'; readonly gpuType: string };
export type ProblemEdit = SetEdit | WithoutEdit;

/** What errors call an edit: the flag and what was given to it. */
export function editSource(edit: Pick<SetEdit, 'kind' | 'text'> | WithoutEdit): string {
  return edit.kind === 'set' ? `--set ${quoteInput(edit.text)}` : `--without ${quoteInput(edit.gpuType)}`;
}

const numberText = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i;
const form = 'PATH=VALUE, PATH*=FACTOR, PATH+=AMOUNT or PATH-=AMOUNT (models.chat.rps*=1.5)';

/**
 * Reads one edit, without looking at a problem.
 *
 * @param text `models.chat.rps*=1.5`
 * @throws InputError that names the edit, what was found and what was expected
 */
export function parseSetEdit(text: string): SetEdit {
  const fail = (issue: InputIssue): never => {
    throw new InputError(editSource({ kind: 'set', text }), [issue]);
  };
  const path: EditSegment[] = [];
  let at = 0;
  for (;;) {
    const segment = text[at] === '"' ? quotedSegment(text, at, fail) : bareSegment(text, at);
    at = segment.end;
    const next = text.slice(at).trimStart();
    if (next.startsWith('.')) {
      path.push(named(segment, path, fail));
      at = text.length - next.length + 1;
      continue;
    }
    const operator = editOperators.find((candidate) => next.startsWith(candidate));
    if (operator === undefined) {
      const found = next === '' ? 'no operator' : quoteInput(next);
      return fail({ place: '', found, expected: segment.quoted ? `a dot or an operator: ${form}` : form });
    }
    path.push(named(segment, path, fail));
    return { kind: 'set', text, path, operator, value: parseValue(next.slice(operator.length), operator, fail) };
  }
}

type Fail = (issue: InputIssue) => never;
type ReadSegment = EditSegment & { readonly end: number };

function quotedSegment(text: string, start: number, fail: Fail): ReadSegment {
  const written = /^"(?:[^"\\]|\\.)*"/s.exec(text.slice(start))?.[0];
  if (written === undefined) {
    return fail({ place: '', found: quoteInput(text.slice(start)), expected: 'a closing quote' });
  }
  try {
    return { name: JSON.parse(written) as string, quoted: true, end: start + written.length };
  } catch {
    return fail({ place: '', found: quoteInput(written), expected: 'a name in quotes, as in JSON' });
  }
}

/**
 * A name up to the next dot or operator. A sign belongs to the operator where an equals sign follows it, except that
 * `pools.*=4` is every pool: a name is never empty.
 */
function bareSegment(text: string, start: number): ReadSegment {
  const rest = text.slice(start);
  const name = /^\s*\*\s*(?==)/.exec(rest)?.[0] ?? /^(?:(?![*+-]=)[^.="])*/.exec(rest)![0];
  return { name: name.trim(), quoted: false, end: start + name.length };
}

function named(segment: ReadSegment, before: readonly EditSegment[], fail: Fail): EditSegment {
  if (segment.name === '') {
    const place = formatEditPath(before);
    fail({ place, found: 'an empty name', expected: 'a name' });
  }
  return { name: segment.name, quoted: segment.quoted };
}

function parseValue(text: string, operator: EditOperator, fail: Fail): number | string | null {
  const value = text.trim();
  const expected = operator === '=' ? 'a number, null or a word after the operator' : 'a number after the operator';
  if (value === '') return fail({ place: '', found: 'no value', expected });
  if (numberText.test(value)) {
    const number = Number(value);
    return Number.isFinite(number) ? number : fail({ place: '', found: value, expected: 'a finite number' });
  }
  if (operator !== '=') return fail({ place: '', found: quoteInput(value), expected });
  return value === 'null' ? null : value;
}

const bareName = /^[A-Za-z0-9_](?:[A-Za-z0-9_/:@ -]*[A-Za-z0-9_/:@])?$/;

/** A path as it can be written in an edit; `parseSetEdit` reads it back. Names that need quotes get them. */
export function formatEditPath(path: readonly EditSegment[]): string {
  return path
    .map(({ name, quoted }) => ((name === '*' && !quoted) || bareName.test(name) ? name : JSON.stringify(name)))
    .join('.');
}

/** A name as itself, also where it is `*`. */
export function literally(name: string): EditSegment {
  return { name, quoted: true };
}

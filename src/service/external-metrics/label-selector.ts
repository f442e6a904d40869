import { InputError, quoteInput } from '../../core/input-error.js';

/**
 * Label selectors as Kubernetes writes them in a query:
 * `key=value`, `key==value`, `key!=value`, `key in (a,b)`, `key notin (a,b)`, `key`, `!key`, `key>1`, `key<1`, joined by commas.
 *
 * As there, `!=` and `notin` also hold where the label is absent, and a value may be empty.
 * https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
 */

export type Labels = Readonly<Record<string, string>>;

/** Whether labels fit; all requirements must hold, and no requirement always does. */
export type LabelSelector = (labels: Labels) => boolean;

/** Name of a label: an optional DNS subdomain and `/`, then at most 63 characters. */
const labelKey =
  /^(?=.{1,317}$)(?:(?=[^/]{1,253}\/)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*\/)?(?=[^/]{1,63}$)[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?$/;

/** Value of a label: at most 63 characters, or none. */
const labelValue = /^(?:(?=.{1,63}$)[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?$/;

const tokens = /\s*(==|!=|[=!(),<>]|[^\s=!(),<>]+)/y;

/** @throws InputError that says what was found where something else belongs */
export function parseLabelSelector(text: string): LabelSelector {
  const parser = new SelectorParser(text);
  const requirements: LabelSelector[] = [];
  while (!parser.isAtEnd) {
    if (requirements.length > 0) parser.take(',');
    requirements.push(requirement(parser));
  }
  return (labels) => requirements.every((holds) => holds(labels));
}

function requirement(parser: SelectorParser): LabelSelector {
  const absent = parser.takeIf('!');
  const key = parser.word(labelKey, 'the name of a label');
  const labelOf = (labels: Labels): string | undefined => (Object.hasOwn(labels, key) ? labels[key] : undefined);
  if (absent) return (labels) => labelOf(labels) === undefined;
  if (parser.isAtEnd || parser.peek === ',') return (labels) => labelOf(labels) !== undefined;
  switch (parser.next(operators, '"=", "==", "!=", "in", "notin", "<", ">" or ","')) {
    case '=':
    case '==': {
      const wanted = parser.value();
      return (labels) => labelOf(labels) === wanted;
    }
    case '!=': {
      const unwanted = parser.value();
      return (labels) => labelOf(labels) !== unwanted;
    }
    case 'in': {
      const wanted = parser.values();
      return (labels) => wanted.has(labelOf(labels));
    }
    case 'notin': {
      const unwanted = parser.values();
      return (labels) => !unwanted.has(labelOf(labels));
    }
    case '>':
      return compared(parser, labelOf, (value, bound) => value > bound);
    case '<':
      return compared(parser, labelOf, (value, bound) => value < bound);
  }
}

const operators = ['=', '==', '!=', 'in', 'notin', '>', '<'] as const;

/** A label that is no whole number fits neither `>` nor `<`. */
function compared(
  parser: SelectorParser,
  labelOf: (labels: Labels) => string | undefined,
  holds: (value: bigint, bound: bigint) => boolean,
): LabelSelector {
  const bound = BigInt(parser.word(wholeNumber, 'a whole number'));
  return (labels) => {
    const value = labelOf(labels);
    return value !== undefined && wholeNumber.test(value) && holds(BigInt(value), bound);
  };
}

const wholeNumber = /^-?\d{1,18}$/;

/** The text as a row of words and signs, read from the left. */
class SelectorParser {
  readonly #tokens: readonly string[];
  #at = 0;

  constructor(text: string) {
    const found: string[] = [];
    tokens.lastIndex = 0;
    // Whatever is no space is part of a token, so that nothing is skipped.
    for (let match = tokens.exec(text); match !== null; match = tokens.exec(text)) found.push(match[1]!);
    this.#tokens = found;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#tokens.length;
  }

  get peek(): string | undefined {
    return this.#tokens[this.#at];
  }

  takeIf(sign: string): boolean {
    if (this.peek !== sign) return false;
    this.#at += 1;
    return true;
  }

  take(sign: string): void {
    if (!this.takeIf(sign)) throw this.#refusal(`"${sign}"`);
  }

  next<Choice extends string>(choices: readonly Choice[], expected: string): Choice {
    const found = choices.find((choice) => choice === this.peek);
    if (found === undefined) throw this.#refusal(expected);
    this.#at += 1;
    return found;
  }

  word(pattern: RegExp, expected: string): string {
    const found = this.peek;
    if (found === undefined || !pattern.test(found)) throw this.#refusal(expected);
    this.#at += 1;
    return found;
  }

  /** A value, which may be empty before a comma, a bracket or the end. */
  value(): string {
    const { peek } = this;
    return peek === undefined || peek === ',' || peek === ')' ? '' : this.word(labelValue, valueExpected);
  }

  values(): ReadonlySet<string | undefined> {
    this.take('(');
    const found = new Set<string | undefined>([this.value()]);
    while (this.takeIf(',')) found.add(this.value());
    this.take(')');
    return found;
  }

  #refusal(expected: string): InputError {
    const found = this.peek === undefined ? 'the end' : quoteInput(this.peek);
    return new InputError('labelSelector', [{ place: `part ${this.#at + 1}`, found, expected }]);
  }
}

const valueExpected = 'a value of a label (at most 63 letters, digits, "-", "_" and ".", or nothing)';

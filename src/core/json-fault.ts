/**
 * Where a text stops being JSON, and what should stand there. The run-time's own message names no position for the
 * commonest faults (`NaN`, a stray word), and its wording changes with the version of Node.
 */
export type JsonFault = {
  /** Offset of the first character that cannot stand there; the text's length where it ends too early. */
  readonly offset: number;
  /** What should stand there, as a noun phrase. */
  readonly expected: string;
};

/** What may come next. `*-or-end` follows an opening bracket, where an empty array or object may close at once. */
type Expecting = 'value' | 'value-or-end' | 'key' | 'key-or-end' | 'colon' | 'comma-or-end';

const number = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const literal = /true|false|null/y;
const stringEscape = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y;

/** The first fault of a text, or null where it is JSON. Takes time in proportion to the text, and no recursion. */
export function findJsonFault(text: string): JsonFault | null {
  const brackets: ('[' | '{')[] = [];
  let expecting: Expecting = 'value';
  let at = 0;
  for (;;) {
    while (isSpace(text.charCodeAt(at))) at += 1;
    if (at >= text.length) {
      return brackets.length === 0 && expecting === 'comma-or-end'
        ? null
        : { offset: text.length, expected: describe(expecting, brackets.at(-1)) };
    }
    const character = text[at]!;
    switch (expecting) {
      case 'colon':
        if (character !== ':') return { offset: at, expected: describe(expecting, brackets.at(-1)) };
        at += 1;
        expecting = 'value';
        continue;
      case 'comma-or-end': {
        const open = brackets.at(-1);
        if (open === undefined) return { offset: at, expected: describe(expecting, brackets.at(-1)) };
        if (character === ',') expecting = open === '{' ? 'key' : 'value';
        else if (character === (open === '{' ? '}' : ']')) brackets.pop();
        else return { offset: at, expected: describe(expecting, brackets.at(-1)) };
        at += 1;
        continue;
      }
      case 'key':
      case 'key-or-end': {
        if (character === '}' && expecting === 'key-or-end') {
          brackets.pop();
          at += 1;
          expecting = 'comma-or-end';
          continue;
        }
        if (character !== '"') return { offset: at, expected: describe(expecting, brackets.at(-1)) };
        const end = stringEnd(text, at);
        if (typeof end !== 'number') return end;
        at = end;
        expecting = 'colon';
        continue;
      }
      case 'value':
      case 'value-or-end': {
        if (character === ']' && expecting === 'value-or-end') {
          brackets.pop();
          at += 1;
          expecting = 'comma-or-end';
        } else if (character === '[' || character === '{') {
          brackets.push(character);
          at += 1;
          expecting = character === '{' ? 'key-or-end' : 'value-or-end';
        } else if (character === '"') {
          const end = stringEnd(text, at);
          if (typeof end !== 'number') return end;
          at = end;
          expecting = 'comma-or-end';
        } else {
          const end = skip(number, text, at) ?? skip(literal, text, at);
          if (end === null) return { offset: at, expected: describe(expecting, brackets.at(-1)) };
          at = end;
          expecting = 'comma-or-end';
        }
      }
    }
  }
}

function isSpace(code: number): boolean {
  return code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09;
}

/** Offset after a match that begins exactly at `at`, or null. */
function skip(pattern: RegExp, text: string, at: number): number | null {
  pattern.lastIndex = at;
  return pattern.test(text) ? pattern.lastIndex : null;
}

/** Offset after the closing quote of the string that opens at `start`. */
function stringEnd(text: string, start: number): number | JsonFault {
  let at = start + 1;
  while (at < text.length) {
    const code = text.charCodeAt(at);
    if (code === 0x22) return at + 1;
    if (code < 0x20) return { offset: at, expected: 'no line break or control character inside a text' };
    if (code !== 0x5c) at += 1;
    else {
      const end = skip(stringEscape, text, at);
      if (end === null) return { offset: at, expected: 'an escape that JSON knows' };
      at = end;
    }
  }
  return { offset: text.length, expected: `the closing quote of the text that begins at offset ${start}` };
}

function describe(expecting: Expecting, open: '[' | '{' | undefined): string {
  switch (expecting) {
    case 'value':
      return 'a JSON value';
    case 'value-or-end':
      return 'a JSON value or ]';
    case 'key':
      return 'a key in double quotes';
    case 'key-or-end':
      return 'a key in double quotes or }';
    case 'colon':
      return 'a colon';
    case 'comma-or-end':
      return open === undefined ? 'the end of the text' : open === '{' ? 'a comma or }' : 'a comma or ]';
  }
}

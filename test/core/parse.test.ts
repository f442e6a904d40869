import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { describeIssue, InputError, quoteInput } from '../../src/core/input-error.js';
import { findJsonFault } from '../../src/core/json-fault.js';
import { check, formatPath, nearestName, parseJson } from '../../src/core/parse.js';

/** The InputError that an action throws; any other outcome fails the test. */
function faultOf(action: () => unknown): InputError {
  try {
    action();
  } catch (error) {
    if (error instanceof InputError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('parseJson', () => {
  it.each([
    ['{"a": NaN}', 'line 1, column 7: found "NaN", expected a number: strict JSON has no such one (use null or 0)'],
    ['{"a": -Infinity}', 'line 1, column 7: found "-Infinity", expected a number: strict JSON has no such one'],
    ['{\n  "a": 1,\n}', 'line 3, column 1: found "}", expected strict JSON, here a key in double quotes'],
    ['[1, 2', 'line 1, column 6: found the end of the text, expected strict JSON, here a comma or ]'],
    ['[1 2]', 'line 1, column 4: found "2", expected strict JSON, here a comma or ]'],
    ['{"a" 1}', 'line 1, column 6: found "1", expected strict JSON, here a colon'],
    ['{"a": 1 "b": 2}', 'line 1, column 9: found "\\"", expected strict JSON, here a comma or }'],
    ["{'a': 1}", `line 1, column 2: found "'", expected strict JSON, here a key in double quotes or }`],
    ['{a: 1}', 'line 1, column 2: found "a", expected strict JSON, here a key in double quotes or }'],
    ['{"a": undefined}', 'line 1, column 7: found "undefined", expected strict JSON, here a JSON value'],
    ['{"a": 01}', 'line 1, column 8: found "1", expected strict JSON, here a comma or }'],
    ['{"a": "b\n"}', 'line 1, column 9: found "\\n", expected strict JSON, here no line break'],
    ['{"a": "\\q"}', 'line 1, column 8: found "\\\\", expected strict JSON, here an escape that JSON knows'],
    ['"abc', 'line 1, column 5: found the end of the text, expected strict JSON, here the closing quote'],
    ['// note\n{}', 'line 1, column 1: found "/", expected strict JSON, here a JSON value'],
    ['{} {}', 'line 1, column 4: found "{", expected strict JSON, here the end of the text'],
    ['\ufeff{}', 'line 1, column 1: found "\\ufeff", expected strict JSON, here a JSON value'],
    ['', 'line 1, column 1: found an empty text, expected strict JSON'],
    ['apiVersion: gpumix/v1', 'line 1, column 1: found "apiVersion", expected strict JSON, here a JSON value'],
  ])('of %j names the place', (text, message) => {
    expect(faultOf(() => parseJson(text, 'FILE')).message).toContain(`FILE: ${message}`);
  });

  it('finds the fault of a text of a million brackets, without recursion', () => {
    expect(faultOf(() => parseJson('['.repeat(1_000_000), 'FILE')).message).toContain('line 1, column 1000001');
  });
});

describe('findJsonFault', () => {
  it('finds a fault exactly where the run-time finds a text not to be JSON', () => {
    const json = fc.json({ maxDepth: 4 });
    const edited = fc
      .tuple(json, fc.nat(), fc.constantFrom('', ',', '}', ']', '"', '\\', 'e', '0', '-', '.', ' ', '\n', 'null', ':'))
      .map(([text, where, piece]) => {
        const at = where % (text.length + 1);
        return text.slice(0, at) + piece + text.slice(at + (piece === '' ? 1 : 0));
      });
    fc.assert(
      fc.property(fc.oneof(json, edited, fc.string()), (text) => {
        let accepted = true;
        try {
          JSON.parse(text);
        } catch {
          accepted = false;
        }
        expect(findJsonFault(text) === null).toBe(accepted);
      }),
      { numRuns: 3000 },
    );
  });

  it('names the offset that the run-time names, where it names one', () => {
    const edited = fc.tuple(fc.json({ maxDepth: 3 }), fc.nat()).map(([text, where]) => {
      const at = where % text.length;
      return text.slice(0, at) + text.slice(at + 1);
    });
    let compared = 0;
    fc.assert(
      fc.property(edited, (text) => {
        try {
          JSON.parse(text);
        } catch (error) {
          const position = /at position (\d+)/.exec(String(error))?.[1];
          // In an escape, a number or a broken word the run-time points at the character inside, ours at its beginning.
          if (position === undefined || /escape|number|exponent/i.test(String(error))) return;
          const offset = findJsonFault(text)?.offset ?? -1;
          if (/[tfn]/.test(text[offset] ?? '')) return;
          compared += 1;
          expect(offset).toBe(Number(position));
        }
      }),
      { numRuns: 2000 },
    );
    expect(compared).toBeGreaterThan(100);
  });
});

describe('check', () => {
  const schema = z.strictObject({
    replicas: z.int().min(0).max(10).default(1),
    price: z.number().gt(0).optional(),
    mode: z.enum(['live', 'shadow']).optional(),
    names: z.array(z.string().min(1)).min(1).optional(),
    at: z.iso.datetime({ offset: true }).optional(),
    url: z.url().optional(),
    step: z.number().multipleOf(5).optional(),
    on: z.boolean().optional(),
    labels: z.record(z.string().regex(/^[a-z/]+$/), z.strictObject({ value: z.string() })).optional(),
    size: z.union([z.literal('auto'), z.number(), z.strictObject({ count: z.int() })]).optional(),
    source: z
      .discriminatedUnion('kind', [
        z.strictObject({ kind: z.literal('file'), path: z.string() }),
        z.strictObject({ kind: z.literal('redis'), key: z.string() }),
      ])
      .optional(),
    colour: z.string({ error: 'a colour' }).optional(),
    pair: z
      .strictObject({ low: z.number(), high: z.number() })
      .refine((pair) => pair.low <= pair.high, {
        path: ['low'],
        message: 'at most high',
      })
      .optional(),
  });

  it('returns the value with its defaults', () => {
    expect(check(schema, { price: 2 }, 'config')).toEqual({ replicas: 1, price: 2 });
  });

  it.each([
    [{ replicas: 1.5 }, 'replicas: found 1.5, expected a whole number'],
    [{ replicas: '3' }, 'replicas: found "3", expected a number'],
    [{ replicas: 11 }, 'replicas: found 11, expected a number <= 10'],
    [{ replicas: -1 }, 'replicas: found -1, expected a number >= 0'],
    [{ price: 0 }, 'price: found 0, expected a number > 0'],
    [{ price: Number.NaN }, 'price: found NaN, expected a finite number'],
    [{ price: Infinity }, 'price: found Infinity, expected a finite number'],
    [{ price: null }, 'price: found null, expected a number'],
    [{ mode: 'shdow' }, 'mode: found "shdow", expected one of live, shadow; did you mean "shadow"?'],
    [{ names: [] }, 'names: found [], expected an array with >= 1 item'],
    [{ names: ['a', ''] }, 'names[1]: found "", expected a text with >= 1 character'],
    [{ names: 'a' }, 'names: found "a", expected an array'],
    [{ at: 'noon' }, 'at: found "noon", expected a date and time as ISO 8601 with its zone (2026-11-20T10:00:00Z)'],
    [{ url: 'here' }, 'url: found "here", expected a URL'],
    [{ step: 7 }, 'step: found 7, expected a multiple of 5'],
    [{ on: 'yes' }, 'on: found "yes", expected true or false'],
    [{ labels: { 'A b': { value: 'x' } } }, 'labels["A b"]: found "A b", expected as key a text that matches'],
    [{ labels: { a: { value: 1 } } }, 'labels.a.value: found 1, expected a text'],
    [{ labels: { 'a/b': { valeu: 'x' } } }, 'labels["a/b"].valeu: found an unknown key, expected one of value; did'],
    [{ size: true }, 'size: found true, expected "auto", or a number, or an object'],
    [{ size: { count: 1.5 } }, 'size.count: found 1.5, expected a whole number'],
    [{ size: { cuont: 1 } }, 'size.cuont: found an unknown key, expected one of count; did you mean "count"?'],
    [{ source: { kind: 'fiel' } }, 'source.kind: found "fiel", expected one of file, redis; did you mean "file"?'],
    [{ source: { kind: 'file' } }, 'source.path: found nothing, expected a text'],
    [{ colour: 7 }, 'colour: found 7, expected a colour'],
    [{ pair: { low: 3, high: 1 } }, 'pair.low: found 3, expected at most high'],
    [{ replica: 1 }, 'replica: found an unknown key, expected one of replicas, price, '],
    [[], 'config: found [], expected an object'],
    [null, 'config: found null, expected an object'],
  ])('of %j says what is wrong', (value, message) => {
    expect(faultOf(() => check(schema, value, 'config')).message).toContain(message);
  });

  it('suggests the nearest key, and none where nothing is near', () => {
    expect(faultOf(() => check(schema, { replicsa: 1 }, 'config')).issues[0]!.suggestion).toBe('replicas');
    expect(faultOf(() => check(schema, { zebra: 1 }, 'config')).issues[0]!.suggestion).toBeUndefined();
  });

  it('names every fault, and counts those that it does not list', () => {
    const { issues, message } = faultOf(() => check(schema, { names: Array(200).fill(3), replicas: -1 }, 'config'));
    expect(issues.length).toBe(50);
    expect(message.split('\n')).toHaveLength(9);
    expect(message).toContain('… and 193 more');
  });

  it('does not take the names of prototypes for keys that it knows, nor lets them change a prototype', () => {
    for (const key of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) {
      const hostile: unknown = JSON.parse(`{${JSON.stringify(key)}: {"polluted": 1}}`);
      const { issues } = faultOf(() => check(schema, hostile, 'config'));
      expect(issues).toMatchObject([{ place: key, found: 'an unknown key' }]);
    }
    expect(check(schema, { labels: JSON.parse('{"__proto__": {"value": "x"}}') }, 'config').labels).toEqual({});
    expect(Object.prototype).not.toHaveProperty('polluted');
    expect(Object.prototype).not.toHaveProperty('value');
  });

  describe('of a document with hundreds of thousands of faults', () => {
    // Lists of faults are handed from array to array as arguments: far more than a stack holds.
    const nested = z.array(z.strictObject({ items: z.array(z.number().min(0)) }));
    const faulty = (from: number) => [{ items: Array.from({ length: 300_000 }, (_, i) => (i < from ? 1 : -1)) }];

    it('names the first ones', () => {
      const { message } = faultOf(() => check(nested, faulty(7), 'config'));
      expect(message).toContain('config: [0].items[7]: found -1, expected a number >= 0');
    });

    it('says so where they all lie deep in an array', () => {
      expect(faultOf(() => check(nested, faulty(5000), 'config')).message).toBe(
        'config: found tens of thousands of faults, expected a document that fits its schema',
      );
    });
  });

  it('names a fault once, not also the bounds that a value of the wrong type misses', () => {
    const array = z.array(z.number()).max(2);
    expect(faultOf(() => check(array, 'long text', 'config')).issues).toHaveLength(1);
  });

  it('throws nothing but InputError for any value', () => {
    fc.assert(
      fc.property(fc.anything({ withNullPrototype: true, withBigInt: true, withSparseArray: true }), (value) => {
        const wrapped = fc.sample(fc.constantFrom('replicas', 'size', 'labels', 'source', 'names'), 1)[0]!;
        for (const document of [value, { [wrapped]: value }]) {
          try {
            check(schema, document, 'config');
          } catch (error) {
            expect(error).toBeInstanceOf(InputError);
          }
        }
      }),
      { numRuns: 1000 },
    );
  });
});

describe('quoteInput', () => {
  it('shows a value on one line that fits a terminal', () => {
    expect(quoteInput(undefined)).toBe('nothing');
    expect(quoteInput(null)).toBe('null');
    expect(quoteInput(Number.NaN)).toBe('NaN');
    expect(quoteInput('a\nb')).toBe('"a\\nb"');
    expect(quoteInput({ a: [1, null, true, { b: 'c' }] })).toBe('{"a":[1,null,true,{"b":"c"}]}');
    expect(quoteInput(Array(9).fill(0))).toBe('an array of 9 items');
    expect(quoteInput('x'.repeat(1e6))).toBe(`"${'x'.repeat(59)}…`);
  });

  it('is what JSON is, for values that fit', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 2 }), (value) => {
        const json = JSON.stringify(value);
        const plain = /^[\x20-\x7e]*$/.test(json) && json.length <= 60 && !json.includes('e-') && !/-0\b/.test(json);
        if (plain && !(Array.isArray(value) && value.length > 8) && !hasLongArray(value)) {
          expect(quoteInput(value)).toBe(json);
        }
      }),
    );
  });

  it('shows characters that would change the terminal or the direction of a line as escapes', () => {
    expect(quoteInput('\u009b31m')).toBe('"\\u009b31m"');
    expect(quoteInput('a\u202eb\u2028\ufeff')).toBe('"a\\u202eb\\u2028\\ufeff"');
  });

  it('never throws and never grows: deep, cyclic and hostile values', () => {
    let deep: unknown = 1;
    for (let i = 0; i < 100_000; i += 1) deep = [deep];
    const cyclic: Record<string, unknown> = { toString: 1 };
    cyclic.self = cyclic;
    for (const value of [deep, cyclic, Object.create(null), 1n, Symbol('s'), () => 1, [undefined], new Map()]) {
      expect(quoteInput(value).length).toBeLessThanOrEqual(61);
    }
    fc.assert(
      fc.property(fc.anything({ withNullPrototype: true, withBigInt: true }), (value) => {
        const text = quoteInput(value);
        expect(text.length).toBeLessThanOrEqual(61);
        expect(text).not.toMatch(/[\n\r]/);
      }),
    );
  });
});

function hasLongArray(value: unknown): boolean {
  if (value === null || typeof value !== 'object') return false;
  if (Array.isArray(value) && value.length > 8) return true;
  return Object.values(value).some(hasLongArray);
}

describe('formatPath', () => {
  it('writes a path as a person does, and quotes names that are no words', () => {
    expect(formatPath([])).toBe('');
    expect(formatPath(['models', 0, 'demand', 2, 'rps'])).toBe('models[0].demand[2].rps');
    expect(formatPath(['models', 'meta/llama:3', 'slo'])).toBe('models["meta/llama:3"].slo');
    expect(formatPath(['a\nb', 'gpu-type'])).toBe('["a\\nb"].gpu-type');
    expect(formatPath(['x'.repeat(10_000)]).length).toBeLessThan(80);
  });
});

describe('nearestName', () => {
  it('finds slips and other spellings, and nothing where two words are merely short', () => {
    expect(nearestName('outputToken', ['inputTokens', 'outputTokens'])).toBe('outputTokens');
    expect(nearestName('input_tokens', ['inputTokens', 'outputTokens'])).toBe('inputTokens');
    expect(nearestName('MAX-REPLICAS', ['maxReplicas'])).toBe('maxReplicas');
    expect(nearestName('k0', ['at', 'models'])).toBeUndefined();
    expect(nearestName('anything', [])).toBeUndefined();
    expect(nearestName('x'.repeat(1_000_000), ['models'])).toBeUndefined();
  });
});

describe('an InputError', () => {
  it('names source, place, what was found and what was expected', () => {
    const issue = { place: 'server.prot', found: 'an unknown key', expected: 'one of host, port', suggestion: 'port' };
    expect(describeIssue('gpumix.yaml', issue)).toBe(
      'gpumix.yaml: server.prot: found an unknown key, expected one of host, port; did you mean "port"?',
    );
    expect(describeIssue('stdin', { place: '', found: 'null', expected: 'an object' })).toBe(
      'stdin: found null, expected an object',
    );
  });
});

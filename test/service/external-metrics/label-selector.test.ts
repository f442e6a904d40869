import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../../src/core/input-error.js';
import { type Labels, parseLabelSelector } from '../../../src/service/external-metrics/label-selector.js';

const labels = { deployment: 'llama-l4', gpu_type: 'L4', size: '7', empty: '', in: 'x' };

describe('a label selector', () => {
  it.each([
    ['', true],
    ['  ', true],
    ['deployment=llama-l4', true],
    ['deployment==llama-l4', true],
    [' deployment = llama-l4 ', true],
    ['deployment=llama', false],
    ['deployment=llama-l4,gpu_type=A100', false],
    ['deployment=llama-l4,gpu_type=L4', true],
    ['deployment!=llama', true],
    ['absent!=llama', true],
    ['absent=', false],
    ['empty=', true],
    ['empty=,deployment', true],
    ['gpu_type in (A100, L4)', true],
    ['gpu_type in (A100,H100)', false],
    ['gpu_type notin (A100,H100)', true],
    ['gpu_type notin (L4)', false],
    ['absent notin (L4)', true],
    ['absent in (L4)', false],
    ['empty in ()', true],
    ['empty in (,a)', true],
    ['gpu_type', true],
    ['!gpu_type', false],
    ['! absent', true],
    ['size>6', true],
    ['size > 7', false],
    ['size<8,size>-1', true],
    ['deployment>1', false],
    ['absent<1', false],
    // Words are what stands in their place.
    ['in in (x)', true],
    ['in=x', true],
    ['example.com/a-b_c.d=1', false],
    // Keys of Object.prototype are no labels.
    ['constructor', false],
    ['toString!=x', true],
  ])('%j of the labels is %s', (selector, fits) => {
    expect(parseLabelSelector(selector)(labels)).toBe(fits);
  });

  it.each([
    [',', 'part 1: found ",", expected the name of a label'],
    ['a=b,', 'part 5: found the end, expected the name of a label'],
    ['a=b c=d', 'part 4: found "c", expected ","'],
    ['a b', 'part 2: found "b", expected "=", "=="'],
    ['=b', 'part 1: found "="'],
    ['a===b', 'part 3'],
    ['a in b', 'part 3: found "b", expected "("'],
    ['a in (b', 'part 5: found the end, expected ")"'],
    ['a in (b))', 'part 6: found ")", expected ","'],
    ['!a=b', 'part 3: found "=", expected ","'],
    ['a>b', 'part 3: found "b", expected a whole number'],
    ['a=b/c', 'part 3: found "b/c", expected a value of a label'],
    ['-a=b', 'part 1: found "-a"'],
    ['a/b/c', 'part 1: found "a/b/c"'],
    ['UP.com/a', 'part 1'],
    [`a=${'x'.repeat(64)}`, 'part 3'],
    [`${'x'.repeat(64)}=a`, 'part 1'],
    ['a=é', 'part 3'],
  ])('%j is refused where it goes wrong', (selector, message) => {
    expect(() => parseLabelSelector(selector)).toThrow(message);
    expect(() => parseLabelSelector(selector)).toThrow(InputError);
  });

  /** Requirements as data, with how each is written and what it means. */
  const word = fc.stringMatching(/^[a-z](?:[a-z0-9.-]{0,4}[a-z0-9])?$/);
  const space = fc.constantFrom('', ' ', '  ', '\t');
  const requirement = fc.record({
    key: fc.constantFrom('a', 'b', 'c', 'in', 'notin'),
    operator: fc.constantFrom('=', '==', '!=', 'in', 'notin', 'exists', 'absent'),
    values: fc.array(fc.oneof(word, fc.constantFrom('x', 'y', '')), { minLength: 1, maxLength: 3 }),
    space,
  });
  type Requirement = typeof requirement extends fc.Arbitrary<infer Value> ? Value : never;

  function written({ key, operator, values, space: gap }: Requirement): string {
    switch (operator) {
      case 'exists':
        return `${gap}${key}${gap}`;
      case 'absent':
        return `!${gap}${key}`;
      case 'in':
      case 'notin':
        return `${key} ${gap}${operator}${gap}(${values.join(`${gap},${gap}`)})${gap}`;
      default:
        return `${key}${gap}${operator}${gap}${values[0]}`;
    }
  }

  function meant({ key, operator, values }: Requirement, given: Labels): boolean {
    const value = new Map(Object.entries(given)).get(key);
    switch (operator) {
      case 'exists':
        return value !== undefined;
      case 'absent':
        return value === undefined;
      case 'in':
        return value !== undefined && values.includes(value);
      case 'notin':
        return value === undefined || !values.includes(value);
      case '!=':
        return value !== values[0];
      default:
        return value === values[0];
    }
  }

  it('means what its requirements mean, however it is spaced', () => {
    const given = fc.dictionary(fc.constantFrom('a', 'b', 'c', 'in', 'notin'), fc.constantFrom('x', 'y', ''));
    fc.assert(
      fc.property(fc.array(requirement, { maxLength: 4 }), given, (requirements, some) => {
        const fits = parseLabelSelector(requirements.map(written).join(','))(some);
        expect(fits).toBe(requirements.every((one) => meant(one, some)));
      }),
      { numRuns: 500 },
    );
  });

  it('of any text is a selector or an InputError', () => {
    const pieces = fc.array(
      fc.constantFrom('a', '=', '!=', '==', '!', '(', ')', ',', 'in', 'notin', '<', '>', ' ', '1', 'é', '/', '.', '-'),
      { maxLength: 12 },
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: 'binary' }),
          pieces.map((parts) => parts.join('')),
        ),
        (text) => {
          try {
            expect(typeof parseLabelSelector(text)(labels)).toBe('boolean');
          } catch (error) {
            if (!(error instanceof InputError)) throw error;
          }
        },
      ),
      { numRuns: 1000 },
    );
  });
});

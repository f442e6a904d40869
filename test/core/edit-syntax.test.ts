import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type EditSegment, editOperators, formatEditPath, parseSetEdit } from '../../src/core/edit-syntax.js';
import { InputError } from '../../src/core/input-error.js';

/** What is refused, in one line. */
function faultOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof InputError) return error.message;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('an edit as it is written', () => {
  it.each([
    ['pools.H100=8', ['pools', 'H100'], '=', 8],
    ['models.*.rps*=2', ['models', '*', 'rps'], '*=', 2],
    ['models."a.b".rps += 1e-1', ['models', 'a.b', 'rps'], '+=', 0.1],
    ['pools.*=4', ['pools', '*'], '=', 4],
    ['pools.**=4', ['pools', '*'], '*=', 4],
    ['pools.H100-80GB-=2', ['pools', 'H100-80GB'], '-=', 2],
    ['models.command-r+.rps*=.5', ['models', 'command-r+', 'rps'], '*=', 0.5],
    ['deployments.prod/chat-l4.maxTokens=null', ['deployments', 'prod/chat-l4', 'maxTokens'], '=', null],
    ['options.routing=proportional', ['options', 'routing'], '=', 'proportional'],
    ['budgetUsdPerHour=-3', ['budgetUsdPerHour'], '=', -3],
    ['models."say \\"a=b\\"".rps=1', ['models', 'say "a=b"', 'rps'], '=', 1],
  ] as const)('%s', (text, names, operator, value) => {
    const edit = parseSetEdit(text);
    expect(edit.path.map((segment) => segment.name)).toEqual(names);
    expect(edit).toMatchObject({ kind: 'set', text, operator, value });
  });

  it.each([
    ['', 'found no operator, expected PATH=VALUE, PATH*=FACTOR'],
    ['pools.H100', 'found no operator, expected PATH=VALUE'],
    ['pools.H100=', 'found no value, expected a number, null or a word after the operator'],
    ['pools.H100*=twice', 'found "twice", expected a number after the operator'],
    ['pools.H100=1e999', 'found 1e999, expected a finite number'],
    ['pools..gpus=1', 'pools: found an empty name, expected a name'],
    ['=1', 'found an empty name, expected a name'],
    ['models.+=2', 'models: found an empty name, expected a name'],
    ['models."chat.rps=2', 'expected a closing quote'],
    ['models."chat\\q".rps=2', 'expected a name in quotes, as in JSON'],
    ['models."chat"x.rps=2', 'found "x.rps=2", expected a dot or an operator'],
  ])('refuses %j', (text, message) => {
    const said = faultOf(() => parseSetEdit(text));
    expect(said).toContain(`--set ${JSON.stringify(text)}: `);
    expect(said).toContain(message);
  });

  const names = fc.oneof(
    fc.string(),
    fc.string({ unit: 'binary' }),
    fc.constantFrom('*', 'a.b', 'x+', 'a=b', '"', '\\'),
  );
  const segments: fc.Arbitrary<EditSegment> = fc
    .record({ name: names, quoted: fc.boolean() })
    .filter(({ name }) => name !== '');

  it('is read back from any path that was formatted, whatever the names hold', () => {
    const value = fc.double({ noNaN: true, noDefaultInfinity: true });
    fc.assert(
      fc.property(
        fc.array(segments, { minLength: 1, maxLength: 5 }),
        fc.constantFrom(...editOperators),
        value,
        (path, operator, amount) => {
          const read = parseSetEdit(`${formatEditPath(path)}${operator}${amount}`);
          expect(read.path.map(({ name }) => name)).toEqual(path.map(({ name }) => name));
          const meansAll = ({ name, quoted }: EditSegment): boolean => name === '*' && !quoted;
          expect(read.path.map(meansAll)).toEqual(path.map(meansAll));
          expect(read.operator).toBe(operator);
          expect(read.value === amount).toBe(true);
        },
      ),
    );
  });
});

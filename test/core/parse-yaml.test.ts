import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/core/input-error.js';
import { nearestPlace, parseYaml, withLines } from '../../src/core/parse-yaml.js';

const limits = { largest: 1_000_000, expected: 'a document of ours' };
const read = (text: string) => parseYaml(text, 'a.yaml', limits);

describe('YAML of a person', () => {
  it('is a plain value, with the line of every key and item', () => {
    const { value, lines } = read('services:\n- name: chat\n  memoryMb: 5\n- name: clip\n');
    expect(value).toEqual({ services: [{ name: 'chat', memoryMb: 5 }, { name: 'clip' }] });
    expect([...lines]).toEqual([
      ['services', 'line 1'],
      ['services[0]', 'line 2'],
      ['services[0].name', 'line 2'],
      ['services[0].memoryMb', 'line 3'],
      ['services[1]', 'line 4'],
      ['services[1].name', 'line 4'],
    ]);
  });

  it.each([
    ['a: [1, 2', 'a.yaml: line 1, column 9: found the end of the text, expected valid YAML'],
    ['a: 1\na: 2\n', 'a.yaml: line 2, column 1: found "a", expected valid YAML (Map keys must be unique)'],
    [
      '- vendor: nvidia\n   memoryMb: 1\n',
      'a.yaml: line 1, column 11: found "n", expected valid YAML (Implicit keys need to be on a single line: is the line below indented too far?)',
    ],
    ['a:\n\tb: 1\n', 'a.yaml: line 2, column 1: found "\\t", expected valid YAML'],
    ['a: !!python/object x\n', 'a.yaml: line 1, column 4: found "!", expected valid YAML (Unresolved tag'],
    ['a: *nowhere\n', 'a.yaml: found "Unresolved alias'],
    [
      'a: 1\n---\nb: 2\n',
      'a.yaml: line 2, column 1: found "-", expected valid YAML (One document: --- begins a second)',
    ],
  ])('that is not valid is refused by its line and column: %j', (text, message) => {
    expect(() => read(text)).toThrow(message);
  });

  it('that multiplies itself by its anchors is refused, soon', () => {
    const levels = Array.from({ length: 12 }, (_, i) => `a${i + 1}: &a${i + 1} [${`*a${i},`.repeat(9)}]`);
    expect(() => read(['a0: &a0 [x]', ...levels].join('\n'))).toThrow(
      'expected YAML that can be read: they may repeat 20 times what is written',
    );
  });

  it('may share one list among a thousand services', () => {
    const services = Array.from({ length: 1000 }, () => '- *cuda\n').join('');
    expect(read(`cuda: &cuda [cuda]\nservices:\n${services}`).value).toEqual({
      cuda: ['cuda'],
      services: Array.from({ length: 1000 }, () => ['cuda']),
    });
  });

  it('may hold itself, which no document of ours takes', () => {
    expect(Object.keys(read('a: &a { b: *a }\n').value as object)).toEqual(['a']);
  });

  it('that is too deep or too long is refused', () => {
    expect(() => read(`${'['.repeat(200)}${']'.repeat(200)}`)).toThrow(
      'a.yaml: [0][0][0]: found more than 64 levels, expected a document of ours',
    );
    expect(() => parseYaml('a: 12345', 'a.yaml', { ...limits, largest: 5 })).toThrow(
      'a.yaml: found 8 characters, expected at most 5 characters',
    );
  });

  it('ends in a value or an InputError, whatever the text', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'a:-[]{}&*!|>#%@`"\' \n\t,?<1.') }), (text) => {
        try {
          read(text);
        } catch (error) {
          expect(error).toBeInstanceOf(InputError);
        }
      }),
    );
  });
});

describe('the line of a fault', () => {
  it('is that of the key, else of what is around it', () => {
    const { lines } = read('services:\n- name: chat\n');
    expect(nearestPlace('services[0].name', lines)).toBe('line 2');
    expect(nearestPlace('services[0].memoryMb', lines)).toBe('line 2');
    expect(nearestPlace('gpus', lines)).toBeUndefined();
    const fault = new InputError('a.yaml', [
      { place: 'services[0].memoryMb', found: 'nothing', expected: 'a whole number' },
    ]);
    expect(withLines(fault, lines).message).toBe(
      'a.yaml: line 2: services[0].memoryMb: found nothing, expected a whole number',
    );
  });
});

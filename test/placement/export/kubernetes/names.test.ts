import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cutName, kubernetesNames, labelRule } from '../../../../src/placement/export/kubernetes/names.js';
import '../../../support/property-seed.js';

const named = (...names: string[]) => Object.fromEntries(kubernetesNames(names, labelRule));

describe('names for Kubernetes', () => {
  it('stay where Kubernetes takes them', () => {
    expect(named('ai-llm', '4o-mini', 'a')).toEqual({ 'ai-llm': 'ai-llm', '4o-mini': '4o-mini', a: 'a' });
  });

  it('are made of the letters and digits where it does not', () => {
    expect(named('My LLM_1', 'Größe', '日本', '-x-')).toEqual({
      'My LLM_1': 'my-llm-1',
      Größe: 'gro-e',
      日本: 'service',
      '-x-': 'x',
    });
  });

  it('are told apart by a hash where two would be one, and one that fits is never touched', () => {
    expect(named('my-llm', 'My LLM', 'my_llm')).toEqual({
      'my-llm': 'my-llm',
      'My LLM': expect.stringMatching(/^my-llm-[0-9a-f]{8}$/),
      my_llm: expect.stringMatching(/^my-llm-[0-9a-f]{8}$/),
    });
  });

  it('are cut where they are too long', () => {
    const [name] = kubernetesNames(['x'.repeat(100)], labelRule).values();
    expect(name).toMatch(/^x{54}-[0-9a-f]{8}$/);
    expect(cutName('a.b', 63)).toBe('a.b');
  });

  it('start with a letter where a Service is named', () => {
    const rule = { longest: 53, startsWithLetter: true };
    expect(Object.fromEntries(kubernetesNames(['4o-mini', 'llm'], rule))).toEqual({
      '4o-mini': 's-4o-mini',
      llm: 'llm',
    });
  });

  it('are valid, all different, and the same in any order', () => {
    const text = fc.oneof(
      fc.string({ unit: 'grapheme', minLength: 1, maxLength: 80 }),
      fc.string({ unit: fc.constantFrom('a', 'A', '-', '_', '1'), minLength: 1, maxLength: 5 }),
    );
    fc.assert(
      fc.property(
        fc.uniqueArray(text, { maxLength: 30 }),
        fc.integer({ min: 12, max: 63 }),
        fc.boolean(),
        (names, longest, startsWithLetter) => {
          const rule = { longest, startsWithLetter };
          const found = kubernetesNames(names, rule);
          expect(new Set(found.values()).size).toBe(names.length);
          for (const name of found.values()) {
            expect(name.length).toBeLessThanOrEqual(longest);
            expect(name).toMatch(startsWithLetter ? /^[a-z]([-a-z0-9]*[a-z0-9])?$/ : /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/);
          }
          const reversed = kubernetesNames([...names].reverse(), rule);
          for (const name of names) expect(reversed.get(name)).toBe(found.get(name));
        },
      ),
    );
  });
});

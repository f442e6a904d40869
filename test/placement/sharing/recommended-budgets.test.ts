import { describe, expect, it } from 'vitest';
import { budgetClassOf, recommendedBudgets } from '../../../src/placement/sharing/recommended-budgets.js';

const alone = { isUnified: false, others: 0, isLargest: true, usedMb: 0 };

describe('the recommended budget', () => {
  it.each([
    ['an LLM alone on a card', { ...alone, service: { kind: 'llm' } }, 'llm-alone'],
    ['an LLM beside others on a card', { ...alone, others: 1, service: { kind: 'llm' } }, null],
    ['an LLM beside a desktop on a card', { ...alone, usedMb: 900, service: { kind: 'llm' } }, 'llm-alone'],
    ['an LLM alone in unified memory', { ...alone, isUnified: true, service: { kind: 'llm' } }, 'llm-unified-alone'],
    [
      'an LLM beside the system in unified memory',
      { ...alone, isUnified: true, usedMb: 15_360, service: { kind: 'llm' } },
      'llm-unified-shared',
    ],
    [
      'the smaller of two LLMs in unified memory',
      { ...alone, isUnified: true, others: 1, isLargest: false, service: { kind: 'llm' } },
      null,
    ],
    ['an embedding model alone', { ...alone, service: { kind: 'embedding' } }, 'small-model-alone'],
    ['a database', { ...alone, service: { kind: 'database' } }, null],
  ] as const)('%s', (_, question, name) => {
    expect(budgetClassOf(question)).toBe(name);
  });

  it('is a part of the GPU, with a reason', () => {
    for (const { fraction, when, why } of Object.values(recommendedBudgets)) {
      expect(fraction).toBeGreaterThan(0);
      expect(fraction).toBeLessThan(1);
      expect([when, why].every((text) => text.length > 20)).toBe(true);
    }
  });
});

import type { PlacementService, ServiceKind } from '../../core/placement-request.js';

/**
 * How much of a GPU one service should take at most, as vLLM's `--gpu-memory-utilization` counts it.
 *
 * vLLM's own default (0.9 or 0.92) is for a GPU of a data centre that serves nothing else. These are for GPUs as people
 * have them at home and at the edge.
 */
export type RecommendedBudget = {
  /** Part of all of the GPU's memory. */
  readonly fraction: number;
  /** Which services on which GPUs. */
  readonly when: string;
  readonly why: string;
};

export const recommendedBudgets = {
  'llm-alone': {
    fraction: 0.85,
    when: 'an LLM that has a GPU with memory of its own for itself',
    why: 'the rest is for the context of the driver, for activations beyond what the engine measured, and for a screen',
  },
  'llm-unified-shared': {
    fraction: 0.7,
    when: 'an LLM in the memory of the system, which others use too',
    why: 'the system, its file cache and the other services take from the same memory',
  },
  'llm-unified-alone': {
    fraction: 0.95,
    when: 'an LLM on a node of its own, with memory of the system that is set aside for the GPU',
    why: 'what the system needs is left out of the memory of the GPU already, and nobody else takes from it',
  },
  'small-model-alone': {
    fraction: 0.8,
    when: 'an embedding, reranking, vision or speech model that has a GPU for itself',
    why: 'it has no cache that grows into more memory, and large batches need room for a moment',
  },
} satisfies Record<string, RecommendedBudget>;

export type BudgetClass = keyof typeof recommendedBudgets;

const modelKinds: readonly ServiceKind[] = ['embedding', 'reranker', 'vision', 'speech'];

/** The class of a service on its GPU; null where several share memory of the GPU's own, since then their parts differ. */
export function budgetClassOf({
  service,
  isUnified,
  others,
  isLargest,
  usedMb,
}: {
  readonly service: Pick<PlacementService, 'kind'>;
  readonly isUnified: boolean;
  /** Services beside it on the GPU. */
  readonly others: number;
  /** None beside it has a larger budget: of several LLMs in one memory, one may grow. */
  readonly isLargest: boolean;
  /** Taken by the system and others [MiB]. */
  readonly usedMb: number;
}): BudgetClass | null {
  const isAlone = others === 0;
  if (service.kind === 'llm') {
    if (isUnified && isAlone && usedMb === 0) return 'llm-unified-alone';
    if (isUnified) return isLargest ? 'llm-unified-shared' : null;
    return isAlone ? 'llm-alone' : null;
  }
  return isAlone && modelKinds.includes(service.kind) ? 'small-model-alone' : null;
}

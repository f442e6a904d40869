import type { ServiceKind } from '../core/placement-request.js';

/** What vLLM serves, and engines like it: they hold themselves to the part of the memory that they are told. */
const engineKinds: ReadonlySet<ServiceKind> = new Set(['llm', 'embedding', 'reranker']);

export function hasEngine({ kind }: { readonly kind: ServiceKind }): boolean {
  return engineKinds.has(kind);
}

import { gpuKey } from '../../../core/placement-request.js';
import type { ExportInput } from '../exporter.js';
import { type PlacedService, placedServices } from '../placed-service.js';
import { checkNodeNames, kubernetesNames, labelRule, type NameRule } from './names.js';

/** A placed service, and what it is called in the cluster. */
export type NamedService = PlacedService & { readonly name: string };

/**
 * The placed services with names that Kubernetes takes; refused ones keep theirs from being taken.
 *
 * @throws InputError where a node of theirs cannot be one of a cluster
 */
export function namedServices(input: ExportInput, rule: NameRule = labelRule): readonly NamedService[] {
  const placed = placedServices(input);
  checkNodeNames(input.request, new Set(placed.flatMap(({ assignment: { node } }) => (node === null ? [] : [node]))));
  const names = kubernetesNames(
    input.request.services.map(({ name }) => name),
    rule,
  );
  return placed.map((one) => ({ ...one, name: names.get(one.service.name)! }));
}

/** The services of each GPU by `gpuKey`; those of a GPU under MIG are its instances. */
export function servicesByGpu<T extends PlacedService>(placed: readonly T[]): ReadonlyMap<string, readonly T[]> {
  const byGpu = new Map<string, T[]>();
  for (const one of placed) {
    if (one.gpu === null) continue;
    const key = gpuKey(one.gpu);
    const there = byGpu.get(key);
    if (there === undefined) byGpu.set(key, [one]);
    else there.push(one);
  }
  return byGpu;
}

/** `a`, `a and b`, `a, b and c`; past eight, how many more. */
export function listed(items: readonly string[]): string {
  if (items.length > 8) return `${items.slice(0, 7).join(', ')} and ${items.length - 7} more`;
  return items.length < 2 ? items.join('') : `${items.slice(0, -1).join(', ')} and ${items.at(-1)}`;
}

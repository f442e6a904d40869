import { readFileSync } from 'node:fs';
import { parseAllDocuments } from 'yaml';
import { type GpuCatalogue, parseGpuCatalogue } from '../../src/core/gpu-types.js';
import type { Placement, PlacementAssignment } from '../../src/core/placement.js';
import { checkPlacementRequest, type PlacementRequestInput } from '../../src/core/placement-request.js';
import type { ExportInput } from '../../src/placement/export/exporter.js';
import type { Manifest } from './chart-renderer.js';

export const gpuCatalogue: GpuCatalogue = parseGpuCatalogue(
  JSON.parse(readFileSync('profiles/gpus.json', 'utf8')),
  'profiles/gpus.json',
);

export type GpuInput = PlacementRequestInput['gpus'][number];
type Service = PlacementRequestInput['services'][number];

/** A request and a placement of it, which is taken as it is: exports do not look at the figures of the objective. */
export function placementInput(parts: {
  readonly gpus: readonly GpuInput[];
  readonly services: readonly (Partial<Service> & { readonly name: string })[];
  readonly assignments: readonly PlacementAssignment[];
  readonly warnings?: Placement['warnings'];
  readonly refusals?: Placement['refusals'];
}): ExportInput {
  const services = parts.services.map((service) => ({ memoryMb: 0, frameworks: [], ...service }));
  const request = checkPlacementRequest(
    { apiVersion: 'gpumix/v1', kind: 'PlacementRequest', gpus: parts.gpus, services },
    'the test',
  );
  const objective = { refusedByPriority: [], overcommitMb: 0, shrunkMb: 0, criticalSlowness: 0, maxRelativeUse: 0 };
  const placement: Placement = {
    apiVersion: 'gpumix/v1',
    kind: 'Placement',
    strategy: 'optimal',
    status: 'optimal',
    overcommit: 'warn',
    assignments: parts.assignments,
    gpus: [],
    warnings: parts.warnings ?? [],
    refusals: parts.refusals ?? [],
    objective,
    bound: objective,
    nodes: 0,
  };
  return { request, placement, catalogue: gpuCatalogue };
}

/** A service on a GPU, or with `null` on the CPU. */
export function on(
  gpu: { readonly node: string; readonly index: number } | null,
  service: string,
  rest: Partial<PlacementAssignment> = {},
): PlacementAssignment {
  return {
    service,
    node: gpu === null ? null : gpu.node,
    gpuIndex: gpu === null ? null : gpu.index,
    memoryBudgetMb: 0,
    sharing: gpu === null ? 'cpu' : 'exclusive',
    share: gpu === null ? 0 : 1,
    ...rest,
  };
}

/** The objects of a file, as Kubernetes' parser reads it (YAML 1.1). */
export function manifestsOf(text: string): readonly Manifest[] {
  const documents = parseAllDocuments(text, { version: '1.1' });
  if ('empty' in documents) return [];
  return documents.flatMap((document) => {
    if (document.errors.length > 0) throw document.errors[0]!;
    const value = document.toJS() as Manifest | null;
    return value === null ? [] : [value];
  });
}

/** Objects as they are in the cluster after server-side apply: Deployments without an image merged into one that exists. */
export function wholeObjects(manifests: readonly Manifest[]): readonly Manifest[] {
  return manifests.map((manifest) => {
    if (manifest.kind !== 'Deployment' || manifest.spec.selector !== undefined) return manifest;
    const { template } = manifest.spec;
    const labels = { app: 'there-before' };
    const containers = template.spec.containers.map((container: object) => ({ image: 'there/before:1', ...container }));
    const metadata = { ...template.metadata, labels: { ...template.metadata?.labels, ...labels } };
    const whole = { metadata, spec: { ...template.spec, containers } };
    return { ...manifest, spec: { ...manifest.spec, selector: { matchLabels: labels }, template: whole } };
  });
}

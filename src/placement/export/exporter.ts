import type { GpuCatalogue } from '../../core/gpu-types.js';
import type { Placement } from '../../core/placement.js';
import type { PlacementRequest } from '../../core/placement-request.js';

/** How pods of the `kubernetes` export get their GPUs; what each does is written in `kubernetes/gpu-allocations.ts`. */
export const gpuAllocationNames = ['device-plugin', 'hami', 'kai', 'dra'] as const;
export type GpuAllocationName = (typeof gpuAllocationNames)[number];

/** All that an export is made of: the question, the answer, and what is known of the parts. */
export type ExportInput = {
  readonly request: PlacementRequest;
  readonly placement: Placement;
  readonly catalogue: GpuCatalogue;
  /** Of the `kubernetes` export only; absent = `device-plugin`. */
  readonly gpuAllocation?: GpuAllocationName;
};

export type ExportFile = {
  /** Holds no slash: a node's name in it is spelt with letters, digits, `.`, `_` and `-` only. */
  readonly fileName: string;
  /** The whole file, ending with a line break. */
  readonly text: string;
};

export type Export = {
  /** At least one, names all different; more only where a format is for one machine and the services are on several. */
  readonly files: readonly ExportFile[];
  /** What a person must know or do beside them, a sentence each. */
  readonly notices: readonly string[];
};

/** Writes a placement as files that somebody else's tool reads. Pure: the same input gives the same text. */
export type Exporter = {
  /** What the file is usually called. */
  readonly fileName: string;
  /** What it is for, in half a line, for `--help`. */
  readonly about: string;
  /** @throws InputError where the format cannot hold what was placed (a name that Kubernetes refuses) */
  readonly write: (input: ExportInput) => Export;
};

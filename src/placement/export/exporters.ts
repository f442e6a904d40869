import { assignments } from './assignments.js';
import { compose } from './compose.js';
import type { Exporter } from './exporter.js';
import { vllm } from './vllm.js';

/** What a placement can be written as: `gpumix place FILE --export NAME`. */
export const exportNames = ['compose', 'assignments', 'vllm'] as const;
export type ExportName = (typeof exportNames)[number];

export const exporters = { compose, assignments, vllm } satisfies Record<ExportName, Exporter>;

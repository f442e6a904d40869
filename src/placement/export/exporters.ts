import { assignments } from './assignments.js';
import { compose } from './compose.js';
import { devicePluginExporter } from './device-plugin.js';
import type { Exporter } from './exporter.js';
import { kuberayExporter } from './kuberay.js';
import { kubernetesExporter } from './kubernetes.js';
import { vllm } from './vllm.js';

/** What a placement can be written as: `gpumix place FILE --export NAME`. */
export const exportNames = ['compose', 'assignments', 'kubernetes', 'device-plugin', 'kuberay', 'vllm'] as const;
export type ExportName = (typeof exportNames)[number];

export const exporters = {
  compose,
  assignments,
  kubernetes: kubernetesExporter,
  'device-plugin': devicePluginExporter,
  kuberay: kuberayExporter,
  vllm,
} satisfies Record<ExportName, Exporter>;

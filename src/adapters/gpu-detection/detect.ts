import { hostname } from 'node:os';
import type { GpuCatalogue } from '../../core/gpu-types.js';
import { loadGpuCatalogue } from '../catalogue-file.js';
import type { ClusterAccess } from '../kubernetes/api-client.js';
import { clusterGpus } from './cluster-gpus.js';
import { type CommandRunner, commandRunner, usualToolLimitMs } from './command-runner.js';
import { gpusOfFile } from './gpu-file.js';
import { type DetectedGpus, machineGpus } from './machine-gpus.js';

export type { DetectedGpus, DetectionNotice } from './machine-gpus.js';

export type DetectGpusOptions = {
  /** This machine, a cluster's nodes, or a file of nodes or GPUs (JSON or YAML). */
  readonly from: 'machine' | 'kubernetes' | { readonly file: string };
  /** That which comes with the package by default. */
  readonly catalogue?: GpuCatalogue;
  /** What this machine is called in the answer; its host name by default. */
  readonly node?: string;
  /** Which cluster; nothing set: as kubectl finds it, else the service account. */
  readonly cluster?: ClusterAccess;
  /** For each run of a tool, and each answer of an API server [ms]; 10 s by default. */
  readonly toolLimitMs?: number;
  /** How tools are run; those that are installed here by default. */
  readonly run?: CommandRunner;
  /** Above /sys and /proc; / by default. */
  readonly root?: string;
  /** Ends the listing of a cluster. */
  readonly signal?: AbortSignal;
};

/**
 * Finds GPUs, as a placement request takes them.
 *
 * Tools that are absent, fail, hang or print what nobody understands, and clusters that do not answer, are notices, as is
 * that there are no GPUs.
 *
 * @throws InputError for a file that cannot be read or holds something else, and for a kubeconfig or context that was named
 *   and cannot be used
 */
export async function detectGpus(options: DetectGpusOptions): Promise<DetectedGpus> {
  const { from, node = hostname(), cluster = {}, toolLimitMs = usualToolLimitMs, root = '/' } = options;
  const catalogue = options.catalogue ?? (await loadGpuCatalogue());
  const found = await detected();
  if (found.gpus.length > 0) return found;
  return { ...found, notices: [...found.notices, { source: 'detection', message: 'No GPUs detected' }] };

  function detected(): Promise<DetectedGpus> {
    if (from === 'machine') {
      const run = options.run ?? commandRunner({ limitMs: toolLimitMs, root });
      return machineGpus({ run, root, node, catalogue });
    }
    if (from === 'kubernetes') {
      const signal = options.signal ?? new AbortController().signal;
      return clusterGpus({ access: cluster, catalogue, answerTimeoutMs: toolLimitMs, signal });
    }
    return gpusOfFile(from.file, catalogue);
  }
}

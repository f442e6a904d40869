import type { GpuCatalogue } from '../../core/gpu-types.js';
import { InputError } from '../../core/input-error.js';
import type { PlacementGpuInput } from '../../core/placement-request.js';
import { type ClusterAccess, connectToCluster, messageOf } from '../kubernetes/api-client.js';
import { listOnce } from '../kubernetes/list-once.js';
import type { DetectedGpus, DetectionNotice } from './machine-gpus.js';
import { nodeGpus } from './node-labels.js';

/** The largest clusters have 5,000 nodes. */
const mostNodes = 10_000;
/** As `placementRequestSchema` takes. */
export const mostDetectedGpus = 4096;

/**
 * The GPUs of all nodes of a cluster, as their labels tell.
 *
 * A cluster that is not found, does not answer or refuses is a notice.
 *
 * @throws InputError where `access` names a kubeconfig or a context that cannot be used
 */
export async function clusterGpus(options: {
  readonly access: ClusterAccess;
  readonly catalogue: GpuCatalogue;
  /** For each answer [ms]. */
  readonly answerTimeoutMs: number;
  readonly signal: AbortSignal;
}): Promise<DetectedGpus> {
  const { access, catalogue, answerTimeoutMs, signal } = options;
  const gathered = gatherGpus();
  try {
    const api = await connectToCluster(access);
    const { complete } = await listOnce({
      api,
      path: '/api/v1/nodes',
      listKind: 'NodeList',
      mostObjects: mostNodes,
      answerTimeoutMs,
      signal,
      each: (object) => gathered.add(nodeGpus(object, catalogue)),
    });
    return gathered.end(complete ? [] : [kubernetesNotice(`only the first ${mostNodes} nodes were read`)]);
  } catch (error) {
    const isNamed = Object.keys(access).length > 0;
    if (error instanceof InputError && isNamed) throw error;
    return { gpus: [], notices: [kubernetesNotice(`its nodes cannot be listed: ${messageOf(error)}`)] };
  }
}

function kubernetesNotice(message: string): DetectionNotice {
  return { source: 'Kubernetes', message };
}

/** Puts the GPUs of many nodes into one list, as long as a request takes. */
export function gatherGpus(): {
  readonly add: (found: DetectedGpus) => void;
  readonly end: (further: readonly DetectionNotice[]) => DetectedGpus;
} {
  const gpus: PlacementGpuInput[] = [];
  const notices: DetectionNotice[] = [];
  let omitted = 0;
  return {
    add: (found) => {
      const room = mostDetectedGpus - gpus.length;
      gpus.push(...found.gpus.slice(0, room));
      omitted += Math.max(0, found.gpus.length - room);
      notices.push(...found.notices);
    },
    end: (further) => {
      if (omitted > 0) {
        const message = `${omitted} GPUs are left out: a request takes ${mostDetectedGpus}`;
        notices.push({ source: 'Kubernetes', message });
      }
      if (gpus.length > 0) {
        notices.push(kubernetesNotice('what running pods hold of the memory is not told by nodes: usedMb is 0'));
      }
      return { gpus, notices: [...notices, ...further] };
    },
  };
}

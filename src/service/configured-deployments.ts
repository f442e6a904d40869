import { canonicalGpuType, type GpuCatalogue } from '../core/gpu-types.js';
import type { DeploymentSnapshot, DeploymentSource } from '../core/ports.js';
import type { ConfiguredDeployment } from './config.js';

/**
 * Deployments that the configuration lists. They never change while the service runs; how many replicas of each run is
 * not known here: the controller takes what it last published.
 */
export function createConfiguredDeployments(
  list: readonly ConfiguredDeployment[],
  catalogue: GpuCatalogue,
): DeploymentSource {
  const snapshot: DeploymentSnapshot = {
    synced: true,
    staleSince: null,
    problem: null,
    deployments: list.map(({ target: _, ...deployment }) => ({
      ...deployment,
      id: `${deployment.namespace}/${deployment.name}`,
      gpuType: deployment.gpuType === null ? null : canonicalGpuType(catalogue, deployment.gpuType),
      currentReplicas: null,
      readyReplicas: null,
      pendingReplicas: null,
      notices: [],
    })),
  };
  return {
    async start() {},
    snapshot: () => snapshot,
    onChange() {},
    async stop() {},
  };
}

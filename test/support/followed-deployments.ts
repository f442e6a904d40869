import { loadGpuCatalogue } from '../../src/adapters/catalogue-file.js';
import type { ClusterAccess } from '../../src/adapters/kubernetes/api-client.js';
import {
  KubernetesDeployments,
  type KubernetesDeploymentsOptions,
} from '../../src/adapters/kubernetes/deployment-source.js';
import type { DeploymentSnapshot, ObservedDeployment } from '../../src/core/ports.js';

const catalogue = await loadGpuCatalogue();

/** A running source, and ways to wait for what it sees. */
export type FollowedDeployments = {
  readonly source: KubernetesDeployments;
  /** What it logged, oldest first. */
  readonly logged: readonly string[];
  /** The clock that it reads; tests set it. */
  readonly clock: { at: number };
  /** Resolves with the first snapshot, from now on, that fits. */
  until(fits: (snapshot: DeploymentSnapshot) => boolean): Promise<DeploymentSnapshot>;
  /** Resolves with a deployment as soon as it is there and fits. */
  untilDeployment(id: string, fits?: (deployment: ObservedDeployment) => boolean): Promise<ObservedDeployment>;
  untilGone(id: string): Promise<void>;
};

/** Follows a cluster with waits of milliseconds, so that no test has to sleep. */
export async function followDeployments(
  access: ClusterAccess,
  options: Partial<KubernetesDeploymentsOptions> = {},
): Promise<FollowedDeployments> {
  const logged: string[] = [];
  const clock = { at: 1_000_000 };
  const log = (_fields: object, message: string) => void logged.push(message);
  const source = new KubernetesDeployments({
    catalogue,
    clock: { now: () => clock.at },
    access,
    log: { info: log, warn: log },
    ...options,
    timing: { backoffMs: 2, longestBackoffMs: 10, steadyMs: 0, ...options.timing },
  });
  const until = (fits: (snapshot: DeploymentSnapshot) => boolean): Promise<DeploymentSnapshot> => {
    if (fits(source.snapshot())) return Promise.resolve(source.snapshot());
    return new Promise((resolve) => {
      source.onChange(() => {
        if (fits(source.snapshot())) resolve(source.snapshot());
      });
    });
  };
  await source.start();
  return {
    source,
    logged,
    clock,
    until,
    untilDeployment: async (id, fits = () => true) => {
      const find = (snapshot: DeploymentSnapshot) => snapshot.deployments.find((one) => one.id === id && fits(one));
      return find(await until((snapshot) => find(snapshot) !== undefined))!;
    },
    untilGone: async (id) => {
      await until((snapshot) => snapshot.synced && snapshot.deployments.every((one) => one.id !== id));
    },
  };
}

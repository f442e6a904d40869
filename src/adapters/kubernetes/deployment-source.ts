import type { GpuCatalogue } from '../../core/gpu-types.js';
import type { DeploymentSnapshot, DeploymentSource, ObservedDeployment } from '../../core/ports.js';
import { FollowedObjects, type FollowOptions, placesOf } from './followed-objects.js';
import type { ListWatch } from './list-watch.js';
import { modelLabel, observeDeployment } from './observed-deployment.js';

export type KubernetesDeploymentsOptions = FollowOptions & {
  readonly catalogue: GpuCatalogue;
  /** Namespaces to follow; empty or absent = all (needs a ClusterRole). */
  readonly namespaces?: readonly string[];
};

/**
 * The Deployments of a cluster that carry the label `model.aibrix.ai/name`, followed by list and watch.
 *
 * The label selector is the server's: a deployment that loses the label arrives as deleted, one that gains it as added,
 * and one whose label moves to another model as changed. Each named namespace is followed on its own (a Role there
 * suffices); the view is synced once all are, and stale as soon as one is.
 */
export class KubernetesDeployments implements DeploymentSource {
  readonly #options: KubernetesDeploymentsOptions;
  readonly #followed: FollowedObjects<DeploymentSnapshot>;
  #watches: readonly ListWatch<ObservedDeployment>[] = [];

  constructor(options: KubernetesDeploymentsOptions) {
    this.#options = options;
    this.#followed = new FollowedObjects(options, 'kubernetes', () => this.#compose());
  }

  /**
   * Finds the cluster's description and begins to follow it in the background.
   *
   * @throws InputError where no usable kubeconfig or service account is found, or a namespace cannot be one. An API
   *   server that does not answer is no error: the snapshot says so, and it is tried until it answers.
   */
  async start(): Promise<void> {
    const { catalogue, namespaces } = this.#options;
    const places = placesOf('/apis/apps/v1', 'deployments', namespaces);
    await this.#followed.start((watch) => {
      this.#watches = places.map(({ path }) =>
        watch({
          path,
          listKind: 'DeploymentList',
          labelSelector: modelLabel,
          permission: 'deployments.apps',
          read: (object) => observeDeployment(object, catalogue),
        }),
      );
    });
  }

  snapshot(): DeploymentSnapshot {
    return this.#followed.snapshot();
  }

  onChange(listener: () => void): void {
    this.#followed.onChange(listener);
  }

  stop(): Promise<void> {
    return this.#followed.stop();
  }

  #compose(): DeploymentSnapshot {
    const watches = this.#watches;
    const stale = watches.filter((watch) => watch.problem !== null);
    const deployments = watches
      .flatMap((watch) => [...watch.items.values()])
      .sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
    return {
      synced: watches.length > 0 && watches.every((watch) => watch.synced),
      staleSince: stale.length === 0 ? null : Math.min(...stale.map((watch) => watch.freshAt)),
      problem: stale.length === 0 ? null : stale.map((watch) => watch.problem).join('; '),
      deployments,
    };
  }
}

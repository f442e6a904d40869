import type { GpuCatalogue } from '../../core/gpu-types.js';
import { InputError, quoteInput } from '../../core/input-error.js';
import type { Clock, DeploymentSnapshot, DeploymentSource, ObservedDeployment } from '../../core/ports.js';
import { type ClusterAccess, connectToCluster } from './api-client.js';
import { defaultListWatchTiming, ListWatch, type ListWatchTiming } from './list-watch.js';
import { modelLabel, observeDeployment } from './observed-deployment.js';

/** The part of a structured logger (pino) that is used. */
export type KubernetesLog = {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
};

export type KubernetesDeploymentsOptions = {
  readonly catalogue: GpuCatalogue;
  readonly clock: Clock;
  /** Namespaces to follow; empty or absent = all (needs a ClusterRole). */
  readonly namespaces?: readonly string[];
  readonly access?: ClusterAccess;
  readonly log?: KubernetesLog;
  readonly timing?: Partial<ListWatchTiming>;
  /** In [0, 1), for jitter. */
  readonly random?: () => number;
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
  readonly #listeners: (() => void)[] = [];
  #watches: readonly ListWatch<ObservedDeployment>[] = [];
  #snapshot: DeploymentSnapshot | null = null;
  #stopped = false;

  constructor(options: KubernetesDeploymentsOptions) {
    this.#options = options;
  }

  /**
   * Finds the cluster's description and begins to follow it in the background.
   *
   * @throws InputError where no usable kubeconfig or service account is found, or a namespace cannot be one. An API
   *   server that does not answer is no error: the snapshot says so, and it is tried until it answers.
   */
  async start(): Promise<void> {
    const namespaces = [...new Set(this.#options.namespaces ?? [])];
    for (const [index, namespace] of namespaces.entries()) checkNamespace(namespace, index);
    const { catalogue, clock, timing, random } = this.#options;
    const api = await connectToCluster(this.#options.access ?? {});
    if (this.#stopped) return;
    this.#watches = pathsOf('/apis/apps/v1', 'deployments', namespaces).map(
      (path) =>
        new ListWatch({
          api,
          path,
          listKind: 'DeploymentList',
          labelSelector: modelLabel,
          permission: 'deployments.apps',
          read: (object) => observeDeployment(object, catalogue),
          clock,
          random: random ?? Math.random,
          timing: { ...defaultListWatchTiming, ...timing },
          onChange: () => this.#changed(),
          log: (level, message) => this.#options.log?.[level]({ input: 'kubernetes' }, message),
        }),
    );
    for (const watch of this.#watches) watch.start();
  }

  snapshot(): DeploymentSnapshot {
    this.#snapshot ??= this.#compose();
    return this.#snapshot;
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#watches.map((watch) => watch.stop()));
  }

  #changed(): void {
    this.#snapshot = null;
    for (const listener of this.#listeners) listener();
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

/** Of a resource in all namespaces, or in each of some. */
export function pathsOf(groupVersion: string, resource: string, namespaces: readonly string[]): readonly string[] {
  return namespaces.length === 0
    ? [`${groupVersion}/${resource}`]
    : namespaces.map((namespace) => `${groupVersion}/namespaces/${namespace}/${resource}`);
}

/** DNS label, as Kubernetes has it: what else would reach the path of a request is refused. */
export function checkNamespace(namespace: string, index: number): void {
  if (namespace.length <= 63 && /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(namespace)) return;
  throw new InputError('Kubernetes', [
    {
      place: `namespaces[${index}]`,
      found: quoteInput(namespace),
      expected: 'the name of a namespace (lower-case letters, digits and "-")',
    },
  ]);
}

import { InputError, quoteInput } from '../../core/input-error.js';
import type { Clock } from '../../core/ports.js';
import { type ClusterAccess, connectToCluster } from './api-client.js';
import { defaultListWatchTiming, ListWatch, type ListWatchOptions, type ListWatchTiming } from './list-watch.js';

/** What each source that follows a cluster is given. */
export type FollowOptions = {
  readonly clock: Clock;
  readonly access?: ClusterAccess;
  readonly log?: KubernetesLog;
  readonly timing?: Partial<ListWatchTiming>;
  /** In [0, 1), for jitter. */
  readonly random?: () => number;
};

/** The part of a structured logger (pino) that is used. */
export type KubernetesLog = {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
};

/** What is particular to one watch. */
type Watched<Item> = Omit<ListWatchOptions<Item>, 'api' | 'clock' | 'random' | 'timing' | 'onChange' | 'log'>;

/** Watches of a cluster that make one snapshot: composed when somebody asks, and anew after any of them changed. */
export class FollowedObjects<Snapshot> {
  readonly #options: FollowOptions;
  readonly #input: string;
  readonly #compose: () => Snapshot;
  readonly #listeners: (() => void)[] = [];
  readonly #watches: { start(): void; stop(): Promise<void> }[] = [];
  #snapshot: Snapshot | null = null;
  #stopped = false;

  /** @param input name of what is followed, in the log */
  constructor(options: FollowOptions, input: string, compose: () => Snapshot) {
    this.#options = options;
    this.#input = input;
    this.#compose = compose;
  }

  /**
   * Finds the cluster's description, and begins to follow what `choose` asks for in the background.
   *
   * @throws InputError where no usable kubeconfig or service account is found. An API server that does not answer, or
   *   refuses, is no error: the watches say so, and it is tried until it answers.
   */
  async start(choose: (watch: <Item>(watched: Watched<Item>) => ListWatch<Item>) => void): Promise<void> {
    const { access, clock, timing, random, log } = this.#options;
    const api = await connectToCluster(access ?? {});
    if (this.#stopped) return;
    choose((watched) => {
      const watch = new ListWatch({
        ...watched,
        api,
        clock,
        random: random ?? Math.random,
        timing: { ...defaultListWatchTiming, ...timing },
        onChange: () => this.#changed(),
        log: (level, message) => log?.[level]({ input: this.#input }, message),
      });
      this.#watches.push(watch);
      return watch;
    });
    for (const watch of this.#watches) watch.start();
  }

  snapshot(): Snapshot {
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
}

/** Where a resource is listed, in all namespaces (null) or in one. */
export type Place = { readonly namespace: string | null; readonly path: string };

/**
 * Of a resource in all namespaces, or in each of some.
 *
 * @throws InputError where a namespace cannot be one: it would stand in the path of requests
 */
export function placesOf(groupVersion: string, resource: string, namespaces: readonly string[] = []): readonly Place[] {
  const named = [...new Set(namespaces)];
  for (const [index, namespace] of named.entries()) checkNamespace(namespace, index);
  return named.length === 0
    ? [{ namespace: null, path: `${groupVersion}/${resource}` }]
    : named.map((namespace) => ({ namespace, path: `${groupVersion}/namespaces/${namespace}/${resource}` }));
}

/** DNS label, as Kubernetes has it. */
function checkNamespace(namespace: string, index: number): void {
  if (namespace.length <= 63 && /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(namespace)) return;
  throw new InputError('Kubernetes', [
    {
      place: `namespaces[${index}]`,
      found: quoteInput(namespace),
      expected: 'the name of a namespace (lower-case letters, digits and "-")',
    },
  ]);
}

import { KubernetesScaleClient } from '../../src/adapters/kubernetes/scale-client.js';
import { scaleTarget } from '../../src/adapters/kubernetes/scale-kinds.js';
import { Actuator, type ActuatorOptions, type ScaleRequest } from '../../src/service/actuation/actuator.js';
import type { KnownScalers, OtherScalers } from '../../src/service/actuation/other-scalers.js';
import type { ScaleLimits } from '../../src/service/actuation/scale-decision.js';
import type { SeenRequest } from './fake-api-server.js';
import { type FakeCluster, manifest, startFakeCluster } from './test-cluster.js';

/**
 * A fake API server, the real client of `scale`, and an actuator whose clocks a test moves: wall clock and steady clock
 * are one number here, timers fire when a test has moved it past them.
 */
export class ActuatedCluster {
  readonly cluster: FakeCluster;
  readonly client: KubernetesScaleClient;
  readonly actuator: Actuator;
  readonly log: { readonly level: string; readonly message: string }[] = [];
  /** Unix [ms] */
  nowMs = Date.UTC(2026, 10, 20, 10, 0, 2);
  /** What else scales deployments, by their ids; nothing scales the others. */
  readonly otherScalers = new Map<string, KnownScalers>();
  readonly #timers = new Set<{ readonly atMs: number; readonly callback: () => void }>();
  readonly #planned = new Map<string, Partial<ScaleRequest['facts']>>();

  /** By how much somebody set the clock since the start; what waits does not follow it. */
  clockSetByMs = 0;

  private constructor(
    cluster: FakeCluster,
    { timeoutMs = 60_000, ...options }: Partial<ActuatorOptions> & { readonly timeoutMs?: number },
  ) {
    this.cluster = cluster;
    this.client = new KubernetesScaleClient({ access: { kubeconfig: cluster.kubeconfig }, timeoutMs });
    const write = (level: string) => (_: object, message: string) => this.log.push({ level, message });
    const others: OtherScalers = ({ id }) => this.otherScalers.get(id) ?? { names: [], unknownBecause: null };
    this.actuator = new Actuator({
      mode: 'scale',
      client: this.client,
      otherScalers: others,
      limits: limits(),
      clock: { now: () => this.nowMs + this.clockSetByMs },
      steadyMs: () => this.nowMs,
      timer: (delayMs, callback) => {
        const timer = { atMs: this.nowMs + delayMs, callback };
        this.#timers.add(timer);
        return () => this.#timers.delete(timer);
      },
      random: () => 1,
      logger: { info: write('info'), warn: write('warn'), error: write('error') } as never,
      ...options,
    });
  }

  static async start(
    options: Partial<ActuatorOptions> & { readonly timeoutMs?: number } = {},
  ): Promise<ActuatedCluster> {
    const started = new ActuatedCluster(await startFakeCluster(), options);
    await started.actuator.start();
    return started;
  }

  async stop(): Promise<void> {
    await this.actuator.stop();
    await this.cluster.stop();
  }

  /** A Deployment that runs so many. */
  run(name: string, replicas: number, namespace = 'prod'): void {
    this.cluster.server.put(manifest({ namespace, name, replicas }));
  }

  /** Replicas that a Deployment of the cluster asks for now. */
  replicas(name: string, namespace = 'prod'): number {
    const found = this.cluster.server
      .objects()
      .find(({ metadata }) => metadata.name === name && metadata.namespace === namespace);
    return (found!.spec as { readonly replicas: number }).replicas;
  }

  /** From the next cycle on this is published for `prod/<name>` (or `namespace/name`). */
  publish(id: string, published: number | null, facts: Partial<ScaleRequest['facts']> = {}): this {
    this.#planned.set(id.includes('/') ? id : `prod/${id}`, { ...facts, published });
    return this;
  }

  forget(id: string): void {
    this.#planned.delete(id.includes('/') ? id : `prod/${id}`);
  }

  /** A cycle ends, ten seconds after the one before, and sees what runs. */
  cycle(): void {
    this.passes(10_000);
    this.actuator.follow(
      [...this.#planned].map(([id, facts]) => this.#request(id, facts)),
      this.nowMs + this.clockSetByMs,
    );
  }

  /** The same, and everything that can be done is. */
  async settledCycle(): Promise<void> {
    this.cycle();
    await this.settled();
  }

  async settled(): Promise<void> {
    await this.actuator.settled();
  }

  #request(id: string, facts: Partial<ScaleRequest['facts']>): ScaleRequest {
    const [namespace, name] = id.split('/') as [string, string];
    return {
      id,
      target: scaleTarget(null, { namespace, name }),
      decidedAtMs: this.nowMs + this.clockSetByMs,
      sentence: `The cheapest mix has ${facts.published}.`,
      facts: {
        mode: 'live',
        paused: false,
        published: null,
        heldReason: null,
        isFixed: false,
        plannedOn: this.replicas(name, namespace),
        ...facts,
      },
    };
  }

  /** Time goes by, and timers fire. */
  passes(ms: number): void {
    this.nowMs += ms;
    for (const timer of [...this.#timers].sort((a, b) => a.atMs - b.atMs)) {
      if (timer.atMs > this.nowMs || !this.#timers.delete(timer)) continue;
      timer.callback();
    }
  }

  /** Requests to `scale` so far. */
  scaleRequests(method?: 'GET' | 'PATCH'): readonly SeenRequest[] {
    return this.cluster.server.requests.filter(
      (request) => request.path.endsWith('/scale') && (method === undefined || request.method === method),
    );
  }

  /** Events that the server keeps, oldest first. */
  events(): readonly Readonly<Record<string, unknown>>[] {
    return this.cluster.server.objects('events');
  }

  warnings(): readonly string[] {
    return this.log.filter(({ level }) => level !== 'info').map(({ message }) => message);
  }
}

export function limits(overrides: Partial<ScaleLimits> = {}): ScaleLimits {
  return { longestAgeMs: 60_000, maxStepsDownPerMinute: null, maxStepsUpPerMinute: null, ...overrides };
}

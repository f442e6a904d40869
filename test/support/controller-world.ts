import { randomUUID } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { loadModelCatalogue } from '../../src/adapters/catalogue-file.js';
import { createMemoryStore } from '../../src/adapters/memory-store.js';
import { parseGpuCatalogue } from '../../src/core/gpu-types.js';
import { InputError } from '../../src/core/input-error.js';
import type { Plan } from '../../src/core/plan.js';
import type { PlanningProblem } from '../../src/core/planning-problem.js';
import {
  type ConsumerSnapshot,
  type ConsumerSource,
  type DeploymentSnapshot,
  type DeploymentSource,
  type EngineMetrics,
  type GpuNodeSource,
  type ObservedDeployment,
  type ProfileReading,
  type SharedStore,
  type TraceSource,
  Unavailable,
} from '../../src/core/ports.js';
import { parseProfile } from '../../src/core/profile.js';
import { formatTraceRecord } from '../../src/demand/trace-record.js';
import { explain } from '../../src/optimizer/explain.js';
import { plan } from '../../src/optimizer/plan.js';
import { ClockSteps } from '../../src/service/clock-steps.js';
import { type Config, configSchema } from '../../src/service/config.js';
import { Controller, type ControllerOptions } from '../../src/service/controller.js';
import type { CycleReport } from '../../src/service/view.js';

/** What a gateway writes of one model: arrivals every second, all completed with the same lengths. */
export type Traffic = {
  readonly rps: number;
  readonly inputTokens?: number;
  readonly outputTokens?: number;
  readonly pending?: number;
  /** Instead of one length, several in equal parts: [input tokens, output tokens]. */
  readonly lengths?: readonly (readonly [number, number])[];
  /** Completed requests of each interval; default: as many as arrive. */
  readonly completions?: number;
};

export function deployment(overrides: Partial<ObservedDeployment> & { readonly name: string }): ObservedDeployment {
  const namespace = overrides.namespace ?? 'default';
  const currentReplicas = overrides.currentReplicas === undefined ? 1 : overrides.currentReplicas;
  return {
    id: `${namespace}/${overrides.name}`,
    namespace,
    model: 'llama',
    gpuType: 'A100-80GB',
    gpusPerReplica: 1,
    usdPerReplicaHour: null,
    minReplicas: 0,
    idleMinReplicas: null,
    maxReplicas: 1000,
    currentReplicas,
    readyReplicas: currentReplicas,
    pendingReplicas: currentReplicas === null ? null : 0,
    startupSeconds: null,
    maxTokens: null,
    paused: false,
    notices: [],
    ...overrides,
  };
}

/** A profile text with the same throughput in every cell, unless `tputs` says otherwise. */
export function profileText(options: {
  readonly rps?: number;
  readonly cost?: number | null;
  readonly tputs?: readonly (readonly number[])[];
  readonly slos?: Readonly<Record<string, number>>;
}): string {
  const { rps = 1, cost = 1, slos = {} } = options;
  return JSON.stringify({
    gpu: 'x',
    ...(cost === null ? {} : { cost }),
    indexes: [
      [64, 1024],
      [128, 4096],
    ],
    tputs: options.tputs ?? [
      [rps, rps],
      [rps, rps],
    ],
    created: 1,
    slos,
  });
}

export const catalogue = parseGpuCatalogue(
  {
    apiVersion: 'gpumix/v1',
    kind: 'GpuCatalogue',
    gpus: [
      {
        name: 'A100-80GB',
        vendor: 'nvidia',
        memoryGib: 80,
        usdPerGpuHour: 2.5,
        priceSource: 'a test',
        priceAsOf: '2026-01-01',
        aliases: ['a100'],
      },
      { name: 'L4', vendor: 'nvidia', memoryGib: 24, usdPerGpuHour: null, aliases: [] },
    ],
  },
  'test catalogue',
);

/** The shipped one: what a model needs is no matter of a test's world. */
const modelCatalogue = await loadModelCatalogue();

/** Deployments as a test sets them. */
class SetDeployments implements DeploymentSource {
  current: DeploymentSnapshot = { synced: true, staleSince: null, problem: null, deployments: [] };
  #listeners: (() => void)[] = [];

  async start(): Promise<void> {}
  async stop(): Promise<void> {}
  snapshot(): DeploymentSnapshot {
    return this.current;
  }
  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }
  set(change: Partial<DeploymentSnapshot>): void {
    this.current = { ...this.current, ...change };
    for (const listener of this.#listeners) listener();
  }
}

/** Objects that scale deployments, as a test sets them. */
class SetConsumers implements ConsumerSource {
  current: ConsumerSnapshot = { settled: true, problems: [], unread: [], consumers: [] };
  #listeners: (() => void)[] = [];

  async start(): Promise<void> {}
  async stop(): Promise<void> {}
  snapshot(): ConsumerSnapshot {
    return this.current;
  }
  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }
  set(change: Partial<ConsumerSnapshot>): void {
    this.current = { ...this.current, ...change };
    for (const listener of this.#listeners) listener();
  }
}

type LogLine = { readonly level: string; readonly message: string };

export type WorldOptions = {
  readonly config?: Readonly<Record<string, unknown>>;
  readonly deployments?: readonly ObservedDeployment[];
  /** By deployment name. */
  readonly profiles?: Readonly<Record<string, string>>;
  readonly store?: SharedStore;
  readonly engineMetrics?: EngineMetrics;
  readonly gpuNodes?: GpuNodeSource;
  /** Where demand comes from instead of the world's gateway; given the world's clock. */
  readonly traceSource?: (clock: { now(): number }) => TraceSource;
  readonly nowMs?: number;
  /** A cluster instead of the deployments that a test sets. */
  readonly deploymentSource?: DeploymentSource;
  /** What scales in it. */
  readonly consumerSource?: ConsumerSource;
  /** Writes what is published into it. */
  readonly actuation?: ControllerOptions['actuation'];
};

/**
 * A controller in a world that a test moves: its clock, its gateway, its cluster, and what goes wrong. The store is the
 * real in-process one, the planner the real optimizer; faults are put in front of them.
 */
export class World {
  nowMs: number;
  readonly store: SharedStore;
  readonly deployments = new SetDeployments();
  readonly consumers = new SetConsumers();
  readonly controller: Controller;
  readonly config: Config;
  readonly reports: CycleReport[] = [];
  readonly log: LogLine[] = [];
  readonly planned: PlanningProblem[] = [];
  /** While set, every call of the store rejects with it. */
  storeFault: Unavailable | null = null;
  profilesFault: Unavailable | null = null;
  /** Deployment names whose profile was deleted; the port of the store has no way to delete. */
  readonly hiddenProfiles = new Set<string>();
  /** Called before each plan; may throw. */
  planFault: ((problem: PlanningProblem) => Plan | undefined) | null = null;
  /** How much before its time a timer fires. */
  timersAreEarlyByMs = 0;
  /** While set, the store says that this server answers. */
  runId: string | null = null;
  /** How much the clock of the gateways and the store is ahead of ours. */
  outsideAheadMs = 0;
  /** Whether the store tells the time, as Redis does. */
  storeTellsTime = false;
  #setByMs = 0;
  readonly #traffic = new Map<string, Traffic>();
  readonly #timers = new Set<{ atMs: number; readonly callback: () => void }>();
  readonly #profiles: Map<string, string>;
  #writtenSeconds: number;
  #cycleEnds: (() => void)[] = [];

  constructor(options: WorldOptions = {}) {
    this.nowMs = options.nowMs ?? Date.UTC(2026, 10, 20, 10, 0, 2);
    this.#writtenSeconds = Math.floor(this.nowMs / 10_000) * 10;
    this.#profiles = new Map(Object.entries(options.profiles ?? {}));
    const clock = { now: () => this.nowMs };
    this.store = options.store ?? createMemoryStore({ now: () => this.nowMs + this.outsideAheadMs - 3_600_000 });
    this.deployments.current = { ...this.deployments.current, deployments: options.deployments ?? [] };
    this.config = configSchema.parse({
      redis: { url: 'redis://unused' },
      // What a plan says is published at once, unless a test is about stability itself.
      stability: { scaleDownStabilizationSeconds: 0, scaleDownTolerance: 0 },
      // What is planned for can be read off the window, unless a test is about forecasts itself.
      forecast: { method: 'window' },
      ...options.config,
      options: { startUsdPerReplica: 0, ...(options.config?.options as object | undefined) },
    });
    const write = (level: string) => (_: object, message: string) => this.log.push({ level, message });
    this.controller = new Controller({
      config: this.config,
      clock,
      steadyMs: () => 0,
      clockSteps: new ClockSteps(clock, () => this.nowMs - this.#setByMs),
      timer: (delayMs, callback) => {
        const timer = { atMs: this.nowMs + delayMs, callback };
        this.#timers.add(timer);
        return () => this.#timers.delete(timer);
      },
      store: this.#faulty(),
      profiles: {
        read: async (keys) => {
          if (this.profilesFault !== null) throw this.profilesFault;
          const answers = await this.#faulty().readProfiles(keys);
          return answers.map((reading, index) => {
            const { id, deployment: name } = keys[index]!;
            return this.hiddenProfiles.has(name) ? { kind: 'absent' } : toProfile(reading, id);
          });
        },
      },
      deployments: options.deploymentSource ?? this.deployments,
      consumers: options.consumerSource ?? this.consumers,
      gpuNodes: options.gpuNodes ?? null,
      actuation: options.actuation ?? null,
      engineMetrics: options.engineMetrics ?? null,
      traceSource: options.traceSource?.(clock) ?? null,
      planner: { plan: async (problem) => this.#makePlan(problem) },
      whatIfPlanner: { plan: async (problem) => plan(problem) },
      explainer: {
        explain: async (problem, { model }) => explain(problem, model === null ? {} : { model }),
      },
      catalogue,
      modelCatalogue,
      logger: {
        debug: write('debug'),
        info: write('info'),
        warn: write('warn'),
        error: write('error'),
        fatal: write('fatal'),
      } as never,
      newId: randomUUID,
    });
    this.controller.onCycle((report) => {
      this.reports.push(report);
      for (const end of this.#cycleEnds.splice(0)) end();
    });
  }

  #makePlan(problem: PlanningProblem): Plan {
    const faulty = this.planFault?.(problem);
    this.planned.push(problem);
    return faulty ?? plan(problem);
  }

  #faulty(): SharedStore {
    const guard = <Method extends keyof SharedStore>(method: Method): SharedStore[Method] =>
      (async (...args: never[]) => {
        if (this.storeFault !== null) throw this.storeFault;
        return (this.store[method] as (...given: never[]) => unknown)(...args);
      }) as unknown as SharedStore[Method];
    return {
      identity: async () => {
        const identity = await guard('identity')();
        const aheadMs = this.storeTellsTime ? this.outsideAheadMs : null;
        return { ...identity, aheadMs, runId: this.runId ?? identity.runId };
      },
      readTraces: guard('readTraces'),
      writeTraces: guard('writeTraces'),
      readProfiles: guard('readProfiles'),
      writeProfile: guard('writeProfile'),
      readState: guard('readState'),
      writeState: guard('writeState'),
      appendToList: guard('appendToList'),
      readList: guard('readList'),
      close: guard('close'),
    };
  }

  /** Writes the profiles given to the constructor, as benchmarks would, and starts the controller. */
  async start(): Promise<this> {
    for (const [name, text] of this.#profiles) await this.writeProfile(name, text);
    await this.controller.start();
    await this.cycle();
    return this;
  }

  async writeProfile(name: string, text: string, model = 'llama'): Promise<void> {
    await this.store.writeProfile({ model, deployment: name }, text);
  }

  /** From the next interval on, a gateway writes this; null = it writes nothing. */
  send(model: string, traffic: Traffic | null): this {
    if (traffic === null) this.#traffic.delete(model);
    else this.#traffic.set(model, traffic);
    return this;
  }

  /** Moves to the next cycle and lets it end. */
  async cycle(): Promise<CycleReport> {
    await nextTurn();
    const next = [...this.#timers].sort((a, b) => a.atMs - b.atMs)[0];
    if (next === undefined) throw new Error('no cycle is scheduled');
    await this.#moveTo(Math.max(next.atMs - this.timersAreEarlyByMs, this.nowMs));
    this.#timers.delete(next);
    const ended = new Promise<void>((resolve) => this.#cycleEnds.push(resolve));
    next.callback();
    await ended;
    await nextTurn();
    return this.reports.at(-1)!;
  }

  async cycles(count: number): Promise<void> {
    for (let i = 0; i < count; i += 1) await this.cycle();
  }

  /** Lets the gateway write on while no cycle runs. */
  async skip(seconds: number): Promise<void> {
    await this.#moveTo(this.nowMs + seconds * 1000);
  }

  /**
   * Somebody sets our clock, and that of everything else with it unless only ours is wrong. What waits goes on to wait as
   * long as it did: timers do not follow a clock that is set.
   */
  setClocks(byMs: number, { whose }: { readonly whose: 'ours' | 'all' }): void {
    this.nowMs += byMs;
    this.#setByMs += byMs;
    if (whose === 'ours') this.outsideAheadMs -= byMs;
    else this.#writtenSeconds += Math.round(byMs / 10_000) * 10;
    const timers = [...this.#timers];
    for (const timer of timers) timer.atMs += byMs;
  }

  async #moveTo(ms: number): Promise<void> {
    for (let end = this.#writtenSeconds + 10; end * 1000 <= ms + this.outsideAheadMs; end += 10) {
      this.#writtenSeconds = end;
      this.nowMs = Math.max(this.nowMs, end * 1000 - this.outsideAheadMs);
      const records = [...this.#traffic].map(([model, traffic]) => ({
        model,
        endSeconds: end,
        text: recordText(traffic),
      }));
      await this.store.writeTraces(records);
    }
    this.nowMs = ms;
  }

  /**
   * An autoscaler does what is published, in a cluster that has GPUs for so many replicas of a type.
   *
   * @param supply by GPU type; of a type that is not there, all come
   */
  follow(supply: Readonly<Record<string, number>> = {}): void {
    const left = new Map(Object.entries(supply));
    const deployments = this.deployments.current.deployments.map((each): ObservedDeployment => {
      const published = this.replicas(each.name, each.namespace);
      const currentReplicas = typeof published === 'number' ? published : each.currentReplicas;
      if (currentReplicas === null) return each;
      const type = each.gpuType ?? each.name;
      const readyReplicas = Math.min(currentReplicas, left.get(type) ?? Number.POSITIVE_INFINITY);
      left.set(type, (left.get(type) ?? Number.POSITIVE_INFINITY) - readyReplicas);
      return { ...each, currentReplicas, readyReplicas, pendingReplicas: currentReplicas - readyReplicas };
    });
    this.deployments.set({ deployments });
  }

  /** Cycles that are followed until nothing that is published changes any more. */
  async settle(): Promise<void> {
    const published = () =>
      this.deployments.current.deployments.map(({ name, namespace }) => this.replicas(name, namespace)).join();
    for (let before = ''; before !== published(); ) {
      before = published();
      this.follow();
      await this.cycle();
    }
  }

  /** Due times of the timers that wait [ms after now]. */
  waits(): readonly number[] {
    return [...this.#timers].map((timer) => timer.atMs - this.nowMs);
  }

  /** What is published for `default/<name>`: a number, or why there is none. */
  replicas(name: string, namespace = 'default'): number | string {
    const published = this.controller.replicasOf(namespace, name);
    return published.kind === 'known' ? published.replicas : published.kind;
  }

  /** Why a model is held; null = it is not. */
  held(model = 'llama'): string | null | undefined {
    return this.controller.models().find((view) => view.name === model)?.heldReason;
  }

  warnings(): readonly string[] {
    return this.controller.plan()?.warnings.map((warning) => warning.code) ?? [];
  }
}

export const unreachable = new Unavailable('redis_unreachable', 'the connection was refused');

function recordText(traffic: Traffic): string {
  const arrivals = Math.round(traffic.rps * 10);
  const lengths = traffic.lengths ?? [[traffic.inputTokens ?? 512, traffic.outputTokens ?? 128] as const];
  const count = Math.round((traffic.completions ?? arrivals) / lengths.length);
  return formatTraceRecord({
    intervalSeconds: 10,
    arrivals,
    pending: traffic.pending ?? 0,
    queueing: 0,
    unknownLength: 0,
    buckets: count === 0 ? [] : lengths.map(([inputTokens, outputTokens]) => ({ inputTokens, outputTokens, count })),
  });
}

/** As the real sources do, a text that did not change is the same profile. */
const parsed = new Map<string, ProfileReading>();

function toProfile(reading: Awaited<ReturnType<SharedStore['readProfiles']>>[number], id: string): ProfileReading {
  if (reading.kind === 'absent') return { kind: 'absent' };
  try {
    if (reading.kind === 'failed') throw new InputError(id, [{ place: '', found: reading.message, expected: 'text' }]);
    const key = `${id} ${reading.text}`;
    const known = parsed.get(key) ?? { kind: 'present', profile: parseProfile(reading.text, `profile of ${id}`) };
    parsed.set(key, known);
    return known;
  } catch (error) {
    if (error instanceof InputError) return { kind: 'bad', error };
    throw error;
  }
}

import type { DeploymentNotice, DeploymentSnapshot, DeploymentSource, ObservedDeployment } from '../../core/ports.js';
import {
  type ScaleClient,
  type ScaleFault,
  type ScaleFaultName,
  type ScaleTarget,
  targetText,
} from '../../core/scale.js';

/**
 * Deployments that the configuration lists and gpumix scales: what runs of each is what its `scale` says.
 *
 * Read again each interval, a few at a time; `scale` is the same for every kind, where lists and watches would need to know
 * where each kind keeps its numbers. One that cannot be read keeps its last number for a while and is then not known; the
 * view is stale only where nothing at all can be read.
 */

export type ScaledDeploymentsOptions = {
  /** What the configuration says of them; their `currentReplicas` are not looked at. */
  readonly listed: readonly ObservedDeployment[];
  readonly targetOf: (deployment: ObservedDeployment) => ScaleTarget;
  readonly client: ScaleClient;
  readonly clock: { now(): number };
  readonly timer: (delayMs: number, callback: () => void) => () => void;
  readonly intervalMs: number;
  readonly log: { warn(fields: object, message: string): void; info(fields: object, message: string): void };
};

/** As many as are scaled at once: a thousand are read within a second or two. */
const readsAtOnce = 8;
/**
 * A server that has no answer to so many in a row is not asked for the others: each could take its whole time limit, and the
 * view would look fresh for as long as that takes.
 */
const unansweredAtMost = 8;
/** So long the last number of an object that cannot be read stands for what runs. [ms] */
const longestKnownMs = 60_000;

/** The server's, not the object's: nothing is known of an object by them. */
const ofTheServer: ReadonlySet<ScaleFaultName> = new Set(['unreachable', 'unauthorized', 'throttled', 'server_error']);

/** Of these, what makes a server worth no more questions now; an error of its own can be about one kind of object. */
const unanswered: ReadonlySet<ScaleFaultName> = new Set(['unreachable', 'throttled']);

type Known = { readonly replicas: number; readonly atMs: number };

export class ScaledDeployments implements DeploymentSource {
  readonly #options: ScaledDeploymentsOptions;
  readonly #listeners: (() => void)[] = [];
  readonly #known = new Map<string, Known>();
  readonly #faults = new Map<string, ScaleFault>();
  #synced = false;
  #freshAt: number;
  #problem: string | null = null;
  /** Index in `listed` of what is read first the next time. */
  #next = 0;
  #snapshot: DeploymentSnapshot | null = null;
  #reading: Promise<void> = Promise.resolve();
  #cancelTimer: () => void = () => undefined;
  #isStopped = false;

  constructor(options: ScaledDeploymentsOptions) {
    this.#options = options;
    this.#freshAt = options.clock.now();
  }

  /** @throws InputError where no cluster is described */
  async start(): Promise<void> {
    await this.#options.client.start();
    if (!this.#isStopped) this.#readSoon(0);
  }

  snapshot(): DeploymentSnapshot {
    this.#snapshot ??= this.#compose();
    return this.#snapshot;
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#cancelTimer();
    await this.#reading;
  }

  #readSoon(delayMs: number): void {
    this.#cancelTimer = this.#options.timer(delayMs, () => {
      this.#reading = this.#readAll().finally(() => {
        if (!this.#isStopped) this.#readSoon(this.#options.intervalMs);
      });
    });
  }

  async #readAll(): Promise<void> {
    const { listed, targetOf, client, clock } = this.#options;
    // Those first that were not reached the last time.
    const begin = this.#next;
    let taken = 0;
    let answered = 0;
    let unansweredInARow = 0;
    const read = async (): Promise<void> => {
      while (!this.#isStopped && taken < listed.length && unansweredInARow < unansweredAtMost) {
        const next = listed[(begin + taken) % listed.length]!;
        taken += 1;
        const answer = await client.read(targetOf(next));
        if (answer.kind === 'scale') {
          this.#known.set(next.id, { replicas: answer.scale.replicas, atMs: clock.now() });
          this.#faults.delete(next.id);
        } else {
          this.#faults.set(next.id, answer);
          // It is not there, or nobody may see it: what ran says nothing any more.
          if (answer.fault === 'not_found') this.#known.delete(next.id);
        }
        if (answer.kind === 'scale' || !ofTheServer.has(answer.fault)) answered += 1;
        const isUnanswered = answer.kind === 'fault' && unanswered.has(answer.fault);
        unansweredInARow = isUnanswered ? unansweredInARow + 1 : 0;
      }
    };
    await Promise.all(Array.from({ length: readsAtOnce }, read));
    if (this.#isStopped) return;
    this.#next = listed.length === 0 ? 0 : (begin + taken) % listed.length;
    this.#tell(answered > 0);
  }

  #tell(isAnswered: boolean): void {
    const { log, clock } = this.#options;
    const [fault] = this.#faults.values();
    const problem = isAnswered || fault === undefined ? null : `scale cannot be read: ${fault.message}`;
    if (isAnswered) {
      this.#synced = true;
      this.#freshAt = clock.now();
    }
    if (problem !== null && this.#problem === null) log.warn({ input: 'config' }, problem);
    if (problem === null && this.#problem !== null) log.info({ input: 'config' }, 'scale can be read again');
    this.#problem = problem;
    this.#snapshot = null;
    for (const listener of this.#listeners) listener();
  }

  #compose(): DeploymentSnapshot {
    const nowMs = this.#options.clock.now();
    return {
      synced: this.#synced,
      staleSince: this.#problem === null ? null : this.#freshAt,
      problem: this.#problem,
      deployments: this.#options.listed.map((deployment) => {
        const known = this.#known.get(deployment.id);
        const fault = this.#faults.get(deployment.id);
        // While the whole view is stale the last numbers stand: nothing is planned by them.
        const isKnown = known !== undefined && (this.#problem !== null || nowMs - known.atMs <= longestKnownMs);
        return {
          ...deployment,
          currentReplicas: isKnown ? known.replicas : null,
          // `scale` counts pods that are there, not those that serve.
          readyReplicas: null,
          pendingReplicas: null,
          notices: [...deployment.notices, ...this.#noticesOf(deployment, fault)],
        };
      }),
    };
  }

  #noticesOf(deployment: ObservedDeployment, fault: ScaleFault | undefined): readonly DeploymentNotice[] {
    if (fault === undefined || this.#problem !== null) return [];
    const target = targetText(this.#options.targetOf(deployment));
    return [{ code: 'unreadable_scale', message: `${target}: its scale cannot be read (${fault.message})` }];
  }
}

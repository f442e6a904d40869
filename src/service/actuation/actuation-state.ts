import type { DeploymentNotice } from '../../core/ports.js';
import { type ScaleFault, type ScaleFaultName, type ScaleTarget, scaleFaults, targetText } from '../../core/scale.js';
import type { Logger } from '../log.js';
import type { ActuationView, DeploymentActuationView } from '../view.js';
import { type ScaleDecision, type WithheldReason, withheldReasons } from './scale-decision.js';
import type { EventCounts } from './scale-events.js';

/** What came of a write, as it is counted: what landed, and every way in which it did not. */
export const scaleResults = ['scaled_up', 'scaled_down', 'dry_run', ...scaleFaults] as const;
export type ScaleResult = (typeof scaleResults)[number];

type Failure = { readonly target: ScaleTarget; readonly fault: ScaleFault };

/** Most namespaces or objects that a message names before it counts the rest. */
const mostNamed = 3;

/**
 * What became of every deployment's number, for metrics, readiness and the model view; a kind of failure is logged when it
 * appears and when it is over, not for each object and each cycle.
 */
export class ActuationState {
  readonly #mode: ActuationView['mode'];
  readonly #clock: { now(): number };
  readonly #logger: Pick<Logger, 'info' | 'warn'>;
  readonly #byId = new Map<string, DeploymentActuationView>();
  readonly #failures = new Map<string, Failure>();
  readonly #counts = new Map<ScaleResult, number>(scaleResults.map((result) => [result, 0]));
  readonly #logged = new Set<ScaleFaultName>();
  #unknownIsLogged = false;
  #version = 0;
  #lastWriteMs: number | null = null;
  #eventFault: string | null = null;

  constructor(options: {
    readonly mode: ActuationView['mode'];
    readonly clock: { now(): number };
    readonly logger: Pick<Logger, 'info' | 'warn'>;
  }) {
    this.#mode = options.mode;
    this.#clock = options.clock;
    this.#logger = options.logger;
  }

  /** It is as it should be, or is left as it runs. */
  decided(id: string, decision: Exclude<ScaleDecision, { readonly kind: 'write' }>): void {
    this.#failures.delete(id);
    const before = this.#byId.get(id);
    if (decision.kind === 'landed') {
      this.#put(id, { state: 'landed', why: null, message: null });
      return;
    }
    const { reason, message } = decision;
    if (reason === 'other_scaler' && before?.why !== 'other_scaler') {
      this.#logger.warn({ deployment: id }, `${id} is not scaled: ${message}`);
    }
    this.#put(id, { state: 'withheld', why: reason, message });
  }

  wrote(
    id: string,
    { from, to, dryRun }: { readonly from: number; readonly to: number; readonly dryRun: boolean },
  ): void {
    this.#failures.delete(id);
    this.#count(dryRun ? 'dry_run' : to > from ? 'scaled_up' : 'scaled_down');
    this.#lastWriteMs = this.#clock.now();
    this.#put(id, {
      state: dryRun ? 'dry-run' : 'scaled',
      why: null,
      message: `${dryRun ? 'would go ' : ''}from ${from} to ${to}`,
    });
  }

  /** It waits for its turn. What failed, or was tried in a dry run, says more until it has had it. */
  queued(id: string): void {
    const state = this.#byId.get(id)?.state;
    if (state !== 'failed' && state !== 'dry-run') this.#put(id, { state: 'waiting', why: null, message: null });
  }

  failed(id: string, target: ScaleTarget, fault: ScaleFault): void {
    this.#count(fault.fault);
    this.refused(id, target, fault);
  }

  /** It was not even tried, because another one failed for what both need. */
  refused(id: string, target: ScaleTarget, fault: ScaleFault): void {
    this.#failures.set(id, { target, fault });
    this.#put(id, { state: 'failed', why: fault.fault, message: fault.message });
  }

  eventFailed(fault: ScaleFault): void {
    const text = `Events of scaled objects are not written: ${fault.message}`;
    if (this.#eventFault !== text) this.#logger.warn({}, text);
    this.#eventFault = text;
  }

  /** Says what fails now and did not when it was last said, and what works again. */
  report(): void {
    const failing = this.#failuresByName();
    for (const [name, failures] of failing) {
      // A conflict is everyday life: the next cycle reads again.
      if (name === 'conflict' || this.#logged.has(name)) continue;
      this.#logged.add(name);
      this.#logger.warn({ failing: failures.length }, failureText(name, failures));
    }
    for (const name of this.#logged) {
      if (failing.has(name)) continue;
      this.#logged.delete(name);
      this.#logger.info({}, `scaling: no deployment fails any more for ${name}`);
    }
    const unknown = this.#scalersUnknown();
    if (unknown !== null && !this.#unknownIsLogged) this.#logger.warn({}, unknown);
    if (unknown === null && this.#unknownIsLogged) this.#logger.info({}, 'scaling: it is known what else scales');
    this.#unknownIsLogged = unknown !== null;
  }

  /** Why deployments are left alone until what else scales them can be read; null = none is. */
  #scalersUnknown(): string | null {
    const waiting = [...this.#byId.values()].filter(({ why }) => why === 'scalers_unknown');
    if (waiting.length === 0) return null;
    const count = `${waiting.length} ${waiting.length === 1 ? 'deployment is' : 'deployments are'}`;
    return `${count} not scaled: ${waiting[0]!.message}`;
  }

  keepOnly(known: ReadonlyMap<string, unknown>): void {
    for (const id of this.#byId.keys()) if (!known.has(id) && this.#byId.delete(id)) this.#version += 1;
    for (const id of this.#failures.keys()) if (!known.has(id)) this.#failures.delete(id);
  }

  of(id: string): DeploymentActuationView | null {
    return this.#byId.get(id) ?? null;
  }

  get version(): number {
    return this.#version;
  }

  noticesOf(id: string): readonly DeploymentNotice[] {
    const { why = null, message = null } = this.#byId.get(id) ?? {};
    if (why === 'other_scaler') return [{ code: 'other_scaler', message: message ?? '' }];
    if (why === 'scalers_unknown') return [{ code: 'scalers_unknown', message: message ?? '' }];
    return [];
  }

  view(events: EventCounts): ActuationView {
    const withheld = new Map<WithheldReason, number>(withheldReasons.map((reason) => [reason, 0]));
    for (const { state, why } of this.#byId.values()) {
      if (state === 'withheld') withheld.set(why as WithheldReason, withheld.get(why as WithheldReason)! + 1);
    }
    const waiting = [...this.#byId.values()].filter(({ state }) => state === 'waiting').length;
    const failing = this.#failuresByName();
    const unknown = this.#scalersUnknown();
    const problems = [
      ...[...failing].map(([name, failures]) => failureText(name, failures)),
      ...(unknown === null ? [] : [unknown]),
    ];
    return {
      mode: this.#mode,
      problem: problems.length === 0 ? null : problems.join('; '),
      eventProblem: this.#eventFault,
      lastWriteAt: this.#lastWriteMs === null ? null : new Date(this.#lastWriteMs).toISOString(),
      waiting,
      withheld: Object.fromEntries(withheld) as ActuationView['withheld'],
      failing: Object.fromEntries([...failing].map(([name, failures]) => [name, failures.length])),
      results: Object.fromEntries(this.#counts) as ActuationView['results'],
      events,
    };
  }

  #put(id: string, outcome: Omit<DeploymentActuationView, 'at'>): void {
    const before = this.#byId.get(id);
    const isSame = before?.state === outcome.state && before.why === outcome.why && before.message === outcome.message;
    if (!isSame) this.#version += 1;
    const at = isSame ? before.at : new Date(this.#clock.now()).toISOString();
    this.#byId.set(id, { ...outcome, at });
  }

  #count(result: ScaleResult): void {
    this.#counts.set(result, this.#counts.get(result)! + 1);
  }

  #failuresByName(): ReadonlyMap<ScaleFaultName, readonly Failure[]> {
    const byName = new Map<ScaleFaultName, Failure[]>();
    for (const failure of this.#failures.values()) {
      const same = byName.get(failure.fault.fault);
      if (same === undefined) byName.set(failure.fault.fault, [failure]);
      else same.push(failure);
    }
    return byName;
  }
}

/** One sentence on all objects that fail in one way. */
function failureText(name: ScaleFaultName, failures: readonly Failure[]): string {
  const [first] = failures;
  const count = `${failures.length} ${failures.length === 1 ? 'deployment' : 'deployments'}`;
  if (name === 'forbidden') {
    const groups = new Set(
      failures.map(({ target }) => `apiGroups ["${target.group}"], resources ["${target.resource}/scale"]`),
    );
    const namespaces = named(failures.map(({ target }) => target.namespace));
    const rules = [...groups].map((group) => `${group}, verbs ["get", "patch"]`).join(' and ');
    return `${count} cannot be scaled in ${namespaces}: RBAC must allow ${rules} (${first!.fault.message})`;
  }
  return `${count} cannot be scaled, such as ${targetText(first!.target)}: ${first!.fault.message}`;
}

function named(names: readonly string[]): string {
  const different = [...new Set(names)].sort();
  const rest = different.length - mostNamed;
  const shown = different.slice(0, mostNamed).join(', ');
  return rest > 0 ? `${shown} and ${rest} more namespaces` : shown;
}

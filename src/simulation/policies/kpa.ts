/**
 * AIBrix's PodAutoscaler with the strategy KPA, as its controller computes it since v0.5 (HEAD of August 2026): a metric
 * that counts the whole deployment, averaged over two windows, divided by `targetValue`.
 *
 * - *Panic* where the long average is 0, or the short one is more than `panicThreshold` times the long one: the larger
 *   of both answers counts. The controller forgets between two looks how many it panicked for.
 * - An average within `tolerance` of the target keeps the replicas that are there, however many these are.
 * - One look at most doubles the replicas (from 0 to 1) and at most halves them.
 * - Going down takes the *lowest* answer of the cool-down window, where Kubernetes' HPA would take the highest.
 *
 * Facts: contracts of AIBrix; checked against its own unit tests and recorded single steps in the tests.
 */
export type KpaSettings = {
  /** Of the metric, per replica. */
  readonly targetValue: number;
  readonly minReplicas: number;
  readonly maxReplicas: number;
  readonly stableSeconds: number;
  readonly panicSeconds: number;
  readonly panicThreshold: number;
  readonly tolerance: number;
  readonly maxScaleUpRate: number;
  readonly maxScaleDownRate: number;
  readonly scaleDownCooldownSeconds: number;
};

/** AIBrix's defaults, but for the bounds of the replicas. */
export const kpaDefaults = {
  targetValue: 100,
  stableSeconds: 180,
  panicSeconds: 60,
  panicThreshold: 2,
  tolerance: 0.1,
  maxScaleUpRate: 2,
  maxScaleDownRate: 2,
  scaleDownCooldownSeconds: 300,
} as const;

export type KpaObservation = {
  /** Replicas asked for now. */
  readonly current: number;
  /** The metric's average over the long and the short window. */
  readonly stable: number;
  readonly panic: number;
};

type KpaRules = Pick<KpaSettings, 'targetValue' | 'tolerance' | 'maxScaleUpRate' | 'maxScaleDownRate'>;

/**
 * Replicas that one look recommends, before bounds and cool-down.
 *
 * @param panicking in panic: how many replicas it panicked for before; absent = not in panic
 * @param activationScale replicas to have at least, where any
 */
export function kpaTarget(
  rules: KpaRules,
  { current, stable, panic }: KpaObservation,
  more: { readonly panicking?: number; readonly activationScale?: number } = {},
): number {
  const { targetValue, tolerance, maxScaleUpRate, maxScaleDownRate } = rules;
  const ready = Math.max(0, current);
  const most = Math.max(1, Math.ceil(maxScaleUpRate * ready));
  const least = Math.floor(ready / maxScaleDownRate);
  const answerTo = (value: number): number => {
    const outside = value > targetValue * (1 + tolerance) || value < targetValue * (1 - tolerance);
    const asked = outside ? Math.ceil(value / targetValue) : ready;
    const bounded = Math.min(Math.max(asked, least), most);
    return bounded > 0 ? Math.max(bounded, more.activationScale ?? 1) : bounded;
  };
  const answer = answerTo(stable);
  return more.panicking === undefined ? answer : Math.max(answer, answerTo(panic), more.panicking);
}

export function kpaPanics({ stable, panic }: KpaObservation, panicThreshold: number): boolean {
  return stable <= 0 || panic / stable > panicThreshold;
}

type Sample = { readonly atMs: number; readonly value: number };

/** The autoscaler of one deployment. Times must not go back. */
export class KpaPodAutoscaler {
  readonly #settings: KpaSettings;
  /** Values of the metric over the long window, and recommendations over the cool-down window. */
  #values: readonly Sample[] = [];
  #recommendations: readonly Sample[] = [];

  constructor(settings: KpaSettings) {
    this.#settings = settings;
  }

  /**
   * One look, every 10 s in the controller.
   *
   * @param value what the metric says now; null = it cannot be read, which scales nothing
   * @returns replicas to have
   */
  look({
    nowMs,
    value,
    current,
  }: {
    readonly nowMs: number;
    readonly value: number | null;
    readonly current: number;
  }): number {
    const { minReplicas, maxReplicas, stableSeconds, panicSeconds, panicThreshold } = this.#settings;
    if (value !== null) {
      // A window keeps what is exactly as old as it is long.
      this.#values = [
        ...this.#values.filter(({ atMs }) => atMs >= nowMs - 1000 * stableSeconds),
        { atMs: nowMs, value },
      ];
    }
    if (current === 0 && minReplicas > 0) return 0;
    if (current > maxReplicas) return maxReplicas;
    if (current < minReplicas) return minReplicas;
    if (value === null) return current;
    const observed = {
      current,
      stable: meanOf(this.#values),
      panic: meanOf(this.#values.filter(({ atMs }) => atMs >= nowMs - 1000 * panicSeconds)),
    };
    const bounded = (replicas: number) => Math.min(Math.max(replicas, minReplicas), maxReplicas);
    const panicking = kpaPanics(observed, panicThreshold) ? { panicking: 0 } : {};
    const recommended = bounded(kpaTarget(this.#settings, observed, panicking));
    return bounded(this.#stabilised(nowMs, recommended, current));
  }

  #stabilised(nowMs: number, recommended: number, current: number): number {
    const since = nowMs - 1000 * this.#settings.scaleDownCooldownSeconds;
    this.#recommendations = [
      ...this.#recommendations.filter(({ atMs }) => atMs > since),
      { atMs: nowMs, value: recommended },
    ];
    if (recommended >= current) return recommended;
    return Math.min(...this.#recommendations.map(({ value }) => value));
  }
}

function meanOf(samples: readonly Sample[]): number {
  return samples.reduce((sum, { value }) => sum + value, 0) / Math.max(1, samples.length);
}

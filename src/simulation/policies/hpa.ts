/**
 * The Kubernetes HorizontalPodAutoscaler on a metric of its pods (`type: Pods`, `AverageValue`), autoscaling/v2 with the
 * default behaviour.
 *
 * - The ratio of the mean per ready pod to the target, in thousandths as quantities are kept; within the tolerance
 *   nothing changes.
 * - Pods without a metric yet (they start: their server does not answer) count as 0 where the ratio is above 1 and as
 *   the target where it is below; where that turns the direction round, nothing changes.
 * - Going down waits for the highest recommendation of the last five minutes; going up waits for nothing, and at most
 *   doubles or adds 4 pods within 15 s, whichever is more.
 * - No pod with a metric: an error, which scales nothing. No replicas at all: autoscaling is off.
 *
 * Source: the algorithm as documented by Kubernetes ("Horizontal Pod Autoscaling") and as its controller computes it.
 */
export type HpaSettings = {
  /** Of the metric, mean per pod. */
  readonly target: number;
  readonly minReplicas: number;
  readonly maxReplicas: number;
  readonly tolerance: number;
  readonly scaleDownStabilizationSeconds: number;
  readonly scaleUpStabilizationSeconds: number;
  /** Largest rises within `periodSeconds`; the larger of the two counts. */
  readonly scaleUp: { readonly percent: number; readonly pods: number; readonly periodSeconds: number };
  readonly scaleDown: { readonly percent: number; readonly periodSeconds: number };
};

/** Time between two looks of the controller [s]. */
export const hpaSyncSeconds = 15;

/** Kubernetes' defaults, but for the target and the largest number of replicas. */
export const hpaDefaults = {
  minReplicas: 1,
  tolerance: 0.1,
  scaleDownStabilizationSeconds: 300,
  scaleUpStabilizationSeconds: 0,
  scaleUp: { percent: 100, pods: 4, periodSeconds: 15 },
  scaleDown: { percent: 100, periodSeconds: 15 },
} as const;

export type HpaObservation = {
  /** Replicas asked for now. */
  readonly current: number;
  /** Pods that have the metric, and its sum over them. */
  readonly pods: number;
  readonly sum: number;
  /** Pods that start: without the metric. */
  readonly startingPods: number;
};

/** Replicas that the metric asks for, before bounds, rates and stabilisation; null = it cannot be said. */
export function hpaProposal(
  { target, tolerance }: Pick<HpaSettings, 'target' | 'tolerance'>,
  { current, pods, sum, startingPods }: HpaObservation,
): number | null {
  if (pods === 0) return null;
  const targetMilli = Math.round(1000 * target);
  const sumMilli = Math.round(1000 * sum);
  const ratioOver = (total: number, over: number) => Math.trunc(total / over) / targetMilli;
  const within = (ratio: number) => 1 - tolerance <= ratio && ratio <= 1 + tolerance;
  const ratio = ratioOver(sumMilli, pods);
  if (startingPods === 0) return within(ratio) ? current : Math.ceil(ratio * pods);
  const all = pods + startingPods;
  const filled = ratio < 1 ? sumMilli + startingPods * targetMilli : sumMilli;
  const filledRatio = ratioOver(filled, all);
  if (within(filledRatio) || (ratio < 1 && filledRatio > 1) || (ratio > 1 && filledRatio < 1)) return current;
  const proposal = Math.ceil(filledRatio * all);
  return (filledRatio < 1 && proposal > current) || (filledRatio > 1 && proposal < current) ? current : proposal;
}

type Event = { readonly atMs: number; readonly value: number };

/** The autoscaler of one deployment. Times must not go back. */
export class HorizontalPodAutoscaler {
  readonly #settings: HpaSettings;
  #recommendations: readonly Event[] | null = null;
  /** Replicas added and taken away. */
  #added: readonly Event[] = [];
  #taken: readonly Event[] = [];

  constructor(settings: HpaSettings) {
    this.#settings = settings;
  }

  /** One look, every 15 s in the controller. Returns the replicas to have. */
  look(nowMs: number, observed: HpaObservation): number {
    const { minReplicas, maxReplicas } = this.#settings;
    const { current } = observed;
    this.#recommendations ??= [{ atMs: nowMs, value: current }];
    if (current === 0 && minReplicas > 0) return 0;
    if (current > maxReplicas) return this.#act(nowMs, current, maxReplicas);
    if (current < minReplicas) return this.#act(nowMs, current, minReplicas);
    const proposal = hpaProposal(this.#settings, observed);
    if (proposal === null) return current;
    const stabilised = this.#stabilised(nowMs, proposal, current);
    return this.#act(nowMs, current, this.#limited(nowMs, stabilised, current));
  }

  #stabilised(nowMs: number, proposal: number, current: number): number {
    const { scaleUpStabilizationSeconds, scaleDownStabilizationSeconds } = this.#settings;
    const before = this.#recommendations ?? [];
    const valuesSince = (seconds: number) =>
      before.filter(({ atMs }) => atMs > nowMs - 1000 * seconds).map(({ value }) => value);
    const up = Math.min(proposal, ...valuesSince(scaleUpStabilizationSeconds));
    const down = Math.max(proposal, ...valuesSince(scaleDownStabilizationSeconds));
    const kept = 1000 * Math.max(scaleUpStabilizationSeconds, scaleDownStabilizationSeconds);
    this.#recommendations = [...before.filter(({ atMs }) => atMs > nowMs - kept), { atMs: nowMs, value: proposal }];
    return Math.min(Math.max(current, up), down);
  }

  #limited(nowMs: number, wanted: number, current: number): number {
    const { scaleUp, scaleDown, minReplicas, maxReplicas } = this.#settings;
    const changedWithin = (events: readonly Event[], seconds: number) =>
      events.filter(({ atMs }) => atMs > nowMs - 1000 * seconds).reduce((sum, { value }) => sum + value, 0);
    if (wanted > current) {
      const start = current - changedWithin(this.#added, scaleUp.periodSeconds);
      const most = Math.max(start + scaleUp.pods, Math.ceil(start * (1 + scaleUp.percent / 100)));
      return Math.min(wanted, maxReplicas, Math.max(current, most));
    }
    if (wanted < current) {
      const start = current + changedWithin(this.#taken, scaleDown.periodSeconds);
      const least = Math.trunc(start * (1 - scaleDown.percent / 100));
      return Math.max(wanted, minReplicas, Math.min(current, least));
    }
    return current;
  }

  #act(nowMs: number, current: number, replicas: number): number {
    const { scaleUp, scaleDown } = this.#settings;
    const recent = (events: readonly Event[], seconds: number) =>
      events.filter(({ atMs }) => atMs > nowMs - 1000 * seconds);
    if (replicas > current) {
      this.#added = [...recent(this.#added, scaleUp.periodSeconds), { atMs: nowMs, value: replicas - current }];
    }
    if (replicas < current) {
      this.#taken = [...recent(this.#taken, scaleDown.periodSeconds), { atMs: nowMs, value: current - replicas }];
    }
    return replicas;
  }
}

import type { FleetDeployment, FleetSettings, RequestObjective, RunResult, RunSeries } from './backtest.js';
import { LatencyHistogram } from './latency-histogram.js';

/**
 * What a run comes to: money, outcomes, latencies and series over the scored span, in either fidelity.
 *
 * Everything may be told in any order of time, and in fractions: a fluid run adds `weight` requests and `replicas` that
 * are no whole numbers. Spans are cut to the scored one. Memory is that of the series and of the steps whose requests
 * are not all ended.
 */

/** A request that was answered. Times are seconds from its arrival at the gateway. */
export type Answered = {
  readonly arrivedMs: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly ttftSeconds: number;
  /** Mean time per token after the first; null with one token. */
  readonly tpotSeconds: number | null;
  readonly e2eSeconds: number;
};

/** Something that lasts, of one deployment. */
export type ReplicaSpan = { readonly fromMs: number; readonly toMs: number; readonly replicas?: number };

/** One step of the series while its requests are not all ended. */
type OpenStep = { open: number; attained: number; readonly ttft: LatencyHistogram };

const hourMs = 3_600_000;

/** Whether an answer is within the objective. */
export function attains(objective: RequestObjective, answered: Omit<Answered, 'arrivedMs' | 'e2eSeconds'>): boolean {
  const { ttftSeconds, ttftSecondsPerInputToken, tpotSeconds } = objective;
  return (
    answered.ttftSeconds <= ttftSeconds + ttftSecondsPerInputToken * answered.inputTokens &&
    (answered.tpotSeconds === null || answered.tpotSeconds <= tpotSeconds)
  );
}

/** Counts one run. */
export class RunTally {
  readonly #settings: Pick<FleetSettings, 'deployments' | 'objective' | 'scoredFromMs' | 'endMs'>;
  readonly #stepMs: number;
  readonly #steps: number;
  readonly #ttft = new LatencyHistogram();
  readonly #tpot = new LatencyHistogram();
  readonly #e2e = new LatencyHistogram();
  #requests = 0;
  #attained = 0;
  #answered = 0;
  #failed = 0;
  #unserved = 0;
  #inputTokens = 0;
  #outputTokens = 0;
  #usd = 0;
  #replicaMs = 0;
  #readyMs = 0;
  #busyMs = 0;
  #starts = 0;
  #stops = 0;
  #failures = 0;
  readonly #gpuMs = new Map<string, number>();
  readonly #arrivals: Float64Array;
  readonly #stepUsd: Float64Array;
  /** Of ready replicas by deployment, what each step has more than the one before. */
  readonly #readySteps: ReadonlyMap<string, Float64Array>;
  readonly #attainment: (number | null)[];
  readonly #ttftP95: (number | null)[];
  /** By step; absent = nothing was said in it. */
  readonly #forecast = new Map<number, number | null>();
  #forecastBefore: number | null = null;
  readonly #openSteps = new Map<number, OpenStep>();
  readonly #sparePool: LatencyHistogram[] = [];
  #latestStep = 0;

  /** @throws RangeError for a scored span without length, or steps without */
  constructor(
    settings: Pick<FleetSettings, 'deployments' | 'objective' | 'scoredFromMs' | 'endMs'> & {
      readonly seriesSeconds: number;
    },
  ) {
    const { scoredFromMs, endMs, seriesSeconds, deployments } = settings;
    if (!(endMs > scoredFromMs && Number.isFinite(endMs - scoredFromMs))) {
      throw new RangeError(`the scored span is from ${scoredFromMs} to ${endMs}, expected a span with a length [ms]`);
    }
    if (!(seriesSeconds > 0 && seriesSeconds < Infinity)) {
      throw new RangeError(`seriesSeconds is ${seriesSeconds}, expected a number > 0`);
    }
    this.#settings = settings;
    this.#stepMs = seriesSeconds * 1000;
    this.#steps = Math.ceil((endMs - scoredFromMs) / this.#stepMs);
    this.#arrivals = new Float64Array(this.#steps);
    this.#stepUsd = new Float64Array(this.#steps);
    this.#attainment = new Array<number | null>(this.#steps).fill(null);
    this.#ttftP95 = new Array<number | null>(this.#steps).fill(null);
    this.#readySteps = new Map(deployments.map(({ id }) => [id, new Float64Array(this.#steps + 1)]));
  }

  /** Whether a request that arrives then counts. */
  isScored(arrivedMs: number): boolean {
    return arrivedMs >= this.#settings.scoredFromMs && arrivedMs < this.#settings.endMs;
  }

  /** A request comes in; what becomes of it is told once, later or at once. */
  arrive(arrivedMs: number, weight = 1): void {
    if (!this.isScored(arrivedMs) || weight === 0) return;
    this.#requests += weight;
    const step = this.#stepOf(arrivedMs);
    this.#arrivals[step]! += weight;
    if (step > this.#latestStep) {
      this.#latestStep = step;
      for (const [at, one] of this.#openSteps) this.#closeIfOver(at, one);
    }
    let open = this.#openSteps.get(step);
    if (open === undefined) {
      open = { open: 0, attained: 0, ttft: this.#sparePool.pop() ?? new LatencyHistogram() };
      this.#openSteps.set(step, open);
    }
    open.open += weight;
  }

  answer(answered: Answered, weight = 1): void {
    const { arrivedMs, inputTokens, outputTokens, ttftSeconds, tpotSeconds, e2eSeconds } = answered;
    if (!this.isScored(arrivedMs) || weight === 0) return;
    const isAttained = attains(this.#settings.objective, answered);
    this.#answered += weight;
    if (isAttained) this.#attained += weight;
    this.#inputTokens += inputTokens * weight;
    this.#outputTokens += outputTokens * weight;
    this.#ttft.add(ttftSeconds, weight);
    if (tpotSeconds !== null) this.#tpot.add(tpotSeconds, weight);
    this.#e2e.add(e2eSeconds, weight);
    this.#endIn(arrivedMs, weight, (step) => {
      if (isAttained) step.attained += weight;
      step.ttft.add(ttftSeconds, weight);
    });
  }

  /** Lost with its replica, or refused by it. */
  fail(arrivedMs: number, weight = 1): void {
    if (!this.isScored(arrivedMs) || weight === 0) return;
    this.#failed += weight;
    this.#endIn(arrivedMs, weight);
  }

  /** No replica took it in time. */
  leaveUnserved(arrivedMs: number, weight = 1): void {
    if (!this.isScored(arrivedMs) || weight === 0) return;
    this.#unserved += weight;
    this.#endIn(arrivedMs, weight);
  }

  /** Replicas of a deployment were paid for, from their creation until they were gone. */
  bill(deployment: FleetDeployment, { fromMs, toMs, replicas = 1 }: ReplicaSpan): void {
    const [from, to] = this.#cut(fromMs, toMs);
    if (!(to > from)) return;
    const usdPerMs = (deployment.usdPerReplicaHour * replicas) / hourMs;
    this.#usd += usdPerMs * (to - from);
    this.#replicaMs += replicas * (to - from);
    const { gpuType, gpusPerReplica } = deployment;
    this.#gpuMs.set(gpuType, (this.#gpuMs.get(gpuType) ?? 0) + gpusPerReplica * replicas * (to - from));
    const { scoredFromMs } = this.#settings;
    for (let step = this.#stepOf(from); step < this.#steps; step++) {
      const start = Math.max(from, scoredFromMs + step * this.#stepMs);
      const end = Math.min(to, scoredFromMs + (step + 1) * this.#stepMs);
      if (end <= start) break;
      this.#stepUsd[step]! += usdPerMs * (end - start);
    }
  }

  /** Replicas of a deployment were ready; `busyMs` of that, within the scored span and over all of them, they computed. */
  ready(deployment: FleetDeployment, span: ReplicaSpan & { readonly busyMs: number }): void {
    const { replicas = 1 } = span;
    const [from, to] = this.#cut(span.fromMs, span.toMs);
    if (!(to > from)) return;
    this.#readyMs += replicas * (to - from);
    this.#busyMs += span.busyMs;
    const steps = this.#readySteps.get(deployment.id)!;
    // Steps end at the multiples of their length, the last one at the end: those ends in (from, to] see the replica.
    const { scoredFromMs, endMs } = this.#settings;
    const first = Math.floor((from - scoredFromMs) / this.#stepMs);
    const past = to >= endMs ? this.#steps : Math.floor((to - scoredFromMs) / this.#stepMs);
    steps[Math.min(first, this.#steps)]! += replicas;
    steps[past]! -= replicas;
  }

  countStart(atMs: number, replicas = 1): void {
    if (this.isScored(atMs)) this.#starts += replicas;
  }

  countStop(atMs: number, replicas = 1): void {
    if (this.isScored(atMs)) this.#stops += replicas;
  }

  countFailure(atMs: number, replicas = 1): void {
    if (this.isScored(atMs)) this.#failures += replicas;
  }

  /** What was planned for, from now on; told in the order of time. */
  forecast(atMs: number, rps: number | null): void {
    if (atMs < this.#settings.scoredFromMs) this.#forecastBefore = rps;
    else if (atMs < this.#settings.endMs) this.#forecast.set(this.#stepOf(atMs), rps);
  }

  /** The whole. Requests that have not ended are in `requests` only: tell of all of them before. */
  result(): RunResult {
    const { scoredFromMs, endMs } = this.#settings;
    for (const [at, step] of this.#openSteps) this.#close(at, step);
    const hours = (endMs - scoredFromMs) / hourMs;
    const tokens = this.#inputTokens + this.#outputTokens;
    return {
      usd: this.#usd,
      hours,
      requests: this.#requests,
      attained: this.#attained,
      late: Math.max(0, this.#answered - this.#attained),
      failed: this.#failed,
      unserved: this.#unserved,
      attainment: this.#requests > 0 ? this.#attained / this.#requests : 1,
      inputTokens: this.#inputTokens,
      outputTokens: this.#outputTokens,
      usdPerMillionTokens: tokens > 0 ? (this.#usd / tokens) * 1e6 : null,
      ttft: this.#ttft.percentiles(),
      tpot: this.#tpot.percentiles(),
      e2e: this.#e2e.percentiles(),
      starts: this.#starts,
      stops: this.#stops,
      failures: this.#failures,
      gpuHours: Object.fromEntries([...this.#gpuMs].sort(byName).map(([type, ms]) => [type, ms / hourMs])),
      meanReplicas: this.#replicaMs / (endMs - scoredFromMs),
      utilization: this.#readyMs > 0 ? Math.min(1, this.#busyMs / this.#readyMs) : 0,
      series: this.#series(),
    };
  }

  #series(): RunSeries {
    const { scoredFromMs, endMs } = this.#settings;
    const lengthMs = (step: number): number => Math.min(this.#stepMs, endMs - scoredFromMs - step * this.#stepMs);
    const perStep = (sums: Float64Array, msPerUnit: number): number[] =>
      Array.from(sums, (sum, step) => (sum * msPerUnit) / lengthMs(step));
    let said = this.#forecastBefore;
    return {
      stepSeconds: this.#stepMs / 1000,
      fromMs: scoredFromMs,
      rps: perStep(this.#arrivals, 1000),
      forecastRps: Array.from(this.#arrivals, (_, step) => {
        const now = this.#forecast.get(step);
        if (now !== undefined) said = now;
        return said;
      }),
      readyReplicas: Object.fromEntries(
        [...this.#readySteps].map(([id, steps]) => {
          let ready = 0;
          return [id, Array.from(steps.subarray(0, this.#steps), (more) => (ready += more))];
        }),
      ),
      usdPerHour: perStep(this.#stepUsd, hourMs),
      attainment: this.#attainment.slice(),
      ttftP95Seconds: this.#ttftP95.slice(),
    };
  }

  #cut(fromMs: number, toMs: number): readonly [number, number] {
    return [Math.max(fromMs, this.#settings.scoredFromMs), Math.min(toMs, this.#settings.endMs)];
  }

  #stepOf(ms: number): number {
    return Math.min(this.#steps - 1, Math.floor((ms - this.#settings.scoredFromMs) / this.#stepMs));
  }

  #endIn(arrivedMs: number, weight: number, count?: (step: OpenStep) => void): void {
    const at = this.#stepOf(arrivedMs);
    const step = this.#openSteps.get(at);
    if (step === undefined) throw new RangeError(`a request that arrived at ${arrivedMs} ended, and never arrived`);
    count?.(step);
    step.open -= weight;
    if (at < this.#latestStep) this.#closeIfOver(at, step);
  }

  /** Sums of fractions do not come back to zero to the last bit. */
  #closeIfOver(at: number, step: OpenStep): void {
    if (at < this.#latestStep && step.open <= 1e-9 * this.#arrivals[at]!) this.#close(at, step);
  }

  #close(at: number, step: OpenStep): void {
    this.#attainment[at] = Math.min(1, step.attained / this.#arrivals[at]!);
    this.#ttftP95[at] = step.ttft.quantile(0.95);
    this.#openSteps.delete(at);
    step.ttft.clear();
    this.#sparePool.push(step.ttft);
  }
}

function byName(a: readonly [string, number], b: readonly [string, number]): number {
  return a[0] < b[0] ? -1 : 1;
}

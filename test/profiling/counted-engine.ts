import type { EngineSample } from '../../src/core/ports.js';
import type { Cell } from '../../src/profiling/measurement.js';
import { SimulatedReplica } from '../../src/simulation/replica.js';
import type { StepTimes } from '../../src/simulation/step-time.js';
import { type SeededRandom, seededRandom } from '../support/seeded-random.js';

/**
 * A simulated replica under Poisson arrivals that counts as vLLM counts: what engines tell, from the queue that the
 * estimates use. Time is virtual.
 */
export class CountedEngine {
  /** Requests/s from now on. */
  rate = 1;
  readonly #replica: SimulatedReplica;
  readonly #lengths: readonly Cell[];
  readonly #random: SeededRandom;
  readonly #running = new Map<number, { arrivedMs: number; firstMs: number; inputTokens: number }>();
  readonly #totals = {
    promptTokens: 0,
    generationTokens: 0,
    ttft: { seconds: 0, count: 0 },
    tpot: { seconds: 0, count: 0 },
    e2e: { seconds: 0, count: 0 },
  };
  #nowMs = 0;
  #nextArrivalMs: number | null = null;
  #nextId = 0;

  /** @param options.slowness every step takes so many times as long */
  constructor(options: {
    readonly stepTimes: StepTimes;
    readonly slowness: number;
    readonly lengths: Cell | readonly Cell[];
    readonly seed: number;
  }) {
    const { stepTimes, slowness, lengths, seed } = options;
    this.#lengths = Array.isArray(lengths) ? (lengths as readonly Cell[]) : [lengths as Cell];
    this.#random = seededRandom(seed);
    this.#replica = new SimulatedReplica({
      stepTimes: { kvCacheTokens: stepTimes.kvCacheTokens, stepMs: (step) => stepTimes.stepMs(step) * slowness },
      limits: { maxSequences: 256, maxBatchedTokens: 8192, maxTokens: 32_768 },
    });
  }

  /** Lets requests arrive and steps end until then. */
  runTo(untilMs: number): void {
    for (;;) {
      this.#nextArrivalMs ??= this.#nowMs - (Math.log(1 - this.#random.next()) / this.rate) * 1000;
      const stopMs = Math.min(untilMs, this.#nextArrivalMs);
      this.#advance(stopMs);
      this.#nowMs = stopMs;
      if (stopMs < this.#nextArrivalMs) return;
      this.#nextArrivalMs = null;
      const { inputTokens, outputTokens } = this.#random.pick(this.#lengths);
      const id = this.#nextId++;
      this.#running.set(id, { arrivedMs: stopMs, firstMs: 0, inputTokens });
      this.#replica.submit({ id, inputTokens, outputTokens }, stopMs);
    }
  }

  #advance(untilMs: number): void {
    const totals = this.#totals;
    this.#replica.advanceEach(untilMs, (kind, id, atMs, outputTokens) => {
      const request = this.#running.get(id);
      if (request === undefined) return;
      if (kind === 'token') {
        totals.generationTokens += 1;
        if (outputTokens > 1) return;
        request.firstMs = atMs;
        totals.promptTokens += request.inputTokens;
        totals.ttft.seconds += (atMs - request.arrivedMs) / 1000;
        totals.ttft.count += 1;
      } else if (kind === 'finished') {
        totals.tpot.seconds += outputTokens > 1 ? (atMs - request.firstMs) / 1000 / (outputTokens - 1) : 0;
        totals.tpot.count += 1;
        totals.e2e.seconds += (atMs - request.arrivedMs) / 1000;
        totals.e2e.count += 1;
        this.#running.delete(id);
      }
    });
  }

  /** What it tells when it is asked now. */
  sample(deployment: string, instance = 'pod-1'): EngineSample {
    const { promptTokens, generationTokens, ttft, tpot, e2e } = this.#totals;
    const latencies = { ttft: { ...ttft }, tpot: { ...tpot }, e2e: { ...e2e } };
    return { deployment, instance, atMs: this.#nowMs, promptTokens, generationTokens, latencies };
  }
}

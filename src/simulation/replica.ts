import type { StepTimes } from './step-time.js';

export type ReplicaLimits = {
  /** Most sequences that run at once (vLLM: max-num-seqs). */
  readonly maxSequences: number;
  /** Most tokens of one step, prompts and decodes together (vLLM: max-num-batched-tokens). */
  readonly maxBatchedTokens: number;
  /** Longest request, input + output (vLLM: max-model-len). */
  readonly maxTokens: number;
};

export type ReplicaRequest = { readonly id: number; readonly inputTokens: number; readonly outputTokens: number };

export type ReplicaEvent = {
  readonly kind: 'token' | 'finished' | 'rejected' | 'preempted';
  readonly id: number;
  readonly atMs: number;
  /** Produced so far by this request. */
  readonly outputTokens: number;
};

export type ReplicaLoad = {
  readonly running: number;
  readonly waiting: number;
  /** 0..1 */
  readonly kvCacheUsed: number;
  /** Since the start. */
  readonly preemptions: number;
};

/** One replica as a continuous-batching queue in virtual time. */
export class SimulatedReplica {
  constructor(_options: { readonly stepTimes: StepTimes; readonly limits: ReplicaLimits }) {}

  /** Puts a request in the queue; times of calls must not go backwards. */
  submit(_request: ReplicaRequest, _atMs: number): void {
    throw new Error('not yet');
  }

  /** Forgets a request, whatever its state; unknown ids are ignored. */
  cancel(_id: number, _atMs: number): void {
    throw new Error('not yet');
  }

  /** When the step in progress ends; null where nothing runs or waits. */
  nextStepEndMs(): number | null {
    return null;
  }

  /** All steps that end by then; a `token` event for every produced token, in the order of time. */
  advance(_untilMs: number): readonly ReplicaEvent[] {
    return [];
  }

  load(): ReplicaLoad {
    return { running: 0, waiting: 0, kvCacheUsed: 0, preemptions: 0 };
  }
}

import { bestEffortWork, bucketWork, type WorkTable } from '../core/work.js';
import type { Cell } from './measurement.js';

/**
 * A realistic mixture of lengths, and how far the sum of its single works lies from what a server did with it.
 *
 * Planning adds up works: a replica that serves 1 / w_b requests/s of each bucket alone is taken to serve 1 / Σ share_b w_b of
 * the mixture. That is an assumption (long prompts delay short requests beside them), and a benchmark of a mixture measures
 * its error.
 */
export type Mix = {
  /** As its rows call it. */
  readonly name: string;
  /** Lengths of its requests, each as likely as any other. Not empty. */
  readonly lengths: readonly Cell[];
  /** Requests left out: longer than the model takes, or without a prompt or an answer. */
  readonly leftOut: number;
};

/** Keeps what can be asked of a server: at least one token each way, and no more than it takes. */
export function mixOf(options: {
  readonly name: string;
  readonly requests: readonly Cell[];
  /** null = not known. */
  readonly maxTokens: number | null;
}): Mix {
  const { name, requests, maxTokens } = options;
  const lengths = requests
    .filter(
      ({ inputTokens, outputTokens }) =>
        inputTokens >= 1 && outputTokens >= 1 && inputTokens + outputTokens <= (maxTokens ?? Number.POSITIVE_INFINITY),
    )
    .map(({ inputTokens, outputTokens }) => ({ inputTokens, outputTokens }));
  return { name, lengths, leftOut: requests.length - lengths.length };
}

/** The mean lengths, rounded: what the rows of a mixture are filed under. */
export function meanCell(lengths: readonly Cell[]): Cell {
  const mean = (of: (cell: Cell) => number): number =>
    Math.max(1, Math.round(lengths.reduce((sum, cell) => sum + of(cell), 0) / Math.max(1, lengths.length)));
  return {
    inputTokens: mean(({ inputTokens }) => inputTokens),
    outputTokens: mean(({ outputTokens }) => outputTokens),
  };
}

export type Additivity = {
  /** What the sum of works says that one replica serves of the mixture [requests/s]; null = nothing of it can be served. */
  readonly predictedRps: number | null;
  readonly measuredRps: number;
  /** predicted / measured − 1: > 0 where planning would promise too much. */
  readonly relativeError: number | null;
  /** Share of the requests that no profiled cell serves within the SLO; they count with the work of the nearest one. */
  readonly unservableShare: number;
  /** Share of the requests that are longer than the profile's largest cell. */
  readonly extrapolatedShare: number;
};

/** Compares the highest rate that was measured for a mixture with the sum of the works of a profile, as planning reads it. */
export function additivityOf(options: {
  readonly lengths: readonly Cell[];
  /** Compiled with the model's longest request. */
  readonly works: WorkTable;
  readonly measuredRps: number;
}): Additivity {
  const { lengths, works, measuredRps } = options;
  let total = 0;
  let unservable = 0;
  let extrapolated = 0;
  for (const { inputTokens, outputTokens } of lengths) {
    const one = bucketWork(works, inputTokens, outputTokens);
    if (one.servable) total += one.work;
    else {
      unservable += 1;
      total += bestEffortWork(works, inputTokens, outputTokens);
    }
    if (one.extrapolated) extrapolated += 1;
  }
  const predictedRps = total > 0 && Number.isFinite(total) ? lengths.length / total : null;
  return {
    predictedRps,
    measuredRps,
    relativeError: predictedRps === null || !(measuredRps > 0) ? null : predictedRps / measuredRps - 1,
    unservableShare: unservable / Math.max(1, lengths.length),
    extrapolatedShare: extrapolated / Math.max(1, lengths.length),
  };
}

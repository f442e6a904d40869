/**
 * What a run against a server says of one request, and what all requests of a run say together.
 *
 * Words: a *cell* is (input tokens, output tokens); a *run* sends requests of one cell, or of a mix of lengths, at one
 * rate; *open loop* means that arrivals never wait for answers. TTFT = time to first token, TPOT = time per output token
 * after the first, ITL = gap between two tokens, E2E = whole request, TPUT = completions per second, TT = produced
 * tokens per second. A run in virtual time (the simulated replica) and one against a server speak the same types.
 */

/** Lengths of a request, in tokens. */
export type Cell = { readonly inputTokens: number; readonly outputTokens: number };

/** Why a request is no success. */
export const failureKinds = [
  /** No connection: refused, unknown host, TLS. */
  'connect',
  /** No whole answer within the time allowed. */
  'timeout',
  'http_401',
  'http_404',
  'http_429',
  'http_5xx',
  /** Any other status but 200, redirects too (they are not followed). */
  'http_other',
  /** The answer is not what the interface says: broken JSON, broken event stream. */
  'malformed',
  /** The connection ended before the answer did. */
  'dropped',
  /** Status 200 and, within the answer, an error of the server. */
  'error_in_stream',
  /** A whole answer without a token. */
  'no_output',
  /** Cut off by us: the run was aborted, or its time to finish was over. Says nothing of the server. */
  'cancelled',
] as const;
export type FailureKind = (typeof failureKinds)[number];

/** One request to be sent. */
export type ScheduledRequest = Cell & {
  readonly id: number;
  /** When it is to be sent, since the start of the run [s]. Schedules ascend. */
  readonly atSeconds: number;
};

/** Where token counts come from, best first. */
export const tokenSources = [
  /** `usage` in the server's answer. */
  'server',
  /** Counted by us: text chunks, or the server's tokenizer. */
  'counted',
  /** Nothing to count: what was asked for. */
  'requested',
] as const;
export type TokenSource = (typeof tokenSources)[number];

/** What became of one request. Times are seconds since the start of the run. */
export type RequestOutcome = {
  readonly id: number;
  readonly scheduledSeconds: number;
  /** When it was in fact handed to the connection. */
  readonly sentSeconds: number;
  /** First chunk with text; null without streaming, and where none came. */
  readonly firstTokenSeconds: number | null;
  /** Last chunk with text (streaming), end of the answer (else), or when the failure was known. */
  readonly endSeconds: number;
  /** As counted by `usage`; the wanted number where nothing was counted. */
  readonly inputTokens: number;
  /** Produced; 0 where none were. */
  readonly outputTokens: number;
  readonly wantedInputTokens: number;
  readonly wantedOutputTokens: number;
  /** Where the token counts come from. */
  readonly usage: TokenSource;
  /** Time before each token after those of the first chunk [s]; n tokens of one chunk share its gap. Empty without streaming. */
  readonly tokenGapsSeconds: ArrayLike<number>;
  /** null: a success. */
  readonly failure: FailureKind | null;
  /** What the server or the connection said, shortened; never a secret. */
  readonly failureDetail?: string;
};

/** Mean and percentiles (linear between neighbours, as numpy's default). Of nothing there is no summary: null. */
export type Summary = {
  readonly count: number;
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p95: number;
  readonly p99: number;
};

export const arrivalKinds = ['poisson', 'constant', 'trace'] as const;
export type ArrivalKind = (typeof arrivalKinds)[number];

/** What was asked of a run. */
export type MeasurementPlan = {
  readonly model: string;
  /** null for a mix of lengths. */
  readonly cell: Cell | null;
  /** Name of the mix; null for one cell. */
  readonly mix: string | null;
  /** Arrivals per second, as planned. */
  readonly requestRate: number;
  readonly arrivals: ArrivalKind;
  readonly seed: number;
  readonly temperature: number;
  /** Why the run was ended early; null where it was not. */
  readonly aborted?: string | null;
  /** Why the generator did not do what was asked of it (it ran out of connections); null where it did. */
  readonly generatorFault?: string | null;
  /** Why it may have dated answers too late (its event loop was starved); null where it did not. */
  readonly generatorStall?: string | null;
};

export type Counts = {
  readonly sent: number;
  readonly completed: number;
  /** Completed requests that the latencies rest on: sent in the steady state, warm-up and drain left out. */
  readonly counted: number;
  /** Completions that the throughput rests on: ended in the steady state. */
  readonly countedCompletions: number;
  /** Requests sent in the steady state, whatever became of them; 0 without one. */
  readonly countedArrivals: number;
  /** Kinds that occurred, each with its number. */
  readonly failed: Readonly<Partial<Record<FailureKind, number>>>;
  /** Completed with fewer tokens than were wanted. */
  readonly shortened: number;
};

/** The part of a run that is believed, seconds since its start. */
export type SteadyState = {
  readonly startSeconds: number;
  /** The last arrival: from here on the server drains. */
  readonly endSeconds: number;
};

export type Measurement = Required<Omit<MeasurementPlan, 'generatorFault' | 'generatorStall'>> & {
  readonly counts: Counts;
  /** TPUT: completions per second of the steady state; 0 where nothing completed. */
  readonly throughputRps: number;
  /** TT: tokens produced by those completions, per second. */
  readonly outputTokensPerSecond: number;
  /** Seconds. null where nothing was measured (TTFT, TPOT and ITL need streaming; TPOT and ITL a second token). */
  readonly ttft: Summary | null;
  readonly tpot: Summary | null;
  readonly itl: Summary | null;
  readonly e2e: Summary | null;
  /** Of the counted requests; the wanted lengths where none was counted. */
  readonly meanInputTokens: number;
  readonly meanOutputTokens: number;
  /** Sent − scheduled [s], over all requests sent. */
  readonly scheduleError: Summary | null;
  /** null: the run was too short for one. Then the figures are of the whole run, and throughput is an underestimate. */
  readonly steadyState: SteadyState | null;
  /** Whether the run did what was asked of it; where false the figures are of another experiment. */
  readonly valid: boolean;
  readonly invalidBecause: string | null;
  /**
   * Of the requests that arrived in the steady state, the part that was completed in it; what is in flight by chance
   * counts as completed, what failed does not. 0 to 1; null without a steady state.
   */
  readonly servedShare: number | null;
  /** Requests piled up for as long as they arrived: the server cannot keep up with this rate. */
  readonly saturated: boolean;
  /** From the first arrival to the last end [s]. */
  readonly seconds: number;
  /** The least good source of token counts among the completed requests. */
  readonly usage: TokenSource;
};

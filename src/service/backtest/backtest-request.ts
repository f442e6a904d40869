import type { LoggedRequest } from '../../adapters/request-log.js';
import type { Fidelity, RequestObjective, Router } from '../../simulation/backtest/backtest.js';
import type { PolicyName } from '../../simulation/backtest/policy-names.js';
import type { Config } from '../config.js';

/** What a backtest is asked for; what cannot be right in itself was refused before. */
export type BacktestRequestOptions = {
  readonly trace: {
    /** What errors and reports call it. */
    readonly file: string;
    /** Reads it from its beginning, as often as it is asked to. Errors are InputErrors with the line. */
    readonly open: () => AsyncIterable<LoggedRequest>;
  };
  readonly config: Config;
  /** Relative paths of the configuration are relative to this. */
  readonly directory: string;
  /** Each once; the first one is compared with the others. */
  readonly policies: readonly PolicyName[];
  readonly router: Router;
  readonly fidelity: Fidelity;
  readonly seed: number;
  readonly copies: number;
  readonly jitterSeconds: number;
  /** Of the trace, from its first request. */
  readonly fromSeconds: number;
  /** Null = to its end. */
  readonly durationSeconds: number | null;
  readonly warmUpShare: number;
  readonly cadenceSeconds: number;
  /** Each once, 0 among them. */
  readonly profileErrors: readonly number[];
  /** Every policy over the usual values of its knob. */
  readonly sweep: boolean;
  /** Values of the knob by policy, instead of its usual one (or of those of the sweep). */
  readonly knobs: Readonly<Partial<Record<PolicyName, readonly number[]>>>;
  readonly oracle: boolean;
  readonly objective: RequestObjective;
  /** Attainment at which costs are compared. */
  readonly targetAttainment: number;
};

/** How far a backtest is. */
export type BacktestProgress = {
  /** `aibrix, targetUtilization 0.8`; `trace`; `oracle`. */
  readonly doing: string;
  readonly runsDone: number;
  readonly runs: number;
  /** Of what is being done, 0..1. */
  readonly share: number;
};

export type BacktestSurroundings = {
  readonly signal: AbortSignal;
  readonly onProgress: (progress: BacktestProgress) => void;
};

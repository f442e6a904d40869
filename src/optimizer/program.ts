/**
 * The integer program of one model, or of all models that share limits, as numbers only: what every solver engine takes
 * and gives back.
 *
 *   minimise   Σ_d cost_d y_d + switching_d(y_d) + Σ_b unservedPrice_b z_b
 *   subject to Σ_d x_bd + z_b = 1                         every bucket b
 *              Σ_b work_bd x_bd ≤ capacity_d y_d          every deployment d; x_bd exists only where work_bd is finite
 *              Σ_b rate_b z_b ≤ unservedLimit             0 = all is served, no z; Infinity = no limit
 *              Σ_b weight_ib z_b ≤ limit_i                every further limit i on unserved demand
 *              Σ_d use_rd y_d ≤ limit_r                   every shared limit r: pools, quotas, the budget
 *              lower_d ≤ y_d ≤ upper_d, y whole; 0 ≤ x, z ≤ 1
 *
 * x is continuous, y is whole replicas. `work_bd` = λ_b / T_bd: replicas of d that bucket b alone would fill.
 * switching_d(y) = start_d max(0, y − current_d) + stop_d max(0, current_d − y).
 */
export type Program = {
  readonly bucketCount: number;
  readonly deploymentCount: number;
  /** bucketCount × deploymentCount, row by bucket; Infinity = cannot serve. [replicas] */
  readonly work: Float64Array;
  /** Arrival rate of each bucket [requests/s]. */
  readonly rate: Float64Array;
  /** USD/hour per replica. */
  readonly cost: Float64Array;
  /** Share of a replica that may be filled, in (0, 1]. */
  readonly capacity: Float64Array;
  readonly lower: Float64Array;
  readonly upper: Float64Array;
  /** Largest total rate left unserved [requests/s]; 0 = all is served; Infinity = any part may be left. */
  readonly unservedLimit: number;
  /** What it costs to leave the whole of a bucket unserved, ≥ 0; absent = nothing. */
  readonly unservedPrice?: Float64Array;
  /** Further limits on what is left unserved: Σ_b weight_b z_b ≤ limit. */
  readonly unservedLimits?: readonly { readonly weight: Float64Array; readonly limit: number }[];
  /** What starting and stopping costs; absent = nothing. */
  readonly switching?: Switching;
  /** Limits that replicas share; absent = none. */
  readonly sharedLimits?: readonly SharedLimit[];
};

export type Switching = {
  /** Replicas that run now, within `lower` to `upper`; NaN = not known, switching is free. */
  readonly current: Float64Array;
  /** USD/hour per replica above `current`, and per replica below. */
  readonly start: Float64Array;
  readonly stop: Float64Array;
};

/** Σ_d use_d y_d ≤ limit, with use ≥ 0: GPUs of a pool or a quota, money of a budget. */
export type SharedLimit = { readonly use: Float64Array; readonly limit: number };

/** When to stop early. `shouldStop` is asked between nodes; a time limit makes it true. */
export type SolveLimits = {
  readonly shouldStop: () => boolean;
  /** Wall-clock allowance for engines that run elsewhere [ms]. */
  readonly timeLimitMs: number;
  readonly nodeLimit: number | null;
  readonly relativeGap: number;
};

/** A whole-replica answer. `replicas` is null where none was found within the limits. */
export type ProgramSolution = {
  readonly status: 'optimal' | 'feasible' | 'infeasible' | 'unknown';
  readonly replicas: Float64Array | null;
  /**
   * The share of each bucket that stays unserved, where the engine says so and anything may; its shares leave no less.
   * Absent: to be found at these replicas.
   */
  readonly unserved?: Float64Array;
  /** Proven lower bound on the objective [USD/hour]; 0 where the engine proved nothing. */
  readonly bound: number;
  readonly nodes: number;
};

/** One way to solve a `Program`: built in, or an engine behind an adapter. */
export type Solver = {
  readonly name: string;
  solve(program: Program, limits: SolveLimits): ProgramSolution | Promise<ProgramSolution>;
};

/**
 * The integer program of one model, as numbers only: what every solver engine takes and gives back.
 *
 *   minimise   Σ_d cost_d y_d
 *   subject to Σ_d x_bd + z_b = 1                         every bucket b
 *              Σ_b work_bd x_bd ≤ capacity_d y_d          every deployment d; x_bd exists only where work_bd is finite
 *              Σ_b rate_b z_b ≤ unservedLimit             the least unserved demand, found beforehand
 *              lower_d ≤ y_d ≤ upper_d, y whole; 0 ≤ x, z ≤ 1
 *
 * x is continuous, y is whole replicas. `work_bd` = λ_b / T_bd: replicas of d that bucket b alone would fill.
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
  /** Largest total rate left unserved [requests/s]; 0 = all is served. */
  readonly unservedLimit: number;
};

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
  /** Proven lower bound on the cost [USD/hour]; 0 where the engine proved nothing. */
  readonly bound: number;
  readonly nodes: number;
};

/** One way to solve a `Program`: built in, or an engine behind an adapter. */
export type Solver = {
  readonly name: string;
  solve(program: Program, limits: SolveLimits): ProgramSolution | Promise<ProgramSolution>;
};

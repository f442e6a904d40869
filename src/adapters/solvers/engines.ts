import type { Program, SolveLimits, Solver } from '../../optimizer/program.js';
import type { EngineAnswer } from './answer-check.js';
import { sharedThread } from './solver-pool.js';
import type { WorkerEngine } from './solver-worker.js';

/**
 * Every engine that `--solver` can name, in one table.
 *
 * `builtin` is the default and the fastest; the others are independent second opinions. All of them prove optimality
 * and are held to the same answers by the conformance tests.
 */
export const solverNames = ['builtin', 'highs', 'javascript-lp-solver'] as const;
export type SolverName = (typeof solverNames)[number];

/** A solver with a lifetime: `close` ends its thread where it has one. Idempotent. */
export type SolverEngine = Solver & { close(): Promise<void> };

/** A solver in a thread of its own; says also why an answer is what it is. */
export type ThreadedEngine = {
  readonly name: WorkerEngine;
  solve(program: Program, limits: SolveLimits): Promise<EngineAnswer>;
  close(): Promise<void>;
};

function threadedEngine(name: WorkerEngine): ThreadedEngine {
  const { thread, release } = sharedThread(name);
  return {
    name,
    solve: (program, { timeLimitMs, nodeLimit, relativeGap, shouldStop }) =>
      thread.solve(program, { timeLimitMs, nodeLimit, relativeGap }, shouldStop),
    close: release,
  };
}

/** HiGHS: a full branch-and-cut solver, compiled to WebAssembly. MIT. */
export const highsSolver = (): ThreadedEngine => threadedEngine('highs');

/** javascript-lp-solver: branch and cut in JavaScript; may not end on hard programs, hence its deadline. Unlicense. */
export const javascriptLpSolver = (): ThreadedEngine => threadedEngine('javascript-lp-solver');

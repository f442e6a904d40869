import { branchAndBound } from '../../optimizer/branch-and-bound.js';
import type { Program, SolveLimits, Solver } from '../../optimizer/program.js';
import type { EngineAnswer } from './answer-check.js';
import { sharedThread } from './solver-pool.js';
import type { WorkerEngine } from './solver-worker.js';

/**
 * Every engine that `--solver` can name, in one table.
 *
 * - `builtin`: the branch and bound of src/optimizer, made for this program; the default and the fastest.
 * - `highs`: a full branch-and-cut solver, compiled to WebAssembly (MIT).
 * - `javascript-lp-solver`: branch and cut in JavaScript (Unlicense); may not end on hard programs, hence its deadline.
 *
 * The last two are independent second opinions; the conformance tests hold all three to the same answers.
 */
export const solverNames = ['builtin', 'highs', 'javascript-lp-solver'] as const;
export type SolverName = (typeof solverNames)[number];

/** A solver with a lifetime. */
export type SolverEngine = Solver & {
  /** Loads it, so that a clock that starts afterwards does not count that. Optional; never rejects. */
  ready(): Promise<void>;
  /** Ends its thread where it has one. Idempotent. */
  close(): Promise<void>;
};

/** An engine in a thread of its own; its answers also say why they are what they are. */
export type ThreadedEngine = {
  readonly name: WorkerEngine;
  solve(program: Program, limits: SolveLimits): Promise<EngineAnswer>;
  ready(): Promise<void>;
  close(): Promise<void>;
};

const engines = {
  builtin: () => ({
    name: 'builtin',
    solve: (program, limits) => {
      if (program.unservedPrice !== undefined || program.unservedLimits !== undefined) {
        throw new RangeError('the built-in solver prices and limits unserved demand model by model: ask plan() for it');
      }
      return branchAndBound(program, limits);
    },
    ready: () => Promise.resolve(),
    close: () => Promise.resolve(),
  }),
  highs: () => threadedEngine('highs'),
  'javascript-lp-solver': () => threadedEngine('javascript-lp-solver'),
} satisfies Record<SolverName, () => SolverEngine>;

/** Opens an engine by name; its thread, where it has one, starts at `ready` or the first problem. */
export function openSolver<Name extends SolverName>(name: Name): ReturnType<(typeof engines)[Name]> {
  return engines[name]() as ReturnType<(typeof engines)[Name]>;
}

/** All openings of an engine in a process share one thread, which ends when the last of them is closed. */
function threadedEngine(name: WorkerEngine): ThreadedEngine {
  const { thread, release } = sharedThread(name);
  return {
    name,
    solve: (program, { timeLimitMs, nodeLimit, relativeGap, shouldStop }) =>
      thread.solve(program, { timeLimitMs, nodeLimit, relativeGap }, shouldStop),
    ready: () => thread.ready(),
    close: release,
  };
}

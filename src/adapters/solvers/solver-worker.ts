import { parentPort, workerData } from 'node:worker_threads';
import type { Program } from '../../optimizer/program.js';
import type { EngineAnswer } from './answer-check.js';
import { type EngineLimits, highsRuntime, secondLookOf, solveWithHighs } from './highs.js';
import { solveWithJavascriptLpSolver } from './javascript-lp-solver.js';

/**
 * The thread of one external engine: takes one program at a time, answers when done.
 *
 * It cannot be interrupted from inside (both engines block); the pool ends the whole thread at the deadline.
 */

/** The engines that run here. */
const workerEngines = ['highs', 'javascript-lp-solver'] as const;
export type WorkerEngine = (typeof workerEngines)[number];

export type SolveRequest = { readonly program: Program; readonly limits: EngineLimits };
/** `ready` is sent once, when the engine is loaded, so that loading does not count against a deadline. */
export type WorkerMessage =
  | { readonly kind: 'ready' }
  | { readonly kind: 'answer'; readonly answer: EngineAnswer }
  | { readonly kind: 'failed'; readonly message: string };

const engines: Record<WorkerEngine, (request: SolveRequest) => Promise<EngineAnswer>> = {
  highs: async ({ program, limits }) => solveWithHighs(await highsRuntime(), program, limits),
  'javascript-lp-solver': ({ program, limits }) =>
    solveWithJavascriptLpSolver(program, limits, async () => secondLookOf(await highsRuntime(), () => limits)),
};

const port = parentPort;
if (port !== null) {
  const { engine } = workerData as { readonly engine: WorkerEngine };
  const send = (message: WorkerMessage, buffers: ArrayBuffer[] = []) => port.postMessage(message, buffers);
  // Both engines need HiGHS: the second for the check of its answers.
  await highsRuntime();
  send({ kind: 'ready' });
  port.on('message', async (request: SolveRequest) => {
    try {
      const answer = await engines[engine](request);
      const arrays = [answer.replicas, answer.unserved].filter((values) => values instanceof Float64Array);
      send(
        { kind: 'answer', answer },
        arrays.map(({ buffer }) => buffer as ArrayBuffer),
      );
    } catch (error) {
      send({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
    }
  });
}

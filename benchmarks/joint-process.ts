import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout } from 'node:timers/promises';
import { PlanningThread } from '../src/adapters/planning-thread.js';
import type { Plan } from '../src/core/plan.js';
import type { PlanningProblem } from '../src/core/planning-problem.js';
import { plan } from '../src/optimizer/plan.js';

/**
 * A process that plans what it is sent, one problem after the other, as the service does: its memory is that of
 * planning alone, and its event loop has nothing else to do. Started by the `joint` benchmark.
 */
export type JointRequest = {
  /** In the planning thread as the service, or in the thread of the caller. */
  readonly where: 'thread' | 'in-process';
  /** A PlanningProblem with its defaults applied, as JSON. */
  readonly problem: string;
  readonly timeLimitMs: number;
};

export type JointReply = {
  readonly milliseconds: number;
  readonly status: Plan['status'];
  readonly usdPerHour: number;
  readonly objectiveUsdPerHour: number;
  readonly boundUsdPerHour: number;
  readonly gap: number;
  readonly replicas: number;
  readonly unservedRps: number;
  /** How late the caller's event loop was at worst [ms]. */
  readonly longestStallMs: number;
  /** The same while nothing was planned, for as long: what a busy machine does to an idle loop [ms]. */
  readonly idleStallMs: number;
  /** Largest resident memory of this process so far, all of its threads [MB]. */
  readonly peakRssMb: number;
};

if (process.send !== undefined) {
  const thread = new PlanningThread();
  process.on('message', async ({ where, problem: text, timeLimitMs }: JointRequest) => {
    const problem = JSON.parse(text) as PlanningProblem;
    // What receiving the problem has left behind is not the planner's to collect. Not where plan() itself runs in this
    // thread: a collection on demand also drops compiled code.
    if (where === 'thread') globalThis.gc?.();
    const delay = monitorEventLoopDelay({ resolution: 1 });
    const startedAt = performance.now();
    delay.enable();
    const answer =
      where === 'thread'
        ? await thread.plan(problem, { timeLimitMs })
        : plan(problem, { shouldStop: () => performance.now() - startedAt >= timeLimitMs });
    const milliseconds = performance.now() - startedAt;
    delay.disable();
    const longestStallMs = delay.max / 1e6;
    if (where === 'thread') {
      delay.reset();
      delay.enable();
      await setTimeout(milliseconds);
      delay.disable();
    }
    const reply: JointReply = {
      milliseconds,
      status: answer.status,
      usdPerHour: answer.usdPerHour,
      objectiveUsdPerHour: answer.objectiveUsdPerHour,
      boundUsdPerHour: answer.boundUsdPerHour,
      gap: answer.gap,
      replicas: answer.deployments.reduce((sum, { targetReplicas }) => sum + (targetReplicas ?? 0), 0),
      unservedRps: answer.unserved.reduce((sum, { rps }) => sum + rps, 0),
      longestStallMs,
      idleStallMs: where === 'thread' ? delay.max / 1e6 : Number.NaN,
      peakRssMb: process.resourceUsage().maxRSS / 1024,
    };
    process.send!(reply);
  });
  process.on('disconnect', () => thread.close());
}

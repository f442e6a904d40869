import { monitorEventLoopDelay } from 'node:perf_hooks';
import { PlanningThread } from '../src/adapters/planning-thread.js';
import { type PlanningProblem, planningProblemSchema } from '../src/core/planning-problem.js';
import type { BenchmarkOptions } from './main.js';
import { brief, median } from './timing.js';

/**
 * A fleet's problem through the planning thread: how long it takes there and back, and how long the event loop of the
 * caller is busy at once; against one structured clone each way, which is what posting the documents would do.
 */
export type PlanningThreadBenchmark = {
  readonly models: number;
  readonly problemMb: number;
  readonly planMb: number;
  readonly wholeMs: number;
  /** Time inside plan(), by its own account. */
  readonly planMs: number;
  /** Longest that the caller's event loop was late [ms]. */
  readonly longestStallMs: number;
  readonly cloneProblemMs: number;
  readonly clonePlanMs: number;
  readonly rssMb: number;
};

export async function benchmarkPlanningThread({ quick }: BenchmarkOptions): Promise<PlanningThreadBenchmark> {
  const models = quick ? 100 : 1000;
  const problem = fleet(models);
  const thread = new PlanningThread();
  try {
    await thread.plan(fleet(10), { timeLimitMs: 60_000 });
    const whole: number[] = [];
    const stalls: number[] = [];
    let answer = await thread.plan(problem, { timeLimitMs: 60_000 });
    for (let i = 0; i < (quick ? 1 : 5); i++) {
      const delay = monitorEventLoopDelay({ resolution: 1 });
      delay.enable();
      const startedAt = performance.now();
      answer = await thread.plan(problem, { timeLimitMs: 60_000 });
      whole.push(performance.now() - startedAt);
      delay.disable();
      stalls.push(delay.max / 1e6);
    }
    const rssMb = process.memoryUsage.rss() / 1e6;
    const clone = (value: unknown) => {
      const startedAt = performance.now();
      structuredClone(value);
      return performance.now() - startedAt;
    };
    return {
      models,
      problemMb: JSON.stringify(problem).length / 1e6,
      planMb: JSON.stringify(answer).length / 1e6,
      wholeMs: median(whole),
      planMs: answer.solver.milliseconds,
      longestStallMs: median(stalls),
      cloneProblemMs: median([1, 2, 3].map(() => clone(problem))),
      clonePlanMs: median([1, 2, 3].map(() => clone(answer))),
      rssMb,
    };
  } finally {
    await thread.close();
  }
}

/** Models with three deployments and forty buckets each, no two alike. */
function fleet(models: number): PlanningProblem {
  const tokens = [32, 64, 128, 256, 512, 1024, 2048, 4096];
  return planningProblemSchema.parse({
    apiVersion: 'gpumix/v1',
    kind: 'PlanningProblem',
    models: Array.from({ length: models }, (_, m) => ({
      name: `model-${m}`,
      demand: Array.from({ length: 40 }, (_, b) => ({
        inputTokens: 2 ** (6 + (b % 8) * 0.7),
        outputTokens: 2 ** (5 + Math.floor(b / 8) * 0.9),
        rps: 0.02 + (((m * 31 + b * 17) % 97) / 97) * 0.8,
      })),
      deployments: [1, 2.2, 4.7].map((power, d) => ({
        id: `default/model-${m}-gpu${d}`,
        gpuType: `GPU${d}`,
        usdPerReplicaHour: Number((power * (1 + ((m * 7 + d * 3) % 10) / 40)).toFixed(2)),
        profile: {
          indexes: [tokens, tokens],
          tputs: tokens.map((output) =>
            tokens.map((input) =>
              Number(((power * (1 + d * 0.05)) / (0.02 + input / 12_000 + output / (600 + d * 40))).toFixed(4)),
            ),
          ),
        },
      })),
    })),
  });
}

export function describePlanningThread(result: PlanningThreadBenchmark): string {
  const carried = result.wholeMs - result.planMs;
  return [
    `${result.models} models × 3 deployments × 40 buckets: ${brief(result.problemMb)} MB there, ${brief(result.planMb)} MB back`,
    `whole ${brief(result.wholeMs)} ms, of which plan() ${brief(result.planMs)} ms and carrying ${brief(carried)} ms`,
    `longest stall of the caller's event loop ${brief(result.longestStallMs)} ms`,
    `structuredClone would stall it ${brief(result.cloneProblemMs)} ms for the problem and ${brief(result.clonePlanMs)} ms for the plan`,
    `RSS ${brief(result.rssMb)} MB`,
  ].join('\n');
}

import type { Highs } from 'highs';
import type { EngineAnswer } from '../src/adapters/solvers/answer-check.js';
import { highsRuntime, solveWithHighs } from '../src/adapters/solvers/highs.js';
import { SolverThread } from '../src/adapters/solvers/solver-pool.js';
import { branchAndBound } from '../src/optimizer/branch-and-bound.js';
import { plan, planWith } from '../src/optimizer/plan.js';
import type { Program, SolveLimits } from '../src/optimizer/program.js';
import { type CorpusInstance, corpus, rawWindowInstance, structuredInstances } from '../test/optimizer/corpus.js';
import type { BenchmarkOptions } from './main.js';
import { brief, median, percentile, table, timeMs } from './timing.js';

/**
 * The built-in solver against HiGHS and javascript-lp-solver: the same programs, one run, one machine, warm.
 *
 * A time of an engine is from the program as numbers to its whole replicas, the making of its own model included; what
 * checks its answer afterwards, and messages between threads, are not counted. `plan()` is the whole way from document
 * to document. Each time is the median of repetitions.
 */
export type PlanBenchmark = {
  readonly groups: readonly { readonly name: string; readonly measurements: readonly Measurement[] }[];
  readonly windows: { readonly small: WindowTime; readonly large: WindowTime };
  readonly javascriptLimitMs: number;
};

type WindowTime = { readonly buckets: number; readonly planMs: number };

type Measurement = {
  readonly instance: CorpusInstance;
  readonly planMs: number;
  readonly builtinMs: number;
  readonly highsMs: number;
  /** At least this where it did not answer in time. */
  readonly javascriptMs: number;
  readonly javascriptAnswered: boolean;
  readonly javascriptWrong: boolean;
  readonly proven: boolean;
  readonly dearer: boolean;
};

/** javascript-lp-solver may not end; its time then counts as this, which favours it. */
const limitMs = { full: 3_000, quick: 1_000 };
/** The tests run the built-in solver without a limit; here a search without end must not stop the benchmark. */
const guardMs = 10_000;
const sameCost = 1e-6;

export async function benchmarkPlan({ quick }: BenchmarkOptions): Promise<PlanBenchmark> {
  const javascriptLimitMs = quick ? limitMs.quick : limitMs.full;
  const all = corpus();
  const some = (instances: readonly CorpusInstance[]) => (quick ? instances.filter((_, i) => i % 8 === 0) : instances);
  const groups = [
    ...[2, 4, 6, 8, 12].map((gpuTypes) => ({
      name: `${gpuTypes} GPU types`,
      instances: structuredInstances({ gpuTypes, count: quick ? 4 : 24, seed: 1 }),
    })),
    { name: 'corpus', instances: some(all.filter(({ family }) => family !== 'adversarial')) },
    { name: 'adversarial', instances: some(all.filter(({ family }) => family === 'adversarial')) },
  ];
  const highs = await highsRuntime();
  const javascript = new SolverThread('javascript-lp-solver', { graceMs: 500 });
  try {
    const context = { highs, javascript, javascriptLimitMs, repetitions: quick ? 1 : 5 };
    // Warm: every engine has seen a few programs before the first that counts.
    for (const instance of structuredInstances({ gpuTypes: 3, count: 12, seed: 2 })) await measure(instance, context);
    const measured: { name: string; measurements: Measurement[] }[] = [];
    for (const { name, instances } of groups) {
      const measurements: Measurement[] = [];
      for (const instance of instances) measurements.push(await measure(instance, context));
      measured.push({ name, measurements });
    }
    const seeds = Array.from({ length: quick ? 2 : 9 }, (_, i) => i + 1);
    return {
      groups: measured,
      windows: { small: windowTime(256, seeds), large: windowTime(2000, seeds) },
      javascriptLimitMs,
    };
  } finally {
    await javascript.close();
  }
}

type Context = {
  readonly highs: Highs;
  readonly javascript: SolverThread;
  readonly javascriptLimitMs: number;
  readonly repetitions: number;
};

async function measure(instance: CorpusInstance, context: Context): Promise<Measurement> {
  const { highs, javascript, javascriptLimitMs, repetitions } = context;
  const program = await programOf(instance);
  const limits = (): SolveLimits => {
    const endsAt = performance.now() + guardMs;
    return { shouldStop: () => performance.now() > endsAt, timeLimitMs: guardMs, nodeLimit: null, relativeGap: 0 };
  };
  let own = branchAndBound(program, limits());
  const builtinMs = timeMs(repetitions, () => {
    own = branchAndBound(program, limits());
  });
  const planMs = timeMs(repetitions, () => {
    plan(instance.problem, limits());
  });
  const engineLimits = { timeLimitMs: guardMs, nodeLimit: null, relativeGap: 0 };
  const answers: EngineAnswer[] = [];
  for (let i = 0; i < Math.min(3, repetitions); i++) answers.push(solveWithHighs(highs, program, engineLimits));
  const said: EngineAnswer[] = [];
  while (said.length < Math.min(3, repetitions)) {
    const answer = await javascript.solve(program, { ...engineLimits, timeLimitMs: javascriptLimitMs });
    said.push(answer);
    // One slow answer is enough.
    if (answer.status !== 'optimal' || answer.milliseconds > 500) break;
  }
  const cost = costOf(program, own.replicas);
  const verified = [...answers, ...said].filter(({ replicas }) => replicas !== null);
  const answered = said.every(({ status }) => status === 'optimal');
  return {
    instance,
    planMs,
    builtinMs,
    highsMs: median(answers.map(({ milliseconds }) => milliseconds)),
    javascriptMs: answered ? median(said.map(({ milliseconds }) => milliseconds)) : javascriptLimitMs,
    javascriptAnswered: answered,
    javascriptWrong: said.some(
      ({ status, detail, replicas }) =>
        detail === 'rejected' || (status === 'optimal' && costOf(program, replicas) > cost * (1 + sameCost)),
    ),
    proven: own.status === 'optimal',
    dearer: verified.some(({ replicas }) => cost > costOf(program, replicas) * (1 + sameCost)),
  };
}

/** The program that the planner hands to an engine for this problem. */
export async function programOf(instance: Pick<CorpusInstance, 'problem'>): Promise<Program> {
  const seen: Program[] = [];
  await planWith(instance.problem, {
    name: 'recorder',
    solve: (program, limits) => {
      seen.push(program);
      const endsAt = performance.now() + guardMs;
      return branchAndBound(program, { ...limits, shouldStop: () => performance.now() > endsAt });
    },
  });
  return seen[0]!;
}

function costOf(program: Program, replicas: Float64Array | null): number {
  return replicas === null ? Number.NaN : replicas.reduce((sum, count, d) => sum + count * program.cost[d]!, 0);
}

function windowTime(buckets: number, seeds: readonly number[]): WindowTime {
  const times = seeds.map((seed) => {
    const { problem } = rawWindowInstance(buckets, seed);
    return timeMs(3, () => {
      const endsAt = performance.now() + guardMs;
      plan(problem, { shouldStop: () => performance.now() > endsAt });
    });
  });
  return { buckets, planMs: median(times) };
}

export function describePlanBenchmark({ groups, windows, javascriptLimitMs }: PlanBenchmark): string {
  const spread = (values: readonly number[]) => `${brief(median(values))} / ${brief(percentile(values, 0.95))}`;
  const rows = groups.map(({ name, measurements: all }) => {
    const ratios = (of: (it: Measurement) => number) => `${brief(median(all.map((it) => of(it) / it.builtinMs)))}×`;
    const unanswered = all.filter((it) => !it.javascriptAnswered).length;
    return [
      name,
      String(all.length),
      spread(all.map((it) => it.planMs)),
      spread(all.map((it) => it.builtinMs)),
      spread(all.map((it) => it.highsMs)),
      spread(all.map((it) => it.javascriptMs)),
      ratios((it) => it.highsMs),
      ratios((it) => it.javascriptMs),
      `${all.filter((it) => it.proven).length} of ${all.length}`,
      all.some((it) => it.dearer) ? `${all.filter((it) => it.dearer).length} dearer` : 'never dearer',
      `${unanswered} unanswered, ${all.filter((it) => it.javascriptWrong).length} wrong`,
    ];
  });
  const every = groups.flatMap(({ measurements }) => measurements);
  const slowest = every.reduce((worst, it) => (it.builtinMs > worst.builtinMs ? it : worst), every[0]!);
  const unproven = every.filter((it) => !it.proven).map((it) => it.instance.name);
  const adversarial = groups.find(({ name }) => name === 'adversarial')?.measurements ?? [];
  const ratio = windows.large.planMs / windows.small.planMs;
  return [
    'Milliseconds, median / 95th percentile; ratios are medians of the per-instance ratios to the built-in solver.',
    `javascript-lp-solver has ${javascriptLimitMs / 1000} s; where it does not answer, its time counts as that.`,
    '',
    table(
      [
        'instances',
        'n',
        'plan()',
        'built-in',
        'HiGHS',
        'jsLPSolver',
        'HiGHS:own',
        'jsLP:own',
        'proven',
        'cost',
        'jsLPSolver',
      ],
      rows,
    ),
    '',
    `${every.filter((it) => it.proven).length} of ${every.length} proven optimal, ${every.some((it) => it.dearer) ? 'DEARER in some' : 'never dearer'}.`,
    ...(unproven.length > 0 ? [`Not proven within ${guardMs / 1000} s: ${unproven.join(', ')}.`] : []),
    `Slowest for the built-in solver: ${slowest.instance.name}, ${brief(slowest.builtinMs)} ms (HiGHS ${brief(slowest.highsMs)} ms).`,
    `Adversarial, slowest plan(): ${brief(Math.max(...adversarial.map((it) => it.planMs)))} ms.`,
    `A window of ${windows.large.buckets} raw buckets: ${brief(windows.large.planMs)} ms; of ${windows.small.buckets}: ${brief(windows.small.planMs)} ms; ratio ${ratio.toFixed(2)}.`,
  ].join('\n');
}

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { EngineAnswer } from '../../src/adapters/solvers/answer-check.js';
import { SolverThread } from '../../src/adapters/solvers/solver-pool.js';
import type { Plan } from '../../src/core/plan.js';
import { plan, planWith } from '../../src/optimizer/plan.js';
import type { Program, Solver } from '../../src/optimizer/program.js';
import { type CorpusInstance, corpus, corpusFamilies } from './corpus.js';

/**
 * The three engines on the same seeded corpus. What another engine says counts only once its replicas have been
 * verified on the original numbers; what it cannot finish or answers wrongly is counted and printed, not hidden.
 */

/** A guard against a search without end, far above what any instance takes; reaching it fails the test. */
const builtinGuardNodes = 200_000;
const highsLimitMs = 60_000;
/** javascript-lp-solver gets this long on each instance: it may not end on hard ones. */
const javascriptLimitMs = 700;
/** Costs that differ by less (relative) are equal. */
const sameCost = 1e-6;

type Outcome = {
  readonly instance: CorpusInstance;
  readonly own: Plan | Error;
  readonly highs: EngineAnswer & { readonly cost: number };
  readonly javascript: EngineAnswer & { readonly cost: number };
  readonly planWithHighs: Plan | Error;
};

let outcomes: readonly Outcome[] = [];

const costOf = (program: Program, replicas: Float64Array | null) =>
  replicas === null ? Number.NaN : replicas.reduce((sum, count, d) => sum + count * program.cost[d]!, 0);

const tolerance = (cost: number) => sameCost * Math.max(cost, 1e-9);

describe('the engines on the corpus', () => {
  const highs = new SolverThread('highs');
  const javascript = new SolverThread('javascript-lp-solver', { graceMs: 500 });

  beforeAll(async () => {
    const running = corpus().map(async (instance): Promise<Outcome> => {
      const programs: Program[] = [];
      const answers: EngineAnswer[] = [];
      // The program of an instance is the one that the planner hands to an engine.
      const recorder: Solver = {
        name: 'highs',
        solve: async (program, { nodeLimit, relativeGap }) => {
          const answer = await highs.solve(program, { timeLimitMs: highsLimitMs, nodeLimit, relativeGap });
          programs.push(program);
          answers.push(answer);
          return answer;
        },
      };
      const planWithHighs = await planWith(instance.problem, recorder).catch(asError);
      if (programs.length !== 1) throw new Error(`${instance.name}: expected one program, found ${programs.length}`);
      const program = programs[0]!;
      const opinion = await javascript.solve(program, {
        timeLimitMs: javascriptLimitMs,
        nodeLimit: null,
        relativeGap: 0,
      });
      return {
        instance,
        own: planWithin(instance),
        highs: { ...answers[0]!, cost: costOf(program, answers[0]!.replicas) },
        javascript: { ...opinion, cost: costOf(program, opinion.replicas) },
        planWithHighs,
      };
    });
    outcomes = await Promise.all(running);
  }, 600_000);

  afterAll(async () => {
    await Promise.all([highs.close(), javascript.close()]);
    report(outcomes);
  });

  test('the corpus has at least 300 instances, 1 to 12 GPU types and 1 to 256 buckets', () => {
    expect(outcomes.length).toBeGreaterThanOrEqual(300);
    const types = outcomes.map(({ instance }) => instance.gpuTypes);
    const buckets = outcomes.map(({ instance }) => instance.buckets);
    expect([Math.min(...types), Math.max(...types)]).toEqual([1, 12]);
    expect([Math.min(...buckets), Math.max(...buckets)]).toEqual([1, 256]);
    expect(outcomes.filter(({ own }) => !(own instanceof Error) && own.unserved.length > 0).length).toBeGreaterThan(10);
  });

  test('the built-in solver proves every instance optimal', () => {
    const unproven = outcomes.filter(({ own }) => own instanceof Error || own.status !== 'optimal' || own.gap !== 0);
    expect(unproven.map(describeOutcome)).toEqual([]);
  });

  test('the built-in solver is never dearer than a verified answer of another engine', () => {
    const dearer = outcomes.filter(({ own, highs, javascript }) =>
      [highs, javascript].some(
        ({ replicas, cost }) => replicas !== null && (own instanceof Error || own.usdPerHour > cost + tolerance(cost)),
      ),
    );
    expect(dearer.map(describeOutcome)).toEqual([]);
  });

  test('no bound of the built-in solver lies above a verified answer of another engine', () => {
    const above = outcomes.filter(({ own, highs, javascript }) =>
      [highs, javascript].some(
        ({ replicas, cost }) =>
          replicas !== null && (own instanceof Error || own.boundUsdPerHour > cost + tolerance(cost)),
      ),
    );
    expect(above.map(describeOutcome)).toEqual([]);
  });

  test('HiGHS proves every instance and agrees on its cost to 1e-6', () => {
    const different = outcomes.filter(
      ({ own, highs }) =>
        own instanceof Error ||
        highs.status !== 'optimal' ||
        Math.abs(highs.cost - own.usdPerHour) > tolerance(highs.cost) ||
        highs.bound > own.usdPerHour + tolerance(own.usdPerHour),
    );
    expect(different.map(describeOutcome)).toEqual([]);
  });

  test('a plan made with HiGHS passes the same check and leaves the same demand unserved', () => {
    const rps = (answer: Plan) => answer.unserved.reduce((sum, bucket) => sum + bucket.rps, 0);
    const different = outcomes.filter(
      ({ own, planWithHighs }) =>
        own instanceof Error ||
        planWithHighs instanceof Error ||
        planWithHighs.status !== own.status ||
        Math.abs(rps(planWithHighs) - rps(own)) > 1e-6 * Math.max(1e-12, rps(own)),
    );
    expect(different.map(describeOutcome)).toEqual([]);
  });

  test('javascript-lp-solver finishes most instances within its deadline, and agrees on nearly all of those', () => {
    const finished = outcomes.filter(({ javascript }) => javascript.status === 'optimal');
    const agreeing = finished.filter(({ own, javascript }) => verdict(own, javascript) === 'agrees');
    expect(finished.length).toBeGreaterThan(outcomes.length / 2);
    expect(agreeing.length).toBeGreaterThan(0.95 * finished.length);
  });
});

function planWithin({ problem }: CorpusInstance): Plan | Error {
  try {
    return plan({ ...problem, options: { ...problem.options, nodeLimit: builtinGuardNodes } });
  } catch (error) {
    return asError(error);
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

function verdict(own: Plan | Error, answer: Outcome['javascript']): string {
  if (answer.replicas === null) return answer.detail;
  if (own instanceof Error) return 'no plan to compare with';
  if (answer.status !== 'optimal') return 'time-limit, with a plan';
  return answer.cost > own.usdPerHour + tolerance(own.usdPerHour) ? 'dearer, claimed optimal' : 'agrees';
}

function describeOutcome({ instance, own, highs, javascript }: Outcome): string {
  const ours = own instanceof Error ? own.message : `${own.status} ${own.usdPerHour} >= ${own.boundUsdPerHour}`;
  const theirs = `HiGHS ${highs.status} (${highs.detail}) ${highs.cost} >= ${highs.bound}`;
  return `${instance.name}: builtin ${ours}; ${theirs}; javascript-lp-solver ${javascript.status} ${javascript.cost}`;
}

/** What happened, by family: how many instances each engine answered, and how javascript-lp-solver fared. */
function report(all: readonly Outcome[]): void {
  const rows = corpusFamilies.map((family) => {
    const mine = all.filter(({ instance }) => instance.family === family);
    const said: Record<string, number> = {};
    for (const { own, javascript } of mine) {
      const key = verdict(own, javascript);
      said[key] = (said[key] ?? 0) + 1;
    }
    const verdicts = Object.entries(said)
      .map(([key, count]) => `${count} ${key}`)
      .join(', ');
    const proven = (engine: (outcome: Outcome) => string) => mine.filter((it) => engine(it) === 'optimal').length;
    const own = proven((it) => (it.own instanceof Error ? 'error' : it.own.status));
    return `${family.padEnd(20)} ${String(mine.length).padStart(4)}  builtin ${own} proven, HiGHS ${proven((it) => it.highs.status)} proven, javascript-lp-solver: ${verdicts}`;
  });
  console.log(
    `engines on ${all.length} instances (javascript-lp-solver: ${javascriptLimitMs} ms each)\n${rows.join('\n')}`,
  );
}

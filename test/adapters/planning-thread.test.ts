import { afterEach, describe, expect, test } from 'vitest';
import { PlanningThread, PlanningThreadError } from '../../src/adapters/planning-thread.js';
import { InputError } from '../../src/core/input-error.js';
import { type PlanningProblem, planningProblemSchema } from '../../src/core/planning-problem.js';
import { explain } from '../../src/optimizer/explain.js';
import { plan } from '../../src/optimizer/plan.js';

const open: PlanningThread[] = [];

function thread(options: ConstructorParameters<typeof PlanningThread>[0] = {}): PlanningThread {
  const opened = new PlanningThread(options);
  open.push(opened);
  return opened;
}

afterEach(async () => {
  await Promise.all(open.splice(0).map((it) => it.close()));
});

/** A script for a thread that misbehaves. */
const script = (source: string) => new URL(`data:text/javascript,${encodeURIComponent(source)}`);

const parent = `import { parentPort } from 'node:worker_threads';`;

function problem(options: { models?: number; buckets?: number } = {}): PlanningProblem {
  const { models = 1, buckets = 4 } = options;
  const tokens = [64, 256, 1024, 4096];
  return planningProblemSchema.parse({
    apiVersion: 'gpumix/v1',
    kind: 'PlanningProblem',
    at: '2026-11-20T10:00:00Z',
    models: Array.from({ length: models }, (_, m) => ({
      name: `model-${m}`,
      demand: Array.from({ length: buckets }, (_, b) => ({
        inputTokens: 64 * 2 ** (b % 7) + b,
        outputTokens: 64 * 2 ** (b % 5),
        rps: 0.1 + ((7 * m + 3 * b) % 11) / 10,
      })),
      deployments: [1, 2, 3].map((size) => ({
        id: `default/model-${m}-gpu${size}`,
        gpuType: `GPU${size}`,
        usdPerReplicaHour: size,
        profile: {
          indexes: [tokens, tokens],
          tputs: tokens.map((output) => tokens.map((input) => (size ** 1.1 * 4000) / (input + 4 * output))),
        },
      })),
    })),
  });
}

/** A plan without what may differ between two runs. */
const comparable = ({ solver: { milliseconds: _, ...solver }, ...rest }: ReturnType<typeof plan>) => ({
  ...rest,
  solver,
});

describe('the planning thread', () => {
  test('makes the very plan that plan() makes', async () => {
    const asked = problem({ models: 3, buckets: 9 });
    const answer = await thread().plan(asked, { timeLimitMs: 10_000 });
    expect(comparable(answer)).toEqual(comparable(plan(asked)));
    expect(answer.status).toBe('optimal');
  });

  test('carries a problem and a plan of many pieces whole, in order', async () => {
    const asked = problem({ models: 300, buckets: 40 });
    const answer = await thread().plan(asked, { timeLimitMs: 30_000 });
    expect(answer.shares.length).toBe(12_000);
    expect(comparable(answer)).toEqual(comparable(plan(asked)));
  });

  test('explains as explain() does, all models or one', async () => {
    const asked = problem({ models: 3, buckets: 9 });
    const planning = thread();
    for (const model of [null, 'model-1']) {
      const answer = await planning.explain(asked, { timeLimitMs: 30_000, model });
      const { solver, ...rest } = explain(asked, model === null ? {} : { model });
      expect(answer).toEqual({ ...rest, solver: { ...solver, milliseconds: answer.solver.milliseconds } });
      expect(answer.solver.milliseconds).toBeGreaterThan(0);
    }
  });

  test('ends an explanation at its time limit with what it has', async () => {
    const answer = await thread().explain(problem({ models: 300, buckets: 40 }), { timeLimitMs: 1, model: null });
    expect(answer.notComputed.map(({ reason }) => reason)).toContain('time');
    expect(answer.models).toHaveLength(300);
  });

  test('leaves the event loop free while a large problem is carried and planned', async () => {
    const asked = problem({ models: 300, buckets: 40 });
    const planning = thread();
    await planning.plan(problem(), { timeLimitMs: 10_000 });
    let turns = 0;
    let finished = false;
    const countTurns = () => {
      turns++;
      if (!finished) setImmediate(countTurns);
    };
    setImmediate(countTurns);
    await planning.plan(asked, { timeLimitMs: 30_000 });
    finished = true;
    // Pieces there and back: the loop turned at least once for each of them.
    expect(turns).toBeGreaterThan(30);
  });

  test('passes on what is refused, as the InputError that it is', async () => {
    const refusal = await thread()
      .explain(problem(), { timeLimitMs: 10_000, model: 'model-O' })
      .catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(InputError);
    expect((refusal as InputError).issues).toEqual([
      { place: '', found: '"model-O"', expected: 'a model of the problem', suggestion: 'model-0' },
    ]);
  });

  test('plans one problem at a time, in order, and refuses what does not fit the queue', async () => {
    const planning = thread({ maxQueued: 2 });
    const finished: string[] = [];
    const ask = (name: string) =>
      planning.plan(problem({ models: 5 }), { timeLimitMs: 10_000 }).then(
        () => finished.push(name),
        (error: unknown) => finished.push(`${name}: ${(error as PlanningThreadError).code}`),
      );
    await Promise.all(['a', 'b', 'c', 'd'].map(ask));
    expect(finished).toEqual(['d: queue_full', 'a', 'b', 'c']);
  });

  test('a thread that dies rejects its call, and the next call gets a fresh thread', async () => {
    const dying = thread({
      script: script(`${parent} parentPort.on('message', ({ kind }) => { if (kind === 'run') process.exit(3); });`),
    });
    for (const _ of [1, 2]) {
      await expect(dying.plan(problem(), { timeLimitMs: 10_000 })).rejects.toMatchObject({
        code: 'crashed',
        message: expect.stringContaining('code 3'),
      });
    }
  });

  test('a thread that throws rejects its call', async () => {
    const throwing = thread({
      script: script(`${parent} parentPort.on('message', () => { throw new Error('out of luck'); });`),
    });
    await expect(throwing.plan(problem(), { timeLimitMs: 10_000 })).rejects.toThrow(/out of luck/);
  });

  test('a thread that hangs is ended at the deadline, and those who waited still get their turn', async () => {
    const hanging = thread({
      graceMs: 50,
      script: script(`${parent} parentPort.on('message', ({ kind }) => { while (kind === 'run'); });`),
    });
    const calls = [1, 2].map(() => hanging.plan(problem(), { timeLimitMs: 50 }));
    for (const call of await Promise.allSettled(calls)) {
      expect(call).toMatchObject({ status: 'rejected', reason: { code: 'deadline' } });
    }
  });

  test('close rejects what is in work and what waits; later calls are refused', async () => {
    const planning = thread({ script: script(`${parent} parentPort.on('message', () => {});`) });
    const calls = [1, 2].map(() => planning.plan(problem(), { timeLimitMs: 60_000 }));
    const settled = Promise.allSettled(calls);
    await planning.close();
    for (const call of await settled) expect(call).toMatchObject({ status: 'rejected', reason: { code: 'closed' } });
    await expect(planning.plan(problem(), { timeLimitMs: 1000 })).rejects.toBeInstanceOf(PlanningThreadError);
  });
});

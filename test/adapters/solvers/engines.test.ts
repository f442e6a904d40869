import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { checkProposal, type Proposal, type SecondLook } from '../../../src/adapters/solvers/answer-check.js';
import { openSolver, type SolverName, solverNames } from '../../../src/adapters/solvers/engines.js';
import { SolverThread } from '../../../src/adapters/solvers/solver-pool.js';
import type { Program, SolveLimits } from '../../../src/optimizer/program.js';

const limits: SolveLimits = { shouldStop: () => false, timeLimitMs: 20_000, nodeLimit: null, relativeGap: 0 };

/** rows of work per bucket; Infinity = cannot serve. */
function program(
  work: readonly (readonly number[])[],
  overrides: Partial<Record<keyof Program, unknown>> = {},
): Program {
  const deploymentCount = work[0]!.length;
  return {
    bucketCount: work.length,
    deploymentCount,
    work: Float64Array.from(work.flat()),
    rate: new Float64Array(work.length).fill(1),
    cost: Float64Array.from({ length: deploymentCount }, (_, d) => d + 1),
    capacity: new Float64Array(deploymentCount).fill(1),
    lower: new Float64Array(deploymentCount),
    upper: new Float64Array(deploymentCount).fill(1000),
    unservedLimit: 0,
    ...overrides,
  } as Program;
}

/** Both types exactly full: 2.6 and 0.9 replicas of work fit in one of each only to the last digit. */
const knifeEdge = program(
  [
    [6 / 2, 6 / 20],
    [3 / 1, 3 / 20],
    [15 / 5, 15 / 40],
    [6 / 2, 6 / 20],
  ],
  { cost: Float64Array.of(1.01, 3.67) },
);

describe.each(solverNames)('%s', (name: SolverName) => {
  const engine = openSolver(name);
  afterAll(() => engine.close());

  test('solves a program in which both deployments are exactly full', async () => {
    const answer = await engine.solve(knifeEdge, limits);
    expect(answer).toMatchObject({ status: 'optimal', replicas: Float64Array.of(1, 1) });
    expect(answer.bound).toBeCloseTo(4.68, 9);
  });

  test.each([1e-6, 1e-9, 1e-12])('gives %d replicas of work a replica', async (scale) => {
    const answer = await engine.solve({ ...knifeEdge, work: knifeEdge.work.map((work) => work * scale) }, limits);
    expect(answer).toMatchObject({ status: 'optimal', replicas: Float64Array.of(1, 0) });
  });

  test('gives a tiny bucket among ordinary ones a replica that can serve it', async () => {
    const answer = await engine.solve(
      program([
        [3.5, Number.POSITIVE_INFINITY],
        [Number.POSITIVE_INFINITY, 1e-9],
      ]),
      limits,
    );
    expect(answer).toMatchObject({ status: 'optimal', replicas: Float64Array.of(4, 1) });
  });

  test('serves 1e5 replicas of work', async () => {
    const answer = await engine.solve(
      program([[200_000.5, 100_000.25]], { upper: new Float64Array(2).fill(1e6), cost: Float64Array.of(1, 2.1) }),
      limits,
    );
    expect(answer).toMatchObject({ status: 'optimal', replicas: Float64Array.of(200_001, 0) });
  });

  test('leaves out no more than the unserved limit', async () => {
    const capped = { upper: Float64Array.of(2, 0), rate: Float64Array.of(4, 6) };
    const work = [
      [2, 1],
      [3, 1],
    ];
    // Two replicas serve the first bucket, or two thirds of the second.
    const answer = await engine.solve(program(work, { ...capped, unservedLimit: 6 }), limits);
    expect(answer).toMatchObject({ status: 'optimal', replicas: Float64Array.of(2, 0) });
    const loose = await engine.solve(program(work, { ...capped, unservedLimit: 8 }), limits);
    expect(loose).toMatchObject({ status: 'optimal', replicas: Float64Array.of(1, 0) });
  });

  test('says infeasible where the ceilings are too low', async () => {
    const answer = await engine.solve(program([[2.5, 2.5]], { upper: Float64Array.of(1, 1) }), limits);
    expect(answer).toMatchObject({ status: 'infeasible', replicas: null });
  });

  test('keeps floors and fixed counts', async () => {
    const answer = await engine.solve(
      program([[2.5, 2.5]], { lower: Float64Array.of(0, 2), upper: Float64Array.of(5, 2) }),
      limits,
    );
    expect(answer).toMatchObject({ status: 'optimal', replicas: Float64Array.of(1, 2) });
  });

  test('answers many calls at once, each with its own answer', async () => {
    const answers = await Promise.all(
      [1, 2, 3, 4].map((work) => engine.solve(program([[work, Number.POSITIVE_INFINITY]]), limits)),
    );
    expect(answers.map(({ replicas }) => replicas![0])).toEqual([1, 2, 3, 4]);
  });
});

describe('an engine thread', () => {
  const threads: SolverThread[] = [];
  const parent = `import { parentPort, workerData } from 'node:worker_threads';`;
  const misbehaving = (source: string, graceMs = 60_000) => {
    const script = new URL(`data:text/javascript,${encodeURIComponent(`${parent} ${source}`)}`);
    const opened = new SolverThread('highs', { script, graceMs });
    threads.push(opened);
    return opened;
  };
  afterEach(async () => {
    await Promise.all(threads.splice(0).map((it) => it.close()));
  });
  const ready = `parentPort.postMessage({ kind: 'ready' });`;
  const asked = { timeLimitMs: 50, nodeLimit: null, relativeGap: 0 };

  test('that dies answers unknown, and the next call starts another', async () => {
    const dying = misbehaving(`${ready} parentPort.on('message', () => process.exit(1));`);
    for (const _ of [1, 2]) {
      expect(await dying.solve(knifeEdge, asked)).toMatchObject({ status: 'unknown', detail: 'crashed' });
    }
  });

  test('that dies while idle is replaced', async () => {
    const answering = `parentPort.on('message', () => { parentPort.postMessage({ kind: 'answer', answer: { status: 'unknown', detail: 'no-answer' } }); setImmediate(() => process.exit(1)); });`;
    const mortal = misbehaving(`${ready} ${answering}`);
    for (const _ of [1, 2, 3]) {
      const answer = await mortal.solve(knifeEdge, { ...asked, timeLimitMs: 20_000 });
      expect(['no-answer', 'crashed']).toContain(answer.detail);
    }
  });

  test('that cannot load answers unknown', async () => {
    const broken = misbehaving(`throw new Error('no such engine');`);
    expect(await broken.solve(knifeEdge, asked)).toMatchObject({ status: 'unknown', detail: 'crashed' });
  });

  test('that hangs is ended at its deadline', async () => {
    const hanging = misbehaving(`${ready} parentPort.on('message', () => { for (;;); });`, 20);
    for (const _ of [1, 2]) {
      expect(await hanging.solve(knifeEdge, asked)).toMatchObject({ status: 'unknown', detail: 'time-limit' });
    }
  });

  test('that is closed answers unknown from then on', async () => {
    const closed = misbehaving(ready);
    await closed.close();
    expect(await closed.solve(knifeEdge, asked)).toMatchObject({ status: 'unknown', detail: 'no-answer' });
  });

  test('that is made ready is loaded once, before the first problem', async () => {
    const answering = `let asked = 0; parentPort.on('message', () => parentPort.postMessage({ kind: 'answer', answer: { status: 'unknown', nodes: ++asked } }));`;
    const loaded = misbehaving(`${ready} ${answering}`);
    await Promise.all([loaded.ready(), loaded.ready()]);
    expect(await loaded.solve(knifeEdge, { ...asked, timeLimitMs: 20_000 })).toMatchObject({ nodes: 1 });
    await loaded.ready();
    expect(await loaded.solve(knifeEdge, { ...asked, timeLimitMs: 20_000 })).toMatchObject({ nodes: 2 });
  });

  test('that cannot be made ready says so at the first problem', async () => {
    const broken = misbehaving(`throw new Error('no such engine');`);
    await broken.ready();
    expect(await broken.solve(knifeEdge, asked)).toMatchObject({ status: 'unknown', detail: 'crashed' });
  });

  test('is not asked where the caller has stopped already', async () => {
    const never = misbehaving(`throw new Error('must not start');`);
    expect(await never.solve(knifeEdge, asked, () => true)).toMatchObject({ status: 'unknown', detail: 'time-limit' });
  });

  test('is shared by all openings of an engine in a process, and outlives the first that is closed', async () => {
    const first = openSolver('highs');
    const second = openSolver('highs');
    await first.close();
    await first.close();
    expect(await second.solve(knifeEdge, limits)).toMatchObject({ status: 'optimal' });
    await second.close();
  });
});

describe('the check of an answer', () => {
  const half = program([[0.5, 0.25]]);
  const look = (findShares: SecondLook['findShares'], stretch: SecondLook['stretch'] = () => null) => ({
    secondLook: { findShares, stretch },
    relativeGap: 0,
    milliseconds: 0,
  });
  const none = look(() => 'none');
  const proposal = (overrides: Partial<Proposal>): Proposal => ({
    claim: 'optimal',
    replicas: Float64Array.of(1, 0),
    shares: Float64Array.of(1, 0),
    unserved: null,
    bound: 1,
    nodes: 1,
    ...overrides,
  });

  test('keeps replicas whose shares fit', () => {
    expect(checkProposal(half, proposal({}), none)).toMatchObject({ status: 'optimal', bound: 1 });
  });

  test('refuses replicas that the demand does not fit in, whatever the engine claims', () => {
    const refused = checkProposal(program([[1.5, 0.25]]), proposal({}), none);
    expect(refused).toMatchObject({ status: 'unknown', replicas: null, detail: 'rejected' });
  });

  test('refuses shares on a deployment without replicas', () => {
    const refused = checkProposal(half, proposal({ shares: Float64Array.of(0, 1) }), none);
    expect(refused).toMatchObject({ status: 'unknown', detail: 'rejected' });
  });

  test('refuses a bucket that is served in part only', () => {
    const refused = checkProposal(half, proposal({ shares: Float64Array.of(0.9, 0) }), none);
    expect(refused).toMatchObject({ status: 'unknown', detail: 'rejected' });
  });

  test('keeps replicas whose rough shares do not fit where others do', () => {
    const exact = program([[1, 0.25]]);
    const found = look(() => ({ shares: Float64Array.of(1, 0), unserved: new Float64Array(1) }));
    const rough = proposal({ shares: Float64Array.of(0.5, 0.5) });
    expect(checkProposal(exact, rough, found)).toMatchObject({ status: 'optimal' });
  });

  test('never lets a bound lie above the cost of the answer itself', () => {
    expect(checkProposal(half, proposal({ bound: 1.0000001 }), none).bound).toBe(1);
  });

  test('refutes a claim of infeasibility with shares that fit at the ceilings', () => {
    const claim = proposal({ claim: 'infeasible', replicas: null, shares: null });
    const found = look(() => ({ shares: Float64Array.of(1, 0), unserved: new Float64Array(1) }));
    expect(checkProposal(half, claim, found)).toMatchObject({ status: 'unknown', detail: 'rejected' });
    expect(checkProposal(half, claim, none)).toMatchObject({ status: 'infeasible' });
  });
});

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { steadyRate, steadyStateAt } from '../../benchmarks/steady-state-rate.js';
import { loadGpuCatalogue, loadModelCatalogue } from '../../src/adapters/catalogue-file.js';
import { gpuByName } from '../../src/core/gpu-types.js';
import { modelByName } from '../../src/core/model-types.js';
import {
  type ReplicaEvent,
  type ReplicaLimits,
  type ReplicaRequest,
  SimulatedReplica,
} from '../../src/simulation/replica.js';
import { type Step, type StepTimes, stepTimesOf } from '../../src/simulation/step-time.js';
import { seededRandom } from '../support/seeded-random.js';

/** Every step takes 10 ms; what they hold is kept. */
function plainSteps(kvCacheTokens = 16_000): { readonly stepTimes: StepTimes; readonly steps: Step[] } {
  const steps: Step[] = [];
  return { steps, stepTimes: { kvCacheTokens, stepMs: (step) => steps.push(step) && 10 } };
}
const limits = (overrides: Partial<ReplicaLimits> = {}): ReplicaLimits => ({
  maxSequences: 8,
  maxBatchedTokens: 100,
  maxTokens: 10_000,
  ...overrides,
});
const brief = (events: readonly ReplicaEvent[]): readonly string[] =>
  events.map(({ kind, id, atMs, outputTokens }) => `${atMs} ${kind} ${id} ${outputTokens}`);

describe('a request alone', () => {
  test('takes a step for its prompt, which gives the first token, and one for each further token', () => {
    const { stepTimes, steps } = plainSteps();
    const replica = new SimulatedReplica({ stepTimes, limits: limits() });
    replica.submit({ id: 1, inputTokens: 30, outputTokens: 3 }, 5);
    expect(brief(replica.advance(100))).toEqual(['15 token 1 1', '25 token 1 2', '35 token 1 3', '35 finished 1 3']);
    expect(steps).toEqual([
      { prefillTokens: 30, prefillAttention: 450, decodeSequences: 0, decodeContextTokens: 0 },
      { prefillTokens: 0, prefillAttention: 0, decodeSequences: 1, decodeContextTokens: 31 },
      { prefillTokens: 0, prefillAttention: 0, decodeSequences: 1, decodeContextTokens: 32 },
    ]);
    expect(replica.nextStepEndMs()).toBeNull();
    expect(replica.load()).toEqual({ running: 0, waiting: 0, kvCacheUsed: 0, preemptions: 0 });
  });

  test('has its prompt cut into chunks of what a step holds', () => {
    const { stepTimes, steps } = plainSteps();
    const replica = new SimulatedReplica({ stepTimes, limits: limits() });
    replica.submit({ id: 1, inputTokens: 250, outputTokens: 1 }, 0);
    expect(brief(replica.advance(100))).toEqual(['30 token 1 1', '30 finished 1 1']);
    expect(steps.map(({ prefillTokens, prefillAttention }) => [prefillTokens, prefillAttention])).toEqual([
      [100, 100 * 50],
      [100, 100 * 150],
      [50, 50 * 225],
    ]);
  });

  test('is rejected when it is longer than the context, or than the whole cache', () => {
    const { stepTimes } = plainSteps(160);
    const replica = new SimulatedReplica({ stepTimes, limits: limits({ maxTokens: 200 }) });
    replica.submit({ id: 1, inputTokens: 150, outputTokens: 51 }, 0);
    replica.submit({ id: 2, inputTokens: 150, outputTokens: 12 }, 1);
    replica.submit({ id: 3, inputTokens: 150, outputTokens: 11 }, 2);
    const events = replica.advance(1000);
    expect(brief(events.slice(0, 2))).toEqual(['0 rejected 1 0', '1 rejected 2 0']);
    expect(events.at(-1)).toMatchObject({ kind: 'finished', id: 3, outputTokens: 11 });
  });
});

describe('requests together', () => {
  test('a step decodes all that run and fills up with prompts, in the order of arrival', () => {
    const { stepTimes, steps } = plainSteps();
    const replica = new SimulatedReplica({ stepTimes, limits: limits() });
    replica.submit({ id: 1, inputTokens: 10, outputTokens: 9 }, 0);
    replica.advance(10);
    replica.submit({ id: 2, inputTokens: 60, outputTokens: 2 }, 10);
    replica.submit({ id: 3, inputTokens: 60, outputTokens: 2 }, 10);
    const events = replica.advance(40);
    // 1 + 60 + 39 tokens, then 2 + 21.
    expect(steps[1]).toMatchObject({ decodeSequences: 1, prefillTokens: 99, prefillAttention: 60 * 30 + 39 * 19.5 });
    expect(steps[2]).toMatchObject({ decodeSequences: 2, prefillTokens: 21, prefillAttention: 21 * 49.5 });
    expect(brief(events).filter((line) => !line.includes(' 1 '))).toEqual([
      '20 token 2 1',
      '30 token 2 2',
      '30 finished 2 2',
      '30 token 3 1',
      '40 token 3 2',
      '40 finished 3 2',
    ]);
  });

  test('the head of the queue is not overtaken by one that would fit', () => {
    const { stepTimes } = plainSteps(160);
    const replica = new SimulatedReplica({ stepTimes, limits: limits() });
    replica.submit({ id: 1, inputTokens: 100, outputTokens: 3 }, 0);
    replica.submit({ id: 2, inputTokens: 100, outputTokens: 1 }, 0);
    replica.submit({ id: 3, inputTokens: 10, outputTokens: 1 }, 0);
    const events = replica.advance(1000);
    expect(events.filter(({ kind }) => kind === 'finished').map(({ id }) => id)).toEqual([1, 2, 3]);
  });

  test('no more than maxSequences run', () => {
    const { stepTimes } = plainSteps();
    const replica = new SimulatedReplica({ stepTimes, limits: limits({ maxSequences: 2 }) });
    for (const id of [1, 2, 3]) replica.submit({ id, inputTokens: 5, outputTokens: 4 }, 0);
    replica.advance(15);
    expect(replica.load()).toMatchObject({ running: 2, waiting: 1 });
  });

  test('where the cache is full, the newest is preempted, computes everything again, and loses no token', () => {
    const { stepTimes, steps } = plainSteps(64);
    const replica = new SimulatedReplica({ stepTimes, limits: limits() });
    replica.submit({ id: 1, inputTokens: 30, outputTokens: 20 }, 0);
    replica.submit({ id: 2, inputTokens: 30, outputTokens: 20 }, 0);
    const events = replica.advance(10_000);
    // Both have two blocks of four. The first needs a third after 32 tokens, with its third token: both then need one.
    expect(brief(events).filter((line) => line.includes('preempted'))).toEqual(['30 preempted 2 3']);
    for (const id of [1, 2]) {
      const tokens = events.filter((event) => event.id === id && event.kind === 'token');
      expect(tokens.map(({ outputTokens }) => outputTokens)).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
    }
    // 30 of the prompt and the 3 produced.
    expect(steps.map(({ prefillTokens }) => prefillTokens).filter((tokens) => tokens > 0)).toEqual([60, 33]);
    expect(replica.load()).toMatchObject({ running: 0, kvCacheUsed: 0, preemptions: 1 });
  });

  test('a cancelled request is forgotten wherever it is, and its place is free', () => {
    const { stepTimes } = plainSteps();
    const replica = new SimulatedReplica({ stepTimes, limits: limits({ maxSequences: 1 }) });
    for (const id of [1, 2, 3]) replica.submit({ id, inputTokens: 50, outputTokens: 5 }, 0);
    replica.advance(5);
    replica.cancel(1, 5);
    replica.cancel(2, 6);
    replica.cancel(99, 6);
    expect(replica.load()).toEqual({ running: 0, waiting: 1, kvCacheUsed: 0, preemptions: 0 });
    // The step in progress takes as long as it would have.
    expect(brief(replica.advance(100))[0]).toBe('20 token 3 1');
    expect(brief(replica.advance(100))).toEqual([]);
    replica.submit({ id: 1, inputTokens: 50, outputTokens: 1 }, 100);
    expect(brief(replica.advance(200))).toEqual(['110 token 1 1', '110 finished 1 1']);
  });
});

describe('misuse', () => {
  test('is said at once', () => {
    const { stepTimes } = plainSteps();
    const replica = new SimulatedReplica({ stepTimes, limits: limits() });
    expect(() => replica.submit({ id: 1, inputTokens: 0, outputTokens: 1 }, 0)).toThrow('request 1 of 0 + 1 tokens');
    expect(() => replica.submit({ id: 1, inputTokens: 1, outputTokens: 1.5 }, 0)).toThrow(RangeError);
    expect(() => replica.submit({ id: 1, inputTokens: 1, outputTokens: 1 }, Number.NaN)).toThrow('the time is NaN');
    replica.submit({ id: 1, inputTokens: 1, outputTokens: 9 }, 0);
    expect(() => replica.submit({ id: 1, inputTokens: 1, outputTokens: 1 }, 0)).toThrow('request 1 has not ended');
    expect(() => new SimulatedReplica({ stepTimes, limits: limits({ maxSequences: 0 }) })).toThrow('maxSequences is 0');
  });

  test('a clock that went backwards counts as standing still', () => {
    const { stepTimes } = plainSteps();
    const replica = new SimulatedReplica({ stepTimes, limits: limits() });
    replica.advance(50);
    replica.submit({ id: 1, inputTokens: 1, outputTokens: 1 }, 20);
    expect(brief(replica.advance(100))).toEqual(['60 token 1 1', '60 finished 1 1']);
  });
});

type Action =
  | { readonly kind: 'submit'; readonly afterMs: number; readonly inputTokens: number; readonly outputTokens: number }
  | { readonly kind: 'cancel'; readonly afterMs: number; readonly of: number };

type World = {
  readonly blocks: number;
  readonly maxSequences: number;
  readonly maxBatchedTokens: number;
  readonly actions: readonly Action[];
};

const world: fc.Arbitrary<World> = fc.record({
  blocks: fc.integer({ min: 4, max: 60 }),
  maxSequences: fc.integer({ min: 1, max: 12 }),
  maxBatchedTokens: fc.integer({ min: 1, max: 200 }),
  actions: fc.array(
    fc.oneof(
      {
        weight: 5,
        arbitrary: fc.record({
          kind: fc.constant('submit' as const),
          afterMs: fc.integer({ min: 0, max: 60 }),
          inputTokens: fc.integer({ min: 1, max: 300 }),
          outputTokens: fc.integer({ min: 1, max: 60 }),
        }),
      },
      {
        weight: 1,
        arbitrary: fc.record({
          kind: fc.constant('cancel' as const),
          afterMs: fc.integer({ min: 0, max: 60 }),
          of: fc.nat({ max: 40 }),
        }),
      },
    ),
    { maxLength: 40 },
  ),
});

describe('whatever arrives', () => {
  const run = (
    { blocks, maxSequences, maxBatchedTokens, actions }: World,
    watch: {
      readonly each?: (replica: SimulatedReplica, step: Step | null) => void;
      readonly pieceMs: number;
      readonly onlyMilestones?: boolean;
    },
  ) => {
    let last: Step | null = null;
    const stepTimes: StepTimes = {
      kvCacheTokens: blocks * 16,
      stepMs: (step) => {
        last = step;
        return 1 + step.prefillTokens / 50 + step.decodeSequences / 10;
      },
    };
    const replica = new SimulatedReplica({ stepTimes, limits: { maxSequences, maxBatchedTokens, maxTokens: 350 } });
    const events: ReplicaEvent[] = [];
    const submitted = new Map<number, ReplicaRequest>();
    const cancelled = new Set<number>();
    let nowMs = 0;
    const goTo = (untilMs: number, pieceMs = watch.pieceMs): void => {
      while (nowMs < untilMs) {
        nowMs = Math.min(untilMs, nowMs + pieceMs);
        if (watch.onlyMilestones === true) {
          replica.advanceMilestones(nowMs, (kind, id, atMs, outputTokens) =>
            events.push({ kind, id, atMs, outputTokens }),
          );
        } else events.push(...replica.advance(nowMs));
        watch.each?.(replica, last);
      }
    };
    for (const [id, action] of actions.entries()) {
      goTo(nowMs + action.afterMs);
      if (action.kind === 'submit') {
        const request = { id, inputTokens: action.inputTokens, outputTokens: action.outputTokens };
        submitted.set(id, request);
        replica.submit(request, nowMs);
      } else if (submitted.has(action.of)) {
        const ended = events.some(
          ({ kind, id: of }) => of === action.of && (kind === 'finished' || kind === 'rejected'),
        );
        if (!ended) cancelled.add(action.of);
        replica.cancel(action.of, nowMs);
      }
    }
    // Long enough for all that is left; in longer pieces, since most of it is idle.
    goTo(nowMs + 3e5, 100 * watch.pieceMs);
    return { replica, events, submitted, cancelled };
  };

  test('every request ends once with all of its tokens, in order, unless it was cancelled; nothing is left over', () => {
    fc.assert(
      fc.property(world, (one) => {
        const { replica, events, submitted, cancelled } = run(one, { pieceMs: 1e6 });
        for (const [id, { inputTokens, outputTokens }] of submitted) {
          const own = events.filter((event) => event.id === id);
          const tokens = own.filter(({ kind }) => kind === 'token').map((event) => event.outputTokens);
          const ends = own.filter(({ kind }) => kind === 'finished' || kind === 'rejected').map(({ kind }) => kind);
          expect(tokens).toEqual(Array.from({ length: tokens.length }, (_, i) => i + 1));
          const tooLong = inputTokens + outputTokens > 350 || inputTokens + outputTokens - 1 > one.blocks * 16;
          if (tooLong) expect(ends).toEqual(['rejected']);
          else if (cancelled.has(id)) expect(ends).toEqual([]);
          else {
            expect(ends).toEqual(['finished']);
            expect(tokens).toHaveLength(outputTokens);
          }
        }
        const times = events.map(({ atMs }) => atMs);
        expect(times).toEqual(times.toSorted((a, b) => a - b));
        expect(replica.load()).toMatchObject({ running: 0, waiting: 0, kvCacheUsed: 0 });
        expect(replica.nextStepEndMs()).toBeNull();
      }),
      { numRuns: 300 },
    );
  });

  test('the cache, the sequences and the tokens of a step stay within their limits, and work never stands still', () => {
    fc.assert(
      fc.property(world, (one) => {
        const each = (replica: SimulatedReplica, step: Step | null): void => {
          const { running, waiting, kvCacheUsed } = replica.load();
          expect(kvCacheUsed).toBeLessThanOrEqual(1);
          expect(running).toBeLessThanOrEqual(one.maxSequences);
          if (running + waiting > 0) expect(replica.nextStepEndMs()).not.toBeNull();
          if (step === null) return;
          expect(step.prefillTokens + step.decodeSequences).toBeLessThanOrEqual(one.maxBatchedTokens);
          expect(step.prefillTokens + step.decodeSequences).toBeGreaterThan(0);
        };
        run(one, { each, pieceMs: 7 });
      }),
      { numRuns: 60 },
    );
  });

  test('how time is cut into pieces changes nothing', () => {
    fc.assert(
      fc.property(world, fc.integer({ min: 3, max: 50 }), (one, pieceMs) => {
        const whole = run(one, { pieceMs: 1e7 });
        const pieces = run(one, { pieceMs });
        expect(pieces.events).toEqual(whole.events);
      }),
      { numRuns: 100 },
    );
  });
});

describe('milestones', () => {
  const world = fc.record({
    blocks: fc.integer({ min: 2, max: 60 }),
    maxSequences: fc.integer({ min: 1, max: 12 }),
    actions: fc.array(
      fc.record({
        afterMs: fc.double({ min: 0, max: 300, noNaN: true }),
        cancelled: fc.integer({ min: 0, max: 9 }),
        inputTokens: fc.integer({ min: 1, max: 120 }),
        outputTokens: fc.integer({ min: 1, max: 200 }),
      }),
      { maxLength: 60 },
    ),
  });
  type Seen = { readonly events: ReplicaEvent[]; readonly loads: unknown[]; readonly steps: number[] };

  test('are the same to the last bit as without passing over steps, and so are the load and the busy time', () => {
    fc.assert(
      fc.property(world, fc.boolean(), ({ blocks, maxSequences, actions }, wholeSteps) => {
        const run = (onlyMilestones: boolean): Seen => {
          const steps: number[] = [];
          const stepTimes: StepTimes = {
            kvCacheTokens: blocks * 16,
            stepMs: ({ prefillTokens, decodeSequences, decodeContextTokens }) => {
              steps.push(decodeContextTokens);
              return wholeSteps ? 10 : 1.1 + prefillTokens / 50 + decodeSequences / 10 + decodeContextTokens / 1e4;
            },
          };
          const replica = new SimulatedReplica({
            stepTimes,
            limits: { maxSequences, maxBatchedTokens: 64, maxTokens: 300 },
          });
          const events: ReplicaEvent[] = [];
          const loads: unknown[] = [];
          const listen = (kind: ReplicaEvent['kind'], id: number, atMs: number, outputTokens: number): void => {
            if (kind !== 'token' || outputTokens === 1) events.push({ kind, id, atMs, outputTokens });
          };
          const goTo = (atMs: number): void => {
            if (onlyMilestones) replica.advanceMilestones(atMs, listen);
            else replica.advanceEach(atMs, listen);
          };
          let nowMs = 0;
          for (const [id, { afterMs, cancelled, inputTokens, outputTokens }] of actions.entries()) {
            nowMs += wholeSteps ? Math.round(afterMs) : afterMs;
            goTo(nowMs);
            // Asked for by some only: it must not change what follows.
            if (id % 3 === 0) loads.push(replica.load());
            loads.push([replica.running, replica.waiting, replica.busyMs]);
            if (cancelled === 0) replica.cancel(id - 3, nowMs);
            replica.submit({ id, inputTokens, outputTokens }, nowMs);
          }
          goTo(1e7);
          loads.push(replica.load(), replica.busyMs);
          return { events, loads, steps };
        };
        expect(run(true)).toEqual(run(false));
      }),
      { numRuns: 300 },
    );
  });

  test('busy time is that of steps, up to now', () => {
    const { stepTimes } = plainSteps();
    const replica = new SimulatedReplica({ stepTimes, limits: limits() });
    replica.submit({ id: 1, inputTokens: 30, outputTokens: 5 }, 100);
    for (const [atMs, busyMs] of [
      [105, 5],
      [132, 32],
      [400, 50],
    ] as const) {
      replica.advanceMilestones(atMs, () => {});
      expect(replica.busyMs).toBeCloseTo(busyMs, 9);
    }
  });
});

describe('against theory', () => {
  test('one sequence at a time waits as long as an M/D/1 queue says', () => {
    // Service of 5 steps of 10 ms; utilisation 0.8: the mean wait is 0.8 × 50 / (2 × 0.2) = 100 ms.
    const { stepTimes } = plainSteps();
    const replica = new SimulatedReplica({ stepTimes, limits: limits({ maxSequences: 1 }) });
    const random = seededRandom(4);
    const arrivals: number[] = [];
    const waits: number[] = [];
    let atMs = 0;
    for (let id = 0; id < 60_000; id++) {
      atMs += -Math.log(1 - random.next()) * (50 / 0.8);
      arrivals.push(atMs);
      replica.submit({ id, inputTokens: 10, outputTokens: 5 }, atMs);
      for (const event of replica.advance(atMs)) {
        if (event.kind === 'finished') waits.push(event.atMs - arrivals[event.id]! - 50);
      }
    }
    const mean = waits.reduce((sum, wait) => sum + wait, 0) / waits.length;
    expect(Math.abs(mean / 100 - 1)).toBeLessThan(0.05);
  });

  test('an overloaded replica completes as many requests a second as the steady state says', async () => {
    const gpu = gpuByName(await loadGpuCatalogue(), 'H100')!;
    const model = modelByName(await loadModelCatalogue(), 'llama-3.1-8b')!;
    const stepTimes = stepTimesOf({ gpu, model, gpusPerReplica: 1, weightPrecision: 'bf16' });
    const cells = [
      { inputTokens: 128, outputTokens: 128, maxSequences: 256 },
      { inputTokens: 512, outputTokens: 128, maxSequences: 64 },
      { inputTokens: 1024, outputTokens: 32, maxSequences: 128 },
      { inputTokens: 2048, outputTokens: 256, maxSequences: 128 },
      { inputTokens: 8192, outputTokens: 64, maxSequences: 32 },
      { inputTokens: 256, outputTokens: 1024, maxSequences: 256 },
      // More sequences than prompts can be computed for: the steps are full.
      { inputTokens: 8192, outputTokens: 16, maxSequences: 40 },
    ];
    for (const { maxSequences, ...cell } of cells) {
      const ownLimits = { maxSequences, maxBatchedTokens: 8192, maxTokens: 131_072 };
      const replica = new SimulatedReplica({ stepTimes, limits: ownLimits });
      const random = seededRandom(7);
      const rate = steadyStateAt({ stepTimes, limits: ownLimits, cell, concurrency: maxSequences }).requestsPerSecond;
      // A fifth more than it can do, for long enough that the queue never empties.
      let atMs = 0;
      const count = 10 * maxSequences;
      for (let id = 0; id < count; id++) {
        atMs += (-Math.log(1 - random.next()) * 1000) / (1.2 * rate);
        replica.submit({ id, ...cell }, id < 2 * maxSequences ? 0 : atMs);
      }
      const ends: number[] = [];
      replica.advanceEach(Number.POSITIVE_INFINITY, (kind, _id, endMs) => {
        if (kind === 'finished') ends.push(endMs);
      });
      const [from, to] = [Math.floor(count * 0.3), Math.floor(count * 0.9)];
      const seen = ((to - from) * 1000) / (ends[to]! - ends[from]!);
      expect(Math.abs(seen / rate - 1), `${JSON.stringify(cell)}: ${seen} against ${rate}`).toBeLessThan(0.06);
    }
  });

  test('at the steady rate of a limit on TPOT, Poisson arrivals meet it in the mean', async () => {
    const gpu = gpuByName(await loadGpuCatalogue(), 'H100')!;
    const model = modelByName(await loadModelCatalogue(), 'llama-3.1-8b')!;
    const stepTimes = stepTimesOf({ gpu, model, gpusPerReplica: 1, weightPrecision: 'bf16' });
    const ownLimits = { maxSequences: 256, maxBatchedTokens: 8192, maxTokens: 131_072 };
    const cell = { inputTokens: 1024, outputTokens: 256 };
    const steady = steadyRate({ stepTimes, limits: ownLimits, cell, slo: { tpotMs: 30 } });
    expect(steady.requestsPerSecond).toBeGreaterThan(1);
    const replica = new SimulatedReplica({ stepTimes, limits: ownLimits });
    const random = seededRandom(11);
    let atMs = 0;
    for (let id = 0; id < 3000; id++) {
      replica.submit({ id, ...cell }, atMs);
      atMs += (-Math.log(1 - random.next()) * 1000) / (0.95 * steady.requestsPerSecond);
    }
    const first = new Map<number, number>();
    const tpots: number[] = [];
    replica.advanceEach(Number.POSITIVE_INFINITY, (kind, id, when) => {
      if (kind === 'token' && !first.has(id)) first.set(id, when);
      if (kind === 'finished' && id > 500) tpots.push((when - first.get(id)!) / 255);
    });
    const mean = tpots.reduce((sum, tpot) => sum + tpot, 0) / tpots.length;
    expect(mean).toBeLessThan(30);
    expect(mean).toBeGreaterThan(15);
  });
});

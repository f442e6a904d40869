import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/core/input-error.js';
import type { PlannedDeployment, UnservedDemand } from '../../src/core/plan.js';
import {
  type StockOutSettings,
  StockOutWatch,
  type SupplyObservation,
  startupAllowanceMs,
  stillAskedFor,
  stockOutNotices,
  withShortages,
} from '../../src/service/stock-out.js';
import { deployment, problem } from '../optimizer/builders.js';

const second = 1000;
const minute = 60 * second;
/** A start-up time of two minutes allows four. */
const allowance = 4 * minute;
const start = Date.UTC(2026, 10, 20, 10);

type Seen = Partial<SupplyObservation> & { readonly ready?: number | null; readonly pending?: number | null };

/** A deployment on A100 with a start-up time of two minutes; what is asked for is what is ready and pending. */
function seen({ ready = 0, pending = 0, ...overrides }: Seen = {}): SupplyObservation {
  return {
    id: 'ns/chat',
    name: 'chat',
    gpuType: 'A100',
    gpusPerReplica: 1,
    currentReplicas: ready === null || pending === null ? null : ready + pending,
    readyReplicas: ready,
    pendingReplicas: pending,
    startupSeconds: 120,
    ...overrides,
  };
}

/** A watch with a clock: `look` shows it a view some time after the last one. */
function watching(settings: Partial<StockOutSettings> = {}) {
  let watch = new StockOutWatch(settings);
  let now = start;
  return {
    look(afterMs: number, ...views: readonly Seen[]) {
      now += afterMs;
      watch.observe(views.map(seen), now);
      return watch.shortages(now);
    },
    /** Shows the same view every ten seconds for some time. */
    keepLooking(forMs: number, ...views: readonly Seen[]) {
      for (let passed = 0; passed < forMs; passed += 10 * second) this.look(10 * second, ...views);
      return watch.shortages(now);
    },
    later: (afterMs: number) => watch.shortages(now + afterMs),
    restart() {
      watch = StockOutWatch.fromJSON(JSON.parse(JSON.stringify(watch)), settings);
    },
    get now() {
      return now;
    },
  };
}

describe('a start-up allowance', () => {
  it('is twice the start-up time, and at least a minute more than it', () => {
    expect(startupAllowanceMs(0)).toBe(60 * second);
    expect(startupAllowanceMs(30)).toBe(90 * second);
    expect(startupAllowanceMs(60)).toBe(120 * second);
    expect(startupAllowanceMs(600)).toBe(1200 * second);
  });
});

describe('a replica that does not come', () => {
  it('marks its GPU type as short only beyond its allowance', () => {
    const world = watching();
    expect(world.look(0, { ready: 2, pending: 3 })).toEqual([]);
    expect(world.look(allowance, { ready: 2, pending: 3 })).toEqual([]);
    expect(world.look(1, { ready: 2, pending: 3 })).toEqual([
      { gpuType: 'A100', shortGpus: 3, usableGpus: 2, until: world.now + 10 * minute, deployments: ['ns/chat'] },
    ]);
  });

  it('counts in GPUs, with what other deployments run on the type', () => {
    const world = watching();
    const views = [
      { gpusPerReplica: 4, ready: 1, pending: 2 },
      { id: 'ns/other', ready: 3 },
      { id: 'ns/elsewhere', gpuType: 'L20', ready: 5 },
    ];
    world.look(0, ...views);
    expect(world.look(allowance + 1, ...views)).toMatchObject([{ gpuType: 'A100', shortGpus: 8, usableGpus: 7 }]);
  });

  it('is given the start-up time of the settings where the deployment says none', () => {
    const view = { ready: 1, pending: 1, startupSeconds: null };
    const usual = watching();
    usual.look(0, view);
    expect(usual.look(10 * minute, view)).toEqual([]);
    expect(usual.look(1, view)).toHaveLength(1);
    const quick = watching({ startupSeconds: 60 });
    quick.look(0, view);
    expect(quick.look(2 * minute + 1, view)).toHaveLength(1);
  });

  it('stands for its own GPU type where nothing names one', () => {
    const world = watching();
    world.look(0, { gpuType: null, pending: 1 });
    expect(world.look(allowance + 1, { gpuType: null, pending: 1 })).toMatchObject([{ gpuType: 'chat' }]);
  });

  it('takes no GPU, and is missed by nobody, where a replica takes none', () => {
    const world = watching();
    world.look(0, { gpusPerReplica: 0, pending: 1 });
    expect(world.look(allowance + 1, { gpusPerReplica: 0, pending: 1 })).toEqual([]);
  });

  it('names every type and every deployment that is short, in order', () => {
    const world = watching();
    const views = [
      { id: 'ns/l', gpuType: 'L20', pending: 2 },
      { id: 'ns/z', pending: 1 },
      { id: 'ns/a', pending: 1 },
    ];
    world.look(0, ...views);
    expect(world.look(allowance + 1, ...views)).toMatchObject([
      { gpuType: 'A100', shortGpus: 2, deployments: ['ns/a', 'ns/z'] },
      { gpuType: 'L20', shortGpus: 2, deployments: ['ns/l'] },
    ]);
  });
});

describe('the time that a replica waits', () => {
  it('begins when it is asked for, not when an earlier one was', () => {
    const world = watching();
    world.look(0, { ready: 1, pending: 2 });
    world.look(allowance / 2, { ready: 1, pending: 5 });
    expect(world.look(allowance / 2 + 1, { ready: 1, pending: 5 })).toMatchObject([{ shortGpus: 2, usableGpus: 1 }]);
    // None of them came, so the GPUs of the younger ones are no more to be had than theirs.
    expect(world.look(allowance / 2, { ready: 1, pending: 5 })).toMatchObject([{ shortGpus: 5, usableGpus: 1 }]);
  });

  it('ends when it is no longer asked for', () => {
    const world = watching();
    world.look(0, { ready: 1, pending: 2 });
    world.look(allowance / 2, { ready: 1, pending: 0 });
    world.look(minute, { ready: 1, pending: 2 });
    expect(world.look(allowance, { ready: 1, pending: 2 })).toEqual([]);
    expect(world.look(1, { ready: 1, pending: 2 })).toHaveLength(1);
  });

  it('goes on for the oldest where fewer are asked for', () => {
    const world = watching();
    world.look(0, { pending: 2 });
    world.look(minute, { pending: 5 });
    world.look(minute, { pending: 1 });
    expect(world.look(allowance - 2 * minute + 1, { pending: 1 })).toMatchObject([{ shortGpus: 1 }]);
  });

  it('begins anew for all where one of them becomes ready', () => {
    const world = watching();
    world.look(0, { ready: 1, pending: 3 });
    world.look(allowance, { ready: 2, pending: 2 });
    expect(world.look(allowance, { ready: 2, pending: 2 })).toEqual([]);
    expect(world.look(1, { ready: 2, pending: 2 })).toMatchObject([{ shortGpus: 2, usableGpus: 2 }]);
  });

  it('does not begin anew where a replica that was ready before recovers', () => {
    const world = watching();
    world.look(0, { ready: 3, pending: 2 });
    for (let crash = 0; crash < 3; crash++) {
      world.look(minute / 2, { ready: 2, pending: 3 });
      world.look(minute / 2, { ready: 3, pending: 2 });
    }
    expect(world.look(allowance - 3 * minute + 1, { ready: 3, pending: 2 })).toMatchObject([{ shortGpus: 2 }]);
  });

  it('stands still for nobody while readiness is not known, and judges only what is seen', () => {
    const world = watching();
    world.look(0, { ready: 1, pending: 1 });
    expect(world.look(allowance + 1, { ready: null, pending: null })).toEqual([]);
    expect(world.look(1, { ready: 1, pending: 1 })).toHaveLength(1);
  });

  it('begins anew where the clock is set back', () => {
    const world = watching();
    world.look(0, { pending: 1 });
    world.look(-60 * minute, { pending: 1 });
    expect(world.look(allowance, { pending: 1 })).toEqual([]);
    expect(world.look(1, { pending: 1 })).toHaveLength(1);
  });

  it('begins anew on another GPU type', () => {
    const world = watching();
    world.look(0, { pending: 1 });
    world.look(allowance, { pending: 1, gpuType: 'L20' });
    expect(world.look(allowance, { pending: 1, gpuType: 'L20' })).toEqual([]);
  });
});

describe('what can be used of a short type', () => {
  it('counts replicas that restart: their GPU is still there', () => {
    const world = watching();
    world.look(0, { ready: 4, pending: 2 });
    world.look(allowance, { ready: 3, pending: 3 });
    expect(world.look(1, { ready: 3, pending: 3 })).toMatchObject([{ shortGpus: 2, usableGpus: 4 }]);
  });

  it('does not count those that never come back', () => {
    const world = watching();
    world.look(0, { ready: 4 });
    world.look(minute, { ready: 3, pending: 1 });
    expect(world.look(allowance + 1, { ready: 3, pending: 1 })).toMatchObject([{ shortGpus: 1, usableGpus: 3 }]);
  });

  it('does not fall with what is released meanwhile', () => {
    const world = watching();
    const waits = { ready: 2, pending: 1 };
    world.look(0, waits, { id: 'ns/other', ready: 2 });
    world.look(allowance + 1, waits, { id: 'ns/other', ready: 2 });
    expect(world.look(minute, waits, { id: 'ns/other' })).toMatchObject([{ shortGpus: 1, usableGpus: 4 }]);
  });

  it('falls where still more cannot be had', () => {
    const world = watching();
    world.look(0, { ready: 4, pending: 1 });
    world.look(allowance + 1, { ready: 4, pending: 1 });
    world.look(second, { ready: 2, pending: 3 });
    expect(world.look(allowance + 1, { ready: 2, pending: 3 })).toMatchObject([{ shortGpus: 3, usableGpus: 2 }]);
  });

  it('counts what is asked for where nobody says what is ready', () => {
    const world = watching();
    const views = [{ pending: 1 }, { id: 'ns/unknown', currentReplicas: 3, ready: null, pending: null }];
    world.look(0, ...views);
    expect(world.look(allowance + 1, ...views)).toMatchObject([{ usableGpus: 3 }]);
  });
});

describe('a back-off', () => {
  /** Asks for one more until it is found that it cannot be had. */
  function fail(world: ReturnType<typeof watching>) {
    world.look(10 * second, { ready: 2, pending: 1 });
    const [shortage] = world.keepLooking(allowance + 10 * second, { ready: 2, pending: 1 });
    return shortage!.until - world.now;
  }
  /** Asks for no more until the back-off is over. */
  const rest = (world: ReturnType<typeof watching>, forMs: number) => world.keepLooking(forMs, { ready: 2 });

  it('ends by itself', () => {
    const world = watching();
    const left = fail(world);
    expect(left).toBe(10 * minute);
    expect(world.later(left - 1)).toHaveLength(1);
    expect(world.later(left)).toEqual([]);
  });

  it('is twice as long each time that the type is asked for again in vain, up to an hour', () => {
    const world = watching();
    const lengths: number[] = [];
    for (let round = 0; round < 5; round++) {
      lengths.push(fail(world));
      expect(rest(world, lengths.at(-1)! + minute)).toEqual([]);
    }
    expect(lengths.map((length) => length / minute)).toEqual([10, 20, 40, 60, 60]);
  });

  it('goes on, twice as long, where the same replicas are asked for all the while', () => {
    const world = watching();
    world.look(0, { ready: 2, pending: 1 });
    world.look(allowance + 1, { ready: 2, pending: 1 });
    world.keepLooking(10 * minute - 10 * second, { ready: 2, pending: 1 });
    const [again] = world.look(10 * second, { ready: 2, pending: 1 });
    expect(again!.until - world.now).toBe(20 * minute);
  });

  it('is over at once where more run than when the type was marked, and is short again the next time', () => {
    const world = watching();
    fail(world);
    expect(world.look(minute, { ready: 3 })).toEqual([]);
    world.look(minute, { ready: 3, pending: 1 });
    const [next] = world.look(allowance + 1, { ready: 3, pending: 1 });
    expect(next!.until - world.now).toBe(10 * minute);
  });

  it('forgets the last time after more came than ran then', () => {
    const world = watching();
    rest(world, fail(world) + minute);
    world.look(minute, { ready: 2, pending: 1 });
    world.look(minute, { ready: 3 });
    world.look(minute, { ready: 3, pending: 1 });
    const [next] = world.look(allowance + 1, { ready: 3, pending: 1 });
    expect(next!.until - world.now).toBe(10 * minute);
  });

  it('remembers the last time where no more run than before: a GPU that changes hands is no success', () => {
    const world = watching();
    rest(world, fail(world) + minute);
    world.look(minute, { ready: 1, pending: 1 }, { id: 'ns/other', ready: 0 });
    world.look(minute, { ready: 2 }, { id: 'ns/other', ready: 0 });
    expect(fail(world)).toBe(20 * minute);
  });

  it('forgets the last time after an hour without another attempt', () => {
    const world = watching();
    const left = fail(world);
    rest(world, left + 60 * minute + 10 * second);
    expect(fail(world)).toBe(10 * minute);
    // Also where nobody looked for as long.
    const away = watching();
    const gone = fail(away);
    away.look(0, { ready: 2 });
    away.look(gone + 60 * minute + 1, { ready: 2, pending: 1 });
    const [next] = away.look(allowance + 1, { ready: 2, pending: 1 });
    expect(next!.until - away.now).toBe(10 * minute);
    const soon = watching();
    rest(soon, fail(soon) + 50 * minute);
    expect(fail(soon)).toBe(20 * minute);
  });

  it('is forgotten with the last deployment on the type', () => {
    const world = watching();
    fail(world);
    expect(world.look(minute, { id: 'ns/other', gpuType: 'L20', ready: 1 })).toEqual([]);
    expect(world.look(minute, { ready: 2 })).toEqual([]);
  });

  it('is no longer than itself where the clock ran ahead and is set back', () => {
    const world = watching();
    fail(world);
    const [shortage] = world.look(-365 * 24 * 60 * minute, { ready: 2 });
    expect(shortage!.until - world.now).toBe(10 * minute);
  });

  it('is as long as the settings say', () => {
    const world = watching({ backOffSeconds: 30, longestBackOffSeconds: 45 });
    expect(fail(world)).toBe(30 * second);
    rest(world, 40 * second);
    expect(fail(world)).toBe(45 * second);
  });
});

describe('a restart', () => {
  it('keeps who waits since when, what is short and for how long the next time', () => {
    const world = watching();
    world.look(0, { ready: 2, pending: 1 });
    world.look(minute, { ready: 1, pending: 2 });
    world.restart();
    const before = world.look(allowance - minute + 1, { ready: 1, pending: 2 });
    expect(before).toMatchObject([{ shortGpus: 1, usableGpus: 2 }]);
    world.restart();
    expect(world.later(0)).toEqual(before);
    world.keepLooking(10 * minute, { ready: 2 });
    world.restart();
    world.look(second, { ready: 2, pending: 1 });
    const [again] = world.look(allowance + 1, { ready: 2, pending: 1 });
    expect(again!.until - world.now).toBe(20 * minute);
  });

  it('refuses what is no state of ours, and says where', () => {
    expect(() => StockOutWatch.fromJSON({ supplies: [], marks: [{ gpuType: 'A100' }] })).toThrow(InputError);
    expect(() => StockOutWatch.fromJSON({ supplies: [{ id: 3 }], marks: [] })).toThrow(/supplies\[0\]\.id/);
  });
});

describe('any course of events', () => {
  const view = fc.record({
    ready: fc.option(fc.nat(5), { freq: 10 }),
    pending: fc.option(fc.nat(5), { freq: 10 }),
    gpuType: fc.constantFrom('A100', 'L20', null),
    gpusPerReplica: fc.constantFrom(0, 0.1, 1, 8),
    startupSeconds: fc.constantFrom(null, 0, 120),
  });
  const events = fc.array(
    fc.record({ afterMs: fc.integer({ min: -minute, max: 10 * minute }), views: fc.array(view, { maxLength: 3 }) }),
    { maxLength: 40 },
  );

  it('leaves waiting exactly those that are pending, and one restart more or less changes nothing', () => {
    fc.assert(
      fc.property(events, fc.nat(40), (course, at) => {
        let watch = new StockOutWatch();
        const other = new StockOutWatch();
        let now = start;
        course.forEach(({ afterMs, views }, index) => {
          now += afterMs;
          const seenNow = views.map((one, d) => seen({ ...one, id: `ns/${d}`, name: `${d}` }));
          watch.observe(seenNow, now);
          other.observe(seenNow, now);
          if (index === at) watch = StockOutWatch.fromJSON(JSON.parse(JSON.stringify(watch)));
          const state = watch.toJSON();
          expect(state).toEqual(other.toJSON());
          for (const { id, readyReplicas, pendingReplicas } of seenNow) {
            if (readyReplicas === null || pendingReplicas === null) continue;
            const supply = state.supplies.find((one) => one.id === id)!;
            expect(supply.waiting.reduce((sum, { replicas }) => sum + replicas, 0)).toBe(pendingReplicas);
            expect(supply.waiting.every(({ sinceMs }) => sinceMs <= now)).toBe(true);
          }
          for (const { shortGpus, usableGpus, until } of watch.shortages(now)) {
            expect(shortGpus).toBeGreaterThan(0);
            expect(usableGpus).toBeGreaterThanOrEqual(0);
            expect(until).toBeGreaterThan(now);
            expect(until - now).toBeLessThanOrEqual(60 * minute);
          }
        });
      }),
      { numRuns: 500 },
    );
  });
});

describe('replicas that do not come', () => {
  const unserved = { model: 'chat', inputTokens: 1, outputTokens: 1, rps: 1, reason: 'capacity' } as const;
  const shortages = [{ gpuType: 'A100', shortGpus: 2, usableGpus: 6, until: start, deployments: ['ns/chat'] }];
  /** Two models on the short type; of each the next step, ready replicas and what was published. */
  const stillAsked = (
    chat: { readonly step: number; readonly ready: number | null; readonly published: number },
    other: { readonly step: number; readonly ready: number; readonly published: number | null },
    left: readonly UnservedDemand[] = [unserved],
  ) => {
    const planned = (model: string, replicas: number): PlannedDeployment => ({
      id: `ns/${model}`,
      model,
      gpuType: 'A100',
      replicas,
      targetReplicas: replicas,
      utilization: 0,
      usdPerHour: 0,
      reason: '',
    });
    const plan = { deployments: [planned('chat', chat.step), planned('code', other.step)], unserved: left };
    return [...stillAskedFor(plan, { shortages, replicasOf: (id) => (id === 'ns/chat' ? chat : other) })];
  };
  const full = { step: 2, ready: 2, published: 2 };

  it('stay asked for where nothing else serves their demand', () => {
    expect(stillAsked({ step: 4, ready: 4, published: 6 }, full)).toEqual(['ns/chat']);
  });

  it('are let go where all demand is served, or another limit keeps the rest out', () => {
    expect(stillAsked({ step: 4, ready: 4, published: 6 }, full, [])).toEqual([]);
    expect(stillAsked({ step: 4, ready: 4, published: 6 }, full, [{ ...unserved, reason: 'budget' }])).toEqual([]);
  });

  it('are let go where the plan takes ready ones, or where nobody knows how many are ready', () => {
    expect(stillAsked({ step: 3, ready: 4, published: 6 }, full)).toEqual([]);
    expect(stillAsked({ step: 4, ready: null, published: 6 }, full)).toEqual([]);
  });

  it('are let go where another deployment grows on their type', () => {
    expect(stillAsked({ step: 4, ready: 4, published: 6 }, { step: 3, ready: 2, published: 2 })).toEqual([]);
    expect(stillAsked({ step: 4, ready: 4, published: 6 }, { step: 1, ready: 0, published: null })).toEqual([]);
  });
});

describe('a problem with shortages', () => {
  const shortage = { gpuType: 'A100', shortGpus: 2, usableGpus: 6, until: start, deployments: ['ns/chat'] };
  const planning = problem({
    deployments: [deployment()],
    pools: [
      { gpuType: 'A100', gpus: 16 },
      { gpuType: 'L20', gpus: 3 },
    ],
  });

  it('has pools of what ran, where that is less than is configured', () => {
    expect(withShortages(planning, [shortage]).pools).toEqual([
      { gpuType: 'A100', gpus: 6 },
      { gpuType: 'L20', gpus: 3 },
    ]);
    expect(withShortages(planning, [{ ...shortage, usableGpus: 20 }]).pools).toEqual(planning.pools);
  });

  it('has a pool for a type that had none, or an unlimited one', () => {
    const unlimited = problem({ pools: [{ gpuType: 'A100', gpus: null }] });
    expect(withShortages(unlimited, [shortage]).pools).toEqual([{ gpuType: 'A100', gpus: 6 }]);
    expect(withShortages(problem(), [shortage]).pools).toEqual([{ gpuType: 'A100', gpus: 6 }]);
  });

  it('is the same without any', () => {
    expect(withShortages(planning, [])).toBe(planning);
  });

  it('says of each what is short, who asked, what is used instead, and until when', () => {
    expect(stockOutNotices([shortage])).toEqual([
      {
        code: 'stock_out',
        message:
          'A100: 2 GPUs that ns/chat asked for did not come in time; planned with the 6 GPUs that ran then, until 2026-11-20T10:00:00.000Z',
      },
    ]);
    const many = { ...shortage, shortGpus: 1, usableGpus: 0.1 + 0.2, deployments: ['a/a', 'a/b', 'a/c', 'a/d'] };
    expect(stockOutNotices([many])[0]!.message).toBe(
      'A100: 1 GPU that a/a, a/b, a/c and 1 more asked for did not come in time; planned with the 0.3 GPUs that ran then, until 2026-11-20T10:00:00.000Z',
    );
  });
});

import { describe, expect, it } from 'vitest';
import type { TraceReading, TraceSource } from '../../src/core/ports.js';
import { formatTraceRecord } from '../../src/demand/trace-record.js';
import { deployment, profileText, World } from '../support/controller-world.js';

/** What engines tell that got so many requests/s. */
function told(rps: number): TraceReading {
  const arrivals = rps * 30;
  const buckets = arrivals === 0 ? [] : [{ inputTokens: 512, outputTokens: 128, count: arrivals }];
  const record = { intervalSeconds: 30, arrivals, pending: 0, queueing: 0, unknownLength: 0, buckets };
  return { kind: 'present', text: formatTraceRecord(record) };
}

/** 10:00:02 on a Friday. */
const startMs = Date.UTC(2026, 10, 20, 10, 0, 2);
const at1030 = { cron: '30 10 * * *', durationSeconds: 1800, rps: 3 };

/** Nothing is known of a model whose engines do not run: Prometheus has nothing to scrape. */
async function worldOf({
  replicas,
  reading = () => ({ kind: 'unknown' }),
  calendar = [at1030],
}: {
  readonly replicas: number;
  readonly reading?: (atSeconds: number) => TraceReading;
  readonly calendar?: readonly object[];
}): Promise<World> {
  const source: TraceSource = {
    input: 'prometheus',
    concern: null,
    identity: async () => ({ runId: 'prometheus', startedAtMs: 0 }),
    readTraces: async (keys) => keys.map(({ endSeconds }) => reading(endSeconds)),
    close: async () => {},
  };
  const world = new World({
    nowMs: startMs,
    deployments: [deployment({ name: 'gpu', currentReplicas: replicas, usdPerReplicaHour: 2 })],
    profiles: { gpu: profileText({ rps: 1 }) },
    config: {
      demand: { source: 'prometheus', intervalSeconds: 30 },
      prometheus: { url: 'http://unused' },
      forecast: { method: 'window', calendar },
      models: { llama: { scaleToZero: true } },
    },
    traceSource: () => source,
  });
  return world.start();
}

const state = (world: World) => [world.replicas('gpu'), world.held()];

async function until(world: World, minute: number): Promise<void> {
  while (world.nowMs < startMs + minute * 60_000) {
    await world.cycle();
    world.follow();
  }
}

describe('an event of the calendar', () => {
  it('wakes a model at zero of which nothing can be known, before it begins', async () => {
    const world = await worldOf({ replicas: 0 });
    await until(world, 20);
    expect(world.held()).toBe('no_traces');
    expect(world.replicas('gpu')).not.toBe(1);
    // Replicas need 180 s, the autoscaler 15 s, and the next plan comes 30 s later.
    await until(world, 27);
    expect(world.replicas('gpu')).toBe(1);
    // Nothing is told of its engine yet: what was asked for stays.
    expect(world.held()).toBe('no_traces');
    await until(world, 29);
    expect(state(world)).toEqual([1, 'no_traces']);
    await world.controller.stop();
  });

  it('wakes a model whose lengths are known with as many replicas as it needs', async () => {
    const quietFrom = startMs / 1000 + 120;
    const goneFrom = startMs / 1000 + 600;
    const world = await worldOf({
      replicas: 2,
      reading: (at) => (at < quietFrom ? told(2) : at < goneFrom ? told(0) : { kind: 'unknown' }),
    });
    expect(state(world)).toEqual([2, null]);
    await until(world, 9);
    expect(state(world)).toEqual([0, null]);
    await until(world, 20);
    expect(state(world)).toEqual([0, 'no_traces']);
    await until(world, 29);
    expect(state(world)).toEqual([3, 'no_traces']);
    await world.controller.stop();
  });

  it('moves nothing of a model that runs and of which nothing is known', async () => {
    const heardUntil = startMs / 1000 + 120;
    const world = await worldOf({
      replicas: 2,
      reading: (at) => (at < heardUntil ? told(2) : { kind: 'unknown' }),
    });
    await until(world, 40);
    expect(state(world)).toEqual([2, 'no_traces']);
    await world.controller.stop();
  });

  it('is needed for it: without one a model at zero sleeps on', async () => {
    for (const calendar of [[], [{ ...at1030, model: 'another' }], [{ ...at1030, rps: null, factor: 4 }]]) {
      const world = await worldOf({ replicas: 0, calendar });
      await until(world, 40);
      expect(world.held()).toBe('no_traces');
      expect(world.deployments.current.deployments[0]?.currentReplicas).toBe(0);
      await world.controller.stop();
    }
  });
});

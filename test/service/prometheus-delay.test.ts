import { describe, expect, it } from 'vitest';
import type { TraceSource } from '../../src/core/ports.js';
import { formatTraceRecord } from '../../src/demand/trace-record.js';
import { deployment, profileText, World } from '../support/controller-world.js';

/** Requests/s of each model at a moment; null = nothing is known of it. */
type Load = (model: string, atSeconds: number) => number | null;

/** A source that knows an interval as soon as its delay has passed, and not before, as Prometheus does. */
function delayed(
  { now }: { now(): number },
  {
    intervalSeconds,
    delaySeconds,
    load,
  }: { readonly intervalSeconds: number; readonly delaySeconds: number; readonly load: Load },
): TraceSource {
  return {
    input: 'prometheus',
    concern: null,
    identity: async () => ({ runId: 'prometheus', startedAtMs: 0 }),
    readTraces: async (keys) =>
      keys.map(({ model, endSeconds }) => {
        const rps = load(model, endSeconds);
        if (rps === null || now() / 1000 - delaySeconds < endSeconds) return { kind: 'unknown' };
        const arrivals = Math.round(rps * intervalSeconds);
        const text = formatTraceRecord({
          intervalSeconds,
          arrivals,
          pending: 0,
          queueing: 0,
          unknownLength: 0,
          buckets: arrivals === 0 ? [] : [{ inputTokens: 512, outputTokens: 128, count: arrivals }],
        });
        return { kind: 'present', text };
      }),
    close: async () => {},
  };
}

async function worldOf(intervalSeconds: number, delaySeconds: number, load: Load): Promise<World> {
  const models = ['one', 'two'];
  const world = new World({
    deployments: models.map((name) => deployment({ name, model: name, currentReplicas: 3, usdPerReplicaHour: 2 })),
    config: {
      demand: { source: 'prometheus', intervalSeconds, prometheus: { delaySeconds } },
      prometheus: { url: 'http://unused' },
    },
    traceSource: (clock) => delayed(clock, { intervalSeconds, delaySeconds, load }),
  });
  for (const name of models) await world.writeProfile(name, profileText({}), name);
  return world.start();
}

const numbers = (world: World) => ['one', 'two'].map((name) => world.replicas(name));
const holds = (world: World) => ['one', 'two'].map((name) => world.held(name));

const settings = [
  { interval: 30, delay: 5 },
  { interval: 30, delay: 45 },
  { interval: 30, delay: 110 },
  { interval: 15, delay: 60 },
  { interval: 10, delay: 60 },
  { interval: 60, delay: 120 },
  { interval: 1, delay: 120 },
] as const;

describe.each(settings)('intervals of $interval s that are asked for $delay s after their end', (given) => {
  const { interval, delay } = given;

  it('are planned for in every cycle, idle models and busy ones', async () => {
    const world = await worldOf(interval, delay, (model) => (model === 'one' ? 4 : 0));
    const cycles = Math.ceil(400 / interval);
    for (let i = 0; i < cycles; i += 1) {
      expect([numbers(world), holds(world)]).toEqual([
        [4, 1],
        [null, null],
      ]);
      await world.cycle();
    }
    await world.controller.stop();
  });

  it('hold busy models that are heard of no more, and only once that is late', async () => {
    let heardUntil = Number.POSITIVE_INFINITY;
    const world = await worldOf(interval, delay, (_, at) => (at <= heardUntil ? 4 : null));
    await world.cycles(3);
    heardUntil = world.nowMs / 1000;
    let heldAfterSeconds: number | null = null;
    const cycles = Math.ceil((5 * interval + delay + 60) / interval);
    for (let i = 0; i < cycles; i += 1) {
      await world.cycle();
      expect(numbers(world)).toEqual([4, 4]);
      if (holds(world)[0] === 'no_traces') heldAfterSeconds ??= world.nowMs / 1000 - heardUntil;
    }
    expect(holds(world)).toEqual(['no_traces', 'no_traces']);
    expect(heldAfterSeconds).toBeGreaterThan(delay);
    await world.controller.stop();
  });
});

import { afterEach, describe, expect, it, vi } from 'vitest';
import { createMemoryStore } from '../../src/adapters/memory-store.js';
import { DemandForecaster } from '../../src/demand/forecast.js';
import { deployment, profileText, World } from '../support/controller-world.js';

const gpu = deployment({ name: 'gpu', currentReplicas: 5 });
const auto = { method: 'auto' };

async function worldOf(forecast: object, options: Partial<ConstructorParameters<typeof World>[0]> = {}) {
  const world = new World({ deployments: [gpu], config: { forecast }, ...options });
  await world.writeProfile('gpu', profileText({ rps: 2 }));
  return world;
}

describe('the forecast of a live cycle', () => {
  it('of a fresh start is that of the window, and says how it came about', async () => {
    const world = await worldOf(auto);
    world.send('llama', { rps: 10 });
    await world.start();
    await world.cycles(24);
    expect(world.controller.models()[0]?.demand).toMatchObject({
      rps: 10,
      forecastRps: 10,
      forecast: { method: 'auto', horizonSeconds: 180 + 15 + 10, season: null, event: null },
    });
    await world.controller.stop();
  });

  it('knows after a restart what an earlier process learnt', async () => {
    const world = await worldOf(auto);
    world.send('llama', { rps: 10 });
    await world.start();
    await world.cycles(60);
    await world.controller.stop();
    const memory = JSON.parse((await world.store.readState('forecast:llama'))!);
    expect(memory.history.newest).toBeGreaterThanOrEqual(Math.floor(world.nowMs / 60_000) - 1);

    const next = await worldOf(auto, { store: world.store });
    next.nowMs = world.nowMs;
    next.send('llama', { rps: 10 });
    await next.start();
    await next.cycles(2);
    await next.controller.stop();
    const again = JSON.parse((await next.store.readState('forecast:llama'))!);
    expect(again.weighting.members).toEqual(memory.weighting.members);
    expect(again.history.minutes.length).toBeGreaterThanOrEqual(memory.history.minutes.length);
    expect(again.members.holt.lossWeight).toBeGreaterThanOrEqual(memory.members.holt.lossWeight);
  });

  it('is raised by the calendar, of a model that is idle too', async () => {
    const always = { cron: '* * * * *', durationSeconds: 120, rps: 30 };
    const world = await worldOf({ ...auto, calendar: [always] });
    world.send('llama', { rps: 10 });
    await world.start();
    await world.cycles(6);
    expect(world.controller.models()[0]?.demand).toMatchObject({ forecastRps: 30, forecast: { event: '* * * * *' } });
    world.send('llama', null);
    await world.cycles(40);
    expect(world.controller.models()[0]?.demand).toMatchObject({ idle: true, rps: 0, forecastRps: 30 });
    expect(world.controller.problem()?.models[0]?.demand[0]?.rps).toBe(30);
    await world.controller.stop();
  });

  it('of an idle model is 0 without a calendar', async () => {
    const world = await worldOf(auto);
    world.send('llama', { rps: 10 });
    await world.start();
    await world.cycles(30);
    world.send('llama', null);
    await world.cycles(40);
    expect(world.controller.models()[0]?.demand).toMatchObject({ idle: true, forecastRps: 0 });
    await world.controller.stop();
  });
});

/** Turns of the event loop from now on, until `stop`. */
function countTurns() {
  let turns = 0;
  let stopped = false;
  const turn = () => {
    turns += 1;
    if (!stopped) setImmediate(turn);
  };
  setImmediate(turn);
  return {
    now: () => turns,
    stop: () => {
      stopped = true;
    },
  };
}

describe('horizons of many models that change at once', () => {
  afterEach(() => {
    vi.restoreAllMocks();
  });

  it('are learnt by a few models a cycle, each in its own turn of the event loop, until all have', async () => {
    const names = Array.from({ length: 12 }, (_, i) => `m${i}`);
    const deployments = names.map((model) => deployment({ name: `gpu-${model}`, model }));
    const store = createMemoryStore({ now: () => 0 });
    const world = new World({ deployments, store, config: { forecast: auto } });
    const earlier = new DemandForecaster({ method: 'auto', quantile: 0.95, horizonSeconds: 600 });
    const lastMinute = Math.floor(world.nowMs / 60_000);
    earlier.rememberMinutes(
      Array.from({ length: 120 }, (_, i) => ({ endSeconds: 60 * (lastMinute - 119 + i), rps: 10 })),
    );
    for (const name of names) {
      await store.writeState(`forecast:${name}`, JSON.stringify(earlier.memory()));
      world.send(name, { rps: 10 });
    }

    const turns = countTurns();
    const learntAt: number[] = [];
    const forecast = DemandForecaster.prototype.forecast;
    vi.spyOn(DemandForecaster.prototype, 'forecast').mockImplementation(function (this: DemandForecaster, options) {
      const wasLearnt = this.isLearntFor(options.horizonSeconds);
      const said = forecast.call(this, options);
      if (!wasLearnt && this.isLearntFor(options.horizonSeconds)) learntAt.push(turns.now());
      return said;
    });
    const learntByCycle: number[] = [];
    await world.start();
    for (let cycle = 0; cycle < 4; cycle += 1) {
      learntByCycle.push(learntAt.length);
      await world.cycle();
      // Whoever waits plans with what was learnt before.
      expect(world.controller.models().map(({ demand }) => demand?.forecastRps)).toEqual(names.map(() => 10));
    }
    turns.stop();
    await world.controller.stop();
    expect(learntByCycle).toEqual([5, 10, 12, 12]);
    expect(new Set(learntAt).size).toBe(12);
    for (const name of names) {
      expect(JSON.parse((await store.readState(`forecast:${name}`))!).horizonSeconds).toBe(205);
    }
  });
});

import { describe, expect, it } from 'vitest';
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

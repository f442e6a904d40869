import { describe, expect, it } from 'vitest';
import { deployment, profileText, World } from '../support/controller-world.js';

const lengths = { inputTokens: 512, outputTokens: 256 };

/** One request/s at any length, each of which takes 40 s. */
function profile({ tellsLatency }: { readonly tellsLatency: boolean }): string {
  const seconds = [
    [40, 40],
    [40, 40],
  ];
  const text = JSON.parse(profileText({ rps: 1, slos: { percentile: 99 } }));
  return JSON.stringify(tellsLatency ? { ...text, e2e: seconds } : text);
}

/** Twenty minutes of ten requests/s that are explained: 400 in flight on ten replicas. */
async function steadyWorld(options: { readonly tellsLatency: boolean }): Promise<World> {
  const world = await new World({
    deployments: [deployment({ name: 'gpu', currentReplicas: 10 })],
    profiles: { gpu: profile(options) },
  }).start();
  await world.send('llama', { rps: 10, pending: 400, ...lengths }).cycles(120);
  return world;
}

/** Answers that became longer: for so many intervals half of what arrives does not end. */
async function growLonger(world: World, intervals: number): Promise<void> {
  for (let i = 1; i <= intervals; i += 1) {
    await world.send('llama', { rps: 10, completions: 50, pending: 400 + 50 * i, ...lengths }).cycle();
  }
}

describe('requests in flight that neither arrivals nor completed lengths explain', () => {
  it('are planned for beside the forecast, and plan, model and metrics say so', async () => {
    const world = await steadyWorld({ tellsLatency: true });
    const before = Number(world.replicas('gpu'));
    expect(world.controller.models()[0]!.demand!.inFlightSurplus).toEqual({ requests: 0, addedRps: 0 });
    expect(world.warnings()).not.toContain('in_flight_surplus');

    await growLonger(world, 12);
    const { demand } = world.controller.models()[0]!;
    expect(demand!.inFlightSurplus!.requests).toBeGreaterThan(200);
    expect(demand!.inFlightSurplus!.addedRps).toBeGreaterThan(2);
    const planned = world.controller.problem()!.models[0]!.demand.reduce((sum, { rps }) => sum + rps, 0);
    expect(planned).toBeCloseTo(demand!.forecastRps + demand!.inFlightSurplus!.addedRps, 6);
    expect(Number(world.replicas('gpu'))).toBeGreaterThan(before);
    expect(world.warnings()).toContain('in_flight_surplus');
  });

  it('are none where the counter of the gateway alone grows', async () => {
    const world = await steadyWorld({ tellsLatency: true });
    const before = world.replicas('gpu');
    for (let i = 1; i <= 24; i += 1) {
      await world.send('llama', { rps: 10, pending: 400 + 50 * i, ...lengths }).cycle();
    }
    expect(world.controller.models()[0]!.demand!.inFlightSurplus).toEqual({ requests: 0, addedRps: 0 });
    expect(world.replicas('gpu')).toBe(before);
  });

  it('are not judged without latencies in the profile', async () => {
    const world = await steadyWorld({ tellsLatency: false });
    const before = world.replicas('gpu');
    await growLonger(world, 12);
    expect(world.controller.models()[0]!.demand!.inFlightSurplus).toBeNull();
    expect(world.replicas('gpu')).toBe(before);
  });
});

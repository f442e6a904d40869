import { afterEach, describe, expect, it, vi } from 'vitest';
import type { FinishedInterval } from '../../../src/demand/gateway-trace.js';
import { createLivePolicy } from '../../../src/service/backtest/live-policy.js';
import type { DeploymentView, FleetView, Policy } from '../../../src/simulation/backtest/backtest.js';
import { interval, seen } from '../../simulation/policies/fleets.js';
import { catalogue, World } from '../../support/controller-world.js';
import { configOf, createStore, fleetOf, gpus, models } from './scenario.js';

afterEach(() => vi.restoreAllMocks());

const startMs = Date.UTC(2026, 0, 5, 8);
const fleet = await fleetOf();
const ids = fleet.members.map(({ deployment }) => deployment.id);

function policyOf(overrides: Partial<Parameters<typeof createLivePolicy>[0]> = {}): Policy {
  return createLivePolicy({
    config: configOf(),
    fleet,
    gpus,
    models,
    startMs,
    cadenceSeconds: 60,
    lagSeconds: 30,
    createStore,
    history: [],
    ...overrides,
  });
}

/** Ten-second records of so many requests/s, in the minute before a moment. */
function minuteOf(rps: number, nowMs: number): readonly FinishedInterval[] {
  return Array.from({ length: 6 }, (_, i) => interval(nowMs / 1000 - 50 + 10 * i, [[1024, 128, 10 * rps]]));
}

function viewAt(nowMs: number, rps: number, deployments: Readonly<Record<string, Partial<DeploymentView>>>): FleetView {
  return {
    nowMs,
    deployments: ids.map((id) => seen(id, deployments[id] ?? {})),
    queuedRequests: 0,
    intervals: minuteOf(rps, nowMs),
  };
}

/** Minutes of these rates, each decision done at once. */
async function follow(policy: Policy, rates: readonly number[]) {
  const replicas = new Map([[ids[0]!, 2]]);
  const decisions = [];
  for (const [minute, rps] of rates.entries()) {
    const wanted = Object.fromEntries([...replicas].map(([id, count]) => [id, { wanted: count, ready: count }]));
    const decision = await policy.decide(viewAt(startMs + 60_000 * (minute + 1), rps, wanted));
    for (const [id, count] of decision.replicas) replicas.set(id, count);
    decisions.push(decision);
  }
  return decisions;
}

describe('gpumix as a policy', () => {
  it('publishes what the controller does for the same records, cluster and profiles', async () => {
    const rates = [4, 4, 9, 9, 9, 3, 3, 3, 3, 3];
    const nowMs = startMs + 2000;
    const world = new World({
      nowMs,
      config: { demand: { intervalSeconds: 10 }, options: { nodeLimit: 20_000 } },
      deployments: fleet.members.map(({ configured, deployment }, i) => ({
        ...configured,
        id: deployment.id,
        usdPerReplicaHour: deployment.usdPerReplicaHour,
        currentReplicas: i === 0 ? 2 : 0,
        readyReplicas: i === 0 ? 2 : 0,
        pendingReplicas: 0,
        startupSeconds: 180,
        notices: [],
      })),
    });
    for (const { configured, deployment } of fleet.members) {
      const text = JSON.stringify({
        gpu: deployment.gpuType,
        cost: deployment.usdPerReplicaHour,
        created: 1,
        indexes: deployment.profile.indexes,
        tputs: deployment.profile.tputs,
      });
      await world.writeProfile(configured.name, text, fleet.model);
    }
    const policy = policyOf({ config: world.config, gpus: catalogue, cadenceSeconds: 10, startMs: nowMs });
    const replicas = new Map(ids.map((id, i) => [id, i === 0 ? 2 : 0]));
    await world.controller.start();
    const numbers: string[] = [];
    let readUntil = Math.floor(nowMs / 10_000) * 10;
    for (const rps of rates) {
      world.send(fleet.model, { rps, inputTokens: 1024, outputTokens: 128 });
      for (let i = 0; i < 6; i++) {
        await world.cycle();
        const until = Math.floor(world.nowMs / 10_000) * 10;
        const intervals = Array.from({ length: (until - readUntil) / 10 }, (_, n) =>
          interval(readUntil + 10 * (n + 1), [[1024, 128, 10 * rps]]),
        );
        readUntil = until;
        const decision = await policy.decide({
          nowMs: world.nowMs,
          queuedRequests: 0,
          intervals,
          deployments: ids.map((id) => seen(id, { wanted: replicas.get(id)!, ready: replicas.get(id)! })),
        });
        const published = Object.fromEntries(
          fleet.members.flatMap(({ configured, deployment }) => {
            const number = world.replicas(configured.name);
            return typeof number === 'number' ? [[deployment.id, number]] : [];
          }),
        );
        expect(Object.fromEntries(decision.replicas)).toEqual(published);
        for (const [id, count] of decision.replicas) replicas.set(id, count);
        numbers.push(JSON.stringify(published));
        world.follow();
      }
    }
    await world.controller.stop();
    // It was no calm walk.
    expect(new Set(numbers).size).toBeGreaterThan(2);
  });

  it('plans for the replicas that are ready and the ones that start, as a cluster tells them', async () => {
    const policy = policyOf();
    const [decision] = await follow(policy, [8]);
    const total = [...decision!.replicas.values()].reduce((sum, count) => sum + count, 0);
    expect(total).toBeGreaterThan(0);
    expect(decision!.forecastRps).toBeGreaterThan(0);
    // Its router knows when a replica of any of them is full, by their profiles.
    expect([...decision!.routing!.fullInFlight.keys()].sort()).toEqual([...ids].sort());
    for (const full of decision!.routing!.fullInFlight.values()) expect(full).toBeGreaterThan(5);
    // Shares lead to what is ready: the two of the first type, whatever the plan would start.
    expect(decision!.routing!.shares.length).toBeGreaterThan(0);
    for (const { to } of decision!.routing!.shares) {
      expect(to.map(({ deployment }) => deployment)).toEqual([ids[0]]);
    }
  });

  it('changes nothing while it knows nothing: before the first records what runs stays', async () => {
    const at = viewAt(startMs, 0, { [ids[0]!]: { wanted: 2, ready: 2 } });
    const decision = await policyOf().decide({ ...at, intervals: [] });
    expect(ids.map((id) => decision.replicas.get(id) ?? at.deployments.find((each) => each.id === id)!.wanted)).toEqual(
      [2, 0, 0],
    );
    expect(decision.routing?.shares ?? []).toEqual([]);
  });

  it('knows the rates of before: a history at twice the rate is planned for at once', async () => {
    const history = Array.from({ length: 600 }, (_, i) => ({ endSeconds: startMs / 1000 - 60 * (599 - i), rps: 40 }));
    const [without] = await follow(policyOf(), [8]);
    const [withHistory] = await follow(policyOf({ history }), [8]);
    expect(withHistory!.forecastRps!).toBeGreaterThan(1.5 * without!.forecastRps!);
  });

  it('fails where the service would hold its numbers for a fault of its own: nobody reads its log here', async () => {
    const history = [{ endSeconds: startMs / 1000 - 30, rps: 8 }];
    await expect(follow(policyOf({ history }), [8])).rejects.toThrow('gpumix failed in its phase demand');
  });

  it('does the same again, to the byte, and sets no timer and reads no clock', async () => {
    const now = vi.spyOn(Date, 'now');
    const timers = [vi.spyOn(globalThis, 'setTimeout'), vi.spyOn(globalThis, 'setInterval')];
    const rates = [4, 6, 9, 9, 2, 2, 2, 7];
    const [first, second] = [await follow(policyOf(), rates), await follow(policyOf(), rates)];
    const text = (decisions: typeof first) =>
      JSON.stringify(decisions.map(({ replicas, ...rest }) => ({ ...rest, replicas: [...replicas] })));
    expect(text(second)).toBe(text(first));
    expect(now).not.toHaveBeenCalled();
    for (const timer of timers) expect(timer).not.toHaveBeenCalled();
  });
});

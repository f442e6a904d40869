import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPrometheusDemand } from '../../src/adapters/prometheus-demand.js';
import { deployment, profileText, World } from '../support/controller-world.js';
import { engineHistory, historySettings, steadyRequests } from '../support/engine-history.js';
import { type PrometheusServer, prometheusMissing, startPrometheus } from '../support/prometheus-server.js';

if (prometheusMissing !== null) console.log(`service/prometheus-lost-targets: ${prometheusMissing}`);

const startSeconds = Date.UTC(2026, 0, 5) / 1000;
const durationS = 1800;
const lostS = 700;

describe.skipIf(prometheusMissing !== null)('three of four engines that are no targets of Prometheus any more', () => {
  let prometheus: PrometheusServer;

  beforeAll(async () => {
    const engines = ['0', '1', '2', '3'].map((n) => ({
      pod: `gpu-${n}`,
      model: 'llama',
      toS: n === '0' ? durationS : lostS,
      requests: steadyRequests({ rps: 1, fromS: 0, toS: durationS }),
      scrapeEveryS: 15,
    }));
    prometheus = await startPrometheus([], { history: engineHistory(engines, { startSeconds, durationS }) });
  });
  afterAll(() => prometheus?.stop());

  async function worldAt(seconds: number, readyReplicas: number | null): Promise<World> {
    return new World({
      nowMs: (startSeconds + seconds) * 1000,
      deployments: [deployment({ name: 'gpu', currentReplicas: 4, readyReplicas, usdPerReplicaHour: 2 })],
      profiles: { gpu: profileText({}) },
      config: {
        demand: { source: 'prometheus', intervalSeconds: 30 },
        prometheus: { url: prometheus.url },
      },
      traceSource: (clock) => createPrometheusDemand({ ...historySettings, url: prometheus.url }, clock),
    }).start();
  }
  const concern = (world: World) => world.controller.inputs().find(({ input }) => input === 'prometheus')?.problem;
  const tooFew =
    'found engines of llama: 1, expected about as many as the 4 of its replicas that are ready: does Prometheus still scrape them all?';

  it('never scale anything down while their replicas are ready', async () => {
    const world = await worldAt(600, 4);
    expect([world.replicas('gpu'), world.held(), concern(world)]).toEqual([4, null, null]);
    for (let i = 0; i < 36; i += 1) {
      await world.cycle();
      expect(world.replicas('gpu')).toBe(4);
    }
    expect(world.held()).toBe('no_traces');
    expect(concern(world)).toContain(tooFew);
    await world.controller.stop();
  });

  it('are not taken for a quiet time by a service that starts after that', async () => {
    const world = await worldAt(durationS - 100, 4);
    expect([world.replicas('gpu'), world.held()]).toEqual(['not-known', 'no_traces']);
    expect(concern(world)).toContain(tooFew);
    await world.controller.stop();
  });

  it('are gone where the cluster says so, or says nothing', async () => {
    for (const readyReplicas of [1, null]) {
      const world = await worldAt(durationS - 100, readyReplicas);
      expect([world.replicas('gpu'), world.held(), concern(world)]).toEqual([1, null, null]);
      await world.controller.stop();
    }
  });
});

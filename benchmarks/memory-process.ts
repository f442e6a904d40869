import { randomUUID } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { loadGpuCatalogue, loadModelCatalogue } from '../src/adapters/catalogue-file.js';
import { createMemoryStore } from '../src/adapters/memory-store.js';
import { PlanningThread } from '../src/adapters/planning-thread.js';
import { createStoreProfiles } from '../src/adapters/profile-source.js';
import type { DeploymentSource } from '../src/core/ports.js';
import { configSchema } from '../src/service/config.js';
import { createConfiguredDeployments } from '../src/service/configured-deployments.js';
import { Controller } from '../src/service/controller.js';
import { createLogger } from '../src/service/log.js';
import { createMetrics } from '../src/service/metrics.js';
import { fleetDeployments, fleetRecords, intervalSeconds, writeFleetProfiles } from './large-fleet.js';

/**
 * A process that runs the controller with its planning threads through simulated hours, one cycle after the other, and
 * says how much memory it holds after collections on demand. Started by the `memory` benchmark with `--expose-gc`.
 */
export type MemoryTask = {
  readonly models: number;
  readonly hours: number;
  /** Between two readings [simulated minutes]. */
  readonly everyMinutes: number;
};

export type MemoryReading = {
  /** Simulated time since the start. */
  readonly minutes: number;
  readonly cycles: number;
  /** Alive in the heap of the main thread, and outside of it, after a collection [MB]. */
  readonly heapMb: number;
  /** Of the whole process, as the kernel counts it [MB]. */
  readonly rssMb: number;
};

if (process.send !== undefined) {
  process.once('message', async (task: MemoryTask) => {
    await runFleet(task, (reading) => process.send!(reading));
    process.send!(null);
    process.disconnect();
  });
}

async function runFleet({ models, hours, everyMinutes }: MemoryTask, tell: (reading: MemoryReading) => void) {
  const startMs = Date.UTC(2026, 0, 5);
  const endMs = startMs + hours * 3_600_000;
  let nowMs = startMs;
  const clock = { now: () => nowMs };
  const timers = new Set<{ readonly atMs: number; readonly callback: () => void }>();
  const catalogue = await loadGpuCatalogue();
  const config = configSchema.parse({
    redis: { url: 'redis://unused' },
    deployments: { source: 'config', list: fleetDeployments(models) },
  });
  const store = createMemoryStore(clock);
  await writeFleetProfiles(store, models);
  const deployments = followedFleet(createConfiguredDeployments(config.deployments.list, catalogue));
  const threads = [new PlanningThread(), new PlanningThread(), new PlanningThread()] as const;
  const controller = new Controller({
    config,
    clock,
    steadyMs: () => performance.now(),
    timer: (delayMs, callback) => {
      const timer = { atMs: nowMs + delayMs, callback };
      timers.add(timer);
      return () => timers.delete(timer);
    },
    store,
    profiles: createStoreProfiles(store),
    deployments,
    consumers: null,
    gpuNodes: null,
    actuation: null,
    engineMetrics: null,
    traceSource: null,
    planner: threads[0],
    whatIfPlanner: threads[1],
    explainer: threads[2],
    catalogue,
    modelCatalogue: await loadModelCatalogue(),
    logger: await createLogger({ level: 'info', to: { write: () => undefined }, pretty: false }),
    newId: randomUUID,
  });
  const metrics = createMetrics(controller);
  let ended: () => void = () => undefined;
  controller.onCycle(() => ended());
  let cycles = 0;
  let written = startMs;
  let readAtMs = startMs + everyMinutes * 60_000;
  await controller.start();
  while (nowMs < endMs) {
    const next = [...timers].sort((a, b) => a.atMs - b.atMs)[0];
    if (next === undefined) throw new Error('no cycle is scheduled');
    nowMs = Math.max(nowMs, next.atMs);
    for (; written + intervalSeconds * 1000 <= nowMs; ) {
      written += intervalSeconds * 1000;
      await store.writeTraces(fleetRecords(models, written / 1000));
    }
    timers.delete(next);
    const end = new Promise<void>((resolve) => {
      ended = resolve;
    });
    next.callback();
    await end;
    await nextTurn();
    cycles += 1;
    // As an autoscaler and a Prometheus would.
    deployments.follow(controller);
    if (cycles % 3 === 0) await metrics.render();
    if (nowMs >= readAtMs) {
      tell({ minutes: Math.round((nowMs - startMs) / 60_000), cycles, ...(await memoryNow()) });
      readAtMs += everyMinutes * 60_000;
    }
  }
  metrics.close();
  await controller.stop();
  await Promise.all(threads.map((thread) => thread.close()));
}

async function memoryNow(): Promise<Pick<MemoryReading, 'heapMb' | 'rssMb'>> {
  if (globalThis.gc === undefined) throw new Error('this process needs --expose-gc');
  // Finalizers of a collection free more for the next one.
  for (let i = 0; i < 3; i += 1) {
    globalThis.gc();
    await nextTurn();
  }
  const { heapUsed, external, rss } = process.memoryUsage();
  return { heapMb: (heapUsed + external) / 1e6, rssMb: rss / 1e6 };
}

/** What was published runs, and is ready, with the next cycle. */
function followedFleet(configured: DeploymentSource): DeploymentSource & { follow(controller: Controller): void } {
  let snapshot = configured.snapshot();
  return {
    ...configured,
    snapshot: () => snapshot,
    follow(controller) {
      const deployments = snapshot.deployments.map((deployment) => {
        const published = controller.replicasOf(deployment.namespace, deployment.name);
        const replicas = published.kind === 'known' ? published.replicas : 0;
        return { ...deployment, currentReplicas: replicas, readyReplicas: replicas, pendingReplicas: 0 };
      });
      snapshot = { ...snapshot, deployments };
    },
  };
}

import { afterEach, describe, expect, it } from 'vitest';
import { KubernetesConsumers } from '../../src/adapters/kubernetes/consumer-source.js';
import { scaleTarget } from '../../src/adapters/kubernetes/scale-kinds.js';
import type { ConsumerSnapshot } from '../../src/core/ports.js';
import { loopbackAccess } from '../../src/service/access.js';
import { type OtherScalers, otherScalers } from '../../src/service/actuation/other-scalers.js';
import { buildApp } from '../../src/service/http/app.js';
import { readinessSchema } from '../../src/service/http/schemas.js';
import { createLogger } from '../../src/service/log.js';
import { createMetrics } from '../../src/service/metrics.js';
import { ActuatedCluster } from '../support/actuated-cluster.js';
import { profileText, unreachable, World } from '../support/controller-world.js';
import type { FakeApiServer } from '../support/fake-api-server.js';
import { type FollowedDeployments, followDeployments } from '../support/followed-deployments.js';
import { manifest } from '../support/test-cluster.js';

/**
 * From traces to replicas in a cluster: the controller, the watch on Deployments and the client of `scale` are the real
 * ones, the API server is the loopback one, the clock is the test's own.
 */

const nowMs = Date.UTC(2026, 10, 20, 10, 0, 2);
const id = 'default/llama-a100';

type Fleet = {
  readonly world: World;
  readonly actuated: ActuatedCluster;
  readonly followed: FollowedDeployments;
  readonly consumers: KubernetesConsumers;
  /** A cycle, all that it leads to, and the watch that sees it. */
  cycle(): Promise<void>;
  replicas(): number;
};

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

async function start(
  options: {
    readonly config?: Readonly<Record<string, unknown>>;
    readonly replicas?: number;
    /** What the cluster is like before anybody looks at it. */
    readonly before?: (server: FakeApiServer) => void;
  } = {},
): Promise<Fleet> {
  const time: { world: World | null } = { world: null };
  const now = () => time.world?.nowMs ?? nowMs;
  const others: { known: OtherScalers | null } = { known: null };
  const actuated = await ActuatedCluster.start({
    clock: { now },
    steadyMs: now,
    otherScalers: (deployment) => others.known!(deployment),
  });
  const access = { kubeconfig: actuated.cluster.kubeconfig };
  options.before?.(actuated.cluster.server);
  const run = (annotations = {}) =>
    actuated.cluster.server.put(
      manifest({ name: 'llama-a100', model: 'llama', replicas: options.replicas ?? 2, annotations }),
    );
  run({ 'gpumix.dev/gpu-type': 'A100-80GB' });
  const followed = await followDeployments(access, { clock: { now } });
  const consumers = new KubernetesConsumers({
    access,
    clock: { now },
    timing: { backoffMs: 2, longestBackoffMs: 10, steadyMs: 0, absentMs: 20 },
  });
  others.known = otherScalers(consumers);
  await followed.until(({ synced }) => synced);
  const world = new World({
    nowMs,
    config: options.config ?? {},
    profiles: { 'llama-a100': profileText({}) },
    deploymentSource: followed.source,
    consumerSource: consumers,
    actuation: { actuator: actuated.actuator, targetOf: (deployment) => scaleTarget(null, deployment) },
  });
  time.world = world;
  const replicas = () => actuated.replicas('llama-a100', 'default');
  const cycle = async (): Promise<void> => {
    await world.cycle();
    await actuated.settled();
    // Pods start at once, or what never starts would be a stock-out.
    await actuated.cluster.write.patchStatus(id, { replicas: replicas(), readyReplicas: replicas() });
    if (followed.source.snapshot().staleSince !== null) return;
    await followed.untilDeployment(
      id,
      ({ currentReplicas, readyReplicas }) => currentReplicas === replicas() && readyReplicas === replicas(),
    );
  };
  stops.push(() => actuated.stop());
  stops.push(() => world.controller.stop());
  world.send('llama', { rps: 4 });
  await world.skip(60);
  await world.start();
  await seen(consumers, ({ settled }) => settled);
  await actuated.settled();
  return { world, actuated, followed, consumers, cycle, replicas };
}

/** Resolves as soon as the view of what scales fits. */
function seen(consumers: KubernetesConsumers, fits: (snapshot: ConsumerSnapshot) => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = () => {
      if (fits(consumers.snapshot())) resolve();
    };
    consumers.onChange(look);
    look();
  });
}

const autoscaler = {
  apiVersion: 'autoscaling/v2',
  kind: 'HorizontalPodAutoscaler',
  metadata: { namespace: 'default', name: 'llama-hpa' },
  spec: { maxReplicas: 50, scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'llama-a100' } },
};

describe('what is planned', () => {
  it('lands in the cluster, up and down, with its sentence on the Deployment', async () => {
    const { world, actuated, cycle, replicas } = await start();
    await cycle();
    expect(world.replicas('llama-a100')).toBe(4);
    expect(replicas()).toBe(4);
    world.send('llama', { rps: 1 });
    for (let index = 0; index < 30; index += 1) await cycle();
    expect(replicas()).toBe(1);
    expect(actuated.events().map(({ reason }) => reason)).toEqual(['ScaledUp', 'ScaledDown']);
    const [model] = world.controller.models();
    expect(model!.deployments[0]!.actuation).toMatchObject({ state: 'landed' });
  });

  it('makes a step of one above ten replicas, which an HPA would not', async () => {
    const { world, cycle, replicas } = await start({ replicas: 20 });
    world.send('llama', { rps: 20 });
    for (let index = 0; index < 30; index += 1) await cycle();
    expect(replicas()).toBe(20);
    world.send('llama', { rps: 21 });
    for (let index = 0; index < 30; index += 1) await cycle();
    expect(replicas()).toBe(21);
  });

  it('and fixed by a person lands at once, also while Redis is down', async () => {
    const { world, cycle, replicas } = await start();
    await cycle();
    world.storeFault = unreachable;
    await cycle();
    await world.controller.fixReplicas('default', 'llama-a100', 7, null);
    await cycle();
    expect(world.held()).toBe('redis_unreachable');
    expect(replicas()).toBe(7);
  });
});

describe('a deployment that something else scales', () => {
  it('is left alone, which is said once, and is scaled when that is gone', async () => {
    const { world, actuated, consumers, cycle, replicas } = await start({ before: (server) => server.put(autoscaler) });
    for (let index = 0; index < 6; index += 1) await cycle();
    world.storeFault = unreachable;
    await cycle();
    world.storeFault = null;
    await cycle();
    expect(world.replicas('llama-a100')).toBe(4);
    expect(replicas()).toBe(2);
    expect(actuated.scaleRequests()).toEqual([]);
    const why = 'HorizontalPodAutoscaler default/llama-hpa scales it: gpumix leaves it alone';
    expect(actuated.warnings()).toEqual([`default/llama-a100 is not scaled: ${why}`]);
    const [model] = world.controller.models();
    expect(model!.deployments[0]).toMatchObject({
      actuation: { state: 'withheld', why: 'other_scaler' },
      landing: { landed: false },
    });
    expect(model!.deployments[0]!.notices).toContainEqual({ code: 'other_scaler', message: why });
    actuated.cluster.server.remove('default', 'llama-hpa', 'horizontalpodautoscalers');
    await seen(consumers, (snapshot) => snapshot.consumers.length === 0);
    await cycle();
    expect(replicas()).toBe(4);
  });

  it('is left alone from the moment that something else begins to', async () => {
    const { world, actuated, consumers, cycle, replicas } = await start();
    await cycle();
    expect(replicas()).toBe(4);
    actuated.cluster.server.put(autoscaler);
    await seen(consumers, (snapshot) => snapshot.consumers.length === 1);
    world.send('llama', { rps: 9 });
    for (let index = 0; index < 30; index += 1) await cycle();
    expect(world.replicas('llama-a100')).toBe(9);
    expect(replicas()).toBe(4);
  });

  it('is not touched before anybody may read what scales it; readiness says which right is missing', async () => {
    const { world, actuated, consumers, cycle, replicas } = await start({
      before: (server) => {
        server.fault = ({ resource }) =>
          resource === 'horizontalpodautoscalers' ? { kind: 'answer', status: 403 } : undefined;
      },
    });
    for (let index = 0; index < 6; index += 1) await cycle();
    expect(world.replicas('llama-a100')).toBe(4);
    expect(actuated.scaleRequests()).toEqual([]);
    expect(actuated.actuator.view()).toMatchObject({ withheld: { scalers_unknown: 1 } });
    expect(actuated.actuator.view().problem).toContain(
      '(needs list and watch on horizontalpodautoscalers.autoscaling)',
    );
    actuated.cluster.server.fault = () => undefined;
    await seen(consumers, ({ unread }) => unread.length === 0);
    await cycle();
    expect(replicas()).toBe(4);
    expect(actuated.actuator.view().problem).toBeNull();
  });

  it('stays left alone when the right to see that is taken away', async () => {
    const { world, actuated, consumers, cycle, replicas } = await start({ before: (server) => server.put(autoscaler) });
    const { server } = actuated.cluster;
    const watch = await server.openWatch('horizontalpodautoscalers');
    server.fault = ({ resource }) =>
      resource === 'horizontalpodautoscalers' ? { kind: 'answer', status: 403 } : undefined;
    watch.close();
    await seen(consumers, ({ problems }) => problems.length > 0);
    world.send('llama', { rps: 9 });
    for (let index = 0; index < 30; index += 1) await cycle();
    expect(world.replicas('llama-a100')).toBe(9);
    expect(replicas()).toBe(2);
    expect(actuated.actuator.of('default/llama-a100')).toMatchObject({ why: 'other_scaler' });
  });
});

describe('an autoscaler that is made while nobody may see it', () => {
  it('is not fought: what it has raised stays, until it can be seen', async () => {
    const { world, actuated, consumers, cycle, replicas } = await start();
    await cycle();
    expect(replicas()).toBe(4);
    const { server } = actuated.cluster;
    const watch = await server.openWatch('horizontalpodautoscalers');
    server.fault = ({ resource }) =>
      resource === 'horizontalpodautoscalers' ? { kind: 'answer', status: 403 } : undefined;
    watch.close();
    await seen(consumers, ({ problems }) => problems.length > 0);
    server.put(autoscaler);
    await actuated.cluster.write.patch(id, { spec: { replicas: 12 } });
    for (let index = 0; index < 60; index += 1) await cycle();
    expect(world.replicas('llama-a100')).toBe(4);
    expect(replicas()).toBe(12);
    expect(actuated.actuator.view()).toMatchObject({ withheld: { scalers_unknown: 1 } });
    server.fault = () => undefined;
    await seen(consumers, ({ unread }) => unread.length === 0);
    await cycle();
    expect(actuated.actuator.of('default/llama-a100')).toMatchObject({ why: 'other_scaler' });
  });
});

describe('landing, where gpumix itself scales', () => {
  it('is its own doing, and what keeps it from it is what people are told', async () => {
    const { world, actuated, cycle } = await start();
    for (let index = 0; index < 2; index += 1) await cycle();
    const viewed = () => world.controller.models()[0]!.deployments[0]!;
    expect(viewed()).toMatchObject({ replicas: 4, landing: { landed: true, notLandedSeconds: 0 } });
    actuated.cluster.server.fault = ({ path }) =>
      path.endsWith('/scale') ? { kind: 'answer', status: 403 } : undefined;
    world.send('llama', { rps: 9 });
    for (let index = 0; index < 95; index += 1) await cycle();
    expect(viewed()).toMatchObject({ replicas: 9, currentReplicas: 4, landing: { landed: false } });
    const told = viewed().notices.filter(({ code }) => code === 'not_landed');
    expect(told).toHaveLength(1);
    expect(told[0]!.message).toMatch(/now for 4 instead of 9: gpumix has not scaled it: GET http.*403/);
  });
});

describe('nothing scales down because of a fault', () => {
  it.each(['Redis is gone', 'plans fail'] as const)('%s', async (fault) => {
    const fleet = await start();
    await fleet.cycle();
    expect(fleet.replicas()).toBe(4);
    if (fault === 'Redis is gone') fleet.world.storeFault = unreachable;
    else {
      fleet.world.planFault = () => {
        throw new Error('no memory');
      };
    }
    fleet.world.send('llama', { rps: 1 });
    const before = fleet.actuated.scaleRequests('PATCH').length;
    for (let index = 0; index < 40; index += 1) await fleet.cycle();
    expect(fleet.replicas()).toBe(4);
    expect(fleet.actuated.scaleRequests('PATCH')).toHaveLength(before);
    expect(fleet.actuated.actuator.view().withheld.held).toBe(1);
  });

  it('the API server is gone, and comes back with what people changed meanwhile', async () => {
    const { world, actuated, followed, cycle, replicas } = await start();
    await cycle();
    await actuated.cluster.network.cut();
    await followed.until(({ staleSince }) => staleSince !== null);
    world.send('llama', { rps: 1 });
    for (let index = 0; index < 40; index += 1) await cycle();
    expect(replicas()).toBe(4);
    expect(world.held()).toBe('kubernetes_unreachable');
    actuated.cluster.server.put({
      ...manifest({ name: 'llama-a100', model: 'llama', replicas: 9, annotations: { 'gpumix.dev/paused': 'true' } }),
    });
    await actuated.cluster.network.connect();
    await followed.untilDeployment('default/llama-a100', ({ paused }) => paused);
    for (let index = 0; index < 10; index += 1) await cycle();
    expect(replicas()).toBe(9);
    expect(actuated.actuator.of('default/llama-a100')).toMatchObject({ state: 'withheld', why: 'paused' });
  });

  it('shadow mode writes nothing at all', async () => {
    const { actuated, cycle, replicas } = await start({ config: { publish: { mode: 'shadow' } } });
    for (let index = 0; index < 5; index += 1) await cycle();
    expect(replicas()).toBe(2);
    expect(actuated.scaleRequests()).toEqual([]);
  });
});

describe('a permission that is missing', () => {
  it('is what readiness says, while the service stays ready; metrics count it', async () => {
    const { world, actuated, cycle } = await start();
    actuated.cluster.server.fault = ({ path }) =>
      path.endsWith('/scale') ? { kind: 'answer', status: 403 } : undefined;
    world.send('llama', { rps: 9 });
    for (let index = 0; index < 30; index += 1) await cycle();
    const logger = await createLogger({ level: 'silent', to: { write: () => undefined }, pretty: false });
    const metrics = createMetrics(world.controller);
    const { controller } = world;
    const app = buildApp({
      view: controller,
      commands: controller,
      metrics,
      logger,
      version: '0.0.0',
      access: loopbackAccess,
    });
    stops.push(async () => {
      await app.close();
      metrics.close();
    });
    const readiness = await app.inject('/readyz');
    expect(readiness.statusCode).toBe(200);
    const body = readinessSchema.parse(readiness.json());
    expect(body.detail).toContain('1 deployment cannot be scaled in default: RBAC must allow apiGroups ["apps"]');
    expect(body.actuation).toMatchObject({ mode: 'scale', failing: { forbidden: 1 } });
    const text = (await app.inject('/metrics')).body;
    expect(text).toMatch(/gpumix_scale_writes_total\{result="forbidden"\} [1-9]/);
    expect(text).toContain('gpumix_scale_writes_total{result="scaled_down"} 0');
    expect(text).toContain('gpumix_scale_failing_deployments{fault="forbidden"} 1');
    expect(text).toContain('gpumix_scale_withheld_deployments{reason="held"} 0');
  });
});

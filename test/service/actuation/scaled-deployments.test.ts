import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KubernetesScaleClient } from '../../../src/adapters/kubernetes/scale-client.js';
import { scaleTarget } from '../../../src/adapters/kubernetes/scale-kinds.js';
import type { ScaleAnswer, ScaleClient, ScaleFaultName } from '../../../src/core/scale.js';
import { ScaledDeployments } from '../../../src/service/actuation/scaled-deployments.js';
import { deployment } from '../../support/controller-world.js';
import type { Fault } from '../../support/fake-api-server.js';
import { type FakeCluster, manifest, startFakeCluster } from '../../support/test-cluster.js';

let cluster: FakeCluster;
let source: ScaledDeployments;
let nowMs: number;
let next: (() => void) | null;
const logged: string[] = [];

beforeEach(async () => {
  cluster = await startFakeCluster();
  nowMs = 1_000_000;
  logged.length = 0;
  const log = (_: object, message: string) => void logged.push(message);
  source = new ScaledDeployments({
    listed: ['a', 'b'].map((name) => deployment({ name, namespace: 'prod', currentReplicas: null })),
    targetOf: (each) => scaleTarget(null, each),
    client: new KubernetesScaleClient({ access: { kubeconfig: cluster.kubeconfig } }),
    clock: { now: () => nowMs },
    timer: (_delayMs, callback) => {
      next = callback;
      return () => {
        next = null;
      };
    },
    intervalMs: 10_000,
    log: { warn: log, info: log },
  });
  cluster.server.put(manifest({ namespace: 'prod', name: 'a', replicas: 3 }));
  cluster.server.put(manifest({ namespace: 'prod', name: 'b', replicas: 0 }));
  await source.start();
});
afterEach(async () => {
  await source.stop();
  await cluster.stop();
});

/** The next reading, ten seconds later. */
async function read(): Promise<void> {
  nowMs += 10_000;
  const told = new Promise<void>((resolve) => source.onChange(resolve));
  next!();
  await told;
}

const current = () => source.snapshot().deployments.map(({ currentReplicas }) => currentReplicas);

describe('listed deployments that are scaled', () => {
  it('are not synced before they were read, and then run what their scale says', async () => {
    expect(source.snapshot()).toMatchObject({ synced: false });
    expect(current()).toEqual([null, null]);
    await read();
    expect(source.snapshot()).toMatchObject({ synced: true, staleSince: null });
    expect(current()).toEqual([3, 0]);
    cluster.server.put(manifest({ namespace: 'prod', name: 'a', replicas: 5 }));
    await read();
    expect(current()).toEqual([5, 0]);
  });

  it('keep what ran while the server is gone, and the view says since when', async () => {
    await read();
    const freshAt = nowMs;
    await cluster.network.cut();
    for (let index = 0; index < 10; index += 1) await read();
    expect(source.snapshot()).toMatchObject({ synced: true, staleSince: freshAt });
    expect(current()).toEqual([3, 0]);
    expect(logged).toEqual([expect.stringContaining('scale cannot be read: GET http')]);
    await cluster.network.connect();
    await read();
    expect(source.snapshot()).toMatchObject({ staleSince: null, problem: null });
    expect(logged.at(-1)).toBe('scale can be read again');
  });

  it('that single ones of cannot be read hold no other, and are not known after a minute', async () => {
    await read();
    const broken: Fault = { kind: 'answer', status: 500 };
    cluster.server.fault = ({ path }) => (path.includes('/a/') ? broken : undefined);
    await read();
    expect(current()).toEqual([3, 0]);
    const [a, b] = source.snapshot().deployments;
    expect(a!.notices).toMatchObject([{ code: 'unreadable_scale', message: expect.stringContaining('prod/a') }]);
    expect(b!.notices).toEqual([]);
    for (let index = 0; index < 6; index += 1) await read();
    expect(current()).toEqual([null, 0]);
    expect(source.snapshot().staleSince).toBeNull();
  });

  it('that is not there is not known at once', async () => {
    await read();
    cluster.server.remove('prod', 'a');
    await read();
    expect(current()).toEqual([null, 0]);
  });
});

describe('a hundred listed deployments', () => {
  const known: ScaleAnswer = { kind: 'scale', scale: { replicas: 2, resourceVersion: '1', uid: null } };
  const failed = (fault: ScaleFaultName): ScaleAnswer => ({
    kind: 'fault',
    fault,
    message: 'not now',
    retryAfterSeconds: null,
  });
  const listed = Array.from({ length: 100 }, (_, index) => deployment({ name: `d${index}`, namespace: 'prod' }));

  /** @param answerOf what the server says to the n-th question of a pass */
  function readBy(answerOf: (question: number, pass: number) => ScaleAnswer) {
    let asked = 0;
    let passes = 0;
    let timer: () => void = () => undefined;
    const client: Pick<ScaleClient, 'start' | 'read'> = {
      start: async () => undefined,
      read: async () => answerOf(asked++, passes),
    };
    const view = new ScaledDeployments({
      listed,
      targetOf: (each) => scaleTarget(null, each),
      client: client as ScaleClient,
      clock: { now: () => nowMs },
      timer: (_delayMs, callback) => {
        timer = callback;
        return () => undefined;
      },
      intervalMs: 10_000,
      log: { warn: () => undefined, info: () => undefined },
    });
    const started = view.start();
    /** How many were asked for. */
    const pass = async (): Promise<number> => {
      await started;
      nowMs += 10_000;
      asked = 0;
      passes += 1;
      const told = new Promise<void>((resolve) => view.onChange(resolve));
      timer();
      await told;
      return asked;
    };
    return { view, pass };
  }

  it('are not all asked for of a server that is gone: the view says soon that it is stale', async () => {
    const { view, pass } = readBy((_, passes) => (passes === 1 ? known : failed('unreachable')));
    expect(await pass()).toBe(100);
    // Others may be under way when the eighth fails.
    expect(await pass()).toBeLessThan(16);
    expect(view.snapshot()).toMatchObject({ problem: 'scale cannot be read: not now', staleSince: nowMs - 10_000 });
    await view.stop();
  });

  it('have their turn one after the other where the server has no time for all', async () => {
    const { view, pass } = readBy((question) => (question < 50 ? known : failed('throttled')));
    for (let index = 0; index < 3; index += 1) await pass();
    expect(view.snapshot().deployments.filter(({ currentReplicas }) => currentReplicas === null)).toEqual([]);
    await view.stop();
  });

  it('are all asked for where some end in errors of the server', async () => {
    const { view, pass } = readBy((question) => (question < 50 ? failed('server_error') : known));
    expect(await pass()).toBe(100);
    await view.stop();
  });
});

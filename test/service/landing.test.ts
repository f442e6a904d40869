import { describe, expect, it } from 'vitest';
import type { ReplicaConsumer } from '../../src/core/ports.js';
import { LandingWatch, notLandedNotice, withConsumers } from '../../src/service/landing.js';
import { deployment, profileText, World } from '../support/controller-world.js';

const minuteMs = 60_000;

function consumer(overrides: Partial<ReplicaConsumer> = {}): ReplicaConsumer {
  return {
    kind: 'HorizontalPodAutoscaler',
    namespace: 'default',
    name: 'llama',
    deployment: 'default/a100',
    minReplicas: 0,
    maxReplicas: 10,
    pausedBy: null,
    ...overrides,
  };
}

/** Ages after each step of [published, what the Deployment asks for], a minute apart. */
function ages(steps: readonly (readonly [published: number, currentReplicas: number])[]): readonly (number | true)[] {
  const watch = new LandingWatch();
  return steps.map(([published, currentReplicas], index) => {
    watch.observe([{ id: 'default/a100', published, currentReplicas }], index * minuteMs);
    const landing = watch.of('default/a100', index * minuteMs)!;
    return landing.landed ? true : landing.notLandedSeconds;
  });
}

describe('a published number', () => {
  it('has landed while the Deployment asks for it, and ages from the moment it was published', () => {
    expect(
      ages([
        [3, 3],
        [5, 3],
        [5, 3],
        [5, 4],
        [5, 5],
        [5, 5],
      ]),
    ).toEqual([true, 0, 60, 120, true, true]);
  });

  it('that is followed a minute late is a minute late, however long the rise', () => {
    expect(
      ages([
        [1, 1],
        [2, 1],
        [3, 2],
        [4, 3],
        [5, 4],
        [6, 5],
      ]),
    ).toEqual([true, 0, 0, 0, 0, 0]);
    expect(
      ages([
        [1, 1],
        [2, 1],
        [3, 1],
        [4, 2],
        [5, 3],
        [6, 4],
      ]),
    ).toEqual([true, 0, 60, 60, 60, 60]);
  });

  it('ages where somebody else scales it away', () => {
    expect(
      ages([
        [3, 3],
        [3, 8],
        [3, 8],
        [4, 8],
        [3, 3],
      ]),
    ).toEqual([true, 60, 120, 180, true]);
  });

  it('that did not land before the start is new then', () => {
    expect(
      ages([
        [3, 1],
        [3, 1],
      ]),
    ).toEqual([0, 60]);
  });

  it('is overdue after ten minutes, or twice what consumers are said to take', () => {
    const watch = new LandingWatch();
    for (let minute = 0; minute <= 20; minute++) {
      watch.observe([{ id: 'a', published: 3, currentReplicas: 1 }], minute * minuteMs);
      expect(watch.overdueSince('a', minute * minuteMs, 30)).toBe(minute > 10 ? 0 : null);
      expect(watch.overdueSince('a', minute * minuteMs, 480)).toBe(minute > 16 ? 0 : null);
    }
  });

  it('of a clock that was set back is not aged by it', () => {
    const watch = new LandingWatch();
    watch.observe([{ id: 'a', published: 3, currentReplicas: 1 }], 3_600_000);
    watch.observe([{ id: 'a', published: 3, currentReplicas: 1 }], 1_000);
    expect(watch.of('a', 2_000)).toEqual({ landed: false, notLandedSeconds: 1 });
  });

  it('is forgotten with its deployment', () => {
    const watch = new LandingWatch();
    watch.observe([{ id: 'a', published: 3, currentReplicas: 1 }], 0);
    watch.observe([], 1);
    expect(watch.of('a', 2)).toBeNull();
  });
});

describe('why it has not landed', () => {
  const a100 = deployment({ name: 'a100', currentReplicas: 2 });
  const cause = (
    published: number,
    consumers: readonly ReplicaConsumer[],
    problems: readonly string[] | null = [],
    whyNotScaled: string | null = null,
  ) =>
    notLandedNotice({
      whyNotScaled,
      deployment: a100,
      published,
      sinceMs: Date.UTC(2026, 10, 20, 10),
      consumers,
      snapshot: problems === null ? null : { problems },
    }).message.replace(/^it has .*? instead of \d+: /, '');

  it.each<readonly [string, number, readonly ReplicaConsumer[], readonly string[] | null]>([
    ['KEDA is paused', 5, [consumer({ kind: 'ScaledObject', pausedBy: 'autoscaling.keda.sh/paused: "true"' })], []],
    ['starts no more than 4', 5, [consumer({ maxReplicas: 4 })], []],
    ['keeps at least 1', 0, [consumer({ minReplicas: 1 })], []],
    ['does not follow', 5, [consumer()], []],
    ['cannot all be read', 5, [], ['403']],
    ['targets it', 5, [], []],
    ['or nothing does', 5, [], null],
  ])('is told: %s', (words, published, consumers, problems) => {
    expect(cause(published, consumers, problems)).toContain(words.replace('KEDA is ', 'default/llama is '));
  });

  it('is what keeps gpumix from scaling it, where gpumix does and nothing else is known to', () => {
    const whyNotScaled = 'gpumix has not scaled it: GET https://10.0.0.1: 403 Forbidden';
    expect(cause(5, [], [], whyNotScaled)).toBe(whyNotScaled);
    expect(cause(5, [], ['403'], whyNotScaled)).toBe(whyNotScaled);
    expect(cause(5, [consumer({ maxReplicas: 4 })], [], whyNotScaled)).toContain('starts no more than 4');
  });

  it('says what is asked for instead of what, and since when', () => {
    const message = notLandedNotice({
      deployment: a100,
      published: 5,
      sinceMs: 0,
      consumers: [],
      snapshot: null,
      whyNotScaled: null,
    }).message;
    expect(message).toContain('since 1970-01-01T00:00:00.000Z, now for 2 instead of 5');
  });
});

describe('what scales a deployment', () => {
  const assumed = deployment({ name: 'a100', maxReplicasIsAssumed: true });

  it('bounds it where its owner says no maximum, by the smallest of several', () => {
    expect(withConsumers(assumed, [consumer({ maxReplicas: 7 })]).maxReplicas).toBe(7);
    const two = [consumer({ maxReplicas: 7 }), consumer({ kind: 'PodAutoscaler', maxReplicas: 5 })];
    expect(withConsumers(assumed, two)).toMatchObject({ maxReplicas: 5, notices: [{ code: 'several_consumers' }] });
    expect(withConsumers(assumed, [consumer({ maxReplicas: null })]).maxReplicas).toBe(1000);
    expect(withConsumers(assumed, [])).toBe(assumed);
  });

  it('yields to the annotation, with a word where that is larger', () => {
    const annotated = { ...assumed, maxReplicas: 20, maxReplicasIsAssumed: false };
    const above = withConsumers(annotated, [consumer({ maxReplicas: 7 })]);
    expect(above).toMatchObject({ maxReplicas: 20, notices: [{ code: 'max_above_consumer' }] });
    expect(withConsumers(annotated, [consumer({ maxReplicas: 30 })])).toMatchObject({ maxReplicas: 20, notices: [] });
  });

  it('bounds the floors of its owner too, with a word', () => {
    const floors = { ...assumed, minReplicas: 8, idleMinReplicas: 6 };
    const bounded = withConsumers(floors, [consumer({ maxReplicas: 5 })]);
    expect(bounded).toMatchObject({ minReplicas: 5, idleMinReplicas: 5, maxReplicas: 5 });
    expect(bounded.notices).toMatchObject([
      {
        code: 'min_above_max',
        message:
          'at least 8 replicas are asked for, but HorizontalPodAutoscaler default/llama starts no more than 5; using 5',
      },
    ]);
  });

  it('that keeps replicas is told, unless the plan keeps as many', () => {
    const [notice] = withConsumers(assumed, [consumer({ minReplicas: 2 })]).notices;
    expect(notice).toMatchObject({ code: 'consumer_keeps_replicas' });
    expect(notice!.message).toContain('HorizontalPodAutoscaler default/llama keeps at least 2 replicas');
    expect(withConsumers({ ...assumed, minReplicas: 2 }, [consumer({ minReplicas: 2 })]).notices).toEqual([]);
    expect(withConsumers(assumed, [consumer({ minReplicas: null })]).notices).toEqual([]);
  });
});

/** A deployment whose profile needs 8 replicas for what arrives. */
async function world(config: Readonly<Record<string, unknown>> = {}): Promise<World> {
  const made = new World({
    config,
    deployments: [deployment({ name: 'a100', currentReplicas: 8, maxReplicasIsAssumed: true })],
    profiles: { a100: profileText({ rps: 1 }) },
  });
  made.send('llama', { rps: 8 });
  await made.start();
  await made.cycles(3);
  return made;
}

const viewed = (made: World) => made.controller.models()[0]!.deployments[0]!;

describe('the service', () => {
  it('plans no more than the consumer will start, from the cycle after it appears to the one after it goes', async () => {
    const made = await world();
    expect(viewed(made)).toMatchObject({ replicas: 8, consumers: [] });
    made.consumers.set({ consumers: [consumer({ maxReplicas: 5 })] });
    await made.cycle();
    expect(made.planned.at(-1)!.models[0]!.deployments[0]!.maxReplicas).toBe(5);
    expect(viewed(made)).toMatchObject({
      replicas: 5,
      consumers: [{ kind: 'HorizontalPodAutoscaler', namespace: 'default', name: 'llama', maxReplicas: 5 }],
    });
    made.consumers.set({ consumers: [] });
    await made.cycle();
    expect(viewed(made).replicas).toBe(8);
  });

  it('names the consumer and its limit where demand stays unserved because of it, once in the log', async () => {
    const made = await world();
    made.consumers.set({ consumers: [consumer({ maxReplicas: 5 })] });
    await made.cycles(3);
    const plan = made.controller.plan()!;
    expect(plan.unserved).toMatchObject([{ reason: 'max_replicas' }]);
    expect(plan.unserved[0]!.rps).toBeCloseTo(3, 6);
    const message =
      'default/a100: HorizontalPodAutoscaler default/llama starts no more than 5 replicas, so that demand of llama stays unserved: raise its maximum, or add a deployment';
    expect(plan.warnings).toEqual([
      { code: 'bounded_by_consumer', message, model: 'llama', deployment: 'default/a100' },
    ]);
    expect(viewed(made).notices).toEqual([{ code: 'bounded_by_consumer', message }]);
    expect(made.log.filter((line) => line.message === message)).toHaveLength(1);
    made.send('llama', { rps: 4 });
    await made.cycles(30);
    expect(made.controller.plan()).toMatchObject({ unserved: [], warnings: [] });
  });

  it('plans elsewhere what the consumer will not start, before anybody waits for it', async () => {
    const made = new World({
      deployments: [
        deployment({ name: 'a100', currentReplicas: 8, maxReplicasIsAssumed: true }),
        deployment({ name: 'spare', currentReplicas: 0, maxReplicasIsAssumed: true }),
      ],
      profiles: { a100: profileText({ rps: 1, cost: 1 }), spare: profileText({ rps: 1, cost: 3 }) },
    });
    made.consumers.set({ consumers: [consumer({ maxReplicas: 5 })] });
    made.send('llama', { rps: 8 });
    await made.start();
    await made.settle();
    expect([made.replicas('a100'), made.replicas('spare')]).toEqual([5, 3]);
    expect(made.controller.plan()).toMatchObject({ unserved: [], warnings: [] });
  });

  it('bounds a deployment of its own namespace, and not one of the same name in another', async () => {
    const here = deployment({ name: 'a100', currentReplicas: 4, maxReplicasIsAssumed: true });
    const made = new World({
      deployments: [here, { ...here, id: 'prod/a100', namespace: 'prod', model: 'mistral' }],
      profiles: { a100: profileText({ rps: 1 }) },
    });
    await made.writeProfile('a100', profileText({ rps: 1 }), 'mistral');
    made.consumers.set({ consumers: [consumer({ namespace: 'prod', deployment: 'prod/a100', maxReplicas: 2 })] });
    made.send('llama', { rps: 4 }).send('mistral', { rps: 4 });
    await made.start();
    await made.settle();
    expect([made.replicas('a100'), made.replicas('a100', 'prod')]).toEqual([4, 2]);
  });

  it('goes on with what it knew of consumers that can no longer be read, and says so', async () => {
    const made = await world();
    made.consumers.set({ consumers: [consumer({ maxReplicas: 5 })] });
    await made.cycle();
    made.consumers.set({ problems: ['GET /apis/autoscaling/v2: 403 Forbidden'] });
    await made.cycle();
    expect(viewed(made).replicas).toBe(5);
    expect(made.controller.plan()!.warnings.map(({ code }) => code)).toContain('consumers_unread');
    expect(made.controller.ready()).toBe(true);
    expect(made.controller.inputs().every(({ ok }) => ok)).toBe(true);
  });

  it('waits for their first answer, and for no longer', async () => {
    const made = new World({
      deployments: [deployment({ name: 'a100', currentReplicas: 2, maxReplicasIsAssumed: true })],
      profiles: { a100: profileText({ rps: 1 }) },
    });
    made.consumers.current = { settled: false, problems: [], unread: [], consumers: [] };
    made.send('llama', { rps: 8 });
    await made.start();
    await made.cycles(3);
    expect(viewed(made).replicas).toBeNull();
    expect(made.controller.models()[0]!.heldReason).toBe('not_synced');
    made.consumers.set({ settled: true, problems: ['500'] });
    await made.cycle();
    expect(viewed(made).replicas).toBe(8);
  });

  it('that cannot follow them at all does not start, and leaves nothing running', async () => {
    const made = new World({ deployments: [deployment({ name: 'a100' })] });
    const stopped: string[] = [];
    made.deployments.stop = async () => void stopped.push('deployments');
    made.consumers.stop = async () => void stopped.push('consumers');
    made.consumers.start = () => Promise.reject(new Error('no kubeconfig'));
    await expect(made.controller.start()).rejects.toThrow('no kubeconfig');
    expect(stopped).toEqual(['deployments', 'consumers']);
    expect(made.waits()).toEqual([]);
  });

  it('tells whether what it published has landed, and after a while why not', async () => {
    const made = await world();
    expect(viewed(made).landing).toEqual({ landed: true, notLandedSeconds: 0 });
    made.consumers.set({ consumers: [consumer({ maxReplicas: 20 })] });
    made.send('llama', { rps: 12 });
    await made.cycles(30);
    expect(viewed(made)).toMatchObject({ replicas: 12, currentReplicas: 8, landing: { landed: false } });
    expect(viewed(made).landing!.notLandedSeconds).toBeGreaterThan(200);
    expect(viewed(made).notices).toEqual([]);
    await made.cycles(40);
    const notices = viewed(made).notices.filter(({ code }) => code === 'not_landed');
    expect(notices).toHaveLength(1);
    expect(notices[0]!.message).toMatch(
      /now for 8 instead of 12: HorizontalPodAutoscaler default\/llama does not follow$/,
    );
    // The sentence stays the same, so that it is logged once.
    await made.cycles(5);
    expect(made.log.filter(({ message }) => message.includes('instead of 12'))).toHaveLength(1);
    made.follow();
    await made.cycle();
    expect(viewed(made)).toMatchObject({ landing: { landed: true }, notices: [] });
  });

  it('says nothing of it where nothing should follow: in shadow mode, while paused, from an old view', async () => {
    expect(viewed(await world({ publish: { mode: 'shadow' } })).landing).toBeNull();
    const made = await world();
    const [one] = made.deployments.current.deployments;
    made.deployments.set({ deployments: [{ ...one!, paused: true }] });
    await made.cycle();
    expect(viewed(made).landing).toBeNull();
    made.deployments.set({ deployments: [one!] });
    await made.cycle();
    expect(viewed(made).landing).not.toBeNull();
    made.deployments.set({ staleSince: made.nowMs, problem: 'gone' });
    await made.cycle();
    expect(viewed(made).landing).toBeNull();
  });
});

import { afterEach, describe, expect, it } from 'vitest';
import type { ActuatorOptions } from '../../../src/service/actuation/actuator.js';
import { ActuatedCluster, limits } from '../../support/actuated-cluster.js';
import type { Fault, SeenRequest } from '../../support/fake-api-server.js';

const running: ActuatedCluster[] = [];
async function start(
  options: Partial<ActuatorOptions> & { readonly timeoutMs?: number } = {},
): Promise<ActuatedCluster> {
  const world = await ActuatedCluster.start(options);
  running.push(world);
  return world;
}
afterEach(async () => {
  for (const world of running.splice(0)) await world.stop();
});

const isPatch = ({ method, path }: SeenRequest) => method === 'PATCH' && path.endsWith('/scale');
const answer = (status: number, headers?: Readonly<Record<string, string>>): Fault =>
  headers === undefined ? { kind: 'answer', status } : { kind: 'answer', status, headers };

describe('what is published', () => {
  it('lands, what adds replicas first, and says why on the object', async () => {
    const world = await start();
    world.run('small', 2);
    world.run('large', 9);
    world.publish('large', 4).publish('small', 5);
    await world.settledCycle();
    expect([world.replicas('small'), world.replicas('large')]).toEqual([5, 4]);
    expect(world.scaleRequests()[0]!.path).toContain('/small/');
    expect(world.events()).toMatchObject([
      { reason: 'ScaledUp', message: 'Scaled from 2 to 5: The cheapest mix has 5.' },
      { reason: 'ScaledDown', message: 'Scaled from 9 to 4: The cheapest mix has 4.' },
    ]);
    expect(world.log.map(({ message }) => message)).toContain(
      'scaled deployments.apps prod/small 2 → 5: The cheapest mix has 5.',
    );
    expect(world.actuator.of('prod/small')).toMatchObject({ state: 'scaled', message: 'from 2 to 5' });
    await world.settledCycle();
    expect(world.actuator.of('prod/small')).toMatchObject({ state: 'landed' });
    expect(world.actuator.view()).toMatchObject({
      problem: null,
      waiting: 0,
      results: { scaled_up: 1, scaled_down: 1, forbidden: 0 },
    });
  });

  it('and runs already costs no request', async () => {
    const world = await start();
    world.run('llama', 3);
    world.publish('llama', 3);
    await world.settledCycle();
    expect(world.cluster.server.requests).toEqual([]);
  });

  it('is not written for what is held, paused, in shadow mode, not known or scaled by another', async () => {
    const world = await start();
    for (const name of ['held', 'paused', 'shadow', 'unknown', 'hpa']) world.run(name, 6);
    world.otherScalers.set('prod/hpa', { names: ['HorizontalPodAutoscaler prod/hpa'], unknownBecause: null });
    world
      .publish('held', 2, { heldReason: 'redis_unreachable' })
      .publish('paused', 2, { paused: true })
      .publish('shadow', 2, { mode: 'shadow' })
      .publish('unknown', null)
      .publish('hpa', 2);
    await world.settledCycle();
    expect(world.cluster.server.requests).toEqual([]);
    const each = { held: 1, paused: 1, shadow: 1, not_known: 1, other_scaler: 1 };
    expect(world.actuator.view().withheld).toMatchObject(each);
    expect(world.actuator.noticesOf('prod/hpa')).toEqual([
      { code: 'other_scaler', message: 'HorizontalPodAutoscaler prod/hpa scales it: gpumix leaves it alone' },
    ]);
    await world.settledCycle();
    expect(world.warnings()).toEqual([
      'prod/hpa is not scaled: HorizontalPodAutoscaler prod/hpa scales it: gpumix leaves it alone',
    ]);
  });

  it('is not written before it is known what else scales, which readiness is told; one whose scalers are known is', async () => {
    const world = await start();
    world.run('unknown', 2);
    world.run('known', 2);
    world.otherScalers.set('prod/unknown', { names: [], unknownBecause: 'GET /apis/autoscaling/v2: 403 Forbidden' });
    world.publish('unknown', 5).publish('known', 5);
    for (let cycle = 0; cycle < 3; cycle += 1) await world.settledCycle();
    expect([world.replicas('unknown'), world.replicas('known')]).toEqual([2, 5]);
    const why = 'it is not known what else scales it: GET /apis/autoscaling/v2: 403 Forbidden';
    expect(world.actuator.view()).toMatchObject({
      problem: `1 deployment is not scaled: ${why}`,
      withheld: { scalers_unknown: 1 },
    });
    expect(world.warnings()).toEqual([`1 deployment is not scaled: ${why}`]);
    expect(world.actuator.noticesOf('prod/unknown')).toEqual([{ code: 'scalers_unknown', message: why }]);
    world.otherScalers.clear();
    for (let cycle = 0; cycle < 2; cycle += 1) await world.settledCycle();
    expect(world.replicas('unknown')).toBe(5);
    expect(world.actuator.view().problem).toBeNull();
    expect(world.log.map(({ message }) => message)).toContain('scaling: it is known what else scales');
  });

  it('is not written where something else begins to scale while its scale is being read', async () => {
    const world = await start();
    world.run('llama', 2);
    world.publish('llama', 5);
    world.cluster.server.fault = ({ method }) => {
      if (method === 'GET')
        world.otherScalers.set('prod/llama', { names: ['ScaledObject prod/x'], unknownBecause: null });
      return undefined;
    };
    await world.settledCycle();
    expect(world.scaleRequests('PATCH')).toEqual([]);
    expect(world.actuator.of('prod/llama')).toMatchObject({ state: 'withheld', why: 'other_scaler' });
  });

  it('is written by what the newest cycle says, also where reading takes longer than a cycle', async () => {
    const world = await start();
    world.run('llama', 2);
    world.publish('llama', 4);
    let cycles = 0;
    world.cluster.server.fault = ({ method }) => {
      if (method === 'GET' && cycles < 20) {
        cycles += 1;
        world.publish('llama', 4 + cycles);
        world.cycle();
      }
      return undefined;
    };
    await world.settledCycle();
    expect(cycles).toBe(1);
    expect(world.replicas('llama')).toBe(5);
    expect(world.actuator.view().waiting).toBe(0);
  });

  it('is told why it is not written, in words that do not change with time', async () => {
    const world = await start();
    for (const name of ['held', 'scaled', 'new']) world.run(name, 2);
    world.publish('held', 5, { heldReason: 'redis_unreachable' }).publish('scaled', 5);
    await world.settledCycle();
    expect(world.actuator.whyNotScaled('prod/held')).toBe(
      'gpumix has not scaled it: its model is held (redis_unreachable): it stays as it runs',
    );
    expect(world.actuator.whyNotScaled('prod/scaled')).toBe('somebody else changes it after gpumix has scaled it');
    expect(world.actuator.whyNotScaled('prod/new')).toBe('it waits for gpumix to scale it');
    const dry = await start({ mode: 'dry-run' });
    expect(dry.actuator.whyNotScaled('prod/new')).toBeNull();
  });

  it('goes as far as a minute allows, and arrives', async () => {
    const world = await start({ limits: limits({ maxStepsDownPerMinute: 3 }) });
    world.run('llama', 20);
    world.publish('llama', 12);
    const seen: number[] = [];
    for (let cycle = 0; cycle < 19; cycle += 1) {
      await world.settledCycle();
      seen.push(world.replicas('llama'));
    }
    expect([...new Set(seen)]).toEqual([17, 14, 12]);
    expect(world.events()).toMatchObject([{ reason: 'ScaledDown', count: 3 }]);
  });

  it('is the newest of two cycles where the first has not been written yet', async () => {
    const world = await start();
    for (let index = 0; index < 9; index += 1) world.run(`d${index}`, 1);
    for (let index = 0; index < 9; index += 1) world.publish(`d${index}`, 5);
    // Eight are read at once; the ninth waits.
    world.cycle();
    for (let index = 0; index < 9; index += 1) world.publish(`d${index}`, 3);
    world.cycle();
    await world.settled();
    expect(Array.from({ length: 9 }, (_, index) => world.replicas(`d${index}`))).toEqual(Array(9).fill(3));
    expect(world.scaleRequests('PATCH').map(({ body }) => (body as { spec: object }).spec)).toEqual(
      Array(9).fill({ replicas: 3 }),
    );
  });

  it('of a thousand deployments lands within one cycle, a few requests at a time', async () => {
    const world = await start();
    for (let index = 0; index < 1000; index += 1) world.run(`d${index}`, 1);
    for (let index = 0; index < 1000; index += 1) world.publish(`d${index}`, 2 + (index % 5));
    let atOnce = 0;
    let most = 0;
    const { read, write } = world.client;
    const counted =
      <Args extends readonly unknown[], Answer>(call: (...args: Args) => Promise<Answer>) =>
      async (...args: Args): Promise<Answer> => {
        atOnce += 1;
        most = Math.max(most, atOnce);
        return call.apply(world.client, args as never).finally(() => {
          atOnce -= 1;
        });
      };
    world.client.read = counted(read);
    world.client.write = counted(write);
    await world.settledCycle();
    expect(world.actuator.view()).toMatchObject({ failing: {}, results: { scaled_up: 1000 } });
    const landed = world.cluster.server.objects().map(({ spec }) => (spec as { readonly replicas: number }).replicas);
    expect(landed).toEqual(Array.from({ length: 1000 }, (_, index) => 2 + (index % 5)));
    expect(most).toBe(8);
  }, 300_000);
});

describe('a dry run', () => {
  it('is checked by the server, changes nothing, says so, and is not repeated each cycle', async () => {
    const world = await start({ mode: 'dry-run' });
    world.run('llama', 2);
    world.publish('llama', 5);
    await world.settledCycle();
    await world.settledCycle();
    expect(world.replicas('llama')).toBe(2);
    expect(world.scaleRequests('PATCH').map(({ query }) => query.dryRun)).toEqual(['All']);
    expect(world.log.map(({ message }) => message)).toEqual([
      'dry run: deployments.apps prod/llama would go 2 → 5: The cheapest mix has 5.',
    ]);
    expect(world.events()).toEqual([]);
    expect(world.actuator.of('prod/llama')).toMatchObject({ state: 'dry-run', message: 'would go from 2 to 5' });
    world.publish('llama', 6);
    await world.settledCycle();
    expect(world.actuator.view().results).toMatchObject({ dry_run: 2, scaled_up: 0 });
  });
});

describe('a dry run of a change that was called off', () => {
  it('is made again when it is wanted again, so that what is told of it is not of the time between', async () => {
    const world = await start({ mode: 'dry-run' });
    world.run('llama', 2);
    world.publish('llama', 5);
    await world.settledCycle();
    world.publish('llama', 5, { heldReason: 'redis_unreachable' });
    await world.settledCycle();
    expect(world.actuator.of('prod/llama')).toMatchObject({ state: 'withheld', why: 'held' });
    world.publish('llama', 5);
    await world.settledCycle();
    expect(world.actuator.of('prod/llama')).toMatchObject({ state: 'dry-run', message: 'would go from 2 to 5' });
    world.cluster.server.fault = () => answer(500);
    world.publish('llama', 6);
    await world.settledCycle();
    expect(world.actuator.of('prod/llama')).toMatchObject({ state: 'failed' });
    world.cluster.server.fault = () => undefined;
    world.publish('llama', 5);
    world.passes(60_000);
    await world.settledCycle();
    expect(world.actuator.of('prod/llama')).toMatchObject({ state: 'dry-run' });
    expect(world.actuator.view().problem).toBeNull();
  });
});

describe('somebody else who writes the same object', () => {
  it('is seen: it is read again and decided again', async () => {
    const world = await start();
    world.run('llama', 2);
    world.publish('llama', 5);
    let writes = 0;
    world.cluster.server.fault = (request) => {
      if (isPatch(request) && writes++ === 0) world.run('llama', 3);
      return undefined;
    };
    await world.settledCycle();
    expect(world.replicas('llama')).toBe(5);
    expect(world.scaleRequests().map(({ method }) => method)).toEqual(['GET', 'PATCH', 'GET', 'PATCH']);
    expect(world.events()).toMatchObject([{ message: expect.stringContaining('from 3 to 5') }]);
  });

  it('keeps what it added after the plan, which did not know of it', async () => {
    const world = await start();
    world.run('llama', 6);
    world.publish('llama', 4);
    world.cluster.server.fault = (request) => {
      if (isPatch(request)) world.run('llama', 12);
      return undefined;
    };
    await world.settledCycle();
    expect(world.replicas('llama')).toBe(12);
    expect(world.actuator.of('prod/llama')).toMatchObject({ state: 'withheld', why: 'changed_since_plan' });
    world.cluster.server.fault = () => undefined;
    // The next plan has seen it.
    await world.settledCycle();
    expect(world.replicas('llama')).toBe(4);
  });

  it('without end is left to the next cycle, and is no noise in the log', async () => {
    const world = await start();
    world.run('llama', 2);
    world.publish('llama', 5);
    world.cluster.server.fault = (request) => (isPatch(request) ? answer(409) : undefined);
    await world.settledCycle();
    expect(world.scaleRequests('PATCH')).toHaveLength(3);
    expect(world.actuator.view()).toMatchObject({ failing: { conflict: 1 }, results: { conflict: 1 } });
    expect(world.warnings()).toEqual([]);
    world.cluster.server.fault = () => undefined;
    await world.settledCycle();
    expect(world.replicas('llama')).toBe(5);
    expect(world.actuator.view().failing).toEqual({});
  });
});

describe('a server that has too much to do', () => {
  it('is asked nothing for as long as it says, and then lands all of it', async () => {
    const world = await start();
    for (let index = 0; index < 30; index += 1) world.run(`d${index}`, 1);
    for (let index = 0; index < 30; index += 1) world.publish(`d${index}`, 2);
    world.cluster.server.fault = () => answer(429, { 'retry-after': '7' });
    await world.settledCycle();
    expect(world.scaleRequests()).toHaveLength(8);
    expect(world.actuator.view()).toMatchObject({ failing: { throttled: 8 }, waiting: 22 });
    world.cluster.server.fault = () => undefined;
    world.passes(6_999);
    await world.settled();
    expect(world.scaleRequests()).toHaveLength(8);
    world.passes(1);
    await world.settled();
    expect(Array.from({ length: 22 }, (_, index) => world.replicas(`d${index + 8}`))).toEqual(Array(22).fill(2));
    // Those that were refused come with the next cycle.
    await world.settledCycle();
    expect(Array.from({ length: 8 }, (_, index) => world.replicas(`d${index}`))).toEqual(Array(8).fill(2));
    expect(world.actuator.view().failing).toEqual({});
  });

  it('is not sent what is too old when it may be asked again', async () => {
    const world = await start();
    for (let index = 0; index < 9; index += 1) world.run(`d${index}`, 9);
    for (let index = 0; index < 9; index += 1) world.publish(`d${index}`, 2);
    world.cluster.server.fault = () => answer(503, { 'retry-after': '100' });
    await world.settledCycle();
    world.cluster.server.fault = () => undefined;
    // No cycle comes: the process was stopped for a while, or the clock was set.
    world.passes(100_000);
    await world.settled();
    expect(world.scaleRequests('PATCH')).toEqual([]);
    expect(world.actuator.of('prod/d8')).toMatchObject({ state: 'withheld', why: 'old_plan' });
  });
});

describe('a clock that is set', () => {
  it.each([3_600_000, -3_600_000])('by %i ms leaves what waits to a newer plan, which lands', async (byMs) => {
    const world = await start();
    for (let index = 0; index < 9; index += 1) world.run(`d${index}`, 9);
    for (let index = 0; index < 9; index += 1) world.publish(`d${index}`, 2);
    // Not all are asked for before the server wants to be left alone; then the clock is set.
    world.cluster.server.fault = () => answer(503, { 'retry-after': '5' });
    await world.settledCycle();
    world.clockSetByMs = byMs;
    world.cluster.server.fault = () => undefined;
    world.passes(5000);
    await world.settled();
    expect(world.scaleRequests('PATCH')).toEqual([]);
    expect(world.actuator.of('prod/d8')).toMatchObject({ state: 'withheld', why: 'old_plan' });
    for (let cycle = 0; cycle < 6; cycle += 1) await world.settledCycle();
    expect(world.replicas('d8')).toBe(2);
  });
});

describe('an object that cannot be scaled', () => {
  it.each([500, 422, 404])('(%i) stops no other, and is tried less and less often', async (status) => {
    const world = await start();
    world.run('good', 1);
    world.run('bad', 1);
    world.publish('bad', 2).publish('good', 2);
    world.cluster.server.fault = ({ path }) => (path.includes('/bad/') ? answer(status) : undefined);
    for (let cycle = 0; cycle < 30; cycle += 1) await world.settledCycle();
    expect(world.replicas('good')).toBe(2);
    // Of thirty cycles in five minutes: after 0, 10, 20, 40, 80 s, and then once a minute.
    expect(world.scaleRequests().filter(({ path }) => path.includes('/bad/')).length).toBeLessThanOrEqual(9);
    expect(world.warnings()).toHaveLength(1);
    expect(world.warnings()[0]).toContain('1 deployment cannot be scaled, such as deployments.apps prod/bad: GET http');
    world.cluster.server.fault = () => undefined;
    for (let cycle = 0; cycle < 31; cycle += 1) await world.settledCycle();
    expect(world.replicas('bad')).toBe(2);
    expect(world.log.at(-1)!.message).toContain('no deployment fails any more');
  });
});

describe('a permission that is missing', () => {
  it('is named once with the rule that gives it, and asked for once a minute', async () => {
    const world = await start();
    for (let index = 0; index < 40; index += 1) {
      const namespace = `team-${index % 4}`;
      world.run(`d${index}`, 5, namespace);
      world.publish(`${namespace}/d${index}`, 2);
    }
    world.cluster.server.fault = () => answer(403);
    for (let cycle = 0; cycle < 6; cycle += 1) await world.settledCycle();
    // Those that were under way when the first refusal came, and one more in each namespace at most.
    expect(world.scaleRequests().length).toBeLessThanOrEqual(8 + 4);
    expect(world.actuator.view()).toMatchObject({ failing: { forbidden: 40 } });
    expect(world.warnings()).toHaveLength(1);
    expect(world.actuator.view().problem).toContain(
      '40 deployments cannot be scaled in team-0, team-1, team-2 and 1 more namespaces: RBAC must allow apiGroups ["apps"], resources ["deployments/scale"], verbs ["get", "patch"]',
    );
    world.cluster.server.fault = () => undefined;
    for (let cycle = 0; cycle < 7; cycle += 1) await world.settledCycle();
    expect(world.replicas('d39', 'team-3')).toBe(2);
    expect(world.actuator.view().problem).toBeNull();
  });
});

describe('a server that is gone', () => {
  it('is asked a few times and then rarely; nothing is lost and nothing falls', async () => {
    const world = await start();
    for (let index = 0; index < 50; index += 1) world.run(`d${index}`, 4);
    for (let index = 0; index < 50; index += 1) world.publish(`d${index}`, index % 2 === 0 ? 6 : 1);
    await world.cluster.network.cut();
    for (let cycle = 0; cycle < 6; cycle += 1) await world.settledCycle();
    const { results, problem } = world.actuator.view();
    expect(results.unreachable).toBeLessThan(60);
    expect(problem).toContain('cannot be scaled, such as deployments.apps prod/d');
    expect(world.warnings()).toHaveLength(1);
    await world.cluster.network.connect();
    for (let cycle = 0; cycle < 30; cycle += 1) await world.settledCycle();
    expect([world.replicas('d0'), world.replicas('d49')]).toEqual([6, 1]);
    expect(world.actuator.view()).toMatchObject({ problem: null, failing: {} });
  });

  it('or hangs is given up, and a write that landed unseen is seen by the next cycle', async () => {
    const world = await start({ timeoutMs: 2_000 });
    world.run('llama', 2);
    world.publish('llama', 5);
    world.cluster.server.fault = (request) => {
      if (!isPatch(request)) return undefined;
      // It does what it was asked and never answers.
      world.run('llama', 5);
      return { kind: 'hang' };
    };
    await world.settledCycle();
    expect(world.actuator.of('prod/llama')).toMatchObject({ state: 'failed', why: 'unreachable' });
    await world.settledCycle();
    expect(world.actuator.of('prod/llama')).toMatchObject({ state: 'landed' });
    expect(world.scaleRequests('PATCH')).toHaveLength(1);
  });
});

describe('a process that is told to stop', () => {
  it('lets the write that is under way end, and begins no other', async () => {
    const world = await start();
    for (let index = 0; index < 20; index += 1) world.run(`d${index}`, 1);
    for (let index = 0; index < 20; index += 1) world.publish(`d${index}`, 2);
    const patched = world.cluster.server.nextRequest(isPatch);
    world.cycle();
    await patched;
    await world.actuator.stop();
    const landed = Array.from({ length: 20 }, (_, index) => world.replicas(`d${index}`)).filter((each) => each === 2);
    expect(landed.length).toBe(world.scaleRequests('PATCH').length);
    expect(landed.length).toBeLessThanOrEqual(8);
    world.cycle();
    expect(world.scaleRequests('PATCH')).toHaveLength(landed.length);
  });
});

describe('Events', () => {
  it('of a plan that trembles are two, counted up once a minute', async () => {
    const world = await start();
    world.run('llama', 4);
    for (let cycle = 0; cycle < 36; cycle += 1) {
      world.publish('llama', cycle % 2 === 0 ? 5 : 4);
      await world.settledCycle();
    }
    const toEvents = world.cluster.server.requests.filter(({ resource }) => resource === 'events');
    // Six minutes, two reasons.
    expect(toEvents.length).toBeLessThanOrEqual(14);
    expect(world.events()).toHaveLength(2);
    const counts = world.events().map(({ count }) => Number(count));
    expect(Math.min(...counts)).toBeGreaterThanOrEqual(15);
  });

  it('that may not be written stop no scaling, and are said once', async () => {
    const world = await start();
    world.run('llama', 4);
    world.cluster.server.fault = ({ resource }) => (resource === 'events' ? answer(403) : undefined);
    for (const published of [5, 6, 7]) {
      world.publish('llama', published);
      await world.settledCycle();
      expect(world.replicas('llama')).toBe(published);
    }
    await world.actuator.stop();
    expect(world.warnings()).toHaveLength(1);
    expect(world.warnings()[0]).toContain('Events of scaled objects are not written');
    expect(world.cluster.server.requests.filter(({ resource }) => resource === 'events')).toHaveLength(1);
    expect(world.actuator.view()).toMatchObject({ problem: null, events: { written: 0, failed: 1 } });
  });
});

describe('a deployment that is gone', () => {
  it('is forgotten with its failure', async () => {
    const world = await start();
    world.run('llama', 4);
    world.publish('llama', 5);
    world.cluster.server.fault = () => answer(500);
    await world.settledCycle();
    expect(world.actuator.view().failing).toEqual({ server_error: 1 });
    world.forget('llama');
    await world.settledCycle();
    expect(world.actuator.of('prod/llama')).toBeNull();
    expect(world.actuator.view().failing).toEqual({});
  });
});

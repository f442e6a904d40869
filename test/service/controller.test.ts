import { describe, expect, it } from 'vitest';
import { checkPlan } from '../../src/optimizer/check.js';
import { PlanRejected, plan } from '../../src/optimizer/plan.js';
import { aibrixMetric } from '../../src/service/publication.js';
import { deployment, profileText, World } from '../support/controller-world.js';

const a100 = deployment({ name: 'a100', usdPerReplicaHour: 3 });
const l4 = deployment({ name: 'l4', gpuType: 'L4', usdPerReplicaHour: 1, currentReplicas: 0 });

/** One model on one deployment whose replica serves 1 request/s. */
function simple(options: Partial<ConstructorParameters<typeof World>[0]> = {}): Promise<World> {
  return new World({ deployments: [a100], profiles: { a100: profileText({ rps: 1 }) }, ...options }).start();
}

describe('the number that is published', () => {
  it('is the same in the first cycle and every later one under a constant 10 requests/s', async () => {
    const world = await simple();
    world.send('llama', { rps: 10 });
    const seen: (number | string)[] = [];
    for (let i = 0; i < 40; i += 1) {
      await world.cycle();
      seen.push(world.replicas('a100'));
    }
    expect(new Set(seen)).toEqual(new Set([10]));
  });

  it('is whole replicas everywhere, and AIBrix reads units of 100 less half of one', async () => {
    const world = await simple();
    await world.send('llama', { rps: 2.4 }).cycle();
    expect(world.replicas('a100')).toBe(3);
    expect(aibrixMetric(3, 100)).toBe(250);
    expect(world.controller.plan()?.deployments[0]).toMatchObject({ replicas: 3, targetReplicas: 3 });
    expect(world.controller.models()[0]?.deployments[0]).toMatchObject({ replicas: 3, targetReplicas: 3 });
    expect(world.controller.history({ limit: 1 })[0]?.changes[0]).toMatchObject({ from: null, to: 3 });
  });

  it('right after start is not the current replicas in another unit, but not known', async () => {
    const world = await simple({ deployments: [{ ...a100, currentReplicas: 8 }] });
    expect(world.controller.replicasOf('default', 'a100')).toEqual({
      kind: 'not-known',
      reason: 'no recent request traces of its model were found',
    });
  });

  it('is not known for the same reason before, while and after a cycle looks again', async () => {
    const world = await simple();
    const reasons = new Set<string>();
    let isOver = false;
    const ended = world.cycle().then(() => {
      isOver = true;
    });
    while (!isOver) {
      for (let step = 0; step < 100; step++) {
        const published = world.controller.replicasOf('default', 'a100');
        reasons.add(published.kind === 'not-known' ? published.reason : published.kind);
        await Promise.resolve();
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
    await ended;
    expect([...reasons]).toEqual(['no recent request traces of its model were found']);
  });

  it('is no verdict on names before every input was read', async () => {
    const world = new World({ deployments: [a100] });
    world.deployments.current = { ...world.deployments.current, synced: false };
    expect(world.replicas('a100')).toBe('not-known');
    await world.start();
    expect([world.replicas('a100'), world.replicas('nobody')]).toEqual(['not-known', 'not-known']);
    world.deployments.set({ synced: true });
    await world.cycles(2);
    expect([world.replicas('a100'), world.replicas('nobody')]).toEqual(['not-known', 'no-such-deployment']);
  });

  it('follows 0.02 requests/s, at which a tenth of the intervals sees a request', async () => {
    const world = await simple({ profiles: { a100: profileText({ rps: 0.01 }) } });
    for (let i = 0; i < 30; i += 1) {
      world.send('llama', i % 5 === 0 ? { rps: 0.1 } : null);
      await world.cycle();
    }
    // 0.02 rps on average, at 0.01 rps a replica; the 0.95 quantile of the intervals is one request in 10 s.
    expect(world.controller.models()[0]?.demand?.rps).toBeCloseTo(0.02, 2);
    expect(world.replicas('a100')).toBe(10);
  });

  it('reports a bucket that no deployment can serve, and plans no millions of replicas for it', async () => {
    const world = await simple({ deployments: [{ ...a100, maxTokens: 1000 }] });
    const lengths = [[32, 32] as const, [1024, 512] as const];
    await world.send('llama', { rps: 10, lengths }).cycle();
    expect(world.controller.plan()?.unserved).toMatchObject([{ model: 'llama', reason: 'slo', rps: 5 }]);
    expect(world.replicas('a100')).toBe(5);
  });

  it('is the cheapest whole mix, not the cheapest fraction of each type rounded up', async () => {
    // A replica of big does 10 short or 4 long requests/s for $1, one of small 4 or 0.5 for $0.3. At 1 + 1 requests/s
    // fractions of both look best and round up to $1.3; three of small do it all for $0.9.
    const tputs = (short: number, long: number) => [
      [short, short],
      [long, long],
    ];
    const world = await new World({
      deployments: [
        deployment({ name: 'big', usdPerReplicaHour: 1, currentReplicas: 0 }),
        deployment({ name: 'small', gpuType: 'L4', usdPerReplicaHour: 0.3 }),
      ],
      profiles: { big: profileText({ tputs: tputs(10, 4) }), small: profileText({ tputs: tputs(4, 0.5) }) },
    }).start();
    const lengths = [
      [128, 64],
      [128, 1024],
    ] as const;
    await world.send('llama', { rps: 2, lengths }).cycle();
    expect([world.replicas('big'), world.replicas('small')]).toEqual([0, 3]);
    expect(world.controller.plan()).toMatchObject({ status: 'optimal', gap: 0 });
    expect(world.controller.plan()?.usdPerHour).toBeCloseTo(0.9, 9);
  });
});

describe('an idle model', () => {
  const idle = async (world: World) => {
    await world.send('llama', { rps: 5 }).cycle();
    world.send('llama', null);
    await world.cycles(26);
  };

  it('keeps the replicas of its label min_replicas, in whole replicas', async () => {
    const world = await simple({ deployments: [{ ...a100, idleMinReplicas: 3 }] });
    await idle(world);
    expect(world.controller.models()[0]?.demand?.idle).toBe(true);
    expect(world.replicas('a100')).toBe(3);
  });

  it('does not keep them under load: min_replicas speaks of idleness', async () => {
    const world = await simple({ deployments: [{ ...a100, idleMinReplicas: 3 }] });
    await world.send('llama', { rps: 1 }).cycle();
    expect(world.replicas('a100')).toBe(1);
  });

  it('goes to none where every deployment says so', async () => {
    const world = await simple({ deployments: [{ ...a100, idleMinReplicas: 0 }] });
    await idle(world);
    expect(world.replicas('a100')).toBe(0);
  });

  it('keeps one replica on its cheapest deployment where no deployment says anything', async () => {
    const world = await simple({
      deployments: [a100, l4],
      profiles: { a100: profileText({ rps: 1 }), l4: profileText({ rps: 0.5 }) },
    });
    await idle(world);
    await world.settle();
    expect([world.replicas('a100'), world.replicas('l4')]).toEqual([0, 1]);
  });

  it('goes to none where the configuration says that something else wakes it', async () => {
    const world = await simple({ config: { models: { llama: { scaleToZero: true } } } });
    await idle(world);
    expect(world.replicas('a100')).toBe(0);
  });
});

describe('a profile', () => {
  it('that is updated changes the next plan, whether or not it says when it was made', async () => {
    const world = await simple();
    await world.send('llama', { rps: 6 }).cycle();
    expect(world.replicas('a100')).toBe(6);
    const { created: _, ...undated } = JSON.parse(profileText({ rps: 2 }));
    await world.writeProfile('a100', JSON.stringify(undated));
    await world.cycle();
    expect(world.replicas('a100')).toBe(3);
  });

  it('that is bad after a good one leaves the good one in force, and every plan says so', async () => {
    const world = await simple();
    await world.send('llama', { rps: 6 }).cycle();
    await world.writeProfile('a100', '{"gpu": "a100", "tputs": [[NaN]]}');
    await world.cycles(2);
    expect(world.replicas('a100')).toBe(6);
    expect(world.held()).toBeNull();
    expect(world.warnings()).toEqual(['profile_kept']);
    expect(world.reports.at(-1)?.errors).toEqual([{ input: 'profiles', code: 'bad_profile' }]);
    await world.writeProfile('a100', profileText({ rps: 3 }));
    await world.cycle();
    expect(world.replicas('a100')).toBe(2);
    expect(world.warnings()).toEqual([]);
  });

  it('that is bad concerns its deployment alone', async () => {
    const world = await simple({
      deployments: [a100, { ...l4, currentReplicas: 2 }],
      profiles: { a100: profileText({}), l4: 'x' },
    });
    await world.send('llama', { rps: 4 }).cycle();
    expect([world.replicas('a100'), world.replicas('l4')]).toEqual([4, 2]);
    expect(world.warnings()).toEqual(['bad_profile']);
  });

  it('that was deleted is no longer planned with: its deployment keeps what was asked for', async () => {
    const texts = { a100: profileText({}), l4: profileText({ rps: 0.5 }) };
    const world = await simple({ deployments: [a100, { ...l4, currentReplicas: 4 }], profiles: texts });
    await world.send('llama', { rps: 4 }).cycle();
    await world.settle();
    expect([world.replicas('a100'), world.replicas('l4')]).toEqual([0, 8]);
    world.hiddenProfiles.add('l4');
    await world.cycle();
    expect(world.warnings()).toEqual(['profile_kept']);
    await world.cycle();
    expect([world.replicas('a100'), world.replicas('l4')]).toEqual([4, 8]);
    expect(world.warnings()).toEqual(['no_profile']);
  });

  it('of a model whose name begins like another one is not taken for it', async () => {
    const world = new World({ deployments: [a100], profiles: {} });
    await world.writeProfile('a100', profileText({ rps: 1 }), 'llama_7b');
    await world.start();
    await world.send('llama', { rps: 4 }).cycle();
    expect(world.held()).toBe('no_profile');
  });

  it('made for another objective than the configured one is a warning in every plan', async () => {
    const world = await simple({
      config: { models: { llama: { slo: { ttftSeconds: 2, attainment: 0.99 } } } },
      profiles: { a100: profileText({ slos: { ttft: 5, percentile: 99 } }) },
    });
    await world.send('llama', { rps: 1 }).cycles(2);
    expect(world.warnings()).toEqual(['slo_mismatch']);
    expect(world.controller.plan()?.warnings[0]?.message).toContain('ttft 5 s instead of 2 s');
    expect(world.held()).toBeNull();
  });

  it.each([
    ['another addition', { ttft_per_input_token: 0.0005 }, 'ttft 0.5 ms per input token instead of 0.2 ms'],
    ['none', {}, 'ttft 0 ms per input token instead of 0.2 ms'],
    ['the configured one', { ttft_per_input_token: 0.0002 }, null],
  ])('made for a TTFT with %s per input token is compared with the configured objective', async (_, made, said) => {
    const slo = { ttftSeconds: 2, ttftSecondsPerInputToken: 0.0002, attainment: 0.99 };
    const world = await simple({
      config: { models: { llama: { slo } } },
      profiles: { a100: profileText({ slos: { ttft: 2, percentile: 99, ...made } }) },
    });
    await world.send('llama', { rps: 1 }).cycles(2);
    expect(world.warnings()).toEqual(said === null ? [] : ['slo_mismatch']);
    if (said !== null) expect(world.controller.plan()?.warnings[0]?.message).toContain(said);
  });
});

describe('a deployment without a profile', () => {
  it('keeps its current replicas and is reported, while its siblings are planned', async () => {
    const world = await simple({ deployments: [a100, { ...l4, currentReplicas: 7 }] });
    await world.send('llama', { rps: 4 }).cycle();
    expect([world.replicas('a100'), world.replicas('l4')]).toEqual([4, 7]);
    expect(world.warnings()).toEqual(['no_profile']);
    expect(world.controller.models()[0]?.deployments.map(({ notices }) => notices.length)).toEqual([0, 1]);
  });

  it('has no number where its current replicas are not known', async () => {
    const world = await simple({ deployments: [a100, { ...l4, currentReplicas: null }] });
    await world.send('llama', { rps: 4 }).cycle();
    expect([world.replicas('a100'), world.replicas('l4')]).toEqual([4, 'not-known']);
  });

  it('holds its model where no sibling has one either, says so, and keeps what runs', async () => {
    const world = await simple({ profiles: {}, deployments: [{ ...a100, currentReplicas: 3 }] });
    await world.send('llama', { rps: 4 }).cycle();
    expect(world.held()).toBe('no_profile');
    expect(world.replicas('a100')).toBe(3);
    expect(world.log.some(({ message }) => message.includes('default/a100: it has no profile'))).toBe(true);
    await world.writeProfile('a100', profileText({}));
    await world.cycle();
    expect([world.held(), world.replicas('a100')]).toEqual([null, 4]);
  });
});

describe('models and namespaces', () => {
  it('keep deployments of one name in two namespaces apart', async () => {
    const world = await new World({
      deployments: [
        deployment({ name: 'gpu', namespace: 'one', model: 'llama' }),
        deployment({ name: 'gpu', namespace: 'two', model: 'mistral' }),
      ],
    }).start();
    await world.writeProfile('gpu', profileText({ rps: 1 }), 'llama');
    await world.writeProfile('gpu', profileText({ rps: 2 }), 'mistral');
    await world.send('llama', { rps: 6 }).send('mistral', { rps: 6 }).cycle();
    expect([world.replicas('gpu', 'one'), world.replicas('gpu', 'two')]).toEqual([6, 3]);
  });

  it('make one pool of a model that runs in two namespaces', async () => {
    const world = await new World({
      deployments: [
        deployment({ name: 'gpu', namespace: 'one', maxReplicas: 4 }),
        deployment({ name: 'gpu', namespace: 'two', maxReplicas: 4 }),
      ],
      profiles: { gpu: profileText({ rps: 1 }) },
    }).start();
    await world.send('llama', { rps: 6 }).cycle();
    expect(Number(world.replicas('gpu', 'one')) + Number(world.replicas('gpu', 'two'))).toBe(6);
    expect(world.controller.models().map((model) => model.deployments.length)).toEqual([2]);
  });

  it('let a deployment move to another model with its label', async () => {
    const world = await simple({ deployments: [a100, l4], profiles: { a100: profileText({}), l4: profileText({}) } });
    await world.writeProfile('l4', profileText({ rps: 4 }), 'mistral');
    await world.send('llama', { rps: 4 }).send('mistral', { rps: 8 }).cycle();
    await world.settle();
    expect([world.replicas('a100'), world.replicas('l4')]).toEqual([0, 4]);
    const [first, second] = world.deployments.current.deployments;
    world.deployments.set({ deployments: [first!, { ...second!, model: 'mistral' }] });
    await world.cycle();
    expect([world.replicas('a100'), world.replicas('l4')]).toEqual([4, 2]);
    expect(world.controller.models().map(({ name }) => name)).toEqual(['llama', 'mistral']);
  });

  it('forget a deployment that is gone, and a model whose last one is gone', async () => {
    const world = await simple();
    await world.send('llama', { rps: 4 }).cycle();
    world.deployments.set({ deployments: [] });
    await world.cycle();
    expect(world.replicas('a100')).toBe('no-such-deployment');
    expect(world.controller.models()).toEqual([]);
    expect(world.controller.plan()?.deployments).toEqual([]);
  });

  it('take a hostile model name as it is', async () => {
    for (const model of ['a/b:*c\n', '__proto__', 'x'.repeat(10_000)]) {
      const world = new World({ deployments: [deployment({ name: 'gpu', model })] });
      await world.writeProfile('gpu', profileText({}), model);
      await world.start();
      await world.send(model, { rps: 2 }).cycle();
      expect(world.replicas('gpu')).toBe(2);
    }
  });
});

describe('an exception', () => {
  const two = {
    deployments: [a100, deployment({ name: 'm', model: 'mistral' })],
    profiles: { a100: profileText({}) },
  };

  it('in one model holds that model, with its numbers, and leaves the others', async () => {
    const world = new World(two);
    await world.writeProfile('m', profileText({}), 'mistral');
    await world.start();
    await world.send('llama', { rps: 2 }).send('mistral', { rps: 2 }).cycle();
    world.planFault = (problem) => {
      if (problem.models.some((model) => model.name === 'llama')) throw new Error('a bug');
    };
    await world.send('llama', { rps: 5 }).send('mistral', { rps: 5 }).cycles(2);
    expect([world.replicas('a100'), world.replicas('m')]).toEqual([2, 5]);
    expect([world.held('llama'), world.held('mistral')]).toEqual(['planning_failed', null]);
    world.planFault = null;
    await world.cycle();
    expect([world.replicas('a100'), world.held('llama')]).toEqual([5, null]);
  });

  it('that rejects a plan says that the plan was rejected', async () => {
    const world = await simple();
    world.planFault = () => {
      throw new PlanRejected(['x']);
    };
    await world.send('llama', { rps: 5 }).cycle();
    expect([world.replicas('a100'), world.held()]).toEqual(['not-known', 'plan_rejected']);
  });

  it('without an answer for a model keeps the last good plan of it, not what happens to run', async () => {
    const world = new World(two);
    await world.writeProfile('m', profileText({}), 'mistral');
    await world.start();
    await world.send('llama', { rps: 3 }).send('mistral', { rps: 2 }).cycle();
    world.planFault = (problem) => {
      const answer = plan(problem);
      return {
        ...answer,
        models: answer.models.map((model) =>
          model.name === 'llama' ? { ...model, status: 'held', heldReason: 'plan_rejected' } : model,
        ),
        deployments: answer.deployments.map((planned) =>
          planned.model === 'llama' ? { ...planned, replicas: 1, targetReplicas: 1 } : planned,
        ),
      };
    };
    await world.send('llama', { rps: 5 }).send('mistral', { rps: 5 }).cycles(2);
    expect([world.replicas('a100'), world.replicas('m')]).toEqual([3, 5]);
    expect([world.held('llama'), world.held('mistral')]).toEqual(['plan_rejected', null]);
  });

  it('of every model leaves the service answering', async () => {
    const world = await simple();
    await world.send('llama', { rps: 5 }).cycle();
    world.planFault = () => {
      throw new Error('a bug');
    };
    await world.cycles(3);
    expect([world.replicas('a100'), world.held()]).toEqual([5, 'planning_failed']);
  });
});

describe('the two documents', () => {
  it('belong together: the problem gives the plan again, and the plan passes the check of the problem', async () => {
    const world = await simple({
      deployments: [a100, l4, deployment({ name: 'x', currentReplicas: 2 })],
      profiles: { a100: profileText({ rps: 3 }), l4: profileText({ rps: 0.8 }) },
    });
    await world.send('llama', { rps: 11 }).cycles(3);
    const problem = world.controller.problem()!;
    const published = world.controller.plan()!;
    expect(checkPlan(problem, published)).toEqual([]);
    const again = plan(problem);
    expect(again.deployments.map(({ id, targetReplicas }) => [id, targetReplicas])).toEqual(
      published.deployments.map(({ id, targetReplicas }) => [id, targetReplicas]),
    );
    expect(again.shares).toEqual(published.shares);
    expect(published.models[0]).toMatchObject({ status: 'optimal', planAt: published.at, gap: 0 });
  });

  it('carry the money of the target and of what is published', async () => {
    const world = await simple({ config: { publish: { mode: 'shadow' } } });
    await world.send('llama', { rps: 5 }).cycle();
    expect(world.controller.plan()).toMatchObject({ usdPerHour: 15, publishedUsdPerHour: 3 });
  });
});

describe('prices', () => {
  it('come from the annotation, then the profile, then the catalogue', async () => {
    const world = await new World({
      deployments: [
        deployment({ name: 'annotated', usdPerReplicaHour: 9, gpusPerReplica: 2 }),
        deployment({ name: 'profiled', gpusPerReplica: 2 }),
        deployment({ name: 'listed', gpusPerReplica: 2 }),
      ],
      profiles: {
        annotated: profileText({ cost: 7 }),
        profiled: profileText({ cost: 7 }),
        listed: profileText({ cost: null }),
      },
    }).start();
    await world.send('llama', { rps: 1 }).cycle();
    const prices = world.controller.models()[0]?.deployments.map(({ usdPerReplicaHour }) => usdPerReplicaHour);
    expect(prices).toEqual([9, 7, 5]);
  });

  it('that nobody knows leave a deployment at its current replicas, never at infinity', async () => {
    const world = await new World({
      deployments: [a100, deployment({ name: 'l4', gpuType: 'L4', currentReplicas: 2 })],
      profiles: { a100: profileText({}), l4: profileText({ cost: null }) },
    }).start();
    await world.send('llama', { rps: 4 }).cycle();
    expect([world.replicas('a100'), world.replicas('l4')]).toEqual([4, 2]);
    expect(world.warnings()).toEqual(['no_price']);
    expect(JSON.stringify(world.controller.plan())).not.toMatch(/null,"utilization":null|Infinity|NaN/);
    expect(world.controller.models()[0]?.deployments[1]?.usdPerReplicaHour).toBeNull();
  });
});

describe('the saving against a single GPU type', () => {
  it('is told with the cheapest type that serves it all', async () => {
    // L4 serves only short inputs; at 4 + 4 requests/s the mix is cheaper than A100 alone.
    const world = await new World({
      deployments: [
        deployment({ name: 'a100', usdPerReplicaHour: 3 }),
        deployment({ name: 'l4', gpuType: 'L4', usdPerReplicaHour: 1 }),
      ],
      profiles: {
        a100: profileText({ rps: 2 }),
        l4: profileText({
          tputs: [
            [2, 0],
            [2, 0],
          ],
        }),
      },
    }).start();
    const lengths = [
      [128, 128],
      [4096, 128],
    ] as const;
    await world.send('llama', { rps: 8, lengths }).cycle();
    const [view] = world.controller.models();
    expect(view?.singleTypeGpu).toBe('A100-80GB');
    expect(view?.singleTypeUsdPerHour).toBe(12);
    expect(world.controller.plan()!.usdPerHour).toBe(8);
  });

  it('is of the same requests as the plan: computed anew where they grow longer at the same rate', async () => {
    // One replica serves 2 short or half a long request/s.
    const world = await new World({
      deployments: [deployment({ name: 'a100', usdPerReplicaHour: 3 })],
      profiles: {
        a100: profileText({
          tputs: [
            [2, 0.5],
            [2, 0.5],
          ],
        }),
      },
    }).start();
    await world.send('llama', { rps: 4, lengths: [[128, 128]] }).cycles(24);
    expect(world.controller.models()[0]?.singleTypeUsdPerHour).toBe(6);
    await world.send('llama', { rps: 4, lengths: [[4096, 128]] }).cycles(25);
    expect(world.controller.plan()!.usdPerHour).toBe(24);
    expect(world.controller.models()[0]?.singleTypeUsdPerHour).toBe(24);
  });

  it('is not computed again while nothing changes', async () => {
    const world = await simple();
    await world.send('llama', { rps: 4 }).cycle();
    const before = world.planned.length;
    await world.cycles(3);
    expect(world.planned.length - before).toBe(3);
  });

  it('is null where no single type serves it all', async () => {
    const world = await new World({
      deployments: [
        deployment({ name: 'a100', maxReplicas: 3 }),
        deployment({ name: 'l4', gpuType: 'L4', usdPerReplicaHour: 1, maxReplicas: 3 }),
      ],
      profiles: { a100: profileText({}), l4: profileText({}) },
    }).start();
    await world.send('llama', { rps: 5 }).cycles(2);
    expect(world.controller.plan()?.unserved).toEqual([]);
    expect(world.controller.models()[0]?.singleTypeUsdPerHour).toBeNull();
  });
});

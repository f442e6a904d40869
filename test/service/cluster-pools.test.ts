import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { GpuNode, GpuNodeSource, GpuNodesSnapshot, NodeGpus } from '../../src/core/ports.js';
import { clusterPools } from '../../src/service/cluster-pools.js';
import { configSchema } from '../../src/service/config.js';
import { fleetLimits } from '../../src/service/fleet-limits.js';
import { catalogue, deployment, profileText, World } from '../support/controller-world.js';

// What runs is what nodes tell, unless a test says otherwise.
const a100 = deployment({ name: 'a100', currentReplicas: 2, readyReplicas: 0 });
const l4 = deployment({ name: 'l4', gpuType: 'L4', readyReplicas: 0 });
const followed = new Map([a100, l4].map((each) => [each.id, each]));

function gpus(overrides: Partial<NodeGpus> = {}): NodeGpus {
  return { resource: 'nvidia.com/gpu', gpuType: 'A100-80GB', allocatable: 8, held: [], ...overrides };
}

function node(overrides: Partial<GpuNode> = {}): GpuNode {
  return { name: 'gpu-1', closed: null, gpus: [gpus()], misspelt: null, ...overrides };
}

const held = (deploymentId: string | null, running: number, ending = 0) => ({
  deployment: deploymentId,
  running,
  ending,
});

const pools = (
  nodes: readonly GpuNode[],
  { staleSince = null, of = followed }: { readonly staleSince?: number | null; readonly of?: typeof followed } = {},
) => clusterPools({ nodes, staleSince, problem: staleSince === null ? null : '403 Forbidden' }, of);

/** The one pool of A100s while so many replicas of `default/a100` are ready, of so many GPUs each. */
const poolOf = (
  nodes: readonly GpuNode[],
  {
    ready,
    gpusPerReplica = 1,
    staleSince = null,
  }: {
    readonly ready: number;
    readonly gpusPerReplica?: number;
    readonly staleSince?: number | null;
  },
) =>
  pools(nodes, {
    staleSince,
    of: new Map([[a100.id, { ...a100, readyReplicas: ready, gpusPerReplica }]]),
  }).ledgers.find(({ gpuType }) => gpuType === 'A100-80GB')!;

describe('the pool of a type', () => {
  it('is what its nodes have, less what pods of others hold', () => {
    const nodes = [
      node({ gpus: [gpus({ held: [held('default/a100', 2), held('other/web', 1), held(null, 1)] })] }),
      node({ name: 'gpu-2', gpus: [gpus({ allocatable: 4 })] }),
    ];
    expect(pools(nodes).ledgers).toEqual([
      { gpuType: 'A100-80GB', gpus: 10, foreign: 2, excluded: 0, allocatable: 12, oversubscribed: 0, unseen: 0 },
    ]);
  });

  it.each(['cordoned', 'not_ready', 'leaving'] as const)(
    'keeps of a %s node what runs there, and no more',
    (closed) => {
      const nodes = [node(), node({ closed, gpus: [gpus({ held: [held('default/a100', 3, 2), held(null, 1)] })] })];
      expect(pools(nodes).ledgers).toEqual([
        { gpuType: 'A100-80GB', gpus: 11, foreign: 3, excluded: 2, allocatable: 16, oversubscribed: 0, unseen: 0 },
      ]);
    },
  );

  it('counts a replica that goes from an open node as room for another one', () => {
    const nodes = [node({ gpus: [gpus({ held: [held('default/a100', 1, 3), held(null, 4, 0)] })] })];
    expect(pools(nodes).ledgers[0]!.gpus).toBe(4);
  });

  it('is never less than what runs, where a device plugin has nothing to give', () => {
    const nodes = [node({ gpus: [gpus({ allocatable: 0, held: [held('default/a100', 3), held(null, 2)] })] })];
    expect(pools(nodes).ledgers).toEqual([
      { gpuType: 'A100-80GB', gpus: 3, foreign: 2, excluded: 0, allocatable: 0, oversubscribed: 5, unseen: 0 },
    ]);
  });

  it('keeps replicas whose node lost its label, or says another type by now', () => {
    const full = gpus({ held: [held('default/a100', 8)] });
    const open = node({ name: 'gpu-2', gpus: [gpus({ held: [held('default/a100', 2)] })] });
    for (const gpuType of [null, 'H100']) {
      const relabelled = node({ gpus: [{ ...full, gpuType }] });
      // Ten run: eight on the node that is no A100 any more, two beside six that are free.
      expect(poolOf([relabelled, open], { ready: 10 })).toMatchObject({ gpus: 16, allocatable: 8, unseen: 8 });
    }
    const other = pools([node({ gpus: [{ ...full, gpuType: 'L4', held: [held('default/a100', 3)] }] })]);
    // To those that are planned there, they are somebody else's.
    expect(other.ledgers).toMatchObject([{ gpuType: 'L4', gpus: 5, foreign: 3 }]);
  });

  it('keeps replicas that no node tells of: on nodes that are left out, or by resource claims', () => {
    expect(poolOf([node()], { ready: 3, gpusPerReplica: 2 })).toMatchObject({ gpus: 14, allocatable: 8, unseen: 6 });
  });

  it('counts parts of a GPU that another pod stands for as ours', () => {
    // Three halves on two GPUs, which a pod of the scheduler holds.
    const reserved = node({ gpus: [gpus({ held: [held(null, 2)] })] });
    expect(poolOf([reserved], { ready: 3, gpusPerReplica: 0.5 })).toMatchObject({ gpus: 7.5, foreign: 2, unseen: 1.5 });
  });

  it('counts no replica twice: not while it goes, nor while a view is old', () => {
    const going = node({ gpus: [gpus({ held: [held('default/a100', 2, 2)] })] });
    expect(poolOf([going], { ready: 4 })).toMatchObject({ gpus: 8, unseen: 0 });
    const before = node({ gpus: [gpus({ held: [held('default/a100', 4)] })] });
    expect(poolOf([before], { ready: 8, staleSince: 0 })).toMatchObject({ gpus: 8, unseen: 0 });
    expect(poolOf([before], { ready: 11, staleSince: 0 })).toMatchObject({ gpus: 11, unseen: 3 });
  });

  it('adds up: pool, others’ and excluded GPUs are what is allocatable, whatever the cluster looks like', () => {
    const count = fc.nat({ max: 12 });
    const anyHeld = fc.record({
      deployment: fc.constantFrom('default/a100', 'default/l4', 'other/web', null),
      running: count,
      ending: count,
    });
    const anyGpus = fc.record({
      resource: fc.constantFrom('nvidia.com/gpu', 'nvidia.com/gpu.shared', 'amd.com/gpu'),
      gpuType: fc.constantFrom('A100-80GB', 'L4', 'MI300X'),
      allocatable: fc.nat({ max: 40 }),
      held: fc.uniqueArray(anyHeld, { maxLength: 4, selector: (each) => each.deployment }),
    });
    const anyNode = fc.record({
      name: fc.string({ maxLength: 5 }),
      closed: fc.constantFrom(null, null, 'cordoned' as const, 'not_ready' as const, 'leaving' as const),
      gpus: fc.uniqueArray(anyGpus, { maxLength: 3, selector: (each) => each.resource }),
      misspelt: fc.constant(null),
    });
    const anyReady = fc.record({ ready: count, gpusPerReplica: fc.constantFrom(0.5, 1, 2), isOld: fc.boolean() });
    fc.assert(
      fc.property(fc.array(anyNode, { maxLength: 12 }), anyReady, (nodes, { ready, gpusPerReplica, isOld }) => {
        const of = new Map([...followed].map(([id, one]) => [id, { ...one, readyReplicas: ready, gpusPerReplica }]));
        const { ledgers } = pools(nodes, { of, staleSince: isOld ? 0 : null });
        for (const ledger of ledgers) {
          const { gpuType, gpus: pool, foreign, excluded, allocatable, oversubscribed, unseen } = ledger;
          const parts = nodes.flatMap((each) => each.gpus.map((one) => ({ ...one, closed: each.closed })));
          const mine = parts.filter((each) => each.gpuType === gpuType);
          expect(allocatable).toBe(mine.reduce((sum, each) => sum + each.allocatable, 0));
          expect(pool + foreign + excluded).toBe(allocatable + oversubscribed + unseen);
          const planned = [...of.values()].find((each) => each.gpuType === gpuType);
          const running = nodes
            .flatMap((each) => each.gpus.flatMap((one) => one.held))
            .filter((each) => planned !== undefined && each.deployment === planned.id)
            .reduce((sum, each) => sum + each.running, 0);
          expect(pool).toBeGreaterThanOrEqual(running);
          if (planned !== undefined) expect(pool).toBeGreaterThanOrEqual(ready * gpusPerReplica);
          for (const part of [pool, foreign, excluded, oversubscribed, unseen]) expect(part).toBeGreaterThanOrEqual(0);
        }
        const types = new Set(nodes.flatMap((each) => each.gpus.map(({ gpuType }) => gpuType)));
        expect(ledgers.map(({ gpuType }) => gpuType)).toEqual([...types].sort());
      }),
      { numRuns: 300, seed: 20261121 },
    );
  });
});

describe('what is told', () => {
  it('of GPUs whose product no label names: how many, where, and what was probably meant', () => {
    const unnamed = gpus({ gpuType: null });
    const misspelt = ['nvidia.com/gpu.prodct', 'nvidia.com/gpu.product'] as const;
    const nodes = [1, 2, 3, 4].map((index) => node({ name: `gpu-${index}`, gpus: [unnamed], misspelt }));
    const { ledgers, notices } = pools(nodes);
    expect(ledgers).toEqual([]);
    expect(notices).toMatchObject([{ code: 'unnamed_gpus' }]);
    expect(notices[0]!.message).toMatch(
      /^32 nvidia.com\/gpu of gpu-1, gpu-2, gpu-3 and 1 more are in no pool: .*did you mean nvidia.com\/gpu.product by the label nvidia.com\/gpu.prodct\?$/,
    );
  });

  it('of a deployment that runs on another type than it is planned on', () => {
    const nodes = [node({ gpus: [gpus({ gpuType: 'H100', held: [held('default/a100', 1)] })] })];
    expect(pools(nodes).notices).toMatchObject([{ code: 'gpu_type_differs', deployment: 'default/a100' }]);
  });

  it('of a view that is old: since when and why', () => {
    expect(pools([node()], { staleSince: Date.UTC(2026, 10, 20) }).notices).toMatchObject([
      { code: 'nodes_stale', message: expect.stringContaining('2026-11-20T00:00:00.000Z: 403 Forbidden') },
    ]);
  });
});

describe('the limits of the fleet with pools from nodes', () => {
  const limitsOf = (extra: Readonly<Record<string, unknown>>, nodes: readonly GpuNode[]) =>
    fleetLimits({
      config: configSchema.parse({ redis: { url: 'redis://unused' }, pools: { fromNodes: true, ...extra } }),
      catalogue,
      deployments: followed.values(),
      cluster: pools(nodes),
      shortages: [],
      seenGpus: new Map(),
    });
  const both = [node(), node({ name: 'l4', gpus: [gpus({ gpuType: 'L4', allocatable: 4 })] })];

  it('are counted for every type that a deployment uses, and no other', () => {
    const limits = limitsOf({}, [...both, node({ name: 't4', gpus: [gpus({ gpuType: 'T4' })] })]);
    expect(limits.pools).toEqual([
      { gpuType: 'A100-80GB', gpus: 8 },
      { gpuType: 'L4', gpus: 4 },
    ]);
    expect(limits.notices).toEqual([]);
  });

  it('are given where the list names a type, by any of its names', () => {
    expect(limitsOf({ list: [{ gpuType: 'a100', gpus: null }] }, both).pools).toEqual([
      { gpuType: 'A100-80GB', gpus: null },
      { gpuType: 'L4', gpus: 4 },
    ]);
  });

  it('hold a type that no node has to what runs, also where there is no node at all', () => {
    const limits = limitsOf({}, []);
    expect(limits.pools).toEqual([
      { gpuType: 'A100-80GB', gpus: 2 },
      { gpuType: 'L4', gpus: 1 },
    ]);
    expect(limits.notices[0]!.message).toContain('A100-80GB: no node has it, so it may use the 2 GPUs');
    expect(limitsOf({}, [both[0]!]).notices[0]!.message).toContain('(nodes have A100-80GB)');
    expect(limitsOf({}, [both[0]!]).notices[0]!.message).toContain('add it to pools.list');
  });
});

/** Nodes as a test sets them. */
class SetNodes implements GpuNodeSource {
  current: GpuNodesSnapshot = { synced: true, staleSince: null, problem: null, nodes: [] };
  async start(): Promise<void> {}
  async stop(): Promise<void> {}
  onChange(): void {}
  snapshot(): GpuNodesSnapshot {
    return this.current;
  }
  set(change: Partial<GpuNodesSnapshot>): void {
    this.current = { ...this.current, ...change };
  }
}

/** 8 replicas are needed; what is published is done at once, and runs on the node. */
async function world(nodes: SetNodes): Promise<World> {
  const made = new World({
    config: { pools: { fromNodes: true } },
    deployments: [deployment({ name: 'a100', currentReplicas: 4 })],
    profiles: { a100: profileText({ rps: 1 }) },
    gpuNodes: nodes,
  });
  made.send('llama', { rps: 8 });
  await made.start();
  await made.cycles(3);
  return made;
}

const replicasOf = (made: World) => made.controller.models()[0]!.deployments[0]!.replicas;

describe('the service', () => {
  it('plans with the GPUs that are there, and with more as soon as there are more', async () => {
    const nodes = new SetNodes();
    nodes.set({ nodes: [node({ gpus: [gpus({ allocatable: 6, held: [held('default/a100', 4)] })] })] });
    const made = await world(nodes);
    expect(replicasOf(made)).toBe(6);
    expect(made.controller.plan()!.unserved).toMatchObject([{ reason: 'capacity' }]);
    nodes.set({ nodes: [node()] });
    await made.cycle();
    expect(replicasOf(made)).toBe(8);
  });

  it('publishes nothing before it has counted once, and keeps what it counted when it no longer can', async () => {
    const nodes = new SetNodes();
    nodes.set({ synced: false, problem: 'nodes is forbidden' });
    const made = await world(nodes);
    expect(replicasOf(made)).toBeNull();
    expect(made.controller.models()[0]!.heldReason).toBe('nodes_unread');
    expect(made.controller.inputs().find(({ input }) => input === 'nodes')).toMatchObject({
      ok: false,
      problem: 'nodes is forbidden',
    });
    const six = gpus({ allocatable: 6, held: [held('default/a100', 4)] });
    nodes.set({ synced: true, problem: null, nodes: [node({ gpus: [six] })] });
    await made.cycle();
    expect(replicasOf(made)).toBe(6);
    nodes.set({ staleSince: made.nowMs, problem: 'gone' });
    await made.cycles(3);
    expect(replicasOf(made)).toBe(6);
    expect(made.controller.plan()!.warnings.map(({ code }) => code)).toContain('nodes_stale');
    expect(made.controller.inputs().find(({ input }) => input === 'nodes')!.ok).toBe(false);
  });

  it('cuts no replica because its node is cordoned, flaps, loses its label or is left out', async () => {
    const nodes = new SetNodes();
    const full = gpus({ held: [held('default/a100', 8)] });
    const spare = node({ name: 'gpu-2', gpus: [gpus({ allocatable: 1 })] });
    nodes.set({ nodes: [node()] });
    const made = await world(nodes);
    made.follow();
    const states: readonly Partial<GpuNode>[] = [
      ...(['cordoned', null, 'not_ready', null, 'leaving'] as const).map((closed) => ({ closed, gpus: [full] })),
      { gpus: [{ ...full, gpuType: null }] },
      { gpus: [{ ...full, gpuType: 'L4' }] },
      { gpus: [{ ...full, allocatable: 0 }] },
    ];
    for (const state of states) {
      nodes.set({ nodes: [node(state), spare] });
      await made.cycle();
      expect([state, replicasOf(made)]).toEqual([state, 8]);
    }
    nodes.set({ nodes: [spare] });
    await made.cycle();
    expect(replicasOf(made)).toBe(8);
    // What is gone with its replicas is gone.
    const [one] = made.deployments.current.deployments;
    made.deployments.set({ deployments: [{ ...one!, readyReplicas: 0, pendingReplicas: 8 }] });
    await made.cycle();
    expect(replicasOf(made)).toBe(1);
  });
});

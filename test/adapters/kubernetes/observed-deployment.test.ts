import type { V1Deployment } from '@kubernetes/client-node';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadGpuCatalogue } from '../../../src/adapters/catalogue-file.js';
import { observeDeployment } from '../../../src/adapters/kubernetes/observed-deployment.js';
import { problemDeploymentSchema } from '../../../src/core/planning-problem.js';
import type { ObservedDeployment } from '../../../src/core/ports.js';

const catalogue = await loadGpuCatalogue();

type Overrides = {
  readonly name?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly podSpec?: object;
  readonly podAnnotations?: Readonly<Record<string, string>>;
  readonly limits?: Readonly<Record<string, string>>;
  readonly spec?: object;
  readonly status?: object;
};

function deployment(overrides: Overrides = {}): V1Deployment {
  const { name = 'llama2-7b', limits = { 'nvidia.com/gpu': '1' } } = overrides;
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: {
      namespace: 'prod',
      name,
      labels: { 'model.aibrix.ai/name': 'llama2-7b', ...overrides.labels },
      annotations: { ...overrides.annotations },
    },
    spec: {
      replicas: 3,
      selector: {},
      template: {
        metadata: { annotations: { ...overrides.podAnnotations } },
        spec: { containers: [{ name: 'engine', resources: { limits: { ...limits } } }], ...overrides.podSpec },
      },
      ...overrides.spec,
    },
    status: { readyReplicas: 2, ...overrides.status },
  };
}

function observe(overrides: Overrides = {}): ObservedDeployment {
  return observeDeployment(deployment(overrides), catalogue)!;
}

const messages = (observed: ObservedDeployment) => observed.notices.map((notice) => notice.message).join('\n');

describe('a deployment of a model', () => {
  it('is read whole from labels, annotations, template and status', () => {
    expect(
      observe({
        labels: { 'model.aibrix.ai/min_replicas': '3' },
        annotations: {
          'gpumix.dev/gpu-type': 'nvidia-l20',
          'gpumix.dev/usd-per-hour': '1.25',
          'gpumix.dev/min-replicas': '1',
          'gpumix.dev/max-replicas': '8',
          'gpumix.dev/max-tokens': '32768',
          'gpumix.dev/paused': 'true',
          'gpumix.dev/startup-seconds': '180.5',
        },
        limits: { 'nvidia.com/gpu': '2' },
      }),
    ).toEqual({
      id: 'prod/llama2-7b',
      namespace: 'prod',
      name: 'llama2-7b',
      model: 'llama2-7b',
      gpuType: 'L20',
      gpusPerReplica: 2,
      usdPerReplicaHour: 1.25,
      minReplicas: 1,
      idleMinReplicas: 3,
      maxReplicas: 8,
      maxReplicasIsAssumed: false,
      currentReplicas: 3,
      readyReplicas: 2,
      pendingReplicas: 1,
      startupSeconds: 180.5,
      maxTokens: 32768,
      paused: true,
      notices: [],
    });
  });

  it('has the defaults of a PlanningProblem where nothing is said, and no idle floor rather than 0', () => {
    expect(observe()).toMatchObject({
      minReplicas: 0,
      idleMinReplicas: null,
      maxReplicas: 1000,
      maxReplicasIsAssumed: true,
      usdPerReplicaHour: null,
      startupSeconds: null,
      maxTokens: null,
      paused: false,
      notices: [],
    });
  });

  it('runs one replica where spec.replicas is absent, and none ready where the status is', () => {
    expect(observe({ spec: { replicas: undefined }, status: { readyReplicas: undefined } })).toMatchObject({
      currentReplicas: 1,
      readyReplicas: 0,
      pendingReplicas: 1,
    });
  });

  it.each([undefined, null, [20], 'x', 7])('has an unknown number of replicas where its spec is %j', (spec) => {
    const observed = observeDeployment({ ...deployment(), spec }, catalogue)!;
    expect(observed).toMatchObject({ currentReplicas: null, pendingReplicas: null });
    expect(messages(observed)).toContain('spec.replicas: found nothing, expected a whole number');
  });

  it.each([[[20]], 'x', 7])('has an unknown number of ready replicas where its status is %j', (status) => {
    const observed = observeDeployment({ ...deployment(), status }, catalogue)!;
    expect(observed).toMatchObject({ currentReplicas: 3, readyReplicas: null });
  });

  it('has nothing pending while it shrinks', () => {
    expect(observe({ spec: { replicas: 1 }, status: { readyReplicas: 4 } })).toMatchObject({
      currentReplicas: 1,
      readyReplicas: 4,
      pendingReplicas: 0,
    });
  });

  it.each([-1, 2.5, '3', 1_000_001, null])(
    'has an unknown number of replicas where spec.replicas is %j',
    (replicas) => {
      const observed = observe({ spec: { replicas } });
      expect(observed).toMatchObject({ currentReplicas: null, pendingReplicas: null });
      expect(messages(observed)).toContain(`spec.replicas: found ${JSON.stringify(replicas)}, expected a whole number`);
    },
  );

  it.each([-1, 2.5, '3', 1_000_001, null])(
    'has an unknown number of ready replicas, not none, where status.readyReplicas is %j',
    (readyReplicas) => {
      const observed = observe({ status: { readyReplicas } });
      expect(observed).toMatchObject({ currentReplicas: 3, readyReplicas: null, pendingReplicas: null });
      expect(messages(observed)).toContain(
        `status.readyReplicas: found ${JSON.stringify(readyReplicas)}, expected a whole number`,
      );
    },
  );

  it('distinguishes an explicit idle floor of 0 from none', () => {
    expect(observe({ labels: { 'model.aibrix.ai/min_replicas': '0' } }).idleMinReplicas).toBe(0);
  });

  it('is nothing to follow without a model, with an empty one, or while it is deleted', () => {
    expect(observeDeployment({ metadata: { namespace: 'a', name: 'b' } }, catalogue)).toBeNull();
    expect(observeDeployment(deployment({ labels: { 'model.aibrix.ai/name': '' } }), catalogue)).toBeNull();
    const going = deployment();
    going.metadata!.deletionTimestamp = new Date('2026-11-20T10:00:00Z');
    expect(observeDeployment(going, catalogue)).toBeNull();
  });
});

describe('an annotation or label that cannot be read', () => {
  it.each([
    ['gpumix.dev/usd-per-hour', '$3', 'USD per replica-hour as a plain number >= 0', { usdPerReplicaHour: null }],
    ['gpumix.dev/usd-per-hour', '-1', 'USD per replica-hour as a plain number >= 0', { usdPerReplicaHour: null }],
    ['gpumix.dev/usd-per-hour', 'Infinity', 'a plain number', { usdPerReplicaHour: null }],
    ['gpumix.dev/usd-per-hour', '', 'a plain number', { usdPerReplicaHour: null }],
    ['gpumix.dev/min-replicas', '1.5', 'a whole number from 0 to 1000000', { minReplicas: 0 }],
    ['gpumix.dev/min-replicas', '0x10', 'a whole number from 0 to 1000000', { minReplicas: 0 }],
    ['gpumix.dev/max-replicas', 'many', 'a whole number from 0 to 1000000', { maxReplicas: 1000 }],
    ['gpumix.dev/max-replicas', '1000001', 'a whole number from 0 to 1000000', { maxReplicas: 1000 }],
    ['gpumix.dev/max-tokens', '0', 'a whole number above 0', { maxTokens: null }],
    ['gpumix.dev/max-tokens', '32k', 'a whole number above 0', { maxTokens: null }],
    ['gpumix.dev/startup-seconds', '3m', 'seconds as a plain number >= 0', { startupSeconds: null }],
    ['gpumix.dev/gpu-type', ' ', 'a GPU type', { gpuType: null }],
  ])('%s: "%s" is said with what was expected, and the default is used', (key, found, expected, used) => {
    const observed = observe({ annotations: { [key]: found } });
    expect(observed).toMatchObject(used);
    expect(observed.notices).toHaveLength(1);
    expect(observed.notices[0]).toMatchObject({ code: 'bad_annotation' });
    expect(messages(observed)).toContain(`annotation ${key}: found ${JSON.stringify(found)}, expected`);
    expect(messages(observed)).toContain(expected);
    expect(messages(observed)).toContain('; using ');
  });

  it.each(['three', '-1', '1.5', ''])('a min_replicas label of "%s" is said and taken as absent', (found) => {
    const observed = observe({ labels: { 'model.aibrix.ai/min_replicas': found } });
    expect(observed.idleMinReplicas).toBeNull();
    expect(messages(observed)).toBe(
      `label model.aibrix.ai/min_replicas: found "${found}", expected a whole number from 0 to 1000000; taken as absent`,
    );
  });

  it('pauses where gpumix.dev/paused cannot be read: whoever wrote it wants scaling to stop', () => {
    const observed = observe({ annotations: { 'gpumix.dev/paused': 'yes' } });
    expect(observed.paused).toBe(true);
    expect(messages(observed)).toContain('found "yes", expected "true" or "false"; using "true"');
    expect(observe({ annotations: { 'gpumix.dev/paused': 'False' } })).toMatchObject({ paused: false, notices: [] });
  });

  it('is found where it is misspelt', () => {
    const observed = observe({ annotations: { 'gpumix.dev/minReplicas': '2', 'gpumix.dev/gpu-typ': 'L4' } });
    expect(observed.minReplicas).toBe(0);
    expect(observed.notices.map((notice) => notice.code)).toEqual(['unknown_annotation', 'unknown_annotation']);
    expect(messages(observed)).toContain('did you mean "gpumix.dev/min-replicas"?');
    expect(messages(observed)).toContain('did you mean "gpumix.dev/gpu-type"?');
  });

  it('is found where it stands among labels, or a label among annotations', () => {
    const observed = observe({
      labels: { 'gpumix.dev/paused': 'true', 'model.aibrix.ai/min-replicas': '2' },
      annotations: { 'model.aibrix.ai/min_replicas': '2' },
    });
    expect(messages(observed)).toContain('"gpumix.dev/paused": found as a label, expected as an annotation');
    expect(messages(observed)).toContain('label "model.aibrix.ai/min-replicas": found an unknown name');
    expect(messages(observed)).toContain('model.aibrix.ai/min_replicas: found as an annotation, expected as a label');
  });

  it('suggests a GPU type that was nearly written', () => {
    const observed = observe({ annotations: { 'gpumix.dev/gpu-type': 'A100-80G' } });
    expect(observed.gpuType).toBe('A100-80G');
    expect(messages(observed)).toContain('did you mean "A100-80GB"?');
  });

  it('lists no more than a person can read', () => {
    const annotations = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`gpumix.dev/key-${i}`, '']));
    expect(observe({ annotations }).notices).toHaveLength(20);
  });
});

describe('a floor above the ceiling', () => {
  it('is lowered to a ceiling that was set, and said', () => {
    const observed = observe({
      labels: { 'model.aibrix.ai/min_replicas': '5' },
      annotations: { 'gpumix.dev/min-replicas': '6', 'gpumix.dev/max-replicas': '4' },
    });
    expect(observed).toMatchObject({ minReplicas: 4, idleMinReplicas: 4, maxReplicas: 4 });
    expect(observed.notices.map((notice) => notice.code)).toEqual(['min_above_max', 'min_above_max']);
    expect(messages(observed)).toContain('found 6, expected at most gpumix.dev/max-replicas, which is 4; using 4');
  });

  it('raises a ceiling that is only the default', () => {
    expect(observe({ annotations: { 'gpumix.dev/min-replicas': '2000' } })).toMatchObject({
      minReplicas: 2000,
      maxReplicas: 2000,
      notices: [],
    });
  });
});

const affinity = (...expressions: readonly object[]) => ({
  affinity: {
    nodeAffinity: {
      requiredDuringSchedulingIgnoredDuringExecution: {
        nodeSelectorTerms: [{ matchExpressions: expressions }],
      },
    },
  },
});

describe('the GPU type', () => {
  it.each([
    ['nvidia.com/gpu.product', 'NVIDIA-A100-SXM4-80GB', 'A100-80GB'],
    ['cloud.google.com/gke-accelerator', 'nvidia-l4', 'L4'],
    ['karpenter.k8s.aws/instance-gpu-name', 'a10g', 'A10G'],
    ['machine.cluster.vke.volcengine.com/gpu-name', 'Tesla-V100', 'V100'],
    ['aliyun.accelerator/nvidia_name', 'Tesla-P4', 'P4'],
    ['k8s.amazonaws.com/accelerator', 'nvidia-tesla-v100', 'V100'],
    ['amd.com/gpu.product-name', 'AMD_Instinct_MI300X_OAM', 'MI300X'],
    ['gpu.nvidia.com/model', 'L40S', 'L40S'],
    ['node.kubernetes.io/instance-type', 'p5.48xlarge', 'H100'],
    ['example.com/our-own-key', 'NVIDIA-L20', 'L20'],
    ['nvidia.com/gpu.product', 'NVIDIA-Unheard-Of', 'NVIDIA-Unheard-Of'],
  ])('is that of a node selector %s=%s: %s', (key, value, type) => {
    expect(observe({ podSpec: { nodeSelector: { [key]: value } } })).toMatchObject({ gpuType: type, notices: [] });
    expect(observe({ podSpec: affinity({ key, operator: 'In', values: [value] }) })).toMatchObject({ gpuType: type });
  });

  it('is that of the annotation before any node selector', () => {
    const observed = observe({
      annotations: { 'gpumix.dev/gpu-type': 'h100' },
      podSpec: { nodeSelector: { 'nvidia.com/gpu.product': 'NVIDIA-L20' } },
      name: 'llama-a10',
    });
    expect(observed.gpuType).toBe('H100');
  });

  it('is that of a node selector before the name', () => {
    const podSpec = { nodeSelector: { 'nvidia.com/gpu.product': 'NVIDIA-L20' } };
    expect(observe({ podSpec, name: 'llama-a10' }).gpuType).toBe('L20');
  });

  it('is that of the name where nothing else says it', () => {
    expect(observe({ name: 'deepseek-coder-7b-l20' }).gpuType).toBe('L20');
  });

  it('is null where nothing names one', () => {
    expect(observe({ podSpec: { nodeSelector: { 'kubernetes.io/os': 'linux', accelerator: 'nvidia' } } }).gpuType).toBe(
      null,
    );
  });

  it('is the first of several, with a notice that names them', () => {
    const observed = observe({
      podSpec: affinity({ key: 'nvidia.com/gpu.product', operator: 'In', values: ['NVIDIA-L4', 'NVIDIA-L40S'] }),
    });
    expect(observed.gpuType).toBe('L4');
    expect(observed.notices).toHaveLength(1);
    expect(observed.notices[0]!.code).toBe('several_gpu_types');
    expect(observed.notices[0]!.message).toContain('L4, L40S');
  });

  it('is one where several spellings of it are allowed', () => {
    const values = ['NVIDIA-A100-SXM4-80GB', 'NVIDIA-A100-80GB-PCIe'];
    expect(observe({ podSpec: affinity({ key: 'nvidia.com/gpu.product', operator: 'In', values }) })).toMatchObject({
      gpuType: 'A100-80GB',
      notices: [],
    });
  });

  it('is not taken from nodes that are ruled out or only preferred', () => {
    const key = 'nvidia.com/gpu.product';
    expect(observe({ podSpec: affinity({ key, operator: 'NotIn', values: ['NVIDIA-L4'] }) }).gpuType).toBeNull();
    const preference = { matchExpressions: [{ key, operator: 'In', values: ['NVIDIA-L4'] }] };
    const podSpec = {
      affinity: { nodeAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 1, preference }] } },
    };
    expect(observe({ podSpec }).gpuType).toBeNull();
  });

  it('of a part of a GPU is a type of its own', () => {
    const podSpec = { nodeSelector: { 'nvidia.com/gpu.product': 'NVIDIA-A100-SXM4-80GB' } };
    expect(observe({ podSpec: { ...podSpec }, limits: {} }).gpuType).toBe('A100-80GB');
    const mig = observe({
      podSpec: { nodeSelector: podSpec.nodeSelector, containers: [container({ 'nvidia.com/mig-1g.10gb': '2' })] },
    });
    expect(mig).toMatchObject({ gpuType: 'A100-80GB-MIG-1g.10gb', gpusPerReplica: 2 });
    expect(observe({ name: 'llama-t4', limits: { 'nvidia.com/gpu.shared': '1' } }).gpuType).toBe('T4-SHARED');
  });
});

function container(limits: Readonly<Record<string, string>>, more: object = {}): object {
  return { name: 'c', resources: { limits }, ...more };
}

describe('GPUs per replica', () => {
  it.each([
    [{ 'nvidia.com/gpu': '8' }, 8],
    [{ 'nvidia.com/gpu': '1', 'nvidia.com/gpumem': '8000', 'nvidia.com/gpucores': '50' }, 1],
    [{ 'amd.com/gpu': '4' }, 4],
    [{ 'amd.com/cpx_nps4': '2' }, 2],
    [{ 'gpu.intel.com/i915': '1', 'gpu.intel.com/i915_monitoring': '1', 'gpu.intel.com/memory.max': '8G' }, 1],
    [{ 'gpu.intel.com/xe': '2' }, 2],
    [{ 'habana.ai/gaudi': '8' }, 8],
    [{ 'huawei.com/Ascend910': '8' }, 8],
    [{ 'huawei.com/Ascend310P': '1', 'huawei.com/Ascend310P-memory': '2048' }, 1],
    [{ 'aliyun.com/gpu-count': '2' }, 2],
    [{ 'nvidia.com/gpu': '2000m' }, 2],
    [{ 'some-vendor.example/gpu': '3' }, 3],
  ])('are the devices of %j: %d', (limits, count) => {
    expect(observe({ limits: limits as Readonly<Record<string, string>> })).toMatchObject({
      gpusPerReplica: count,
      notices: [],
    });
  });

  it('sum over containers', () => {
    const podSpec = { containers: [container({ 'nvidia.com/gpu': '2' }), container({ 'nvidia.com/gpu': '1' })] };
    expect(observe({ podSpec }).gpusPerReplica).toBe(3);
  });

  it('are those of an init container where it takes more, and not both', () => {
    const containers = [container({ 'nvidia.com/gpu': '2' })];
    const init = (count: string) => ({ containers, initContainers: [container({ 'nvidia.com/gpu': count })] });
    expect(observe({ podSpec: init('4') }).gpusPerReplica).toBe(4);
    expect(observe({ podSpec: init('1') }).gpusPerReplica).toBe(2);
  });

  it('count sidecars all the time, and with the init containers that start after them', () => {
    const sidecar = container({ 'nvidia.com/gpu': '1' }, { restartPolicy: 'Always' });
    const podSpec = {
      containers: [container({ 'nvidia.com/gpu': '2' })],
      initContainers: [container({ 'nvidia.com/gpu': '3' }), sidecar, container({ 'nvidia.com/gpu': '4' })],
    };
    // running: 2 + 1; starting: 3 before the sidecar, 1 + 4 after it
    expect(observe({ podSpec }).gpusPerReplica).toBe(5);
  });

  it('are assumed to be one where no limit says, and the notice says why', () => {
    const observed = observe({ limits: {} });
    expect(observed.gpusPerReplica).toBe(1);
    expect(observed.notices).toEqual([
      {
        code: 'gpu_count_assumed',
        message: 'no container has a GPU in its limits; one GPU per replica is assumed',
      },
    ]);
    expect(messages(observe({ limits: { 'aliyun.com/gpu-mem': '8' } }))).toContain('aliyun.com/gpu-mem');
    expect(messages(observe({ limits: {}, podSpec: { containers: [], resourceClaims: [{ name: 'c' }] } }))).toContain(
      'resource claims',
    );
  });

  it('are the fraction that KAI is asked for', () => {
    expect(observe({ limits: {}, podAnnotations: { 'gpu-fraction': '0.5' } })).toMatchObject({
      gpusPerReplica: 0.5,
      notices: [],
    });
  });
});

/** JSON that looks like a Deployment in some places and like anything in others. */
const hostileDeployment = fc.record({
  metadata: fc.record(
    {
      namespace: fc.oneof(fc.string(), fc.jsonValue()),
      name: fc.oneof(fc.constantFrom('a', 'constructor', '__proto__'), fc.string({ minLength: 1 }), fc.jsonValue()),
      labels: fc.record({
        'model.aibrix.ai/name': fc.oneof(fc.constantFrom('m', '__proto__', 'a/b:*\n'), fc.jsonValue()),
        'model.aibrix.ai/min_replicas': fc.oneof(fc.integer().map(String), fc.jsonValue()),
      }),
      annotations: fc.oneof(
        fc.dictionary(
          fc.constantFrom(
            'gpumix.dev/min-replicas',
            'gpumix.dev/max-replicas',
            'gpumix.dev/usd-per-hour',
            'gpumix.dev/max-tokens',
            'gpumix.dev/startup-seconds',
            'gpumix.dev/paused',
            'gpumix.dev/gpu-type',
            'gpumix.dev/x',
          ),
          fc.oneof(fc.double().map(String), fc.bigInt().map(String), fc.string(), fc.jsonValue()),
        ),
        fc.jsonValue(),
      ),
    },
    { requiredKeys: ['name', 'labels'] },
  ),
  spec: fc.oneof(
    fc.jsonValue(),
    fc.record({
      replicas: fc.oneof(fc.integer(), fc.double(), fc.jsonValue()),
      template: fc.record({
        spec: fc.record({
          nodeSelector: fc.oneof(fc.dictionary(fc.string(), fc.string()), fc.jsonValue()),
          containers: fc.array(
            fc.record({
              resources: fc.record({
                limits: fc.dictionary(
                  fc.constantFrom('nvidia.com/gpu', 'amd.com/gpu', 'cpu'),
                  fc.oneof(fc.bigInt().map(String), fc.jsonValue()),
                ),
              }),
            }),
          ),
          initContainers: fc.jsonValue(),
          affinity: fc.jsonValue(),
        }),
      }),
    }),
  ),
  status: fc.jsonValue(),
});

describe('any object', () => {
  it('is read without an exception, into something that a PlanningProblem accepts', () => {
    fc.assert(
      fc.property(hostileDeployment, (object) => {
        const observed = observeDeployment(object, catalogue);
        if (observed === null) return;
        problemDeploymentSchema.parse({
          id: observed.id,
          gpuType: observed.gpuType ?? 'unknown',
          gpusPerReplica: observed.gpusPerReplica,
          usdPerReplicaHour: observed.usdPerReplicaHour ?? 1,
          minReplicas: observed.minReplicas,
          idleMinReplicas: observed.idleMinReplicas ?? 0,
          maxReplicas: observed.maxReplicas,
          currentReplicas: observed.currentReplicas,
          readyReplicas: observed.readyReplicas,
          pendingReplicas: observed.pendingReplicas,
          startupSeconds: observed.startupSeconds,
          maxTokens: observed.maxTokens,
          profile: null,
        });
      }),
      { numRuns: 500 },
    );
  });

  it('of any JSON is nothing to follow, or a deployment, and no exception', () => {
    fc.assert(fc.property(fc.jsonValue(), (value) => observeDeployment(value, catalogue) === null));
  });
});

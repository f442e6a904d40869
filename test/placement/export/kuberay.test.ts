import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { rayParts } from '../../../src/placement/export/kuberay/worker-groups.js';
import { kuberayExporter } from '../../../src/placement/export/kuberay.js';
import { cutH200, homelab, workstation } from '../../support/example-placements.js';
import { faultsOfAll } from '../../support/kubernetes-schemas.js';
import { manifestsOf, on, placementInput } from '../../support/placement-documents.js';

const written = (input: Parameters<typeof kuberayExporter.write>[0]) => {
  const { files, notices } = kuberayExporter.write(input);
  const text = files[0]!.text;
  const [service, ...aliases] = manifestsOf(text);
  return {
    text,
    notices,
    aliases,
    service,
    groups: service?.spec.rayClusterConfig.workerGroupSpecs,
    applications: service === undefined ? undefined : parse(service.spec.serveConfigV2).applications,
  };
};

describe('the KubeRay export', () => {
  it('serves three vendors from one cluster, each service under its path on its kind of GPU', async () => {
    const { text, notices, aliases } = written(homelab);
    expect(text).toBe(`# Made by gpumix place: strategy optimal, status optimal (proven the best there is).
# kubectl apply --server-side -f FILE, where the KubeRay operator runs.
---
# Needs an image for the containers of: radeon-680m and arc
apiVersion: ray.io/v1
kind: RayService
metadata:
  name: gpumix
  namespace: default
spec:
  upgradeStrategy:
    type: None
  serveConfigV2: |
    applications:
      - name: llm
        import_path: ray.serve.llm:build_openai_app
        route_prefix: /llm
        args:
          llm_configs:
            - model_loading_config:
                model_id: llm
                model_source: Qwen/Qwen3-30B
              engine_kwargs:
                gpu_memory_utilization: 0.95
                max_num_seqs: 4
              deployment_config:
                autoscaling_config:
                  min_replicas: 1
                  max_replicas: 1
              placement_group_config:
                bundles:
                  - GPU: 1
                    strix-halo: 1
              runtime_env:
                env_vars:
                  VRAM_BUDGET_GB: "60.79"
      - name: whisper
        import_path: whisper:app
        route_prefix: /whisper
        runtime_env:
          env_vars:
            VRAM_BUDGET_GB: "3"
        deployments:
          - name: whisper
            num_replicas: 1
            ray_actor_options:
              num_cpus: 1
              num_gpus: 0.49
              resources:
                rtx-2070: 0.49
      - name: xtts-v2
        import_path: speech.xtts:application
        route_prefix: /xtts-v2
        runtime_env:
          env_vars:
            VRAM_BUDGET_GB: "4"
        deployments:
          - name: xtts-v2
            num_replicas: 1
            ray_actor_options:
              num_cpus: 1
              num_gpus: 0.49
              resources:
                rtx-2070: 0.49
      - name: bge
        import_path: bge:app
        route_prefix: /bge
        runtime_env:
          env_vars:
            VRAM_BUDGET_GB: "9.59"
        deployments:
          - name: bge
            num_replicas: 1
            ray_actor_options:
              num_cpus: 1
              num_gpus: 0.8
              resources:
                radeon-680m: 0.8
      - name: reranker
        import_path: reranker:app
        route_prefix: /reranker
        runtime_env:
          env_vars:
            VRAM_BUDGET_GB: "6.39"
        deployments:
          - name: reranker
            num_replicas: 1
            ray_actor_options:
              num_cpus: 1
              num_gpus: 0.8
              resources:
                arc: 0.8
      - name: qdrant
        import_path: qdrant:app
        route_prefix: /qdrant
        deployments:
          - name: qdrant
            num_replicas: 1
            ray_actor_options:
              num_cpus: 1
              num_gpus: 0
              resources:
                cpu-only: 1
  rayClusterConfig:
    rayVersion: 2.52.0
    headGroupSpec:
      rayStartParams:
        dashboard-host: 0.0.0.0
        num-cpus: "0"
      template:
        spec:
          containers:
            - name: ray-head
              image: rayproject/ray-llm:2.52.0-py311-cu128
              ports:
                - name: gcs-server
                  containerPort: 6379
                - name: dashboard
                  containerPort: 8265
                - name: client
                  containerPort: 10001
                - name: serve
                  containerPort: 8000
    workerGroupSpecs:
      - groupName: strix-halo
        replicas: 1
        minReplicas: 1
        maxReplicas: 1
        rayStartParams:
          num-gpus: "1"
          resources: '"{\\"strix-halo\\":1}"'
        template:
          spec:
            nodeSelector:
              kubernetes.io/hostname: strix
            tolerations:
              - key: dedicated
                operator: Equal
                value: llm
                effect: NoSchedule
            containers:
              - name: ray-worker
                image: registry.lan/vllm-rocm-ray:2.52.0
                resources:
                  limits:
                    amd.com/gpu: "1"
      - groupName: rtx-2070
        replicas: 1
        minReplicas: 1
        maxReplicas: 1
        rayStartParams:
          num-gpus: "1"
          resources: '"{\\"rtx-2070\\":1}"'
        template:
          spec:
            nodeSelector:
              kubernetes.io/hostname: turing
            tolerations:
              - key: slow
                operator: Exists
                effect: PreferNoSchedule
            containers:
              - name: ray-worker
                image: rayproject/ray-llm:2.52.0-py311-cu128
                resources:
                  limits:
                    nvidia.com/gpu: "1"
      - groupName: cpu-only
        replicas: 1
        minReplicas: 1
        maxReplicas: 1
        rayStartParams:
          num-gpus: "0"
          resources: '"{\\"cpu-only\\":1}"'
        template:
          spec:
            containers:
              - name: ray-worker
                image: rayproject/ray-llm:2.52.0-py311-cu128
      - groupName: radeon-680m
        replicas: 1
        minReplicas: 1
        maxReplicas: 1
        rayStartParams:
          num-gpus: "1"
          resources: '"{\\"radeon-680m\\":1}"'
        template:
          spec:
            nodeSelector:
              kubernetes.io/hostname: mini
            containers:
              - name: ray-worker
                resources:
                  limits:
                    amd.com/gpu: "1"
      - groupName: arc
        replicas: 1
        minReplicas: 1
        maxReplicas: 1
        rayStartParams:
          num-gpus: "1"
          resources: '"{\\"arc\\":1}"'
        template:
          spec:
            nodeSelector:
              kubernetes.io/hostname: arc
            containers:
              - name: ray-worker
                resources:
                  limits:
                    gpu.intel.com/i915: "1"
---
# http://llm-predictor:8000/llm
apiVersion: v1
kind: Service
metadata:
  name: llm-predictor
  namespace: default
spec:
  type: ExternalName
  externalName: gpumix-serve-svc.default.svc.cluster.local
  sessionAffinity: None
---
# http://whisper-predictor:8000/whisper
apiVersion: v1
kind: Service
metadata:
  name: whisper-predictor
  namespace: default
spec:
  type: ExternalName
  externalName: gpumix-serve-svc.default.svc.cluster.local
  sessionAffinity: None
---
# http://xtts-v2-predictor:8000/xtts-v2
apiVersion: v1
kind: Service
metadata:
  name: xtts-v2-predictor
  namespace: default
spec:
  type: ExternalName
  externalName: gpumix-serve-svc.default.svc.cluster.local
  sessionAffinity: None
---
# http://bge-predictor:8000/bge
apiVersion: v1
kind: Service
metadata:
  name: bge-predictor
  namespace: default
spec:
  type: ExternalName
  externalName: gpumix-serve-svc.default.svc.cluster.local
  sessionAffinity: None
---
# http://reranker-predictor:8000/reranker
apiVersion: v1
kind: Service
metadata:
  name: reranker-predictor
  namespace: default
spec:
  type: ExternalName
  externalName: gpumix-serve-svc.default.svc.cluster.local
  sessionAffinity: None
---
# http://qdrant-predictor:8000/qdrant
apiVersion: v1
kind: Service
metadata:
  name: qdrant-predictor
  namespace: default
spec:
  type: ExternalName
  externalName: gpumix-serve-svc.default.svc.cluster.local
  sessionAffinity: None
`);
    expect(notices).toEqual([
      'Services answer at http://gpumix-serve-svc.default.svc.cluster.local:8000/NAME. An alias such as llm-predictor leads to the same place and changes no path; its name ends in cluster.local, which some clusters call otherwise.',
      'Each worker takes a whole GPU from the device plugin, which must not share GPUs itself: the export device-plugin does not go with this one.',
      'A changed placement is applied after kubectl delete rayservice gpumix: there are no GPUs for a second cluster beside the first.',
      'whisper, xtts-v2, bge, reranker and qdrant must be importable in the image of the workers (or by runtime_env.working_dir), each as one Serve deployment of its own name: @serve.deployment(name="whisper").',
      'Without importPath in the request, by name: whisper:app, bge:app, reranker:app and qdrant:app.',
      'A shared GPU keeps 2 % back: whisper asks for 0.49 and xtts-v2 asks for 0.49. Ray counts these parts and holds nobody to them; vLLM keeps to gpu_memory_utilization, the others must keep to VRAM_BUDGET_GB.',
      'Ray publishes no image with its LLM libraries for AMD and Intel, and the request names none: pods of radeon-680m and arc are refused until an image with ray[serve,llm] 2.52.0 and Python 3.11 is put in (services[].image).',
      'Workers with NVIDIA GPUs or none run rayproject/ray-llm:2.52.0-py311-cu128, not what the request names for qdrant: an image of a Deployment has no Ray.',
    ]);
    expect(await faultsOfAll(aliases)).toEqual([]);
  });

  it('has what KubeRay requires of a RayService', () => {
    for (const input of [homelab, cutH200, workstation]) {
      const { service, groups } = written(input);
      expect(service).toMatchObject({ apiVersion: 'ray.io/v1', kind: 'RayService' });
      expect(service!.spec.rayClusterConfig.headGroupSpec.template.spec.containers).toHaveLength(1);
      for (const group of groups) {
        expect(group).toMatchObject({
          groupName: expect.stringMatching(/^[a-z]([-a-z0-9]*[a-z0-9])?$/),
          minReplicas: group.replicas,
          maxReplicas: group.replicas,
        });
        expect(group.template.spec.containers).toHaveLength(1);
      }
    }
  });

  it('gives each MIG instance to a worker of its own, and all of it to its service', () => {
    const { groups, applications, notices } = written(cutH200);
    const held = groups.map(
      (group: { groupName: string; replicas: number; template: { spec: { containers: { resources: object }[] } } }) => [
        group.groupName,
        group.replicas,
        group.template.spec.containers[0]!.resources,
      ],
    );
    expect(held).toEqual([
      ['h200-3g-71gb', 2, { limits: { 'nvidia.com/mig-3g.71gb': '1' } }],
      ['h200', 1, { limits: { 'nvidia.com/gpu': '1' } }],
    ]);
    expect(applications[0].args.llm_configs[0]).toEqual({
      model_loading_config: { model_id: 'chat', model_source: 'Qwen/Qwen3-32B' },
      engine_kwargs: { gpu_memory_utilization: 0.91 },
      deployment_config: { autoscaling_config: { min_replicas: 1, max_replicas: 1 } },
      placement_group_config: { bundles: [{ GPU: 1, 'h200-3g-71gb': 1 }] },
      runtime_env: { env_vars: { VRAM_BUDGET_GB: '63.9' } },
    });
    expect(notices[1]).toContain('of the export device-plugin only the cut goes with this one');
  });

  it('tells vLLM its part of a GPU where language models share one', () => {
    const gpu = { node: 'box', index: 0, name: 'L4', vendor: 'nvidia' as const, memoryMb: 23034 };
    const services = ['a', 'b'].map((name) => ({ name, kind: 'llm' as const, model: `org/${name}` }));
    const assignments = [
      on(gpu, 'a', { memoryBudgetMb: 11517, share: 0.5, sharing: 'memory-limit' }),
      on(gpu, 'b', { memoryBudgetMb: 11517, share: 0.5, sharing: 'memory-limit' }),
    ];
    const { applications } = written(placementInput({ gpus: [gpu], services, assignments }));
    expect(applications.map(({ args }: { args: { llm_configs: object[] } }) => args.llm_configs[0])).toMatchObject([
      {
        engine_kwargs: { gpu_memory_utilization: 0.5 },
        placement_group_config: { bundles: [{ GPU: 0.49, l4: 0.49 }] },
        runtime_env: { env_vars: { VLLM_RAY_PER_WORKER_GPUS: '0.49', VLLM_DISABLE_COMPILE_CACHE: '1' } },
      },
      { placement_group_config: { bundles: [{ GPU: 0.49, l4: 0.49 }] } },
    ]);
  });

  it('keeps the services of a shared GPU together where others of its kind are in use', () => {
    const gpus = [0, 1, 2].map((index) => ({
      node: 'box',
      index,
      name: 'L4',
      vendor: 'nvidia' as const,
      memoryMb: 23034,
    }));
    const services = ['a', 'b', 'c', 'd'].map((name) => ({ name }));
    const assignments = [
      on(gpus[0]!, 'a', { share: 0.3 }),
      on(gpus[0]!, 'b', { share: 0.3 }),
      on(gpus[1]!, 'c'),
      on(gpus[2]!, 'd'),
    ];
    const { groups, applications } = written(placementInput({ gpus, services, assignments }));
    expect(groups.map((group: { groupName: string; replicas: number }) => [group.groupName, group.replicas])).toEqual([
      ['l4', 2],
      ['l4-box-0', 1],
    ]);
    const asked = applications.map(
      (app: { deployments: { ray_actor_options: object }[] }) => app.deployments[0]!.ray_actor_options,
    );
    expect(asked).toEqual([
      { num_cpus: 1, num_gpus: 0.3, resources: { 'l4-box-0': 0.3 } },
      { num_cpus: 1, num_gpus: 0.3, resources: { 'l4-box-0': 0.3 } },
      { num_cpus: 1, num_gpus: 1, resources: { l4: 1 } },
      { num_cpus: 1, num_gpus: 1, resources: { l4: 1 } },
    ]);
  });

  it('counts Gaudi and Ascend by the names that Ray has for them', () => {
    const gaudi = { node: 'g', index: 0, name: 'Gaudi3', vendor: 'intel' as const, memoryMb: 131072 };
    const ascend = { node: 'h', index: 0, name: 'Ascend 910B', vendor: 'huawei' as const, memoryMb: 65536 };
    const services = [
      { name: 'a', image: 'me/gaudi-ray:1' },
      { name: 'b', image: 'me/npu-ray:1' },
    ];
    const input = placementInput({ gpus: [gaudi, ascend], services, assignments: [on(gaudi, 'a'), on(ascend, 'b')] });
    const { groups, applications } = written(input);
    expect(groups.map((group: { rayStartParams: object }) => group.rayStartParams)).toEqual([
      { 'num-gpus': '0', resources: JSON.stringify('{"gaudi3":1,"HPU":1}') },
      { 'num-gpus': '0', resources: JSON.stringify('{"ascend-910b":1,"NPU":1}') },
    ]);
    expect(applications[1].deployments[0].ray_actor_options).toEqual({
      num_cpus: 1,
      num_gpus: 0,
      resources: { NPU: 1, 'ascend-910b': 1 },
    });
  });

  it('says where workers may be given the GPUs of each other', () => {
    expect(written(workstation).notices.at(-1)).toBe(
      'nvidia.com/gpu does not tell GPU 0 (RTX A5500) and GPU 1 (RTX A400) apart: a worker of rtx-a5500 and rtx-a400 may hold another. A claim in the template of the group can (export kubernetes, --allocation dra, shows it).',
    );
  });

  it('holds no object where nothing was placed', () => {
    const { service, notices } = written(placementInput({ gpus: [], services: [{ name: 'a' }], assignments: [] }));
    expect(service).toBeUndefined();
    expect(notices).toEqual(['Nothing was placed, so that there is nothing to serve.']);
  });

  it('asks for parts that never add up to more than one device', () => {
    expect(rayParts([1])).toEqual([1]);
    expect(rayParts([0.8])).toEqual([0.8]);
    expect(rayParts([0.5, 0.5])).toEqual([0.49, 0.49]);
    expect(rayParts([0.3, 0.3])).toEqual([0.3, 0.3]);
    expect(rayParts([1, 1, 1, 1])).toEqual([0.245, 0.245, 0.245, 0.245]);
    expect(rayParts([1, 0.00001])).toEqual([0.9799, 0.0001]);
  });
});

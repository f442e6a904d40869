import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { devicePluginExporter } from '../../../src/placement/export/device-plugin.js';
import { kubernetesExporter } from '../../../src/placement/export/kubernetes.js';
import { cutH200, homelab, mpsEdge, workstation } from '../../support/example-placements.js';
import { faultsOfAll } from '../../support/kubernetes-schemas.js';
import { manifestsOf, on, placementInput } from '../../support/placement-documents.js';

const written = (input: Parameters<typeof devicePluginExporter.write>[0]) => {
  const { files, notices } = devicePluginExporter.write(input);
  return { text: files[0]!.text, notices };
};

describe('the device plugin export', () => {
  it('advertises the GPUs of a node as often as the most shared one needs', async () => {
    const { text, notices } = written(workstation);
    expect(text).toBe(`# Made by gpumix place: strategy optimal, status optimal (proven the best there is).
# kubectl apply --server-side -n NAMESPACE -f FILE, in the namespace of the device plugin (or the
#   GPU operator).
# Warnings:
#   Combined VRAM (~23 GB) exceeds GPU 1 capacity (4 GB)
# Refused, so not counted here:
#   ai-enrichment (memory): ai-enrichment requires ~6.8 GB, no GPU has it free
---
# Selected by the node label nvidia.com/device-plugin.config
apiVersion: v1
kind: ConfigMap
metadata:
  name: gpumix-device-plugin
data:
  default: |
    version: v1
  time-slicing-2: |
    version: v1
    sharing:
      timeSlicing:
        renameByDefault: true
        failRequestsGreaterThanOne: true
        resources:
          - name: nvidia.com/gpu
            replicas: 2
---
apiVersion: v1
kind: Node
metadata:
  name: box
  labels:
    nvidia.com/device-plugin.config: time-slicing-2
`);
    expect(notices).toEqual([
      "The device plugin must read the ConfigMap: devicePlugin.config.name=gpumix-device-plugin in the GPU operator's ClusterPolicy, or config.name=gpumix-device-plugin for its own Helm chart. The operator's does not watch it: restart the plugin's DaemonSet after a change.",
      'Names of nodes must be those that kubectl get nodes prints (box): apply makes a Node that is not there, and the pods wait for it.',
      'ai-llm is alone on GPU 0 in the placement, but the device plugin advertises every whole GPU of box 2 times: nothing keeps another pod off it. gpumix place --allocation dra, or hami, gives it the GPU alone.',
      'Time-slicing on box isolates no memory: AI Florence_2 and ai-clip must keep to VRAM_BUDGET_GB by themselves.',
    ]);
    expect(await faultsOfAll(manifestsOf(text))).toEqual([]);
  });

  it('shares by MPS where all of the services do, and says whose budget an equal part is too small for', async () => {
    const { text, notices } = written(mpsEdge);
    expect(text).toBe(`# Made by gpumix place: strategy optimal, status optimal (proven the best there is).
# kubectl apply --server-side -n NAMESPACE -f FILE, in the namespace of the device plugin (or the
#   GPU operator).
---
# Selected by the node label nvidia.com/device-plugin.config
apiVersion: v1
kind: ConfigMap
metadata:
  name: gpumix-device-plugin
data:
  default: |
    version: v1
  mps-3: |
    version: v1
    sharing:
      mps:
        renameByDefault: true
        resources:
          - name: nvidia.com/gpu
            replicas: 3
---
apiVersion: v1
kind: Node
metadata:
  name: edge
  labels:
    nvidia.com/device-plugin.config: mps-3
`);
    expect(notices).toEqual([
      "The device plugin must read the ConfigMap: devicePlugin.config.name=gpumix-device-plugin in the GPU operator's ClusterPolicy, or config.name=gpumix-device-plugin for its own Helm chart. The operator's does not watch it: restart the plugin's DaemonSet after a change.",
      'Names of nodes must be those that kubectl get nodes prints (edge): apply makes a Node that is not there, and the pods wait for it.',
      'MPS gives each of 3 pods an equal part of GPU 0, 7.5 GB: too little for detect (8 GB).',
    ]);
    expect(await faultsOfAll(manifestsOf(text))).toEqual([]);
  });

  it('cuts GPUs by MIG, leaves the others of the node whole, and shares those', async () => {
    const { text, notices } = written(cutH200);
    expect(text).toBe(`# Made by gpumix place: strategy optimal, status optimal (proven the best there is).
# kubectl apply --server-side -n NAMESPACE -f FILE, in the namespace of the device plugin (or the
#   GPU operator).
---
# Selected by the node label nvidia.com/device-plugin.config
apiVersion: v1
kind: ConfigMap
metadata:
  name: gpumix-device-plugin
data:
  default: |
    version: v1
  mig-mixed-time-slicing-2: |
    version: v1
    flags:
      migStrategy: mixed
    sharing:
      timeSlicing:
        renameByDefault: true
        failRequestsGreaterThanOne: true
        resources:
          - name: nvidia.com/gpu
            replicas: 2
---
# Selected by the node label nvidia.com/mig.config
apiVersion: v1
kind: ConfigMap
metadata:
  name: gpumix-mig-parted
data:
  config.yaml: |
    version: v1
    mig-configs:
      dgx:
        - devices:
            - 0
          mig-enabled: true
          mig-devices:
            3g.71gb: 2
        - devices:
            - 1
          mig-enabled: false
---
apiVersion: v1
kind: Node
metadata:
  name: dgx
  labels:
    nvidia.com/device-plugin.config: mig-mixed-time-slicing-2
    nvidia.com/mig.config: dgx
`);
    expect(notices).toEqual([
      "The device plugin must read the ConfigMap: devicePlugin.config.name=gpumix-device-plugin in the GPU operator's ClusterPolicy, or config.name=gpumix-device-plugin for its own Helm chart. The operator's does not watch it: restart the plugin's DaemonSet after a change.",
      'The MIG manager must read the other: migManager.config.name=gpumix-mig-parted. It stops the pods with GPUs of dgx to cut them, and works only where nothing else holds them.',
      'Names of nodes must be those that kubectl get nodes prints (dgx): apply makes a Node that is not there, and the pods wait for it.',
      'Time-slicing on dgx isolates no memory: embed and rerank must keep to VRAM_BUDGET_GB by themselves.',
    ]);
    expect(await faultsOfAll(manifestsOf(text))).toEqual([]);
  });

  it('names resources and nodes as the Kubernetes export does, for every placement', () => {
    for (const input of [workstation, homelab, cutH200, mpsEdge]) {
      const manifests = manifestsOf(written(input).text);
      const [config] = manifests;
      const others = manifestsOf(kubernetesExporter.write(input).files[0]!.text);
      for (const node of manifests.filter(({ kind }) => kind === 'Node')) {
        expect(others).toContainEqual(node);
        const key = node.metadata.labels!['nvidia.com/device-plugin.config']!;
        const { sharing } = parse(config!.data[key]);
        const pods = others.filter(({ kind, spec }) => {
          return (
            kind === 'Deployment' && spec.template.spec.nodeSelector?.['kubernetes.io/hostname'] === node.metadata.name
          );
        });
        const asked = pods.flatMap(({ spec }) => Object.keys(spec.template.spec.containers[0].resources.limits));
        expect(sharing.timeSlicing?.renameByDefault ?? sharing.mps.renameByDefault).toBe(true);
        expect(asked).toContain('nvidia.com/gpu.shared');
        expect(asked).not.toContain('nvidia.com/gpu');
      }
    }
  });

  it('shares by turns where the services of a node want both, and says so', () => {
    const gpus = [0, 1].map((index) => ({
      node: 'box',
      index,
      name: 'L4',
      vendor: 'nvidia' as const,
      memoryMb: 23034,
    }));
    const services = ['a', 'b', 'c', 'd', 'e'].map((name) => ({ name }));
    const mps = { sharing: 'mps' as const, share: 0.5, memoryBudgetMb: 4096 };
    const turns = { sharing: 'time-slicing' as const, share: 0.3, memoryBudgetMb: 4096 };
    const assignments = [
      on(gpus[0]!, 'a', mps),
      on(gpus[0]!, 'b', mps),
      ...['c', 'd', 'e'].map((name) => on(gpus[1]!, name, turns)),
    ];
    const { text, notices } = written(placementInput({ gpus, services, assignments }));
    const [config] = manifestsOf(text);
    expect(Object.keys(config!.data)).toEqual(['default', 'time-slicing-3']);
    expect(parse(config!.data['time-slicing-3'])).toEqual({
      version: 'v1',
      sharing: {
        timeSlicing: {
          renameByDefault: true,
          failRequestsGreaterThanOne: true,
          resources: [{ name: 'nvidia.com/gpu', replicas: 3 }],
        },
      },
    });
    expect(notices[2]).toBe(
      'a and b should share by MPS, but the device plugin has one way of sharing for a node, and none beside MIG by MPS: box shares by time-slicing, since other services of it do.',
    );
  });

  it('cuts a GPU as the request says it is cut, whatever is in use', () => {
    const gpu = {
      node: 'dgx',
      index: 2,
      name: 'A100-80GB',
      vendor: 'nvidia' as const,
      memoryMb: 81920,
      sharing: 'mig' as const,
      migInstances: [{ profile: '3g.40gb' }, { profile: '1g.10gb+me' }, { profile: '3g.40gb' }],
    };
    const mig = { profile: '1g.10gb+me', uuid: null };
    const input = placementInput({
      gpus: [gpu],
      services: [{ name: 'clip' }],
      assignments: [on(gpu, 'clip', { sharing: 'mig', mig })],
    });
    const [plugin, parted] = manifestsOf(written(input).text);
    expect(parse(plugin!.data['mig-mixed'])).toEqual({ version: 'v1', flags: { migStrategy: 'mixed' } });
    expect(parse(parted!.data['config.yaml'])).toEqual({
      version: 'v1',
      'mig-configs': {
        dgx: [{ devices: [2], 'mig-enabled': true, 'mig-devices': { '1g.10gb+me': 1, '3g.40gb': 2 } }],
      },
    });
    const pods = manifestsOf(kubernetesExporter.write(input).files[0]!.text);
    expect(pods.at(-1)!.spec.template.spec.containers[0].resources.limits).toEqual({
      'nvidia.com/mig-1g.10gb.me': '1',
    });
  });

  it('counts the GPUs to cut as NVIDIA does, on a node that has others too', () => {
    const others = { node: 'dgx', vendor: 'amd' as const, memoryMb: 8192 };
    const nvidia = { node: 'dgx', vendor: 'nvidia' as const, memoryMb: 143771 };
    const cut = { ...nvidia, index: 2, sharing: 'mig' as const, migInstances: [{ profile: '7g.141gb' }] };
    const input = placementInput({
      gpus: [{ ...others, index: 0 }, { ...nvidia, index: 1 }, cut],
      services: [{ name: 'llm' }],
      assignments: [on(cut, 'llm', { sharing: 'mig', mig: { profile: '7g.141gb', uuid: null } })],
    });
    const [, parted] = manifestsOf(written(input).text);
    expect(parse(parted!.data['config.yaml'])['mig-configs'].dgx).toEqual([
      { devices: [1], 'mig-enabled': true, 'mig-devices': { '7g.141gb': 1 } },
      { devices: [0], 'mig-enabled': false },
    ]);
  });

  it('tells the arguments of Intel, and what AMD cannot', () => {
    const arcs = [0, 1].map((index) => ({
      node: 'i',
      index,
      name: 'Arc A770',
      vendor: 'intel' as const,
      memoryMb: 16384,
    }));
    const amd = { node: 'a', index: 0, vendor: 'amd' as const, memoryMb: 8192 };
    const services = ['p', 'q', 'r', 's'].map((name) => ({ name }));
    const assignments = [on(arcs[0]!, 'p'), on(arcs[0]!, 'q'), on(amd, 'r'), on(amd, 's')];
    const { text, notices } = written(placementInput({ gpus: [...arcs, amd], services, assignments }));
    expect(manifestsOf(text)).toEqual([]);
    expect(notices).toEqual([
      "No NVIDIA GPU is shared or cut, so that NVIDIA's device plugin needs no configuration; the file holds no object.",
      "Intel's GPU plugin has arguments instead: -shared-dev-num=2 -allocation-policy=packed, for gpu.intel.com/i915 of GPU 0 of i. It shares every GPU of its nodes alike and isolates nothing.",
      "AMD's device plugin gives a GPU to one pod; GPU 0 of a cannot be shared by it. gpumix place --export kubernetes --allocation dra shares by a claim; an Instinct MI300 can be partitioned (-resource_naming_strategy=mixed, amd.com/cpx_nps4).",
    ]);
  });

  it('holds no object where nothing is shared', () => {
    const gpu = { node: 'box', index: 0, vendor: 'nvidia' as const, memoryMb: 8192 };
    const { text, notices } = written(
      placementInput({ gpus: [gpu], services: [{ name: 'a' }], assignments: [on(gpu, 'a')] }),
    );
    expect(text).toBe(`# Made by gpumix place: strategy optimal, status optimal (proven the best there is).
# No GPU is shared or cut, so that the device plugins need no configuration; the file holds no
#   object.
`);
    expect(notices).toEqual([
      'No GPU is shared or cut, so that the device plugins need no configuration; the file holds no object.',
    ]);
  });
});

import { describe, expect, it } from 'vitest';
import { InputError } from '../../../src/core/input-error.js';
import { kubernetesExporter } from '../../../src/placement/export/kubernetes.js';
import { cutH200, homelab, workstation } from '../../support/example-placements.js';
import { faultsOfAll } from '../../support/kubernetes-schemas.js';
import { manifestsOf, on, placementInput, wholeObjects } from '../../support/placement-documents.js';

const written = (input: Parameters<typeof kubernetesExporter.write>[0]) => {
  const { files, notices } = kubernetesExporter.write(input);
  return { text: files[0]!.text, notices };
};

describe('the Kubernetes export', () => {
  it('binds each service to its node and GPU, and says what the device plugin cannot', async () => {
    const { text, notices } = written(workstation);
    expect(text).toBe(`# Made by gpumix place: strategy optimal, status optimal (proven the best there is).
# GPUs by device plugins of the vendors: one resource for each kind of device.
# kubectl apply --server-side -f FILE; -n NAMESPACE for another namespace than that of the
#   kubeconfig.
# Without an image, to be merged into the Deployment of the same name: ai-florence-2 and ai-clip.
# Warnings:
#   Combined VRAM (~23 GB) exceeds GPU 1 capacity (4 GB)
# Refused, so not here:
#   ai-enrichment (memory): ai-enrichment requires ~6.8 GB, no GPU has it free
---
apiVersion: v1
kind: Node
metadata:
  name: box
  labels:
    nvidia.com/device-plugin.config: time-slicing-2
---
# ai-llm on GPU 0, RTX A5500: 21.7 GB, exclusive
apiVersion: apps/v1
kind: Deployment
metadata:
  name: ai-llm
spec:
  replicas: 1
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 0
      maxUnavailable: 1
  selector:
    matchLabels:
      app.kubernetes.io/name: ai-llm
  template:
    metadata:
      labels:
        app.kubernetes.io/name: ai-llm
    spec:
      nodeSelector:
        kubernetes.io/hostname: box
      containers:
        - name: ai-llm
          image: vllm/vllm-openai:v0.11.0
          args:
            - --model=nvidia/Nemotron-3-Nano-30B
            - --gpu-memory-utilization=0.90
            - --max-num-seqs=8
          env:
            - name: VRAM_BUDGET_GB
              value: "21.7"
          resources:
            limits:
              nvidia.com/gpu.shared: "1"
---
# AI Florence_2 on GPU 1, RTX A400: 1.5 GB, time-slicing; merged into the Deployment of this name
apiVersion: apps/v1
kind: Deployment
metadata:
  name: ai-florence-2
spec:
  replicas: 1
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 0
      maxUnavailable: 1
  template:
    spec:
      nodeSelector:
        kubernetes.io/hostname: box
      containers:
        - name: ai-florence-2
          env:
            - name: VRAM_BUDGET_GB
              value: "1.5"
          resources:
            limits:
              nvidia.com/gpu.shared: "1"
---
# ai-clip on GPU 1, RTX A400: 1.2 GB, time-slicing; merged into the Deployment of this name
apiVersion: apps/v1
kind: Deployment
metadata:
  name: ai-clip
spec:
  replicas: 1
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 0
      maxUnavailable: 1
  template:
    spec:
      nodeSelector:
        kubernetes.io/hostname: box
      containers:
        - name: ai-clip
          env:
            - name: VRAM_BUDGET_GB
              value: "1.2"
          resources:
            limits:
              nvidia.com/gpu.shared: "1"
`);
    expect(notices).toEqual([
      'Not every service has an image in the request: ai-florence-2 and ai-clip can only be merged into Deployments that exist, each with a container of the same name; GPU limits that those have under another name stay, and must be taken out.',
      'Names that Kubernetes does not take were changed: "AI Florence_2" is ai-florence-2.',
      'Names of nodes must be those that kubectl get nodes prints (box): apply makes a Node that is not there, and the pods wait for it.',
      'The labels of box name configurations that gpumix place --export device-plugin writes: apply that first.',
      'ai-llm is alone on GPU 0 in the placement, but the device plugin advertises every whole GPU of box 2 times: nothing keeps another pod off it. gpumix place --allocation dra, or hami, gives it the GPU alone.',
      'Time-slicing on box isolates no memory: AI Florence_2 and ai-clip must keep to VRAM_BUDGET_GB by themselves.',
      "GPU 0 (RTX A5500) and GPU 1 (RTX A400) are one resource here, and a pod may be given any of them: ai-llm, AI Florence_2 and ai-clip may start on the wrong one. What can tell them apart: --allocation dra, by UUID, PCI address or memory; --allocation hami, by UUID (tags.uuid) or type. Patterns for names of their own (resources.gpus) are ignored by released versions of NVIDIA's plugin.",
    ]);
    expect(await faultsOfAll(wholeObjects(manifestsOf(text)))).toEqual([]);
  });

  it('covers nodes of three vendors, with taints, and services on the CPU', async () => {
    const { text, notices } = written(homelab);
    expect(text).toBe(`# Made by gpumix place: strategy optimal, status optimal (proven the best there is).
# GPUs by device plugins of the vendors: one resource for each kind of device.
# kubectl apply --server-side -f FILE; -n NAMESPACE for another namespace than that of the
#   kubeconfig.
# Without an image, to be merged into the Deployment of the same name: whisper, xtts-v2, bge and
#   reranker.
---
apiVersion: v1
kind: Node
metadata:
  name: strix
spec:
  taints:
    - key: dedicated
      value: llm
      effect: NoSchedule
---
apiVersion: v1
kind: Node
metadata:
  name: turing
  labels:
    nvidia.com/device-plugin.config: time-slicing-2
spec:
  taints:
    - key: slow
      effect: PreferNoSchedule
---
# llm on GPU 0 of strix, Strix Halo: 60.79 GB, exclusive
apiVersion: apps/v1
kind: Deployment
metadata:
  name: llm
spec:
  replicas: 1
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 0
      maxUnavailable: 1
  selector:
    matchLabels:
      app.kubernetes.io/name: llm
  template:
    metadata:
      labels:
        app.kubernetes.io/name: llm
    spec:
      nodeSelector:
        kubernetes.io/hostname: strix
      tolerations:
        - key: dedicated
          operator: Equal
          value: llm
          effect: NoSchedule
      containers:
        - name: llm
          image: registry.lan/vllm-rocm-ray:2.52.0
          args:
            - --model=Qwen/Qwen3-30B
            - --gpu-memory-utilization=0.95
            - --max-num-seqs=4
          env:
            - name: VRAM_BUDGET_GB
              value: "60.79"
          resources:
            limits:
              amd.com/gpu: "1"
---
# whisper on GPU 0 of turing, RTX 2070: 3 GB, time-slicing; merged into the Deployment of this name
apiVersion: apps/v1
kind: Deployment
metadata:
  name: whisper
spec:
  replicas: 1
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 0
      maxUnavailable: 1
  template:
    spec:
      nodeSelector:
        kubernetes.io/hostname: turing
      tolerations:
        - key: slow
          operator: Exists
          effect: PreferNoSchedule
      containers:
        - name: whisper
          env:
            - name: VRAM_BUDGET_GB
              value: "3"
          resources:
            limits:
              nvidia.com/gpu.shared: "1"
---
# xtts-v2 on GPU 0 of turing, RTX 2070: 4 GB, time-slicing; merged into the Deployment of this name
apiVersion: apps/v1
kind: Deployment
metadata:
  name: xtts-v2
spec:
  replicas: 1
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 0
      maxUnavailable: 1
  template:
    spec:
      nodeSelector:
        kubernetes.io/hostname: turing
      tolerations:
        - key: slow
          operator: Exists
          effect: PreferNoSchedule
      containers:
        - name: xtts-v2
          env:
            - name: VRAM_BUDGET_GB
              value: "4"
          resources:
            limits:
              nvidia.com/gpu.shared: "1"
---
# bge on GPU 0 of mini, Radeon 680M: 9.59 GB, exclusive; merged into the Deployment of this name
apiVersion: apps/v1
kind: Deployment
metadata:
  name: bge
spec:
  replicas: 1
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 0
      maxUnavailable: 1
  template:
    spec:
      nodeSelector:
        kubernetes.io/hostname: mini
      containers:
        - name: bge
          env:
            - name: VRAM_BUDGET_GB
              value: "9.59"
          resources:
            limits:
              amd.com/gpu: "1"
---
# reranker on GPU 0 of arc, Intel Arc: 6.39 GB, exclusive; merged into the Deployment of this name
apiVersion: apps/v1
kind: Deployment
metadata:
  name: reranker
spec:
  replicas: 1
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 0
      maxUnavailable: 1
  template:
    spec:
      nodeSelector:
        kubernetes.io/hostname: arc
      containers:
        - name: reranker
          env:
            - name: VRAM_BUDGET_GB
              value: "6.39"
          resources:
            limits:
              gpu.intel.com/i915: "1"
---
# qdrant on the CPU
apiVersion: apps/v1
kind: Deployment
metadata:
  name: qdrant
spec:
  replicas: 1
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 0
      maxUnavailable: 1
  selector:
    matchLabels:
      app.kubernetes.io/name: qdrant
  template:
    metadata:
      labels:
        app.kubernetes.io/name: qdrant
    spec:
      containers:
        - name: qdrant
          image: qdrant/qdrant:v1.16
`);
    expect(notices).toEqual([
      'Not every service has an image in the request: whisper, xtts-v2, bge and reranker can only be merged into Deployments that exist, each with a container of the same name; GPU limits that those have under another name stay, and must be taken out.',
      'Names of nodes must be those that kubectl get nodes prints (strix and turing): apply makes a Node that is not there, and the pods wait for it.',
      "Server-side apply owns the whole list of a node's taints; where something else taints the node too, apply refuses with a conflict, and this adds them instead: kubectl taint nodes strix dedicated=llm:NoSchedule; kubectl taint nodes turing slow:PreferNoSchedule.",
      'The labels of turing name configurations that gpumix place --export device-plugin writes: apply that first.',
      'Time-slicing on turing isolates no memory: whisper and xtts-v2 must keep to VRAM_BUDGET_GB by themselves.',
    ]);
    expect(await faultsOfAll(wholeObjects(manifestsOf(text)))).toEqual([]);
  });

  it('asks for MIG instances by profile, and shares the other GPU of the node', async () => {
    const { text, notices } = written(cutH200);
    expect(text).toBe(`# Made by gpumix place: strategy optimal, status optimal (proven the best there is).
# GPUs by device plugins of the vendors: one resource for each kind of device.
# kubectl apply --server-side -f FILE; -n NAMESPACE for another namespace than that of the
#   kubeconfig.
# Without an image, to be merged into the Deployment of the same name: code, embed and rerank.
---
apiVersion: v1
kind: Node
metadata:
  name: dgx
  labels:
    nvidia.com/device-plugin.config: mig-mixed-time-slicing-2
    nvidia.com/mig.config: dgx
---
# chat on GPU 0, H200: 63.9 GB, mig 3g.71gb
apiVersion: apps/v1
kind: Deployment
metadata:
  name: chat
spec:
  replicas: 1
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 0
      maxUnavailable: 1
  selector:
    matchLabels:
      app.kubernetes.io/name: chat
  template:
    metadata:
      labels:
        app.kubernetes.io/name: chat
    spec:
      nodeSelector:
        kubernetes.io/hostname: dgx
      containers:
        - name: chat
          image: vllm/vllm-openai:v0.11.0
          args:
            - --model=Qwen/Qwen3-32B
            - --gpu-memory-utilization=0.91
          env:
            - name: VRAM_BUDGET_GB
              value: "63.9"
          resources:
            limits:
              nvidia.com/mig-3g.71gb: "1"
---
# code on GPU 0, H200: 63.9 GB, mig 3g.71gb; merged into the Deployment of this name
apiVersion: apps/v1
kind: Deployment
metadata:
  name: code
spec:
  replicas: 1
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 0
      maxUnavailable: 1
  template:
    spec:
      nodeSelector:
        kubernetes.io/hostname: dgx
      containers:
        - name: code
          env:
            - name: VRAM_BUDGET_GB
              value: "63.9"
          resources:
            limits:
              nvidia.com/mig-3g.71gb: "1"
---
# embed on GPU 1, H200: 20 GB, memory-limit; merged into the Deployment of this name
apiVersion: apps/v1
kind: Deployment
metadata:
  name: embed
spec:
  replicas: 1
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 0
      maxUnavailable: 1
  template:
    spec:
      nodeSelector:
        kubernetes.io/hostname: dgx
      containers:
        - name: embed
          env:
            - name: VRAM_BUDGET_GB
              value: "20"
          resources:
            limits:
              nvidia.com/gpu.shared: "1"
---
# rerank on GPU 1, H200: 20 GB, memory-limit; merged into the Deployment of this name
apiVersion: apps/v1
kind: Deployment
metadata:
  name: rerank
spec:
  replicas: 1
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 0
      maxUnavailable: 1
  template:
    spec:
      nodeSelector:
        kubernetes.io/hostname: dgx
      containers:
        - name: rerank
          env:
            - name: VRAM_BUDGET_GB
              value: "20"
          resources:
            limits:
              nvidia.com/gpu.shared: "1"
`);
    expect(notices).toEqual([
      'Not every service has an image in the request: code, embed and rerank can only be merged into Deployments that exist, each with a container of the same name; GPU limits that those have under another name stay, and must be taken out.',
      'Names of nodes must be those that kubectl get nodes prints (dgx): apply makes a Node that is not there, and the pods wait for it.',
      'The labels of dgx name configurations that gpumix place --export device-plugin writes: apply that first.',
      'Time-slicing on dgx isolates no memory: embed and rerank must keep to VRAM_BUDGET_GB by themselves.',
    ]);
    expect(await faultsOfAll(wholeObjects(manifestsOf(text)))).toEqual([]);
  });

  it('claims the very GPU, the very instance, and one claim for those that share', async () => {
    const { text, notices } = written({ ...cutH200, gpuAllocation: 'dra' });
    expect(text).toBe(`# Made by gpumix place: strategy optimal, status optimal (proven the best there is).
# GPUs by dynamic resource allocation (Kubernetes 1.34): claims that choose the GPU itself.
# kubectl apply --server-side -f FILE; -n NAMESPACE for another namespace than that of the
#   kubeconfig.
# Without an image, to be merged into the Deployment of the same name: code, embed and rerank.
---
apiVersion: v1
kind: Node
metadata:
  name: dgx
  labels:
    nvidia.com/mig.config: dgx
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata:
  name: chat
spec:
  spec:
    devices:
      requests:
        - name: gpu
          exactly:
            deviceClassName: mig.nvidia.com
            count: 1
            selectors:
              - cel:
                  expression: device.attributes["gpu.nvidia.com"].profile == "3g.71gb"
              - cel:
                  expression: device.attributes["gpu.nvidia.com"].parentUUID == "GPU-aa"
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata:
  name: code
spec:
  spec:
    devices:
      requests:
        - name: gpu
          exactly:
            deviceClassName: mig.nvidia.com
            count: 1
            selectors:
              - cel:
                  expression: device.attributes["gpu.nvidia.com"].profile == "3g.71gb"
              - cel:
                  expression: device.attributes["gpu.nvidia.com"].uuid == "MIG-bb"
---
# GPU 1, shared by embed, rerank
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata:
  name: dgx-gpu-1
spec:
  devices:
    requests:
      - name: gpu
        exactly:
          deviceClassName: gpu.nvidia.com
          count: 1
---
# chat on GPU 0, H200: 63.9 GB, mig 3g.71gb
apiVersion: apps/v1
kind: Deployment
metadata:
  name: chat
spec:
  replicas: 1
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 0
      maxUnavailable: 1
  selector:
    matchLabels:
      app.kubernetes.io/name: chat
  template:
    metadata:
      labels:
        app.kubernetes.io/name: chat
    spec:
      nodeSelector:
        kubernetes.io/hostname: dgx
      resourceClaims:
        - name: gpu
          resourceClaimTemplateName: chat
      containers:
        - name: chat
          image: vllm/vllm-openai:v0.11.0
          args:
            - --model=Qwen/Qwen3-32B
            - --gpu-memory-utilization=0.91
          env:
            - name: VRAM_BUDGET_GB
              value: "63.9"
          resources:
            claims:
              - name: gpu
---
# code on GPU 0, H200: 63.9 GB, mig 3g.71gb; merged into the Deployment of this name
apiVersion: apps/v1
kind: Deployment
metadata:
  name: code
spec:
  replicas: 1
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 0
      maxUnavailable: 1
  template:
    spec:
      nodeSelector:
        kubernetes.io/hostname: dgx
      resourceClaims:
        - name: gpu
          resourceClaimTemplateName: code
      containers:
        - name: code
          env:
            - name: VRAM_BUDGET_GB
              value: "63.9"
          resources:
            claims:
              - name: gpu
---
# embed on GPU 1, H200: 20 GB, memory-limit; merged into the Deployment of this name
apiVersion: apps/v1
kind: Deployment
metadata:
  name: embed
spec:
  replicas: 1
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 0
      maxUnavailable: 1
  template:
    spec:
      nodeSelector:
        kubernetes.io/hostname: dgx
      resourceClaims:
        - name: gpu
          resourceClaimName: dgx-gpu-1
      containers:
        - name: embed
          env:
            - name: VRAM_BUDGET_GB
              value: "20"
          resources:
            claims:
              - name: gpu
---
# rerank on GPU 1, H200: 20 GB, memory-limit; merged into the Deployment of this name
apiVersion: apps/v1
kind: Deployment
metadata:
  name: rerank
spec:
  replicas: 1
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 0
      maxUnavailable: 1
  template:
    spec:
      nodeSelector:
        kubernetes.io/hostname: dgx
      resourceClaims:
        - name: gpu
          resourceClaimName: dgx-gpu-1
      containers:
        - name: rerank
          env:
            - name: VRAM_BUDGET_GB
              value: "20"
          resources:
            claims:
              - name: gpu
`);
    expect(notices).toEqual([
      'Not every service has an image in the request: code, embed and rerank can only be merged into Deployments that exist, each with a container of the same name; GPU limits that those have under another name stay, and must be taken out.',
      'Names of nodes must be those that kubectl get nodes prints (dgx): apply makes a Node that is not there, and the pods wait for it.',
      "Claims need Kubernetes 1.34 and the vendor's DRA driver on the nodes, in place of its device plugin: a GPU that both hand out is given twice.",
      'The labels of dgx name configurations that gpumix place --export device-plugin writes: apply that first.',
    ]);
    expect(await faultsOfAll(wholeObjects(manifestsOf(text)))).toEqual([]);
  });

  it('names the resources of every vendor and driver', () => {
    const gpus = [
      { name: 'Arc A770', vendor: 'intel' as const },
      { name: 'Arc B580', vendor: 'intel' as const },
      { name: 'Intel Arc Pro B50', vendor: 'intel' as const },
      { name: 'Arc A770', vendor: 'intel' as const, tags: { driver: 'xe' } },
      { name: 'Max 1550', vendor: 'intel' as const },
      { name: 'Gaudi3', vendor: 'intel' as const },
      { name: 'MI300X', vendor: 'amd' as const },
      { name: 'Ascend 910B', vendor: 'huawei' as const },
      { name: 'Ascend 310P', vendor: 'huawei' as const },
    ].map((gpu, g) => ({ ...gpu, node: `n${g}`, index: 0, memoryMb: 8192 }));
    const services = gpus.map(({ node }) => ({ name: node }));
    const assignments = gpus.map((gpu) => on(gpu, gpu.node));
    const { text } = written(placementInput({ gpus, services, assignments }));
    expect(
      manifestsOf(text).map(({ spec }) => Object.keys(spec.template.spec.containers[0].resources.limits)[0]),
    ).toEqual([
      'gpu.intel.com/i915',
      'gpu.intel.com/xe',
      'gpu.intel.com/xe',
      'gpu.intel.com/xe',
      'gpu.intel.com/i915',
      'habana.ai/gaudi',
      'amd.com/gpu',
      'huawei.com/Ascend910',
      'huawei.com/Ascend310P',
    ]);
  });

  it('says where a GPU of another vendor cannot be shared', () => {
    const amd = { node: 'a', index: 0, vendor: 'amd' as const, memoryMb: 8192 };
    const intel = { node: 'b', index: 0, vendor: 'intel' as const, memoryMb: 8192 };
    const services = ['p', 'q', 'r', 's'].map((name) => ({ name }));
    const assignments = [on(amd, 'p'), on(amd, 'q'), on(intel, 'r'), on(intel, 's')];
    const { notices } = written(placementInput({ gpus: [amd, intel], services, assignments }));
    expect(notices.slice(1)).toEqual([
      'p and q share GPU 0 of a, but its device plugin gives a GPU to one pod: all but one of them stay pending. --allocation dra shares it by a claim.',
      "r and s share GPU 0 of b: Intel's GPU plugin must run with -shared-dev-num=2 or more.",
    ]);
  });

  it('refuses a node that no cluster can have, with the name that it may have', () => {
    const gpu = { node: 'Strix Halo', index: 0, vendor: 'amd' as const, memoryMb: 8192 };
    const input = placementInput({ gpus: [gpu], services: [{ name: 'llm' }], assignments: [on(gpu, 'llm')] });
    expect(() => kubernetesExporter.write(input)).toThrow(
      new InputError('the placement request', [
        {
          place: 'gpus[0].node',
          found: '"Strix Halo"',
          expected: "the name of a node as the cluster has it: lower-case letters, digits, '-' and '.'",
          suggestion: 'strix-halo',
        },
      ]),
    );
  });

  it('escapes what YAML 1.1 takes for the end of a line, as parsers in Go and Python do', () => {
    const gpu = { node: 'box', index: 0, vendor: 'amd' as const, memoryMb: 8192 };
    const services = [{ name: 'llm', image: 'a\u2028b: c\u0085d' }];
    const { text } = written(placementInput({ gpus: [gpu], services, assignments: [on(gpu, 'llm')] }));
    expect(text).toContain('          image: "a\\u2028b: c\\u0085d"\n');
    const [manifest] = manifestsOf(text);
    expect(manifest!.spec.template.spec.containers[0].image).toBe('a\u2028b: c\u0085d');
  });

  it('finds a node with a long name by the name itself', async () => {
    const gpu = { node: `${'n'.repeat(60)}.example`, index: 0, vendor: 'amd' as const, memoryMb: 8192 };
    const input = placementInput({ gpus: [gpu], services: [{ name: 'llm' }], assignments: [on(gpu, 'llm')] });
    const manifests = manifestsOf(written(input).text);
    expect(manifests[0]!.spec.template.spec.affinity.nodeAffinity).toEqual({
      requiredDuringSchedulingIgnoredDuringExecution: {
        nodeSelectorTerms: [{ matchFields: [{ key: 'metadata.name', operator: 'In', values: [gpu.node] }] }],
      },
    });
    expect(await faultsOfAll(wholeObjects(manifests))).toEqual([]);
  });

  it('holds no object where nothing was placed', () => {
    const refusals = [{ service: 'llm', reason: 'memory' as const, message: 'no room\n---\nkind: Secret' }];
    const { text, notices } = written(
      placementInput({ gpus: [], services: [{ name: 'llm' }], assignments: [], refusals }),
    );
    expect(manifestsOf(text)).toEqual([]);
    expect(text).toContain('#   llm (memory): no room --- kind: Secret\n');
    expect(notices).toEqual(['Nothing was placed, so that there is nothing to apply.']);
  });
});

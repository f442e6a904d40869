import { describe, expect, it } from 'vitest';
import { kubernetesExporter } from '../../../../src/placement/export/kubernetes.js';
import { cutH200, mpsEdge, workstation } from '../../../support/example-placements.js';
import { faultsOfAll } from '../../../support/kubernetes-schemas.js';
import { type GpuInput, manifestsOf, on, placementInput, wholeObjects } from '../../../support/placement-documents.js';

const written = (input: Parameters<typeof kubernetesExporter.write>[0]) => {
  const { files, notices } = kubernetesExporter.write(input);
  return { text: files[0]!.text, notices };
};

describe('the allocations of GPUs to pods', () => {
  it('gives HAMi memory, cores and the type of the GPU, or its UUID', () => {
    const pods = (input: typeof workstation) =>
      manifestsOf(written({ ...input, gpuAllocation: 'hami' }).text)
        .filter(({ kind }) => kind === 'Deployment')
        .map(({ spec: { template } }) => [
          template.metadata?.annotations,
          template.spec.containers[0].resources.limits,
        ]);
    expect(pods(workstation)).toEqual([
      [{ 'nvidia.com/use-gputype': 'RTX A5500' }, { 'nvidia.com/gpu': '1', 'nvidia.com/gpucores': '100' }],
      [
        { 'nvidia.com/use-gputype': 'RTX A400' },
        { 'nvidia.com/gpu': '1', 'nvidia.com/gpumem': '1536', 'nvidia.com/gpucores': '55' },
      ],
      [
        { 'nvidia.com/use-gputype': 'RTX A400' },
        { 'nvidia.com/gpu': '1', 'nvidia.com/gpumem': '1229', 'nvidia.com/gpucores': '45' },
      ],
    ]);
    expect(pods(cutH200)[0]).toEqual([
      { 'nvidia.com/use-gpuuuid': 'GPU-aa', 'nvidia.com/vgpu-mode': 'mig' },
      { 'nvidia.com/gpu': '1', 'nvidia.com/gpumem': '65434' },
    ]);
  });

  it('gives KAI the memory of a shared GPU, a queue and its scheduler', () => {
    const { text } = written({ ...workstation, gpuAllocation: 'kai' });
    const pods = manifestsOf(text).map(({ spec: { template } }) => [
      template.metadata.labels['kai.scheduler/queue'],
      template.metadata.annotations,
      template.spec.schedulerName,
      template.spec.containers[0].resources,
    ]);
    expect(pods).toEqual([
      ['default-queue', undefined, 'kai-scheduler', { limits: { 'nvidia.com/gpu': '1' } }],
      ['default-queue', { 'gpu-memory': '1536' }, 'kai-scheduler', undefined],
      ['default-queue', { 'gpu-memory': '1229' }, 'kai-scheduler', undefined],
    ]);
  });

  it('claims a GPU by what tells it apart: its UUID, its PCI address, its size, its name', async () => {
    const gpus: readonly GpuInput[] = [
      { node: 'box', index: 0, name: 'RTX 4080', vendor: 'nvidia', memoryMb: 16376 },
      { node: 'box', index: 1, name: 'RTX 4070 Ti SUPER', vendor: 'nvidia', memoryMb: 16376 },
      { node: 'box', index: 2, name: 'RTX A400', vendor: 'nvidia', memoryMb: 4094 },
      { node: 'box', index: 3, name: 'L4', vendor: 'nvidia', memoryMb: 23034, tags: { uuid: 'GPU-"3"' } },
      { node: 'box', index: 4, vendor: 'nvidia', memoryMb: 8192, tags: { pciBusId: '00000000:C1:00.0' } },
      { node: 'box', index: 5, name: 'Radeon 680M', vendor: 'amd', memoryMb: 4096 },
    ];
    const services = gpus.map(({ index }) => ({ name: `s${index}` }));
    const assignments = gpus.map((gpu) => on(gpu, `s${gpu.index}`));
    const { text, notices } = written({ ...placementInput({ gpus, services, assignments }), gpuAllocation: 'dra' });
    const manifests = manifestsOf(text);
    expect(await faultsOfAll(wholeObjects(manifests))).toEqual([]);
    const chosen = manifests
      .filter(({ kind }) => kind === 'ResourceClaimTemplate')
      .map(({ spec }) => {
        const { deviceClassName, selectors } = spec.spec.devices.requests[0].exactly;
        return [
          deviceClassName,
          ...(selectors ?? []).map(({ cel }: { cel: { expression: string } }) => cel.expression),
        ];
      });
    const memory = 'device.capacity["gpu.nvidia.com"].memory.compareTo';
    const productName = 'device.attributes["gpu.nvidia.com"].productName.matches';
    const pciBusId = 'device.attributes["resource.kubernetes.io"].pciBusID';
    expect(chosen).toEqual([
      [
        'gpu.nvidia.com',
        `${memory}(quantity("12284Mi")) > 0`,
        `${memory}(quantity("19705Mi")) < 0`,
        `${productName}("(?i)RTX[ _-]*4080$")`,
      ],
      [
        'gpu.nvidia.com',
        `${memory}(quantity("12284Mi")) > 0`,
        `${memory}(quantity("19705Mi")) < 0`,
        `${productName}("(?i)RTX[ _-]*4070[ _-]*Ti[ _-]*SUPER$")`,
      ],
      ['gpu.nvidia.com', `${memory}(quantity("6143Mi")) < 0`],
      ['gpu.nvidia.com', 'device.attributes["gpu.nvidia.com"].uuid == "GPU-\\"3\\""'],
      ['gpu.nvidia.com', `has(${pciBusId}) && ${pciBusId} == "0000:c1:00.0"`],
      ['gpu.amd.com', 'device.attributes["gpu.amd.com"].type == "amdgpu"'],
    ]);
    expect(notices.filter((notice) => notice.includes('not told'))).toEqual([]);
  });

  it('runs one MPS daemon for the pods of a claim', async () => {
    const { text } = written({ ...mpsEdge, gpuAllocation: 'dra' });
    const [claim, ...deployments] = manifestsOf(text);
    expect(claim).toEqual({
      apiVersion: 'resource.k8s.io/v1',
      kind: 'ResourceClaim',
      metadata: { name: 'edge-gpu-0' },
      spec: {
        devices: {
          requests: [{ name: 'gpu', exactly: { deviceClassName: 'gpu.nvidia.com', count: 1 } }],
          config: [
            {
              requests: ['gpu'],
              opaque: {
                driver: 'gpu.nvidia.com',
                parameters: {
                  apiVersion: 'resource.nvidia.com/v1beta1',
                  kind: 'GpuConfig',
                  sharing: {
                    strategy: 'MPS',
                    mpsConfig: { defaultActiveThreadPercentage: 33, defaultPinnedDeviceMemoryLimit: '8192Mi' },
                  },
                },
              },
            },
          ],
        },
      },
    });
    for (const { spec } of deployments) {
      expect(spec.template.spec.resourceClaims).toEqual([{ name: 'gpu', resourceClaimName: 'edge-gpu-0' }]);
    }
    expect(await faultsOfAll(wholeObjects([claim!, ...deployments]))).toEqual([]);
  });
});

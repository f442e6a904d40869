import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import type { PlacementAssignment } from '../../../src/core/placement.js';
import { devicePluginExporter } from '../../../src/placement/export/device-plugin.js';
import { type ExportInput, gpuAllocationNames } from '../../../src/placement/export/exporter.js';
import { kuberayExporter } from '../../../src/placement/export/kuberay.js';
import { kubernetesExporter } from '../../../src/placement/export/kubernetes.js';
import { type GpuInput, manifestsOf, on, placementInput } from '../../support/placement-documents.js';
import '../../support/property-seed.js';

/** Names that YAML 1.1, a shell, a comment or Kubernetes would take for something else. */
const awkward = fc.constantFrom(
  'on',
  'no',
  '~',
  'null',
  '1e3',
  '0o7',
  '12:30',
  '---',
  '# x',
  'a: b',
  '&a',
  '\n',
  "'",
  '"',
);
const name = fc.oneof(
  awkward,
  fc.string({ unit: 'grapheme', minLength: 1, maxLength: 30 }),
  fc.stringMatching(/^[a-z-]{1,20}$/),
);
const nodeName = fc.oneof(
  fc.constantFrom('on', 'no', 'null', '1e3', '12', 'box', 'a.b', '0x1f'),
  fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,70}[a-z0-9])?$/),
);
const gpuName = fc.oneof(fc.constantFrom('', 'RTX 2070', 'NVIDIA L4', 'memory', 'cpu-only', 'Gaudi3'), name);
const sharings = ['exclusive', 'mps', 'time-slicing', 'memory-limit', 'mig'] as const;

/** Any services on any GPUs, fitting or not: what an export must hold whatever a placement says. */
const input: fc.Arbitrary<ExportInput> = fc
  .record({
    nodes: fc.uniqueArray(nodeName, { minLength: 1, maxLength: 3 }),
    gpus: fc.array(
      fc.record({
        name: gpuName,
        vendor: fc.constantFrom('nvidia', 'amd', 'intel', 'huawei'),
        memoryMb: fc.constantFrom(4094, 8192, 24564),
        tainted: fc.boolean(),
      }),
      { minLength: 1, maxLength: 5 },
    ),
    services: fc.uniqueArray(
      fc.record({
        name,
        kind: fc.constantFrom('llm', 'vision', 'database'),
        image: fc.option(name, { nil: null }),
        model: name,
        at: fc.nat({ max: 5 }),
        sharing: fc.constantFrom(...sharings),
        share: fc.double({ min: 0.001, max: 1, noNaN: true }),
        refused: fc.integer({ min: 0, max: 5 }).map((n) => n === 0),
      }),
      { selector: ({ name: of }) => of, minLength: 1, maxLength: 12 },
    ),
    message: fc.string({ unit: 'binary', maxLength: 40 }),
  })
  .map(({ nodes, gpus, services, message }) => {
    const placed = gpus.map(
      ({ tainted, ...gpu }, g): GpuInput => ({
        ...gpu,
        vendor: gpu.vendor as GpuInput['vendor'],
        node: nodes[g % nodes.length]!,
        index: g,
        taints: tainted ? ['on=no:NoSchedule'] : [],
      }),
    );
    const assignments = services.flatMap((service): readonly PlacementAssignment[] => {
      if (service.refused) return [];
      const gpu = placed[service.at];
      if (gpu === undefined) return [on(null, service.name)];
      const sharing = service.sharing === 'mig' && gpu.vendor !== 'nvidia' ? 'exclusive' : service.sharing;
      const mig = sharing === 'mig' ? { mig: { profile: '1g.10gb+me', uuid: null } } : {};
      return [on(gpu, service.name, { memoryBudgetMb: 1000, sharing, share: service.share, ...mig })];
    });
    const refusals = services
      .filter(({ refused }) => refused)
      .map((service) => ({
        service: service.name,
        reason: 'memory' as const,
        message,
      }));
    const asked = services.map(({ name: of, kind, image, model }) => ({
      name: of,
      kind: kind as 'llm',
      image: image === '' ? null : image,
      model,
    }));
    return placementInput({ gpus: placed, services: asked, assignments, refusals });
  });

describe('for any names and shares', () => {
  it('the Kubernetes export has each assigned service once, whatever hands out the GPUs', () => {
    fc.assert(
      fc.property(input, fc.constantFrom(...gpuAllocationNames), (any, gpuAllocation) => {
        const manifests = manifestsOf(kubernetesExporter.write({ ...any, gpuAllocation }).files[0]!.text);
        const deployments = manifests.filter(({ kind }) => kind === 'Deployment');
        expect(new Set(manifests.map(({ kind, metadata }) => `${kind} ${metadata.name}`)).size).toBe(manifests.length);
        expect(deployments.map(({ spec }) => spec.template.spec.containers[0].image ?? null)).toEqual(
          any.placement.assignments.map(
            ({ service }) => any.request.services.find((one) => one.name === service)!.image,
          ),
        );
        const claims = new Set(
          manifests
            .filter(({ kind }) => kind.startsWith('ResourceClaim'))
            .map(({ kind, metadata }) => `${kind} ${metadata.name}`),
        );
        deployments.forEach(({ metadata, spec }, d) => {
          const { node, gpuIndex } = any.placement.assignments[d]!;
          const pod = spec.template.spec;
          const [container] = pod.containers;
          expect(container.name).toBe(metadata.name);
          const bound =
            pod.nodeSelector?.['kubernetes.io/hostname'] ??
            pod.affinity?.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]
              .matchFields[0].values[0] ??
            null;
          expect(bound).toBe(node);
          for (const claim of pod.resourceClaims ?? []) {
            const held =
              claim.resourceClaimName === undefined
                ? `ResourceClaimTemplate ${claim.resourceClaimTemplateName}`
                : `ResourceClaim ${claim.resourceClaimName}`;
            expect(claims).toContain(held);
          }
          const devices =
            pod.resourceClaims ?? container.resources?.limits ?? spec.template.metadata?.annotations?.['gpu-memory'];
          expect(devices === undefined).toBe(gpuIndex === null);
        });
      }),
      { numRuns: 100 },
    );
  });

  it('the device plugin is told of every node whose pods ask for a shared GPU or an instance', () => {
    fc.assert(
      fc.property(input, (any) => {
        const told = manifestsOf(devicePluginExporter.write(any).files[0]!.text);
        const asked = manifestsOf(kubernetesExporter.write(any).files[0]!.text);
        const [config] = told;
        const label = (node: string) =>
          told.find(({ kind, metadata }) => kind === 'Node' && metadata.name === node)?.metadata.labels?.[
            'nvidia.com/device-plugin.config'
          ];
        asked
          .filter(({ kind }) => kind === 'Deployment')
          .forEach(({ spec }, d) => {
            const resource = Object.keys(spec.template.spec.containers[0].resources?.limits ?? {})[0] ?? '';
            const { node } = any.placement.assignments[d]!;
            const key = node === null ? undefined : label(node);
            const plugin = key === undefined ? {} : parse(config!.data[key], { version: '1.1' });
            if (resource === 'nvidia.com/gpu.shared') {
              const [{ replicas }] = (plugin.sharing.timeSlicing ?? plugin.sharing.mps).resources;
              expect(replicas).toBeGreaterThan(1);
            }
            if (resource === 'nvidia.com/gpu') expect(plugin.sharing).toBeUndefined();
            if (resource.startsWith('nvidia.com/mig-')) expect(plugin.flags).toEqual({ migStrategy: 'mixed' });
          });
      }),
      { numRuns: 100 },
    );
  });

  it('the KubeRay export gives each service a path, and no worker more than it has', () => {
    fc.assert(
      fc.property(input, (any) => {
        const [service, ...aliases] = manifestsOf(kuberayExporter.write(any).files[0]!.text);
        const { assignments } = any.placement;
        if (assignments.length === 0) {
          expect(service).toBeUndefined();
          return;
        }
        const { applications } = parse(service!.spec.serveConfigV2, { version: '1.1' });
        expect(applications).toHaveLength(assignments.length);
        expect(new Set(applications.map((app: { route_prefix: string }) => app.route_prefix)).size).toBe(
          assignments.length,
        );
        expect(new Set(aliases.map(({ metadata }) => metadata.name)).size).toBe(assignments.length);
        const asked = new Map<string, number>();
        for (const app of applications) {
          const options = app.deployments?.[0].ray_actor_options;
          const resources: Record<string, number> =
            options?.resources ?? app.args.llm_configs[0].placement_group_config.bundles[0];
          for (const [resource, part] of Object.entries(resources))
            asked.set(resource, (asked.get(resource) ?? 0) + part);
          if (options !== undefined && options.num_gpus > 0)
            expect(Object.values(resources)).toEqual([options.num_gpus]);
        }
        const groups = service!.spec.rayClusterConfig.workerGroupSpecs;
        expect(new Set(groups.map((group: { groupName: string }) => group.groupName)).size).toBe(groups.length);
        let devices = 0;
        for (const { groupName, replicas, rayStartParams } of groups) {
          const has = JSON.parse(JSON.parse(rayStartParams.resources))[groupName];
          expect(asked.get(groupName)).toBeLessThanOrEqual(has * replicas + 1e-9);
          expect(asked.get(groupName)).toBeGreaterThan(0);
          if (groupName !== 'cpu-only') devices += replicas;
        }
        const held = assignments.filter(({ gpuIndex }) => gpuIndex !== null);
        const whole = new Set(held.filter(({ mig }) => mig === undefined).map(({ gpuIndex }) => gpuIndex));
        expect(devices).toBe(whole.size + held.filter(({ mig }) => mig !== undefined).length);
      }),
      { numRuns: 100 },
    );
  });
});

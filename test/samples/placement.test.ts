import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, describe, expect, it } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { type PlaceFlags, runPlace } from '../../src/cli/place.js';
import type { Placement } from '../../src/core/placement.js';
import type { ExportName } from '../../src/placement/export/exporters.js';
import { exporters } from '../../src/placement/export/exporters.js';
import type { SharingAdvice } from '../../src/placement/sharing/advise.js';
import type { Manifest } from '../support/chart-renderer.js';
import { faultsOfAll } from '../support/kubernetes-schemas.js';

/**
 * The four set-ups of samples/placement against what the command makes of their requests; UPDATE_DOCS=1 writes the files
 * anew. Their figures are asserted beside, so that no rewriting changes them unseen.
 */
const folder = 'samples/placement';
const scratch = mkdtempSync(join(tmpdir(), 'gpumix-placement-samples-'));
afterAll(() => rmSync(scratch, { recursive: true }));

async function ran(request: string, flags: Partial<PlaceFlags>): Promise<string> {
  let text = '';
  const code = await runPlace(
    join(folder, request),
    { json: false, advise: false, diff: false, timeLimit: 60, maxMib: 64, ...flags },
    {
      stdin: Readable.from([]),
      write: (piece) => {
        text += piece;
      },
      writeError: () => undefined,
      color: false,
      width: 100,
    },
  );
  expect(code).toBe(0);
  return text;
}

/** What the command writes with `--out`. */
async function exported(request: string, name: ExportName): Promise<string> {
  const path = join(scratch, exporters[name].fileName);
  await ran(request, { export: [name], out: path });
  return readFileSync(path, 'utf8');
}

/** The number of nodes is the effort of a search, which another way of searching changes. */
const withoutEffort = (text: string): string => text.replaceAll(/"nodes": \d+/g, '"nodes": 0');

function expectFile(file: string, text: string): void {
  const path = join(folder, file);
  if (process.env.UPDATE_DOCS === '1') writeFileSync(path, text);
  expect(withoutEffort(readFileSync(path, 'utf8'))).toBe(withoutEffort(text));
}

type Sample = { readonly request: string; readonly placement: string; readonly exports: readonly ExportName[] };

const samples: readonly Sample[] = [
  {
    request: 'workstation/request.yaml',
    placement: 'workstation/placement.json',
    exports: ['compose', 'assignments'],
  },
  {
    request: 'homelab/request.yaml',
    placement: 'homelab/placement.json',
    exports: ['kubernetes', 'device-plugin'],
  },
  { request: 'ray/request.yaml', placement: 'ray/placement.json', exports: ['kuberay'] },
  { request: 'edge/tesla-p40.yaml', placement: 'edge/tesla-p40.placement.json', exports: [] },
  { request: 'edge/jetson-thor.yaml', placement: 'edge/jetson-thor.placement.json', exports: [] },
  { request: 'edge/rtx-pro-4000.yaml', placement: 'edge/rtx-pro-4000.placement.json', exports: [] },
];
const edgeDevices = ['tesla-p40', 'jetson-thor', 'rtx-pro-4000'] as const;

const folderOf = (file: string): string => file.split('/')[0]!;

function textOf(file: string): string {
  return readFileSync(join(folder, file), 'utf8');
}

function placementOf(file: string): Placement {
  return JSON.parse(textOf(file)) as Placement;
}

function adviceOf(device: (typeof edgeDevices)[number]): SharingAdvice {
  return (JSON.parse(textOf(`edge/${device}.advice.json`)) as { sharing: SharingAdvice }).sharing;
}

function manifestsOf(file: string): readonly Manifest[] {
  return parseAllDocuments(textOf(file)).map((document) => document.toJS() as Manifest);
}

/** One line for each service: where it is, with how much memory. */
function placesOf({ assignments }: Placement): Record<string, string> {
  return Object.fromEntries(
    assignments.map(({ service, node, gpuIndex, memoryBudgetMb, sharing, share }) => [
      service,
      gpuIndex === null ? 'CPU' : `${node} ${gpuIndex}: ${memoryBudgetMb} MiB, ${sharing} ${share}`,
    ]),
  );
}

describe('the sample placements', () => {
  it('are all made here', () => {
    const made = [
      ...samples.flatMap(({ request, placement, exports }) => [
        request,
        placement,
        ...exports.map((name) => `${folderOf(request)}/${exporters[name].fileName}`),
      ]),
      ...edgeDevices.flatMap((device) => [`edge/${device}.advice.txt`, `edge/${device}.advice.json`]),
      'README.md',
      ...['workstation', 'homelab', 'ray', 'edge'].map((name) => `${name}/README.md`),
    ];
    const files = readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));
    expect(files.sort()).toEqual([...made].sort());
  });

  it.each(samples)('$request gives the placement beside it', async ({ request, placement }) => {
    expectFile(placement, await ran(request, { json: true }));
  });

  it.each(samples.flatMap(({ request, exports }) => exports.map((name) => ({ request, name }))))(
    '$request gives the export $name beside it',
    async ({ request, name }) => {
      expectFile(`${folderOf(request)}/${exporters[name].fileName}`, await exported(request, name));
    },
  );

  it.each(edgeDevices)('edge/%s.yaml gives the advice beside it, as a page and as JSON', async (device) => {
    expectFile(`edge/${device}.advice.txt`, await ran(`edge/${device}.yaml`, { advise: true }));
    expectFile(`edge/${device}.advice.json`, await ran(`edge/${device}.yaml`, { advise: true, json: true }));
  });

  it.each(samples)('$request is placed as well as can be, and that is proven', async ({ request }) => {
    const own = JSON.parse(await ran(request, { json: true })) as Placement;
    const best = JSON.parse(await ran(request, { json: true, strategy: 'optimal' })) as Placement;
    expect(best.status).toBe('optimal');
    expect(own.objective).toEqual(best.objective);
    expect(own.refusals).toEqual([]);
  });
});

describe('the workstation', () => {
  it('keeps its language model whole on the large GPU, and shrinks what can live with less', () => {
    const placement = placementOf('workstation/placement.json');
    expect(placement.gpus.map(({ memoryMb }) => memoryMb)).toEqual([24_564, 4094]);
    expect(placesOf(placement)).toEqual({
      'ai-llm': 'workstation 0: 22221 MiB, time-slicing 0.9046',
      'ai-yolo26': 'workstation 0: 666 MiB, time-slicing 0.0271',
      'ai-florence': 'workstation 1: 1536 MiB, time-slicing 0.3751',
      'ai-clip': 'workstation 0: 1229 MiB, time-slicing 0.05',
      'ai-enrichment': 'workstation 1: 2048 MiB, time-slicing 0.5002',
    });
    expect(placement.warnings.map(({ message }) => message)).toEqual([
      'ai-enrichment budget (6.8 GB) exceeds GPU 1 (4 GB). Auto-adjusted to 2 GB.',
    ]);
    expect(placement.objective).toMatchObject({ refusedByPriority: [], overcommitMb: 0, shrunkMb: 6963 - 2048 });
  });

  it('has its Compose services on the devices of the placement', () => {
    type Service = {
      environment: Record<string, string>;
      deploy: { resources: { reservations: { devices: object[] } } };
    };
    const { services } = parse(textOf('workstation/docker-compose.gpu-override.yml'), {
      customTags: ['!override', '!reset'].map((tag) => ({ tag, collection: 'seq' as const })),
      logLevel: 'silent',
    }) as { services: Record<string, Service> };
    const devices = Object.fromEntries(
      Object.entries(services).map(([name, { environment, deploy }]) => [
        name,
        [deploy.resources.reservations.devices, environment.VRAM_BUDGET_GB],
      ]),
    );
    const on = (id: string) => [{ driver: 'nvidia', device_ids: [id], capabilities: ['gpu'] }];
    expect(devices).toEqual({
      'ai-llm': [on('0'), '21.7'],
      'ai-yolo26': [on('0'), '0.65'],
      'ai-florence': [on('1'), '1.5'],
      'ai-clip': [on('0'), '1.2'],
      'ai-enrichment': [on('1'), '2'],
    });
  });
});

describe('the homelab', () => {
  it('gives each service the node that is for it: 0.95, 0.5 and 0.5, 0.8, 0.8', () => {
    const placement = placementOf('homelab/placement.json');
    expect(placesOf(placement)).toEqual({
      llm: 'strix 0: 62260 MiB, exclusive 0.95',
      whisper: 'tower 0: 3584 MiB, time-slicing 0.5',
      xtts: 'tower 0: 3584 MiB, time-slicing 0.5',
      embeddings: 'mini 0: 9831 MiB, exclusive 0.8',
      reranker: 'arc 0: 13108 MiB, exclusive 0.8',
    });
    const memoryOf = Object.fromEntries(placement.gpus.map(({ node, memoryMb }) => [node, memoryMb]));
    const parts = placement.assignments
      .filter(({ sharing }) => sharing === 'exclusive')
      .map(({ node, memoryBudgetMb }) => (memoryBudgetMb / memoryOf[node!]!).toFixed(2));
    expect(parts).toEqual(['0.95', '0.80', '0.80']);
  });

  it('asks Kubernetes for the devices of three vendors, on their nodes', async () => {
    const manifests = manifestsOf('homelab/gpumix-kubernetes.yaml');
    const deployments = manifests.filter(({ kind }) => kind === 'Deployment');
    const asked = deployments.map(({ metadata, spec }) => {
      const { nodeSelector, containers, tolerations } = (
        spec as { template: { spec: { nodeSelector: object; containers: object[]; tolerations?: object[] } } }
      ).template.spec;
      const [{ resources }] = containers as [{ resources: { limits: object } }];
      return [metadata.name, Object.values(nodeSelector)[0], resources.limits, tolerations?.length ?? 0];
    });
    expect(asked).toEqual([
      ['llm', 'strix', { 'amd.com/gpu': '1' }, 1],
      ['whisper', 'tower', { 'nvidia.com/gpu.shared': '1' }, 0],
      ['xtts', 'tower', { 'nvidia.com/gpu.shared': '1' }, 0],
      ['embeddings', 'mini', { 'amd.com/gpu': '1' }, 0],
      ['reranker', 'arc', { 'gpu.intel.com/i915': '1' }, 0],
    ]);
    expect(await faultsOfAll(manifests)).toEqual([]);
    expect(await faultsOfAll(manifestsOf('homelab/gpumix-device-plugin.yaml'))).toEqual([]);
  });
});

describe('the Ray cluster', () => {
  it('serves each service under its path, with its fraction of a GPU of its kind', async () => {
    const [ray, ...aliases] = manifestsOf('ray/gpumix-kuberay.yaml');
    const { serveConfigV2, rayClusterConfig } = ray!.spec as {
      serveConfigV2: string;
      rayClusterConfig: { workerGroupSpecs: { groupName: string; replicas: number }[] };
    };
    type Application = {
      route_prefix: string;
      deployments?: { ray_actor_options: { num_gpus: number } }[];
      args?: { llm_configs: { placement_group_config: { bundles: { GPU: number }[] } }[] };
    };
    const { applications } = parse(serveConfigV2) as { applications: Application[] };
    const parts = applications.map(({ route_prefix: route, deployments, args }) => [
      route,
      deployments === undefined
        ? args!.llm_configs[0]!.placement_group_config.bundles[0]!.GPU
        : deployments[0]!.ray_actor_options.num_gpus,
    ]);
    // Two halves leave nothing for rounding: a shared GPU keeps 2 % back.
    expect(parts).toEqual([
      ['/llm', 0.95],
      ['/whisper', 0.49],
      ['/xtts', 0.49],
      ['/embeddings', 0.8],
      ['/reranker', 0.8],
    ]);
    expect(rayClusterConfig.workerGroupSpecs.map(({ groupName, replicas }) => `${replicas} ${groupName}`)).toEqual([
      '1 strix-halo',
      '1 rtx-2070',
      '1 radeon-680m',
      '1 arc-a770',
    ]);
    expect(aliases.map(({ kind, metadata, spec }) => [kind, metadata.name, (spec as { type: string }).type])).toEqual(
      ['llm', 'whisper', 'xtts', 'embeddings', 'reranker'].map((name) => [
        'Service',
        `${name}-predictor`,
        'ExternalName',
      ]),
    );
    expect(await faultsOfAll(aliases)).toEqual([]);
  });

  it('places the services as the homelab does', () => {
    expect(placementOf('ray/placement.json').assignments).toEqual(placementOf('homelab/placement.json').assignments);
  });
});

describe('the edge devices', () => {
  const serviceOf = (device: (typeof edgeDevices)[number], name: string) =>
    adviceOf(device).services.find(({ service }) => service === name)!;
  const possible = (device: (typeof edgeDevices)[number]) =>
    adviceOf(device)
      .gpus[0]!.options.filter(({ supported }) => supported === 'yes')
      .map(({ mode }) => mode);

  it('Tesla P40: the LLM has 0.85 for 10 sessions, the vector database the CPU; nothing isolates in hardware', () => {
    expect(placesOf(placementOf('edge/tesla-p40.placement.json'))).toEqual({
      llm: 'edge 0: 20890 MiB, exclusive 1',
      'vector-db': 'CPU',
    });
    expect(serviceOf('tesla-p40', 'llm').memoryFraction).toBe(0.85);
    expect(serviceOf('tesla-p40', 'llm').vllmArguments.join(' ')).toBe(
      '--gpu-memory-utilization 0.85 --max-num-seqs 10',
    );
    expect(possible('tesla-p40')).toEqual(['exclusive', 'time-slicing', 'memory-limit', 'cpu']);
  });

  it('Jetson Thor: 0.70 for 20 sessions, 10 to 15 GB of vectors, 10 GB of small models, 15 GB of the system', () => {
    const placement = placementOf('edge/jetson-thor.placement.json');
    const budgetMb = (name: string) => placement.assignments.find(({ service }) => service === name)!.memoryBudgetMb;
    expect(serviceOf('jetson-thor', 'llm').memoryFraction).toBe(0.7);
    expect(serviceOf('jetson-thor', 'llm').vllmArguments.join(' ')).toBe(
      '--gpu-memory-utilization 0.70 --max-num-seqs 20',
    );
    // What others leave, 13.4 GB, less the reserve of 500 MiB, down to half a GB.
    expect(budgetMb('vector-db')).toBe(12.5 * 1024);
    expect(budgetMb('embeddings') + budgetMb('guardrails')).toBe(10 * 1024);
    expect(placement.gpus.map(({ memoryMb, usedMb }) => [memoryMb, usedMb])).toEqual([[128 * 1024, 15 * 1024]]);
    expect(new Set(placement.assignments.map(({ sharing }) => sharing))).toEqual(new Set(['memory-limit']));
  });

  it('RTX PRO 4000: 0.85 for 8 sessions, MPS possible, the vector database on the CPU', () => {
    expect(placesOf(placementOf('edge/rtx-pro-4000.placement.json'))).toEqual({
      llm: 'edge 0: 17408 MiB, exclusive 1',
      'vector-db': 'CPU',
    });
    expect(serviceOf('rtx-pro-4000', 'llm').memoryFraction).toBe(0.85);
    expect(serviceOf('rtx-pro-4000', 'llm').vllmArguments.join(' ')).toBe(
      '--gpu-memory-utilization 0.85 --max-num-seqs 8',
    );
    expect(possible('rtx-pro-4000')).toContain('mps');
  });
});

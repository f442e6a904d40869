import { Ajv } from 'ajv';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isCollection, isScalar, isSeq, parseDocument, visit } from 'yaml';
import { compose } from '../../../src/placement/export/compose.js';
import type { ExportInput } from '../../../src/placement/export/exporter.js';
import {
  accelerators,
  exportInput,
  gpuLess,
  homelab,
  partitioned,
  workstation,
} from '../../support/exported-placements.js';

type Service = {
  readonly environment: Readonly<Record<string, string>>;
  readonly devices?: readonly string[];
  readonly deploy: { readonly resources: { readonly reservations: { readonly devices?: readonly object[] } } };
};

/** The file as plain data, in which Compose's tags are left out. */
function readBack(text: string): Map<string, Service> {
  const document = parseDocument(text, { customTags: ['!reset', '!override'].flatMap(passed), logLevel: 'error' });
  expect(document.errors).toEqual([]);
  const { services } = document.toJS({ mapAsMap: false }) as { services: Record<string, Service> };
  return new Map(Object.entries(services));
}

function passed(tag: string) {
  return [
    { tag, collection: 'seq' as const, identify: () => false },
    { tag, identify: () => false, resolve: (value: string) => (value === 'null' ? null : value) },
  ];
}

/** What Compose makes of a base file and an override: maps merged, lists appended, `!reset` gone, `!override` in place. */
function merged(base: unknown, node: unknown): unknown {
  if (!isScalar(node) && !isCollection(node)) return base;
  if (node.tag === '!reset') return undefined;
  const plain = () => JSON.parse(JSON.stringify(node));
  if (isScalar(node) || node.tag === '!override') return plain();
  if (isSeq(node)) return [...((base as unknown[] | undefined) ?? []), ...plain()];
  const result: Record<string, unknown> = { ...((base as object | undefined) ?? {}) };
  for (const { key, value } of node.items as { key: unknown; value: unknown }[]) {
    const name = String(isScalar(key) ? key.value : key);
    const next = merged(result[name], value);
    if (next === undefined) delete result[name];
    else result[name] = next;
  }
  return result;
}

function only(input: ExportInput): string {
  const { files } = compose.write(input);
  expect(files).toHaveLength(1);
  return files[0]!.text;
}

/**
 * The keys that the export writes, as the Compose specification has them; no package that is kept up carries its schema.
 * `count` beside `device_ids` is an error there, so it is none of the keys; a group or a device may stand once.
 */
const texts = { type: 'array', items: { type: 'string' }, uniqueItems: true, minItems: 1 };
const strict = { type: 'object', additionalProperties: false };
const bind = { ...strict, properties: { create_host_path: { type: 'boolean' } } };
const mount = {
  ...strict,
  required: ['type', 'source', 'target'],
  properties: { type: { const: 'bind' }, source: { type: 'string' }, target: { type: 'string' }, bind },
};
const device = {
  ...strict,
  required: ['capabilities', 'driver', 'device_ids'],
  properties: { driver: { type: 'string' }, device_ids: texts, capabilities: texts },
};
const reservations = { ...strict, properties: { devices: { type: 'array', items: device } } };
const followsRules = new Ajv({ allErrors: true }).compile({
  ...strict,
  required: ['services'],
  properties: {
    services: {
      ...strict,
      patternProperties: {
        '^[a-zA-Z0-9._-]+$': {
          ...strict,
          properties: {
            // Null would be "as in the shell that runs Compose".
            environment: { type: 'object', additionalProperties: { type: 'string' } },
            devices: texts,
            group_add: texts,
            ipc: { const: 'host' },
            runtime: { enum: ['nvidia', 'habana'] },
            volumes: { type: 'array', items: { anyOf: [{ type: 'string' }, mount] } },
            deploy: { ...strict, properties: { resources: { ...strict, properties: { reservations } } } },
          },
        },
      },
    },
  },
});

describe('the Compose override', () => {
  it('gives each service of a workstation its GPU by the index on the machine', () => {
    expect(compose.write(workstation)).toEqual({
      files: [
        {
          fileName: 'docker-compose.gpu-override.yml',
          text: `# Docker Compose override: the GPU of each service on box. Made by gpumix place: strategy
#   vram_based, status feasible (not proven the best there is).
# docker compose -f docker-compose.yml -f docker-compose.gpu-override.yml up -d
# Needs Docker Compose 2.24.4 or later, for !override and !reset.
# Warnings:
#   ai-enrichment budget (6.8 GB) exceeds GPU 1 (4 GB). Auto-adjusted to 2 GB.

services:
  # GPU 0, RTX A5500: 21.7 of 24 GB, time-slicing
  ai-llm:
    environment:
      VRAM_BUDGET_GB: "21.7"
      CUDA_VISIBLE_DEVICES: "0"
    gpus: !reset null
    deploy:
      resources:
        reservations:
          devices: !override
            - driver: nvidia
              device_ids: ["0"]
              capabilities: [gpu]
  # GPU 0, RTX A5500: 0.65 of 24 GB, time-slicing
  ai-yolo26:
    environment:
      VRAM_BUDGET_GB: "0.65"
      CUDA_VISIBLE_DEVICES: "0"
    gpus: !reset null
    deploy:
      resources:
        reservations:
          devices: !override
            - driver: nvidia
              device_ids: ["0"]
              capabilities: [gpu]
  # GPU 0, RTX A5500: 1.5 of 24 GB, time-slicing
  ai-florence:
    environment:
      VRAM_BUDGET_GB: "1.5"
      CUDA_VISIBLE_DEVICES: "0"
    gpus: !reset null
    deploy:
      resources:
        reservations:
          devices: !override
            - driver: nvidia
              device_ids: ["0"]
              capabilities: [gpu]
  # GPU 1, RTX A400: 1.2 of 4 GB, time-slicing
  ai-clip:
    environment:
      VRAM_BUDGET_GB: "1.2"
      CUDA_VISIBLE_DEVICES: "0"
    gpus: !reset null
    deploy:
      resources:
        reservations:
          devices: !override
            - driver: nvidia
              device_ids: ["1"]
              capabilities: [gpu]
  # GPU 1, RTX A400: 2 of 4 GB, time-slicing
  ai-enrichment:
    environment:
      VRAM_BUDGET_GB: "2"
      CUDA_VISIBLE_DEVICES: "0"
    gpus: !reset null
    deploy:
      resources:
        reservations:
          devices: !override
            - driver: nvidia
              device_ids: ["1"]
              capabilities: [gpu]
`,
        },
      ],
      notices: [],
    });
  });

  it('is a file for each node where there are several, and one for services on the CPU of any', () => {
    expect(compose.write(homelab)).toEqual({
      files: [
        {
          fileName: 'docker-compose.gpu-override.strix.yml',
          text: `# Docker Compose override: the GPU of each service on strix. Made by gpumix place: strategy optimal,
#   status optimal (proven the best there is).
# docker compose -f docker-compose.yml -f docker-compose.gpu-override.strix.yml up -d
# Needs Docker Compose 2.24.4 or later, for !override and !reset.
# Refused, so not in this file: the base file alone says what they get:
#   mindie (vendor): mindie runs on huawei (cann); the GPUs here are of amd, nvidia and intel.

services:
  # GPU 0 of strix, Strix Halo: 60.79 of 64 GB, exclusive
  vllm:
    environment:
      VRAM_BUDGET_GB: "60.79"
      HIP_VISIBLE_DEVICES: "0"
    devices: !override
      - /dev/kfd
      - /dev/dri
    group_add: !override
      - \${VIDEO_GID:-video}
      - \${RENDER_GID:-render}
    gpus: !reset null
    deploy:
      resources:
        reservations:
          devices: !reset []
`,
        },
        {
          fileName: 'docker-compose.gpu-override.tower.yml',
          text: `# Docker Compose override: the GPU of each service on tower. Made by gpumix place: strategy optimal,
#   status optimal (proven the best there is).
# docker compose -f docker-compose.yml -f docker-compose.gpu-override.tower.yml up -d
# Needs Docker Compose 2.24.4 or later, for !override and !reset.
# Refused, so not in this file: the base file alone says what they get:
#   mindie (vendor): mindie runs on huawei (cann); the GPUs here are of amd, nvidia and intel.

services:
  # GPU 0 of tower, RTX 2070: 3.41 of 8 GB, time-slicing
  whisper:
    environment:
      VRAM_BUDGET_GB: "3.41"
      CUDA_VISIBLE_DEVICES: "0"
    gpus: !reset null
    deploy:
      resources:
        reservations:
          devices: !override
            - driver: nvidia
              device_ids: ["0"]
              capabilities: [gpu]
  # GPU 0 of tower, RTX 2070: 3.41 of 8 GB, time-slicing
  xtts:
    environment:
      VRAM_BUDGET_GB: "3.41"
      CUDA_VISIBLE_DEVICES: "0"
    gpus: !reset null
    deploy:
      resources:
        reservations:
          devices: !override
            - driver: nvidia
              device_ids: ["0"]
              capabilities: [gpu]
  # GPU 1 of tower, Arc A770: 12.72 of 15.9 GB, exclusive
  bge-rerank:
    environment:
      VRAM_BUDGET_GB: "12.72"
      ZE_AFFINITY_MASK: "0"
    devices: !override
      - /dev/dri/renderD129
    group_add: !override
      - \${VIDEO_GID:-video}
      - \${RENDER_GID:-render}
    gpus: !reset null
    deploy:
      resources:
        reservations:
          devices: !reset []
`,
        },
        {
          fileName: 'docker-compose.gpu-override.mini.yml',
          text: `# Docker Compose override: the GPU of each service on mini. Made by gpumix place: strategy optimal,
#   status optimal (proven the best there is).
# docker compose -f docker-compose.yml -f docker-compose.gpu-override.mini.yml up -d
# Needs Docker Compose 2.24.4 or later, for !override and !reset.
# Refused, so not in this file: the base file alone says what they get:
#   mindie (vendor): mindie runs on huawei (cann); the GPUs here are of amd, nvidia and intel.

services:
  # GPU 0 of mini, Radeon 680M: 9.59 of 12 GB, exclusive
  bge-embed:
    environment:
      VRAM_BUDGET_GB: "9.59"
      HIP_VISIBLE_DEVICES: "0"
    devices: !override
      - /dev/kfd
      - /dev/dri
    group_add: !override
      - \${VIDEO_GID:-video}
      - \${RENDER_GID:-render}
    gpus: !reset null
    deploy:
      resources:
        reservations:
          devices: !reset []
`,
        },
        {
          fileName: 'docker-compose.cpu-override.yml',
          text: `# Docker Compose override: services on the CPU, for the machine that runs them. Made by gpumix
#   place: strategy optimal, status optimal (proven the best there is).
# docker compose -f docker-compose.yml -f docker-compose.cpu-override.yml up -d
# Needs Docker Compose 2.24.4 or later, for !override and !reset.
# Refused, so not in this file: the base file alone says what they get:
#   mindie (vendor): mindie runs on huawei (cann); the GPUs here are of amd, nvidia and intel.

services:
  # CPU
  qdrant:
    environment:
      VRAM_BUDGET_GB: "0"
      NVIDIA_VISIBLE_DEVICES: void
      CUDA_VISIBLE_DEVICES: ""
    devices: !reset []
    gpus: !reset null
    deploy:
      resources:
        reservations:
          devices: !reset []
`,
        },
      ],
      notices: [
        'A Compose file is for one machine: there are 4 files, each for the services of one.',
        'Refused, so the base file alone says what they get: mindie.',
        "Where an image has no group video or render, set VIDEO_GID and RENDER_GID to the machine's numbers (getent group render).",
      ],
    });
  });

  it('names MIG instances by UUID, asks for one that is not known, and makes clients of MPS', () => {
    expect(compose.write(partitioned)).toEqual({
      files: [
        {
          fileName: 'docker-compose.gpu-override.yml',
          text: `# Docker Compose override: the GPU of each service on dgx. Made by gpumix place: strategy
#   isolation_first, status feasible (not proven the best there is).
# docker compose -f docker-compose.yml -f docker-compose.gpu-override.yml up -d
# Needs Docker Compose 2.24.4 or later, for !override and !reset.

services:
  # GPU 0, A100-80GB: 36 of 80 GB, mig 3g.40gb
  chat:
    environment:
      VRAM_BUDGET_GB: "36"
      CUDA_VISIBLE_DEVICES: "0"
    gpus: !reset null
    deploy:
      resources:
        reservations:
          devices: !override
            - driver: nvidia
              device_ids: [MIG-b0e3ab4d-4ae1-5d2c-9f4e-3d2f7a0b6c11]
              capabilities: [gpu]
  # GPU 0, A100-80GB: 12 of 80 GB, mig 2g.20gb
  embed:
    environment:
      VRAM_BUDGET_GB: "12"
      CUDA_VISIBLE_DEVICES: "0"
    gpus: !reset null
    deploy:
      resources:
        reservations:
          devices: !override
            - driver: nvidia
              device_ids: ["\${EMBED_MIG_UUID:?UUID of a 2g.20gb instance of GPU 0, from nvidia-smi -L}"]
              capabilities: [gpu]
  # GPU 2, A100-80GB: 40 of 80 GB, mps
  guard:
    environment:
      VRAM_BUDGET_GB: "40"
      CUDA_VISIBLE_DEVICES: "0"
      CUDA_MPS_PIPE_DIRECTORY: /tmp/nvidia-mps-2
      CUDA_MPS_ACTIVE_THREAD_PERCENTAGE: "100"
      CUDA_MPS_PINNED_DEVICE_MEM_LIMIT: 0=40960M
    gpus: !reset null
    deploy:
      resources:
        reservations:
          devices: !override
            - driver: nvidia
              device_ids: ["2"]
              capabilities: [gpu]
    ipc: host
    volumes:
      - type: bind
        source: /tmp/nvidia-mps-2
        target: /tmp/nvidia-mps-2
        bind:
          create_host_path: false
  # GPU 2, A100-80GB: 20 of 80 GB, mps
  whisper:
    environment:
      VRAM_BUDGET_GB: "20"
      CUDA_VISIBLE_DEVICES: "0"
      CUDA_MPS_PIPE_DIRECTORY: /tmp/nvidia-mps-2
      CUDA_MPS_ACTIVE_THREAD_PERCENTAGE: "67"
      CUDA_MPS_PINNED_DEVICE_MEM_LIMIT: 0=20480M
    gpus: !reset null
    deploy:
      resources:
        reservations:
          devices: !override
            - driver: nvidia
              device_ids: ["2"]
              capabilities: [gpu]
    ipc: host
    volumes:
      - type: bind
        source: /tmp/nvidia-mps-2
        target: /tmp/nvidia-mps-2
        bind:
          create_host_path: false
`,
        },
      ],
      notices: [
        'MPS: start the server of each shared GPU on the machine first, as gpumix place --advise shows, by the user that the containers run as (guard, whisper).',
        'MIG: cut the instances, then set EMBED_MIG_UUID to their UUIDs (nvidia-smi -L).',
      ],
    });
  });

  it('reaches Jetson and Gaudi through their runtimes, and Ascend through its device files', () => {
    expect(
      only(accelerators),
    ).toBe(`# Docker Compose override: the GPU of each service on edge. Made by gpumix place: strategy
#   vram_based, status feasible (not proven the best there is).
# docker compose -f docker-compose.yml -f docker-compose.gpu-override.yml up -d
# Needs Docker Compose 2.24.4 or later, for !override and !reset.

services:
  # GPU 0, NVIDIA Jetson AGX Thor: 90 of 122.8 GB, exclusive
  thor:
    environment:
      VRAM_BUDGET_GB: "90"
      NVIDIA_VISIBLE_DEVICES: all
      CUDA_VISIBLE_DEVICES: "0"
    runtime: nvidia
    gpus: !reset null
    deploy:
      resources:
        reservations:
          devices: !reset []
  # GPU 1, Gaudi2: 64 of 96 GB, exclusive
  gaudi:
    environment:
      VRAM_BUDGET_GB: "64"
      HABANA_VISIBLE_DEVICES: "0"
    runtime: habana
    gpus: !reset null
    deploy:
      resources:
        reservations:
          devices: !reset []
  # GPU 2, Ascend 910B: 32 of 64 GB, exclusive
  ascend:
    environment:
      VRAM_BUDGET_GB: "32"
    devices: !override
      - /dev/davinci0
      - /dev/davinci_manager
      - /dev/devmm_svm
      - /dev/hisi_hdc
    volumes:
      - /usr/local/dcmi:/usr/local/dcmi:ro
      - /usr/local/bin/npu-smi:/usr/local/bin/npu-smi:ro
      - /usr/local/Ascend/driver/lib64:/usr/local/Ascend/driver/lib64:ro
      - /usr/local/Ascend/driver/version.info:/usr/local/Ascend/driver/version.info:ro
      - /etc/ascend_install.info:/etc/ascend_install.info:ro
    gpus: !reset null
    deploy:
      resources:
        reservations:
          devices: !reset []
`);
  });

  it('works without a GPU, and says who was refused', () => {
    expect(compose.write(gpuLess)).toEqual({
      files: [
        {
          fileName: 'docker-compose.gpu-override.yml',
          text: `# Docker Compose override: the GPU of each service. Made by gpumix place: strategy vram_based,
#   status feasible (not proven the best there is).
# docker compose -f docker-compose.yml -f docker-compose.gpu-override.yml up -d
# Needs Docker Compose 2.24.4 or later, for !override and !reset.
# Refused, so not in this file: the base file alone says what they get:
#   llm (vendor): llm needs a GPU and there is none.

services:
  # CPU
  qdrant:
    environment:
      VRAM_BUDGET_GB: "0"
      NVIDIA_VISIBLE_DEVICES: void
      CUDA_VISIBLE_DEVICES: ""
    gpus: !reset null
    deploy:
      resources:
        reservations:
          devices: !reset []
`,
        },
      ],
      notices: ['Refused, so the base file alone says what they get: llm.'],
    });
  });

  it('takes back what the base file reserved, in every way that Compose has', () => {
    const base = {
      services: Object.fromEntries(
        ['vllm', 'whisper', 'qdrant'].map((name) => [
          name,
          {
            image: name,
            gpus: 'all',
            devices: ['/dev/dri:/dev/dri'],
            group_add: ['video'],
            environment: { CUDA_VISIBLE_DEVICES: '3', MODEL: 'm' },
            deploy: {
              resources: { reservations: { devices: [{ driver: 'nvidia', count: 'all', capabilities: ['gpu'] }] } },
            },
          },
        ]),
      ),
    };
    const after = compose
      .write(homelab)
      .files.reduce<unknown>(
        (file, { text }) => merged(file, parseDocument(text, { logLevel: 'error' }).contents),
        base,
      );
    expect((after as { services: Record<string, unknown> }).services).toMatchObject({
      vllm: {
        image: 'vllm',
        devices: ['/dev/kfd', '/dev/dri'],
        // biome-ignore lint/suspicious/noTemplateCurlyInString: Compose replaces these
        group_add: ['${VIDEO_GID:-video}', '${RENDER_GID:-render}'],
        environment: { CUDA_VISIBLE_DEVICES: '3', MODEL: 'm', VRAM_BUDGET_GB: '60.79', HIP_VISIBLE_DEVICES: '0' },
        deploy: { resources: { reservations: {} } },
      },
      whisper: {
        devices: ['/dev/dri:/dev/dri'],
        environment: { CUDA_VISIBLE_DEVICES: '0', MODEL: 'm', VRAM_BUDGET_GB: '3.41' },
        deploy: {
          resources: { reservations: { devices: [{ driver: 'nvidia', device_ids: ['0'], capabilities: ['gpu'] }] } },
        },
      },
      qdrant: {
        environment: { CUDA_VISIBLE_DEVICES: '', NVIDIA_VISIBLE_DEVICES: 'void', MODEL: 'm', VRAM_BUDGET_GB: '0' },
        deploy: { resources: { reservations: {} } },
      },
    });
    for (const service of Object.values((after as { services: Record<string, object> }).services)) {
      expect(service).not.toHaveProperty('gpus');
    }
    expect((after as { services: Record<string, object> }).services.qdrant).not.toHaveProperty('devices');
  });

  it('lets every GPU of /dev/dri in where no render node is known, and says so', () => {
    const gpu = { node: 'box', vendor: 'amd', memoryMb: 16384 } as const;
    const input = exportInput({
      gpus: [
        { ...gpu, index: 0 },
        { ...gpu, index: 1, tags: { renderNode: '/dev/dri/../sda' } },
      ],
      services: [{ name: 'llm', memoryMb: 1024, frameworks: ['rocm'] }],
      assignments: [{ service: 'llm', node: 'box', gpuIndex: 1, memoryBudgetMb: 1024, sharing: 'exclusive', share: 1 }],
    });
    const service = readBack(only(input)).get('llm')!;
    expect(service.devices).toEqual(['/dev/kfd', '/dev/dri']);
    expect(service.environment).toEqual({ VRAM_BUDGET_GB: '1', HIP_VISIBLE_DEVICES: '1' });
    expect(compose.write(input).notices.at(-1)).toBe(
      'All of /dev/dri is open to llm: OpenCL, Vulkan and OpenVINO do not read the index. The tag renderNode (/dev/dri/renderD128) of a GPU gives it that one alone.',
    );
  });

  it('takes the index of the vendor from the tag vendorIndex', () => {
    const input = exportInput({
      gpus: [
        { index: 0, node: 'box', vendor: 'intel', memoryMb: 8192 },
        { index: 1, node: 'box', vendor: 'nvidia', memoryMb: 8192, tags: { vendorIndex: '3' } },
      ],
      services: [{ name: 'llm', memoryMb: 1024, frameworks: ['cuda'] }],
      assignments: [{ service: 'llm', node: 'box', gpuIndex: 1, memoryBudgetMb: 1024, sharing: 'exclusive', share: 1 }],
    });
    expect(readBack(only(input)).get('llm')!.deploy.resources.reservations.devices).toEqual([
      { driver: 'nvidia', device_ids: ['3'], capabilities: ['gpu'] },
    ]);
  });

  it('refuses names that Compose refuses, and placements of another request', () => {
    const named = (service: string, name: string) =>
      exportInput({
        gpus: [],
        services: [{ name, memoryMb: 0, cpuAllowed: true, frameworks: ['cpu'] }],
        assignments: [{ service, node: null, gpuIndex: null, memoryBudgetMb: 0, sharing: 'cpu', share: 0 }],
      });
    expect(() => compose.write(named('a b', 'a b'))).toThrow(
      'the export to Docker Compose: services: found "a b", expected a name of letters, digits, ".", "_" and "-", as Docker Compose names services',
    );
    expect(() => compose.write(named('b', 'a'))).toThrow(
      'the placement: assignments[0].service: found "b", expected a service of the request that it answers',
    );
  });

  it('keeps nodes apart whose names become the same file, and lets none leave the folder', () => {
    const nodes = ['../a b', '..-a-b', '..-A-B'];
    const input = exportInput({
      gpus: nodes.map((node) => ({ index: 0, node, vendor: 'nvidia', memoryMb: 1024 })),
      services: nodes.map((_, n) => ({ name: `s${n}`, memoryMb: 1, frameworks: ['cuda'] })),
      assignments: nodes.map((node, n) => ({
        service: `s${n}`,
        node,
        gpuIndex: 0,
        memoryBudgetMb: 1,
        sharing: 'exclusive',
        share: 1,
      })),
    });
    expect(compose.write(input).files.map(({ fileName }) => fileName)).toEqual([
      'docker-compose.gpu-override...-a-b.yml',
      'docker-compose.gpu-override...-a-b-2.yml',
      'docker-compose.gpu-override...-A-B-3.yml',
    ]);
  });

  it('reads back as the same assignments whatever names, sizes and messages are', () => {
    const name = fc.stringMatching(/^[a-zA-Z0-9._-]{1,12}$/).filter((text) => text !== '__proto__');
    const awkward = fc.constantFrom('no', 'null', '1e3', '0o7', '0x1F', '1_000', '~', '.inf', '-', '---', '1.10', 'y');
    const service = fc.record({
      name: fc.oneof(
        name,
        awkward.filter((text) => /^[a-zA-Z0-9._-]+$/.test(text)),
      ),
      memoryMb: fc.integer({ min: 1, max: 2 ** 20 }),
      gpu: fc.option(fc.integer({ min: 0, max: 3 })),
      uuid: fc.option(fc.string({ minLength: 1, maxLength: 60, unit: 'binary' }), { freq: 2 }),
    });
    fc.assert(
      fc.property(
        fc.uniqueArray(service, { maxLength: 8, selector: (one) => one.name }),
        fc.string({ unit: 'binary', maxLength: 80 }),
        (services, message) => {
          const input = exportInput({
            gpus: [0, 1, 2, 3].map((index) => ({
              index,
              node: message || 'n',
              vendor: 'nvidia',
              name: message,
              memoryMb: 2 ** 20,
            })),
            services: services.map((one) => ({ name: one.name, memoryMb: one.memoryMb, frameworks: ['cuda', 'cpu'] })),
            assignments: services.map((one) => ({
              service: one.name,
              node: one.gpu === null ? null : message || 'n',
              gpuIndex: one.gpu,
              memoryBudgetMb: one.memoryMb,
              sharing: one.gpu === null ? 'cpu' : one.uuid === null ? 'time-slicing' : 'mig',
              share: 0,
              ...(one.uuid === null ? {} : { mig: { profile: '1g.10gb', uuid: one.uuid } }),
            })),
            warnings: [{ code: 'x', message }],
            refusals: [{ service: 'other', reason: 'memory', message }],
          });
          const back = readBack(only(input));
          expect([...back.keys()].sort()).toEqual(services.map((one) => one.name).sort());
          for (const one of services) {
            const { environment, deploy } = back.get(one.name)!;
            if (one.gpu === null) expect(environment.VRAM_BUDGET_GB).toBe('0');
            else {
              const lost = one.memoryMb / 1024 - Number(environment.VRAM_BUDGET_GB);
              expect(lost).toBeGreaterThanOrEqual(0);
              expect(lost).toBeLessThan(0.01 + 1e-9);
              const id = one.uuid === null ? String(one.gpu) : one.uuid.replaceAll('$', '$$$$');
              expect(deploy.resources.reservations.devices).toEqual([
                { driver: 'nvidia', device_ids: [id], capabilities: ['gpu'] },
              ]);
            }
          }
        },
      ),
    );
  });

  it('follows the rules of the Compose specification for what it writes', () => {
    for (const input of [workstation, homelab, partitioned, accelerators, gpuLess]) {
      for (const { text } of compose.write(input).files) {
        const document = parseDocument(text, { logLevel: 'error' });
        expect(document.errors).toEqual([]);
        visit(document, {
          Pair: (_, { value }) => ((value as { tag?: string } | null)?.tag === '!reset' ? visit.REMOVE : undefined),
        });
        followsRules(document.toJSON());
        expect(followsRules.errors).toBeNull();
      }
    }
  });
});

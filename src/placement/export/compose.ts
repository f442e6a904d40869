import type { Document, Node } from 'yaml';
import { InputError, quoteInput } from '../../core/input-error.js';
import type { FrameworkName, PlacementGpu } from '../../core/placement-request.js';
import { mpsClientVariables, mpsDirectory } from '../mps-client.js';
import { vendorIndexOf } from '../vendor-index.js';
import { commentLines } from './comment-lines.js';
import { renderNodeOf } from './device-files.js';
import { origin, remarks } from './export-header.js';
import type { Exporter, ExportFile, ExportInput } from './exporter.js';
import { gbOf, gpuHeading, isGaudi, isJetson, nodesOf, type PlacedService, placedServices } from './placed-service.js';
import { variableNames } from './variable-names.js';
import { asComment, commentEntry, onOneLine, tagged, yamlDocument, yamlText } from './yaml-text.js';

/**
 * An override for Docker Compose: services of the same names as those of the base file, each with its GPU and no other.
 *
 * Compose appends lists when it merges files, so a GPU that the base file reserves would stay. Hence `!override` on the
 * lists that are written and `!reset` on those that must go (Compose specification, "Merge and override"; 2.24.4).
 *
 * **Indexes.** NVIDIA's container toolkit shows a container only the devices of `device_ids`, and CUDA counts what it sees
 * from 0. So `device_ids` holds the index on the machine and `CUDA_VISIBLE_DEVICES` is always 0: the machine's index would
 * hide the one device that there is. The same holds for AMD and Intel where the container is given one render node; where
 * it is given all of `/dev/dri`, `HIP_VISIBLE_DEVICES` or `ZE_AFFINITY_MASK` is the machine's index.
 *
 * `HIP_VISIBLE_DEVICES` alone, without `ROCR_VISIBLE_DEVICES`: HIP counts what ROCr leaves, so that both of them set to 1
 * leave nothing. `security_opt: seccomp=unconfined`, which AMD's page on Docker lists as optional, is not written: an
 * override that hands out GPUs should not take a container's system call filter away.
 */

const fileName = 'docker-compose.gpu-override.yml';
/** `!override`; `!reset` is older. */
const composeVersion = '2.24.4';

export const compose: Exporter = {
  fileName,
  about: 'Docker Compose override that gives each service its GPU; one file for each machine',
  write: writeCompose,
};

/** A service as its map in the file; nodes of `yaml` stand where a tag or a one-line list is wanted. */
type ComposeService = Record<string, unknown>;
/** What the writers of one service share. */
type Writing = {
  readonly document: Document;
  readonly placed: PlacedService;
  /** Of its GPU, as the vendor's software counts on the machine; 0 on the CPU. */
  readonly index: number;
  /** `NAME` of the variable that stands for the UUID of its MIG instance. */
  readonly migVariable: string;
};

function writeCompose(input: ExportInput): ReturnType<Exporter['write']> {
  const { request } = input;
  const placed = placedServices(input);
  checkNames(placed);
  const nodes = nodesOf(request);
  const migVariables = variableNames(
    placed.map(({ service }) => service.name),
    '_MIG_UUID',
  );
  const machines = nodes.length > 1 ? machinesOf(nodes, placed) : [{ node: nodes[0] ?? null, fileName, placed }];
  const files = machines.map((machine): ExportFile => {
    const document = yamlDocument();
    const services = machine.placed.map(
      (one) =>
        [
          one.service.name,
          composeService({
            document,
            placed: one,
            index: one.gpu === null ? 0 : vendorIndexOf(one.gpu, request),
            migVariable: migVariables.get(one.service.name)!,
          }),
        ] as const,
    );
    const root = document.createNode({ services: new Map(services) });
    document.contents = root as typeof document.contents;
    for (const one of machine.placed) commentEntry(root.get('services', true), one.service.name, headline(one, input));
    document.commentBefore = asComment(header(input, machine));
    return { fileName: machine.fileName, text: yamlText(document) };
  });
  return { files, notices: noticesOf(input, placed, files, migVariables) };
}

/** Names that Compose takes for services; it refuses the whole file for one other. */
const composeName = /^[a-zA-Z0-9._-]+$/;

function checkNames(placed: readonly PlacedService[]): void {
  const issues = placed
    .filter(({ service }) => !composeName.test(service.name))
    .map(({ service }) => ({
      place: 'services',
      found: quoteInput(service.name),
      expected: 'a name of letters, digits, ".", "_" and "-", as Docker Compose names services',
    }));
  if (issues.length > 0) throw new InputError('the export to Docker Compose', issues);
}

type Machine = { readonly node: string | null; readonly fileName: string; readonly placed: readonly PlacedService[] };

/** One file for each node that runs something, and one for the services that any of them may run on its CPU. */
function machinesOf(nodes: readonly string[], placed: readonly PlacedService[]): readonly Machine[] {
  const names = new Set<string>();
  const perNode = nodes.flatMap((node): readonly Machine[] => {
    const here = placed.filter(({ assignment }) => assignment.node === node);
    if (here.length === 0) return [];
    const stem = `docker-compose.gpu-override.${node.replace(/[^A-Za-z0-9._-]/g, '-')}`;
    let name = stem;
    // Some file systems do not tell capitals from small letters.
    for (let n = 2; names.has(name.toLowerCase()); n++) name = `${stem}-${n}`;
    names.add(name.toLowerCase());
    return [{ node, fileName: `${name}.yml`, placed: here }];
  });
  const anywhere = placed.filter(({ assignment }) => assignment.node === null);
  const machines =
    anywhere.length === 0
      ? perNode
      : [...perNode, { node: null, fileName: 'docker-compose.cpu-override.yml', placed: anywhere }];
  return machines.length > 0 ? machines : [{ node: null, fileName, placed: [] }];
}

function header({ request, placement }: ExportInput, machine: Machine): readonly string[] {
  const several = nodesOf(request).length > 1;
  const whose =
    machine.node !== null
      ? `the GPU of each service on ${machine.node}`
      : several
        ? 'services on the CPU, for the machine that runs them'
        : 'the GPU of each service';
  return [
    ...commentLines(`Docker Compose override: ${whose}. ${origin(placement)}`),
    ...commentLines(`docker compose -f docker-compose.yml -f ${machine.fileName} up -d`),
    ...commentLines(`Needs Docker Compose ${composeVersion} or later, for !override and !reset.`),
    ...remarks(placement, 'so not in this file: the base file alone says what they get'),
  ];
}

function headline({ assignment, gpu }: PlacedService, { request }: ExportInput): readonly string[] {
  return gpu === null ? ['CPU'] : commentLines(gpuHeading(gpu, assignment, request));
}

function composeService(writing: Writing): ComposeService {
  const { gpu } = writing.placed;
  if (gpu === null) return cpuService(writing);
  if (isGaudi(gpu)) return gaudiService(writing);
  return vendorServices[gpu.vendor](writing, gpu);
}

const vendorServices = {
  nvidia: nvidiaService,
  amd: amdService,
  intel: intelService,
  huawei: huaweiService,
} satisfies Record<PlacementGpu['vendor'], (writing: Writing, gpu: PlacementGpu) => ComposeService>;

function nvidiaService(writing: Writing, gpu: PlacementGpu): ComposeService {
  const { document, placed } = writing;
  if (isJetson(gpu)) {
    const environment = {
      ...budget(placed),
      NVIDIA_VISIBLE_DEVICES: 'all',
      CUDA_VISIBLE_DEVICES: '0',
      ...mps(writing),
    };
    return { environment, runtime: 'nvidia', ...noReservation(document), ...mpsMounts(writing) };
  }
  const device = {
    driver: 'nvidia',
    device_ids: onOneLine(document, [deviceId(writing)]),
    capabilities: onOneLine(document, ['gpu']),
  };
  return {
    environment: { ...budget(placed), CUDA_VISIBLE_DEVICES: '0', ...mps(writing) },
    gpus: tagged(document, '!reset', null),
    deploy: { resources: { reservations: { devices: tagged(document, '!override', [device]) } } },
    ...mpsMounts(writing),
  };
}

/** The index on the machine; with MIG the UUID of the instance, or a variable that Compose asks for. */
function deviceId({ placed, index, migVariable }: Writing): string {
  const { mig } = placed.assignment;
  if (mig === undefined) return String(index);
  if (mig.uuid !== null) return literal(mig.uuid);
  return `\${${migVariable}:?UUID of a ${mig.profile} instance of GPU ${index}, from nvidia-smi -L}`;
}

/** A client of the MPS server of its GPU, which runs on the machine. */
function mps({ placed, index }: Writing): Readonly<Record<string, string>> {
  return placed.assignment.sharing === 'mps' ? mpsClientVariables(placed, index) : {};
}

/** Clients share memory with the server, hence the machine's IPC namespace. A missing directory is an error, not made. */
function mpsMounts({ placed, index }: Writing): ComposeService {
  if (placed.assignment.sharing !== 'mps') return {};
  const pipes = {
    type: 'bind',
    source: mpsDirectory(index),
    target: mpsDirectory(index),
    bind: { create_host_path: false },
  };
  return { ipc: 'host', volumes: [pipes] };
}

function amdService({ document, placed, index }: Writing, gpu: PlacementGpu): ComposeService {
  const node = renderNodeOf(gpu);
  return {
    environment: { ...budget(placed), HIP_VISIBLE_DEVICES: node === null ? String(index) : '0' },
    devices: tagged(document, '!override', ['/dev/kfd', node ?? '/dev/dri']),
    group_add: deviceGroups(document),
    ...noReservation(document),
  };
}

function intelService({ document, placed, index }: Writing, gpu: PlacementGpu): ComposeService {
  const node = renderNodeOf(gpu);
  return {
    environment: { ...budget(placed), ZE_AFFINITY_MASK: node === null ? String(index) : '0' },
    devices: tagged(document, '!override', [node ?? '/dev/dri']),
    group_add: deviceGroups(document),
    ...noReservation(document),
  };
}

/** Source: Intel Gaudi documentation, "Docker installation": its runtime picks the accelerators by this variable. */
function gaudiService({ document, placed, index }: Writing): ComposeService {
  return {
    environment: { ...budget(placed), HABANA_VISIBLE_DEVICES: String(index) },
    runtime: 'habana',
    ...noReservation(document),
  };
}

/** Source: vllm-ascend, "Quickstart": the processor, three devices that all share, and the driver of the machine. */
function huaweiService({ document, placed, index }: Writing): ComposeService {
  const shared = ['/dev/davinci_manager', '/dev/devmm_svm', '/dev/hisi_hdc'];
  const driver = [
    '/usr/local/dcmi',
    '/usr/local/bin/npu-smi',
    '/usr/local/Ascend/driver/lib64',
    '/usr/local/Ascend/driver/version.info',
    '/etc/ascend_install.info',
  ];
  return {
    environment: budget(placed),
    devices: tagged(document, '!override', [`/dev/davinci${index}`, ...shared]),
    volumes: driver.map((path) => `${path}:${path}:ro`),
    ...noReservation(document),
  };
}

/** What reaches a GPU through `devices`, which a service on the CPU then has to lose; CUDA does not. */
const throughDeviceFiles: readonly FrameworkName[] = ['rocm', 'oneapi', 'openvino', 'vulkan', 'opencl', 'cann'];

/**
 * NVIDIA's images ask for all GPUs by themselves where its runtime is Docker's default; `void` takes that back. An empty
 * `CUDA_VISIBLE_DEVICES` is none, whatever the base file says.
 */
function cpuService({ document, placed }: Writing): ComposeService {
  const devices = placed.service.frameworks.some((framework) => throughDeviceFiles.includes(framework));
  return {
    environment: { VRAM_BUDGET_GB: '0', NVIDIA_VISIBLE_DEVICES: 'void', CUDA_VISIBLE_DEVICES: '' },
    ...(devices ? { devices: tagged(document, '!reset', []) } : {}),
    ...noReservation(document),
  };
}

function budget({ assignment }: PlacedService): Readonly<Record<string, string>> {
  return { VRAM_BUDGET_GB: String(gbOf(assignment.memoryBudgetMb)) };
}

/** Takes back both of Compose's ways to reserve a GPU. */
function noReservation(document: Document): ComposeService {
  return {
    gpus: tagged(document, '!reset', null),
    deploy: { resources: { reservations: { devices: tagged(document, '!reset', []) } } },
  };
}

/**
 * The groups that own /dev/kfd and /dev/dri. Docker looks names up in the image, which often has no `render`: a number in
 * the environment or in `.env` serves there. Replaced, not appended: Compose refuses a group that stands twice.
 */
function deviceGroups(document: Document): Node {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: Compose replaces these
  return tagged(document, '!override', ['${VIDEO_GID:-video}', '${RENDER_GID:-render}']);
}

/** Foreign text as a value in which Compose replaces nothing. */
function literal(text: string): string {
  return text.replaceAll('$', '$$$$');
}

function noticesOf(
  { request, placement }: ExportInput,
  placed: readonly PlacedService[],
  files: readonly ExportFile[],
  migVariables: ReadonlyMap<string, string>,
): readonly string[] {
  const notices: string[] = [];
  const names = (list: readonly PlacedService[]) => list.map(({ service }) => service.name).join(', ');
  if (files.length > 1) {
    notices.push(`A Compose file is for one machine: there are ${files.length} files, each for the services of one.`);
  }
  const refused = placement.refusals.map(({ service }) => service);
  if (refused.length > 0) {
    notices.push(`Refused, so the base file alone says what they get: ${refused.join(', ')}.`);
  }
  const onMps = placed.filter(({ assignment }) => assignment.sharing === 'mps');
  if (onMps.length > 0) {
    notices.push(
      `MPS: start the server of each shared GPU on the machine first, as gpumix place --advise shows, by the user that the containers run as (${names(onMps)}).`,
    );
  }
  const unnamed = placed.filter(({ assignment }) => assignment.mig?.uuid === null);
  if (unnamed.length > 0) {
    const variables = unnamed.map(({ service }) => migVariables.get(service.name)!).join(', ');
    notices.push(`MIG: cut the instances, then set ${variables} to their UUIDs (nvidia-smi -L).`);
  }
  const deviceFiles = placed.filter(
    ({ gpu }) => gpu !== null && !isGaudi(gpu) && (gpu.vendor === 'amd' || gpu.vendor === 'intel'),
  );
  if (deviceFiles.length > 0) {
    notices.push(
      `Where an image has no group video or render, set VIDEO_GID and RENDER_GID to the machine's numbers (getent group render).`,
    );
  }
  const perNode = new Map<string, number>();
  for (const { node, vendor } of request.gpus) {
    if (vendor === 'amd' || vendor === 'intel') perNode.set(node, (perNode.get(node) ?? 0) + 1);
  }
  const seeAll = deviceFiles.filter(({ gpu }) => renderNodeOf(gpu!) === null && perNode.get(gpu!.node)! > 1);
  if (seeAll.length > 0) {
    notices.push(
      `All of /dev/dri is open to ${names(seeAll)}: OpenCL, Vulkan and OpenVINO do not read the index. The tag renderNode (/dev/dri/renderD128) of a GPU gives it that one alone.`,
    );
  }
  return notices;
}

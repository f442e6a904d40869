import { InputError, quoteInput } from '../../core/input-error.js';
import type { FrameworkName, PlacementGpu } from '../../core/placement-request.js';
import { hasEngine } from '../engine-kinds.js';
import { mpsClientVariables } from '../mps-client.js';
import { vendorIndexOf } from '../vendor-index.js';
import { commentLines, commentText } from './comment-lines.js';
import { origin, remarks } from './export-header.js';
import type { Exporter, ExportInput } from './exporter.js';
import { memoryPart } from './memory-part.js';
import { gbOf, gpuHeading, gpuTitle, isGaudi, nodesOf, type PlacedService, placedServices } from './placed-service.js';
import { variableNames } from './variable-names.js';

/**
 * A shell script that starts vLLM for each service that vLLM can serve, held to its GPU and to its budget.
 *
 * A script rather than a list of arguments: the device belongs to the environment, and both must go together. Further
 * arguments are passed on, so that ports and lengths need no editing of the file.
 *
 * `--gpu-memory-utilization` is a part of the memory of the whole device that vLLM sees, also under MPS and time-slicing;
 * of the instance with MIG. vLLM's own `--kv-cache-memory-bytes` is absolute, yet it counts the cache alone, and a budget
 * is all that a service holds. The model is the argument of `vllm serve` itself; its option `--model` is on its way out.
 */
export const vllm: Exporter = {
  fileName: 'gpumix-vllm.sh',
  about: 'shell script that starts vLLM for each language model on its GPU, within its budget',
  write: writeVllm,
};

function writeVllm(input: ExportInput): ReturnType<Exporter['write']> {
  const { request, placement } = input;
  const placed = placedServices(input);
  const started: Started[] = [];
  const leftOut: string[] = [];
  for (const one of placed) {
    const reason = whyNot(one);
    if (reason === null) started.push(one as Started);
    else leftOut.push(`${commentText(one.service.name)} (${reason})`);
  }
  checkTexts(started);
  const migVariables = variableNames(
    started.map(({ service }) => service.name),
    '_MIG_UUID',
  );
  const nodes = nodesOf(request);
  const comments = [
    ...commentLines(`vLLM on its GPUs. ${origin(placement)}`),
    ...commentLines(`sh ${vllm.fileName} SERVICE [ARGUMENT OF vllm serve]...`),
    ...(nodes.length > 1 ? ['Each service is started on its own node, which stands beside its name.'] : []),
    ...(leftOut.length > 0 ? commentLines(`Not here: ${leftOut.join(', ')}.`) : []),
    ...remarks(placement, 'so not here'),
  ];
  const lines = [
    '#!/bin/sh',
    ...comments.map((line) => `# ${line}`.trimEnd()),
    'set -eu',
    '',
    `case "\${1-}" in`,
    ...started.flatMap((one) => branch(one, input, migVariables.get(one.service.name)!)),
    '*)',
    `  echo 'usage: ${vllm.fileName} SERVICE [ARGUMENT OF vllm serve]...' >&2`,
    ...started.map(({ service, gpu }) => `  echo ${quoted(`  ${service.name}: ${gpuTitle(gpu, request)}`)} >&2`),
    '  exit 2',
    '  ;;',
    'esac',
    '',
  ];
  return { files: [{ fileName: vllm.fileName, text: lines.join('\n') }], notices: noticesOf(input, started, leftOut) };
}

type Started = PlacedService & { readonly gpu: PlacementGpu };

/** vLLM's back ends, one for each vendor. */
const backEnds = { nvidia: 'cuda', amd: 'rocm', intel: 'oneapi', huawei: 'cann' } satisfies Record<
  PlacementGpu['vendor'],
  FrameworkName
>;

/** Why vLLM cannot start a service, in a few words; null where it can. */
function whyNot({ service, gpu }: PlacedService): string | null {
  if (!hasEngine(service)) return service.kind === 'other' ? 'kind other' : `a ${service.kind} service`;
  if (service.model === '') return 'no model';
  // vLLM would take it for an option.
  if (service.model.startsWith('-')) return 'its model begins with "-"';
  if (gpu === null) return 'on the CPU, where vLLM sizes its cache by VLLM_CPU_KVCACHE_SPACE';
  if (isGaudi(gpu)) return 'on Gaudi, whose modules are not counted as its indexes are';
  if (!service.frameworks.includes(backEnds[gpu.vendor])) return `not built for ${backEnds[gpu.vendor]}`;
  return null;
}

function checkTexts(started: readonly Started[]): void {
  const issues = started
    .flatMap(({ service, assignment }) => [service.name, service.model, assignment.mig?.uuid ?? ''])
    .filter((text) => text.includes('\0'))
    .map((text) => ({
      place: 'services',
      found: quoteInput(text),
      expected: 'text without NUL, which no shell can hold',
    }));
  if (issues.length > 0) throw new InputError('the export to vLLM', issues);
}

function branch(one: Started, { request, catalogue }: ExportInput, migVariable: string): readonly string[] {
  const { service, assignment, gpu } = one;
  const words = [
    `--gpu-memory-utilization ${memoryPart(one, catalogue)!.toFixed(2)}`,
    ...(service.kind === 'llm' ? [] : ['--runner pooling']),
    ...(service.maxSessions === null ? [] : [`--max-num-seqs ${service.maxSessions}`]),
    '"$@"',
  ];
  return [
    `${quoted(service.name)})`,
    ...commentLines(gpuHeading(gpu, assignment, request)).map((line) => `  # ${line}`),
    '  shift',
    ...environmentOf(one, vendorIndexOf(gpu, request), migVariable).map((setting) => `  export ${setting}`),
    `  exec vllm serve ${quoted(service.model)} \\`,
    ...words.map((word, w) => `    ${word}${w < words.length - 1 ? ' \\' : ''}`),
    '  ;;',
  ];
}

/**
 * Settings of a process that runs on the machine itself, where indexes are the machine's. CUDA counts the fastest GPU first
 * unless it is told to count as nvidia-smi does.
 */
function environmentOf({ service, assignment, gpu }: Started, index: number, migVariable: string): readonly string[] {
  if (gpu.vendor === 'amd') return [`HIP_VISIBLE_DEVICES=${index}`];
  if (gpu.vendor === 'intel') return [`ZE_AFFINITY_MASK=${index}`];
  if (gpu.vendor === 'huawei') return [`ASCEND_RT_VISIBLE_DEVICES=${index}`];
  if (assignment.mig !== undefined) {
    const { uuid, profile } = assignment.mig;
    return [
      uuid === null
        ? `CUDA_VISIBLE_DEVICES="\${${migVariable}:?UUID of a ${profile} instance of GPU ${index}, from nvidia-smi -L}"`
        : `CUDA_VISIBLE_DEVICES=${quoted(uuid)}`,
    ];
  }
  if (assignment.sharing === 'mps') {
    const variables = Object.entries(mpsClientVariables({ service, assignment }, index));
    return ['CUDA_VISIBLE_DEVICES=0', ...variables.map(([name, value]) => `${name}=${value}`)];
  }
  return ['CUDA_DEVICE_ORDER=PCI_BUS_ID', `CUDA_VISIBLE_DEVICES=${index}`];
}

function noticesOf(input: ExportInput, started: readonly Started[], leftOut: readonly string[]): readonly string[] {
  const notices: string[] = [];
  if (leftOut.length > 0) notices.push(`vLLM is not started for: ${leftOut.join(', ')}.`);
  const refused = input.placement.refusals.map(({ service }) => service);
  if (refused.length > 0) notices.push(`Refused, so not in the script: ${refused.join(', ')}.`);
  for (const { service, assignment, gpu } of started) {
    const free = gpu.memoryMb - gpu.usedMb;
    if (assignment.mig === undefined && assignment.memoryBudgetMb > free) {
      notices.push(
        `${service.name}: its budget (${gbOf(assignment.memoryBudgetMb)} GB) is more than is free (${gbOf(free)} GB); vLLM checks that when it starts and stops.`,
      );
    }
  }
  const perNode = new Map<string, number>();
  for (const { gpu } of started) perNode.set(gpu.node, (perNode.get(gpu.node) ?? 0) + 1);
  if ([...perNode.values()].some((services) => services > 1)) {
    notices.push('Every vLLM listens on port 8000: give all but one on a node another with --port.');
  }
  return notices;
}

/** A word of a POSIX shell that stands for exactly this text. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

import type { GpuCatalogue } from '../../core/gpu-types.js';
import type { PlacementGpuInput } from '../../core/placement-request.js';
import { amdSmiMetricArguments, amdSmiStaticArguments, parseAmdSmi } from './amd-smi.js';
import type { CommandOutcome, CommandRunner } from './command-runner.js';
import {
  type NvidiaField,
  nvidiaFields,
  nvidiaQuery,
  nvidiaRefusal,
  parseNvidiaListing,
  parseNvidiaQuery,
  withMigInstances,
  withoutRefusedField,
} from './nvidia-smi.js';
import { describeGpus, mergeSources } from './one-machine.js';
import { parseRocmSmi, rocmSmiArguments } from './rocm-smi.js';
import { beginningOf, cleaned, type SeenGpu } from './seen-gpu.js';
import { parseSysfs, readSysfs } from './sysfs.js';
import { readDeviceTree, readMachineMemory } from './unified-memory.js';
import {
  parseXpuSmiDiscovery,
  withXpuSmiMemory,
  xpuSmiDeviceArguments,
  xpuSmiDiscoveryArguments,
  xpuSmiStatsArguments,
} from './xpu-smi.js';

export type DetectionNotice = {
  /** Who says so: `nvidia-smi`, `sysfs`, `node gpu-1`, … */
  readonly source: string;
  readonly message: string;
};

export type DetectedGpus = {
  readonly gpus: readonly PlacementGpuInput[];
  readonly notices: readonly DetectionNotice[];
};

type Found = { readonly gpus: readonly SeenGpu[]; readonly notices: readonly DetectionNotice[] };
/** `answered`: it listed GPUs, be it such as are left out. */
type NvidiaFound = Found & { readonly answered: boolean };

/** The GPUs of this machine, by the tools of their vendors and what the kernel shows. Never rejects. */
export async function machineGpus(options: {
  readonly run: CommandRunner;
  /** Above /sys and /proc. */
  readonly root: string;
  readonly node: string;
  readonly catalogue: GpuCatalogue;
}): Promise<DetectedGpus> {
  const { run, root, node, catalogue } = options;
  const [tools, files, deviceTree, machine] = await Promise.all([
    Promise.all([nvidiaGpus(run), amdGpus(run), intelGpus(run)]),
    readSysfs(root),
    readDeviceTree(root),
    readMachineMemory(root),
  ]);
  const fromTools = tools.flatMap(({ gpus }) => gpus);
  const sysfs = files === null ? { gpus: [], notices: [] } : parseSysfs(files);
  // A Jetson's GPU is on no bus, so that it cannot be told to be the one that nvidia-smi lists.
  const nvidiaListed = tools[0].answered;
  const all = nvidiaListed ? fromTools : [...fromTools, ...deviceTree.gpus];
  const { gpus: merged, unlisted } = mergeSources(all, sysfs.gpus, { catalogue, nvidiaListed });
  const { gpus, notices } = describeGpus(merged, { node, catalogue, machine });
  return {
    gpus,
    notices: [
      ...tools.flatMap((tool) => tool.notices),
      ...(files === null
        ? [{ source: 'sysfs', message: 'there is no /sys/class/drm' }]
        : noticesOf('sysfs', sysfs.notices)),
      ...unlisted.map(({ name, pciBusId }) => ({
        source: 'sysfs',
        message: `${name} (${pciBusId ?? 'on no bus'}) is left out: nvidia-smi does not list it`,
      })),
      ...noticesOf(node, notices),
    ],
  };
}

function noticesOf(source: string, messages: readonly string[]): readonly DetectionNotice[] {
  return messages.map((message) => ({ source, message }));
}

/** What a tool printed where it ended well; else a notice of why not. */
function outputOf(source: string, outcome: CommandOutcome): { readonly text: string } | DetectionNotice {
  switch (outcome.kind) {
    case 'absent':
      return { source, message: 'not installed' };
    case 'refused':
      return { source, message: `it cannot be started (${outcome.code})` };
    case 'late':
      return {
        source,
        message: `no answer within ${outcome.limitMs / 1000} s: it was ended; its driver may hang`,
      };
    case 'flood':
      return { source, message: `it printed more than ${outcome.limitBytes / 2 ** 20} MiB and was ended` };
    case 'ended': {
      if (outcome.exitCode === 0) return { text: outcome.stdout };
      const code = outcome.exitCode === null ? 'ended by a signal' : `exit code ${outcome.exitCode}`;
      return { source, message: `${code}: ${beginningOf(lastWords(outcome))}` };
    }
  }
}

/** Tools say why on stderr, or as the last line. */
function lastWords({ stdout, stderr }: { readonly stdout: string; readonly stderr: string }): string {
  const lines = (stderr.trim() === '' ? stdout : stderr).split('\n').filter((line) => line.trim() !== '');
  return lines.at(-1) ?? '';
}

async function nvidiaGpus(run: CommandRunner): Promise<NvidiaFound> {
  const source = 'nvidia-smi';
  let fields: readonly NvidiaField[] = nvidiaFields;
  for (;;) {
    const outcome = await run(source, nvidiaQuery(fields));
    // Older drivers refuse fields one by one, some of them with exit code 0.
    const said = outcome.kind === 'ended' ? `${outcome.stdout}\n${outcome.stderr}` : '';
    const fewer = withoutRefusedField(said, fields);
    if (fewer !== null) {
      fields = fewer;
      continue;
    }
    const rows = outcome.kind === 'ended' ? outcome.stdout : '';
    const { gpus, notices, listed } = parseNvidiaQuery(rows, fields);
    const answered = listed > 0;
    const output = outputOf(source, outcome);
    const reason = nvidiaRefusal(said);
    // Where one GPU is lost, the others are listed all the same, and the exit code says that something is wrong.
    if ('message' in output && !answered) {
      return { answered, gpus: [], notices: [reason === null ? output : { source, message: reason }] };
    }
    if (gpus.length === 0 && notices.length === 0) {
      return { answered, gpus: [], notices: [{ source, message: reason ?? 'no GPUs in its answer' }] };
    }
    const mig = await migInstancesOf(run, gpus, fields);
    return { answered, gpus: mig.gpus, notices: [...noticesOf(source, notices), ...mig.notices] };
  }
}

async function migInstancesOf(
  run: CommandRunner,
  gpus: readonly SeenGpu[],
  fields: readonly NvidiaField[],
): Promise<Found> {
  const maySlice = gpus.some(({ sharing }) => sharing === 'mig') || !fields.includes('mig.mode.current');
  if (!maySlice || gpus.length === 0) return { gpus, notices: [] };
  const output = outputOf('nvidia-smi -L', await run('nvidia-smi', ['-L']));
  if ('message' in output) return { gpus, notices: [output] };
  const listing = parseNvidiaListing(output.text);
  return { gpus: withMigInstances(gpus, listing), notices: noticesOf('nvidia-smi -L', listing.notices) };
}

/** amd-smi where it lists GPUs; the older rocm-smi else. */
async function amdGpus(run: CommandRunner): Promise<Found> {
  const amd = await amdSmiGpus(run);
  if (amd.gpus.length > 0) return amd;
  const rocm = outputOf('rocm-smi', await run('rocm-smi', rocmSmiArguments));
  if ('message' in rocm) return { gpus: [], notices: [...amd.notices, rocm] };
  const { gpus, notices } = parseRocmSmi(rocm.text);
  return { gpus, notices: [...amd.notices, ...noticesOf('rocm-smi', notices)] };
}

async function amdSmiGpus(run: CommandRunner): Promise<Found> {
  const facts = outputOf('amd-smi', await run('amd-smi', amdSmiStaticArguments));
  if ('message' in facts) return { gpus: [], notices: [facts] };
  const usage = outputOf('amd-smi metric', await run('amd-smi', amdSmiMetricArguments));
  const { gpus, notices } = parseAmdSmi({ static: facts.text, metric: 'message' in usage ? null : usage.text });
  return { gpus, notices: [...noticesOf('amd-smi', notices), ...('message' in usage ? [usage] : [])] };
}

/** Devices are asked one by one; a machine has at most eight. */
async function intelGpus(run: CommandRunner): Promise<Found> {
  const source = 'xpu-smi';
  const output = outputOf(source, await run(source, xpuSmiDiscoveryArguments));
  if ('message' in output) return { gpus: [], notices: [output] };
  const found = parseXpuSmiDiscovery(output.text);
  const notices: DetectionNotice[] = [...noticesOf(source, found.notices)];
  const gpus: SeenGpu[] = [];
  for (const gpu of found.gpus) {
    const device = outputOf(source, await run(source, xpuSmiDeviceArguments(gpu.index!)));
    const answer = await run(source, xpuSmiStatsArguments(gpu.index!));
    const stats = outputOf(source, answer);
    for (const [what, each] of [
      ['its memory', device],
      ['the memory in use', stats],
    ] as const) {
      if ('message' in each) {
        notices.push({ source, message: `GPU ${gpu.index}: ${what} is not known: ${cleaned(each.message, 300)}` });
      }
    }
    gpus.push(
      withXpuSmiMemory(gpu, {
        device: 'message' in device ? null : device.text,
        stats: 'message' in stats ? null : stats.text,
      }),
    );
    // A tool that hangs once hangs again: the rest of the devices would each take as long.
    if (answer.kind === 'late') {
      gpus.push(...found.gpus.slice(gpus.length));
      break;
    }
  }
  return { gpus, notices };
}

import type { GpuCatalogue } from '../../core/gpu-types.js';
import { allocatableDevices } from '../kubernetes/gpu-demand.js';
import { closureOf } from '../kubernetes/gpu-nodes.js';
import { items, record, textEntries, textOf } from '../kubernetes/wire.js';
import type { DetectedGpus } from './machine-gpus.js';
import { nvidiaNodeGpus } from './nvidia-node-labels.js';
import { describeGpus } from './one-machine.js';
import { acceleratorNodeGpus, amdNodeGpus, intelNodeGpus } from './other-node-labels.js';
import { cleaned } from './seen-gpu.js';

/** What the readers of labels see of a node. */
export type NodeFacts = {
  readonly labels: Readonly<Record<string, string>>;
  /** What it offers to pods, by resource in small letters; counts of devices only. */
  readonly devices: ReadonlyMap<string, number>;
  /** As it stands there. */
  readonly allocatable: Readonly<Record<string, string>>;
};

const readers = [nvidiaNodeGpus, amdNodeGpus, intelNodeGpus, acceleratorNodeGpus];
const knownResources = /^(nvidia\.com|amd\.com|gpu\.intel\.com|habana\.ai|huawei\.com)\//;

/**
 * The GPUs of one Kubernetes Node object, by its labels and what it offers. Never throws: whatever has another shape than
 * a Node has no GPUs.
 *
 * Nodes that are about to go are left out; of those that are cordoned or not ready that is said. What pods hold of the
 * memory is not to be seen here, so that `usedMb` is 0.
 */
export function nodeGpus(object: unknown, catalogue: GpuCatalogue): DetectedGpus {
  const { metadata, spec, status } = record(object);
  const node = cleaned(textOf(record(metadata), 'name'), 253);
  const facts: NodeFacts = {
    labels: withOwnKeys(record(metadata).labels),
    devices: allocatableDevices(record(status).allocatable),
    allocatable: withOwnKeys(record(status).allocatable),
  };
  if (node === '') return { gpus: [], notices: [] };
  const found = readers.map((read) => read(facts, catalogue));
  const strange = [...facts.devices.keys()].filter((resource) => !knownResources.test(resource));
  const notices = [
    ...found.flatMap((each) => each.notices),
    ...strange.map((resource) => `${cleaned(resource, 100)} is of no vendor that placement knows: left out`),
  ];
  const source = `node ${node}`;
  const says = (messages: readonly string[]) => messages.map((message) => ({ source, message }));
  const seen = found.flatMap(({ gpus }) => gpus);
  if (seen.length === 0) return { gpus: [], notices: says(notices) };
  const closed = closureOf(object);
  if (closed === 'leaving') return { gpus: [], notices: says(['it is about to go: its GPUs are left out']) };
  if (closed !== null) {
    notices.push(`it is ${closed === 'cordoned' ? 'cordoned' : 'not ready'}: its GPUs are listed all the same`);
  }
  const described = describeGpus(seen, { node, catalogue, machine: null });
  const taints = taintsOf(record(spec).taints, notices);
  return {
    gpus: described.gpus.map((gpu) => (taints.length === 0 ? gpu : { ...gpu, taints })),
    notices: says([...notices, ...described.notices]),
  };
}

/** `labels.constructor` is undefined in it. */
function withOwnKeys(value: unknown): Readonly<Record<string, string>> {
  return Object.assign(Object.create(null) as Record<string, string>, Object.fromEntries(textEntries(value)));
}

/** Taints that Kubernetes, clouds and autoscalers put on a node while its state lasts. */
const passingTaint =
  /^(node\.kubernetes\.io\/|node\.cloudprovider\.kubernetes\.io\/|node\.cluster\.x-k8s\.io\/|karpenter\.sh\/|ToBeDeletedByClusterAutoscaler$|DeletionCandidateOfClusterAutoscaler$)/;

/** As `placementGpuSchema` takes them. */
const taintForm = /^[A-Za-z0-9._/-]{1,317}(=[A-Za-z0-9._-]{0,63})?:(NoSchedule|PreferNoSchedule|NoExecute)$/;

function taintsOf(value: unknown, notices: string[]): readonly string[] {
  const taints: string[] = [];
  for (const taint of items(value).slice(0, 100)) {
    const key = textOf(record(taint), 'key') ?? '';
    if (passingTaint.test(key)) continue;
    const own = textOf(record(taint), 'value') ?? '';
    const text = `${key}${own === '' ? '' : `=${own}`}:${textOf(record(taint), 'effect') ?? ''}`;
    if (taintForm.test(text)) taints.push(text);
    else notices.push(`a taint that is none: ${cleaned(text, 100)}`);
  }
  return taints;
}

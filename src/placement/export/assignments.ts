import type { PlacementGpuUse, PlacementObjective } from '../../core/placement.js';
import { gpuKey, type PlacementRequest } from '../../core/placement-request.js';
import { commentLines } from './comment-lines.js';
import { origin } from './export-header.js';
import type { Exporter, ExportInput } from './exporter.js';
import { gbOf, gbOrMore, type PlacedService, placedServices } from './placed-service.js';
import { asComment, commentEntry, yamlDocument, yamlText } from './yaml-text.js';

/**
 * The placement as a page that people read and scripts take numbers from: GPUs, services, what could not be done.
 *
 * Keys are snake_case, as in the Compose file that lies beside it. Memory is in GB (GiB, as nvidia-smi counts) with two
 * decimals at most; the exact MiB are in the Placement itself (`gpumix place --json`).
 */
export const assignments: Exporter = {
  fileName: 'gpu-assignments.yml',
  about: 'the placement for people: GPUs, services, budgets, warnings, refusals',
  write: writeAssignments,
};

function writeAssignments(input: ExportInput): ReturnType<Exporter['write']> {
  const { request, placement } = input;
  const placed = placedServices(input);
  const document = yamlDocument();
  const root = document.createNode({
    strategy: placement.strategy,
    status: placement.status,
    overcommit: placement.overcommit,
    gpus: placement.gpus.map((use) => gpuOf(use, request, placed)),
    services: new Map(placed.map((one) => [one.service.name, serviceOf(one)])),
    warnings: placement.warnings.map(({ code, service, message }) => ({
      code,
      ...(service === undefined ? {} : { service }),
      message,
    })),
    refusals: placement.refusals.map(({ service, reason, message }) => ({ service, reason, message })),
    objective: objectiveOf(placement.objective),
  });
  document.contents = root as typeof document.contents;
  document.commentBefore = asComment([
    ...commentLines(`GPU assignments. ${origin(placement)}`),
    ...commentLines(
      'Memory is in GB (GiB), rounded down; what was asked, overcommitted or shrunk, and relative use, are rounded up.',
    ),
  ]);
  commentEntry(root, 'gpus', ['used: taken by others; assigned: the budgets of its services.']);
  commentEntry(root, 'services', ['gpu: index on its node; null is the CPU. share: part of the compute of its GPU.']);
  if (placement.refusals.length > 0) commentEntry(root, 'refusals', ['These run nowhere.']);
  commentEntry(root, 'objective', ['Less is better; the first that differs decides.']);
  return { files: [{ fileName: assignments.fileName, text: yamlText(document) }], notices: [] };
}

function gpuOf(use: PlacementGpuUse, request: PlacementRequest, placed: readonly PlacedService[]): object {
  const gpu = request.gpus.find((one) => gpuKey(one) === gpuKey(use));
  const here = placed.filter((one) => one.gpu !== null && gpuKey(one.gpu) === gpuKey(use));
  return {
    node: use.node,
    index: use.index,
    ...(gpu === undefined || gpu.name === '' ? {} : { name: gpu.name }),
    ...(gpu === undefined ? {} : { vendor: gpu.vendor }),
    memory_gb: gbOf(use.memoryMb),
    used_gb: gbOf(use.usedMb),
    assigned_gb: gbOf(use.assignedMb),
    relative_use: thousandths((use.usedMb + use.assignedMb) / use.memoryMb),
    services: new Map(here.map(({ service, assignment }) => [service.name, gbOf(assignment.memoryBudgetMb)])),
  };
}

function serviceOf({ service, assignment }: PlacedService): object {
  return {
    ...(service.model === '' ? {} : { model: service.model }),
    kind: service.kind,
    ...(service.critical ? { critical: true } : {}),
    node: assignment.node,
    gpu: assignment.gpuIndex,
    budget_gb: gbOf(assignment.memoryBudgetMb),
    ...(assignment.memoryBudgetMb < service.memoryMb ? { asked_gb: gbOrMore(service.memoryMb) } : {}),
    sharing: assignment.sharing,
    share: Math.floor(assignment.share * 1000 + 1e-9) / 1000,
    ...(assignment.mig === undefined ? {} : { mig: { profile: assignment.mig.profile, uuid: assignment.mig.uuid } }),
  };
}

function objectiveOf(objective: PlacementObjective): object {
  return {
    refused_by_priority: objective.refusedByPriority.map(({ priority, count }) => ({ priority, count })),
    overcommit_gb: gbOrMore(objective.overcommitMb),
    shrunk_gb: gbOrMore(objective.shrunkMb),
    critical_slowness: Math.round(objective.criticalSlowness * 1000) / 1000,
    max_relative_use: objective.maxRelativeUse,
  };
}

/** Rounded up, as the objective's largest relative use is; 1e-9 takes a float's last digits back. */
function thousandths(ratio: number): number {
  return Math.ceil(ratio * 1000 - 1e-9) / 1000;
}

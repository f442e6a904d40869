import { type GpuCatalogue, isKnownGpuType } from '../../core/gpu-types.js';
import { quoteInput } from '../../core/input-error.js';
import { nearestName } from '../../core/parse.js';
import type { DeploymentNotice, ObservedDeployment } from '../../core/ports.js';
import { gpuDemandOf, longestGpuType } from './gpu-demand.js';
import { countOf, isRecord, record, textEntries, textOf } from './wire.js';

/**
 * A Kubernetes Deployment as gpumix sees it: labels, annotations and status → `ObservedDeployment`.
 *
 * A bad annotation never takes the deployment out: it becomes a notice that says what was found, what was expected and
 * what is used instead.
 */

/** Marks a Deployment as serving a model; on the Deployment itself, not on its pod template. */
export const modelLabel = 'model.aibrix.ai/name';
/** Replicas to keep while the model is idle. */
const idleReplicasLabel = 'model.aibrix.ai/min_replicas';

const annotationPrefix = 'gpumix.dev/';
const annotationNames = [
  'gpu-type',
  'usd-per-hour',
  'min-replicas',
  'max-replicas',
  'max-tokens',
  'paused',
  'startup-seconds',
] as const;
type AnnotationName = (typeof annotationNames)[number];

/** As a PlanningProblem has it where nothing is said. */
const defaultMaxReplicas = 1000;
/** Most replicas that a PlanningProblem can hold. */
export const mostReplicas = 1_000_000;

/** What may stand in an annotation that is a number. */
type NumberRule = {
  readonly expected: string;
  readonly pattern: RegExp;
  readonly max: number;
  readonly positive?: boolean;
};

const wholeReplicas: NumberRule = {
  expected: `a whole number from 0 to ${mostReplicas}`,
  pattern: /^\d+$/,
  max: mostReplicas,
};
const wholeTokens: NumberRule = { expected: 'a whole number above 0', pattern: /^\d+$/, max: 1e12, positive: true };
const decimal = /^(\d+(\.\d*)?|\.\d+)$/;
const price: NumberRule = { expected: 'USD per replica-hour as a plain number >= 0', pattern: decimal, max: 1e9 };
const seconds: NumberRule = { expected: 'seconds as a plain number >= 0', pattern: decimal, max: 1e9 };

/**
 * Reads one Deployment object as the API server sent it.
 *
 * Units: replicas whole, prices USD per replica-hour. Absent `spec.replicas` is 1, as Kubernetes has it; without a spec nobody knows. The ceiling
 * wins over a floor above it (floors are soft, a ceiling is what the owner is ready to pay for), unless only the default
 * ceiling is in the way.
 *
 * @returns null for what is no deployment of a model: no name, no or an empty model label, or being deleted (its pods
 *   are going, and scaling it does nothing)
 */
export function observeDeployment(object: unknown, catalogue: GpuCatalogue): ObservedDeployment | null {
  const metadata = record(record(object).metadata);
  const labels = record(metadata.labels);
  const annotations = record(metadata.annotations);
  const namespace = textOf(metadata, 'namespace') ?? 'default';
  const name = textOf(metadata, 'name') ?? '';
  const model = textOf(labels, modelLabel) ?? '';
  if (!isName(name) || !isName(namespace) || !isName(model) || (metadata.deletionTimestamp ?? null) !== null)
    return null;

  const spec = record(record(object).spec);
  const status = record(record(object).status);
  const notices: DeploymentNotice[] = [];
  const read = annotationReader(annotations, notices);

  const demand = gpuDemandOf({
    template: spec.template,
    deploymentName: name,
    named: readGpuType(annotations, catalogue, notices),
    catalogue,
    notices,
  });
  const floors = readReplicaLimits({ read, labels, notices });
  // An object without any spec says nothing: 1 would be published where it is paused, and in shadow.
  const hasSpec = isRecord(record(object).spec);
  const currentReplicas = hasSpec && spec.replicas === undefined ? 1 : replicasOf(spec, 'replicas');
  if (currentReplicas === null) {
    notices.push({
      code: 'bad_replicas',
      message: `spec.replicas: found ${quoteInput(spec.replicas)}, expected ${wholeReplicas.expected}; taken as not known`,
    });
  }
  const hasStatus = isRecord(record(object).status ?? status);
  const readyReplicas = hasStatus && status.readyReplicas === undefined ? 0 : replicasOf(status, 'readyReplicas');
  if (readyReplicas === null) {
    // Not none: whoever waits for these replicas, or for their GPUs, must not be told that they are gone.
    notices.push({
      code: 'bad_replicas',
      message: `status.readyReplicas: found ${quoteInput(status.readyReplicas)}, expected ${wholeReplicas.expected}; taken as not known`,
    });
  }
  reportMisplacedNames(labels, annotations, notices);
  return {
    id: `${namespace}/${name}`,
    namespace,
    name,
    model,
    ...demand,
    usdPerReplicaHour: read('usd-per-hour', price, 'the price of the profile or the catalogue') ?? null,
    ...floors,
    currentReplicas,
    readyReplicas,
    pendingReplicas:
      currentReplicas === null || readyReplicas === null ? null : Math.max(0, currentReplicas - readyReplicas),
    startupSeconds: read('startup-seconds', seconds, 'no start-up time') ?? null,
    maxTokens: read('max-tokens', wholeTokens, 'no limit') ?? null,
    paused: readPaused(annotations, notices),
    notices,
  };
}

/** Kubernetes allows 253 characters; what is longer came from no API server. */
function isName(text: string): boolean {
  return text !== '' && text.length <= 253;
}

function replicasOf(object: Readonly<Record<string, unknown>>, key: string): number | null {
  const count = countOf(object, key);
  return count === undefined || count > mostReplicas ? null : count;
}

type AnnotationReader = (name: AnnotationName, rule: NumberRule, instead: string) => number | undefined;

function annotationReader(
  annotations: Readonly<Record<string, unknown>>,
  notices: DeploymentNotice[],
): AnnotationReader {
  return (name, rule, instead) => {
    const found = textOf(annotations, annotationPrefix + name);
    if (found === undefined) return undefined;
    const value = parseNumber(found, rule);
    if (value === undefined) notices.push(badAnnotation(name, { found, expected: rule.expected, instead }));
    return value;
  };
}

function parseNumber(text: string, rule: NumberRule): number | undefined {
  const trimmed = text.trim();
  // Number() alone would also take '', '0x10', '1e400' and 'Infinity'.
  if (trimmed.length > 30 || !rule.pattern.test(trimmed)) return undefined;
  const value = Number(trimmed);
  return value <= rule.max && !(rule.positive === true && value === 0) ? value : undefined;
}

function badAnnotation(
  name: AnnotationName,
  fault: { readonly found: string; readonly expected: string; readonly instead: string },
): DeploymentNotice {
  return {
    code: 'bad_annotation',
    message: `annotation ${annotationPrefix}${name}: found ${quoteInput(fault.found)}, expected ${fault.expected}; using ${fault.instead}`,
  };
}

type ReplicaLimits = Pick<
  ObservedDeployment,
  'minReplicas' | 'idleMinReplicas' | 'maxReplicas' | 'maxReplicasIsAssumed'
>;

function readReplicaLimits(input: {
  readonly read: AnnotationReader;
  readonly labels: Readonly<Record<string, unknown>>;
  readonly notices: DeploymentNotice[];
}): ReplicaLimits {
  const { read, labels, notices } = input;
  const floor = read('min-replicas', wholeReplicas, '0') ?? 0;
  const ceiling = read('max-replicas', wholeReplicas, String(defaultMaxReplicas));
  const idleFloor = readIdleReplicas(labels, notices);
  const maxReplicas = ceiling ?? Math.max(defaultMaxReplicas, floor, idleFloor ?? 0);
  if (floor > maxReplicas) notices.push(floorAboveCeiling('annotation gpumix.dev/min-replicas', floor, maxReplicas));
  if (idleFloor !== null && idleFloor > maxReplicas) {
    notices.push(floorAboveCeiling(`label ${idleReplicasLabel}`, idleFloor, maxReplicas));
  }
  return {
    minReplicas: Math.min(floor, maxReplicas),
    idleMinReplicas: idleFloor === null ? null : Math.min(idleFloor, maxReplicas),
    maxReplicas,
    maxReplicasIsAssumed: ceiling === undefined,
  };
}

function floorAboveCeiling(name: string, floor: number, ceiling: number): DeploymentNotice {
  return {
    code: 'min_above_max',
    message: `${name}: found ${floor}, expected at most gpumix.dev/max-replicas, which is ${ceiling}; using ${ceiling}`,
  };
}

function readIdleReplicas(labels: Readonly<Record<string, unknown>>, notices: DeploymentNotice[]): number | null {
  const found = textOf(labels, idleReplicasLabel);
  if (found === undefined) return null;
  const value = parseNumber(found, wholeReplicas);
  if (value !== undefined) return value;
  notices.push({
    code: 'bad_label',
    message: `label ${idleReplicasLabel}: found ${quoteInput(found)}, expected ${wholeReplicas.expected}; taken as absent`,
  });
  return null;
}

function readGpuType(
  annotations: Readonly<Record<string, unknown>>,
  catalogue: GpuCatalogue,
  notices: DeploymentNotice[],
): string | null {
  const found = textOf(annotations, `${annotationPrefix}gpu-type`);
  if (found === undefined) return null;
  const named = found.trim();
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not get into a name
  if (named === '' || named.length > longestGpuType || /[\u0000-\u001f]/.test(named)) {
    const expected = `a GPU type of 1 to ${longestGpuType} characters`;
    notices.push(badAnnotation('gpu-type', { found, expected, instead: 'node selectors, then the name' }));
    return null;
  }
  if (!isKnownGpuType(catalogue, named)) {
    const nearest = nearestName(
      named,
      catalogue.entries.map((entry) => entry.name),
    );
    if (nearest !== undefined) {
      notices.push({
        code: 'unknown_gpu_type',
        message: `annotation gpumix.dev/gpu-type: found ${quoteInput(named)}, which the GPU catalogue does not know; used as it is; did you mean ${quoteInput(nearest)}?`,
      });
    }
  }
  return named;
}

/**
 * Whoever writes this annotation wants scaling to stop, so a value that cannot be read pauses: an operator's "yes" must
 * not be answered by scaling down.
 */
function readPaused(annotations: Readonly<Record<string, unknown>>, notices: DeploymentNotice[]): boolean {
  const found = textOf(annotations, `${annotationPrefix}paused`);
  if (found === undefined) return false;
  const value = found.trim().toLowerCase();
  if (value === 'true' || value === 'false') return value === 'true';
  notices.push(badAnnotation('paused', { found, expected: '"true" or "false"', instead: '"true"' }));
  return true;
}

/** Enough to mend a deployment by; an object can hold 256 kB of annotations. */
const mostNotices = 20;

/** Names that are nearly ours, or ours in the wrong place, would otherwise be ignored in silence. */
function reportMisplacedNames(
  labels: Readonly<Record<string, unknown>>,
  annotations: Readonly<Record<string, unknown>>,
  notices: DeploymentNotice[],
): void {
  const known: readonly string[] = annotationNames;
  for (const [key] of textEntries(annotations)) {
    if (notices.length >= mostNotices) return;
    if (key === idleReplicasLabel || key === modelLabel) {
      notices.push({ code: 'misplaced_name', message: `${key}: found as an annotation, expected as a label; ignored` });
    }
    if (!key.startsWith(annotationPrefix)) continue;
    const name = key.slice(annotationPrefix.length);
    if (known.includes(name)) continue;
    const nearest = nearestName(name, known);
    const hint = nearest === undefined ? '' : `; did you mean ${quoteInput(annotationPrefix + nearest)}?`;
    notices.push({
      code: 'unknown_annotation',
      message: `annotation ${quoteInput(key)}: found an unknown name, expected one of ${known.join(', ')} under ${annotationPrefix}; ignored${hint}`,
    });
  }
  for (const [key] of textEntries(labels)) {
    if (key.startsWith(annotationPrefix)) {
      notices.push({
        code: 'misplaced_name',
        message: `${quoteInput(key)}: found as a label, expected as an annotation; ignored`,
      });
    } else if (key !== idleReplicasLabel && key.toLowerCase().replace(/[-_]/g, '') === 'model.aibrix.ai/minreplicas') {
      notices.push({
        code: 'misplaced_name',
        message: `label ${quoteInput(key)}: found an unknown name, expected ${idleReplicasLabel}; ignored`,
      });
    }
  }
}

import type { ModelLabelSlip } from '../../core/inspection.js';
import { nearestName } from '../../core/parse.js';
import { modelLabel } from './observed-deployment.js';
import { record, textEntries, textOf } from './wire.js';

/**
 * Looks for the model label in a Deployment that does not carry it: under a nearly equal key, on the pods only, or among
 * the annotations. Null where there is nothing of the kind.
 */
export function modelLabelSlip(object: unknown): ModelLabelSlip | null {
  const metadata = record(record(object).metadata);
  const labels = record(metadata.labels);
  if ((textOf(labels, modelLabel) ?? '') !== '' || (metadata.deletionTimestamp ?? null) !== null) return null;
  const id = `${textOf(metadata, 'namespace') ?? 'default'}/${textOf(metadata, 'name') ?? ''}`;
  if (id.endsWith('/')) return null;
  if (textOf(labels, modelLabel) === '') return { id, found: `label ${modelLabel} without a model` };
  const slip = textEntries(labels).find(([key]) => isNearly(key));
  if (slip !== undefined) return { id, found: `label ${slip[0]}` };
  const onPods = record(record(record(record(record(object).spec).template).metadata).labels);
  if (textOf(onPods, modelLabel) !== undefined) return { id, found: `label ${modelLabel} on the pod template only` };
  if (textOf(record(metadata.annotations), modelLabel) !== undefined) return { id, found: `annotation ${modelLabel}` };
  return null;
}

/** Other labels of the same owner that are as near as a slip. */
const others = ['model.aibrix.ai/port', 'model.aibrix.ai/min_replicas', 'model.aibrix.ai/engine'];

function isNearly(key: string): boolean {
  if (!/aibrix|model/i.test(key) || others.includes(key)) return false;
  return nearestName(key, [modelLabel, ...others]) === modelLabel;
}

import { consumerKinds } from '../../core/ports.js';
import { type DoctorFacts, deploymentPlace, isWholeKind, noWorkloads, seenOr } from './facts.js';
import { type Finding, finding } from './report.js';

/** Whether anything is scaled at all: the mode, what is paused, and what gpumix is to scale itself. */

export function checkMode(facts: DoctorFacts): readonly Finding[] {
  const { mode, actuate, isListed } = facts.settings;
  const found: Finding[] = [];
  if (mode.value === 'shadow') {
    const isVariable = mode.from?.startsWith('GPUMIX_') === true;
    found.push(
      finding('shadow_mode', {
        place: mode.from === null ? 'publish.mode' : `publish.mode, by ${mode.from}`,
        found: 'shadow',
        expected: 'live, once its plans are trusted',
        ...(isVariable ? { mend: `Set ${mode.from}=live.` } : {}),
      }),
    );
  }
  if (actuate === 'dry-run') {
    found.push(finding('dry_run', { place: 'actuate', found: 'dry-run', expected: 'scale, or none with autoscalers' }));
  }
  for (const deployment of seenOr(facts.workloads, noWorkloads).deployments) {
    if (!deployment.paused) continue;
    found.push(
      finding('deployment_paused', {
        place: deploymentPlace(facts, deployment),
        found: isListed ? 'paused: true' : 'gpumix.dev/paused: "true"',
        expected: isListed ? 'paused: false' : 'no such annotation',
      }),
    );
  }
  return found;
}

/** What gpumix itself scales, and whether it can know that nobody else does. */
export function checkScaleTargets(facts: DoctorFacts): readonly Finding[] {
  const { settings, scales, workloads, consumers } = facts;
  if (settings.actuate === 'none' || scales.kind === 'unseen') return [];
  const found: Finding[] = [];
  for (const { id } of seenOr(workloads, noWorkloads).deployments) {
    const seen = scales.value.get(id);
    if (seen === undefined || seen.answer.kind === 'scale') continue;
    const { fault, message } = seen.answer;
    const place = `${deploymentPlace(facts, { id })} (${seen.target})`;
    if (fault === 'not_found') {
      found.push(finding('scale_target_missing', { place, found: message, expected: 'an object with a scale' }));
    }
    if (fault === 'forbidden' || fault === 'unauthorized') {
      found.push(finding('scale_forbidden', { place, found: message, expected: 'get and patch on its scale' }));
    }
  }
  if (settings.actuate !== 'scale') return found;
  for (const kind of consumerKinds) {
    const sight = consumers[kind];
    if (isWholeKind(sight)) continue;
    const because = sight.kind === 'unseen' ? sight.because : (sight.missing ?? '');
    found.push(
      finding('scalers_unknown', { place: `${kind}s`, found: because, expected: 'a list of them, or no such kind' }),
    );
  }
  return found;
}

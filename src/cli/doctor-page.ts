import { findingKinds, severities } from '../service/doctor/findings.js';
import type { DoctorReport, Finding } from '../service/doctor/report.js';
import { hang, type Ink, inkOf, wrap } from './terminal-text.js';

/** The report as people read it: a block for each kind of finding, its places below it, and what was looked at. */

/** Places of one kind that are shown unless all are asked for: enough to see what they have in common. */
const shownPlaces = 5;

/** Longer lines are no longer read. */
const widest = 110;

export function renderReport(
  report: DoctorReport,
  options: { readonly color: boolean; readonly width: number; readonly all: boolean },
): string {
  const ink = inkOf(options.color);
  const width = Math.min(Math.max(options.width, 40), widest);
  const { findings, looked, notLooked } = report;
  const lines = [verdict(report, ink), ...wrap(setupText(report.setup), width), ''];
  const kinds = new Map<Finding['code'], Finding[]>();
  for (const each of findings) kinds.set(each.code, [...(kinds.get(each.code) ?? []), each]);
  for (const [code, list] of kinds) {
    const { title, severity, why } = findingKinds[code];
    const paint = severity === 'broken' ? ink.bad : ink.warn;
    lines.push(`${paint(severity)}  ${ink.bold(title)}  ${ink.dim(code)}`, ...hang('  ', why, width));
    const shown = options.all ? list : list.slice(0, shownPlaces);
    for (const { place, found, expected } of shown) {
      lines.push(...hang('  at        ', place, width));
      lines.push(...hang('  found     ', found, width), ...hang('  expected  ', expected, width));
    }
    if (shown.length < list.length) lines.push(`  and ${list.length - shown.length} more (--all)`);
    for (const mend of new Set(list.map((each) => each.mend))) lines.push(...hang('  mend      ', mend, width));
    lines.push('');
  }
  const reasons = new Map<string, string[]>();
  for (const { at, because } of notLooked) {
    const reason = shortReason(because);
    reasons.set(reason, [...(reasons.get(reason) ?? []), at]);
  }
  for (const [because, places] of reasons) {
    lines.push(...hang('not looked at  ', `${places.join(', ')}: ${because}`, width).map(ink.dim));
  }
  const seen = looked.map(({ at, seen: what }) => `${at} (${what})`).join(', ');
  lines.push(...hang('looked at      ', seen === '' ? 'nothing' : seen, width));
  return `${lines.join('\n')}\n`;
}

/** `2 broken, 1 risk; 9 not looked at`: what somebody reads who reads one line. */
function verdict({ findings, notLooked }: DoctorReport, ink: Ink): string {
  const paints = { broken: ink.bad, risk: ink.warn } satisfies Record<Finding['severity'], unknown>;
  const counts = severities.flatMap((severity) => {
    const count = findings.filter((each) => each.severity === severity).length;
    return count === 0 ? [] : [paints[severity](`${count} ${severity}`)];
  });
  const told = counts.length === 0 ? ink.good('nothing found') : counts.join(', ');
  return notLooked.length === 0 ? told : `${told}; ${notLooked.length} not looked at`;
}

/** What was found alone: where there is a fault, its finding says the rest. */
function shortReason(because: string): string {
  const at = because.indexOf(': found ');
  return at < 0 ? because : because.slice(at + ': found '.length).replace(/, expected [\s\S]*$/, '');
}

function setupText({
  configuration,
  mode,
  actuate,
  deployments,
  redis,
  kubernetes,
  prometheus,
}: DoctorReport['setup']): string {
  const cluster = kubernetes ?? (deployments === 'kubernetes' || actuate !== 'none' ? 'the kubeconfig' : null);
  const places = [redis, cluster, prometheus].filter((place) => place !== null);
  const last = places.pop();
  const all = places.length === 0 ? last : `${places.join(', ')} and ${last}`;
  const head = configuration === null ? 'no --config' : `--config ${configuration}`;
  return `${head}: looking at ${all ?? 'nothing but files'}; mode ${mode}, actuate ${actuate}`;
}

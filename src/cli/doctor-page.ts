import { findingKinds } from '../service/doctor/findings.js';
import type { DoctorReport, Finding } from '../service/doctor/report.js';
import { hang, inkOf, printable, wrap } from './terminal-text.js';

/** The report as people read it: a block for each kind of finding, its places below it, and what was looked at. */

/** Places of one kind that are shown unless all are asked for: enough to see what they have in common. */
const shownPlaces = 5;

/** Longer lines are no longer read. */
const widest = 110;

export function renderReport(
  { findings, looked, notLooked }: DoctorReport,
  options: { readonly color: boolean; readonly width: number; readonly all: boolean },
): string {
  const ink = inkOf(options.color);
  const width = Math.min(Math.max(options.width, 40), widest);
  const lines: string[] = [];
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
  for (const { at, because } of notLooked) {
    lines.push(...hang(`not looked at  `, `${at}: ${because}`, width).map(ink.dim));
  }
  if (notLooked.length > 0) lines.push('');
  const seen = looked.map(({ at, seen: what }) => `${at} (${what})`).join(', ');
  lines.push(...wrap(`looked at ${seen === '' ? 'nothing' : printable(seen)}.`, width));
  const count = findings.length === 0 ? ink.good('nothing found') : ink.bold(counted(findings.length, 'finding'));
  lines.push(`${count}, ${counted(looked.length, 'thing')} looked at, ${notLooked.length} not`);
  return `${lines.join('\n')}\n`;
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

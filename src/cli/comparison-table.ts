import { type LimitUse, limitUses } from '../core/limit-use.js';
import type { Plan, PlanNotice } from '../core/plan.js';
import {
  type ComparedDeployment,
  type ComparedSide,
  hoursPerMonth,
  type PlanComparison,
  ratesOf,
} from '../core/plan-comparison.js';
import type { PlanningProblem } from '../core/planning-problem.js';
import {
  binding,
  byModel,
  limitName,
  limitText,
  noticeLines,
  proof,
  routingText,
  unservedLines,
} from './plan-table.js';
import { cut, hang, type Ink, inkOf, money, printable } from './terminal-text.js';

/** Two plans side by side, as given and what if, and the difference in money. Pure text in a given width. */
export type ComparisonTableOptions = {
  /** Where the problem came from: a file name, `standard input`. */
  readonly title: string;
  readonly color: boolean;
  /** Columns of the terminal; the table never gets wider, and uses at most 100. */
  readonly width: number;
};

export type ComparedProblems = { readonly base: PlanningProblem; readonly edited: PlanningProblem };

const narrowest = 60;
const widest = 100;
/** Above this many deployments only those that change are listed. */
const listedDeployments = 40;

export function renderComparison(
  comparison: PlanComparison,
  problems: ComparedProblems,
  options: ComparisonTableOptions,
): string {
  const width = Math.max(narrowest, Math.min(widest, options.width));
  const ink = inkOf(options.color);
  const { base, edited } = comparison;
  const texts = comparison.edits.map((edit) => ('set' in edit ? edit.set : `without ${edit.without}`));
  const lines = [...hang('what if  ', texts.join(', '), width), `in       ${cut(options.title, width - 9)}`, ''];

  const rows = rowsOf(comparison);
  const columns = fitColumns(rows, comparison, width);
  lines.push(ink.dim(headLine(columns)), ink.dim(line(columns, headers)));
  for (const [model, group] of rows.models) {
    lines.push(ink.bold(wideLine(columns, model, rows.cellsOf(model).slice(2))));
    for (const row of group) lines.push(deploymentLine(row, columns, ink));
  }
  if (rows.unchanged > 0) lines.push(`  … and ${rows.unchanged} deployments that are the same in both`);
  lines.push('', ...summaryLines(comparison, columns, ink), '');

  lines.push(`difference  ${ink.bold(signedMoney(comparison.differenceUsdPerHour))} USD/h, ${monthText(comparison)}`);
  const indent = 'difference  '.length;
  lines.push(`${'as given'.padEnd(indent)}${proof(base, ink).ink}`);
  lines.push(`${'what if'.padEnd(indent)}${proof(edited, ink).ink}`);
  lines.push(...routingLines(comparison, indent, width));
  lines.push(...limitLines(comparison, problems, { indent, width }));
  lines.push(...unservedLines(base, problems.base, { ink, width, title: 'unserved as given' }));
  lines.push(...unservedLines(edited, problems.edited, { ink, width, title: 'unserved what if' }));
  lines.push(...noticeLines('shortfalls what if', edited.shortfalls, ink.bad, width));
  const brought = newNotices(edited.warnings, base.warnings);
  lines.push(...noticeLines('warnings that the edits bring', brought, ink.warn, width));
  return `${lines.map((text) => text.trimEnd()).join('\n')}\n`;
}

type Rows = {
  readonly models: ReadonlyMap<string, readonly ComparedDeployment[]>;
  /** Money of a model in both plans. */
  readonly cellsOf: (model: string) => Cells;
  /** Deployments that are left out because they are the same in both. */
  readonly unchanged: number;
};

function rowsOf({ deployments, base, edited }: PlanComparison): Rows {
  const shown = deployments.length > listedDeployments ? deployments.filter(changes) : deployments;
  const usd = [base, edited].map((plan) => new Map(plan.models.map((model) => [model.name, model.usdPerHour])));
  const cellsOf = (model: string): Cells => {
    const [before, after] = [usd[0]!.get(model) ?? 0, usd[1]!.get(model) ?? 0];
    return ['', '', '', money(before), '', money(after), signedMoney(after - before)];
  };
  return { models: byModel(shown), cellsOf, unchanged: deployments.length - shown.length };
}

/** A deployment that is not there and one that runs nothing are the same to whoever pays. */
function changes({ base, edited, differenceUsdPerHour }: ComparedDeployment): boolean {
  const replicas = (side: ComparedSide | null): number | null => (side === null ? 0 : side.targetReplicas);
  return replicas(base) !== replicas(edited) || differenceUsdPerHour !== 0;
}

type Cells = readonly [string, string, string, string, string, string, string];
type Columns = {
  readonly gpu: number;
  readonly deployment: number;
  /** Replicas and USD/h of the one plan, of the other, and the change of USD/h. */
  readonly numbers: readonly [number, number, number, number, number];
};

const headers: Cells = ['GPU', 'DEPLOYMENT', 'REPLICAS', 'USD/h', 'REPLICAS', 'USD/h', 'USD/h'];
const gap = '  ';
const groupHeads = ['AS GIVEN', 'WHAT IF', 'CHANGE'] as const;

/** Names give way where the terminal is narrow; numbers never do. */
function fitColumns(rows: Rows, comparison: PlanComparison, width: number): Columns {
  const deployments = [...rows.models.values()].flat().map(deploymentCells);
  const models = [...rows.models.keys()].map(rows.cellsOf);
  const inNumbers: readonly Cells[] = [headers, ...deployments, ...models, ...summaryRows(comparison)];
  const longest = (cell: number, texts = inNumbers): number =>
    texts.reduce((most, cells) => Math.max(most, cells[cell]!.length), 0);
  const numbers = [longest(2), longest(3), longest(4), longest(5), Math.max(longest(6), 'CHANGE'.length)] as const;
  const room = width - 2 - 6 * gap.length - numbers.reduce((sum, length) => sum + length, 0);
  const named: readonly Cells[] = [headers, ...deployments];
  const gpu = Math.min(longest(0, named), Math.max(3, Math.floor(room / 3)));
  const deployment = Math.min(longest(1, named), Math.max(6, room - gpu));
  return { gpu, deployment, numbers };
}

function line(columns: Columns, [gpu, deployment, ...numbers]: Cells): string {
  const names = [`  ${cut(gpu, columns.gpu).padEnd(columns.gpu)}`];
  names.push(cut(deployment, columns.deployment).padEnd(columns.deployment));
  return [...names, ...numbers.map((text, index) => text.padStart(columns.numbers[index]!))].join(gap);
}

/** A line whose name takes the place of both columns of names, and of the replicas beside them. */
function wideLine(columns: Columns, name: string, [, ...numbers]: readonly string[]): string {
  const [replicas, ...widths] = columns.numbers;
  const room = 2 + columns.gpu + gap.length + columns.deployment + gap.length + replicas;
  const cells = numbers.map((text, index) => text.padStart(widths[index]!));
  return [cut(name, room).padEnd(room), ...cells].join(gap);
}

function headLine(columns: Columns): string {
  const [replicas, usd, otherReplicas, otherUsd, change] = columns.numbers;
  const names = 2 + columns.gpu + gap.length + columns.deployment;
  const ends = [replicas + gap.length + usd, otherReplicas + gap.length + otherUsd, change];
  return ' '.repeat(names) + groupHeads.map((head, index) => gap + head.padStart(ends[index]!)).join('');
}

function deploymentCells({ gpuType, id, base, edited, differenceUsdPerHour }: ComparedDeployment): Cells {
  const of = (side: ComparedSide | null): readonly [string, string] => {
    if (side === null) return ['–', ''];
    return side.targetReplicas === null ? ['?', ''] : [String(side.targetReplicas), money(side.usdPerHour)];
  };
  return [gpuType, id, ...of(base), ...of(edited), signedMoney(differenceUsdPerHour)];
}

function deploymentLine(row: ComparedDeployment, columns: Columns, ink: Ink): string {
  const text = line(columns, deploymentCells(row));
  return changes(row) ? text : ink.dim(text);
}

/** Money, demand, what is left out of it, and the price of what is served. */
function summaryRows({ base, edited, differenceUsdPerHour }: PlanComparison): readonly Cells[] {
  const row = (name: string, values: readonly [number, number], text: (value: number) => string): Cells => {
    const change = values[1] - values[0];
    return [name, '', '', text(values[0]), '', text(values[1]), signed(change, text)];
  };
  const [before, after] = [ratesOf(base), ratesOf(edited)];
  const rows: Cells[] = [
    ['total USD/h', '', '', money(base.usdPerHour), '', money(edited.usdPerHour), signedMoney(differenceUsdPerHour)],
  ];
  if (base.switchingUsdPerHour > 0 || edited.switchingUsdPerHour > 0) {
    rows.push(row('starts and stops', [base.switchingUsdPerHour, edited.switchingUsdPerHour], money));
  }
  rows.push(row('demand, requests/s', [before.rps, after.rps], rateText));
  if (before.unservedRps > 0 || after.unservedRps > 0) {
    rows.push(row('unserved, requests/s', [before.unservedRps, after.unservedRps], rateText));
  }
  if (before.servedRps > 0 && after.servedRps > 0) {
    rows.push(
      row('USD per 1,000 served', [perThousand(base, before), perThousand(edited, after)], (usd) => usd.toFixed(3)),
    );
  }
  return rows;
}

function perThousand(plan: Plan, { servedRps }: { readonly servedRps: number }): number {
  return (plan.usdPerHour / (servedRps * 3600)) * 1000;
}

function summaryLines(comparison: PlanComparison, columns: Columns, ink: Ink): readonly string[] {
  return summaryRows(comparison).map(([name, , ...numbers], index) => {
    const text = wideLine(columns, name, numbers);
    return index === 0 ? ink.bold(text) : text;
  });
}

function rateText(rps: number): string {
  return String(Number(rps.toPrecision(4)));
}

/** A change with its sign; one that is not seen in the digits shown is none. */
function signed(change: number, text: (value: number) => string): string {
  const size = text(Math.abs(change));
  if (Number(size) === 0) return '0';
  return `${change < 0 ? '−' : '+'}${size}`;
}

function signedMoney(change: number): string {
  return signed(change, money);
}

function monthText({ differenceUsdPerMonth }: PlanComparison): string {
  const dollars = Math.round(Math.abs(differenceUsdPerMonth))
    .toLocaleString('en-US')
    .replace(/^(?=[1-9])/, differenceUsdPerMonth < 0 ? '−' : '+');
  return `${dollars} USD a month (${hoursPerMonth} h)`;
}

/** What the money of either plan assumes of the router. */
function routingLines({ base, edited }: PlanComparison, indent: number, width: number): readonly string[] {
  if (base.routing === edited.routing) return hang('routing'.padEnd(indent), routingText(base.routing), width);
  return [
    ...hang('routing'.padEnd(indent), `as given ${routingText(base.routing)}`, width),
    ...hang(' '.repeat(indent), `what if ${routingText(edited.routing)}`, width),
  ];
}

/** Pools, quotas and the budget that either problem has. */
function limitLines(
  { base, edited }: PlanComparison,
  problems: ComparedProblems,
  { indent, width }: { readonly indent: number; readonly width: number },
): readonly string[] {
  const isLimited = (use: LimitUse): boolean => use.limit !== null;
  const before = limitUses(problems.base, base).filter(isLimited);
  const after = limitUses(problems.edited, edited).filter(isLimited);
  const textOf = (uses: readonly LimitUse[], name: string): string => {
    const use = uses.find((item) => limitName(item) === name);
    return use === undefined ? 'no limit' : limitText(use);
  };
  const names = [...new Set([...binding(after), ...binding(before)].map(limitName))];
  return names.flatMap((name, index) => {
    const [given, then] = [textOf(before, name), textOf(after, name)];
    const text = given === then ? `${given} in both` : `as given ${given}; what if ${then}`;
    return hang((index === 0 ? 'limits' : '').padEnd(indent), `${printable(name)}: ${text}`, width);
  });
}

/** Warnings of the one that the other did not have: what both say is no consequence of the edits. */
function newNotices(notices: readonly PlanNotice[], before: readonly PlanNotice[]): readonly PlanNotice[] {
  const said = new Set(before.map((notice) => `${notice.code} ${notice.message}`));
  return notices.filter((notice) => !said.has(`${notice.code} ${notice.message}`));
}

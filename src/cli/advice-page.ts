import type { Placement, PlacementObjective } from '../core/placement.js';
import type { PlacementRequest, StrategyName } from '../core/placement-request.js';
import { gigabytes } from '../placement/amounts.js';
import type { Recommendation } from '../placement/recommend.js';
import type { GpuAdvice, ServiceAdvice, SharingAdvice, SharingOption } from '../placement/sharing/advise.js';
import { describeRequest, gpuLabels, type PlacementTableOptions } from './placement-table.js';
import { amount, cut, hang, type Ink, inkOf, percent, printable } from './terminal-text.js';

/**
 * What `gpumix place --advise` prints: what each strategy would do, then for each kind of GPU the ways to share it, the
 * one that suits, and how to set it up.
 *
 * Pure text in a given width, but for commands: those are never broken, so that they can be copied.
 */
export type AdvicePage = {
  readonly recommendation: Recommendation;
  /** That the advice on sharing is for. */
  readonly strategy: StrategyName;
  readonly sharing: SharingAdvice;
};

/** Kinds of GPUs and services that are written out; --json has them all. */
const listedKinds = 12;
const listedServices = 24;
const namedPlaces = 8;

const narrowest = 60;
const widest = 100;
/** From here on there is room for whole titles of columns. */
const wide = 80;
const recommendedMark = '→ ';

type Page = { readonly ink: Ink; readonly width: number };

export function renderAdvice(
  { recommendation, strategy, sharing }: AdvicePage,
  request: PlacementRequest,
  options: PlacementTableOptions,
): string {
  const page = { ink: inkOf(options.color), width: Math.max(narrowest, Math.min(widest, options.width)) };
  const lines = [describeRequest(request, options.title)];
  if (request.services.length > 0) lines.push('', ...strategyLines(recommendation, page));
  const label = gpuLabels(request);
  const shown = sharing.gpus.slice(0, listedKinds);
  for (const gpu of shown) lines.push('', ...gpuLines(gpu, gpu.places.map(label), page));
  if (sharing.gpus.length === 0) lines.push('', page.ink.warn('No GPUs detected'));
  if (sharing.gpus.length > shown.length) lines.push('', more(sharing.gpus.length - shown.length, 'kinds of GPUs'));
  lines.push(...serviceLines(sharing.services, strategy, page));
  return `${lines.map((line) => line.trimEnd()).join('\n')}\n`;
}

function more(count: number, what: string): string {
  return `… and ${count} more ${what} (--json has them all)`;
}

type Column = { readonly title: string; readonly right?: boolean };

/** A table of short cells; the row that is recommended is marked. */
function tableLines(
  columns: readonly Column[],
  rows: readonly { readonly cells: readonly string[]; readonly marked: boolean; readonly dim: boolean }[],
  { ink, width }: Page,
): readonly string[] {
  const gap = width < wide ? ' ' : '  ';
  const widths = columns.map(({ title }, at) => Math.max(title.length, ...rows.map(({ cells }) => cells[at]!.length)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, at) => (columns[at]!.right === true ? cell.padStart(widths[at]!) : cell.padEnd(widths[at]!)))
      .join(gap)
      .trimEnd();
  const indent = ' '.repeat(recommendedMark.length);
  return [
    indent + ink.dim(line(columns.map(({ title }) => title))),
    ...rows.map(({ cells, marked, dim }) => {
      if (marked) return ink.good(recommendedMark + line(cells));
      return indent + (dim ? ink.dim(line(cells)) : line(cells));
    }),
  ];
}

/** One line for each strategy, its objective in columns. */
function strategyLines({ strategy, reason, placements }: Recommendation, page: Page): readonly string[] {
  const { width } = page;
  const columns: readonly Column[] = [
    { title: 'STRATEGY' },
    { title: 'REFUSED', right: true },
    { title: 'TOO MUCH', right: true },
    { title: 'SHRUNK', right: true },
    { title: width < wide ? 'SLOW' : 'SLOWNESS', right: true },
    { title: width < wide ? 'FULL' : 'FULLEST', right: true },
    ...(width < wide ? [] : [{ title: '' }]),
  ];
  const rows = placements.map((placement) => ({
    cells: [placement.strategy, ...objectiveCells(placement.objective), proof(placement)].slice(0, columns.length),
    marked: placement.strategy === strategy,
    dim: false,
  }));
  return [...tableLines(columns, rows, page), ...hang('  recommended: ', `${strategy}: ${reason}`, width)];
}

function objectiveCells(objective: PlacementObjective): readonly string[] {
  const refused = objective.refusedByPriority.reduce((sum, { count }) => sum + count, 0);
  return [
    refused === 0 ? '-' : String(refused),
    objective.overcommitMb === 0 ? '-' : amount(objective.overcommitMb),
    objective.shrunkMb === 0 ? '-' : amount(objective.shrunkMb),
    objective.criticalSlowness === 0 ? '-' : String(Number(objective.criticalSlowness.toPrecision(3))),
    percent(objective.maxRelativeUse),
  ];
}

function proof({ status }: Placement): string {
  return status === 'optimal' ? 'proven' : '';
}

function gpuLines(gpu: GpuAdvice, places: readonly string[], page: Page): readonly string[] {
  const { ink, width } = page;
  const { recommendation } = gpu;
  const memory = `${gigabytes(gpu.memoryMb)}${gpu.unifiedMemory ? ' of the system' : ''}`;
  const facts = [gpu.architecture ?? gpu.vendor, memory].join(', ');
  const where = places.slice(0, namedPlaces).join(', ');
  const rest = places.length > namedPlaces ? ` and ${places.length - namedPlaces} more` : '';
  const title = `${cut(gpu.name, 40)} (${facts}): ${where}${rest}`;
  const columns: readonly Column[] = [
    { title: 'MODE' },
    { title: 'POSSIBLE' },
    { title: width < wide ? 'MEMORY' : 'MEMORY ISOLATION' },
    { title: width < wide ? 'FAULTS' : 'FAULT ISOLATION' },
    { title: 'LATENCY' },
    ...(gpu.options.some(({ holds }) => holds !== null && holds.of > 0) ? [{ title: 'HOLDS', right: true }] : []),
  ];
  const rows = gpu.options.map((option) => ({
    cells: optionCells(option).slice(0, columns.length),
    marked: option.recommended,
    dim: option.supported === 'no',
  }));
  return [
    ...hang('', title, width).map(ink.bold),
    ...tableLines(columns, rows, page),
    ...hang('  recommended: ', `${recommendation.mode}. ${recommendation.reason}`, width),
    ...gpu.options
      .filter(({ supported }) => supported !== 'yes')
      .flatMap(({ mode, supported, reason }) =>
        hang('  ', `${mode}: ${supported === 'no' ? 'not possible' : supported}, ${reason}`, width).map(ink.dim),
      ),
    ...gpu.warnings.flatMap((warning) => hang('  - ', warning, width).map(ink.warn)),
    ...commandLines(gpu.options.find(({ recommended }) => recommended)),
  ];
}

function optionCells(option: SharingOption): readonly string[] {
  const { mode, supported, memoryIsolation, faultIsolation, latencyEffect, holds } = option;
  if (supported === 'no') return [mode, 'no', '', '', '', ''];
  return [mode, supported, memoryIsolation, faultIsolation, latencyEffect, holds?.text ?? ''];
}

/** Whole, however long: they are to be copied. */
function commandLines(option: SharingOption | undefined): readonly string[] {
  return (option?.commands ?? []).flatMap(({ where, about, lines }) => [
    '',
    `    # ${where === 'kubernetes' ? 'Kubernetes: ' : ''}${printable(about)}`,
    ...lines.map((line) => `    ${printable(line)}`),
  ]);
}

function serviceLines(
  services: readonly ServiceAdvice[],
  strategy: StrategyName,
  { ink, width }: Page,
): readonly string[] {
  if (services.length === 0) return [];
  const shown = services.slice(0, listedServices);
  const lines = ['', `${ink.bold('services')}, as ${strategy} places them`];
  for (const advice of shown) {
    const { service, place, memoryBudgetMb, memoryFraction, recommendedFraction, notes } = advice;
    const part = memoryFraction === null ? '' : `, ${fraction(memoryFraction)} of the memory it sees`;
    const most = recommendedFraction === null ? '' : `, recommended at most ${fraction(recommendedFraction)}`;
    const where = place === null ? 'refused' : `${place}, ${amount(memoryBudgetMb)}${part}${most}`;
    lines.push(...hang('  ', `${printable(service)}: ${where}`, width));
    const environment = Object.entries(advice.environment).map(([key, value]) => `${key}=${value}`);
    for (const command of [environment.join(' '), advice.vllmArguments.join(' ')]) {
      if (command !== '') lines.push(`      ${printable(command)}`);
    }
    for (const note of notes) lines.push(...hang('    ', note, width).map(ink.dim));
  }
  if (services.length > shown.length) lines.push(`  ${more(services.length - shown.length, 'services')}`);
  return lines;
}

function fraction(value: number): string {
  return value.toFixed(2);
}

import type { Placement, PlacementAssignment, PlacementGpuUse, PlacementObjective } from '../core/placement.js';
import { gpuKey, type PlacementGpu, type PlacementRequest, type PlacementService } from '../core/placement-request.js';
import { gigabytes } from '../placement/amounts.js';
import { type BarMark, type BarSize, markOf, memoryBar, othersMark } from './memory-bar.js';
import { describeBound, describeObjective } from './placement-objective.js';
import { amount, cut, gigabyteCount, type Hue, hang, huesOf, type Ink, inkOf, printable } from './terminal-text.js';

/**
 * A placement as a tree for people: nodes, their GPUs with a bar of memory, the services on each; then what runs on the
 * CPU, what was refused, and how good the whole is.
 *
 * Pure text in a given width; colours are ANSI codes and only added where asked for.
 */
export type PlacementTableOptions = {
  /** Where the request came from: a file name, `standard input`. */
  readonly title: string;
  /** The rule of the strategy, in half a line. */
  readonly rule?: string;
  readonly color: boolean;
  /** Columns of the terminal; the table never gets wider, and uses from 60 to 100. */
  readonly width: number;
};

/** Lines of one kind that are written out; --json has them all. */
const listedLines = 12;
/** Most lines of GPUs and services before each GPU gets one line for all its services. */
const mostTreeLines = 80;
/** Most GPUs that are listed. */
const listedGpus = 64;

const narrowest = 60;
const widest = 100;
const columnGap = '  ';
/** Room for bar, memory and percent beside the name of a GPU. */
const leastBarRoom = 36;
const mostBarCells = 40;
const leastBarCells = 8;

export function renderPlacement(
  placement: Placement,
  request: PlacementRequest,
  options: PlacementTableOptions,
): string {
  const width = Math.max(narrowest, Math.min(widest, options.width));
  const page = { width, ink: inkOf(options.color), hues: huesOf(options.color) };
  const { ink } = page;
  const groups = groupGpus(placement, request);
  const cpu = cpuRows(placement, request);
  const lines: string[] = [describeRequest(request, options.title), ''];
  const table = layOut(groups, cpu, width);
  if (groups.length === 0) lines.push(ink.warn('No GPUs detected'));
  else lines.push(...treeLines(groups, table, page));
  lines.push(...cpuLines(cpu, table, page));
  if (table.marks === 'symbols') lines.push(...legendLines(table.isCompact ? [] : groups, cpu, ink));
  const rule = options.rule === undefined ? '' : `: ${options.rule}`;
  lines.push('', ...hang('strategy   ', `${placement.strategy}${rule}`, width));
  const label = gpuLabels(request);
  lines.push(...objectiveLines(placement, label, page));
  const refused = placement.refusals.map(({ service, reason, message }) => withName(service, `${message} (${reason})`));
  lines.push(...listLines('refused', refused, ink.bad, width));
  const warned = placement.warnings.map(({ message }) => message);
  lines.push(...listLines('warnings', warned, ink.warn, width));
  return `${lines.map((line) => line.trimEnd()).join('\n')}\n`;
}

/** What was found, without anything placed on it. */
export function renderGpus(gpus: readonly PlacementGpu[], options: PlacementTableOptions): string {
  const width = Math.max(narrowest, Math.min(widest, options.width));
  const page = { width, ink: inkOf(options.color), hues: huesOf(options.color) };
  if (gpus.length === 0) return `${page.ink.warn('No GPUs detected')}\n`;
  const rows = gpus.map((gpu): GpuRow => ({ gpu, usedMb: gpu.usedMb, services: [], assignedMb: 0 }));
  const nodes = byNode(rows);
  const lines = [`${printable(options.title)}: ${plural(gpus.length, 'GPU')} on ${plural(nodes.length, 'node')}`, ''];
  lines.push(...treeLines(nodes, { ...layOut(nodes, [], width), describesGpus: true }, page));
  return `${lines.map((line) => line.trimEnd()).join('\n')}\n`;
}

type Page = { readonly width: number; readonly ink: Ink; readonly hues: readonly Hue[] };

type ServiceRow = { readonly service: PlacementService; readonly assignment: PlacementAssignment };

type GpuRow = {
  readonly gpu: PlacementGpu;
  readonly usedMb: number;
  readonly assignedMb: number;
  readonly services: readonly ServiceRow[];
};

type NodeGroup = { readonly node: string; readonly gpus: readonly GpuRow[] };

function groupGpus(placement: Placement, request: PlacementRequest): readonly NodeGroup[] {
  const services = new Map(request.services.map((service) => [service.name, service]));
  const onGpu = new Map<string, ServiceRow[]>();
  for (const assignment of placement.assignments) {
    const service = services.get(assignment.service);
    if (service === undefined || assignment.gpuIndex === null || assignment.node === null) continue;
    const key = gpuKey({ node: assignment.node, index: assignment.gpuIndex });
    onGpu.set(key, [...(onGpu.get(key) ?? []), { service, assignment }]);
  }
  const uses = new Map(placement.gpus.map((use): [string, PlacementGpuUse] => [gpuKey(use), use]));
  return byNode(
    request.gpus.map((gpu) => {
      const use = uses.get(gpuKey(gpu));
      const rows = onGpu.get(gpuKey(gpu)) ?? [];
      return { gpu, usedMb: use?.usedMb ?? gpu.usedMb, assignedMb: use?.assignedMb ?? 0, services: rows };
    }),
  );
}

/** Nodes in the order of their first GPU, GPUs by their index. */
function byNode(rows: readonly GpuRow[]): readonly NodeGroup[] {
  const groups = new Map<string, GpuRow[]>();
  for (const row of rows) {
    const group = groups.get(row.gpu.node);
    if (group === undefined) groups.set(row.gpu.node, [row]);
    else group.push(row);
  }
  return [...groups].map(([node, gpus]) => ({ node, gpus: gpus.sort((a, b) => a.gpu.index - b.gpu.index) }));
}

function cpuRows(placement: Placement, request: PlacementRequest): readonly ServiceRow[] {
  const services = new Map(request.services.map((service) => [service.name, service]));
  return placement.assignments.flatMap((assignment) => {
    const service = services.get(assignment.service);
    return service === undefined || assignment.gpuIndex !== null ? [] : [{ service, assignment }];
  });
}

type Table = {
  /** Columns of the tree with its names. */
  readonly name: number;
  /** 0 = the column is left out. */
  readonly kind: number;
  readonly budget: number;
  readonly sharing: number;
  readonly marks: 'words' | 'symbols';
  readonly bar: BarSize;
  /** Of `22.4 of 24 GB`. */
  readonly use: number;
  /** All services of a GPU in one line. */
  readonly isCompact: boolean;
  readonly describesGpus: boolean;
};

const treeIndent = 3;
const markWidth = 2;
const others = 'used by others';

/** Words for marks and the kinds give way where the terminal is narrow, then names; numbers never do. */
function layOut(groups: readonly NodeGroup[], cpu: readonly ServiceRow[], width: number): Table {
  const gpus = groups.flatMap((group) => group.gpus);
  const onGpus = gpus.flatMap((row) => row.services);
  const isCompact = gpus.length + onGpus.length > mostTreeLines;
  const services = [...(isCompact ? [] : onGpus), ...cpu];
  const longest = (texts: readonly string[], least = 0): number =>
    texts.reduce((most, text) => Math.max(most, text.length), least);
  const natural = Math.max(
    longest(services.map(({ service }) => service.name)) + 2 * treeIndent + markWidth,
    longest(gpus.map((row) => gpuTitle(row.gpu))) + treeIndent,
    gpus.some(({ usedMb }) => usedMb > 0) && !isCompact ? 2 * treeIndent + markWidth + others.length : 0,
    'SERVICE'.length,
  );
  const kind = longest(
    services.map(({ service }) => service.kind),
    'KIND'.length,
  );
  const budget = longest(services.map(budgetText), 'MEMORY'.length);
  const sharing = longest(
    services.map(({ assignment }) => sharingText(assignment)),
    services.length === 0 ? 0 : 'SHARING'.length,
  );
  const words = longest(services.map(({ service }) => markWords(service)));
  const symbols = longest(services.map(({ service }) => markSymbols(service)));
  const gap = columnGap.length;
  const fixed = budget + gap + sharing + gap;
  const room = (rest: number): number => width - gap - fixed - rest;
  const wanted = Math.min(natural, width - gap - leastBarRoom);
  const variants = [
    { kind, marks: 'words', name: room(kind + gap + words) },
    { kind, marks: 'symbols', name: room(kind + gap + symbols) },
    { kind: 0, marks: 'symbols', name: room(symbols) },
  ] as const;
  const chosen = variants.find((variant) => variant.name >= wanted) ?? variants[2];
  const name = Math.max(12, Math.min(wanted, chosen.name));
  const use = longest(gpus.map(useText));
  const beside = name + gap + 2 + gap + use + '  100 %'.length;
  const barSize = sizeBar(gpus, Math.min(mostBarCells, Math.max(leastBarCells, width - beside)));
  return { ...chosen, name, budget, sharing, bar: barSize, use, isCompact, describesGpus: false };
}

/** Room behind the bracket as the fullest GPU needs it, to half of what there is for all memory. */
function sizeBar(gpus: readonly GpuRow[], cells: number): BarSize {
  const fullest = gpus.reduce((most, row) => Math.max(most, (row.usedMb + row.assignedMb) / row.gpu.memoryMb), 0);
  if (fullest <= 1) return { cells, overCells: 0 };
  const overCells = Math.max(1, Math.round(cells * (1 - 1 / Math.min(1.5, fullest))));
  return { cells: cells - overCells, overCells };
}

function treeLines(groups: readonly NodeGroup[], table: Table, page: Page): readonly string[] {
  const lines: string[] = [];
  const shown = chosenGpus(groups);
  const all = groups.reduce((sum, { gpus }) => sum + gpus.length, 0);
  if (!table.isCompact && groups.some(({ gpus }) => gpus.some(({ services }) => services.length > 0))) {
    lines.push(page.ink.dim(headings(table)));
  }
  for (const { node, gpus } of shown) {
    lines.push(page.ink.bold(cut(node, page.width)));
    gpus.forEach((row, at) => {
      const isLast = at === gpus.length - 1;
      lines.push(gpuLine(row, isLast ? '└─ ' : '├─ ', table, page));
      lines.push(...belowGpu(row, isLast ? '   ' : '│  ', table, page));
    });
  }
  const left = all - shown.reduce((sum, { gpus }) => sum + gpus.length, 0);
  if (left > 0) lines.push(page.ink.dim(`… and ${plural(left, 'more GPU')} (--json has them all)`));
  return lines;
}

/** Where there are too many to list, those that are overcommitted come first, then those in use. */
function chosenGpus(groups: readonly NodeGroup[]): readonly NodeGroup[] {
  const rows = groups.flatMap(({ gpus }) => gpus);
  if (rows.length <= listedGpus) return groups;
  const rank = (row: GpuRow): number =>
    row.usedMb + row.assignedMb > row.gpu.memoryMb ? 0 : row.services.length > 0 ? 1 : 2;
  const chosen = new Set([...rows].sort((a, b) => rank(a) - rank(b)).slice(0, listedGpus));
  return groups
    .map(({ node, gpus }) => ({ node, gpus: gpus.filter((row) => chosen.has(row)) }))
    .filter(({ gpus }) => gpus.length > 0);
}

function headings(table: Table): string {
  return [
    ' '.repeat(2 * treeIndent + markWidth) + 'SERVICE'.padEnd(table.name - 2 * treeIndent - markWidth),
    ...(table.kind === 0 ? [] : ['KIND'.padEnd(table.kind)]),
    'MEMORY'.padStart(table.budget),
    'SHARING'.padEnd(table.sharing),
  ].join(columnGap);
}

function gpuTitle({ index, name, vendor }: PlacementGpu): string {
  return `GPU ${index} ${name === '' ? vendor : name}`;
}

function useText({ gpu, usedMb, assignedMb }: GpuRow): string {
  return `${gigabyteCount(usedMb + assignedMb)} of ${gigabytes(gpu.memoryMb)}`;
}

/** A MiB too much is over 100 %, and a MiB free is under it. */
function usePercent({ gpu, usedMb, assignedMb }: GpuRow): string {
  const percent = (100 * (usedMb + assignedMb)) / gpu.memoryMb;
  const whole =
    percent > 100 ? Math.max(101, Math.round(percent)) : percent < 100 ? Math.min(99, Math.round(percent)) : 100;
  return `${whole > 999 ? '>999' : whole} %`;
}

function gpuLine(row: GpuRow, branch: string, table: Table, { ink, hues }: Page): string {
  const { gpu, usedMb, assignedMb, services } = row;
  const number = `GPU ${gpu.index}`;
  const title = cut(gpuTitle(gpu), table.name - branch.length);
  const shown = title.startsWith(number) ? ink.bold(number) + title.slice(number.length) : ink.bold(title);
  const bar = memoryBar({
    memoryMb: gpu.memoryMb,
    parts: [
      ...(usedMb === 0 ? [] : [{ memoryMb: usedMb, mark: othersMark }]),
      ...services.map(({ assignment }, at) => ({ memoryMb: assignment.memoryBudgetMb, mark: markOf(at, hues) })),
    ],
    size: table.bar,
    ink,
  });
  const percent = usePercent(row).padStart(6);
  const isOver = usedMb + assignedMb > gpu.memoryMb;
  const padding = ' '.repeat(table.name - branch.length - title.length);
  const numbers = `${useText(row).padStart(table.use)}${percent}`;
  return `${branch}${shown}${padding}${columnGap}${bar}${columnGap}${isOver ? ink.bad(numbers) : numbers}`;
}

function belowGpu(row: GpuRow, indent: string, table: Table, page: Page): readonly string[] {
  const { ink } = page;
  const facts = gpuFacts(row.gpu, table.describesGpus);
  const below = facts === '' ? [] : hang(indent, facts, page.width).map((line) => factLine(line, indent, ink));
  if (table.isCompact) {
    if (row.services.length === 0) return below;
    return [...below, `${indent}${ink.dim(nameList(row.services, page.width - indent.length))}`];
  }
  const rows: readonly ((branch: string) => string)[] = [
    ...(row.usedMb === 0 ? [] : [(branch: string) => othersLine(row.usedMb, indent + branch, table, ink)]),
    ...row.services.map(
      (service, at) => (branch: string) =>
        serviceLine(service, { prefix: indent + branch, mark: markOf(at, page.hues) }, table, ink),
    ),
  ];
  return [...below, ...rows.map((line, at) => line(at === rows.length - 1 ? '└─ ' : '├─ '))];
}

/** The line of the tree goes on beside further lines of a text. */
function factLine(line: string, indent: string, ink: Ink): string {
  return indent + ink.dim(line.slice(indent.length));
}

/** What of a GPU bears on who may use it. */
function gpuFacts(gpu: PlacementGpu, isWhole: boolean): string {
  return [
    ...(isWhole ? [gpu.architecture === null ? gpu.vendor : `${gpu.vendor} ${gpu.architecture}`] : []),
    ...(gpu.sharing === null ? [] : [`set to ${gpu.sharing}`]),
    ...(gpu.migInstances === null ? [] : [`cut into ${gpu.migInstances.map(({ profile }) => profile).join(', ')}`]),
    ...gpu.taints.map((taint) => `taint ${taint}`),
    ...(isWhole ? Object.entries(gpu.tags).map(([key, value]) => `${key} ${value}`) : []),
  ].join(', ');
}

/** As many names as one line holds: `ai-llm, ai-clip, … and 9 more`. */
function nameList(services: readonly ServiceRow[], width: number): string {
  const names = services.map(({ service }) => printable(service.name));
  const whole = names.join(', ');
  if (whole.length <= width) return whole;
  for (let count = names.length - 1; count > 0; count -= 1) {
    const text = `${names.slice(0, count).join(', ')} … and ${names.length - count} more`;
    if (text.length <= width) return text;
  }
  return cut(plural(names.length, 'service'), width);
}

function othersLine(usedMb: number, prefix: string, table: Table, ink: Ink): string {
  const room = table.name - prefix.length - markWidth;
  const kind = table.kind === 0 ? [] : [' '.repeat(table.kind)];
  const cells = [cut(others, room).padEnd(room), ...kind, amount(usedMb).padStart(table.budget)];
  return `${prefix}${ink.dim(`${othersMark.fill} ${cells.join(columnGap)}`)}`;
}

function serviceLine(
  row: ServiceRow,
  at: { readonly prefix: string; readonly mark: BarMark | null },
  table: Table,
  ink: Ink,
): string {
  const { service, assignment } = row;
  const room = table.name - at.prefix.length - (at.mark === null ? 0 : markWidth);
  const budget = budgetText(row).padStart(table.budget);
  const isShrunk = assignment.memoryBudgetMb < service.memoryMb;
  const cells = [
    cut(service.name, room).padEnd(room),
    ...(table.kind === 0 ? [] : [service.kind.padEnd(table.kind)]),
    isShrunk ? ink.warn(budget) : budget,
    ink.dim(sharingText(assignment).padEnd(table.sharing)),
    table.marks === 'words' ? markWords(service) : markSymbols(service),
  ];
  const mark = at.mark === null ? '' : `${at.mark.hue(at.mark.fill)} `;
  return `${at.prefix}${mark}${cells.join(columnGap)}`;
}

/** `1.5 GB`, `3.5 of 6.8 GB` where it was shrunk. */
function budgetText({ service, assignment }: ServiceRow): string {
  const { memoryBudgetMb } = assignment;
  if (memoryBudgetMb >= service.memoryMb) return amount(memoryBudgetMb);
  return `${gigabyteCount(memoryBudgetMb)} of ${gigabytes(service.memoryMb)}`;
}

/** `time-slicing 38 %`: how the GPU is shared, and the part of its compute. */
function sharingText({ sharing, share, mig }: PlacementAssignment): string {
  if (sharing === 'exclusive' || sharing === 'cpu') return sharing === 'cpu' ? '' : sharing;
  const mode = mig === undefined ? sharing : `${sharing} ${mig.profile}`;
  return `${mode} ${String(Math.round(100 * share)).padStart(2)} %`;
}

function markWords({ critical, gpu }: PlacementService): string {
  return [...(critical ? ['critical'] : []), ...(gpu === null ? [] : ['pinned'])].join(', ');
}

function markSymbols({ critical, gpu }: PlacementService): string {
  return `${critical ? '!' : ''}${gpu === null ? '' : '*'}`;
}

/** What the symbols that are used mean. */
function legendLines(groups: readonly NodeGroup[], cpu: readonly ServiceRow[], ink: Ink): readonly string[] {
  const rows = [...groups.flatMap(({ gpus }) => gpus.flatMap(({ services }) => services)), ...cpu];
  const legend = [
    ...(rows.some(({ service }) => service.critical) ? ['! critical'] : []),
    ...(rows.some(({ service }) => service.gpu !== null) ? ['* pinned'] : []),
  ];
  return legend.length === 0 ? [] : ['', ink.dim(legend.join('   '))];
}

function cpuLines(rows: readonly ServiceRow[], table: Table, page: Page): readonly string[] {
  if (rows.length === 0) return [];
  const shown = rows.length > listedLines ? rows.slice(0, listedLines - 1) : rows;
  const left = rows.length - shown.length;
  return [
    page.ink.bold('CPU'),
    ...shown.map((row, at) => {
      const prefix = at === shown.length - 1 && left === 0 ? '└─ ' : '├─ ';
      return serviceLine(row, { prefix, mark: null }, table, page.ink);
    }),
    ...(left === 0 ? [] : [`└─ … and ${left} more (--json has them all)`]),
  ];
}

/** `GPU 1` where there is one node, else `GPU 1 of NODE`. */
export function gpuLabels(
  request: Pick<PlacementRequest, 'gpus'>,
): (gpu: Pick<PlacementGpu, 'node' | 'index'>) => string {
  const isOneNode = new Set(request.gpus.map(({ node }) => node)).size <= 1;
  return ({ node, index }) => (isOneNode ? `GPU ${index}` : `GPU ${index} of ${printable(node)}`);
}

function objectiveLines(
  placement: Placement,
  label: (gpu: PlacementGpuUse) => string,
  { ink, width }: Page,
): readonly string[] {
  const over = placement.gpus.filter(({ usedMb, assignedMb, memoryMb }) => usedMb + assignedMb > memoryMb).map(label);
  const lines = [...hangParts('objective  ', describeObjective(placement.objective, over), width)];
  const colour = isClean(placement.objective) ? ink.good : ink.warn;
  const nodes = placement.nodes === 0 ? '' : `, ${plural(placement.nodes, 'node')} searched`;
  const way = placement.strategy === 'optimal' ? '' : '; --strategy optimal searches for it';
  const proof =
    placement.status === 'optimal'
      ? hang('proof      ', `proven optimal: no placement of these services is better${nodes}`, width)
      : hang('proof      ', `not proven: ${describeBound(placement)}${nodes}${way}`, width);
  return [...lines, ...(placement.status === 'optimal' ? proof.map(colour) : proof)];
}

/** Parts of a sentence behind a label, broken between them. */
function hangParts(label: string, parts: readonly string[], width: number): readonly string[] {
  const lines: string[] = [];
  let line = '';
  parts.forEach((part, at) => {
    const text = at === parts.length - 1 ? part : `${part},`;
    if (line !== '' && label.length + line.length + 1 + text.length > width) {
      lines.push(line);
      line = '';
    }
    line = line === '' ? text : `${line} ${text}`;
  });
  return [...lines, line].flatMap((text, at) => hang(at === 0 ? label : ' '.repeat(label.length), text, width));
}

function isClean({ refusedByPriority, overcommitMb }: PlacementObjective): boolean {
  return refusedByPriority.length === 0 && overcommitMb === 0;
}

/** A message that does not say whom it is about is told after the name. */
function withName(service: string, message: string): string {
  return message.includes(service) ? message : `${service}: ${message}`;
}

function listLines(
  title: string,
  texts: readonly string[],
  colour: (text: string) => string,
  width: number,
): readonly string[] {
  if (texts.length === 0) return [];
  const left = texts.length - listedLines;
  return [
    '',
    colour(title),
    ...texts.slice(0, listedLines).flatMap((text) => hang('  - ', text, width)),
    ...(left > 0 ? [`  … and ${left} more (--json has them all)`] : []),
  ];
}

/** `request.yaml: 5 services, 2 GPUs` */
export function describeRequest({ gpus, services }: PlacementRequest, title: string): string {
  const nodes = new Set(gpus.map(({ node }) => node)).size;
  const where = nodes > 1 ? ` on ${nodes} nodes` : '';
  return `${printable(title)}: ${plural(services.length, 'service')}, ${plural(gpus.length, 'GPU')}${where}`;
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

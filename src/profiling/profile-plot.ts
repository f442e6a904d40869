import { scaleBand, scaleLinear, scaleLog } from 'd3-scale';
import { line } from 'd3-shape';
import type { GpuProfile } from '../core/profile.js';
import { type CellDecision, type SloName, sloValue } from './gen-profile.js';

/**
 * A picture of a profile: the throughput of every cell, and the latencies by rate from which they were read, as a
 * standalone SVG (no script, no font, no stylesheet from elsewhere; a white ground, so that dark viewers show it as
 * it is).
 */
export type PlotOptions = {
  readonly profile: GpuProfile;
  /** How each cell came by its throughput; without them (an estimate has none) there are no curves. */
  readonly decisions?: readonly CellDecision[];
};

const page = { width: 1120, margin: 40, ink: '#1c2733', faint: '#66727f', grid: '#e3e8ee', slo: '#b3261e' } as const;
const font = `font-family="system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', Arial, sans-serif"`;

/** Low to high throughput; text turns white on the two dark ones. */
const heat = ['#eaf3fb', '#a9d0ec', '#4c96cf', '#17588f', '#0b2f55'] as const;
/** Short to long prompts. */
const hues = ['#15477f', '#1f8a8c', '#6aa84f', '#e0a100', '#d9622b', '#a3195b'] as const;

/** Draws it. Pure: the same profile gives the same text. */
export function plotProfile({ profile, decisions = [] }: PlotOptions): string {
  const parts: string[] = [];
  let top = drawHeader(parts, profile);
  top = drawSurface(parts, profile, top + 14);
  for (const name of plottedSlos(profile, decisions))
    top = drawCurves(parts, { profile, decisions, name, top: top + 34 });
  const height = Math.ceil(top + page.margin);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${page.width} ${height}" width="${page.width}" height="${height}" ${font} fill="${page.ink}" role="img">`,
    `<title>${xml(titleOf(profile))}</title>`,
    '<defs><pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="7" height="7" fill="#f4f5f7"/><line x1="0" y1="0" x2="0" y2="7" stroke="#d3d8de" stroke-width="2.4"/></pattern></defs>',
    `<rect width="${page.width}" height="${height}" fill="#ffffff"/>`,
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}

function titleOf({ gpu, model, gpuType, gpusPerReplica }: GpuProfile): string {
  const on = gpuType === undefined ? '' : ` on ${(gpusPerReplica ?? 1) > 1 ? `${gpusPerReplica} × ` : ''}${gpuType}`;
  return `${model ?? gpu}${on}: throughput within the SLO`;
}

type TextStyle = {
  readonly size?: number;
  readonly fill?: string;
  readonly weight?: number;
  readonly anchor?: 'start' | 'middle' | 'end';
  readonly italic?: boolean;
  readonly turn?: number;
};

function text(x: number, y: number, content: string, style: TextStyle = {}): string {
  const { size = 13, fill, weight, anchor, italic, turn } = style;
  const attributes = [
    `x="${round(x)}" y="${round(y)}" font-size="${size}"`,
    ...(fill === undefined ? [] : [`fill="${fill}"`]),
    ...(weight === undefined ? [] : [`font-weight="${weight}"`]),
    ...(anchor === undefined ? [] : [`text-anchor="${anchor}"`]),
    ...(italic === true ? ['font-style="italic"'] : []),
    ...(turn === undefined ? [] : [`transform="rotate(${turn} ${round(x)} ${round(y)})"`]),
  ];
  return `<text ${attributes.join(' ')}>${xml(content)}</text>`;
}

const round = (value: number): number => Math.round(value * 100) / 100;

/** Characters that no XML text may hold, whatever way they are written, and those that turn the rest of a line around. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it is about
const notXml = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u202a-\u202e\u2066-\u2069\ufffe\uffff]|\p{Surrogate}/gu;

function xml(content: string): string {
  return content
    .replace(notXml, '\ufffd')
    .replace(/&/g, '&amp;')
    .replace(/</g, '&lt;')
    .replace(/>/g, '&gt;')
    .replace(/"/g, '&quot;');
}

/** About how wide a text is: enough to set one beside the other, whatever the font is. */
function widthOf(content: string, size: number): number {
  return [...content].reduce((sum, character) => sum + (/[ .,:;'!|fijlrt()]/.test(character) ? 0.34 : 0.61), 0) * size;
}

/** Cuts a name that would run out of the page. */
function cut(content: string, most: number): string {
  const characters = [...content];
  return characters.length <= most ? content : `${characters.slice(0, most - 1).join('')}…`;
}

function drawHeader(parts: string[], profile: GpuProfile): number {
  const { gpu, cost, slos, created, provenance } = profile;
  const { margin } = page;
  parts.push(text(margin, margin + 14, cut(titleOf(profile), 85), { size: 23, weight: 650 }));
  const facts = [
    `deployment ${cut(gpu, 50)}`,
    describeSlos(slos),
    ...(cost === null ? [] : [`${Number(cost.toPrecision(4))} USD per replica-hour`]),
    ...(provenance === undefined ? [] : [provenance.method]),
    ...(created === null ? [] : [dateOf(created)]),
  ];
  const size = 13.5;
  const lines = linesOf(
    facts.filter((fact) => fact !== ''),
    (line) => widthOf(line, size) <= page.width - 2 * margin,
  );
  for (const [i, line] of lines.entries()) {
    parts.push(text(margin, margin + 38 + 19 * i, line, { size, fill: page.faint }));
  }
  return margin + 27 + 19 * lines.length;
}

/** Facts in as few lines as fit. */
function linesOf(facts: readonly string[], fits: (line: string) => boolean): readonly string[] {
  const lines: string[] = [];
  for (const fact of facts) {
    const joined = `${lines.at(-1)}  ·  ${fact}`;
    if (lines.length > 0 && fits(joined)) lines[lines.length - 1] = joined;
    else lines.push(fact);
  }
  return lines;
}

function dateOf(unixSeconds: number): string {
  const date = new Date(unixSeconds * 1000);
  return Number.isNaN(date.getTime()) ? '' : `${date.toISOString().slice(0, 16).replace('T', ' ')} UTC`;
}

const sloUnits: Readonly<Record<string, (value: number) => string>> = {
  tput: (value) => `TPUT ≥ ${value}/s`,
  tt: (value) => `TT ≥ ${value} tokens/s`,
  e2e: (value) => `E2E < ${seconds(value)}`,
  ttft: (value) => `TTFT < ${seconds(value)}`,
  tpat: (value) => `TPAT < ${seconds(value)}`,
  tpot: (value) => `TPOT < ${seconds(value)}`,
};

function describeSlos(slos: GpuProfile['slos']): string {
  const stated = Object.entries(sloUnits).flatMap(([name, describe]) => {
    const value = slos[name];
    return value === undefined ? [] : [describe(value)];
  });
  if (stated.length === 0) return 'no SLO';
  const percentile = slos.percentile ?? 0;
  return `${stated.join(', ')} (${percentile === 0 ? 'mean' : `P${percentile}`})`;
}

/** A time as a person writes it: 20 ms, 1.5 s. */
function seconds(value: number): string {
  return value >= 1 || value === 0
    ? `${Number(value.toPrecision(3))} s`
    : `${Number((value * 1000).toPrecision(3))} ms`;
}

function tokens(count: number): string {
  return count >= 10_000 && count % 1024 === 0 ? `${count / 1024}k` : String(count);
}

/** Three digits that matter, and always three, so that columns of numbers line up. */
function throughput(rps: number): string {
  if (rps === 0) return '0';
  if (rps >= 100) return String(Math.round(rps));
  return rps >= 0.01 ? rps.toPrecision(3) : rps.toPrecision(2);
}

/** A rate on an axis. */
function rateTick(rps: number): string {
  return String(Number(rps.toPrecision(2)));
}

/** Cells on logarithmic axes: each reaches half way to its neighbours. */
function edgesOf(axis: readonly number[]): readonly number[] {
  const logs = axis.map((count) => Math.log2(Math.max(1, count)));
  if (logs.length === 1) return [logs[0]! - 0.5, logs[0]! + 0.5];
  const between = logs.slice(1).map((log, i) => (log + logs[i]!) / 2);
  const first = logs[0]! - (between[0]! - logs[0]!);
  const last = logs.at(-1)! + (logs.at(-1)! - between.at(-1)!);
  return [first, ...between, last];
}

const cellHeights = { most: 40, least: 24 } as const;

function drawSurface(parts: string[], profile: GpuProfile, top: number): number {
  const { grid, cells } = profile;
  const [outputs = [], inputs = []] = grid.indexes;
  const left = page.margin + 74;
  const widest = Math.min(page.width - page.margin - left, 150 * inputs.length);
  const cellHeight = Math.max(cellHeights.least, Math.min(cellHeights.most, 420 / outputs.length));
  // At least as tall as the name of its axis is long.
  const tall = Math.max(96, cellHeight * outputs.length);
  const columnEdges = edgesOf(inputs);
  const rowEdges = edgesOf(outputs);
  const x = scaleLinear([columnEdges[0]!, columnEdges.at(-1)!], [left, left + widest]);
  const head = top + 52;
  const y = scaleLinear([rowEdges[0]!, rowEdges.at(-1)!], [head, head + tall]);
  const served = grid.tputs.flat().filter((tput): tput is number => tput !== null && tput > 0);
  const low = served.reduce((least, tput) => Math.min(least, tput), Number.POSITIVE_INFINITY);
  const high = served.reduce((most, tput) => Math.max(most, tput), 0);
  const depth = scaleLog([low, high === low ? low * 2 : high], [0, heat.length - 1]);
  const colour = scaleLinear<string>(
    heat.map((_, i) => i),
    [...heat],
  ).clamp(true);

  parts.push(text(page.margin, top + 12, 'Requests/s of one replica', { size: 16, weight: 650 }));
  drawLegend(parts, profile, { baseline: top + 12, right: Math.max(left + widest, 620) });
  parts.push(text(left + widest / 2, head - 24, 'input tokens', { fill: page.faint, anchor: 'middle' }));
  parts.push(
    text(page.margin + 6, head + tall / 2, 'output tokens', { fill: page.faint, anchor: 'middle', turn: -90 }),
  );
  for (const [c, count] of inputs.entries()) {
    const middle = (x(columnEdges[c]!) + x(columnEdges[c + 1]!)) / 2;
    parts.push(text(middle, head - 7, tokens(count), { anchor: 'middle' }));
  }
  for (const [r, count] of outputs.entries()) {
    const y0 = y(rowEdges[r]!);
    const y1 = y(rowEdges[r + 1]!);
    parts.push(text(left - 9, (y0 + y1) / 2 + 4.5, tokens(count), { anchor: 'end' }));
    for (const c of inputs.keys()) {
      const tput = grid.tputs[r]![c]!;
      const origin = cells?.[r]?.[c] ?? null;
      drawCell(parts, {
        x0: x(columnEdges[c]!),
        x1: x(columnEdges[c + 1]!),
        y0,
        y1,
        tput,
        filled: origin === 'interpolated',
        shade: tput !== null && tput > 0 ? depth(tput) : 0,
        colour: (shade) => colour(shade),
        hint: `${inputs[c]} in, ${count} out: ${tput === null ? 'not profiled' : `${tput} requests/s`}${origin === null ? '' : `, ${origin}`}`,
      });
    }
  }
  return head + tall;
}

function drawCell(
  parts: string[],
  cell: {
    readonly x0: number;
    readonly x1: number;
    readonly y0: number;
    readonly y1: number;
    readonly tput: number | null;
    readonly filled: boolean;
    /** 0 to the number of colours. */
    readonly shade: number;
    readonly colour: (shade: number) => string;
    readonly hint: string;
  },
): void {
  const { x0, x1, y0, y1, tput, filled, shade } = cell;
  const served = tput !== null && tput > 0;
  const gap = 1.2;
  const box = `x="${round(x0 + gap)}" y="${round(y0 + gap)}" width="${round(x1 - x0 - 2 * gap)}" height="${round(y1 - y0 - 2 * gap)}" rx="3"`;
  const fill = served ? cell.colour(shade) : 'url(#hatch)';
  const outline = filled ? ` stroke="${page.slo}" stroke-opacity="0.75" stroke-width="1.4" stroke-dasharray="4 3"` : '';
  parts.push(`<rect ${box} fill="${fill}"${outline}><title>${xml(cell.hint)}</title></rect>`);
  const label = tput === null ? '–' : `${filled ? '≈ ' : ''}${throughput(tput)}`;
  const size = Math.min(14, (x1 - x0) / (0.62 * label.length + 0.8), (y1 - y0) * 0.6);
  // Smaller than this nobody reads it; the hint has the number.
  if (size < 7) return;
  const ink = served ? (shade > 2.2 ? '#ffffff' : page.ink) : page.faint;
  parts.push(
    text((x0 + x1) / 2, (y0 + y1) / 2 + size * 0.35, label, {
      size: round(size),
      fill: ink,
      anchor: 'middle',
      italic: filled,
      ...(served ? { weight: 550 } : {}),
    }),
  );
}

function drawLegend(
  parts: string[],
  { grid, cells }: GpuProfile,
  { baseline, right }: { readonly baseline: number; readonly right: number },
): void {
  let x = right;
  const entry = (label: string, box: string): void => {
    x -= widthOf(label, 12.5) + 24;
    parts.push(`<rect x="${round(x)}" y="${baseline - 10}" width="14" height="12" rx="2" ${box}/>`);
    parts.push(text(x + 20, baseline, label, { size: 12.5, fill: page.faint }));
    x -= 14;
  };
  if (grid.tputs.some((row) => row.includes(0))) {
    entry('cannot meet the SLO', 'fill="url(#hatch)" stroke="#d3d8de"');
  }
  if (cells?.some((row) => row.includes('interpolated')) === true) {
    entry('interpolated', `fill="#ffffff" stroke="${page.slo}" stroke-width="1.4" stroke-dasharray="4 3"`);
  }
}

const times = ['e2e', 'ttft', 'tpat', 'tpot'] as const satisfies readonly SloName[];
type TimeName = (typeof times)[number];
const timeTitles: Readonly<Record<TimeName, string>> = {
  e2e: 'End-to-end latency',
  ttft: 'Time to first token',
  tpat: 'Time per token, input and output',
  tpot: 'Time per output token',
};

/** Those that have an objective; without one the end-to-end latency. */
function plottedSlos(profile: GpuProfile, decisions: readonly CellDecision[]): readonly TimeName[] {
  const measured = times.filter((name) => decisions.some((cell) => pointsOf(cell, name, 'mean').length > 0));
  const set = measured.filter((name) => profile.slos[name] !== undefined);
  return set.length > 0 ? set : measured.slice(0, 1);
}

type Point = {
  readonly rate: number;
  readonly value: number;
  readonly mark: MarkName;
  readonly chosen: boolean;
};

/** What became of a run: it meets the SLO and keeps up with its arrivals, meets it and falls behind, or misses it. */
type MarkName = 'meets' | 'behind' | 'misses';

/** What a logarithmic picture can show of a cell: finite rates, times above 0. */
function pointsOf(cell: CellDecision, name: TimeName, column: Parameters<typeof sloValue>[2]): readonly Point[] {
  return cell.candidates.flatMap(({ run, refused, keepsUp }) => {
    const value = sloValue(run, name, column);
    if (value === null || value <= 0 || !Number.isFinite(run.requestRate)) return [];
    const mark = refused !== null ? 'misses' : keepsUp ? 'meets' : 'behind';
    return [{ rate: run.requestRate, value, mark, chosen: run === cell.chosen }];
  });
}

const panel = { height: 150, gapX: 22, gapY: 48, left: 52 } as const;

function drawCurves(
  parts: string[],
  options: {
    readonly profile: GpuProfile;
    readonly decisions: readonly CellDecision[];
    readonly name: TimeName;
    readonly top: number;
  },
): number {
  const { profile, decisions, name, top } = options;
  const percentile = profile.slos.percentile ?? 0;
  const column = percentile === 0 ? 'mean' : (`P${percentile}` as Parameters<typeof sloValue>[2]);
  const [outputs = [], inputs = []] = profile.grid.indexes;
  const limit = profile.slos[name];
  const curves = decisions.map((cell) => ({ cell, points: pointsOf(cell, name, column) }));
  const all = curves.flatMap(({ points }) => points);
  if (all.length === 0) return top - 34;
  const values = [...all.map(({ value }) => value), ...(limit === undefined || limit <= 0 ? [] : [limit])];
  const rates = extent(all.map(({ rate }) => rate));
  const domain = extent(values);

  const limitText = limit === undefined ? '' : `, SLO ${seconds(limit)}`;
  const heading = `${timeTitles[name]} by request rate (${column}${limitText})`;
  parts.push(text(page.margin, top + 12, heading, { size: 16, weight: 650 }));
  const hasLimit = limit !== undefined && limit > 0;
  const legendBottom = drawLineLegend(parts, { inputs, hasLimit, baseline: top + 34 });

  const shown = outputs.filter((count) =>
    curves.some(({ cell, points }) => cell.outputTokens === count && points.length > 0),
  );
  const perRow = panelsPerRow(shown.length);
  const columns = scaleBand(
    Array.from({ length: perRow }, (_, i) => i),
    [page.margin + panel.left, page.width - page.margin],
  ).paddingInner(panel.gapX / ((page.width - 2 * page.margin) / perRow));
  const first = legendBottom + 32;
  for (const [i, outputTokens] of shown.entries()) {
    const place = { x: columns(i % perRow)!, y: first + Math.floor(i / perRow) * (panel.height + panel.gapY) };
    drawPanel(parts, {
      ...place,
      width: Math.min(columns.bandwidth(), widestPanel),
      hasAxis: i % perRow === 0,
      rates,
      domain,
      limit: limit ?? null,
      title: `${tokens(outputTokens)} output tokens`,
      lines: curves.flatMap(({ cell, points }) =>
        cell.outputTokens === outputTokens && points.length > 0
          ? [
              {
                colour: hueOf(inputs.indexOf(cell.inputTokens), inputs.length),
                points,
                label: `${cell.inputTokens} in`,
              },
            ]
          : [],
      ),
    });
  }
  const rows = Math.ceil(shown.length / perRow);
  const bottom = first + rows * panel.height + (rows - 1) * panel.gapY + 40;
  const right = columns(perRow - 1)! + Math.min(columns.bandwidth(), widestPanel);
  const middle = (columns(0)! + right) / 2;
  parts.push(text(middle, bottom - 2, 'requests/s offered', { fill: page.faint, anchor: 'middle' }));
  return bottom;
}

/** One alone need not fill the page. */
const widestPanel = 460;

/** Rows of about equal length, of at most five panels. */
function panelsPerRow(count: number): number {
  return count <= 5 ? count : Math.ceil(count / Math.ceil(count / 4));
}

function extent(values: readonly number[]): readonly [number, number] {
  const low = values.reduce((least, value) => Math.min(least, value), Number.POSITIVE_INFINITY);
  const high = values.reduce((most, value) => Math.max(most, value), 0);
  return [low / 1.25, high * 1.25];
}

/** A colour of the row from short to long prompts. */
function hueOf(index: number, count: number): string {
  const scale = scaleLinear<string>(
    hues.map((_, i) => i),
    [...hues],
  );
  return scale(count <= 1 ? 0 : (index / (count - 1)) * (hues.length - 1));
}

/** What the names of the marks and of the limit take, with some room. */
const marksWidth = 640;

/** Draws what colours and marks mean; the baseline of the last line. */
function drawLineLegend(
  parts: string[],
  options: { readonly inputs: readonly number[]; readonly hasLimit: boolean; readonly baseline: number },
): number {
  const { inputs, hasLimit } = options;
  let { baseline } = options;
  let x: number = page.margin;
  const word = (label: string): void => {
    parts.push(text(x, baseline, label, { size: 12.5, fill: page.faint }));
    x += widthOf(label, 12.5) + 13;
  };
  word('input tokens:');
  for (const [i, count] of inputs.entries()) {
    // Many columns: the ends and some between tell the row of colours.
    if (inputs.length > 8 && i % Math.ceil(inputs.length / 6) !== 0 && i !== inputs.length - 1) continue;
    parts.push(
      `<line x1="${round(x)}" x2="${round(x + 18)}" y1="${baseline - 4}" y2="${baseline - 4}" stroke="${hueOf(i, inputs.length)}" stroke-width="2.6"/>`,
    );
    x += 23;
    word(tokens(count));
  }
  x += 14;
  // Beside many colours the marks would run out of the page.
  if (x > page.width - page.margin - marksWidth) {
    baseline += 20;
    x = page.margin + 6;
  }
  parts.push(drawMark({ x, y: baseline - 4, mark: 'meets', chosen: true, colour: page.ink, hint: '' }));
  x += 11;
  word('chosen');
  const meanings: readonly [MarkName, string][] = [
    ['meets', 'meets the SLO'],
    ['behind', 'meets it, but falls behind its arrivals'],
    ['misses', 'misses it'],
  ];
  for (const [mark, meaning] of meanings) {
    x += 10;
    parts.push(drawMark({ x, y: baseline - 4, mark, chosen: false, colour: page.ink, hint: '' }));
    x += 9;
    word(meaning);
  }
  if (!hasLimit) return baseline;
  x += 6;
  parts.push(`<line x1="${round(x)}" x2="${round(x + 20)}" y1="${baseline - 4}" y2="${baseline - 4}" ${limitStroke}/>`);
  x += 25;
  word('SLO');
  return baseline;
}

function drawMark(options: {
  readonly x: number;
  readonly y: number;
  readonly mark: MarkName;
  readonly chosen: boolean;
  readonly colour: string;
  readonly hint: string;
}): string {
  const { mark, chosen, colour, hint } = options;
  const x = round(options.x);
  const y = round(options.y);
  const title = hint === '' ? '' : `<title>${xml(hint)}</title>`;
  const ring = chosen ? `<circle cx="${x}" cy="${y}" r="5.4" fill="none" stroke="${colour}" stroke-width="1.8"/>` : '';
  if (mark === 'misses') {
    const arms = `M${round(x - 2.6)},${round(y - 2.6)}l5.2,5.2m0,-5.2l-5.2,5.2`;
    return `<path d="${arms}" fill="none" stroke="${colour}" stroke-width="1.4">${title}</path>${ring}`;
  }
  const fill = mark === 'meets' ? colour : '#ffffff';
  return `<circle cx="${x}" cy="${y}" r="2.7" fill="${fill}" stroke="${colour}" stroke-width="1.2">${title}</circle>${ring}`;
}

const limitStroke = `stroke="${page.slo}" stroke-width="1.4" stroke-dasharray="6 4"`;

/** Nearer than this two labels of an axis touch. */
const labelHeight = 13;

type Panel = {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly hasAxis: boolean;
  readonly rates: readonly [number, number];
  readonly domain: readonly [number, number];
  readonly limit: number | null;
  readonly title: string;
  readonly lines: readonly { readonly colour: string; readonly points: readonly Point[]; readonly label: string }[];
};

function drawPanel(parts: string[], options: Panel): void {
  const { x, y, width, hasAxis, rates, domain, limit, title, lines } = options;
  const across = scaleLog(rates, [x, x + width]);
  const up = scaleLog(domain, [y + panel.height, y]);
  parts.push(text(x, y - 7, title, { size: 12.5, weight: 600 }));
  parts.push(
    `<rect x="${round(x)}" y="${y}" width="${round(width)}" height="${panel.height}" fill="#fbfcfd" stroke="${page.grid}"/>`,
  );
  const limitAt = limit !== null && limit > 0 ? round(up(limit)) : null;
  for (const tick of decades(domain, 5)) {
    const at = round(up(tick));
    const isFree = limitAt === null || Math.abs(at - limitAt) >= labelHeight;
    parts.push(`<line x1="${round(x)}" x2="${round(x + width)}" y1="${at}" y2="${at}" stroke="${page.grid}"/>`);
    if (hasAxis && isFree)
      parts.push(text(x - 7, at + 4, seconds(tick), { size: 11.5, fill: page.faint, anchor: 'end' }));
  }
  for (const tick of decades(rates, Math.floor(width / 42))) {
    const at = round(across(tick));
    parts.push(`<line x1="${at}" x2="${at}" y1="${y}" y2="${y + panel.height}" stroke="${page.grid}"/>`);
    parts.push(text(at, y + panel.height + 15, rateTick(tick), { size: 11.5, fill: page.faint, anchor: 'middle' }));
  }
  if (limit !== null && limitAt !== null) {
    parts.push(`<line x1="${round(x)}" x2="${round(x + width)}" y1="${limitAt}" y2="${limitAt}" ${limitStroke}/>`);
    // Beside the axis: within it the name would stand on the curves.
    if (hasAxis) {
      parts.push(text(x - 7, limitAt + 4, seconds(limit), { size: 11.5, fill: page.slo, weight: 600, anchor: 'end' }));
    }
  }
  const path = line<Point>(
    (point) => round(across(point.rate)),
    (point) => round(up(point.value)),
  );
  for (const { colour, points, label } of lines) {
    parts.push(
      `<path d="${path([...points])}" fill="none" stroke="${colour}" stroke-width="1.8" stroke-linejoin="round"/>`,
    );
    for (const { rate, value, mark, chosen } of points) {
      const hint = `${label}, ${rate}/s: ${seconds(value)}`;
      parts.push(drawMark({ x: across(rate), y: up(value), mark, chosen, colour, hint }));
    }
  }
}

/**
 * Round numbers within a logarithmic range, at most so many: 1, 2, 5 per decade, else whole decades, else some. A range
 * so narrow that it has fewer than two of them gets those of a linear axis.
 */
function decades([low, high]: readonly [number, number], most: number): readonly number[] {
  const from = Math.floor(Math.log10(low));
  const to = Math.ceil(Math.log10(high));
  for (const steps of [[1, 2, 5], [1, 3], [1]]) {
    const ticks: number[] = [];
    for (let power = from; power <= to; power++) {
      for (const step of steps) {
        const tick = Number((step * 10 ** power).toPrecision(1));
        if (tick >= low && tick <= high) ticks.push(tick);
      }
    }
    if (ticks.length < 2 && steps.length === 3) {
      const linear = scaleLinear([low, high], [0, 1]).ticks(Math.min(3, most));
      return linear.filter((tick) => tick >= low && tick <= high);
    }
    if (ticks.length <= most) return ticks;
    if (steps.length === 1) return ticks.filter((_, i) => i % Math.ceil(ticks.length / most) === 0);
  }
  return [];
}

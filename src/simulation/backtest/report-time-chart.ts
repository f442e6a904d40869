import { area, curveStepAfter, line, stack } from 'd3-shape';
import { type Axis, clockAxis } from './report-axes.js';
import { escaped, px, svgRule, svgText } from './report-markup.js';

/** Pictures over time, as SVG without colours of its own: those come from the classes of the page. Pure. */

/** Wide for a screen, narrow for a phone; in pixels. */
export type ChartSize = { readonly width: number; readonly height: number; readonly isNarrow: boolean };

/** One line: a value for each column, null where there is none. */
export type ChartLine = {
  readonly values: readonly (number | null)[];
  /** Its colour and dashes. */
  readonly className: string;
  readonly filled?: boolean;
};

/** One layer of a stack. */
export type ChartLayer = { readonly values: readonly number[]; readonly className: string };

export type TimeChart = {
  readonly size: ChartSize;
  /** What it shows, for those who cannot see it. */
  readonly description: string;
  readonly yTitle: string;
  readonly y: Axis;
  /** Seconds of the trace at the middle of each column; those of lines that have another length. */
  readonly atSeconds: readonly number[];
  readonly columnSeconds: number;
  readonly lines?: readonly ChartLine[];
  readonly layers?: readonly ChartLayer[];
  /** A level that is aimed at. */
  readonly limit?: { readonly value: number; readonly label: string };
};

const margins = { top: 24, right: 14, bottom: 40 } as const;

/** Draws it. */
export function drawTimeChart(chart: TimeChart): string {
  const { size, y, atSeconds, columnSeconds, lines = [], layers = [] } = chart;
  const left = leftMargin(y);
  const right = size.width - margins.right;
  const bottom = size.height - margins.bottom;
  const half = columnSeconds / 2;
  const fromSeconds = (atSeconds[0] ?? half) - half;
  const toSeconds = (atSeconds.at(-1) ?? half) + half;
  const clock = clockAxis({ fromSeconds, toSeconds, ticks: size.isNarrow ? 6 : size.width > 800 ? 14 : 8 });
  const xOf = (seconds: number): number => left + clock.position(seconds) * (right - left);
  const yOf = (value: number): number => bottom - Math.min(1, Math.max(0, y.position(value))) * (bottom - margins.top);
  const parts = [...frame({ y, yOf, left, right, bottom, yTitle: chart.yTitle })];
  for (const { value, label } of clock.ticks) {
    parts.push(svgRule({ from: [xOf(value), bottom], to: [xOf(value), bottom + 4], className: 'axis' }));
    parts.push(svgText({ x: xOf(value), y: bottom + 17, content: label, className: 'tick', anchor: 'middle' }));
  }
  parts.push(
    svgText({
      x: (left + right) / 2,
      y: bottom + 34,
      content: `${clock.unit} of the trace`,
      className: 'name',
      anchor: 'middle',
    }),
  );
  parts.push(...drawLayers(layers, { atSeconds, half, xOf, yOf }));
  for (const one of lines) parts.push(...drawLine(one, { atSeconds, half, xOf, yOf, bottom }));
  if (chart.limit !== undefined) {
    const at = yOf(chart.limit.value);
    parts.push(svgRule({ from: [left, at], to: [right, at], className: 'limit' }));
    parts.push(
      svgText({ x: right - 4, y: at - 5, content: chart.limit.label, className: 'limit-name', anchor: 'end' }),
    );
  }
  return svg(size, chart.description, parts);
}

/** An SVG of the page, with its description. */
export function svg(size: ChartSize, description: string, parts: readonly string[]): string {
  return [
    `<svg class="${size.isNarrow ? 'narrow' : 'wide'}" viewBox="0 0 ${size.width} ${size.height}" role="img" aria-label="${escaped(description)}">`,
    ...parts,
    '</svg>',
  ].join('\n');
}

/** Room for the longest name of the axis. */
export function leftMargin(y: Axis): number {
  const longest = y.ticks.reduce((most, { label }) => Math.max(most, label.length), 1);
  return 16 + 7.2 * longest;
}

/** The grid, the names of the vertical axis, and its title above it. */
export function frame(options: {
  readonly y: Axis;
  readonly yOf: (value: number) => number;
  readonly left: number;
  readonly right: number;
  readonly bottom: number;
  readonly yTitle: string;
}): readonly string[] {
  const { y, yOf, left, right, bottom, yTitle } = options;
  const parts = [svgText({ x: 2, y: 12, content: yTitle, className: 'name' })];
  for (const { value, label } of y.ticks) {
    const at = yOf(value);
    parts.push(svgRule({ from: [left, at], to: [right, at], className: 'grid' }));
    parts.push(svgText({ x: left - 7, y: at + 4, content: label, className: 'tick', anchor: 'end' }));
  }
  parts.push(svgRule({ from: [left, bottom], to: [right, bottom], className: 'axis' }));
  return parts;
}

type Place = {
  readonly atSeconds: readonly number[];
  readonly half: number;
  readonly xOf: (seconds: number) => number;
  readonly yOf: (value: number) => number;
};

/** A column reaches from its beginning to its end, so that a step of the fleet looks like one. */
function drawLayers(layers: readonly ChartLayer[], { atSeconds, half, xOf, yOf }: Place): readonly string[] {
  if (layers.length === 0 || atSeconds.length === 0) return [];
  const columns = [...atSeconds.keys()];
  const stacked = stack<number, ChartLayer>()
    .keys(layers)
    .value((column, layer) => layer.values[column] ?? 0)(columns);
  return stacked.map((band) => {
    const points = [...band.map(([low, high], column) => ({ column, low, high }))];
    const last = points.at(-1)!;
    const shape = area<{ column: number; low: number; high: number }>()
      .curve(curveStepAfter)
      .digits(1)
      .x(({ column }) => px(xOf(column < atSeconds.length ? atSeconds[column]! - half : atSeconds.at(-1)! + half)))
      .y0(({ low }) => px(yOf(low)))
      .y1(({ high }) => px(yOf(high)));
    return `<path class="layer ${band.key.className}" d="${shape([...points, { ...last, column: atSeconds.length }])}"/>`;
  });
}

function drawLine(one: ChartLine, place: Place & { readonly bottom: number }): readonly string[] {
  const { atSeconds, xOf, yOf, bottom } = place;
  const points = one.values.map((value, column) => ({ value, seconds: atSeconds[column] ?? 0 }));
  const path = line<{ value: number | null; seconds: number }>()
    .digits(1)
    .defined(({ value }) => value !== null)
    .x(({ seconds }) => px(xOf(seconds)))
    .y(({ value }) => px(yOf(value ?? 0)))(points);
  if (path === null || path === '') return [];
  const parts: string[] = [];
  if (one.filled === true) {
    const below = area<{ value: number | null; seconds: number }>()
      .digits(1)
      .defined(({ value }) => value !== null)
      .x(({ seconds }) => px(xOf(seconds)))
      .y0(bottom)
      .y1(({ value }) => px(yOf(value ?? 0)))(points);
    parts.push(`<path class="under ${one.className}" d="${below}"/>`);
  }
  parts.push(`<path class="line ${one.className}" d="${path}"/>`);
  return parts;
}

import {
  line,
  type SymbolType,
  symbol,
  symbolCircle,
  symbolCross,
  symbolDiamond,
  symbolSquare,
  symbolStar,
  symbolTriangle,
  symbolWye,
} from 'd3-shape';
import type { BacktestDocument, BacktestRun } from './backtest-document.js';
import type { FrontierPoint } from './frontier.js';
import { type PolicyName, policyNames } from './policy-names.js';
import { ninesAxis, rangeAxis } from './report-axes.js';
import { escaped, px, svgRule, svgText } from './report-markup.js';
import { attainmentText, errorText, knobUnitText, targetText, usdText } from './report-numbers.js';
import { type ChartSize, frame, leftMargin, svg } from './report-time-chart.js';

/** Cost versus attainment: every run a mark, every policy's frontier a line, below them what no fleet can reach. Pure. */

/** A shape for each policy: colours alone do not tell seven of them apart for everybody. */
const marks: Readonly<Record<PolicyName, SymbolType>> = {
  gpumix: symbolCircle,
  'gpumix-reactive': symbolWye,
  aibrix: symbolSquare,
  'hpa-concurrency': symbolTriangle,
  'hpa-utilisation': symbolDiamond,
  'single-type-best': symbolCross,
  static: symbolStar,
};

/** The class of a policy's colour and dashes. */
export function policyClass(policy: PolicyName): string {
  return `p${policyNames.indexOf(policy)}`;
}

/** The mark of a policy as a path around 0,0. */
export function policyMark(policy: PolicyName, area = 52): string {
  return symbol(marks[policy], area).digits(1)() ?? '';
}

/** Above: the name of the scale, and below that the aim, which may lie right beside it. */
const margins = { top: 38, bottom: 42 } as const;
/** Nearer than this two names touch [px]. */
const nameHeight = 15;

/** Draws it; null where there is no run. */
export function drawFrontierChart(document: BacktestDocument, size: ChartSize): string | null {
  const { runs, frontiers, oracle, asked } = document;
  const exact = runs.filter((run) => run.profileError === 0);
  if (exact.length === 0) return null;
  const seen = exact.map(({ result }) => result);
  const shares = [...seen.map(({ attainment }) => attainment), asked.targetAttainment];
  const low = Math.min(...shares);
  const high = Math.max(...shares);
  // The oracle is drawn where policies are: its bound for half the requests would only push them together.
  const bounds = (oracle?.points ?? []).filter(({ attainment }) => attainment >= low && attainment <= high);
  const costs = [...seen.map(({ usd }) => usd), ...bounds.map(({ usd }) => usd)];
  const x = ninesAxis({ low, high, finest: finestOf(shares), spacing: size.isNarrow ? 0.15 : 0.07 });
  const y = rangeAxis({ from: Math.min(...costs), to: Math.max(...costs), ticks: 7, label: moneyTick });
  const left = leftMargin(y);
  const right = size.width - (size.isNarrow ? 20 : 146);
  const bottom = size.height - margins.bottom;
  const xOf = (share: number): number => left + Math.min(1, Math.max(0, x.position(share))) * (right - left);
  const yOf = (usd: number): number => bottom - Math.min(1, Math.max(0, y.position(usd))) * (bottom - margins.top);
  const parts = [...frame({ y, yOf, left, right, bottom, yTitle: size.isNarrow ? 'USD' : 'USD over the scored span' })];
  for (const { value, label } of x.ticks) {
    parts.push(svgRule({ from: [xOf(value), margins.top], to: [xOf(value), bottom], className: 'grid' }));
    parts.push(svgText({ x: xOf(value), y: bottom + 17, content: label, className: 'tick', anchor: 'middle' }));
  }
  parts.push(
    svgText({
      x: (left + right) / 2,
      y: bottom + 36,
      content: size.isNarrow
        ? 'attainment'
        : 'attainment: share of requests within the objective (better to the right)',
      className: 'name',
      anchor: 'middle',
    }),
  );
  parts.push(...drawTarget(asked.targetAttainment, { xOf, bottom }));
  parts.push(...drawOracle(bounds, { xOf, yOf, left, right, bottom }));
  for (const { policy, points } of [...frontiers].reverse()) {
    parts.push(...drawPolicy({ policy, points, runs: exact.filter((run) => run.policy === policy), xOf, yOf }));
  }
  if (!size.isNarrow) parts.push(...drawNames(document, bounds, { xOf, yOf, bottom }));
  return svg(size, `Cost against attainment of ${frontiers.length} policies`, parts);
}

/** Half the smallest share of misses there is: below it 100 % begins. */
function finestOf(shares: readonly number[]): number {
  const misses = shares.map((share) => 1 - share).filter((miss) => miss > 1e-9);
  return Math.min(2e-3, Math.max(1e-5, (misses.length === 0 ? 1e-3 : Math.min(...misses)) / 2));
}

function moneyTick(usd: number): string {
  return usd >= 1 || usd === 0 ? usd.toLocaleString('en-US') : String(Number(usd.toPrecision(3)));
}

type Place = { readonly xOf: (share: number) => number; readonly yOf: (usd: number) => number };

function drawTarget(
  target: number,
  { xOf, bottom }: Pick<Place, 'xOf'> & { readonly bottom: number },
): readonly string[] {
  const at = xOf(target);
  return [
    svgRule({ from: [at, margins.top], to: [at, bottom], className: 'limit' }),
    svgText({
      x: at - 4,
      y: margins.top - 6,
      content: `aim ${targetText(target)}`,
      className: 'limit-name',
      anchor: 'middle',
    }),
  ];
}

/** A bound holds from its attainment up to that of the next one: steps, and the ground below them. */
function drawOracle(
  bounds: readonly FrontierPoint[],
  place: Place & { readonly left: number; readonly right: number; readonly bottom: number },
): readonly string[] {
  if (bounds.length === 0) return [];
  const { xOf, yOf, right, bottom } = place;
  const points = [...bounds].sort((a, b) => a.attainment - b.attainment);
  let path = `M${px(xOf(points[0]!.attainment))} ${px(yOf(points[0]!.usd))}`;
  for (const { attainment, usd } of points.slice(1)) path += `H${px(xOf(attainment))}V${px(yOf(usd))}`;
  path += `H${px(right)}`;
  return [
    `<path class="ground" d="${path}V${px(bottom)}H${px(xOf(points[0]!.attainment))}Z"/>`,
    `<path class="oracle" d="${path}"/>`,
  ];
}

function drawPolicy(
  options: Place & {
    readonly policy: PolicyName;
    readonly points: readonly FrontierPoint[];
    readonly runs: readonly BacktestRun[];
  },
): readonly string[] {
  const { policy, points, runs, xOf, yOf } = options;
  const path = line<FrontierPoint>()
    .digits(1)
    .x(({ attainment }) => px(xOf(attainment)))
    .y(({ usd }) => px(yOf(usd)))([...points]);
  const onFrontier = new Set(points.map(({ attainment, usd }) => `${attainment} ${usd}`));
  const parts = points.length > 1 ? [`<path class="line ${policyClass(policy)} front" d="${path}"/>`] : [];
  for (const run of runs) {
    const { attainment, usd } = run.result;
    const beaten = !onFrontier.has(`${attainment} ${usd}`);
    const hint = [
      run.variant === null ? policy : `${policy}, ${run.variant}`,
      ...(run.knob === null ? [] : [knobUnitText(run.knob)]),
      `${attainmentText(attainment)} for ${usdText(usd)} USD`,
      ...(run.profileError === 0 ? [] : [`profiles ${errorText(run.profileError)}`]),
    ].join(', ');
    const ring = run.isMain ? '<circle class="ring" r="8.5"/>' : '';
    parts.push(
      `<g class="mark ${policyClass(policy)}${beaten ? ' beaten' : ''}" transform="translate(${px(xOf(attainment))} ${px(yOf(usd))})"><title>${escaped(hint)}</title>${ring}<path d="${policyMark(policy)}"/></g>`,
    );
  }
  return parts;
}

/** Each name beside the end of its line, moved apart where they would stand upon each other. */
function drawNames(
  { frontiers }: BacktestDocument,
  bounds: readonly FrontierPoint[],
  { xOf, yOf, bottom }: Place & { readonly bottom: number },
): readonly string[] {
  const ends: { readonly name: string; readonly className: string; readonly point: FrontierPoint }[] = [
    ...frontiers.flatMap(({ policy, points }) => {
      const point = points.at(-1);
      return point === undefined ? [] : [{ name: policy, className: policyClass(policy), point }];
    }),
    ...bounds.slice(-1).map((point) => ({ name: 'oracle', className: 'po', point })),
  ].sort((a, b) => yOf(a.point.usd) - yOf(b.point.usd));
  const places = ends.map(({ point }) => yOf(point.usd) + 4);
  for (let i = 1; i < places.length; i++) places[i] = Math.max(places[i]!, places[i - 1]! + nameHeight);
  // Those pushed below the picture push the others up.
  for (let i = places.length - 1, most = bottom - 4; i >= 0; i--, most = places[i + 1]! - nameHeight) {
    places[i] = Math.min(places[i]!, most);
  }
  return ends.map(({ name, className, point }, i) =>
    svgText({ x: xOf(point.attainment) + 13, y: places[i]!, content: name, className: `end ${className}` }),
  );
}

import { max } from 'd3-array';
import { type BacktestDocument, type BacktestRun, type MatchedAttainment, oracleRatio } from './backtest-document.js';
import type { FrontierPosition, MatchedCost } from './frontier.js';
import { countAxis, ninesAxis, timeAxis } from './report-axes.js';
import { drawFrontierChart, policyClass, policyMark } from './report-frontier-chart.js';
import { cutName, escaped } from './report-markup.js';
import {
  attainmentText,
  errorText,
  knobText,
  positionText,
  quantityText,
  secondsText,
  shareText,
  spanText,
  targetText,
  usdText,
  wholeText,
} from './report-numbers.js';
import { gpuClasses, reportStyle } from './report-style.js';
import { fleetTable, gpuHoursTable, latencyTable, policyList, runsTable } from './report-tables.js';
import { type ThinSeries, thinSeries } from './report-thin.js';
import { type ChartSize, drawTimeChart } from './report-time-chart.js';

/**
 * A backtest as a page for people: one HTML file without scripts and without anything from elsewhere, light or dark as the
 * reader's system is, for screens and phones. Pure: the same document gives the same bytes.
 */
export function reportPage(document: BacktestDocument): string {
  const { asked } = document;
  const title = `Backtest of ${cutName(asked.trace.split(/[\\/]/).at(-1) ?? asked.trace, 80)}`;
  return [
    '<!doctype html>',
    '<html lang="en">',
    '<head>',
    '<meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    `<title>${escaped(title)} · gpumix</title>`,
    `<style>${reportStyle()}</style>`,
    '</head>',
    '<body><main>',
    `<h1>${escaped(title)}</h1>`,
    `<p class="faint">${escaped(spanSentence(document))}</p>`,
    ...verdict(document),
    ...cards(document),
    ...notices(document),
    ...matchedSection(document),
    ...frontierSection(document),
    ...timeSections(document),
    '<h2>What users felt</h2>',
    '<p class="note">Of the requests that were answered in the scored span, each policy at its usual knob.</p>',
    latencyTable(document),
    '<h2>Every run</h2>',
    `<p class="note">${escaped(runsNote(document))}</p>`,
    runsTable(document),
    gpuHoursTable(document),
    ...assumptions(document),
    '</main></body>',
    '</html>',
    '',
  ].join('\n');
}

function spanSentence({ window, asked, fleet }: BacktestDocument): string {
  const models = [...new Set(fleet.deployments.map(({ model }) => model))].join(', ');
  const copies = asked.copies === 1 ? '' : `${quantityText(asked.copies)} copies of `;
  const span = window.toSeconds - window.scoredFromSeconds;
  return `${wholeText(window.requests)} requests to ${models} over ${spanText(span)} (${copies}the trace, scored after a warm-up of ${spanText(window.scoredFromSeconds - window.fromSeconds)}), served by simulated replicas.`;
}

/** The answer in one sentence. */
function verdict(document: BacktestDocument): readonly string[] {
  const target = document.matched.find(({ at }) => at === 'target');
  if (target === undefined) return [];
  const own = target.costs.find(({ policy }) => policy === target.policy);
  if (own === undefined) return [];
  const aim = targetText(target.attainment);
  if (own.usd === null) {
    const most = document.frontiers.find(({ policy }) => policy === target.policy)?.points.at(-1)?.attainment;
    const reach = most === undefined ? 'no run' : `at most ${attainmentText(most)}`;
    return [
      `<p class="verdict"><strong>${target.policy}</strong> does not reach ${aim} attainment in any of its runs: ${reach}.</p>`,
    ];
  }
  const isLimit = own.basis === 'attains-more';
  const savings = target.costs.flatMap(({ policy, saving }) => (saving === null ? [] : [{ policy, saving }]));
  const compared = savings.map(({ policy, saving }) =>
    saving >= 0
      ? `${isLimit ? 'at least ' : ''}<strong>${shareText(saving)}</strong> less than ${policy}`
      : `${isLimit ? 'at most ' : ''}<strong>${shareText(-saving)}</strong> more than ${policy}`,
  );
  const cheapest = document.frontiers.find(({ policy }) => policy === target.policy)?.points[0]?.knob;
  const run = document.runs.find(
    ({ policy, profileError, knob }) => policy === target.policy && profileError === 0 && knob?.value === cheapest,
  );
  // The cards below are of the usual knob: who reads two amounts must know why.
  const which = isLimit && run?.knob && !run.isMain ? ` (its cheapest run, ${knobText(run.knob)})` : '';
  const bound =
    own.oracleRatio === null ? '' : ` No fleet could do it below ${shareText(1 / own.oracleRatio, 0)} of that.`;
  const rest = compared.length === 0 ? '.' : `: ${joined(compared)}.`;
  return [
    `<p class="verdict">To serve ${aim} of the requests within the objective, <strong>${target.policy}</strong> costs ${isLimit ? 'at most ' : ''}<strong>${usdText(own.usd)} USD</strong>${escaped(which)}${rest}${bound}</p>`,
  ];
}

function joined(parts: readonly string[]): string {
  return parts.length < 2 ? parts.join('') : `${parts.slice(0, -1).join(', ')} and ${parts.at(-1)}`;
}

function cards(document: BacktestDocument): readonly string[] {
  const run = document.runs.find(({ isMain }) => isMain);
  if (run === undefined) return [];
  const { result } = run;
  const ratio = oracleRatio(run, document.oracle);
  const facts: readonly (readonly [string, string])[] = [
    [`${usdText(result.usd)} USD`, result.hours > 0 ? `${usdText(result.usd / result.hours)} USD per hour` : 'in all'],
    ...(result.usdPerMillionTokens === null
      ? []
      : [[`${usdText(result.usdPerMillionTokens)} USD`, 'per million tokens, input and output'] as const]),
    [attainmentText(result.attainment), `attained; ${targetText(document.asked.targetAttainment)} aimed at`],
    ...(ratio === null ? [] : [[`${ratio.toFixed(2)} ×`, 'the oracle’s bound at that attainment'] as const]),
    ...(result.ttft === null ? [] : [[secondsText(result.ttft.p95), 'TTFT of the 95th percentile'] as const]),
    [quantityText(result.meanReplicas), `replicas on average, busy ${shareText(result.utilization, 0)} of the time`],
  ];
  return [
    `<h3>${run.policy}, as its user has it${run.knob === null ? '' : `: ${escaped(knobText(run.knob))}`}</h3>`,
    '<div class="cards">',
    ...facts.map(([figure, what]) => `<div class="card"><b>${withUnit(figure)}</b><span>${escaped(what)}</span></div>`),
    '</div>',
  ];
}

/** The unit smaller than the figure. */
function withUnit(figure: string): string {
  const [, number, unit] = /^(.*\S) (\S+)$/.exec(figure) ?? [null, figure, ''];
  return unit === '' ? escaped(number!) : `${escaped(number!)} <i>${escaped(unit!)}</i>`;
}

function notices({ notices: all }: BacktestDocument): readonly string[] {
  if (all.length === 0) return [];
  const lines = all.map(
    ({ message, policy }) => `<p>${policy === undefined ? '' : `${policy}: `}${escaped(message)}</p>`,
  );
  return ['<div class="notices" role="note">', ...lines, '</div>'];
}

function matchedSection(document: BacktestDocument): readonly string[] {
  const { matched, positions, oracle } = document;
  if (matched.length === 0 || document.asked.policies.length < 2) return [];
  const floor = oracle === null ? '' : ' The dashed line is the oracle: nobody can be cheaper.';
  return [
    '<h2>What the same service costs</h2>',
    `<p class="note">Policies compared at one attainment, read off their frontiers; a policy that was never seen there has no number.${floor}</p>`,
    ...matched.flatMap((one) => matchedBars(document, one)),
    ...positionSentences(positions),
  ];
}

function matchedBars(document: BacktestDocument, matched: MatchedAttainment): readonly string[] {
  const { attainment, oracleUsd, costs, at, policy: own } = matched;
  const most = max([...costs.map(({ usd }) => usd ?? 0), oracleUsd ?? 0]) ?? 0;
  const share = (usd: number): string => (most > 0 ? (100 * usd) / most : 0).toFixed(2);
  const name =
    at === 'target'
      ? `At ${targetText(attainment)}, which is aimed at`
      : `At ${attainmentText(attainment)}, which ${own} attains`;
  const floor =
    oracleUsd === null
      ? ''
      : `<span class="floor" style="left:${share(oracleUsd)}%" title="oracle: ${usdText(oracleUsd)} USD"></span>`;
  const isLimit = costs.find(({ policy }) => policy === own)?.basis === 'attains-more';
  const rows = costs.map((cost) => {
    const reach = document.frontiers.find(({ policy }) => policy === cost.policy)?.points.at(-1)?.attainment;
    const none =
      cost.usd === null
        ? `<span class="none">${reach === undefined ? 'no run' : `attains at most ${attainmentText(reach)}`}</span>`
        : `<span class="fill ${policyClass(cost.policy)}${cost.basis === 'attains-more' ? ' most' : ''}" style="width:${share(cost.usd)}%"></span>`;
    return `<span class="who">${cost.policy}</span><span class="track">${none}${floor}</span>${figureOf(cost, { own, isLimit })}`;
  });
  return [`<h3>${name}</h3>`, '<div class="bars">', ...rows, '</div>'];
}

/** Whose cost is compared, and whether it is counted in full although its cheapest run attains more. */
type Compared = { readonly own: string; readonly isLimit: boolean };

function figureOf(cost: MatchedCost, compared: Compared): string {
  const limit = cost.basis === 'attains-more' ? '≤ ' : '';
  const money = cost.usd === null ? '–' : `${limit}${usdText(cost.usd)} USD`;
  const { words, mood } = remarkOf(cost, compared);
  return `<span class="figure">${money}</span><span class="remark${mood === '' ? '' : ` ${mood}`}">${words}</span>`;
}

function remarkOf(
  cost: MatchedCost,
  { own, isLimit }: Compared,
): { readonly words: string; readonly mood: '' | 'good' | 'bad' } {
  if (cost.saving !== null) {
    return cost.saving >= 0
      ? { words: `${own} saves ${isLimit ? 'at least ' : ''}${shareText(cost.saving)}`, mood: 'good' }
      : { words: `${own} is ${isLimit ? 'at most ' : ''}${shareText(-cost.saving)} dearer`, mood: 'bad' };
  }
  if (cost.basis === 'attains-more') return { words: 'its cheapest run attains more', mood: '' };
  return { words: cost.oracleRatio === null ? '' : `${cost.oracleRatio.toFixed(2)} × the oracle`, mood: '' };
}

function positionSentences(positions: readonly FrontierPosition[]): readonly string[] {
  if (positions.length === 0) return [];
  const own = positions[0]!.policy;
  const items = positions.map((position) => `<li>${escaped(positionText(position))}</li>`);
  const all = positions.every(({ onOrBelow }) => onOrBelow);
  const intro = all
    ? `The frontier of ${own} lies on or below that of every other causal policy, wherever those were run.`
    : `How the frontier of ${own} lies to those of the other causal policies:`;
  return [`<p class="note">${intro}</p>`, ...(all ? [] : [`<ul class="note">${items.join('')}</ul>`])];
}

const wide = { width: 1130, isNarrow: false } as const;
const half = { width: 552, isNarrow: false } as const;
const narrow = { width: 380, isNarrow: true } as const;

/** The same picture for screens and for phones; style sheets show one of them. */
function pictures(
  draw: (size: ChartSize) => string | null,
  screen: { readonly width: number; readonly isNarrow: boolean; readonly height: number },
): string {
  const both = [draw(screen), draw({ ...narrow, height: Math.min(screen.height, 320) })];
  return both.filter((picture) => picture !== null).join('\n');
}

function frontierSection(document: BacktestDocument): readonly string[] {
  const picture = pictures((size) => drawFrontierChart(document, size), { ...wide, height: 470 });
  if (picture === '') return [];
  const ground =
    document.oracle === null
      ? ''
      : ' Below the dotted steps no fleet can be, whoever plans it: the oracle’s proven bound.';
  return [
    '<h2>Cost versus attainment</h2>',
    policyLegend(document, { withMarks: true }),
    '<figure>',
    picture,
    `<figcaption>Each mark is a run, ringed where the policy is as its user has it, faint where another run of the policy beats it; the line joins those that none beats.${ground} The scale goes by nines.</figcaption>`,
    '</figure>',
  ];
}

function policyLegend(document: BacktestDocument, { withMarks }: { readonly withMarks: boolean }): string {
  const items = document.asked.policies.map((policy) => {
    const mark = withMarks
      ? `<g class="mark ${policyClass(policy)}" transform="translate(15 8)"><path d="${policyMark(policy)}"/></g>`
      : '';
    return `<li><svg width="30" height="16" aria-hidden="true"><path class="line ${policyClass(policy)}" d="M0 8H30"/>${mark}</svg>${policy}</li>`;
  });
  return `<ul class="legend">${items.join('')}</ul>`;
}

type Shown = {
  readonly run: BacktestRun;
  readonly wide: ThinSeries;
  readonly narrow: ThinSeries;
  readonly half: ThinSeries;
};

function timeSections(document: BacktestDocument): readonly string[] {
  const { window, fleet, asked } = document;
  const types = new Map(fleet.deployments.map(({ id, gpuType }) => [id, gpuType]));
  const shown = document.runs.flatMap((run): readonly Shown[] => {
    const { series } = run.result;
    if (series === null || series.rps.length === 0) return [];
    const thin = (columns: number): ThinSeries =>
      thinSeries(series, {
        fromSeconds: window.scoredFromSeconds,
        columns,
        typeOf: (deployment) => types.get(deployment) ?? deployment,
      });
    return [{ run, wide: thin(360), half: thin(180), narrow: thin(100) }];
  });
  const first = shown[0];
  if (first === undefined) return [];
  return [
    '<h2>Over time</h2>',
    '<p class="note">Each policy at its usual knob; long spans are thinned to the picture, each point the mean of its time.</p>',
    ...rateFigure(shown),
    ...replicaFigures(document, shown),
    '<h3 style="margin-top:26px">Money and service</h3>',
    policyLegend(document, { withMarks: false }),
    ...overlay(shown, {
      title: 'Cost per hour',
      yTitle: 'USD per hour',
      height: 250,
      detail: 'wide',
      values: (series) => series.usdPerHour,
      axis: (values) => countAxis({ most: max(values) ?? 0, ticks: 5 }),
    }),
    ...overlay(shown, {
      title: 'Attainment',
      yTitle: 'share of the requests within the objective',
      height: 270,
      detail: 'half',
      values: (series) => series.attainment,
      axis: (values) =>
        ninesAxis({ low: Math.min(asked.targetAttainment, ...values), high: 1, finest: 5e-4, spacing: 0.08 }),
      limit: { value: asked.targetAttainment, label: `aim ${targetText(asked.targetAttainment)}` },
    }),
    ...overlay(shown, {
      title: 'Time to first token, 95th percentile',
      yTitle: 'TTFT p95',
      height: 250,
      detail: 'half',
      values: (series) => series.ttftP95Seconds,
      axis: (values) => {
        const positive = values.filter((value) => value > 0);
        const limit = asked.objective.ttftSeconds;
        return timeAxis({
          low: Math.min(...positive, limit > 0 ? limit : Number.POSITIVE_INFINITY, 10),
          high: Math.max(...positive, limit),
          label: secondsTick,
        });
      },
      limit: { value: asked.objective.ttftSeconds, label: `objective ${objectiveTtft(document)}` },
    }),
  ];
}

function secondsTick(seconds: number): string {
  return seconds >= 1 ? `${quantityText(seconds)} s` : `${quantityText(seconds * 1000)} ms`;
}

function rateFigure(shown: readonly Shown[]): readonly string[] {
  const planned = shown.find(({ wide: series }) => series.forecastRps.some((value) => value !== null));
  const { run } = planned ?? shown[0]!;
  const draw = (size: ChartSize): string => {
    const series = (planned ?? shown[0]!)[size.isNarrow ? 'narrow' : 'wide'];
    const values = [...series.rps, ...series.forecastRps].filter((value) => value !== null);
    return drawTimeChart({
      size,
      description: 'Requests per second that arrived, and that were planned for',
      yTitle: 'requests per second',
      y: countAxis({ most: max(values) ?? 0, ticks: 5 }),
      atSeconds: series.atSeconds,
      columnSeconds: series.columnSeconds,
      lines: [
        { values: series.rps, className: 'rate', filled: true },
        ...(planned === undefined ? [] : [{ values: series.forecastRps, className: policyClass(run.policy) }]),
      ],
    });
  };
  const forecast =
    planned === undefined
      ? ''
      : `<li><svg width="30" height="16" aria-hidden="true"><path class="line ${policyClass(run.policy)}" d="M0 8H30"/></svg>planned for by ${run.policy}</li>`;
  return [
    '<h3 style="margin-top:16px">Arrivals and forecast</h3>',
    `<ul class="legend"><li><svg width="30" height="16" aria-hidden="true"><path class="under rate" d="M0 3H30V16H0Z"/><path class="line rate" d="M0 3H30"/></svg>arrived</li>${forecast}</ul>`,
    '<figure>',
    pictures(draw, { ...wide, height: 240 }),
    '</figure>',
  ];
}

function replicaFigures(document: BacktestDocument, shown: readonly Shown[]): readonly string[] {
  const order = [...new Set(document.fleet.deployments.map(({ gpuType }) => gpuType))];
  const seen = new Set(shown.flatMap(({ wide: series }) => Object.keys(series.replicas)));
  const types = [...order, ...[...seen].filter((type) => !order.includes(type)).sort()].filter((type) =>
    seen.has(type),
  );
  const classOf = (type: string): string => `g${types.indexOf(type) % gpuClasses}`;
  const totals = shown.flatMap(({ half: series }) =>
    series.atSeconds.map((_, column) => types.reduce((sum, type) => sum + (series.replicas[type]?.[column] ?? 0), 0)),
  );
  // One scale for all: the area of a picture is then what its policy ran.
  const y = countAxis({ most: max(totals) ?? 0, ticks: 4 });
  const figures = shown.map(({ run, half: series, narrow: small }) => {
    const draw = (size: ChartSize): string => {
      const { atSeconds, columnSeconds, replicas } = size.isNarrow ? small : series;
      const layers = types.map((type) => ({ values: replicas[type] ?? [], className: classOf(type) }));
      const description = `Ready replicas of ${run.policy} by GPU type`;
      return drawTimeChart({ size, description, yTitle: 'ready replicas', y, atSeconds, columnSeconds, layers });
    };
    return `<figure><h3>${run.policy}</h3>${pictures(draw, { ...half, height: 200 })}</figure>`;
  });
  const legend = types.map((type) => `<li><span class="swatch ${classOf(type)}"></span>${escaped(type)}</li>`);
  return [
    '<h3 style="margin-top:26px">Replicas by GPU type</h3>',
    `<ul class="legend">${legend.join('')}</ul>`,
    `<div class="grid2">${figures.join('\n')}</div>`,
  ];
}

/** One line for each policy. */
function overlay(
  shown: readonly Shown[],
  chart: {
    readonly title: string;
    readonly yTitle: string;
    readonly height: number;
    /** Shares of requests and percentiles of a few of them jump: coarser columns show how they go. */
    readonly detail: 'wide' | 'half';
    readonly values: (series: ThinSeries) => readonly (number | null)[];
    readonly axis: (values: readonly number[]) => ReturnType<typeof countAxis>;
    readonly limit?: { readonly value: number; readonly label: string };
  },
): readonly string[] {
  const { title, yTitle, height, detail, values, axis, limit } = chart;
  const draw = (size: ChartSize): string => {
    const which = size.isNarrow ? 'narrow' : detail;
    const all = shown.flatMap((one) => values(one[which]).filter((value) => value !== null));
    // The longest, should one run have had a shorter span.
    const { atSeconds, columnSeconds } = shown
      .map((one) => one[which])
      .reduce((a, b) => (b.atSeconds.length > a.atSeconds.length ? b : a));
    return drawTimeChart({
      size,
      description: `${title} by policy`,
      yTitle,
      y: axis(all),
      atSeconds,
      columnSeconds,
      // The first policy last, so that it lies on top.
      lines: [...shown]
        .reverse()
        .map((one) => ({ values: values(one[which]), className: policyClass(one.run.policy) })),
      ...(limit === undefined ? {} : { limit }),
    });
  };
  return ['<figure>', `<h3>${escaped(title)}</h3>`, pictures(draw, { ...wide, height }), '</figure>'];
}

function runsNote({ asked }: BacktestDocument): string {
  const errors = asked.profileErrors.filter((error) => error !== 0).map(errorText);
  const wrong =
    errors.length === 0
      ? ''
      : ` Profiles ${errors.join(', ')}: the planner believes that replicas do so much more or less than they do.`;
  return `Shaded: the policy as its user has it. Late = answered outside the objective; failed = lost with a replica or refused by it; unserved = taken by no replica in time.${wrong}`;
}

function objectiveTtft({ asked }: BacktestDocument): string {
  const { ttftSeconds, ttftSecondsPerInputToken } = asked.objective;
  const perToken =
    ttftSecondsPerInputToken === 0 ? '' : ` + ${quantityText(ttftSecondsPerInputToken * 1000)} ms per input token`;
  return `${quantityText(ttftSeconds)} s${perToken}`;
}

const routerTexts: Readonly<Record<BacktestDocument['asked']['router'], string>> = {
  shares:
    'by the shares of the plan, and past a full replica to the least full one that serves them; policies without shares get the replica with the fewest requests',
  'least-request': 'to the ready replica with the fewest requests',
  random: 'to any ready replica',
};

function assumptions(document: BacktestDocument): readonly string[] {
  const { asked, window, fleet, oracle } = document;
  const failures =
    fleet.meanHoursBetweenFailures === null
      ? 'replicas do not fail'
      : `a replica fails every ${quantityText(fleet.meanHoursBetweenFailures)} h on average`;
  const facts: readonly (readonly [string, string])[] = [
    ['trace', asked.trace],
    [
      'window',
      `${spanText(window.toSeconds - window.fromSeconds)} from ${spanText(window.fromSeconds)} on; scored from ${spanText(window.scoredFromSeconds)} on`,
    ],
    [
      'load',
      `${quantityText(asked.copies, 4)} ${asked.copies === 1 ? 'copy' : 'copies'} of the trace${asked.copies > 1 ? `, each request of the further ones up to ${spanText(asked.jitterSeconds)} later` : ''}: ${wholeText(window.requests)} requests, ${wholeText(window.inputTokens)} input and ${wholeText(window.outputTokens)} output tokens`,
    ],
    [
      'a request attains',
      `if its TTFT is at most ${objectiveTtft(document)} and its mean time per further token at most ${secondsText(asked.objective.tpotSeconds)}; failed and unserved ones miss`,
    ],
    ['requests go', routerTexts[asked.router]],
    ['plans', `every ${spanText(asked.cadenceSeconds)}, where the policy has no period of its own`],
    ['money', 'per second, from the start of a replica until it has stopped'],
    [
      'replicas',
      `${failures}; a draining one has ${spanText(fleet.drainSeconds)}; a request that none took for ${spanText(fleet.queueTimeoutSeconds)} is unserved`,
    ],
    [
      'fidelity',
      asked.fidelity === 'request' ? 'every request on every replica' : 'rates and means (for large fleets)',
    ],
    ['seed', String(asked.seed)],
  ];
  return [
    '<h2>What was assumed</h2>',
    `<dl>${facts.map(([name, text]) => `<dt>${name}</dt><dd>${escaped(text)}</dd>`).join('')}</dl>`,
    fleetTable(document),
    '<h3 style="margin-top:18px">Policies</h3>',
    policyList(document),
    ...(oracle === null
      ? []
      : ['<h3>The oracle</h3>', ...oracle.assumptions.map((sentence) => `<p class="note">${escaped(sentence)}</p>`)]),
  ];
}

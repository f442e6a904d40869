import type { LatencyPercentiles } from './backtest.js';
import { type BacktestDocument, type BacktestRun, oracleRatio } from './backtest-document.js';
import { escaped } from './report-markup.js';
import {
  attainmentText,
  errorText,
  knobText,
  policyTitles,
  quantityText,
  secondsText,
  shareText,
  spanText,
  usdText,
  wholeText,
} from './report-numbers.js';

/** The tables of a backtest's report, as HTML. Pure. */

/** Money, service and turnover of every run. */
export function runsTable({ runs, oracle }: BacktestDocument): string {
  const heads = [
    '<th>policy</th><th class="left">knob</th><th class="left">profiles</th>',
    '<th>USD</th><th>USD per<br>M tokens</th><th>attain-<br>ment</th>',
    ...(oracle === null ? [] : ['<th>× the<br>oracle</th>']),
    '<th>late</th><th>failed</th><th>unserved</th>',
    '<th>starts</th><th>stops</th><th>mean<br>replicas</th><th>busy</th>',
  ];
  const rows = runs.map((run, i) => {
    const { result } = run;
    const ratio = oracleRatio(run, oracle);
    const cells = [
      `<td>${run.policy}${run.variant === null ? '' : `, ${escaped(run.variant)}`}</td>`,
      `<td class="left">${run.knob === null ? '' : escaped(knobText(run.knob))}</td>`,
      `<td class="left">${run.profileError === 0 ? 'true' : errorText(run.profileError)}</td>`,
      cell(usdText(result.usd)),
      cell(result.usdPerMillionTokens === null ? '–' : usdText(result.usdPerMillionTokens)),
      cell(attainmentText(result.attainment)),
      ...(oracle === null ? [] : [cell(ratio === null ? '–' : ratio.toFixed(2))]),
      cell(wholeText(result.late)),
      cell(wholeText(result.failed)),
      cell(wholeText(result.unserved)),
      cell(wholeText(result.starts)),
      cell(wholeText(result.stops)),
      cell(quantityText(result.meanReplicas)),
      cell(shareText(result.utilization, 0)),
    ];
    return `<tr${rowClass(runs, i)}>${cells.join('')}</tr>`;
  });
  return table(`<tr>${heads.join('')}</tr>`, rows);
}

/** What users felt, of each policy as a user has it. */
export function latencyTable({ runs }: BacktestDocument): string {
  const times = ['TTFT', 'TPOT', 'end to end'];
  const groups = times.map((time) => `<th colspan="4">${time}</th>`).join('');
  const columns = times.map(() => '<th>p50</th><th>p90</th><th>p95</th><th>p99</th>').join('');
  const rows = runs
    .filter(({ isMain }) => isMain)
    .map(({ policy, result }) => {
      const cells = [result.ttft, result.tpot, result.e2e].flatMap(percentileCells);
      return `<tr><td>${policy}</td>${cells.join('')}</tr>`;
    });
  return table(`<tr class="groups"><th></th>${groups}</tr><tr><th>policy</th>${columns}</tr>`, rows);
}

function percentileCells(times: LatencyPercentiles | null): readonly string[] {
  return ([50, 90, 95, 99] as const).map((p) => cell(times === null ? '–' : secondsText(times[`p${p}`])));
}

/** GPU-hours by type, of each policy as a user has it. */
export function gpuHoursTable({ runs }: BacktestDocument): string {
  const mains = runs.filter(({ isMain }) => isMain);
  const types = [...new Set(mains.flatMap(({ result }) => Object.keys(result.gpuHours)))].sort();
  const heads = types.map((type) => `<th>${escaped(type)}</th>`).join('');
  const rows = mains.map(({ policy, result }) => {
    const hours = types.map((type) => cell(quantityText(result.gpuHours[type] ?? 0, 4)));
    return `<tr><td>${policy}</td>${hours.join('')}</tr>`;
  });
  return table(`<tr><th>GPU-hours</th>${heads}</tr>`, rows);
}

/** What replicas there could be. */
export function fleetTable({ fleet }: BacktestDocument): string {
  const heads =
    '<th>deployment</th><th class="left">GPU</th><th>USD per hour</th><th>replicas</th><th>start-up</th><th class="left">what its replicas really run</th>';
  const rows = fleet.deployments.map((one) => {
    const gpus = one.gpusPerReplica === 1 ? one.gpuType : `${quantityText(one.gpusPerReplica)} × ${one.gpuType}`;
    const spread = one.startup.spread === 0 ? '' : ` (spread ${quantityText(one.startup.spread)})`;
    return [
      `<tr><td>${escaped(one.id)}</td><td class="left">${escaped(gpus)}</td>`,
      cell(usdText(one.usdPerReplicaHour)),
      cell(`${wholeText(one.minReplicas)} to ${wholeText(one.maxReplicas)}`),
      cell(`${spanText(one.startup.medianSeconds)}${spread}`),
      `<td class="left wraps">${escaped(one.engine)}</td></tr>`,
    ].join('');
  });
  return table(`<tr>${heads}</tr>`, rows);
}

/** Which policies there are, in words. */
export function policyList({ asked }: BacktestDocument): string {
  return `<dl>${asked.policies.map((policy) => `<dt>${policy}</dt><dd>${policyTitles[policy]}</dd>`).join('')}</dl>`;
}

function rowClass(runs: readonly BacktestRun[], at: number): string {
  const run = runs[at]!;
  const classes = [
    ...(run.isMain ? ['main'] : []),
    ...(at > 0 && runs[at - 1]!.policy !== run.policy ? ['break'] : []),
  ];
  return classes.length === 0 ? '' : ` class="${classes.join(' ')}"`;
}

function cell(text: string): string {
  return `<td>${escaped(text)}</td>`;
}

function table(head: string, rows: readonly string[]): string {
  return `<div class="table"><table><thead>${head}</thead><tbody>\n${rows.join('\n')}\n</tbody></table></div>`;
}

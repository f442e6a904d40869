import type { BucketCost, ExplainedModel, Explanation } from '../core/explanation.js';
import type { PlanningProblem } from '../core/planning-problem.js';
import {
  mixOf,
  nearestFirst,
  runnerUpWords,
  sentencesOf,
  unusedBecause,
  usd,
  wouldDo,
} from '../optimizer/explain/sentences.js';
import { describeProblem } from './plan-table.js';
import { cut, hang, type Ink, inkOf, percent, printable } from './terminal-text.js';

/** Why a plan is as it is, as a page for people. Pure text in a given width; colours are ANSI codes where asked for. */
export type ExplainPageOptions = {
  /** Where the problem came from: a file name, `standard input`. */
  readonly title: string;
  readonly color: boolean;
  /** Columns of the terminal; the page never gets wider, and uses at most 100. */
  readonly width: number;
};

const narrowest = 60;
const widest = 100;

/** Entries of one list that are written out; --json has them all. */
const listed = 12;

export function renderExplanation(
  explanation: Explanation,
  problem: PlanningProblem,
  options: ExplainPageOptions,
): string {
  const width = Math.max(narrowest, Math.min(widest, options.width));
  const ink = inkOf(options.color);
  const said = sentencesOf(explanation);
  const [cost = '', ...rest] = said.headline;
  const lines: string[] = [describeProblem(problem, options.title), ''];
  const colour = explanation.status === 'infeasible' ? ink.bad : explanation.proven ? ink.good : ink.warn;
  lines.push(...hang('', cost, width).map((line) => colour(line)));
  for (const sentence of rest) lines.push(...hang('', sentence, width));
  lines.push(...section('what limits it', said.limits, { ink, width }));
  lines.push(...section('other budgets', said.budget, { ink, width }));
  lines.push(...section('other demand', said.demand, { ink, width }));
  const models = [...explanation.models].sort((a, b) => b.usdPerHour - a.usdPerHour);
  for (const model of models.slice(0, listed)) lines.push('', ...modelLines(model, { ink, width }));
  if (models.length > listed) {
    lines.push('', `… and ${models.length - listed} cheaper models (--model NAME explains one, --json has them all)`);
  }
  lines.push(...section('not computed', said.notComputed.map(withoutLabel), { ink, width }));
  return `${lines.map((line) => line.trimEnd()).join('\n')}\n`;
}

type Surface = { readonly ink: Ink; readonly width: number };

function section(title: string, sentences: readonly string[], { ink, width }: Surface): readonly string[] {
  if (sentences.length === 0) return [];
  const lines = ['', ink.bold(title)];
  for (const sentence of sentences.slice(0, listed)) lines.push(...hang('  - ', sentence, width));
  if (sentences.length > listed) lines.push(`  … and ${sentences.length - listed} more (--json has them all)`);
  return lines;
}

/** The title of the section says it already. */
function withoutLabel(sentence: string): string {
  const [first = '', ...rest] = sentence.replace(/^Not computed: /, '');
  return first.toUpperCase() + rest.join('');
}

function modelLines(model: ExplainedModel, { ink, width }: Surface): readonly string[] {
  const { name, deployments, usdPerHour, usdPer1000Requests, usdPerHourWithoutWork, status, heldReason } = model;
  const money = `${usd(usdPerHour)} USD/h${usdPer1000Requests === null ? '' : `, ${usd(usdPer1000Requests)} USD per 1,000 requests`}`;
  const lines = [`${ink.bold(cut(name, width - money.length - 2))}  ${ink.bold(money)}`];
  const say = (label: string, text: string): void => {
    lines.push(...hang(`  ${label.padEnd(11)}`, text, width));
  };
  const runs = deployments.flatMap(({ id, gpuType, targetReplicas }) =>
    targetReplicas === null || targetReplicas === 0 ? [] : [{ deployment: id, gpuType, replicas: targetReplicas }],
  );
  say('runs', mixOf(runs));
  if (status === 'held') say('held', `${heldReason ?? 'no plan'}: nothing is known about other plans`);
  if (usdPerHourWithoutWork > 0) say('idle', `${usd(usdPerHourWithoutWork)} USD/h are for replicas without demand`);
  if (model.runnerUp !== null) say('next best', runnerUpWords(model.runnerUp));
  for (const { factor, change } of model.demand) {
    say(factor < 1 ? '10 % less' : '10 % more', `demand ${wouldDo(change, { otherDemand: true })}`);
  }
  const unused = nearestFirst(model.unused).flatMap((each) => {
    const why = unusedBecause(each);
    return why === null ? [] : [`${each.gpuType} (${each.deployment}): ${why}`];
  });
  unused.slice(0, listed).forEach((text, i) => {
    say(i === 0 ? 'not used' : '', text);
  });
  if (unused.length > listed) say('', `… and ${unused.length - listed} more (--json has them all)`);
  return [...lines, ...bucketLines(model, { ink, width })];
}

/** The buckets that cost most, in the order of their lengths. */
function bucketLines({ buckets, usdPerHour }: ExplainedModel, { ink, width }: Surface): readonly string[] {
  const wanted = buckets.filter(({ rps }) => rps > 0);
  if (wanted.length === 0) return [];
  const shown = [...wanted]
    .sort((a, b) => b.usdPerHour - a.usdPerHour)
    .slice(0, listed)
    .sort((a, b) => a.inputTokens - b.inputTokens || a.outputTokens - b.outputTokens);
  const rows = shown.map((bucket) => [
    tokens(bucket.inputTokens),
    tokens(bucket.outputTokens),
    String(Number(bucket.rps.toPrecision(3))),
    usdPerHour > 0 ? percent(bucket.usdPerHour / usdPerHour) : '',
    bucket.usdPer1000Requests === null ? '' : usd(bucket.usdPer1000Requests),
  ]);
  const headers = ['INPUT', 'OUTPUT', 'REQUESTS/S', 'COST', 'USD/1,000'];
  const widths = headers.map((header, c) => Math.max(header.length, ...rows.map((row) => row[c]!.length)));
  const columns = (cells: readonly string[]): string =>
    `  ${cells.map((cell, c) => cell.padStart(widths[c]!)).join('  ')}  `;
  const lines = ['', ink.dim(`${columns(headers)}SERVED BY`)];
  shown.forEach((bucket, r) => {
    lines.push(...hang(columns(rows[r]!), servedBy(bucket), width));
  });
  if (wanted.length > shown.length) {
    lines.push(`  … and ${wanted.length - shown.length} cheaper buckets (--json has them all)`);
  }
  return lines;
}

/** `L4 72 %, A100 28 %`; deployments of one GPU type together. */
function servedBy({ servedBy: parts, unservedShare, bestEffort }: BucketCost): string {
  const shares = new Map<string, number>();
  for (const { gpuType, share } of parts) shares.set(gpuType, (shares.get(gpuType) ?? 0) + share);
  const types = [...shares]
    .sort(([, a], [, b]) => b - a)
    .map(([type, share]) => `${printable(type)} ${percent(share)}`);
  if (unservedShare > 0) types.push(`unserved ${percent(unservedShare)}`);
  return `${types.join(', ')}${bestEffort ? ' (best effort)' : ''}`;
}

function tokens(count: number): string {
  return String(Math.round(count)).replace(/\B(?=(\d{3})+$)/g, ',');
}

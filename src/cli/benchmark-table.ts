import type { Additivity } from '../profiling/mix.js';
import type { CellResult } from '../profiling/rate-search.js';
import { isSettled } from '../service/benchmark-run.js';
import { hang, percent } from './terminal-text.js';

/** What a benchmark found, for people: a grid of the highest rates, and what is not in it. */

/** Most columns of a grid; larger ones are listed cell by cell. */
const mostColumns = 16;

const signs: Readonly<Record<CellResult['state'], string>> = {
  found: '',
  at_limit: '',
  none: '0',
  unfinished: '?',
  not_measurable: '!',
  too_long: 'x',
  not_measured: '.',
};

function shown({ state, rate }: CellResult): string {
  const number = rate === null ? '' : Number(rate.toPrecision(3)).toString();
  if (state === 'at_limit') return `>=${number}`;
  return number === '' ? signs[state] : `${number}${state === 'found' ? '' : signs[state]}`;
}

/** Rows by output tokens, columns by input tokens: the highest rate that met the SLO [requests/s]. */
export function ratesTable(results: readonly CellResult[], title: string): string {
  const axis = (of: (one: CellResult) => number): readonly number[] =>
    [...new Set(results.map(of))].toSorted((a, b) => a - b);
  const inputs = axis(({ cell }) => cell.inputTokens);
  const outputs = axis(({ cell }) => cell.outputTokens);
  const at = new Map(results.map((one) => [`${one.cell.inputTokens} ${one.cell.outputTokens}`, one]));
  const rows =
    inputs.length <= mostColumns
      ? [
          ['output \\ input', ...inputs.map(String)],
          ...outputs.map((output) => [
            String(output),
            ...inputs.map((input) => {
              const one = at.get(`${input} ${output}`);
              return one === undefined ? '' : shown(one);
            }),
          ]),
        ]
      : [
          ['input', 'output', 'requests/s'],
          ...results.map((one) => [String(one.cell.inputTokens), String(one.cell.outputTokens), shown(one)]),
        ];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const lines = rows.map((row) => row.map((text, column) => text.padStart(widths[column]!)).join('  '));
  const legend = legendOf(results);
  return [title, '', ...lines, ...(legend === '' ? [] : ['', legend])].join('\n');
}

function legendOf(results: readonly CellResult[]): string {
  const meanings: Readonly<Partial<Record<CellResult['state'], string>>> = {
    at_limit: '>= the highest rate that was looked at',
    none: '0 no rate meets it',
    unfinished: '? not finished',
    not_measurable: '! no valid run',
    too_long: 'x longer than the model takes',
    not_measured: '. not measured',
  };
  const found = new Set(results.map(({ state }) => state));
  return Object.entries(meanings)
    .filter(([state]) => found.has(state as CellResult['state']))
    .map(([, meaning]) => meaning)
    .join(' · ');
}

/** One mixture has one result. */
export function mixLines(result: CellResult, additivity: Additivity | null): readonly string[] {
  const head =
    result.rate === null
      ? `the mixture: ${result.state === 'none' ? 'no rate meets it' : 'no rate found'}`
      : `the mixture: ${shown(result)} requests/s (${Number((result.throughputRps ?? 0).toPrecision(3))} completed)`;
  if (additivity === null) return [head];
  const { predictedRps, relativeError, unservableShare, extrapolatedShare } = additivity;
  const doubts = [
    ...(unservableShare > 0 ? [`${percent(unservableShare)} of the requests have no cell that meets the SLO`] : []),
    ...(extrapolatedShare > 0 ? [`${percent(extrapolatedShare)} are longer than its largest cell`] : []),
  ].join(', ');
  const sum =
    predictedRps === null || relativeError === null
      ? 'the sum of single-cell works predicts nothing for it'
      : `the sum of single-cell works predicts ${Number(predictedRps.toPrecision(3))} requests/s: ${signed(relativeError)} ${
          relativeError > 0 ? 'too much' : 'too little'
        }`;
  return [head, doubts === '' ? sum : `${sum} (${doubts})`];
}

function signed(share: number): string {
  return `${(Math.abs(share) * 100).toFixed(1)} %`;
}

/** Sentences on what is not known, and why. */
export function openLines(results: readonly CellResult[], width: number): readonly string[] {
  const open = results.filter(({ state }) => !isSettled(state));
  const cellName = ({ cell }: CellResult): string => `${cell.inputTokens}/${cell.outputTokens}`;
  const listed = open.slice(0, 12).map(cellName).join(', ') + (open.length > 12 ? `, … (${open.length})` : '');
  const notes = new Map<string, CellResult[]>();
  for (const one of results) {
    if (one.note === null || one.state === 'found' || one.state === 'none') continue;
    const same = notes.get(one.note);
    if (same === undefined) notes.set(one.note, [one]);
    else same.push(one);
  }
  return [
    ...(open.length === 0 ? [] : hang('not measured to the end (input/output): ', listed, width)),
    ...[...notes].flatMap(([note, cells]) => {
      const names = cells.slice(0, 6).map(cellName).join(', ') + (cells.length > 6 ? `, … (${cells.length})` : '');
      return hang(`${names}: `, note, width);
    }),
  ];
}

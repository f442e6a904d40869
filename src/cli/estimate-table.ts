import type { GpuProfile } from '../core/profile.js';
import type { Estimate } from '../simulation/estimate.js';
import { inkOf, money, wrap } from './terminal-text.js';

export type EstimateTableOptions = {
  /** What was asked: `qwen3-32b (int4 weights, bf16 KV cache) on 2 x L4`. */
  readonly title: string;
  readonly slo: string;
  /** Where the price comes from; null where none is known. */
  readonly price: string | null;
  readonly notes: readonly string[];
  readonly color: boolean;
  /** Columns of the terminal. */
  readonly width: number;
};

const narrowest = 60;

/** An estimate for people: rates and prices by cell, the cache, how far to trust it. Pure text. */
export function renderEstimate(estimate: Estimate, options: EstimateTableOptions): string {
  const { profile, kvCacheTokens, errorBars } = estimate;
  const ink = inkOf(options.color);
  const width = Math.max(narrowest, options.width);
  const percentOf = (ratio: number): string => `${Math.round(100 * ratio)} %`;
  const lines = [
    `${ink.bold('estimate')}  ${options.title}`,
    `SLO       ${options.slo}`,
    `KV cache  ${kvCacheTokens.toLocaleString('en-US')} tokens`,
    ...hanging(
      'error',
      `measured rates lay between ${percentOf(1 / errorBars.p90)} and ${percentOf(1 / errorBars.p10)} of the predicted ones in 4 of 5 of ${errorBars.basis}`,
      width,
    ),
    ...(options.price === null ? [] : [`cost      ${options.price}`]),
  ];
  if (estimate.cellsThatMeet > 0) {
    lines.push(
      '',
      ink.bold('requests/s of one replica'),
      ...matrixLines(profile, ink.dim, (rate) => shortNumber(rate)),
    );
  }
  const { cost } = profile;
  if (cost !== null && cost > 0 && estimate.cellsThatMeet > 0) {
    lines.push(
      '',
      ink.bold('USD per million tokens, input and output, at that rate'),
      ...matrixLines(profile, ink.dim, (rate, input, output) =>
        shortMoney((cost / 3600 / rate / (input + output)) * 1e6),
      ),
    );
  }
  if (options.notes.length > 0) lines.push('');
  for (const note of options.notes) lines.push(...wrap(note, width).map(ink.warn));
  return `${lines.map((line) => line.trimEnd()).join('\n')}\n`;
}

function hanging(label: string, text: string, width: number): readonly string[] {
  return wrap(text, width - 10).map((line, index) => `${(index === 0 ? label : '').padEnd(10)}${line}`);
}

/** Rows are output tokens, columns input tokens; `–` where no rate meets the SLO. */
function matrixLines(
  { grid }: GpuProfile,
  dim: (text: string) => string,
  cellText: (rate: number, inputTokens: number, outputTokens: number) => string,
): readonly string[] {
  const [outputs = [], inputs = []] = grid.indexes;
  const body = grid.tputs.map((row, r) =>
    row.map((rate, c) => ((rate ?? 0) > 0 ? cellText(rate!, inputs[c]!, outputs[r]!) : '–')),
  );
  const header = inputs.map(tokens);
  const widths = header.map((text, c) => Math.max(text.length, ...body.map((row) => row[c]!.length)));
  const labels = ['out \\ in', ...outputs.map(tokens)];
  const labelWidth = Math.max(...labels.map((label) => label.length));
  const line = (label: string, cells: readonly string[]): string =>
    `${label.padStart(labelWidth)}  ${cells.map((cell, c) => cell.padStart(widths[c]!)).join('  ')}`;
  return [dim(line(labels[0]!, header)), ...body.map((row, r) => line(labels[r + 1]!, row))];
}

/** `512`, `4k`, and `1500` where it is no whole number of 1,024. */
function tokens(count: number): string {
  return count >= 1024 && count % 1024 === 0 ? `${count / 1024}k` : String(count);
}

function shortNumber(value: number): string {
  if (value >= 100) return String(Math.round(value));
  return value >= 0.01 ? String(Number(value.toPrecision(2))) : value.toExponential(0);
}

function shortMoney(usd: number): string {
  return usd >= 100
    ? Math.round(usd).toLocaleString('en-US')
    : usd >= 0.1
      ? money(usd)
      : String(Number(usd.toPrecision(2)));
}

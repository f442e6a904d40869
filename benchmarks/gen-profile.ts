import { generateProfile, unsetSlo } from '../src/profiling/gen-profile.js';
import { readBenchmark } from '../src/profiling/imports/read-benchmark.js';
import { brief, table, timeMs } from './timing.js';

/**
 * How long gen-profile takes over a large file of rows, against what nobody can save: `JSON.parse` of each of its lines.
 */
export type GenProfileBenchmark = {
  readonly rows: number;
  readonly mebibytes: number;
  readonly parseOnlyMs: number;
  readonly readMs: number;
  readonly generateMs: number;
};

/** Rows of a file that a year of benchmarks on one GPU would not fill. */
const fullRows = 100_000;

export function benchmarkGenProfile({ quick }: { readonly quick: boolean }): GenProfileBenchmark {
  const wanted = quick ? fullRows / 10 : fullRows;
  const text = rowsText(wanted);
  const lines = text.split('\n');
  const repetitions = quick ? 2 : 5;
  const parseOnlyMs = timeMs(repetitions, () => {
    for (const line of lines) if (line !== '') JSON.parse(line);
  });
  let read = readBenchmark(text, 'rows');
  const readMs = timeMs(repetitions, () => {
    read = readBenchmark(text, 'rows');
  });
  const generateMs = timeMs(repetitions, () => {
    generateProfile({
      deployment: 'x',
      runs: read.runs,
      slo: { ...unsetSlo, ttft: 1, tpot: 0.05 },
      percentile: 95,
      cost: 1,
      strict: true,
      createdSeconds: 0,
      by: 'a benchmark',
      source: 'rows',
    });
  });
  return { rows: lines.length - 1, mebibytes: text.length / 2 ** 20, parseOnlyMs, readMs, generateMs };
}

/** Rows as AIBrix writes them: 2,000 cells, each with as many rates as make up the number of rows. */
function rowsText(wanted: number): string {
  const [outputs, inputs] = [40, 50];
  const rates = wanted / (outputs * inputs * 5);
  const lines: string[] = [];
  for (let output = 1; output <= outputs; output++) {
    for (let input = 1; input <= inputs; input++) {
      for (let rate = 1; rate <= rates; rate++) {
        const run = {
          input_tokens: input * 64,
          output_tokens: output * 16,
          request_rate: rate,
          seed: 0,
          model: 'meta-llama/Llama-3.1-8B-Instruct',
          temperature: 0,
          samples: 100,
        };
        const e2e = 0.01 * output * (1 + rate / 50) + 0.00012345 * input * rate;
        const times = (mean: number) => ({ mean, P50: mean * 0.9, P90: mean * 1.4, P95: mean * 1.7, P99: mean * 2.3 });
        for (const row of [
          { ...run, metric: 'TPUT', mean: rate * 0.987654321 },
          { ...run, metric: 'TT', mean: rate * output * 16 },
          { ...run, metric: 'E2E', ...times(e2e) },
          { ...run, metric: 'TTFT', ...times(e2e / 10) },
          { ...run, metric: 'TPOT', ...times(e2e / (output * 16)) },
        ]) {
          lines.push(JSON.stringify(row));
        }
      }
    }
  }
  return `${lines.join('\n')}\n`;
}

export function describeGenProfile(result: GenProfileBenchmark): string {
  const { rows, mebibytes, parseOnlyMs, readMs, generateMs } = result;
  const line = (what: string, ms: number) => [
    what,
    brief(ms),
    `${brief(ms / parseOnlyMs)} ×`,
    brief(rows / (ms / 1000)),
  ];
  return [
    `${rows.toLocaleString('en-US')} rows, ${brief(mebibytes)} MiB; medians`,
    '',
    table(
      ['', 'ms', 'of JSON.parse', 'rows/s'],
      [
        line('JSON.parse of each line', parseOnlyMs),
        line('rows read and checked, runs made of them', readMs),
        line('profile made of the runs', generateMs),
        line('in all', readMs + generateMs),
      ],
    ),
  ].join('\n');
}

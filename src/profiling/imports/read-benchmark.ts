import { InputError, quoteInput } from '../../core/input-error.js';
import { parseJson } from '../../core/parse.js';
import { largestTokens } from '../../core/profile.js';
import {
  type BenchmarkRun,
  largestStatistic,
  parseRows,
  type ReadNotice,
  runsOfRows,
  withoutNaN,
} from '../benchmark-row.js';
import { isObject, type JsonObject } from './fields.js';
import { isGuideLlm, readGuideLlm } from './guidellm.js';
import { isNvidiaPerf, readNvidiaPerf } from './nvidia-perf.js';
import { isVllmBench, readVllmBench } from './vllm-bench.js';

/**
 * Benchmark results of any tool that is known, by their content: names and endings of files say nothing.
 */
export type BenchmarkFormat = 'rows' | 'vllm' | 'guidellm' | 'nvidia';

/** What formats are called where a person reads it. */
export const formatNames: Readonly<Record<BenchmarkFormat, string>> = {
  rows: 'JSON lines of gpumix or AIBrix',
  vllm: 'vLLM or SGLang serving benchmark',
  guidellm: 'GuideLLM report',
  nvidia: 'GenAI-Perf or AIPerf export',
};

export type ReadBenchmark = {
  readonly format: BenchmarkFormat;
  readonly runs: readonly BenchmarkRun[];
  readonly notices: readonly ReadNotice[];
};

const expectedFormats = `benchmark results: ${Object.values(formatNames).join(', ')}`;

/**
 * Reads one file.
 *
 * @param source names it in errors
 * @param firstRow number of its first row, where several files are read one after the other
 * @throws InputError that names line, key, what was found and what was expected
 */
export function readBenchmark(text: string, source: string, firstRow = 0): ReadBenchmark {
  const content = text.startsWith('\ufeff') ? text.slice(1) : text;
  const begin = content.search(/\S/);
  if (begin < 0) {
    throw new InputError(source, [{ place: '', found: 'an empty file', expected: expectedFormats }]);
  }
  if (content.includes('\0')) {
    throw new InputError(source, [{ place: '', found: 'a binary file', expected: expectedFormats }]);
  }
  const first = firstLine(content, begin);
  if (first !== null && isRow(first)) {
    const { runs, notices } = runsOfRows(parseRows(content, source), { source, firstRow });
    return { format: 'rows', runs, notices };
  }
  const documents = first === null ? [parseWhole(content, source)] : parseLines(content, source);
  return readDocuments(documents, { source, firstRow });
}

/** The object on the first line; null where the line is no whole object (a document over several lines). */
function firstLine(text: string, begin: number): JsonObject | null {
  const end = text.indexOf('\n', begin);
  const line = text.slice(begin, end < 0 ? undefined : end);
  try {
    const value: unknown = JSON.parse(withoutNaN(line) ?? line);
    return isObject(value) ? value : null;
  } catch {
    return null;
  }
}

/** Has it what every row has, or so much of it that it was meant as one? */
function isRow(document: JsonObject): boolean {
  return 'metric' in document || ('input_tokens' in document && 'output_tokens' in document);
}

function parseWhole(text: string, source: string): unknown {
  return parseJson(withoutNaN(text) ?? text, source);
}

/** One object a line; a last line that is cut off is an error here, since each is a whole run. */
function parseLines(text: string, source: string): readonly unknown[] {
  return text.split('\n').flatMap((line, i) => {
    if (line.trim() === '') return [];
    const place = `${source}: line ${i + 1}`;
    return [parseJson(withoutNaN(line) ?? line, place)];
  });
}

function readDocuments(
  documents: readonly unknown[],
  options: { readonly source: string; readonly firstRow: number },
): ReadBenchmark {
  const { source, firstRow } = options;
  // A list of results in one document is as good as one file each.
  const single =
    documents.length === 1 && Array.isArray(documents[0]) ? (documents[0] as readonly unknown[]) : documents;
  const objects = single.map((document, i) => {
    if (isObject(document)) return document;
    const place = single.length > 1 ? `[${i}]` : '';
    throw new InputError(source, [{ place, found: quoteInput(document), expected: expectedFormats }]);
  });
  const format = objects.length === 0 ? null : formatOf(objects[0]!);
  if (format === null) {
    if (objects[0] !== undefined && isRow(objects[0])) {
      const found = `rows in ${Array.isArray(documents[0]) ? 'one list' : 'a document of several lines'}`;
      throw new InputError(source, [
        { place: '', found, expected: `${formatNames.rows}: each row on a line of its own` },
      ]);
    }
    const keys = objects.length === 0 ? 'no object at all' : `an object with ${keysOf(objects[0]!)}`;
    throw new InputError(source, [{ place: '', found: keys, expected: expectedFormats }]);
  }
  const runs = objects.flatMap((document, i): readonly BenchmarkRun[] => {
    const where = objects.length > 1 ? `${source}: result ${i + 1}` : source;
    if (formatOf(document) !== format) {
      throw new InputError(where, [
        { place: '', found: `an object with ${keysOf(document)}`, expected: formatNames[format] },
      ]);
    }
    const row = firstRow + i;
    if (format === 'guidellm') return readGuideLlm(document, { source: where, row });
    return [
      format === 'vllm'
        ? readVllmBench(document, { source: where, row })
        : readNvidiaPerf(document, { source: where, row }),
    ];
  });
  for (const run of runs) requireBounds(run);
  return { format, runs, notices: noticesOf(runs) };
}

/** Quotients of numbers that may each be what they are can still be none: rows have the same bounds. */
function requireBounds({ place: source, inputTokens, outputTokens, metrics }: BenchmarkRun): void {
  const refuse = (place: string, found: number, expected: string): never => {
    throw new InputError(source, [{ place, found: String(found), expected }]);
  };
  for (const [name, tokens] of Object.entries({ 'input tokens': inputTokens, 'output tokens': outputTokens })) {
    if (!(tokens > 0 && tokens <= largestTokens)) {
      refuse(`${name} of a request`, tokens, `a number above 0, at most ${largestTokens}`);
    }
  }
  for (const [metric, { row, ...statistics }] of Object.entries(metrics)) {
    for (const [name, value] of Object.entries(statistics)) {
      if (value === null || (value >= 0 && value <= largestStatistic)) continue;
      refuse(`${metric} ${name}`, value, `a number, 0 to ${largestStatistic}`);
    }
  }
}

function formatOf(document: JsonObject): Exclude<BenchmarkFormat, 'rows'> | null {
  if (isGuideLlm(document)) return 'guidellm';
  // Before vLLM's, whose key `request_throughput` is a number.
  if (isNvidiaPerf(document)) return 'nvidia';
  return isVllmBench(document) ? 'vllm' : null;
}

function keysOf(document: JsonObject): string {
  const keys = Object.keys(document);
  if (keys.length === 0) return 'no keys';
  return `keys ${keys.slice(0, 5).map(quoteInput).join(', ')}${keys.length > 5 ? ', …' : ''}`;
}

function noticesOf(runs: readonly BenchmarkRun[]): readonly ReadNotice[] {
  const closed = runs.filter((run) => run.arrivals === 'closed_loop').length;
  if (closed === 0) return [];
  return [
    {
      kind: 'closed_loop',
      message:
        `${closed} of ${runs.length} runs had a fixed number of requests in flight, not a rate: their own throughput is ` +
        'taken as the rate, and the waiting that random arrivals cause is not in them',
    },
  ];
}

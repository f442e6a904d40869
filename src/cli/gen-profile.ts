import { readdir, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { Command, InvalidArgumentError, Option } from 'commander';
import { InputError, quoteInput } from '../core/input-error.js';
import { largestUsd } from '../core/profile.js';
import type { SloPercentile } from '../profiling/attainment.js';
import type { BenchmarkRun } from '../profiling/benchmark-row.js';
import {
  type CellDecision,
  describeCell,
  generateProfile,
  type ProfileSlo,
  unsetSlo,
} from '../profiling/gen-profile.js';
import { mergeLengths } from '../profiling/imports/merge-lengths.js';
import { formatNames, readBenchmark } from '../profiling/imports/read-benchmark.js';
import { plotProfile } from '../profiling/profile-plot.js';
import { documentTime } from './document-time.js';
import { collect, positiveNumber, requireTtft, sloPercentile, wholeNumber } from './flag-values.js';
import { type ProfileTarget, parseProfileTarget, writeProfile } from './profile-output.js';
import { readDocument } from './read-document.js';
import { packageVersion } from './version.js';
import { writeWholeFile } from './whole-file.js';

export type GenProfileFlags = {
  readonly benchmark?: readonly string[];
  readonly tput: number;
  readonly tt: number;
  readonly e2e: number;
  readonly ttft: number;
  readonly ttftPerInputToken?: number;
  readonly tpat: number;
  readonly tpot: number;
  readonly percentile: SloPercentile;
  readonly cost?: number;
  readonly output?: string;
  readonly model?: string;
  readonly gpuType?: string;
  readonly gpusPerReplica?: number;
  readonly strict: boolean;
  readonly plot?: string;
  readonly cacert?: string;
  readonly verbose: boolean;
};

/** What the command sees of the process around it. */
export type GenProfileSurroundings = {
  readonly stdin: Readable;
  readonly write: (text: string) => void;
  readonly writeError: (text: string) => void;
  /** Unix milliseconds. */
  readonly now: () => number;
};

/** Without --cost, as in AIBrix's tool [USD per replica-hour]. */
const defaultCost = 1;

/** `gpumix gen-profile`: benchmark results, an SLO and a cost in, a profile out. */
export function genProfileCommand(): Command {
  return new Command('gen-profile')
    .summary('benchmark results, an SLO and a cost in, a profile out')
    .description(
      'Reads benchmark results and writes the profile of a deployment: for each length of prompt and answer the requests/s ' +
        'that one replica serves within the SLO. Takes the flags of aibrix_gen_profile and gives its numbers.\n\n' +
        `Reads ${Object.values(formatNames).join(', ')}; which, it sees by the content.\n\n` +
        'Exit code: 0 written (also where no cell meets the SLO, with a warning), 1 Redis could not be reached, 2 bad input.',
    )
    .argument('<deployment>', 'name of the deployment, without its namespace')
    .option(
      '--benchmark <path>',
      'results: a file, a folder of .json and .jsonl files, or - (repeatable; default: result/<deployment>.jsonl)',
      collect,
    )
    .addOption(sloOption('--tput <rps>', 'SLO: requests/s, at least', parseThroughput, unsetSlo.tput))
    .addOption(sloOption('--tt <tokens/s>', 'SLO: output tokens/s, at least', parseThroughput, unsetSlo.tt))
    .addOption(sloOption('--e2e <seconds>', 'SLO: end-to-end latency, below', parseSeconds, unsetSlo.e2e))
    .addOption(sloOption('--ttft <seconds>', 'SLO: time to first token, below', parseSeconds, unsetSlo.ttft))
    .option('--ttft-per-input-token <seconds>', 'SLO: added to --ttft for each token of the prompt', positiveNumber)
    .addOption(
      sloOption('--tpat <seconds>', 'SLO: latency per token, input and output, below', parseSeconds, unsetSlo.tpat),
    )
    .addOption(sloOption('--tpot <seconds>', 'SLO: time per output token, below', parseSeconds, unsetSlo.tpot))
    .addOption(
      new Option('--percentile <p>', 'of the times that the SLO is about; 0 = the mean')
        .argParser(sloPercentile)
        .default(0 satisfies SloPercentile),
    )
    .option('--cost <usd>', `USD per replica-hour (default: ${defaultCost})`, parseCost)
    .option(
      '-o, --output <target>',
      'a file, redis://[user:password@]host[:port][/database]?model=NAME, rediss://, or -',
    )
    .option(
      '--model <name>',
      'model of the profile: for its key in Redis, and to choose where the results are of several',
    )
    .option('--gpu-type <name>', 'noted in the profile')
    .option('--gpus-per-replica <n>', 'noted in the profile', wholeNumber(1, 1e6))
    .option('--strict', 'refuse results with missing cells instead of interpolating them', false)
    .option('--plot <file.svg>', 'draw the throughputs and the latencies by rate')
    .option('--cacert <file>', 'PEM file of the authority that signed the certificate of Redis')
    .option('-v, --verbose', 'indent the JSON, and say on standard error how each cell came by its number', false)
    .addHelpText('after', help)
    .action(async (deployment: string, flags: GenProfileFlags) => {
      const { stdin, stdout, stderr, env } = process;
      process.exitCode = await runGenProfile(deployment, flags, {
        stdin,
        write: (text) => stdout.write(text),
        writeError: (text) => stderr.write(text),
        now: () => documentTime(env, Date.now),
      });
    });
}

const help = `
Examples:
  gpumix gen-profile llama-l4 --benchmark l4.jsonl --ttft 2 --tpot 0.1 --percentile 95 --cost 0.7 -o l4.json
  gpumix gen-profile llama-l4 --benchmark runs/ --e2e 5 -o 'redis://:p%40ss@redis:6379/?model=llama'
  gpumix gen-profile llama-l4 --benchmark vllm-*.json --plot l4.svg     (give --benchmark once for each file)
`;

/**
 * The command itself.
 *
 * @returns the exit code: 0 written, 1 Redis could not be reached
 * @throws InputError for flags or results that cannot be used
 */
export async function runGenProfile(
  deployment: string,
  flags: GenProfileFlags,
  around: GenProfileSurroundings,
): Promise<number> {
  if (deployment.trim() === '') {
    throw new InputError('deployment', [{ place: '', found: quoteInput(deployment), expected: 'its name' }]);
  }
  requireTtft(flags, { flag: '--ttft-per-input-token', of: '--ttft' });
  const { output, model, cacert } = flags;
  // Before anything is read: a slip in a flag should not cost the reading of a large file.
  const target = parseProfileTarget({ output, model, deployment, cacert });
  checkPlot(flags.plot, target);
  const files = await findFiles(deployment, flags.benchmark);
  const say = (message: string): void => around.writeError(`gpumix: ${message}\n`);
  const runs = await readRuns(files, around.stdin, say);
  const nowMs = around.now();
  const slo: ProfileSlo = {
    tput: flags.tput,
    tt: flags.tt,
    e2e: flags.e2e,
    ttft: flags.ttft,
    tpat: flags.tpat,
    tpot: flags.tpot,
  };
  const { profile, decisions, notices } = generateProfile({
    deployment,
    runs,
    slo,
    ttftPerInputToken: flags.ttftPerInputToken ?? 0,
    percentile: flags.percentile,
    cost: flags.cost ?? defaultCost,
    strict: flags.strict,
    createdSeconds: nowMs / 1000,
    by: `gpumix gen-profile ${packageVersion()}`,
    source: files.length === 1 ? nameOf(files[0]!) : `${files.length} files`,
    model: target.kind === 'redis' ? target.model : model,
    gpuType: flags.gpuType,
    gpusPerReplica: flags.gpusPerReplica,
  });
  for (const { message } of notices) say(message);
  if (target.kind !== 'redis' && model !== undefined && profile.model !== undefined && profile.model !== model) {
    say(`--model ${quoteInput(model)} changes nothing: all results are of ${quoteInput(profile.model)}`);
  }
  if (flags.cost === undefined) {
    say(`the profile says ${defaultCost} USD per replica-hour, the default of --cost, and plans take it for the price`);
  }
  if (flags.verbose) for (const decision of decisions) around.writeError(`${describeDecision(decision)}\n`);
  if (flags.plot !== undefined) {
    await writeWholeFile({ path: flags.plot, text: plotProfile({ profile, decisions }), flag: '--plot' });
  }
  return writeProfile({ target, profile, indent: flags.verbose, around });
}

/** An objective; without one the help says so, where the number behind it would mean nothing to a reader. */
function sloOption(flags: string, description: string, parse: (text: string) => number, unset: number): Option {
  return new Option(flags, description).argParser(parse).default(unset, 'no objective');
}

/** A picture goes to a file of its own: never between the lines of a profile, nor under one that replaces it. */
function checkPlot(plot: string | undefined, target: ProfileTarget): void {
  if (plot === undefined) return;
  const refuse = (found: string): InputError =>
    new InputError('--plot', [
      { place: '', found, expected: 'a file of its own for the picture, such as profile.svg' },
    ]);
  if (plot === '' || plot === '-') throw refuse(quoteInput(plot));
  if (target.kind === 'file' && resolve(plot) === resolve(target.path)) throw refuse('the file of -o');
}

function nameOf(file: string): string {
  return file === '-' ? 'standard input' : file;
}

/** Most files of one profile: a mistaken folder should not be read for minutes. */
const mostFiles = 10_000;

async function findFiles(deployment: string, given: readonly string[] | undefined): Promise<readonly string[]> {
  if (given === undefined) {
    const file = join('result', `${deployment}.jsonl`);
    if (await exists(file)) return [file];
    throw new InputError('--benchmark', [
      { place: '', found: `nothing, and no ${file}`, expected: 'the results of a benchmark: --benchmark FILE' },
    ]);
  }
  const found: string[] = [];
  for (const path of given) {
    if (path === '') {
      throw new InputError('--benchmark', [{ place: '', found: '""', expected: 'a file, a folder, or -' }]);
    }
    if (path === '-' || !(await isFolder(path))) {
      found.push(path);
      continue;
    }
    const names = (await readdir(path)).filter((name) => /\.jsonl?$/i.test(name)).sort();
    if (names.length === 0) {
      throw new InputError('--benchmark', [
        { place: path, found: 'a folder without .json or .jsonl files', expected: 'benchmark results' },
      ]);
    }
    found.push(...names.map((name) => join(path, name)));
  }
  const files = [...new Set(found)];
  if (files.length > mostFiles) {
    throw new InputError('--benchmark', [
      { place: '', found: `${files.length} files`, expected: `at most ${mostFiles}` },
    ]);
  }
  return files;
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch {
    return false;
  }
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch {
    // Reading it says what is wrong.
    return false;
  }
}

/** Largest file of results [MiB]: a text in memory cannot be much longer. */
const limitMib = 500;

/** More rows than a file can have: rows of later files come after those of earlier ones. */
const rowsPerFile = 1e9;

async function readRuns(
  files: readonly string[],
  stdin: Readable,
  say: (message: string) => void,
): Promise<readonly BenchmarkRun[]> {
  const own: BenchmarkRun[] = [];
  const imported: BenchmarkRun[] = [];
  for (const [i, file] of files.entries()) {
    const { text, source } = await readDocument({ file, limitMib, stdin });
    const { format, runs, notices } = readBenchmark(text, source, i * rowsPerFile);
    for (const { message } of notices) say(`${source}: ${message}`);
    for (const run of runs) (format === 'rows' ? own : imported).push(run);
  }
  const merged = mergeLengths(imported);
  for (const { message } of merged.notices) say(message);
  return [...own, ...merged.runs];
}

/** One line of `--verbose`. */
function describeDecision(decision: CellDecision): string {
  const { candidates, chosen, tput, origin } = decision;
  const rate = (value: number): string => (value === Number.POSITIVE_INFINITY ? 'all at once' : `${value}/s`);
  const judged = candidates.map(({ run, refused, keepsUp }) => {
    const verdict = refused ?? (keepsUp ? 'meets the SLO' : 'meets the SLO, does not keep up');
    return `${rate(run.requestRate)}: ${verdict}`;
  });
  const from =
    chosen === null ? (origin === 'interpolated' ? 'interpolated' : 'no rate') : `at ${rate(chosen.requestRate)}`;
  return `${describeCell(decision)}: ${Number(tput.toPrecision(6))} requests/s (${from})${judged.length === 0 ? '' : ` | ${judged.join(' | ')}`}`;
}

/** A number as Python's float() takes it, which AIBrix's tool reads flags with; null where it is none, or below 0. */
function readNumber(text: string): number | null {
  const word = text.trim();
  if (/^\+?inf(?:inity)?$/i.test(word)) return Number.POSITIVE_INFINITY;
  if (!/^\+?(?:\d[\d_]*\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i.test(word)) return null;
  return Number(word.replaceAll('_', ''));
}

function parseSeconds(text: string): number {
  const value = readNumber(text);
  if (value === null) throw new InvalidArgumentError('expected seconds >= 0, or inf for no objective.');
  return value;
}

function parseThroughput(text: string): number {
  const value = readNumber(text);
  if (value === null || !Number.isFinite(value)) {
    throw new InvalidArgumentError('expected a number >= 0 (0 = no objective).');
  }
  return value;
}

function parseCost(text: string): number {
  const value = readNumber(text);
  if (value === null || value > largestUsd) throw new InvalidArgumentError(`expected USD, 0 to ${largestUsd}.`);
  return value;
}

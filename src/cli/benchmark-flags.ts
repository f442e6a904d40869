import { Command, InvalidArgumentError, Option } from 'commander';
import { targetDefaults } from '../adapters/openai/target.js';
import { type WeightPrecision, weightPrecisions } from '../core/model-types.js';
import { type Slo, type SloPercentile, sloPercentiles } from '../profiling/attainment.js';
import { type ArrivalKind, arrivalKinds, type Cell } from '../profiling/measurement.js';
import { coarseFirstCells, doubling } from '../profiling/sweep.js';
import { collect, decimal, flagError, positiveNumber, requireTtft, sloPercentile, wholeNumber } from './flag-values.js';

/** What `gpumix benchmark` is told: its flags, and what they mean together. */
export type BenchmarkFlags = {
  readonly model: string;
  readonly baseUrl?: readonly string[];
  readonly output?: string;
  readonly resume: boolean;
  readonly apiKey?: string;
  readonly chat: boolean;
  /** false with `--no-stream`. */
  readonly stream: boolean;
  readonly temperature: number;
  readonly timeout: number;
  readonly sweep?: boolean;
  readonly search?: boolean;
  readonly sloTtft?: number;
  readonly sloTtftPerInputToken?: number;
  readonly sloTpot?: number;
  readonly sloE2e?: number;
  readonly percentile: SloPercentile;
  readonly inputStart: number;
  readonly inputLimit: number;
  readonly outputStart: number;
  readonly outputLimit: number;
  readonly inputs?: readonly number[];
  readonly outputs?: readonly number[];
  readonly rateStart?: number;
  readonly rateLimit?: number;
  readonly requests?: number;
  readonly resolution: number;
  readonly confidence: number;
  readonly arrivals: ArrivalKind;
  readonly trace?: string;
  readonly mix?: string;
  readonly profile?: string;
  readonly seed: number;
  readonly maxMinutes?: number;
  readonly dryRun: boolean;
  readonly json: boolean;
  readonly simulate: boolean;
  readonly gpu?: string;
  readonly gpus?: number;
  readonly precision?: WeightPrecision;
  readonly kvPrecision?: 'bf16' | 'fp8';
  readonly maxNumSeqs?: number;
};

/** AIBrix's ranges. */
const rangeDefaults = { start: 4, limit: 4096 } as const;
/** Rates of a sweep (AIBrix's), and the bounds of a search, which looks only where capacity is likely [requests/s]. */
const rateDefaults = { sweep: { start: 1, limit: 64 }, search: { start: 1 / 256, limit: 1024 } } as const;
/** Counted requests of a run: AIBrix's number, and one that a search needs at the least. */
const requestDefaults = { sweep: 100, search: 60 } as const;
/** A quantile is told by this many requests beyond it, at the least. */
const beyondQuantile = 3;

/** Beyond any context and any server; a slip of a few zeros would run for years. */
const mostTokens = 10_000_000;
const mostRate = 100_000;
const mostRequests = 1_000_000;

const description = [
  'Measures an OpenAI-compatible server (vLLM, SGLang, TensorRT-LLM, llama.cpp, Ollama) in an open loop: Poisson arrivals that never wait for answers, prompts that share no beginning, warm-up and drain left out. Writes the rows that gpumix gen-profile and aibrix_gen_profile read, run by run.',
  '--search (with an SLO) looks for the highest rate of each cell that meets the SLO; --sweep measures every cell at every rate, as aibrix_benchmark does. Several --base-url are replicas of one kind: the cells are shared out among them.',
  'Ctrl-C leaves a valid file; --resume goes on with it. Exit code: 0 done (also where the time is over, which is said), 1 nothing could be measured (no server answers, too), or called off, 2 bad input.',
].join('\n\n');

const examples = `
Examples:
  gpumix benchmark --model llama-3.1-8b --base-url http://gpu:8000 --slo-ttft 2 --slo-tpot 0.1 -o l4.jsonl
  gpumix benchmark … --inputs 128,512,2048 --outputs 64,256 --max-minutes 60 -o l4.jsonl
  gpumix benchmark … -o l4.jsonl --resume
  gpumix benchmark … --mix trace.csv.gz --profile l4.jsonl -o mix.jsonl     (a mixture, against the sum of its cells)
  gpumix benchmark --model llama-3.1-8b --simulate --gpu L4 --slo-ttft 2 --slo-tpot 0.1 -o l4.jsonl     (no server at all)
`;

/** The command with its flags, without what it does. */
export function benchmarkFlags(): Command {
  return new Command('benchmark')
    .summary('measure an OpenAI-compatible server: the highest rate that meets an SLO, for each length')
    .description(description)
    .requiredOption('--model <name>', 'model to ask for, as the server names it')
    .option('--base-url <url>', 'the server: http://host:8000 (repeatable)', collect)
    .option('-o, --output <file>', 'a new file for the rows (default: standard output)')
    .option('--resume', 'go on with the file of --output: nothing is measured twice', false)
    .option('--dry-run', 'print what would be run, and send nothing', false)
    .option('--json', 'print the result as JSON instead of a table', false)
    .optionsGroup('What is looked for:')
    .option('--search', 'the highest rate that meets the SLO (default with an SLO)')
    .option('--sweep', 'every cell at every rate (default without one)')
    .option('--slo-ttft <seconds>', 'time to first token, below', positiveNumber)
    .option('--slo-ttft-per-input-token <seconds>', 'added to --slo-ttft for each token of the prompt', positiveNumber)
    .option('--slo-tpot <seconds>', 'time per output token after the first, below', positiveNumber)
    .option('--slo-e2e <seconds>', 'end-to-end latency, below', positiveNumber)
    .addOption(
      new Option(
        '--percentile <p>',
        `of the latencies that the SLO is about: ${sloPercentiles.join(', ')}; 0 = the mean`,
      )
        .argParser(sloPercentile)
        .default(95 satisfies SloPercentile),
    )
    .option('--resolution <share>', 'search: how close the rate is looked for', share(0.001, 1), 0.05)
    .option('--confidence <p>', 'search: chance that a verdict is right', share(0.5, 0.999), 0.8)
    .option(
      '--max-minutes <minutes>',
      'begin nothing that would last longer; a coarse grid comes first',
      positiveNumber,
    )
    .optionsGroup('Cells and rates (doubled from start to limit, both included):')
    .option('--input-start <tokens>', 'shortest prompt', wholeNumber(1, mostTokens), rangeDefaults.start)
    .option('--input-limit <tokens>', 'longest prompt', wholeNumber(1, mostTokens), rangeDefaults.limit)
    .option('--output-start <tokens>', 'shortest answer', wholeNumber(1, mostTokens), rangeDefaults.start)
    .option('--output-limit <tokens>', 'longest answer', wholeNumber(1, mostTokens), rangeDefaults.limit)
    .option('--inputs <list>', 'prompt lengths one by one: 128,512,2048', tokenList)
    .option('--outputs <list>', 'answer lengths one by one', tokenList)
    .option('--rate-start <rps>', 'lowest rate (default: 1; search: 1/256)', rate)
    .option('--rate-limit <rps>', 'highest rate (default: 64; search: 1024)', rate)
    .optionsGroup('The load:')
    .option(
      '--requests <n>',
      'counted requests of a run (default: 100; search: 60, more for high percentiles)',
      wholeNumber(5, mostRequests),
    )
    .addOption(new Option('--arrivals <kind>', 'how requests arrive').choices(arrivalKinds).default('poisson'))
    .option('--trace <file>', "request log whose arrival times --arrivals trace takes (default: --mix's)")
    .option('--mix <file>', 'a mixture: lengths drawn from a request log, instead of cells')
    .option(
      '--profile <file>',
      'profile or rows of a search: says how far the sum of single-cell works is from the mixture',
    )
    .option('--seed <n>', 'of arrivals, lengths and prompts', wholeNumber(0, 2 ** 31), 0)
    .option('--temperature <t>', 'of sampling', share(0, 10), 0)
    .option('--timeout <seconds>', 'most that one request may take', positiveNumber, targetDefaults.timeoutSeconds)
    .optionsGroup('The server:')
    .option('--api-key <key>', 'bearer token (default: OPENAI_API_KEY)')
    .option('--chat', 'ask /v1/chat/completions instead of /v1/completions', false)
    .option('--no-stream', 'ask for whole answers: only E2E and throughput are measured')
    .optionsGroup('No server, virtual time:')
    .option('--simulate', 'measure a simulated replica instead (gpumix engine serves the same one over HTTP)', false)
    .option('--gpu <type>', 'GPU type of the catalogue: L4, A100-80GB, …')
    .option('--gpus <n>', 'GPUs of the replica, tensor parallel (default: 1)', wholeNumber(1, 1024))
    .addOption(new Option('--precision <format>', 'format of the weights').choices(weightPrecisions))
    .addOption(new Option('--kv-precision <format>', 'format of the KV cache (default: bf16)').choices(['bf16', 'fp8']))
    .option('--max-num-seqs <n>', 'most requests that run at once (default: 256)', wholeNumber(1, 100_000))
    .addHelpText('after', examples);
}

/** What the flags say, before any server is asked. */
export type BenchmarkIntent = {
  readonly mode: 'sweep' | 'search';
  /** null where nothing is limited. */
  readonly slo: Slo | null;
  /** Coarse grid first; empty with a mixture. */
  readonly cells: readonly Cell[];
  /** Of a sweep, and of a mixture without an SLO. */
  readonly rates: readonly number[];
  readonly rateStart: number;
  readonly rateLimit: number;
  readonly requests: number;
};

/** @throws InputError for flags that contradict each other, or that nothing can be measured with */
export function intentOf(flags: BenchmarkFlags): BenchmarkIntent {
  if (flags.model.trim() === '') throw flagError('--model', { found: '""', expected: 'the name of a model' });
  const slo = sloOf(flags);
  const mode = modeOf(flags, slo);
  const rateStart = flags.rateStart ?? rateDefaults[mode].start;
  const rateLimit = flags.rateLimit ?? Math.max(rateDefaults[mode].limit, rateStart);
  if (rateLimit < rateStart)
    throw flagError('--rate-limit', {
      found: String(rateLimit),
      expected: `at least the ${rateStart} of --rate-start`,
    });
  contradictions(flags, { slo, mode });
  const percentile = slo === null || slo.percentile === 0 ? 50 : slo.percentile;
  const needed = Math.ceil(beyondQuantile / (1 - percentile / 100));
  return {
    mode,
    slo,
    cells: flags.mix === undefined ? cellsOf(flags) : [],
    rates: doubling(rateStart, rateLimit),
    rateStart,
    rateLimit,
    requests: flags.requests ?? (mode === 'sweep' ? requestDefaults.sweep : Math.max(requestDefaults.search, needed)),
  };
}

function sloOf({ sloTtft, sloTtftPerInputToken, sloTpot, sloE2e, percentile }: BenchmarkFlags): Slo | null {
  requireTtft(
    { ttft: sloTtft, ttftPerInputToken: sloTtftPerInputToken },
    { flag: '--slo-ttft-per-input-token', of: '--slo-ttft' },
  );
  if (sloTtft === undefined && sloTpot === undefined && sloE2e === undefined) return null;
  return {
    ttftSeconds: sloTtft ?? null,
    ...(sloTtftPerInputToken === undefined ? {} : { ttftSecondsPerInputToken: sloTtftPerInputToken }),
    tpotSeconds: sloTpot ?? null,
    e2eSeconds: sloE2e ?? null,
    percentile,
  };
}

function modeOf({ sweep, search }: BenchmarkFlags, slo: Slo | null): 'sweep' | 'search' {
  if (sweep === true && search === true)
    throw flagError('--sweep', { found: '--search beside it', expected: 'one of the two' });
  if (search === true && slo === null) {
    throw flagError('--search', { found: 'no SLO', expected: 'what to look for: --slo-ttft, --slo-tpot or --slo-e2e' });
  }
  if (sweep === true) return 'sweep';
  return search === true || slo !== null ? 'search' : 'sweep';
}

/** Flags that would do nothing, or the wrong thing, beside others. */
function contradictions(
  flags: BenchmarkFlags,
  { slo, mode }: { readonly slo: Slo | null; readonly mode: BenchmarkIntent['mode'] },
): void {
  const { baseUrl, simulate, mix, trace, arrivals, resume, output, profile, stream } = flags;
  if (simulate && baseUrl !== undefined)
    throw flagError('--simulate', { found: '--base-url beside it', expected: 'one of the two' });
  if (!simulate && baseUrl === undefined && !flags.dryRun) {
    throw flagError('--base-url', {
      found: 'nothing',
      expected: 'a server: http://host:8000 (or --simulate --gpu TYPE)',
    });
  }
  if (simulate && flags.gpu === undefined)
    throw flagError('--gpu', { found: 'nothing', expected: 'the GPU type to simulate, such as L4' });
  for (const [flag, given] of [
    ['--gpu', flags.gpu],
    ['--gpus', flags.gpus],
    ['--precision', flags.precision],
    ['--kv-precision', flags.kvPrecision],
    ['--max-num-seqs', flags.maxNumSeqs],
  ] as const) {
    if (given !== undefined && !simulate)
      throw flagError(flag, { found: 'no --simulate', expected: '--simulate, which it is about' });
  }
  for (const [flag, given] of [
    ['--api-key', flags.apiKey !== undefined],
    ['--chat', flags.chat],
    ['--no-stream', !stream],
  ] as const) {
    if (given && simulate)
      throw flagError(flag, { found: '--simulate', expected: 'a server (--base-url), which it is about' });
  }
  if (resume && output === undefined)
    throw flagError('--resume', { found: 'no --output', expected: 'the file to go on with' });
  if (arrivals === 'trace' && trace === undefined && mix === undefined) {
    throw flagError('--arrivals trace', {
      found: 'no --trace and no --mix',
      expected: 'the request log whose times are taken',
    });
  }
  if (trace !== undefined && arrivals !== 'trace')
    throw flagError('--trace', { found: `--arrivals ${arrivals}`, expected: '--arrivals trace' });
  if (profile !== undefined && mix === undefined)
    throw flagError('--profile', { found: 'no --mix', expected: '--mix, which is compared with it' });
  if (profile !== undefined && mode === 'sweep')
    throw flagError('--profile', { found: '--sweep', expected: '--search with the SLO of the profile' });
  if (!stream && (slo?.ttftSeconds ?? slo?.tpotSeconds ?? null) !== null) {
    throw flagError('--no-stream', {
      found: 'an SLO on TTFT or TPOT',
      expected: 'streaming: without it only E2E is known',
    });
  }
}

function cellsOf(flags: BenchmarkFlags): readonly Cell[] {
  const inputs = flags.inputs ?? axis('--input', flags.inputStart, flags.inputLimit);
  const outputs = flags.outputs ?? axis('--output', flags.outputStart, flags.outputLimit);
  if (flags.sloTpot !== undefined && outputs.every((tokens) => tokens < 2)) {
    throw flagError('--slo-tpot', { found: 'answers of one token', expected: 'answers of two tokens and more' });
  }
  return coarseFirstCells(inputs, outputs);
}

function axis(name: string, start: number, limit: number): readonly number[] {
  if (limit < start)
    throw flagError(`${name}-limit`, { found: String(limit), expected: `at least the ${start} of ${name}-start` });
  return doubling(start, limit);
}

function rate(text: string): number {
  // As it is written in the help: 1/256.
  const [over, under] = text.split('/');
  const value = under === undefined ? decimal(text) : decimal(over!) / decimal(under);
  if (value > 0 && value <= mostRate) return value;
  throw new InvalidArgumentError(`expected requests/s, above 0 and at most ${mostRate}.`);
}

function share(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = decimal(text);
    if (value >= least && value <= most) return value;
    throw new InvalidArgumentError(`expected a number from ${least} to ${most}.`);
  };
}

function tokenList(text: string): readonly number[] {
  const parse = wholeNumber(1, mostTokens);
  try {
    return [...new Set(text.split(',').map((part) => parse(part.trim())))].toSorted((a, b) => a - b);
  } catch {
    throw new InvalidArgumentError('expected whole numbers of tokens, as in 128,512,2048.');
  }
}

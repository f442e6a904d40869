import { Command, Option } from 'commander';
import { fitOf, weightBytesOf } from '../core/gpu-memory.js';
import type { CataloguedGpu } from '../core/gpu-types.js';
import { quoteInput } from '../core/input-error.js';
import { type CataloguedModel, modelNameKey, type WeightPrecision, weightPrecisions } from '../core/model-types.js';
import { profileDocument } from '../core/profile.js';
import type { SloLimits, SloPercentile } from '../profiling/attainment.js';
import {
  defaultEstimateGrid,
  describeWeights,
  type Estimate,
  type EstimateGrid,
  estimateProfile,
} from '../simulation/estimate.js';
import type { ReplicaSpec } from '../simulation/step-time.js';
import { cataloguedReplica } from './catalogued-replica.js';
import { documentTime } from './document-time.js';
import { renderEstimate } from './estimate-table.js';
import {
  ascendingTokenCounts,
  describeTtft,
  flagError,
  positiveNumber,
  requireTtft,
  sloPercentile,
  usd,
  wholeNumber,
} from './flag-values.js';
import { parseProfileTarget, writeProfile } from './profile-output.js';
import { packageVersion } from './version.js';

export type EstimateFlags = {
  readonly gpu: string;
  readonly model: string;
  readonly ttft?: number;
  readonly ttftPerInputToken?: number;
  readonly tpot?: number;
  readonly e2e?: number;
  readonly percentile: SloPercentile;
  readonly gpus: number;
  readonly precision?: WeightPrecision;
  readonly kvPrecision: 'bf16' | 'fp8';
  readonly maxNumSeqs?: number;
  readonly maxNumBatchedTokens?: number;
  readonly maxModelLen?: number;
  readonly inputTokens?: readonly number[];
  readonly outputTokens?: readonly number[];
  readonly cost?: number;
  readonly deployment?: string;
  readonly servedModelName?: string;
  readonly output?: string;
  readonly cacert?: string;
  readonly json: boolean;
};

/** What the command sees of the process around it. */
export type EstimateSurroundings = {
  readonly write: (text: string) => void;
  readonly writeError: (text: string) => void;
  /** Unix milliseconds. */
  readonly now: () => number;
  readonly color: boolean;
  readonly width: number;
};

const count = wholeNumber(1, 1e9);

/** `gpumix estimate`: a profile without a benchmark, from the catalogue. */
export function estimateCommand(): Command {
  return new Command('estimate')
    .summary('a profile without a benchmark, from the figures of the GPU and the model')
    .description(
      'Estimates the requests/s of one replica within an SLO, by lengths of prompt and answer, from the catalogue: memory, ' +
        'bandwidth and FLOP/s of the GPU, shape of the model. The profile is marked as estimated and states its error; ' +
        'docs/profiles.md says how far to trust it. A benchmark is better wherever there is a GPU to run it on.\n\n' +
        'Exit code: 0 estimated (also where no cell meets the SLO, with a warning), 1 the weights do not fit or Redis could ' +
        'not be reached, 2 bad input.',
    )
    .requiredOption('--gpu <type>', 'GPU type of the catalogue, or a part of one: L4, H100, A100-80GB-MIG-3g.40gb, …')
    .requiredOption('--model <name>', 'model of the catalogue, as you spell it: llama-3.1-8b, Qwen/Qwen3-32B-AWQ, …')
    .option('--ttft <seconds>', 'SLO: time to first token, at most', positiveNumber)
    .option('--ttft-per-input-token <seconds>', 'SLO: added to --ttft for each token of the prompt', positiveNumber)
    .option('--tpot <seconds>', 'SLO: time per output token, at most', positiveNumber)
    .option('--e2e <seconds>', 'SLO: end-to-end latency, at most', positiveNumber)
    .addOption(
      new Option('--percentile <p>', 'of the times that the SLO is about; 0 = the mean')
        .argParser(sloPercentile)
        .default(99 satisfies SloPercentile),
    )
    .option('--gpus <n>', 'GPUs of a replica, tensor parallel', count, 1)
    .addOption(
      new Option(
        '--precision <format>',
        "format of the weights (default: what the model's name says, else as published)",
      ).choices([...weightPrecisions]),
    )
    .addOption(new Option('--kv-precision <format>', 'format of the KV cache').choices(['bf16', 'fp8']).default('bf16'))
    .option('--max-num-seqs <n>', 'most requests that run at once (default: 256)', count)
    .option('--max-num-batched-tokens <n>', 'most tokens of one step (default: 8192)', count)
    .option('--max-model-len <tokens>', "longest request, input + output (default: the model's context)", count)
    .option('--input-tokens <list>', 'lengths of prompts (default: 64,128,…,32768)', ascendingTokenCounts)
    .option('--output-tokens <list>', 'lengths of answers (default: 16,32,…,4096)', ascendingTokenCounts)
    .option('--cost <usd>', 'USD per replica-hour (default: list price of the catalogue × GPUs)', usd)
    .option('--deployment <name>', 'deployment of the profile, without its namespace (default: MODEL-GPU)')
    .option('--served-model-name <name>', "the model's name in the profile and in Redis (default: as --model says)")
    .option(
      '-o, --output <target>',
      'write the profile: a file, redis://[user:password@]host[:port][/database]?model=NAME, rediss://, or -',
    )
    .option('--cacert <file>', 'PEM file of the authority that signed the certificate of Redis')
    .option('--json', 'print the profile as JSON instead of the table', false)
    .addHelpText(
      'after',
      `
Examples:
  gpumix estimate --gpu L4 --model llama-3.1-8b --ttft 1 --tpot 0.05
  gpumix estimate --gpu H100 --gpus 4 --model llama-3.1-70b --ttft 2 --tpot 0.05 --percentile 95 --json
  gpumix estimate --gpu L4 --model qwen3-32b --precision int4 --gpus 2 --ttft 1 --tpot 0.1 --deployment qwen-l4 \\
    -o 'redis://redis:6379/?model=qwen3-32b'
`,
    )
    .action(async (flags: EstimateFlags) => {
      const { stdout, stderr, env } = process;
      process.exitCode = await runEstimate(flags, {
        write: (text) => stdout.write(text),
        writeError: (text) => stderr.write(text),
        now: () => documentTime(env, Date.now),
        color: stdout.isTTY === true && !env.NO_COLOR && env.TERM !== 'dumb',
        width: stdout.columns || 100,
      });
    });
}

/**
 * The command itself.
 *
 * @returns the exit code: 0 estimated, 1 the weights do not fit, or Redis could not be reached
 * @throws InputError for flags that cannot be used, and where the catalogue lacks a figure
 */
export async function runEstimate(flags: EstimateFlags, around: EstimateSurroundings): Promise<number> {
  const { ttft, tpot, e2e } = flags;
  if (ttft === undefined && tpot === undefined && e2e === undefined) {
    throw flagError('SLO', { found: 'none', expected: 'at least one of --ttft, --tpot, --e2e' });
  }
  requireTtft(flags, { flag: '--ttft-per-input-token', of: '--ttft' });
  const spec = await cataloguedReplica(flags);
  const { gpu, model } = spec;
  const modelName = named('--served-model-name', flags.servedModelName) ?? flags.model;
  const deployment = named('--deployment', flags.deployment) ?? defaultDeployment(model, gpu, flags.gpus);
  const { output, cacert } = flags;
  // The name of --model is a default: a URL that names another model is no contradiction.
  const keyModel = flags.servedModelName ?? (/[?&]model=/.test(output ?? '') ? undefined : modelName);
  const target = parseProfileTarget({ output, model: keyModel, deployment, cacert });

  const misfit = whyNot(spec);
  if (misfit !== null) {
    around.writeError(`gpumix: ${misfit}\n`);
    return 1;
  }
  const slo: SloLimits = {
    ttftSeconds: ttft ?? null,
    ttftSecondsPerInputToken: flags.ttftPerInputToken ?? 0,
    tpotSeconds: tpot ?? null,
    e2eSeconds: e2e ?? null,
  };
  const listPrice = gpu.usdPerGpuHour === null ? null : gpu.usdPerGpuHour * flags.gpus;
  const estimate = estimateProfile({
    spec,
    slo,
    percentile: flags.percentile,
    grid: gridOf(flags),
    limits: limitsOf(flags, model),
    deployment,
    modelName: target.kind === 'redis' ? target.model : modelName,
    usdPerReplicaHour: flags.cost ?? listPrice,
    createdSeconds: around.now() / 1000,
    version: packageVersion(),
  });
  const notes = [...kinshipNotes(flags.model, model), ...notesOf(estimate, spec)];
  const wantsJson = flags.json || output === '-';
  if (wantsJson) {
    around.write(`${JSON.stringify(profileDocument(estimate.profile))}\n`);
    for (const note of notes) around.writeError(`gpumix: ${note}\n`);
  } else {
    around.write(
      renderEstimate(estimate, {
        title: titleOf(spec),
        slo: describeSlo(flags),
        price: describePrice(flags, gpu),
        notes,
        color: around.color,
        width: around.width,
      }),
    );
  }
  if (target.kind === 'stdout') return 0;
  // With --json the result on standard output stays one JSON document.
  const write = wantsJson ? around.writeError : around.write;
  const code = await writeProfile({ target, profile: estimate.profile, around: { ...around, write } });
  if (code === 0 && target.kind === 'file') around.writeError(`profile written to ${target.path}\n`);
  return code;
}

function named(flag: string, name: string | undefined): string | undefined {
  if (name?.trim() === '') throw flagError(flag, { found: quoteInput(name), expected: 'a name' });
  return name;
}

/** A name that a Kubernetes object may have: `qwen3-32b-l4`, `llama-3-1-70b-h100-x4`. */
function defaultDeployment(model: CataloguedModel, gpu: CataloguedGpu, gpus: number): string {
  const name = `${model.name}-${gpu.name}${gpus > 1 ? `-x${gpus}` : ''}`;
  return name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
}

/** Why the model cannot run there, and where or how it could; null where it fits. */
function whyNot(spec: ReplicaSpec): string | null {
  const fit = fitOf(spec);
  if (fit.fits) return null;
  const { gpu, model, gpusPerReplica, weightPrecision, bitsPerWeight = null } = spec;
  const format = bitsPerWeight === null ? weightPrecision : `${bitsPerWeight} bits`;
  const roomy = (change: Partial<ReplicaSpec>): boolean => {
    const other = fitOf({ ...spec, ...change });
    return other.fits && other.kvCacheTokens >= usefulCacheTokens;
  };
  // Within a few per cent, as formats of as many bits are, another would hardly help.
  const narrower = weightPrecisions.filter((precision) => weightBytesOf(model, precision) < 0.9 * fit.weightBytes);
  // `--precision` replaces the bits that the name of a GGUF says.
  const inFormat = (precision: WeightPrecision) => ({ weightPrecision: precision, bitsPerWeight: null });
  // Engines split over powers of two of the GPUs of one machine. Parts of a GPU have no link to each other.
  const counts = gpu.linkGBps === null ? [] : [2, 4, 8, 16].filter((gpus) => gpus > gpusPerReplica);
  const alike = narrower.filter((precision) => roomy(inFormat(precision)));
  const more = counts.find((gpus) => roomy({ gpusPerReplica: gpus }));
  const both = counts.find(
    (gpus) =>
      gpus < (more ?? 32) && narrower.some((precision) => roomy({ gpusPerReplica: gpus, ...inFormat(precision) })),
  );
  const ways = [
    ...(alike.length > 0 ? [`with ${alike.join(' or ')} weights (--precision)`] : []),
    ...(alike.length === 0 && both !== undefined
      ? [
          `with ${narrower.filter((precision) => roomy({ gpusPerReplica: both, ...inFormat(precision) })).join(' or ')} ` +
            `weights on ${both} of them (--gpus ${both} --precision)`,
        ]
      : []),
    ...(more === undefined ? [] : [`in ${format} on ${more} of them (--gpus ${more})`]),
  ];
  const advice = ways.length === 0 ? 'nor would it on 16 of them, in any precision' : `it would ${ways.join(', or ')}`;
  return `${spec.model.name} does not fit on ${gpusPerReplica} x ${gpu.name}: ${fit.arithmetic}; ${advice}`;
}

/** Advice leads to what can serve a request of usual length, not only start [tokens]. */
const usefulCacheTokens = 4096;

function gridOf({ inputTokens, outputTokens }: EstimateFlags): EstimateGrid {
  return {
    inputTokens: inputTokens ?? defaultEstimateGrid.inputTokens,
    outputTokens: outputTokens ?? defaultEstimateGrid.outputTokens,
  };
}

function limitsOf(flags: EstimateFlags, model: CataloguedModel) {
  if (flags.maxModelLen !== undefined && flags.maxModelLen > model.maxTokens) {
    throw flagError('--max-model-len', {
      found: String(flags.maxModelLen),
      expected: `at most the context of ${model.name}, ${model.maxTokens}`,
    });
  }
  return {
    ...(flags.maxNumSeqs === undefined ? {} : { maxSequences: flags.maxNumSeqs }),
    ...(flags.maxNumBatchedTokens === undefined ? {} : { maxBatchedTokens: flags.maxNumBatchedTokens }),
    ...(flags.maxModelLen === undefined ? {} : { maxTokens: flags.maxModelLen }),
  };
}

/** An alias may be another model of the same shape, or not the one that was meant: the reader should see which was taken. */
function kinshipNotes(asked: string, { name }: CataloguedModel): readonly string[] {
  if (modelNameKey(asked) === modelNameKey(name)) return [];
  return [
    `note: the catalogue has ${quoteInput(asked)} among the names of ${name}, and this is an estimate of ${name}; if another was meant, ` +
      'name it by --model, and by --served-model-name as it is served',
  ];
}

function notesOf({ profile, cellsThatMeet, cells }: Estimate, { model, gpu }: ReplicaSpec): readonly string[] {
  if (cellsThatMeet > 0) return [];
  const [outputs = [], inputs = []] = profile.grid.indexes;
  const [ttft, tpot] = [profile.ttft?.[0]?.[0], profile.tpot?.[0]?.[0]];
  const alone =
    typeof ttft === 'number' && typeof tpot === 'number'
      ? ` (alone, a request of ${inputs[0]} input and ${outputs[0]} output tokens has TTFT ${ttft} s and TPOT ${tpot} s)`
      : ' (the KV cache does not hold a request of any cell)';
  return [
    `warning: none of the ${cells} cells meets the SLO on ${gpu.name}${alone}; services refuse a profile of ${model.name} that serves nothing`,
  ];
}

function titleOf(spec: ReplicaSpec): string {
  const { gpu, model, gpusPerReplica, kvPrecision } = spec;
  return `${model.name} (${describeWeights(spec)}, ${kvPrecision} KV cache) on ${gpusPerReplica} x ${gpu.name}`;
}

function describeSlo({ ttft, ttftPerInputToken = 0, tpot, e2e, percentile }: EstimateFlags): string {
  const parts = [
    ...(ttft === undefined ? [] : [describeTtft(ttft, ttftPerInputToken)]),
    ...(tpot === undefined ? [] : [`TPOT ${tpot} s`]),
    ...(e2e === undefined ? [] : [`E2E ${e2e} s`]),
  ];
  return `${parts.join(', ')}, ${percentile === 0 ? 'the mean' : `P${percentile}`} under Poisson arrivals`;
}

function describePrice({ cost, gpus }: EstimateFlags, gpu: CataloguedGpu): string | null {
  if (cost !== undefined) return `${cost} USD per replica-hour`;
  if (gpu.usdPerGpuHour === null) return null;
  const total = Number((gpu.usdPerGpuHour * gpus).toPrecision(6));
  return `${total} USD per replica-hour (${gpu.priceSource}, ${gpu.priceAsOf})`;
}

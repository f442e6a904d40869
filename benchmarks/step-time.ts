import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { loadGpuCatalogue, loadModelCatalogue } from '../src/adapters/catalogue-file.js';
import { type CataloguedGpu, gpuByName } from '../src/core/gpu-types.js';
import { type CataloguedModel, modelByName } from '../src/core/model-types.js';
import {
  type Efficiency,
  type EfficiencyClass,
  efficiencies,
  efficiencyClassOf,
} from '../src/simulation/gpu-efficiency.js';
import type { ReplicaLimits } from '../src/simulation/replica.js';
import { type StepTimes, stepTimesOf } from '../src/simulation/step-time.js';
import { promptMs, steadyRate, steadyStateAt } from './steady-state-rate.js';
import { percentile, table } from './timing.js';

/**
 * The simulated engine's step times against profiles added up from measured kernels, and the fit of their parameters:
 * on Llama-3.1-8B only, so that Qwen3-32B and Llama-3.1-70B, and every all-reduce, are unseen.
 */

/** Where the yardstick lies, beside the repository. */
const composedFolder = '../shared/data/profiles/composed';

/** The model that parameters are fitted on. */
export const fittedModel = 'llama-3.1-8b';

/** The numbers of sequences that the yardstick tried. */
const triedConcurrencies = [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512];

/** One file of the yardstick, with what it is of. */
export type ComposedProfile = {
  readonly file: string;
  readonly gpu: CataloguedGpu;
  readonly model: CataloguedModel;
  readonly gpusPerReplica: number;
  /** The yardstick's own sum. */
  readonly kvCacheTokens: number;
  readonly limits: ReplicaLimits;
  readonly inputTokens: readonly number[];
  readonly outputTokens: readonly number[];
  readonly promptMs: Readonly<Record<string, number>>;
  /** By number of sequences, then by context of each. */
  readonly decodeStepMs: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** By TPOT limit [ms], or `none`; rows are inputs, columns outputs; 0 = infeasible. */
  readonly byTpot: Readonly<
    Record<
      string,
      { readonly max_req_per_s: readonly (readonly number[])[]; readonly concurrency: readonly (readonly number[])[] }
    >
  >;
};

/** Reads the yardstick; null where it is not there. */
export async function readComposedProfiles(folder = composedFolder): Promise<readonly ComposedProfile[] | null> {
  if (!existsSync(folder)) return null;
  const [gpus, models] = await Promise.all([
    // Named, since the compiled benchmark does not lie beside them.
    loadGpuCatalogue('profiles/gpus.json'),
    loadModelCatalogue('profiles/models.json'),
  ]);
  return readdirSync(folder)
    .filter((file) => file.endsWith('.json'))
    .toSorted()
    .map((file) => {
      const document = JSON.parse(readFileSync(`${folder}/${file}`, 'utf8')) as {
        readonly model: string;
        readonly method: string;
        readonly gpus_per_replica: number;
        readonly kv_cache_tokens: number;
        readonly input_tokens: readonly number[];
        readonly output_tokens: readonly number[];
        readonly prefill_ms: ComposedProfile['promptMs'];
        readonly decode_step_ms: ComposedProfile['decodeStepMs'];
        readonly by_tpot_slo_ms: ComposedProfile['byTpot'];
      };
      // The file's name says the GPU: `h100-sxm-80gbx2__qwen3-32b__composed.json`.
      const gpuName = /^(.+?)x\d+__/.exec(file)?.[1] ?? '';
      const gpu = gpuByName(gpus, gpuName) ?? gpuByName(gpus, gpuName.replace(/-(sxm-)?\d+gb$/, ''));
      const model = modelByName(models, document.model);
      const batched = /\((\d+) tokens a step\)/.exec(document.method)?.[1];
      if (gpu === undefined || model === undefined || batched === undefined) throw new Error(`${file} is of what?`);
      return {
        file,
        gpu,
        model,
        gpusPerReplica: document.gpus_per_replica,
        kvCacheTokens: document.kv_cache_tokens,
        limits: { maxSequences: 512, maxBatchedTokens: Number(batched), maxTokens: 32_768 },
        inputTokens: document.input_tokens,
        outputTokens: document.output_tokens,
        promptMs: document.prefill_ms,
        decodeStepMs: document.decode_step_ms,
        byTpot: document.by_tpot_slo_ms,
      };
    });
}

export function timesOf(profile: ComposedProfile, efficiency?: Efficiency): StepTimes {
  return stepTimesOf({
    gpu: profile.gpu,
    model: profile.model,
    gpusPerReplica: profile.gpusPerReplica,
    weightPrecision: 'bf16',
    ...(efficiency === undefined ? {} : { efficiency }),
  });
}

/** The same times with the cache that the yardstick counted on, which leaves the step times alone to be judged. */
export function withTheirCache(profile: ComposedProfile, stepTimes: StepTimes): StepTimes {
  return { ...stepTimes, kvCacheTokens: profile.kvCacheTokens };
}

/** Predicted / composed, for everything that a file states. */
export type Comparison = {
  readonly prompts: readonly number[];
  readonly decodeSteps: readonly number[];
  /** Rates of cells that both call feasible, by TPOT limit. */
  readonly rates: Readonly<Record<string, readonly number[]>>;
  /** Cells that both call feasible, both infeasible, only we, only the yardstick. */
  readonly verdicts: {
    readonly both: number;
    readonly neither: number;
    readonly oursOnly: number;
    readonly theirsOnly: number;
  };
};

function promptsAndSteps(profile: ComposedProfile, stepTimes: StepTimes) {
  const { limits } = profile;
  const prompts = Object.entries(profile.promptMs).map(
    ([input, ms]) => promptMs({ stepTimes, limits, cell: { inputTokens: Number(input), outputTokens: 1 } }) / ms,
  );
  const decodeSteps = Object.entries(profile.decodeStepMs).flatMap(([sequences, byContext]) =>
    Object.entries(byContext).map(
      ([context, ms]) =>
        stepTimes.stepMs({
          prefillTokens: 0,
          prefillAttention: 0,
          decodeSequences: Number(sequences),
          decodeContextTokens: Number(sequences) * Number(context),
        }) / ms,
    ),
  );
  return { prompts, decodeSteps };
}

/**
 * Compares one file, in the yardstick's steps of concurrency. How much cache the step times are given decides how many
 * sequences a cell may have: `timesOf` has the catalogue's sum, `withTheirCache` that of the yardstick.
 */
export function compare(profile: ComposedProfile, stepTimes: StepTimes): Comparison {
  const rates: Record<string, number[]> = {};
  const verdicts = { both: 0, neither: 0, oursOnly: 0, theirsOnly: 0 };
  for (const [limit, { max_req_per_s: matrix }] of Object.entries(profile.byTpot)) {
    const ratios: number[] = [];
    rates[limit] = ratios;
    for (const [i, inputTokens] of profile.inputTokens.entries()) {
      for (const [o, outputTokens] of profile.outputTokens.entries()) {
        const theirs = matrix[i]![o]!;
        const { requestsPerSecond: ours } = steadyRate({
          stepTimes,
          limits: profile.limits,
          cell: { inputTokens, outputTokens },
          slo: limit === 'none' ? {} : { tpotMs: Number(limit) },
          concurrencies: triedConcurrencies,
        });
        if (ours > 0 && theirs > 0) ratios.push(ours / theirs);
        verdicts[ours > 0 ? (theirs > 0 ? 'both' : 'oursOnly') : theirs > 0 ? 'theirsOnly' : 'neither']++;
      }
    }
  }
  return { ...promptsAndSteps(profile, stepTimes), rates, verdicts };
}

/** Everything that a fit looks at: prompts, decode steps, and rates at the yardstick's own concurrency; logarithms of the ratios. */
function faults(profile: ComposedProfile, stepTimes: StepTimes, mixed: readonly MixedCell[]): number {
  const { prompts, decodeSteps } = promptsAndSteps(profile, stepTimes);
  let sum = 0;
  // Prompts are few and each counts as four: nine of them against eighty decode steps and some two hundred rates.
  for (const ratio of prompts) sum += 4 * robust(ratio);
  for (const ratio of decodeSteps) sum += robust(ratio);
  for (const { requestsPerSecond, ...at } of mixed) {
    sum += robust(steadyStateAt({ stepTimes, limits: profile.limits, ...at }).requestsPerSecond / requestsPerSecond);
  }
  return sum;
}

/** Square of small faults, linear beyond 10 %, so that single odd kernels do not bend the whole. */
function robust(ratio: number): number {
  return Math.sqrt(1 + (Math.log(ratio) / 0.1) ** 2) - 1;
}

type MixedCell = {
  readonly cell: { readonly inputTokens: number; readonly outputTokens: number };
  readonly concurrency: number;
  readonly requestsPerSecond: number;
};

/** Each (cell, concurrency) of a file once: limits on TPOT repeat them. */
function mixedCells(profile: ComposedProfile): readonly MixedCell[] {
  const found = new Map<string, MixedCell>();
  for (const { max_req_per_s: rates, concurrency } of Object.values(profile.byTpot)) {
    for (const [i, inputTokens] of profile.inputTokens.entries()) {
      for (const [o, outputTokens] of profile.outputTokens.entries()) {
        const requestsPerSecond = rates[i]![o]!;
        const sequences = concurrency[i]![o]!;
        if (requestsPerSecond <= 0) continue;
        found.set(`${i} ${o} ${sequences}`, {
          cell: { inputTokens, outputTokens },
          concurrency: sequences,
          requestsPerSecond,
        });
      }
    }
  }
  return [...found.values()];
}

const fittedKeys = ['cacheBandwidth', 'compute', 'promptAttention', 'rampTokens', 'layerMicroseconds'] as const;
/** First step of the search, and the range of each parameter. */
const searchSpace = {
  cacheBandwidth: { step: 0.1, low: 0.2, high: 0.95 },
  compute: { step: 0.1, low: 0.1, high: 1 },
  promptAttention: { step: 0.1, low: 0.05, high: 0.75 },
  rampTokens: { step: 64, low: 0, high: 2000 },
  layerMicroseconds: { step: 16, low: 0, high: 200 },
} as const;

/** Fits the parameters of one class of GPUs: Hooke and Jeeves's pattern search, deterministic, from the middle. */
export function fitEfficiency(profiles: readonly ComposedProfile[]): Efficiency {
  const cells = new Map(profiles.map((profile) => [profile, mixedCells(profile)]));
  const cost = (efficiency: Efficiency): number => {
    let sum = 0;
    for (const profile of profiles) sum += faults(profile, timesOf(profile, efficiency), cells.get(profile)!);
    return sum;
  };
  const clamped = (key: (typeof fittedKeys)[number], value: number): number =>
    Math.min(searchSpace[key].high, Math.max(searchSpace[key].low, value));
  const explore = (from: Efficiency, fromCost: number, scale: number): readonly [Efficiency, number] => {
    let best = from;
    let bestCost = fromCost;
    for (const key of fittedKeys) {
      for (const sign of [1, -1]) {
        const tried = { ...best, [key]: clamped(key, best[key] + sign * scale * searchSpace[key].step) };
        const triedCost = cost(tried);
        if (triedCost >= bestCost) continue;
        best = tried;
        bestCost = triedCost;
        break;
      }
    }
    return [best, bestCost];
  };
  let base: Efficiency = efficiencies.other;
  let baseCost = cost(base);
  for (let scale = 1; scale > 1e-3; ) {
    const [found, foundCost] = explore(base, baseCost, scale);
    if (foundCost >= baseCost - 1e-9) {
      scale /= 2;
      continue;
    }
    // Once more the same way, which follows valleys that no single parameter does.
    const ahead = { ...found };
    for (const key of fittedKeys) ahead[key] = clamped(key, 2 * found[key] - base[key]);
    const [further, furtherCost] = explore(ahead, cost(ahead), scale);
    [base, baseCost] = furtherCost < foundCost ? [further, furtherCost] : [found, foundCost];
  }
  return base;
}

export type StepTimeBenchmark = {
  readonly comparisons: readonly {
    readonly profile: ComposedProfile;
    readonly comparison: Comparison;
    /** Rates with the yardstick's own cache. */
    readonly ratesWithTheirCache: Comparison['rates'];
    /** Rates with the numbers of sequences that the yardstick chose: no limit on TPOT or cache decides. */
    readonly ratesAtTheirConcurrency: readonly number[];
  }[];
  /** What a fit gives now, beside what is built in. */
  readonly refits: readonly { readonly name: EfficiencyClass; readonly fitted: Efficiency }[];
};

/** null where the yardstick is not there. */
export async function benchmarkStepTime(): Promise<StepTimeBenchmark | null> {
  const profiles = await readComposedProfiles();
  if (profiles === null) return null;
  const comparisons = profiles.map((profile) => {
    const stepTimes = timesOf(profile);
    const { rates: ratesWithTheirCache } = compare(profile, withTheirCache(profile, stepTimes));
    const ratesAtTheirConcurrency = mixedCells(profile).map(
      ({ requestsPerSecond, ...at }) =>
        steadyStateAt({ stepTimes, limits: profile.limits, ...at }).requestsPerSecond / requestsPerSecond,
    );
    return { profile, comparison: compare(profile, stepTimes), ratesWithTheirCache, ratesAtTheirConcurrency };
  });
  const classes = new Map<EfficiencyClass, ComposedProfile[]>();
  for (const profile of profiles) {
    if (profile.model.name !== fittedModel) continue;
    const name = efficiencyClassOf(profile.gpu);
    classes.set(name, [...(classes.get(name) ?? []), profile]);
  }
  const refits = [...classes].map(([name, members]) => ({ name, fitted: fitEfficiency(members) }));
  return { comparisons, refits };
}

/** `median (p10–p90), p90 of |error|` of predicted / composed. */
function spread(ratios: readonly number[]): string {
  if (ratios.length === 0) return '–';
  const errors = ratios.map((ratio) => Math.abs(ratio - 1));
  const share = (value: number): string => `${(100 * value).toFixed(0)} %`;
  const [low, middle, high] = [0.1, 0.5, 0.9].map((at) => percentile(ratios, at).toFixed(2));
  return `${middle} (${low}–${high}), ${share(percentile(errors, 0.9))}`;
}

/** PCIe 5.0 has 64 GB/s in one direction, the slowest NVLink of the yardstick 300. */
function isOverPcie({ profile }: { readonly profile: ComposedProfile }): boolean {
  return profile.gpusPerReplica > 1 && (profile.gpu.linkGBps ?? 0) <= 64;
}

export function describeStepTime(benchmark: StepTimeBenchmark | null): string {
  if (benchmark === null) return `${composedFolder} is not there: nothing to compare with`;
  const { comparisons, refits } = benchmark;
  type Member = (typeof comparisons)[number];
  const header = [
    'replica',
    'prompt',
    'decode step',
    'rate, their concurrency',
    'rate, their cache',
    'rate',
    'feasible in both + neither / only ours / only theirs',
  ];
  const row = (name: string, members: readonly Member[]): readonly string[] => {
    const sum = (key: keyof Comparison['verdicts']): number =>
      members.reduce((total, { comparison }) => total + comparison.verdicts[key], 0);
    return [
      name,
      spread(members.flatMap(({ comparison }) => comparison.prompts)),
      spread(members.flatMap(({ comparison }) => comparison.decodeSteps)),
      spread(members.flatMap(({ ratesAtTheirConcurrency }) => ratesAtTheirConcurrency)),
      spread(members.flatMap(({ ratesWithTheirCache }) => Object.values(ratesWithTheirCache).flat())),
      spread(members.flatMap(({ comparison }) => Object.values(comparison.rates).flat())),
      `${sum('both')} + ${sum('neither')} / ${sum('oursOnly')} / ${sum('theirsOnly')}`,
    ];
  };
  const fitted = comparisons.filter(({ profile }) => profile.model.name === fittedModel);
  const unseen = comparisons.filter(({ profile }) => profile.model.name !== fittedModel);
  const overPcie = unseen.filter(isOverPcie);
  const rows = comparisons.map((member) => {
    const { model, gpusPerReplica, gpu } = member.profile;
    return row(`${model.name} on ${gpusPerReplica} × ${gpu.name}`, [member]);
  });
  const groupRows = [
    row('fitted', fitted),
    row('unseen', unseen),
    row(
      'unseen, one GPU',
      unseen.filter(({ profile }) => profile.gpusPerReplica === 1),
    ),
    row(
      'unseen, over NVLink',
      unseen.filter((member) => member.profile.gpusPerReplica > 1 && !overPcie.includes(member)),
    ),
    row('unseen, over PCIe', overPcie),
    row('all', comparisons),
  ];
  const limits = Object.keys(comparisons[0]?.comparison.rates ?? {});
  const limitRows = limits.map((limit) => [
    limit === 'none' ? 'none' : `${limit} ms`,
    spread(fitted.flatMap(({ comparison }) => comparison.rates[limit] ?? [])),
    spread(unseen.flatMap(({ comparison }) => comparison.rates[limit] ?? [])),
  ]);
  const parameter = (efficiency: Efficiency, key: keyof Efficiency): string =>
    String(Number(efficiency[key].toPrecision(3)));
  const refitRows = refits.flatMap(({ name, fitted: refitted }) => [
    [name, 'fitted now', ...fittedKeys.map((key) => parameter(refitted, key))],
    ['', 'built in', ...fittedKeys.map((key) => parameter(efficiencies[name], key))],
  ]);
  return [
    'predicted / composed: median (p10–p90), p90 of the absolute error',
    table(header, rows),
    table(['group', ...header.slice(1)], groupRows),
    table(['TPOT limit', 'rate, fitted', 'rate, unseen'], limitRows),
    table(['class', 'parameters', ...fittedKeys], refitRows),
  ].join('\n\n');
}

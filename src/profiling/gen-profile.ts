import { InputError, quoteInput } from '../core/input-error.js';
import { nearestName } from '../core/parse.js';
import { type CellOrigin, type GpuProfile, smallestThroughput } from '../core/profile.js';
import { keepsUpShare, type SloPercentile, ttftPerInputTokenName } from './attainment.js';
import type { BenchmarkRun, MetricName, PercentileName } from './benchmark-row.js';
import { latenciesOf } from './cell-latencies.js';
import { fillThroughputs } from './fill-cells.js';

/**
 * From benchmark runs to a profile: for each cell the throughput of the highest rate that meets the SLO.
 *
 * Per cell, as AIBrix's gen_profile does, number for number:
 * 1. a run qualifies if its TPUT and TT are at least the SLO's, and its times are below it (strictly), at the percentile
 *    asked for; TPAT is E2E / (input + output tokens);
 * 2. none qualifies: throughput 0, with the latencies of the cell's first run;
 * 3. of those, runs that kept up (TPUT >= 0.9 × rate) are preferred: the highest rate of them; without any, the lowest
 *    rate that qualifies (beyond it requests pile up, so that it says little of a higher one);
 * 4. the cell's throughput is the one that was measured in that run, its latencies are the means of that run.
 *
 * Where we differ, on purpose: an SLO that is not set needs no rows of its metric; one that is set and finds none is an
 * error, not a profile of zeros; of two runs of one cell and rate the last counts, not the first; runs that are marked
 * invalid never count; one of which over a tenth of the requests failed meets no SLO; cells without a run are
 * interpolated, not an exception.
 */
export const sloNames = ['tput', 'tt', 'e2e', 'ttft', 'tpat', 'tpot'] as const;
export type SloName = (typeof sloNames)[number];

/** Requests/s, tokens/s (at least), and seconds (below). Unset: 0 for the first two, Infinity for times. */
export type ProfileSlo = Readonly<Record<SloName, number>>;

export const unsetSlo: ProfileSlo = {
  tput: 0,
  tt: 0,
  e2e: Number.POSITIVE_INFINITY,
  ttft: Number.POSITIVE_INFINITY,
  tpat: Number.POSITIVE_INFINITY,
  tpot: Number.POSITIVE_INFINITY,
};

export type GenerateOptions = {
  /** Name of the deployment, without namespace. */
  readonly deployment: string;
  readonly runs: readonly BenchmarkRun[];
  readonly slo: ProfileSlo;
  /** Added to the objective on TTFT for each token of the prompt [s]; absent = 0. */
  readonly ttftPerInputToken?: number;
  readonly percentile: SloPercentile;
  /** USD per replica-hour. */
  readonly cost: number;
  /** Refuses a grid with gaps instead of filling them. */
  readonly strict: boolean;
  /** Unix seconds. */
  readonly createdSeconds: number;
  /** Tool and version, for the provenance. */
  readonly by: string;
  /** What the benchmark files are, for the provenance and for errors. */
  readonly source: string;
  readonly model?: string | undefined;
  readonly gpuType?: string | undefined;
  readonly gpusPerReplica?: number | undefined;
};

export type ProfileNotice = {
  readonly kind:
    | 'duplicates'
    | 'invalid_runs'
    | 'aborted_runs'
    | 'missing_metric'
    | 'filled_cells'
    | 'filled_latencies'
    | 'nothing_meets_slo';
  readonly message: string;
};

/** One run as one cell saw it. */
export type Candidate = {
  readonly run: BenchmarkRun;
  /** Why it does not qualify; null = it does. */
  readonly refused: string | null;
  readonly keepsUp: boolean;
};

/** How one cell came by its throughput. */
export type CellDecision = {
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** By rate, ascending; empty where the cell has no run that counts. */
  readonly candidates: readonly Candidate[];
  /** The run whose throughput it is; null where none qualifies, and where the cell was filled. */
  readonly chosen: BenchmarkRun | null;
  readonly origin: CellOrigin;
  /** Requests/s. */
  readonly tput: number;
};

export type GeneratedProfile = {
  readonly profile: GpuProfile;
  /** Row by row: outputs ascending, inputs ascending in each. */
  readonly decisions: readonly CellDecision[];
  readonly notices: readonly ProfileNotice[];
};

/**
 * Generates a profile. Pure: the same runs give the same profile.
 *
 * @throws InputError for an SLO on what was not measured, percentiles that the files lack, gaps with `strict`, runs of
 *   several models, files without a run that counts, and latencies that nothing tells
 */
export function generateProfile(options: GenerateOptions): GeneratedProfile {
  const { slo, percentile, source, ttftPerInputToken = 0 } = options;
  const notices: ProfileNotice[] = [];
  const { runs, model } = runsOfModel(options);
  const cells = groupByCell(usableRuns(runs, source, notices), notices);
  const indexes = [axis(runs, (run) => run.outputTokens), axis(runs, (run) => run.inputTokens)];
  const counted = [...cells.values()].flat();
  requireMetrics({ runs: counted, slo, percentile, source });

  const decided = indexes[0]!.map((outputTokens) =>
    indexes[1]!.map((inputTokens) =>
      decideCell({
        inputTokens,
        outputTokens,
        runs: cells.get(cellKey({ inputTokens, outputTokens })) ?? [],
        slo: { ...slo, ttft: slo.ttft + ttftPerInputToken * inputTokens },
        percentile,
      }),
    ),
  );
  const missing = decided.flat().filter(({ tput }) => tput === null);
  if (missing.length === indexes[0]!.length * indexes[1]!.length) {
    const isUnfinished = missing.some(({ below }) => below !== undefined);
    throw new InputError(source, [
      isUnfinished
        ? {
            place: '',
            found: 'a search that ended before it had found any rate',
            expected: 'one that went on (gpumix benchmark --resume)',
          }
        : { place: '', found: 'no run that counts', expected: 'at least one valid run with a throughput (TPUT)' },
    ]);
  }
  if (missing.length > 0 && options.strict) throw gaps(missing, source);

  const lacking = lackingMetrics(decided.flat(), slo, percentile);
  if (lacking !== null) notices.push(lacking);
  const {
    tputs: filledIn,
    between,
    beyond,
  } = fillThroughputs(
    indexes,
    decided.map((row) => row.map(({ tput }) => tput)),
  );
  const tputs = filledIn.map((row, r) => row.map((tput, c) => Math.min(tput, decided[r]![c]!.below ?? tput)));
  if (between + beyond > 0) notices.push(filledNotice({ missing, between, beyond }));
  if (tputs.every((row) => row.every((tput) => tput === 0))) {
    notices.push({
      kind: 'nothing_meets_slo',
      message:
        'no cell meets the SLO: every throughput is 0, and with this profile the deployment serves nothing. ' +
        `${describeNearest(decided.flat())}Loosen the SLO, or benchmark lower rates.`,
    });
  }
  const { filled, ...latencies } = latenciesOf({ decided, indexes, tputs, source });
  if (filled > 0) {
    notices.push({
      kind: 'filled_latencies',
      message: `TTFT or TPOT is missing in ${filled} ${filled === 1 ? 'place' : 'places'}: those of the neighbouring cells stand there`,
    });
  }
  const decisions = decided.flatMap((row, r) => row.map((cell, c): CellDecision => ({ ...cell, tput: tputs[r]![c]! })));
  const method = counted.some((run) => run.method === 'simulated') ? 'simulated' : 'measured';
  const profile: GpuProfile = {
    gpu: options.deployment,
    cost: options.cost,
    grid: { indexes, tputs, method },
    created: options.createdSeconds,
    slos: statedSlos(slo, { percentile, ttftPerInputToken }),
    ...latencies,
    ...(model === undefined ? {} : { model }),
    ...(options.gpuType === undefined ? {} : { gpuType: options.gpuType }),
    ...(options.gpusPerReplica === undefined ? {} : { gpusPerReplica: options.gpusPerReplica }),
    cells: decided.map((row) => row.map(({ origin }) => origin)),
    provenance: {
      method,
      by: options.by,
      at: new Date(options.createdSeconds * 1000).toISOString(),
      details:
        `${counted.length} ${counted.length === 1 ? 'run' : 'runs'} of ${source}; ` +
        (missing.length === 0
          ? 'all cells have runs of their own'
          : `${missing.length} of ${decisions.length} cells are interpolated`),
      relativeError: null,
    },
  };
  return { profile, decisions, notices };
}

type Lengths = { readonly inputTokens: number; readonly outputTokens: number };

function cellKey({ inputTokens, outputTokens }: Lengths): string {
  return `${outputTokens} ${inputTokens}`;
}

/** `512 in, 64 out`. */
export function describeCell({ inputTokens, outputTokens }: Lengths): string {
  return `${inputTokens} in, ${outputTokens} out`;
}

/** Runs of one model: files may hold several, and a profile is of one. */
function runsOfModel(options: GenerateOptions): {
  readonly runs: readonly BenchmarkRun[];
  readonly model: string | undefined;
} {
  const { runs, model, source } = options;
  if (runs.length === 0) {
    throw new InputError(source, [{ place: '', found: 'no run at all', expected: 'results of a benchmark' }]);
  }
  const names = [...new Set(runs.flatMap((run) => (run.model === null ? [] : [run.model])))];
  // With one model in the files, --model may well be another name of it.
  if (names.length <= 1) return { runs, model: names[0] ?? model };
  if (model !== undefined && names.includes(model)) {
    return { runs: runs.filter((run) => run.model === model), model };
  }
  const suggestion = model === undefined ? undefined : nearestName(model, names);
  const found = `runs of ${names.length} models: ${names.slice(0, 5).map(quoteInput).join(', ')}`;
  throw new InputError(source, [
    {
      place: 'model',
      found,
      expected: '--model NAME, to say of which the profile is',
      ...(suggestion === undefined ? {} : { suggestion }),
    },
  ]);
}

/** Leaves out what must not be believed, and says so. */
function usableRuns(runs: readonly BenchmarkRun[], source: string, notices: ProfileNotice[]): readonly BenchmarkRun[] {
  const invalid = runs.filter((run) => run.invalid !== null);
  if (invalid.length > 0) {
    const example = invalid[0]!;
    notices.push({
      kind: 'invalid_runs',
      message:
        `${invalid.length} of ${runs.length} runs are invalid and do not count, e.g. ${describeCell(example)} ` +
        `at ${describeRate(example.requestRate)}: ${example.invalid}`,
    });
  }
  const usable = runs.filter((run) => run.invalid === null);
  if (usable.length === 0) {
    throw new InputError(source, [
      {
        place: '',
        found: `${runs.length} runs that are all invalid (${invalid[0]?.invalid})`,
        expected: 'at least one valid run',
      },
    ]);
  }
  return usable;
}

function describeRate(rate: number): string {
  return rate === Number.POSITIVE_INFINITY ? 'all at once' : `${Number(rate.toPrecision(4))}/s`;
}

/**
 * Runs by cell, one for each rate: the last of several, unless it was cut off before it had measured what an earlier one
 * had. In order of the files.
 */
function groupByCell(
  runs: readonly BenchmarkRun[],
  notices: ProfileNotice[],
): ReadonlyMap<string, readonly BenchmarkRun[]> {
  const cells = new Map<string, Map<number, BenchmarkRun>>();
  let replaced = 0;
  let example: BenchmarkRun | null = null;
  for (const run of runs) {
    const key = cellKey(run);
    let rates = cells.get(key);
    if (rates === undefined) {
      rates = new Map();
      cells.set(key, rates);
    }
    const before = rates.get(run.requestRate);
    if (before !== undefined) {
      replaced += 1;
      example ??= run;
      const isCutOff = Object.keys(before.metrics).some((name) => run.metrics[name as MetricName] === undefined);
      if (isCutOff) continue;
    }
    rates.set(run.requestRate, run);
  }
  if (example !== null) {
    notices.push({
      kind: 'duplicates',
      message:
        `${replaced} ${replaced === 1 ? 'run repeats' : 'runs repeat'} the cell and rate of an earlier one ` +
        `(e.g. ${describeCell(example)} at ${describeRate(example.requestRate)}): the last whole one counts`,
    });
  }
  const aborted = [...cells.values()].flatMap((rates) => [...rates.values()].filter((run) => run.aborted !== null));
  if (aborted.length > 0) {
    notices.push({
      kind: 'aborted_runs',
      message:
        `${aborted.length} ${aborted.length === 1 ? 'run was' : 'runs were'} ended early, as hopeless for the SLO of the ` +
        'benchmark: they count as rates that do not meet this SLO either',
    });
  }
  return new Map([...cells].map(([key, rates]) => [key, [...rates.values()]]));
}

function axis(runs: readonly BenchmarkRun[], tokensOf: (run: BenchmarkRun) => number): readonly number[] {
  return [...new Set(runs.map(tokensOf))].sort((a, b) => a - b);
}

/** Metric that an SLO is about; TPAT is computed from E2E. */
const metricOf = {
  tput: 'TPUT',
  tt: 'TT',
  e2e: 'E2E',
  ttft: 'TTFT',
  tpat: 'E2E',
  tpot: 'TPOT',
} as const satisfies Record<SloName, MetricName>;

const isThroughput = (name: SloName): boolean => name === 'tput' || name === 'tt';

function isSet(slo: ProfileSlo, name: SloName): boolean {
  return slo[name] !== unsetSlo[name];
}

function columnOf(name: SloName, percentile: SloPercentile): 'mean' | PercentileName {
  return isThroughput(name) || percentile === 0 ? 'mean' : `P${percentile}`;
}

/** An SLO on what no run has measured would make every cell 0 in silence. */
function requireMetrics(options: {
  readonly runs: readonly BenchmarkRun[];
  readonly slo: ProfileSlo;
  readonly percentile: SloPercentile;
  readonly source: string;
}): void {
  const { runs, slo, percentile, source } = options;
  for (const name of sloNames) {
    if (!isSet(slo, name)) continue;
    const metric = metricOf[name];
    const column = columnOf(name, percentile);
    const rows = runs.flatMap((run) => run.metrics[metric] ?? []);
    const flag = `--${name}`;
    if (rows.length === 0) {
      throw new InputError(source, [
        {
          place: metric,
          found: 'no row of this metric',
          expected: `rows of ${metric}, on which ${flag} sets an objective`,
        },
      ]);
    }
    if (rows.every((row) => row[column] === null)) {
      const have = (['mean', 'P50', 'P90', 'P95', 'P99'] as const).filter((one) =>
        rows.some((row) => row[one] !== null),
      );
      throw new InputError(source, [
        {
          place: `${metric}.${column}`,
          found: `no value; the rows have ${have.length === 0 ? 'none at all' : have.join(', ')}`,
          expected: `${column === 'mean' ? 'means' : `the percentile of --percentile ${percentile}`}, since ${flag} sets an objective`,
        },
      ]);
    }
  }
}

/** A cell before gaps are filled: `tput` null is a gap. */
export type DecidedCell = Omit<CellDecision, 'tput'> & {
  readonly tput: number | null;
  /** Of a gap: a rate that missed the SLO, so that less is served; absent = not known. */
  readonly below?: number;
};

function decideCell(
  options: Lengths & {
    readonly runs: readonly BenchmarkRun[];
    readonly slo: ProfileSlo;
    readonly percentile: SloPercentile;
  },
): DecidedCell {
  const { inputTokens, outputTokens, runs, slo, percentile } = options;
  const candidates = runs
    .map((run): Candidate => {
      const tput = run.metrics.TPUT?.mean ?? null;
      const refused = refusalOf({ run, slo, percentile });
      return { run, refused, keepsUp: tput !== null && tput >= run.requestRate * keepsUpShare };
    })
    .sort((a, b) => a.run.requestRate - b.run.requestRate);
  const lengths = { inputTokens, outputTokens, candidates };
  // A run that was ended early says that its rate is too high; one without a throughput says nothing.
  if (!runs.some((run) => run.aborted !== null || run.metrics.TPUT?.mean != null)) {
    return { ...lengths, chosen: null, origin: 'interpolated', tput: null };
  }
  const qualified = candidates.filter(({ refused }) => refused === null);
  const keepingUp = qualified.filter(({ keepsUp }) => keepsUp);
  const chosen = (keepingUp.at(-1) ?? qualified[0])?.run ?? null;
  // The search ended before it knew: that no rate meets the SLO would be another answer.
  if (chosen === null && candidates[0]!.run.lowerRatesOpen === true) {
    return { ...lengths, chosen: null, origin: 'interpolated', tput: null, below: candidates[0]!.run.requestRate };
  }
  const tput = chosen?.metrics.TPUT?.mean ?? 0;
  const origin = (chosen ?? runs[0]!).method;
  return { ...lengths, chosen, origin, tput: tput < smallestThroughput ? 0 : tput };
}

/** Why a run does not qualify, by the first objective that it misses; null where it does. */
function refusalOf(options: {
  readonly run: BenchmarkRun;
  readonly slo: ProfileSlo;
  readonly percentile: SloPercentile;
}): string | null {
  const { run, slo, percentile } = options;
  if (run.aborted !== null) return `ended early: ${run.aborted}`;
  if (run.failures !== null) return run.failures;
  if (run.metrics.TPUT?.mean == null) return 'TPUT was not measured';
  for (const name of sloNames) {
    if (!isSet(slo, name)) continue;
    const column = columnOf(name, percentile);
    const measured = sloValue(run, name, column);
    if (measured === null) return `${metricOf[name]} ${column} was not measured`;
    const meets = isThroughput(name) ? measured >= slo[name] : measured < slo[name];
    if (!meets) return `${name.toUpperCase()} ${column} ${Number(measured.toPrecision(4))}`;
  }
  return null;
}

/** The number that an objective is about, in its unit; null where it was not measured. */
export function sloValue(run: BenchmarkRun, name: SloName, column: 'mean' | PercentileName): number | null {
  const value = run.metrics[metricOf[name]]?.[column] ?? null;
  if (value === null || name !== 'tpat') return value;
  const tokens = run.inputTokens + run.outputTokens;
  return tokens > 0 ? value / tokens : null;
}

function gaps(missing: readonly Lengths[], source: string): InputError {
  return new InputError(
    source,
    missing.map((cell) => ({
      place: describeCell(cell),
      found: 'no run that counts',
      expected: 'a run of every cell of the grid (without --strict it is interpolated)',
    })),
  );
}

function filledNotice(options: {
  readonly missing: readonly Lengths[];
  readonly between: number;
  readonly beyond: number;
}): ProfileNotice {
  const { missing, between, beyond } = options;
  const listed = missing.slice(0, 4).map(describeCell).join('; ');
  const kinds = [
    ...(between > 0 ? [`${between} between measured ones`] : []),
    ...(beyond > 0 ? [`${beyond} beyond them`] : []),
  ];
  return {
    kind: 'filled_cells',
    message:
      `${missing.length} ${missing.length === 1 ? 'cell has' : 'cells have'} no run that counts and ` +
      `${missing.length === 1 ? 'is' : 'are'} interpolated (${kinds.join(', ')}): ${listed}${missing.length > 4 ? '; …' : ''}`,
  };
}

/** Runs that could not qualify only because a metric of the SLO is missing in them. */
function lackingMetrics(
  cells: readonly DecidedCell[],
  slo: ProfileSlo,
  percentile: SloPercentile,
): ProfileNotice | null {
  const lacking = cells.flatMap(({ candidates }) =>
    candidates.filter(({ run }) =>
      sloNames.some(
        (name) => isSet(slo, name) && run.aborted === null && sloValue(run, name, columnOf(name, percentile)) === null,
      ),
    ),
  );
  if (lacking.length === 0) return null;
  const { run, refused } = lacking[0]!;
  return {
    kind: 'missing_metric',
    message:
      `${lacking.length} ${lacking.length === 1 ? 'run lacks' : 'runs lack'} a metric of the SLO and cannot qualify, ` +
      `e.g. ${describeCell(run)} at ${describeRate(run.requestRate)}: ${refused}`,
  };
}

/** How near the nearest cell came, so that a person sees whether the SLO or the benchmark is at fault. */
function describeNearest(cells: readonly DecidedCell[]): string {
  const smallest = cells
    .filter(({ candidates }) => candidates.length > 0)
    .sort((a, b) => a.inputTokens + a.outputTokens - (b.inputTokens + b.outputTokens))[0];
  const first = smallest?.candidates[0];
  if (smallest === undefined || first === undefined) return '';
  // A server that answered nothing misses no objective either.
  const why = first.refused ?? 'its throughput is 0';
  return `The smallest cell (${describeCell(smallest)}) at its lowest rate, ${describeRate(first.run.requestRate)}: ${why}. `;
}

/** As AIBrix's `slos`: the percentile, and the objectives that are set. */
function statedSlos(
  slo: ProfileSlo,
  { percentile, ttftPerInputToken }: { readonly percentile: SloPercentile; readonly ttftPerInputToken: number },
): Readonly<Record<string, number>> {
  const set = sloNames.filter((name) => isSet(slo, name)).map((name) => [name, slo[name]] as const);
  const perToken = isSet(slo, 'ttft') && ttftPerInputToken > 0 ? [[ttftPerInputTokenName, ttftPerInputToken]] : [];
  return { percentile, ...Object.fromEntries([...set, ...perToken]) };
}

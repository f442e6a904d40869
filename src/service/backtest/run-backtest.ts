import { setImmediate as nextTurn } from 'node:timers/promises';
import type { GpuCatalogue } from '../../core/gpu-types.js';
import type { ModelCatalogue } from '../../core/model-types.js';
import type { ProfileSource, SharedStore } from '../../core/ports.js';
import type { BacktestRequest, FleetSettings, Policy, RunResult } from '../../simulation/backtest/backtest.js';
import {
  type BacktestDocument,
  type BacktestOracle,
  type BacktestQuestion,
  backtestDocument,
  type FinishedRun,
  type SimulatedFleet,
} from '../../simulation/backtest/backtest-document.js';
import { runFluid } from '../../simulation/backtest/fluid-run.js';
import { oracleBound } from '../../simulation/backtest/oracle.js';
import type { PolicyName } from '../../simulation/backtest/policy-names.js';
import { runRequests } from '../../simulation/backtest/request-run.js';
import { meanDemand } from '../../simulation/backtest/trace-facts.js';
import { cheapestFleet } from '../../simulation/policies/constant-fleets.js';
import type { Config } from '../config.js';
import { type BacktestFleet, backtestFleet, withBelief } from './backtest-fleet.js';
import { backtestNotices } from './backtest-notices.js';
import { type PolicyContext, type PolicyVariant, policies } from './backtest-policies.js';
import { type BacktestTrace, readBacktestTrace } from './backtest-trace.js';

/**
 * A backtest: every policy that is asked for serves the same trace with a fleet of its own, and what each paid and what
 * its users felt becomes one document.
 */

/** What is asked. */
export type BacktestRequestOptions = Omit<BacktestQuestion, 'trace'> & {
  readonly trace: {
    /** As the user named it. */
    readonly file: string;
    /** From its beginning; called several times for every run. */
    readonly open: () => AsyncIterable<BacktestRequest>;
  };
  readonly config: Config;
  /** Names the configuration in errors. */
  readonly configSource: string;
  /** Also a bound below which no policy can be. */
  readonly oracle: boolean;
};

export type BacktestSurroundings = {
  readonly profiles: ProfileSource;
  readonly gpus: GpuCatalogue;
  readonly models: ModelCatalogue;
  /** A store for one run of gpumix, on its simulated clock. */
  readonly createStore: (clock: { now(): number }) => SharedStore;
  /** Milliseconds on a steady clock. */
  readonly steadyMs: () => number;
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: BacktestProgress) => void;
  /** What is known before the end: the document comes when all runs are done. */
  readonly onRunEnd?: (run: EndedRun) => void;
};

/** One run of one policy, with one value of its knob. */
export type EndedRun = {
  /** `gpumix, quantile 0.95` */
  readonly name: string;
  /** Of the scored window. */
  readonly usd: number;
  /** Share of its requests that met the objective. */
  readonly attainment: number;
};

export type BacktestProgress = {
  readonly runsDone: number;
  /** At most: a search for the best constant fleet may end earlier. */
  readonly runs: number;
  /** Of the simulated span, of what runs now: 0..1. */
  readonly runShare: number;
  /** What runs now: `gpumix, quantile 0.95`; empty at the end. */
  readonly now: string;
};

/** Attainments whose least cost the oracle bounds, besides that which is aimed at and those that policies came to. */
const oracleAttainments = [0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999];

/** Steps of the series in a result: no picture shows more than some hundreds. */
const seriesPoints = 720;

/**
 * Runs all of it.
 *
 * @throws InputError for a trace, window, configuration or profile that cannot be used
 * @throws the reason of the signal where it is called off
 */
export async function runBacktest(
  asked: BacktestRequestOptions,
  surroundings: BacktestSurroundings,
): Promise<BacktestDocument> {
  const { steadyMs, signal, onProgress, onRunEnd } = surroundings;
  const startedMs = steadyMs();
  const { config, configSource: source } = asked;
  const fleet = await backtestFleet({ ...surroundings, config, source });
  const trace = await readBacktestTrace({
    ...asked,
    open: asked.trace.open,
    source: asked.trace.file,
    startsAtMs: Date.parse(config.simulation.startsAt),
    signal,
  });
  const settings = settingsOf({ asked, fleet, trace });
  const series = seriesOf({ asked, surroundings, fleet, trace });
  const finished: TriedRun[] = [];
  let runs = series.reduce((sum, each) => sum + mostRuns(each), 0);
  const make = async (planned: RunToMake): Promise<RunResult> => {
    const { create, initialReplicas, ...facts } = planned;
    const now = describeRun(planned);
    const progress = (runShare: number) => onProgress?.({ runsDone: finished.length, runs, runShare, now });
    progress(0);
    const beganMs = steadyMs();
    const policy = watched(create(), { settings, signal, steadyMs, progress });
    const result = await oneRun(asked, { settings: { ...settings, initialReplicas }, trace, policy, signal });
    finished.push({ ...facts, result, seconds: (steadyMs() - beganMs) / 1000 });
    onRunEnd?.({ name: now, usd: result.usd, attainment: result.attainment });
    return result;
  };
  for (const each of series) {
    const before = finished.length;
    if (each.isSearched) await searchCheapest(each.runs, { target: asked.targetAttainment, make });
    else for (const planned of each.runs) await make(planned);
    runs -= mostRuns(each) - (finished.length - before);
  }
  onProgress?.({ runsDone: runs, runs, runShare: 0, now: asked.oracle ? 'the oracle' : '' });
  const oracle = asked.oracle ? await boundOf({ asked, settings, trace, finished }) : null;
  return backtestDocument({
    asked: questionOf(asked),
    window: trace.window,
    fleet: describeFleet(fleet, config),
    runs: withBestVariants(finished, asked.targetAttainment),
    oracle,
    notices: backtestNotices({
      asked,
      config,
      fleet,
      gpus: surroundings.gpus,
      facts: trace.facts,
      warmUpSeconds: (trace.scoredFromMs - trace.startMs) / 1000,
    }),
    totalSeconds: (steadyMs() - startedMs) / 1000,
  });
}

/** A run as it was made, with what its policy ran on where it had a choice. */
type TriedRun = FinishedRun & { readonly variant: string | null };

type RunToMake = Omit<TriedRun, 'result' | 'seconds'> & {
  readonly initialReplicas: ReadonlyMap<string, number>;
  create(): Policy;
};

/** Runs of one variant of one policy. */
type VariantRuns = {
  readonly runs: readonly RunToMake[];
  /** Only the cheapest that attains what is aimed at is wanted: they are tried by halves, cheapest first. */
  readonly isSearched: boolean;
};

function mostRuns({ runs, isSearched }: VariantRuns): number {
  return isSearched ? Math.ceil(Math.log2(runs.length + 1)) : runs.length;
}

/** Every policy, with each belief at its usual knob, and over its knob's values with true profiles. */
function seriesOf(parts: {
  readonly asked: BacktestRequestOptions;
  readonly surroundings: BacktestSurroundings;
  readonly fleet: BacktestFleet;
  readonly trace: BacktestTrace;
}): readonly VariantRuns[] {
  const { asked, surroundings, fleet, trace } = parts;
  const config = routedConfig(asked);
  const context: Omit<PolicyContext, 'fleet'> = {
    config,
    gpus: surroundings.gpus,
    models: surroundings.models,
    createStore: surroundings.createStore,
    facts: trace.facts,
    copies: asked.copies,
    history: trace.history,
    startMs: trace.startMs,
    cadenceSeconds: asked.cadenceSeconds,
  };
  return asked.policies.flatMap((policy) => {
    const entry = policies[policy];
    const { values, name, unit } = entry.knob;
    const usual = entry.knob.usual(config);
    const given = asked.knobs[policy];
    const asUsual = given === undefined || given.includes(usual) ? usual : given[0]!;
    return asked.profileErrors.flatMap((profileError): readonly VariantRuns[] => {
      // Who knows the future needs no profiles.
      if (entry.isInHindsight && profileError !== 0) return [];
      return entry.variants({ ...context, fleet: withBelief(fleet, 1 + profileError) }).map((variant): VariantRuns => {
        const swept = variant.values ?? values;
        const isSearched = entry.isInHindsight && given === undefined && !asked.sweep;
        const usualValues =
          asked.sweep || entry.isInHindsight ? [...swept, ...(entry.isInHindsight ? [] : [usual])] : [usual];
        const tried = profileError === 0 ? [...new Set(given ?? usualValues)] : [asUsual];
        const first = firstReplicas({ variant, fleet, trace, copies: asked.copies, routing: config.options.routing });
        const runs = tried.map(
          (value): RunToMake => ({
            policy,
            variant: variant.name,
            knob: { name, unit, value },
            isUsualKnob: entry.isInHindsight || value === asUsual,
            profileError,
            initialReplicas: variant.firstReplicas?.(value) ?? first,
            create: () => variant.create(value),
          }),
        );
        return { runs, isSearched };
      });
    });
  });
}

/** A gateway that does not follow shares spreads all requests alike: plans must count with that. */
function routedConfig({ config, router }: BacktestRequestOptions): Config {
  if (router === 'shares') return config;
  return { ...config, options: { ...config.options, routing: 'proportional' } };
}

/**
 * Runs as few as show the cheapest that attains so much, and one that does not, if there are such.
 *
 * @param runs from thrifty to generous
 */
async function searchCheapest(
  runs: readonly RunToMake[],
  { target, make }: { readonly target: number; readonly make: (run: RunToMake) => Promise<RunResult> },
): Promise<void> {
  let [low, high] = [0, runs.length];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const { attainment } = await make(runs[middle]!);
    if (attainment >= target) high = middle;
    else low = middle + 1;
  }
}

/** Of the machine's time, between two looks at what else there is to do [ms]. */
const turnMs = 100;

/**
 * The same policy, asked by a run that tells how far it is and that ends when it is called off, also where nothing in it
 * ever waits for anything.
 */
function watched(
  policy: Policy,
  around: {
    readonly settings: Pick<FleetSettings, 'startMs' | 'endMs'>;
    readonly signal: AbortSignal;
    readonly steadyMs: () => number;
    readonly progress: (runShare: number) => void;
  },
): Policy {
  const { settings, signal, steadyMs, progress } = around;
  const { startMs, endMs } = settings;
  let lastMs = steadyMs();
  return {
    periodSeconds: policy.periodSeconds,
    lagSeconds: policy.lagSeconds,
    decide(view) {
      if (steadyMs() - lastMs < turnMs) return policy.decide(view);
      lastMs = steadyMs();
      progress((view.nowMs - startMs) / (endMs - startMs));
      return nextTurn().then(() => {
        signal.throwIfAborted();
        return policy.decide(view);
      });
    },
  };
}

async function oneRun(
  { fidelity }: BacktestRequestOptions,
  run: {
    readonly settings: FleetSettings;
    readonly trace: BacktestTrace;
    readonly policy: Policy;
    readonly signal: AbortSignal;
  },
): Promise<RunResult> {
  const { settings, trace, policy, signal } = run;
  signal.throwIfAborted();
  const simulate = fidelity === 'fluid' ? runFluid : runRequests;
  try {
    return await simulate({ settings, requests: trace.requests(), policy, shouldStop: () => signal.aborted });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}

function settingsOf(parts: {
  readonly asked: BacktestRequestOptions;
  readonly fleet: BacktestFleet;
  readonly trace: BacktestTrace;
}): Omit<FleetSettings, 'initialReplicas'> {
  const { asked, fleet, trace } = parts;
  const { simulation } = asked.config;
  const deployments = fleet.members.map(({ deployment }) => deployment);
  const { startMs, scoredFromMs, endMs } = trace;
  return {
    deployments,
    router: asked.router,
    objective: asked.objective,
    seed: asked.seed,
    startMs,
    scoredFromMs,
    endMs,
    queueTimeoutSeconds: simulation.queueTimeoutSeconds,
    drainSeconds: simulation.drainSeconds,
    meanHoursBetweenFailures: simulation.meanHoursBetweenFailures,
    seriesSeconds: Math.max(10, Math.ceil((endMs - scoredFromMs) / 1000 / seriesPoints / 10) * 10),
  };
}

/** Minutes whose mean rate the first fleet is made for; they lie in the warm-up, which is not scored. */
const firstMinutes = 10;

/** A little generous: no policy shall begin with a backlog that is none of its doing. */
const firstHeadroom = 1.2;

/**
 * What a policy begins with, ready: of the part of the fleet that it uses the cheapest for the mix at the rate of the
 * first minutes, and at least one replica. By the true profiles: who believes wrong ones begins as the others do.
 */
function firstReplicas(of: {
  readonly variant: PolicyVariant;
  readonly fleet: BacktestFleet;
  readonly trace: BacktestTrace;
  readonly copies: number;
  readonly routing: Config['options']['routing'];
}): ReadonlyMap<string, number> {
  const { variant, fleet, trace, copies, routing } = of;
  const { facts } = trace;
  const used = new Set(variant.part.members.map(({ deployment }) => deployment.id));
  const first = facts.minutes.slice(0, firstMinutes);
  const perMinute = facts.requests / facts.minutes.length;
  const firstPerMinute =
    Math.max(
      1,
      first.reduce((sum, count) => sum + count, 0),
    ) / first.length;
  return cheapestFleet({
    deployments: fleet.members.map(({ deployment }) => deployment).filter(({ id }) => used.has(id)),
    meanDemand: meanDemand(facts, copies),
    rateFactor: (firstHeadroom * firstPerMinute) / perMinute,
    routing,
  }).replicas;
}

async function boundOf({
  asked,
  settings,
  trace,
  finished,
}: {
  readonly asked: BacktestRequestOptions;
  readonly settings: Omit<FleetSettings, 'initialReplicas'>;
  readonly trace: BacktestTrace;
  readonly finished: readonly TriedRun[];
}): Promise<BacktestOracle> {
  const attainments = [
    ...oracleAttainments,
    asked.targetAttainment,
    ...finished.filter(({ isUsualKnob }) => isUsualKnob).map(({ result }) => result.attainment),
  ];
  const missAllowance = [...new Set(attainments.map((attainment) => 1 - attainment))].sort((a, b) => a - b);
  const { points, assumptions } = await oracleBound({ settings, requests: () => trace.requests(), missAllowance });
  return { points, assumptions };
}

/**
 * Of a policy whose user chooses beforehand what it runs on, or whose knob is chosen in hindsight, the usual run is the one
 * that the user would have wanted: the cheapest that attains what is aimed at, else the one that attains most.
 */
function withBestVariants(finished: readonly TriedRun[], target: number): readonly TriedRun[] {
  const best = new Map<PolicyName, TriedRun>();
  for (const run of finished) {
    if (!run.isUsualKnob || run.profileError !== 0) continue;
    const before = best.get(run.policy);
    if (before === undefined || isBetter(run.result, before.result, target)) best.set(run.policy, run);
  }
  return finished.map((run) => {
    const chosen = best.get(run.policy);
    if (chosen === undefined || run === chosen) return run;
    // With wrong profiles: the variant that was best with the true ones.
    const isSame = run.profileError !== 0 && run.variant === chosen.variant;
    return isSame ? run : { ...run, isUsualKnob: false };
  });
}

function isBetter(a: RunResult, b: RunResult, target: number): boolean {
  const reaches = [a.attainment >= target, b.attainment >= target];
  if (reaches[0] !== reaches[1]) return reaches[0]!;
  return reaches[0] ? a.usd < b.usd : a.attainment > b.attainment;
}

function questionOf(asked: BacktestRequestOptions): BacktestQuestion {
  const { trace, config: _, configSource: __, oracle: ___, ...question } = asked;
  return { ...question, trace: trace.file };
}

function describeFleet({ model, members }: BacktestFleet, config: Config): SimulatedFleet {
  const { queueTimeoutSeconds, drainSeconds, meanHoursBetweenFailures } = config.simulation;
  return {
    deployments: members.map(({ deployment }) => {
      const { id, gpuType, gpusPerReplica, usdPerReplicaHour, minReplicas, maxReplicas, startup, engine } = deployment;
      const { maxSequences, maxBatchedTokens, maxTokens } = engine.limits;
      const cache = Number.isFinite(engine.stepTimes.kvCacheTokens)
        ? `${Math.floor(engine.stepTimes.kvCacheTokens).toLocaleString('en-US')} tokens of cache`
        : 'no limit of its cache';
      return {
        id,
        model,
        gpuType,
        gpusPerReplica,
        usdPerReplicaHour,
        minReplicas,
        maxReplicas,
        startup,
        engine: `simulated engine: at most ${maxSequences} sequences, ${maxBatchedTokens} tokens a step, ${maxTokens} a request; ${cache}`,
      };
    }),
    queueTimeoutSeconds,
    drainSeconds,
    meanHoursBetweenFailures,
  };
}

function describeRun({ policy, variant, knob, profileError }: RunToMake): string {
  const error = profileError === 0 ? '' : `, profiles ${profileError > 0 ? '+' : '−'}${Math.abs(profileError) * 100} %`;
  return `${policy}${variant === null ? '' : `, ${variant}`}${knob === null ? '' : `, ${knob.name} ${knob.value}`}${error}`;
}

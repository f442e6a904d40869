import type { GpuCatalogue } from '../../core/gpu-types.js';
import type { ModelCatalogue } from '../../core/model-types.js';
import type { ProfileSource, SharedStore } from '../../core/ports.js';
import type { BacktestRequest, FleetSettings, Policy, RunResult } from '../../simulation/backtest/backtest.js';
import {
  type BacktestDocument,
  type BacktestNotice,
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
import { meanDemand, type TraceFacts } from '../../simulation/backtest/trace-facts.js';
import { cheapestFleet } from '../../simulation/policies/constant-fleets.js';
import type { Config } from '../config.js';
import { type BacktestFleet, backtestFleet, withBelief } from './backtest-fleet.js';
import { type PolicyContext, policies } from './backtest-policies.js';
import { type BacktestTrace, describeSeconds, readBacktestTrace } from './backtest-trace.js';

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
};

export type BacktestProgress = {
  readonly runsDone: number;
  readonly runs: number;
  /** What runs now: `gpumix, quantile 0.95`; empty at the end. */
  readonly now: string;
};

/** Attainments whose least cost the oracle bounds, besides that which is aimed at and those that policies came to. */
const oracleAttainments = [0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999];

/** Steps of the series in a result: no picture shows more than some hundreds. */
const seriesPoints = 720;

/** A time without any request that is worth a word [s]. */
const longGapSeconds = 2 * 3600;

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
  const { steadyMs, signal, onProgress } = surroundings;
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
  const plannedRuns = runsOf({ asked, surroundings, fleet, trace });
  const finished: TriedRun[] = [];
  for (const planned of plannedRuns) {
    onProgress?.({ runsDone: finished.length, runs: plannedRuns.length, now: describeRun(planned) });
    const beganMs = steadyMs();
    const result = await oneRun(asked, { settings, trace, policy: planned.create(), signal });
    const { create: _, ...facts } = planned;
    finished.push({ ...facts, result, seconds: (steadyMs() - beganMs) / 1000 });
  }
  onProgress?.({ runsDone: finished.length, runs: plannedRuns.length, now: asked.oracle ? 'the oracle' : '' });
  const oracle = asked.oracle ? await boundOf({ asked, settings, trace, finished }) : null;
  return backtestDocument({
    asked: questionOf(asked),
    window: trace.window,
    fleet: describeFleet(fleet, config),
    runs: withBestVariants(finished, asked.targetAttainment),
    oracle,
    notices: noticesOf(trace.facts),
    totalSeconds: (steadyMs() - startedMs) / 1000,
  });
}

/** A run as it was made, with what its policy ran on where it had a choice. */
type TriedRun = FinishedRun & { readonly variant: string | null };

type RunToMake = Omit<TriedRun, 'result' | 'seconds'> & { create(): Policy };

/** Every policy, with each belief at its usual knob, and over its knob's values with true profiles. */
function runsOf(parts: {
  readonly asked: BacktestRequestOptions;
  readonly surroundings: BacktestSurroundings;
  readonly fleet: BacktestFleet;
  readonly trace: BacktestTrace;
}): readonly RunToMake[] {
  const { asked, surroundings, fleet, trace } = parts;
  const { config, router } = asked;
  const context: Omit<PolicyContext, 'fleet'> = {
    // A gateway that does not follow shares spreads all requests alike: plans must count with that.
    config:
      router === 'shares' ? config : { ...config, options: { ...config.options, routing: 'proportional' as const } },
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
    return asked.profileErrors.flatMap((profileError) => {
      const variants = entry.variants({ ...context, fleet: withBelief(fleet, 1 + profileError) });
      const { usual, values, name, unit } = entry.knob;
      const swept = asked.knobs[policy] ?? (asked.sweep ? [...new Set([...values, usual])] : [usual]);
      const tried = profileError === 0 ? swept : [asked.knobs[policy]?.[0] ?? usual];
      return variants.flatMap((variant) =>
        tried.map(
          (value): RunToMake => ({
            policy,
            variant: variant.name,
            knob: { name, unit, value },
            isUsualKnob: value === usual,
            profileError,
            create: () => variant.create(value),
          }),
        ),
      );
    });
  });
}

function oneRun(
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
  return simulate({ settings, requests: trace.requests(), policy, shouldStop: () => signal.aborted });
}

function settingsOf(parts: {
  readonly asked: BacktestRequestOptions;
  readonly fleet: BacktestFleet;
  readonly trace: BacktestTrace;
}): FleetSettings {
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
    initialReplicas: initialReplicas(parts),
    queueTimeoutSeconds: simulation.queueTimeoutSeconds,
    drainSeconds: simulation.drainSeconds,
    meanHoursBetweenFailures: simulation.meanHoursBetweenFailures,
    seriesSeconds: Math.max(10, Math.ceil((endMs - scoredFromMs) / 1000 / seriesPoints / 10) * 10),
  };
}

/** Minutes whose mean rate the first fleet is made for; they lie in the warm-up, which is not scored. */
const firstMinutes = 10;

/** The same for every policy: the cheapest fleet for the mix at the rate of the first minutes. */
function initialReplicas({
  asked,
  fleet,
  trace,
}: {
  readonly asked: BacktestRequestOptions;
  readonly fleet: BacktestFleet;
  readonly trace: BacktestTrace;
}): ReadonlyMap<string, number> {
  const { facts } = trace;
  const first = facts.minutes.slice(0, firstMinutes);
  const perMinute = facts.requests / facts.minutes.length;
  return cheapestFleet({
    deployments: fleet.members.map(({ deployment }) => deployment),
    meanDemand: meanDemand(facts, asked.copies),
    rateFactor: first.reduce((sum, count) => sum + count, 0) / first.length / perMinute,
  }).replicas;
}

async function boundOf({
  asked,
  settings,
  trace,
  finished,
}: {
  readonly asked: BacktestRequestOptions;
  readonly settings: FleetSettings;
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
 * Of a policy that chooses what it runs on in hindsight, the usual run is the one that its user would have wanted: the
 * cheapest that attains what is aimed at, else the one that attains most.
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
    return chosen === undefined || run.variant === chosen.variant ? run : { ...run, isUsualKnob: false };
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

function noticesOf({ longestGapSeconds }: TraceFacts): readonly BacktestNotice[] {
  if (longestGapSeconds < longGapSeconds) return [];
  const gap = describeSeconds(longestGapSeconds);
  return [{ code: 'gap_in_trace', message: `the trace has no request for ${gap}: that time counts as idle` }];
}

function describeRun({ policy, variant, knob, profileError }: RunToMake): string {
  const error = profileError === 0 ? '' : `, profiles ${profileError > 0 ? '+' : '−'}${Math.abs(profileError) * 100} %`;
  return `${policy}${variant === null ? '' : ` on ${variant}`}${knob === null ? '' : `, ${knob.name} ${knob.value}`}${error}`;
}

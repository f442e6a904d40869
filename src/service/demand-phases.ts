import { setImmediate as nextTurn } from 'node:timers/promises';
import type { StoreIdentity, TraceReading } from '../core/ports.js';
import { withEvents } from '../demand/calendar.js';
import { followFleetSilences, lastingSilence, type UntracedSpan } from '../demand/fleet-silence.js';
import { DemandForecaster, demandOf, meanLengths, meanRateOf } from '../demand/forecast.js';
import {
  clocksDisagree,
  type DemandHistory,
  DemandWindow,
  defaultLatenessSeconds,
  interpretReading,
} from '../demand/window.js';
import { prometheusDemand } from './config/demand-config.js';
import type { Config } from './config.js';
import {
  type Cycle,
  holdModel,
  holdWithoutDemand,
  holdWithoutStore,
  modelsPerTurn,
  type PhaseContext,
} from './cycle.js';
import type { ModelState } from './fleet.js';
import type { DemandView } from './view.js';

/** Phases 3 and 4: what requests arrived, and what to plan for. */

/**
 * Keys that are asked for at once: a first cycle of a thousand models asks for tens of thousands, whose texts would
 * otherwise all lie in memory before the first of them is used.
 */
const keysPerRead = 1000;

/** Records that are unpacked between two turns of the event loop: one takes some tens of microseconds. */
const recordsPerTurn = 100;

/**
 * Forecasters that learn another horizon in one cycle, each in a turn of the event loop of its own: with a day of minutes
 * that takes each a tenth of a second and more. A slower start-up that was learnt, or another cadence after a restart,
 * may change the horizons of a thousand models at once; those that wait keep the margins of the horizon before.
 */
const learntAnewPerCycle = 5;

/** Most models that a sentence about several names. */
const namedModels = 5;

/** The interval of one model that a key holds. */
type AskedKey = { readonly state: ModelState; readonly endSeconds: number };

/**
 * Phase 3, demand: reads the intervals that are not known yet.
 *
 * Held: everything, while the store cannot be read (`redis_unreachable`), or the source that tells the demand instead of
 * it (`prometheus_unreachable`); a single key that cannot be read is an unknown interval of its model.
 */
export async function readDemand(cycle: Cycle, context: PhaseContext): Promise<void> {
  const { fleet, stored, epoch, config, inputs } = context;
  const models = [...fleet.models.values()];
  for (const state of models) {
    state.hold = null;
    state.built = null;
    state.holds = null;
  }
  if (!stored.restored) return;
  const { windowSeconds, intervalSeconds } = config.demand;
  const latenessSeconds = latenessOf(config);
  const memories = new Map(stored.traces.map((memory) => [memory.model, memory]));
  try {
    const identity = await epoch.identity();
    stored.sawStore(identity.runId);
    const recordsFrom = context.traceSource == null ? identity : await context.traceSource.identity();
    for (const state of models) {
      const memory = memories.get(state.name) ?? null;
      state.window ??= new DemandWindow({ windowSeconds, intervalSeconds, latenessSeconds, memory });
      state.window.storeIdentity(recordsFrom);
    }
    await createForecasters(cycle, context);
    if (config.redis !== null) inputs.read('redis', cycle.nowMs, clockConcern(identity));
  } catch (error) {
    return holdWithoutStore(cycle, context, error);
  }
  const { traceSource: source = null } = context;
  try {
    await readKeys(cycle, context, (window) => window.keysToRead(cycle.nowMs));
    await readKeys(cycle, context, (window) => window.olderKeysToRead(cycle.nowMs));
    inputs.read('traces', cycle.nowMs);
    if (source !== null) inputs.read(source.input, cycle.nowMs, source.concern);
    cycle.read.add('traces');
  } catch (error) {
    if (source === null) holdWithoutStore(cycle, context, error);
    else holdWithoutDemand(cycle, context, { source, error });
  }
}

/** Why silence in a store says nothing; null = it does. */
function clockConcern(identity: StoreIdentity): string | null {
  if (!clocksDisagree(identity)) return null;
  const aheadSeconds = Math.round((identity.aheadMs ?? 0) / 1000);
  const text = `${Math.abs(aheadSeconds)} s ${aheadSeconds > 0 ? 'ahead of' : 'behind'}`;
  return `the clock of Redis is ${text} the clock here: models without traces are held, not idle, until they agree`;
}

/** An answer that is not there at once may be there so much later: what the defaults leave beside the default delay [s]. */
const latenessAfterDelaySeconds = 5;

/**
 * How long after its end an interval may take to be known [s]. Prometheus is not asked before its delay: a window that
 * waited for less would end at intervals that nobody has read.
 */
function latenessOf(config: Config): number {
  if (config.demand.source !== 'prometheus') return defaultLatenessSeconds;
  return Math.max(defaultLatenessSeconds, prometheusDemand(config).delaySeconds + latenessAfterDelaySeconds);
}

/** Forecasters of models that are new here, with what an earlier process remembered. */
async function createForecasters({ nowMs }: Cycle, context: PhaseContext): Promise<void> {
  const { fleet, stored, config, knownMinutes } = context;
  const { intervalSeconds } = config.demand;
  const fresh = [...fleet.models.values()].filter(({ forecaster }) => forecaster === null);
  const memories = await stored.forecasts.read(
    fresh.map(({ name }) => name),
    nowMs,
  );
  fresh.forEach((state, i) => {
    const { method, quantile } = config.forecast;
    const horizonSeconds = horizonOf(state, context);
    const forecaster = new DemandForecaster({ method, quantile, intervalSeconds, horizonSeconds }, memories[i]);
    forecaster.rememberMinutes(knownMinutes?.get(state.name) ?? []);
    state.forecaster = forecaster;
  });
}

/**
 * From what is seen now until replicas that it asks for serve [s]: the next plan comes a cadence later at most, the
 * autoscaler acts after its lag, and then the slowest deployment of the model starts. A plan may use any of them.
 */
function horizonOf({ deployments }: Pick<ModelState, 'deployments'>, context: PhaseContext): number {
  const { config, cadenceSeconds = config.demand.intervalSeconds } = context;
  const startupTimes = context.startupTimes();
  const started = deployments.filter(({ paused }) => !paused).map((each) => startupTimes.secondsOf(each));
  const slowest = started.length === 0 ? config.forecast.startupSeconds : Math.max(...started);
  return Math.round(slowest + config.forecast.consumerLagSeconds + cadenceSeconds);
}

async function readKeys(
  cycle: Cycle,
  context: PhaseContext,
  keysOf: (window: DemandWindow) => readonly number[],
): Promise<void> {
  const asked: AskedKey[] = [];
  for (const state of context.fleet.models.values()) {
    if (state.window === null) continue;
    for (const endSeconds of keysOf(state.window)) asked.push({ state, endSeconds });
  }
  for (let start = 0; start < asked.length; start += keysPerRead) {
    const chunk = asked.slice(start, start + keysPerRead);
    const { traceSource, store } = context;
    const readings =
      traceSource == null
        ? await store.readTraces(chunk.map(({ state, endSeconds }) => ({ model: state.name, endSeconds })))
        : await traceSource.readTraces(
            chunk.map(({ state, endSeconds }) => ({
              model: state.name,
              endSeconds,
              readyReplicas: readyReplicasOf(state),
            })),
          );
    for (const [index, key] of chunk.entries()) {
      if (index % recordsPerTurn === 0) await nextTurn();
      const isUsable = takeReading(cycle, context, { ...key, reading: readings[index]! });
      if (!isUsable) cycle.errors.push({ input: 'traces', code: 'unreadable' });
    }
  }
}

/** Replicas of a model that are ready, as far as the cluster tells; null = it tells of none. */
function readyReplicasOf({ deployments }: Pick<ModelState, 'deployments'>): number | null {
  const told = deployments.flatMap(({ readyReplicas }) => readyReplicas ?? []);
  return told.length === 0 ? null : told.reduce((all, replicas) => all + replicas, 0);
}

/** @returns false where the key was there and could not be used */
function takeReading(
  cycle: Cycle,
  context: PhaseContext,
  { state, endSeconds, reading }: AskedKey & { readonly reading: TraceReading },
): boolean {
  try {
    const source = `traces of ${state.name} at ${endSeconds}`;
    const { intervalSeconds } = context.config.demand;
    const { reading: interpreted, problem } = interpretReading(reading, source, { intervalSeconds });
    state.window!.record(endSeconds, interpreted, cycle.nowMs);
    // Once for a row of bad records, not for each of them.
    if (problem !== null && state.traceProblem === null) context.logger.warn({ model: state.name }, problem);
    if (problem !== null || interpreted.kind === 'present') state.traceProblem = problem;
    return problem === null;
  } catch (error) {
    holdModel(state, context, error);
    return false;
  }
}

/**
 * Looks for a silence of the whole fleet, and tells the windows in which intervals silence means nothing.
 *
 * @returns the models that fell silent together and are still
 */
function followSilence(
  cycle: Cycle,
  { fleet, stored, config, logger, traceSource }: PhaseContext,
): ReadonlySet<string> {
  const before = stored.silences;
  // A store that was not read says nothing new, and least of all that it is silent.
  if (cycle.read.has('traces')) {
    const silences = followFleetSilences({
      silences: before,
      models: [...fleet.models.values()].map(({ name, window }) => ({
        name,
        newestTraceSeconds: window?.newestTraceSeconds ?? null,
        busy: window?.busy ?? false,
      })),
      nowSeconds: cycle.nowMs / 1000,
      intervalSeconds: config.demand.intervalSeconds,
      windowSeconds: config.demand.windowSeconds,
      latenessSeconds: latenessOf(config),
    });
    if (silences !== before) stored.setSilences(silences);
  }
  const [was, is] = [lastingSilence(before), lastingSilence(stored.silences)];
  if (was !== null && is === null) logger.info({}, 'traces arrive again: silence means idleness again');
  if (is !== null && is !== was) {
    const { models } = is;
    const rest = models.length > namedModels ? `, and ${models.length - namedModels} more` : '';
    const names = `${models.slice(0, namedModels).join(', ')}${rest}`;
    logger.warn({ models: models.length }, `${silenceOf(traceSource).all} Held: ${names}`);
  }

  const spans = new Map<string, UntracedSpan[]>();
  for (const silence of stored.silences) {
    for (const name of silence.models) spans.set(name, [...(spans.get(name) ?? []), silence]);
  }
  for (const { name, window } of fleet.models.values()) window?.setUntraced(spans.get(name) ?? []);
  return new Set(is?.models ?? []);
}

/** What it may mean that nothing is told of models: of all that were busy, at once, or of any at all. */
function silenceOf(source: PhaseContext['traceSource']): { readonly all: string; readonly any: string } {
  const ask =
    source == null
      ? 'is tracing switched on at the gateway?'
      : 'are their engines running, and does Prometheus scrape them?';
  return {
    all: `all models fell silent at once: ${ask}`,
    any: source == null ? `no recent request traces of any model: ${ask}` : `nothing is known of any model: ${ask}`,
  };
}

/**
 * Phase 4, forecast: the rate to plan for, by length.
 *
 * Held: a model whose window does not say what arrives (`no_traces`, `requests_pending`, `no_lengths`), and models that
 * fell silent together (`no_traces`).
 */
export async function forecast(cycle: Cycle, context: PhaseContext): Promise<void> {
  const { fleet, inputs } = context;
  const fellSilent = followSilence(cycle, context);
  let done = 0;
  let silent = 0;
  let learntAnew = 0;
  for (const state of fleet.models.values()) {
    if (done++ % modelsPerTurn === 0) await nextTurn();
    if (state.window === null || state.forecaster === null) continue;
    try {
      const { forecaster } = state;
      const horizonSeconds = horizonOf(state, context);
      const mayLearnAnew = learntAnew < learntAnewPerCycle;
      if (mayLearnAnew && !forecaster.isLearntFor(horizonSeconds)) {
        learntAnew += 1;
        await nextTurn();
      }
      const history = state.window.view(cycle.nowMs);
      state.history = history;
      forecaster.observe(history, cycle.nowMs);
      const asked = { nowMs: cycle.nowMs, horizonSeconds, mayLearnAnew };
      const { rps, made } = plannedRate(state, { history, forecaster, asked }, context);
      const meanRps = meanRateOf(history);
      const demand = demandOf(rps, history.shape);
      const lengths = meanLengths(history.shape);
      const hold = fellSilent.has(state.name) ? 'no_traces' : history.hold;
      state.hold ??= hold;
      if (hold === 'no_traces') silent += 1;
      state.demand = {
        rps: meanRps,
        forecastRps: rps,
        forecast: made,
        knownIntervals: history.knownIntervals,
        windowIntervals: history.intervals.length,
        idle: history.idle,
        pendingRequests: history.pending,
        // What explains them are latencies, which are read with the profiles.
        inFlightSurplus: null,
        meanInputTokens: lengths?.inputTokens ?? null,
        meanOutputTokens: lengths?.outputTokens ?? null,
      };
      state.planDemand = demand;
    } catch (error) {
      holdModel(state, context, error);
    }
  }
  if (cycle.read.has('traces')) {
    const { all, any } = silenceOf(context.traceSource);
    const isSilent = silent > 0 && silent === fleet.models.size;
    inputs.read('traces', cycle.nowMs, fellSilent.size > 0 ? all : isSilent ? any : null);
  }
}

/** An idle model is woken by a season that expects at least one request in a minute, more likely than not [requests/s]. */
const leastWakingRps = 1 / 60;

/**
 * The rate to plan for, and how it came about. An idle model needs none, except where the calendar knows of an event, or
 * where requests come at this time of other days more often than not.
 */
function plannedRate(
  state: ModelState,
  {
    history,
    forecaster,
    asked,
  }: {
    readonly history: DemandHistory;
    readonly forecaster: DemandForecaster;
    readonly asked: { readonly nowMs: number; readonly horizonSeconds: number; readonly mayLearnAnew: boolean };
  },
  context: PhaseContext,
): { readonly rps: number; readonly made: DemandView['forecast'] } {
  const { nowMs, horizonSeconds } = asked;
  const quantile = history.idle ? Math.min(0.5, context.config.forecast.quantile) : context.config.forecast.quantile;
  const said = forecaster.forecast({ ...asked, quantile });
  const wakes = said.season !== null && said.rps >= leastWakingRps;
  const events = context.calendar.events(state.name, nowMs, nowMs + horizonSeconds * 1000);
  const { rps, event } = withEvents(events, {
    rps: history.idle && !wakes ? 0 : said.rps,
    nowMs,
    busiestMinute: (fromMs, toMs) => forecaster.busiestMinute(fromMs, toMs),
  });
  const { method, leader, season } = said;
  return {
    rps,
    made: { method, leader, season, horizonSeconds, event: event === null ? null : event.entry.cron },
  };
}

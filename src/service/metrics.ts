import { Counter, collectDefaultMetrics, Histogram, Registry } from 'prom-client';
import { type Plan, planStatuses } from '../core/plan.js';
import type { PlanningProblem } from '../core/planning-problem.js';
import {
  deploymentLabels,
  desiredReplicasMetric,
  targetReplicasMetric,
  wvaDesiredReplicasMetric,
} from '../core/published-names.js';
import { scaleFaults } from '../core/scale.js';
import { scaleResults } from './actuation/actuation-state.js';
import { demandByLength } from './demand-by-length.js';
import { add, gaugeSeries as gauge, SpeltLabels, set, takeExposition } from './exposition.js';
import { type ControllerView, type CycleReport, cyclePhases, type ModelView } from './view.js';

/**
 * gpumix's own Prometheus metrics; those that the process counts are on a registry of their own.
 *
 * Gauges are read from the view when somebody scrapes, so they always tell one state, and the series of a deployment
 * or model that is gone are gone with it. A number that is not known has no series: absence is honest, 0 is not.
 */
export type Metrics = {
  readonly contentType: string;
  /** The exposition of this moment. */
  render(): Promise<string>;
  /** Takes the process metrics off their timers. */
  close(): void;
};

/** Buckets of a phase's duration [s]: reads of a small set-up take milliseconds, plans of a thousand models seconds. */
const phaseBuckets = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10];

const secondsPerHour = 3600;

export function createMetrics(view: ControllerView): Metrics {
  const registry = new Registry();
  const gauges = createGauges();
  const phaseSeconds = new Histogram({
    name: 'gpumix_phase_duration_seconds',
    help: 'Duration of the phases of a cycle.',
    labelNames: ['phase'] as const,
    buckets: phaseBuckets,
    registers: [registry],
  });
  const inputErrors = new Counter({
    name: 'gpumix_input_errors_total',
    help: 'Failed readings of an input.',
    labelNames: ['input', 'code'] as const,
    registers: [registry],
  });
  const scaleWrites = new Counter({
    name: 'gpumix_scale_writes_total',
    help: 'Attempts to write the replicas of a deployment into the cluster, by what came of them.',
    labelNames: ['result'] as const,
    registers: view.actuation() === null ? [] : [registry],
  });
  const scaleEvents = new Counter({
    name: 'gpumix_scale_events_total',
    help: 'Kubernetes Events on scaled objects, written anew or counted up, or failed to be.',
    labelNames: ['result'] as const,
    registers: view.actuation() === null ? [] : [registry],
  });
  collectDefaultMetrics({ register: registry });

  view.onCycle((report: CycleReport) => {
    for (const phase of cyclePhases) {
      const seconds = report.phaseSeconds[phase];
      if (Number.isFinite(seconds)) phaseSeconds.observe({ phase }, seconds);
    }
    for (const { input, code } of report.errors) inputErrors.inc({ input, code });
  });

  return {
    contentType: registry.contentType,
    render: async () => {
      readGauges(gauges, view);
      readActuation({ gauges, scaleWrites, scaleEvents }, view);
      const text = takeExposition(Object.values(gauges));
      return text + (await registry.metrics());
    },
    close: () => registry.clear(),
  };
}

const ofDeployment = deploymentLabels;
const ofModel = ['model'] as const;
const ofCost = ['model', 'gpu_type'] as const;
const ofGpus = ['namespace', 'gpu_type'] as const;
const alone = [] as const;

/** Every gauge. It has the series that a scrape sets, so that what is gone has none. */
function createGauges() {
  return {
    desired: gauge(desiredReplicasMetric, 'Replicas to run now.', ofDeployment),
    target: gauge(targetReplicasMetric, 'Replicas that the plan is heading for.', ofDeployment),
    current: gauge('gpumix_current_replicas', 'Replicas that the deployment asks for now.', ofDeployment),
    ready: gauge('gpumix_ready_replicas', 'Replicas that are ready.', ofDeployment),
    pending: gauge(
      'gpumix_pending_replicas',
      'Replicas that were asked for and whose pods wait for a node.',
      ofDeployment,
    ),
    landed: gauge(
      'gpumix_landed',
      '1 while the Deployment asks for what is published, 0 while it does not; absent where nothing should scale it.',
      ['namespace', 'deployment'] as const,
    ),
    notLanded: gauge(
      'gpumix_not_landed_seconds',
      'How long the Deployment has asked for something that is not published; 0 while it has landed.',
      ['namespace', 'deployment'] as const,
    ),
    heldUp: gauge(
      'gpumix_held_up_replicas',
      'Replicas that the plan keeps beyond what the demand needs now, by the rule that keeps them.',
      [...ofDeployment, 'rule'] as const,
    ),
    cost: gauge('gpumix_cost_usd_per_hour', 'Cost of the target replicas.', ofCost),
    idleCost: gauge(
      'gpumix_idle_cost_usd_per_hour',
      'Part of the cost of the target replicas that the demand of the plan does not use.',
      ofCost,
    ),
    publishedCost: gauge('gpumix_published_cost_usd_per_hour', 'Cost of the replicas to run now.', alone),
    budget: gauge('gpumix_budget_usd_per_hour', 'Budget of all models; absent without one.', alone),
    singleTypeCost: gauge(
      'gpumix_single_type_cost_usd_per_hour',
      'Cost of the cheapest single GPU type that serves as much, the most within the scale-down stabilization, and which type that is; absent until that time was seen.',
      ofCost,
    ),
    bound: gauge(
      'gpumix_cost_bound_usd_per_hour',
      'Proven lower bound on cost and switching of any plan that serves as much.',
      alone,
    ),
    switching: gauge(
      'gpumix_switching_usd_per_hour',
      'Cost of the starts and stops of the plan, spread over options.horizonHours.',
      alone,
    ),
    demand: gauge('gpumix_demand_rps', 'Mean arrivals over the window.', ofModel),
    forecast: gauge('gpumix_forecast_rps', 'Arrivals that the plan is made for.', ofModel),
    horizon: gauge(
      'gpumix_forecast_horizon_seconds',
      'Time whose busiest minute is planned for: start-up, lag of the autoscaler, and the next plan.',
      ofModel,
    ),
    byLength: gauge(
      'gpumix_demand_by_length_rps',
      'Arrivals that the plan is made for, by length: at most so many tokens, and more than the next lower end; the twenty busiest models, and the others together.',
      ['model', 'input_tokens', 'output_tokens'] as const,
    ),
    tokens: gauge('gpumix_demand_tokens_per_second', 'Input and output tokens of the mean arrivals.', [
      'model',
      'kind',
    ] as const),
    pendingRequests: gauge(
      'gpumix_pending_requests',
      'Requests that had arrived and not completed at the end of the last known interval.',
      ofModel,
    ),
    surplusRequests: gauge(
      'gpumix_in_flight_surplus_requests',
      'Requests in flight beyond what arrivals, completed lengths and profiles explain.',
      ofModel,
    ),
    surplusRps: gauge(
      'gpumix_in_flight_added_rps',
      'What the plan is made for beside the forecast because of them.',
      ofModel,
    ),
    unserved: gauge('gpumix_unserved_rps', 'Demand that the plan leaves unserved.', ['model', 'reason'] as const),
    status: gauge('gpumix_plan_status', '1 for the status of the current plan.', ['status'] as const),
    held: gauge('gpumix_plan_held', '1 while the last good plan of a model is held.', ['model', 'reason'] as const),
    gap: gauge(
      'gpumix_plan_gap_ratio',
      'Distance of the plan from its bound, as a share of its cost with switching.',
      alone,
    ),
    costPerMillionTokens: gauge(
      'gpumix_cost_per_million_tokens_usd',
      'Cost of the target replicas over the input and output tokens that arrive.',
      ofModel,
    ),
    saving: gauge(
      'gpumix_saving_vs_single_type_ratio',
      'Share of the cost that the plan saves against the cheapest single GPU type that serves as much within what the other models leave of pools, quotas and budget; starts and stops are not counted.',
      ofModel,
    ),
    simulatedAttainment: gauge(
      'gpumix_simulated_attainment_ratio',
      'Share of the simulated requests of the last half hour that met the SLO of the model.',
      ofModel,
    ),
    simulatedTtftP95: gauge(
      'gpumix_simulated_ttft_p95_seconds',
      '95th percentile of the time to first token of the simulated requests of the last half hour.',
      ofModel,
    ),
    poolGpus: gauge('gpumix_pool_gpus', 'GPUs of a type that the plan may use; absent where they are not limited.', [
      'gpu_type',
    ] as const),
    quotaGpus: gauge('gpumix_quota_gpus', 'GPUs of a type that a namespace may use.', ofGpus),
    targetGpus: gauge('gpumix_target_gpus', 'GPUs of the target replicas.', ofGpus),
    readyGpus: gauge('gpumix_ready_gpus', 'GPUs of the replicas that are ready.', ofGpus),
    shortGpus: gauge(
      'gpumix_gpu_type_short_gpus',
      'GPUs that replicas asked for and that did not come in time; while a type is short, demand is planned on other types.',
      ['gpu_type'] as const,
    ),
    driftRatio: gauge(
      'gpumix_profile_drift_ratio',
      'How many times as slow as their profile the engines are, by their own latencies at their load; absent where nothing can be said.',
      [...ofDeployment, 'metric'] as const,
    ),
    loadRatio: gauge(
      'gpumix_profile_load_ratio',
      "Observed load of a replica; 1 is the profile's throughput.",
      ofDeployment,
    ),
    correctionFactor: gauge(
      'gpumix_profile_correction_factor',
      "Factor on the profile's throughputs in the plan; absent where correction is switched off.",
      ofDeployment,
    ),
    scaleWithheld: gauge(
      'gpumix_scale_withheld_deployments',
      'Deployments whose replicas gpumix does not write into the cluster, by reason.',
      ['reason'] as const,
    ),
    scaleFailing: gauge(
      'gpumix_scale_failing_deployments',
      'Deployments whose replicas could not be written when it was last tried, by fault.',
      ['fault'] as const,
    ),
    scaleWaiting: gauge('gpumix_scale_waiting_deployments', 'Deployments that wait to be scaled.', []),
    inputAge: gauge('gpumix_input_age_seconds', 'Time since an input was last read whole.', ['input'] as const),
    inputOk: gauge('gpumix_input_ok', '1 where the last reading of an input succeeded, else 0.', ['input'] as const),
    wvaDesired: gauge(wvaDesiredReplicasMetric, 'Replicas to run now, named as llm-d names them.', [
      'variant_name',
      'namespace',
      'accelerator_type',
    ] as const),
  };
}

type Gauges = ReturnType<typeof createGauges>;

function readGauges(gauges: Gauges, view: ControllerView): void {
  const models = view.models();
  for (const model of models) readModel(gauges, model);
  const plan = view.plan();
  if (plan !== null) readPlan(gauges, plan, models);
  const problem = view.problem();
  if (problem !== null) readProblem(gauges, problem, plan);
  for (const { gpuType, shortGpus } of view.shortages()) set(gauges.shortGpus, { gpu_type: gpuType }, shortGpus);
  for (const { input, ageSeconds, ok } of view.inputs()) {
    set(gauges.inputAge, { input }, ageSeconds);
    set(gauges.inputOk, { input }, ok ? 1 : 0);
  }
}

function readModel(gauges: Gauges, model: ModelView): void {
  for (const deployment of model.deployments) {
    const { namespace, name, gpuType } = deployment;
    const plain = { namespace, deployment: name, model: model.name, gpu_type: gpuType };
    const labels = new SpeltLabels(plain);
    set(gauges.desired, labels, deployment.replicas);
    set(gauges.target, labels, deployment.targetReplicas);
    set(gauges.current, labels, deployment.currentReplicas);
    set(gauges.ready, labels, deployment.readyReplicas);
    set(gauges.pending, labels, deployment.pendingReplicas);
    const { heldUp, landing } = deployment;
    if (landing !== null) {
      set(gauges.landed, { namespace, deployment: name }, landing.landed ? 1 : 0);
      set(gauges.notLanded, { namespace, deployment: name }, landing.notLandedSeconds);
    }
    if (heldUp !== null) {
      set(gauges.heldUp, { ...plain, rule: heldUp.rule }, heldUp.replicas - heldUp.wantedReplicas);
    }
    set(gauges.loadRatio, labels, deployment.profileDrift?.loadRatio ?? null);
    set(gauges.correctionFactor, labels, deployment.profileDrift?.correctionFactor ?? null);
    for (const { latency, driftRatio } of deployment.profileDrift?.latencies ?? []) {
      set(gauges.driftRatio, { ...plain, metric: latency }, driftRatio);
    }
    const wvaLabels = { variant_name: name, namespace, accelerator_type: gpuType };
    set(gauges.wvaDesired, wvaLabels, deployment.replicas);
  }
  const labels = new SpeltLabels({ model: model.name });
  const { demand, singleTypeGpu } = model;
  set(gauges.demand, labels, demand?.rps ?? null);
  set(gauges.forecast, labels, demand?.forecastRps ?? null);
  set(gauges.horizon, labels, demand?.forecast.horizonSeconds ?? null);
  set(gauges.pendingRequests, labels, demand?.pendingRequests ?? null);
  set(gauges.surplusRequests, labels, demand?.inFlightSurplus?.requests ?? null);
  set(gauges.surplusRps, labels, demand?.inFlightSurplus?.addedRps ?? null);
  for (const [kind, mean] of [
    ['input', demand?.meanInputTokens],
    ['output', demand?.meanOutputTokens],
  ] as const) {
    set(gauges.tokens, { model: model.name, kind }, demand == null || mean == null ? null : demand.rps * mean);
  }
  if (singleTypeGpu !== null) {
    set(gauges.singleTypeCost, { model: model.name, gpu_type: singleTypeGpu }, model.singleTypeUsdPerHour);
  }
  set(gauges.simulatedAttainment, labels, model.simulated?.attainment ?? null);
  set(gauges.simulatedTtftP95, labels, model.simulated?.ttftP95Seconds ?? null);
  if (model.status === 'held') set(gauges.held, { model: model.name, reason: model.heldReason ?? 'unknown' }, 1);
}

function readPlan(gauges: Gauges, plan: Plan, models: readonly ModelView[]): void {
  for (const status of planStatuses) set(gauges.status, { status }, plan.status === status ? 1 : 0);
  set(gauges.bound, {}, plan.boundUsdPerHour);
  set(gauges.gap, {}, plan.gap);
  set(gauges.switching, {}, plan.switchingUsdPerHour);
  set(gauges.publishedCost, {}, plan.publishedUsdPerHour);
  for (const { model, gpuType, usdPerHour, utilization } of plan.deployments) {
    const labels = new SpeltLabels({ model, gpu_type: gpuType });
    add(gauges.cost, labels, usdPerHour);
    // Work beyond a full replica is late, not free.
    add(gauges.idleCost, labels, usdPerHour * Math.max(0, 1 - utilization));
  }
  for (const { model, reason, rps } of plan.unserved) add(gauges.unserved, { model, reason }, rps);
  const viewed = new Map(models.map((model) => [model.name, model]));
  for (const { name, usdPerHour } of plan.models) {
    const model = viewed.get(name);
    if (model === undefined) continue;
    set(gauges.costPerMillionTokens, { model: name }, costPerMillionTokens(model, usdPerHour));
    set(gauges.saving, { model: name }, savingVsSingleType(model.singleTypeUsdPerHour, usdPerHour));
  }
}

/** What the models share, what the plan takes of it, and the lengths it is made for. */
function readProblem(gauges: Gauges, problem: PlanningProblem, plan: Plan | null): void {
  set(gauges.budget, {}, problem.budgetUsdPerHour);
  for (const { gpuType, gpus } of problem.pools) set(gauges.poolGpus, { gpu_type: gpuType }, gpus);
  for (const { namespace, gpuType, gpus } of problem.quotas) {
    set(gauges.quotaGpus, { namespace, gpu_type: gpuType }, gpus);
  }
  const targets = new Map(plan?.deployments.map(({ id, targetReplicas }) => [id, targetReplicas]));
  for (const { deployments } of problem.models) {
    for (const { id, gpuType, gpusPerReplica, readyReplicas } of deployments) {
      const labels = new SpeltLabels({ namespace: id.slice(0, id.indexOf('/')), gpu_type: gpuType });
      const target = targets.get(id) ?? null;
      add(gauges.targetGpus, labels, target === null ? null : gpusPerReplica * target);
      add(gauges.readyGpus, labels, readyReplicas === null ? null : gpusPerReplica * readyReplicas);
    }
  }
  for (const { model, inputTokens, outputTokens, rps } of demandByLength(problem.models)) {
    set(gauges.byLength, { model, input_tokens: inputTokens, output_tokens: outputTokens }, rps);
  }
}

/** Counts are the actuator's own; here they are only told. */
function readActuation(
  {
    gauges,
    scaleWrites,
    scaleEvents,
  }: { readonly gauges: Gauges; readonly scaleWrites: Counter<'result'>; readonly scaleEvents: Counter<'result'> },
  view: ControllerView,
): void {
  const actuation = view.actuation();
  if (actuation === null) return;
  scaleWrites.reset();
  // A rate can only be told of a series that was there before its first count.
  for (const result of scaleResults) scaleWrites.inc({ result }, actuation.results[result]);
  scaleEvents.reset();
  for (const [result, count] of Object.entries(actuation.events)) scaleEvents.inc({ result }, count);
  for (const [reason, count] of Object.entries(actuation.withheld)) set(gauges.scaleWithheld, { reason }, count);
  for (const fault of scaleFaults) set(gauges.scaleFailing, { fault }, actuation.failing[fault] ?? 0);
  set(gauges.scaleWaiting, {}, actuation.waiting);
}

/** USD per million tokens, input and output alike, that arrive while the plan costs what it costs; null = unknown. */
export function costPerMillionTokens(model: Pick<ModelView, 'demand'>, usdPerHour: number): number | null {
  const { demand } = model;
  if (demand === null || demand.meanInputTokens === null || demand.meanOutputTokens === null) return null;
  const tokensPerHour = demand.rps * secondsPerHour * (demand.meanInputTokens + demand.meanOutputTokens);
  return tokensPerHour > 0 ? (usdPerHour * 1e6) / tokensPerHour : null;
}

/** 1 − cost / cost of the cheapest single GPU type; null where no single type serves it all, or it costs nothing. */
export function savingVsSingleType(singleTypeUsdPerHour: number | null, usdPerHour: number): number | null {
  if (singleTypeUsdPerHour === null || singleTypeUsdPerHour <= 0) return null;
  return 1 - usdPerHour / singleTypeUsdPerHour;
}

import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { planStatuses } from '../core/plan.js';
import { type ControllerView, type CycleReport, cyclePhases, type ModelView } from './view.js';

/**
 * gpumix's own Prometheus metrics, on a registry of their own.
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
  const gauges = createGauges(registry);
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
      return registry.metrics();
    },
    close: () => registry.clear(),
  };
}

type Gauges = ReturnType<typeof createGauges>;

function createGauges(registry: Registry) {
  const gauge = <Label extends string>(name: string, help: string, labelNames: readonly Label[]) =>
    new Gauge({ name, help, labelNames, registers: [registry] });
  const ofDeployment = ['namespace', 'deployment', 'model', 'gpu_type'] as const;
  return {
    desired: gauge('gpumix_desired_replicas', 'Replicas to run now.', ofDeployment),
    target: gauge('gpumix_target_replicas', 'Replicas that the plan is heading for.', ofDeployment),
    current: gauge('gpumix_current_replicas', 'Replicas that the deployment asks for now.', ofDeployment),
    heldUp: gauge(
      'gpumix_held_up_replicas',
      'Replicas that the plan keeps beyond what the demand needs now, by the rule that keeps them.',
      [...ofDeployment, 'rule'] as const,
    ),
    cost: gauge('gpumix_cost_usd_per_hour', 'Cost of the target replicas.', ['model', 'gpu_type'] as const),
    bound: gauge(
      'gpumix_cost_bound_usd_per_hour',
      'Proven lower bound on cost and switching of any plan that serves as much.',
      [],
    ),
    switching: gauge(
      'gpumix_switching_usd_per_hour',
      'Cost of the starts and stops of the plan, spread over options.horizonHours.',
      [],
    ),
    demand: gauge('gpumix_demand_rps', 'Mean arrivals over the window.', ['model'] as const),
    forecast: gauge('gpumix_forecast_rps', 'Arrivals that the plan is made for.', ['model'] as const),
    horizon: gauge(
      'gpumix_forecast_horizon_seconds',
      'Time whose busiest minute is planned for: start-up, lag of the autoscaler, and the next plan.',
      ['model'] as const,
    ),
    surplusRequests: gauge(
      'gpumix_in_flight_surplus_requests',
      'Requests in flight beyond what arrivals, completed lengths and profiles explain.',
      ['model'] as const,
    ),
    surplusRps: gauge('gpumix_in_flight_added_rps', 'What the plan is made for beside the forecast because of them.', [
      'model',
    ] as const),
    unserved: gauge('gpumix_unserved_rps', 'Demand that the plan leaves unserved.', ['model', 'reason'] as const),
    status: gauge('gpumix_plan_status', '1 for the status of the current plan.', ['status'] as const),
    held: gauge('gpumix_plan_held', '1 while the last good plan of a model is held.', ['model', 'reason'] as const),
    gap: gauge(
      'gpumix_plan_gap_ratio',
      'Distance of the plan from its bound, as a share of its cost with switching.',
      [],
    ),
    costPerMillionTokens: gauge(
      'gpumix_cost_per_million_tokens_usd',
      'Cost of the target replicas over the input and output tokens that arrive.',
      ['model'] as const,
    ),
    saving: gauge(
      'gpumix_saving_vs_single_type_ratio',
      'Share of the cost that the plan saves against the cheapest single GPU type that serves as much within what the other models leave of pools, quotas and budget; starts and stops are not counted.',
      ['model'] as const,
    ),
    simulatedAttainment: gauge(
      'gpumix_simulated_attainment_ratio',
      'Share of the simulated requests of the last half hour that met the SLO of the model.',
      ['model'] as const,
    ),
    simulatedTtftP95: gauge(
      'gpumix_simulated_ttft_p95_seconds',
      '95th percentile of the time to first token of the simulated requests of the last half hour.',
      ['model'] as const,
    ),
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
    inputAge: gauge('gpumix_input_age_seconds', 'Time since an input was last read whole.', ['input'] as const),
    wvaDesired: gauge('wva_desired_replicas', 'Replicas to run now, named as llm-d names them.', [
      'variant_name',
      'namespace',
      'accelerator_type',
    ] as const),
  };
}

function readGauges(gauges: Gauges, view: ControllerView): void {
  for (const gauge of Object.values(gauges)) gauge.reset();
  // Gauges without labels fall back to 0, which would be a claim, instead of nothing.
  gauges.bound.remove();
  gauges.gap.remove();
  gauges.switching.remove();
  const models = view.models();
  for (const model of models) readModel(gauges, model);
  readPlan(gauges, view, models);
  for (const { gpuType, shortGpus } of view.shortages()) set(gauges.shortGpus, { gpu_type: gpuType }, shortGpus);
  for (const { input, ageSeconds } of view.inputs()) set(gauges.inputAge, { input }, ageSeconds);
}

function readModel(gauges: Gauges, model: ModelView): void {
  for (const deployment of model.deployments) {
    const { namespace, name, gpuType } = deployment;
    const labels = { namespace, deployment: name, model: model.name, gpu_type: gpuType };
    set(gauges.desired, labels, deployment.replicas);
    set(gauges.target, labels, deployment.targetReplicas);
    set(gauges.current, labels, deployment.currentReplicas);
    const { heldUp } = deployment;
    if (heldUp !== null) {
      set(gauges.heldUp, { ...labels, rule: heldUp.rule }, heldUp.replicas - heldUp.wantedReplicas);
    }
    set(gauges.loadRatio, labels, deployment.profileDrift?.loadRatio ?? null);
    set(gauges.correctionFactor, labels, deployment.profileDrift?.correctionFactor ?? null);
    for (const { latency, driftRatio } of deployment.profileDrift?.latencies ?? []) {
      set(gauges.driftRatio, { ...labels, metric: latency }, driftRatio);
    }
    const wvaLabels = { variant_name: name, namespace, accelerator_type: gpuType };
    set(gauges.wvaDesired, wvaLabels, deployment.replicas);
  }
  set(gauges.demand, { model: model.name }, model.demand?.rps ?? null);
  set(gauges.forecast, { model: model.name }, model.demand?.forecastRps ?? null);
  set(gauges.horizon, { model: model.name }, model.demand?.forecast.horizonSeconds ?? null);
  set(gauges.surplusRequests, { model: model.name }, model.demand?.inFlightSurplus?.requests ?? null);
  set(gauges.surplusRps, { model: model.name }, model.demand?.inFlightSurplus?.addedRps ?? null);
  set(gauges.simulatedAttainment, { model: model.name }, model.simulated?.attainment ?? null);
  set(gauges.simulatedTtftP95, { model: model.name }, model.simulated?.ttftP95Seconds ?? null);
  if (model.status === 'held') set(gauges.held, { model: model.name, reason: model.heldReason ?? 'unknown' }, 1);
}

function readPlan(gauges: Gauges, view: ControllerView, models: readonly ModelView[]): void {
  const plan = view.plan();
  if (plan === null) return;
  for (const status of planStatuses) set(gauges.status, { status }, plan.status === status ? 1 : 0);
  set(gauges.bound, {}, plan.boundUsdPerHour);
  set(gauges.gap, {}, plan.gap);
  set(gauges.switching, {}, plan.switchingUsdPerHour);
  for (const { model, gpuType, usdPerHour } of plan.deployments) {
    add(gauges.cost, { model, gpu_type: gpuType }, usdPerHour);
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

function set<Label extends string>(gauge: Gauge<Label>, labels: Record<Label, string>, value: number | null): void {
  if (value !== null && Number.isFinite(value)) gauge.set(labels, value);
}

function add<Label extends string>(gauge: Gauge<Label>, labels: Record<Label, string>, value: number): void {
  if (Number.isFinite(value)) gauge.inc(labels, value);
}

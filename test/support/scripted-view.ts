import { InputError } from '../../src/core/input-error.js';
import type { Plan } from '../../src/core/plan.js';
import { type PlanningProblem, planningProblemSchema } from '../../src/core/planning-problem.js';
import type { ModelRouting } from '../../src/core/routing.js';
import { explain } from '../../src/optimizer/explain.js';
import type {
  ActuationView,
  ControllerCommands,
  ControllerView,
  CycleReport,
  DecisionRecord,
  DeploymentView,
  GpuShortage,
  InputState,
  ModelView,
  PublishedReplicas,
} from '../../src/service/view.js';

/** A controller's view and commands that say what a test tells them to, and remember what they were asked. */

export type ScriptedState = {
  mode: 'live' | 'shadow';
  plan: Plan | null;
  problem: PlanningProblem | null;
  models: ModelView[];
  inputs: InputState[];
  ready: boolean;
  shortages: GpuShortage[];
  actuation: ActuationView | null;
  /** Of every model; null = the shares of the plan, and nothing else is known. */
  routing: ModelRouting | null;
  history: DecisionRecord[];
  /** Deployments `namespace/name` that have no number yet. */
  notKnown: Set<string>;
};

export type ScriptedController = {
  readonly view: ControllerView;
  readonly commands: ControllerCommands;
  readonly state: ScriptedState;
  readonly calls: unknown[][];
  /** Ends a cycle: tells the listeners. */
  endCycle(report?: Partial<CycleReport>): void;
};

export function deploymentView(overrides: Partial<DeploymentView> = {}): DeploymentView {
  const namespace = overrides.namespace ?? 'default';
  const name = overrides.name ?? 'llama-a100';
  return {
    id: `${namespace}/${name}`,
    namespace,
    name,
    gpuType: 'A100',
    currentReplicas: 2,
    readyReplicas: 2,
    pendingReplicas: 0,
    replicas: 2,
    targetReplicas: 2,
    usdPerReplicaHour: 3.67,
    override: null,
    paused: false,
    heldUp: null,
    profileDrift: null,
    landing: null,
    consumers: [],
    actuation: null,
    notices: [],
    ...overrides,
  };
}

export function modelView(overrides: Partial<ModelView> = {}): ModelView {
  return {
    name: 'llama',
    status: 'optimal',
    heldReason: null,
    planAt: '2026-11-20T10:00:00.000Z',
    demand: {
      rps: 4,
      forecastRps: 5,
      forecast: { method: 'auto', leader: 'holt', season: null, horizonSeconds: 205, event: null },
      knownIntervals: 24,
      windowIntervals: 24,
      idle: false,
      pendingRequests: 3,
      inFlightSurplus: { requests: 0, addedRps: 0 },
      meanInputTokens: 500,
      meanOutputTokens: 100,
    },
    singleTypeUsdPerHour: 14.68,
    singleTypeGpu: 'A100',
    simulated: null,
    deployments: [
      deploymentView(),
      deploymentView({ name: 'llama-l4', gpuType: 'L4', replicas: 3, targetReplicas: 4, usdPerReplicaHour: 0.7 }),
    ],
    ...overrides,
  };
}

/** A problem of the models that a view shows, each with one bucket. */
export function problemOf(models: readonly ModelView[]): PlanningProblem {
  return planningProblemSchema.parse({
    apiVersion: 'gpumix/v1',
    kind: 'PlanningProblem',
    at: '2026-11-20T10:00:00Z',
    models: models.map((model) => ({
      name: model.name,
      demand: [{ inputTokens: 512, outputTokens: 128, rps: model.demand?.forecastRps ?? 0 }],
      deployments: model.deployments.map((deployment) => ({
        id: deployment.id,
        gpuType: deployment.gpuType,
        usdPerReplicaHour: deployment.usdPerReplicaHour ?? 0,
        currentReplicas: deployment.currentReplicas,
        profile: { indexes: [[128], [512]], tputs: [[2]] },
      })),
    })),
  });
}

/** A plan with the numbers that the models show; every bucket goes to the first deployment. */
export function planOf(models: readonly ModelView[], overrides: Partial<Plan> = {}): Plan {
  const deployments = models.flatMap((model) =>
    model.deployments.map((deployment) => ({
      id: deployment.id,
      model: model.name,
      gpuType: deployment.gpuType,
      replicas: deployment.replicas,
      targetReplicas: deployment.targetReplicas,
      utilization: 0.5,
      usdPerHour: (deployment.targetReplicas ?? 0) * (deployment.usdPerReplicaHour ?? 0),
      reason: 'the cheapest mix for this demand',
    })),
  );
  const costOf = (model: string) =>
    deployments.filter((deployment) => deployment.model === model).reduce((sum, { usdPerHour }) => sum + usdPerHour, 0);
  const usdPerHour = deployments.reduce((sum, deployment) => sum + deployment.usdPerHour, 0);
  return {
    apiVersion: 'gpumix/v1',
    kind: 'Plan',
    at: '2026-11-20T10:00:00Z',
    status: 'optimal',
    routing: 'free',
    usdPerHour,
    publishedUsdPerHour: usdPerHour,
    objectiveUsdPerHour: usdPerHour,
    boundUsdPerHour: usdPerHour,
    gap: 0,
    penaltyUsdPerHour: 0,
    switchingUsdPerHour: 0,
    deployments,
    shares: models.map((model) => ({
      model: model.name,
      inputTokens: 512,
      outputTokens: 128,
      rps: model.demand?.forecastRps ?? 0,
      bestEffort: false,
      extrapolated: false,
      to: model.deployments.slice(0, 1).map(({ id }) => ({ deployment: id, share: 1 })),
      unservedShare: 0,
    })),
    unserved: [],
    scarcity: [],
    shortfalls: [],
    warnings: [],
    models: models.map((model) => ({
      name: model.name,
      status: model.status,
      heldReason: model.heldReason,
      planAt: model.planAt,
      usdPerHour: costOf(model.name),
      switchingUsdPerHour: 0,
      boundUsdPerHour: costOf(model.name),
      gap: 0,
    })),
    solver: { name: 'scripted', nodes: 1, milliseconds: 0.1 },
    ...overrides,
  };
}

export function scriptedController(overrides: Partial<ScriptedState> = {}): ScriptedController {
  const models = overrides.models ?? [modelView()];
  const state: ScriptedState = {
    mode: 'live',
    plan: planOf(models),
    problem: problemOf(models),
    models,
    inputs: [
      { input: 'redis', ok: true, ageSeconds: 1.5, problem: null },
      { input: 'kubernetes', ok: true, ageSeconds: 0.5, problem: null },
    ],
    ready: true,
    shortages: [],
    actuation: null,
    routing: null,
    history: [],
    notKnown: new Set(),
    ...overrides,
  };
  const listeners: ((report: CycleReport) => void)[] = [];
  const calls: unknown[][] = [];
  const find = (namespace: string, name: string) => {
    for (const model of state.models) {
      const deployment = model.deployments.find((each) => each.namespace === namespace && each.name === name);
      if (deployment !== undefined) return { model, deployment };
    }
    return undefined;
  };
  const view: ControllerView = {
    get mode() {
      return state.mode;
    },
    plan: () => state.plan,
    problem: () => state.problem,
    models: () => state.models,
    routingOf: (model) =>
      state.routing ?? {
        shares: (state.plan?.shares ?? []).filter((bucket) => bucket.model === model),
        fullInFlight: new Map(),
      },
    replicasOf: (namespace, name): PublishedReplicas => {
      const found = find(namespace, name);
      if (found === undefined) {
        if (state.ready) return { kind: 'no-such-deployment' };
        return { kind: 'not-known', reason: 'not every input has been read' };
      }
      const { model, deployment } = found;
      if (state.notKnown.has(deployment.id) || deployment.replicas === null) {
        return { kind: 'not-known', reason: 'no profile, and its current replicas are not known' };
      }
      return {
        kind: 'known',
        model: model.name,
        gpuType: deployment.gpuType,
        replicas: deployment.replicas,
        targetReplicas: deployment.targetReplicas ?? deployment.replicas,
        status: model.status,
        heldReason: model.heldReason,
        at: model.planAt ?? '2026-11-20T10:00:00.000Z',
      };
    },
    inputs: () => state.inputs,
    actuation: () => state.actuation,
    shortages: () => state.shortages,
    ready: () => state.ready,
    history: ({ model, sinceMs, limit }) =>
      state.history
        .filter((decision) => model === undefined || decision.model === model)
        .filter((decision) => sinceMs === undefined || Date.parse(decision.at) >= sinceMs)
        .slice(-limit),
    onCycle: (listener) => void listeners.push(listener),
  };
  const exists = (namespace: string, name: string) => find(namespace, name) !== undefined;
  const commands: ControllerCommands = {
    follow: (namespace, name) => {
      calls.push(['follow', namespace, name]);
      return exists(namespace, name) ? 'already-started' : 'no-such-deployment';
    },
    unfollow: async (namespace, name) => {
      calls.push(['unfollow', namespace, name]);
      return exists(namespace, name) ? 'stopped' : 'not-followed';
    },
    refreshProfiles: async (model) => {
      calls.push(['refreshProfiles', model]);
      return state.models.some(({ name }) => name === model) ? 'updated' : 'no-such-model';
    },
    fixReplicas: async (namespace, name, replicas, ttlSeconds) => {
      calls.push(['fixReplicas', namespace, name, replicas, ttlSeconds]);
      return exists(namespace, name) ? 'fixed' : 'no-such-deployment';
    },
    clearFixed: async (namespace, name) => {
      calls.push(['clearFixed', namespace, name]);
      return exists(namespace, name) ? [`${namespace}/${name}`] : 'no-such-deployment';
    },
    explain: async (problem, model) => {
      calls.push(['explain', model]);
      return explain(problem, model === null ? {} : { model });
    },
    whatIf: async (problem) => {
      calls.push(['whatIf', problem]);
      if (problem.pools.length > 0) {
        throw new InputError('problem', [{ place: 'pools', found: 'a pool', expected: 'none in this version' }]);
      }
      return planOf([modelView({ name: problem.models[0]?.name ?? 'llama' })]);
    },
  };
  return {
    view,
    commands,
    state,
    calls,
    endCycle: (report = {}) => {
      const phaseSeconds = {
        sync: 0,
        deployments: 0.001,
        demand: 0.02,
        forecast: 0,
        problem: 0,
        plan: 0.2,
        publish: 0,
      };
      for (const listener of listeners) listener({ at: 0, phaseSeconds, plan: state.plan, errors: [], ...report });
    },
  };
}

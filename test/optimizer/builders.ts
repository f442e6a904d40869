import {
  type PlanningProblem,
  type PlanningProblemInput,
  planningProblemSchema,
} from '../../src/core/planning-problem.js';

/**
 * Small problems, written as what is special about them. Everything else is one model on one deployment that serves
 * ten requests a second of any length for one USD an hour.
 */
type ModelInput = PlanningProblemInput['models'][number];
type DeploymentInput = ModelInput['deployments'][number];

/** A profile with one throughput at every length: a grid of one point has no slope, so the demand stays on it. */
export function flat(rps: number): NonNullable<DeploymentInput['profile']> {
  return { indexes: [[64], [256]], tputs: [[rps]] };
}

/** Throughputs of the buckets (256, 64) and (2048, 64), which `short` and `long` name. */
export function shortAndLong(short: number, long: number): NonNullable<DeploymentInput['profile']> {
  return { indexes: [[64], [256, 2048]], tputs: [[short, long]] };
}

export function short(rps: number): ModelInput['demand'][number] {
  return { inputTokens: 256, outputTokens: 64, rps };
}

export function long(rps: number): ModelInput['demand'][number] {
  return { inputTokens: 2048, outputTokens: 64, rps };
}

export function deployment(overrides: Partial<DeploymentInput> = {}): DeploymentInput {
  return { id: 'default/a', gpuType: 'A', usdPerReplicaHour: 1, profile: flat(10), ...overrides };
}

export function model(overrides: Partial<ModelInput> = {}): ModelInput {
  return { name: 'llama', demand: [short(5)], deployments: [deployment()], ...overrides };
}

/** A whole document; keys of a model may be given beside those of the document. */
export function problem(
  overrides: Partial<Omit<PlanningProblemInput, 'apiVersion' | 'kind'>> & Partial<ModelInput> = {},
): PlanningProblem {
  const { models, at, pools, quotas, budgetUsdPerHour, options, ...ofModel } = overrides;
  return planningProblemSchema.parse({
    apiVersion: 'gpumix/v1',
    kind: 'PlanningProblem',
    models: models ?? [model(ofModel)],
    ...(at === undefined ? {} : { at }),
    ...(pools === undefined ? {} : { pools }),
    ...(quotas === undefined ? {} : { quotas }),
    ...(budgetUsdPerHour === undefined ? {} : { budgetUsdPerHour }),
    ...(options === undefined ? {} : { options }),
  });
}

import type { ExplainedLimit, ExplainedModel, Explanation } from '../core/explanation.js';
import { InputError, quoteInput } from '../core/input-error.js';
import { nearestName } from '../core/parse.js';
import type { PlanningProblem, ProblemModel } from '../core/planning-problem.js';
import {
  BoundedPlans,
  defaultExplainLimits,
  type ExplainLimits,
  type Group,
  groupOf,
} from './explain/bounded-plans.js';
import { bucketCosts } from './explain/bucket-costs.js';
import { explainUnused } from './explain/entry-price.js';
import { explainDemand } from './explain/other-demand.js';
import { outcomeOf, type PlanParts, partsOf } from './explain/outcome.js';
import { explainOwnLimits } from './explain/own-limits.js';
import { runnerUp } from './explain/runner-up.js';
import { inOrder, sentencesOf } from './explain/sentences.js';
import { servableOf } from './explain/servable.js';
import { explainBudget, explainSharedLimits } from './explain/shared-limits.js';
import { problemOfGroup, sharingGroups } from './explain/sharing-groups.js';
import type { PlanRun } from './plan.js';

/** What is asked, and what it may take. */
export type ExplainRun = PlanRun &
  Partial<ExplainLimits> & {
    /** Explain this model alone; models that share limits with it are planned with it. Default: all. */
    readonly model?: string;
  };

/**
 * Why the plan of a problem is as it is: the problem is planned, and planned again with one thing changed for each
 * question. Dual prices would be quicker and wrong: replicas are whole.
 *
 * Pure and bounded: after `maxSolves` plans, or when `shouldStop` says so, what is left is listed in `notComputed`. The
 * shared limits and the budget come first, then the models from the most expensive down.
 *
 * @throws InputError for a model that the problem does not have, and as `plan` does
 */
export function explain(document: PlanningProblem, run: ExplainRun = {}): Explanation {
  const { model: only = null } = run;
  const problem = only === null ? document : problemOfGroup(document, groupWith(document, only));
  const plans = new BoundedPlans(run, {
    maxSolves: run.maxSolves ?? defaultExplainLimits.maxSolves,
    nodesPerModel: run.nodesPerModel ?? defaultExplainLimits.nodesPerModel,
  });
  const plan = plans.first(problem);
  const parts = partsOf(plan);
  const groups = sharingGroups(problem).map((models) => ({
    models,
    group: groupOf(problem, models, outcomeOf(plan, parts, models)),
  }));
  const groupOfModel = new Map(groups.flatMap(({ models, group }) => models.map(({ name }) => [name, group] as const)));
  const whole = groupOf(problem, problem.models, outcomeOf(plan, parts, problem.models));

  const limits: ExplainedLimit[] = groups.flatMap(({ group }) => explainSharedLimits(group, plans));
  const budget = problem.budgetUsdPerHour === null ? [] : explainBudget(whole, plans);
  const demand =
    problem.models.length < 2 ? [] : explainDemand(whole, plans, { models: problem.models, subject: 'all models' });

  const asked = problem.models.filter(({ name }) => only === null || name === only);
  const costOf = (model: ProblemModel): number => parts.get(model.name)!.entry.usdPerHour;
  const explained = new Map<string, ExplainedModel>();
  for (const model of [...asked].sort((a, b) => costOf(b) - costOf(a) || (a.name < b.name ? -1 : 1))) {
    const answer = explainModel(model, { group: groupOfModel.get(model.name)!, parts, plans });
    explained.set(model.name, answer.model);
    limits.push(...answer.limits);
  }

  const unserved = whole.base.unserved.filter(({ rps }) => rps > 0).map(({ priority, rps }) => ({ priority, rps }));
  const facts = {
    apiVersion: 'gpumix/v1',
    kind: 'Explanation',
    ...(problem.at === undefined ? {} : { at: problem.at }),
    model: only,
    plannedModels: problem.models.length,
    routing: plan.routing,
    status: plan.status,
    usdPerHour: plan.usdPerHour,
    switchingUsdPerHour: plan.switchingUsdPerHour,
    objectiveUsdPerHour: plan.objectiveUsdPerHour,
    boundUsdPerHour: plan.boundUsdPerHour,
    proven: whole.base.proven && whole.base.held === '',
    rps: problem.models.reduce((sum, model) => sum + rpsOf(model), 0),
    unserved,
    limits,
    budget,
    demand,
    models: asked.map(({ name }) => explained.get(name)!),
    notComputed: plans.notComputed(),
    solver: { plans: plans.plans, nodes: plans.nodes, milliseconds: run.elapsedMs?.() ?? 0 },
  } as const;
  const { notComputed, solver, models, ...head } = facts;
  return { ...head, sentences: inOrder(sentencesOf(facts)), models, notComputed, solver };
}

/** @throws InputError that names the nearest model */
function groupWith(problem: PlanningProblem, name: string): readonly ProblemModel[] {
  const group = sharingGroups(problem).find((models) => models.some((model) => model.name === name));
  if (group !== undefined) return group;
  const names = problem.models.map((model) => model.name);
  const suggestion = nearestName(name, names);
  throw new InputError('model', [
    {
      place: '',
      found: quoteInput(name),
      expected: 'a model of the problem',
      ...(suggestion === undefined ? {} : { suggestion }),
    },
  ]);
}

function explainModel(
  model: ProblemModel,
  { group, parts, plans }: { readonly group: Group; readonly parts: PlanParts; readonly plans: BoundedPlans },
): { readonly model: ExplainedModel; readonly limits: readonly ExplainedLimit[] } {
  const { entry, deployments, shares } = parts.get(model.name)!;
  const prices = new Map(model.deployments.map(({ id, usdPerReplicaHour }) => [id, usdPerReplicaHour]));
  const rps = rpsOf(model);
  const unservedRps = shares.reduce((sum, row) => sum + row.rps * row.unservedShare, 0);
  const costs = bucketCosts(model, deployments, shares);
  const head = {
    name: model.name,
    status: entry.status,
    heldReason: entry.heldReason,
    usdPerHour: entry.usdPerHour,
    rps,
    unservedRps,
    sharesLimitsWith: group.problem.models.length - 1,
    usdPer1000Requests: costs.usdPer1000Requests,
    usdPerHourWithoutWork: costs.usdPerHourWithoutWork,
    deployments: deployments.map(({ id, gpuType, targetReplicas, usdPerHour, utilization }) => ({
      id,
      gpuType,
      targetReplicas,
      usdPerReplicaHour: prices.get(id)!,
      usdPerHour,
      utilization,
    })),
    buckets: costs.buckets,
  };
  if (entry.status === 'held') {
    for (const question of ['demand', 'runner_up', 'entry_price'] as const) {
      plans.missing({ question, subject: model.name }, 'held');
    }
    return { model: { ...head, demand: [], runnerUp: null, unused: [] }, limits: [] };
  }
  const servable = servableOf(model);
  const unservedShare = rps > 0 ? unservedRps / rps : 0;
  const limits = explainOwnLimits(group, model, { plans, servable: servable.some, unservedShare });
  const demand = explainDemand(group, plans, { models: [model], subject: model.name });
  const unused = explainUnused(group, model, { plans, servable, routing: group.problem.options.routing });
  return { model: { ...head, demand, runnerUp: runnerUp(group, model, plans), unused }, limits };
}

function rpsOf(model: ProblemModel): number {
  return model.demand.reduce((sum, bucket) => sum + bucket.rps, 0);
}

import { type Plan, type PlannedModel, worstStatus } from '../core/plan.js';
import type { PlanningProblem } from '../core/planning-problem.js';
import { close, groupBy, type PlanFault, quote, type Say } from './check/faults.js';
import { isFloorAboveCeiling, openLedger } from './check/ledger.js';
import { checkLimits } from './check/limits.js';
import { checkReplicas } from './check/replicas.js';
import { checkScarcity, penaltyOf } from './check/scarcity.js';
import { checkShares, type ModelService } from './check/shares.js';

export type { PlanFault } from './check/faults.js';

/**
 * The independent checker: does a plan keep every promise that it makes about its problem?
 *
 * It shares no code with the solvers: works are read again from the profiles; loads, money and the use of every shared
 * limit are added up again from the plan's own shares and replicas, in the original units. Every plan passes it before
 * anyone sees it. What it cannot see is whether a cheaper plan exists, or one that serves more by moving several models at
 * once; that is what the bounds and the tests of the solvers are for.
 *
 * @returns one sentence per violation, 20 at most; empty where the plan holds
 */
export function checkPlan(problem: PlanningProblem, plan: Plan): readonly string[] {
  return planFaults(problem, plan)
    .slice(0, 20)
    .map(({ message }) => message);
}

/**
 * All violations, each with the models that are at fault. To find the parts of a joint plan that can be kept, hold those
 * models and check again: a model's part cannot be checked in a smaller problem, where others' use of its pools is unknown.
 */
export function planFaults(problem: PlanningProblem, plan: Plan): readonly PlanFault[] {
  const faults: PlanFault[] = [];
  const say: Say = (message, ...models) => void faults.push({ message, models: [...new Set(models)] });
  checkDocument(problem, plan, say);
  const ledger = openLedger(problem, plan);
  const sharesOf = groupBy(plan.shares, (share) => share.model);
  const unservedOf = groupBy(plan.unserved, (entry) => entry.model);
  const noticesOf = groupBy([...plan.shortfalls, ...plan.warnings], (notice) => notice.model ?? '');
  const services: ModelService[] = [];
  const sums = { usdPerHour: 0, switchingUsdPerHour: 0, boundUsdPerHour: 0, publishedUsdPerHour: 0 };
  problem.models.forEach((model, m) => {
    const sayOfModel: Say = (message) => say(message, model.name);
    const entry = plan.models[m];
    if (entry?.name !== model.name) {
      sayOfModel(`model ${quote(model.name)} has no entry in models[${m}]`);
      return;
    }
    const money = checkReplicas(model, { ledger, options: problem.options, say: sayOfModel });
    sums.usdPerHour += money.usdPerHour;
    sums.switchingUsdPerHour += money.switchingUsdPerHour;
    sums.publishedUsdPerHour += money.publishedUsdPerHour;
    sums.boundUsdPerHour += entry.boundUsdPerHour;
    checkModelMoney(entry, money, sayOfModel);
    const isHeld = entry.status === 'held';
    if (isHeld !== (entry.heldReason !== null)) {
      sayOfModel(`model ${quote(model.name)} is ${entry.status} with the held reason ${entry.heldReason}`);
    }
    if (isHeld) return;
    if (entry.planAt !== (problem.at ?? null)) {
      sayOfModel(`model ${quote(model.name)} is of ${entry.planAt}, its problem of ${problem.at}`);
    }
    const notices = noticesOf.get(model.name) ?? [];
    const isSaid: IsSaid = (code, id) => notices.some((it) => it.code === code && it.deployment === id);
    const service = checkShares(model, {
      isSaid,
      ledger,
      options: problem.options,
      shares: sharesOf.get(model.name) ?? [],
      unserved: unservedOf.get(model.name) ?? [],
      say: sayOfModel,
    });
    services.push(service);
    checkStatus(service, { entry, isSaid, say: sayOfModel });
  });
  const names = new Set(problem.models.map(({ name }) => name));
  for (const name of sharesOf.keys()) {
    if (!names.has(name)) say(`there are shares of model ${quote(name)}, which is not in the problem`);
  }
  for (const name of unservedOf.keys()) {
    if (!names.has(name)) say(`demand of model ${quote(name)} is unserved, which is not in the problem`);
  }
  checkLimits(problem, plan, ledger, say);
  checkScarcity(problem, {
    plan,
    ledger,
    services,
    unservedOf: (model) => unservedOf.get(model) ?? [],
    say,
  });
  checkMoney(plan, { ...sums, penaltyUsdPerHour: services.reduce((sum, it) => sum + penaltyOf(it), 0) }, say);
  return faults;
}

/** The plan is of this problem, of all of it, and of nothing else. */
function checkDocument(problem: PlanningProblem, plan: Plan, say: Say): void {
  if (plan.at !== problem.at) say(`the plan is of ${plan.at}, its problem of ${problem.at}`);
  if (plan.routing !== problem.options.routing) {
    say(`the plan assumes ${plan.routing} routing, ${problem.options.routing} is asked for`);
  }
  if (new Set(plan.deployments.map(({ id }) => id)).size !== plan.deployments.length) {
    say('a deployment is planned twice');
  }
  const expected = problem.models.reduce((count, model) => count + model.deployments.length, 0);
  if (plan.deployments.length !== expected) {
    say(`${plan.deployments.length} deployments are planned, ${expected} are asked for`);
  }
  if (plan.models.length !== problem.models.length) {
    say(`${plan.models.length} models are planned, ${problem.models.length} are asked for`);
  }
  const status = worstStatus(plan.models.map((model) => model.status));
  if (plan.status !== status) say(`status is ${plan.status}, the worst of its models is ${status}`);
}

function checkModelMoney(
  entry: PlannedModel,
  money: { readonly usdPerHour: number; readonly switchingUsdPerHour: number },
  say: Say,
): void {
  const name = quote(entry.name);
  if (!close(entry.usdPerHour, money.usdPerHour)) {
    say(`model ${name} states ${entry.usdPerHour} USD/h, its replicas cost ${money.usdPerHour}`);
  }
  if (!close(entry.switchingUsdPerHour, money.switchingUsdPerHour)) {
    say(
      `model ${name} states ${entry.switchingUsdPerHour} USD/h of switching, its replicas started and stopped cost ${money.switchingUsdPerHour}`,
    );
  }
  const objective = entry.usdPerHour + entry.switchingUsdPerHour;
  checkBound(`model ${name}`, objective, entry.boundUsdPerHour, entry.gap, say);
}

function checkMoney(
  plan: Plan,
  sums: {
    readonly usdPerHour: number;
    readonly switchingUsdPerHour: number;
    readonly boundUsdPerHour: number;
    readonly publishedUsdPerHour: number;
    readonly penaltyUsdPerHour: number;
  },
  say: Say,
): void {
  if (!close(plan.usdPerHour, sums.usdPerHour)) {
    say(`usdPerHour is ${plan.usdPerHour}, the target replicas cost ${sums.usdPerHour}`);
  }
  if (!close(plan.publishedUsdPerHour, sums.publishedUsdPerHour)) {
    say(`publishedUsdPerHour is ${plan.publishedUsdPerHour}, the published replicas cost ${sums.publishedUsdPerHour}`);
  }
  if (!close(plan.switchingUsdPerHour, sums.switchingUsdPerHour)) {
    say(
      `switchingUsdPerHour is ${plan.switchingUsdPerHour}, the replicas started and stopped cost ${sums.switchingUsdPerHour}`,
    );
  }
  if (!close(plan.objectiveUsdPerHour, plan.usdPerHour + plan.switchingUsdPerHour)) {
    say(`objectiveUsdPerHour is ${plan.objectiveUsdPerHour}, not usdPerHour + switchingUsdPerHour`);
  }
  if (!close(plan.boundUsdPerHour, sums.boundUsdPerHour)) {
    say(`boundUsdPerHour is ${plan.boundUsdPerHour}, the bounds of the models add up to ${sums.boundUsdPerHour}`);
  }
  checkBound('the plan', plan.objectiveUsdPerHour, plan.boundUsdPerHour, plan.gap, say);
  if (!close(plan.penaltyUsdPerHour, sums.penaltyUsdPerHour)) {
    say(`penaltyUsdPerHour is ${plan.penaltyUsdPerHour}, unserved demand weighs ${sums.penaltyUsdPerHour}`);
  }
}

function checkBound(what: string, objective: number, bound: number, gap: number, say: Say): void {
  if (!(bound <= objective * (1 + 1e-9) + 1e-9)) {
    say(`${what} has a bound of ${bound} above its objective of ${objective}`);
  }
  if (!(bound >= 0)) say(`${what} has a negative bound`);
  const expected = objective > 0 ? Math.max(0, (objective - bound) / objective) : 0;
  if (!close(gap, expected, 1e-6)) say(`${what} states a gap of ${gap}, objective and bound give ${expected}`);
}

/** Is there a notice of this code on a model, or on a deployment of it? */
type IsSaid = (code: string, deployment?: string) => boolean;

/** A model's status is what its numbers say, and what a reader must know of it is said. */
function checkStatus(
  { model, demandRps, unservedRps, servesByBestEffort }: ModelService,
  { entry, isSaid, say }: { readonly entry: PlannedModel; readonly isSaid: IsSaid; readonly say: Say },
): void {
  const name = quote(model.name);
  const servedShare = demandRps > 0 ? 1 - unservedRps / demandRps : 1;
  const short = servedShare < model.minServedShare - 1e-9;
  if (short !== (entry.status === 'infeasible')) {
    say(
      `model ${name} is ${entry.status}, yet serves ${servedShare} of its demand where ${model.minServedShare} is required`,
    );
  }
  if (entry.status === 'optimal' && !(entry.gap <= 1e-8)) {
    say(`model ${name} is called optimal with a gap of ${entry.gap}`);
  }
  if (short && !isSaid('min_served_share')) say(`model ${name} does not say that too little of its demand is served`);
  if (servesByBestEffort && !isSaid('best_effort')) say(`model ${name} does not say that it serves by best effort`);
  for (const deployment of model.deployments) {
    if (deployment.profile === null) {
      if (!isSaid('no_profile', deployment.id)) say(`${deployment.id} has no profile, and nothing says so`);
    } else if (isFloorAboveCeiling(model, deployment) && !isSaid('floor_above_ceiling', deployment.id)) {
      say(`${deployment.id} has a floor above its ceiling, and nothing says so`);
    }
  }
}

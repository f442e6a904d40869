import { type Plan, worstStatus } from '../core/plan.js';
import type { PlanningProblem, ProblemDeployment, ProblemModel } from '../core/planning-problem.js';
import { bestEffortWork, bucketWork, compileWork, type WorkTable } from '../core/work.js';

/**
 * The independent checker: does a plan keep every promise that it makes about its problem?
 *
 * It shares no code with the solvers: works are read again from the profiles, loads and money are added up again from
 * the plan's own shares and replicas, in the original units. Every plan passes it before anyone sees it.
 *
 * @returns one sentence per violation; empty where the plan holds
 */
export function checkPlan(problem: PlanningProblem, plan: Plan): readonly string[] {
  const faults: string[] = [];
  const say = (fault: string): void => {
    if (faults.length < 20) faults.push(fault);
  };

  const planned = new Map(plan.deployments.map((deployment) => [deployment.id, deployment]));
  if (planned.size !== plan.deployments.length) say('a deployment is planned twice');
  const expected = problem.models.reduce((count, model) => count + model.deployments.length, 0);
  if (plan.deployments.length !== expected)
    say(`${plan.deployments.length} deployments are planned, ${expected} are asked for`);

  let usdPerHour = 0;
  let publishedUsdPerHour = 0;
  let penalty = 0;
  const sharesOf = groupBy(plan.shares, (share) => share.model);
  const unservedOf = groupBy(plan.unserved, (entry) => entry.model);
  problem.models.forEach((model, m) => {
    const entry = plan.models[m];
    if (entry?.name !== model.name) {
      say(`model ${quote(model.name)} has no entry in models[${m}]`);
      return;
    }
    const money = checkReplicas(model, planned, say);
    usdPerHour += money.usdPerHour;
    publishedUsdPerHour += money.publishedUsdPerHour;
    if (!close(entry.usdPerHour, money.usdPerHour)) {
      say(`model ${quote(model.name)} states ${entry.usdPerHour} USD/h, its replicas cost ${money.usdPerHour}`);
    }
    checkBound(`model ${quote(model.name)}`, entry.usdPerHour, entry.boundUsdPerHour, entry.gap, say);
    if (entry.status === 'held') return;
    const served = checkShares(model, planned, sharesOf.get(model.name) ?? [], unservedOf.get(model.name) ?? [], say);
    penalty += served.penaltyUsdPerHour;
    if (served.servedShare < model.minServedShare - 1e-9 && entry.status !== 'infeasible') {
      say(`model ${quote(model.name)} serves ${served.servedShare} of its demand, ${model.minServedShare} is required`);
    }
    if (entry.status === 'optimal' && entry.gap > 1e-8)
      say(`model ${quote(model.name)} is called optimal with a gap of ${entry.gap}`);
  });

  if (!close(plan.usdPerHour, usdPerHour))
    say(`usdPerHour is ${plan.usdPerHour}, the target replicas cost ${usdPerHour}`);
  if (!close(plan.publishedUsdPerHour, publishedUsdPerHour)) {
    say(`publishedUsdPerHour is ${plan.publishedUsdPerHour}, the published replicas cost ${publishedUsdPerHour}`);
  }
  if (!close(plan.objectiveUsdPerHour, plan.usdPerHour + plan.switchingUsdPerHour)) {
    say(`objectiveUsdPerHour is ${plan.objectiveUsdPerHour}, not usdPerHour + switchingUsdPerHour`);
  }
  checkBound('the plan', plan.objectiveUsdPerHour, plan.boundUsdPerHour, plan.gap, say);
  if (!close(plan.penaltyUsdPerHour, penalty))
    say(`penaltyUsdPerHour is ${plan.penaltyUsdPerHour}, unserved demand weighs ${penalty}`);
  const status = worstStatus(plan.models.map((model) => model.status));
  if (plan.status !== status) say(`status is ${plan.status}, the worst of its models is ${status}`);
  return faults;
}

type Say = (fault: string) => void;
type PlannedById = ReadonlyMap<string, Plan['deployments'][number]>;

function checkReplicas(
  model: ProblemModel,
  planned: PlannedById,
  say: Say,
): { usdPerHour: number; publishedUsdPerHour: number } {
  const idle = model.demand.every((bucket) => bucket.rps === 0);
  let usdPerHour = 0;
  let publishedUsdPerHour = 0;
  for (const deployment of model.deployments) {
    const entry = planned.get(deployment.id);
    if (entry === undefined || entry.model !== model.name || entry.gpuType !== deployment.gpuType) {
      say(`${deployment.id} is not planned for model ${quote(model.name)} on ${deployment.gpuType}`);
      continue;
    }
    const target = entry.targetReplicas;
    if (target !== null) {
      if (!Number.isInteger(target) || target < 0) say(`${deployment.id} has ${target} target replicas`);
      else checkBounds(deployment, idle, target, say);
      const cost = target * deployment.usdPerReplicaHour;
      if (!close(entry.usdPerHour, cost))
        say(`${deployment.id} states ${entry.usdPerHour} USD/h, ${target} replicas cost ${cost}`);
      usdPerHour += cost;
    } else if (deployment.profile !== null) say(`${deployment.id} has a profile but no target`);
    if (entry.replicas !== null) {
      if (!Number.isInteger(entry.replicas) || entry.replicas < 0)
        say(`${deployment.id} publishes ${entry.replicas} replicas`);
      publishedUsdPerHour += entry.replicas * deployment.usdPerReplicaHour;
    }
  }
  return { usdPerHour, publishedUsdPerHour };
}

function checkBounds(deployment: ProblemDeployment, idle: boolean, target: number, say: Say): void {
  if (deployment.fixedReplicas !== null) {
    if (target !== deployment.fixedReplicas)
      say(`${deployment.id} is fixed at ${deployment.fixedReplicas}, planned ${target}`);
    return;
  }
  if (deployment.profile === null) {
    if (target !== deployment.currentReplicas) {
      say(`${deployment.id} has no profile and runs ${deployment.currentReplicas}, planned ${target}`);
    }
    return;
  }
  const floor = Math.min(
    Math.max(deployment.minReplicas, idle ? deployment.idleMinReplicas : 0),
    deployment.maxReplicas,
  );
  if (target < floor || target > deployment.maxReplicas) {
    say(`${deployment.id} is planned ${target} replicas, outside ${floor} to ${deployment.maxReplicas}`);
  }
}

function checkShares(
  model: ProblemModel,
  planned: PlannedById,
  shares: readonly Plan['shares'][number][],
  unserved: readonly Plan['unserved'][number][],
  say: Say,
): { servedShare: number; penaltyUsdPerHour: number } {
  const name = quote(model.name);
  if (shares.length !== model.demand.length) {
    say(`model ${name} has shares for ${shares.length} of ${model.demand.length} buckets`);
    return { servedShare: 1, penaltyUsdPerHour: 0 };
  }
  const tables = new Map<string, WorkTable>();
  for (const deployment of model.deployments) {
    if (deployment.profile !== null) tables.set(deployment.id, compileWork(deployment.profile, deployment.maxTokens));
  }
  const load = new Map<string, number>();
  let total = 0;
  let left = 0;
  model.demand.forEach((bucket, b) => {
    const entry = shares[b]!;
    const where = `bucket ${bucket.inputTokens}:${bucket.outputTokens} of model ${name}`;
    if (
      entry.inputTokens !== bucket.inputTokens ||
      entry.outputTokens !== bucket.outputTokens ||
      entry.rps !== bucket.rps
    ) {
      say(`${where} is not the bucket at its place in shares`);
      return;
    }
    if (bucket.rps === 0) {
      if (entry.to.length > 0 || entry.unservedShare !== 0) say(`${where} has no demand but shares`);
      return;
    }
    let sum = entry.unservedShare;
    if (entry.unservedShare < 0 || entry.unservedShare > 1 + 1e-9)
      say(`${where} has an unserved share of ${entry.unservedShare}`);
    for (const { deployment, share } of entry.to) {
      const table = tables.get(deployment);
      if (table === undefined || !(share > 0) || share > 1 + 1e-9) {
        say(`${where} has share ${share} on ${deployment}`);
        continue;
      }
      const { work } = entry.bestEffort
        ? { work: bestEffortWork(table, bucket.inputTokens, bucket.outputTokens) }
        : bucketWork(table, bucket.inputTokens, bucket.outputTokens);
      if (!(work < Number.POSITIVE_INFINITY)) say(`${where} is placed on ${deployment}, which cannot serve it`);
      else load.set(deployment, (load.get(deployment) ?? 0) + share * bucket.rps * work);
      sum += share;
    }
    if (Math.abs(sum - 1) > 1e-8) say(`${where} has shares that sum to ${sum}`);
    if (
      entry.bestEffort &&
      [...tables.values()].some((table) => bucketWork(table, bucket.inputTokens, bucket.outputTokens).servable)
    ) {
      say(`${where} is called best effort, yet a deployment meets its SLO`);
    }
    total += bucket.rps;
    left += bucket.rps * entry.unservedShare;
  });
  for (const deployment of model.deployments) {
    const entry = planned.get(deployment.id);
    if (entry === undefined || deployment.profile === null) continue;
    const replicas = entry.targetReplicas ?? 0;
    const work = load.get(deployment.id) ?? 0;
    if (work > deployment.targetUtilization * replicas * (1 + 1.01e-9)) {
      say(`${deployment.id} has work for ${work} replicas at ${replicas} × ${deployment.targetUtilization}`);
    }
    const utilization = replicas > 0 ? work / replicas : 0;
    if (!close(entry.utilization, utilization, 1e-6))
      say(`${deployment.id} states utilization ${entry.utilization}, its work gives ${utilization}`);
  }
  const listed = unserved.reduce((sum, entry) => sum + entry.rps, 0);
  if (!close(listed, left, 1e-6)) say(`model ${name} lists ${listed} unserved requests/s, its shares leave ${left}`);
  return {
    servedShare: total > 0 ? 1 - left / total : 1,
    penaltyUsdPerHour: 3600 * model.unservedUsdPerRequest * listed,
  };
}

function checkBound(what: string, objective: number, bound: number, gap: number, say: Say): void {
  if (bound > objective * (1 + 1e-9) + 1e-9) say(`${what} has a bound of ${bound} above its objective of ${objective}`);
  if (bound < 0) say(`${what} has a negative bound`);
  const expected = objective > 0 ? Math.max(0, (objective - bound) / objective) : 0;
  if (!close(gap, expected, 1e-6)) say(`${what} states a gap of ${gap}, objective and bound give ${expected}`);
}

function groupBy<Item>(items: readonly Item[], keyOf: (item: Item) => string): Map<string, Item[]> {
  const groups = new Map<string, Item[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [item]);
    else group.push(item);
  }
  return groups;
}

function close(a: number, b: number, tolerance = 1e-8): boolean {
  return Math.abs(a - b) <= tolerance * Math.max(1, Math.abs(a), Math.abs(b));
}

function quote(name: string): string {
  return JSON.stringify(name.length > 60 ? `${name.slice(0, 60)}…` : name);
}

import { type Plan, worstStatus } from '../core/plan.js';
import type { PlanningProblem, ProblemDeployment, ProblemModel } from '../core/planning-problem.js';
import { bestEffortWork, bucketWork, compileWork, type WorkTable } from '../core/work.js';

/**
 * The independent checker: does a plan keep every promise that it makes about its problem?
 *
 * It shares no code with the solvers: works are read again from the profiles, loads and money are added up again from
 * the plan's own shares and replicas, in the original units. Every plan passes it before anyone sees it. What it cannot
 * see is whether a cheaper plan exists; that is what the bound and the tests of the solvers are for.
 *
 * Numbers are compared so that a NaN breaks a promise (`!(a <= b)`, never `a > b`).
 *
 * @returns one sentence per violation, 20 at most; empty where the plan holds
 */
export function checkPlan(problem: PlanningProblem, plan: Plan): readonly string[] {
  const faults: string[] = [];
  const say = (fault: string): void => {
    if (faults.length < 20) faults.push(fault);
  };

  if (plan.at !== problem.at) say(`the plan is of ${plan.at}, its problem of ${problem.at}`);
  if (plan.routing !== problem.options.routing) {
    say(`the plan assumes ${plan.routing} routing, ${problem.options.routing} is asked for`);
  }
  const planned = new Map(plan.deployments.map((deployment) => [deployment.id, deployment]));
  if (planned.size !== plan.deployments.length) say('a deployment is planned twice');
  const expected = problem.models.reduce((count, model) => count + model.deployments.length, 0);
  if (plan.deployments.length !== expected) {
    say(`${plan.deployments.length} deployments are planned, ${expected} are asked for`);
  }
  if (plan.models.length !== problem.models.length) {
    say(`${plan.models.length} models are planned, ${problem.models.length} are asked for`);
  }

  let usdPerHour = 0;
  let boundUsdPerHour = 0;
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
    const shares = sharesOf.get(model.name) ?? [];
    const unserved = unservedOf.get(model.name) ?? [];
    sharesOf.delete(model.name);
    unservedOf.delete(model.name);
    const isHeld = entry.status === 'held';
    const money = checkReplicas(model, planned, { isHeld, say });
    usdPerHour += money.usdPerHour;
    boundUsdPerHour += entry.boundUsdPerHour;
    publishedUsdPerHour += money.publishedUsdPerHour;
    if (!close(entry.usdPerHour, money.usdPerHour)) {
      say(`model ${quote(model.name)} states ${entry.usdPerHour} USD/h, its replicas cost ${money.usdPerHour}`);
    }
    checkBound(`model ${quote(model.name)}`, entry.usdPerHour, entry.boundUsdPerHour, entry.gap, say);
    if (isHeld !== (entry.heldReason !== null)) {
      say(`model ${quote(model.name)} is ${entry.status} with the held reason ${entry.heldReason}`);
    }
    if (isHeld) return;
    if (entry.planAt !== (problem.at ?? null)) {
      say(`model ${quote(model.name)} is of ${entry.planAt}, its problem of ${problem.at}`);
    }
    const served = checkShares(model, { planned, shares, unserved, say });
    penalty += served.penaltyUsdPerHour;
    checkStatus(model, { plan, entry, served, say });
  });
  for (const name of sharesOf.keys()) say(`there are shares of model ${quote(name)}, which is not in the problem`);
  for (const name of unservedOf.keys()) say(`demand of model ${quote(name)} is unserved, which is not in the problem`);

  if (!close(plan.usdPerHour, usdPerHour)) {
    say(`usdPerHour is ${plan.usdPerHour}, the target replicas cost ${usdPerHour}`);
  }
  if (!close(plan.publishedUsdPerHour, publishedUsdPerHour)) {
    say(`publishedUsdPerHour is ${plan.publishedUsdPerHour}, the published replicas cost ${publishedUsdPerHour}`);
  }
  if (plan.switchingUsdPerHour !== 0) {
    say(`switchingUsdPerHour is ${plan.switchingUsdPerHour}, starting and stopping is free`);
  }
  if (!close(plan.objectiveUsdPerHour, plan.usdPerHour + plan.switchingUsdPerHour)) {
    say(`objectiveUsdPerHour is ${plan.objectiveUsdPerHour}, not usdPerHour + switchingUsdPerHour`);
  }
  if (!(plan.boundUsdPerHour <= boundUsdPerHour + 1e-8 * Math.max(1, boundUsdPerHour))) {
    say(`boundUsdPerHour is ${plan.boundUsdPerHour}, the bounds of the models add up to ${boundUsdPerHour}`);
  }
  checkBound('the plan', plan.objectiveUsdPerHour, plan.boundUsdPerHour, plan.gap, say);
  if (!close(plan.penaltyUsdPerHour, penalty)) {
    say(`penaltyUsdPerHour is ${plan.penaltyUsdPerHour}, unserved demand weighs ${penalty}`);
  }
  const status = worstStatus(plan.models.map((model) => model.status));
  if (plan.status !== status) say(`status is ${plan.status}, the worst of its models is ${status}`);
  return faults;
}

type Say = (fault: string) => void;
type PlannedById = ReadonlyMap<string, Plan['deployments'][number]>;

function checkReplicas(
  model: ProblemModel,
  planned: PlannedById,
  { isHeld, say }: { readonly isHeld: boolean; readonly say: Say },
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
      if (!isCount(target)) say(`${deployment.id} has ${target} target replicas`);
      // A model that is held stays where it is, wherever that is.
      else if (!isHeld) checkBounds(deployment, idle, target, say);
      const cost = target * deployment.usdPerReplicaHour;
      if (!close(entry.usdPerHour, cost)) {
        say(`${deployment.id} states ${entry.usdPerHour} USD/h, ${target} replicas cost ${cost}`);
      }
      usdPerHour += cost;
    } else {
      if (deployment.profile !== null && !isHeld) say(`${deployment.id} has a profile but no target`);
      else if ((deployment.fixedReplicas ?? deployment.currentReplicas) !== null) {
        say(`${deployment.id} has no target, yet its replicas are known`);
      }
      if (entry.usdPerHour !== 0) say(`${deployment.id} states ${entry.usdPerHour} USD/h without a target`);
    }
    if (entry.replicas !== null) {
      if (!isCount(entry.replicas)) say(`${deployment.id} publishes ${entry.replicas} replicas`);
      publishedUsdPerHour += entry.replicas * deployment.usdPerReplicaHour;
    } else if (target !== null) say(`${deployment.id} publishes no replicas, yet ${target} are planned`);
    if (!/^\S.*[.]$/su.test(entry.reason)) say(`${deployment.id} has no sentence as its reason`);
  }
  return { usdPerHour, publishedUsdPerHour };
}

function checkBounds(deployment: ProblemDeployment, idle: boolean, target: number, say: Say): void {
  if (deployment.fixedReplicas !== null) {
    if (target !== deployment.fixedReplicas) {
      say(`${deployment.id} is fixed at ${deployment.fixedReplicas}, planned ${target}`);
    }
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
  if (!(target >= floor && target <= deployment.maxReplicas)) {
    say(`${deployment.id} is planned ${target} replicas, outside ${floor} to ${deployment.maxReplicas}`);
  }
}

/** What the deployments can do for one bucket, read from the profiles. */
type BucketFacts = {
  /** Work per request of those that may take it; best effort where none meets the SLO. */
  readonly works: ReadonlyMap<string, number>;
  readonly bestEffort: boolean;
  readonly extrapolated: boolean;
};

function bucketFacts(
  tables: ReadonlyMap<string, WorkTable>,
  bucket: { readonly inputTokens: number; readonly outputTokens: number },
): BucketFacts {
  const { inputTokens, outputTokens } = bucket;
  const works = new Map<string, number>();
  let extrapolated = false;
  for (const [id, table] of tables) {
    const answer = bucketWork(table, inputTokens, outputTokens);
    if (!answer.servable) continue;
    works.set(id, answer.work);
    if (answer.extrapolated) extrapolated = true;
  }
  if (works.size > 0) return { works, bestEffort: false, extrapolated };
  for (const [id, table] of tables) {
    const work = bestEffortWork(table, inputTokens, outputTokens);
    if (work < Number.POSITIVE_INFINITY) works.set(id, work);
  }
  return { works, bestEffort: works.size > 0, extrapolated };
}

type Served = { readonly servedShare: number; readonly penaltyUsdPerHour: number; readonly bestEffort: boolean };

function checkShares(
  model: ProblemModel,
  {
    planned,
    shares,
    unserved,
    say,
  }: {
    readonly planned: PlannedById;
    readonly shares: readonly Plan['shares'][number][];
    readonly unserved: readonly Plan['unserved'][number][];
    readonly say: Say;
  },
): Served {
  const name = quote(model.name);
  if (shares.length !== model.demand.length) {
    say(`model ${name} has shares for ${shares.length} of ${model.demand.length} buckets`);
    return { servedShare: 1, penaltyUsdPerHour: 0, bestEffort: false };
  }
  const tables = new Map<string, WorkTable>();
  for (const deployment of model.deployments) {
    if (deployment.profile !== null) tables.set(deployment.id, compileWork(deployment.profile, deployment.maxTokens));
  }
  // Inside every grid nothing is extrapolated, and one servable share says that the SLO can be met: most buckets need
  // no more than the works of their own shares.
  const least = (last: (table: WorkTable) => number): number => Math.min(...[...tables.values()].map(last));
  const insideInputs = least((table) => table.inputs.at(-1)!);
  const insideOutputs = least((table) => table.outputs.at(-1)!);
  const factsOf = (bucket: ProblemModel['demand'][number], entry: Plan['shares'][number]): BucketFacts => {
    const isPlain =
      !entry.bestEffort &&
      entry.unservedShare === 0 &&
      bucket.inputTokens <= insideInputs &&
      bucket.outputTokens <= insideOutputs;
    if (isPlain) {
      const own = new Map<string, WorkTable>();
      for (const { deployment } of entry.to) {
        const table = tables.get(deployment);
        if (table !== undefined) own.set(deployment, table);
      }
      const facts = bucketFacts(own, bucket);
      if (facts.works.size > 0 && !facts.bestEffort) return facts;
    }
    return bucketFacts(tables, bucket);
  };

  const load = new Map<string, number>();
  const leftOver: { readonly facts: BucketFacts; readonly rps: number; readonly where: string }[] = [];
  const expectedUnserved = new Map<string, { rps: number; isSlo: boolean }>();
  let total = 0;
  let left = 0;
  let bestEffort = false;
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
    const facts = factsOf(bucket, entry);
    if (entry.bestEffort !== facts.bestEffort) {
      say(
        `${where} is ${entry.bestEffort ? '' : 'not '}called best effort, yet ${facts.bestEffort ? 'no' : 'a'} deployment meets its SLO`,
      );
    }
    if (entry.extrapolated !== facts.extrapolated) {
      say(`${where} is ${entry.extrapolated ? '' : 'not '}called extrapolated against its profiles`);
    }
    if (bucket.rps === 0) {
      if (entry.to.length > 0 || entry.unservedShare !== 0) say(`${where} has no demand but shares`);
      return;
    }
    if (facts.bestEffort && entry.to.length > 0) bestEffort = true;
    if (!(entry.unservedShare >= 0 && entry.unservedShare <= 1 + 1e-9)) {
      say(`${where} has an unserved share of ${entry.unservedShare}`);
    }
    if (new Set(entry.to.map(({ deployment }) => deployment)).size !== entry.to.length) {
      say(`${where} names a deployment twice`);
    }
    let sum = entry.unservedShare;
    for (const { deployment, share } of entry.to) {
      if (!tables.has(deployment) || !(share > 0 && share <= 1 + 1e-9)) {
        say(`${where} has share ${share} on ${deployment}`);
        continue;
      }
      const work = facts.works.get(deployment);
      if (work === undefined) say(`${where} is placed on ${deployment}, which cannot serve it`);
      else load.set(deployment, (load.get(deployment) ?? 0) + share * bucket.rps * work);
      sum += share;
    }
    if (!(Math.abs(sum - 1) <= 1e-8)) say(`${where} has shares that sum to ${sum}`);
    total += bucket.rps;
    const rps = bucket.rps * entry.unservedShare;
    left += rps;
    if (!(rps > 0)) return;
    const key = `${bucket.inputTokens}:${bucket.outputTokens}`;
    expectedUnserved.set(key, {
      rps: (expectedUnserved.get(key)?.rps ?? 0) + rps,
      isSlo: facts.works.size === 0,
    });
    leftOver.push({ facts, rps, where });
  });

  const room = checkLoads(model, { planned, load, say });
  for (const { facts, rps, where } of leftOver) {
    // The least unserved demand leaves no room that could take some of it. A thousandth is let pass: where one model's
    // numbers span ten orders of magnitude and more, a plan that leaves a hair too much is worth more than no plan.
    for (const [id, work] of facts.works) {
      const takes = room.get(id)! / work;
      if (rps > 1e-3 * total && takes > 1e-3 * total) {
        say(`${where} leaves ${rps} requests/s unserved, though ${id} could grow to serve ${takes}`);
      }
    }
  }

  const listed = groupBy(unserved, ({ inputTokens, outputTokens }) => `${inputTokens}:${outputTokens}`);
  for (const [key, entries] of listed) {
    const expected = expectedUnserved.get(key) ?? { rps: 0, isSlo: false };
    expectedUnserved.delete(key);
    const rps = entries.reduce((sum, entry) => sum + entry.rps, 0);
    if (!(Math.abs(rps - expected.rps) <= 1e-9 * expected.rps)) {
      say(`bucket ${key} of model ${name} lists ${rps} unserved requests/s, its shares leave ${expected.rps}`);
    }
    if (entries.some(({ reason }) => reason !== (expected.isSlo ? 'slo' : 'max_replicas'))) {
      say(`bucket ${key} of model ${name} is unserved because of ${expected.isSlo ? 'slo' : 'max_replicas'}`);
    }
  }
  for (const [key, { rps }] of expectedUnserved) {
    say(`bucket ${key} of model ${name} leaves ${rps} requests/s unserved, which are not listed`);
  }
  return {
    servedShare: total > 0 ? 1 - left / total : 1,
    penaltyUsdPerHour: 3600 * model.unservedUsdPerRequest * left,
    bestEffort,
  };
}

/**
 * Does the work fit, and is it what the plan says?
 *
 * @returns replicas of work that each deployment could still take if it ran as many replicas as it may
 */
function checkLoads(
  model: ProblemModel,
  {
    planned,
    load,
    say,
  }: { readonly planned: PlannedById; readonly load: ReadonlyMap<string, number>; readonly say: Say },
): ReadonlyMap<string, number> {
  const room = new Map<string, number>();
  for (const deployment of model.deployments) {
    const work = load.get(deployment.id) ?? 0;
    const ceiling = (deployment.fixedReplicas ?? deployment.maxReplicas) * deployment.targetUtilization;
    room.set(deployment.id, ceiling - work);
    const entry = planned.get(deployment.id);
    if (entry === undefined) continue;
    const replicas = entry.targetReplicas ?? 0;
    if (!(work <= deployment.targetUtilization * replicas * (1 + 1.01e-9))) {
      say(`${deployment.id} has work for ${work} replicas at ${replicas} × ${deployment.targetUtilization}`);
    }
    const utilization = replicas > 0 ? work / replicas : 0;
    if (!close(entry.utilization, utilization, 1e-8)) {
      say(`${deployment.id} states utilization ${entry.utilization}, its work gives ${utilization}`);
    }
  }
  return room;
}

function checkStatus(
  model: ProblemModel,
  {
    plan,
    entry,
    served,
    say,
  }: {
    readonly plan: Plan;
    readonly entry: Plan['models'][number];
    readonly served: Served;
    readonly say: Say;
  },
): void {
  const name = quote(model.name);
  const short = served.servedShare < model.minServedShare - 1e-9;
  if (short !== (entry.status === 'infeasible')) {
    say(
      `model ${name} is ${entry.status}, yet serves ${served.servedShare} of its demand where ${model.minServedShare} is required`,
    );
  }
  if (entry.status === 'optimal' && !(entry.gap <= 1e-8)) {
    say(`model ${name} is called optimal with a gap of ${entry.gap}`);
  }
  const notices = [...plan.shortfalls, ...plan.warnings].filter((notice) => notice.model === model.name);
  const isSaid = (code: string, id?: string): boolean =>
    notices.some((notice) => notice.code === code && notice.deployment === id);
  if (short && !isSaid('min_served_share')) say(`model ${name} does not say that too little of its demand is served`);
  if (served.bestEffort && !isSaid('best_effort')) say(`model ${name} does not say that it serves by best effort`);
  const idle = model.demand.every((bucket) => bucket.rps === 0);
  for (const deployment of model.deployments) {
    if (deployment.profile === null) {
      if (!isSaid('no_profile', deployment.id)) say(`${deployment.id} has no profile, and nothing says so`);
    } else if (
      deployment.fixedReplicas === null &&
      Math.max(deployment.minReplicas, idle ? deployment.idleMinReplicas : 0) > deployment.maxReplicas &&
      !isSaid('floor_above_ceiling', deployment.id)
    ) {
      say(`${deployment.id} has a floor above its ceiling, and nothing says so`);
    }
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

function isCount(value: number): boolean {
  return Number.isInteger(value) && value >= 0;
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

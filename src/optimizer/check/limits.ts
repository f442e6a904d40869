import type { Plan, PlanNotice } from '../../core/plan.js';
import type { PlanningProblem } from '../../core/planning-problem.js';
import { quote, type Say } from './faults.js';
import { allowed, floorOf, isStanding, type Ledger, limitTolerance, type SharedLimit } from './ledger.js';
import { followsSteps } from './replicas.js';

/**
 * Pools, quotas and the budget: the targets fit, what is published now fits while the old replicas go, and the plan says
 * which limits are exceeded by what it cannot change, which bound nothing, and which floors they do not allow.
 */
export function checkLimits(problem: PlanningProblem, plan: Plan, ledger: Ledger, say: Say): void {
  for (const limit of ledger.limits) {
    if (!isWithin(limit.used, allowed(limit))) {
      const stands = limit.standing > limit.amount ? ` (${limit.standing} of it cannot be changed)` : '';
      say(
        `${limit.name} is ${limit.amount}, the plan uses ${limit.used}${stands}`,
        ...modelsOn(problem, limit, ledger, (target, standing) => !standing && target > 0),
      );
    }
    checkPublishedFits(problem, limit, ledger, say);
  }
  const exceeded = ledger.limits.filter(({ standing, amount }) => !isWithin(standing, amount));
  expectNotices(plan.warnings, { code: 'limit_exceeded', names: exceeded.map(({ name }) => name), say });
  const used = new Set(problem.models.flatMap((model) => model.deployments.map(({ gpuType }) => gpuType)));
  const untouched = [
    // A pool without a limit is misspelt all the same where nothing is of its type.
    ...problem.pools.filter(({ gpuType }) => !used.has(gpuType)).map(({ gpuType }) => `pool ${gpuType}`),
    ...ledger.limits.filter(({ kind, isTouched }) => kind === 'quota' && !isTouched).map(({ name }) => name),
  ];
  expectNotices(plan.warnings, { code: 'limit_without_deployment', names: untouched, say });
  checkFloorNotices(problem, plan, ledger, say);
}

function isWithin(used: number, most: number): boolean {
  return used <= most * (1 + 1.01 * limitTolerance);
}

/**
 * A replica that was released holds its GPUs until it is gone, and one that is published may take them at any moment: no
 * more may be published than fits beside what is ready and what the step does not choose.
 */
function checkPublishedFits(problem: PlanningProblem, limit: SharedLimit, ledger: Ledger, say: Say): void {
  if (limit.kind === 'budget' || isWithin(limit.usedNow, Math.max(limit.amount, limit.used))) return;
  let unready = 0;
  const atFault: { readonly model: string; readonly message: string }[] = [];
  for (const model of problem.models) {
    const isHeld = ledger.held.has(model.name);
    if (isHeld || !followsSteps(model, ledger)) continue;
    for (const deployment of model.deployments) {
      const { currentReplicas: current, readyReplicas } = deployment;
      const use = ledger.usesOf(deployment).find((each) => each.limit === limit);
      const published = ledger.planned.get(deployment.id)?.replicas ?? null;
      if (use === undefined || published === null || current === null || isStanding(deployment, isHeld)) continue;
      const ready = readyReplicas ?? current;
      if (published <= ready) continue;
      unready += use.amount * (published - ready);
      const message = `${deployment.id} publishes ${published} replicas (${ready} ready)`;
      atFault.push({ model: model.name, message });
    }
  }
  const room = Math.max(limit.amount, limit.used, limit.usedNow - unready);
  if (isWithin(limit.usedNow, room)) return;
  for (const { model, message } of atFault) {
    say(`${message}, though ${limit.usedNow} of ${room} are taken in ${limit.name} then`, model);
  }
}

function modelsOn(
  problem: PlanningProblem,
  limit: SharedLimit,
  ledger: Ledger,
  isAtFault: (target: number, isStanding: boolean) => boolean,
): readonly string[] {
  return problem.models
    .filter((model) =>
      model.deployments.some(
        (deployment) =>
          ledger.usesOf(deployment).some((use) => use.limit === limit) &&
          isAtFault(
            ledger.planned.get(deployment.id)?.targetReplicas ?? 0,
            isStanding(deployment, ledger.held.has(model.name)),
          ),
      ),
    )
    .map(({ name }) => name);
}

/** As many notices of a code as there are limits to name; which is which only their words say. */
function expectNotices(
  notices: readonly PlanNotice[],
  { code, names, say }: { readonly code: string; readonly names: readonly string[]; readonly say: Say },
): void {
  const count = notices.filter((notice) => notice.code === code).length;
  if (count !== names.length) {
    say(`${count} warnings ${code} for ${names.length === 0 ? 'no limit' : names.join(', ')}`);
  }
}

function checkFloorNotices(problem: PlanningProblem, plan: Plan, ledger: Ledger, say: Say): void {
  const said = new Set(
    plan.shortfalls
      .filter(({ code }) => code === 'floor_above_limit')
      .map(({ model, deployment }) => `${model}\n${deployment}`),
  );
  for (const model of problem.models) {
    const isHeld = ledger.held.has(model.name);
    for (const deployment of model.deployments) {
      const granted = ledger.grantedFloors.get(deployment.id);
      const isShort = granted !== undefined && granted < floorOf(model, deployment);
      const isSaid = said.delete(`${model.name}\n${deployment.id}`);
      if (isHeld || isShort === isSaid) continue;
      say(
        isShort
          ? `${deployment.id} has a floor that the limits do not allow, and nothing says so`
          : `${deployment.id} is said to have a floor above a limit, yet there is room for it`,
        model.name,
      );
    }
  }
  for (const key of said)
    say(`a floor above a limit is said of ${quote(key.replace('\n', ': '))}, which is not planned`);
}

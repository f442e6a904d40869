import type { PlanChange, UnusedDeployment, UnusedReason } from '../../core/explanation.js';
import type { PlanOptions, ProblemDeployment, ProblemModel } from '../../core/planning-problem.js';
import { type BoundedPlans, type Group, withDeployment } from './bounded-plans.js';
import { isDecided, keepsFloors } from './floors.js';
import { hasDemand } from './other-demand.js';
import { changeBetween, compareServed, isSameMoney, type Outcome } from './outcome.js';
import type { Servable } from './servable.js';

/**
 * The price per replica-hour below which the plan would use a deployment that it does not use.
 *
 * With k replicas of it at price p, the best plan costs F(k) + p·k, F not depending on p; the plan without it costs C. So
 * it enters below max_k (C − F(k)) / k, which Dinkelbach's method finds: plan with at least one replica of it at a price,
 * take the k that comes out, and try again at the price (C − F(k)) / k at which that plan ties with the one in force. The
 * prices only rise, each k comes up at most once, and at the last price no plan that uses it is cheaper (W. Dinkelbach,
 * On nonlinear fractional programming, Management Science 13, 1967).
 *
 * Worked line: C = 5.80; at its price of 3.67 the best plan with one is F(1) = 3.20 and costs 6.87; they tie at 2.60. At
 * 2.60 the best plan has k = 2 and F(2) = 0.50, 5.70: they tie at (5.80 − 0.50) / 2 = 2.65. At 2.65 nothing is below
 * 5.80: it enters below 2.65.
 *
 * Under a budget a lower price also makes room for more demand to be served: a plan that serves more is better up to the
 * price at which it no longer fits the budget, and the same ascent holds.
 */
export function explainUnused(
  group: Group,
  model: ProblemModel,
  asked: { readonly plans: BoundedPlans; readonly servable: Servable; readonly routing: PlanOptions['routing'] },
): readonly UnusedDeployment[] {
  const { plans, servable, routing } = asked;
  return model.deployments.flatMap((deployment): readonly UnusedDeployment[] => {
    const { id, gpuType, usdPerReplicaHour } = deployment;
    if ((group.base.replicas.get(id) ?? 0) > 0) return [];
    const head = { deployment: id, gpuType, usdPerReplicaHour };
    const plain = plainReason(model, deployment, servable, routing);
    if (plain !== null) {
      return [{ ...head, why: plain, entersBelowUsdPerReplicaHour: null, proven: true, oneReplica: null }];
    }
    return [{ ...head, ...entryPrice(group, deployment, plans) }];
  });
}

/** Why a deployment cannot be used at any price, where nothing has to be planned to know it. */
function plainReason(
  model: ProblemModel,
  deployment: ProblemDeployment,
  servable: Servable,
  routing: PlanOptions['routing'],
): UnusedReason | null {
  if (deployment.profile === null) return 'no_profile';
  if (deployment.fixedReplicas !== null) return 'fixed';
  if (!hasDemand(model)) return 'no_demand';
  if (!servable.some.has(deployment.id)) return 'cannot_serve';
  if (routing === 'proportional' && !servable.all.has(deployment.id)) return 'not_common';
  return isDecided(deployment) && deployment.maxReplicas > 0 ? null : 'max_replicas';
}

type Answer = Pick<UnusedDeployment, 'why' | 'entersBelowUsdPerReplicaHour' | 'proven' | 'oneReplica'>;

/** The prices rise to the answer in a few steps; more than these are a sign of numbers that do not settle. */
const mostSteps = 20;

function entryPrice(group: Group, deployment: ProblemDeployment, plans: BoundedPlans): Answer {
  const { base, deployments } = group;
  const { id, usdPerReplicaHour } = deployment;
  const asked = { question: 'entry_price', subject: id } as const;
  /** The best plan that uses it at a price. */
  const planAt = (price: number): Outcome | null => {
    const minReplicas = Math.max(1, deployment.minReplicas);
    const changed = withDeployment(group.problem, id, { usdPerReplicaHour: price, minReplicas });
    return plans.outcome(group, changed, asked);
  };
  const isGranted = (answer: Outcome): boolean => (answer.replicas.get(id) ?? 0) > 0 && keepsFloors(group, answer);
  const answered = (
    why: UnusedReason,
    price: number | null,
    proven: boolean,
    oneReplica: PlanChange | null,
  ): Answer => ({
    why,
    entersBelowUsdPerReplicaHour: price,
    proven,
    oneReplica,
  });

  const atPrice = planAt(usdPerReplicaHour);
  if (atPrice === null) return answered('not_computed', null, false, null);
  let oneReplica: PlanChange | null = null;
  let price = 0;
  if (isGranted(atPrice)) {
    oneReplica = changeBetween(base, atPrice, { direction: 'tightened', deployments });
    if (compareServed(atPrice, base) === 0) {
      price = Math.max(0, tiePrice(group, { id, price: usdPerReplicaHour, answer: atPrice }));
      // A tie at the price that it has: the plan could as well use it.
      if (price >= usdPerReplicaHour || isSameMoney(price, usdPerReplicaHour)) {
        return answered('price', usdPerReplicaHour, base.proven, oneReplica);
      }
    }
  } else if (group.problem.budgetUsdPerHour === null) return answered('no_room', null, atPrice.proven, null);

  let asking = price;
  for (let step = 0; step < mostSteps; step++) {
    const answer = planAt(asking);
    if (answer === null) {
      return price > 0
        ? answered('price', price, false, oneReplica)
        : answered('not_computed', null, false, oneReplica);
    }
    const granted = isGranted(answer);
    if (!granted && asking === 0) return answered('no_room', null, answer.proven, oneReplica);
    const served = compareServed(answer, base);
    const cheaper = answer.objective < base.objective && !isSameMoney(answer.objective, base.objective);
    if (!granted || !(served < 0 || (served === 0 && cheaper))) {
      // What is no better here is no better at any higher price.
      const proven = base.proven && answer.proven;
      return price > 0 ? answered('price', price, proven, oneReplica) : answered('never', null, proven, oneReplica);
    }
    price = Math.min(usdPerReplicaHour, Math.max(price, tiePrice(group, { id, price: asking, answer })));
    // A plan that serves more and just fits the budget hides plans that serve less and fit it at higher prices.
    asking = price > asking && !isSameMoney(price, asking) ? price : price + stepAbove(group);
    if (asking > usdPerReplicaHour) return answered('price', price, base.proven && answer.proven, oneReplica);
  }
  return answered('price', price, false, oneReplica);
}

/**
 * Far enough above a price that a plan which just fitted the budget no longer does: beyond all tolerances, and no more
 * than a tenth of a cent, since prices in between are not looked at.
 */
function stepAbove({ problem }: Group): number {
  const budget = problem.budgetUsdPerHour ?? 0;
  return Math.max(1e-6 * budget, Math.min(1e-4 * budget, 1e-3));
}

/** The price at which a plan found at another price is no better than the one in force, or no longer fits the budget. */
function tiePrice(
  { base, problem }: Group,
  { id, price, answer }: { readonly id: string; readonly price: number; readonly answer: Outcome },
): number {
  const count = answer.replicas.get(id)!;
  const byBudget =
    problem.budgetUsdPerHour === null
      ? Number.POSITIVE_INFINITY
      : (problem.budgetUsdPerHour - (answer.usdPerHour - price * count)) / count;
  if (compareServed(answer, base) < 0) return byBudget;
  return Math.min(byBudget, (base.objective - (answer.objective - price * count)) / count);
}

import type { PlannedDeployment } from '../../core/plan.js';
import {
  type PlanOptions,
  type ProblemDeployment,
  type ProblemModel,
  switchingPrices,
} from '../../core/planning-problem.js';
import { close, quote, type Say } from './faults.js';
import { floorOf, isStanding, type Ledger } from './ledger.js';

/** Money of one model, added up again from its replicas [USD/hour]. */
export type ModelMoney = {
  readonly usdPerHour: number;
  readonly publishedUsdPerHour: number;
  readonly switchingUsdPerHour: number;
};

/**
 * Whole replicas within their bounds, each with its cost: targets within floor and ceiling (or where they must stay),
 * what is published on the way from what runs now to the target.
 */
export function checkReplicas(
  model: ProblemModel,
  { ledger, options, say }: { readonly ledger: Ledger; readonly options: PlanOptions; readonly say: Say },
): ModelMoney {
  const isHeld = ledger.held.has(model.name);
  let usdPerHour = 0;
  let publishedUsdPerHour = 0;
  let switchingUsd = 0;
  const steps = isHeld || followsSteps(model, ledger);
  for (const deployment of model.deployments) {
    const entry = ledger.planned.get(deployment.id);
    if (entry === undefined || entry.model !== model.name || entry.gpuType !== deployment.gpuType) {
      say(`${deployment.id} is not planned for model ${quote(model.name)} on ${deployment.gpuType}`);
      continue;
    }
    const target = entry.targetReplicas;
    if (target !== null) {
      if (!isCount(target)) say(`${deployment.id} has ${target} target replicas`);
      // A model that is held stays where it is, wherever that is.
      else if (!isHeld) checkBounds(model, deployment, target, ledger, say);
      const cost = target * deployment.usdPerReplicaHour;
      if (!close(entry.usdPerHour, cost)) {
        say(`${deployment.id} states ${entry.usdPerHour} USD/h, ${target} replicas cost ${cost}`);
      }
      usdPerHour += cost;
      if (deployment.currentReplicas !== null) {
        const { startUsd, stopUsd } = switchingPrices(deployment, options);
        switchingUsd += startUsd * Math.max(0, target - deployment.currentReplicas);
        switchingUsd += stopUsd * Math.max(0, deployment.currentReplicas - target);
      }
    } else {
      if (deployment.profile !== null && !isHeld) say(`${deployment.id} has a profile but no target`);
      else if ((deployment.fixedReplicas ?? deployment.currentReplicas) !== null) {
        say(`${deployment.id} has no target, yet its replicas are known`);
      }
      if (entry.usdPerHour !== 0) say(`${deployment.id} states ${entry.usdPerHour} USD/h without a target`);
    }
    const sharesRoom = ledger.usesOf(deployment).some(({ limit }) => limit.kind !== 'budget');
    checkPublished(deployment, entry, { steps: steps && !isStanding(deployment, isHeld), sharesRoom, say });
    publishedUsdPerHour += (entry.replicas ?? 0) * deployment.usdPerReplicaHour;
    if (!/^\S.*[.]$/su.test(entry.reason)) say(`${deployment.id} has no sentence as its reason`);
  }
  return { usdPerHour, publishedUsdPerHour, switchingUsdPerHour: switchingUsd / options.horizonHours };
}

function checkBounds(
  model: ProblemModel,
  deployment: ProblemDeployment,
  target: number,
  ledger: Ledger,
  say: Say,
): void {
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
  const granted = ledger.grantedFloors.get(deployment.id)!;
  if (!(target >= granted && target <= deployment.maxReplicas)) {
    const floor = floorOf(model, deployment);
    const yielded = granted < floor ? ` (its floor of ${floor} as far as there is room)` : '';
    say(`${deployment.id} is planned ${target} replicas, outside ${granted} to ${deployment.maxReplicas}${yielded}`);
  }
}

/**
 * Does the model move towards its targets step by step? Not where nobody could follow it: where readiness is not known
 * of any of its deployments, or where neither what is asked for nor what is ready is known of one.
 */
export function followsSteps(model: ProblemModel, ledger: Ledger): boolean {
  if (model.deployments.every(({ readyReplicas }) => readyReplicas === null)) return false;
  return model.deployments.every((deployment) => {
    if (deployment.profile === null) return true;
    const isPlanned = (ledger.planned.get(deployment.id)?.targetReplicas ?? null) !== null;
    return isPlanned && (deployment.currentReplicas !== null || deployment.readyReplicas !== null);
  });
}

function checkPublished(
  deployment: ProblemDeployment,
  { replicas, targetReplicas: target }: PlannedDeployment,
  { steps, sharesRoom, say }: { readonly steps: boolean; readonly sharesRoom: boolean; readonly say: Say },
): void {
  if (replicas === null) {
    if (target !== null) say(`${deployment.id} publishes no replicas, yet ${target} are planned`);
    return;
  }
  if (!isCount(replicas)) {
    say(`${deployment.id} publishes ${replicas} replicas`);
    return;
  }
  const { currentReplicas: current, readyReplicas } = deployment;
  if (target === null) {
    say(`${deployment.id} publishes ${replicas} replicas without a target`);
    return;
  }
  if (!steps || current === null) {
    if (replicas !== target) say(`${deployment.id} publishes ${replicas} replicas, it goes to its ${target} at once`);
    return;
  }
  // Where there is no room yet for what is not ready, fewer may be asked for than now and in the end.
  const lowest = Math.min(current, target, sharesRoom ? (readyReplicas ?? current) : current);
  if (!(replicas >= lowest && replicas <= Math.max(current, target))) {
    say(`${deployment.id} publishes ${replicas} replicas, not between the ${current} it has and its target ${target}`);
  }
}

function isCount(value: number): boolean {
  return Number.isInteger(value) && value >= 0;
}

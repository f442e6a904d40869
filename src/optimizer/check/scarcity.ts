import type { Plan, UnservedDemand, UnservedReason } from '../../core/plan.js';
import type { PlanningProblem, ProblemDeployment } from '../../core/planning-problem.js';
import { close, type Say } from './faults.js';
import { growth, type Ledger, type SharedLimit } from './ledger.js';
import type { ModelService } from './shares.js';

/**
 * Scarce demand goes to whom it should: nothing is left that would still fit, nothing is left of a model while a less
 * important one holds the room for it, every reason can be true, and the sums by priority are right.
 *
 * That no other plan serves more is proven by bounds and tested against other solvers; what is looked for here is a plan
 * that one glance would improve.
 */
export function checkScarcity(
  problem: PlanningProblem,
  {
    plan,
    ledger,
    services,
    unservedOf,
    say,
  }: {
    readonly plan: Plan;
    readonly ledger: Ledger;
    readonly services: readonly ModelService[];
    readonly unservedOf: (model: string) => readonly UnservedDemand[];
    readonly say: Say;
  },
): void {
  const isProportional = problem.options.routing === 'proportional';
  const scarce = services.filter(({ left }) => left.some(({ works }) => works.size > 0));
  if (scarce.length > 0) {
    const yielding = yieldingRoom(problem, ledger);
    for (const service of scarce) {
      checkNothingFits(service, { ledger, yielding, isProportional, say });
      checkReasons(service, { ledger, entries: unservedOf(service.model.name), say });
    }
  }
  checkStages(plan, services, say);
}

/**
 * Demand below this share of a model's is let pass: where one model's numbers span ten orders of magnitude and more, a plan
 * that leaves a hair too much is worth more than no plan.
 */
const negligible = 1e-3;

/** What would be free of each limit without the replicas above their floors of models that come after another one. */
type Yielding = {
  /** For demand of a priority: the models of lower priority to which nothing is promised. */
  readonly below: (priority: number) => ReadonlyMap<SharedLimit, number>;
  /** For demand that is promised (minServedShare): all models to which nothing is. */
  readonly all: ReadonlyMap<SharedLimit, number>;
};

function yieldingRoom(problem: PlanningProblem, ledger: Ledger): Yielding {
  const roomOf = (yields: (priority: number) => boolean): ReadonlyMap<SharedLimit, number> => {
    const room = new Map<SharedLimit, number>();
    for (const model of problem.models) {
      if (ledger.held.has(model.name) || model.minServedShare > 0 || !yields(model.priority)) continue;
      for (const deployment of model.deployments) {
        const floor = ledger.grantedFloors.get(deployment.id);
        if (floor === undefined) continue;
        const above = Math.max(0, (ledger.planned.get(deployment.id)?.targetReplicas ?? 0) - floor);
        for (const { limit, amount } of ledger.usesOf(deployment)) {
          room.set(limit, (room.get(limit) ?? 0) + above * amount);
        }
      }
    }
    return room;
  };
  const known = new Map<number, ReadonlyMap<SharedLimit, number>>();
  return {
    below: (priority) => {
      const room = known.get(priority) ?? roomOf((other) => other < priority);
      known.set(priority, room);
      return room;
    },
    all: roomOf(() => true),
  };
}

/**
 * Could a deployment grow, within its ceiling and the limits, and serve what is left? First as things are, then in place
 * of all replicas of less important models (or, for a model that lacks its minServedShare, of all models that were
 * promised nothing). Either would be a better plan, whatever it costs.
 */
function checkNothingFits(
  service: ModelService,
  {
    ledger,
    yielding,
    isProportional,
    say,
  }: {
    readonly ledger: Ledger;
    readonly yielding: Yielding;
    readonly isProportional: boolean;
    readonly say: Say;
  },
): void {
  const { model, demandRps, unservedRps } = service;
  const missing = unservedRps - (1 - model.minServedShare) * demandRps;
  const isShort = model.minServedShare > 0 && missing > negligible * demandRps;
  const freed = isShort ? yielding.all : yielding.below(model.priority);
  for (const deployment of model.deployments) {
    if (deployment.profile === null) continue;
    const ceiling = deployment.fixedReplicas ?? deployment.maxReplicas;
    const target = ledger.planned.get(deployment.id)?.targetReplicas ?? 0;
    const uses = ledger.usesOf(deployment);
    const more = Math.min(ceiling - target, growth(uses));
    const instead = Math.min(
      ceiling - target,
      growth(uses, (limit) => freed.get(limit) ?? 0),
    );
    if (!reportFit(deployment, target, more, '') && instead > more) {
      reportFit(deployment, target, instead, ' in place of demand that comes after it');
    }
  }

  /** @returns whether demand would fit that is left */
  function reportFit(deployment: ProblemDeployment, target: number, more: number, how: string): boolean {
    const room = deployment.targetUtilization * (target + more) - (service.load.get(deployment.id) ?? 0);
    const found = isProportional ? proportionalFit(service, deployment, room) : freeFit(service, deployment, room);
    if (found === null) return false;
    const { where, rps, takes } = found;
    const grown = more > 0 ? `grow by ${more} to serve` : 'serve';
    say(
      `${where} leaves ${rps} requests/s unserved, though ${deployment.id} could ${grown} ${takes}${how}`,
      model.name,
    );
    return true;
  }
}

type Fit = { readonly where: string; readonly rps: number; readonly takes: number };

function freeFit({ left, demandRps }: ModelService, { id }: ProblemDeployment, room: number): Fit | null {
  for (const { where, rps, works } of left) {
    const work = works.get(id);
    if (work === undefined) continue;
    const takes = room / work;
    if (rps > negligible * demandRps && takes > negligible * demandRps) return { where, rps, takes };
  }
  return null;
}

/** With the same shares for all buckets, room takes a part of all that can be served at once. */
function proportionalFit(
  { left, buckets, demandRps }: ModelService,
  { id }: ProblemDeployment,
  room: number,
): Fit | null {
  let work = 0;
  let rps = 0;
  for (const bucket of buckets) {
    if (bucket.works.size === 0) continue;
    work += bucket.rps * (bucket.works.get(id) ?? Number.POSITIVE_INFINITY);
    rps += bucket.rps;
  }
  const takes = (room / work) * rps;
  const first = left.find(({ works }) => works.has(id));
  if (first === undefined || !(takes > negligible * demandRps && first.rps > negligible * demandRps)) return null;
  return { where: first.where, rps: first.rps, takes };
}

/**
 * A reason is a limit whose removal would serve the demand. It can be one only where the limit does not hold all that the
 * model could ever use: as many replicas of each deployment as would serve all that it can serve, alone.
 */
function checkReasons(
  service: ModelService,
  { ledger, entries, say }: { readonly ledger: Ledger; readonly entries: readonly UnservedDemand[]; readonly say: Say },
): void {
  const possible = possibleReasons(service, ledger);
  for (const { inputTokens, outputTokens, rps, reason } of entries) {
    if (reason === 'slo' || possible.has(reason) || rps <= negligible * service.demandRps) continue;
    say(
      `bucket ${inputTokens}:${outputTokens} of model ${JSON.stringify(service.model.name)} leaves ${rps} requests/s unserved because of ${reason}, which leaves room for all of it`,
      service.model.name,
    );
  }
}

/** Amounts this close (relative) may be the same: a reason is ruled out only where there is no doubt. */
const doubt = 1e-6;

function possibleReasons({ model, buckets }: ModelService, ledger: Ledger): ReadonlySet<UnservedReason> {
  const possible = new Set<UnservedReason>();
  const wanted = new Map<SharedLimit, number>();
  const own = new Map<SharedLimit, number>();
  for (const deployment of model.deployments) {
    if (deployment.profile === null) continue;
    const work = buckets.reduce((sum, { rps, works }) => sum + rps * (works.get(deployment.id) ?? 0), 0);
    const useful = Math.ceil((work / deployment.targetUtilization) * (1 - doubt));
    if ((deployment.fixedReplicas ?? deployment.maxReplicas) < useful) possible.add('max_replicas');
    // A fixed number is a ceiling like any other: without it the limits may still be in the way.
    const most = Math.max(deployment.fixedReplicas ?? ledger.grantedFloors.get(deployment.id) ?? 0, useful);
    const target = ledger.planned.get(deployment.id)?.targetReplicas ?? 0;
    for (const { limit, amount } of ledger.usesOf(deployment)) {
      wanted.set(limit, (wanted.get(limit) ?? 0) + amount * most);
      own.set(limit, (own.get(limit) ?? 0) + amount * target);
    }
  }
  for (const [limit, amount] of wanted) {
    const room = limit.amount - (limit.used - own.get(limit)!);
    if (amount !== room && amount > room * (1 - doubt)) possible.add(limit.kind === 'pool' ? 'capacity' : limit.kind);
  }
  return possible;
}

/** The sums by priority: every priority with unserved demand, from the highest, with a bound that is one. */
function checkStages(plan: Plan, services: readonly ModelService[], say: Say): void {
  const statusOf = new Map(plan.models.map(({ name, status }) => [name, status]));
  const expected = [...new Set(services.filter(({ unservedRps }) => unservedRps > 0).map((it) => it.model.priority))];
  expected.sort((a, b) => b - a);
  const stated = plan.scarcity.map(({ priority }) => priority);
  if (stated.join(' ') !== expected.join(' ')) {
    say(`scarcity is stated for the priorities ${list(stated)}, demand is left unserved at ${list(expected)}`);
    return;
  }
  for (const { priority, unservedRps, penaltyUsdPerHour, boundUsdPerHour, proven } of plan.scarcity) {
    const models = services.filter(({ model }) => model.priority === priority);
    const left = models.reduce((sum, service) => sum + service.unservedRps, 0);
    if (!(Math.abs(unservedRps - left) <= 1e-8 * left)) {
      say(`priority ${priority} states ${unservedRps} unserved requests/s, its models leave ${left}`);
    }
    const penalty = models.reduce((sum, service) => sum + penaltyOf(service), 0);
    if (!close(penaltyUsdPerHour, penalty)) {
      say(`priority ${priority} states a penalty of ${penaltyUsdPerHour} USD/h, its unserved demand weighs ${penalty}`);
    }
    if (!(boundUsdPerHour >= 0 && boundUsdPerHour <= penalty * (1 + 1e-9) + 1e-9)) {
      say(`priority ${priority} has a bound of ${boundUsdPerHour} on a penalty of ${penalty}`);
    }
    // Unweighed demand is in no penalty: where some is, the least unserved demand need not have the least penalty.
    const isWeighed = models.every(({ model }) => model.unservedUsdPerRequest > 0);
    if (proven && isWeighed && !(boundUsdPerHour >= penalty * (1 - 1e-6) - 1e-6)) {
      say(`priority ${priority} is called proven with a bound of ${boundUsdPerHour} on a penalty of ${penalty}`);
    }
    const short = models.filter(({ unservedRps: rps }) => rps > 0);
    if (!proven && short.every(({ model }) => statusOf.get(model.name) === 'optimal')) {
      say(
        `priority ${priority} is not proven to leave the least unserved, yet all of its models that leave some are called optimal`,
        ...short.map(({ model }) => model.name),
      );
    }
  }
}

/** Unserved demand at the price of its model [USD/hour]. */
export function penaltyOf({ model, unservedRps }: ModelService): number {
  return 3600 * model.unservedUsdPerRequest * unservedRps;
}

function list(priorities: readonly number[]): string {
  return priorities.length === 0 ? '(none)' : priorities.join(', ');
}

import type { ProblemModel } from '../core/planning-problem.js';
import { anyOneAfterTheOther, refill, servedOneAfterTheOther } from './in-turn.js';
import { type ExtraRow, type JointRun, type Objective, solveObjective } from './joint.js';
import type { Configuration, JointMember } from './joint-member.js';

/**
 * The order of objectives where models share limits: first the part of each model's demand that must be served, then
 * unserved demand priority by priority, from the highest, then money. What an objective has reached is a limit on those
 * that follow.
 */

/** Weight of a request that is not served, among models of one priority. */
export function unservedWeights(models: readonly ProblemModel[]): (model: ProblemModel) => number {
  const largest = models.reduce((most, model) => Math.max(most, model.unservedUsdPerRequest), 0);
  if (largest === 0) return () => 1;
  // A price of nothing still is a request that waits for an answer.
  return ({ unservedUsdPerRequest }) => (unservedUsdPerRequest > 0 ? unservedUsdPerRequest : 1e-6 * largest) / largest;
}

/** How well one priority is served. */
type PriorityOutcome = {
  readonly priority: number;
  /** Part of what is at stake (weight × requests/s) that stays unserved, and the least that it is proven to be. */
  readonly value: number;
  readonly bound: number;
  readonly proven: boolean;
};

export type JointOutcome = {
  /** Configuration of each member. */
  readonly chosen: readonly Configuration[];
  readonly usdPerHour: number;
  readonly boundUsdPerHour: number;
  /** Is it proven that no plan serves more, as far as it may (required parts, then priorities)? */
  readonly unservedProven: boolean;
  readonly priorities: readonly PriorityOutcome[];
};

/** Plans for money whose unused rest is given out again, at most. */
const mostRefills = 2;
/** Part of a member's demand by which searches may fill replicas beyond the brim, with room for sums. */
const overfill = 2e-9;

/** What was reached, up to the rounding of sums: not a speck of it is given up, and no equal is shut out. */
function roomFor(reached: number): number {
  return reached * (1 + 1e-11) + 1e-12;
}

/**
 * Plans members jointly, in the order of objectives.
 *
 * @returns null where no plan was found within the limits of the run
 */
export function solveInOrder(
  members: readonly JointMember[],
  limits: Float64Array,
  run: JointRun,
): JointOutcome | null {
  const firstPrices = limitPrices(members, limits.length);
  const served = solveObjective(members, limits, {
    objective: moneyObjective(members, [], firstPrices),
    rows: [],
    incumbent: asItRuns(members, limits),
    run,
  });
  const allServed = served.chosen ?? servedOneAfterTheOther(members, limits, run);
  if (allServed !== null) {
    const usdPerHour = allServed.reduce((sum, configuration) => sum + configuration.usdPerHour, 0);
    return {
      chosen: allServed,
      usdPerHour,
      boundUsdPerHour: Math.min(served.bound, usdPerHour),
      unservedProven: members.every(({ stage }) => stage.leastUnservedProven),
      priorities: [],
    };
  }
  // Not all can be served as well as alone: which demand stays unserved is decided before money.
  for (const member of members) member.letAnyStay();
  let incumbent = anyOneAfterTheOther(members, limits, run);
  const rows: (ExtraRow & { readonly prices: RowPrices })[] = [];
  const priorities: PriorityOutcome[] = [];
  let unservedProven = true;
  const objectives = unservedObjectives(members);
  for (const objective of objectives) {
    const answer = solveObjective(members, limits, {
      objective: unservedObjective(objective, members, rows, limits),
      rows,
      incumbent,
      run,
    });
    if (answer.chosen === null) return null;
    incumbent = answer.chosen;
    const proven = answer.value - answer.bound <= objective.rounding;
    unservedProven &&= proven;
    rows.push({
      limit: roomFor(answer.value),
      amountOf: objective.amountOf,
      mostUnserved: objective.mostUnserved,
      prices: objective.prices,
    });
    if (objective.priority !== null) {
      priorities.push({ priority: objective.priority, value: answer.value, bound: answer.bound, proven });
    }
  }
  let bound = 0;
  for (let round = 0; ; round++) {
    const objective = moneyObjective(members, rows, firstPrices);
    const money = solveObjective(members, limits, { objective, rows, incumbent, run });
    if (money.chosen === null) return null;
    // More served costs no less: the bound at what was reached before holds.
    bound = Math.max(bound, money.bound);
    incumbent = unservedProven ? money.chosen : refill(members, limits, { chosen: money.chosen, run });
    const isFull = incumbent.every((configuration, m) => configuration === money.chosen![m]);
    if (isFull) break;
    objectives.forEach(({ amountOf }, k) => {
      const reached = incumbent.reduce((sum, configuration, m) => sum + amountOf(m, configuration), 0);
      // Higher priorities may have taken from this one: with less to serve, the money could be less too.
      if (reached > rows[k]!.limit) bound = 0;
      rows[k] = { ...rows[k]!, limit: roomFor(reached) };
    });
    if (round === mostRefills) break;
  }
  const usdPerHour = incumbent.reduce((sum, configuration) => sum + configuration.usdPerHour, 0);
  return {
    chosen: incumbent,
    usdPerHour,
    boundUsdPerHour: Math.min(bound, usdPerHour),
    unservedProven,
    priorities: priorities.map((outcome) => {
      const k = objectives.findIndex(({ priority }) => priority === outcome.priority);
      const value = incumbent.reduce((sum, configuration, m) => sum + objectives[k]!.amountOf(m, configuration), 0);
      return outcome.proven ? outcome : { ...outcome, value, bound: Math.min(outcome.bound, value) };
    }),
  };
}

/** What runs now, where that is a plan: it fits, and serves all that can be served. Plans of equal cost leave it be. */
function asItRuns(members: readonly JointMember[], limits: Float64Array): readonly Configuration[] | null {
  if (!members.every((member) => member.servesAsItRuns())) return null;
  const chosen = members.map((member) => member.know(member.current!));
  const used = limits.map((_, r) => chosen.reduce((sum, { use }) => sum + use[r]!, 0));
  return used.every((amount, r) => amount <= limits[r]!) ? chosen : null;
}

/** What a price on a row means to a member: per request/s unserved within what may be left, and beyond it. */
type RowPrices = (m: number, price: number) => { readonly unserved: number; readonly required: number };

type UnservedObjective = {
  /** null = the parts that must be served. */
  readonly priority: number | null;
  readonly amountOf: (m: number, configuration: Configuration) => number;
  readonly mostUnserved: ExtraRow['mostUnserved'];
  readonly prices: RowPrices;
  readonly isActive: (m: number) => boolean;
  /** The least that the members could have alone. */
  readonly least: number;
  /** Values and bounds nearer to each other than this are the same: searches fill replicas to their tolerance. */
  readonly rounding: number;
};

/** Amounts are parts of the demand that is at stake, so that they are of ordinary size for any rates. */
function unservedObjectives(members: readonly JointMember[]): readonly UnservedObjective[] {
  const models = members.map(({ stage }) => stage.formulation.model);
  const objectives: UnservedObjective[] = [];
  const requires = (m: number): boolean => members[m]!.requires;
  if (members.some((_, m) => requires(m))) {
    const plain = unservedWeights(models.filter((_, m) => requires(m)));
    const atStake = sum(members, (member, m) =>
      requires(m) ? plain(models[m]!) * (member.totalRps - member.allowedRps) : 0,
    );
    const weight = (model: ProblemModel): number => plain(model) / atStake;
    const short = (m: number, unservedRps: number): number =>
      requires(m) ? weight(models[m]!) * Math.max(0, unservedRps - members[m]!.allowedRps) : 0;
    objectives.push({
      priority: null,
      amountOf: (m, { unservedRps }) => short(m, unservedRps),
      mostUnserved: (m, amount) =>
        requires(m) ? members[m]!.allowedRps + amount / weight(models[m]!) : Number.POSITIVE_INFINITY,
      prices: (m, price) => ({ unserved: 0, required: requires(m) ? price * weight(models[m]!) : 0 }),
      isActive: requires,
      least: sum(members, (member, m) => short(m, member.program.unservedLimit)),
      rounding: overfill * sum(members, (member, m) => (requires(m) ? weight(models[m]!) * member.totalRps : 0)),
    });
  }
  const priorities = [...new Set(models.map(({ priority }) => priority))].sort((a, b) => b - a);
  for (const priority of priorities) {
    const plain = unservedWeights(models.filter((model) => model.priority === priority));
    const atStake = sum(members, (member, m) =>
      models[m]!.priority === priority ? plain(models[m]!) * member.totalRps : 0,
    );
    if (atStake === 0) continue;
    const of = (m: number): number => (models[m]!.priority === priority ? plain(models[m]!) / atStake : 0);
    objectives.push({
      priority,
      amountOf: (m, { unservedRps }) => of(m) * unservedRps,
      mostUnserved: (m, amount) => (of(m) > 0 ? amount / of(m) : Number.POSITIVE_INFINITY),
      prices: (m, price) => ({ unserved: price * of(m), required: 0 }),
      isActive: (m) => models[m]!.priority >= priority || requires(m),
      least: sum(members, (member, m) => of(m) * member.program.unservedLimit),
      rounding: overfill * sum(members, (member, m) => of(m) * member.totalRps),
    });
  }
  return objectives;
}

function unservedObjective(
  objective: UnservedObjective,
  members: readonly JointMember[],
  rows: readonly { readonly prices: RowPrices }[],
  limits: Float64Array,
): Objective {
  // No unit of a limit is worth more than all demand at stake.
  const perUnit = Float64Array.from(limits, (_, r) => 1 / leastUse(members, r));
  return {
    valueOf: (_, m, configuration) => objective.amountOf(m, configuration),
    pricesFor: (m, limitPricesOf, rowPrices) => ({
      withMoney: false,
      limits: limitPricesOf,
      ...added(m, [{ prices: objective.prices }, ...rows], [1, ...Array.from(rowPrices)]),
    }),
    withMoney: false,
    least: objective.least,
    isActive: objective.isActive,
    firstPrices: (r) => Math.max(1e-9, r < limits.length ? perUnit[r]! : partsOfLower),
  };
}

/** What all demand of one priority is at first taken to be worth, in parts of what a lower one has at stake. */
const partsOfLower = 100;

function moneyObjective(
  members: readonly JointMember[],
  rows: readonly (ExtraRow & { readonly prices: RowPrices })[],
  firstPrices: Float64Array,
): Objective {
  const dearest = firstPrices.reduce((most, price) => Math.max(most, price), 1) * members.length;
  return {
    valueOf: (_, __, configuration) => configuration.usdPerHour,
    pricesFor: (m, limits, rowPrices) => ({ withMoney: true, limits, ...added(m, rows, Array.from(rowPrices)) }),
    withMoney: true,
    least: 0,
    isActive: () => true,
    firstPrices: (r) => (r < firstPrices.length ? firstPrices[r]! : 100 * dearest),
  };
}

function added(
  m: number,
  rows: readonly { readonly prices: RowPrices }[],
  prices: readonly number[],
): { unserved: number; required: number } {
  let unserved = 0;
  let required = 0;
  rows.forEach((row, r) => {
    const of = row.prices(m, Math.max(0, prices[r]!));
    unserved += of.unserved;
    required += of.required;
  });
  return { unserved, required };
}

/** Three times the dearest price of a unit of each limit: more than it is worth to most. */
function limitPrices(members: readonly JointMember[], count: number): Float64Array {
  return Float64Array.from({ length: count }, (_, r) => {
    let dearest = 0;
    for (const { program } of members) {
      const { use } = program.sharedLimits![r]!;
      for (let d = 0; d < use.length; d++) if (use[d]! > 0) dearest = Math.max(dearest, program.cost[d]! / use[d]!);
    }
    return 3 * Math.max(dearest, 1e-3);
  });
}

function leastUse(members: readonly JointMember[], r: number): number {
  let least = Number.POSITIVE_INFINITY;
  for (const { program } of members) {
    for (const amount of program.sharedLimits![r]!.use) if (amount > 0) least = Math.min(least, amount);
  }
  return least === Number.POSITIVE_INFINITY ? 1 : least;
}

function sum(members: readonly JointMember[], amountOf: (member: JointMember, m: number) => number): number {
  return members.reduce((total, member, m) => total + amountOf(member, m), 0);
}

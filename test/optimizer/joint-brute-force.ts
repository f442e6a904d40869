import type { PlanningProblem } from '../../src/core/planning-problem.js';
import { costAt, type JointFacts, type JointOptimum, jointFacts, type ModelFacts, stagesOf } from './joint-facts.js';

/**
 * The optimum of a tiny joint problem by looking at every vector of whole replicas.
 *
 * At given replicas the models have nothing in common any more, and every stage of the program wants the unserved demand
 * of each model as low as it goes. So one small linear program per model and its own replicas (its least unserved demand) is all
 * that is solved; the limits and the order of the stages are settled by comparing all combinations.
 */

/** Most combinations that are looked at; more is a mistake of the test. */
const largestEnumeration = 2_000_000;

/** Numbers this close (relative to the demand or to the money at stake) are equal. */
const equal = 1e-13;

type Choice = {
  readonly replicas: readonly number[];
  readonly uses: readonly number[];
  readonly unservedRps: number;
  readonly usdPerHour: number;
};

/** All combinations of whole replicas within the limits. */
type Enumeration = {
  readonly facts: JointFacts;
  readonly choices: readonly (readonly Choice[])[];
  /** Each combination: its stages, then its money; and which choice of each model it is. */
  readonly found: readonly { readonly stages: readonly number[]; readonly picked: readonly number[] }[];
};

function enumerated(problem: PlanningProblem): Enumeration {
  const facts = jointFacts(problem);
  const choices = facts.models.map((model) => choicesOf(facts, model));
  const size = choices.reduce((product, { length }) => product * length, 1);
  if (size > largestEnumeration) throw new Error(`${size} combinations are too many to look at each`);

  const found: { readonly stages: readonly number[]; readonly picked: readonly number[] }[] = [];
  const picked = facts.models.map(() => 0);
  const visit = (m: number, left: readonly number[]): void => {
    if (m === facts.models.length) {
      const chosen = choices.map((ofModel, at) => ofModel[picked[at]!]!);
      const stages = stagesOf(
        facts,
        chosen.map(({ unservedRps }) => unservedRps),
      );
      const money = chosen.reduce((sum, { usdPerHour }) => sum + usdPerHour, facts.standingUsdPerHour);
      found.push({
        stages: [stages.servedShareShort, ...stages.unserved.map(({ weightedRps }) => weightedRps), money],
        picked: [...picked],
      });
      return;
    }
    choices[m]!.forEach((choice, at) => {
      const next = left.map((amount, l) => amount - choice.uses[l]!);
      if (next.some((amount, l) => amount < -1e-9 * facts.limits[l]!.left)) return;
      picked[m] = at;
      visit(m + 1, next);
    });
  };
  visit(
    0,
    facts.limits.map(({ left }) => left),
  );
  return { facts, choices, found };
}

/**
 * The least USD/hour (switching included) of all that leave no more unserved than a plan does, in any stage: what the bound of
 * that plan must not exceed.
 */
export function leastMoneyServing(
  problem: PlanningProblem,
  { servedShareShort, unserved }: Pick<JointOptimum, 'servedShareShort' | 'unserved'>,
): number {
  const { facts, found } = enumerated(problem);
  const most = [servedShareShort, ...unserved.map(({ weightedRps }) => weightedRps)];
  return found
    .filter(({ stages }) =>
      most.every((value, stage) => stages[stage]! <= value + 1e-9 * scaleOf(facts, stage, stages.length)),
    )
    .reduce((least, { stages }) => Math.min(least, stages.at(-1)!), Infinity);
}

export function jointOptimumByEnumeration(problem: PlanningProblem): JointOptimum {
  const { facts, choices, found } = enumerated(problem);
  let best = found;
  const stageCount = best[0]!.stages.length;
  for (let stage = 0; stage < stageCount; stage++) {
    const least = best.reduce((lowest, { stages }) => Math.min(lowest, stages[stage]!), Infinity);
    const scale = scaleOf(facts, stage, stageCount);
    best = best.filter(({ stages }) => stages[stage]! <= least + equal * scale);
  }
  const [first] = best;
  const { stages, picked: chosen } = first!;
  return {
    servedShareShort: stages[0]!,
    unserved: facts.priorities.map((priority, k) => ({ priority, weightedRps: stages[k + 1]! })),
    objectiveUsdPerHour: stages[stageCount - 1]!,
    replicas: new Map(
      facts.models.flatMap(({ deployments }, m) =>
        deployments.map(({ deployment }, d) => [deployment.id, choices[m]![chosen[m]!]!.replicas[d]!] as const),
      ),
    ),
  };
}

/** What is at stake in a stage: the weighted demand that it is about. Money is compared in cents of cents. */
function scaleOf(facts: JointFacts, stage: number, stageCount: number): number {
  if (stage === stageCount - 1) return 1;
  const models = facts.models.filter(({ priority }) => stage === 0 || priority === facts.priorities[stage - 1]);
  return models.reduce((sum, { weight, rate }) => sum + weight * rate, 0);
}

function choicesOf(facts: JointFacts, model: ModelFacts): readonly Choice[] {
  let vectors: number[][] = [[]];
  for (const { lower, upper } of model.deployments) {
    vectors = vectors.flatMap((vector) =>
      Array.from({ length: upper - lower + 1 }, (_, above) => [...vector, lower + above]),
    );
    if (vectors.length > largestEnumeration) throw new Error('the model is too large to be enumerated');
  }
  return vectors.map((replicas) => ({
    replicas,
    uses: facts.limits.map((_, l) => model.deployments.reduce((sum, { uses }, d) => sum + uses[l]! * replicas[d]!, 0)),
    unservedRps: model.lostRate + leastUnserved(model, replicas, facts.proportional),
    usdPerHour: model.deployments.reduce((sum, it, d) => sum + (it.isFixed ? 0 : costAt(it, replicas[d]!)), 0),
  }));
}

/** The least demand that a model must leave at some replicas [requests/s], of what it can serve at all. */
export function leastUnserved(model: ModelFacts, replicas: readonly number[], proportional: boolean): number {
  const { buckets, deployments } = model;
  const rooms = deployments.map(({ deployment }, d) => deployment.targetUtilization * replicas[d]!);
  const total = buckets.reduce((sum, { rps }) => sum + rps, 0);
  if (buckets.length === 0) return 0;
  if (!proportional) {
    return Math.max(
      0,
      total -
        mostServed(
          buckets.map(({ rps }) => rps),
          buckets.map(({ works }) => works),
          rooms,
        ),
    );
  }
  // One share per deployment for all buckets: each takes what its room allows of the whole demand.
  let served = 0;
  rooms.forEach((room, d) => {
    const work = buckets.reduce((sum, { works }) => sum + works[d]!, 0);
    if (work < Infinity) served += room / work;
  });
  return total * Math.max(0, 1 - served);
}

/**
 * max Σ rate_b x_bd subject to Σ_d x_bd ≤ 1, Σ_b works_bd x_bd ≤ rooms_d, x ≥ 0: the primal simplex method from x = 0, with
 * the smallest index in and the smallest index out (Bland), so that it ends.
 */
export function mostServed(
  rates: readonly number[],
  works: readonly (readonly number[])[],
  rooms: readonly number[],
): number {
  const rowCount = rates.length + rooms.length;
  const columns: { readonly b: number; readonly d: number }[] = [];
  rates.forEach((_, b) => {
    rooms.forEach((_room, d) => {
      if (works[b]![d]! < Infinity) columns.push({ b, d });
    });
  });
  const width = columns.length + rowCount + 1;
  const last = width - 1;
  const rows = Array.from({ length: rowCount }, (_, row) => {
    const values = new Float64Array(width);
    columns.forEach(({ b, d }, j) => {
      if (row === b) values[j] = 1;
      // A row of the rooms is divided by its largest work, so that all pivots are of one size.
      else if (row === rates.length + d) values[j] = works[b]![d]! / largestWork(works, d);
    });
    values[columns.length + row] = 1;
    const d = row - rates.length;
    values[last] = d < 0 ? 1 : rooms[d]! / Math.max(largestWork(works, d), Number.MIN_VALUE);
    return values;
  });
  const largestRate = Math.max(...rates);
  const gains = new Float64Array(width);
  columns.forEach(({ b }, j) => {
    gains[j] = -rates[b]! / largestRate;
  });
  const basis = rows.map((_, row) => columns.length + row);
  for (;;) {
    let entering = -1;
    for (let j = 0; j < last && entering < 0; j++) if (gains[j]! < -1e-12) entering = j;
    if (entering < 0) return gains[last]! * largestRate;
    let leaving = -1;
    let least = Infinity;
    for (let row = 0; row < rowCount; row++) {
      const pivot = rows[row]![entering]!;
      if (pivot <= 1e-11) continue;
      const ratio = rows[row]![last]! / pivot;
      if (ratio < least || (ratio === least && basis[row]! < basis[leaving]!)) {
        least = ratio;
        leaving = row;
      }
    }
    if (leaving < 0) throw new Error('every share is at most 1, yet the linear program has no end');
    const pivotRow = rows[leaving]!;
    const scale = pivotRow[entering]!;
    for (let j = 0; j < width; j++) pivotRow[j] = pivotRow[j]! / scale;
    for (const row of [...rows, gains]) {
      if (row === pivotRow) continue;
      const factor = row[entering]!;
      if (factor === 0) continue;
      for (let j = 0; j < width; j++) row[j] = row[j]! - factor * pivotRow[j]!;
      row[entering] = 0;
    }
    basis[leaving] = entering;
  }
}

function largestWork(works: readonly (readonly number[])[], d: number): number {
  let largest = 0;
  for (const row of works) if (row[d]! < Infinity) largest = Math.max(largest, row[d]!);
  return largest;
}

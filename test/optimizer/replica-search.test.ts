import { describe, expect, it } from 'vitest';
import { branchAndBound, ReplicaSearch } from '../../src/optimizer/branch-and-bound.js';
import type { Program, SolveLimits } from '../../src/optimizer/program.js';
import { type Costs, costsOf } from '../../src/optimizer/program-lp.js';
import { type SeededRandom, seededRandom } from '../support/seeded-random.js';
import { leastValue, limitedProgram, type ReplicaTable, replicaTable, valueIn } from './replica-table.js';

/** What a search does beyond single models: limits that replicas share, switching, priced demand, other costs, lists. */

const unlimited: SolveLimits = { shouldStop: () => false, timeLimitMs: 0, nodeLimit: null, relativeGap: 0 };

function near(value: number, expected: number): boolean {
  return Math.abs(value - expected) <= 1e-7 * Math.max(1, Math.abs(expected));
}

function entryOf(table: ReplicaTable, replicas: Float64Array): ReplicaTable[number] {
  return table.find((entry) => entry.replicas.every((count, d) => count === replicas[d]))!;
}

/** Is a solution what the table says? Names what is wrong. */
function judge(
  found: ReturnType<ReplicaSearch['minimise']>,
  { program, costs, table }: { program: Program; costs: Costs; table: ReplicaTable },
): string[] {
  const least = leastValue(program, costs, table);
  if (least === Number.POSITIVE_INFINITY) {
    return found.replicas === null ? [] : [`found ${found.replicas} where there is nothing`];
  }
  if (found.replicas === null) return [`${found.status}: found nothing, ${least} is possible`];
  const own = valueIn(program, costs, entryOf(table, found.replicas));
  const wrong: string[] = [];
  if (!near(own, least)) wrong.push(`${own} at ${found.replicas}, ${least} is possible`);
  if (found.bound > least + 1e-7 * Math.max(1, least)) wrong.push(`a bound of ${found.bound} above ${least}`);
  if (found.status !== 'optimal') wrong.push(`${found.status} with a bound of ${found.bound}, cost ${own}`);
  return wrong;
}

/** Costs as a search among several models sees them: its own, and what its replicas take at prices of the limits. */
function pricedCosts(random: SeededRandom, program: Program, pieces: 0 | 1 | 2): Costs {
  const own = costsOf(program);
  const added = Float64Array.from(program.cost, () => (random.chance(0.4) ? 0 : random.between(0, 3)));
  const withMoney = random.chance(0.8);
  const raised = (costs: Float64Array) => costs.map((usd, d) => (withMoney ? usd : 0) + added[d]!);
  const total = program.rate.reduce((sum, rate) => sum + rate, 0);
  const first = total * random.pick([0, 0.2, 1, random.next()]);
  const price = random.pick([0, 0.5, random.between(0, 8)]);
  const unserved = [
    { room: first, price },
    { room: total - first, price: price + random.pick([0, 1, 100]) },
  ];
  return {
    below: raised(own.below),
    above: raised(own.above),
    offset: withMoney ? own.offset : 0,
    unserved: pieces === 0 ? null : pieces === 1 ? [{ room: total, price }] : unserved,
  };
}

describe('a search among replicas', () => {
  it('keeps limits that replicas share and counts what starting and stopping costs', () => {
    const random = seededRandom(11);
    const wrong: string[] = [];
    const seen = { nothing: 0, moved: 0, bound: 0 };
    for (let i = 0; i < 250; i++) {
      const program = limitedProgram(random, { switching: random.chance(0.7), limits: random.whole(0, 3) });
      const table = replicaTable(program);
      const costs = costsOf(program);
      const found = branchAndBound(program, unlimited);
      wrong.push(...judge(found, { program, costs, table }).map((what) => `case ${i}: ${what}`));
      if (found.replicas === null) seen.nothing++;
      else if (found.replicas.some((y, d) => y > (program.switching?.current[d] ?? y))) seen.moved++;
      const { sharedLimits: _, ...free } = program;
      if (leastValue(program, costs, table) > leastValue(free, costs, replicaTable(free)) + 1e-9) seen.bound++;
    }
    expect(wrong).toEqual([]);
    expect(seen.nothing).toBeGreaterThan(20);
    expect(seen.moved).toBeGreaterThan(20);
    expect(seen.bound).toBeGreaterThan(20);
  });

  it('weighs demand that stays unserved against replicas, in parts of rising price', () => {
    const random = seededRandom(12);
    const wrong: string[] = [];
    let between = 0;
    for (let i = 0; i < 150; i++) {
      const program = limitedProgram(random, { switching: random.chance(0.4), limits: random.whole(0, 2) });
      const table = replicaTable(program);
      const costs = pricedCosts(random, program, random.chance(0.3) ? 1 : 2);
      const found = new ReplicaSearch(program, { costs }).minimise(unlimited);
      wrong.push(...judge(found, { program, costs, table }).map((what) => `case ${i}: ${what}`));
      const left = found.replicas === null ? 0 : entryOf(table, found.replicas).unservedRps;
      if (left > 0 && left < program.rate.reduce((sum, rate) => sum + rate, 0) - 1e-9) between++;
    }
    expect(wrong).toEqual([]);
    expect(between).toBeGreaterThan(15);
  });

  it('asked again at other costs, answers like one that is asked for the first time', () => {
    const random = seededRandom(13);
    const wrong: string[] = [];
    let asked = 0;
    for (let i = 0; i < 60; i++) {
      const program = limitedProgram(random, { switching: random.chance(0.5), limits: random.whole(0, 1) });
      const table = replicaTable(program);
      const pieces = random.pick([0, 0, 2] as const);
      const search = new ReplicaSearch(program, { costs: pricedCosts(random, program, pieces) });
      for (let turn = 0; turn < 6; turn++) {
        const costs = pricedCosts(random, program, pieces);
        search.setCosts(costs);
        const incumbents = table.filter(() => random.chance(0.02)).map(({ replicas }) => Float64Array.from(replicas));
        const found = search.minimise(unlimited, incumbents);
        const fresh = new ReplicaSearch(program, { costs }).minimise(unlimited);
        wrong.push(...judge(found, { program, costs, table }).map((what) => `case ${i}, turn ${turn}: ${what}`));
        if (found.status !== fresh.status || !near(found.bound, fresh.bound)) {
          wrong.push(`case ${i}, turn ${turn}: ${found.status} ${found.bound}, fresh ${fresh.status} ${fresh.bound}`);
        }
        asked++;
      }
    }
    expect(wrong).toEqual([]);
    expect(asked).toBe(360);
  });

  it('states a bound below the optimum and keeps every limit wherever it is cut short', () => {
    const random = seededRandom(14);
    const wrong: string[] = [];
    let open = 0;
    for (let i = 0; i < 120; i++) {
      const program = limitedProgram(random, { switching: random.chance(0.5), limits: random.whole(1, 2) });
      const table = replicaTable(program);
      const costs = pricedCosts(random, program, random.pick([0, 2] as const));
      const least = leastValue(program, costs, table);
      for (const nodeLimit of [1, 2, 5]) {
        const limits = { ...unlimited, nodeLimit, relativeGap: random.pick([0, 0.05]) };
        const found = new ReplicaSearch(program, { costs }).minimise(limits);
        if (found.nodes > nodeLimit) wrong.push(`case ${i}: ${found.nodes} nodes of ${nodeLimit}`);
        if (found.bound > least + 1e-7 * Math.max(1, least)) wrong.push(`case ${i}: bound ${found.bound} > ${least}`);
        if (found.status === 'infeasible' && least < Number.POSITIVE_INFINITY) wrong.push(`case ${i}: ${least}`);
        if (found.replicas === null) continue;
        const own = valueIn(program, costs, entryOf(table, found.replicas));
        if (own === Number.POSITIVE_INFINITY) wrong.push(`case ${i}: ${found.replicas} is no answer`);
        if (found.status === 'optimal' && !near(own, least)) wrong.push(`case ${i}: ${own} called optimal`);
        if (found.status !== 'optimal') open++;
      }
    }
    expect(wrong).toEqual([]);
    expect(open).toBeGreaterThan(30);
  });

  it('never takes an arc that does not exist, though a price be negative by rounding', () => {
    // With the limits as rows the first prices come out as -2e-16: times a work of Infinity that was the cheapest arc.
    const program: Program = {
      bucketCount: 4,
      deploymentCount: 3,
      work: Float64Array.from(
        [
          [1.207861760861031, 0.6756780516167974, Number.POSITIVE_INFINITY],
          [0.5, 0.5, 0.25745444186534394],
          [0.5, 1.7447853177123194, 0.6590975880823735],
          [0.15131880869390896, 1, 1],
        ].flat(),
      ),
      rate: new Float64Array(4).fill(1),
      cost: Float64Array.of(1.92, 0.57, 1),
      capacity: Float64Array.of(1, 0.8, 0.8).map((most) => most * (1 + 5e-10)),
      lower: Float64Array.of(0, 0, 1),
      upper: Float64Array.of(4, 4, 2),
      unservedLimit: 0,
      sharedLimits: [
        { use: Float64Array.of(2, 0.7, 0.1), limit: 6.922979558049701 },
        { use: Float64Array.of(2, 1, 2), limit: 14.836468318477273 },
        { use: Float64Array.of(1, 0, 1), limit: 4.092965432442725 },
      ],
    };
    const found = branchAndBound(program, unlimited);
    expect(found).toMatchObject({ status: 'optimal', replicas: Float64Array.of(0, 3, 1) });
    expect(found.bound).toBeCloseTo(2.71, 9);
  });

  it('with a gap allowed, does not call optimal what the gap alone allowed it to keep', () => {
    const program: Program = {
      bucketCount: 4,
      deploymentCount: 2,
      work: Float64Array.from(
        [
          [1, 1.3446765993793726],
          [1.8133081269465927, 1.246099604596212],
          [0.30264345225209077, 0.576619845789161],
          [0.6527918350464986, 0.5746435022214413],
        ].flat(),
      ),
      rate: new Float64Array(4).fill(1),
      cost: Float64Array.of(4.539085821453481, 4.590331693794578),
      capacity: Float64Array.of(0.8, 1).map((most) => most * (1 + 5e-10)),
      lower: Float64Array.of(1, 1),
      upper: Float64Array.of(5, 2),
      unservedLimit: 0,
      sharedLimits: [{ use: Float64Array.of(2, 0.1), limit: 7.875683786300943 }],
    };
    const whole = branchAndBound(program, unlimited);
    expect(whole).toMatchObject({ status: 'optimal', replicas: Float64Array.of(3, 1) });
    const near = branchAndBound(program, { ...unlimited, relativeGap: 0.05 });
    expect(near.bound).toBeLessThanOrEqual(whole.bound + 1e-9);
    expect(near.status).toBe(
      near.replicas!.join() === '3,1' && near.bound > whole.bound - 1e-9 ? 'optimal' : 'feasible',
    );
  });
});

describe('the list of all answers up to a value', () => {
  /** Random values to list up to: just at one of the table's, and between two. */
  function ceilings(random: SeededRandom, values: readonly number[]): number[] {
    const finite = values.filter((value) => value < Number.POSITIVE_INFINITY).sort((x, y) => x - y);
    if (finite.length === 0) return [10];
    const at = random.whole(0, Math.min(finite.length - 1, 40));
    const next = finite.find((value) => value > finite[at]! + 1e-3) ?? finite[at]! + 1;
    return [finite[at]!, (finite[at]! + next) / 2];
  }

  it('is complete but for those that fewer replicas beat', () => {
    const random = seededRandom(15);
    const wrong: string[] = [];
    const seen = { listed: 0, beaten: 0, all: 0 };
    for (let i = 0; i < 250; i++) {
      const program = limitedProgram(random, { switching: random.chance(0.6), limits: random.whole(0, 1) });
      const table = replicaTable(program);
      const pieces = random.pick([0, 0, 2] as const);
      const costs = pricedCosts(random, program, pieces);
      const search = new ReplicaSearch(program, { costs });
      const values = table.map((entry) => valueIn(program, costs, entry));
      const moreMaySave = random.chance(0.3);
      const saves = moreMaySave || pieces > 0 || [...costs.below, ...costs.above].some((cost) => cost < 0);
      for (const ceiling of ceilings(random, values)) {
        const found = search.enumerate({ ceiling, most: 20_000, nodeLimit: 50_000, moreMaySave });
        if (found === null) {
          wrong.push(`case ${i}: too many`);
          continue;
        }
        const keys = new Set(found.map((replicas) => replicas.join()));
        if (keys.size !== found.length) wrong.push(`case ${i}: some are listed twice`);
        const wanted = table.filter((_, at) => values[at]! <= ceiling + 1e-9 * Math.max(1, ceiling));
        const wantedKeys = new Set(wanted.map(({ replicas }) => replicas.join()));
        for (const key of keys) if (!wantedKeys.has(key)) wrong.push(`case ${i}: ${key} does not belong there`);
        for (const { replicas } of wanted) {
          if (keys.has(replicas.join())) continue;
          const isBeaten = found.some((fewer) => fewer.every((count, d) => count <= replicas[d]!));
          if (saves || !isBeaten) wrong.push(`case ${i}: ${replicas} is missing`);
          seen.beaten++;
        }
        seen.listed += found.length;
        if (saves) seen.all++;
      }
    }
    expect(wrong).toEqual([]);
    expect(seen.listed).toBeGreaterThan(1000);
    expect(seen.beaten).toBeGreaterThan(300);
    expect(seen.all).toBeGreaterThan(50);
  });

  it('is none where they are too many, or take too many nodes', () => {
    const program: Program = {
      bucketCount: 1,
      deploymentCount: 2,
      work: Float64Array.of(3, 3),
      rate: Float64Array.of(1),
      cost: Float64Array.of(1, 1),
      capacity: Float64Array.of(1, 1),
      lower: new Float64Array(2),
      upper: new Float64Array(2).fill(5),
      unservedLimit: 0,
    };
    const search = new ReplicaSearch(program);
    const list = (most: number, nodeLimit = 1000) =>
      search.enumerate({ ceiling: 3, most, nodeLimit, moreMaySave: false });
    expect(
      list(4)!
        .map((replicas) => replicas.join())
        .sort(),
    ).toEqual(['0,3', '1,2', '2,1', '3,0']);
    expect(list(3)).toBeNull();
    expect(list(4, 1)).toBeNull();
    // And the search is none the worse for it.
    expect(search.minimise(unlimited)).toMatchObject({ status: 'optimal', bound: 3 });
  });

  it('keeps what saves money only by not being stopped', () => {
    // At a price of 2 a replica the first costs 1 - 2.5 + 2; by itself it saves 1.5 that runs and need not be stopped.
    const program: Program = {
      bucketCount: 1,
      deploymentCount: 1,
      work: Float64Array.of(0.5),
      rate: Float64Array.of(1),
      cost: Float64Array.of(1),
      capacity: Float64Array.of(1),
      lower: new Float64Array(1),
      upper: new Float64Array(1).fill(3),
      unservedLimit: 0,
      switching: { current: Float64Array.of(3), start: Float64Array.of(0), stop: Float64Array.of(2.5) },
    };
    const costs: Costs = {
      below: Float64Array.of(0.5),
      above: Float64Array.of(3),
      offset: 7.5,
      unserved: null,
    };
    const search = new ReplicaSearch(program, { costs });
    const list = (moreMaySave: boolean) =>
      search.enumerate({ ceiling: 9, most: 10, nodeLimit: 100, moreMaySave })!.map(([replicas]) => replicas);
    expect(list(false)).toEqual([1]);
    expect(list(true).sort()).toEqual([1, 2, 3]);
  });
});

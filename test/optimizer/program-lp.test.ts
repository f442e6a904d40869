import { describe, expect, it } from 'vitest';
import type { Program } from '../../src/optimizer/program.js';
import { type Costs, costsOf, replicaCost, SearchLp, UnservedDemandLp } from '../../src/optimizer/program-lp.js';
import { type SeededRandom, seededRandom } from '../support/seeded-random.js';
import { optimumByHighs, type Term } from './linear-program.js';
import { limitedProgram, replicaTable } from './replica-table.js';

const has = (work: number): boolean => work < Number.POSITIVE_INFINITY;

/** The relaxation in a box, in words: two replica columns for each deployment, one above what runs. */
function judged(
  program: Program,
  costs: Costs,
  box: { lower: Float64Array; upper: Float64Array },
): Promise<number | 'infeasible'> {
  const { bucketCount, deploymentCount, work, capacity, rate, switching, sharedLimits = [] } = program;
  const mayLeave = costs.unserved !== null || program.unservedLimit > 0;
  const buckets = Array.from({ length: bucketCount }, (_, b) => b);
  const deployments = Array.from({ length: deploymentCount }, (_, d) => d);
  const at = (b: number, d: number) => work[b * deploymentCount + d]!;
  const replicas = (d: number, factor: number): Term[] => [
    [factor, `y${d}`],
    [factor, `w${d}`],
  ];
  const kink = (d: number) => {
    const current = switching?.current[d] ?? Number.NaN;
    return Number.isNaN(current) ? Number.POSITIVE_INFINITY : current;
  };
  const left: Term[] = buckets.map((b) => [rate[b]!, `z${b}`]);
  return optimumByHighs({
    objective: [
      ...deployments.flatMap((d): Term[] => [
        [costs.below[d]!, `y${d}`],
        [costs.above[d]!, `w${d}`],
      ]),
      ...(costs.unserved ?? []).map(({ price }, i): Term => [price, `u${i}`]),
    ],
    rows: [
      ...buckets.map((b) => ({
        terms: [
          ...deployments.filter((d) => has(at(b, d)) && box.upper[d]! > 0).map((d): Term => [1, `x${b}_${d}`]),
          ...(mayLeave ? [[1, `z${b}`] as const] : []),
        ],
        sense: '=' as const,
        right: 1,
      })),
      ...deployments
        .filter((d) => box.upper[d]! > 0)
        .map((d) => ({
          terms: [
            ...buckets.filter((b) => has(at(b, d))).map((b): Term => [at(b, d), `x${b}_${d}`]),
            ...replicas(d, -capacity[d]!),
          ],
          sense: '<=' as const,
          right: 0,
        })),
      ...deployments.flatMap((d) => [
        { terms: replicas(d, 1), sense: '<=' as const, right: box.upper[d]! },
        { terms: replicas(d, 1), sense: '>=' as const, right: box.lower[d]! },
      ]),
      ...sharedLimits
        .map(({ use, limit }) => ({
          terms: deployments.filter((d) => use[d]! > 0).flatMap((d) => replicas(d, use[d]!)),
          sense: '<=' as const,
          right: limit,
        }))
        .filter(({ terms }) => terms.length > 0),
      ...(mayLeave
        ? [
            costs.unserved === null
              ? { terms: left, sense: '<=' as const, right: program.unservedLimit }
              : {
                  terms: [...left, ...costs.unserved.map((_, i): Term => [-1, `u${i}`])],
                  sense: '<=' as const,
                  right: 0,
                },
          ]
        : []),
    ],
    bounds: [
      ...deployments.map((d) => ({ name: `y${d}`, lower: 0, upper: Math.min(kink(d), 1e6) })),
      ...(costs.unserved ?? []).map(({ room }, i) => ({ name: `u${i}`, lower: 0, upper: room })),
    ],
  });
}

function randomBox(random: SeededRandom, { lower, upper }: Program): { lower: Float64Array; upper: Float64Array } {
  const low = lower.map((least, d) => random.whole(least, upper[d]!));
  return { lower: low, upper: low.map((least, d) => random.whole(least, upper[d]!)) };
}

/** Costs of a search: what replicas cost and, in one of two ways, what staying unserved does. */
function randomCosts(random: SeededRandom, program: Program, own: Costs): Costs {
  if (program.unservedLimit > 0) return own;
  const total = program.rate.reduce((sum, rate) => sum + rate, 0);
  if (random.chance(0.4)) return own;
  const price = random.between(0, 4);
  return {
    ...own,
    unserved: [
      { room: total / 3, price },
      { room: (2 * total) / 3, price: price + random.pick([0, 1, 9]) },
    ],
  };
}

describe('the relaxation of a program', () => {
  it('has the optimum that HiGHS finds in any box, one after the other, also at other costs', async () => {
    const random = seededRandom(61);
    const wrong: string[] = [];
    const seen = { infeasible: 0, optimal: 0, kinks: 0 };
    for (let i = 0; i < 80; i++) {
      const drawn = limitedProgram(random, { switching: random.chance(0.7), limits: random.whole(0, 2) });
      const program = random.chance(0.3) ? { ...drawn, unservedLimit: random.between(0.1, 2) } : drawn;
      let costs = randomCosts(random, program, costsOf(program));
      const lp = new SearchLp(program, costs);
      for (let turn = 0; turn < 4; turn++) {
        if (turn === 2) {
          const prices = program.cost.map(() => random.between(0, 2));
          costs = {
            ...costs,
            below: costs.below.map((usd, d) => usd + prices[d]!),
            above: costs.above.map((usd, d) => usd + prices[d]!),
            unserved: costs.unserved?.map((piece) => ({ ...piece, price: piece.price * 2 })) ?? null,
          };
          lp.setCosts(costs);
          lp.begin();
        }
        const box = turn === 0 ? program : randomBox(random, program);
        box.lower.forEach((low, d) => {
          lp.setBox(d, low, box.upper[d]!);
        });
        const outcome = lp.lp.solve();
        const expected = await judged(program, costs, box);
        const found = outcome === 'optimal' ? lp.lp.objective() : outcome;
        if (expected === 'infeasible') seen.infeasible++;
        else seen.optimal++;
        if (expected === 'infeasible' || typeof found === 'string') {
          if (found !== expected) wrong.push(`case ${i}, turn ${turn}: ${found} where it is ${expected}`);
          continue;
        }
        const scale = Math.max(1, Math.abs(expected));
        if (Math.abs(found - expected) > 1e-6 * scale) wrong.push(`case ${i}, turn ${turn}: ${found} for ${expected}`);
        const bound = lp.lp.boundAt(lp.lp.prices);
        if (Math.abs(bound - expected) > 1e-6 * scale)
          wrong.push(`case ${i}, turn ${turn}: bound ${bound} for ${expected}`);
        box.lower.forEach((low, d) => {
          const count = lp.replicasOf(d);
          if (count < low - 1e-9 || count > box.upper[d]! + 1e-9)
            wrong.push(`case ${i}: ${count} replicas in ${low}…${box.upper[d]}`);
          const current = program.switching?.current[d] ?? Number.NaN;
          if (count > current + 1e-9) seen.kinks++;
        });
      }
    }
    expect(wrong).toEqual([]);
    expect(seen.infeasible).toBeGreaterThan(30);
    expect(seen.optimal).toBeGreaterThan(100);
    expect(seen.kinks).toBeGreaterThan(20);
  });

  it('says what one replica more or less changes at prices, with the kink between', () => {
    const program: Program = {
      bucketCount: 1,
      deploymentCount: 1,
      work: Float64Array.of(1),
      rate: Float64Array.of(1),
      cost: Float64Array.of(2),
      capacity: Float64Array.of(0.5),
      lower: new Float64Array(1),
      upper: Float64Array.of(9),
      unservedLimit: 0,
      switching: { current: Float64Array.of(4), start: Float64Array.of(3), stop: Float64Array.of(7) },
      sharedLimits: [{ use: Float64Array.of(8), limit: 100 }],
    };
    const lp = new SearchLp(program, costsOf(program));
    // Its own 2 less 7 that stopping it would cost, or 3 more to start it; 6 × 0.5 that it is worth, 0.25 × 8 that it takes.
    expect(lp.reducedCosts(0, Float64Array.of(6, 0.25))).toEqual({ below: -6, above: 4, kink: 4 });
    // Prices below 0 are rounding.
    expect(lp.reducedCosts(0, Float64Array.of(-1e-12, -1e-12))).toEqual({ below: -5, above: 5, kink: 4 });
    const { switching: _, ...still } = program;
    expect(new SearchLp(still, costsOf(still)).reducedCosts(0, Float64Array.of(6, 0.25))).toEqual({
      below: 1,
      above: 1,
      kink: Number.POSITIVE_INFINITY,
    });
  });
});

describe('what replicas cost', () => {
  it('is their price and what starting and stopping costs, wherever what runs lies', () => {
    const random = seededRandom(62);
    for (let i = 0; i < 300; i++) {
      const drawn = limitedProgram(random, { switching: true, limits: 0 });
      const { cost, upper } = drawn;
      // Also above the ceiling and below the floor.
      const current = drawn.switching!.current.map((count) => (random.chance(0.5) ? count : random.whole(0, 12)));
      const program = { ...drawn, switching: { ...drawn.switching!, current } };
      const replicas = upper.map((most) => random.whole(0, most + 3));
      const expected = replicas.reduce((sum, count, d) => {
        const now = current[d]!;
        const moved = Number.isNaN(now)
          ? 0
          : Math.max(0, count - now) * program.switching.start[d]! +
            Math.max(0, now - count) * program.switching.stop[d]!;
        return sum + count * cost[d]! + moved;
      }, 0);
      expect(replicaCost(program, costsOf(program), replicas), `case ${i}`).toBeCloseTo(expected, 9);
    }
  });
});

describe('the least unserved demand at some replicas', () => {
  it('is that of an independent simplex, with shares that leave just that', () => {
    const random = seededRandom(63);
    const seen = { none: 0, some: 0 };
    for (let i = 0; i < 60; i++) {
      const program = limitedProgram(random, { switching: false, limits: 0 });
      const lp = new UnservedDemandLp(program);
      const total = program.rate.reduce((sum, rate) => sum + rate, 0);
      for (const { replicas, unservedRps } of replicaTable(program)) {
        if (!random.chance(0.4)) continue;
        const y = Float64Array.from(replicas);
        const found = lp.at(y);
        // Capacities hold half of the 1e-9 to which work fits.
        expect(Math.abs(found - unservedRps), `case ${i} at ${y}`).toBeLessThan(1e-8 * total);
        const left = lp.sharesAt(y).reduce((sum, share, b) => sum + share * program.rate[b]!, 0);
        expect(Math.abs(left - unservedRps), `case ${i} at ${y}`).toBeLessThan(1e-8 * total);
        if (unservedRps === 0) seen.none++;
        else seen.some++;
      }
    }
    expect(seen.none).toBeGreaterThan(200);
    expect(seen.some).toBeGreaterThan(50);
  });

  it('is all of it without replicas', () => {
    const random = seededRandom(64);
    const program = limitedProgram(random, { switching: false, limits: 0 });
    const lp = new UnservedDemandLp(program);
    const nothing = new Float64Array(program.deploymentCount);
    expect(lp.at(nothing)).toBeCloseTo(
      program.rate.reduce((sum, rate) => sum + rate, 0),
      12,
    );
    expect([...lp.sharesAt(nothing)]).toEqual(new Array(program.bucketCount).fill(1));
  });
});

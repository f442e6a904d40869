import { describe, expect, it } from 'vitest';
import {
  type Candidate,
  type Choice,
  chooseConfigurations,
  isWithin,
  totalUse,
} from '../../src/optimizer/configuration-choice.js';
import { type SeededRandom, seededRandom } from '../support/seeded-random.js';

type Instance = {
  readonly candidates: readonly Candidate[];
  readonly modelCount: number;
  readonly limits: Float64Array;
};

/** The least cost by looking at every combination; Infinity where none keeps the limits. */
function leastCost({ candidates, modelCount, limits }: Instance): number {
  const ofModel = Array.from({ length: modelCount }, (_, m) => candidates.filter(({ model }) => model === m));
  let best = Number.POSITIVE_INFINITY;
  const visit = (m: number, cost: number, used: readonly number[]): void => {
    if (cost >= best || used.some((amount, r) => amount > limits[r]!)) return;
    if (m === modelCount) {
      best = cost;
      return;
    }
    for (const it of ofModel[m]!)
      visit(
        m + 1,
        cost + it.cost,
        used.map((amount, r) => amount + it.use[r]!),
      );
  };
  visit(
    0,
    0,
    Array.from(limits, () => 0),
  );
  return best;
}

type Kind = 'coarse' | 'fine' | 'specks';

/** Replica vectors of a few deployments: cheaper ones use more. Specks: some amounts are next to nothing. */
function randomInstance(random: SeededRandom, kind: Kind): Instance {
  const modelCount = random.whole(2, 5);
  const rowCount = random.whole(1, 4);
  const candidates: Candidate[] = [];
  for (let model = 0; model < modelCount; model++) {
    const deployments = random.whole(1, 3);
    const size = Array.from({ length: rowCount }, () =>
      kind === 'specks' && random.chance(0.6) ? 10 ** -random.whole(3, 9) : 1,
    );
    const perReplica = Array.from({ length: deployments }, () =>
      Array.from(size, (each) =>
        random.chance(0.4) ? 0 : each * (kind === 'coarse' ? random.whole(1, 3) : random.between(0.5, 3)),
      ),
    );
    const known = new Set<string>();
    for (let k = random.whole(1, 9); k > 0; k--) {
      const replicas = Float64Array.from({ length: deployments }, () => random.whole(0, 3));
      if (known.has(replicas.join())) continue;
      known.add(replicas.join());
      const use = Float64Array.from(size, (_, r) =>
        replicas.reduce((sum, count, d) => sum + count * perReplica[d]![r]!, 0),
      );
      const cost = kind === 'coarse' ? random.whole(0, 9) : random.between(0, 10);
      candidates.push({ model, replicas, cost, use });
    }
  }
  // What some combination takes, so that limits are often reached exactly, or a part of it.
  const some = Array.from({ length: modelCount }, (_, m) => random.pick(candidates.filter(({ model }) => model === m)));
  const scale = random.pick([1, 1, 1, 0.9, 0.5]);
  const limits = totalUse(some, rowCount).map((amount) => amount * scale * (1 + 1e-9));
  return { candidates, modelCount, limits };
}

const whole = { incumbent: null, nodeLimit: 100_000, shouldStop: () => false, relativeGap: 0 };

/** What is wrong with a choice, whatever ended it. */
function faultsOf(instance: Instance, choice: Choice, least: number): string[] {
  const { modelCount, limits } = instance;
  const faults: string[] = [];
  if (choice.chosen !== null) {
    if (choice.chosen.some(({ model }, m) => model !== m) || choice.chosen.length !== modelCount)
      faults.push('not one each');
    const cost = choice.chosen.reduce((sum, it) => sum + it.cost, 0);
    if (Math.abs(cost - choice.cost) > 1e-9) faults.push(`cost ${choice.cost}, its parts cost ${cost}`);
    if (!isWithin(totalUse(choice.chosen, limits.length), limits)) faults.push('a limit is overrun');
    if (cost < least - 1e-9) faults.push(`${cost} is less than the least ${least}`);
  }
  if (choice.bound > least + 1e-8 * Math.max(1, Math.abs(least)))
    faults.push(`a bound of ${choice.bound} above ${least}`);
  return faults;
}

describe('the choice of one configuration for each model', () => {
  for (const [kind, seed, count] of [
    ['coarse', 31, 400],
    ['fine', 32, 400],
    ['specks', 33, 400],
  ] as const) {
    it(`is the least of all combinations, or proven that there is none: ${kind} numbers`, () => {
      const random = seededRandom(seed);
      const faults: string[] = [];
      const seen = { none: 0, many: 0 };
      for (let i = 0; i < count; i++) {
        const instance = randomInstance(random, kind);
        const least = leastCost(instance);
        const choice = chooseConfigurations({ ...instance, ...whole });
        faults.push(...faultsOf(instance, choice, least).map((fault) => `case ${i}: ${fault}`));
        if (least < Number.POSITIVE_INFINITY) {
          if (choice.chosen === null) faults.push(`case ${i}: nothing is found where ${least} is possible`);
          else if (choice.cost > least + 1e-8) faults.push(`case ${i}: ${choice.cost}, ${least} is possible`);
          if (choice.bound < least - 1e-7) faults.push(`case ${i}: a bound of ${choice.bound} for ${least}`);
        } else seen.none++;
        if (choice.nodes > 3) seen.many++;
      }
      expect(faults).toEqual([]);
      expect(seen.none).toBeGreaterThan(5);
      expect(seen.many).toBeGreaterThan(20);
    });
  }

  it('states a bound that holds wherever it is ended, and never overruns a limit', () => {
    const random = seededRandom(34);
    const faults: string[] = [];
    const seen = { open: 0, without: 0 };
    for (let i = 0; i < 300; i++) {
      const instance = randomInstance(random, random.pick(['coarse', 'fine', 'specks'] as const));
      const least = leastCost(instance);
      for (const nodeLimit of [1, 2, 4]) {
        const choice = chooseConfigurations({ ...instance, ...whole, nodeLimit });
        if (choice.nodes > nodeLimit) faults.push(`case ${i}: ${choice.nodes} nodes`);
        faults.push(...faultsOf(instance, choice, least).map((fault) => `case ${i}, ${nodeLimit} nodes: ${fault}`));
        if (choice.chosen === null && least < Number.POSITIVE_INFINITY) seen.without++;
        else if (choice.bound < choice.cost - 1e-6) seen.open++;
      }
      let asked = 0;
      const stopped = chooseConfigurations({ ...instance, ...whole, shouldStop: () => ++asked > 1 });
      faults.push(...faultsOf(instance, stopped, least).map((fault) => `case ${i}, stopped: ${fault}`));
      const relativeGap = random.pick([0.01, 0.1, 0.5]);
      const near = chooseConfigurations({ ...instance, ...whole, relativeGap });
      faults.push(...faultsOf(instance, near, least).map((fault) => `case ${i}, gap ${relativeGap}: ${fault}`));
      if (near.chosen !== null && near.cost - near.bound > relativeGap * Math.max(1e-3, near.cost) + 1e-9) {
        faults.push(`case ${i}: ${near.cost} with a bound of ${near.bound} for a gap of ${relativeGap}`);
      }
      if (near.chosen === null && least < Number.POSITIVE_INFINITY) faults.push(`case ${i}: a gap loses the answer`);
    }
    expect(faults).toEqual([]);
    expect(seen.open).toBeGreaterThan(30);
  });

  it('is never worse than the one that was known, and is that one where nothing is better', () => {
    const random = seededRandom(35);
    let kept = 0;
    for (let i = 0; i < 200; i++) {
      const instance = randomInstance(random, 'coarse');
      const best = chooseConfigurations({ ...instance, ...whole });
      if (best.chosen === null) continue;
      const again = chooseConfigurations({ ...instance, ...whole, incumbent: best.chosen });
      expect(again.chosen).toEqual(best.chosen);
      expect(again.cost).toBe(best.cost);
      const other = Array.from({ length: instance.modelCount }, (_, m) =>
        random.pick(instance.candidates.filter(({ model }) => model === m)),
      );
      if (!isWithin(totalUse(other, instance.limits.length), instance.limits)) continue;
      const short = chooseConfigurations({ ...instance, ...whole, incumbent: other, nodeLimit: 1 });
      expect(short.cost).toBeLessThanOrEqual(other.reduce((sum, { cost }) => sum + cost, 0));
      kept++;
    }
    expect(kept).toBeGreaterThan(50);
  });

  it('does not take a known one that overruns a limit', () => {
    const at = (replicas: number, cost: number): Candidate => ({
      model: 0,
      replicas: Float64Array.of(replicas),
      cost,
      use: Float64Array.of(replicas),
    });
    const [large, small] = [at(3, 1), at(1, 5)];
    const choice = chooseConfigurations({
      candidates: [large, small],
      modelCount: 1,
      limits: Float64Array.of(2),
      ...whole,
      incumbent: [large],
    });
    expect(choice).toMatchObject({ chosen: [small], cost: 5, bound: 5 });
  });

  it('is the same twice', () => {
    const random = seededRandom(36);
    for (let i = 0; i < 30; i++) {
      const instance = randomInstance(random, 'fine');
      const once = chooseConfigurations({ ...instance, ...whole, nodeLimit: 5 });
      expect(chooseConfigurations({ ...instance, ...whole, nodeLimit: 5 })).toEqual(once);
    }
  });
});

import { describe, expect, it } from 'vitest';
import { ConfigurationLp } from '../../src/optimizer/configuration-lp.js';
import { type SeededRandom, seededRandom } from '../support/seeded-random.js';
import { optimumByHighs, type Term } from './linear-program.js';

/** What the program under test is told, kept beside it for the judge. */
type Known = {
  readonly lp: ConfigurationLp;
  readonly modelCount: number;
  readonly limits: Float64Array;
  readonly overflowPrice: Float64Array;
  readonly configurations: { readonly model: number; readonly cost: number; readonly use: number[]; closed: boolean }[];
};

type Size = { readonly models: number; readonly rows: number; readonly each: number; readonly coarse: boolean };

function amount(random: SeededRandom, most: number, coarse: boolean): number {
  return coarse ? random.whole(0, most) : random.chance(0.2) ? 0 : random.between(0, most);
}

function addOne(random: SeededRandom, known: Known, model: number, { coarse }: Size): void {
  const use = Array.from(known.limits, () => (random.chance(0.4) ? 0 : amount(random, 4, coarse)));
  // Mostly: the more it uses, the less it costs.
  const used = use.reduce((sum, each) => sum + each, 0);
  const cost =
    Math.max(0, 3 * known.limits.length - used) * (coarse ? 1 : random.between(0.5, 2)) + amount(random, 5, coarse);
  known.lp.add(model, cost, use);
  known.configurations.push({ model, cost, use, closed: false });
}

/** A program with limits from far too tight to ample, one configuration at least for each model. */
function randomKnown(random: SeededRandom, size: Size): Known {
  const { models, rows, each, coarse } = size;
  const tightness = random.pick([0.2, 0.5, 0.8, 1.2]);
  const limits = Float64Array.from({ length: rows }, () => {
    const limit = models * tightness * random.between(0.5, 1.5);
    return coarse ? Math.round(limit) : limit;
  });
  const overflowPrice = Float64Array.from(limits, () => random.pick([2, 20, 200]));
  const known: Known = {
    lp: new ConfigurationLp(models, limits, overflowPrice.slice()),
    modelCount: models,
    limits,
    overflowPrice,
    configurations: [],
  };
  for (let m = 0; m < models; m++) addOne(random, known, m, size);
  const more = random.whole(0, models * (each - 1));
  for (let i = 0; i < more; i++) addOne(random, known, random.whole(0, models - 1), size);
  return known;
}

const penalty = 1e4;

/** The optimum by HiGHS: closed configurations at their penalty, or left out, and then within the limits. */
function judged(
  { configurations, limits, overflowPrice, modelCount }: Known,
  isHard: boolean,
): Promise<number | 'infeasible'> {
  const usable = configurations.map((it, j) => ({ ...it, name: `x${j}` })).filter(({ closed }) => !(closed && isHard));
  const overflow = isHard ? [] : Array.from(limits, (_, r): Term => [overflowPrice[r]!, `t${r}`]);
  return optimumByHighs({
    objective: [...usable.map(({ cost, closed, name }): Term => [closed ? cost + penalty : cost, name]), ...overflow],
    rows: [
      ...Array.from({ length: modelCount }, (_, m) => ({
        terms: usable.filter(({ model }) => model === m).map(({ name }): Term => [1, name]),
        sense: '=' as const,
        right: 1,
      })),
      ...Array.from(limits, (right, r) => ({
        terms: [
          ...usable.filter(({ use }) => use[r]! > 0).map(({ use, name }): Term => [use[r]!, name]),
          ...(isHard ? [] : [[-1, `t${r}`] as const]),
        ],
        sense: '<=' as const,
        right,
      })).filter(({ terms }) => terms.length > 0),
    ],
  });
}

/** Everything that an answer promises, each against the numbers that were put in. */
async function faultsOf(known: Known): Promise<string[]> {
  const { lp, configurations, limits, overflowPrice, modelCount } = known;
  const faults: string[] = [];
  if (!lp.solve(penalty)) faults.push('it did not come to an end');
  const parts = lp.parts();
  const overflow = lp.overflow();
  const sums = new Float64Array(modelCount);
  const used = new Float64Array(limits.length);
  let value = overflow.reduce((sum, over, r) => sum + over * overflowPrice[r]!, 0);
  configurations.forEach(({ model, cost, use, closed }, j) => {
    const part = parts[j]!;
    if (part < -1e-9 || part > 1 + 1e-9) faults.push(`a part of ${part}`);
    sums[model] = sums[model]! + part;
    value += part * (closed ? cost + penalty : cost);
    use.forEach((each, r) => {
      used[r] = used[r]! + part * each;
    });
  });
  if (sums.some((sum) => Math.abs(sum - 1) > 1e-9)) faults.push(`parts add up to ${sums}`);
  used.forEach((amountUsed, r) => {
    if (amountUsed > limits[r]! + overflow[r]! + 1e-7)
      faults.push(`row ${r}: ${amountUsed} of ${limits[r]} + ${overflow[r]}`);
  });
  const scale = Math.max(1, Math.abs(value));
  const optimum = (await judged(known, false)) as number;
  if (Math.abs(value - optimum) > 1e-6 * scale) faults.push(`${value} where ${optimum} is the optimum`);
  lp.prices.forEach((price, r) => {
    if (price < -1e-7 || price > overflowPrice[r]! * (1 + 1e-9) + 1e-7) faults.push(`a price of ${price}`);
  });
  // The prices are a proof: with them the bound is the optimum, and no closed configuration is worth its penalty less.
  if (configurations.every(({ closed }) => !closed) && Math.abs(lp.boundAtPrices() - optimum) > 1e-6 * scale) {
    faults.push(`a bound of ${lp.boundAtPrices()} for ${optimum}`);
  }
  const within = await judged(known, true);
  const most = within === 'infeasible' ? Number.POSITIVE_INFINITY : within;
  if (lp.boundAtPrices() > most + 1e-6 * scale) faults.push(`a bound of ${lp.boundAtPrices()} above ${most}`);
  const slack = lp.slackOfEach();
  const leastSlack = new Float64Array(modelCount).fill(Number.POSITIVE_INFINITY);
  configurations.forEach(({ model, closed }, j) => {
    if (!closed) leastSlack[model] = Math.min(leastSlack[model]!, slack[j]!);
    // Complementary slackness: what is used is the best of its model at these prices.
    if (!closed && parts[j]! > 1e-7 && slack[j]! > 1e-6 * scale)
      faults.push(`${j} is used with a slack of ${slack[j]}`);
  });
  if (leastSlack.some((least) => Math.abs(least) > 1e-9)) faults.push(`least slacks of ${leastSlack}`);
  return faults;
}

describe('the linear program over configurations', () => {
  it('has the optimum that HiGHS finds, with parts, prices and overflow that prove it', async () => {
    const random = seededRandom(21);
    const faults: string[] = [];
    const seen = { overflows: 0, fits: 0, split: 0 };
    for (let i = 0; i < 150; i++) {
      const known = randomKnown(random, {
        models: random.whole(1, 10),
        rows: random.whole(1, 5),
        each: 6,
        coarse: random.chance(0.5),
      });
      faults.push(...(await faultsOf(known)).map((fault) => `case ${i}: ${fault}`));
      if (known.lp.overflow().some((over) => over > 1e-6)) seen.overflows++;
      else seen.fits++;
      if (known.lp.parts().some((part) => part > 1e-6 && part < 1 - 1e-6)) seen.split++;
    }
    expect(faults).toEqual([]);
    expect(seen.overflows).toBeGreaterThan(20);
    expect(seen.fits).toBeGreaterThan(40);
    expect(seen.split).toBeGreaterThan(60);
  });

  it('goes on from where it was as configurations come, are closed, and are opened again', async () => {
    const random = seededRandom(22);
    const faults: string[] = [];
    for (let i = 0; i < 40; i++) {
      const size = { models: random.whole(2, 8), rows: random.whole(1, 4), each: 3, coarse: random.chance(0.5) };
      const known = randomKnown(random, size);
      faults.push(...(await faultsOf(known)).map((fault) => `case ${i}: ${fault}`));
      for (let turn = 0; turn < 5; turn++) {
        const more = random.whole(0, 5);
        for (let k = 0; k < more; k++) addOne(random, known, random.whole(0, size.models - 1), size);
        known.configurations.forEach((configuration, j) => {
          if (!random.chance(0.3)) return;
          const others = known.configurations.filter((it) => it.model === configuration.model && !it.closed);
          configuration.closed = !configuration.closed && others.length > 1;
          known.lp.setClosed(j, configuration.closed);
        });
        faults.push(...(await faultsOf(known)).map((fault) => `case ${i}, turn ${turn}: ${fault}`));
      }
    }
    expect(faults).toEqual([]);
  });

  it('does without the key of a model, which is its first configuration', () => {
    const lp = new ConfigurationLp(1, Float64Array.of(10), Float64Array.of(100));
    lp.add(0, 1, [1]);
    lp.add(0, 5, [2]);
    lp.add(0, 3, [3]);
    lp.setClosed(0, true);
    expect(lp.solve(1000)).toBe(true);
    expect([...lp.parts()]).toEqual([0, 0, 1]);
    expect(lp.boundAtPrices()).toBe(3);
    lp.setClosed(2, true);
    lp.solve(1000);
    expect([...lp.parts()]).toEqual([0, 1, 0]);
    lp.setClosed(0, false);
    lp.solve(1000);
    expect([...lp.parts()]).toEqual([1, 0, 0]);
    expect([...lp.slackOfEach()]).toEqual([0, 4, 2]);
  });

  it('overruns a limit only where a unit over it is cheaper than any way out', () => {
    const lp = new ConfigurationLp(1, Float64Array.of(1), Float64Array.of(2));
    lp.add(0, 0, [3]);
    lp.add(0, 10, [0]);
    lp.solve(0);
    // Two units over cost 4; the way out of both costs two thirds of 10.
    expect(lp.overflow()[0]).toBeCloseTo(2, 12);
    expect(lp.prices[0]).toBeCloseTo(2, 12);
    lp.raiseOverflowPrice(0, 8);
    lp.solve(0);
    expect(lp.overflow()[0]).toBe(0);
    expect(lp.prices[0]).toBeCloseTo(10 / 3, 12);
    expect(lp.boundAtPrices()).toBeCloseTo(20 / 3, 12);
    expect(lp.parts()[1]).toBeCloseTo(2 / 3, 12);
  });

  it('comes to an end where everything ties', async () => {
    const random = seededRandom(23);
    const faults: string[] = [];
    for (let i = 0; i < 30; i++) {
      // The same few configurations for every model, limits that are reached exactly.
      const rows = random.whole(1, 6);
      const models = random.whole(2, 20);
      const limits = new Float64Array(rows).fill(random.whole(0, models));
      const overflowPrice = new Float64Array(rows).fill(random.pick([1, 2, 50]));
      const known: Known = {
        lp: new ConfigurationLp(models, limits, overflowPrice.slice()),
        modelCount: models,
        limits,
        overflowPrice,
        configurations: [],
      };
      for (let m = 0; m < models; m++) {
        for (let r = -1; r < rows; r++) {
          const use = Array.from(limits, (_, at) => (at === r ? 1 : 0));
          const cost = r < 0 ? 2 : 1;
          for (let twice = 0; twice < 2; twice++) {
            known.lp.add(m, cost, use);
            known.configurations.push({ model: m, cost, use, closed: false });
          }
        }
      }
      faults.push(...(await faultsOf(known)).map((fault) => `case ${i}: ${fault}`));
    }
    expect(faults).toEqual([]);
  });

  it('takes sixty limits and hundreds of configurations', async () => {
    const random = seededRandom(24);
    const faults: string[] = [];
    for (let i = 0; i < 3; i++) {
      const size = { models: 60, rows: 60, each: 12, coarse: i === 1 };
      const known = randomKnown(random, size);
      faults.push(...(await faultsOf(known)).map((fault) => `case ${i}: ${fault}`));
      for (let k = 0; k < 200; k++) addOne(random, known, random.whole(0, size.models - 1), size);
      faults.push(...(await faultsOf(known)).map((fault) => `case ${i} with more: ${fault}`));
      expect(known.configurations.length).toBeGreaterThan(256);
    }
    expect(faults).toEqual([]);
  });

  it('needs no limits: each model takes its cheapest', () => {
    const lp = new ConfigurationLp(2, new Float64Array(0), new Float64Array(0));
    for (const [model, cost] of [
      [0, 4],
      [0, 3],
      [1, 7],
      [1, 9],
    ] as const)
      lp.add(model, cost, []);
    expect(lp.solve(0)).toBe(true);
    expect([...lp.parts()]).toEqual([0, 1, 1, 0]);
    expect(lp.boundAtPrices()).toBe(10);
  });
});

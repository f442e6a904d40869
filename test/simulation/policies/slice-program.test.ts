import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { highsEngine } from '../../../benchmarks/mip.js';
import { type PeerModel, sliceProgram } from '../../../benchmarks/peer-rules.js';
import { highsRuntime } from '../../../src/adapters/solvers/highs.js';
import { aibrixSlices } from '../../../src/simulation/policies/aibrix.js';
import { solveSlices } from '../../../src/simulation/policies/slice-program.js';
import { seededRandom } from '../../support/seeded-random.js';

const recorded = '../shared/conformance/aibrix.json';

type Recorded = {
  readonly melange_solver_synthetic: {
    readonly profiles: Readonly<Record<string, { readonly cost: number; readonly tputs: readonly number[][] }>>;
    readonly cases: readonly {
      readonly cells: readonly (readonly [readonly [number, number], number])[];
      readonly total_rps: number;
      readonly gpu_fraction: number;
      readonly result: Readonly<Record<string, number>>;
      readonly whole_gpus_after_ceil: Readonly<Record<string, number>>;
      readonly real_cost_after_ceil: number;
    }[];
  };
};

describe.skipIf(!existsSync(recorded))(`conformance with ${recorded}, which is skipped where absent`, () => {
  const { profiles, cases } = existsSync(recorded)
    ? (JSON.parse(readFileSync(recorded, 'utf8')) as Recorded).melange_solver_synthetic
    : { profiles: {}, cases: [] };
  const names = Object.keys(profiles);

  test('there are ten recorded cases', () => expect(cases).toHaveLength(10));

  test.each(
    cases.map((one) => [`${JSON.stringify(one.cells)} at ${one.total_rps} rps in 1/${one.gpu_fraction}`, one] as const),
  )(
    'AIBrix and the exact search agree on %s',
    (_, { cells, total_rps, gpu_fraction, result, whole_gpus_after_ceil, real_cost_after_ceil }) => {
      const answer = solveSlices({
        slices: aibrixSlices,
        usdPerUnit: names.map((name) => profiles[name]!.cost / gpu_fraction),
        loads: cells.map(([[row, column], share]) =>
          names.map((name) => (total_rps * gpu_fraction * share) / aibrixSlices / profiles[name]!.tputs[row]![column]!),
        ),
      })!;
      expect(answer.proven).toBe(true);
      expect(answer.units).toEqual(names.map((name) => result[name]));
      expect(answer.usdPerHour).toBeCloseTo(result.cost!, 9);
      const whole = answer.units.map((units) => Math.ceil(units / gpu_fraction));
      expect(whole).toEqual(names.map((name) => whole_gpus_after_ceil[name]));
      const usd = whole.reduce((sum, replicas, g) => sum + replicas * profiles[names[g]!]!.cost, 0);
      expect(usd).toBeCloseTo(real_cost_after_ceil, 9);
    },
  );
});

/** As AIBrix meets them: rates over orders of magnitude, types that differ in speed and price, some that cannot serve. */
function randomModel(seed: number): PeerModel {
  const random = seededRandom(seed);
  const types = random.whole(1, 4);
  const cells = random.whole(1, 4);
  const seconds = Array.from({ length: cells }, () => random.logBetween(0.02, 2));
  return {
    name: `random ${seed}`,
    priority: 0,
    rps: Array.from({ length: cells }, () => random.logBetween(0.05, 20)),
    types: Array.from({ length: types }, (_, g) => {
      const speed = random.logBetween(0.3, 3);
      return {
        gpuType: `type ${g}`,
        gpusPerReplica: 1,
        usdPerReplicaHour: speed * random.logBetween(0.5, 2),
        secondsPerRequest: seconds.map((s) =>
          g > 0 && random.chance(0.15) ? Infinity : (s / speed) * random.logBetween(0.7, 1.4),
        ),
      };
    }),
  };
}

function askedOf({ rps, types }: PeerModel, fraction: number) {
  return {
    slices: aibrixSlices,
    usdPerUnit: types.map(({ usdPerReplicaHour }) => usdPerReplicaHour / fraction),
    loads: rps.map((rate, b) =>
      types.map(({ secondsPerRequest }) => ((rate * fraction) / aibrixSlices) * secondsPerRequest[b]!),
    ),
  };
}

test('on random instances no fleet of HiGHS is cheaper, in whole GPUs and in hundredths', {
  timeout: 60_000,
}, async () => {
  const highs = highsEngine(await highsRuntime());
  let proved = 0;
  for (let seed = 0; seed < 60; seed++) {
    const model = randomModel(seed);
    const fraction = seed % 2 === 0 ? 1 : 100;
    const answer = solveSlices(askedOf(model, fraction))!;
    expect(answer.proven, model.name).toBe(true);
    const { status, values } = highs.solve(sliceProgram(model, aibrixSlices, fraction), {
      timeLimitMs: 300,
      relativeGap: 0,
    });
    if (values === null) continue;
    const usd = model.types.reduce(
      (sum, { usdPerReplicaHour }, g) => sum + (Math.round(values[g]!) * usdPerReplicaHour) / fraction,
      0,
    );
    expect(answer.usdPerHour, model.name).toBeLessThanOrEqual(usd * (1 + 1e-6));
    if (status !== 'optimal') continue;
    proved++;
    expect(answer.usdPerHour, model.name).toBeCloseTo(usd, 5);
  }
  expect(proved).toBeGreaterThan(30);
});

test('the units hold the load that they are for, and the price is theirs', () => {
  for (let seed = 100; seed < 130; seed++) {
    const program = askedOf(randomModel(seed), 100);
    const { units, usdPerHour } = solveSlices(program)!;
    expect(units.every((count) => Number.isInteger(count) && count >= 0)).toBe(true);
    expect(usdPerHour).toBeCloseTo(
      units.reduce((sum, count, g) => sum + count * program.usdPerUnit[g]!, 0),
      9,
    );
    const least = program.loads.reduce(
      (sum, loads) => sum + aibrixSlices * Math.min(...loads.map((load, g) => load * program.usdPerUnit[g]!)),
      0,
    );
    expect(usdPerHour).toBeGreaterThanOrEqual(least * (1 - 1e-9));
  }
});

test('a cell that no type serves has no answer, and no cell at all costs nothing', () => {
  expect(
    solveSlices({
      slices: 4,
      usdPerUnit: [1, 2],
      loads: [
        [1, 1],
        [Infinity, Infinity],
      ],
    }),
  ).toBeNull();
  expect(solveSlices({ slices: 4, usdPerUnit: [1, 2], loads: [] })).toEqual({
    units: [0, 0],
    usdPerHour: 0,
    proven: true,
  });
});

test('a node limit ends the search with a fleet that holds the load, and says so', () => {
  const program = {
    ...askedOf(randomModel(7), 1),
    loads: Array.from({ length: 9 }, (_, i) => [1 / (i + 3), 1 / (2 * i + 3.1)]),
    usdPerUnit: [1, 0.7],
  };
  const exact = solveSlices(program)!;
  const limited = solveSlices({ ...program, nodeLimit: 1 })!;
  expect(exact.proven).toBe(true);
  expect(limited.proven).toBe(false);
  expect(limited.usdPerHour).toBeGreaterThanOrEqual(exact.usdPerHour);
});

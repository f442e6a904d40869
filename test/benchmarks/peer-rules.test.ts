import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { cbcEngine, highsEngine, toMps } from '../../benchmarks/mip.js';
import { aibrixCases, aibrixTypes, conformanceFaults } from '../../benchmarks/peer-conformance.js';
import { greedyPlan, melangePlan, type PeerModel, peerModelOf } from '../../benchmarks/peer-rules.js';
import { fleetClassOf } from '../../benchmarks/peers.js';
import { highsRuntime } from '../../src/adapters/solvers/highs.js';
import { plan } from '../../src/optimizer/plan.js';
import { structuredInstances } from '../optimizer/corpus.js';

const highs = highsEngine(await highsRuntime());
const cbc = cbcEngine();
const limits = { timeLimitMs: 30_000, relativeGap: 0 };

/** A model of one bucket: for each type its GPUs per replica, price, and the replicas that all of the demand fills. */
function model(
  name: string,
  types: Readonly<Record<string, readonly [gpus: number, usd: number, work: number]>>,
  priority = 0,
): PeerModel {
  return {
    name,
    priority,
    rps: [1],
    types: Object.entries(types).map(([gpuType, [gpusPerReplica, usdPerReplicaHour, work]]) => ({
      gpuType,
      gpusPerReplica,
      usdPerReplicaHour,
      secondsPerRequest: [work],
    })),
  };
}

const pools = (gpus: Readonly<Record<string, number>>) => new Map(Object.entries(gpus));

describe("the copies of peers' rules", () => {
  test('reproduce what Mélange and AIBrix answer, solved by HiGHS', () => {
    expect(conformanceFaults(highs)).toEqual([]);
  });

  test.skipIf(cbc === null)('reproduce it solved by CBC, which is skipped where there is none on the PATH', () => {
    expect(conformanceFaults(cbc!)).toEqual([]);
  });

  test('a rule that answers otherwise is a fault that names the case, what was expected and what was found', () => {
    const dearer = {
      name: 'one more of everything',
      solve: (...asked: Parameters<typeof highs.solve>) => {
        const answer = highs.solve(...asked);
        return { ...answer, values: answer.values!.map((value) => value + 1) };
      },
    };
    expect(conformanceFaults(dearer)).toContain(
      'AIBrix at 1 and 1 requests/s in 1/100 GPU: expected 25, 25, found 26, 26',
    );
    expect(conformanceFaults(dearer)[0]).toMatch(/^Mélange's example, slice factor 1: expected 6.7 USD\/hour, found /);
  });

  const recorded = '../shared/conformance/aibrix.json';
  test.skipIf(!existsSync(recorded))(`the AIBrix cases are those of ${recorded}, which is skipped where absent`, () => {
    const { melange_solver_synthetic: synthetic } = JSON.parse(readFileSync(recorded, 'utf8')) as Recorded;
    const { profiles, cases } = synthetic;
    expect(aibrixTypes.map(({ gpuType }) => gpuType)).toEqual(Object.keys(profiles));
    for (const { gpuType, usdPerHour, tputs } of aibrixTypes) {
      expect(profiles[gpuType]).toEqual({ cost: usdPerHour, tputs: tputs.map((tput) => [tput]) });
    }
    const asRecorded = cases.map(({ cells, total_rps, gpu_fraction, result, real_cost_after_ceil }) => {
      const rps = [0, 0];
      for (const [[row], share] of cells) rps[row] = share * total_rps;
      return { rps, fraction: gpu_fraction, published: [result.A, result.B], usdPerHour: real_cost_after_ceil };
    });
    expect(aibrixCases).toEqual(asRecorded);
  });

  test('Mélange is never cheaper than the optimum, and comes nearer with more slices that nest', () => {
    let compared = 0;
    for (const { problem } of structuredInstances({ gpuTypes: 3, count: 40, seed: 5 })) {
      const peer = peerModelOf(problem.models[0]!);
      const served = peer.rps.every((_, b) =>
        peer.types.some(({ secondsPerRequest }) => secondsPerRequest[b]! < 1e300),
      );
      if (!served || peer.rps.length > 16) continue;
      compared++;
      const optimum = plan(problem).usdPerHour;
      const [whole, halves] = [1, 2].map(
        (sliceFactor) => melangePlan(peer, { sliceFactor, engine: highs, limits }).usdPerHour,
      );
      expect(halves).toBeGreaterThanOrEqual(optimum * (1 - 1e-6));
      expect(whole).toBeGreaterThanOrEqual(halves! * (1 - 1e-6));
    }
    expect(compared).toBeGreaterThan(5);
  });
});

type Recorded = {
  readonly melange_solver_synthetic: {
    readonly profiles: Readonly<Record<string, { readonly cost: number; readonly tputs: readonly number[][] }>>;
    readonly cases: readonly {
      readonly cells: readonly (readonly [readonly [number, number], number])[];
      readonly total_rps: number;
      readonly gpu_fraction: number;
      readonly result: { readonly A: number; readonly B: number };
      readonly real_cost_after_ceil: number;
    }[];
  };
};

describe('the greedy rule', () => {
  test('gives a model its cheapest type alone, in whole replicas', () => {
    const one = model('chat', { L4: [1, 1, 2.5], H100: [1, 7, 0.3] });
    expect(greedyPlan([one], pools({}), 'None')).toEqual({
      allocations: [{ type: 0, replicas: 3 }],
      usdPerHour: 3,
      unservedRps: 0,
    });
  });

  test('takes the next type where the pool does not hold the whole model', () => {
    const one = model('chat', { L4: [2, 1, 2.5], H100: [1, 7, 0.3] });
    expect(greedyPlan([one], pools({ L4: 5 }), 'None').allocations).toEqual([{ type: 1, replicas: 1 }]);
    expect(greedyPlan([one], pools({ L4: 6 }), 'None').allocations).toEqual([{ type: 0, replicas: 3 }]);
  });

  test('serves the model first whose next choice is so much dearer', () => {
    const small = model('small regret', { L4: [1, 1, 1], H100: [1, 2, 1] });
    const large = model('large regret', { L4: [1, 1, 1], H100: [1, 9, 1] });
    const { allocations, usdPerHour } = greedyPlan([small, large], pools({ L4: 1, H100: 1 }), 'None');
    expect(allocations).toEqual([
      { type: 1, replicas: 1 },
      { type: 0, replicas: 1 },
    ]);
    expect(usdPerHour).toBe(3);
  });

  test('a higher priority is served before any regret', () => {
    const urgent = model('urgent', { L4: [1, 1, 1], H100: [1, 2, 1] }, 5);
    const patient = model('patient', { L4: [1, 1, 1], H100: [1, 9, 1] }, 1);
    const { allocations } = greedyPlan([patient, urgent], pools({ L4: 1, H100: 1 }), 'None');
    expect(allocations.map((it) => it?.type)).toEqual([1, 0]);
  });

  test('a model that no pool holds whole gets nothing, or what is left of its first choice that has any', () => {
    const one = model('chat', { L4: [1, 1, 4], H100: [2, 7, 2] });
    const left = pools({ L4: 0, H100: 3 });
    expect(greedyPlan([one], left, 'None')).toEqual({ allocations: [null], usdPerHour: 0, unservedRps: 1 });
    const exhaustive = greedyPlan([one], left, 'PriorityExhaustive');
    expect(exhaustive.allocations).toEqual([{ type: 1, replicas: 1 }]);
    expect(exhaustive.unservedRps).toBeCloseTo(0.5, 6);
  });

  test('a type that cannot serve some requests is no candidate', () => {
    const one = model('chat', { L4: [1, 1, Number.POSITIVE_INFINITY], H100: [1, 7, 0.3] });
    expect(greedyPlan([one], pools({}), 'None').allocations).toEqual([{ type: 1, replicas: 1 }]);
  });

  test('does not change the pools it is given', () => {
    const given = pools({ L4: 3 });
    greedyPlan([model('chat', { L4: [1, 1, 2.5] })], given, 'None');
    expect(given.get('L4')).toBe(3);
  });
});

describe('programs as MPS files', () => {
  test('every column has a bound, whole ones stand between markers', () => {
    const text = toMps({
      rowLower: [1, Number.NEGATIVE_INFINITY, 2],
      rowUpper: [1, 5, Number.POSITIVE_INFINITY],
      columns: [
        { cost: 3, upper: Number.POSITIVE_INFINITY, whole: true, entries: [[1, -1]] },
        {
          cost: 0,
          upper: 1,
          whole: false,
          entries: [
            [0, 1],
            [2, 0.25],
          ],
        },
      ],
    });
    expect(text.split('\n').map((line) => line.trim().replace(/ +/g, ' '))).toEqual([
      'NAME gpumix',
      'ROWS',
      'N OBJ',
      'E R0',
      'L R1',
      'G R2',
      'COLUMNS',
      "MARKER 'MARKER' 'INTORG'",
      'X0 OBJ 3',
      'X0 R1 -1',
      "MARKER 'MARKER' 'INTEND'",
      'X1 R0 1',
      'X1 R2 0.25',
      'RHS',
      'RHS R0 1',
      'RHS R1 5',
      'RHS R2 2',
      'BOUNDS',
      'PL BND X0',
      'UP BND X1 1',
      'ENDATA',
      '',
    ]);
  });

  test('refuses a row with two different sides', () => {
    expect(() => toMps({ rowLower: [0], rowUpper: [1], columns: [] })).toThrow(
      'row 0: expected one finite side or two equal ones, found 0 to 1',
    );
  });
});

test('fleets are classed by the replicas of the optimum', () => {
  expect([1, 5, 6, 20, 21, 100, 101, 1e6].map(fleetClassOf)).toEqual([
    '1–5',
    '1–5',
    '6–20',
    '6–20',
    '21–100',
    '21–100',
    'over 100',
    'over 100',
  ]);
});

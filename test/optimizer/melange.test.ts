import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { InputError } from '../../src/core/input-error.js';
import { parseMelangeConfig, readMelangeConfig } from '../../src/optimizer/melange.js';
import { plan } from '../../src/optimizer/plan.js';

/** Two types, one bucket of each of four sizes; both types are exactly full in the answer. */
const knifeEdge = {
  gpu_info: {
    A10G: {
      cost: 1.01,
      tputs: [
        [2, 1],
        [5, 2],
      ],
    },
    'A100-80GB': {
      cost: 3.67,
      tputs: [
        [20, 20],
        [40, 20],
      ],
    },
  },
  workload_distribution: [
    [0.2, 0.1],
    [0.5, 0.2],
  ],
  total_request_rate: 30.0,
  slice_factor: 1,
};

const issuesOf = (config: unknown): readonly string[] => {
  try {
    readMelangeConfig(JSON.stringify(config), 'config.json');
  } catch (error) {
    if (error instanceof InputError) return error.issues.map(({ place, expected }) => `${place}: ${expected}`);
    throw error;
  }
  return [];
};

describe("Mélange's configuration", () => {
  test('its own example costs 4.68 USD/hour with continuous shares, proven', () => {
    const answer = plan(parseMelangeConfig(JSON.stringify(knifeEdge), 'config.json'));
    expect(answer.status).toBe('optimal');
    expect(answer.usdPerHour).toBeCloseTo(4.68, 9);
    expect(answer.boundUsdPerHour).toBeCloseTo(4.68, 9);
    expect(answer.deployments.map(({ id, targetReplicas }) => [id, targetReplicas])).toEqual([
      ['melange/A10G', 1],
      ['melange/A100-80GB', 1],
    ]);
  });

  test('rows are input sizes and columns output sizes, each cell a bucket of its own', () => {
    const { problem } = readMelangeConfig(JSON.stringify(knifeEdge), 'config.json');
    const model = problem.models[0]!;
    expect(model.demand).toEqual([
      { inputTokens: 25, outputTokens: 25, rps: 6 },
      { inputTokens: 25, outputTokens: 100, rps: 3 },
      { inputTokens: 100, outputTokens: 25, rps: 15 },
      { inputTokens: 100, outputTokens: 100, rps: 6 },
    ]);
    // A profile has outputs in its rows.
    expect(model.deployments[0]!.profile).toEqual({
      indexes: [
        [25, 100],
        [25, 100],
      ],
      tputs: [
        [2, 5],
        [1, 2],
      ],
    });
  });

  test('slice_factor is ignored, and says so', () => {
    const { slice_factor: _, ...withoutSlices } = knifeEdge;
    const codes = (config: unknown) => readMelangeConfig(JSON.stringify(config), 'c').notices.map(({ code }) => code);
    expect(codes(knifeEdge)).toEqual(['slice_factor_ignored']);
    expect(codes(withoutSlices)).toEqual([]);
    expect(readMelangeConfig(JSON.stringify({ ...knifeEdge, slice_factor: 8 }), 'c').problem).toEqual(
      readMelangeConfig(JSON.stringify(withoutSlices), 'c').problem,
    );
  });

  test('shares that do not sum to 1 are taken as they stand, and said', () => {
    const { problem, notices } = readMelangeConfig(
      JSON.stringify({
        ...knifeEdge,
        workload_distribution: [
          [1, 1],
          [1, 1],
        ],
      }),
      'c',
    );
    expect(problem.models[0]!.demand.map(({ rps }) => rps)).toEqual([30, 30, 30, 30]);
    expect(notices.map(({ code }) => code)).toContain('shares_do_not_sum_to_one');
  });

  test('a size that a type cannot serve is a throughput of 0', () => {
    const answer = plan(
      parseMelangeConfig(
        JSON.stringify({
          ...knifeEdge,
          gpu_info: {
            ...knifeEdge.gpu_info,
            A10G: {
              cost: 1.01,
              tputs: [
                [2, 0],
                [5, 0],
              ],
            },
          },
        }),
        'c',
      ),
    );
    const long = answer.shares.filter(({ outputTokens }) => outputTokens === 100);
    expect(long.flatMap(({ to }) => to.map(({ deployment }) => deployment))).toEqual([
      'melange/A100-80GB',
      'melange/A100-80GB',
    ]);
  });

  test('faults are named with their place', () => {
    const gpus = knifeEdge.gpu_info;
    expect(issuesOf({ ...knifeEdge, total_rate: 3 })).toEqual([
      'total_rate: one of gpu_info, workload_distribution, total_request_rate, slice_factor',
    ]);
    expect(issuesOf({ ...knifeEdge, workload_distribution: [[0.5, 0.2], [0.3]] })).toEqual([
      'workload_distribution[1]: 2 columns, as in the first row of workload_distribution (one per output size)',
    ]);
    expect(issuesOf({ ...knifeEdge, gpu_info: { ...gpus, L4: { cost: 1, tputs: [[1, 2]] } } })).toEqual([
      'gpu_info.L4.tputs: 2 rows, as in workload_distribution (one per input size)',
    ]);
    expect(
      issuesOf({
        ...knifeEdge,
        gpu_info: {
          ...gpus,
          'RTX 4090': {
            cost: 1,
            tputs: [
              [1, 2],
              [1, -2],
            ],
          },
        },
      }),
    ).toEqual(['gpu_info["RTX 4090"].tputs[1][1]: a number >= 0']);
    expect(
      issuesOf({
        ...knifeEdge,
        workload_distribution: [
          [0.5, null],
          [0, 0],
        ],
      }),
    ).toEqual(['workload_distribution[0][1]: a number']);
    expect(issuesOf({ ...knifeEdge, workload_distribution: [] })).toEqual([
      'workload_distribution: an array with >= 1 item',
    ]);
    expect(issuesOf({ ...knifeEdge, total_request_rate: -1 })).toEqual(['total_request_rate: a number >= 0']);
    expect(() => readMelangeConfig('{"total_request_rate": NaN}', 'config.json')).toThrow(/strict JSON/);
  });

  test('any well-formed configuration becomes a problem with one bucket per cell and its rate', () => {
    const finite = fc.oneof(fc.constant(0), fc.double({ min: 1e-9, max: 1000, noNaN: true }));
    const config = fc
      .tuple(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 9 }))
      .chain(([rows, columns]) => {
        const grid = fc.array(fc.array(finite, { minLength: columns, maxLength: columns }), {
          minLength: rows,
          maxLength: rows,
        });
        const name = fc.string({ minLength: 1, maxLength: 12 }).filter((it) => it !== '__proto__');
        return fc.record({
          gpu_info: fc.dictionary(name, fc.record({ cost: finite, tputs: grid }), { maxKeys: 4 }),
          workload_distribution: grid,
          total_request_rate: finite,
        });
      });
    fc.assert(
      fc.property(config, (document) => {
        const { problem } = readMelangeConfig(JSON.stringify(document), 'c');
        const { demand, deployments } = problem.models[0]!;
        const cells = document.workload_distribution.flat();
        expect(demand.map(({ rps }) => rps)).toEqual(cells.map((share) => share * document.total_request_rate));
        expect(new Set(demand.map((it) => `${it.inputTokens}:${it.outputTokens}`)).size).toBe(cells.length);
        expect(deployments.map(({ gpuType }) => gpuType).sort()).toEqual(Object.keys(document.gpu_info).sort());
        for (const { gpuType, profile } of deployments) {
          const transposed = profile!.indexes[1]!.map((_, i) => profile!.tputs.map((row) => row[i]!));
          expect(transposed).toEqual(document.gpu_info[gpuType]!.tputs);
        }
      }),
      { numRuns: 100 },
    );
  });

  test('arbitrary JSON either becomes a problem or is refused as input', () => {
    const fuzzed = fc.oneof(
      fc.json(),
      fc.string(),
      fc
        .record({
          gpu_info: fc.anything(),
          workload_distribution: fc.anything(),
          total_request_rate: fc.anything(),
          slice_factor: fc.anything(),
        })
        .map((value) => {
          try {
            return JSON.stringify(value);
          } catch {
            return 'not JSON';
          }
        }),
    );
    fc.assert(
      fc.property(fuzzed, (text) => {
        try {
          readMelangeConfig(text, 'config.json');
        } catch (error) {
          expect(error).toBeInstanceOf(InputError);
        }
      }),
      { numRuns: 300 },
    );
  });
});

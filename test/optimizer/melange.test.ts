import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/core/input-error.js';
import { parseMelangeConfig } from '../../src/optimizer/melange.js';
import { plan } from '../../src/optimizer/plan.js';

/** The example of Mélange's own documentation. */
const example = {
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
  total_request_rate: 30,
  slice_factor: 1,
};

function parse(config: unknown) {
  return parseMelangeConfig(JSON.stringify(config), 'config.json');
}

describe('a Mélange configuration', () => {
  it('has a row per input size and a column per output size; each cell is a bucket on a grid point', () => {
    const model = parse(example).models[0]!;
    expect(model.demand).toEqual([
      { inputTokens: 1, outputTokens: 1, rps: 6 },
      { inputTokens: 1, outputTokens: 2, rps: 3 },
      { inputTokens: 2, outputTokens: 1, rps: 15 },
      { inputTokens: 2, outputTokens: 2, rps: 6 },
    ]);
    // Rows of a profile are output sizes: T(input 2, output 1) = 5 is row 0, column 1.
    expect(model.deployments[0]!.profile).toEqual({
      indexes: [
        [1, 2],
        [1, 2],
      ],
      tputs: [
        [2, 5],
        [1, 2],
      ],
    });
  });

  it('plans the example at 4.68 USD/h, both GPUs exactly full', () => {
    const answer = plan(parse(example));
    expect(answer.status).toBe('optimal');
    expect(answer.usdPerHour).toBeCloseTo(4.68, 9);
    expect(answer.deployments.map(({ gpuType, replicas }) => [gpuType, replicas])).toEqual([
      ['A10G', 1],
      ['A100-80GB', 1],
    ]);
    // By hand: on the A100 alone the works are 0.3, 0.15, 0.375, 0.3 = 1.125; the A10G takes 5 of the 15 requests/s of
    // bucket (2, 1), which are all of its time and 0.125 of the A100's.
    for (const deployment of answer.deployments) expect(deployment.utilization).toBeCloseTo(1, 9);
  });

  it('reads a configuration without slice_factor alike', () => {
    const { slice_factor: _, ...rest } = example;
    expect(parse(rest)).toEqual(parse(example));
  });

  it.each([
    [{ ...example, total_request_rate: -1 }, 'total_request_rate: found -1, expected a number >= 0'],
    [
      {
        ...example,
        workload_distribution: [
          [0.2, 0.1],
          [0.5, 0.3],
        ],
      },
      'workload_distribution: found [[0.2,0.1],[0.5,0.3]], expected shares of total_request_rate, which sum to at most 1',
    ],
    [
      { ...example, gpu_info: { L4: { cost: 1, tputs: [[1e-12]] } } },
      'gpu_info.L4.tputs[0][0]: found 1e-12, expected 0 or a number >= 1e-9',
    ],
    [{ ...example, total_requests: 3 }, 'did you mean "total_request_rate"?'],
    [{ ...example, slice_factor: 1.5 }, 'slice_factor: found 1.5, expected a whole number'],
    [{ ...example, gpu_info: {} }, 'gpu_info: found an empty object, expected at least one GPU type'],
    [
      { ...example, gpu_info: { L4: { cost: 1, tputs: [[1, 2]] } } },
      'gpu_info.L4.tputs: found [[1,2]], expected 2 rows, as workload_distribution has',
    ],
    [
      { ...example, workload_distribution: [[0.2, 0.1], [0.5]] },
      'workload_distribution[1]: found [0.5], expected 2 columns, as the first row of workload_distribution has',
    ],
  ])('names what is wrong: %#', (config, message) => {
    expect(() => parse(config)).toThrow(message);
  });

  it('refuses any other JSON with an InputError, never another fault', () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        expect(() => parseMelangeConfig(text, 'x')).toThrow(InputError);
      }),
    );
  });

  it('gives every cell its own throughput, whatever the shape', () => {
    const rps = fc.double({ min: 1e-9, max: 100, noNaN: true });
    const cells = fc.tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 5 })).chain(([rows, columns]) => {
      const row = fc.array(fc.oneof(fc.constant(0), rps), { minLength: columns, maxLength: columns });
      return fc.array(row, { minLength: rows, maxLength: rows });
    });
    fc.assert(
      fc.property(cells, (tputs) => {
        // Demand in proportion to the throughputs, so that each bucket says which cell it came from.
        const shares = tputs.map((row) => row.map((cell) => cell / 2500));
        const config = { gpu_info: { g: { cost: 1, tputs } }, workload_distribution: shares, total_request_rate: 2500 };
        const { demand, deployments } = parse(config).models[0]!;
        const { indexes, tputs: grid } = deployments[0]!.profile!;
        for (const { inputTokens, outputTokens, rps } of demand) {
          const cell = grid[indexes[0]!.indexOf(outputTokens)]![indexes[1]!.indexOf(inputTokens)];
          expect(cell).toBeCloseTo(rps, 9);
        }
      }),
    );
  });
});

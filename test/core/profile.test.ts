import { existsSync, readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/core/input-error.js';
import { largestProfileText, parseProfile, profileDocument } from '../../src/core/profile.js';

const whole = {
  gpu: 'llama2-7b-a100',
  cost: 3.67,
  tputs: [
    [9, 4],
    [6, 3],
    [3, 1.5],
  ],
  indexes: [
    [64, 128, 256],
    [128, 512],
  ],
  created: 1732598726.2,
  e2e: [
    [1, 1],
    [1, 1],
    [1, 1],
  ],
  slos: { percentile: 99, e2e: 5 },
};

const source = 'profile of llama2-7b on default/llama2-7b-a100';
const parse = (overrides: Record<string, unknown> = {}) =>
  parseProfile(JSON.stringify({ ...whole, ...overrides }), source);

function faultOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof InputError) return error.message;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('a profile', () => {
  it('gives its grid: rows are output tokens, columns input tokens', () => {
    expect(parse()).toEqual({
      gpu: 'llama2-7b-a100',
      cost: 3.67,
      grid: { indexes: whole.indexes, tputs: whole.tputs },
      created: 1732598726.2,
      slos: { percentile: 99, e2e: 5 },
      e2e: whole.e2e,
    });
  });

  it('with whole-number throughputs keeps them as they are', () => {
    const { grid } = parse({
      tputs: [
        [3, 2],
        [5, 2],
        [1, 1],
      ],
    });
    expect(grid.tputs).toEqual([
      [3, 2],
      [5, 2],
      [1, 1],
    ]);
  });

  it('of an older shape, without SLOs, latencies or date, is a profile', () => {
    const { gpu, tputs, indexes } = whole;
    expect(parseProfile(JSON.stringify({ gpu, tputs, indexes }), source)).toEqual({
      gpu,
      cost: null,
      grid: { indexes, tputs },
      created: null,
      slos: {},
    });
  });

  it('may say null for what it does not state, and for cells that were not profiled', () => {
    const profile = parse({
      cost: null,
      created: null,
      slos: null,
      tputs: [
        [9, null],
        [6, 3],
        [3, 0],
      ],
    });
    expect(profile).toMatchObject({
      cost: null,
      created: null,
      slos: {},
      grid: {
        tputs: [
          [9, null],
          [6, 3],
          [3, 0],
        ],
      },
    });
    expect(parse({ slos: { ttft: null, tpot: 0.1 } }).slos).toEqual({ tpot: 0.1 });
  });

  it('may carry keys that are not ours, whatever they hold', () => {
    expect(parse({ gpus_per_replica: 'x', ttft: 'broken', __v: [NaN] })).toEqual(parse());
    const polluting = JSON.stringify(whole).replace('{', '{"__proto__":{"cost":1},"constructor":1,');
    expect(parseProfile(polluting, source)).toEqual(parse());
  });

  it('of one cell is a profile', () => {
    expect(parse({ indexes: [[128], [512]], tputs: [[3]] }).grid.tputs).toEqual([[3]]);
  });
});

describe('what a profile says beyond its throughputs', () => {
  const ours = {
    model: 'llama2-7b',
    gpuType: 'A100',
    gpusPerReplica: 2,
    ttft: [
      [0.1, 0.2],
      [0.1, null],
      [0.1, 0.2],
    ],
    cells: [
      ['measured', 'measured'],
      ['measured', 'interpolated'],
      ['measured', 'measured'],
    ],
    provenance: { method: 'simulated', by: 'a test', at: '2026-11-21T06:00:00Z', details: 'none', relativeError: null },
  };

  it('is read: model, GPUs, latencies, the origin of each cell and of the whole', () => {
    const profile = parse(ours);
    expect(profile).toMatchObject(ours);
    expect(profile.grid.method).toBe('simulated');
  });

  it.each([
    ['of another shape', { ttft: [[1]], cells: [['measured']] }],
    [
      'of unknown words',
      { cells: ours.cells.map((row) => row.map(() => 'guessed')), provenance: { method: 'dreamt' } },
    ],
    ['that is no number of GPUs', { gpusPerReplica: 0.5, gpuType: 7, model: null }],
    ['negative', { tpot: whole.e2e.map((row) => row.map((value) => -value)) }],
  ])('is ignored where it is %s: no plan needs it', (_, overrides) => {
    expect(parse(overrides)).toEqual(parse());
  });

  it('tells a cell that was not profiled from one that cannot meet the SLO', () => {
    const { grid } = parse({
      tputs: [
        [9, 0],
        [6, 0],
        [3, 1],
      ],
      cells: [
        ['measured', null],
        ['measured', 'measured'],
        ['measured', 'measured'],
      ],
    });
    expect(grid.tputs).toEqual([
      [9, null],
      [6, 0],
      [3, 1],
    ]);
  });

  it('survives being written and read again, and is written in strict JSON of numbers', () => {
    const profile = parse({
      ...ours,
      tputs: [
        [9, 4],
        [6, null],
        [3, 0],
      ],
      cells: undefined,
    });
    const text = JSON.stringify(profileDocument(profile));
    const document = JSON.parse(text);
    expect(document.tputs.flat().every(Number.isFinite)).toBe(true);
    const { cells, ...again } = parseProfile(text, source);
    expect(again).toEqual(profile);
    expect(cells![1]).toEqual(['simulated', null]);
    // AIBrix's own keys come first and are all there.
    expect(Object.keys(document).slice(0, 8)).toEqual([
      'gpu',
      'cost',
      'tputs',
      'indexes',
      'created',
      'e2e',
      'ttft',
      'slos',
    ]);
  });

  it.each([
    [
      'a throughput without a latency',
      { e2e: whole.e2e.map(() => [0, 1]) },
      'e2e[0][0] is 0, where the throughput is 9',
    ],
    ['a latency that is not finite', { tpot: whole.e2e.map(() => [Number.NaN, 1]) }, 'tpot holds a number'],
    ['a matrix of another shape', { ttft: [[1]] }, 'ttft is no matrix of 3 × 2'],
  ])('is not written with %s', (_, change, message) => {
    expect(() => profileDocument({ ...parse(), ...change })).toThrow(new RegExp(message.replace(/[[\]]/g, '\\$&')));
  });
});

describe('a bad profile is refused with its place:', () => {
  it.each([
    [
      'a row too short',
      { tputs: [[9, 4], [6], [3, 1]] },
      'tputs[1]: found [6], expected 2 columns, one for each input',
    ],
    [
      'a row too many',
      {
        tputs: [
          [9, 4],
          [6, 3],
          [3, 1],
          [1, 1],
        ],
      },
      'expected 3 rows, one for each output token count',
    ],
    [
      'rows and columns swapped',
      {
        tputs: [
          [9, 6, 3],
          [4, 3, 1],
        ],
      },
      'tputs: found [[9,6,3],[4,3,1]], expected 3 rows',
    ],
    ['no rows', { tputs: [] }, 'tputs: found [], expected an array with >= 1 item'],
    ['an empty axis', { indexes: [[64, 128, 256], []] }, 'indexes[1]: found [], expected an array with >= 1 item'],
    ['one axis', { indexes: [[64, 128, 256]] }, 'expected two axes: [output tokens …] and [input tokens …]'],
    ['three axes', { indexes: [[1], [2], [3]] }, 'expected two axes: [output tokens …] and [input tokens …]'],
    ['no indexes', { indexes: undefined }, 'indexes: found nothing, expected two axes'],
    ['no throughputs', { tputs: undefined }, 'tputs: found nothing, expected an array'],
    [
      'an axis that falls',
      {
        indexes: [
          [64, 256, 128],
          [128, 512],
        ],
      },
      'indexes[0][2]: found 128, expected more than the 256',
    ],
    [
      'an axis that repeats',
      {
        indexes: [
          [64, 128, 256],
          [128, 128],
        ],
      },
      'indexes[1][1]: found 128, expected more than',
    ],
    [
      'a negative axis',
      {
        indexes: [
          [-1, 128, 256],
          [128, 512],
        ],
      },
      'indexes[0][0]: found -1, expected a number >= 0',
    ],
    [
      'a negative cell',
      {
        tputs: [
          [9, 4],
          [6, -3],
          [3, 1],
        ],
      },
      'tputs[1][1]: found -3, expected a number >= 0',
    ],
    [
      'a text in a cell',
      {
        tputs: [
          [9, 4],
          [6, 'fast'],
          [3, 1],
        ],
      },
      'tputs[1][1]: found "fast", expected a number',
    ],
    [
      'a cell whose inverse overflows',
      {
        tputs: [
          [9, 4],
          [6, 1e-300],
          [3, 1],
        ],
      },
      'tputs[1][1]: found 1e-300, expected 0 or',
    ],
    [
      'an absurd cell',
      {
        tputs: [
          [1e30, 4],
          [6, 3],
          [3, 1],
        ],
      },
      'tputs[0][0]: found 1e+30, expected a number <= 1000000000',
    ],
    [
      'only cells not profiled',
      {
        tputs: [
          [null, null],
          [null, null],
          [null, null],
        ],
      },
      'at least one cell that is not null',
    ],
    ['a negative cost', { cost: -1 }, 'cost: found -1, expected a number >= 0'],
    ['a cost as text', { cost: '3.67' }, 'cost: found "3.67", expected a number'],
    ['a date as text', { created: 'today' }, 'created: found "today", expected a number'],
    ['an SLO as text', { slos: { ttft: 'fast' } }, 'slos.ttft: found "fast", expected a number'],
    ['SLOs as a list', { slos: [1] }, 'slos: found [1], expected an object'],
    ['a GPU that is no name', { gpu: 7 }, 'gpu: found 7, expected a text'],
  ])('%s', (_, overrides, message) => {
    const fault = faultOf(() => parse(overrides));
    expect(fault).toContain(message);
    expect(fault.startsWith(`${source}: `)).toBe(true);
  });

  it.each([
    ['NaN', '{"tputs":[[NaN]]}', 'line 1, column 12: found "NaN", expected a number: strict JSON has no such one'],
    [
      'an infinite cell',
      '{"indexes":[[1],[1]],"tputs":[[1e999]]}',
      'tputs[0][0]: found Infinity, expected a finite number',
    ],
    ['an array', '[]', 'found [], expected an object'],
    ['null', 'null', 'found null, expected an object'],
    ['nothing', '', 'found an empty text'],
  ])('%s', (_, text, message) => {
    expect(faultOf(() => parseProfile(text, source))).toContain(message);
  });

  it('a text of 2 MB', () => {
    const text = JSON.stringify({ ...whole, filler: 'x'.repeat(2_000_000) });
    expect(faultOf(() => parseProfile(text, source))).toBe(
      `${source}: found ${text.length} characters, expected at most ${largestProfileText} characters`,
    );
  });

  it('every fault at once, so that one reading mends them all', () => {
    const fault = faultOf(() =>
      parse({
        cost: -1,
        tputs: [
          [9, 4],
          [6, -3],
          [3, 'x'],
        ],
      }),
    );
    expect(fault.split('\n')).toHaveLength(3);
  });
});

describe('the parser of profiles', () => {
  const seldom = <T>(usual: fc.Arbitrary<T>, odd: fc.Arbitrary<unknown>) =>
    fc.oneof({ weight: 40, arbitrary: usual as fc.Arbitrary<unknown> }, { weight: 1, arbitrary: odd });
  const axis = (length: number) =>
    seldom(
      fc.uniqueArray(fc.integer({ min: 0, max: 9000 }), { minLength: length, maxLength: length }).map(sorted),
      fc.array(fc.integer({ min: -1, max: 5 })),
    );
  const cell = seldom(
    fc.oneof(fc.double({ min: 1e-9, max: 100, noNaN: true }), fc.constantFrom(null, 0)),
    fc.constantFrom<unknown>(-1, 'x', 1e-300, 1e300, [], {}),
  );
  const grid = fc
    .tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 4 }))
    .chain(([rows, columns]) =>
      fc.record(
        {
          gpu: seldom(fc.string(), fc.jsonValue()),
          cost: seldom(fc.double({ min: 0, max: 10, noNaN: true }), fc.jsonValue()),
          created: seldom(fc.double({ noNaN: true, noDefaultInfinity: true }), fc.jsonValue()),
          slos: seldom(fc.dictionary(fc.string(), fc.integer()), fc.jsonValue()),
          indexes: fc.tuple(axis(rows), axis(columns)),
          tputs: fc.array(seldom(fc.array(cell, { minLength: columns, maxLength: columns }), fc.array(cell)), {
            minLength: rows,
            maxLength: rows,
          }),
        },
        { requiredKeys: ['indexes', 'tputs'] },
      ),
    )
    .map((document) => JSON.stringify(document));

  it('throws nothing but InputError, and gives only rectangular, ascending, finite grids', () => {
    let accepted = 0;
    fc.assert(
      fc.property(fc.oneof({ weight: 4, arbitrary: grid }, fc.json(), fc.string()), (text) => {
        let profile: ReturnType<typeof parseProfile>;
        try {
          profile = parseProfile(text, 'profile');
        } catch (error) {
          expect(error).toBeInstanceOf(InputError);
          return;
        }
        accepted += 1;
        const [outputs, inputs] = profile.grid.indexes;
        expect(profile.grid.tputs.map((row) => row.length)).toEqual(outputs!.map(() => inputs!.length));
        for (const axis of [outputs!, inputs!]) {
          expect(axis.length).toBeGreaterThan(0);
          expect(axis).toEqual(sorted([...axis]));
          expect(new Set(axis).size).toBe(axis.length);
        }
        for (const throughput of profile.grid.tputs.flat()) {
          expect(throughput === null || throughput === 0 || Number.isFinite(1 / throughput)).toBe(true);
        }
      }),
      { numRuns: 3000 },
    );
    expect(accepted).toBeGreaterThan(500);
  });
});

function sorted(values: readonly number[]): number[] {
  return [...values].sort((a, b) => a - b);
}

const shipped = '../shared/data/aibrix';

describe.skipIf(!existsSync(shipped))('profiles of the gateway project (skipped where ../shared is absent)', () => {
  const files = () => readdirSync(shipped).filter((file) => file.endsWith('.json'));

  it('parse, the older shape without SLOs too', () => {
    expect(files()).toHaveLength(2);
    for (const file of files()) {
      const profile = parseProfile(readFileSync(`${shipped}/${file}`, 'utf8'), file);
      expect(profile.gpu).toBe(file.replace('.json', ''));
      expect(profile.grid.indexes).toEqual([
        [4, 8, 16, 32, 64, 128, 256, 512],
        [128, 256, 512, 1024, 2048],
      ]);
      expect(profile.grid.tputs).toHaveLength(8);
    }
  });
});

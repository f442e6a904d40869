import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/core/input-error.js';
import {
  largestProblemText,
  type PlanningProblemInput,
  parsePlanningProblem,
} from '../../src/core/planning-problem.js';

type Deployment = PlanningProblemInput['models'][number]['deployments'][number];

const deployment = (overrides: Record<string, unknown> = {}): Deployment => ({
  id: 'default/llama-a100',
  gpuType: 'A100',
  usdPerReplicaHour: 3.67,
  profile: {
    indexes: [
      [64, 128, 256],
      [128, 512],
    ],
    tputs: [
      [9, 4],
      [6, 3],
      [3, 1.5],
    ],
  },
  ...overrides,
});

const problem = (overrides: Record<string, unknown> = {}, model: Record<string, unknown> = {}) => ({
  apiVersion: 'gpumix/v1',
  kind: 'PlanningProblem',
  models: [
    {
      name: 'llama',
      demand: [{ inputTokens: 512, outputTokens: 128, rps: 3.2 }],
      deployments: [deployment()],
      ...model,
    },
  ],
  ...overrides,
});

const parse = (document: unknown) => parsePlanningProblem(JSON.stringify(document), 'problem.json');

function faultOf(action: () => unknown): InputError {
  try {
    action();
  } catch (error) {
    if (error instanceof InputError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('a PlanningProblem', () => {
  it('gets every default of the contract', () => {
    expect(parse(problem())).toEqual({
      apiVersion: 'gpumix/v1',
      kind: 'PlanningProblem',
      models: [
        {
          name: 'llama',
          priority: 0,
          unservedUsdPerRequest: 1000,
          minServedShare: 0,
          demand: [{ inputTokens: 512, outputTokens: 128, rps: 3.2 }],
          deployments: [
            {
              ...deployment(),
              gpusPerReplica: 1,
              minReplicas: 0,
              idleMinReplicas: 0,
              maxReplicas: 1000,
              currentReplicas: null,
              readyReplicas: null,
              pendingReplicas: null,
              fixedReplicas: null,
              startupSeconds: null,
              targetUtilization: 1,
              poolingFactor: 1,
              maxTokens: null,
            },
          ],
          previousShares: [],
        },
      ],
      pools: [],
      quotas: [],
      budgetUsdPerHour: null,
      options: {
        routing: 'free',
        startUsdPerReplica: 0,
        stopUsdPerReplica: 0,
        horizonHours: 1,
        maxBuckets: 256,
        timeLimitMs: 1000,
        nodeLimit: null,
        relativeGap: 0,
      },
    });
  });

  it('keeps everything that it states, and parses to itself once more', () => {
    const full = problem(
      {
        at: '2026-11-20T10:00:00Z',
        pools: [
          { gpuType: 'A100', gpus: 16 },
          { gpuType: 'L4', gpus: null },
        ],
        quotas: [{ namespace: 'team-a', gpuType: 'A100', gpus: 4 }],
        budgetUsdPerHour: 40,
        options: { routing: 'proportional', nodeLimit: 100, relativeGap: 0.01, maxBuckets: 64 },
      },
      {
        priority: -1,
        minServedShare: 0.5,
        deployments: [
          deployment({ fixedReplicas: 2, maxTokens: 32768, targetUtilization: 0.9 }),
          deployment({ id: 'default/llama-l4', profile: null }),
        ],
        previousShares: [{ inputTokens: 512, outputTokens: 128, to: [{ deployment: 'default/llama-a100', share: 1 }] }],
      },
    );
    const parsed = parse(full);
    expect(parsed).toMatchObject(full);
    expect(parse(parsed)).toEqual(parsed);
  });

  it('may have no models, no demand and no deployments', () => {
    expect(parse(problem({ models: [] })).models).toEqual([]);
    expect(parse(problem({}, { demand: [], deployments: [] })).models).toHaveLength(1);
  });

  it.each([
    [
      'rps below 0',
      problem({}, { demand: [{ inputTokens: 1, outputTokens: 1, rps: -1 }] }),
      'models[0].demand[0].rps: found -1, expected a number >= 0',
    ],
    [
      'rps as text',
      problem({}, { demand: [{ inputTokens: 1, outputTokens: 1, rps: '3' }] }),
      'models[0].demand[0].rps: found "3", expected a number',
    ],
    [
      'no rps',
      problem({}, { demand: [{ inputTokens: 1, outputTokens: 1 }] }),
      'models[0].demand[0].rps: found nothing, expected a number',
    ],
    [
      'an absurd rate',
      problem({}, { demand: [{ inputTokens: 1, outputTokens: 1, rps: 1e300 }] }),
      'models[0].demand[0].rps: found 1e+300, expected a number <= 1000000000',
    ],
    [
      'a misspelt key',
      problem({}, { demand: [{ inputToken: 1, inputTokens: 1, outputTokens: 1, rps: 1 }] }),
      'models[0].demand[0].inputToken: found an unknown key, expected one of inputTokens, outputTokens, rps; did you mean "inputTokens"?',
    ],
    ['a misspelt option', problem({ options: { timelimitMs: 3 } }), 'options.timelimitMs: found an unknown key'],
    [
      'an unknown routing',
      problem({ options: { routing: 'fre' } }),
      'options.routing: found "fre", expected one of free, proportional; did you mean "free"?',
    ],
    [
      'half a replica',
      problem({}, { deployments: [deployment({ minReplicas: 1.5 })] }),
      'models[0].deployments[0].minReplicas: found 1.5, expected a whole number',
    ],
    [
      'a floor above its ceiling',
      problem({}, { deployments: [deployment({ minReplicas: 5, maxReplicas: 3 })] }),
      'models[0].deployments[0].minReplicas: found 5, expected at most maxReplicas',
    ],
    [
      'a ragged profile',
      problem({}, { deployments: [deployment({ profile: { indexes: [[1, 2], [1]], tputs: [[1], [1, 2]] } })] }),
      'models[0].deployments[0].profile.tputs[1]: found [1,2], expected 1 column, one for',
    ],
    [
      'an unknown key in a profile',
      problem({}, { deployments: [deployment({ profile: { indexes: [[1], [1]], tputs: [[1]], tput: 1 } })] }),
      'models[0].deployments[0].profile.tput: found an unknown key, expected one of indexes, tputs, method; did you mean "tputs"?',
    ],
    [
      'no profile key',
      problem({}, { deployments: [deployment({ profile: undefined })] }),
      'models[0].deployments[0].profile: found nothing',
    ],
    [
      'two deployments of one id',
      problem({}, { deployments: [deployment(), deployment()] }),
      'models[0].deployments[1].id: found "default/llama-a100", expected an id that no other entry has',
    ],
    [
      'two models of one name',
      problem({ models: [...problem().models, { ...problem().models[0], deployments: [] }] }),
      'models[1].name: found "llama", expected a name that no other entry has',
    ],
    [
      'one deployment in two models',
      problem({ models: [...problem().models, { ...problem().models[0], name: 'other' }] }),
      'models[1].deployments[0].id: found "default/llama-a100", expected an id of its own (model "llama" has it too)',
    ],
    ['another kind', problem({ kind: 'Plan' }), 'kind: found "Plan", expected "PlanningProblem"'],
    ['another version', problem({ apiVersion: 'gpumix/v2' }), 'apiVersion: found "gpumix/v2", expected "gpumix/v1"'],
    ['a moment that is none', problem({ at: 'now' }), 'at: found "now", expected a date and time as ISO 8601'],
    ['models as an object', problem({ models: {} }), 'models: found {}, expected an array'],
    ['a list', [], 'found [], expected an object'],
  ])('with %s is refused, and the place is named', (_, document, message) => {
    expect(faultOf(() => parse(document)).message).toContain(`problem.json: ${message}`);
  });

  it('accepts the strangest names that can be written, and quotes them on one line where they are at fault', () => {
    for (const name of ['meta/llama:3', '*', 'a\nb', '__proto__', 'constructor', '💥', 'x'.repeat(4096)]) {
      const named = problem({}, { name, deployments: [deployment({ id: `ns/${name.slice(0, 4000)}` })] });
      expect(parse(named).models[0]!.name).toBe(name);
      const twice = { ...named, models: [named.models[0], { ...named.models[0], deployments: [] }] };
      const { message } = faultOf(() => parse(twice));
      expect(message).not.toContain('\n');
      expect(message.length).toBeLessThan(300);
    }
    expect(faultOf(() => parse(problem({}, { name: 'x'.repeat(10_000) }))).message).toContain('<= 4096 characters');
  });

  it('is refused beyond a length that would hold the process', () => {
    const text = ' '.repeat(largestProblemText + 1);
    expect(faultOf(() => parsePlanningProblem(text, 'stdin')).message).toBe(
      `stdin: found ${text.length} characters, expected at most ${largestProblemText} characters`,
    );
  });

  it('of 100,000 buckets is read whole', () => {
    const demand = Array.from({ length: 100_000 }, (_, i) => ({ inputTokens: i, outputTokens: 7, rps: 0.001 }));
    expect(parse(problem({}, { demand })).models[0]!.demand).toHaveLength(100_000);
    const bad = demand.map((part, i) => (i === 99_999 ? { ...part, rps: null } : part));
    expect(faultOf(() => parse(problem({}, { demand: bad }))).message).toContain(
      'models[0].demand[99999].rps: found null, expected a number',
    );
  });
});

describe('the parser of problems', () => {
  /** Paths into a valid document, each replaced by junk in turn. */
  const places = (value: unknown, path: readonly (string | number)[] = []): (readonly (string | number)[])[] => {
    if (value === null || typeof value !== 'object') return [path];
    return [path, ...Object.entries(value).flatMap(([key, item]) => places(item, [...path, key]))];
  };
  const replaced = (value: unknown, path: readonly (string | number)[], junk: unknown): unknown => {
    const [head, ...rest] = path;
    if (head === undefined) return junk;
    // An array is its items: another key of it is not written to JSON.
    if (Array.isArray(value) && typeof head === 'string' && !/^\d{1,3}$/.test(head)) return value;
    const copy = structuredClone(value) as Record<string, unknown>;
    copy[head] = replaced(copy[head], rest, junk);
    return copy;
  };

  it('throws nothing but InputError, whatever stands in whichever place', () => {
    const valid = problem({ pools: [{ gpuType: 'A100', gpus: 16 }], options: { routing: 'free' } });
    const all = places(valid);
    expect(all.length).toBeGreaterThan(25);
    const junk = fc.oneof(
      fc.jsonValue(),
      fc.double(),
      fc.constantFrom(null, '', [], {}, -1, 1e308, 'x'.repeat(10_000)),
    );
    fc.assert(
      fc.property(fc.nat(all.length - 1), junk, fc.string(), (at, value, key) => {
        for (const document of [
          replaced(valid, all[at]!, value),
          replaced(valid, [...all[at]!.slice(0, -1), key], value),
        ]) {
          try {
            const parsed = parse(document);
            expect(parsed.kind).toBe('PlanningProblem');
          } catch (error) {
            expect(error).toBeInstanceOf(InputError);
            const { message, issues } = error as InputError;
            expect(message.startsWith('problem.json: ')).toBe(true);
            expect(issues.length).toBeGreaterThan(0);
            for (const line of message.split('\n')) expect(line.length).toBeLessThan(700);
          }
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('throws nothing but InputError for any text', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        expect(faultOf(() => parsePlanningProblem(text, 'stdin')).issues.length).toBeGreaterThan(0);
      }),
    );
  });
});

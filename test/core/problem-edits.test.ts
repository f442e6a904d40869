import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { editOperators, type ProblemEdit, parseSetEdit } from '../../src/core/edit-syntax.js';
import { InputError } from '../../src/core/input-error.js';
import { type PlanningProblemInput, planningProblemSchema } from '../../src/core/planning-problem.js';
import { applyEdits } from '../../src/core/problem-edits.js';

const profile = { indexes: [[128], [512, 1024]], tputs: [[4, null]] } satisfies {
  indexes: [number[], number[]];
  tputs: (number | null)[][];
};

function problem(over: Partial<PlanningProblemInput> = {}) {
  return planningProblemSchema.parse({
    apiVersion: 'gpumix/v1',
    kind: 'PlanningProblem',
    models: [
      {
        name: 'chat',
        demand: [
          { inputTokens: 512, outputTokens: 128, rps: 6 },
          { inputTokens: 1024, outputTokens: 128, rps: 2 },
        ],
        deployments: [
          { id: 'prod/chat-h100', gpuType: 'H100', usdPerReplicaHour: 6.88, currentReplicas: 2, profile },
          { id: 'prod/chat-l4', gpuType: 'L4', usdPerReplicaHour: 0.8, maxReplicas: 3, profile },
        ],
      },
      {
        name: 'llama-3.1-8b',
        demand: [{ inputTokens: 512, outputTokens: 128, rps: 1 }],
        deployments: [{ id: 'lab/llama-3.1-8b-l4', gpuType: 'L4', usdPerReplicaHour: 0.8, profile }],
      },
    ],
    pools: [{ gpuType: 'H100', gpus: 4 }],
    quotas: [{ namespace: 'lab', gpuType: 'L4', gpus: 2 }],
    ...over,
  });
}

function edited(...texts: readonly string[]) {
  return applyEdits(problem(), texts.map(parseSetEdit), 'p.json');
}

/** What is refused, in one line. */
function fault(...texts: readonly string[]): string {
  return faultOf(() => edited(...texts));
}

function faultOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof InputError) return error.message;
    throw error;
  }
  throw new Error('nothing was refused');
}

const deploymentOf = (result: ReturnType<typeof edited>, id: string) =>
  result.models.flatMap((model) => model.deployments).find((item) => item.id === id)!;

describe('an edited problem', () => {
  it('is the problem itself without edits, and leaves the problem as it was', () => {
    const given = problem();
    const before = structuredClone(given);
    expect(applyEdits(given, [], 'p.json')).toBe(given);
    applyEdits(given, [parseSetEdit('models.*.rps*=3'), { kind: 'without', gpuType: 'L4' }], 'p.json');
    expect(given).toEqual(before);
  });

  it('has the pools that were set, added or made unlimited', () => {
    expect(edited('pools.H100=8').pools).toEqual([{ gpuType: 'H100', gpus: 8 }]);
    expect(edited('pools.H100+=2', 'pools.H100*=2').pools).toEqual([{ gpuType: 'H100', gpus: 12 }]);
    expect(edited('pools.H100.gpus=null').pools).toEqual([{ gpuType: 'H100', gpus: null }]);
    expect(edited('pools.L4=6').pools).toEqual([
      { gpuType: 'H100', gpus: 4 },
      { gpuType: 'L4', gpus: 6 },
    ]);
    expect(edited('pools.*-=1').pools).toEqual([{ gpuType: 'H100', gpus: 3 }]);
  });

  it('has the quotas that were set, added or taken away', () => {
    expect(edited('quotas.lab.L4=5').quotas).toEqual([{ namespace: 'lab', gpuType: 'L4', gpus: 5 }]);
    expect(edited('quotas.prod.H100.gpus=1').quotas[1]).toEqual({ namespace: 'prod', gpuType: 'H100', gpus: 1 });
    expect(edited('quotas.lab.*=null').quotas).toEqual([]);
    expect(edited('quotas.prod.H100=null').quotas).toEqual(problem().quotas);
  });

  it('has the budget, and none again', () => {
    expect(edited('budgetUsdPerHour=40').budgetUsdPerHour).toBe(40);
    expect(edited('budgetUsdPerHour=40', 'budgetUsdPerHour*=0.5').budgetUsdPerHour).toBe(20);
    expect(edited('budgetUsdPerHour=40', 'budgetUsdPerHour=null').budgetUsdPerHour).toBeNull();
  });

  it('keeps the shape of demand and changes its total', () => {
    const rates = (text: string): readonly number[] => edited(text).models[0]!.demand.map((bucket) => bucket.rps);
    expect(rates('models.chat.rps*=1.5')).toEqual([9, 3]);
    expect(rates('models.chat.rps=4')).toEqual([3, 1]);
    expect(rates('models.chat.rps+=8')).toEqual([12, 4]);
    expect(rates('models.*.rps-=1')).toEqual([5.25, 1.75]);
    expect(rates('models.chat.rps=0')).toEqual([0, 0]);
    expect(edited('models.llama-3.1-8b.rps=0', 'models.llama-3.1-8b.rps=7').models[1]!.demand[0]!.rps).toBe(7);
  });

  it('finds names with dots, in quotes or not', () => {
    expect(edited('models.llama-3.1-8b.priority=5').models[1]!.priority).toBe(5);
    expect(edited('models."llama-3.1-8b".priority=5').models[1]!.priority).toBe(5);
    const result = edited('deployments.lab/llama-3.1-8b-l4.minReplicas=2');
    expect(deploymentOf(result, 'lab/llama-3.1-8b-l4').minReplicas).toBe(2);
  });

  it('has longer requests where lengths are multiplied', () => {
    const [chat, llama] = edited('models.*.inputTokens*=2', 'models.chat.outputTokens*=0.5').models;
    expect(chat!.demand.map(({ inputTokens, outputTokens }) => [inputTokens, outputTokens])).toEqual([
      [1024, 64],
      [2048, 64],
    ]);
    expect(llama!.demand[0]).toMatchObject({ inputTokens: 1024, outputTokens: 128 });
  });

  it('has new numbers on one deployment, on all of a GPU type, on all', () => {
    const one = edited('deployments.prod/chat-l4.maxReplicas=8');
    expect(deploymentOf(one, 'prod/chat-l4').maxReplicas).toBe(8);
    expect(deploymentOf(one, 'lab/llama-3.1-8b-l4').maxReplicas).toBe(1000);
    const type = edited('gpuTypes.L4.usdPerReplicaHour*=0.5');
    expect(type.models.flatMap((model) => model.deployments.map((item) => item.usdPerReplicaHour))).toEqual([
      6.88, 0.4, 0.4,
    ]);
    const all = edited('deployments.*.throughput*=1.5');
    for (const model of all.models) {
      for (const item of model.deployments) expect(item.profile!.tputs).toEqual([[6, null]]);
    }
  });

  it('has options of the right kind', () => {
    expect(edited('options.routing=proportional').options.routing).toBe('proportional');
    expect(edited('options.startUsdPerReplica=2', 'options.startUsdPerReplica+=1').options.startUsdPerReplica).toBe(3);
    // A deployment without a price of its own counts from that of the options.
    const one = edited('options.startUsdPerReplica=2', 'deployments.prod/chat-l4.startUsdPerReplica*=2');
    expect(deploymentOf(one, 'prod/chat-l4').startUsdPerReplica).toBe(4);
    expect(deploymentOf(one, 'lab/llama-3.1-8b-l4').startUsdPerReplica).toBeUndefined();
  });

  it('loses all that is of a GPU type', () => {
    const result = applyEdits(problem(), [{ kind: 'without', gpuType: 'L4' }], 'p.json');
    expect(result.models.map((model) => model.deployments.map((item) => item.id))).toEqual([['prod/chat-h100'], []]);
    expect(result.quotas).toEqual([]);
    expect(result.pools).toEqual([{ gpuType: 'H100', gpus: 4 }]);
  });

  it.each([
    ['modles.chat.rps*=2', 'found "modles", expected one of models, ', 'did you mean "models"?'],
    ['models.caht.rps*=2', 'models: found "caht", expected one of chat, llama-3.1-8b', 'did you mean "chat"?'],
    ['models.chat.rsp*=2', 'models.chat: found "rsp", expected one of rps, ', 'did you mean "rps"?'],
    ['models.*=2', 'found "models.*", expected models.NAME.KEY'],
    ['models.chat=2', 'found "models.chat", expected models.NAME.KEY'],
    ['models."*".rps*=2', 'models: found "*", expected one of chat'],
    ['models."chat".x.rps*=2', 'expected models.NAME.KEY, with one name, quoted as a whole or not at all'],
    ['models.chat.rps*=-1', 'models.chat.rps: found -8 (8 * -1), expected a number >= 0'],
    ['models.chat.rps=many', 'models.chat.rps: found "many", expected a number'],
    ['models.chat.minServedShare=2', 'models.chat.minServedShare: found 2, expected a number <= 1'],
    ['models.chat.inputTokens=5', 'models.chat.inputTokens: found =, expected *='],
    ['models.chat.rps*=1e12', 'models.chat.rps: found 6000000000000, expected a number <= 1000000000'],
    ['deployments.prod/chat-l40.maxReplicas=1', 'did you mean "prod/chat-l4"?'],
    [
      'deployments.prod/chat-l4.maxReplicas*=1.5',
      'deployments.prod/chat-l4.maxReplicas: found 4.5 (3 * 1.5), expected a whole number',
    ],
    ['deployments.*.currentReplicas+=1', 'deployments.prod/chat-l4.currentReplicas: found null', 'or = to set it'],
    ['deployments.prod/chat-l4.gpuType=H100', 'found "gpuType", expected one of usdPerReplicaHour, '],
    ['gpuTypes.h-100.usdPerReplicaHour=1', 'gpuTypes: found "h-100", expected one of H100, L4', 'did you mean "H100"?'],
    ['pools.H10=8', 'pools: found "H10", expected one of H100, L4; did you mean "H100"?'],
    ['pools.L4+=8', 'pools.L4: found null (nothing to count from), expected a number before +='],
    ['pools.H100=-1', 'pools.H100: found -1, expected a number >= 0'],
    ['pools=1', 'expected pools.GPU_TYPE'],
    ['quotas.lba.L4=8', 'quotas: found "lba", expected one of lab, prod; did you mean "lab"?'],
    ['quotas.lab.L40=8', 'quotas.lab: found "L40", expected one of H100, L4; did you mean "L4"?'],
    ['quotas.lab=8', 'expected quotas.NAMESPACE.GPU_TYPE'],
    ['quotas.*.H100=8', 'quotas: found no quota that this names'],
    ['budgetUsdPerHour*=2', 'budgetUsdPerHour: found null (nothing to count from)'],
    ['budgetUsdPerHour.x=2', 'found "budgetUsdPerHour.x", expected budgetUsdPerHour'],
    ['options.routnig=free', 'options: found "routnig"', 'did you mean "routing"?'],
    ['options.routing=fre', 'options.routing: found "fre", expected one of free, proportional; did you mean "free"?'],
    ['options.routing*=2', 'options.routing: found "free", expected a number before *='],
    ['options.constructor=1', 'options: found "constructor"'],
  ])('is refused for %s', (text, ...parts) => {
    const message = fault(text);
    expect(message).toContain(`--set ${JSON.stringify(text)}: `);
    for (const part of parts) expect(message).toContain(part);
  });

  it('is refused without a type that there is not', () => {
    const without: ProblemEdit = { kind: 'without', gpuType: 'L40' };
    expect(faultOf(() => applyEdits(problem(), [without], 'p.json'))).toBe(
      '--without "L40": found "L40", expected one of H100, L4; did you mean "L4"?',
    );
  });

  it('asks for a shape where several buckets have no demand', () => {
    expect(fault('models.chat.rps=0', 'models.chat.rps=5')).toContain(
      'models.chat.rps: found a demand of 0 requests/s in 2 buckets, expected demand whose shape can be kept',
    );
  });

  it('is checked as a whole at the end, so that two edits may pass through what one alone could not', () => {
    const both = edited('deployments.prod/chat-l4.minReplicas=5', 'deployments.prod/chat-l4.maxReplicas=6');
    expect(deploymentOf(both, 'prod/chat-l4')).toMatchObject({ minReplicas: 5, maxReplicas: 6 });
    expect(fault('deployments.prod/chat-l4.minReplicas=5')).toBe(
      'p.json with --set "deployments.prod/chat-l4.minReplicas=5": models[0].deployments[1].minReplicas: found 5, expected at most maxReplicas',
    );
  });

  it('is read and applied, or refused as bad input: nothing else ever happens', () => {
    const pieces = fc.constantFrom(
      ...[
        'models',
        'deployments',
        'gpuTypes',
        'pools',
        'quotas',
        'options',
        'budgetUsdPerHour',
        'chat',
        'llama-3.1-8b',
      ],
      ...['prod/chat-l4', 'H100', 'L4', 'lab', 'rps', 'inputTokens', 'throughput', 'maxReplicas', 'routing', 'gpus'],
      ...[
        '__proto__',
        'constructor',
        'toString',
        '*',
        '"',
        '.',
        '=',
        '*=',
        '+=',
        '-=',
        '\\',
        '1',
        '-2',
        '1e308',
        'null',
      ],
    );
    const texts = fc.oneof(
      fc.string(),
      fc.array(pieces, { maxLength: 8 }).map((parts) => parts.join('')),
      fc.array(pieces, { maxLength: 6 }).map((parts) => parts.join('.')),
      fc
        .tuple(
          fc.constantFrom('models.*', 'models.chat', 'deployments.*', 'gpuTypes.L4', 'pools', 'quotas.lab', 'options'),
          pieces,
          fc.constantFrom(...editOperators),
          fc.constantFrom('0', '1', '2.5', '1e308', 'null', 'free'),
        )
        .map(([path, key, operator, value]) => `${path}.${key}${operator}${value}`),
    );
    let applied = 0;
    fc.assert(
      fc.property(fc.array(texts, { minLength: 1, maxLength: 2 }), (list) => {
        try {
          const result = edited(...list);
          applied++;
          expect(planningProblemSchema.safeParse(result).success).toBe(true);
        } catch (error) {
          expect(error).toBeInstanceOf(InputError);
        }
      }),
      { numRuns: 2000, seed: 7 },
    );
    // Else this would only have tried the refusals.
    expect(applied).toBeGreaterThan(5);
  });
});

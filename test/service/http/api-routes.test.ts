import { describe, expect, it, vi } from 'vitest';
import type { Explanation } from '../../../src/core/explanation.js';
import { explain } from '../../../src/optimizer/explain.js';
import { routingSchema } from '../../../src/service/http/schemas.js';
import { planOfModel } from '../../../src/service/plan-of-model.js';
import type { DecisionRecord } from '../../../src/service/view.js';
import { appUnderTest } from '../../support/http-app.js';
import { deploymentView, modelView, planOf, problemOf } from '../../support/scripted-view.js';

const twoModels = [
  modelView(),
  modelView({
    name: 'meta-llama/Llama-3',
    singleTypeUsdPerHour: null,
    deployments: [deploymentView({ namespace: 'team', name: 'l3', gpuType: 'L40S', usdPerReplicaHour: 1.5 })],
  }),
];
const smallProblem = {
  apiVersion: 'gpumix/v1',
  kind: 'PlanningProblem',
  models: [
    {
      name: 'what-if',
      demand: [{ inputTokens: 512, outputTokens: 128, rps: 3.2 }],
      deployments: [
        {
          id: 'default/a',
          gpuType: 'A100',
          usdPerReplicaHour: 3.67,
          profile: { indexes: [[128], [512]], tputs: [[2]] },
        },
      ],
    },
  ],
};

type ErrorBody = { error: { code: string; message: string } };

describe('GET /api/v1/models', () => {
  it('tells demand, deployments and money of every model', async () => {
    const { app } = await appUnderTest({ state: { models: twoModels } });
    const { models } = (await app.inject('/api/v1/models')).json();
    expect(models.map((model: { name: string }) => model.name)).toEqual(['llama', 'meta-llama/Llama-3']);
    expect(models[0]).toMatchObject({ usdPerHour: 2 * 3.67 + 4 * 0.7, gap: 0, demand: { rps: 4, forecastRps: 5 } });
  });

  it('finds one model by a name with a slash, with its own plan', async () => {
    const { app } = await appUnderTest({ state: { models: twoModels } });
    const answer = (await app.inject('/api/v1/models/meta-llama%2FLlama-3')).json();
    expect(answer.name).toBe('meta-llama/Llama-3');
    expect(answer.plan.deployments.map((deployment: { id: string }) => deployment.id)).toEqual(['team/l3']);
    expect(answer.plan.usdPerHour).toBe(3);
  });

  it('suggests the nearest model for a misspelt one', async () => {
    const { app } = await appUnderTest();
    const answer = await app.inject('/api/v1/models/lama');
    expect(answer.statusCode).toBe(404);
    expect(answer.json<ErrorBody>().error).toEqual({
      code: 'no_such_model',
      message: 'no deployment of a model "lama" is known; did you mean "llama"?',
    });
  });

  it('answers before the first plan, without money', async () => {
    const { app } = await appUnderTest({ state: { plan: null } });
    expect((await app.inject('/api/v1/models')).json().models[0].usdPerHour).toBeNull();
    expect((await app.inject('/api/v1/models/llama')).json().plan).toBeNull();
  });
});

describe('GET /api/v1/problem and /api/v1/plan', () => {
  it('give the whole documents', async () => {
    const { app, state } = await appUnderTest({ state: { models: twoModels } });
    expect((await app.inject('/api/v1/problem')).json()).toEqual(JSON.parse(JSON.stringify(state.problem)));
    expect((await app.inject('/api/v1/plan')).json()).toEqual(JSON.parse(JSON.stringify(state.plan)));
  });

  it('give one model with its own money', async () => {
    const { app } = await appUnderTest({ state: { models: twoModels } });
    const problem = (await app.inject('/api/v1/problem?model=llama')).json();
    expect(problem.models.map((model: { name: string }) => model.name)).toEqual(['llama']);
    const plan = (await app.inject('/api/v1/plan?model=llama')).json();
    expect(plan.usdPerHour).toBeCloseTo(10.14, 9);
    // 2 × 3.67 + 3 × 0.7: one L4 less is published than the plan is heading for.
    expect(plan.publishedUsdPerHour).toBeCloseTo(9.44, 9);
    expect(plan.shares.every((bucket: { model: string }) => bucket.model === 'llama')).toBe(true);
  });

  it('say 503 before there is one, 404 for an unknown model, 400 for an unknown query key', async () => {
    const early = await appUnderTest({ state: { plan: null, problem: null } });
    for (const url of ['/api/v1/plan', '/api/v1/problem', '/api/v1/routing/llama']) {
      const answer = await early.app.inject(url);
      expect([url, answer.statusCode, answer.json<ErrorBody>().error.code]).toEqual([url, 503, 'not_ready']);
    }
    const { app } = await appUnderTest();
    expect((await app.inject('/api/v1/plan?model=nobody')).statusCode).toBe(404);
    const misspelt = await app.inject('/api/v1/plan?modle=llama');
    expect(misspelt.statusCode).toBe(400);
    expect(misspelt.json<ErrorBody>().error.message).toContain('did you mean "model"?');
  });

  it('tell a held model that is in no problem apart from an unknown one', async () => {
    const models = [...twoModels];
    const { app } = await appUnderTest({ state: { models, problem: problemOf(models.slice(0, 1)) } });
    const answer = await app.inject('/api/v1/problem?model=meta-llama%2FLlama-3');
    expect([answer.statusCode, answer.json<ErrorBody>().error.code]).toEqual([404, 'not_planned']);
  });
});

describe('the plan of one model', () => {
  it('sums to the whole plan over all models', () => {
    const plan = planOf(twoModels);
    const prices = new Map(
      twoModels.flatMap(({ deployments }) => deployments.map((d) => [d.id, d.usdPerReplicaHour!])),
    );
    const parts = twoModels.map(({ name }) => planOfModel(plan, name, { prices, problem: problemOf(twoModels) })!);
    const total = (key: 'usdPerHour' | 'boundUsdPerHour') => parts.reduce((sum, part) => sum + part[key], 0);
    expect(total('usdPerHour')).toBeCloseTo(plan.usdPerHour, 9);
    expect(total('boundUsdPerHour')).toBeCloseTo(plan.boundUsdPerHour, 9);
    expect(parts.flatMap(({ deployments }) => deployments)).toEqual(plan.deployments);
  });

  it('weighs its unserved demand with its own price', () => {
    const [model] = twoModels;
    const problem = problemOf([model!]);
    const plan = planOf([model!]);
    const part = planOfModel(
      { ...plan, shares: plan.shares.map((bucket) => ({ ...bucket, unservedShare: 0.25 })) },
      'llama',
      {
        prices: new Map(),
        problem: {
          ...problem,
          models: problem.models.map((each) => ({ ...each, unservedUsdPerRequest: 2 })),
        },
      },
    )!;
    expect(part.penaltyUsdPerHour).toBeCloseTo(3600 * 2 * 5 * 0.25, 9);
  });

  it('is null for a model that the plan does not know', () => {
    expect(planOfModel(planOf(twoModels), 'nobody', { prices: new Map(), problem: null })).toBeNull();
  });
});

describe('GET /api/v1/routing/{model}', () => {
  it('gives the shares of every bucket', async () => {
    const { app } = await appUnderTest();
    expect((await app.inject('/api/v1/routing/llama')).json()).toMatchObject({
      model: 'llama',
      routing: 'free',
      status: 'optimal',
      shares: [{ inputTokens: 512, to: [{ deployment: 'default/llama-a100', share: 1 }], unservedShare: 0 }],
      fullInFlight: {},
    });
  });

  it('says who else serves a bucket, and how many requests fill a replica, where that is known', async () => {
    const [bucket] = planOf([modelView()]).shares;
    const routing = {
      shares: [{ ...bucket!, alsoTo: ['default/llama-l4'] }, bucket!],
      fullInFlight: new Map([['default/llama-a100', 37.5]]),
    };
    const { app } = await appUnderTest({ state: { routing } });
    const document = (await app.inject('/api/v1/routing/llama')).json();
    expect(routingSchema.parse(document)).toEqual(document);
    expect(document.fullInFlight).toEqual({ 'default/llama-a100': 37.5 });
    expect(document.shares[0]).toEqual({ ...bucket, alsoTo: ['default/llama-l4'] });
    // A reader that knows nothing of it finds what it always found.
    expect(document.shares[1]).toEqual(bucket);
  });
});

describe('GET /api/v1/replicas/{namespace}/{deployment}', () => {
  it('says whole replicas, as the metrics-api scaler of KEDA reads them', async () => {
    const { app } = await appUnderTest();
    expect((await app.inject('/api/v1/replicas/default/llama-l4')).json()).toEqual({
      replicas: 3,
      targetReplicas: 4,
      status: 'optimal',
      heldReason: null,
      at: '2026-11-20T10:00:00.000Z',
    });
  });

  it('says 503 while the number is not known, and 404 for a deployment that nobody follows', async () => {
    const { app } = await appUnderTest({ state: { notKnown: new Set(['default/llama-l4']) } });
    const unknown = await app.inject('/api/v1/replicas/default/llama-l4');
    expect([unknown.statusCode, unknown.json<ErrorBody>().error.code]).toEqual([503, 'not_known_yet']);
    const missing = await app.inject('/api/v1/replicas/default/x');
    expect([missing.statusCode, missing.json<ErrorBody>().error.code]).toEqual([404, 'no_such_deployment']);
  });
});

describe('GET /api/v1/explain', () => {
  it('tells why the current plan is as it is, of all models or of one', async () => {
    const { app, state } = await appUnderTest({ state: { models: twoModels } });
    const whole = await app.inject('/api/v1/explain');
    expect([whole.statusCode, whole.json()]).toEqual([200, JSON.parse(JSON.stringify(explain(state.problem!)))]);
    const one = (await app.inject('/api/v1/explain?model=meta-llama%2FLlama-3')).json<Explanation>();
    expect(one.models.map(({ name }) => name)).toEqual(['meta-llama/Llama-3']);
    expect(one.sentences[0]).toMatch(/^The plan costs /);
  });

  it('says 503 before there is a plan, 404 for an unknown model, 400 for an unknown query key', async () => {
    const early = await appUnderTest({ state: { plan: null, problem: null } });
    const codeOf = async (app: typeof early.app, query: string) => {
      const answer = await app.inject(`/api/v1/explain${query}`);
      return [answer.statusCode, answer.json<ErrorBody>().error.code];
    };
    expect(await codeOf(early.app, '')).toEqual([503, 'not_ready']);
    expect(await codeOf(early.app, '?model=llama')).toEqual([503, 'not_ready']);
    const { app } = await appUnderTest({ state: { models: twoModels, problem: problemOf(twoModels.slice(0, 1)) } });
    expect(await codeOf(app, '?model=nobody')).toEqual([404, 'no_such_model']);
    expect(await codeOf(app, '?modle=llama')).toEqual([400, 'bad_input']);
    // Known, but held from the start.
    expect(await codeOf(app, '?model=meta-llama%2FLlama-3')).toEqual([503, 'not_ready']);
  });

  it('says when to come back while others are being made, and gives one up at its deadline', async () => {
    const { app, commands } = await appUnderTest({ app: { whatIf: { deadlineMs: 5 } } });
    Object.assign(commands, { explain: async () => 'busy' });
    const busy = await app.inject('/api/v1/explain');
    expect([busy.statusCode, busy.json<ErrorBody>().error.code, busy.headers['retry-after']]).toEqual([
      429,
      'busy',
      '5',
    ]);
    Object.assign(commands, { explain: () => new Promise(() => undefined) });
    const late = await app.inject('/api/v1/explain');
    expect([late.statusCode, late.json<ErrorBody>().error.code]).toEqual([503, 'took_too_long']);
  });
});

describe('GET /api/v1/history', () => {
  const decision = (minute: number, model = 'llama'): DecisionRecord => ({
    at: `2026-11-20T10:0${minute}:00.000Z`,
    model,
    status: 'optimal',
    heldReason: null,
    usdPerHour: 3.67,
    rps: 4,
    changes: [{ deployment: 'default/llama-a100', from: 1, to: 2, reason: 'demand grew' }],
  });
  const state = { history: [decision(1), decision(2, 'other'), decision(3)] };

  it('filters by model and by time, as ISO 8601 or Unix milliseconds', async () => {
    const { app } = await appUnderTest({ state });
    const times = async (query: string) =>
      (await app.inject(`/api/v1/history${query}`))
        .json<{ decisions: DecisionRecord[] }>()
        .decisions.map(({ at }) => at.slice(14, 16));
    expect(await times('')).toEqual(['01', '02', '03']);
    expect(await times('?model=llama')).toEqual(['01', '03']);
    expect(await times('?since=2026-11-20T10:02:00Z')).toEqual(['02', '03']);
    expect(await times(`?since=${Date.parse('2026-11-20T10:03:00Z')}`)).toEqual(['03']);
    expect(await times('?limit=1')).toEqual(['03']);
  });

  it.each(['?since=yesterday', '?limit=0', '?limit=1001', '?limit=all', '?model=', '?limit=1&limit=2'])(
    'refuses %s with a sentence',
    async (query) => {
      const { app } = await appUnderTest({ state });
      const answer = await app.inject(`/api/v1/history${query}`);
      expect([answer.statusCode, answer.json<ErrorBody>().error.code]).toEqual([400, 'bad_input']);
      expect(answer.json<ErrorBody>().error.message).toMatch(/^query: (since|limit|model): found .*, expected/);
    },
  );
});

describe('POST /api/v1/plan', () => {
  const post = (payload: string | object) => ({ method: 'POST' as const, url: '/api/v1/plan', payload });

  it('plans another problem', async () => {
    const { app, calls } = await appUnderTest();
    const answer = await app.inject(post(smallProblem));
    expect([answer.statusCode, answer.json().models[0].name]).toEqual([200, 'what-if']);
    expect(calls[0]![0]).toBe('whatIf');
  });

  it('cuts a time limit that is longer than the service grants', async () => {
    const { app, calls } = await appUnderTest({ app: { whatIf: { timeLimitMs: 2000 } } });
    await app.inject(post({ ...smallProblem, options: { timeLimitMs: 600_000 } }));
    await app.inject(post({ ...smallProblem, options: { timeLimitMs: 5 } }));
    expect(calls.map(([, problem]) => (problem as { options: { timeLimitMs: number } }).options.timeLimitMs)).toEqual([
      2000, 5,
    ]);
  });

  it('names the place of a fault', async () => {
    const { app } = await appUnderTest();
    const answer = await app.inject(
      post({ ...smallProblem, models: [{ ...smallProblem.models[0], demand: [{ rps: -1 }] }] }),
    );
    expect(answer.statusCode).toBe(400);
    expect(answer.json<ErrorBody>().error.message).toContain('body: models[0].demand[0].rps: found -1, expected');
  });

  it('passes on what the planner refuses', async () => {
    const { app } = await appUnderTest();
    const answer = await app.inject(post({ ...smallProblem, pools: [{ gpuType: 'A100', gpus: 4 }] }));
    expect([answer.statusCode, answer.json<ErrorBody>().error.message]).toEqual([
      400,
      'problem: pools: found a pool, expected none in this version',
    ]);
  });

  it('refuses a body that is too large, before it is read', async () => {
    const { app, calls } = await appUnderTest({ app: { whatIf: { largestBodyBytes: 1000 } } });
    const answer = await app.inject(post(' '.repeat(1001)));
    expect([answer.statusCode, answer.json<ErrorBody>().error.code]).toEqual([413, 'body_too_large']);
    expect(calls).toEqual([]);
  });

  it('plans a bounded number at one time and says when to come back', async () => {
    const { app, commands } = await appUnderTest({ app: { whatIf: { concurrency: 2 } } });
    const finish: (() => void)[] = [];
    const original = commands.whatIf;
    Object.assign(commands, {
      whatIf: async (problem: never) => {
        await new Promise<void>((resolve) => finish.push(resolve));
        return original(problem);
      },
    });
    const running = [app.inject(post(smallProblem)), app.inject(post(smallProblem))];
    await vi.waitFor(() => expect(finish).toHaveLength(2));
    const refused = await app.inject(post(smallProblem));
    expect([refused.statusCode, refused.headers['retry-after']]).toEqual([429, '1']);
    expect((await app.inject('/metrics/default/llama-l4')).statusCode).toBe(200);
    for (const done of finish) done();
    expect((await Promise.all(running)).map(({ statusCode }) => statusCode)).toEqual([200, 200]);
    const next = app.inject(post(smallProblem));
    await vi.waitFor(() => expect(finish).toHaveLength(3));
    finish[2]!();
    expect((await next).statusCode).toBe(200);
  });

  it('gives up an answer at its deadline, and counts the planning until it really ends', async () => {
    const { app, commands } = await appUnderTest({ app: { whatIf: { deadlineMs: 5, concurrency: 1 } } });
    let finish = () => {};
    Object.assign(commands, {
      whatIf: () => new Promise((_resolve, reject) => (finish = () => reject(new Error('too late')))),
    });
    const late = await app.inject(post(smallProblem));
    expect([late.statusCode, late.json<ErrorBody>().error.code]).toEqual([503, 'took_too_long']);
    expect((await app.inject(post(smallProblem))).statusCode).toBe(429);
    finish();
    await vi.waitFor(async () => expect((await app.inject(post(smallProblem))).statusCode).toBe(503));
  });

  it('tells an internal error apart from bad input, logs it, and repeats nothing of it', async () => {
    const { app, commands, log } = await appUnderTest();
    Object.assign(commands, {
      whatIf: () => {
        throw new Error('redis://user:hunter2@db/0 is gone');
      },
    });
    for (let i = 0; i < 3; i++) {
      const answer = await app.inject(post(smallProblem));
      expect(answer.statusCode).toBe(500);
      expect(answer.json<ErrorBody>().error).toEqual({
        code: 'internal',
        message: 'an internal error, written to the log of the service',
      });
    }
    expect(log).toHaveLength(3);
    expect(log[0]).toContain('is gone');
    expect(log[0]).not.toContain('hunter2');
  });
});

describe('operation', () => {
  it('is alive', async () => {
    const { app } = await appUnderTest();
    expect((await app.inject('/healthz')).json()).toEqual({ status: 'ok' });
  });

  it('is not ready until every input was read, and names the one that is missing', async () => {
    const { app } = await appUnderTest({
      state: {
        ready: false,
        plan: null,
        inputs: [{ input: 'redis', ok: false, ageSeconds: null, problem: 'connection refused at 127.0.0.1:6379' }],
      },
    });
    const answer = await app.inject('/readyz');
    expect(answer.statusCode).toBe(503);
    expect(answer.json()).toMatchObject({
      status: 'starting',
      planStatus: null,
      detail: 'waiting for the first reading of redis (connection refused at 127.0.0.1:6379)',
    });
  });

  it('stays ready while a last good plan is held and served, and says so', async () => {
    const { app } = await appUnderTest({
      state: {
        models: [modelView({ status: 'held', heldReason: 'redis_unreachable' })],
        inputs: [{ input: 'redis', ok: false, ageSeconds: 42, problem: 'connection lost' }],
      },
    });
    const answer = await app.inject('/readyz');
    expect(answer.statusCode).toBe(200);
    expect(answer.json()).toMatchObject({
      status: 'ready',
      detail: 'cannot read redis (connection lost); the last good plan of 1 model is held and served',
      held: [{ model: 'llama', reason: 'redis_unreachable' }],
    });
  });

  it('does not speak of a last good plan where a model never had one', async () => {
    const { app } = await appUnderTest({
      state: {
        models: [
          modelView({ status: 'held', heldReason: 'no_traces' }),
          modelView({ name: 'new', status: 'held', heldReason: 'no_traces', planAt: null, deployments: [] }),
        ],
      },
    });
    expect((await app.inject('/readyz')).json()).toMatchObject({
      status: 'ready',
      detail: 'the last good plan of 1 model is held and served; 1 model could not be planned yet',
    });
  });

  it('tells a person who opens it where to look, as text and as a page', async () => {
    const { app } = await appUnderTest({ state: { models: [modelView({ name: '<b>' })] } });
    const text = await app.inject('/');
    expect(text.headers['content-type']).toBe('text/plain; charset=utf-8');
    expect(text.body).toContain('/metrics/default/llama-a100');
    expect(text.body).toContain('/docs');
    const page = await app.inject({ url: '/', headers: { accept: 'text/html,*/*' } });
    expect(page.headers['content-type']).toBe('text/html; charset=utf-8');
    expect(page.body).toContain('<a href="/docs">');
  });

  it('lists only URLs that answer', async () => {
    const { app } = await appUnderTest();
    const { body } = await app.inject('/');
    const urls = [...body.matchAll(/^ {2}(\/\S*)/gm)].map(([, url]) => url!);
    expect(urls.length).toBeGreaterThan(5);
    for (const url of urls) expect([url, (await app.inject(url)).statusCode]).toEqual([url, 200]);
  });
});

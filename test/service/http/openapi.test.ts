import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { appUnderTest } from '../../support/http-app.js';
import { modelView, planOf } from '../../support/scripted-view.js';

type Schema = Record<string, unknown>;
type Operation = {
  summary?: string;
  responses: Record<string, { content?: Record<string, { schema: Schema }> }>;
  requestBody?: { content: Record<string, { schema: Schema }> };
};
type OpenApi = {
  openapi: string;
  info: { version: string };
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Schema> };
};

async function documentOf(app: { inject(url: string): Promise<{ json(): OpenApi }> }): Promise<OpenApi> {
  return (await app.inject('/openapi.json')).json();
}

describe('/openapi.json', () => {
  it('lists every route of the app, each with a summary, and no route that the app does not have', async () => {
    const { app } = await appUnderTest();
    const registered = new Set<string>();
    app.addHook('onRoute', ({ method, url }) => {
      for (const each of [method].flat()) {
        if (each !== 'HEAD' && !url.startsWith('/docs') && url !== '/openapi.json') {
          registered.add(`${each} ${url.replace(/:(\w+)/g, '{$1}')}`);
        }
      }
    });
    const document = await documentOf(app);
    const documented = Object.entries(document.paths).flatMap(([url, operations]) =>
      Object.entries(operations).map(([method, { summary }]) => {
        expect(summary, `${method} ${url}`).toBeTruthy();
        return `${method.toUpperCase()} ${url}`;
      }),
    );
    expect(documented.sort()).toEqual([...registered].sort());
    expect(registered.size).toBeGreaterThan(15);
    expect([document.openapi, document.info.version]).toEqual(['3.1.0', '9.9.9']);
  });

  it('refers only to schemas that it holds', async () => {
    const { app } = await appUnderTest();
    const document = await documentOf(app);
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)];
    expect(references.length).toBeGreaterThan(10);
    for (const [, name] of references) expect(Object.keys(document.components.schemas)).toContain(name);
  });

  it('describes every answer as it is', async () => {
    const models = [modelView(), modelView({ name: 'org/m', demand: null, planAt: null, deployments: [] })];
    const { app } = await appUnderTest({
      state: {
        models,
        plan: planOf(models.slice(0, 1), {
          unserved: [{ model: 'llama', inputTokens: 1, outputTokens: 1, rps: 1, reason: 'slo' }],
          warnings: [{ code: 'slo', message: 'made for another objective', model: 'llama' }],
        }),
        history: [
          {
            at: '2026-11-20T10:00:00.000Z',
            model: 'llama',
            status: 'held',
            heldReason: 'no_traces',
            usdPerHour: 1,
            rps: 0,
            changes: [{ deployment: 'default/a', from: null, to: 1, reason: 'first plan' }],
          },
        ],
        notKnown: new Set(['default/llama-a100']),
      },
    });
    const document = await documentOf(app);
    const calls: [string, string, string, (string | object)?][] = [
      ['GET', '/healthz', '/healthz'],
      ['GET', '/readyz', '/readyz'],
      ['GET', '/api/v1/models', '/api/v1/models'],
      ['GET', '/api/v1/models/{model}', '/api/v1/models/llama'],
      ['GET', '/api/v1/models/{model}', '/api/v1/models/org%2Fm'],
      ['GET', '/api/v1/models/{model}', '/api/v1/models/nobody'],
      ['GET', '/api/v1/problem', '/api/v1/problem'],
      ['GET', '/api/v1/problem', '/api/v1/problem?x=1'],
      ['GET', '/api/v1/plan', '/api/v1/plan'],
      ['GET', '/api/v1/plan', '/api/v1/plan?model=org%2Fm'],
      ['POST', '/api/v1/plan', '/api/v1/plan', '{'],
      ['POST', '/api/v1/plan', '/api/v1/plan', { apiVersion: 'gpumix/v1', kind: 'PlanningProblem', models: [] }],
      ['GET', '/api/v1/explain', '/api/v1/explain'],
      ['GET', '/api/v1/explain', '/api/v1/explain?model=nobody'],
      ['GET', '/api/v1/explain', '/api/v1/explain?modle=llama'],
      ['GET', '/api/v1/routing/{model}', '/api/v1/routing/llama'],
      ['GET', '/api/v1/history', '/api/v1/history'],
      ['GET', '/api/v1/history', '/api/v1/history?since=x'],
      ['GET', '/api/v1/replicas/{namespace}/{deployment}', '/api/v1/replicas/default/llama-l4'],
      ['GET', '/api/v1/replicas/{namespace}/{deployment}', '/api/v1/replicas/default/llama-a100'],
      ['GET', '/api/v1/replicas/{namespace}/{deployment}', '/api/v1/replicas/default/x'],
      ['GET', '/metrics/{namespace}/{deployment}', '/metrics/default/x'],
      ['GET', '/metrics/{namespace}/{deployment}', '/metrics/default/llama-a100'],
      ['POST', '/monitor/{namespace}/{deployment}', '/monitor/default/llama-a100'],
      ['DELETE', '/monitor/{namespace}/{deployment}', '/monitor/default/llama-a100'],
      ['GET', '/update_profile/{model}', '/update_profile/llama'],
      ['GET', '/update_profile/{model}', '/update_profile/x'],
      ['PUT', '/scale/{namespace}/{deployment}', '/scale/default/llama-a100', { replicas: 2 }],
      ['PUT', '/scale/{namespace}/{deployment}', '/scale/default/llama-a100', { replicas: null }],
    ];
    for (const [method, path, url, payload] of calls) {
      const answer = await app.inject({ method: method as 'GET', url, ...(payload === undefined ? {} : { payload }) });
      const documented = document.paths[path]?.[method.toLowerCase()]?.responses[String(answer.statusCode)];
      expect(documented, `${method} ${url} answers ${answer.statusCode}`).toBeDefined();
      const schema = documented?.content?.['application/json']?.schema;
      expect(schema, `${method} ${url}`).toBeDefined();
      const parsed = zodOf(schema!, document).safeParse(answer.json());
      expect(parsed.error?.issues, `${method} ${url}: ${answer.body}`).toBeUndefined();
    }
  });

  it('describes the bodies that it takes', async () => {
    const { app } = await appUnderTest();
    const document = await documentOf(app);
    const body = document.paths['/api/v1/plan']!.post!.requestBody!.content['application/json']!.schema;
    const problem = zodOf(body, document);
    expect(problem.safeParse({ apiVersion: 'gpumix/v1', kind: 'PlanningProblem', models: [] }).success).toBe(true);
    expect(problem.safeParse({ apiVersion: 'gpumix/v1', kind: 'Plan', models: [] }).success).toBe(false);
  });
});

describe('/docs', () => {
  it('is served from this process alone: no other host in the page or in what starts it', async () => {
    const { app } = await appUnderTest();
    const page = await app.inject('/docs/');
    expect(page.statusCode).toBe(200);
    expect(page.headers['content-type']).toContain('text/html');
    const starter = await app.inject('/docs/static/swagger-initializer.js');
    expect(starter.statusCode).toBe(200);
    expect(starter.body).toMatch(/validatorUrl: null/);
    for (const [, address] of page.body.matchAll(/(?:src|href)="([^"]+)"/g)) {
      expect(address).not.toMatch(/^(https?:)?\/\//);
      const path = new URL(address!, 'http://gpumix/docs/').pathname;
      expect([path, (await app.inject(path)).statusCode]).toEqual([path, 200]);
    }
  });

  it('is found without a slash at the end', async () => {
    const { app } = await appUnderTest();
    const answer = await app.inject('/docs');
    expect([200, 301, 302]).toContain(answer.statusCode);
  });
});

/** A JSON Schema of the document as a zod schema: an independent reading of what was generated. */
function zodOf(schema: Schema, document: OpenApi): z.ZodType {
  const text = JSON.stringify({ ...schema, $defs: document.components.schemas });
  return z.fromJSONSchema(JSON.parse(text.replaceAll('#/components/schemas/', '#/$defs/')));
}

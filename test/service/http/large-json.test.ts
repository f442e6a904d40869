import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { jsonPieces } from '../../../src/service/http/large-json.js';
import { appUnderTest } from '../../support/http-app.js';
import { deploymentView, modelView } from '../../support/scripted-view.js';

describe('a large document as JSON', () => {
  it('is the text of JSON.stringify, whatever is in it', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (document) => {
        expect([...jsonPieces(document)].join('')).toBe(JSON.stringify(document));
      }),
    );
  });

  it('leaves out what is undefined, as JSON.stringify does', () => {
    expect([...jsonPieces({ a: undefined, b: [], c: 1 })].join('')).toBe('{"b":[],"c":1}');
  });

  it('is cut between the items of its lists, each piece little longer than the longest item', () => {
    const document = { head: 1, items: Array.from({ length: 5000 }, (_, i) => ({ i, text: 'x'.repeat(100) })) };
    const pieces = [...jsonPieces(document)];
    expect(pieces.length).toBeGreaterThan(5);
    expect(Math.max(...pieces.map(({ length }) => length))).toBeLessThan(66_000);
    expect(JSON.parse(pieces.join(''))).toEqual(document);
  });

  it('is sent whole, small or large', async () => {
    const models = Array.from({ length: 2000 }, (_, i) =>
      modelView({ name: `model-${i}`, deployments: [deploymentView({ name: `d-${i}` })] }),
    );
    const { app, state } = await appUnderTest({ state: { models } });
    const large = await app.inject('/api/v1/plan');
    expect(large.headers['content-type']).toBe('application/json; charset=utf-8');
    expect(large.body.length).toBeGreaterThan(1_000_000);
    expect(large.body).toBe(JSON.stringify(state.plan));
    const small = await app.inject('/api/v1/plan?model=model-7');
    expect(small.headers['content-length']).toBe(String(Buffer.byteLength(small.body)));
    expect(small.json().models[0].name).toBe('model-7');
  });
});

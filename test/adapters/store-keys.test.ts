import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { profileKeyName, profileOfKey, traceKeyName, traceOfKey } from '../../src/adapters/store-keys.js';

const model = fc.oneof(
  fc.string({ minLength: 1 }),
  fc.constantFrom('llama', 'org/llama_2', 'a_request_trace_1', '*\n:'),
);
const deployment = fc.stringMatching(/^[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?$/);

describe('names of keys', () => {
  it('of profiles tell model and deployment, whatever the model is called', () => {
    fc.assert(
      fc.property(fc.record({ model, deployment }), (key) => {
        expect(profileOfKey(profileKeyName(key))).toEqual(key);
      }),
    );
  });

  it('of traces tell model and interval, whatever the model is called', () => {
    const endSeconds = fc.integer({ min: 0, max: 999_999_999_999 });
    fc.assert(
      fc.property(fc.record({ model, endSeconds }), (key) => {
        expect(traceOfKey(traceKeyName(key))).toEqual(key);
      }),
    );
  });

  it.each(['aibrix:pod:gw:prod:a', 'aibrix:m_request_trace_', 'aibrix:m_request_trace_1x', 'gpumix:state:x', ''])(
    'that are others, such as %j, are told apart',
    (key) => {
      expect([traceOfKey(key), profileOfKey(key)]).toEqual([null, null]);
    },
  );
});

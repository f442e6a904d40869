import { describe, expect, it } from 'vitest';
import { connectionFault } from '../../src/adapters/connection-fault.js';

const failed = (message: string, code?: string): Error =>
  Object.assign(new Error(message), code === undefined ? {} : { code });

describe('why a connection failed', () => {
  it.each([
    [
      failed('connect ECONNREFUSED 127.0.0.1:1', 'ECONNREFUSED'),
      'ECONNREFUSED',
      'nobody who listens there (ECONNREFUSED)',
    ],
    [
      failed('unable to verify the first certificate', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'),
      'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
      'unable to verify the first certificate',
    ],
    [failed('', 'EPIPE'), 'EPIPE', 'EPIPE'],
    [failed('no code'), null, 'no code'],
    [failed(''), null, 'Error'],
    ['not even an error', null, 'not even an error'],
  ])('is told of %o', (error, code, words) => {
    expect(connectionFault(error)).toEqual({ code, words });
  });

  it('is told of the first address where all addresses of a host failed', () => {
    const error = new AggregateError([failed('connect', 'ENOTFOUND'), failed('other', 'EPIPE')], '');
    expect(connectionFault(error)).toEqual({ code: 'ENOTFOUND', words: 'no such host (ENOTFOUND)' });
  });
});

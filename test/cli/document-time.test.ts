import { describe, expect, it } from 'vitest';
import { documentTime } from '../../src/cli/document-time.js';
import { InputError } from '../../src/core/input-error.js';

describe('the time that a document carries', () => {
  const now = () => 1_700_000_000_123;

  it('is the present', () => {
    expect(documentTime({}, now)).toBe(1_700_000_000_123);
    expect(documentTime({ SOURCE_DATE_EPOCH: '' }, now)).toBe(1_700_000_000_123);
  });

  it('is SOURCE_DATE_EPOCH where that is set', () => {
    expect(documentTime({ SOURCE_DATE_EPOCH: '1795132800' }, now)).toBe(1_795_132_800_000);
  });

  it.each(['yesterday', '-1', '1e9', '12.5'])('is refused where that is %s', (text) => {
    expect(() => documentTime({ SOURCE_DATE_EPOCH: text }, now)).toThrow(InputError);
  });
});

import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { configKeys, configReference } from '../../src/service/config/reference.js';

const file = new URL('../../docs/configuration.md', import.meta.url);

describe('docs/configuration.md', () => {
  it('is what the schema says (UPDATE_DOCS=1 rewrites it)', () => {
    if (process.env.UPDATE_DOCS === '1') writeFileSync(file, configReference());
    expect(readFileSync(file, 'utf8')).toBe(configReference());
  });

  it('says of every value what it means', () => {
    const silent = configKeys().filter((key) => key.kind === 'value' && key.description === '');
    expect(silent).toEqual([]);
  });
});

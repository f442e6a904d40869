import type { IncomingMessage } from 'node:http';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseAuthorization, sentToken } from '../../../src/service/http/bearer.js';

const letters = [...'ABCxyz0189-._~+/'];
const token68 = fc
  .tuple(fc.string({ unit: fc.constantFrom(...letters), minLength: 1, maxLength: 200 }), fc.nat(3))
  .map(([text, padding]) => text + '='.repeat(padding));

function message(...headers: readonly string[]): IncomingMessage {
  const authorization = headers.find((_, at) => headers[at - 1]?.toLowerCase() === 'authorization');
  return { rawHeaders: headers, headers: { authorization } } as unknown as IncomingMessage;
}

describe('the Authorization header', () => {
  it('gives its token back, whatever the case of the scheme and however many spaces follow', () => {
    const scheme = fc.constantFrom('Bearer', 'bearer', 'BEARER', 'bEaReR');
    fc.assert(
      fc.property(scheme, fc.integer({ min: 1, max: 5 }), token68, (word, spaces, token) => {
        expect(parseAuthorization(`${word}${' '.repeat(spaces)}${token}`)).toEqual({ kind: 'token', token });
      }),
    );
  });

  it('never gives a token that could not have been sent so, and never throws', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.uint8Array().map((bytes) => Buffer.from(bytes).toString('latin1')),
          fc.string().map((text) => `Bearer ${text}`),
        ),
        (header) => {
          const sent = parseAuthorization(header);
          if (sent.kind !== 'token') return;
          expect(sent.token).toMatch(/^[A-Za-z0-9\-._~+/]+=*$/);
          expect(header.toLowerCase().startsWith('bearer ')).toBe(true);
          expect(header.endsWith(sent.token)).toBe(true);
        },
      ),
    );
  });

  it('repeats nothing of what it refuses', () => {
    fc.assert(
      fc.property(
        token68.filter((token) => token.length > 12),
        fc.constantFrom('Basic ', 'Bearer\t', 'Bearer a ', 'Token '),
        (token, before) => {
          expect(JSON.stringify(parseAuthorization(before + token))).not.toContain(token);
        },
      ),
    );
  });

  it.each([
    ['Basic dXNlcjpwYXNz', 'another scheme'],
    ['', 'another scheme'],
    ['Bearerabcdef', 'another scheme'],
    ['Bearer', 'Bearer without exactly one token after a space'],
    ['Bearer ', 'Bearer without exactly one token after a space'],
    ['Bearer\tabcdef', 'Bearer without exactly one token after a space'],
    ['Bearer abc def', 'Bearer without exactly one token after a space'],
    ['Bearer abc, Bearer def', 'Bearer without exactly one token after a space'],
    ['Bearer "abc"', 'Bearer without exactly one token after a space'],
    ['Bearer abc\u00a0', 'Bearer without exactly one token after a space'],
    ['Bearer =abc', 'Bearer without exactly one token after a space'],
    [`Bearer ${'a'.repeat(8193)}`, 'a token of 8193 characters'],
  ])('%j is unusable: %s', (header, fault) => {
    expect(parseAuthorization(header)).toEqual({ kind: 'unusable', fault });
  });

  it('of 8,192 characters is a token, and one of 16,000 equals signs is refused at once', () => {
    expect(parseAuthorization(`Bearer ${'a'.repeat(8192)}`).kind).toBe('token');
    expect(parseAuthorization(`Bearer ${'='.repeat(16_000)}`).kind).toBe('unusable');
  });

  it('counts once: of two, in whatever letters, none is taken', () => {
    expect(sentToken(message('Host', 'x', 'authorization', 'Bearer abc'))).toEqual({ kind: 'token', token: 'abc' });
    expect(sentToken(message('Authorization', 'Bearer abc', 'AUTHORIZATION', 'Bearer abc')).kind).toBe('unusable');
    expect(sentToken(message('Host', 'authorization'))).toEqual({ kind: 'absent' });
  });
});

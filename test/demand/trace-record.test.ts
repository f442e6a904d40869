import { existsSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/core/input-error.js';
import { tokensOfBucketIndex } from '../../src/core/token-bucket.js';
import { formatTraceRecord, parseTraceRecord, type TraceRecord } from '../../src/demand/trace-record.js';

const parse = (document: unknown) => parseTraceRecord(JSON.stringify(document), 'key');
const v4 = {
  meta_v: 4,
  meta_interval_sec: 10,
  meta_precision: 10,
  meta_total_reqs: 15,
  meta_pending_reqs: 4,
  meta_queueing_reqs: 2,
};

/** The message of the InputError that an action throws; any other outcome fails the test. */
function faultOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof InputError) return error.message;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('an interval record', () => {
  it('gives arrivals, pending, queue and completed requests by length', () => {
    const { record, notices } = parse({ ...v4, '80:50': 8, '110:70': 3, '0:0': 1 });
    expect(record).toEqual({
      version: 4,
      intervalSeconds: 10,
      arrivals: 15,
      pending: 4,
      queueing: 2,
      unknownLength: 1,
      buckets: [
        { inputTokens: 256, outputTokens: 32, count: 8 },
        { inputTokens: 2048, outputTokens: 128, count: 3 },
      ],
    });
    expect(notices).toEqual([]);
  });

  it('of version 1 has whole doublings, no meta, and its completions for arrivals', () => {
    const { record } = parse({ '8:7': 2, '10:7': 1, '0:0': 4 });
    expect(record).toEqual({
      version: 1,
      intervalSeconds: 10,
      arrivals: 7,
      pending: 0,
      queueing: 0,
      unknownLength: 4,
      buckets: [
        { inputTokens: 256, outputTokens: 128, count: 2 },
        { inputTokens: 1024, outputTokens: 128, count: 1 },
      ],
    });
  });

  it('of version 2 counts its completions, unknown lengths included, as arrivals', () => {
    const { record } = parse({ meta_v: 2, meta_interval_sec: 10, meta_precision: 10, '70:50': 5, '0:0': 2 });
    expect(record).toMatchObject({ version: 2, arrivals: 7, pending: 0, unknownLength: 2 });
  });

  it('may hold completions without arrivals, and arrivals without completions', () => {
    expect(parse({ ...v4, meta_total_reqs: 0, '70:50': 2 }).record).toMatchObject({ arrivals: 0 });
    expect(parse(v4).record).toMatchObject({ arrivals: 15, buckets: [] });
  });

  it('keeps a request of one token in or out apart from unknown length', () => {
    expect(parse({ ...v4, '70:0': 2, '0:70': 3 }).record).toMatchObject({
      unknownLength: 0,
      buckets: [
        { inputTokens: 128, outputTokens: 1, count: 2 },
        { inputTokens: 1, outputTokens: 128, count: 3 },
      ],
    });
  });

  it('accepts indexes that the gateway itself never writes', () => {
    const { record } = parse({ ...v4, '81:86': 1 });
    expect(record.buckets[0]!.inputTokens).toBeCloseTo(2 ** 8.1, 9);
    expect(record.buckets[0]!.outputTokens).toBeCloseTo(2 ** 8.6, 9);
  });

  it('with a bucket of count 0 is fine, and the bucket is ignored', () => {
    expect(parse({ ...v4, '80:50': 0, '0:0': 0 }).record).toMatchObject({ unknownLength: 0, buckets: [] });
  });

  it('with an unknown key loses only that key, and says so', () => {
    const { record, notices } = parse({ ...v4, '80:50': 3, surprise: 'x', '80': 1, '1:2:3': 1, ' 1:2': 1 });
    expect(record.buckets).toHaveLength(1);
    expect(notices.map((notice) => notice.code)).toEqual(Array(4).fill('unknown_key'));
    expect(notices.map((notice) => notice.message).join('\n')).toContain('surprise');
  });

  it('sums up its unknown keys where there are many', () => {
    const odd = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`odd${i}`, 1]));
    const { notices } = parse({ ...v4, ...odd });
    expect(notices).toHaveLength(6);
    expect(notices.at(-1)!.message).toBe('key: 4995 more keys are no buckets and were left out');
  });

  it('skips meta keys that it does not know, whatever they hold', () => {
    expect(parse({ ...v4, meta_gateway: 'a', meta_len: null, meta_: [] }).notices).toEqual([]);
  });

  it('accepts a version written as a text', () => {
    expect(parse({ ...v4, meta_v: '4' }).record.version).toBe(4);
  });

  it('of a newer version is read as 4, and says so', () => {
    const { record, notices } = parse({ ...v4, meta_v: 6, meta_new: 1 });
    expect(record).toMatchObject({ version: 4, arrivals: 15 });
    expect(notices.map((notice) => notice.code)).toEqual(['newer_version']);
  });

  it('does not take the names of prototypes for anything', () => {
    const text = `{"__proto__":{"meta_total_reqs":7},"constructor":1,"80:50":2,${JSON.stringify(v4).slice(1)}`;
    const { record, notices } = parseTraceRecord(text, 'key');
    expect(record).toMatchObject({ arrivals: 15, buckets: [{ count: 2 }] });
    expect(notices).toHaveLength(2);
  });

  it.each([
    ['precision 0', { ...v4, meta_precision: 0 }, /key: meta_precision: found 0, expected a whole number between 1/],
    ['precision -1', { ...v4, meta_precision: -1 }, /meta_precision: found -1/],
    ['precision 1e9', { ...v4, meta_precision: 1e9 }, /meta_precision: found 1000000000/],
    ['precision as text', { ...v4, meta_precision: '10' }, /meta_precision: found "10"/],
    ['interval 0', { ...v4, meta_interval_sec: 0 }, /meta_interval_sec: found 0, expected a whole number between 1/],
    ['interval 10.5', { ...v4, meta_interval_sec: 10.5 }, /meta_interval_sec: found 10.5/],
    ['version 0', { ...v4, meta_v: 0 }, /meta_v: found 0/],
    ['version as a word', { ...v4, meta_v: 'four' }, /meta_v: found "four"/],
    ['negative arrivals', { ...v4, meta_total_reqs: -3 }, /meta_total_reqs: found -3, expected a whole number/],
    ['absurd arrivals', { ...v4, meta_total_reqs: 1e300 }, /meta_total_reqs: found 1e\+300/],
    ['null pending', { ...v4, meta_pending_reqs: null }, /meta_pending_reqs: found null/],
    ['a negative count', { ...v4, '80:50': -1 }, /key: \["80:50"\]: found -1, expected a whole number between 0/],
    ['a fraction of a request', { ...v4, '80:50': 1.5 }, /\["80:50"\]: found 1.5/],
    ['a count as text', { ...v4, '80:50': '3' }, /\["80:50"\]: found "3"/],
    ['a huge index', { ...v4, '99999999999999999999:1': 1 }, /found a bucket index out of range, expected indexes/],
    ['a negative index', { ...v4, '-1:50': 1 }, /\["-1:50"\]: found a bucket index out of range/],
    ['no precision', { meta_v: 2, meta_interval_sec: 10, '8:7': 1 }, /meta_precision: found nothing/],
    ['no interval', { meta_v: 2, meta_precision: 10, '8:7': 1 }, /meta_interval_sec: found nothing/],
    ['version 3 without arrivals', { ...v4, meta_v: 3, meta_total_reqs: undefined }, /meta_total_reqs: found nothing/],
    ['an array', [v4], /key: found \[\{.*, expected an object of whole numbers/],
    ['null', null, /key: found null, expected an object/],
    ['a number', 7, /key: found 7, expected an object/],
  ])('with %s is unreadable, and names the place', (_, document, message) => {
    expect(faultOf(() => parse(document))).toMatch(message);
  });

  it.each([
    ['NaN', '{"80:50":NaN}', /line 1, column 10: found "NaN", expected a number: strict JSON has no such one/],
    ['half a text', '{"80:50":3', /line 1, column 11: found the end of the text/],
    ['nothing at all', '', /found an empty text/],
    ['infinite counts', '{"80:50":1e999}', /\["80:50"\]: found Infinity/],
  ])('with %s is unreadable', (_, text, message) => {
    expect(faultOf(() => parseTraceRecord(text, 'key'))).toMatch(message);
  });

  it('of another interval length is refused where the length is known', () => {
    const text = JSON.stringify({ ...v4, meta_interval_sec: 20 });
    expect(parseTraceRecord(text, 'key').record.intervalSeconds).toBe(20);
    expect(faultOf(() => parseTraceRecord(text, 'key', { intervalSeconds: 10 }))).toBe(
      'key: meta_interval_sec: found 20, expected 10 (the configured interval in seconds)',
    );
  });
});

describe('formatTraceRecord', () => {
  it('writes lengths as finely as it is asked to', () => {
    const record = { intervalSeconds: 30, arrivals: 3, pending: 0, queueing: 0, unknownLength: 0 };
    const buckets = [{ inputTokens: 1855, outputTokens: 105.75, count: 3 }];
    const [coarse, fine] = [10, 1000].map(
      (precision) => parseTraceRecord(formatTraceRecord({ ...record, buckets }, precision), 'key').record.buckets[0]!,
    );
    expect(Math.abs(fine!.inputTokens / 1855 - 1)).toBeLessThan(0.0004);
    expect(Math.abs(fine!.outputTokens / 105.75 - 1)).toBeLessThan(0.0004);
    expect(Math.abs(coarse!.inputTokens / 1855 - 1)).toBeGreaterThan(0.005);
  });

  it('writes what a gateway of version 4 writes: compact JSON of whole numbers', () => {
    const text = formatTraceRecord({
      intervalSeconds: 10,
      arrivals: 15,
      pending: 4,
      queueing: 0,
      unknownLength: 1,
      buckets: [
        { inputTokens: 2048, outputTokens: 128, count: 3 },
        { inputTokens: 256, outputTokens: 32, count: 8 },
      ],
    });
    expect(text).toBe(
      '{"0:0":1,"110:70":3,"80:50":8,"meta_interval_sec":10,"meta_pending_reqs":4,"meta_precision":10,' +
        '"meta_queueing_reqs":0,"meta_total_reqs":15,"meta_v":4}',
    );
  });
});

const count = fc.integer({ min: 0, max: 100_000 });
const recordArbitrary: fc.Arbitrary<TraceRecord> = fc.record({
  version: fc.constant(4),
  intervalSeconds: fc.integer({ min: 1, max: 3600 }),
  arrivals: count,
  pending: count,
  queueing: count,
  unknownLength: count,
  buckets: fc.uniqueArray(
    fc
      .tuple(fc.integer({ min: 0, max: 400 }), fc.integer({ min: 0, max: 400 }), fc.integer({ min: 1, max: 10_000 }))
      .filter(([input, output]) => input + output > 0)
      .map(([input, output, n]) => ({
        inputTokens: tokensOfBucketIndex(input, 10),
        outputTokens: tokensOfBucketIndex(output, 10),
        count: n,
      })),
    { selector: (entry) => `${entry.inputTokens}:${entry.outputTokens}`, maxLength: 60 },
  ),
});

describe('the parser of interval records', () => {
  it('reads back whatever was written', () => {
    fc.assert(
      fc.property(recordArbitrary, (written) => {
        const { record, notices } = parseTraceRecord(formatTraceRecord(written), 'key');
        expect(record).toEqual(written);
        expect(notices).toEqual([]);
      }),
    );
  });

  it('throws nothing but InputError, and states only finite, whole, non-negative counts', () => {
    const key = fc.oneof(
      fc.string(),
      fc.constantFrom('__proto__', 'constructor', 'toString', '0:0', '80:50', '-1:3', '1e3:2', '80:', 'meta_x'),
      fc.constantFrom(...Object.keys(v4)),
      fc.tuple(fc.integer(), fc.integer()).map(([input, output]) => `${input}:${output}`),
    );
    const value = fc.oneof(fc.jsonValue(), fc.integer(), fc.double(), fc.constantFrom(10, 4, '4', null, -0));
    const document = fc.array(fc.tuple(key, value)).map((entries) => JSON.stringify(Object.fromEntries(entries)));
    const text = fc.oneof(
      fc.string(),
      fc.json(),
      document,
      document.map((whole) => whole.slice(0, -1)),
    );
    fc.assert(
      fc.property(text, (input) => {
        let parsed: TraceRecord;
        try {
          parsed = parseTraceRecord(input, 'key').record;
        } catch (error) {
          expect(error).toBeInstanceOf(InputError);
          return;
        }
        const numbers = [parsed.arrivals, parsed.pending, parsed.queueing, parsed.unknownLength];
        for (const n of [...numbers, ...parsed.buckets.map((entry) => entry.count)]) {
          expect(Number.isSafeInteger(n) && n >= 0).toBe(true);
        }
        for (const { inputTokens, outputTokens } of parsed.buckets) {
          expect(inputTokens >= 1 && inputTokens <= 2 ** 40).toBe(true);
          expect(outputTokens >= 1 && outputTokens <= 2 ** 40).toBe(true);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

const contract = '../shared/contracts/aibrix.md';

describe.skipIf(!existsSync(contract))(
  'the fixtures of the gateway contract (skipped where ../shared is absent)',
  () => {
    const fixtures = () => {
      const section = readFileSync(contract, 'utf8').split('### 1.7 Fixtures')[1]!.split('\n---')[0]!;
      return [...section.matchAll(/\{"[^}]*\}/g)].map(([text]) => text);
    };

    it('parse to the stated numbers', () => {
      const records = fixtures().map((text) => parseTraceRecord(text, 'fixture').record);
      expect(records).toHaveLength(5);
      const [ownTest, realistic, third, first, completionsOnly] = records;
      expect(ownTest).toMatchObject({ version: 4, arrivals: 1, pending: 2, queueing: 3, buckets: [{ count: 1 }] });
      expect(realistic).toMatchObject({ arrivals: 15, pending: 4, unknownLength: 1 });
      expect(realistic!.buckets.map((entry) => entry.count).sort()).toEqual([3, 8]);
      expect(third!.buckets).toHaveLength(63);
      expect(third!.buckets.reduce((sum, entry) => sum + entry.count, 0)).toBe(85);
      expect(third).toMatchObject({ version: 3, arrivals: 90, pending: 10 });
      expect(first).toMatchObject({ version: 1, arrivals: 3 });
      expect(completionsOnly).toMatchObject({ arrivals: 0, pending: 0, buckets: [{ count: 2 }] });
    });

    it('parse as version 2 with the completions for arrivals', () => {
      const { meta_total_reqs, meta_pending_reqs, ...rest } = JSON.parse(fixtures()[2]!);
      expect([meta_total_reqs, meta_pending_reqs]).toEqual([90, 10]);
      const { record } = parse({ ...rest, meta_v: 2 });
      expect(record).toMatchObject({ version: 2, arrivals: 85, pending: 0 });
      expect(record.buckets).toHaveLength(63);
    });
  },
);

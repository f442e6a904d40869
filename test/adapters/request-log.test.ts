import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { createGzip, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { type LoggedRequest, readRequestLog } from '../../src/adapters/request-log.js';
import { InputError } from '../../src/core/input-error.js';

const header = 'timestamp_ms,input_tokens,output_tokens\n';
const folder = mkdtempSync(join(tmpdir(), 'gpumix-log-'));
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
function fileOf(content: string | Buffer): string {
  files += 1;
  const file = join(folder, `log-${files}`);
  writeFileSync(file, content);
  return file;
}

async function collect(rows: AsyncIterable<LoggedRequest>): Promise<readonly (readonly number[])[]> {
  const all: number[][] = [];
  for await (const row of rows) all.push([row.atMs, row.inputTokens, row.outputTokens]);
  return all;
}

function read(content: string | Buffer): Promise<readonly (readonly number[])[]> {
  return collect(readRequestLog({ file: fileOf(content) }));
}

/** The message of the InputError that reading ends with, the file's name cut to FILE. */
async function refusal(content: string | Buffer): Promise<string> {
  const file = fileOf(content);
  try {
    await collect(readRequestLog({ file }));
  } catch (error) {
    if (error instanceof InputError) return error.message.replaceAll(file, 'FILE');
    throw error;
  }
  throw new Error('the log was read');
}

describe('a request log', () => {
  it('is read in its order, several requests in one millisecond included', async () => {
    expect(await read(`${header}0,374,44\n0,1,2\n4314.5,396,109\n`)).toEqual([
      [0, 374, 44],
      [0, 1, 2],
      [4314.5, 396, 109],
    ]);
  });

  it('may be gzip, whatever its name, also of several members', async () => {
    const text = `${header}1,2,3\n`;
    expect(await read(gzipSync(text))).toEqual([[1, 2, 3]]);
    expect(await read(Buffer.concat([gzipSync(header), gzipSync('1,2,3\n4,5,6\n')]))).toEqual([
      [1, 2, 3],
      [4, 5, 6],
    ]);
  });

  it('may come through standard input, in pieces of any size', async () => {
    const bytes = gzipSync(`${header}1,2,3\n10,20,30`);
    for (const content of [Buffer.from(`${header}1,2,3\n10,20,30`), bytes]) {
      const stdin = Readable.from([...content].map((byte) => Buffer.from([byte])));
      expect(await collect(readRequestLog({ file: '-', stdin }))).toEqual([
        [1, 2, 3],
        [10, 20, 30],
      ]);
    }
  });

  it('may have its columns in another order, further columns, quotes, CRLF, a byte order mark, blank lines', async () => {
    const text = '\ufeff"Output_Tokens",tenant,timestamp_ms, input_tokens\r\n3,a,1,2\r\n\r\n"30",b,"10","20"';
    expect(await read(text)).toEqual([
      [1, 2, 3],
      [10, 20, 30],
    ]);
  });

  it('may hold no request', async () => {
    expect(await read(header)).toEqual([]);
  });

  it.each([
    [
      'an empty file',
      '',
      'FILE: found an empty file, expected a header line with timestamp_ms,input_tokens,output_tokens',
    ],
    [
      'an empty gzip file',
      gzipSync(''),
      'FILE: found an empty file, expected a header line with timestamp_ms,input_tokens,output_tokens',
    ],
    [
      'no header',
      '0,1,2\n',
      'FILE: line 1: found "0,1,2", expected a header line with timestamp_ms,input_tokens,output_tokens',
    ],
    [
      'a missing column',
      'timestamp_ms,input_tokens\n0,1\n',
      'FILE: line 1: found a header without output_tokens, expected a header line with timestamp_ms,input_tokens,output_tokens',
    ],
    [
      'a missing cell',
      `${header}0,1,2\n5,1\n`,
      'FILE: line 3, output_tokens: found nothing, expected a whole number of tokens >= 0',
    ],
    [
      'an empty cell',
      `${header}0,,2\n`,
      'FILE: line 2, input_tokens: found "", expected a whole number of tokens >= 0',
    ],
    [
      'a word',
      `${header}0,1,2\n\nnow,1,2\n`,
      'FILE: line 4, timestamp_ms: found "now", expected a number of milliseconds >= 0',
    ],
    [
      'a negative time',
      `${header}-1,1,2\n`,
      'FILE: line 2, timestamp_ms: found "-1", expected a number of milliseconds >= 0',
    ],
    [
      'a time in nanoseconds',
      `${header}1700000000000000000,1,2\n`,
      'FILE: line 2, timestamp_ms: found 1700000000000000000, expected at most 1000000000000000: milliseconds, not micro- or nanoseconds',
    ],
    [
      'negative tokens',
      `${header}0,1,-2\n`,
      'FILE: line 2, output_tokens: found "-2", expected a whole number of tokens >= 0',
    ],
    [
      'half a token',
      `${header}0,1.5,2\n`,
      'FILE: line 2, input_tokens: found 1.5, expected a whole number of tokens >= 0',
    ],
    ['NaN', `${header}0,NaN,2\n`, 'FILE: line 2, input_tokens: found "NaN", expected a whole number of tokens >= 0'],
    [
      'infinity',
      `${header}1e999,1,2\n`,
      'FILE: line 2, timestamp_ms: found "1e999", expected a number of milliseconds >= 0',
    ],
    [
      'absurd tokens',
      `${header}0,1700000000000,2\n`,
      'FILE: line 2, input_tokens: found 1700000000000, expected a whole number of tokens >= 0 and at most 1000000000',
    ],
    [
      'unsorted times',
      `${header}0,1,2\n9,1,2\n8,1,2\n`,
      'FILE: line 4, timestamp_ms: found 8, expected at least the 9 of the row before it (sort the log by time)',
    ],
    [
      'a gzip file cut short',
      gzipSync(`${header}0,1,2\n`).subarray(0, -9),
      'found a gzip file that ends too early, expected a request log in CSV',
    ],
    [
      'a damaged gzip file',
      Buffer.from(gzipSync(`${header}0,1,2\n`).map((byte, i, all) => (i === all.length - 6 ? byte ^ 1 : byte))),
      'found damaged gzip data',
    ],
    ['binary data', Buffer.from([1, 2, 0, 4, 5, 6]), 'FILE: found binary data, expected CSV text, plain or gzip'],
    ['binary data in gzip', gzipSync(Buffer.alloc(100)), 'FILE: found binary data, expected CSV text, plain or gzip'],
    ['a zip archive', Buffer.from('PK\u0003\u0004xyz'), 'FILE: found a zip archive, expected CSV text, plain or gzip'],
    ['zstd data', Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 1]), 'FILE: found zstd data, expected CSV text, plain or gzip'],
    [
      'one endless line',
      'x'.repeat(200_000),
      'FILE: line 1: found a line of more than 65536 characters, expected rows of numbers',
    ],
  ])('is refused with its place: %s', async (_, content, message) => {
    expect(await refusal(content)).toContain(message);
  });

  it('is refused as a file that is not there, or is a folder', async () => {
    const missing = join(folder, 'missing.csv');
    await expect(collect(readRequestLog({ file: missing }))).rejects.toThrow(
      `${missing}: found no such file, expected a request log in CSV, plain or gzip, or - for standard input`,
    );
    await expect(collect(readRequestLog({ file: folder }))).rejects.toThrow(/found a folder/);
  });

  it('gives the rows before a bad one', async () => {
    const rows = readRequestLog({ file: fileOf(`${header}0,1,2\nbad\n`) });
    expect((await rows.next()).value).toEqual({ atMs: 0, inputTokens: 1, outputTokens: 2 });
    await expect(rows.next()).rejects.toThrow(/line 3, timestamp_ms: found "bad"/);
  });

  it.each(['plain', 'gzip'])(
    'is taken no faster than it is used, and let go of when nobody wants more (%s)',
    async (form) => {
      let produced = 0;
      function* endless(): Generator<Buffer> {
        yield Buffer.from(header);
        // Random enough that gzip cannot make nothing of it.
        for (let i = 0; ; i++) {
          const text = Array.from(
            { length: 500 },
            (_, k) => `${i},${(i * 7919 + k * 104729) % 9973},${(k * i) % 997}\n`,
          );
          produced += 1;
          yield Buffer.from(text.join(''));
        }
      }
      const source = Readable.from(endless(), { objectMode: false });
      const stdin = form === 'plain' ? source : source.pipe(createGzip());
      let taken = 0;
      for await (const row of readRequestLog({ file: '-', stdin })) {
        expect(row.outputTokens).toBeLessThan(997);
        taken += 1;
        if (taken === 1000) break;
      }
      expect(produced).toBeLessThan(1000);
      expect(stdin.destroyed).toBe(true);
    },
  );

  it('ends when it is called off while it waits', async () => {
    const stop = new AbortController();
    const silent = new Readable({ read() {} });
    silent.push(`${header}1,2,3\n`);
    const rows = readRequestLog({ file: '-', stdin: silent, signal: stop.signal });
    expect((await rows.next()).value).toEqual({ atMs: 1, inputTokens: 2, outputTokens: 3 });
    const next = rows.next();
    stop.abort();
    await expect(next).rejects.toMatchObject({ name: 'AbortError' });
  });

  it('written from any requests, is read back as they were', async () => {
    const row = fc.tuple(fc.nat({ max: 1e6 }), fc.nat({ max: 1e6 }), fc.nat({ max: 1e5 }));
    await fc.assert(
      fc.asyncProperty(fc.array(row), fc.boolean(), async (rows, gzip) => {
        const sorted = rows.sort((a, b) => a[0] - b[0]);
        const text = header + sorted.map((cells) => `${cells.join(',')}\n`).join('');
        const stdin = Readable.from([gzip ? gzipSync(text) : Buffer.from(text)]);
        expect(await collect(readRequestLog({ file: '-', stdin }))).toEqual(sorted);
      }),
      { numRuns: 50 },
    );
  });

  it('of any bytes either is read or is an InputError', async () => {
    const content = fc.oneof(
      fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
      fc.string().map((text) => Buffer.from(header + text)),
      fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from([0x1f, 0x8b, 8, 0, ...bytes])),
      fc
        .array(fc.constantFrom('0', '1', ',', '\n', '"', '-', '.', 'e', ' '))
        .map((text) => Buffer.from(header + text.join(''))),
    );
    await fc.assert(
      fc.asyncProperty(content, async (bytes) => {
        try {
          await collect(readRequestLog({ file: '-', stdin: Readable.from([bytes]) }));
        } catch (error) {
          expect(error).toBeInstanceOf(InputError);
        }
      }),
      { numRuns: 300 },
    );
  });

  const azure = new URL('../../../shared/data/traces/azure_conv_2023.csv.gz', import.meta.url);
  it.skipIf(!existsSync(azure))('of a public trace has the rows that its publisher counted', async () => {
    const rows = await collect(readRequestLog({ file: azure.pathname }));
    expect(rows.length).toBe(19_366);
    expect(rows[0]).toEqual([0, 374, 44]);
  });
});

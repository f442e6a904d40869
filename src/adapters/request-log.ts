import { createReadStream } from 'node:fs';
import { addAbortSignal, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { StringDecoder } from 'node:string_decoder';
import { createGunzip } from 'node:zlib';
import { InputError, quoteInput } from '../core/input-error.js';

/**
 * A request log: what arrived when, and how long it was.
 *
 * CSV with a header line that names at least `timestamp_ms`, `input_tokens` and `output_tokens`, in any order (other
 * columns are left out); times ascend (several requests may share one millisecond) and may begin anywhere, at 0 or as
 * Unix time; token counts are whole. Plain or gzip, told apart by the first bytes, not by the name.
 */
export type LoggedRequest = {
  /** Milliseconds on the log's own axis. */
  readonly atMs: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
};

const columns = ['timestamp_ms', 'input_tokens', 'output_tokens'] as const;

const expectedHeader = `a header line with ${columns.join(',')}`;

/** A longer line is no row of numbers; without a limit, a file without newlines would become one string in memory. */
const longestLine = 65_536;

/** More tokens than any request has: a larger number is a mistaken column. */
const mostTokens = 1_000_000_000;

/** The year 33658: a later time counts in finer units than milliseconds, or is mistaken. */
const latestMs = 1e15;

/**
 * Reads a request log, row by row and no faster than the rows are taken; memory does not grow with the file.
 *
 * @param options.file path, or `-` for standard input
 * @param options.name names it in errors; by default its path, or `standard input`
 * @param options.signal ends the reading with an AbortError
 * @throws InputError that names file, line and column, what was found and what was expected; rows before it were given
 */
export async function* readRequestLog(options: {
  readonly file: string;
  readonly stdin?: Readable;
  readonly signal?: AbortSignal;
  readonly name?: string;
}): AsyncGenerator<LoggedRequest, void, void> {
  const { file, stdin = process.stdin, signal } = options;
  const source = options.name ?? (file === '-' ? 'standard input' : file);
  const input = file === '-' ? stdin : createReadStream(file);
  if (signal !== undefined) addAbortSignal(signal, input);
  let line = 0;
  try {
    let rows: RowReader | null = null;
    for await (const text of lines(unpacked(input, source), source, () => line)) {
      line += 1;
      if (text === '') continue;
      if (rows === null) rows = readHeader(text, source, line);
      else yield rows(text, line);
    }
    if (rows === null) {
      throw new InputError(source, [
        { place: '', found: line === 0 ? 'an empty file' : 'blank lines only', expected: expectedHeader },
      ]);
    }
  } catch (error) {
    throw readingError(error, source, line);
  } finally {
    input.destroy();
  }
}

type RowReader = (text: string, line: number) => LoggedRequest;

function readHeader(text: string, source: string, line: number): RowReader {
  const names = text.split(',').map((name) => unquoted(name).toLowerCase());
  const places = columns.map((column) => names.indexOf(column));
  const missing = columns.filter((_, i) => places[i]! < 0);
  if (missing.length > 0) {
    const isHeader = missing.length < columns.length;
    throw new InputError(source, [
      {
        place: `line ${line}`,
        found: isHeader ? `a header without ${missing.join(', ')}` : quoteInput(text),
        expected: expectedHeader,
      },
    ]);
  }
  const [timeAt, inputAt, outputAt] = places as [number, number, number];
  let last = 0;
  return (row, at) => {
    const cells = row.split(',');
    const atMs = readNumber(cells[timeAt], source, at, 'timestamp_ms', 'a number of milliseconds >= 0');
    const request = {
      atMs,
      inputTokens: readTokens(cells[inputAt], source, at, 'input_tokens'),
      outputTokens: readTokens(cells[outputAt], source, at, 'output_tokens'),
    };
    if (atMs > latestMs) {
      throw new InputError(source, [
        {
          place: `line ${at}, timestamp_ms`,
          found: quoteInput(atMs),
          expected: `at most ${latestMs}: milliseconds, not micro- or nanoseconds`,
        },
      ]);
    }
    if (atMs < last) {
      throw new InputError(source, [
        {
          place: `line ${at}, timestamp_ms`,
          found: String(atMs),
          expected: `at least the ${last} of the row before it (sort the log by time)`,
        },
      ]);
    }
    last = atMs;
    return request;
  };
}

function readTokens(cell: string | undefined, source: string, line: number, column: string): number {
  const expected = 'a whole number of tokens >= 0';
  const tokens = readNumber(cell, source, line, column, expected);
  if (Number.isInteger(tokens) && tokens <= mostTokens) return tokens;
  throw new InputError(source, [
    {
      place: `line ${line}, ${column}`,
      found: quoteInput(tokens),
      expected: tokens > mostTokens ? `${expected} and at most ${mostTokens}` : expected,
    },
  ]);
}

const decimal = /^\d+(\.\d*)?([eE][+-]?\d{1,3})?$/;

function readNumber(cell: string | undefined, source: string, line: number, column: string, expected: string): number {
  const text = cell === undefined ? undefined : unquoted(cell);
  const value = text !== undefined && decimal.test(text) ? Number(text) : Number.NaN;
  if (Number.isFinite(value)) return value;
  throw new InputError(source, [{ place: `line ${line}, ${column}`, found: quoteInput(text), expected }]);
}

function unquoted(cell: string): string {
  const text = cell.trim();
  return text.length >= 2 && text.startsWith('"') && text.endsWith('"') ? text.slice(1, -1) : text;
}

/** Splits text into lines, without their ends (`\n` or `\r\n`) and without a byte order mark. */
async function* lines(
  chunks: AsyncIterable<Buffer>,
  source: string,
  lineNow: () => number,
): AsyncGenerator<string, void, void> {
  const decoder = new StringDecoder('utf8');
  let rest = '';
  let isFirst = true;
  for await (const chunk of chunks) {
    let text = rest + decoder.write(chunk);
    if (isFirst && text !== '') {
      isFirst = false;
      text = text.replace(/^\ufeff/, '');
    }
    let start = 0;
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', start)) {
      yield text.slice(start, text[end - 1] === '\r' && end > start ? end - 1 : end);
      start = end + 1;
    }
    rest = text.slice(start);
    if (rest.length > longestLine) {
      throw new InputError(source, [
        {
          place: `line ${lineNow() + 1}`,
          found: `a line of more than ${longestLine} characters`,
          expected: 'rows of numbers',
        },
      ]);
    }
  }
  rest += decoder.end();
  if (rest !== '') yield rest.replace(/\r$/, '');
}

/** First bytes of files that are given by mistake, with the way out. */
const otherFormats: readonly { readonly magic: readonly number[]; readonly found: string }[] = [
  { magic: [0x28, 0xb5, 0x2f, 0xfd], found: 'zstd data' },
  { magic: [0xfd, 0x37, 0x7a, 0x58], found: 'xz data' },
  { magic: [0x42, 0x5a, 0x68], found: 'bzip2 data' },
  { magic: [0x50, 0x4b, 0x03, 0x04], found: 'a zip archive' },
  { magic: [0x50, 0x41, 0x52, 0x31], found: 'a Parquet file' },
  { magic: [0xff, 0xfe], found: 'UTF-16 text' },
  { magic: [0xfe, 0xff], found: 'UTF-16 text' },
];
const longestMagic = 4;

/** The bytes of the file, gunzipped where they are gzip. */
async function* unpacked(input: Readable, source: string): AsyncGenerator<Buffer, void, void> {
  const chunks = input[Symbol.asyncIterator]() as AsyncIterator<Buffer | string>;
  let head = Buffer.alloc(0);
  while (head.length < longestMagic) {
    const next = await chunks.next();
    if (next.done === true) break;
    head = Buffer.concat([head, Buffer.from(next.value as Buffer)]);
  }
  const bytes = withHead(head, chunks);
  if (head[0] === 0x1f && head[1] === 0x8b) {
    const gunzip = createGunzip();
    // Errors of either side arrive where the output is read.
    pipeline(Readable.from(bytes), gunzip).catch(() => {});
    for await (const chunk of gunzip) yield refuseBinary(chunk as Buffer, source);
    return;
  }
  const other = otherFormats.find(({ magic }) => magic.every((byte, i) => head[i] === byte));
  if (other !== undefined) {
    throw new InputError(source, [{ place: '', found: other.found, expected: 'CSV text, plain or gzip' }]);
  }
  for await (const chunk of bytes) yield refuseBinary(chunk, source);
}

async function* withHead(head: Buffer, rest: AsyncIterator<Buffer | string>): AsyncGenerator<Buffer, void, void> {
  if (head.length > 0) yield head;
  for (let next = await rest.next(); next.done !== true; next = await rest.next()) {
    yield Buffer.from(next.value as Buffer);
  }
}

function refuseBinary(chunk: Buffer, source: string): Buffer {
  if (!chunk.includes(0)) return chunk;
  throw new InputError(source, [{ place: '', found: 'binary data', expected: 'CSV text, plain or gzip' }]);
}

function readingError(error: unknown, source: string, line: number): unknown {
  if (error instanceof InputError || !(error instanceof Error)) return error;
  const code = 'code' in error ? String(error.code) : '';
  const foundByCode: Readonly<Record<string, string>> = {
    ENOENT: 'no such file',
    EACCES: 'a file that may not be read',
    EISDIR: 'a folder',
    Z_BUF_ERROR: 'a gzip file that ends too early',
    Z_DATA_ERROR: `damaged gzip data (${error.message})`,
  };
  const found = foundByCode[code];
  if (found === undefined) return error;
  const place = code.startsWith('Z_') && line > 0 ? `after line ${line}` : '';
  return new InputError(source, [
    { place, found, expected: 'a request log in CSV, plain or gzip, or - for standard input' },
  ]);
}

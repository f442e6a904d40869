import { isUtf8 } from 'node:buffer';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { InvalidArgumentError } from 'commander';
import { InputError } from '../core/input-error.js';

/** Largest document that a command reads unless told otherwise [MiB]: some 500,000 token buckets. */
export const defaultLimitMib = 64;

/** A text in memory cannot be much longer than 500 MiB in Node. */
const mostLimitMib = 500;

/** The value of a flag `--max-mib`. */
export function parseLimitMib(text: string): number {
  const value = Number(text);
  if (value > 0 && value <= mostLimitMib) return value;
  throw new InvalidArgumentError(`expected a number > 0, at most ${mostLimitMib}.`);
}

const bytesPerMib = 1024 * 1024;

export type DocumentText = {
  readonly text: string;
  /** What errors call it: the file as it was given, or `standard input`. */
  readonly source: string;
};

/**
 * Reads a whole document for a command; `-` is standard input.
 *
 * @param options.file path, or `-`
 * @param options.limitMib a larger document is refused without being read to its end
 * @param options.limitFlag the flag that raises the limit, where the command has one
 * @param options.yaml YAML is read as well; else a file of that name is refused
 * @throws InputError that names the file, what was found and what was expected
 */
export async function readDocument(options: {
  readonly file: string;
  readonly limitMib: number;
  readonly limitFlag?: string;
  readonly yaml?: boolean;
  readonly stdin: Readable;
}): Promise<DocumentText> {
  const { file, limitMib, limitFlag, stdin } = options;
  const kind = options.yaml === true ? 'a JSON or YAML document' : 'a JSON document';
  const limit = { limitMib, limitFlag, kind };
  if (file === '-') {
    return { text: await readBounded(stdin, 'standard input', limit), source: 'standard input' };
  }
  if (options.yaml !== true && isYamlName(file)) {
    throw new InputError(file, [{ place: '', found: 'a YAML file by its name', expected: kind }]);
  }
  try {
    const { size } = await stat(file);
    if (size > limitMib * bytesPerMib) throw tooLarge(file, `${(size / bytesPerMib).toFixed(1)} MiB`, limit);
    return { text: await readBounded(createReadStream(file), file, limit), source: file };
  } catch (error) {
    if (error instanceof InputError) throw error;
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    const found =
      { ENOENT: 'no such file', EACCES: 'a file that may not be read', EISDIR: 'a folder' }[code] ??
      `a file that cannot be read (${error instanceof Error ? error.message : String(error)})`;
    throw new InputError(file, [{ place: '', found, expected: `${kind}, or - for standard input` }]);
  }
}

export function isYamlName(file: string): boolean {
  return /\.ya?ml$/i.test(file);
}

/** Pipes and devices have no size beforehand, so that the limit counts what arrives. */
async function readBounded(stream: Readable, source: string, limit: SizeLimit): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of stream) {
    const buffer = Buffer.isBuffer(chunk) ? chunk : Buffer.from(String(chunk));
    bytes += buffer.length;
    if (bytes > limit.limitMib * bytesPerMib) throw tooLarge(source, `more than ${limit.limitMib} MiB`, limit);
    chunks.push(buffer);
  }
  const whole = Buffer.concat(chunks);
  if (!isUtf8(whole)) {
    throw new InputError(source, [
      { place: '', found: 'bytes that are not UTF-8', expected: `${limit.kind} in UTF-8` },
    ]);
  }
  // Some editors and shells begin every file with a byte order mark, which means nothing in UTF-8.
  return whole.toString('utf8').replace(/^\ufeff/, '');
}

type SizeLimit = { readonly limitMib: number; readonly limitFlag: string | undefined; readonly kind: string };

function tooLarge(source: string, found: string, { limitMib, limitFlag }: SizeLimit): InputError {
  const raise = limitFlag === undefined || limitMib >= mostLimitMib ? '' : ` (${limitFlag} N raises the limit)`;
  return new InputError(source, [{ place: '', found, expected: `a document of at most ${limitMib} MiB${raise}` }]);
}

import { isUtf8 } from 'node:buffer';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError, quoteInput } from '../core/input-error.js';
import type { ExportFile, ExportInput } from '../placement/export/exporter.js';
import { type ExportName, exporters, exportNames } from '../placement/export/exporters.js';
import { flagError, oneOf } from './flag-values.js';
import { unifiedDiff } from './unified-diff.js';
import { checkPlace, isSameFile, type WholeFile, writeWholeFiles } from './whole-file.js';

/** What a placement is written as, and where to. */

/** Where exports go: standard output, one file, or a folder where each file has its usual name. */
export type ExportTarget =
  | { readonly kind: 'stdout' }
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'folder'; readonly path: string };

export type WrittenExport = {
  readonly name: ExportName;
  readonly files: readonly ExportFile[];
  readonly notices: readonly string[];
};

/**
 * The formats of `--export`, each once, in their order.
 *
 * @throws InputError with the nearest name
 */
export function readExportNames(texts: readonly string[]): readonly ExportName[] {
  const names = texts.flatMap((text) => text.split(',')).map((text) => oneOf('--export', text.trim(), exportNames));
  return [...new Set(names)];
}

/**
 * Where `--out` says that exports go, refused before any work where they could not be written or would replace what they
 * are made from.
 *
 * @param options.inputs the files that are read, by what errors call them
 * @throws InputError that says what is in the way
 */
export async function readExportTarget(options: {
  readonly names: readonly ExportName[];
  readonly out: string | undefined;
  readonly diff: boolean;
  readonly inputs: Readonly<Record<string, string>>;
}): Promise<ExportTarget> {
  const { names, out, diff, inputs } = options;
  if (out === undefined) {
    if (diff) return { kind: 'folder', path: '.' };
    if (names.length <= 1) return { kind: 'stdout' };
    throw flagError('--export', {
      found: `${names.length} formats (${names.join(', ')}) for standard output`,
      expected: '--out FOLDER, where each gets its file, or one format',
    });
  }
  if (out === '' || out === '-') {
    throw flagError('--out', {
      found: quoteInput(out),
      expected: 'a file or a folder (without --out, one export is printed)',
    });
  }
  const target = await fileOrFolder(out, names);
  const paths = target.kind === 'file' ? [out] : names.map((name) => join(out, exporters[name].fileName));
  for (const path of paths) {
    for (const [read, file] of Object.entries(inputs)) {
      if (!(await isSameFile(path, file))) continue;
      throw flagError('--out', { found: `the file of ${read}`, expected: 'a file of its own: it would be replaced' });
    }
    if (!diff) await checkPlace('--out', path);
  }
  return target;
}

async function fileOrFolder(
  out: string,
  names: readonly ExportName[],
): Promise<Exclude<ExportTarget, { readonly kind: 'stdout' }>> {
  const existing = await stat(out).catch(() => null);
  if (existing?.isDirectory() === true) return { kind: 'folder', path: out };
  const refuse = (found: string, expected: string) => new InputError('--out', [{ place: out, found, expected }]);
  if (/[/\\]$/.test(out)) throw refuse(existing === null ? 'no such folder' : 'a file', 'a folder that exists');
  if (names.length === 1) return { kind: 'file', path: out };
  const expected = `a folder that exists, for ${names.length} exports (${names.join(', ')})`;
  throw refuse(existing === null ? 'nothing of that name' : 'a file', expected);
}

/** @throws InputError where a format cannot hold what was placed */
export function writeExports(names: readonly ExportName[], input: ExportInput): readonly WrittenExport[] {
  const written = names.map((name): WrittenExport => ({ name, ...exporters[name].write(input) }));
  const first = new Map<string, ExportName>();
  for (const { name, files } of written) {
    for (const { fileName } of files) {
      const other = first.get(fileName);
      if (other !== undefined && other !== name) {
        throw flagError('--export', {
          found: `${fileName} of ${other} and of ${name}`,
          expected: 'one of them at a time',
        });
      }
      first.set(fileName, name);
    }
  }
  return written;
}

/**
 * The text that one export is on standard output.
 *
 * @throws InputError where it is several files
 */
export function printedExport({ name, files }: WrittenExport): string {
  if (files.length === 1) return files[0]!.text;
  throw flagError('--export', {
    found: `${files.length} files of ${name}`,
    expected: '--out FOLDER, where each gets its name',
  });
}

export type PlacedFile = { readonly name: ExportName; readonly path: string; readonly text: string };

/** @throws InputError where several files are to go into one */
export function placeFiles(
  exports: readonly WrittenExport[],
  target: Exclude<ExportTarget, { readonly kind: 'stdout' }>,
): readonly PlacedFile[] {
  return exports.flatMap(({ name, files }) => {
    if (target.kind === 'folder') {
      return files.map(({ fileName, text }) => ({ name, path: join(target.path, fileName), text }));
    }
    if (files.length === 1) return [{ name, path: target.path, text: files[0]!.text }];
    const names = files.map(({ fileName }) => fileName).join(', ');
    throw new InputError('--out', [
      { place: target.path, found: `${files.length} files of ${name} (${names})`, expected: 'a folder that exists' },
    ]);
  });
}

/** All of them or none. */
export async function writeFiles(files: readonly PlacedFile[]): Promise<void> {
  await writeWholeFiles(files.map(({ path, text }): WholeFile => ({ path, text, flag: '--out' })));
}

/** Largest file that is compared [bytes]: every export of ours is far smaller. */
const largestCompared = 64 * 1024 * 1024;

/**
 * What would change on disk: '' where nothing would.
 *
 * @throws InputError for a file that cannot be read as text
 */
export async function diffFiles(files: readonly PlacedFile[]): Promise<string> {
  const diffs: string[] = [];
  for (const { path, text } of files) diffs.push(unifiedDiff({ path, before: await readExisting(path), after: text }));
  return diffs.join('');
}

async function readExisting(path: string): Promise<string | null> {
  const refuse = (found: string) =>
    new InputError('--diff', [{ place: path, found, expected: 'a text file, or no file yet' }]);
  try {
    const info = await stat(path);
    if (!info.isFile()) throw refuse(info.isDirectory() ? 'a folder' : 'what is no file');
    if (info.size > largestCompared) throw refuse(`${(info.size / 1024 / 1024).toFixed(1)} MiB`);
    const bytes = await readFile(path);
    if (!isUtf8(bytes)) throw refuse('bytes that are not UTF-8');
    return bytes.toString('utf8');
  } catch (error) {
    if (error instanceof InputError) throw error;
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    if (code === 'ENOENT') return null;
    throw refuse(code === 'EACCES' ? 'a file that may not be read' : `a file that cannot be read (${code})`);
  }
}

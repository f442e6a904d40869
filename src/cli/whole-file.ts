import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { access, chmod, lstat, open, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { InputError } from '../core/input-error.js';

/**
 * Files that commands write: whole or not at all, and refused before any work where they could not be written.
 */

const writable = 'a file that can be written';

/** One file to write, and the flag that errors name. */
export type WholeFile = { readonly path: string; readonly text: string; readonly flag: string };

/**
 * Writes a file whole or not at all: to a temporary file beside it, which then takes its name. A file that is there
 * keeps its mode; a link is followed; what is no regular file (a pipe, /dev/stdout) is written as it is.
 *
 * @throws InputError where it cannot be written
 */
export async function writeWholeFile(file: WholeFile): Promise<void> {
  await writeWholeFiles([file]);
}

/**
 * Writes several files: all of them are on disk beside their places before the first takes its name, so that a full
 * disk leaves every one as it was.
 *
 * @throws InputError that names the file that cannot be written
 */
export async function writeWholeFiles(files: readonly WholeFile[]): Promise<void> {
  const staged: { readonly file: WholeFile; readonly temporary: string; readonly place: string }[] = [];
  const direct: WholeFile[] = [];
  try {
    for (const file of files) {
      await named(file, async () => {
        const place = await resolvePlace(file.path);
        if (!place.replaceable) {
          direct.push({ ...file, path: place.path });
          return;
        }
        const temporary = join(dirname(place.path), `.${basename(place.path).slice(0, 100)}.${randomUUID()}.tmp`);
        staged.push({ file, temporary, place: place.path });
        const handle = await open(temporary, 'wx', 0o666);
        // On disk before it takes the name: a crash in between must not leave an empty file.
        await handle
          .writeFile(file.text)
          .then(() => handle.sync())
          .finally(() => handle.close());
        if (place.mode !== null) await chmod(temporary, place.mode);
      });
    }
    for (const { file, temporary, place } of staged) await named(file, () => rename(temporary, place));
  } catch (error) {
    for (const { temporary } of staged) await rm(temporary, { force: true });
    throw error;
  }
  for (const file of direct) {
    await named(file, async () => {
      const handle = await open(file.path, 'w');
      await handle.writeFile(file.text).finally(() => handle.close());
    });
  }
}

/** What fails there is the fault of the flag that names the file. */
async function named({ path, flag }: WholeFile, write: () => Promise<void>): Promise<void> {
  try {
    await write();
  } catch (error) {
    throw new InputError(flag, [{ place: path, found: describeFileFault(error), expected: writable }]);
  }
}

type Place = {
  readonly path: string;
  /** By a file of its name: a regular file, or nothing yet. */
  readonly replaceable: boolean;
  /** Permission bits of the file that is there. */
  readonly mode: number | null;
};

async function resolvePlace(path: string): Promise<Place> {
  try {
    const real = await realpath(path);
    const info = await lstat(real);
    if (info.isDirectory()) throw Object.assign(new Error('a folder'), { code: 'EISDIR' });
    return { path: real, replaceable: info.isFile(), mode: info.mode & 0o7777 };
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return { path, replaceable: true, mode: null };
    throw error;
  }
}

/**
 * Refuses a place where a file could not be written, before anything is computed for it. A file without a write bit is
 * refused although it could be replaced: somebody took the bit away.
 *
 * @param flag names the flag in errors
 * @throws InputError that says what is in the way
 */
export async function checkPlace(flag: string, path: string): Promise<void> {
  const refuse = (found: string): InputError => new InputError(flag, [{ place: path, found, expected: writable }]);
  const existing = await stat(path).catch(() => null);
  if (existing?.isDirectory() === true) throw refuse('a folder');
  if (existing !== null && !existing.isFile()) return;
  if (existing !== null && (existing.mode & 0o222) === 0) throw refuse('a file that is read-only');
  const folder = dirname(existing === null ? resolve(path) : await realpath(path));
  const isFolder = (await stat(folder).catch(() => null))?.isDirectory() === true;
  if (!isFolder) throw refuse('no such folder');
  await access(folder, constants.W_OK).catch(() => {
    throw refuse('a folder that may not be written');
  });
}

/** Also by another name, such as a link. False where one of them does not exist. */
export async function isSameFile(a: string, b: string): Promise<boolean> {
  const [one, other] = await Promise.all([a, b].map((path) => stat(path).catch(() => null)));
  return one != null && other != null && one.isFile() && one.dev === other.dev && one.ino === other.ino;
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

/** What the operating system says of a file, as a noun phrase. */
export function describeFileFault(error: unknown): string {
  const known: Readonly<Record<string, string>> = {
    ENOENT: 'no such file or folder',
    EACCES: 'one that may not be used',
    EPERM: 'one that may not be used',
    EISDIR: 'a folder',
    ENOTDIR: 'a path through what is no folder',
    EROFS: 'a file system that is read-only',
    ENOSPC: 'a full disk',
  };
  return known[codeOf(error)] ?? `what cannot be used (${error instanceof Error ? error.message : String(error)})`;
}

import { type FileHandle, open } from 'node:fs/promises';
import { InputError } from '../core/input-error.js';

/** A file of lines that grows group by group: what was appended stays, whatever ends the process. */
export type RowFile = {
  /** What the file held when it was opened, without a last line that was cut off. */
  readonly text: string;
  /** Characters of that cut-off line that were dropped; 0 = none. */
  readonly cutCharacters: number;
  /**
   * Appends whole lines in one write; what fits in part is taken back, so that the file ends with a whole line.
   *
   * @throws InputError where the disk is full
   */
  append(lines: string): Promise<void>;
  /** Shortens the file to its first characters; only before the first `append`. */
  cutTo(characters: number): Promise<void>;
  close(): Promise<void>;
};

/**
 * Opens a file to append rows to.
 *
 * @param options.resume false: the file must not exist yet, so that nothing is mixed up or lost
 * @throws InputError where it exists, cannot be written, or (resume) is not there
 */
export async function openRowFile(file: string, options: { readonly resume: boolean }): Promise<RowFile> {
  let handle: FileHandle;
  try {
    handle = await open(file, options.resume ? 'r+' : 'wx+');
  } catch (error) {
    throw openingError(error, file);
  }
  try {
    const whole = await handle.readFile('utf8');
    const end = whole.lastIndexOf('\n') + 1;
    const text = whole.slice(0, end);
    let length = Buffer.byteLength(text);
    if (end < whole.length) await handle.truncate(length);
    return {
      text,
      cutCharacters: whole.length - end,
      append: async (lines) => {
        const bytes = Buffer.from(lines);
        let written = 0;
        try {
          // One call; a file system that takes only a part gets the rest at once.
          while (written < bytes.length) {
            const part = await handle.write(bytes, written, bytes.length - written, length + written);
            written += part.bytesWritten;
          }
        } catch (error) {
          await handle.truncate(length);
          throw codeOf(error) === 'ENOSPC' ? diskFull(file) : error;
        }
        length += bytes.length;
      },
      cutTo: async (characters) => {
        length = Buffer.byteLength(text.slice(0, characters));
        await handle.truncate(length);
      },
      close: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

function diskFull(file: string): InputError {
  const expected = 'room for the rows; those before are kept, and --resume goes on after them';
  return new InputError(file, [{ place: '', found: 'a full disk', expected }]);
}

function openingError(error: unknown, file: string): unknown {
  const code = codeOf(error);
  const told: Readonly<Record<string, readonly [string, string]>> = {
    EEXIST: ['a file that exists', 'a new file, or --resume to go on with this one'],
    ENOENT: ['no such file or folder', 'a file in a folder that exists (--resume goes on with a file that is there)'],
    EACCES: ['a file that may not be written', 'a file that may'],
    EISDIR: ['a folder', 'a file'],
    EROFS: ['a file system that cannot be written', 'one that can'],
  };
  const words = told[code];
  return words === undefined ? error : new InputError(file, [{ place: '', found: words[0], expected: words[1] }]);
}

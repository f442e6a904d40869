import { isUtf8 } from 'node:buffer';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from '../core/input-error.js';
import {
  type ProfileKey,
  type ProfileReading,
  type ProfileSource,
  type SharedStore,
  Unavailable,
} from '../core/ports.js';
import { parseProfile } from '../core/profile.js';
import { largestValueBytes } from './store-keys.js';

/**
 * Profiles from the shared store, or from a directory of files.
 *
 * Both are read anew for every cycle, so that a new profile changes the next plan without a restart. A text is parsed
 * only when it is not the one that was parsed last: an unchanged profile is the very same object in every reading.
 */
type ProfileRequest = ProfileKey & { readonly id: string };

/** Profiles by exact key of the shared store; never a scan. */
export function createStoreProfiles(store: SharedStore): ProfileSource {
  const parser = new ProfileParser();
  return {
    async read(keys) {
      const readings = await store.readProfiles(keys);
      return parser.readAll(keys, (key, i) => {
        const reading = readings[i]!;
        if (reading.kind !== 'failed') return reading.kind === 'present' ? reading.text : null;
        return new InputError(describeProfile(key), [
          { place: '', found: `a value that cannot be read (${reading.message})`, expected: 'a profile in JSON' },
        ]);
      });
    },
  };
}

/**
 * Profiles from files of a directory: `<model>/<deployment>.json`, or else `<deployment>.json` for any model.
 *
 * The names are those of the model and of the deployment (without namespace), where `/`, `\`, `%`, control characters
 * and a dot at the beginning are percent-encoded: `meta-llama/Llama-2-7b` is the folder `meta-llama%2FLlama-2-7b`. No
 * name therefore leads out of the directory.
 */
export function createFileProfiles(directory: string): ProfileSource {
  const parser = new ProfileParser();
  return {
    async read(keys) {
      await requireDirectory(directory);
      const texts = new Array<string | InputError | null>(keys.length);
      let next = 0;
      const readSome = async (): Promise<void> => {
        while (next < keys.length) {
          const i = next++;
          texts[i] = await readProfileFile(directory, keys[i]!);
        }
      };
      await Promise.all(Array.from({ length: filesAtOnce }, readSome));
      return parser.readAll(keys, (_, i) => texts[i]!);
    },
  };
}

/** Open files at once: enough to keep a disk busy, far from any limit of a process. */
const filesAtOnce = 16;

/** Reads after which a key that nobody asks for is forgotten: several cycles, but not for ever. */
const forgetAfterReads = 64;

type Parsed = { readonly text: string; readonly reading: ProfileReading; lastRead: number };

/** Parses texts, each again only when it changed. */
class ProfileParser {
  readonly #parsed = new Map<string, Parsed>();
  #reads = 0;

  /** @param textOf the text of a key, null where there is none, or why it cannot be read */
  readAll(
    keys: readonly ProfileRequest[],
    textOf: (key: ProfileRequest, index: number) => string | InputError | null,
  ): readonly ProfileReading[] {
    this.#reads += 1;
    const readings = keys.map((key, i): ProfileReading => {
      const text = textOf(key, i);
      if (text === null) return { kind: 'absent' };
      return text instanceof InputError ? { kind: 'bad', error: text } : this.#parse(key, text);
    });
    if (this.#reads % forgetAfterReads === 0) {
      for (const [name, parsed] of this.#parsed) {
        if (parsed.lastRead <= this.#reads - forgetAfterReads) this.#parsed.delete(name);
      }
    }
    return readings;
  }

  #parse(key: ProfileRequest, text: string): ProfileReading {
    const name = `${key.id}\n${key.model}`;
    const known = this.#parsed.get(name);
    if (known?.text === text) {
      known.lastRead = this.#reads;
      return known.reading;
    }
    const reading = parseReading(text, describeProfile(key));
    this.#parsed.set(name, { text, reading, lastRead: this.#reads });
    return reading;
  }
}

function parseReading(text: string, source: string): ProfileReading {
  try {
    return { kind: 'present', profile: parseProfile(text, source) };
  } catch (error) {
    if (error instanceof InputError) return { kind: 'bad', error };
    throw error;
  }
}

/** Longest piece of a model's name that an error repeats, in characters. */
const shownModelLength = 100;

function describeProfile({ model, id }: ProfileRequest): string {
  const shown = model.length > shownModelLength ? `${model.slice(0, shownModelLength)}…` : model;
  return `profile of ${JSON.stringify(shown)} on ${id}`;
}

async function requireDirectory(directory: string): Promise<void> {
  let found = 'a file';
  try {
    if ((await stat(directory)).isDirectory()) return;
  } catch (error) {
    found = errorCode(error) === 'ENOENT' ? 'nothing' : `what cannot be read (${errorCode(error)})`;
  }
  throw new Unavailable('profiles_unreachable', `profiles in ${directory}: found ${found}, expected a directory`);
}

async function readProfileFile(directory: string, key: ProfileRequest): Promise<string | InputError | null> {
  const file = `${encodeName(key.deployment)}.json`;
  const ofModel = await readTextFile(join(directory, encodeName(key.model), file), key);
  return ofModel ?? readTextFile(join(directory, file), key);
}

/** A name as one segment of a path, never `.`, `..` or more than one. */
function encodeName(name: string): string {
  const encode = (character: string): string =>
    `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`;
  return Array.from(name, (character, i) => {
    const isControl = character < ' ' || character === '\u007f';
    const isSpecial = character === '/' || character === '\\' || character === '%';
    return isControl || isSpecial || (character === '.' && i === 0) ? encode(character) : character;
  }).join('');
}

/** The whole text, null where there is no such file, or why it cannot be used. */
async function readTextFile(path: string, key: ProfileRequest): Promise<string | InputError | null> {
  const refuse = (found: string): InputError =>
    new InputError(describeProfile(key), [{ place: path, found, expected: 'a profile in JSON' }]);
  try {
    // Looked at before it is opened: opening a pipe waits for its writer.
    const info = await stat(path);
    if (!info.isFile()) return refuse('what is no file');
    if (info.size > largestValueBytes) return refuse(`${info.size} bytes (at most ${largestValueBytes} are read)`);
    const bytes = await readFile(path);
    return isUtf8(bytes) ? bytes.toString('utf8') : refuse('bytes that are not UTF-8');
  } catch (error) {
    const code = errorCode(error);
    if (noSuchFile.includes(code)) return null;
    if (code === 'EACCES' || code === 'EPERM') return refuse('a file that may not be read');
    throw new Unavailable('profiles_unreachable', `profiles: ${path} cannot be read (${code})`);
  }
}

/** A name that is too long for any file names none. */
const noSuchFile: readonly string[] = ['ENOENT', 'ENOTDIR', 'ENAMETOOLONG'];

function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}

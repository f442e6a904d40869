import { isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
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
 * Thousands of them are read some at a time, so that neither memory nor the event loop meets all of their texts at once.
 */
type ProfileRequest = ProfileKey & { readonly id: string };

/** Profiles by exact key of the shared store; never a scan. */
export function createStoreProfiles(store: SharedStore): ProfileSource {
  const parser = new ProfileParser();
  return {
    read: (keys) =>
      parser.readAll(keys, async (some) => {
        const readings = await store.readProfiles(some);
        return readings.map((reading, i) => {
          if (reading.kind !== 'failed') return reading.kind === 'present' ? reading.text : null;
          return new InputError(describeProfile(some[i]!), [
            { place: '', found: `a value that cannot be read (${reading.message})`, expected: 'a profile in JSON' },
          ]);
        });
      }),
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
      return parser.readAll(keys, async (some) => {
        const texts = new Array<string | InputError | null>(some.length);
        let next = 0;
        const readSome = async (): Promise<void> => {
          while (next < some.length) {
            const i = next++;
            texts[i] = await readProfileFile(directory, some[i]!);
          }
        };
        await Promise.all(Array.from({ length: filesAtOnce }, readSome));
        return texts;
      });
    },
  };
}

/** Open files at once: enough to keep a disk busy, far from any limit of a process. */
const filesAtOnce = 16;

/** Profiles whose texts are in memory at once. */
const keysPerRead = 250;

/** New profiles that are parsed between two turns of the event loop: each takes a fraction of a millisecond. */
const parsedPerTurn = 20;

/** Reads after which a key that nobody asks for is forgotten: several cycles, but not for ever. */
const forgetAfterReads = 64;

type Parsed = { readonly digest: string; readonly reading: ProfileReading; lastRead: number };

/** Parses texts, each again only when it changed. */
class ProfileParser {
  readonly #parsed = new Map<string, Parsed>();
  #reads = 0;

  /** @param textsOf the texts of some keys: each null where there is none, or why it cannot be read */
  async readAll(
    keys: readonly ProfileRequest[],
    textsOf: (some: readonly ProfileRequest[]) => Promise<readonly (string | InputError | null)[]>,
  ): Promise<readonly ProfileReading[]> {
    this.#reads += 1;
    const readings: ProfileReading[] = [];
    let parsed = 0;
    for (let start = 0; start < keys.length; start += keysPerRead) {
      const some = keys.slice(start, start + keysPerRead);
      const texts = await textsOf(some);
      for (const [i, key] of some.entries()) {
        const text = texts[i]!;
        if (text === null) readings.push({ kind: 'absent' });
        else if (text instanceof InputError) readings.push({ kind: 'bad', error: text });
        else {
          const digest = digestOf(text);
          const known = this.#known(key, digest);
          readings.push(known ?? this.#parse(key, text, digest));
          if (known === null && ++parsed % parsedPerTurn === 0) await nextTurn();
        }
      }
    }
    if (this.#reads % forgetAfterReads === 0) {
      for (const [name, { lastRead }] of this.#parsed) {
        if (lastRead <= this.#reads - forgetAfterReads) this.#parsed.delete(name);
      }
    }
    return readings;
  }

  #known(key: ProfileRequest, digest: string): ProfileReading | null {
    const known = this.#parsed.get(nameOf(key));
    if (known?.digest !== digest) return null;
    known.lastRead = this.#reads;
    return known.reading;
  }

  #parse(key: ProfileRequest, text: string, digest: string): ProfileReading {
    const reading = parseReading(text, describeProfile(key));
    this.#parsed.set(nameOf(key), { digest, reading, lastRead: this.#reads });
    return reading;
  }
}

function nameOf({ id, model }: ProfileRequest): string {
  return `${id}\n${model}`;
}

/** Stands for a text that was parsed: a fleet's texts are tens of megabytes that would be kept for a comparison. */
function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('base64');
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
  const [ofModel, ofAny] = profilePaths(key);
  return (await readTextFile(join(directory, ofModel), key)) ?? readTextFile(join(directory, ofAny), key);
}

/** Where a profile is looked for, within the directory of profiles: of its model, and of any. */
export function profilePaths({ model, deployment }: ProfileKey): readonly [ofModel: string, ofAny: string] {
  const file = `${encodeName(deployment)}.json`;
  return [join(encodeName(model), file), file];
}

/** Files that are listed; more is no directory of profiles. */
const mostFiles = 20_000;

/**
 * Paths within the directory that can be profiles, sorted.
 *
 * @throws Unavailable where it cannot be read
 */
export async function listProfileFiles(
  directory: string,
): Promise<{ readonly files: readonly string[]; readonly complete: boolean }> {
  await requireDirectory(directory);
  const files: string[] = [];
  // Names of ours never begin with a dot; what does is the mount's (`..data`) or an editor's.
  const entriesOf = async (folder: string) =>
    (await readdir(join(directory, folder), { withFileTypes: true })).filter(({ name }) => !name.startsWith('.'));
  const take = (folder: string, entries: Awaited<ReturnType<typeof entriesOf>>) => {
    for (const entry of entries) {
      if (!entry.isDirectory() && entry.name.endsWith('.json')) files.push(join(folder, entry.name));
    }
  };
  try {
    const entries = await entriesOf('');
    take('', entries);
    for (const { name } of entries.filter((entry) => entry.isDirectory())) {
      if (files.length > mostFiles) break;
      take(name, await entriesOf(name));
    }
  } catch (error) {
    throw new Unavailable('profiles_unreachable', `profiles in ${directory} cannot be read (${errorCode(error)})`);
  }
  return { files: files.slice(0, mostFiles).sort(), complete: files.length <= mostFiles };
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

import { createHash, timingSafeEqual } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { bearerTokenPattern, longestBearerToken } from '../core/bearer-token.js';
import { InputError, type InputIssue } from '../core/input-error.js';
import type { Clock, TokenAuthority } from '../core/ports.js';

/**
 * Bearer tokens in a file, one a line, for people and scripts that may change something.
 *
 * The file is looked at when somebody asks, at most once a second, and read when it is another one: in place, by rename,
 * or behind the symbolic links that Kubernetes swaps in the volume of a Secret. No watch, so nothing to start or stop.
 */

/** What is kept of a token: nobody can send a digest, and digests are all equally long. */
export type KnownToken = { readonly digest: Buffer; readonly line: number };

/** A token of 16 letters and digits has 80 bits or more where it was made by chance; shorter ones are passwords. */
const shortestToken = 16;

/** Rotation needs two. More than a hundred is another file. */
const mostTokens = 100;

/** [bytes] */
const largestFile = 1024 * 1024;

/** How long a file that was looked at is taken to be the same [ms]. A token that is taken out counts as long. */
const lookAgainMs = 1000;

/**
 * The tokens of a file: one a line; empty lines and those that begin with # do not count, nor does space around a token.
 *
 * @throws InputError that names lines, and never repeats what stands there
 */
export function parseTokens(text: string, source: string): readonly KnownToken[] {
  const issues: InputIssue[] = [];
  const tokens: KnownToken[] = [];
  // Files that were made on Windows may begin with a byte order mark.
  const lines = text.replace(/^\uFEFF/, '').split(/\r\n|\n|\r/);
  lines.forEach((raw, index) => {
    const token = raw.trim();
    if (token === '' || token.startsWith('#')) return;
    const fault = faultOf(token);
    if (fault === null) tokens.push({ digest: digestOf(token), line: index + 1 });
    else issues.push({ place: `line ${index + 1}`, ...fault });
  });
  if (issues.length > 0) throw new InputError(source, issues);
  if (tokens.length > 0 && tokens.length <= mostTokens) return tokens;
  const found = tokens.length === 0 ? 'no token' : `${tokens.length} tokens`;
  throw new InputError(source, [{ place: '', found, expected: `1 to ${mostTokens} tokens, one a line` }]);
}

function faultOf(token: string): Pick<InputIssue, 'found' | 'expected'> | null {
  if (!bearerTokenPattern.test(token)) {
    return {
      found: 'characters that no Authorization header can carry',
      expected: 'a token of A-Z a-z 0-9 - . _ ~ + / with = at its end only, such as `openssl rand -hex 32` makes',
    };
  }
  if (token.length >= shortestToken && token.length <= longestBearerToken) return null;
  return {
    found: `${token.length} characters`,
    expected: `a token of ${shortestToken} to ${longestBearerToken} characters, such as \`openssl rand -hex 32\` makes`,
  };
}

function digestOf(token: string): Buffer {
  return createHash('sha256').update(token, 'utf8').digest();
}

/** The known token that equals one, in a time that says nothing about any of them. */
export function findToken(token: string, known: readonly KnownToken[]): KnownToken | null {
  const digest = digestOf(token);
  let found: KnownToken | null = null;
  for (const each of known) if (timingSafeEqual(each.digest, digest)) found = each;
  return found;
}

type Version = { readonly tokens: readonly KnownToken[]; readonly mark: string; readonly isPublic: boolean };

type Log = { warn(details: object, message: string): void; info(details: object, message: string): void };

/**
 * Reads the file, and judges by it from then on. A newer file that cannot be used changes nothing, and is told once:
 * tokens are taken away by a file without them, not by no file.
 *
 * @throws InputError where the file cannot be used from the start
 */
export async function openTokenFile(
  file: string,
  { clock, log }: { readonly clock: Clock; readonly log: Log },
): Promise<TokenAuthority> {
  let current = await readTokens(file);
  if (current.isPublic) {
    log.warn({ file }, `${file} can be read by every user of this machine: chmod o= (Kubernetes: defaultMode: 0440)`);
  }
  let lookedAtMs = clock.now();
  let told: string | null = null;
  let looking: Promise<void> | null = null;

  const look = async (): Promise<void> => {
    try {
      if ((await markOf(file)) !== current.mark) {
        current = await readTokens(file);
        log.info({ file, tokens: current.tokens.length }, `${file}: read again, ${countOf(current.tokens)}`);
      } else if (told !== null) log.info({ file }, `${file}: can be read again`);
      told = null;
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      if (message !== told) log.warn({ file }, `the tokens that were read before stay in force: ${message}`);
      told = message;
    }
  };

  return {
    async judge(token) {
      const nowMs = clock.now();
      // A clock that was set back must not keep the file from being read.
      if (Math.abs(nowMs - lookedAtMs) >= lookAgainMs) {
        lookedAtMs = nowMs;
        looking ??= look().finally(() => {
          looking = null;
        });
      }
      await looking;
      const known = findToken(token, current.tokens);
      return known === null
        ? { kind: 'unknown-token' }
        : { kind: 'allowed', user: `the token in line ${known.line} of ${file}` };
    },
  };
}

function countOf({ length }: readonly KnownToken[]): string {
  return length === 1 ? '1 token' : `${length} tokens`;
}

/** Changes whenever the file does, whichever way it was replaced. */
async function markOf(file: string): Promise<string> {
  return mark(await stat(file, { bigint: true }).catch((error) => refuse(file, error)));
}

type Facts = Readonly<Record<'dev' | 'ino' | 'size' | 'mtimeNs' | 'ctimeNs', bigint>>;

function mark({ dev, ino, size, mtimeNs, ctimeNs }: Facts): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join(' ');
}

async function readTokens(file: string): Promise<Version> {
  let handle: FileHandle;
  try {
    // Without the second flag a named pipe would be waited for.
    handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    return refuse(file, error);
  }
  try {
    const before = await handle.stat({ bigint: true });
    const wrong = (found: string, expected: string) => new InputError(file, [{ place: '', found, expected }]);
    if (!before.isFile()) throw wrong(before.isDirectory() ? 'a folder' : 'no regular file', 'a file of tokens');
    if (before.size > largestFile) throw wrong(`${before.size} bytes`, `at most ${largestFile} bytes`);
    const text = await handle.readFile('utf8');
    // Half of a file that is being written would hold half a token.
    if (mark(await handle.stat({ bigint: true })) !== mark(before)) {
      throw wrong('a file that is being written', 'one that stays the same while it is read');
    }
    return { tokens: parseTokens(text, file), mark: mark(before), isPublic: (before.mode & 0o004n) !== 0n };
  } catch (error) {
    if (error instanceof InputError) throw error;
    return refuse(file, error);
  } finally {
    await handle.close();
  }
}

/** @throws InputError */
function refuse(file: string, error: unknown): never {
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
  const found = code === 'ENOENT' ? 'no such file' : `a file that cannot be read (${code})`;
  throw new InputError(file, [{ place: '', found, expected: 'a file of tokens, one a line' }]);
}

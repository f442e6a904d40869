import { execFileSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findToken, openTokenFile, parseTokens } from '../../src/adapters/token-file.js';
import { InputError } from '../../src/core/input-error.js';
import type { TokenAuthority } from '../../src/core/ports.js';

const wish = { verb: 'put', path: '/scale/default/a' };
const [first, second, third] = ['first-token-0123456789', 'second-token-0123456789', 'third-token-0123456789'] as const;

function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(InputError);
    return (error as Error).message;
  }
  throw new Error('nothing was refused');
}

describe('the text of a token file', () => {
  const line = fc.oneof(
    fc
      .string({ unit: fc.constantFrom(...'abcXYZ019-._~+/'), minLength: 16, maxLength: 60 })
      .map((text) => ({ text, token: text })),
    fc
      .string({ unit: fc.constantFrom(...'ab c#="\t'), maxLength: 20 })
      .map((text) => ({ text: `# ${text}`, token: null })),
    fc.constantFrom('', ' ', '\t').map((text) => ({ text, token: null })),
  );

  it('is one token a line, whatever ends the lines and whatever stands between', () => {
    fc.assert(
      fc.property(
        fc.array(line, { maxLength: 30 }),
        fc.constantFrom('\n', '\r\n', '\r'),
        fc.boolean(),
        (lines, end, mark) => {
          const text =
            (mark ? '\ufeff' : '') + lines.map((each, at) => (at % 2 === 0 ? each.text : `  ${each.text}\t`)).join(end);
          const expected = lines.flatMap(({ token }, at) => (token === null ? [] : [{ token, line: at + 1 }]));
          if (expected.length === 0) {
            expect(refusal(() => parseTokens(text, 'f'))).toBe(
              'f: found no token, expected 1 to 100 tokens, one a line',
            );
            return;
          }
          const tokens = parseTokens(text, 'f');
          expect(tokens.map((token) => token.line)).toEqual(expected.map((token) => token.line));
          for (const { token } of expected) {
            expect(findToken(token, tokens)).not.toBeNull();
            expect(findToken(`${token}x`, tokens)).toBeNull();
            expect(findToken(token.slice(1), tokens)).toBeNull();
          }
        },
      ),
    );
  });

  it('is refused by line, without a word of what stands there, or read: nothing else happens', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes).toString('latin1')),
        (text) => {
          try {
            parseTokens(text, 'f');
          } catch (error) {
            expect(error).toBeInstanceOf(InputError);
            for (const word of text.split(/\s+/))
              if (word.length > 12) expect((error as Error).message).not.toContain(word);
          }
        },
      ),
    );
  });

  it.each([
    ['hunter2', 'f: line 1: found 7 characters, expected a token of 16 to 8192 characters'],
    ['# mine\n\n"quoted-secret-0123456789"', 'f: line 3: found characters that no Authorization header can carry'],
    ['token: very-secret-0123456789', 'f: line 1: found characters that no Authorization header can carry'],
    [
      Array.from({ length: 101 }, (_, at) => `token-0123456789-${at}`).join('\n'),
      'f: found 101 tokens, expected 1 to 100',
    ],
  ])('of another form is refused: case %#', (text, message) => {
    expect(refusal(() => parseTokens(text, 'f'))).toContain(message);
  });
});

describe('a token file', () => {
  let folder: string;
  let file: string;
  let nowMs: number;
  let lines: string[];
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gpumix-tokens-'));
    file = join(folder, 'tokens');
    nowMs = 0;
    lines = [];
  });
  afterEach(() => rm(folder, { recursive: true }));

  const note = (_: object, message: string) => void lines.push(message);
  const openFile = (path = file) =>
    openTokenFile(path, { clock: { now: () => nowMs }, log: { info: note, warn: note } });
  const write = (...tokens: readonly string[]) => writeFile(file, `${tokens.join('\n')}\n`, { mode: 0o600 });
  /** Which of the three tokens are known now, after the file was looked at. */
  const known = async (tokens: TokenAuthority): Promise<string> => {
    nowMs += 1000;
    const verdicts = [];
    for (const token of [first, second, third]) verdicts.push((await tokens.judge(token, wish)).kind === 'allowed');
    return verdicts.map((isKnown, at) => (isKnown ? String(at + 1) : '-')).join('');
  };

  it('says by which line a token is known, for the log', async () => {
    await write('# of the night shift', first);
    expect(await (await openFile()).judge(first, wish)).toEqual({
      kind: 'allowed',
      user: `the token in line 2 of ${file}`,
    });
    expect(lines).toEqual([]);
  });

  it('is read again when it was written in place, or renamed over', async () => {
    await write(first);
    const tokens = await openFile();
    expect(await known(tokens)).toBe('1--');
    await write(first, second);
    expect(await known(tokens)).toBe('12-');
    await writeFile(`${file}.new`, `${third}\n`);
    await rename(`${file}.new`, file);
    expect(await known(tokens)).toBe('--3');
    expect(lines).toEqual([`${file}: read again, 2 tokens`, `${file}: read again, 1 token`]);
  });

  it('is read again when a link on the way to it is swapped, as in the volume of a Secret', async () => {
    for (const [version, token] of [
      ['..1', first],
      ['..2', second],
    ] as const) {
      await mkdir(join(folder, version));
      await writeFile(join(folder, version, 'tokens'), token);
    }
    await symlink('..1', join(folder, '..data'));
    await symlink('..data/tokens', file);
    const tokens = await openFile();
    expect(await known(tokens)).toBe('1--');
    await symlink('..2', join(folder, '..data_tmp'));
    await rename(join(folder, '..data_tmp'), join(folder, '..data'));
    expect(await known(tokens)).toBe('-2-');
  });

  it('is looked at no more than once a second', async () => {
    await write(first);
    const tokens = await openFile();
    await write(second);
    nowMs += 999;
    expect((await tokens.judge(first, wish)).kind).toBe('allowed');
    nowMs += 1;
    expect((await tokens.judge(first, wish)).kind).toBe('unknown-token');
  });

  it.each<[string, () => Promise<void>]>([
    ['gone', () => rm(file)],
    ['empty', () => writeFile(file, '')],
    ['of comments only', () => writeFile(file, '# soon\n')],
    ['with a bad line among good ones', () => writeFile(file, `${second}\nshort\n`)],
    [
      'a folder',
      async () => {
        await rm(file);
        await mkdir(file);
      },
    ],
    ['too large', () => writeFile(file, `${second}\n`.repeat(50_000))],
    [
      'a link to itself',
      async () => {
        await rm(file);
        await symlink('tokens', file);
      },
    ],
  ])('that is %s later changes nothing, is told once, and may be mended', async (_, spoil) => {
    await write(first);
    const tokens = await openFile();
    await spoil();
    expect(await known(tokens)).toBe('1--');
    expect(await known(tokens)).toBe('1--');
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain(`the tokens that were read before stay in force: ${file}`);
    await rm(file, { recursive: true, force: true });
    await write(third);
    expect(await known(tokens)).toBe('--3');
    expect(lines[1]).toBe(`${file}: read again, 1 token`);
  });

  it('is read once where many ask at one time', async () => {
    await write(first);
    const tokens = await openFile();
    await write(second);
    nowMs += 1000;
    const verdicts = await Promise.all(Array.from({ length: 50 }, () => tokens.judge(second, wish)));
    expect(new Set(verdicts.map(({ kind }) => kind))).toEqual(new Set(['allowed']));
    expect(lines).toHaveLength(1);
  });

  it.each<[string, string, () => Promise<void> | void]>([
    ['is not there', 'found no such file, expected a file of tokens', () => undefined],
    ['is a folder', 'found a folder, expected a file of tokens', () => mkdir(file)],
    ['is a named pipe', 'found no regular file', () => void execFileSync('mkfifo', [file])],
    ['is empty', 'found no token, expected 1 to 100 tokens', () => writeFile(file, '')],
  ])('that %s stops the start', async (_, message, make) => {
    await make();
    const opened = openFile();
    await expect(opened).rejects.toBeInstanceOf(InputError);
    await expect(opened).rejects.toThrow(message);
  });

  it('that everybody on the machine can read is a warning', async () => {
    await write(first);
    await chmod(file, 0o644);
    await openFile();
    expect(lines).toEqual([
      `${file} can be read by every user of this machine: chmod o= (Kubernetes: defaultMode: 0440)`,
    ]);
  });
});

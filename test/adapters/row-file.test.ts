import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openRowFile } from '../../src/adapters/row-file.js';

describe('a file of rows', () => {
  let folder: string;
  let file: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'gpumix-rows-'));
    file = join(folder, 'out.jsonl');
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('holds what was appended, at once', async () => {
    const rows = await openRowFile(file, { resume: false });
    expect(rows.text).toBe('');
    await rows.append('{"a":1}\n{"b":"ü"}\n');
    expect(readFileSync(file, 'utf8')).toBe('{"a":1}\n{"b":"ü"}\n');
    await rows.append('{"c":3}\n');
    expect(readFileSync(file, 'utf8')).toBe('{"a":1}\n{"b":"ü"}\n{"c":3}\n');
    await rows.close();
  });

  it('goes on after its last whole line', async () => {
    writeFileSync(file, '{"ü":1}\n{"cut off');
    const rows = await openRowFile(file, { resume: true });
    expect({ text: rows.text, cut: rows.cutCharacters }).toEqual({ text: '{"ü":1}\n', cut: 9 });
    await rows.append('{"b":2}\n');
    await rows.close();
    expect(readFileSync(file, 'utf8')).toBe('{"ü":1}\n{"b":2}\n');
  });

  it('can be cut back to where its lines make sense', async () => {
    writeFileSync(file, '{"ü":1}\n{"half of a run":1}\n');
    const rows = await openRowFile(file, { resume: true });
    await rows.cutTo('{"ü":1}\n'.length);
    await rows.append('{"b":2}\n');
    await rows.close();
    expect(readFileSync(file, 'utf8')).toBe('{"ü":1}\n{"b":2}\n');
  });

  it('is never written over', async () => {
    writeFileSync(file, 'precious\n');
    await expect(openRowFile(file, { resume: false })).rejects.toMatchObject({
      name: 'InputError',
      message: `${file}: found a file that exists, expected a new file, or --resume to go on with this one`,
    });
    expect(readFileSync(file, 'utf8')).toBe('precious\n');
  });

  it.each([
    ['a folder that is not there', () => join(folder, 'no', 'out.jsonl'), false, 'no such file or folder'],
    ['nothing to go on with', () => file, true, 'no such file or folder'],
    ['a folder', () => folder, true, 'a folder'],
  ])('refuses %s', async (_, name, resume, found) => {
    await expect(openRowFile(name(), { resume })).rejects.toThrow(`found ${found}`);
  });
});

import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkPlace, writeWholeFile, writeWholeFiles } from '../../src/cli/whole-file.js';

let root = '';
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'gpumix-whole-file-'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

let folders = 0;
/** An empty folder for one test. */
function folder(): string {
  folders += 1;
  const path = join(root, String(folders));
  mkdirSync(path);
  return path;
}

describe('a file that is written whole', () => {
  it('keeps the mode of the file that it replaces, and leaves nothing beside it', async () => {
    const place = folder();
    const path = join(place, 'run.sh');
    writeFileSync(path, 'old\n');
    chmodSync(path, 0o750);
    await writeWholeFile({ path, text: 'new\n', flag: '--out' });
    expect([readFileSync(path, 'utf8'), statSync(path).mode & 0o777]).toEqual(['new\n', 0o750]);
    expect(readdirSync(place)).toEqual(['run.sh']);
  });

  it('goes where a link leads, and the link stays', async () => {
    const place = folder();
    writeFileSync(join(place, 'real.yml'), 'old\n');
    symlinkSync('real.yml', join(place, 'link.yml'));
    await writeWholeFile({ path: join(place, 'link.yml'), text: 'new\n', flag: '--out' });
    expect(readFileSync(join(place, 'real.yml'), 'utf8')).toBe('new\n');
    expect(readdirSync(place).sort()).toEqual(['link.yml', 'real.yml']);
  });

  it('leaves every file as it was where one of several cannot be written', async () => {
    const place = folder();
    writeFileSync(join(place, 'a.yml'), 'old\n');
    const files = [
      { path: join(place, 'a.yml'), text: 'new\n', flag: '--out' },
      { path: join(place, 'missing', 'b.yml'), text: 'new\n', flag: '--out' },
    ];
    await expect(writeWholeFiles(files)).rejects.toThrow(
      `--out: ${join(place, 'missing', 'b.yml')}: found no such file or folder, expected a file that can be written`,
    );
    expect(readFileSync(join(place, 'a.yml'), 'utf8')).toBe('old\n');
    expect(readdirSync(place)).toEqual(['a.yml']);
  });
});

describe('a place where a file is to be written', () => {
  it('is refused where its folder is not there', async () => {
    const path = join(folder(), 'missing', 'a.yml');
    await expect(checkPlace('--out', path)).rejects.toThrow(
      `--out: ${path}: found no such folder, expected a file that can be written`,
    );
  });

  it('is refused where it is a folder', async () => {
    const path = folder();
    await expect(checkPlace('--out', path)).rejects.toThrow(`--out: ${path}: found a folder`);
  });

  it('is refused where the file that is there may not be written', async () => {
    const path = join(folder(), 'kept.yml');
    writeFileSync(path, 'kept\n');
    chmodSync(path, 0o444);
    await expect(checkPlace('--out', path)).rejects.toThrow(`--out: ${path}: found a file that is read-only`);
  });

  it('is taken where nothing is there yet, and nothing is made there', async () => {
    const path = join(folder(), 'new.yml');
    await checkPlace('--out', path);
    expect(existsSync(path)).toBe(false);
  });
});

import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createMemoryStore } from '../../src/adapters/memory-store.js';
import { createFileProfiles, createStoreProfiles } from '../../src/adapters/profile-source.js';
import { type ProfileReading, type SharedStore, Unavailable } from '../../src/core/ports.js';
import { hostileModelNames } from './shared-store.contract.js';

function profileText(throughput: number): string {
  return JSON.stringify({ gpu: 'a100', cost: 1, indexes: [[8], [64]], tputs: [[throughput]], created: 1 });
}

function key(model: string, deployment: string): { model: string; deployment: string; id: string } {
  return { model, deployment, id: `default/${deployment}` };
}

/** The single throughput of each reading, or its kind, or its error. */
function summary(readings: readonly ProfileReading[]): readonly unknown[] {
  return readings.map((reading) => {
    if (reading.kind === 'present') return reading.profile.grid.tputs[0]![0];
    return reading.kind === 'bad' ? reading.error.message : reading.kind;
  });
}

describe('profiles in the shared store', () => {
  let store: SharedStore;
  beforeEach(() => {
    store = createMemoryStore({ now: () => 0 });
  });

  it('are read by exact key: a model does not get those of another whose name begins with its own', async () => {
    await store.writeProfile({ model: 'llama_7b', deployment: 'a100' }, profileText(7));
    await store.writeProfile({ model: 'llama', deployment: 'l40' }, profileText(4));
    const source = createStoreProfiles(store);
    expect(summary(await source.read([key('llama', 'a100'), key('llama_7b', 'a100'), key('llama', 'l40')]))).toEqual([
      'absent',
      7,
      4,
    ]);
  });

  it('a profile updated in the store is the next one that is read, and an unchanged one is the same object', async () => {
    const source = createStoreProfiles(store);
    const keys = [key('m', 'changing'), key('m', 'constant')];
    for (const { model, deployment } of keys) await store.writeProfile({ model, deployment }, profileText(1));
    const [, before] = await source.read(keys);
    await store.writeProfile({ model: 'm', deployment: 'changing' }, profileText(2));
    const after = await source.read(keys);
    expect(summary(after)).toEqual([2, 1]);
    expect(after[1]).toBe(before);
  });

  it('the update of a profile without or with an older `created` counts as well', async () => {
    const source = createStoreProfiles(store);
    const keys = [key('m', 'd')];
    const withCreated = (created: number | undefined, throughput: number): string =>
      JSON.stringify({ ...JSON.parse(profileText(throughput)), created });
    for (const [created, throughput] of [
      [100, 1],
      [50, 2],
      [undefined, 3],
    ] as const) {
      await store.writeProfile({ model: 'm', deployment: 'd' }, withCreated(created, throughput));
      expect(summary(await source.read(keys))).toEqual([throughput]);
    }
  });

  it('are forgotten when nobody asks for them any more', async () => {
    const source = createStoreProfiles(store);
    for (const deployment of ['gone', 'asked']) await store.writeProfile({ model: 'm', deployment }, profileText(1));
    const [gone, asked] = await source.read([key('m', 'gone'), key('m', 'asked')]);
    for (let i = 0; i < 200; i++) await source.read([key('m', 'asked')]);
    const [goneLater, askedLater] = await source.read([key('m', 'gone'), key('m', 'asked')]);
    expect(askedLater).toBe(asked);
    expect(goneLater).toEqual(gone);
    expect(goneLater).not.toBe(gone);
  });

  it('that were deleted are absent, not the ones of before', async () => {
    const source = createStoreProfiles(store);
    await store.writeProfile({ model: 'm', deployment: 'd' }, profileText(1));
    await source.read([key('m', 'd')]);
    const emptied = createMemoryStore({ now: () => 0 });
    store.readProfiles = emptied.readProfiles;
    expect(summary(await source.read([key('m', 'd')]))).toEqual(['absent']);
  });

  it('one malformed profile is bad alone, with its model, deployment and place', async () => {
    await store.writeProfile({ model: 'm', deployment: 'good' }, profileText(5));
    await store.writeProfile({ model: 'm', deployment: 'nan' }, '{"tputs": [[NaN]]}');
    await store.writeProfile(
      { model: 'm', deployment: 'ragged' },
      JSON.stringify({ indexes: [[8], [64]], tputs: [[1, 2]] }),
    );
    await store.writeProfile({ model: 'm', deployment: 'huge' }, ' '.repeat(1_048_577));
    await store.writeProfile({ model: 'm', deployment: 'empty' }, '');
    const readings = summary(
      await createStoreProfiles(store).read(['nan', 'good', 'ragged', 'huge', 'empty'].map((d) => key('m', d))),
    );
    expect(readings[0]).toMatch(/^profile of "m" on default\/nan: line 1, column 13: found "NaN"/);
    expect(readings[1]).toBe(5);
    expect(readings[2]).toMatch(/^profile of "m" on default\/ragged: tputs\[0\]: /);
    expect(readings[3]).toMatch(
      /^profile of "m" on default\/huge: found a value that cannot be read \(.*at most 1048576\)/,
    );
    expect(readings[4]).toMatch(/^profile of "m" on default\/empty: .*an empty text/);
  });

  it('a bad profile that is mended is good, and says no longer what was wrong', async () => {
    const source = createStoreProfiles(store);
    await store.writeProfile({ model: 'm', deployment: 'd' }, '{');
    expect((await source.read([key('m', 'd')]))[0]!.kind).toBe('bad');
    await store.writeProfile({ model: 'm', deployment: 'd' }, profileText(5));
    expect(summary(await source.read([key('m', 'd')]))).toEqual([5]);
  });

  it('the same deployment name in two namespaces is read for each, and each error names its own', async () => {
    await store.writeProfile({ model: 'm', deployment: 'd' }, '[]');
    const [first, second] = await createStoreProfiles(store).read([
      { model: 'm', deployment: 'd', id: 'a/d' },
      { model: 'm', deployment: 'd', id: 'b/d' },
    ]);
    expect(first).toMatchObject({ kind: 'bad', error: { source: 'profile of "m" on a/d' } });
    expect(second).toMatchObject({ kind: 'bad', error: { source: 'profile of "m" on b/d' } });
  });

  it('of hostile model names are found', async () => {
    for (const [i, model] of hostileModelNames.entries()) {
      await store.writeProfile({ model, deployment: 'd' }, profileText(i + 1));
    }
    expect(summary(await createStoreProfiles(store).read(hostileModelNames.map((model) => key(model, 'd'))))).toEqual(
      hostileModelNames.map((_, i) => i + 1),
    );
  });

  it('are unavailable as the store is', async () => {
    await store.close();
    await expect(createStoreProfiles(store).read([key('m', 'd')])).rejects.toThrow(Unavailable);
  });
});

describe('profiles in a directory', () => {
  let root: string;
  let directory: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'gpumix-profiles-'));
    directory = join(root, 'outer', 'profiles');
    mkdirSync(directory, { recursive: true });
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  function write(path: string, content: string | Buffer): void {
    const file = join(directory, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
  }
  const read = async (...keys: ReturnType<typeof key>[]): Promise<readonly unknown[]> =>
    summary(await createFileProfiles(directory).read(keys));

  it('belong to a model by its folder, or else to any model by the name of the deployment', async () => {
    write('llama/a100.json', profileText(1));
    write('a100.json', profileText(2));
    write('l40.json', profileText(3));
    expect(await read(key('llama', 'a100'), key('mistral', 'a100'), key('llama', 'l40'), key('llama', 'h100'))).toEqual(
      [1, 2, 3, 'absent'],
    );
  });

  it('have folders in which / and % of a model are percent-encoded', async () => {
    write('meta-llama%2FLlama-2-7b/a100.json', profileText(1));
    write('50%25/a100.json', profileText(2));
    write('qwen2.5:7b/a100.json', profileText(3));
    write('模型/a100.json', profileText(4));
    write('%2Ehidden/a100.json', profileText(5));
    expect(
      await read(
        ...['meta-llama/Llama-2-7b', '50%', 'qwen2.5:7b', '模型', '.hidden'].map((model) => key(model, 'a100')),
      ),
    ).toEqual([1, 2, 3, 4, 5]);
  });

  it('lie inside of it, whatever a model or deployment is called', async () => {
    for (const path of ['../secret.json', '../d.json', '../../d.json', '../profiles.json']) {
      writeFileSync(join(directory, path), profileText(666));
    }
    const names = [
      '..',
      '.',
      '../',
      '/',
      '../secret',
      '..\\secret',
      '%2e%2e',
      '..%2fsecret',
      join(root, 'secret'),
      '\u0000',
      '',
    ];
    for (const model of names) {
      for (const deployment of ['d', 'secret', ...names]) {
        expect(await read(key(model, deployment)), JSON.stringify([model, deployment])).toEqual(['absent']);
      }
    }
  });

  it('are found again under any name that they were written under', async () => {
    const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 });
    const segment = (text: string): string =>
      text.replace(/[%/\\]|^\./g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
    await fc.assert(
      fc.asyncProperty(name, name, async (model, deployment) => {
        rmSync(directory, { recursive: true });
        mkdirSync(directory);
        write(join(segment(model), `${segment(deployment)}.json`), profileText(3));
        expect(await read(key(model, deployment))).toEqual([3]);
        expect(await read(key(`${model}x`, deployment), key(model, `${deployment}x`))).toEqual(['absent', 'absent']);
      }),
      { numRuns: 50 },
    );
  });

  it('change the next reading when their file changes, and stay the same object when it does not', async () => {
    const source = createFileProfiles(directory);
    write('d.json', profileText(1));
    write('e.json', profileText(9));
    const [, before] = await source.read([key('m', 'd'), key('m', 'e')]);
    write('d.json', profileText(2));
    const after = await source.read([key('m', 'd'), key('m', 'e')]);
    expect(summary(after)).toEqual([2, 9]);
    expect(after[1]).toBe(before);
    rmSync(join(directory, 'd.json'));
    expect(summary(await source.read([key('m', 'd')]))).toEqual(['absent']);
  });

  it('that cannot be used are bad alone, with their path', async () => {
    write('good.json', profileText(1));
    write('bad.json', '{"tputs": 3}');
    write('huge.json', ' '.repeat(1_048_577));
    write('bytes.json', Buffer.from([0xff, 0xfe, 0x00]));
    mkdirSync(join(directory, 'folder.json'));
    const [good, bad, huge, bytes, folder] = await read(
      ...['good', 'bad', 'huge', 'bytes', 'folder'].map((deployment) => key('m', deployment)),
    );
    expect(good).toBe(1);
    expect(bad).toMatch(/^profile of "m" on default\/bad: .*tputs: found 3, expected an array/m);
    const place = (name: string): string =>
      `profile of "m" on default/${name}: ${join(directory, `${name}.json`)}: found`;
    expect(huge).toBe(`${place('huge')} 1048577 bytes (at most 1048576 are read), expected a profile in JSON`);
    expect(bytes).toBe(`${place('bytes')} bytes that are not UTF-8, expected a profile in JSON`);
    expect(folder).toBe(`${place('folder')} what is no file, expected a profile in JSON`);
  });

  it.skipIf(process.getuid?.() === 0)('that may not be read are bad, not absent', async () => {
    write('d.json', profileText(1));
    chmodSync(join(directory, 'd.json'), 0);
    expect((await read(key('m', 'd')))[0]).toMatch(/found a file that may not be read/);
  });

  it('are unavailable where the directory is gone, or is none', async () => {
    const gone = join(root, 'gone');
    await expect(createFileProfiles(gone).read([])).rejects.toMatchObject({
      name: 'Unavailable',
      code: 'profiles_unreachable',
      message: `profiles in ${gone}: found nothing, expected a directory`,
    });
    write('file', '');
    await expect(createFileProfiles(join(directory, 'file')).read([])).rejects.toThrow(
      /found a file, expected a directory/,
    );
  });

  const published = new URL('../../../shared/data/aibrix/simulator-llama2-7b-a100.json', import.meta.url);
  it.skipIf(!existsSync(published))('may be the ones that AIBrix ships', async () => {
    write('simulator-llama2-7b-a100.json', readFileSync(published));
    const [reading] = await createFileProfiles(directory).read([key('llama2-7b', 'simulator-llama2-7b-a100')]);
    expect(reading).toMatchObject({
      kind: 'present',
      profile: {
        gpu: 'simulator-llama2-7b-a100',
        cost: 1,
        grid: {
          indexes: [
            [4, 8, 16, 32, 64, 128, 256, 512],
            [128, 256, 512, 1024, 2048],
          ],
        },
      },
    });
  });

  it('are as many as a fleet has', async () => {
    const names = Array.from({ length: 300 }, (_, i) => `d${i}`);
    for (const [i, name] of names.entries()) write(`${name}.json`, profileText(i + 1));
    expect(await read(...names.map((name) => key('m', name)))).toEqual(names.map((_, i) => i + 1));
  });
});

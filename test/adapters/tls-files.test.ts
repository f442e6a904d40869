import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readTlsFiles, reloadTlsFiles, type TlsMaterial, tlsRereadMs } from '../../src/adapters/tls-files.js';
import { InputError } from '../../src/core/input-error.js';
import { certificateAuthority } from '../support/self-signed.js';

const authority = certificateAuthority(new Date());
const [one, two] = [authority.issue('one'), authority.issue('two')];
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gpumix-tls-'));
});
afterAll(() => rm(folder, { recursive: true }));

type Texts = { readonly cert?: string; readonly key?: string; readonly clientCa?: string };

async function written({ cert = one.certificate, key = one.key, clientCa }: Texts = {}) {
  const files = {
    certFile: join(folder, 'tls.crt'),
    keyFile: join(folder, 'tls.key'),
    clientCaFile: clientCa === undefined ? null : join(folder, 'ca.crt'),
  };
  await writeFile(files.certFile, cert);
  await writeFile(files.keyFile, key);
  if (files.clientCaFile !== null) await writeFile(files.clientCaFile, clientCa!);
  return files;
}

describe('the files of a TLS server', () => {
  it('are read as they are', async () => {
    const files = await written({ clientCa: authority.certificate });
    expect(await readTlsFiles(files, 's')).toEqual({
      cert: one.certificate,
      key: one.key,
      clientCa: authority.certificate,
    });
    expect((await readTlsFiles(await written(), 's')).clientCa).toBeNull();
  });

  it.each([
    ['a certificate that is none', { cert: 'hello' }, /s\.certFile: found ".*tls\.crt", expected certificates in PEM/],
    ['a certificate cut short', { cert: one.certificate.replace(/\n.{20}/, '\n') }, /s\.certFile/],
    [
      'a key that is none',
      { key: 'hello' },
      /s\.keyFile: found ".*tls\.key" \(error:.*\), expected the private key of .*tls\.crt/,
    ],
    ['the key of another certificate', { key: two.key }, /s\.keyFile: found .*mismatch/],
    [
      'authorities that are none',
      { clientCa: 'hello' },
      /s\.clientCaFile: found ".*ca\.crt", expected certificates of/,
    ],
    ['a file that is far too large', { cert: 'x'.repeat(1_100_000) }, /s\.certFile: found .* with 1100000 characters/],
  ] as const)('are refused with %s, by key and file', async (_, texts, message) => {
    const reading = readTlsFiles(await written(texts), 's');
    await expect(reading).rejects.toThrow(message);
    await expect(reading).rejects.toBeInstanceOf(InputError);
  });

  it('that are not there are named, and no message shows a key', async () => {
    const files = await written();
    await expect(readTlsFiles({ ...files, keyFile: join(folder, 'no.key') }, 's')).rejects.toThrow(
      /s\.keyFile: found ".*no\.key", which is not there/,
    );
    const swapped = await readTlsFiles(await written({ cert: one.certificate, key: two.key }), 's').catch(String);
    expect(swapped).not.toContain(two.key.split('\n')[1]);
  });
});

describe('files that are read again', () => {
  async function following() {
    const files = await written();
    const changes: TlsMaterial[] = [];
    const lines: string[] = [];
    const delays: number[] = [];
    let due: (() => void) | null = null;
    const log = (_: object, line: string) => void lines.push(line);
    const stop = reloadTlsFiles({
      files,
      section: 's',
      first: await readTlsFiles(files, 's'),
      timer: (delayMs, callback) => {
        delays.push(delayMs);
        due = callback;
        return () => {
          due = null;
        };
      },
      log: { info: log, warn: log },
      onChange: (read) => changes.push(read),
    });
    /** Lets one reading happen, and waits until the next is due. */
    const reread = async () => {
      const callback = due!;
      due = null;
      callback();
      await expect.poll(() => due).not.toBeNull();
    };
    return { files, changes, lines, delays, reread, stop, isDue: () => due !== null };
  }

  it('are taken over once they go together, and what is broken leaves the old ones in use', async () => {
    const { changes, lines, delays, reread } = await following();
    await reread();
    expect([changes, lines]).toEqual([[], []]);

    await written({ cert: two.certificate, key: one.key });
    await reread();
    await reread();
    expect(changes).toEqual([]);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/s\.keyFile: found .*; the certificate from before stays in use/);

    await written({ cert: two.certificate, key: two.key });
    await reread();
    expect(changes.map(({ cert }) => cert)).toEqual([two.certificate]);
    expect(lines.at(-1)).toMatch(/^s: new connections get the certificate CN=two until /);
    expect(new Set(delays)).toEqual(new Set([tlsRereadMs]));
  });

  it('that come back as they were are told once', async () => {
    const { files, changes, lines, reread } = await following();
    await rm(files.certFile);
    await reread();
    await written();
    await reread();
    await reread();
    expect(changes).toEqual([]);
    expect(lines.map((line) => line.slice(0, 40))).toEqual([
      expect.stringContaining('s.certFile: found'),
      expect.stringContaining('s: the certificate files can be used aga'),
    ]);
  });

  it('are left alone once it has been stopped', async () => {
    const { isDue, stop } = await following();
    stop();
    expect(isDue()).toBe(false);
  });
});

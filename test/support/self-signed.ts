import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';

/** Certificate and key, both PEM. */
export type Pair = { readonly certificate: string; readonly key: string };

/** An authority of its own, which makes certificates that it signs. */
export type CertificateAuthority = {
  /** PEM of the authority. */
  readonly certificate: string;
  /** For 127.0.0.1 and localhost, of a server or a client. */
  issue(commonName: string): Pair;
};

const day = 86_400_000;
const algorithm = sequence(oid('2a8648ce3d040302'));

/** A certificate of its own for 127.0.0.1, valid for a day, and its key. X.509 v3, ECDSA P-256 with SHA-256. */
export function selfSignedCertificate(now: Date): Pair {
  const keys = keyPair();
  return { certificate: signed({ now, keys, commonName: 'gpumix test', authority: null }), key: keys.pem };
}

/** An authority, valid for a day, that signs what it issues. */
export function certificateAuthority(now: Date, commonName = 'gpumix test authority'): CertificateAuthority {
  const keys = keyPair();
  return {
    certificate: signed({ now, keys, commonName, authority: null }),
    issue: (subject) => {
      const own = keyPair();
      return {
        certificate: signed({ now, keys: own, commonName: subject, authority: { commonName, key: keys.privateKey } }),
        key: own.pem,
      };
    },
  };
}

function keyPair() {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return {
    privateKey,
    spki: publicKey.export({ type: 'spki', format: 'der' }),
    pem: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
  };
}

/** `authority: null` signs with its own key, and may sign others. */
function signed(options: {
  readonly now: Date;
  readonly keys: ReturnType<typeof keyPair>;
  readonly commonName: string;
  readonly authority: { readonly commonName: string; readonly key: KeyObject } | null;
}): string {
  const { now, keys, commonName, authority } = options;
  const nameOf = (text: string) => sequence(set(sequence(oid('550403'), der(0x0c, Buffer.from(text)))));
  const subjectAltName = sequence(der(0x87, Buffer.from([127, 0, 0, 1])), der(0x82, Buffer.from('localhost')));
  const constraints = authority === null ? sequence(der(0x01, Buffer.from([0xff]))) : sequence();
  const extensions = sequence(
    sequence(oid('551d13'), der(0x01, Buffer.from([0xff])), octets(constraints)),
    sequence(oid('551d11'), octets(subjectAltName)),
  );
  const body = sequence(
    der(0xa0, integer(Buffer.from([2]))),
    integer(Buffer.concat([Buffer.from([1]), createHash('sha256').update(keys.spki).digest().subarray(0, 8)])),
    algorithm,
    nameOf(authority?.commonName ?? commonName),
    sequence(time(new Date(now.getTime() - day)), time(new Date(now.getTime() + day))),
    nameOf(commonName),
    keys.spki,
    der(0xa3, extensions),
  );
  const signature = sign('sha256', body, authority?.key ?? keys.privateKey);
  const certificate = sequence(body, algorithm, der(0x03, Buffer.concat([Buffer.from([0]), signature])));
  const lines = certificate.toString('base64').match(/.{1,64}/g)!;
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

function der(tag: number, content: Buffer): Buffer {
  const size = content.length;
  const length = size < 128 ? [size] : size < 256 ? [0x81, size] : [0x82, size >> 8, size & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), content]);
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return der(0x30, Buffer.concat(parts));
}

const set = (...parts: readonly Buffer[]) => der(0x31, Buffer.concat(parts));
const octets = (content: Buffer) => der(0x04, content);
const integer = (content: Buffer) => der(0x02, content);
function oid(hex: string): Buffer {
  return der(0x06, Buffer.from(hex, 'hex'));
}

const time = (at: Date) => der(0x17, Buffer.from(`${at.toISOString().replace(/[-:T]/g, '').slice(2, 14)}Z`));

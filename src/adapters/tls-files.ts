import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import { InputError, quoteInput } from '../core/input-error.js';

/**
 * Certificate and key of a server from files, read again while it runs.
 *
 * Files are read anew now and then and not watched: a mounted Secret changes by swapping a link two folders above the
 * file, and a watch of the file itself would go on watching the old one. What cannot be used is told and left alone, so
 * that the certificate that works goes on working; the two files of a pair that are replaced one after the other look
 * like that for a moment.
 */

export type TlsFileNames = {
  /** Chain in PEM, the server's own certificate first. */
  readonly certFile: string;
  readonly keyFile: string;
  /** Authorities of client certificates; null = clients need none. */
  readonly clientCaFile: string | null;
};

/** Contents of the files, which go together. */
export type TlsMaterial = {
  readonly cert: string;
  readonly key: string;
  readonly clientCa: string | null;
};

/** How often files are read again [ms]: certificates are replaced days before they end, and revoked in minutes. */
export const tlsRereadMs = 10_000;

/** Largest file that is taken for certificates; a bundle of all public authorities has 0.25 MB. [characters] */
const largestFile = 1_048_576;

/** One certificate of a PEM file. */
const certificateBlock = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;

/**
 * Reads the files and checks that a TLS server can use them.
 *
 * @param section key of the configuration above `certFile`, for messages
 * @throws InputError that names key and file
 */
export async function readTlsFiles(files: TlsFileNames, section: string): Promise<TlsMaterial> {
  const read = async (key: keyof TlsFileNames, file: string): Promise<string> => {
    try {
      const text = await readFile(file, 'utf8');
      if (text.length <= largestFile) return text;
      throw refused(section, key, `${quoteInput(file)} with ${text.length} characters`, 'a PEM file');
    } catch (error) {
      if (error instanceof InputError) throw error;
      const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
      const found = code === 'ENOENT' ? `${quoteInput(file)}, which is not there` : `${quoteInput(file)} (${code})`;
      throw refused(section, key, found, 'a PEM file that can be read');
    }
  };
  const [cert, key, clientCa] = await Promise.all([
    read('certFile', files.certFile),
    read('keyFile', files.keyFile),
    files.clientCaFile === null ? null : read('clientCaFile', files.clientCaFile),
  ]);
  checkCertificates(cert, () => refused(section, 'certFile', quoteInput(files.certFile), 'certificates in PEM'));
  if (clientCa !== null) {
    const { clientCaFile } = files;
    checkCertificates(clientCa, () =>
      refused(section, 'clientCaFile', quoteInput(clientCaFile), 'certificates of authorities in PEM'),
    );
  }
  try {
    createSecureContext({ cert, key });
  } catch (error) {
    // The library's text says what is wrong, and never repeats the key.
    const reason = error instanceof Error ? error.message : String(error);
    const found = `${quoteInput(files.keyFile)} (${reason.slice(0, 200)})`;
    throw refused(section, 'keyFile', found, `the private key of ${files.certFile}, in PEM, without a passphrase`);
  }
  return { cert, key, clientCa };
}

/** The certificates of a PEM text; empty where one of them cannot be read. */
export function certificatesOf(pem: string): readonly X509Certificate[] {
  try {
    return (pem.match(certificateBlock) ?? []).map((block) => new X509Certificate(block));
  } catch {
    return [];
  }
}

function checkCertificates(pem: string, refuse: () => InputError): void {
  if (certificatesOf(pem).length === 0) throw refuse();
}

function refused(section: string, key: keyof TlsFileNames, found: string, expected: string): InputError {
  return new InputError(`${section}.${key}`, [{ place: '', found, expected }]);
}

export type TlsReloadOptions = {
  readonly files: TlsFileNames;
  /** As for `readTlsFiles`. */
  readonly section: string;
  /** What `readTlsFiles` gave. */
  readonly first: TlsMaterial;
  /** Calls back once after a delay [ms]; the result cancels it. */
  readonly timer: (delayMs: number, callback: () => void) => () => void;
  readonly log: { info(fields: object, message: string): void; warn(fields: object, message: string): void };
  /** Called with files that have changed and can be used. */
  readonly onChange: (material: TlsMaterial) => void;
};

/**
 * Follows the files until the returned function is called.
 *
 * Each problem is logged once, and once more that it is over.
 */
export function reloadTlsFiles(options: TlsReloadOptions): () => void {
  const { files, section, timer, log } = options;
  let current = options.first;
  let problem: string | null = null;
  let isStopped = false;
  let cancel = timer(tlsRereadMs, look);
  function look(): void {
    readTlsFiles(files, section)
      .then(take, (error) => {
        const text = error instanceof Error ? error.message : String(error);
        if (isStopped || text === problem) return;
        problem = text;
        log.warn({ section }, `${text}; the certificate from before stays in use`);
      })
      .finally(() => {
        if (!isStopped) cancel = timer(tlsRereadMs, look);
      });
  }
  function take(read: TlsMaterial): void {
    if (isStopped) return;
    const isSame = read.cert === current.cert && read.key === current.key && read.clientCa === current.clientCa;
    if (!isSame) {
      current = read;
      options.onChange(read);
      log.info({ section }, `${section}: new connections get the certificate ${describeCertificate(read.cert)}`);
    } else if (problem !== null) {
      log.info({ section }, `${section}: the certificate files can be used again, and are those in use`);
    }
    problem = null;
  }
  return () => {
    isStopped = true;
    cancel();
  };
}

/** `CN=gpumix until 2027-01-01`: which one it is, for the log. */
function describeCertificate(pem: string): string {
  const [first] = certificatesOf(pem);
  if (first === undefined) return 'of an unknown subject';
  return `${first.subject?.replaceAll('\n', ', ') ?? 'without a subject'} until ${first.validTo}`;
}

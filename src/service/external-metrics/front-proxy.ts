import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { RequestHeaderAuthentication } from '../../adapters/kubernetes/request-header-authentication.js';

/**
 * Who asks, by the rules of an aggregated API server: the front proxy (the cluster's API server) shows a certificate of its
 * own authority, and says in a header for whom it asks. It has checked before that this user may.
 *
 * Nothing a client says is believed without that certificate.
 */

export type Authentication =
  | { readonly kind: 'authenticated'; readonly user: string }
  | { readonly kind: 'refused'; readonly reason: RefusalReason };

/** Why a request is not believed, as the log says it; the client is told nothing. */
export const refusalReasons = {
  'no-authority': 'the authority of front proxies has not been read from the cluster yet',
  'no-certificate': 'it shows no client certificate, so it does not come from the API server',
  'other-authority': 'its client certificate is not of the authority of front proxies',
  'other-name': 'its client certificate has a name that is not among requestheader-allowed-names',
  'old-connection': 'its connection is from before the authority of front proxies changed',
  'no-user': 'it names no user in the headers of requestheader-username-headers',
} as const;
export type RefusalReason = keyof typeof refusalReasons;

export class FrontProxy {
  #known: RequestHeaderAuthentication | null = null;
  /** Handshakes are checked against the authority of their time: connections belong to the state that they were made in. */
  #generation = 0;
  /** By the peer's address and port. */
  readonly #generationOf = new Map<string, number>();

  get isKnown(): boolean {
    return this.#known !== null;
  }

  /** New connections are checked by this from now on. */
  use(known: RequestHeaderAuthentication): void {
    this.#known = known;
    this.#generation += 1;
  }

  /** Of every connection, before its handshake, which is checked by what is known now however long it takes. */
  accepted(socket: Socket): void {
    const peer = peerOf(socket);
    this.#generationOf.set(peer, this.#generation);
    socket.once('close', () => this.#generationOf.delete(peer));
  }

  authenticate({ socket, headers }: Pick<IncomingMessage, 'socket' | 'headers'>): Authentication {
    const refuse = (reason: RefusalReason) => ({ kind: 'refused', reason }) as const;
    const known = this.#known;
    if (known === null) return refuse('no-authority');
    if (!(socket instanceof TLSSocket)) return refuse('no-certificate');
    const certificate = socket.getPeerX509Certificate();
    if (certificate === undefined) return refuse('no-certificate');
    if (this.#generationOf.get(peerOf(socket)) !== this.#generation) return refuse('old-connection');
    if (!socket.authorized) return refuse('other-authority');
    const { allowedNames, usernameHeaders } = known;
    const names = commonNames(certificate.subject ?? '');
    if (allowedNames.length > 0 && !(names.length === 1 && allowedNames.includes(names[0]!)))
      return refuse('other-name');
    for (const header of usernameHeaders) {
      const value = headers[header];
      const user = Array.isArray(value) ? value[0] : value;
      if (user !== undefined && user !== '') return { kind: 'authenticated', user };
    }
    return refuse('no-user');
  }
}

/** The same of a connection and of the TLS in it. */
function peerOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}

/** Of a subject as Node writes it, one attribute a line. */
function commonNames(subject: string): readonly string[] {
  return subject.split('\n').flatMap((line) => (line.startsWith('CN=') ? [line.slice(3)] : []));
}

import type { IncomingMessage } from 'node:http';
import type { Server, Socket } from 'node:net';

/**
 * The connections of a server on which nothing was asked yet: a probe of a load balancer, half of a TLS handshake, a header
 * that never ends. A server that closes waits for them, and nobody is waiting for it: `closeIdleConnections` leaves them out,
 * and those within a handshake even `closeAllConnections` does.
 */

/** How long a draining server waits for a first request on a connection that is there already [ms]. */
export const quietMs = 1000;

export class QuietConnections {
  /** By the peer's address and port, which are the same of a connection and of the TLS in it. */
  readonly #open = new Map<string, Socket>();

  /** Of a server over HTTP or HTTPS, before it listens. */
  follow(server: Server): this {
    server.on('connection', (socket: Socket) => this.add(socket));
    server.on('request', ({ socket }: IncomingMessage) => this.#open.delete(peerOf(socket)));
    return this;
  }

  add(socket: Socket): void {
    const peer = peerOf(socket);
    this.#open.set(peer, socket);
    socket.once('close', () => {
      if (this.#open.get(peer) === socket) this.#open.delete(peer);
    });
  }

  end(): void {
    for (const socket of this.#open.values()) socket.destroy();
  }
}

function peerOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}

import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/**
 * A network between a client and a server on loopback, so that it can fail: cut (nobody listens, connections break) or
 * go silent (connections stay open and nothing comes through, as behind a dead load balancer).
 */
export class TcpProxy {
  readonly #target: { readonly host: string; readonly port: number };
  #server: Server | null = null;
  #port = 0;
  readonly #waiting: (() => void)[] = [];
  readonly #pairs = new Set<{ readonly near: Socket; readonly far: Socket }>();

  constructor(target: { readonly host: string; readonly port: number }) {
    this.#target = target;
  }

  get port(): number {
    return this.#port;
  }

  /** Listens, on the same port as before after a cut. */
  async connect(): Promise<void> {
    const server = createServer((near) => {
      const far = connect(this.#target.port, this.#target.host);
      const pair = { near, far };
      this.#pairs.add(pair);
      for (const resolve of this.#waiting.splice(0)) resolve();
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        from.pipe(to);
        from.on('error', () => to.destroy());
        from.on('close', () => {
          to.destroy();
          this.#pairs.delete(pair);
        });
      }
    });
    server.listen(this.#port, '127.0.0.1');
    await once(server, 'listening');
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  /** Resolves when the next connection arrives. */
  nextConnection(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Breaks every connection and refuses new ones. */
  async cut(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    const closed = server === null ? null : once(server, 'close');
    server?.close();
    this.reset();
    await closed;
  }

  /** Breaks every connection; new ones work. */
  reset(): void {
    for (const { near, far } of this.#pairs) {
      near.resetAndDestroy();
      far.destroy();
    }
    this.#pairs.clear();
  }

  /** Lets nothing more through the connections that are open now; new ones work. */
  silence(): void {
    for (const { near, far } of this.#pairs) {
      far.unpipe(near);
      near.unpipe(far);
      far.pause();
      near.resume();
    }
  }
}

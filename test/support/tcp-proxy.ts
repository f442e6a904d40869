import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { Transform } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';

/**
 * A network between a client and a server on loopback, so that it can fail: cut (nobody listens, connections break), go
 * silent (connections stay open and nothing comes through, as behind a dead load balancer), or be slow.
 */
export class TcpProxy {
  readonly #target: { readonly host: string; readonly port: number };
  /** Everything that the server sends from now on arrives so much later [ms]. */
  answersAfterMs = 0;
  #server: Server | null = null;
  #port = 0;
  readonly #waiting: (() => void)[] = [];
  readonly #pairs = new Set<{ readonly near: Socket; readonly far: Socket; readonly late: Transform }>();

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
      const late = this.#late();
      const pair = { near, far, late };
      this.#pairs.add(pair);
      for (const resolve of this.#waiting.splice(0)) resolve();
      near.pipe(far);
      far.pipe(late).pipe(near);
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
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

  /** Passes everything on in its order, each part when its time has come. */
  #late(): Transform {
    let passed: Promise<unknown> = Promise.resolve();
    const late: Transform = new Transform({
      transform: (part, _encoding, done) => {
        const time = this.answersAfterMs === 0 ? null : delay(this.answersAfterMs);
        passed = passed.then(() => time).then(() => late.push(part));
        done();
      },
      flush: (done) => void passed.then(() => done()),
    });
    return late;
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
    for (const { near, far, late } of this.#pairs) {
      late.unpipe(near);
      near.unpipe(far);
      far.pause();
      near.resume();
    }
  }
}

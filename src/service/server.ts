import { isIPv6 } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { InputError, quoteInput } from '../core/input-error.js';
import type { Logger } from './log.js';
import { QuietConnections, quietMs } from './quiet-connections.js';

/**
 * The life of the service: listen, work, drain, stop.
 *
 * It listens before it works, so that a port in use stops it before it has touched anything, and probes are answered
 * while inputs are still being read.
 */

/** What runs behind the HTTP face: the controller with its sources and store. */
export type Background = {
  start(): Promise<void>;
  /** Lets a running cycle end, then closes sources and store. */
  stop(): Promise<void>;
};

/** Another face of the service, on a port of its own. It is made before anything listens, and used once. */
export interface Listener {
  /**
   * Begins to answer.
   *
   * @returns what is said in the log: what it is and where
   * @throws InputError where its address cannot be listened on
   */
  listen(): Promise<string>;
  /** Takes nothing new and resolves when all that runs has ended; also where it never listened. Safe to repeat. */
  drain(): Promise<void>;
  /** Ends at once what `drain` still waits for. */
  cut(): void;
}

export type ServerOptions = {
  readonly app: FastifyInstance;
  readonly listeners?: readonly Listener[];
  readonly background: Background;
  readonly host: string;
  /** 0 = a free one. */
  readonly port: number;
  readonly logger: Logger;
  /** How long running requests and a running cycle may take to end [ms]. */
  readonly drainMs?: number;
};

export type RunningServer = {
  /** `http://127.0.0.1:8080`, as a person would type it. */
  readonly url: string;
  /** Drains: no new connections, running requests and the running cycle end, everything is closed. Safe to repeat. */
  stop(): Promise<void>;
};

/** Kubernetes kills 30 s after SIGTERM: what has not ended by then is cut off here, in order. */
const defaultDrainMs = 25_000;

/** How often a draining server looks for connections that have fallen idle [ms]. */
const idleCheckMs = 50;

/**
 * Listens and starts the background.
 *
 * @throws InputError where the address cannot be listened on
 */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { app, background, host, port, logger, listeners = [] } = options;
  const quiet = new QuietConnections().follow(app.server);
  try {
    await app.listen({ host, port });
  } catch (error) {
    await app.close();
    throw listenError(error, { host, port });
  }
  const address = app.server.address();
  const actualPort = address !== null && typeof address === 'object' ? address.port : port;
  try {
    for (const listener of listeners) logger.info({}, await listener.listen());
    await background.start();
  } catch (error) {
    for (const listener of listeners) listener.cut();
    await Promise.allSettled([app.close(), ...listeners.map((listener) => listener.drain())]);
    throw error;
  }
  let stopping: Promise<void> | undefined;
  return {
    url: `http://${shownHost(host)}:${actualPort}`,
    stop: () => {
      stopping ??= drain(app, background, { logger, listeners, quiet, drainMs: options.drainMs ?? defaultDrainMs });
      return stopping;
    },
  };
}

async function drain(
  app: FastifyInstance,
  background: Background,
  {
    logger,
    listeners,
    quiet,
    drainMs,
  }: {
    readonly logger: Logger;
    readonly listeners: readonly Listener[];
    readonly quiet: QuietConnections;
    readonly drainMs: number;
  },
): Promise<void> {
  const cutOff = setTimeout(() => {
    logger.warn({}, `still busy after ${drainMs / 1000} s: the remaining connections are cut`);
    app.server.closeAllConnections();
    for (const listener of listeners) listener.cut();
  }, drainMs);
  // A kept-alive connection whose last answer left after the port had closed falls idle unseen.
  const reaper = setInterval(() => app.server.closeIdleConnections(), idleCheckMs);
  const endQuiet = setTimeout(() => quiet.end(), quietMs);
  const outcomes = await Promise.allSettled([
    app.close(),
    background.stop(),
    ...listeners.map((listener) => listener.drain()),
  ]);
  clearTimeout(cutOff);
  clearInterval(reaper);
  clearTimeout(endQuiet);
  for (const outcome of outcomes) {
    if (outcome.status === 'rejected') logger.error({ err: outcome.reason }, 'could not stop cleanly');
  }
}

/** Where a listener's address comes from. */
export type ListenAddress = {
  readonly host: string;
  readonly port: number;
  /** Key of the configuration above `host` and `port`; absent = `server`. */
  readonly section?: string;
};

/** What a refusal to listen means to the person who configured it; another error as it is. */
export function listenError(error: unknown, { host, port, section = 'server' }: ListenAddress): unknown {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  const refuse = (key: string, found: string, expected: string) =>
    new InputError(`${section}.${key}`, [{ place: '', found, expected }]);
  const ways = section === 'server' ? '--port, GPUMIX_PORT or the configuration file; 0 takes any' : '0 takes any';
  switch (code) {
    case 'EADDRINUSE':
      return refuse('port', `${port}, on which another process listens already`, `a free port (${ways})`);
    case 'EACCES':
      return refuse('port', `${port}, which needs privileges`, 'a port of 1024 or above, or 0 for any');
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
    case 'EINVAL':
      return refuse('host', quoteInput(host), 'an address of this machine, such as 127.0.0.1 or 0.0.0.0');
    default:
      return error;
  }
}

/** A host as a person types it into a client: an address of all interfaces is told as one that can be reached. */
export function shownHost(host: string): string {
  if (host === '0.0.0.0' || host === '::') return '127.0.0.1';
  return isIPv6(host) ? `[${host}]` : host;
}

/** The signals that ask a service to stop. */
const stopSignals = ['SIGTERM', 'SIGINT'] as const;

/** Exit code of a process that a signal ended: 128 + its number. */
const signalExitCodes = { SIGTERM: 143, SIGINT: 130 } as const;

/**
 * One Ctrl-C may arrive twice: the terminal sends it to every process, and npm passes its own on. [ms]
 *
 * A person who presses again because nothing seems to happen waits longer than this.
 */
const echoMs = 300;

/**
 * Resolves with the first SIGTERM or SIGINT. A second one ends the process at once.
 */
export function untilStopSignal(): Promise<(typeof stopSignals)[number]> {
  return new Promise((resolve) => {
    let askedAt: number | null = null;
    for (const signal of stopSignals) {
      process.on(signal, () => {
        const now = performance.now();
        if (askedAt !== null && now - askedAt > echoMs) process.exit(signalExitCodes[signal]);
        askedAt ??= now;
        resolve(signal);
      });
    }
  });
}

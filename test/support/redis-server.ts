import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { connect as connectTls } from 'node:tls';

/**
 * A real redis-server on a free loopback port, in a directory of its own, without persistence.
 *
 * It is stopped by its process id, and by the exit of the test process at the latest.
 */
export type RedisServer = {
  readonly host: string;
  readonly port: number;
  readonly pid: number;
  /** With the password; database 0. */
  readonly url: string;
  /** PEM of the certificate that signed itself; null without TLS. */
  readonly ca: string | null;
  /** One command by redis-cli, answered as its text; arguments may hold any bytes but NUL. */
  command(...args: readonly string[]): string;
  /** SIGKILL, as a crash: clients see their connections reset. */
  kill(): Promise<void>;
  /** Starts again on the same port, empty, with another run_id. */
  restartEmpty(): Promise<void>;
  /** SIGSTOP: connections stay open, nothing answers. */
  pause(): void;
  resume(): void;
  /** Kills it and removes its directory. */
  stop(): Promise<void>;
};

export type RedisServerOptions = {
  /** Password of the default user. */
  readonly password?: string;
  /** Serve TLS only, with a self-signed certificate for 127.0.0.1. */
  readonly tls?: boolean;
  /** Run as a cluster node that holds these slots (inclusive); join others with `joinCluster`. */
  readonly clusterSlots?: readonly [number, number];
  /** Further lines of redis.conf as command-line arguments. */
  readonly args?: readonly string[];
  /** Run as a Sentinel with these lines of sentinel.conf; it holds no data. */
  readonly sentinelLines?: readonly string[];
  /** With `tls`: PEM of the others that it connects to as a replica or a Sentinel, which it trusts beside itself. */
  readonly trusts?: readonly string[];
};

/** Path of redis-server, or null. */
export const redisServerPath = findProgram('redis-server');

/** Why Redis tests are skipped, as one line; null where they run. */
export const redisMissing: string | null =
  redisServerPath === null
    ? 'skipped: no redis-server on PATH (Debian and Ubuntu: apt-get install redis-server)'
    : null;

function findProgram(name: string): string | null {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this folder.
    }
  }
  return null;
}

const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

const host = '127.0.0.1';

export async function startRedisServer(options: RedisServerOptions = {}): Promise<RedisServer> {
  if (redisServerPath === null) throw new Error(redisMissing ?? 'no redis-server');
  const folder = mkdtempSync(join(tmpdir(), 'gpumix-redis-'));
  const ca = options.tls === true ? makeCertificate(folder) : null;
  if (ca !== null) writeFileSync(join(folder, 'trusted.pem'), [ca, ...(options.trusts ?? [])].join(''));
  let port = 0;
  let child: ChildProcess | null = null;

  const launch = async (): Promise<void> => {
    const listen = options.tls === true ? ['--port', '0', '--tls-port', String(port)] : ['--port', String(port)];
    const args = [
      ...(options.sentinelLines === undefined ? [] : [writeSentinelFile(folder, options.sentinelLines), '--sentinel']),
      ...listen,
      ...['--bind', host, '--dir', folder, '--loglevel', 'warning'],
      ...(options.sentinelLines === undefined ? ['--save', '', '--appendonly', 'no'] : []),
      ...(options.password === undefined ? [] : ['--requirepass', options.password]),
      ...(options.tls === true
        ? ['--tls-cert-file', join(folder, 'cert.pem'), '--tls-key-file', join(folder, 'key.pem')]
        : []),
      ...(options.tls === true
        ? ['--tls-ca-cert-file', join(folder, 'trusted.pem'), '--tls-auth-clients', 'no', '--tls-replication', 'yes']
        : []),
      ...(options.clusterSlots === undefined
        ? []
        : ['--cluster-enabled', 'yes', '--cluster-port', String(await freePort()), '--cluster-announce-ip', host]),
      ...(options.args ?? []),
    ];
    const started = spawn(redisServerPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    started.stdout.on('data', (text) => {
      output += String(text);
    });
    started.stderr.on('data', (text) => {
      output += String(text);
    });
    running.add(started);
    started.once('exit', () => running.delete(started));
    child = started;
    await untilAnswers(
      port,
      options.tls === true,
      () => started.exitCode !== null,
      () => output,
    );
  };

  const kill = async (): Promise<void> => {
    const current = child;
    child = null;
    if (current === null || current.exitCode !== null || current.signalCode !== null) return;
    current.kill('SIGKILL');
    await once(current, 'exit');
  };

  // Another process may take the port between its choice and the start.
  for (let attempt = 1; ; attempt++) {
    port = await freePort();
    try {
      await launch();
      break;
    } catch (error) {
      await kill();
      if (attempt === 3) throw error;
    }
  }

  const server: RedisServer = {
    host,
    port,
    get pid() {
      return child?.pid ?? -1;
    },
    url: `${options.tls === true ? 'rediss' : 'redis'}://${
      options.password === undefined ? '' : `:${encodeURIComponent(options.password)}@`
    }${host}:${port}/0`,
    ca,
    command(...args) {
      const access = [
        ...(options.password === undefined ? [] : ['--no-auth-warning', '-a', options.password]),
        ...(options.tls === true ? ['--tls', '--cacert', join(folder, 'cert.pem')] : []),
      ];
      return execFileSync('redis-cli', ['-h', host, '-p', String(port), ...access, ...args], {
        encoding: 'utf8',
        maxBuffer: 2 ** 30,
      }).trimEnd();
    },
    kill,
    async restartEmpty() {
      await kill();
      await launch();
    },
    pause() {
      child?.kill('SIGSTOP');
    },
    resume() {
      child?.kill('SIGCONT');
    },
    async stop() {
      await kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
  if (options.clusterSlots !== undefined) {
    server.command('CLUSTER', 'ADDSLOTSRANGE', ...options.clusterSlots.map(String));
  }
  return server;
}

/** A real cluster of `count` masters that share the slots evenly; resolves when every node sees it whole. */
export async function startRedisCluster(count: number): Promise<readonly RedisServer[]> {
  const slots = 16_384;
  const servers: RedisServer[] = [];
  for (let i = 0; i < count; i++) {
    const first = Math.floor((i * slots) / count);
    const last = Math.floor(((i + 1) * slots) / count) - 1;
    servers.push(await startRedisServer({ clusterSlots: [first, last] }));
  }
  servers.forEach((server, i) => {
    server.command('CLUSTER', 'SET-CONFIG-EPOCH', String(i + 1));
    for (const other of servers.slice(0, i)) {
      const bus = /@(\d+)/.exec(other.command('CLUSTER', 'NODES'))?.[1];
      server.command('CLUSTER', 'MEET', host, String(other.port), bus!);
    }
  });
  await until(async () =>
    servers.every((server) => {
      const info = server.command('CLUSTER', 'INFO');
      return info.includes('cluster_state:ok') && info.includes(`cluster_known_nodes:${count}`);
    }),
  );
  return servers;
}

/** Sentinels that watch one master. */
export type Sentinels = {
  readonly servers: readonly RedisServer[];
  /** As `redis.url` names them: without any password. */
  readonly url: string;
  /** Port of the master that they know. */
  masterPort(): number;
  /** How long the master may be silent before they replace it, from now on [ms]. */
  waitForMaster(milliseconds: number): void;
  stop(): Promise<void>;
};

/**
 * Real Sentinels of `master`, in a hurry: a master that is silent for half a second is replaced, by the majority of them.
 * Resolves when they know each other and the replicas.
 */
export async function startSentinels({
  master,
  replicas,
  count = 3,
  masterPassword,
  ...options
}: Pick<RedisServerOptions, 'password' | 'tls' | 'trusts'> & {
  readonly master: RedisServer;
  readonly replicas: number;
  readonly count?: number;
  readonly masterPassword?: string;
}): Promise<Sentinels> {
  const sentinelLines = [
    `sentinel monitor ${sentinelMaster} ${host} ${master.port} ${Math.floor(count / 2) + 1}`,
    ...(masterPassword === undefined ? [] : [`sentinel auth-pass ${sentinelMaster} ${masterPassword}`]),
    ...(options.password === undefined ? [] : [`sentinel sentinel-pass ${options.password}`]),
    `sentinel down-after-milliseconds ${sentinelMaster} 500`,
    `sentinel failover-timeout ${sentinelMaster} 3000`,
  ];
  const servers: RedisServer[] = [];
  for (let i = 0; i < count; i++) servers.push(await startRedisServer({ ...options, sentinelLines }));
  const told = (server: RedisServer, what: string): number =>
    Number(new RegExp(`^${what}\n(\\d+)$`, 'm').exec(server.command('SENTINEL', 'MASTER', sentinelMaster))?.[1]);
  await until(async () =>
    servers.every(
      (server) => told(server, 'num-other-sentinels') === count - 1 && told(server, 'num-slaves') === replicas,
    ),
  );
  return {
    servers,
    url: `redis${options.tls === true ? 's' : ''}://${servers.map(({ port }) => `${host}:${port}`).join(',')}/0?sentinel=${sentinelMaster}`,
    masterPort() {
      const known = servers.find(({ pid }) => pid > 0);
      if (known === undefined) throw new Error('no Sentinel runs');
      return Number(known.command('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', sentinelMaster).split('\n')[1]);
    },
    waitForMaster(milliseconds) {
      for (const { command } of servers) {
        command('SENTINEL', 'SET', sentinelMaster, 'down-after-milliseconds', String(milliseconds));
      }
    },
    async stop() {
      for (const server of servers) await server.stop();
    },
  };
}

const sentinelMaster = 'mymaster';

/** Sentinel keeps what it learns there, so that one started again is still who it was. */
function writeSentinelFile(folder: string, lines: readonly string[]): string {
  const file = join(folder, 'sentinel.conf');
  if (!existsSync(file)) writeFileSync(file, `${lines.join('\n')}\n`);
  return file;
}

async function until(isTrue: () => Promise<boolean>, describe = (): string => 'no answer'): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!(await isTrue())) {
    if (Date.now() > deadline) throw new Error(`redis-server did not come up: ${describe()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Waits for an answer to PING; that of a server which wants a password or another TLS client is an answer. */
async function untilAnswers(port: number, tls: boolean, hasExited: () => boolean, output: () => string): Promise<void> {
  await until(async () => {
    if (hasExited()) throw new Error(`redis-server did not start: ${output()}`);
    const socket: Socket = tls
      ? connectTls({ host, port, rejectUnauthorized: false })
      : createConnection({ host, port });
    try {
      socket.write('PING\r\n');
      const [answer] = await once(socket, 'data');
      return /^(\+PONG|-NOAUTH)/.test(String(answer));
    } catch {
      return false;
    } finally {
      socket.destroy();
    }
  }, output);
}

/** A port that nobody listens on now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, host);
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no TCP address');
  return address.port;
}

function makeCertificate(folder: string): string {
  const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
  execFileSync(
    'openssl',
    ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=127.0.0.1'].concat([
      ...['-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', cert],
    ]),
    { stdio: 'ignore' },
  );
  return readFileSync(cert, 'utf8');
}

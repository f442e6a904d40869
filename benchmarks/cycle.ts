import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseRedisUrl } from '../src/adapters/redis-settings.js';
import { createRedisStore } from '../src/adapters/redis-store.js';
import type { SharedStore } from '../src/core/ports.js';
import { cyclePhases } from '../src/service/view.js';
import { fleetDeployments, fleetRecords, intervalSeconds, writeFleetProfiles } from './large-fleet.js';
import type { BenchmarkOptions } from './main.js';
import { brief, median, table } from './timing.js';

/**
 * A fleet's cycle as users run it: a real redis-server, the service in a process of its own (`gpumix serve --config`,
 * defaults, no flags of Node.js), and this process in the gateway's place, which writes an interval record of every model
 * every ten seconds.
 *
 * The service's own metrics say how long each phase took, /proc how much memory and processor time it cost.
 */
export type CycleBenchmark = {
  readonly models: number;
  readonly first: CycleCost;
  /** Medians of the cycles after the first. */
  readonly steady: CycleCost;
  readonly steadyCycles: number;
  /** The most memory that the service ever held, and what it held at the end; NaN where there is no /proc [MB]. */
  readonly peakRssMb: number;
  readonly lastRssMb: number;
  /** From the start of the fleet's process until /readyz says 200: with its first cycle [s]. */
  readonly fleetReadySeconds: number;
  /** The same of the embedded quickstart: medians [s]. */
  readonly quickstartReadySeconds: number;
  readonly quickstartStarts: number;
};

type CycleCost = {
  /** All seven phases [s]. */
  readonly wholeSeconds: number;
  readonly phaseSeconds: Readonly<Record<string, number>>;
  /** Processor time of the process from one cycle to the next [s]. */
  readonly cpuSeconds: number;
  /** Longest that the event loop was late meanwhile [s]. */
  readonly stallSeconds: number;
};

/** What is aimed at, on two cores. */
export const aims = { cycleSeconds: 2, rssMb: 400, readySeconds: 1, stallSeconds: 0.05 } as const;

const root = fileURLToPath(new URL('../../', import.meta.url));
const host = '127.0.0.1';
/** Records live ten minutes: a service that starts beside a gateway finds as many as fit in them. */
const intervalsKept = 60;

export async function benchmarkCycle({ quick }: BenchmarkOptions): Promise<CycleBenchmark> {
  const models = quick ? 100 : 1000;
  const steadyCycles = quick ? 2 : 6;
  const folder = mkdtempSync(join(tmpdir(), 'gpumix-bench-'));
  const children: ChildProcess[] = [];
  let store: SharedStore | null = null;
  try {
    const quickstart: number[] = [];
    for (let i = 0; i < (quick ? 1 : 5); i += 1) quickstart.push(await quickstartReadySeconds(children));

    const redisPort = await startRedis(folder, children);
    const url = `redis://${host}:${redisPort}/0`;
    store = createRedisStore(parseRedisUrl(url, 'the benchmark'), { now: () => Date.now() });
    await writeFleetProfiles(store, models);
    const writer = await startWriter(store, models);
    try {
      const fleet = await measureFleet({ folder, children, models, steadyCycles, redisUrl: url });
      return {
        ...fleet,
        models,
        steadyCycles,
        quickstartReadySeconds: median(quickstart),
        quickstartStarts: quickstart.length,
      };
    } finally {
      await writer.stop();
    }
  } finally {
    await store?.close();
    for (const child of children) child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
}

async function measureFleet(options: {
  readonly folder: string;
  readonly children: ChildProcess[];
  readonly models: number;
  readonly steadyCycles: number;
  readonly redisUrl: string;
}): Promise<Pick<CycleBenchmark, 'first' | 'steady' | 'peakRssMb' | 'lastRssMb' | 'fleetReadySeconds'>> {
  const { folder, children, models, steadyCycles, redisUrl } = options;
  const port = await freePort();
  // JSON is YAML.
  const config = join(folder, 'gpumix.yaml');
  writeFileSync(config, JSON.stringify(configuration({ port, redisUrl, models })));
  // A cycle follows 1.5 s behind the end of an interval. The service starts behind that, so that its first cycle is over
  // before the first of the snapshots, which are taken in between: a scrape costs the service something too.
  await untilWithinInterval(2);
  const service = startService(['--config', config], { folder, children });
  const fleetReadySeconds = await service.ready(`http://${host}:${port}`);
  const seen: Snapshot[] = [zero];
  while (seen.length < steadyCycles + 2) {
    await untilWithinInterval(8);
    service.mustRun();
    const next = await snapshot(port, service.pid);
    const cycles = next.cycles - seen.at(-1)!.cycles;
    if (cycles !== 1) throw new Error(`${cycles} cycles in ${intervalSeconds} s: the machine is too busy for figures`);
    seen.push(next);
    await sleep(1000);
  }
  const costs = seen.slice(1).map((after, i) => costBetween(seen[i]!, after));
  const [first, ...steady] = costs;
  const middle = (pick: (cost: CycleCost) => number) => median(steady.map(pick));
  return {
    first: first!,
    steady: {
      wholeSeconds: middle((cost) => cost.wholeSeconds),
      phaseSeconds: Object.fromEntries(
        cyclePhases.map((phase) => [phase, middle((cost) => cost.phaseSeconds[phase]!)]),
      ),
      cpuSeconds: middle((cost) => cost.cpuSeconds),
      stallSeconds: middle((cost) => cost.stallSeconds),
    },
    peakRssMb: seen.at(-1)!.peakRssMb,
    lastRssMb: seen.at(-1)!.rssMb,
    fleetReadySeconds,
  };
}

/** A table, and the aims beside the figures. */
export function describeCycle(result: CycleBenchmark): string {
  const { first, steady, models, steadyCycles } = result;
  const seconds = (value: number) => value.toFixed(2);
  const milliseconds = (value: number) => `${brief(value * 1000)} ms`;
  const row = (name: string, pick: (cost: CycleCost) => string) => [name, pick(first), pick(steady)];
  return [
    `${models} models × 3 deployments × 40 buckets on a real Redis; steady: medians of ${steadyCycles} cycles`,
    '',
    table(
      ['', 'first cycle', 'steady cycle'],
      [
        ...cyclePhases.map((phase) => row(phase, (cost) => milliseconds(cost.phaseSeconds[phase]!))),
        row(`all seven phases (aim ${aims.cycleSeconds} s)`, (cost) => `${seconds(cost.wholeSeconds)} s`),
        row('processor time until the next', (cost) => `${seconds(cost.cpuSeconds)} s`),
        row(`longest stall (aim ${brief(aims.stallSeconds * 1000)} ms)`, (cost) => milliseconds(cost.stallSeconds)),
      ],
    ),
    '',
    `RSS at most ${Math.round(result.peakRssMb)} MB, at the end ${Math.round(result.lastRssMb)} MB (aim ${aims.rssMb} MB)`,
    `start until ready: quickstart ${seconds(result.quickstartReadySeconds)} s (aim ${aims.readySeconds} s, median of ${result.quickstartStarts}), this fleet ${seconds(result.fleetReadySeconds)} s`,
  ].join('\n');
}

function configuration(options: {
  readonly port: number;
  readonly redisUrl: string;
  readonly models: number;
}): unknown {
  return {
    server: { host, port: options.port },
    redis: { url: options.redisUrl },
    demand: { source: 'redis', intervalSeconds },
    profiles: { source: 'redis' },
    deployments: { source: 'config', list: fleetDeployments(options.models) },
  };
}

// ── The gateway ────────────────────────────────────────────────────────────────────────────────────────────────────

/** Writes the last ten minutes, then the interval that has just ended, every ten seconds. */
async function startWriter(store: SharedStore, models: number): Promise<{ stop(): Promise<void> }> {
  const write = (endSeconds: number) => store.writeTraces(fleetRecords(models, endSeconds));
  const lastEnd = () => Math.floor(Date.now() / 1000 / intervalSeconds) * intervalSeconds;
  let written = lastEnd();
  for (let back = intervalsKept - 1; back >= 0; back -= 1) await write(written - back * intervalSeconds);
  const calledOff = new AbortController();
  const loop = (async () => {
    while (!calledOff.signal.aborted) {
      while (written < lastEnd()) {
        written += intervalSeconds;
        await write(written);
      }
      await sleep(100, undefined, { signal: calledOff.signal }).catch(() => undefined);
    }
  })();
  loop.catch(() => undefined);
  return {
    stop: () => {
      calledOff.abort();
      return loop;
    },
  };
}

/** Waits until an interval is so many seconds old. */
async function untilWithinInterval(seconds: number): Promise<void> {
  const intervalMs = intervalSeconds * 1000;
  await sleep(intervalMs - ((Date.now() - seconds * 1000) % intervalMs));
}

// ── What the service says of itself ─────────────────────────────────────────────────────────────────────────────────

type Snapshot = {
  readonly cycles: number;
  /** Sums since the start [s]. */
  readonly phaseSeconds: Readonly<Record<string, number>>;
  readonly cpuSeconds: number;
  /** Since the last scrape [s]. */
  readonly stallSeconds: number;
  readonly rssMb: number;
  readonly peakRssMb: number;
};

const zero: Snapshot = { cycles: 0, phaseSeconds: {}, cpuSeconds: 0, stallSeconds: 0, rssMb: 0, peakRssMb: 0 };

async function snapshot(port: number, pid: number): Promise<Snapshot> {
  const text = await (await fetch(`http://${host}:${port}/metrics`)).text();
  const values = new Map(
    text.split('\n').map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.split(' ').at(-1))]),
  );
  const value = (series: string) => values.get(series) ?? Number.NaN;
  return {
    cycles: value('gpumix_phase_duration_seconds_count{phase="publish"}'),
    phaseSeconds: Object.fromEntries(
      cyclePhases.map((phase) => [phase, value(`gpumix_phase_duration_seconds_sum{phase="${phase}"}`)]),
    ),
    cpuSeconds: value('process_cpu_seconds_total'),
    stallSeconds: value('nodejs_eventloop_lag_max_seconds'),
    ...memory(pid),
  };
}

/** As the kernel counts it: code, heaps of every thread, and whatever lies outside of them. */
function memory(pid: number): { readonly rssMb: number; readonly peakRssMb: number } {
  let status = '';
  try {
    status = readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    // No /proc on this system: NaN says so.
  }
  const mb = (key: string) => (Number(new RegExp(`^${key}:\\s*(\\d+) kB`, 'm').exec(status)?.[1]) * 1024) / 1e6;
  return { rssMb: mb('VmRSS'), peakRssMb: mb('VmHWM') };
}

function costBetween(before: Snapshot, after: Snapshot): CycleCost {
  const phaseSeconds = Object.fromEntries(
    cyclePhases.map((phase) => [phase, after.phaseSeconds[phase]! - (before.phaseSeconds[phase] ?? 0)]),
  );
  return {
    wholeSeconds: Object.values(phaseSeconds).reduce((sum, seconds) => sum + seconds, 0),
    phaseSeconds,
    cpuSeconds: after.cpuSeconds - before.cpuSeconds,
    stallSeconds: after.stallSeconds,
  };
}

// ── Processes ───────────────────────────────────────────────────────────────────────────────────────────────────────

async function startRedis(folder: string, children: ChildProcess[]): Promise<number> {
  const port = await freePort();
  const args = ['--port', String(port), '--bind', host, '--dir', folder, '--save', '', '--appendonly', 'no'];
  const child = spawn('redis-server', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  await new Promise<void>((resolve, reject) => {
    let said = '';
    child.stdout.on('data', (chunk) => {
      said += chunk;
      if (/ready to accept connections/i.test(said)) resolve();
    });
    child.on('error', () => reject(new Error('this benchmark needs redis-server on PATH')));
    child.on('exit', () => reject(new Error(`redis-server ended: ${said}`)));
  });
  return port;
}

type Service = {
  readonly pid: number;
  /** Seconds from the start until /readyz says 200. */
  ready(url: string): Promise<number>;
  /** @throws where it has ended */
  mustRun(): void;
};

function startService(
  args: readonly string[],
  { folder, children }: { readonly folder: string | null; readonly children: ChildProcess[] },
): Service {
  const log = folder === null ? null : openSync(join(folder, 'log'), 'w');
  const startedMs = performance.now();
  const child = spawn(process.execPath, ['dist/cli/main.js', 'serve', ...args], {
    cwd: root,
    stdio: ['ignore', log ?? 'ignore', 'inherit'],
  });
  if (log !== null) closeSync(log);
  children.push(child);
  const mustRun = () => {
    if (child.exitCode === null && child.signalCode === null) return;
    throw new Error(`the service ended with ${child.exitCode ?? child.signalCode} (npm run build first)`);
  };
  return {
    pid: child.pid ?? 0,
    mustRun,
    async ready(url) {
      for (;;) {
        const isReady = await fetch(`${url}/readyz`).then(
          async (answer) => {
            await answer.arrayBuffer();
            return answer.status === 200;
          },
          () => false,
        );
        if (isReady) return (performance.now() - startedMs) / 1000;
        mustRun();
        await sleep(5);
      }
    },
  };
}

async function quickstartReadySeconds(children: ChildProcess[]): Promise<number> {
  const port = await freePort();
  const service = startService(['--quickstart', '--port', String(port)], { folder: null, children });
  const seconds = await service.ready(`http://${host}:${port}`);
  const child = children.pop()!;
  child.kill();
  await once(child, 'exit');
  return seconds;
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, host);
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return address !== null && typeof address === 'object' ? address.port : 0;
}

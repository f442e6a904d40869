import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { Agent, request } from 'node:https';
import { ChannelCredentials, type Client, loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { ConsumersCpu, ConsumersProcess } from './consumers-process.js';
import { brief, median, percentile, table } from './timing.js';

/**
 * What KEDA and the HPA wait for: GetMetrics over gRPC and a value of the external metrics API over TLS, at 500 requests/s
 * each in turn, on a process of its own with 3,000 deployments; against grpc-js and Fastify that always answer the same
 * bytes, with the same TLS, in that process.
 *
 * The load is open: requests go out at their times whether earlier ones are answered or not, and a time counts from when its
 * request was due. So each time also holds what the client and a busy machine add, which the bare server's has too. Processor
 * time of the server for a request is told as well: it hardly depends on who else is at work.
 */

export type ConsumerFigures = {
  readonly name: string;
  readonly ours: Figures;
  readonly bare: Figures;
};

type Figures = {
  /** Medians over the turns. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Processor time of the server's process for one request [ms]. */
  readonly cpuMs: number;
};

const requestsPerSecond = 500;

export async function benchmarkConsumers({ quick }: { readonly quick: boolean }): Promise<readonly ConsumerFigures[]> {
  const child = fork(new URL('./consumers-process.js', import.meta.url));
  try {
    const [there] = (await once(child, 'message')) as [ConsumersProcess];
    const size = quick ? { turns: 2, seconds: 1 } : { turns: 7, seconds: 5 };
    const { grpcPort, bareGrpcPort, metricsPort, bareMetricsPort, one, selected } = there;
    const grpc = { ours: grpcRequest(there, grpcPort), bare: grpcRequest(there, bareGrpcPort) };
    const metrics = (paths: readonly string[]) => ({
      ours: metricsRequest(there, metricsPort, paths),
      bare: metricsRequest(there, bareMetricsPort, paths),
    });
    return [
      { name: 'gRPC GetMetrics', ...(await compared(child, grpc, size)) },
      { name: 'external metrics, one deployment', ...(await compared(child, metrics(one), size)) },
      { name: 'external metrics, by selector of 100', ...(await compared(child, metrics(selected), size)) },
    ];
  } finally {
    child.kill();
  }
}

/** A table with one row for each kind of request. */
export function describeConsumers(figures: readonly ConsumerFigures[]): string {
  const rows = figures.map(({ name, ours, bare }) => [
    name,
    ...[ours.p50Ms, bare.p50Ms, ours.p99Ms, bare.p99Ms].map(brief),
    `${(ours.p99Ms / bare.p99Ms).toFixed(2)}x`,
    ...[ours.cpuMs, bare.cpuMs].map(brief),
    `${(ours.cpuMs / bare.cpuMs).toFixed(2)}x`,
  ]);
  const header = ['ms', 'p50', 'bare p50', 'p99', 'bare p99', 'p99 / bare', 'CPU', 'bare CPU', 'CPU / bare'];
  return `${requestsPerSecond} requests/s each, 3,000 deployments; medians over turns\n\n${table(header, rows)}`;
}

type Requests = { readonly send: (index: number) => Promise<void>; readonly close: () => void };
type Side = 'ours' | 'bare';

async function compared(
  child: ChildProcess,
  requests: Readonly<Record<Side, Requests>>,
  { turns, seconds }: { readonly turns: number; readonly seconds: number },
): Promise<Readonly<Record<Side, Figures>>> {
  const seen: Record<Side, Figures[]> = { ours: [], bare: [] };
  try {
    // The compiler is still at work.
    for (const side of ['ours', 'bare'] as const) await openLoop(requests[side].send, 2);
    for (let i = 0; i < turns; i += 1) {
      // A, B, B, A: a machine that slows down slows both.
      for (const side of i % 2 === 0 ? (['ours', 'bare'] as const) : (['bare', 'ours'] as const)) {
        const cpuBefore = await cpuOf(child);
        const times = await openLoop(requests[side].send, seconds);
        const cpuMs = ((await cpuOf(child)) - cpuBefore) / times.length;
        seen[side].push({ p50Ms: percentile(times, 0.5), p99Ms: percentile(times, 0.99), cpuMs });
      }
    }
  } finally {
    requests.ours.close();
    requests.bare.close();
  }
  return { ours: medians(seen.ours), bare: medians(seen.bare) };
}

function medians(turns: readonly Figures[]): Figures {
  const of = (key: keyof Figures) => median(turns.map((turn) => turn[key]));
  return { p50Ms: of('p50Ms'), p99Ms: of('p99Ms'), cpuMs: of('cpuMs') };
}

async function cpuOf(child: ChildProcess): Promise<number> {
  child.send('cpu');
  const [{ cpuMs }] = (await once(child, 'message')) as [ConsumersCpu];
  return cpuMs;
}

/** Sends at fixed times; resolves to how long after its time each was answered [ms]. */
async function openLoop(send: Requests['send'], seconds: number): Promise<readonly number[]> {
  const times: number[] = [];
  const running: Promise<void>[] = [];
  const begun = performance.now();
  const all = seconds * requestsPerSecond;
  while (running.length < all) {
    const due = begun + (1000 * running.length) / requestsPerSecond;
    if (performance.now() < due) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      continue;
    }
    running.push(send(running.length).then(() => void times.push(performance.now() - due)));
  }
  await Promise.all(running);
  return times;
}

function grpcRequest({ deployments }: ConsumersProcess, port: number): Requests {
  const proto = loadSync('samples/keda/external-scaler.proto', { longs: Number, defaults: true });
  type Scaler = Client & { GetMetrics(request: unknown, done: (error: Error | null) => void): void };
  const { ExternalScaler } = loadPackageDefinition(proto).externalscaler as unknown as {
    ExternalScaler: new (address: string, credentials: ChannelCredentials) => Scaler;
  };
  const client = new ExternalScaler(`127.0.0.1:${port}`, ChannelCredentials.createInsecure());
  return {
    send: (index) =>
      new Promise((resolve, reject) => {
        const scaledObjectRef = deployments[(index * 7) % deployments.length];
        client.GetMetrics({ scaledObjectRef }, (error) => (error === null ? resolve() : reject(error)));
      }),
    close: () => client.close(),
  };
}

function metricsRequest({ ca, client }: ConsumersProcess, port: number, paths: readonly string[]): Requests {
  const agent = new Agent({ keepAlive: true, maxSockets: 16, ca, cert: client.certificate, key: client.key });
  return {
    send: (index) =>
      new Promise((resolve, reject) => {
        const path = paths[(index * 7) % paths.length];
        const headers = { 'x-remote-user': 'bench' };
        const outgoing = request({ host: '127.0.0.1', port, path, agent, headers }, (response) => {
          response.resume();
          response.on('end', () =>
            response.statusCode === 200 ? resolve() : reject(new Error(`${path}: ${response.statusCode}`)),
          );
        });
        outgoing.on('error', reject).end();
      }),
    close: () => agent.destroy(),
  };
}

import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import autocannon from 'autocannon';
import { median } from './timing.js';

/**
 * Requests/s of `GET /metrics/{namespace}/{deployment}` on the real service, against a bare Fastify route that returns
 * the same bytes: the price of everything that stands between Fastify and the number.
 *
 * Each server is a process of its own. The service replays its quickstart, so a cycle plans about six times a second,
 * and its what-if planner is kept busy besides, during the turns of both servers. Turns alternate; the ratio is that
 * of the medians.
 */

export type HttpBenchmark = {
  readonly metricRps: number;
  readonly bareRps: number;
  readonly ratio: number;
  /** 99th percentile of the service's answers [ms]. */
  readonly metricP99Ms: number;
  readonly plansMade: number;
  readonly repetitions: number;
};

/** The least share of the bare route's requests/s that is aimed at. */
export const aimedRatio = 0.7;

const root = fileURLToPath(new URL('../../', import.meta.url));
const metricPath = '/metrics/default/qwen3-14b-l4';

export async function benchmarkHttp(
  options: { readonly repetitions?: number; readonly secondsEach?: number; readonly connections?: number } = {},
): Promise<HttpBenchmark> {
  const { repetitions = 5, secondsEach = 2, connections = 20 } = options;
  const children: ChildProcess[] = [];
  try {
    const serviceUrl = await startService(children);
    const body = await firstNumber(serviceUrl);
    const bareUrl = await startBareRoute(children, body);
    const planner = keepPlanning(serviceUrl);
    const measure = (url: string) => turn(`${url}${metricPath}`, secondsEach, connections);
    // The first turn of each is thrown away: the compiler is still at work.
    await measure(bareUrl);
    await measure(serviceUrl);
    const bare: Turn[] = [];
    const metric: Turn[] = [];
    for (let i = 0; i < repetitions; i += 1) {
      // A, B, B, A: a machine that slows down slows both.
      const order = i % 2 === 0 ? ([bare, metric] as const) : ([metric, bare] as const);
      for (const turns of order) turns.push(await measure(turns === bare ? bareUrl : serviceUrl));
    }
    const plansMade = await planner.stop();
    const [metricRps, bareRps] = [median(metric.map(({ rps }) => rps)), median(bare.map(({ rps }) => rps))];
    return {
      metricRps,
      bareRps,
      ratio: metricRps / bareRps,
      metricP99Ms: median(metric.map(({ p99Ms }) => p99Ms)),
      plansMade,
      repetitions,
    };
  } finally {
    for (const child of children) child.kill();
  }
}

/** One line for the table of benchmarks. */
export function describeHttp(result: HttpBenchmark): string {
  const { metricRps, bareRps, ratio, metricP99Ms, plansMade, repetitions } = result;
  return [
    `GET /metrics/{ns}/{dep}: ${Math.round(metricRps)} requests/s`,
    `bare Fastify route with the same bytes: ${Math.round(bareRps)} requests/s`,
    `ratio ${ratio.toFixed(2)} (aim ${aimedRatio})`,
    `p99 ${metricP99Ms.toFixed(1)} ms`,
    `medians of ${repetitions}, ${plansMade} what-if plans meanwhile`,
  ].join(' · ');
}

async function startService(children: ChildProcess[]): Promise<string> {
  const child = spawn(process.execPath, ['dist/cli/main.js', 'serve', '--quickstart', '--port', '0'], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  return new Promise((resolve, reject) => {
    let said = '';
    child.stdout.on('data', (chunk) => {
      said += chunk;
      const [, url] = /curl (http:\/\/[^/\s]+)/.exec(said) ?? [];
      if (url !== undefined) resolve(url);
    });
    child.on('error', reject);
    child.on('exit', () => reject(new Error(`the service ended (npm run build first): ${said}`)));
  });
}

async function startBareRoute(children: ChildProcess[], body: string): Promise<string> {
  const child = fork(new URL('./bare-route.js', import.meta.url), [metricPath, body]);
  children.push(child);
  const [port] = await once(child, 'message');
  return `http://127.0.0.1:${port}`;
}

/** The metric's body, as soon as there is a number. */
async function firstNumber(url: string): Promise<string> {
  for (let i = 0; i < 500; i += 1) {
    const answer = await fetch(url + metricPath);
    const body = await answer.text();
    if (answer.status === 200) return body;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error('the service had no number within 10 s');
}

type Turn = { readonly rps: number; readonly p99Ms: number };

async function turn(url: string, duration: number, connections: number): Promise<Turn> {
  const result = await autocannon({ url, duration, connections });
  if (result.non2xx > 0 || result.errors > 0) {
    throw new Error(`${url}: ${result.non2xx} answers were not 200, ${result.errors} requests failed`);
  }
  return { rps: result.requests.average, p99Ms: result.latency.p99 };
}

/** Asks for one what-if plan after the other; `stop` says how many were made. */
function keepPlanning(url: string): { stop(): Promise<number> } {
  const body = JSON.stringify(manyBuckets());
  let isWanted = true;
  let plans = 0;
  const loop = (async () => {
    while (isWanted) {
      const answer = await fetch(`${url}/api/v1/plan`, { method: 'POST', body });
      if (!answer.ok) throw new Error(`a what-if plan failed: ${answer.status} ${await answer.text()}`);
      await answer.arrayBuffer();
      plans += 1;
    }
  })();
  // A failure must surface at `stop`, not end the process before.
  loop.catch(() => undefined);
  return {
    stop: async () => {
      isWanted = false;
      await loop;
      return plans;
    },
  };
}

/** A problem that takes the planner a moment: 8 GPU types whose prices and speeds differ, 100 buckets. */
function manyBuckets(): unknown {
  const indexes = [
    [64, 256, 1024],
    [128, 1024, 8192],
  ];
  return {
    apiVersion: 'gpumix/v1',
    kind: 'PlanningProblem',
    models: [
      {
        name: 'bench',
        demand: Array.from({ length: 100 }, (_, i) => ({
          inputTokens: 100 + i * 70,
          outputTokens: 60 + ((i * 37) % 900),
          rps: 0.05 + (i % 7) * 0.03,
        })),
        deployments: Array.from({ length: 8 }, (_, d) => ({
          id: `bench/d${d}`,
          gpuType: `G${d}`,
          usdPerReplicaHour: 1 + d * 0.9,
          profile: {
            indexes,
            tputs: [4, 2, 0.8].map((fast, row) =>
              [1, 0.6, 0.25].map((share, column) => {
                return fast * share * (1 + d * 0.8) * (1 + (((d + row) * (column + 2)) % 3) * 0.1);
              }),
            ),
          },
        })),
      },
    ],
  };
}

import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { childEnvironment } from '../support/child-environment.js';
import { type RedisServer, redisMissing, startRedisServer } from '../support/redis-server.js';

if (redisMissing !== null) console.log(`replay-and-serve: ${redisMissing}`);

const gpus = ['l4', 'rtx', 'h100'];
/** USD/h of a replica, as the profiles say. */
const prices = gpus.map(
  (gpu) => JSON.parse(readFileSync(`samples/quickstart/profiles/qwen3-14b-${gpu}.json`, 'utf8')).cost as number,
);

/** The two programs of the README side by side, on the real clock: the gateway's part and the service's. */
type Running = {
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly exit: Promise<number | null>;
};

function gpumix(args: readonly string[], env: Readonly<Record<string, string>> = {}): Running {
  const child = spawn(process.execPath, ['dist/cli/main.js', ...args], {
    env: childEnvironment(env),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  child.stdout.on('data', (chunk) => {
    output += chunk;
  });
  child.stderr.on('data', (chunk) => {
    output += chunk;
  });
  return { child, output: () => output, exit: new Promise((resolve) => child.once('close', resolve)) };
}

describe.skipIf(redisMissing !== null)('gpumix replay into Redis, gpumix serve from it', () => {
  let redis: RedisServer;
  let service: Running;
  let replay: Running;
  let url = '';

  beforeAll(async () => {
    redis = await startRedisServer();
    service = gpumix(['serve', '--config', 'samples/redis/gpumix.yaml', '--port', '0'], {
      GPUMIX_REDIS_URL: redis.url,
    });
    url = await vi.waitFor(
      () => {
        const found = /http:\/\/127\.0\.0\.1:\d+/.exec(service.output())?.[0];
        if (found === undefined) throw new Error(`not listening: ${service.output()}`);
        return found;
      },
      { timeout: 30_000, interval: 50 },
    );
  });

  afterAll(async () => {
    for (const program of [replay, service]) {
      if (program === undefined || program.child.exitCode !== null) continue;
      program.child.kill('SIGKILL');
      await program.exit;
    }
    await redis?.stop();
  });

  it('publishes a number once the first records are there, and 503 until then', async () => {
    const first = await fetch(`${url}/metrics/default/qwen3-14b-l4`);
    expect(first.status).toBe(503);
    replay = gpumix([
      ...['replay', '--trace', 'samples/quickstart/trace.csv.gz', '--redis', redis.url],
      ...['--model', 'qwen3-14b', '--speed', '5', '--json'],
    ]);
    // A record is written every 10 seconds and read within two more; a busy machine gets its time.
    await vi.waitFor(
      async () => {
        const counts = await Promise.all(
          gpus.map(async (gpu) => {
            const answer = await fetch(`${url}/metrics/default/qwen3-14b-${gpu}`);
            if (answer.status !== 200) throw new Error(`status ${answer.status}: ${await answer.text()}`);
            const value = Number((await answer.text()).trimEnd().split(' ').at(-1));
            expect(value % 100).toBe(value === 0 ? 0 : 50);
            return Math.ceil(value / 100);
          }),
        );
        const plan = (await (await fetch(`${url}/api/v1/plan`)).json()) as {
          status: string;
          publishedUsdPerHour: number;
        };
        const usd = prices.reduce((sum, price, i) => sum + price * counts[i]!, 0);
        // Between two fetches a cycle may end: then the numbers belong to two plans, and the next look decides.
        if (usd === 0 || Math.abs(plan.publishedUsdPerHour - usd) > 1e-6)
          throw new Error(`${plan.publishedUsdPerHour} is not ${usd}`);
        expect(plan.status).toBe('optimal');
        // The first record covers a part of its interval only. Five times the morning's load is then some 3 to 11
        // requests/s: more than one replica of any of the three carries.
        const total = counts.reduce((sum, count) => sum + count, 0);
        if (total < 2) throw new Error(`${total} replicas for the whole load: ${service.output().slice(-2000)}`);
      },
      { timeout: 90_000, interval: 250 },
    );
  }, 120_000);

  it('ends both on SIGTERM with 0, the replay with its summary', async () => {
    replay.child.kill('SIGTERM');
    expect(await replay.exit).toBe(0);
    expect(replay.output()).toContain('"interrupted":true');
    service.child.kill('SIGTERM');
    expect(await service.exit).toBe(0);
  });
});

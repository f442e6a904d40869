import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import {
  historySchema,
  modelDetailSchema,
  modelsSchema,
  planningProblemSchema,
  planSchema,
  readinessSchema,
  replicasSchema,
  routingSchema,
} from '../../src/service/http/schemas.js';
import { childEnvironment } from '../support/child-environment.js';

type Serving = {
  readonly child: ChildProcess;
  readonly stdout: () => string;
  readonly stderr: () => string;
  readonly exit: Promise<number | null>;
};

/** Starts the real program; it is ended with the test, however that ends. */
function serve(args: readonly string[], env: Readonly<Record<string, string>> = {}): Serving {
  const child = spawn(process.execPath, ['dist/cli/main.js', 'serve', ...args], {
    env: childEnvironment({ HOME: tmpdir(), ...env }),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  const exit = new Promise<number | null>((resolve) => child.on('close', resolve));
  return { child, stdout: () => stdout, stderr: () => stderr, exit };
}

async function end({ child, exit }: Serving): Promise<void> {
  child.kill('SIGKILL');
  await exit;
}

async function urlOf(serving: Serving): Promise<string> {
  return vi.waitFor(
    () => {
      const [, url] = /curl (http:\/\/[^/\s]+)/.exec(serving.stdout()) ?? [];
      if (url === undefined) throw new Error(`not listening: ${serving.stdout()}${serving.stderr()}`);
      return url;
    },
    { timeout: 30_000, interval: 20 },
  );
}

describe('gpumix serve, the embedded quickstart', () => {
  let serving: Serving;
  let url: string;
  const text = async (path: string) => (await fetch(url + path)).text();
  const json = async (path: string) => (await fetch(url + path)).json();

  beforeAll(async () => {
    serving = serve(['--port', '0']);
    url = await urlOf(serving);
    await vi.waitFor(async () => expect((await fetch(`${url}/metrics/default/qwen3-14b-l4`)).status).toBe(200), {
      timeout: 30_000,
      interval: 50,
    });
  });
  afterAll(() => end(serving));

  it('is what runs without a configuration, and says so in the first line', () => {
    expect(serving.stdout().split('\n')[0]).toMatch(/^gpumix \d+\.\d+\.\d+: embedded quickstart/);
    expect(serving.stdout()).not.toContain('\x1b');
  });

  it('answers in the format of AIBrix with the replicas that it says elsewhere', async () => {
    // Both are asked until no cycle came between them.
    await vi.waitFor(
      async () => {
        const { replicas } = replicasSchema.parse(await json('/api/v1/replicas/default/qwen3-14b-l4'));
        const body = await text('/metrics/default/qwen3-14b-l4');
        const [, value] = /^vllm:deployment_replicas\{model_name="qwen3-14b"\} (\d+)\n$/m.exec(body) ?? [];
        expect(Number(value)).toBe(replicas === 0 ? 0 : 100 * replicas - 50);
      },
      { timeout: 30_000, interval: 20 },
    );
  });

  it('gives every document as it is described', async () => {
    expect(readinessSchema.parse(await json('/readyz')).status).toBe('ready');
    expect(modelsSchema.parse(await json('/api/v1/models')).models.map(({ name }) => name)).toEqual(['qwen3-14b']);
    expect(modelDetailSchema.parse(await json('/api/v1/models/qwen3-14b')).plan).not.toBeNull();
    planningProblemSchema.parse(await json('/api/v1/problem'));
    planSchema.parse(await json('/api/v1/plan'));
    expect(routingSchema.parse(await json('/api/v1/routing/qwen3-14b')).shares.length).toBeGreaterThan(0);
    expect(historySchema.parse(await json('/api/v1/history')).decisions.length).toBeGreaterThan(0);
  });

  it('plans its own problem anew to the same plan', async () => {
    // Both documents are asked for until they are of one cycle.
    const { problem, plan } = await vi.waitFor(
      async () => {
        const documents = {
          plan: planSchema.parse(await json('/api/v1/plan')),
          problem: planningProblemSchema.parse(await json('/api/v1/problem')),
        };
        expect(documents.problem.at).toBe(documents.plan.at);
        expect(documents.plan.status).toBe('optimal');
        return documents;
      },
      { timeout: 30_000, interval: 20 },
    );
    const answer = await fetch(`${url}/api/v1/plan`, { method: 'POST', body: JSON.stringify(problem) });
    const anew = planSchema.parse(await answer.json());
    const targets = ({ deployments }: typeof plan) => deployments.map(({ id, targetReplicas }) => [id, targetReplicas]);
    expect([anew.status, anew.usdPerHour, targets(anew)]).toEqual(['optimal', plan.usdPerHour, targets(plan)]);
    expect(anew.shares).toEqual(plan.shares);
  });

  it('tells its metrics: demand, replicas, money, phases', async () => {
    const metrics = await text('/metrics');
    for (const name of [
      'gpumix_desired_replicas{namespace="default",deployment="qwen3-14b-l4",model="qwen3-14b",gpu_type="L4"}',
      'gpumix_demand_rps{model="qwen3-14b"}',
      'gpumix_cost_usd_per_hour{model="qwen3-14b",gpu_type="L4"}',
      'gpumix_plan_status{status="optimal"}',
      'gpumix_phase_duration_seconds_count{phase="plan"}',
      'wva_desired_replicas{variant_name="qwen3-14b-l4",namespace="default",accelerator_type="L4"}',
    ]) {
      expect(metrics).toContain(name);
    }
    expect(metrics.split('\n').filter((line) => /^(gpumix|wva)_.* NaN$/.test(line))).toEqual([]);
  });

  it('fixes replicas at once, leaves the siblings to the plan, and clears', async () => {
    const scale = (replicas: number) =>
      fetch(`${url}/scale/default/qwen3-14b-h100`, { method: 'PUT', body: JSON.stringify({ replicas }) });
    expect(await (await scale(7)).json()).toEqual({ message: 'Scaled to 7' });
    expect(await text('/metrics/default/qwen3-14b-h100')).toContain('} 650\n');
    expect(await (await scale(-1)).json()).toEqual({ message: 'Scaled to -1', cleared: ['default/qwen3-14b-h100'] });
    await vi.waitFor(async () => expect(await text('/metrics/default/qwen3-14b-h100')).not.toContain('} 650\n'), {
      timeout: 30_000,
    });
  });

  it('leaves a deployment out while nobody follows it', async () => {
    const monitor = (method: string) => fetch(`${url}/monitor/default/qwen3-14b-h100`, { method });
    expect((await monitor('DELETE')).status).toBe(200);
    const gone = await fetch(`${url}/metrics/default/qwen3-14b-h100`);
    expect([gone.status, await gone.text()]).toEqual([
      404,
      '{"error":"Failed to read metrics: no deployment default/qwen3-14b-h100 is followed"}',
    ]);
    expect(await (await monitor('POST')).json()).toEqual({ message: 'Deployment optimization started' });
    await vi.waitFor(async () => expect((await fetch(`${url}/metrics/default/qwen3-14b-h100`)).status).toBe(200), {
      timeout: 30_000,
    });
  });
});

describe('the life of gpumix serve', () => {
  it.each(['SIGTERM', 'SIGINT'] as const)(
    'ends with 0 on %s, and leaves nothing behind that keeps it alive',
    async (signal) => {
      const serving = serve(['--quickstart', '--port', '0']);
      onTestFinished(() => end(serving));
      const url = await urlOf(serving);
      serving.child.kill(signal);
      expect(await serving.exit).toBe(0);
      expect(serving.stderr()).toBe('');
      await expect(fetch(`${url}/healthz`)).rejects.toThrow();
    },
  );

  it('names key and value where its port is taken, and exits with 2', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    onTestFinished(() => void other.close());
    await new Promise((resolve) => other.once('listening', resolve));
    const { port } = other.address() as { port: number };
    const serving = serve(['--quickstart', '--port', String(port)]);
    onTestFinished(() => end(serving));
    expect(await serving.exit).toBe(2);
    expect(serving.stderr()).toMatch(
      new RegExp(
        `^gpumix: server\\.port: found ${port}, on which another process listens already, expected a free port`,
      ),
    );
  });

  it('names line and key of a bad configuration, and exits with 2', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'gpumix-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const file = join(folder, 'gpumix.yaml');
    writeFileSync(file, 'server:\n  prot: 8080\n');
    const serving = serve(['--config', file]);
    onTestFinished(() => end(serving));
    expect(await serving.exit).toBe(2);
    expect(serving.stdout()).toBe('');
    expect(serving.stderr()).toContain(`${file}: line 2: server.prot`);
    expect(serving.stderr()).toContain('did you mean "port"?');
  });

  it.each([
    [['--port', 'http'], "argument 'http' is invalid"],
    [['--port', '70000'], 'flag --port: server.port: found 70000, expected a number <= 65535'],
    [['--config', 'no-such.yaml'], 'no-such.yaml: found no such file'],
    [['--config', 'a.yaml', '--quickstart'], '--quickstart'],
    [['--check', '--config', 'no-such.yaml'], 'no-such.yaml: found no such file'],
    [['--check', '--port', '70000'], 'flag --port: server.port: found 70000, expected a number <= 65535'],
    [['my.yaml'], 'serve: found "my.yaml", expected flags only: --config my.yaml for a configuration'],
    [['one', 'two'], 'too many arguments'],
  ])('refuses %j with a sentence and exits with 2', async (args, sentence) => {
    const serving = serve(args);
    onTestFinished(() => end(serving));
    expect(await serving.exit).toBe(2);
    expect(serving.stderr()).toContain(sentence);
    expect(serving.stderr()).not.toContain('    at ');
  });
});

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { profileText } from '../support/controller-world.js';
import { type PrometheusServer, prometheusMissing, startPrometheus } from '../support/prometheus-server.js';

if (prometheusMissing !== null) console.log(`prometheus-to-plan: ${prometheusMissing}`);

type Running = {
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly exit: Promise<number | null>;
};

function gpumix(args: readonly string[]): Running {
  const child = spawn(process.execPath, ['dist/cli/main.js', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output += chunk;
    });
  }
  return { child, output: () => output, exit: new Promise((resolve) => child.once('close', resolve)) };
}

async function addressOf(program: Running): Promise<string> {
  return vi.waitFor(
    () => {
      const found = /http:\/\/127\.0\.0\.1:\d+/.exec(program.output())?.[0];
      if (found === undefined) throw new Error(`not listening: ${program.output()}`);
      return found;
    },
    { timeout: 30_000, interval: 50 },
  );
}

/** No Redis, no gateway, no cluster: engines, a Prometheus that scrapes them, and the service. All clocks are real. */
describe.skipIf(prometheusMissing !== null)('gpumix serve beside engines that a Prometheus scrapes', () => {
  const folder = mkdtempSync(join(tmpdir(), 'gpumix-prometheus-to-plan-'));
  const programs: Running[] = [];
  const engines: string[] = [];
  let prometheus: PrometheusServer;
  let url = '';
  let sent = 0;
  let isSending = true;
  let sending: Promise<unknown> = Promise.resolve();
  const sentAt: number[] = [];

  beforeAll(async () => {
    const engine = ['--gpu', 'L4', '--model', 'llama-3.1-8b', '--served-model-name', 'meta/llama', '--port', '0'];
    for (let i = 0; i < 2; i += 1) programs.push(gpumix(['engine', ...engine, '--speed', '20']));
    for (const program of programs) engines.push(await addressOf(program));
    prometheus = await startPrometheus(
      engines.map((address, i) => ({
        address: new URL(address).host,
        labels: { namespace: 'default', pod: `llama-l4-6d4cf56db6-x7k${i}p` },
      })),
    );
    mkdirSync(join(folder, 'profiles'));
    writeFileSync(join(folder, 'profiles', 'llama-l4.json'), profileText({ rps: 2 }));
    writeFileSync(
      join(folder, 'gpumix.yaml'),
      `server: { port: 0 }
prometheus: { url: "${prometheus.url}" }
demand: { source: prometheus, windowSeconds: 10, intervalSeconds: 2, prometheus: { delaySeconds: 1 } }
profiles: { source: files, directory: profiles }
models: { llama: { servedNames: [meta/llama] } }
deployments:
  source: config
  list: [ { name: llama-l4, model: llama, gpuType: L4, usdPerReplicaHour: 1 } ]
`,
    );
    const prompt = Array.from({ length: 200 }, (_, i) => i + 1);
    const body = JSON.stringify({ model: 'meta/llama', prompt, max_tokens: 40, ignore_eos: true });
    const headers = { 'content-type': 'application/json' };
    const answers = new Set<Promise<unknown>>();
    sending = (async () => {
      // 10 requests/s, each at its time.
      for (const startMs = performance.now(); isSending; ) {
        const target = `${engines[sent % 2]}/v1/completions`;
        sentAt.push(Date.now());
        const answer = fetch(target, { method: 'POST', body, headers }).then((response) => response.text());
        answers.add(answer.catch(() => undefined));
        sent += 1;
        await delay(Math.max(0, startMs + sent * 100 - performance.now()));
      }
      await Promise.all(answers);
    })();
    programs.push(gpumix(['serve', '--config', join(folder, 'gpumix.yaml')]));
    url = await addressOf(programs.at(-1)!);
  }, 60_000);
  afterAll(async () => {
    isSending = false;
    await sending;
    for (const { child, exit } of programs) {
      child.kill('SIGKILL');
      await exit;
    }
    await prometheus?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  it('plans for what was sent, and says how old what it knows is', async () => {
    type Model = {
      readonly demand: Readonly<
        Record<'rps' | 'knownIntervals' | 'meanInputTokens' | 'meanOutputTokens', number>
      > | null;
      readonly heldReason: string | null;
    };
    const { demand, publishedText } = await vi.waitFor(
      async () => {
        const model = (await (await fetch(`${url}/api/v1/models/llama`)).json()) as Model;
        if ((model.demand?.knownIntervals ?? 0) < 5 || model.heldReason !== null) {
          throw new Error(`${JSON.stringify(model)} ${programs.at(-1)!.output().slice(-2000)}`);
        }
        const published = await fetch(`${url}/api/v1/replicas/default/llama-l4`);
        expect(published.status).toBe(200);
        return { demand: model.demand!, publishedText: await published.text() };
      },
      { timeout: 60_000, interval: 250 },
    );
    // What was truly sent in the ten seconds that end some two to four ago; a busy machine sends late.
    const nowMs = Date.now();
    const counts = [1, 2, 3, 4, 5].map(
      (ago) => sentAt.filter((at) => at > nowMs - (ago + 10) * 1000 && at <= nowMs - ago * 1000).length / 10,
    );
    expect(demand.rps).toBeGreaterThan(0.85 * Math.min(...counts));
    expect(demand.rps).toBeLessThan(1.15 * Math.max(...counts));
    expect(Math.abs(demand.meanInputTokens / 200 - 1)).toBeLessThan(0.01);
    expect(Math.abs(demand.meanOutputTokens / 40 - 1)).toBeLessThan(0.01);
    const { targetReplicas } = JSON.parse(publishedText) as { targetReplicas: number };
    expect(targetReplicas).toBeGreaterThanOrEqual(Math.ceil((0.85 * Math.min(...counts)) / 2));
    const ready = (await (await fetch(`${url}/readyz`)).json()) as { inputs: { input: string; ok: boolean }[] };
    expect(ready.inputs.find(({ input }) => input === 'prometheus')).toMatchObject({ ok: true });
    expect(await (await fetch(`${url}/metrics`)).text()).toMatch(/gpumix_input_age_seconds\{input="prometheus"\} \d/);
  }, 90_000);
});

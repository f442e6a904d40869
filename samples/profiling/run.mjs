// From running engines to a plan: two simulated engines, their benchmarks, two profiles in Redis, and a service that mixes
// both GPU types. `node samples/profiling/run.mjs`; takes about two minutes, wants redis-server on PATH (or REDIS_URL).
// With real engines the steps are the same: only the first one falls away. docs/profiles.md is the guide.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const cli = join(here, '..', '..', 'dist', 'cli', 'main.js');
const model = 'llama-3.1-8b';
/** On-demand prices of AWS, us-east-1, 2026-07-20. The objectives hold at the 90th percentile. */
const deployments = [
  { name: 'llama-l4', gpu: 'L4', usdPerHour: 0.8048 },
  { name: 'llama-a100', gpu: 'A100-80GB', usdPerHour: 3.4309 },
];
const objectives = { ttft: 0.5, tpot: 0.1, percentile: 90 };
/** Lengths that are measured [tokens]: few and short, so that this is a matter of minutes. */
const inputs = '128,512';
const outputs = '32';
/** Requests that arrive afterwards: so many a second of each length. */
const demand = [
  { inputTokens: 128, outputTokens: 32, rps: 80 },
  { inputTokens: 512, outputTokens: 32, rps: 1 },
];

if (!existsSync(cli)) throw new Error('gpumix is not built yet: npm install && npm run build');
const folder = mkdtempSync(join(tmpdir(), 'gpumix-profiling-'));
/** Programs that run beside this one, ended in the reverse order. */
const started = [];
process.once('SIGINT', () => process.exit(130));
process.once('SIGTERM', () => process.exit(143));
process.once('exit', () => {
  for (const child of started) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

try {
  const redis = await redisUrl();

  step('1. An engine of each GPU type');
  const urls = await Promise.all(deployments.map(startEngine));

  step('2. The highest rate of each length that meets the objectives');
  await Promise.all(deployments.map((deployment, i) => measure(deployment, urls[i])));

  step('3. A profile of each, into Redis');
  for (const deployment of deployments) await profile(deployment, redis);

  step('4. A service that plans from them, and requests for it');
  const plan = await planned(redis);
  show(plan);
} finally {
  for (const child of started.reverse()) await stop(child);
}

function step(title) {
  console.log(`\n── ${title}`);
}

/** Starts gpumix, its command line shown first. */
function gpumix(args, { echo = true, stdin = 'ignore', show = true } = {}) {
  if (echo) console.log(`$ gpumix ${args.join(' ')}`);
  const child = spawn(process.execPath, [cli, ...args], { stdio: [stdin, 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      output += text;
    });
  }
  const exit = once(child, 'close').then(([code]) => {
    if (show && output !== '') process.stdout.write(output.replace(/^/gm, '  ').trimEnd().concat('\n'));
    return code;
  });
  started.push(child);
  return { child, exit, output: () => output };
}

async function done(running) {
  const code = await running.exit;
  if (code !== 0) throw new Error(`gpumix ended with exit code ${code}`);
}

async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, 'close');
  child.kill('SIGTERM');
  await closed;
}

/** Waits until `find` returns something; a program that ended instead is an error. */
async function until(running, find) {
  for (;;) {
    const found = await find();
    if (found !== null) return found;
    if (running.child.exitCode !== null) throw new Error(`a program ended early:\n${running.output()}`);
    await delay(100);
  }
}

function urlOf(running) {
  return until(running, () => /http:\/\/[\d.]+:\d+/.exec(running.output())?.[0] ?? null);
}

async function redisUrl() {
  const given = process.env.REDIS_URL ?? '';
  if (given !== '') return given;
  const port = await freePort();
  const arguments_ = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', folder];
  const child = spawn('redis-server', arguments_, { stdio: 'ignore' });
  child.once('error', () => {
    console.error('redis-server is not on PATH: install it, or name a Redis in REDIS_URL');
    process.exit(1);
  });
  started.push(child);
  return `redis://127.0.0.1:${port}/0`;
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

async function startEngine({ gpu }) {
  const running = gpumix(['engine', '--gpu', gpu, '--model', model, '--port', '0'], { show: false });
  const url = await urlOf(running);
  console.log(`  ${gpu} at ${url}`);
  return url;
}

function resultsOf({ name }) {
  return join(folder, `${name}.jsonl`);
}

async function measure(deployment, url) {
  const { ttft, tpot, percentile } = objectives;
  const slo = ['--slo-ttft', String(ttft), '--slo-tpot', String(tpot), '--percentile', String(percentile)];
  const lengths = ['--inputs', inputs, '--outputs', outputs];
  const output = ['--output', resultsOf(deployment)];
  await done(
    gpumix([
      'benchmark',
      '--model',
      model,
      '--base-url',
      url,
      '--search',
      ...slo,
      ...lengths,
      ...output,
      '--requests',
      '40',
      '--resolution',
      '0.15',
      '--max-minutes',
      '2',
    ]),
  );
}

async function profile(deployment, redis) {
  const { ttft, tpot, percentile } = objectives;
  const slo = ['--ttft', String(ttft), '--tpot', String(tpot), '--percentile', String(percentile)];
  const target = `${redis}?model=${encodeURIComponent(model)}`;
  const facts = ['--cost', String(deployment.usdPerHour), '--gpu-type', deployment.gpu];
  const results = ['--benchmark', resultsOf(deployment)];
  await done(gpumix(['gen-profile', deployment.name, ...results, ...slo, ...facts, '-o', target]));
}

async function planned(redis) {
  const configuration = join(here, 'gpumix.yaml');
  process.env.GPUMIX_REDIS_URL = redis;
  const service = gpumix(['serve', '--config', configuration, '--port', '0'], { show: false });
  const url = await urlOf(service);
  const replay = gpumix(['replay', '--trace', '-', '--redis', redis, '--model', model], { stdin: 'pipe', show: false });
  replay.child.stdin.end(requestLog());
  console.log(`  waiting for a whole interval of requests (10 to 20 s) at ${url}/api/v1/plan`);
  // The first record may hold a part of an interval, and so of the rate; the requests last for a minute.
  const wanted = 0.9 * demand.reduce((sum, { rps }) => sum + rps, 0);
  const deadline = Date.now() + 50_000;
  const plan = await until(service, async () => {
    const answer = await fetch(`${url}/api/v1/plan`);
    const document = answer.ok ? await answer.json() : null;
    const rps = (document?.shares ?? []).reduce((sum, share) => sum + share.rps, 0);
    return rps >= wanted || (rps > 0 && Date.now() > deadline) ? document : null;
  });
  return plan;
}

/** A minute of requests, evenly spread, as a request log. */
function requestLog() {
  const requests = demand.flatMap(({ inputTokens, outputTokens, rps }) =>
    Array.from({ length: 60 * rps }, (_, i) => ({ at: Math.round((1000 * i) / rps), inputTokens, outputTokens })),
  );
  const lines = requests
    .sort((a, b) => a.at - b.at)
    .map(({ at, inputTokens, outputTokens }) => `${at},${inputTokens},${outputTokens}`);
  return `timestamp_ms,input_tokens,output_tokens\n${lines.join('\n')}\n`;
}

function show(plan) {
  console.log(`\n${plan.usdPerHour.toFixed(2)} USD/h, ${plan.status}, bound ${plan.boundUsdPerHour.toFixed(2)} USD/h`);
  for (const { id, gpuType, targetReplicas, utilization } of plan.deployments) {
    const load = utilization === null ? '' : `  load ${Math.round(100 * utilization)} %`;
    console.log(`  ${id.padEnd(22)} ${gpuType.padEnd(10)} ${String(targetReplicas).padStart(3)} replicas${load}`);
  }
}

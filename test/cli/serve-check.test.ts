import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { childEnvironment } from '../support/child-environment.js';

/** `gpumix serve --check`, as it is installed: no kubeconfig, no cluster, no Redis. */
function check(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  return new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve, reject) => {
    const child = spawn(process.execPath, ['dist/cli/main.js', 'serve', '--check', ...args], {
      env: childEnvironment({ KUBECONFIG: '/no/kubeconfig', HOME: '/no/home', ...env }),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
    });
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}

function written(text: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'gpumix-check-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'gpumix.yaml');
  writeFileSync(file, text);
  return file;
}

/** A port that counts who comes. */
async function watched(): Promise<{ readonly port: number; readonly visits: () => number }> {
  let visits = 0;
  const server = createServer((socket: Socket) => {
    visits += 1;
    socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  return { port: (server.address() as { port: number }).port, visits: () => visits };
}

describe('gpumix serve --check', () => {
  it('says what the file of a ConfigMap would serve in a cluster, contacts nothing, and tells no password', async () => {
    const { port, visits } = await watched();
    const file = written(`
redis: { url: 'redis://me:s3cret@127.0.0.1:${port}/1' }
prometheus: { url: 'https://me:s3cret@127.0.0.1:${port}', caFile: /etc/gpumix/ca.crt }
deployments: { source: kubernetes, namespaces: [team-a, team-b] }
pools: [ { gpuType: A100-80GB, gpus: 16 }, { gpuType: L4, gpus: 1 } ]
budgetUsdPerHour: 40
server: { tokenFile: /etc/gpumix/tokens }
keda: { scaler: { port: 6000 } }
publish: { mode: shadow, maxStepsDownPerMinute: 2 }
`);
    const { code, stdout, stderr } = await check(['--config', file]);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout.split('\n').slice(1)).toEqual([
      `  demand       request traces of the AIBrix gateway in redis://me@127.0.0.1:${port}/1, 240 s in intervals of 10 s`,
      '  deployments  Deployments of the cluster with a label model.aibrix.ai/name, in namespaces team-a, team-b',
      `  profiles     redis://me@127.0.0.1:${port}/1`,
      '  limits       pools A100-80GB 16 GPUs, L4 1 GPU; 40 USD an hour',
      "  listens      HTTP 127.0.0.1:8080 (inside a cluster 0.0.0.0:8080), KEDA's external scaler 0.0.0.0:6000",
      '  changes      by bearers of a token in /etc/gpumix/tokens',
      '  publish      shadow: what runs; what is planned is only shown; a minute at most 2 down',
      '  actuate      none: autoscalers do what is published',
      '  not read     /etc/gpumix/tokens, /etc/gpumix/ca.crt',
      '',
    ]);
    expect(stdout).toMatch(
      /^gpumix \d+\.\d+\.\d+: configuration from .*gpumix\.yaml: no fault found; it would serve\n/,
    );
    expect(stdout).not.toContain('s3cret');
    expect(visits()).toBe(0);
  });

  it('counts the environment and flags in, and warns of a variable that means nothing', async () => {
    const file = written('demand: { source: redis }\n');
    const env = { REDIS_HOST: 'redis.example', GPUMIX_ELSEWHERE: '1', GPUMIX_PORT: '1' };
    const { code, stdout, stderr } = await check(['--config', file, '--port', '9000', '--host', '10.0.0.1'], env);
    expect(code).toBe(0);
    expect(stdout).toContain('redis://redis.example:6379/0');
    expect(stdout).toContain('listens      HTTP 10.0.0.1:9000\n');
    expect(stderr).toContain('GPUMIX_ELSEWHERE');
  });

  it('finds every fault that a start finds, with its line, and exits with 2', async () => {
    const file = written('server:\n  prot: 8080\n');
    const { code, stdout, stderr } = await check(['--config', file]);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain(`${file}: line 2: server.prot`);
  });

  it('without a file says what the environment makes of it', async () => {
    expect((await check([])).stdout).toContain('embedded quickstart: no Redis, no cluster: no fault found');
    const { stdout } = await check([], { KUBERNETES_SERVICE_HOST: '10.0.0.1', REDIS_HOST: 'r' });
    expect(stdout).toContain(
      'listens      HTTP 0.0.0.0:8080\n  changes      by nobody until server.tokenFile or server.tokenReview says who may\n',
    );
  });
});

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { vi } from 'vitest';

/** A real Prometheus on a free loopback port, in a directory of its own, that scrapes every second. */
export type PrometheusServer = {
  readonly url: string;
  stop(): Promise<void>;
};

/** One target with the labels that relabelling gives it in a cluster. */
export type PrometheusTarget = {
  /** host:port; its path is /metrics. */
  readonly address: string;
  readonly labels: Readonly<Record<string, string>>;
};

const [prometheusPath, promtoolPath] = ['prometheus', 'promtool'].map((command) =>
  (process.env.PATH ?? '')
    .split(delimiter)
    .map((folder) => join(folder, command))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    }),
);

/** Why these tests are skipped, as one line; null where they run. */
export const prometheusMissing: string | null =
  prometheusPath === undefined || promtoolPath === undefined
    ? 'skipped: no prometheus with promtool on PATH (Debian and Ubuntu: apt-get install prometheus)'
    : null;

const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/**
 * Starts one and waits until it is ready to answer.
 *
 * @param options.files targets to follow, as files that the test rewrites (file_sd)
 * @param options.history what was scraped before, as OpenMetrics text with times: hours of it are there at once
 */
export async function startPrometheus(
  targets: readonly PrometheusTarget[],
  options: { readonly files?: readonly string[]; readonly history?: string } = {},
): Promise<PrometheusServer> {
  const { files = [], history } = options;
  const directory = mkdtempSync(join(tmpdir(), 'gpumix-prometheus-'));
  const file = join(directory, 'prometheus.yml');
  // JSON is YAML.
  writeFileSync(
    file,
    JSON.stringify({
      global: { scrape_interval: '1s', scrape_timeout: '1s' },
      scrape_configs: [
        {
          job_name: 'engines',
          static_configs: targets.map(({ address, labels }) => ({ targets: [address], labels })),
          ...(files.length === 0 ? {} : { file_sd_configs: [{ files, refresh_interval: '1s' }] }),
        },
      ],
    }),
  );
  const data = join(directory, 'data');
  if (history !== undefined) {
    const historyFile = join(directory, 'history.txt');
    writeFileSync(historyFile, history);
    execFileSync(promtoolPath!, ['tsdb', 'create-blocks-from', 'openmetrics', '--quiet', historyFile, data]);
  }
  const port = await freePort();
  const child = spawn(
    prometheusPath!,
    [
      `--config.file=${file}`,
      `--storage.tsdb.path=${data}`,
      // What a test scripts may lie at any time.
      '--storage.tsdb.retention.time=100y',
      `--web.listen-address=127.0.0.1:${port}`,
      '--log.level=error',
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  running.add(child);
  let errors = '';
  child.stderr.on('data', (chunk) => {
    errors += chunk;
  });
  const url = `http://127.0.0.1:${port}`;
  await vi.waitFor(
    async () => {
      if (child.exitCode !== null) throw new Error(`prometheus ended: ${errors}`);
      const answer = await fetch(`${url}/-/ready`);
      if (!answer.ok) throw new Error(`prometheus is not ready: ${answer.status} ${errors}`);
    },
    { timeout: 30_000, interval: 50 },
  );
  return {
    url,
    async stop() {
      const ended = child.exitCode === null ? once(child, 'exit') : null;
      child.kill('SIGKILL');
      await ended;
      running.delete(child);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

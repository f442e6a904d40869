import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import https from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeApiServer, type FakeApiServerOptions } from './fake-api-server.js';
import { TcpProxy } from './tcp-proxy.js';

/**
 * A cluster to run the deployment tests against, through a network that can be cut: the fake API server, or a real one
 * (kube-apiserver.ts). Writes go past that network, so that the cluster can change while a client is cut off.
 */
export type TestCluster = {
  readonly name: string;
  /** A kubeconfig that leads through `network`. */
  readonly kubeconfig: string;
  readonly network: TcpProxy;
  readonly write: ClusterWriter;
  stop(): Promise<void>;
};

type Json = Readonly<Record<string, unknown>>;

/** Changes Deployments as kubectl does. Each method resolves when the API server has accepted the change. */
export class ClusterWriter {
  readonly #server: string;
  readonly #token: string;
  readonly #ca: string | undefined;

  constructor(options: { readonly server: string; readonly token: string; readonly ca?: string }) {
    this.#server = options.server;
    this.#token = options.token;
    this.#ca = options.ca;
  }

  async namespace(name: string): Promise<void> {
    await this.#send('POST', '/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
  }

  async create(manifest: Json & { readonly metadata: Json }): Promise<void> {
    await this.#send('POST', `/apis/apps/v1/namespaces/${manifest.metadata.namespace}/deployments`, manifest);
  }

  /** JSON merge patch. */
  async patch(id: string, patch: Json): Promise<void> {
    await this.#send('PATCH', pathOf(id), patch);
  }

  async patchStatus(id: string, status: Json): Promise<void> {
    await this.#send('PATCH', `${pathOf(id)}/status`, { status });
  }

  async remove(id: string): Promise<void> {
    await this.#send('DELETE', `${pathOf(id)}?propagationPolicy=Background`);
  }

  #send(method: string, path: string, body?: Json): Promise<void> {
    const secure = this.#server.startsWith('https:');
    return new Promise((resolve, reject) => {
      const request = (secure ? https : http).request(
        `${this.#server}${path}`,
        {
          method,
          ca: this.#ca,
          headers: {
            authorization: `Bearer ${this.#token}`,
            'content-type': method === 'PATCH' ? 'application/merge-patch+json' : 'application/json',
          },
        },
        (response) => {
          let text = '';
          response.setEncoding('utf8').on('data', (chunk: string) => {
            text += chunk;
          });
          response.on('end', () => {
            if ((response.statusCode ?? 500) < 300) resolve();
            else reject(new Error(`${method} ${path}: ${response.statusCode} ${text}`));
          });
        },
      );
      request.on('error', reject);
      request.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }
}

function pathOf(id: string): string {
  const [namespace, name] = id.split('/');
  return `/apis/apps/v1/namespaces/${namespace}/deployments/${name}`;
}

/** A kubeconfig with one cluster and a token. */
export function kubeconfigText(options: {
  readonly server: string;
  readonly token: string;
  readonly ca?: string;
}): string {
  const cluster: Record<string, string> = { server: options.server };
  if (options.ca !== undefined) cluster['certificate-authority-data'] = Buffer.from(options.ca).toString('base64');
  // JSON is YAML.
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'test',
    clusters: [{ name: 'test', cluster }],
    users: [{ name: 'test', user: { token: options.token } }],
    contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
  });
}

export type FakeCluster = TestCluster & { readonly server: FakeApiServer; readonly folder: string };

/** A cluster of the fake API server. */
export async function startFakeCluster(options: FakeApiServerOptions = {}): Promise<FakeCluster> {
  const token = options.token ?? 'test-token';
  const folder = await mkdtemp(join(tmpdir(), 'gpumix-fake-cluster-'));
  const server = new FakeApiServer({ ...options, token });
  await server.start();
  const network = new TcpProxy({ host: '127.0.0.1', port: server.port });
  await network.connect();
  const scheme = options.tls === undefined ? 'http' : 'https';
  const ca = options.tls?.certificate;
  const kubeconfig = join(folder, 'kubeconfig');
  await writeFile(kubeconfig, kubeconfigText({ server: `${scheme}://127.0.0.1:${network.port}`, token, ca }));
  return {
    name: 'fake API server',
    kubeconfig,
    network,
    server,
    folder,
    write: new ClusterWriter({ server: server.url, token, ca }),
    stop: async () => {
      await network.cut();
      await server.stop();
      await rm(folder, { recursive: true });
    },
  };
}

/** What a Deployment needs to be accepted by a real API server; everything else is overrides. */
export function manifest(overrides: {
  readonly namespace?: string;
  readonly name: string;
  readonly model?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly replicas?: number;
  readonly limits?: Readonly<Record<string, string>>;
  readonly podSpec?: Json;
}): Json & { readonly metadata: Json } {
  const { namespace = 'default', name, model = 'llama2-7b', replicas = 1 } = overrides;
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: {
      namespace,
      name,
      labels: { 'model.aibrix.ai/name': model, ...overrides.labels },
      annotations: overrides.annotations ?? {},
    },
    spec: {
      replicas,
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: { app: name } },
        spec: {
          containers: [
            {
              name: 'engine',
              image: 'vllm/vllm-openai',
              resources: { limits: overrides.limits ?? { 'nvidia.com/gpu': '1' } },
            },
          ],
          ...overrides.podSpec,
        },
      },
    },
  };
}

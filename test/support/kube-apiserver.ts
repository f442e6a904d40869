import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import https from 'node:https';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { TcpProxy } from './tcp-proxy.js';
import { ClusterWriter, kubeconfigText, type TestCluster } from './test-cluster.js';

/**
 * A real control plane for tests: etcd and kube-apiserver from the folder that `KUBEBUILDER_ASSETS` names (what
 * `setup-envtest use -p path` prints). No kubelet and no controllers: Deployments are objects that nobody acts on.
 */

/** The folder with both programs; null where it is not set. */
export function kubebuilderAssets(): string | null {
  const folder = process.env.KUBEBUILDER_ASSETS;
  return folder !== undefined && folder !== '' ? folder : null;
}

/** How long a control plane may take to be ready; etcd with fsync off and an empty store need a few seconds. */
const startAllowanceMs = 45_000;

export async function startRealCluster(assets: string): Promise<TestCluster> {
  for (const program of ['etcd', 'kube-apiserver']) {
    if (!existsSync(join(assets, program))) throw new Error(`KUBEBUILDER_ASSETS: no ${program} in ${assets}`);
  }
  const folder = await mkdtemp(join(tmpdir(), 'gpumix-kube-apiserver-'));
  const children: Child[] = [];
  const network: { proxy: TcpProxy | null } = { proxy: null };
  const stop = async () => {
    await network.proxy?.cut();
    // The API server first: without its etcd it would not end in time.
    for (const child of children.reverse()) await child.stop();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const [clientPort, peerPort, securePort] = await freePorts(3);
    const token = 'gpumix-test-token';
    children.push(
      new Child(join(assets, 'etcd'), [
        `--data-dir=${join(folder, 'etcd')}`,
        `--listen-client-urls=http://127.0.0.1:${clientPort}`,
        `--advertise-client-urls=http://127.0.0.1:${clientPort}`,
        `--listen-peer-urls=http://127.0.0.1:${peerPort}`,
        '--unsafe-no-fsync=true',
      ]),
    );
    const keys = generateKeyPairSync('rsa', {
      modulusLength: 2048,
      publicKeyEncoding: { type: 'spki', format: 'pem' },
      privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    });
    await writeFile(join(folder, 'sa.pub'), keys.publicKey);
    await writeFile(join(folder, 'sa.key'), keys.privateKey);
    await writeFile(join(folder, 'tokens.csv'), `${token},gpumix-test,1,"system:masters"\n`);
    const apiServer = new Child(join(assets, 'kube-apiserver'), [
      `--etcd-servers=http://127.0.0.1:${clientPort}`,
      '--bind-address=127.0.0.1',
      `--secure-port=${securePort}`,
      `--cert-dir=${join(folder, 'certificates')}`,
      '--service-cluster-ip-range=10.0.0.0/24',
      `--token-auth-file=${join(folder, 'tokens.csv')}`,
      '--authorization-mode=RBAC',
      '--service-account-issuer=https://gpumix.test',
      `--service-account-key-file=${join(folder, 'sa.pub')}`,
      `--service-account-signing-key-file=${join(folder, 'sa.key')}`,
      '--disable-admission-plugins=ServiceAccount',
    ]);
    children.push(apiServer);
    // It writes a certificate of its own for its address before it listens.
    const certificate = join(folder, 'certificates', 'apiserver.crt');
    const ca = await ready({ server: `https://127.0.0.1:${securePort}`, token, certificate, child: apiServer });
    const proxy = new TcpProxy({ host: '127.0.0.1', port: securePort! });
    await proxy.connect();
    network.proxy = proxy;
    const kubeconfig = join(folder, 'kubeconfig');
    await writeFile(kubeconfig, kubeconfigText({ server: `https://127.0.0.1:${proxy.port}`, token, ca }));
    return {
      name: 'kube-apiserver',
      kubeconfig,
      network: proxy,
      write: new ClusterWriter({ server: `https://127.0.0.1:${securePort}`, token, ca }),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Waits until /readyz answers 200 and the default namespace exists; returns the server's certificate. */
async function ready(options: {
  readonly server: string;
  readonly token: string;
  readonly certificate: string;
  readonly child: Child;
}): Promise<string> {
  const until = Date.now() + startAllowanceMs;
  while (Date.now() < until && !options.child.ended) {
    try {
      const ca = await readFile(options.certificate, 'utf8');
      const answers = await Promise.all(
        ['/readyz', '/api/v1/namespaces/default'].map((path) =>
          statusOf(`${options.server}${path}`, ca, options.token),
        ),
      );
      if (answers.every((status) => status === 200)) return ca;
    } catch {
      // Not listening yet.
    }
    await delay(200);
  }
  throw new Error(`kube-apiserver was not ready within ${startAllowanceMs / 1000} s:\n${options.child.lastOutput}`);
}

function statusOf(url: string, ca: string, token: string): Promise<number> {
  return new Promise((resolve, reject) => {
    https
      .get(url, { ca, headers: { authorization: `Bearer ${token}` }, timeout: 5_000 }, (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      })
      .on('error', reject);
  });
}

/** Ports that were free a moment ago. */
async function freePorts(count: number): Promise<readonly number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

class Child {
  readonly #process: ChildProcess;
  readonly #exit: Promise<void>;
  ended = false;
  lastOutput = '';

  constructor(program: string, args: readonly string[]) {
    this.#process = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#process.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.lastOutput = (this.lastOutput + text).slice(-4000);
    });
    this.#exit = new Promise((resolve) => {
      const end = () => {
        this.ended = true;
        resolve();
      };
      this.#process.once('exit', end);
      this.#process.once('error', (error) => {
        this.lastOutput += String(error);
        end();
      });
    });
  }

  async stop(): Promise<void> {
    if (this.ended) return;
    this.#process.kill('SIGTERM');
    const forced = setTimeout(() => this.#process.kill('SIGKILL'), 10_000);
    await this.#exit;
    clearTimeout(forced);
  }
}

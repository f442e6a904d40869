import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { Agent, request } from 'node:https';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as tlsConnect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { connectToCluster } from '../../../src/adapters/kubernetes/api-client.js';
import { readTlsFiles, type TlsMaterial } from '../../../src/adapters/tls-files.js';
import { InputError } from '../../../src/core/input-error.js';
import { MetricsServer, type MetricsServerOptions } from '../../../src/service/external-metrics/metrics-server.js';
import { createLogger } from '../../../src/service/log.js';
import type { Fault } from '../../support/fake-api-server.js';
import { type ScriptedState, scriptedController } from '../../support/scripted-view.js';
import { certificateAuthority, type Pair } from '../../support/self-signed.js';
import { type FakeCluster, startFakeCluster } from '../../support/test-cluster.js';

/** The real server with real TLS, asked as the API server of a cluster asks it. */

const now = new Date();
const serving = certificateAuthority(now, 'serving');
const frontProxies = certificateAuthority(now, 'front proxies');
const stranger = certificateAuthority(now, 'stranger');
const frontProxy = frontProxies.issue('front-proxy-client');
const base = '/apis/external.metrics.k8s.io/v1beta1';

let cluster: FakeCluster;
/** What the API server answers, by the end of the path; what is not there is 404. */
let documents: Record<string, Fault>;
beforeAll(async () => {
  cluster = await startFakeCluster();
});
afterAll(() => cluster.stop());

const answer = (body: object, status = 200): Fault => ({ kind: 'answer', status, body: JSON.stringify(body) });
const notFound = answer({ kind: 'Status', status: 'Failure', message: 'not found', code: 404 }, 404);

function configMap(data: Record<string, string> = {}): Fault {
  return answer({
    kind: 'ConfigMap',
    data: {
      'requestheader-client-ca-file': frontProxies.certificate,
      'requestheader-allowed-names': '["front-proxy-client"]',
      'requestheader-username-headers': '["X-Remote-User"]',
      ...data,
    },
  });
}

const ownService = { namespace: 'gpumix', name: 'gpumix-external-metrics' };
const apiService = (service: object | null) => answer({ kind: 'APIService', spec: { group: 'x', service } });

type Started = {
  readonly state?: Partial<ScriptedState>;
  readonly configMap?: Fault;
  readonly apiService?: Fault;
  readonly server?: Partial<MetricsServerOptions>;
  /** Waits until the ConfigMap was read; it can be. */
  readonly settled?: boolean;
};

async function started(options: Started = {}) {
  documents = {
    'extension-apiserver-authentication': options.configMap ?? configMap(),
    'v1beta1.external.metrics.k8s.io': options.apiService ?? apiService(ownService),
  };
  cluster.server.fault = ({ path }) => documents[path.split('/').at(-1)!] ?? notFound;
  const controller = scriptedController(options.state);
  const lines: string[] = [];
  const logger = await createLogger({ level: 'info', to: { write: (line) => void lines.push(line) }, pretty: false });
  const folder = await mkdtemp(join(tmpdir(), 'gpumix-metrics-'));
  const { certificate, key } = serving.issue('gpumix');
  const files = { certFile: join(folder, 'c'), keyFile: join(folder, 'k'), clientCaFile: null };
  await writeFile(files.certFile, certificate);
  await writeFile(files.keyFile, key);
  let changeCertificate: (material: TlsMaterial) => void = () => undefined;
  let due: () => void = () => undefined;
  const server = new MetricsServer({
    view: controller.view,
    host: '127.0.0.1',
    port: 0,
    tls: {
      first: await readTlsFiles(files, 'externalMetrics'),
      follow: (onChange) => {
        changeCertificate = onChange;
        return () => undefined;
      },
    },
    api: await connectToCluster({ kubeconfig: cluster.kubeconfig }),
    // A busy machine is no fault of the cluster.
    answerTimeoutMs: 50_000,
    service: ownService,
    timer: (_delay, callback) => {
      due = callback;
      return () => undefined;
    },
    logger,
    ...options.server,
  });
  onTestFinished(async () => {
    server.cut();
    await server.drain();
    await rm(folder, { recursive: true });
  });
  const said = await server.listen();
  const port = Number(/:(\d+)$/.exec(said)![1]);
  const under = { ...controller, server, said, port, lines, changeCertificate, reread: () => due() };
  if (options.settled !== false) await expect.poll(async () => (await ask(port, '/readyz')).status).toBe(200);
  return under;
}

type Asked = {
  readonly client?: Pair | null;
  readonly user?: string | null;
  readonly headers?: Record<string, string>;
  readonly method?: string;
  readonly agent?: Agent;
  readonly ca?: string;
};

function ask(port: number, path: string, asked: Asked = {}) {
  const { client = frontProxy, user = 'system:serviceaccount:kube-system:horizontal-pod-autoscaler' } = asked;
  return new Promise<{ status: number; text: string; json: () => never }>((resolve, reject) => {
    const outgoing = request(
      {
        host: '127.0.0.1',
        port,
        path,
        method: asked.method ?? 'GET',
        agent: asked.agent ?? new Agent({ keepAlive: false }),
        ca: asked.ca ?? serving.certificate,
        ...(client === null ? {} : { cert: client.certificate, key: client.key }),
        headers: { ...(user === null ? {} : { 'X-Remote-User': user }), ...asked.headers },
      },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, text, json: () => JSON.parse(text) as never }),
        );
        response.on('error', reject);
      },
    );
    outgoing.on('error', reject).end();
  });
}

describe('the external metrics API', () => {
  it('is discovered: groups, group, metrics', async () => {
    const { port, said } = await started();
    expect(said).toMatch(/^external\.metrics\.k8s\.io\/v1beta1 on https:\/\/127\.0\.0\.1:\d+$/);
    const version = { groupVersion: 'external.metrics.k8s.io/v1beta1', version: 'v1beta1' };
    const group = { name: 'external.metrics.k8s.io', versions: [version], preferredVersion: version };
    expect((await ask(port, '/apis')).json()).toEqual({ kind: 'APIGroupList', apiVersion: 'v1', groups: [group] });
    expect((await ask(port, '/apis/external.metrics.k8s.io')).json()).toEqual({
      kind: 'APIGroup',
      apiVersion: 'v1',
      ...group,
    });
    expect((await ask(port, base)).json()).toMatchObject({
      kind: 'APIResourceList',
      groupVersion: 'external.metrics.k8s.io/v1beta1',
      resources: [
        { name: 'gpumix_desired_replicas', namespaced: true, kind: 'ExternalMetricValueList', verbs: ['get'] },
        { name: 'gpumix-aibrix-llama-a100' },
        { name: 'gpumix-aibrix-llama-l4' },
      ],
    });
  });

  it('answers the HPA with the number that its selector picks', async () => {
    const { port } = await started();
    const selector = encodeURIComponent('deployment=llama-l4,gpu_type in (L4,A100)');
    const answered = await ask(port, `${base}/namespaces/default/gpumix_desired_replicas?labelSelector=${selector}`);
    expect([answered.status, answered.json()]).toEqual([
      200,
      {
        kind: 'ExternalMetricValueList',
        apiVersion: 'external.metrics.k8s.io/v1beta1',
        metadata: {},
        items: [
          {
            metricName: 'gpumix_desired_replicas',
            metricLabels: { namespace: 'default', deployment: 'llama-l4', model: 'llama', gpu_type: 'L4' },
            timestamp: '2026-11-20T10:00:00Z',
            value: '3',
          },
        ],
      },
    ]);
  });

  it('answers AIBrix, which asks without a selector, half a replica below', async () => {
    const { port } = await started();
    const answered = await ask(port, `${base}/namespaces/default/gpumix-aibrix-llama-l4`);
    expect(answered.json()).toMatchObject({ items: [{ value: '2500m' }] });
  });

  it.each([
    [
      'namespaces/default/gpumix_desired_replicas?labelSelector=a%3D%3D%3Db',
      400,
      'BadRequest',
      'labelSelector: part 3',
    ],
    ['namespaces/default/gpumix_desired_replicas?labelSelector=deployment%3Dlama', 404, 'NotFound', 'no deployment of'],
    ['namespaces/default/no_such', 404, 'NotFound', 'no metric no_such in namespace default'],
    ['namespaces/default', 404, 'NotFound', 'could not find'],
    ['namespaces/%zz/x', 400, 'BadRequest', "/namespaces/%zz/x' is not a valid url"],
  ])('answers %s with a Status %s', async (path, code, reason, message) => {
    const { port } = await started();
    const answered = await ask(port, `${base}/${path}`);
    expect(answered.status).toBe(code);
    expect(answered.json()).toMatchObject({
      kind: 'Status',
      apiVersion: 'v1',
      status: 'Failure',
      code,
      reason,
      message: expect.stringContaining(message),
    });
  });

  it('answers with 503 what is not known, which makes the HPA hold', async () => {
    const { port } = await started({ state: { notKnown: new Set(['default/llama-l4']) } });
    const answered = await ask(port, `${base}/namespaces/default/gpumix_desired_replicas`);
    expect(answered.status).toBe(503);
    expect(answered.json()).toMatchObject({
      reason: 'ServiceUnavailable',
      message: expect.stringContaining('replicas of default/llama-l4 are not known: no profile'),
    });
  });

  it('is read only, and in JSON', async () => {
    const { port } = await started();
    expect((await ask(port, base, { method: 'POST' })).json()).toMatchObject({ code: 405, reason: 'MethodNotAllowed' });
    const aggregated = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList';
    expect((await ask(port, '/apis', { headers: { accept: aggregated } })).json()).toMatchObject({ code: 406 });
    const either = await ask(port, '/apis', { headers: { accept: `${aggregated},application/json` } });
    expect(either.status).toBe(200);
    const protobuf = 'application/vnd.kubernetes.protobuf, application/json;q=0.9';
    expect((await ask(port, base, { headers: { accept: protobuf } })).status).toBe(200);
  });

  it('has OpenAPI documents of both kinds, which name the kind that it serves', async () => {
    const { port } = await started();
    expect((await ask(port, '/openapi/v2')).json()).toMatchObject({ swagger: '2.0' });
    const list = (await ask(port, '/openapi/v3')).json() as { paths: Record<string, { serverRelativeURL: string }> };
    const { serverRelativeURL } = list.paths['apis/external.metrics.k8s.io/v1beta1']!;
    const document = await ask(port, serverRelativeURL);
    expect(document.json()).toMatchObject({ openapi: '3.0.0' });
    const references = [...document.text.matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)].map(
      ([, name]) => name,
    );
    const { components } = document.json() as { components: { schemas: object } };
    expect(references.length).toBeGreaterThan(0);
    expect(Object.keys(components.schemas)).toEqual(expect.arrayContaining(references));
  });
});

/** The cluster's authority of front proxies becomes another one, and the server has read it. */
async function trustStranger({ reread, lines }: { readonly reread: () => void; readonly lines: readonly string[] }) {
  documents['extension-apiserver-authentication'] = configMap({
    'requestheader-client-ca-file': stranger.certificate,
  });
  reread();
  const timesRead = () => lines.filter((line) => line.includes('authority of front proxies was read')).length;
  await expect.poll(timesRead).toBe(2);
}

describe('who asks', () => {
  const path = `${base}/namespaces/default/gpumix_desired_replicas`;

  it('is told from the certificate of the front proxy, and nothing else', async () => {
    const { port, lines } = await started();
    const status = async (asked: Asked) => (await ask(port, path, asked)).status;
    expect(await status({})).toBe(200);
    expect(await status({ client: null })).toBe(401);
    expect(await status({ client: stranger.issue('front-proxy-client') })).toBe(401);
    expect(await status({ client: frontProxies.issue('another') })).toBe(401);
    expect(await status({ user: null })).toBe(401);
    expect(await status({ user: '' })).toBe(401);
    expect((await ask(port, '/no-such-path', { client: null })).status).toBe(401);
    // Once each, whoever asks how often.
    expect(await status({ client: null })).toBe(401);
    const told = lines.filter((line) => line.includes('is refused'));
    expect(told.map((line) => (JSON.parse(line) as { reason: string }).reason)).toEqual([
      'no-certificate',
      'other-authority',
      'other-name',
      'no-user',
    ]);
  });

  it('is anyone with a certificate of that authority where no names are listed, and as the headers say', async () => {
    const { port } = await started({
      configMap: configMap({
        'requestheader-allowed-names': '[]',
        'requestheader-username-headers': '["X-Other","X-Who"]',
      }),
    });
    const client = frontProxies.issue('anyone');
    expect((await ask(port, path, { client, headers: { 'X-Who': 'u' }, user: null })).status).toBe(200);
    expect((await ask(port, path, { client })).status).toBe(401);
  });

  it('does not matter for probes', async () => {
    const { port } = await started();
    for (const probe of ['/healthz', '/livez', '/readyz', '/healthz?verbose']) {
      expect(await ask(port, probe, { client: null, user: null })).toMatchObject({ status: 200, text: 'ok' });
    }
  });

  it.each([
    ['may not be read', answer({ kind: 'Status', message: 'forbidden' }, 403), 'needs the Role extension-apiserver'],
    [
      'has no authority',
      configMap({ 'requestheader-client-ca-file': '' }),
      'requestheader-client-ca-file: found nothing',
    ],
    [
      'lists no names',
      configMap({ 'requestheader-allowed-names': 'front' }),
      'requestheader-allowed-names: found "front"',
    ],
  ])('is not known while the ConfigMap %s: nobody is believed', async (_, fault, message) => {
    const { port, lines, reread } = await started({ configMap: fault, settled: false });
    await expect
      .poll(() => lines.some((line) => line.includes(message) || line.includes(JSON.stringify(message).slice(1, -1))))
      .toBe(true);
    expect((await ask(port, path)).status).toBe(503);
    expect((await ask(port, '/readyz')).status).toBe(503);
    expect((await ask(port, '/healthz')).status).toBe(200);
    documents['extension-apiserver-authentication'] = configMap();
    reread();
    await expect.poll(async () => (await ask(port, path)).status).toBe(200);
  });

  it('follows the authority when it changes: connections of the former one are believed no more', async () => {
    const { port, reread, lines } = await started();
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    onTestFinished(() => agent.destroy());
    expect((await ask(port, path, { agent })).status).toBe(200);
    await trustStranger({ reread, lines });
    // The agent may still try the connection that has just been closed, or resume its session.
    const again = await ask(port, path, { agent }).catch(() => ask(port, path, { agent }));
    expect(again.status).toBe(401);
    expect((await ask(port, path, { client: stranger.issue('front-proxy-client') })).status).toBe(200);
    // What cannot be read leaves what was.
    documents['extension-apiserver-authentication'] = answer({}, 500);
    reread();
    await expect.poll(() => lines.some((line) => line.includes('"msg":"GET '))).toBe(true);
    expect((await ask(port, path, { client: stranger.issue('front-proxy-client') })).status).toBe(200);
  });

  it('is not who was trusted when a handshake began, where that authority has changed before its first request', async () => {
    const { port, reread, lines } = await started();
    const plain = connect({ host: '127.0.0.1', port });
    onTestFinished(() => void plain.destroy());
    await once(plain, 'connect');
    // Connections are taken in their order: when a later one is answered, the server has this one.
    expect((await ask(port, '/healthz')).status).toBe(200);
    await trustStranger({ reread, lines });
    const { certificate: cert, key } = frontProxy;
    const secured = tlsConnect({ socket: plain, ca: serving.certificate, servername: 'localhost', cert, key });
    await once(secured, 'secureConnect');
    secured.write(`GET ${path} HTTP/1.1\r\nHost: a\r\nX-Remote-User: u\r\n\r\n`);
    const [answered] = (await once(secured, 'data')) as [Buffer];
    expect(answered.toString('latin1')).toMatch(/^HTTP\/1\.1 401 [\s\S]*^connection: close/im);
  });

  it('is asked again after the authority has changed: no session of before is resumed', async () => {
    const { port, reread, lines } = await started();
    const { certificate: cert, key } = frontProxy;
    const connection = (session?: Buffer) => {
      const secured = tlsConnect({ host: '127.0.0.1', port, ca: serving.certificate, cert, key, session });
      onTestFinished(() => void secured.destroy());
      // A client learns its session with the first bytes that it reads.
      secured.resume().write('GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n');
      return secured;
    };
    const isReused = async (session: Buffer) => {
      const secured = connection(session);
      await once(secured, 'secureConnect');
      return secured.isSessionReused();
    };
    const [session] = (await once(connection(), 'session')) as [Buffer];
    expect(await isReused(session)).toBe(true);
    await trustStranger({ reread, lines });
    expect(await isReused(session)).toBe(false);
  });

  it('goes on with a certificate of the server that changes', async () => {
    const { port, changeCertificate } = await started();
    const { certificate, key } = stranger.issue('gpumix');
    changeCertificate({ cert: certificate, key, clientCa: null });
    await expect(ask(port, path)).rejects.toThrow();
    expect((await ask(port, path, { ca: stranger.certificate })).status).toBe(200);
    const elsewhere = { ca: stranger.certificate, client: stranger.issue('front-proxy-client') };
    expect((await ask(port, path, elsewhere)).status).toBe(401);
  });
});

describe('the end', () => {
  it.each([
    ['before its handshake', (port: number) => connect(port, '127.0.0.1')],
    [
      'within its handshake',
      (port: number) => {
        const socket = connect(port, '127.0.0.1');
        socket.write(Buffer.from('16030100', 'hex'));
        return socket;
      },
    ],
    [
      'that has asked for nothing',
      (port: number) => tlsConnect({ port, host: '127.0.0.1', ca: serving.certificate, servername: 'gpumix' }),
    ],
  ])('does not wait for a connection %s', async (_name, open) => {
    const { port, server } = await started();
    const socket = open(port);
    const ended = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => {}).resume();
    // Served later, so the server has accepted that connection before it stops.
    await ask(port, '/healthz');
    await server.drain();
    await ended;
  });
});

describe('the owner of the group', () => {
  it.each([
    [
      'KEDA',
      apiService({ namespace: 'keda', name: 'keda-operator-metrics-apiserver' }),
      /Service keda\/keda-operator-metrics-apiserver, expected none, or one of Service gpumix\/gpumix-external-metrics/,
    ],
    ['the API server itself', apiService(null), /of the API server itself, expected none/],
  ])('stops the start where it is %s', async (_, fault, message) => {
    const starting = started({ apiService: fault });
    await expect(starting).rejects.toThrow(message);
    await expect(starting).rejects.toBeInstanceOf(InputError);
  });

  it.each([
    ['there is none', notFound, 'nobody asks here before one names Service gpumix/gpumix-external-metrics'],
    ['it may not be looked at', answer({ kind: 'Status', message: 'forbidden' }, 403), 'needs get on apiservices'],
    ['the API server fails', answer({}, 500), 'gpumix goes on: GET'],
  ])('is a warning where %s', async (_, fault, message) => {
    const { lines, port } = await started({ apiService: fault });
    expect(lines.some((line) => line.includes(message))).toBe(true);
    expect((await ask(port, base)).status).toBe(200);
  });

  it('leaves the port alone where another process has it', async () => {
    const { port } = await started();
    await expect(started({ server: { port } })).rejects.toThrow(
      `externalMetrics.port: found ${port}, on which another`,
    );
  });
});

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  ChannelCredentials,
  type Client,
  type ClientReadableStream,
  loadPackageDefinition,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { describe, expect, it, onTestFinished } from 'vitest';
import { readTlsFiles, reloadTlsFiles } from '../../../src/adapters/tls-files.js';
import { ScalerServer, type ScalerServerOptions } from '../../../src/service/keda/scaler-server.js';
import { deploymentView, modelView, type ScriptedState, scriptedController } from '../../support/scripted-view.js';
import { certificateAuthority } from '../../support/self-signed.js';

/** The real server on loopback, asked by a real gRPC client that knows the protocol from the .proto of the samples. */

const proto = loadSync('samples/keda/external-scaler.proto', { keepCase: true, longs: Number, defaults: true });
type Scaler = new (address: string, credentials: ChannelCredentials) => Client;
const { ExternalScaler } = loadPackageDefinition(proto).externalscaler as unknown as { ExternalScaler: Scaler };

async function started(
  options: { readonly state?: Partial<ScriptedState>; readonly server?: Partial<ScalerServerOptions> } = {},
) {
  const controller = scriptedController(options.state);
  const server = new ScalerServer({
    view: controller.view,
    host: '127.0.0.1',
    port: 0,
    tls: null,
    ...options.server,
  });
  const said = await server.listen();
  onTestFinished(async () => {
    server.cut();
    await server.drain();
  });
  return { ...controller, server, said, address: /127\.0\.0\.1:\d+/.exec(said)![0] };
}

function clientOf(address: string, credentials = ChannelCredentials.createInsecure()): Client {
  const client = new ExternalScaler(address, credentials);
  onTestFinished(() => client.close());
  return client;
}

/** The answer, or the error as a value. */
function call(client: Client, method: string, request: unknown): Promise<unknown> {
  const invoke = (client as unknown as Record<string, (request: unknown, done: unknown) => void>)[method]!;
  return new Promise((resolve) => {
    invoke.call(client, request, (error: ServiceError | null, answer: unknown) =>
      resolve(error === null ? answer : { code: error.code, details: error.details }),
    );
  });
}

const ref = { name: 'llama-a100', namespace: 'default', scalerMetadata: {} };

function streamOf(client: Client, request: unknown = ref) {
  const open = (client as unknown as Record<string, (request: unknown) => ClientReadableStream<unknown>>)
    .StreamIsActive!;
  const stream = open.call(client, request);
  const iterator = stream[Symbol.asyncIterator]();
  onTestFinished(() => stream.cancel());
  return {
    stream,
    /** The next answer, or the error that ended the stream. */
    next: async () => {
      try {
        const { value, done } = await iterator.next();
        return done === true ? 'end' : value;
      } catch (error) {
        const { code, details } = error as ServiceError;
        return { code, details };
      }
    },
  };
}

describe('the external scaler', () => {
  it('tells the number in both fields, and whether there should be any', async () => {
    const { address, said } = await started();
    const client = clientOf(address);
    expect(said).toContain('(gRPC, in the clear)');
    expect(await call(client, 'GetMetrics', { scaledObjectRef: ref, metricName: 'gpumix-desired-replicas' })).toEqual({
      metricValues: [{ metricName: 'gpumix-desired-replicas', metricValue: 2, metricValueFloat: 2 }],
    });
    expect(await call(client, 'IsActive', ref)).toEqual({ result: true });
  });

  it('tells zero, which KEDA reads from the whole number', async () => {
    const { address } = await started({
      state: { models: [modelView({ deployments: [deploymentView({ replicas: 0 })] })] },
    });
    const client = clientOf(address);
    expect(await call(client, 'GetMetrics', { scaledObjectRef: ref })).toEqual({
      metricValues: [{ metricName: 'gpumix-desired-replicas', metricValue: 0, metricValueFloat: 0 }],
    });
    expect(await call(client, 'IsActive', ref)).toEqual({ result: false });
  });

  it('names one metric with target 1, the one that it answers', async () => {
    const { address } = await started();
    const client = clientOf(address);
    expect(await call(client, 'GetMetricSpec', { ...ref, name: 'no-such' })).toEqual({
      metricSpecs: [{ metricName: 'gpumix-desired-replicas', targetSize: 1, targetSizeFloat: 1 }],
    });
    expect(await call(client, 'GetMetrics', { scaledObjectRef: ref, metricName: 's0-other' })).toMatchObject({
      code: status.INVALID_ARGUMENT,
    });
  });

  it.each(['GetMetrics', 'IsActive'])(
    'answers %s with an error where there is no number, so that KEDA falls back',
    async (method) => {
      const { address } = await started({ state: { notKnown: new Set(['default/llama-a100']) } });
      const client = clientOf(address);
      const ask = (asked: unknown) => call(client, method, method === 'IsActive' ? asked : { scaledObjectRef: asked });
      expect(await ask(ref)).toEqual({
        code: status.UNAVAILABLE,
        details: expect.stringContaining('replicas of default/llama-a100 are not known yet'),
      });
      expect(await ask({ ...ref, name: 'lama' })).toMatchObject({ code: status.NOT_FOUND });
      expect(await ask({ ...ref, namespace: '' })).toMatchObject({ code: status.INVALID_ARGUMENT });
    },
  );

  it('answers a request without a ScaledObjectRef, and one that is too large, with an error', async () => {
    const { address } = await started();
    const client = clientOf(address);
    expect(await call(client, 'GetMetrics', {})).toMatchObject({ code: status.INVALID_ARGUMENT });
    const scalerMetadata = { deployment: 'x'.repeat(100_000) };
    expect(await call(client, 'IsActive', { ...ref, scalerMetadata })).toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
    });
    expect(await call(client, 'IsActive', ref)).toEqual({ result: true });
  });

  it('does not serve StreamMetricSpec, which KEDA takes for a target that never changes', async () => {
    const { address } = await started();
    const client = clientOf(address) as unknown as Record<string, (request: unknown) => ClientReadableStream<unknown>>;
    const code = await new Promise((resolve) => {
      const stream = client.StreamMetricSpec!(ref);
      stream.on('error', (error: ServiceError) => resolve(error.code));
      stream.resume();
    });
    expect(code).toBe(status.UNIMPLEMENTED);
  });

  it('names key and port where the port is taken', async () => {
    const first = await started();
    const port = Number(first.address.split(':')[1]);
    await expect(started({ server: { port } })).rejects.toThrow(
      `keda.scaler.port: found ${port}, on which another process listens already, expected a free port`,
    );
    await expect(started({ server: { host: '192.0.2.1' } })).rejects.toThrow('keda.scaler.host: found "192.0.2.1"');
  });
});

describe('StreamIsActive', () => {
  it('is told at once and when a cycle changes it', async () => {
    const { address, state, endCycle } = await started();
    const { next } = streamOf(clientOf(address));
    expect(await next()).toEqual({ result: true });
    state.models = [modelView({ deployments: [deploymentView({ replicas: 0 })] })];
    endCycle();
    expect(await next()).toEqual({ result: false });
    state.models = [modelView()];
    endCycle();
    expect(await next()).toEqual({ result: true });
    state.models = [];
    endCycle();
    expect(await next()).toMatchObject({ code: status.NOT_FOUND });
  });

  it('is open to so many and no more, and to another when one has gone', async () => {
    const { address } = await started({ server: { limits: { streams: 1 } } });
    const client = clientOf(address);
    const first = streamOf(client);
    expect(await first.next()).toEqual({ result: true });
    expect(await streamOf(client).next()).toEqual({
      code: status.RESOURCE_EXHAUSTED,
      details: '1 streams are open already',
    });
    first.stream.cancel();
    await expect.poll(() => streamOf(client).next()).toEqual({ result: true });
  });

  it('ends with the service, which drains', async () => {
    const { address, server } = await started();
    const client = clientOf(address);
    const { next } = streamOf(client);
    await next();
    await Promise.all([server.drain(), server.drain()]);
    expect(await next()).toEqual({ code: status.UNAVAILABLE, details: 'gpumix is stopping' });
    expect(await call(client, 'IsActive', ref)).toMatchObject({ code: status.UNAVAILABLE });
  });

  it.each([
    ['nothing', ''],
    ['the preface of HTTP/2 alone', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ])('is not kept from its end by a connection on which %s was said', async (_name, said) => {
    const { address, server } = await started();
    const [host, port] = address.split(':') as [string, string];
    const socket = connect(Number(port), host);
    const ended = new Promise((resolve) => socket.once('close', resolve));
    socket
      .on('error', () => {})
      .resume()
      .write(said);
    await call(clientOf(address), 'IsActive', ref);
    await server.drain();
    await ended;
  });
});

describe('over TLS', () => {
  const now = new Date();
  const trusted = certificateAuthority(now, 'trusted');
  const stranger = certificateAuthority(now, 'stranger');

  async function secured(withClients: boolean) {
    const folder = await mkdtemp(join(tmpdir(), 'gpumix-scaler-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    const files = {
      certFile: join(folder, 'tls.crt'),
      keyFile: join(folder, 'tls.key'),
      clientCaFile: withClients ? join(folder, 'ca.crt') : null,
    };
    const write = async (issuer: typeof trusted) => {
      const { certificate, key } = issuer.issue('gpumix');
      await writeFile(files.certFile, certificate);
      await writeFile(files.keyFile, key);
    };
    await write(trusted);
    if (files.clientCaFile !== null) await writeFile(files.clientCaFile, trusted.certificate);
    const section = 'keda.scaler';
    const first = await readTlsFiles(files, section);
    const lines: string[] = [];
    const log = {
      info: (_: object, line: string) => lines.push(line),
      warn: (_: object, line: string) => lines.push(line),
    };
    let due: () => void = () => undefined;
    const timer = (_delay: number, callback: () => void) => {
      due = callback;
      return () => undefined;
    };
    const under = await started({
      server: {
        tls: { first, follow: (onChange) => reloadTlsFiles({ files, section, first, timer, log, onChange }) },
      },
    });
    return { ...under, files, write, lines, reread: () => due() };
  }

  const credentialsOf = (authority: typeof trusted, client: { certificate: string; key: string } | null = null) =>
    ChannelCredentials.createSsl(
      Buffer.from(authority.certificate),
      client === null ? null : Buffer.from(client.key),
      client === null ? null : Buffer.from(client.certificate),
    );

  it('answers clients that trust its authority, and no others', async () => {
    const { address, said } = await secured(false);
    expect(said).toContain('(gRPC, TLS)');
    expect(await call(clientOf(address, credentialsOf(trusted)), 'IsActive', ref)).toEqual({ result: true });
    const refused = await call(clientOf(address, credentialsOf(stranger)), 'IsActive', ref);
    expect(refused).toMatchObject({ code: status.UNAVAILABLE });
    expect(await call(clientOf(address), 'IsActive', ref)).toMatchObject({ code: status.UNAVAILABLE });
  });

  it('answers only clients with a certificate of the authority that is asked for', async () => {
    const { address, said } = await secured(true);
    expect(said).toContain('(gRPC, TLS with client certificates)');
    const ask = (client: Parameters<typeof credentialsOf>[1]) =>
      call(clientOf(address, credentialsOf(trusted, client)), 'IsActive', ref);
    expect(await ask(trusted.issue('keda'))).toEqual({ result: true });
    expect(await ask(stranger.issue('keda'))).toMatchObject({ code: status.UNAVAILABLE });
    expect(await ask(null)).toMatchObject({ code: status.UNAVAILABLE });
  });

  it('ends although somebody stays within the handshake', async () => {
    const { address, server } = await secured(false);
    const [host, port] = address.split(':') as [string, string];
    const socket = connect(Number(port), host);
    const ended = new Promise((resolve) => socket.once('close', resolve));
    socket
      .on('error', () => {})
      .resume()
      .write(Buffer.from('16030100', 'hex'));
    await call(clientOf(address, credentialsOf(trusted)), 'IsActive', ref);
    await server.drain();
    await ended;
  });

  it('takes new certificates while it runs, and keeps the old ones where they are broken', async () => {
    const { address, files, write, lines, reread } = await secured(false);
    const old = credentialsOf(trusted);
    await writeFile(files.keyFile, 'not a key');
    reread();
    await expect.poll(() => lines.at(-1)).toContain('keda.scaler.keyFile: found');
    expect(lines.at(-1)).toContain('the certificate from before stays in use');
    expect(await call(clientOf(address, old), 'IsActive', ref)).toEqual({ result: true });

    await write(stranger);
    reread();
    await expect.poll(() => lines.at(-1)).toContain('new connections get the certificate CN=gpumix');
    expect(await call(clientOf(address, credentialsOf(stranger)), 'IsActive', ref)).toEqual({ result: true });
    expect(await call(clientOf(address, credentialsOf(trusted)), 'IsActive', ref)).toMatchObject({
      code: status.UNAVAILABLE,
    });
  });
});

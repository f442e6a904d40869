import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { connectToCluster } from '../adapters/kubernetes/api-client.js';
import { readTlsFiles, reloadTlsFiles, type TlsFileNames, type TlsMaterial } from '../adapters/tls-files.js';
import { InputError } from '../core/input-error.js';
import type { Config } from './config.js';
import type { Timer } from './controller.js';
import type { Logger } from './log.js';
import type { Listener } from './server.js';
import type { ControllerView } from './view.js';

/** The part of compose.ts that makes the faces of the service besides HTTP. None is loaded that is off. */

export type ListenerTools = {
  /** Where relative paths start. */
  readonly directory: string;
  readonly view: ControllerView;
  readonly logger: Logger;
};

/** @throws InputError for files, a cluster or a namespace that a face needs and that cannot be used */
export async function createListeners(config: Config, tools: ListenerTools): Promise<readonly Listener[]> {
  const listeners = [await createScaler(config, tools), await createExternalMetrics(config, tools)];
  return listeners.filter((listener) => listener !== null);
}

async function createScaler({ server, keda }: Config, tools: ListenerTools): Promise<Listener | null> {
  const { scaler } = keda;
  if (scaler === null) return null;
  const { certFile, keyFile, clientCaFile, port } = scaler;
  const section = 'keda.scaler';
  const tls =
    certFile === null || keyFile === null
      ? null
      : await openTlsFiles({ certFile, keyFile, clientCaFile }, { section, ...tools });
  const { ScalerServer } = await import('./keda/scaler-server.js');
  return new ScalerServer({ view: tools.view, host: scaler.host ?? server.host, port, tls });
}

async function createExternalMetrics(
  { server, externalMetrics }: Config,
  tools: ListenerTools,
): Promise<Listener | null> {
  if (externalMetrics === null) return null;
  const { certFile, keyFile, port, serviceName, serviceNamespace } = externalMetrics;
  const section = 'externalMetrics';
  const tls = await openTlsFiles({ certFile, keyFile, clientCaFile: null }, { section, ...tools });
  const service = { name: serviceName, namespace: serviceNamespace ?? (await namespaceOfPod()) };
  const api = await connectToCluster({});
  const { MetricsServer } = await import('./external-metrics/metrics-server.js');
  const { view, logger } = tools;
  return new MetricsServer({
    view,
    host: externalMetrics.host ?? server.host,
    port,
    tls,
    api,
    service,
    timer: wallTimer,
    logger,
  });
}

/** Files of a TLS server, read once now, and followed once it listens. */
async function openTlsFiles(
  names: TlsFileNames,
  { section, directory, logger }: ListenerTools & { readonly section: string },
): Promise<{ readonly first: TlsMaterial; readonly follow: (onChange: (read: TlsMaterial) => void) => () => void }> {
  const { certFile, keyFile, clientCaFile } = names;
  const files = {
    certFile: resolve(directory, certFile),
    keyFile: resolve(directory, keyFile),
    clientCaFile: clientCaFile === null ? null : resolve(directory, clientCaFile),
  };
  const first = await readTlsFiles(files, section);
  return {
    first,
    follow: (onChange) => reloadTlsFiles({ files, section, first, timer: wallTimer, log: logger, onChange }),
  };
}

/** Certificates and the cluster are of the wall clock, also while demand is replayed in simulated time. */
export const wallTimer: Timer = (delayMs, callback) => {
  const timeout = setTimeout(callback, delayMs);
  return () => clearTimeout(timeout);
};

/** Where Kubernetes writes the namespace of every pod that has a service account. */
const namespaceFile = '/var/run/secrets/kubernetes.io/serviceaccount/namespace';

async function namespaceOfPod(): Promise<string> {
  const text = await readFile(namespaceFile, 'utf8').catch(() => '');
  if (text.trim() !== '') return text.trim();
  const expected = 'the namespace of the Service that the APIService names, because this is no pod of a cluster';
  throw new InputError('externalMetrics.serviceNamespace', [{ place: '', found: 'null', expected }]);
}

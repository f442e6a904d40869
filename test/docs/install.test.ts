import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { loadConfig } from '../../src/service/config-layers.js';
import { appUnderTest } from '../support/http-app.js';
import { deploymentView, modelView } from '../support/scripted-view.js';

/** docs/install.md against what its commands name: files, ports, names, variables, routes. */

const root = fileURLToPath(new URL('../../', import.meta.url));
const read = (file: string): string => readFileSync(`${root}${file}`, 'utf8');
const page = read('docs/install.md');

type Json = Record<string, unknown>;
type Manifest = { readonly kind: string; readonly metadata: { readonly name: string; readonly namespace?: string } };
const manifestsIn = (file: string) => parseAllDocuments(read(file)).map((document) => document.toJS() as Manifest);
function only<Shape>(file: string, kind: string): Manifest & Shape {
  const found = manifestsIn(file).filter((manifest) => manifest.kind === kind);
  expect([file, kind, found.length]).toEqual([file, kind, 1]);
  return found[0] as Manifest & Shape;
}

/** Text below a heading, until the next one of its level. */
const section = (heading: string): string => page.split(`## ${heading}\n`)[1]!.split('\n## ')[0]!;
const commandsOf = (text: string) => [...text.matchAll(/^ *\$ (.+)$/gm)].map(([, command]) => command!);
const commands = commandsOf(page);

const cluster = 'samples/kubernetes/gpumix.yaml';
type PodSpec = {
  readonly serviceAccountName: string;
  readonly containers: [
    {
      readonly image: string;
      readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
      readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[];
    },
  ];
  readonly volumes: readonly { readonly name: string; readonly secret?: { readonly secretName: string } }[];
};
const deployment = only<{ spec: { template: { metadata: { labels: Json }; spec: PodSpec } } }>(cluster, 'Deployment');
const pod = deployment.spec.template;
const [container] = pod.spec.containers;
const service = only<{ spec: { selector: Json; ports: { name: string; port: number; targetPort: string }[] } }>(
  cluster,
  'Service',
);

/** `NAME=value` of every `kubectl set env` for a Deployment, in the order of the page. */
function variables(name: string): Record<string, string> {
  const given = commands.flatMap((command) => command.split(`set env deployment/${name} `)[1]?.split(' ') ?? []);
  return Object.fromEntries(given.map((each) => each.split('=') as [string, string]));
}

const configFile = {
  name: 'gpumix.yaml',
  text: only<{ data: Record<string, string> }>(cluster, 'ConfigMap').data['gpumix.yaml']!,
};

describe('docs/install.md', () => {
  it.each(['AIBrix', 'KEDA', 'The HPA, without KEDA'])('takes users of %s five steps', (heading) => {
    const steps = [...section(heading).matchAll(/^(\d)\. \*\*/gm)].map(([, number]) => Number(number));
    expect(steps).toEqual([1, 2, 3, 4, 5]);
    expect(commandsOf(section(heading)).length).toBeGreaterThan(4);
  });

  it('names files that are there', () => {
    const files = commands.flatMap((command) => [...command.matchAll(/samples\/\S+/g)].map(([file]) => file));
    expect(files.length).toBeGreaterThan(5);
    expect(files.filter((file) => !existsSync(`${root}${file}`))).toEqual([]);
  });

  it('asks routes that answer', async () => {
    const models = [modelView({ deployments: [deploymentView({ namespace: 'prod', name: 'llama-l4' })] })];
    const { app } = await appUnderTest({ state: { models } });
    const paths = new Set(
      commands.flatMap((command) => /^curl http:\/\/127\.0\.0\.1:8080(\S+)/.exec(command)?.[1] ?? []),
    );
    expect(paths.size).toBeGreaterThan(3);
    for (const path of paths) expect([path, (await app.inject(path)).statusCode]).toEqual([path, 200]);
  });

  it('begins in shadow, and ends live', () => {
    expect(loadConfig({ file: configFile, environment: {} }).config.publish.mode).toBe('shadow');
    expect(variables('gpumix').GPUMIX_PUBLISH_MODE).toBe('live');
    const patch = JSON.parse(read('samples/aibrix/optimizer-patch.json')) as { path: string; value: unknown }[];
    expect(patch.find(({ path }) => path.endsWith('/env/-'))!.value).toEqual({
      name: 'GPUMIX_PUBLISH_MODE',
      value: 'shadow',
    });
    expect(variables('aibrix-gpu-optimizer')).toEqual({ GPUMIX_PUBLISH_MODE: 'live' });
    expect(patch.find(({ path }) => path.endsWith('/image'))!.value).toBe(container.image);
  });

  it('sets variables that the configuration has, with files where they are mounted', () => {
    const environment = variables('gpumix');
    const { config, warnings } = loadConfig({
      file: configFile,
      environment: { ...environment, KUBERNETES_SERVICE_HOST: '10.0.0.1' },
    });
    expect(warnings).toEqual([]);
    expect(config.publish.mode).toBe('live');
    const mounted = (name: string) => container.volumeMounts.find((mount) => mount.name === name)!.mountPath;
    expect(config.externalMetrics).toMatchObject({
      certFile: `${mounted('tls')}/tls.crt`,
      keyFile: `${mounted('tls')}/tls.key`,
    });
    expect(config.profiles.directory).toBe(mounted('profiles'));
    const secret = pod.spec.volumes.find(({ name }) => name === 'tls')!.secret!.secretName;
    expect(commands.some((command) => command.includes(`create secret tls ${secret} `))).toBe(true);
  });

  it('has one gpumix for every sample: service account, Service, ports, certificate', () => {
    const { config } = loadConfig({ file: configFile, environment: variables('gpumix') });
    const portOf = (name: string) => container.ports.find((port) => port.name === name)!.containerPort;
    expect([portOf('http'), portOf('grpc'), portOf('https')]).toEqual([
      config.server.port,
      config.keda.scaler!.port,
      config.externalMetrics!.port,
    ]);
    expect(pod.metadata.labels).toEqual(service.spec.selector);
    // As the ScaledObjects say it.
    const host = `${service.metadata.name}.${service.metadata.namespace}.svc.cluster.local`;
    for (const [file, name] of [
      ['samples/keda/metrics-api.yaml', 'http'],
      ['samples/keda/external.yaml', 'grpc'],
    ] as const) {
      const { port } = service.spec.ports.find((each) => each.name === name)!;
      expect(read(file)).toContain(`${host}:${port}`);
    }
    const account = { kind: 'ServiceAccount', name: pod.spec.serviceAccountName, namespace: 'gpumix' };
    type Binding = { subjects: Json[] };
    for (const { metadata, subjects } of manifestsIn('samples/external-metrics/rbac.yaml') as (Manifest & Binding)[]) {
      if (metadata.name === 'gpumix-external-metrics-reader' || subjects === undefined) continue;
      expect([metadata.name, subjects]).toEqual([metadata.name, [account]]);
    }
    const metrics = only<{ spec: { selector: Json; ports: { targetPort: number }[] } }>(
      'samples/external-metrics/apiservice.yaml',
      'Service',
    );
    expect(metrics.spec.selector).toEqual(service.spec.selector);
    expect(metrics.spec.ports.map(({ targetPort }) => targetPort)).toEqual([portOf('https')]);
    const { name, namespace } = metrics.metadata;
    expect([name, namespace]).toEqual([config.externalMetrics!.serviceName, deployment.metadata.namespace]);
    expect(commands.find((command) => command.startsWith('openssl'))).toContain(
      `-subj /CN=${name}.${namespace}.svc -addext subjectAltName=DNS:${name}.${namespace}.svc`,
    );
    const placeholder = /sed "s\|([^|]+)\|/.exec(commands.find((command) => command.startsWith('sed'))!)![1]!;
    expect(read('samples/external-metrics/apiservice.yaml')).toContain(`caBundle: ${placeholder}`);
  });
});

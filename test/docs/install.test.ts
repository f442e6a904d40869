import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { loadConfig } from '../../src/service/config-layers.js';
import { defaultValues } from '../support/chart-renderer.js';
import { appUnderTest } from '../support/http-app.js';
import { kustomizationOf, patchedObjects } from '../support/kustomized-sample.js';
import { deploymentView, modelView } from '../support/scripted-view.js';

/** docs/install.md against what its commands name: files, ports, names, variables, routes. */

const root = fileURLToPath(new URL('../../', import.meta.url));
const read = (file: string): string => readFileSync(`${root}${file}`, 'utf8');
const page = read('docs/install.md');

type Json = Record<string, unknown>;
type Manifest = { readonly kind: string; readonly metadata: { readonly name: string; readonly namespace?: string } };
const manifestsIn = (file: string) => parseAllDocuments(read(file)).map((document) => document.toJS() as Manifest);
function only<Shape>(manifests: readonly Manifest[], kind: string): Manifest & Shape {
  const found = manifests.filter((manifest) => manifest.kind === kind);
  expect([kind, found.length]).toEqual([kind, 1]);
  return found[0] as Manifest & Shape;
}

/** Text below a heading, until the next one of its level. */
const section = (heading: string): string => page.split(`## ${heading}\n`)[1]!.split('\n## ')[0]!;
const commandsOf = (text: string) => [...text.matchAll(/^ *\$ (.+)$/gm)].map(([, command]) => command!);
const commands = commandsOf(page);

/** What users of KEDA and the HPA apply. */
const overlay = 'samples/kubernetes/overlays/prometheus';
const { namespace, images, configMapGenerator } = kustomizationOf('overlays/prometheus');
const cluster = patchedObjects('overlays/prometheus');
const filesOf = (configMap: string) => configMapGenerator!.find(({ name }) => name === configMap)!.files;
type PodSpec = {
  readonly serviceAccountName: string;
  readonly containers: [
    {
      readonly image: string;
      readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
      readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[];
    },
  ];
  readonly volumes: readonly {
    readonly name: string;
    readonly configMap?: { readonly name: string };
    readonly secret?: { readonly secretName: string; readonly optional?: boolean };
  }[];
};
const pod = only<{ spec: { template: { spec: PodSpec } } }>(cluster, 'Deployment').spec.template;
const [container] = pod.spec.containers;
const service = only<{ spec: { ports: { name: string; port: number; targetPort: string }[] } }>(cluster, 'Service');
/** Of every pod and in every selector, as kustomize adds them. */
const [{ pairs: selectorLabels }] = kustomizationOf('base').labels as [{ pairs: Json }];
type Image = NonNullable<typeof images>[number];

/** `NAME=value` of every `kubectl set env` for a Deployment, in the order of the page. */
function variables(name: string): Record<string, string> {
  const given = commands.flatMap((command) => command.split(`set env deployment/${name} `)[1]?.split(' ') ?? []);
  return Object.fromEntries(given.map((each) => each.split('=') as [string, string]));
}

const configFile = { name: 'gpumix.yaml', text: read(`${overlay}/gpumix.yaml`) };
const inCluster = { KUBERNETES_SERVICE_HOST: '10.0.0.1' };
const mounted = (name: string) => container.volumeMounts.find((mount) => mount.name === name)!.mountPath;
const volume = (name: string) => pod.spec.volumes.find((each) => each.name === name)!;

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
    const folders = commands.flatMap((command) => / -k (\S+)/.exec(command)?.[1] ?? []);
    expect([...new Set(folders)]).toEqual([overlay, 'samples/kubernetes/overlays/aibrix']);
    for (const folder of folders) expect(existsSync(`${root}${folder}/kustomization.yaml`)).toBe(true);
  });

  it('estimates the very profile that the overlay has, into the place where the overlay looks', () => {
    const estimate = commands.filter((command) => command.includes(' estimate '));
    expect(estimate).toHaveLength(1);
    const [command, file] = estimate[0]!.split(' -o ') as [string, string];
    expect(filesOf('gpumix-profiles').map((name) => `${overlay}/${name}`)).toEqual([file]);
    const { status, stdout, stderr } = spawnSync(`${command} --json`, {
      cwd: root,
      shell: true,
      encoding: 'utf8',
      timeout: 30_000,
      // To write it anew after a change of the estimate: this command with the date of the one that is there.
      env: { ...process.env, SOURCE_DATE_EPOCH: String(JSON.parse(read(file)).created) },
    });
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout.trimEnd()).toBe(read(file).trimEnd());
    const labelled = / label deployment (\S+) \S+=(\S+)$/.exec(commands.find((each) => each.includes(' label '))!)!;
    expect(JSON.parse(stdout)).toMatchObject({ gpu: labelled[1], model: labelled[2] });
  });

  it('mounts what the overlay makes of its files, in the namespace that the commands name', () => {
    expect(volume('config').configMap!.name).toBe('gpumix');
    expect(filesOf('gpumix')).toEqual(['gpumix.yaml']);
    expect(volume('profiles').configMap!.name).toBe('gpumix-profiles');
    expect(only(cluster, 'Namespace').metadata.name).toBe(namespace);
    const named = section('KEDA').matchAll(/kubectl -n (\S+) .*(?:deployment|service)\/gpumix/g);
    expect(new Set([...named].map(([, name]) => name))).toEqual(new Set([namespace]));
  });

  it('leaves no key behind, nor anything else that a step wrote down for another', () => {
    const written = commands.flatMap((command) =>
      [...command.matchAll(/ -(?:keyout|out) (\S+)/g)].map(([, file]) => file),
    );
    const removed = commands.flatMap((command) => /^rm (\S+)$/.exec(command)?.[1] ?? []);
    expect(removed.sort()).toEqual(written.sort());
    for (const file of removed) {
      // Not those of the container, which have a folder.
      const uses = commands.filter((command) => new RegExp(`[ =]${file}(?= |$)`).test(command));
      expect([uses.length > 2, uses.at(-1)]).toEqual([true, `rm ${file}`]);
    }
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
    expect(loadConfig({ file: configFile, environment: inCluster }).config.publish.mode).toBe('shadow');
    expect(variables('gpumix').GPUMIX_PUBLISH_MODE).toBe('live');
    // The values of the page say nothing of it: the chart does.
    expect(section('Helm')).not.toContain('mode: shadow');
    expect(defaultValues().config).toMatchObject({ publish: { mode: 'shadow' } });
    expect(commandsOf(section('Helm'))).toContain(
      'helm upgrade gpumix charts/gpumix --namespace gpumix --reuse-values --set config.publish.mode=live',
    );
    const patch = JSON.parse(read('samples/aibrix/optimizer-patch.json')) as { path: string; value: unknown }[];
    expect(patch.find(({ path }) => path.endsWith('/env/-'))!.value).toEqual({
      name: 'GPUMIX_PUBLISH_MODE',
      value: 'shadow',
    });
    expect(variables('aibrix-gpu-optimizer')).toEqual({ GPUMIX_PUBLISH_MODE: 'live' });
    const [{ name, newName, newTag }] = images!.filter((image) => image.name === container.image) as [Image];
    expect(name).toBe(container.image);
    expect(patch.find(({ path }) => path.endsWith('/image'))!.value).toBe(`${newName}:${newTag}`);
    expect(commands).toContain(`docker push ${newName}:${newTag}`);
  });

  it('sets variables that the configuration has, with files where they are mounted', () => {
    const environment = variables('gpumix');
    const { config, warnings } = loadConfig({ file: configFile, environment: { ...environment, ...inCluster } });
    expect(warnings).toEqual([]);
    expect(config.publish.mode).toBe('live');
    expect(config.externalMetrics).toMatchObject({
      certFile: `${mounted('tls')}/tls.crt`,
      keyFile: `${mounted('tls')}/tls.key`,
    });
    expect(config.profiles.directory).toBe(mounted('profiles'));
    const { secretName, optional } = volume('tls').secret!;
    expect(commands.some((command) => command.includes(`create secret tls ${secretName} `))).toBe(true);
    // Users of KEDA have none.
    expect(optional).toBe(true);
  });

  it('has one gpumix for every sample: service account, Service, ports, certificate', () => {
    const { config } = loadConfig({ file: configFile, environment: { ...variables('gpumix'), ...inCluster } });
    const portOf = (name: string) => container.ports.find((port) => port.name === name)!.containerPort;
    expect([portOf('http'), portOf('grpc'), portOf('https')]).toEqual([
      config.server.port,
      config.keda.scaler!.port,
      config.externalMetrics!.port,
    ]);
    // As the ScaledObjects say it.
    const host = `${service.metadata.name}.${namespace}.svc.cluster.local`;
    for (const [file, name] of [
      ['samples/keda/metrics-api.yaml', 'http'],
      ['samples/keda/external.yaml', 'grpc'],
    ] as const) {
      const { port } = service.spec.ports.find((each) => each.name === name)!;
      expect(read(file)).toContain(`${host}:${port}`);
    }
    const account = { kind: 'ServiceAccount', name: pod.spec.serviceAccountName, namespace };
    expect(only(cluster, 'ServiceAccount').metadata.name).toBe(account.name);
    type Binding = { subjects: Json[] };
    for (const { metadata, subjects } of manifestsIn('samples/external-metrics/rbac.yaml') as (Manifest & Binding)[]) {
      if (metadata.name === 'gpumix-external-metrics-reader' || subjects === undefined) continue;
      expect([metadata.name, subjects]).toEqual([metadata.name, [account]]);
    }
    const metrics = only<{ spec: { selector: Json; ports: { targetPort: number }[] } }>(
      manifestsIn('samples/external-metrics/apiservice.yaml'),
      'Service',
    );
    expect(metrics.spec.selector).toEqual(selectorLabels);
    expect(metrics.spec.ports.map(({ targetPort }) => targetPort)).toEqual([portOf('https')]);
    const { name } = metrics.metadata;
    expect([name, metrics.metadata.namespace]).toEqual([config.externalMetrics!.serviceName, namespace]);
    expect(commands.find((command) => command.startsWith('openssl'))).toContain(
      `-subj /CN=${name}.${namespace}.svc -addext subjectAltName=DNS:${name}.${namespace}.svc`,
    );
    const placeholder = /sed "s\|([^|]+)\|/.exec(commands.find((command) => command.startsWith('sed'))!)![1]!;
    expect(read('samples/external-metrics/apiservice.yaml')).toContain(`caBundle: ${placeholder}`);
  });
});

import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadGpuCatalogue } from '../../src/adapters/catalogue-file.js';
import { canonicalGpuType } from '../../src/core/gpu-types.js';
import { parseProfile } from '../../src/core/profile.js';
import { loadConfig } from '../../src/service/config-layers.js';
import { type Manifest, renderChart, rendererMissing } from '../support/chart-renderer.js';
import { faultsOfAll } from '../support/kubernetes-schemas.js';
import { documentsIn, kubernetesSamples, kustomizationOf, patchedObjects } from '../support/kustomized-sample.js';

const overlays = ['aibrix', 'prometheus'] as const;
const folders = ['base', ...overlays.map((name) => `overlays/${name}`)];
const base = patchedObjects('base');
const find = (all: readonly Manifest[], kind: string) => all.find((manifest) => manifest.kind === kind)!;
const podOf = (all: readonly Manifest[]) => find(all, 'Deployment').spec.template.spec;

const environment = { KUBERNETES_SERVICE_HOST: '10.0.0.1' };
const textOf = (overlay: string, file: string) =>
  readFileSync(join(kubernetesSamples, 'overlays', overlay, file), 'utf8');

/** `kubectl kustomize` needs no cluster; the path of one that runs, or null. */
const kubectl = spawnSync('kubectl', ['version', '--client'], { stdio: 'ignore' }).status === 0 ? 'kubectl' : null;
if (kubectl === null) console.log('kubernetes: skipped: no kubectl on PATH');

describe('samples/kubernetes', () => {
  it.each(folders)('%s: Kubernetes accepts every object', async (folder) => {
    expect(await faultsOfAll(patchedObjects(folder))).toEqual([]);
  });

  it.each(folders)('%s names files that are there', (folder) => {
    const { resources = [], configMapGenerator = [], patches = [] } = kustomizationOf(folder);
    const named = [
      ...resources,
      ...configMapGenerator.flatMap(({ files }) => files),
      ...patches.flatMap(({ path }) => path ?? []),
    ];
    expect(named.filter((file) => !existsSync(join(kubernetesSamples, folder, file)))).toEqual([]);
  });

  it.each(overlays)(
    'overlays/%s: gpumix accepts its configuration, and publishes nothing before a person says `live`',
    (name) => {
      const file = { name: 'gpumix.yaml', text: textOf(name, 'gpumix.yaml') };
      const { config, warnings } = loadConfig({ file, environment });
      expect(warnings).toEqual([]);
      expect(config.publish.mode).toBe('shadow');
      expect(config.server.host).toBe('0.0.0.0');
    },
  );

  it('overlays/aibrix: the password of Redis comes from the Secret of AIBrix’s chart, where there is one', () => {
    const [{ name, valueFrom }] = podOf(patchedObjects('overlays/aibrix')).containers[0].env;
    expect(valueFrom.secretKeyRef).toEqual({ name: 'aibrix-redis', key: 'redis-password', optional: true });
    const file = { name: 'gpumix.yaml', text: textOf('aibrix', 'gpumix.yaml') };
    const { config, warnings } = loadConfig({ file, environment: { ...environment, [name]: 'from the Secret' } });
    expect([config.redis?.password, warnings]).toEqual(['from the Secret', []]);
  });

  it('overlays/prometheus: each profile has the name of the Deployment that it is of', async () => {
    const catalogue = await loadGpuCatalogue();
    const { files } = kustomizationOf('overlays/prometheus').configMapGenerator!.find(
      ({ name }) => name === 'gpumix-profiles',
    )!;
    for (const file of files) {
      const profile = parseProfile(textOf('prometheus', file), file);
      expect(`${profile.gpu}.json`).toBe(file);
      expect(canonicalGpuType(catalogue, profile.gpuType!)).toBe(profile.gpuType);
    }
  });

  it.skipIf(rendererMissing !== null)('the pod and the rights are those of the chart', () => {
    const { manifests } = renderChart();
    const { image: _, ...ofChart } = podOf(manifests).containers[0];
    const { image: __, ...ofSample } = podOf(base).containers[0];
    expect(ofSample).toEqual({ ...ofChart, imagePullPolicy: undefined });
    const pod = (all: readonly Manifest[]) => {
      const { containers: ___, ...rest } = podOf(all);
      return rest;
    };
    expect(pod(base)).toEqual(pod(manifests));
    expect(find(base, 'ClusterRole').rules).toEqual(find(manifests, 'ClusterRole').rules);
    expect(find(base, 'Deployment').spec.strategy).toEqual(find(manifests, 'Deployment').spec.strategy);
  });

  describe.skipIf(kubectl === null)('built by kustomize', () => {
    const scratch = mkdtempSync(join(tmpdir(), 'gpumix-kustomize-'));
    afterAll(() => rmSync(scratch, { recursive: true, force: true }));

    function build(name: string, samples = kubernetesSamples): readonly Manifest[] {
      const built = spawnSync(kubectl!, ['kustomize', join(samples, 'overlays', name)], {
        encoding: 'utf8',
        timeout: 240_000,
      });
      expect(built.stderr).toBe('');
      return documentsIn(built.stdout);
    }

    it.each(overlays)(
      'overlays/%s: Kubernetes accepts every object, and they fit together',
      async (name) => {
        const manifests = build(name);
        expect(await faultsOfAll(manifests)).toEqual([]);
        const all = (kind: string) => manifests.filter((manifest) => manifest.kind === kind);
        const [deployment] = all('Deployment');
        const namespace = deployment!.metadata.namespace;
        expect(namespace).toBe(name === 'aibrix' ? 'aibrix-system' : 'gpumix');
        // AIBrix has made its own already.
        expect(all('Namespace').map(({ metadata }) => metadata.name)).toEqual(name === 'aibrix' ? [] : [namespace]);
        const pod = deployment!.spec.template;
        expect(pod.spec.containers[0].image).toBe('registry.example/gpumix:0.1.0');
        for (const { spec } of all('Service')) {
          expect(pod.metadata.labels).toMatchObject(spec.selector);
          const ports = pod.spec.containers[0].ports.map((port: { name: string }) => port.name);
          for (const { targetPort } of spec.ports) expect(ports).toContain(targetPort);
        }
        expect(all('Service')[0]!.metadata.name).toBe(name === 'aibrix' ? 'aibrix-gpu-optimizer' : 'gpumix');
        expect(all('ClusterRoleBinding')[0]!.subjects).toEqual([{ kind: 'ServiceAccount', name: 'gpumix', namespace }]);
        const mounted = pod.spec.volumes
          .flatMap(({ configMap }: { configMap?: { name: string } }) => configMap?.name ?? [])
          .sort();
        expect(
          all('ConfigMap')
            .map(({ metadata }) => metadata.name)
            .sort(),
        ).toEqual(mounted);
      },
      300_000,
    );

    it.each(overlays)(
      'overlays/%s: the patches are merged as the tests without kubectl merge them',
      (name) => {
        const [built, read] = [build(name), patchedObjects(`overlays/${name}`)];
        const service = (all: readonly Manifest[]) => byName(find(all, 'Service').spec.ports);
        expect(service(read)).toEqual(service(built));
        const lists = (all: readonly Manifest[]) => {
          const { containers, volumes } = podOf(all);
          const { ports, volumeMounts, env = [] } = containers[0];
          const unhashed = JSON.parse(
            JSON.stringify(volumes).replaceAll(/(?<="gpumix(?:-profiles)?)-[a-z0-9]{10}"/g, '"'),
          );
          return [ports, volumeMounts, env, unhashed].map(byName);
        };
        expect(lists(read)).toEqual(lists(built));
      },
      300_000,
    );

    it.each([
      ['another address', 'gpumix.yaml', 'http://prometheus-operated.monitoring', 'http://prometheus.other'],
      ['another profile', 'llama-l4.json', '"cost":', '"cost":1'],
    ])(
      'overlays/prometheus: %s starts another pod, once it is applied',
      (_, file, found, instead) => {
        const copy = join(scratch, file);
        cpSync(kubernetesSamples, copy, { recursive: true });
        const text = textOf('prometheus', file);
        expect(text).toContain(found);
        const before = build('prometheus', copy);
        writeFileSync(join(copy, 'overlays', 'prometheus', file), text.replace(found, instead));
        const after = build('prometheus', copy);
        expect(podOf(after).volumes).not.toEqual(podOf(before).volumes);
        expect(podOf(before)).toEqual(podOf(build('prometheus')));
      },
      300_000,
    );
  });
});

function byName<Named extends { readonly name: string }>(list: readonly Named[]): readonly Named[] {
  return [...list].sort((a, b) => a.name.localeCompare(b.name));
}

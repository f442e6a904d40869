import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { loadConfig } from '../../src/service/config-layers.js';
import { type Manifest, renderChart, rendererMissing, root } from '../support/chart-renderer.js';
import { faultsOfAll } from '../support/kubernetes-schemas.js';

const samples = join(root, 'samples', 'kubernetes');
const overlays = ['aibrix', 'keda'] as const;

type Kustomization = {
  readonly resources?: readonly string[];
  readonly configMapGenerator?: readonly { readonly files: readonly string[] }[];
  readonly patches?: readonly { readonly path?: string }[];
};

const kustomization = (folder: string): Kustomization =>
  parse(readFileSync(join(samples, folder, 'kustomization.yaml'), 'utf8')) as Kustomization;
const documents = (text: string): readonly Manifest[] =>
  parseAllDocuments(text).map((document) => document.toJS() as Manifest);
const base = (kustomization('base').resources ?? []).flatMap((file) =>
  documents(readFileSync(join(samples, 'base', file), 'utf8')),
);

/** `kubectl kustomize` needs no cluster; the path of one that runs, or null. */
const kubectl = spawnSync('kubectl', ['version', '--client'], { stdio: 'ignore' }).status === 0 ? 'kubectl' : null;
if (kubectl === null) console.log('kubernetes: skipped: no kubectl on PATH');

describe('samples/kubernetes', () => {
  it('base: Kubernetes accepts every object', async () => {
    expect(await faultsOfAll(base)).toEqual([]);
  });

  it.each(['base', ...overlays.map((name) => `overlays/${name}`)])('%s names files that are there', (folder) => {
    const { resources = [], configMapGenerator = [], patches = [] } = kustomization(folder);
    const named = [
      ...resources,
      ...configMapGenerator.flatMap(({ files }) => files),
      ...patches.flatMap(({ path }) => path ?? []),
    ];
    expect(named.filter((file) => !existsSync(join(samples, folder, file)))).toEqual([]);
  });

  it.each(overlays)(
    'overlays/%s: gpumix accepts its configuration, and publishes nothing before a person says `live`',
    (name) => {
      const file = join(samples, 'overlays', name, 'gpumix.yaml');
      const environment = { KUBERNETES_SERVICE_HOST: '10.0.0.1' };
      const { config, warnings } = loadConfig({ file: { name: file, text: readFileSync(file, 'utf8') }, environment });
      expect(warnings).toEqual([]);
      expect(config.publish.mode).toBe('shadow');
    },
  );

  it('the profile of the overlay for KEDA is one that was measured', () => {
    const name = 'qwen3-14b-l4.json';
    expect(readFileSync(join(samples, 'overlays', 'keda', name), 'utf8')).toBe(
      readFileSync(join(dirname(samples), 'quickstart', 'profiles', name), 'utf8'),
    );
  });

  it.skipIf(rendererMissing !== null)('the pod and the rights are those of the chart', () => {
    const { manifests } = renderChart();
    const find = (all: readonly Manifest[], kind: string) => all.find((manifest) => manifest.kind === kind)!;
    const container = (all: readonly Manifest[]) => find(all, 'Deployment').spec.template.spec.containers[0];
    const { image: _, ...ofChart } = container(manifests);
    const { image: __, ...ofSample } = container(base);
    expect(ofSample).toEqual({ ...ofChart, imagePullPolicy: undefined });
    const pod = (all: readonly Manifest[]) => {
      const { containers: ___, ...rest } = find(all, 'Deployment').spec.template.spec;
      return rest;
    };
    expect(pod(base)).toEqual(pod(manifests));
    expect(find(base, 'ClusterRole').rules).toEqual(find(manifests, 'ClusterRole').rules);
    expect(find(base, 'Deployment').spec.strategy).toEqual(find(manifests, 'Deployment').spec.strategy);
  });

  describe.skipIf(kubectl === null)('built by kustomize', () => {
    it.each(overlays)(
      'overlays/%s: Kubernetes accepts every object, and they fit together',
      async (name) => {
        const built = spawnSync(kubectl!, ['kustomize', join(samples, 'overlays', name)], {
          encoding: 'utf8',
          timeout: 240_000,
        });
        expect(built.stderr).toBe('');
        const manifests = documents(built.stdout);
        expect(await faultsOfAll(manifests)).toEqual([]);
        const find = (kind: string) => manifests.filter((manifest) => manifest.kind === kind);
        const [deployment] = find('Deployment');
        const namespace = deployment!.metadata.namespace;
        expect(namespace).toBe(name === 'aibrix' ? 'aibrix-system' : 'gpumix');
        const pod = deployment!.spec.template;
        for (const { spec } of find('Service')) expect(pod.metadata.labels).toMatchObject(spec.selector);
        expect(find('Service')[0]!.metadata.name).toBe(name === 'aibrix' ? 'aibrix-gpu-optimizer' : 'gpumix');
        expect(find('ClusterRoleBinding')[0]!.subjects).toEqual([
          { kind: 'ServiceAccount', name: 'gpumix', namespace },
        ]);
        const mounted = pod.spec.volumes.map(({ configMap }: { configMap: { name: string } }) => configMap.name).sort();
        expect(
          find('ConfigMap')
            .map(({ metadata }) => metadata.name)
            .sort(),
        ).toEqual(mounted);
      },
      300_000,
    );
  });
});

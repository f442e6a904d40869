import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { ScaledObject } from '@kubernetes-models/keda/keda.sh/v1alpha1';
import { APIService } from 'kubernetes-models/apiregistration.k8s.io/v1';
import { Deployment } from 'kubernetes-models/apps/v1';
import { HorizontalPodAutoscaler } from 'kubernetes-models/autoscaling/v2';
import { ClusterRole, ClusterRoleBinding, RoleBinding } from 'kubernetes-models/rbac.authorization.k8s.io/v1';
import { Service } from 'kubernetes-models/v1';
import { describe, expect, it } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { z } from 'zod';
import { loadGpuCatalogue } from '../../src/adapters/catalogue-file.js';
import { observeDeployment } from '../../src/adapters/kubernetes/observed-deployment.js';
import { canonicalGpuType } from '../../src/core/gpu-types.js';
import { modelNameKey } from '../../src/core/model-types.js';
import { parseProfile } from '../../src/core/profile.js';
import { desiredReplicasMetric } from '../../src/core/published-names.js';
import { scalerMetricName } from '../../src/service/keda/external-scaler.js';

/**
 * Every manifest of samples/ against the schemas of Kubernetes, KEDA and AIBrix, and against what an autoscaler needs to
 * honour the number. Those of samples/kubernetes are in parts: kubernetes.test.ts puts them together.
 */

type Json = Record<string, unknown>;
type Manifest = Json & {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: Json & { readonly name: string; readonly namespace?: string };
};
type Found = { readonly file: string; readonly place: string; readonly manifest: Manifest };

const folders = ['samples/keda', 'samples/external-metrics', 'samples/aibrix', 'samples/heterogeneous'];
const found: readonly Found[] = folders.flatMap((folder) =>
  readdirSync(folder)
    .filter((name) => name.endsWith('.yaml') && `${folder}/${name}` !== 'samples/aibrix/gpumix.yaml')
    .flatMap((name) => {
      const documents = parseAllDocuments(readFileSync(`${folder}/${name}`, 'utf8'));
      return documents.map((document, index): Found => {
        expect([document.errors, document.warnings]).toEqual([[], []]);
        const manifest = document.toJS() as Manifest;
        return { file: `${folder}/${name}`, place: `${folder}/${name} ${index + 1} (${manifest.kind})`, manifest };
      });
    }),
);
const manifestsOf = (kind: string) => found.filter(({ manifest }) => manifest.kind === kind);

/** Throws where the schema refuses it. */
type Check = (manifest: Json) => void;
type Model = new (data: never) => { validate(): void };

const schemaOf =
  (model: Model): Check =>
  (manifest) =>
    new model(manifest as never).validate();

/** AIBrix's own CRD ships in no package: its PodAutoscaler, field by field as the Go types of its v1alpha1 are. */
const metricsSource = z
  .strictObject({
    metricSourceType: z.enum(['pod', 'resource', 'custom', 'external', 'domain']),
    protocolType: z.enum(['http', 'https']).optional(),
    endpoint: z.string().optional(),
    path: z.string().optional(),
    port: z.string().optional(),
    targetMetric: z.string(),
    targetValue: z.string(),
  })
  .refine(
    (source) => source.metricSourceType === 'external' || (source.endpoint && source.path && source.protocolType),
  );
const podAutoscaler = z.strictObject({
  apiVersion: z.literal('autoscaling.aibrix.ai/v1alpha1'),
  kind: z.literal('PodAutoscaler'),
  metadata: z.strictObject({
    name: z.string(),
    namespace: z.string(),
    annotations: z
      .strictObject({
        'kpa.autoscaling.aibrix.ai/scale-down-delay': z.string(),
        'autoscaling.aibrix.ai/scale-up-tolerance': z.string(),
        'autoscaling.aibrix.ai/scale-down-tolerance': z.string(),
        'autoscaling.aibrix.ai/scale-down-cooldown-window': z.string(),
      })
      .partial(),
  }),
  spec: z.strictObject({
    scaleTargetRef: z.strictObject({ apiVersion: z.string(), kind: z.string(), name: z.string() }),
    minReplicas: z.int().min(0),
    maxReplicas: z.int().min(1),
    observeWindowSeconds: z.int().min(1).optional(),
    panicWindowSeconds: z.int().min(1).optional(),
    scalingStrategy: z.enum(['HPA', 'KPA', 'APA']),
    metricsSources: z.array(metricsSource).min(1),
  }),
});

const kustomization = z.strictObject({
  apiVersion: z.literal('kustomize.config.k8s.io/v1beta1'),
  kind: z.literal('Kustomization'),
  namespace: z.string(),
  resources: z.array(z.string()).min(1),
});

const checks: Readonly<Record<string, Check>> = {
  'v1 Service': schemaOf(Service as never),
  'apps/v1 Deployment': schemaOf(Deployment as never),
  'autoscaling/v2 HorizontalPodAutoscaler': schemaOf(HorizontalPodAutoscaler as never),
  'apiregistration.k8s.io/v1 APIService': schemaOf(APIService as never),
  'rbac.authorization.k8s.io/v1 ClusterRole': schemaOf(ClusterRole as never),
  'rbac.authorization.k8s.io/v1 ClusterRoleBinding': schemaOf(ClusterRoleBinding as never),
  'rbac.authorization.k8s.io/v1 RoleBinding': schemaOf(RoleBinding as never),
  'keda.sh/v1alpha1 ScaledObject': schemaOf(ScaledObject as never),
  'autoscaling.aibrix.ai/v1alpha1 PodAutoscaler': (manifest) => void podAutoscaler.parse(manifest),
  'kustomize.config.k8s.io/v1beta1 Kustomization': (manifest) => void kustomization.parse(manifest),
};
const checkOf = ({ apiVersion, kind }: Manifest): Check | undefined => checks[`${apiVersion} ${kind}`];

/**
 * Keys that are newer than the KEDA of the schema's package (the last that runs on Node.js 20), with what says that they are
 * there: KEDA's documentation of `fallback`, and the HorizontalPodAutoscalerBehavior of Kubernetes, which KEDA passes on.
 */
const newerThanSchema = new Set([
  'spec.fallback.behavior',
  'spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.tolerance',
  'spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.tolerance',
]);

/** Every place of a document that holds a value, as the keys that lead there. */
function places(value: unknown, path: readonly (string | number)[] = []): (readonly (string | number)[])[] {
  if (value === null || typeof value !== 'object') return [path];
  const inner = Object.entries(value).flatMap(([key, item]) =>
    places(item, [...path, Array.isArray(value) ? Number(key) : key]),
  );
  return path.length === 0 ? inner : [path, ...inner];
}

function withValue(value: unknown, path: readonly (string | number)[], next: unknown): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return next;
  if (Array.isArray(value)) return value.map((item, index) => (index === key ? withValue(item, rest, next) : item));
  return { ...(value as Json), [key]: withValue((value as Json)[key as string], rest, next) };
}

/** Schemas let pass what they do not know: a key is known if a value of an impossible kind is refused there. */
function unknownKeys(manifest: Manifest, check: Check): readonly string[] {
  return places(manifest)
    .filter(([first]) => first !== 'apiVersion' && first !== 'kind')
    .filter((path) => {
      try {
        check(withValue(manifest, path, [[{}]]) as Json);
        return true;
      } catch {
        return false;
      }
    })
    .map((path) => path.join('.'));
}

describe('the manifests of samples', () => {
  it('are all looked at', () => {
    const kinds = new Set(found.map(({ manifest }) => `${manifest.apiVersion} ${manifest.kind}`));
    expect([...kinds].sort()).toEqual(Object.keys(checks).sort());
  });

  it.each(found)('$place fits the schema of its kind, and has no key that this does not know', ({ manifest }) => {
    const check = checkOf(manifest)!;
    expect(() => check(manifest)).not.toThrow();
    const newer = manifest.kind === 'ScaledObject' ? newerThanSchema : new Set<string>();
    expect(unknownKeys(manifest, check).filter((key) => !newer.has(key))).toEqual([]);
  });

  it('would be told of a wrong value and of a misspelt key', () => {
    const [{ manifest }] = manifestsOf('HorizontalPodAutoscaler') as [Found];
    const check = checkOf(manifest)!;
    expect(() => check(withValue(manifest, ['spec', 'maxReplicas'], 'many') as Json)).toThrow();
    expect(unknownKeys(withValue(manifest, ['spec', 'minReplica'], 1) as Manifest, check)).toEqual(['spec.minReplica']);
  });

  it('are all named by the README of their folder, or by its kustomization', () => {
    for (const folder of folders) {
      const list = folder === 'samples/heterogeneous' ? 'kustomization.yaml' : 'README.md';
      const named = readFileSync(`${folder}/${list}`, 'utf8');
      for (const name of new Set(found.filter(({ file }) => file.startsWith(`${folder}/`)).map(({ file }) => file))) {
        if (!name.endsWith('kustomization.yaml')) expect(named).toContain(name.slice(folder.length + 1));
      }
    }
  });
});

describe('the behaviour that lets the HPA follow every step', () => {
  const behaviours = [
    ...manifestsOf('ScaledObject').map(({ place, manifest }) => ({
      place,
      behavior: (manifest.spec as { advanced: { horizontalPodAutoscalerConfig: { behavior: Json } } }).advanced
        .horizontalPodAutoscalerConfig.behavior,
    })),
    ...manifestsOf('HorizontalPodAutoscaler').map(({ place, manifest }) => ({
      place,
      behavior: (manifest.spec as { behavior: Json }).behavior,
    })),
  ];

  it.each(behaviours)(
    'of $place has no tolerance, in either direction, by the schema of Kubernetes',
    ({ behavior }) => {
      const direction = { tolerance: '0', stabilizationWindowSeconds: 0 };
      expect(behavior).toEqual({ scaleUp: direction, scaleDown: direction });
      const hpa = manifestsOf('HorizontalPodAutoscaler')[0]!.manifest;
      const check = checkOf(hpa)!;
      const own = withValue(hpa, ['spec', 'behavior'], behavior) as Manifest;
      check(own);
      expect(unknownKeys(own, check)).toEqual([]);
    },
  );
});

describe('the ScaledObjects', () => {
  const specs = manifestsOf('ScaledObject').map(({ place, manifest }) => ({
    place,
    name: manifest.metadata.name,
    namespace: manifest.metadata.namespace!,
    spec: manifest.spec as {
      minReplicaCount: number;
      fallback: { failureThreshold: number; replicas: number; behavior: string };
      scaleTargetRef: { name: string };
      triggers: [{ type: string; metricType: string; metadata: Record<string, string> }];
    },
  }));

  it.each(specs)('$place counts replicas by AverageValue, goes to 0 and never falls back to it', ({ spec }) => {
    expect(spec.triggers.map(({ metricType }) => metricType)).toEqual(['AverageValue']);
    expect(spec.minReplicaCount).toBe(0);
    expect(spec.fallback.replicas).toBeGreaterThan(0);
    expect(spec.fallback.behavior).toBe('currentReplicasIfHigher');
  });

  it('ask for the Deployment that they scale', () => {
    const [external, json] = ['external', 'metrics-api'].map((type) =>
      specs.find(({ spec }) => spec.triggers[0].type === type),
    ) as [(typeof specs)[0], (typeof specs)[0]];
    expect(external.spec.triggers[0].metadata.deployment).toBe(external.spec.scaleTargetRef.name);
    const { url, valueLocation, targetValue } = json.spec.triggers[0].metadata;
    expect(new URL(url!).pathname).toBe(`/api/v1/replicas/${json.namespace}/${json.spec.scaleTargetRef.name}`);
    expect([valueLocation, targetValue]).toEqual(['replicas', '1']);
  });

  it('name a metric that KEDA leaves as it is', () => {
    expect(scalerMetricName).toMatch(/^[a-z0-9]+(-[a-z0-9]+)*$/);
  });
});

describe('the HorizontalPodAutoscalers', () => {
  it.each(manifestsOf('HorizontalPodAutoscaler'))(
    '$place count the replicas of their own Deployment by AverageValue',
    ({ manifest }) => {
      const { scaleTargetRef, metrics } = manifest.spec as { scaleTargetRef: { name: string }; metrics: Json[] };
      expect(metrics).toEqual([
        {
          type: 'External',
          external: {
            metric: { name: desiredReplicasMetric, selector: { matchLabels: { deployment: scaleTargetRef.name } } },
            target: { type: 'AverageValue', averageValue: '1' },
          },
        },
      ]);
    },
  );
});

describe('the PodAutoscalers', () => {
  const specs = manifestsOf('PodAutoscaler').map(({ place, file, manifest }) => ({
    place,
    file,
    manifest: podAutoscaler.parse(manifest),
  }));

  it.each(specs)(
    '$place read the metric of their Deployment in its unit, and leave floors to gpumix',
    ({ manifest }) => {
      const { spec, metadata } = manifest;
      const [source] = spec.metricsSources;
      expect([spec.scalingStrategy, spec.minReplicas, spec.metricsSources.length]).toEqual(['KPA', 0, 1]);
      if (source!.metricSourceType === 'external') {
        expect(source).toEqual({
          metricSourceType: 'external',
          targetMetric: `gpumix-aibrix-${spec.scaleTargetRef.name}`,
          targetValue: '1',
        });
      } else {
        expect(source).toMatchObject({
          metricSourceType: 'domain',
          path: `/metrics/${metadata.namespace}/${spec.scaleTargetRef.name}`,
          targetMetric: 'vllm:deployment_replicas',
          targetValue: '100',
        });
      }
    },
  );

  it.each(specs)('$place have what the versions know that read them', ({ file, manifest }) => {
    const { annotations } = manifest.metadata;
    const { observeWindowSeconds, panicWindowSeconds } = manifest.spec;
    const until041 = annotations['kpa.autoscaling.aibrix.ai/scale-down-delay'] === '0s';
    const since08 =
      annotations['autoscaling.aibrix.ai/scale-up-tolerance'] === '0' &&
      annotations['autoscaling.aibrix.ai/scale-down-tolerance'] === '0';
    const isHeterogeneous = file.startsWith('samples/heterogeneous/');
    const isOld = file.endsWith('v0.4.1.yaml');
    expect([until041, since08]).toEqual(isHeterogeneous ? [true, true] : [isOld, !isOld]);
    // Versions before v0.8 refuse these two.
    if (isOld || isHeterogeneous) expect([observeWindowSeconds, panicWindowSeconds]).toEqual([undefined, undefined]);
    else expect(panicWindowSeconds!).toBeLessThan(observeWindowSeconds!);
  });
});

describe('the sample of a model on two GPU types', () => {
  const own = found.filter(({ file }) => file.startsWith('samples/heterogeneous/')).map(({ manifest }) => manifest);
  const deployments = own.filter(({ kind }) => kind === 'Deployment');

  it('is deployments that gpumix follows, each with a PodAutoscaler, behind one Service', async () => {
    const catalogue = await loadGpuCatalogue();
    const observed = deployments.map((deployment) => observeDeployment(deployment, catalogue)!);
    expect(observed.map(({ id, model, gpuType, maxReplicas }) => [id, model, gpuType, maxReplicas])).toEqual([
      ['default/deepseek-coder-7b-l20', 'deepseek-coder-7b', canonicalGpuType(catalogue, 'L20'), 10],
      ['default/deepseek-coder-7b-v100', 'deepseek-coder-7b', canonicalGpuType(catalogue, 'V100-32GB'), 10],
    ]);
    const scaled = own
      .filter(({ kind }) => kind === 'PodAutoscaler')
      .map(({ spec }) => [(spec as { scaleTargetRef: Json }).scaleTargetRef.name, (spec as Json).maxReplicas]);
    expect(scaled).toEqual(observed.map(({ name, maxReplicas }) => [name, maxReplicas]));
    const [service] = own.filter(({ kind }) => kind === 'Service');
    const { selector } = service!.spec as { selector: Json };
    for (const { spec } of deployments) {
      const { template, selector: picks } = spec as {
        template: { metadata: { labels: Json } };
        selector: { matchLabels: Json };
      };
      expect(template.metadata.labels).toMatchObject(selector);
      expect(template.metadata.labels).toMatchObject(picks.matchLabels);
    }
  });

  const readme = readFileSync('samples/heterogeneous/README.md', 'utf8');
  const estimates = [...readme.matchAll(/^\$ (node .* estimate .*) -o redis:\/\/127\.0\.0\.1:6379$/gm)].map(
    ([, line]) => line!,
  );

  it.each(deployments)(
    'has a profile of $metadata.name by the command of its README: model, type, lengths, price',
    async (deployment) => {
      const { name } = deployment.metadata;
      const own = estimates.filter((line) => line.includes(` --deployment ${name} `));
      expect(own).toHaveLength(1);
      const { status, stdout, stderr } = spawnSync(`${own[0]} --json`, {
        shell: true,
        encoding: 'utf8',
        timeout: 30_000,
      });
      expect([status, stderr]).toEqual([0, '']);
      const catalogue = await loadGpuCatalogue();
      const observed = observeDeployment(deployment, catalogue)!;
      const profile = parseProfile(stdout, 'the output');
      expect([profile.gpu, profile.model, profile.gpuType]).toEqual([name, observed.model, observed.gpuType]);
      expect(profile.cost).toBeGreaterThan(0);
      const { args } = (deployment.spec as { template: { spec: { containers: [{ args: string[] }] } } }).template.spec
        .containers[0];
      const [, longest] = /--max-model-len (\d+)/.exec(own[0]!)!;
      expect(args).toContain(`--max-model-len=${longest}`);
      // An engine starts only where its cache holds the longest request.
      expect(Number(/KV cache of (\d+) tokens/.exec(profile.provenance!.details)![1])).toBeGreaterThan(Number(longest));
      const [, weights] = /--model (\S+)/.exec(own[0]!)!;
      const served = args.find((arg) => arg.startsWith('--model='))!.split('=')[1]!;
      expect(modelNameKey(weights!)).toBe(modelNameKey(served));
    },
  );

  it('is whole in its kustomization, also with the patch that is offered there', () => {
    const text = readFileSync('samples/heterogeneous/kustomization.yaml', 'utf8');
    const { resources } = parse(text) as { resources: string[] };
    const files = readdirSync('samples/heterogeneous').filter(
      (name) => name.endsWith('.yaml') && name !== 'kustomization.yaml',
    );
    expect([...resources].sort()).toEqual(files.sort());
    const offered = parse(text.replace(/^# (?=patches| )/gm, '')) as { patches: [{ patch: string }] };
    const operations = parse(offered.patches[0].patch) as { op: string; path: string; value: number }[];
    expect(operations.map(({ op, path }) => [op, path])).toEqual([
      ['add', '/spec/observeWindowSeconds'],
      ['add', '/spec/panicWindowSeconds'],
    ]);
  });
});

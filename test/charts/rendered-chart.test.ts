import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { configKeys } from '../../src/service/config/reference.js';
import { loadConfig } from '../../src/service/config-layers.js';
import {
  chartFolder,
  type Manifest,
  renderChart,
  rendererMissing,
  rendersNotes,
  type Values,
} from '../support/chart-renderer.js';
import { faultsOfAll } from '../support/kubernetes-schemas.js';

if (rendererMissing !== null) console.log(`rendered-chart: ${rendererMissing}`);

const only = (manifests: readonly Manifest[], kind: string): Manifest => {
  const found = manifests.filter((manifest) => manifest.kind === kind);
  expect(found.map(({ metadata }) => metadata.name)).toHaveLength(1);
  return found[0]!;
};
/** The one that autoscalers ask; the external metrics API has another. */
const serviceOf = (manifests: readonly Manifest[]) =>
  only(
    manifests.filter(({ metadata }) => metadata.labels?.['app.kubernetes.io/component'] === undefined),
    'Service',
  );
const names = (manifests: readonly Manifest[]) =>
  manifests.map(({ kind, metadata }) => `${kind} ${metadata.namespace ?? '-'}/${metadata.name}`).sort();
const podOf = (manifests: readonly Manifest[]) => only(manifests, 'Deployment').spec.template.spec;
const containerOf = (manifests: readonly Manifest[]) => podOf(manifests).containers[0];
const configText = (manifests: readonly Manifest[]): string =>
  manifests.find(({ kind, data }) => kind === 'ConfigMap' && data['gpumix.yaml'] !== undefined)!.data['gpumix.yaml'];

/** `list,watch deployments.apps`, sorted, of every role in a namespace (null = of the cluster). */
function granted(manifests: readonly Manifest[], namespace: string | null): readonly string[] {
  type Rule = { apiGroups: string[]; resources: string[]; verbs: string[] };
  return manifests
    .filter(({ kind, metadata }) =>
      namespace === null ? kind === 'ClusterRole' : kind === 'Role' && metadata.namespace === namespace,
    )
    .flatMap(({ rules }) => rules as Rule[])
    .flatMap(({ apiGroups, resources, verbs }) =>
      apiGroups.flatMap((group) =>
        resources.map((resource) => `${verbs.join(',')} ${resource}${group === '' ? '' : `.${group}`}`),
      ),
    )
    .sort();
}

const consumers = [
  'list,watch horizontalpodautoscalers.autoscaling',
  'list,watch podautoscalers.autoscaling.aibrix.ai',
  'list,watch scaledobjects.keda.sh',
];

/** Every combination whose objects differ. */
const combinations: Readonly<Record<string, Values>> = {
  'nothing said': {},
  'the place of AIBrix’s optimizer': {
    service: { name: 'aibrix-gpu-optimizer' },
    redisPassword: { existingSecret: 'aibrix-redis', key: 'redis-password' },
  },
  'two namespaces': { config: { deployments: { namespaces: ['a', 'b'] } } },
  'deployments of the configuration': {
    config: {
      deployments: {
        source: 'config',
        list: [
          { name: 'a', model: 'm' },
          { namespace: 'x', name: 'b', model: 'm' },
        ],
      },
    },
  },
  'demand from Prometheus, profiles from files': {
    config: {
      redis: null,
      demand: { source: 'prometheus' },
      prometheus: { url: 'http://prometheus.monitoring:9090' },
      profiles: { source: 'files', directory: '/etc/gpumix/profiles' },
    },
    configMaps: { profiles: 'gpumix-profiles' },
  },
  'tokens in a Secret': {
    config: { server: { tokenFile: '/etc/gpumix/tokens/tokens' } },
    secrets: { tokens: 'gpumix-tokens' },
  },
  'everything beside it': {
    networkPolicy: { enabled: true, from: [{ namespaceSelector: {} }], egress: [{ ports: [{ port: 6379 }] }] },
    serviceMonitor: { enabled: true, labels: { release: 'prometheus' } },
    prometheusRule: {
      enabled: true,
      labels: { release: 'prometheus' },
      runbookBaseUrl: 'https://git.example/gpumix/blob/v0.1.0',
    },
    dashboards: { enabled: true, namespace: 'monitoring', annotations: { grafana_folder: 'GPUs' } },
    service: { type: 'LoadBalancer', annotations: { a: 'b' } },
    serviceAccount: { annotations: { a: 'b' } },
    podAnnotations: { a: 'b' },
    podLabels: { a: 'b' },
    imagePullSecrets: [{ name: 'registry' }],
    priorityClassName: 'system-cluster-critical',
    nodeSelector: { 'kubernetes.io/os': 'linux' },
    tolerations: [{ key: 'control-plane', operator: 'Exists' }],
    affinity: { nodeAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [] } },
    extraEnv: [{ name: 'GPUMIX_LOG_LEVEL', value: 'debug' }],
    extraVolumes: [{ name: 'ca', configMap: { name: 'ca' } }],
    extraVolumeMounts: [{ name: 'ca', mountPath: '/etc/ca', readOnly: true }],
  },
  'as little as possible': {
    rbac: { create: false },
    serviceAccount: { create: false, name: 'mine' },
    podDisruptionBudget: { enabled: false },
  },
};

const externalMetrics = {
  config: {
    externalMetrics: {
      certFile: '/etc/gpumix/external-metrics-tls/tls.crt',
      keyFile: '/etc/gpumix/external-metrics-tls/tls.key',
    },
  },
};

/** What needs a port, a right or a certificate, by the key that switches it on. */
const features: Readonly<Record<string, Values>> = {
  'keda.scaler': { config: { keda: { scaler: { port: 9999 } } } },
  actuate: {
    config: { actuate: 'scale' },
    rbac: { alsoScales: [{ group: 'leaderworkerset.x-k8s.io', resource: 'leaderworkersets' }] },
  },
  'pools.fromNodes': { config: { pools: { fromNodes: true } } },
  'server.tokenReview': { config: { server: { tokenReview: {} } } },
  'deployments.followConsumers': { config: { deployments: { followConsumers: false } } },
  externalMetrics: { ...externalMetrics, externalMetrics: { certManager: { enabled: true } } },
  'externalMetrics.certFile': {
    ...externalMetrics,
    secrets: { 'external-metrics-tls': 'mine' },
    externalMetrics: { caBundle: 'Q0E=' },
  },
};

const everything = Object.entries({ ...combinations, ...features });

describe.skipIf(rendererMissing !== null)('the rendered chart', () => {
  it.each(everything)('%s: Kubernetes accepts every object', async (_, values) => {
    const { manifests } = renderChart(values);
    expect(await faultsOfAll(manifests)).toEqual([]);
    const all = names(manifests);
    expect(new Set(all).size).toBe(all.length);
  });

  it.each(everything)('%s: each Service finds the pod, and each of its ports is one of the container', (_, values) => {
    const { manifests } = renderChart(values);
    const { spec: deployment } = only(manifests, 'Deployment');
    expect(deployment.template.metadata.labels).toMatchObject(deployment.selector.matchLabels);
    const services = manifests.filter(({ kind }) => kind === 'Service');
    for (const { spec } of services) expect(deployment.template.metadata.labels).toMatchObject(spec.selector);
    const ports = containerOf(manifests).ports.map(({ name }: { name: string }) => name);
    expect(
      services.flatMap(({ spec }) => spec.ports.map(({ targetPort }: { targetPort: string }) => targetPort)).sort(),
    ).toEqual([...ports].sort());
  });

  // A feature of a later version has no key yet.
  const known = new Set(configKeys().map(({ path }) => path));
  const accepted = everything.filter(([name]) => !Object.hasOwn(features, name) || known.has(name));
  it.each(accepted)('%s: gpumix accepts its configuration without a warning', (_, values) => {
    const { config, warnings } = loadConfig({
      file: { name: 'gpumix.yaml', text: configText(renderChart(values).manifests) },
      environment: { KUBERNETES_SERVICE_HOST: '10.0.0.1' },
    });
    expect(warnings).toEqual([]);
    expect(config.server.host).toBe('0.0.0.0');
  });

  it.each(everything)('%s: the pod may do as little as a pod can', (_, values) => {
    const { manifests } = renderChart(values);
    expect(podOf(manifests).securityContext).toMatchObject({
      runAsNonRoot: true,
      seccompProfile: { type: 'RuntimeDefault' },
    });
    expect(podOf(manifests).securityContext.runAsUser).toBeGreaterThan(0);
    expect(containerOf(manifests).securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
    for (const { readOnly } of containerOf(manifests).volumeMounts) expect(readOnly).toBe(true);
  });

  it('is one service, whose old pod ends before the new one starts', () => {
    const { spec } = only(renderChart().manifests, 'Deployment');
    expect(spec).toMatchObject({ replicas: 1, strategy: { type: 'Recreate' } });
    expect(spec.template.spec.terminationGracePeriodSeconds).toBeGreaterThan(25);
    expect(containerOf(renderChart().manifests)).toMatchObject({
      livenessProbe: { httpGet: { path: '/healthz', port: 'http' } },
      readinessProbe: { httpGet: { path: '/readyz', port: 'http' } },
    });
  });

  it('lets nodes be drained unless somebody says otherwise', () => {
    const budget = (maxUnavailable: number) =>
      only(renderChart({ podDisruptionBudget: { maxUnavailable } }).manifests, 'PodDisruptionBudget').spec
        .maxUnavailable;
    expect(only(renderChart().manifests, 'PodDisruptionBudget').spec.maxUnavailable).toBe(1);
    expect(budget(0)).toBe(0);
  });

  it('starts another pod when the configuration changes, and only then', () => {
    const checksum = (values: Values) =>
      only(renderChart(values).manifests, 'Deployment').spec.template.metadata.annotations['checksum/config'];
    expect(checksum({ config: { publish: { mode: 'live' } } })).not.toBe(checksum({}));
    expect(checksum({ service: { name: 'other' } })).toBe(checksum({}));
  });

  it('answers where AIBrix’s PodAutoscalers look, whatever the release is called', () => {
    const { manifests } = renderChart(
      { service: { name: 'aibrix-gpu-optimizer' } },
      { release: 'cheaper', namespace: 'aibrix-system' },
    );
    const { metadata, spec } = serviceOf(manifests);
    expect(`${metadata.name}.${metadata.namespace}:${spec.ports[0].port}`).toBe(
      'aibrix-gpu-optimizer.aibrix-system:8080',
    );
    expect(only(manifests, 'Deployment').metadata.name).toBe('cheaper-gpumix');
  });

  it('takes the names that it is given', () => {
    const { manifests } = renderChart({ fullnameOverride: 'brain' }, { release: 'r' });
    expect(new Set(manifests.map(({ metadata }) => metadata.name))).toEqual(new Set(['brain', 'serving-brain']));
    expect(names(renderChart({ nameOverride: 'mixer' }, { release: 'r' }).manifests)).toContain(
      'Deployment serving/r-mixer',
    );
  });

  it('keeps the objects of two releases apart that have one name in two namespaces', () => {
    const of = (namespace: string) => names(renderChart({}, { namespace }).manifests);
    expect(of('a').filter((name) => of('b').includes(name))).toEqual([]);
  });

  it('listens where the configuration says, and offers it where the Service says', () => {
    const { manifests } = renderChart({ config: { server: { port: 9000 } }, service: { port: 80 } });
    expect(containerOf(manifests).ports).toEqual([{ name: 'http', containerPort: 9000, protocol: 'TCP' }]);
    expect(serviceOf(manifests).spec.ports[0]).toMatchObject({ port: 80, targetPort: 'http' });
  });

  it('names an image by its digest where there is one, else by its tag, else by the version', () => {
    const image = (values: Values) => containerOf(renderChart({ image: values }).manifests).image;
    expect(image({ repository: 'r/gpumix' })).toBe('r/gpumix:0.1.0');
    expect(image({ repository: 'r/gpumix', tag: '1' })).toBe('r/gpumix:1');
    const digest = `sha256:${'a'.repeat(64)}`;
    expect(image({ repository: 'r/gpumix', tag: '1', digest })).toBe(`r/gpumix@${digest}`);
  });

  it('begins in shadow, as every other way to install it; whoever says `live` means it', () => {
    const modeOf = (values: Values) => {
      const file = { name: 'gpumix.yaml', text: configText(renderChart(values).manifests) };
      return loadConfig({ file, environment: { KUBERNETES_SERVICE_HOST: '10.0.0.1' } }).config.publish.mode;
    };
    for (const [name, values] of Object.entries(combinations)) expect([name, modeOf(values)]).toEqual([name, 'shadow']);
    expect(modeOf({ config: { publish: { aibrixUnit: 10 } } })).toBe('shadow');
    expect(modeOf({ config: { publish: { mode: 'live' } } })).toBe('live');
  });

  describe('rights', () => {
    it('are to follow deployments and what scales them, in the whole cluster, and nothing else', () => {
      const { manifests } = renderChart();
      expect(granted(manifests, null)).toEqual([...consumers, 'list,watch deployments.apps'].sort());
      expect(only(manifests, 'ClusterRoleBinding').subjects).toEqual([
        { kind: 'ServiceAccount', name: 'gpumix', namespace: 'serving' },
      ]);
    });

    it('are in the namespaces that it follows, where it follows some', () => {
      const { manifests } = renderChart({ config: { deployments: { namespaces: ['a', 'b'] } } });
      expect(granted(manifests, 'a')).toEqual([...consumers, 'list,watch deployments.apps'].sort());
      expect(granted(manifests, 'b')).toEqual(granted(manifests, 'a'));
      expect(manifests.filter(({ kind }) => kind.startsWith('ClusterRole'))).toEqual([]);
      for (const binding of manifests.filter(({ kind }) => kind === 'RoleBinding')) {
        expect(binding.subjects[0]).toMatchObject({ name: 'gpumix', namespace: 'serving' });
      }
    });

    it('are none, and no token of the cluster is mounted, where the configuration lists the deployments', () => {
      const { manifests } = renderChart(combinations['deployments of the configuration']);
      expect(manifests.filter(({ kind }) => /Role/.test(kind))).toEqual([]);
      expect(podOf(manifests).automountServiceAccountToken).toBe(false);
      expect(podOf(renderChart().manifests).automountServiceAccountToken).toBe(true);
    });

    it('do not include what scales the deployments, where that is not followed', () => {
      expect(granted(renderChart(features['deployments.followConsumers']).manifests, null)).toEqual([
        'list,watch deployments.apps',
      ]);
    });

    it('include nodes and pods, of the whole cluster, only where GPUs are counted', () => {
      const of = (pools: unknown) =>
        granted(renderChart({ config: { deployments: { namespaces: ['a'] }, pools } }).manifests, null);
      expect(of({ fromNodes: true })).toEqual(['list,watch nodes', 'list,watch pods']);
      expect(of({ fromNodes: false })).toEqual([]);
      expect(of([{ gpuType: 'L4', gpus: 2 }])).toEqual([]);
    });

    it('include scaling only where gpumix scales, a dry run included', () => {
      const { manifests } = renderChart(features.actuate);
      const scaling = ['create,patch events', 'get,patch deployments/scale.apps'];
      expect(granted(manifests, null)).toEqual(
        [
          ...consumers,
          ...scaling,
          'get,patch leaderworkersets/scale.leaderworkerset.x-k8s.io',
          'list,watch deployments.apps',
        ].sort(),
      );
      expect(granted(renderChart({ config: { actuate: 'dry-run' } }).manifests, null)).toEqual(
        expect.arrayContaining(scaling),
      );
      const listed = {
        source: 'config',
        list: [
          { name: 'a', model: 'm' },
          { namespace: 'x', name: 'b', model: 'm' },
        ],
      };
      const ofList = renderChart({ config: { actuate: 'scale', deployments: listed } }).manifests;
      // Before it may read what else scales them, it writes nothing.
      const listedRights = [...consumers, ...scaling].sort();
      expect([granted(ofList, 'default'), granted(ofList, 'x'), granted(ofList, null)]).toEqual([
        listedRights,
        listedRights,
        [],
      ]);
    });

    it('name an API group without a name, too', () => {
      const values = {
        config: { actuate: 'scale' },
        rbac: { alsoScales: [{ group: '', resource: 'replicationcontrollers' }] },
      };
      expect(granted(renderChart(values).manifests, null)).toContain('get,patch replicationcontrollers/scale');
    });

    it('include asking about tokens, and about what their users may only where none are named', () => {
      const of = (tokenReview: Values) =>
        granted(
          renderChart({ config: { deployments: { namespaces: ['a'] }, server: { tokenReview } } }).manifests,
          null,
        );
      expect(of({})).toEqual([
        'create subjectaccessreviews.authorization.k8s.io',
        'create tokenreviews.authentication.k8s.io',
      ]);
      expect(of({ users: ['ops'] })).toEqual(['create tokenreviews.authentication.k8s.io']);
    });

    it('are created by others where rbac.create is false', () => {
      const { manifests } = renderChart({ rbac: { create: false } });
      expect(manifests.filter(({ kind }) => /Role/.test(kind))).toEqual([]);
    });
  });

  it('keeps names texts that YAML takes for numbers', async () => {
    const values = {
      config: { deployments: { namespaces: ['123', '1e3'] } },
      redisPassword: { existingSecret: '1', key: '2' },
      secrets: { a: '3' },
      configMaps: { b: '4' },
      priorityClassName: '5',
      serviceAccount: { name: '6' },
      service: { name: '7' },
      networkPolicy: { enabled: true },
      serviceMonitor: { enabled: true },
      dashboards: { enabled: true },
      prometheusRule: { enabled: true },
    };
    const { manifests } = renderChart(values, { release: '1e3', namespace: '99' });
    expect(await faultsOfAll(manifests)).toEqual([]);
  });

  it('mounts Secrets and ConfigMaps as whole folders, so that what changes in them arrives', () => {
    const { manifests } = renderChart({ configMaps: { profiles: 'mine' }, secrets: { redis: 'my-secret' } });
    expect(containerOf(manifests).volumeMounts).toEqual([
      { name: 'config', mountPath: '/etc/gpumix/config', readOnly: true },
      { name: 'profiles', mountPath: '/etc/gpumix/profiles', readOnly: true },
      { name: 'redis', mountPath: '/etc/gpumix/redis', readOnly: true },
    ]);
    expect(podOf(manifests).volumes).toContainEqual({ name: 'profiles', configMap: { name: 'mine' } });
    expect(() => renderChart({ configMaps: { a: 'x' }, secrets: { a: 'y' } })).toThrow(/configMaps\.a/);
  });

  it('has the file of tokens where the configuration looks for it, for the group of the pod alone', () => {
    const { manifests } = renderChart(combinations['tokens in a Secret']);
    const { config } = loadConfig({
      file: { name: 'gpumix.yaml', text: configText(manifests) },
      environment: { KUBERNETES_SERVICE_HOST: '10.0.0.1' },
    });
    const mount = containerOf(manifests).volumeMounts.find(({ name }: { name: string }) => name === 'tokens');
    expect(config.server.tokenFile).toBe(`${mount.mountPath}/tokens`);
    expect(podOf(manifests).volumes).toContainEqual({
      name: 'tokens',
      secret: { secretName: 'gpumix-tokens', defaultMode: 0o440 },
    });
    expect(podOf(manifests).securityContext.fsGroup).toBe(podOf(manifests).securityContext.runAsGroup);
  });

  it('takes the password of Redis from a Secret, and refuses passwords in the configuration', () => {
    const { manifests } = renderChart({ redisPassword: { existingSecret: 'redis' } });
    expect(containerOf(manifests).env).toEqual([
      { name: 'GPUMIX_REDIS_PASSWORD', valueFrom: { secretKeyRef: { name: 'redis', key: 'password' } } },
    ]);
    expect(containerOf(renderChart().manifests).env).toBeUndefined();
    const sentinels = { redis: { url: 'redis://s1:26379,s2:26379/0?sentinel=mymaster' } };
    const redisSentinelPassword = { existingSecret: 'sentinels', key: 'k' };
    expect(containerOf(renderChart({ config: sentinels, redisSentinelPassword }).manifests).env).toEqual([
      { name: 'GPUMIX_REDIS_SENTINEL_PASSWORD', valueFrom: { secretKeyRef: { name: 'sentinels', key: 'k' } } },
    ]);
    for (const redis of [{ sentinelPassword: 'x' }, { url: `${sentinels.redis.url}&sentinelPassword=x` }]) {
      expect(() => renderChart({ config: { redis } })).toThrow(/redisSentinelPassword\.existingSecret/);
    }
    expect(() => renderChart({ config: { redis: { password: 'x' } } })).toThrow(/redisPassword\.existingSecret/);
    const url = 'redis://u:p@h:6379';
    expect(() => renderChart({ config: { redis: { url } } })).toThrow(/redisPassword\.existingSecret/);
    const prometheus = { url: 'https://u:p@prometheus.example' };
    expect(() => renderChart({ config: { prometheus } })).toThrow(/GPUMIX_PROMETHEUS_URL/);
    const withoutPasswords = { redis: { url: 'redis://u@h:6379' }, prometheus: { url: 'http://h:9090' } };
    expect(() => renderChart({ config: withoutPasswords })).not.toThrow();
  });

  describe.skipIf(!rendersNotes)('the notes', () => {
    const notes = (values: Values) => renderChart(values).notes.replaceAll('\n', ' ');

    it('say who may change something', () => {
      expect(notes({})).toMatch(/answers 401 until config\.server\.tokenFile/);
      expect(notes({ config: { server: { tokenReview: {} } } })).toMatch(/takes a bearer token/);
      expect(notes(combinations['tokens in a Secret']!)).toMatch(/takes a bearer token/);
      expect(notes({ config: { server: { allowUnauthenticated: true } } })).toMatch(/may also change it/);
    });

    it('say that everybody in the cluster may read, and what bounds it', () => {
      expect(notes({})).toMatch(/Whoever reaches the port may read .* \(networkPolicy\.enabled bounds who that is\)\./);
      expect(notes({ networkPolicy: { enabled: true } })).toMatch(/prices and load\./);
    });

    it('say whether its numbers count, and who has to bind its rights', () => {
      expect(notes({})).toMatch(/It is in shadow mode/);
      expect(notes({ config: { publish: { mode: 'live' } } })).toMatch(/whoever reads them scales by them/);
      // What gpumix does without the key.
      expect(notes({ config: { publish: null } })).toMatch(/whoever reads them scales by them/);
      expect(notes({})).not.toMatch(/AIBrix's optimizer/);
      expect(notes(combinations['the place of AIBrix’s optimizer']!)).toMatch(/read this now, and keep what runs/);
      expect(notes({ config: { actuate: 'scale' } })).toMatch(/Deployments itself, once it is live\./);
      expect(notes({ config: { actuate: 'scale', publish: { mode: 'live' } } })).toMatch(/Deployments itself\./);
      expect(notes({})).not.toMatch(/bind the rights/);
      expect(notes({ rbac: { create: false } })).toMatch(/bind the rights yourself/);
    });
  });

  it('opens every port to whom the NetworkPolicy names, and closes ways out only where some are named', () => {
    const policy = (values: Values) =>
      only(renderChart({ networkPolicy: { enabled: true, ...values } }).manifests, 'NetworkPolicy').spec;
    expect(policy({})).toMatchObject({
      policyTypes: ['Ingress'],
      ingress: [{ ports: [{ port: 8080, protocol: 'TCP' }] }],
    });
    expect(policy({}).ingress[0].from).toBeUndefined();
    expect(policy({ from: [{ podSelector: {} }] }).ingress[0].from).toEqual([{ podSelector: {} }]);
    expect(policy({ egress: [{ ports: [{ port: 53 }] }] })).toMatchObject({ policyTypes: ['Ingress', 'Egress'] });
  });

  it('answers KEDA on the port that the configuration names', () => {
    const { manifests } = renderChart(features['keda.scaler']);
    expect(serviceOf(manifests).spec.ports[1]).toMatchObject({ name: 'grpc', port: 9999, targetPort: 'grpc' });
    expect(serviceOf(renderChart({ config: { keda: { scaler: {} } } }).manifests).spec.ports[1].port).toBe(9090);
  });

  describe('the external metrics API', () => {
    const { manifests } = rendererMissing === null ? renderChart(features.externalMetrics) : { manifests: [] };

    it('is registered at a Service of its own, whose name is in the certificate', () => {
      const { spec } = only(manifests, 'APIService');
      expect(spec).toMatchObject({
        group: 'external.metrics.k8s.io',
        service: { name: 'gpumix-external-metrics', namespace: 'serving', port: 443 },
      });
      expect(spec.insecureSkipTLSVerify).toBeUndefined();
      expect(names(manifests)).toContain('Service serving/gpumix-external-metrics');
      expect(only(manifests, 'Certificate').spec.dnsNames).toContain('gpumix-external-metrics.serving.svc');
    });

    it('has the certificate of cert-manager where the configuration looks for it', () => {
      const { secretName } = only(manifests, 'Certificate').spec;
      expect(podOf(manifests).volumes).toContainEqual({
        name: 'external-metrics-tls',
        secret: { secretName, defaultMode: 0o440 },
      });
      expect(only(manifests, 'APIService').metadata.annotations).toEqual({
        'cert-manager.io/inject-ca-from': `serving/${only(manifests, 'Certificate').metadata.name}`,
      });
    });

    it('is signed by whom the values name, and by itself where they name nobody', () => {
      expect(only(manifests, 'Certificate').spec.issuerRef).toEqual({
        kind: 'Issuer',
        name: only(manifests, 'Issuer').metadata.name,
      });
      const issuerRef = { kind: 'ClusterIssuer', name: 'company' };
      const given = renderChart({ ...externalMetrics, externalMetrics: { certManager: { enabled: true, issuerRef } } });
      expect(only(given.manifests, 'Certificate').spec.issuerRef).toEqual(issuerRef);
      expect(given.manifests.filter(({ kind }) => kind === 'Issuer')).toEqual([]);
    });

    it('takes a Secret and its authority instead, and is refused without any authority', () => {
      const own = renderChart(features['externalMetrics.certFile']).manifests;
      expect(only(own, 'APIService').spec.caBundle).toBe('Q0E=');
      expect(podOf(own).volumes).toContainEqual({
        name: 'external-metrics-tls',
        secret: { secretName: 'mine', defaultMode: 0o440 },
      });
      expect(own.filter(({ kind }) => kind === 'Certificate')).toEqual([]);
      expect(() => renderChart(externalMetrics)).toThrow(/certManager\.enabled/);
    });

    it('may look who owns the API and whom the API server’s certificates name, and the HPA may read it', () => {
      expect(granted(manifests, null)).toEqual(
        expect.arrayContaining(['get apiservices.apiregistration.k8s.io', 'get,list *.external.metrics.k8s.io']),
      );
      const bindings = manifests.filter(({ kind }) => /Binding/.test(kind));
      expect(bindings.map(({ roleRef, metadata }) => `${metadata.namespace ?? '-'} ${roleRef.name}`).sort()).toEqual([
        '- serving-gpumix',
        '- serving-gpumix-external-metrics-reader',
        'kube-system extension-apiserver-authentication-reader',
      ]);
    });

    it('is open to the API server whatever the NetworkPolicy says of others', () => {
      const policy = only(
        renderChart({ ...features.externalMetrics, networkPolicy: { enabled: true, from: [{ podSelector: {} }] } })
          .manifests,
        'NetworkPolicy',
      );
      expect(policy.spec.ingress).toEqual([
        { ports: [{ port: 8080, protocol: 'TCP' }], from: [{ podSelector: {} }] },
        { ports: [{ port: 8443, protocol: 'TCP' }] },
      ]);
    });
  });

  it('is scraped without losing the namespaces of the deployments', () => {
    const { spec } = only(renderChart({ serviceMonitor: { enabled: true } }).manifests, 'ServiceMonitor');
    expect(spec.endpoints[0]).toMatchObject({ port: 'http', path: '/metrics', honorLabels: true });
    expect(serviceOf(renderChart().manifests).metadata.labels).toMatchObject(spec.selector.matchLabels);
  });

  it('is one job for dashboards and alerts, whatever its Service is called', () => {
    const monitored = { serviceMonitor: { enabled: true }, service: { name: 'aibrix-gpu-optimizer' } };
    const { manifests } = renderChart(monitored, { release: 'shadow' });
    expect(only(manifests, 'ServiceMonitor').spec.endpoints[0].relabelings).toEqual([
      { targetLabel: 'job', replacement: 'shadow-gpumix', action: 'replace' },
    ]);
  });

  it('brings each dashboard, unchanged, where Grafana’s sidecar finds it', () => {
    const { manifests } = renderChart({ dashboards: { enabled: true, namespace: 'monitoring' } });
    const files = readdirSync(join(chartFolder, 'dashboards'));
    const found = manifests.filter(({ metadata }) => metadata.labels?.grafana_dashboard === '1');
    expect(found.flatMap(({ data }) => Object.keys(data)).sort()).toEqual([...files].sort());
    for (const { metadata, data } of found) {
      const [[file, text]] = Object.entries<string>(data) as [[string, string]];
      expect(JSON.parse(text)).toEqual(JSON.parse(readFileSync(join(chartFolder, 'dashboards', file), 'utf8')));
      expect(metadata).toMatchObject({
        name: `gpumix-dashboard-${file.replace('.json', '')}`,
        namespace: 'monitoring',
      });
    }
    expect(renderChart().manifests.filter(({ metadata }) => metadata.labels?.grafana_dashboard)).toEqual([]);
  });

  it.each(['https://git.example/gpumix/blob/v0.1.0', 'https://git.example/gpumix/blob/v0.1.0/'])(
    'links each alert to its section below %s',
    (runbookBaseUrl) => {
      type Groups = { groups: { rules: { alert: string; annotations: Record<string, string> }[] }[] };
      const { spec } = only(
        renderChart({ prometheusRule: { enabled: true, runbookBaseUrl } }).manifests,
        'PrometheusRule',
      );
      const given = parse(readFileSync(join(chartFolder, 'rules', 'gpumix.yaml'), 'utf8')) as Groups;
      for (const { rules } of given.groups) {
        for (const { annotations } of rules) {
          annotations.runbook_url = `https://git.example/gpumix/blob/v0.1.0/${annotations.runbook}`;
        }
      }
      expect(spec).toEqual(given);
      expect((spec as Groups).groups[0]!.rules[0]!.annotations.runbook_url).toBe(
        'https://git.example/gpumix/blob/v0.1.0/docs/alerts.md#gpumixdown',
      );
    },
  );

  it('brings the alert rules, unchanged', () => {
    const { manifests } = renderChart({ prometheusRule: { enabled: true, labels: { release: 'prometheus' } } });
    const { spec, metadata } = only(manifests, 'PrometheusRule');
    expect(spec).toEqual(parse(readFileSync(join(chartFolder, 'rules', 'gpumix.yaml'), 'utf8')));
    expect(metadata.labels).toMatchObject({ release: 'prometheus' });
  });
});

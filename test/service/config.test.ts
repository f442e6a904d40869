import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadGpuCatalogue } from '../../src/adapters/catalogue-file.js';
import { InputError } from '../../src/core/input-error.js';
import { planOptionsSchema } from '../../src/core/planning-problem.js';
import { replayedModel } from '../../src/service/config/demand-config.js';
import { configKeys } from '../../src/service/config/reference.js';
import { configuredPools, modelConfig } from '../../src/service/config.js';
import { type ConfigLayers, loadConfig } from '../../src/service/config-layers.js';

const catalogue = await loadGpuCatalogue();

const list = `
deployments:
  source: config
  list:
    - { name: llama-a100, model: llama, gpuType: A100 }
`;
const working = `redis: { url: redis://127.0.0.1:6379/0 }${list}`;

function load(text: string, layers: Partial<ConfigLayers> = {}) {
  return loadConfig({ file: { name: 'gpumix.yaml', text }, environment: {}, catalogue, ...layers });
}

function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(InputError);
    return (error as Error).message;
  }
  throw new Error('nothing was refused');
}

describe('pools', () => {
  const pools = (text: string) => configuredPools(load(`redis: { url: redis://h/0 }\npools: ${text}`).config);

  it('are a list, or counted from nodes beside a list', () => {
    const list = [{ gpuType: 'L4', gpus: null }];
    expect(pools('[ { gpuType: L4, gpus: null } ]')).toEqual({ list, fromNodes: null });
    expect(pools('{ fromNodes: true }')).toEqual({ list: [], fromNodes: { nodeSelector: '' } });
    expect(pools('{ fromNodes: true, list: [ { gpuType: L4, gpus: null } ] }')).toEqual({
      list,
      fromNodes: { nodeSelector: '' },
    });
    expect(pools('{ fromNodes: false, list: [ { gpuType: L4, gpus: null } ] }')).toEqual({ list, fromNodes: null });
  });

  it.each([
    ['team=search', true],
    ['team == search , zone!=a', true],
    ['!dedicated', true],
    ['example.com/pool', true],
    ['pool in (a, b),tier notin (spot),gpus>3', true],
    ['pool=', true],
    ['pool in (a', false],
    ['pool in a', false],
    ['-pool', false],
    ['a b', false],
    ['pool=a b', false],
    ['pool=a,', false],
    ['Example.com/pool', false],
    ['pool=ä', false],
  ])('with the selector %j: %s', (nodeSelector, fits) => {
    const text = JSON.stringify({ fromNodes: true, nodeSelector });
    if (fits) expect(pools(text).fromNodes).toEqual({ nodeSelector });
    else expect(refusal(() => pools(text))).toContain('expected a label selector');
  });
});

describe('configuration', () => {
  it('refuses what a prompt adds to a limit on TTFT that there is not', () => {
    const text = `${working}models: { llama: { slo: { ttftSecondsPerInputToken: 0.0002, tpotSeconds: 0.1 } } }\n`;
    expect(refusal(() => load(text))).toMatch(
      /models\.llama\.slo\.ttftSecondsPerInputToken: .*expected 0 without ttftSeconds, to which it is added/,
    );
    expect(load(text.replace('tpotSeconds', 'ttftSeconds')).config.models.llama?.slo).toMatchObject({
      ttftSecondsPerInputToken: 0.0002,
    });
  });

  it('fills every key that a file leaves out', () => {
    const { config } = load(working);
    expect(config.server).toMatchObject({ host: '127.0.0.1', port: 8080 });
    expect(config.demand).toMatchObject({ source: 'redis', windowSeconds: 240, intervalSeconds: 10 });
    expect(config.forecast).toMatchObject({ method: 'auto', quantile: 0.95 });
    expect(config.publish).toEqual({
      mode: 'live',
      aibrixUnit: 100,
      maxStepsDownPerMinute: null,
      maxStepsUpPerMinute: null,
    });
    expect(config.deployments.list[0]).toMatchObject({
      namespace: 'default',
      maxReplicas: 1000,
      idleMinReplicas: null,
    });
    const unnamed = {
      slo: null,
      scaleToZero: false,
      priority: 0,
      unservedUsdPerRequest: 1000,
      minServedShare: 0,
      weightPrecision: null,
      servedNames: [],
    };
    expect(modelConfig(config, 'llama')).toEqual(unnamed);
    expect(modelConfig(config, 'constructor')).toEqual(unnamed);
    expect([config.pools, config.quotas, config.budgetUsdPerHour]).toEqual([[], [], null]);
    // A start costs what it costs: of every deployment by its start-up time.
    expect(config.options).toEqual({ ...planOptionsSchema.parse({}), startUsdPerReplica: null });
    expect(config.stability).toEqual({
      scaleDownStabilizationSeconds: 300,
      scaleDownTolerance: 0.05,
      minReplicaLifetimeSeconds: 0,
    });
  });

  it('without a file is a drop-in for a service with Redis and Kubernetes', () => {
    const { config } = loadConfig({ file: null, environment: {} });
    expect(config.redis?.url).toBe('redis://localhost:6379/0');
    expect(config.deployments.source).toBe('kubernetes');
    expect(config.server.host).toBe('127.0.0.1');
  });

  it('listens on every address inside a cluster, unless told otherwise', () => {
    const environment = { KUBERNETES_SERVICE_HOST: '10.96.0.1' };
    expect(loadConfig({ file: null, environment }).config.server.host).toBe('0.0.0.0');
    expect(load(`${working}server: { host: 127.0.0.1 }`, { environment }).config.server.host).toBe('127.0.0.1');
    expect(load(working, { environment: { ...environment, GPUMIX_HOST: '::1' } }).config.server.host).toBe('::1');
  });

  it('lets the environment win over the file, and a flag over both', () => {
    const text = `${working}server: { port: 1001 }`;
    const environment = { GPUMIX_PORT: '1002' };
    expect(load(text).config.server.port).toBe(1001);
    expect(load(text, { environment }).config.server.port).toBe(1002);
    const flags = [{ flag: '--port', key: 'server.port', value: '1003' }];
    expect(load(text, { environment, flags }).config.server.port).toBe(1003);
  });

  it('has a variable for each scalar key, and each one sets that key', () => {
    const values: Record<string, string> = {
      GPUMIX_DEMAND_WINDOW_SECONDS: '120',
      GPUMIX_PUBLISH_MODE: 'shadow',
      GPUMIX_PUBLISH_MAX_STEPS_DOWN_PER_MINUTE: '2',
      GPUMIX_FORECAST_QUANTILE: '0.5',
      GPUMIX_OPTIONS_TIME_LIMIT_MS: '50',
      GPUMIX_OPTIONS_ROUTING: 'proportional',
      GPUMIX_BUDGET_USD_PER_HOUR: '40',
      GPUMIX_LOG_LEVEL: 'debug',
    };
    const known = configKeys().flatMap((key) => key.environment ?? []);
    for (const variable of Object.keys(values)) expect(known).toContain(variable);
    const { config } = load(working, { environment: values });
    expect(config.demand.windowSeconds).toBe(120);
    expect(config.publish).toMatchObject({ mode: 'shadow', maxStepsDownPerMinute: 2 });
    expect(config.forecast.quantile).toBe(0.5);
    expect(config.options).toMatchObject({ timeLimitMs: 50, routing: 'proportional' });
    expect(config.budgetUsdPerHour).toBe(40);
    expect(config.log.level).toBe('debug');
    const back = load(`${working}publish: { maxStepsDownPerMinute: 3 }`, {
      environment: { GPUMIX_PUBLISH_MAX_STEPS_DOWN_PER_MINUTE: 'null' },
    });
    expect(back.config.publish.maxStepsDownPerMinute).toBeNull();
  });

  it("understands AIBrix's REDIS_HOST, REDIS_PORT and REDIS_PASSWORD, under our own variables", () => {
    const environment = { REDIS_HOST: 'redis.svc', REDIS_PORT: '6400', REDIS_PASSWORD: 's3cret@/' };
    expect(loadConfig({ file: null, environment }).config.redis).toMatchObject({
      url: 'redis://redis.svc:6400/0',
      password: 's3cret@/',
    });
    const ours = { ...environment, GPUMIX_REDIS_URL: 'rediss://other:1/3', GPUMIX_REDIS_PASSWORD: 'x' };
    expect(loadConfig({ file: null, environment: ours }).config.redis).toMatchObject({
      url: 'rediss://other:1/3',
      password: 'x',
    });
  });

  it('asks Sentinels for the master, with a password of their own, and has none for others', () => {
    const sentinels = working.replace('redis://127.0.0.1:6379/0', "'redis://s1,s2/0?sentinel=mymaster'");
    expect(sentinels).not.toBe(working);
    const environment = { GPUMIX_REDIS_SENTINEL_USERNAME: 'u', GPUMIX_REDIS_SENTINEL_PASSWORD: 'hunter2' };
    expect(load(sentinels, { environment }).config.redis).toMatchObject({
      sentinelUsername: 'u',
      sentinelPassword: 'hunter2',
    });
    const useless = refusal(() => load(working, { environment }));
    expect(useless).toContain('GPUMIX_REDIS_SENTINEL_PASSWORD');
    expect(useless).toContain('redis://host:26379/0?sentinel=NAME');
    expect(useless).not.toContain('hunter2');
  });

  it('names its own keys in Redis as it is told', () => {
    expect(load(working).config.redis?.statePrefix).toBe('gpumix');
    const environment = { GPUMIX_REDIS_STATE_PREFIX: 'gpumix-shadow' };
    expect(load(working, { environment }).config.redis?.statePrefix).toBe('gpumix-shadow');
    const bare = working.replace('{ url', "{ statePrefix: '', url");
    expect(refusal(() => load(bare))).toContain('redis.statePrefix');
  });

  it('leaves alone what Kubernetes sets next to a Service of the same name', () => {
    const environment = {
      GPUMIX_PORT: 'tcp://10.96.0.7:8080',
      GPUMIX_PORT_8080_TCP: 'tcp://10.96.0.7:8080',
      GPUMIX_PORT_8080_TCP_ADDR: '10.96.0.7',
      GPUMIX_SERVICE_HOST: '10.96.0.7',
      GPUMIX_SERVICE_PORT: '8080',
      GPUMIX_SERVICE_PORT_HTTP: '8080',
      REDIS_PORT: 'tcp://10.96.0.8:6379',
    };
    const loaded = loadConfig({ file: null, environment });
    expect(loaded.config.server.port).toBe(8080);
    expect(loaded.config.redis?.url).toBe('redis://localhost:6379/0');
    expect(loaded.warnings).toEqual([]);
  });

  it('takes a number for one of its own ports, and leaves the address of a Service alone', () => {
    const scaler = (port: string) =>
      load(working, { environment: { GPUMIX_KEDA_SCALER_PORT: port } }).config.keda.scaler?.port;
    expect(scaler('9191')).toBe(9191);
    expect(scaler('tcp://10.96.0.7:9090')).toBeUndefined();
  });

  it('warns of a variable that means nothing, and counts an empty one as not set', () => {
    const loaded = load(working, { environment: { GPUMIX_IMAGE_TAG_OF_OURS: '1', GPUMIX_PORT: '' } });
    expect(loaded.warnings).toEqual([
      'environment variable GPUMIX_IMAGE_TAG_OF_OURS means nothing to gpumix and was left alone',
    ]);
    expect(loaded.config.server.port).toBe(8080);
  });

  it('warns of settings for a model that no listed deployment serves', () => {
    const models = (name: string) => `${working}models: { ${name}: { scaleToZero: true } }\n`;
    expect(load(models('llama')).warnings).toEqual([]);
    expect(load(models('lama')).warnings).toEqual([
      'gpumix.yaml: line 6: models.lama: no deployment of deployments.list is of this model, so it changes nothing; did you mean "llama"?',
    ]);
    expect(load('redis: { url: redis://h/0 }\nmodels: { lama: {} }\n').warnings).toEqual([]);
  });

  it('knows the model of a replayed log where there is only one', () => {
    const replay = `demand: { source: replay, replay: { file: t.csv } }\nprofiles: { source: files, directory: p }${list}`;
    expect(replayedModel(load(replay).config)).toBe('llama');
    const two = `${replay}    - { name: b, model: other }\n`;
    expect(refusal(() => load(two))).toContain('demand.replay.model');
  });
});

describe('a configuration error', () => {
  const cases: readonly (readonly [string, string, string])[] = [
    ...['PlanningProblem', 'Plan'].map(
      (kind) =>
        [
          `a ${kind}`,
          JSON.stringify({ apiVersion: 'gpumix/v1', kind, models: [] }),
          `gpumix.yaml: found a ${kind}, expected the configuration of a service (for planning documents, use gpumix plan)`,
        ] as const,
    ),
    ['an unknown key', `${working}servr: { port: 1 }`, 'gpumix.yaml: line 6: servr: found an unknown key'],
    ['an unknown key, with the nearest known one', `${working}server: { prot: 1 }`, 'did you mean "port"?'],
    [
      'a key of an item',
      'redis: { url: redis://h/0 }\ndeployments:\n  source: config\n  list:\n    - name: a\n      gpus: 2\n      model: m\n',
      'gpumix.yaml: line 6: deployments.list[0].gpus: found an unknown key',
    ],
    [
      'a wrong type, with its line',
      `${working}demand:\n  windowSeconds: soon\n`,
      'gpumix.yaml: line 7: demand.windowSeconds: found "soon", expected a number',
    ],
    ['a bound', `${working}forecast: { quantile: 1.5 }`, 'forecast.quantile: found 1.5, expected a number <= 1'],
    ['a value out of a list', `${working}publish: { mode: shaddow }`, 'did you mean "shadow"?'],
    [
      'a missing key, at the line of its section',
      'redis: { url: redis://h/0 }\ndeployments:\n  source: config\n  list:\n    - { name: a }\n',
      'gpumix.yaml: line 5: deployments.list[0].model: found nothing, expected a text',
    ],
    ['a pool without its size', `${working}pools: [ { gpuType: A100 } ]`, 'line 6: pools[0].gpus: found nothing'],
    [
      'two pools of one type',
      `${working}pools:\n- { gpuType: L20, gpus: 4 }\n- { gpuType: A100, gpus: 4 }\n- { gpuType: NVIDIA-L20, gpus: null }\n`,
      'gpumix.yaml: line 9: pools[2].gpuType: found "NVIDIA-L20", expected a GPU type that no other entry names: pools[0] has it (as "L20")',
    ],
    [
      'two given pools beside counted ones',
      `redis: { url: redis://h/0 }\npools:\n  fromNodes: true\n  list:\n  - { gpuType: L20, gpus: 4 }\n  - { gpuType: NVIDIA-L20, gpus: 5 }\n`,
      'gpumix.yaml: line 6: pools.list[1].gpuType: found "NVIDIA-L20", expected a GPU type that no other entry names: pools.list[0] has it (as "L20")',
    ],
    ['pools in words', `${working}pools: nodes`, 'line 6: pools: found "nodes", expected an array, or an object'],
    [
      'a wrong key of pools',
      'redis: { url: redis://h/0 }\npools: { fromNode: true }',
      'pools.fromNode: found an unknown key, expected one of fromNodes, nodeSelector, list; did you mean "fromNodes"?',
    ],
    [
      'nodes to count without a cluster',
      `${working}pools: { fromNodes: true }`,
      'line 6: pools.fromNodes: found true, expected false, because deployments.source is config: there are no nodes to count',
    ],
    [
      'a selector of nodes that are not counted',
      'redis: { url: redis://h/0 }\npools: { fromNodes: false, nodeSelector: a=b }',
      'pools.nodeSelector: found "a=b", expected none without fromNodes: true',
    ],
    [
      'a selector that no API server takes',
      'redis: { url: redis://h/0 }\npools: { fromNodes: true, nodeSelector: "pool in gpu" }',
      'pools.nodeSelector: found "pool in gpu", expected a label selector, such as team=search,!dedicated',
    ],
    [
      'two quotas of one namespace',
      `${working}quotas:\n- { namespace: a, gpuType: L20, gpus: 4 }\n- { namespace: b, gpuType: L20, gpus: 4 }\n- { namespace: a, gpuType: L20, gpus: 5 }\n`,
      'line 9: quotas[2].gpuType: found "L20", expected a GPU type that no other entry names for namespace "a": quotas[0] has it',
    ],
    ['a budget below nothing', `${working}budgetUsdPerHour: -1`, 'budgetUsdPerHour: found -1, expected a number >= 0'],
    [
      'a share above all',
      `${working}models: { llama: { minServedShare: 1.5 } }`,
      'models.llama.minServedShare: found 1.5, expected a number <= 1',
    ],
    [
      'an option that is none of the planner',
      `${working}options: { timeLimitMS: 5 }`,
      'options.timeLimitMS: found an unknown key',
    ],
    [
      'the former name of a section',
      `${working}planning: { timeLimitMs: 50 }`,
      'line 6: planning: found an unknown key, expected options, which is its name now; did you mean "options"?',
    ],
    ['an actuation that is none', `${working}actuate: yes`, 'actuate: found "yes", expected'],
    [
      'a kind that nobody knows, without its resource',
      `${working}    - { name: fleet, model: m, target: { kind: Fleet, group: example.com, version: v1 } }\n`,
      'deployments.list[1].target.resource: found nothing, expected a text, because Fleet is no known kind',
    ],
    [
      'a name that no object can have, where it is scaled',
      `${working}    - { name: Fleet, model: m }\nactuate: scale\n`,
      'deployments.list[1].name: found "Fleet", expected a name that an API server takes',
    ],
    [
      'a namespace that none can be, where it is scaled',
      `${working}    - { namespace: a.b, name: x, model: m }\nactuate: scale\n`,
      'deployments.list[1].namespace: found "a.b", expected a name that a namespace can have',
    ],
    [
      'scaling without looking at what else scales',
      `${working.replace('deployments:', 'deployments:\n  followConsumers: false')}actuate: scale\n`,
      'deployments.followConsumers: found false, expected true with actuate: scale, which leaves alone what they scale',
    ],
    [
      'one object under two names, where it is scaled',
      `${working}    - { name: other, model: m, target: { name: llama-a100 } }\nactuate: dry-run\n`,
      'an object that no other entry scales (default/llama-a100 does)',
    ],
    ['no Redis for traces', list, 'expected redis: { url: … }, because demand.source is redis'],
    [
      'a window that is no multiple',
      `${working}demand: { windowSeconds: 245 }`,
      'a multiple of demand.intervalSeconds',
    ],
    ['an empty list', 'redis: { url: redis://h/0 }\ndeployments: { source: config }', 'at least one deployment'],
    [
      'the same deployment twice',
      `${working}    - { name: llama-a100, model: other }\n`,
      'line 6: deployments.list[1].name: found "llama-a100", expected a name that no other entry has',
    ],
    [
      'a slash in a name',
      'redis: { url: redis://h/0 }\ndeployments: { source: config, list: [{ name: a/b, model: m }] }',
      'a name without /',
    ],
    [
      'a price beyond any that a plan can hold',
      'redis: { url: redis://h/0 }\ndeployments: { source: config, list: [{ name: a, model: m, usdPerReplicaHour: 1e300 }] }',
      'line 2: deployments.list[0].usdPerReplicaHour: found 1e+300, expected a number <= 1000000000',
    ],
    ['a key given twice', 'server: { port: 1, port: 2 }', 'gpumix.yaml: line 1'],
    ['broken YAML', 'server: [1, 2', 'expected valid YAML'],
    ['a list instead of a map', '- 1', 'expected a map of keys'],
    ['not a number', `${working}forecast: { quantile: .nan }`, 'forecast.quantile'],
    [
      'an alias bomb',
      `a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c]`,
      'YAML that can be read',
    ],
    ['endless nesting', '['.repeat(20_000), 'gpumix.yaml'],
    ['two documents', 'server: {}\n---\nserver: {}', 'gpumix.yaml'],
  ];
  it.each(cases)('names the place of %s', (_, text, expected) => {
    expect(refusal(() => load(text))).toContain(expected);
  });

  it('names the variable that set a value', () => {
    expect(refusal(() => load(working, { environment: { GPUMIX_PORT: '80a' } }))).toBe(
      'environment variable GPUMIX_PORT: server.port: found "80a", expected a number',
    );
  });

  it('names the flag that set a value', () => {
    const flags = [{ flag: '--port', key: 'server.port', value: '70000' }];
    expect(refusal(() => load(working, { flags }))).toBe(
      'flag --port: server.port: found 70000, expected a number <= 65535',
    );
  });

  it('suggests the variable that was meant', () => {
    expect(refusal(() => load(working, { environment: { GPUMIX_PRT: '1' } }))).toContain('did you mean "GPUMIX_PORT"?');
    const former = { GPUMIX_PLANNING_TIME_LIMIT_MS: '1' };
    expect(refusal(() => load(working, { environment: former }))).toContain('"GPUMIX_OPTIONS_TIME_LIMIT_MS"?');
  });

  it('lists faults of several sources, each under its own', () => {
    const message = refusal(() =>
      load(`${working}publish: { mode: x }`, { environment: { GPUMIX_FORECAST_QUANTILE: '7' } }),
    );
    expect(message).toContain('gpumix.yaml: line 6: publish.mode');
    expect(message).toContain('environment variable GPUMIX_FORECAST_QUANTILE: forecast.quantile');
  });

  it.each([
    'redis: { url: "http://:hunter2@h/0" }',
    'redis: "redis://:hunter2@h/0"',
    'redis: { url: "redis://:hunter2@h:99999/0" }',
    'redis: { url: redis://h/0, password: [hunter2] }',
  ])('never repeats a password: %s', (text) => {
    const message = refusal(() => load(`${text}${list}`));
    expect(message).toContain('redis');
    expect(message).not.toContain('hunter2');
  });
});

describe('whatever the file, the environment and the flags hold', () => {
  const run = (layers: ConfigLayers) => {
    try {
      loadConfig(layers);
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      expect(error.issues.length).toBeGreaterThan(0);
    }
  };

  it('any text ends in a configuration or an InputError', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 200, unit: 'binary' }), (text) =>
        run({ file: { name: 'f', text }, environment: {} }),
      ),
      { numRuns: 300 },
    );
  });

  it('any document ends in a configuration or an InputError', () => {
    const keys = fc.constantFrom(...configKeys().flatMap((key) => key.path.split('.')), '__proto__', 'constructor', '');
    const tree = fc.letrec((tie) => ({
      value: fc.oneof(
        { maxDepth: 4 },
        fc.constantFrom<unknown>(null, true, -1, 0, 1.5, 1e99, 'x', 'redis', 'config', 'redis://h/0', 'a/b'),
        fc.array(tie('value'), { maxLength: 3 }),
        fc.dictionary(keys, tie('value'), { maxKeys: 6, noNullPrototype: false }),
      ),
    })).value;
    fc.assert(
      fc.property(tree, (value) => run({ file: { name: 'f', text: JSON.stringify(value) }, environment: {} })),
      { numRuns: 500 },
    );
  });

  it('any environment ends in a configuration or an InputError', () => {
    const names = fc.oneof(
      fc.constantFrom(
        ...configKeys().flatMap((key) => key.environment ?? []),
        'REDIS_HOST',
        'REDIS_PORT',
        'REDIS_PASSWORD',
      ),
      fc.string({ maxLength: 12 }).map((text) => `GPUMIX_${text}`),
    );
    const values = fc.oneof(
      fc.string({ maxLength: 20 }),
      fc.constantFrom('1', 'true', 'null', 'redis://a:1/2', 'tcp://1.2.3.4:5'),
    );
    fc.assert(
      fc.property(fc.dictionary(names, values, { maxKeys: 5 }), fc.boolean(), (environment, withFile) =>
        run({ file: withFile ? { name: 'f', text: working } : null, environment }),
      ),
      { numRuns: 300 },
    );
  });
});

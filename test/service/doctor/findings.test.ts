import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { runDoctor } from '../../../src/cli/doctor.js';
import { findingCodes, findingKinds } from '../../../src/service/doctor/findings.js';
import {
  aibrixPart,
  apiService,
  type DoctorWorld,
  type Examination,
  hpa,
  lastTick,
  model,
  names,
  podAutoscaler,
  profileText,
  scaledObject,
  served,
  startDoctorWorld,
  traceText,
  tracing,
} from '../../support/doctor-world.js';
import { prometheusMissing, startPrometheus } from '../../support/prometheus-server.js';
import { redisMissing, startRedisServer } from '../../support/redis-server.js';
import { startEndpoint } from '../../support/scripted-endpoint.js';

/** Every finding is provoked here in a set-up that is otherwise well: a real Redis, and the fake API server. */

let world: DoctorWorld;
const provoked = new Set<string>();

/** The codes that are found, each with its place; and nothing else may be found. */
async function found(...options: Parameters<DoctorWorld['examine']>): Promise<readonly string[]> {
  return foundIn(await world.examine(...options));
}

function foundIn({ code, report, text }: Examination): readonly string[] {
  expect(code).toBe(report.findings.length === 0 ? 0 : 1);
  for (const each of report.findings) {
    provoked.add(each.code);
    expect(text).toContain(each.code);
  }
  return report.findings.map((each) => `${each.code} ${each.place}: ${each.found}`);
}

describe.skipIf(redisMissing !== null)('gpumix doctor', () => {
  beforeAll(async () => {
    world = await startDoctorWorld();
  });
  afterAll(() => world?.stop());
  beforeEach(() => world.heal());

  it('finds nothing in a set-up that is well, and says what it looked at', async () => {
    const { code, report, text } = await world.examine();
    expect(report.findings).toEqual([]);
    expect(code).toBe(0);
    expect(text).toContain('nothing found');
    expect(report.looked.map(({ at }) => at)).toEqual([
      'clock of Redis',
      'keys of AIBrix in Redis',
      'request traces',
      'clock of the API server',
      'Deployments',
      'HorizontalPodAutoscalers',
      'ScaledObjects',
      'PodAutoscalers',
      'external metrics API',
      'profiles',
    ]);
    // AIBrix v0.3 does not say what pods do.
    expect(report.notLooked.map(({ at }) => at)).toEqual(['pods that serve without traces']);
  });

  it('changes nothing of what it looks at', async () => {
    const before = [world.redis.command('INFO', 'commandstats'), world.cluster.server.version];
    world.cluster.server.requests.length = 0;
    await world.examine();
    expect(world.cluster.server.version).toBe(before[1]);
    expect(new Set(world.cluster.server.requests.map(({ method }) => method))).toEqual(new Set(['GET']));
    const stats = world.redis.command('INFO', 'commandstats');
    const writes = [...stats.matchAll(/cmdstat_(set|del|expire|hset|rpush|ltrim)\b[^\n]*calls=(\d+)/g)].map(String);
    const writesBefore = [
      ...String(before[0]).matchAll(/cmdstat_(set|del|expire|hset|rpush|ltrim)\b[^\n]*calls=(\d+)/g),
    ].map(String);
    expect(writes).toEqual(writesBefore);
  });

  describe('demand', () => {
    it('says that Redis cannot be reached, and looks at the rest', async () => {
      const { code, report } = await world.examine({ redis: 'redis://127.0.0.1:1/0' });
      expect(code).toBe(1);
      for (const each of report.findings) provoked.add(each.code);
      expect(report.findings.map((each) => each.code)).toEqual(['redis_unreachable']);
      expect(report.findings[0]!.found).toContain('ECONNREFUSED');
      expect(report.looked.map(({ at }) => at)).toContain('PodAutoscalers');
    });

    it('waits for a Redis that hangs no longer than it was told', async () => {
      world.redis.pause();
      try {
        const { report } = await world.examine({ timeout: 0.3 });
        expect(report.findings.map((each) => each.code)).toEqual(['redis_unreachable']);
      } finally {
        world.redis.resume();
      }
    });

    it('never shows the password', async () => {
      const guarded = await startRedisServer({ password: 'the-right-one' });
      try {
        const url = `redis://:hunter2-secret@127.0.0.1:${guarded.port}/0`;
        const { report, text } = await world.examine({ redis: url });
        expect(report.findings.map((each) => each.code)).toEqual(['redis_unreachable']);
        expect(report.findings[0]!.found).toContain('WRONGPASS');
        expect(JSON.stringify(report) + text).not.toMatch(/hunter2|the-right-one/);
      } finally {
        await guarded.stop();
      }
    });

    it('finds pods that serve while nobody records', async () => {
      noTraces();
      podSays('gateway-1', `${names.aibrix}-5d4f8b9c7-x2x4z`, 3);
      const [only, ...rest] = await found();
      expect(rest).toEqual([]);
      expect(only).toContain(`no_traces Redis key aibrix:${model}_request_trace_*`);
      expect(only).toContain(`prod/${names.aibrix} (gateway gateway-1 counts 3`);
    });

    it('finds them by what their engines count, where no gateway says what pods do', async () => {
      noTraces();
      let tokens = 100;
      const engine = await startEndpoint((_, response) => {
        tokens += 7;
        const counters = ['prompt_tokens_total', 'generation_tokens_total', 'time_to_first_token_seconds_sum'];
        const lines = [...counters, 'time_to_first_token_seconds_count'].map((name) => `vllm:${name} ${tokens}\n`);
        response.end(lines.join(''));
      });
      try {
        const yaml = `engines: { scrape: [{ deployment: prod/${names.keda}, urls: ["${engine.url}/metrics"] }] }`;
        expect(await withConfig(yaml)).toEqual([
          expect.stringMatching(`^no_traces .*prod/${names.keda} \\(its engines count tokens\\)`),
        ]);
      } finally {
        await engine.stop();
      }
    });

    describe('from Prometheus', () => {
      const fromPrometheus = (url: string) => `prometheus: { url: "${url}" }\ndemand: { source: prometheus }`;

      it('finds a Prometheus that is not there, for demand and for engine metrics', async () => {
        const dead = 'http://127.0.0.1:1';
        expect(await withConfig(fromPrometheus(dead))).toEqual([
          expect.stringMatching(/^prometheus_unreachable Prometheus http:\/\/127\.0\.0\.1:1\/: .*ECONNREFUSED/),
        ]);
        expect(await withConfig(`prometheus: { url: "${dead}" }`)).toEqual([
          expect.stringMatching(/^prometheus_unreachable /),
        ]);
      });

      it('never shows the password of Prometheus', async () => {
        const told = await withConfig(fromPrometheus('http://me:hunter2@127.0.0.1:1')).catch(String);
        expect(String(told)).not.toContain('hunter2');
      });

      describe.skipIf(prometheusMissing !== null)('a real one', () => {
        /** An engine whose counters are called by a prefix, as a real Prometheus scrapes it. */
        const withEngine = async (prefix: string, examine: (url: string) => Promise<void>) => {
          const pod = `${names.hpa}-5d4f8b9c7-x2x4z`;
          const name = (rest: string) => `${prefix}${rest}{model_name="${model}"} 3\n`;
          const engine = await startEndpoint(
            [
              'request_success_total',
              'num_requests_waiting',
              'num_requests_running',
              'prompt_tokens_total',
              'generation_tokens_total',
              'time_to_first_token_seconds_sum',
              'time_to_first_token_seconds_count',
            ]
              .map(name)
              .join(''),
          );
          const prometheus = await startPrometheus([{ address: engine.address, labels: { namespace: 'prod', pod } }]);
          try {
            await vi.waitFor(
              async () => {
                const answer = await fetch(`${prometheus.url}/api/v1/query?query=${prefix}request_success_total`);
                expect(await answer.text()).toContain(pod);
              },
              { timeout: 15_000, interval: 200 },
            );
            await examine(prometheus.url);
          } finally {
            await prometheus.stop();
            await engine.stop();
          }
        };
        const ready = () => {
          for (const name of Object.values(names)) {
            const object = world.cluster.server.objects('deployments').find(({ metadata }) => metadata.name === name)!;
            world.put({ ...object, status: { replicas: 1, readyReplicas: 1 } } as never);
          }
        };

        it('finds that it has no series of engines, or others, and says which', async () => {
          ready();
          await withEngine('vllm_', async (url) => {
            const [demand, engines, ...rest] = await withConfig(fromPrometheus(url));
            expect(rest).toEqual([]);
            expect(demand).toMatch(/^no_engine_series Prometheus .*, for demand: no counters of engines/);
            expect(demand).toContain('it has vllm_num_requests_running, ');
            expect(demand).toContain('vllm_request_success_total');
            expect(engines).toMatch(/^no_engine_series Prometheus .*, for engine metrics: no counters of engines/);
          });
        }, 40_000);

        it('finds nothing where engines are counted, and knows those of another model', async () => {
          await withEngine('vllm:', async (url) => {
            // The interval that is asked for must have seen a scrape.
            const now = () => Date.now() + 40_000;
            const seriesOf = async (yaml: string) =>
              (await withConfig(`${fromPrometheus(url)}\n${yaml}`, { now })).filter((text) => /series/.test(text));
            expect(await seriesOf('')).toEqual([]);
            const list = '[{ namespace: prod, name: llama-h100, model: other, gpuType: H100 }]';
            expect(await seriesOf(`deployments: { source: config, list: ${list} }`)).toEqual([
              expect.stringMatching(
                /^no_engine_series .*no engines that serve other, and some that serve meta\/llama-8b/,
              ),
            ]);
          });
        }, 40_000);
      });

      it('finds engines of engines.scrape that do not answer', async () => {
        const yaml = `engines: { scrape: [{ deployment: prod/${names.keda}, urls: ["http://127.0.0.1:1/metrics"] }] }`;
        expect(await withConfig(yaml)).toEqual([
          expect.stringMatching(`^engine_unreachable engines.scrape: prod/${names.keda}: .*127.0.0.1:1.*ECONNREFUSED`),
        ]);
      });
    });

    it('gives a first record the time of an interval before it says that there is none', async () => {
      noTraces();
      podSays('gateway-1', `${names.aibrix}-5d4f8b9c7-x2x4z`, 3);
      const waits: number[] = [];
      const sleep = async (ms: number) => {
        waits.push(ms);
        if (ms > 1000) world.redis.command('SET', `aibrix:${model}_request_trace_${lastTick()}`, traceText());
      };
      expect(await found({}, { sleep })).toEqual([]);
      expect(Math.max(...waits)).toBe(12_000);
    });

    it('takes pods without requests for idle', async () => {
      noTraces();
      podSays('gateway-1', `${names.aibrix}-5d4f8b9c7-x2x4z`, 0);
      expect(await found()).toEqual([]);
    });

    it('finds several gateways by what they say of pods', async () => {
      podSays('gateway-1', `${names.aibrix}-5d4f8b9c7-x2x4z`, 0);
      podSays('gateway-2', `${names.aibrix}-5d4f8b9c7-x2x4z`, 0);
      expect(await found()).toEqual(['several_gateways Redis keys aibrix:pod:*: 2 gateways: gateway-1, gateway-2']);
    });

    it('finds several gateways by the replicas of their Deployment', async () => {
      world.put(aibrixPart('gateway-plugins', 'v0.3.0', { env: tracing, replicas: 3 }));
      expect(await found()).toEqual(['several_gateways Deployment aibrix-system/aibrix-gateway-plugins: 3 replicas']);
    });

    it.each([
      ['v0.3.0', {}, ['AIBRIX_GPU_OPTIMIZER_TRACING_FLAG=(not set)']],
      ['v0.5.0', tracing, ['KV_EVENT_SYNC_ENABLED=(not set)', 'USE_REMOTE_TOKENIZER=(not set)']],
      ['nightly', { AIBRIX_GPU_OPTIMIZER_TRACING_FLAG: 'false' }, ['AIBRIX_GPU_OPTIMIZER_TRACING_FLAG=false']],
    ])('finds a gateway %s with %j, which records nothing', async (tag, env, expected) => {
      world.put(aibrixPart('gateway-plugins', tag, { env }));
      const [only, ...rest] = await found();
      expect(rest).toEqual([]);
      expect(only).toContain('gateway_does_not_trace Deployment aibrix-system/aibrix-gateway-plugins');
      for (const text of expected) expect(only).toContain(text);
    });

    it('finds no fault with a gateway of v0.8 that has the one variable', async () => {
      world.put(aibrixPart('gateway-plugins', 'v0.8.1', { env: tracing }));
      expect(await found()).toEqual([]);
    });

    it('finds records that cannot be read, such as those of another interval', async () => {
      world.redis.command('SET', `aibrix:${model}_request_trace_${lastTick() + 1}`, traceText(30));
      const [only, ...rest] = await found();
      expect(rest).toEqual([]);
      expect(only).toMatch(/^unreadable_traces .*meta_interval_sec: found 30/);
    });

    it('finds requests for a model that no Deployment serves, and says which name is near', async () => {
      world.redis.command('SET', `aibrix:meta/llama-8B_request_trace_${lastTick()}`, traceText());
      const { report } = await world.examine();
      expect(report.findings[0]).toMatchObject({ code: 'traces_without_deployment' });
      expect(report.findings[0]!.expected).toContain(`"${model}"`);
      expect(await found()).toHaveLength(1);
    });

    it('finds clocks that disagree: those of Redis and of the API server', async () => {
      const now = () => Date.now() + 3_600_000;
      expect(await found({}, { now })).toEqual([
        expect.stringMatching(/^clock_skew clock of Redis at 127.*: 3600 s behind/),
        expect.stringMatching(/^clock_skew clock of http:.*: 3\d{3} s behind/),
      ]);
    });

    it('finds a gateway whose clock is ahead by its records', async () => {
      world.redis.command('SET', `aibrix:${model}_request_trace_${lastTick() + 120}`, traceText());
      expect(await found()).toEqual([expect.stringMatching(/^clock_skew Redis key .* in the future/)]);
    });
  });

  describe('Deployments and profiles', () => {
    it('says that the API server cannot be reached, and looks at Redis', async () => {
      await world.cluster.network.cut();
      try {
        const { report } = await world.examine();
        for (const each of report.findings) provoked.add(each.code);
        expect(report.findings.map((each) => each.code)).toEqual(['kubernetes_unreachable']);
        expect(report.looked.map(({ at }) => at)).toEqual([
          'clock of Redis',
          'keys of AIBrix in Redis',
          'request traces',
        ]);
      } finally {
        await world.cluster.network.connect();
      }
    });

    it('lists what may not be read as not looked at', async () => {
      world.cluster.server.fault = ({ resource }) =>
        resource === 'scaledobjects' ? { kind: 'answer', status: 403 } : undefined;
      const { code, report } = await world.examine();
      expect([code, report.findings]).toEqual([0, []]);
      expect(report.notLooked.map(({ at, because }) => `${at}: ${because}`)).toContainEqual(
        expect.stringContaining('ScaledObjects: 403'),
      );
    });

    it('finds that nothing carries the model label', async () => {
      for (const name of Object.values(names)) world.cluster.server.remove('prod', name);
      world.redis.command('FLUSHALL');
      expect(await found()).toEqual([expect.stringMatching(/^no_deployments /)]);
    });

    it.each([
      ['a key that is nearly the one', { labels: { 'model.aibrix.ai/nmae': model } }],
      ['the label without a value', { labels: { 'model.aibrix.ai/name': '' } }],
      ['the label as an annotation', { annotations: { 'model.aibrix.ai/name': model } }],
    ])('finds %s', async (_, metadata) => {
      const lost = served('llama-l40s', 'L40S');
      world.put({ ...lost, metadata: { namespace: 'prod', name: 'llama-l40s', ...metadata } });
      expect(await found()).toEqual([expect.stringMatching(/^model_label_slip Deployment prod\/llama-l40s/)]);
    });

    it('finds annotations that are ignored', async () => {
      world.put(served(names.hpa, 'H100', { annotations: { 'gpumix.dev/max-replica': '3' } }));
      expect(await found()).toEqual([expect.stringMatching(/^setting_ignored .*max-replica/)]);
    });

    it('finds GPU types that nobody knows', async () => {
      world.put(served(names.hpa, 'H10O'));
      expect(await found()).toEqual([`unknown_gpu_type Deployment prod/${names.hpa}: GPU type "H10O"`]);
    });

    it('finds types without a pool, and pools without a type', async () => {
      const pools = 'pools: [{ gpuType: L4, gpus: 8 }, { gpuType: A100-40GB, gpus: 8 }, { gpuType: H100, gpus: 8 }]';
      expect(await withConfig(pools)).toEqual([
        expect.stringMatching(`^type_without_pool Deployment prod/${names.keda}: GPU type A100-80GB`),
        expect.stringMatching(/^pool_without_deployment pools, gpuType A100-40GB/),
      ]);
    });

    it('finds a Deployment without a profile, and the profile that was meant for it', async () => {
      world.redis.command(
        'RENAME',
        `aibrix:profile_${model}_${names.hpa}`,
        `aibrix:profile_${model}_prod/${names.hpa}`,
      );
      expect(await found()).toEqual([
        `deployment_without_profile Deployment prod/${names.hpa}: no profile for model "${model}"`,
        expect.stringMatching(`^profile_without_deployment Redis key aibrix:profile_${model}_prod/${names.hpa}`),
      ]);
    });

    it('finds a folder of profiles that is not there', async () => {
      expect(await withConfig('profiles: { source: files, directory: nowhere }')).toEqual([
        expect.stringMatching(/^profiles_unreadable profiles: .*nowhere: found nothing, expected a directory/),
      ]);
    });

    it('finds files that no Deployment looks for, as it does keys in Redis', async () => {
      const folder = mkdtempSync(join(tmpdir(), 'gpumix-doctor-profiles-'));
      try {
        const ofModel = join(folder, 'meta%2Fllama-8b');
        mkdirSync(ofModel);
        for (const name of [names.aibrix, names.keda]) writeFileSync(join(ofModel, `${name}.json`), profileText);
        writeFileSync(join(folder, `${names.hpa}.json`), profileText);
        writeFileSync(join(folder, 'README.md'), 'not a profile');
        mkdirSync(join(folder, '..data'));
        const yaml = `profiles: { source: files, directory: ${folder} }`;
        expect(await withConfig(yaml)).toEqual([]);
        writeFileSync(join(ofModel, 'llama-l40.json'), profileText);
        writeFileSync(join(folder, 'gone.json'), profileText);
        expect(await withConfig(yaml)).toEqual([
          `profile_without_deployment gone.json in ${folder}: no Deployment looks for it`,
          `profile_without_deployment meta%2Fllama-8b/llama-l40.json in ${folder}: no Deployment looks for it`,
        ]);
      } finally {
        rmSync(folder, { recursive: true });
      }
    });

    it('speaks of the list and not of labels or annotations where deployments are listed', async () => {
      world.redis.command('SET', `aibrix:llama_request_trace_${lastTick()}`, traceText(), 'EX', '600');
      const list = `[{ namespace: prod, name: ${names.hpa}, model: ${model}, gpuType: H10O }]`;
      const examined = await withConfigWhole(`actuate: dry-run\ndeployments: { source: config, list: ${list} }`);
      expect(examined.report.findings.map(({ code }) => code)).toEqual(
        expect.arrayContaining(['unknown_gpu_type', 'traces_without_deployment', 'profile_without_deployment']),
      );
      expect(examined.text).toContain('deployments.list[].gpuType');
      expect(examined.text).not.toMatch(/model label|gpumix\.dev\/|model\.aibrix\.ai/);
    });

    it('looks at the Deployments of a configuration without a cluster', async () => {
      const list = [`{ namespace: prod, name: ${names.hpa}, model: ${model}, gpuType: H100 }`];
      expect(await withConfig(`deployments: { source: config, list: [${list}] }`)).toEqual(
        [names.keda, names.aibrix].map((name) => expect.stringMatching(`^profile_without_deployment .*${name}`)),
      );
      expect(
        await withConfig(`deployments: { source: config, list: [{ name: other, model: ${model}, gpuType: L4 }] }`),
      ).toContainEqual(expect.stringMatching(/^deployment_without_profile deployments\.list default\/other/));
    });

    it('finds a profile that cannot be used', async () => {
      world.redis.command('SET', `aibrix:profile_${model}_${names.hpa}`, '{"tputs": [[NaN]]}');
      expect(await found()).toEqual([expect.stringMatching(`^bad_profile Deployment prod/${names.hpa}: .*NaN`)]);
    });
  });

  describe('what scales', () => {
    it('finds a Deployment that nothing scales, in shadow mode too, which it says', async () => {
      world.cluster.server.remove('prod', names.hpa, 'horizontalpodautoscalers');
      expect(await found()).toEqual([expect.stringMatching(`^nothing_scales Deployment prod/${names.hpa}`)]);
      expect(await withConfig('publish: { mode: shadow }')).toEqual([
        expect.stringMatching(`^nothing_scales Deployment prod/${names.hpa}`),
        expect.stringMatching(/^shadow_mode publish\.mode, by .*gpumix\.yaml: shadow$/),
      ]);
    });

    it('takes the mode of the variable that the service has, before that of the file', async () => {
      const shadow = 'publish: { mode: shadow }';
      expect(await withConfig(shadow, { environment: { GPUMIX_PUBLISH_MODE: 'live' } })).toEqual([]);
      expect(await withConfig('', { environment: { GPUMIX_PUBLISH_MODE: 'shadow' } })).toEqual([
        'shadow_mode publish.mode, by GPUMIX_PUBLISH_MODE: shadow',
      ]);
    });

    it('finds a paused Deployment', async () => {
      world.put(served(names.hpa, 'H100', { annotations: { 'gpumix.dev/paused': 'true' } }));
      expect(await found()).toEqual([`deployment_paused Deployment prod/${names.hpa}: gpumix.dev/paused: "true"`]);
    });

    it('finds what else scales a Deployment that gpumix is to scale itself', async () => {
      world.cluster.server.remove('prod', names.hpa, 'horizontalpodautoscalers');
      expect(await withConfig('actuate: scale')).toEqual([
        expect.stringMatching(`^other_scaler ScaledObject prod/${names.keda}.*targets Deployment prod/${names.keda}`),
        expect.stringMatching(`^other_scaler PodAutoscaler prod/.*targets Deployment prod/${names.aibrix}`),
      ]);
      expect(await withConfig('actuate: dry-run')).toEqual([
        expect.stringMatching(`^nothing_scales Deployment prod/${names.hpa}`),
        'dry_run actuate: dry-run',
      ]);
    });

    describe('with actuate: scale and listed deployments', () => {
      const listed = (...entries: readonly string[]) =>
        `actuate: scale\ndeployments: { source: config, list: [${entries.join(', ')}] }`;
      const entry = (name: string, rest = '') =>
        `{ namespace: prod, name: ${name}, model: ${model}, gpuType: L4${rest} }`;
      const others = /^(profile_without_deployment|deployment_without_profile) /;
      const withList = async (...entries: readonly string[]) =>
        (await withConfig(listed(...entries))).filter((text) => !others.test(text));

      it('finds what else scales them', async () => {
        expect(await withList(entry(names.keda))).toEqual([
          `other_scaler ScaledObject prod/${names.keda}: it targets what deployments.list has as prod/${names.keda}`,
        ]);
      });

      it('looks at the scale of each, and not at Deployments that are not listed', async () => {
        world.cluster.server.remove('prod', names.hpa, 'horizontalpodautoscalers');
        world.cluster.server.requests.length = 0;
        expect(await withList(entry(names.hpa))).toEqual([]);
        const paths = world.cluster.server.requests.map(({ path }) => path);
        expect(paths).toContain(`/apis/apps/v1/namespaces/prod/deployments/${names.hpa}/scale`);
        expect(paths.filter((path) => /deployments$/.test(path))).toEqual([]);
      });

      it('finds objects that are not there', async () => {
        const target = ', target: { kind: StormService }';
        const [gone, storm] = await withList(entry('llama-gone'), entry('llama-storm', target));
        expect(gone).toMatch(/^scale_target_missing deployments\.list prod\/llama-gone \(deployments\.apps prod\//);
        expect(storm).toMatch(/^scale_target_missing .*stormservices\.orchestration\.aibrix\.ai prod\/llama-storm/);
      });

      it('finds objects that may not be read, and says whose rights these are', async () => {
        world.cluster.server.remove('prod', names.hpa, 'horizontalpodautoscalers');
        world.cluster.server.fault = ({ path }) =>
          path.endsWith('/scale') ? { kind: 'answer', status: 403 } : undefined;
        expect(await withList(entry(names.hpa))).toEqual([
          expect.stringMatching(`^scale_forbidden deployments.list prod/${names.hpa} .*403`),
        ]);
        expect(findingKinds.scale_forbidden.mend).toContain('may differ from those of the service');
      });

      it('finds that a kind of autoscalers cannot be read, since gpumix then scales nothing', async () => {
        world.cluster.server.remove('prod', names.hpa, 'horizontalpodautoscalers');
        world.cluster.server.fault = ({ resource }) =>
          resource === 'scaledobjects' ? { kind: 'answer', status: 403 } : undefined;
        expect(await withList(entry(names.hpa))).toEqual([
          expect.stringMatching(/^scalers_unknown ScaledObjects: 403/),
        ]);
      });

      it('finds a cluster that is not there once', async () => {
        const [only, ...rest] = (
          await withConfig(listed(entry(names.hpa)), {}, { kubeconfig: '/nowhere/kubeconfig' })
        ).filter((text) => !others.test(text));
        expect([only, rest]).toEqual([expect.stringMatching(/^kubernetes_unreachable Kubernetes: .*nowhere/), []]);
      });
    });

    it('finds it by what it made, where it cannot be read itself', async () => {
      for (const kind of ['horizontalpodautoscalers', 'podautoscalers', 'scaledobjects']) {
        for (const { metadata } of world.cluster.server.objects(kind)) {
          world.cluster.server.remove('prod', metadata.name, kind);
        }
      }
      const owner = {
        apiVersion: 'keda.sh/v1alpha1',
        kind: 'ScaledObject',
        name: 'of-keda',
        uid: 'u',
        controller: true,
      };
      world.put(hpa({}, {}, { ownerReferences: [owner] }));
      expect(await withConfig('actuate: scale')).toEqual([
        `other_scaler ScaledObject prod/of-keda: it targets Deployment prod/${names.hpa}`,
      ]);
    });

    it('does not say so where it may not read all that could', async () => {
      world.cluster.server.remove('prod', names.hpa, 'horizontalpodautoscalers');
      world.cluster.server.fault = ({ resource }) =>
        resource === 'horizontalpodautoscalers' ? { kind: 'answer', status: 403 } : undefined;
      expect(await found()).toEqual([]);
    });

    it('finds an autoscaler that reads nothing of ours', async () => {
      const cpu = {
        type: 'Resource',
        resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 80 } },
      };
      world.put(hpa({ metrics: [cpu] }));
      expect(await found()).toEqual([`foreign_metric HorizontalPodAutoscaler prod/${names.hpa}: nothing but Resource`]);
    });

    it('finds a metric beside ours, which can overrule it', async () => {
      const [trigger] = (scaledObject().spec as { readonly triggers: readonly unknown[] }).triggers;
      world.put(scaledObject({ triggers: [trigger, { type: 'cpu', metadata: { value: '80' } }] }));
      expect(await found()).toEqual([
        `foreign_metric ScaledObject prod/${names.keda} spec.triggers[1]: cpu beside the number of gpumix`,
      ]);
    });

    it.each([
      ['PodAutoscaler', () => podAutoscaler({}, { path: '/metrics/default/llama-l4' })],
      ['ScaledObject', () => scaledObject({}, {}, { url: 'http://gpumix:8080/api/v1/replicas/prod/llama-l4' })],
      ['HorizontalPodAutoscaler', () => hpa({}, desired({ deployment: 'llama-l4' }))],
    ])('finds a %s that reads the number of another Deployment', async (kind, object) => {
      world.put(object());
      expect(await found()).toEqual([expect.stringMatching(`^other_deployment ${kind} prod/`)]);
    });

    it.each([
      ['no labels', undefined, 'no matchLabels'],
      ['a misspelt label', { deploymnet: names.hpa }, 'deploymnet, which no series has'],
      ['labels of many deployments', { model: 'llama' }, 'matchLabels of model, and no deployment'],
    ])('finds a selector with %s', async (_, matchLabels, text) => {
      world.put(hpa({}, desired(matchLabels)));
      const [only, ...rest] = await found();
      expect([only, rest]).toEqual([expect.stringMatching(/^metric_selector /), []]);
      expect(only).toContain(text);
    });

    it('finds targets of type Value, which run away', async () => {
      world.put(hpa({}, { target: { type: 'Value', value: '1' } }));
      world.put(scaledObject({}, { metricType: 'Value' }));
      expect(await found()).toEqual([
        expect.stringMatching(`^value_target ScaledObject prod/${names.keda}`),
        expect.stringMatching(`^value_target HorizontalPodAutoscaler prod/${names.hpa}`),
      ]);
    });

    it.each([
      ['PodAutoscaler', () => podAutoscaler({}, { targetValue: '1' }), 'target 1'],
      ['ScaledObject', () => scaledObject({}, {}, { targetValue: '100' }), 'target 100'],
      ['HorizontalPodAutoscaler', () => hpa({}, { target: { type: 'AverageValue', averageValue: '100m' } }), '100m'],
    ])('finds a target of a %s in other units', async (kind, object, text) => {
      world.put(object());
      const [only, ...rest] = await found();
      expect([only, rest]).toEqual([expect.stringMatching(`^target_units ${kind} prod/`), []]);
      expect(only).toContain(text);
    });

    it('takes 1000m for 1, and the unit that is configured', async () => {
      world.put(hpa({}, { target: { type: 'AverageValue', averageValue: '1000m' } }));
      world.put(podAutoscaler({}, { targetValue: '10' }));
      expect(await withConfig('publish: { aibrixUnit: 10 }')).toEqual([]);
    });

    it('finds the dead band of an HPA and of a ScaledObject that may reach ten replicas', async () => {
      world.put(hpa({ behavior: { scaleUp: { tolerance: '0' } } }));
      world.put(scaledObject({ advanced: {} }));
      expect(await found()).toEqual([
        expect.stringMatching(`^dead_band ScaledObject prod/${names.keda} .*not set`),
        expect.stringMatching(`^dead_band HorizontalPodAutoscaler prod/${names.hpa} .*0 up, not set`),
      ]);
      world.put(hpa({ behavior: {}, maxReplicas: 9 }));
      world.put(scaledObject({ advanced: {}, maxReplicaCount: 9 }));
      expect(await found()).toEqual([]);
    });

    it('finds a tolerance that the cluster dropped from what KEDA made', async () => {
      const ownerReferences = [{ kind: 'ScaledObject', name: names.keda, controller: true }];
      const made = (behavior: unknown) => {
        const object = hpa({
          scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: names.keda },
          behavior,
        });
        world.put({ ...object, metadata: { namespace: 'prod', name: `keda-hpa-${names.keda}`, ownerReferences } });
      };
      made({ scaleUp: { stabilizationWindowSeconds: 0 } });
      expect(await found()).toEqual([
        expect.stringMatching(/^tolerance_dropped HorizontalPodAutoscaler prod\/keda-hpa/),
      ]);
      made({ scaleUp: { tolerance: '0' }, scaleDown: { tolerance: '0' } });
      expect(await found()).toEqual([]);
    });

    it.each([1, 3, undefined])('finds a PodAutoscaler with minReplicas %s', async (minReplicas) => {
      world.put(podAutoscaler({ minReplicas }));
      expect(await found()).toEqual([
        `aibrix_min_replicas PodAutoscaler prod/${names.aibrix} spec.minReplicas: ${minReplicas ?? 1}`,
      ]);
    });

    it.each(['APA', 'HPA'])('finds a PodAutoscaler of strategy %s', async (scalingStrategy) => {
      world.put(podAutoscaler({ scalingStrategy }));
      expect(await found()).toEqual([expect.stringMatching(`^aibrix_strategy .*: ${scalingStrategy}`)]);
    });

    it('finds a tolerance of AIBrix that is as wide as half a replica', async () => {
      world.put(podAutoscaler({}, {}, { 'autoscaling.aibrix.ai/scale-up-tolerance': '0.5' }));
      expect(await found()).toEqual([expect.stringMatching(/^aibrix_tolerance .*: 0.5/)]);
    });

    it.each([
      ['v0.1.1', 'endpoint', true],
      ['v0.2.0', 'endpoint', false],
      ['v0.4.1', 'endpoint', false],
      ['v0.5.0', 'endpoint', true],
      ['v0.7.0', 'endpoint', true],
      ['v0.8.0', 'endpoint', false],
      ['nightly', 'endpoint', false],
      ['v0.4.1', 'external', true],
      ['v0.7.0', 'external', true],
      ['v0.8.0-rc.1', 'external', false],
    ])('knows whether AIBrix %s reads us over an %s', async (tag, way, isFinding) => {
      world.put(aibrixPart('controller-manager', tag));
      if (way === 'external') {
        const metric = { endpoint: '', targetMetric: `gpumix-aibrix-${names.aibrix}`, targetValue: '1' };
        world.put(podAutoscaler({}, { metricSourceType: 'external', ...metric }));
      }
      const expected = [expect.stringMatching(`^aibrix_version PodAutoscaler prod/.*aibrix/controller-manager:${tag}`)];
      expect(await found()).toEqual(isFinding ? expected : []);
    });

    it('finds that nobody, or somebody else, owns the external metrics API', async () => {
      world.cluster.server.remove(null, 'v1beta1.external.metrics.k8s.io', 'apiservices');
      expect(await found()).toEqual([expect.stringMatching(/^external_metrics_owner .*: no APIService/)]);
      world.put(apiService('gpumix-metrics', 'False'));
      expect(await found()).toEqual([
        expect.stringMatching(/^external_metrics_owner .*gpumix-metrics is not available/),
      ]);
      world.put(apiService('keda-operator-metrics-apiserver'));
      world.cluster.server.fault = ({ path }) =>
        path === '/apis/external.metrics.k8s.io/v1beta1'
          ? { kind: 'answer', status: 200, body: '{"resources":[{"name":"externalmetrics"}]}' }
          : undefined;
      expect(await found()).toEqual([expect.stringMatching(/^external_metrics_owner .*gpu\/keda-operator/)]);
    });

    it('finds fields of triggers of KEDA that do not do what they should', async () => {
      world.put(scaledObject({}, {}, { valueLocation: 'replica', activationTargetValue: '1' }));
      expect(await found()).toEqual([
        expect.stringMatching(/^value_location .*: replica$/),
        expect.stringMatching(/^activation .*: 1$/),
      ]);
      const query = `gpumix_desired_replicas{exported_namespace="prod",exported_deployment="${names.keda}"}`;
      const metadata = { serverAddress: 'http://prometheus:9090', query, threshold: '1' };
      world.put(scaledObject({}, { type: 'prometheus', metadata }));
      expect(await found()).toEqual([expect.stringMatching(/^null_values /)]);
      world.put(scaledObject({}, { type: 'prometheus', metadata: { ...metadata, ignoreNullValues: 'false' } }));
      expect(await found()).toEqual([]);
    });

    it('finds a paused ScaledObject', async () => {
      const paused = scaledObject();
      const annotations = { 'autoscaling.keda.sh/paused': 'true' };
      world.put({ ...paused, metadata: { ...paused.metadata, annotations } });
      expect(await found()).toEqual([expect.stringMatching(/^consumer_paused .*paused: "true"/)]);
    });

    it('knows whose number the external scaler tells a ScaledObject', async () => {
      const trigger = (metadata: object) => ({
        type: 'external',
        metricType: 'AverageValue',
        metadata: { scalerAddress: 'gpumix.gpu.svc:9090', ...metadata },
      });
      world.put(scaledObject({}, trigger({})));
      expect(await found()).toEqual([]);
      world.put(scaledObject({}, trigger({ deployment: names.hpa })));
      expect(await found()).toEqual([
        expect.stringMatching(`^other_deployment ScaledObject .*the number of prod/${names.hpa} `),
      ]);
      world.cluster.server.remove('prod', names.keda, 'scaledobjects');
      const { spec, ...rest } = scaledObject({}, trigger({}));
      world.put({ ...rest, spec, metadata: { namespace: 'prod', name: 'another-name' } });
      expect(await found()).toEqual([
        expect.stringMatching('^other_deployment ScaledObject prod/another-name .*the number of prod/another-name '),
      ]);
    });

    it('finds two autoscalers on one Deployment, which is broken whatever their limits are', async () => {
      world.put(hpa({ minReplicas: 3 }, {}, { name: 'another' }));
      const { report } = await world.examine();
      expect(report.findings.map(({ code, severity, mend }) => [code, severity, mend])).toEqual([
        ['several_consumers', 'broken', 'Remove all but one.'],
        ['consumer_limits', 'risk', expect.any(String)],
      ]);
      const [first] = await found();
      expect(first).toBe(
        `several_consumers Deployment prod/${names.hpa}: 2 objects scale it: HorizontalPodAutoscaler prod/another, HorizontalPodAutoscaler prod/${names.hpa}`,
      );
    });

    it.each([
      [
        'an HPA that gets no metric',
        () => withConditions(hpa(), { type: 'ScalingActive', status: 'False', reason: 'FailedGetExternalMetric' }),
        `HorizontalPodAutoscaler prod/${names.hpa} status.conditions: ScalingActive=False (FailedGetExternalMetric)`,
      ],
      [
        'an HPA that cannot scale its target',
        () => withConditions(hpa(), { type: 'AbleToScale', status: 'False', reason: 'FailedGetScale', message: 'no' }),
        'AbleToScale=False (FailedGetScale) no',
      ],
      [
        'a ScaledObject whose trigger fails',
        () =>
          withConditions(
            scaledObject(),
            { type: 'Ready', status: 'False', reason: 'TriggerError', message: 'dial tcp: lookup gpumx.gpu.svc' },
            { type: 'Fallback', status: 'True', reason: 'FallbackExists' },
          ),
        'Ready=False (TriggerError) dial tcp: lookup gpumx.gpu.svc; Fallback=True (FallbackExists)',
      ],
      [
        'a PodAutoscaler that is refused',
        () =>
          withConditions(
            podAutoscaler(),
            { type: 'MultiPodAutoscalerConflict', status: 'False', reason: 'MultiPodAutoscalerConflict' },
            { type: 'AbleToScale', status: 'False', reason: 'InvalidSpec' },
          ),
        'MultiPodAutoscalerConflict=False (MultiPodAutoscalerConflict); AbleToScale=False (InvalidSpec)',
      ],
    ])('finds %s by what its controller says', async (_, object, text) => {
      world.put(object());
      const [only, ...rest] = await found();
      expect([only, rest]).toEqual([expect.stringMatching(/^consumer_fails /), []]);
      expect(only).toContain(text);
    });

    it('finds it on what KEDA made, which is what asks', async () => {
      const owner = { kind: 'ScaledObject', name: names.keda, controller: true };
      const made = hpa(
        { scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: names.keda } },
        {},
        {
          name: `keda-hpa-${names.keda}`,
          ownerReferences: [owner],
        },
      );
      world.put(withConditions(made, { type: 'ScalingActive', status: 'False', reason: 'FailedGetExternalMetric' }));
      expect(await found()).toEqual([expect.stringMatching(/^consumer_fails HorizontalPodAutoscaler prod\/keda-hpa-/)]);
    });

    it('cuts what a controller says, and takes out what a terminal would obey', async () => {
      const message = `\u001b[31mred\n${'x'.repeat(5000)}`;
      world.put(withConditions(hpa(), { type: 'ScalingActive', status: 'False', reason: 'R', message }));
      const [only] = await found();
      expect(only).toMatch(/ScalingActive=False \(R\) \[31mred x+…$/);
      expect(only!.length).toBeLessThan(500);
    });

    it('takes an autoscaler at rest for a healthy one', async () => {
      const stable = { type: 'ScalingActive', status: 'False', reason: 'Stable', message: 'desired=1, actual=1' };
      world.put(
        withConditions(podAutoscaler(), stable, { type: 'Ready', status: 'False', reason: 'ReconcilingScaleDiff' }),
      );
      const resting = 'scaling is disabled since the replica count of the target is zero';
      world.put(
        withConditions(hpa(), { type: 'ScalingActive', status: 'False', reason: 'ScalingDisabled', message: resting }),
      );
      world.put(
        withConditions(
          scaledObject(),
          { type: 'Active', status: 'False', reason: 'ScalerNotActive' },
          { type: 'Ready', status: 'True' },
          { type: 'Fallback', status: 'False' },
        ),
      );
      expect(await found()).toEqual([]);
    });

    it('finds limits that disagree', async () => {
      world.put(hpa({ minReplicas: 3 }));
      expect(await found()).toEqual([expect.stringMatching(/^consumer_limits .*keeps at least 3/)]);
    });
  });

  describe('the command', () => {
    const flags = { json: false, all: false, timeout: 5 };
    const around = { environment: {}, write: () => {}, color: false, width: 80 };

    it('refuses a replay, which has no live set-up', async () => {
      const quickstart = { ...flags, config: 'samples/quickstart/gpumix.yaml' };
      await expect(runDoctor(quickstart, around)).rejects.toThrow(
        'demand.source: found replay, expected a live set-up',
      );
    });

    it('looks at the rest where the kubeconfig does not have the context, or is not there', async () => {
      const wrong = { ...flags, redis: world.redis.url, kubeconfig: world.cluster.kubeconfig, context: 'tset' };
      const written: string[] = [];
      const write = (piece: string) => void written.push(piece);
      const code = await runDoctor({ ...wrong, json: true }, { ...around, write });
      const text = written.join('');
      expect([code, text]).toEqual([1, expect.stringContaining('did you mean')]);
      expect(text).toMatch(/kubernetes_unreachable[\s\S]*context: found \\"tset\\"/);
    });

    it('says the verdict first, then what was looked at, in which mode', async () => {
      world.put(hpa({}, { target: { type: 'Value', value: '1' } }));
      world.put(served(names.keda, 'A100-80GB', { annotations: { 'gpumix.dev/paused': 'true' } }));
      const { text } = await world.examine();
      const [verdict, setup] = text.split('\n\n')[0]!.split(/\n(.*)/s);
      expect(verdict).toBe('1 broken, 1 risk; 1 not looked at');
      const [redis, kubernetes] = [`redis://127.0.0.1:${world.redis.port}/0`, 'http'];
      expect(setup!.replaceAll('\n', ' ')).toMatch(
        new RegExp(`^no --config: looking at ${redis} and ${kubernetes}.*; mode live, actuate none$`),
      );
    });

    it('groups what was not looked at by its reason, and names who did not answer', async () => {
      const { text } = await world.examine({ kubeconfig: '/nowhere/kubeconfig' });
      expect(text.replace(/\s+/g, ' ')).toContain(
        'clock of the API server, Deployments, HorizontalPodAutoscalers, ScaledObjects, PodAutoscalers, external metrics API: ',
      );
      expect(text).toMatch(/external metrics API: ENOENT/);
      world.redis.pause();
      try {
        const { report } = await world.examine({ timeout: 0.3 });
        expect(report.findings[0]!.place).toContain(`127.0.0.1:${world.redis.port}`);
        expect(JSON.stringify(report)).toMatch(
          /no answer within 0\.3 s from redis:\/\/127\.0\.0\.1:\d+|timed out|Timeout/i,
        );
      } finally {
        world.redis.resume();
      }
      world.cluster.server.fault = () => ({ kind: 'hang' }) as never;
      const { report } = await world.examine({ timeout: 0.3 });
      expect(report.findings[0]!.found).toContain('from http');
    });

    it('shows the first places of many, or all, within the width of the terminal', async () => {
      for (let i = 0; i < 12; i++) world.redis.command('SET', `aibrix:profile_other_${'x'.repeat(150)}-${i}`, '{}');
      const { text } = await world.examine();
      expect(text).toContain('and 7 more (--all)');
      expect(text.split('\n').filter((line) => line.length > 100)).toEqual([]);
      const { text: everything } = await world.examine({ all: true });
      expect(everything.match(/ at {8}Redis key/g)).toHaveLength(12);
    });
  });

  it('has each of its findings provoked by a test above', () => {
    expect([...provoked].sort()).toEqual([...findingCodes].sort());
  });
});

function podSays(gateway: string, pod: string, running: number): void {
  const key = `aibrix:pod:${gateway}:prod:${pod}`;
  world.redis.command('HSET', key, 'requests_running', String(running), 'seq', '17', 'gateway_instance_id', gateway);
}

/** The record may be of the interval before, where one ended since. */
function noTraces(): void {
  for (const end of [lastTick(), lastTick() - 10]) {
    world.redis.command('DEL', `aibrix:${model}_request_trace_${end}`);
  }
}

function withConditions<Manifest>(object: Manifest, ...conditions: readonly object[]): Manifest {
  return { ...object, status: { conditions } };
}

function desired(matchLabels: Readonly<Record<string, string>> | undefined) {
  return { metric: { name: 'gpumix_desired_replicas', selector: { matchLabels } } };
}

async function withConfig(
  yaml: string,
  around: Parameters<DoctorWorld['examine']>[1] = {},
  flags: Parameters<DoctorWorld['examine']>[0] = {},
): Promise<readonly string[]> {
  return foundIn(await withConfigWhole(yaml, around, flags));
}

async function withConfigWhole(
  yaml: string,
  around: Parameters<DoctorWorld['examine']>[1] = {},
  flags: Parameters<DoctorWorld['examine']>[0] = {},
): Promise<Examination> {
  const folder = mkdtempSync(join(tmpdir(), 'gpumix-doctor-'));
  const config = join(folder, 'gpumix.yaml');
  try {
    writeFileSync(config, `redis: { url: "${world.redis.url}" }\n${yaml}\n`);
    return await world.examine({ ...flags, config }, around);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

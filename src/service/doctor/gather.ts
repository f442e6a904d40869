import type { GpuCatalogue } from '../../core/gpu-types.js';
import type {
  AibrixKeys,
  ClusterInspection,
  Look,
  PodActivity,
  RedisInspection,
  Workloads,
} from '../../core/inspection.js';
import type {
  Clock,
  EngineMetrics,
  ObservedDeployment,
  ProfileReading,
  ProfileSource,
  Reading,
  SharedStore,
} from '../../core/ports.js';
import { type ScaleAnswer, type ScaleClient, type ScaleTarget, targetText } from '../../core/scale.js';
import {
  type BusyDeployment,
  type DoctorAddresses,
  type DoctorFacts,
  type DoctorSettings,
  notInstalled,
  type Sight,
} from './facts.js';
import {
  lookAtPrometheus,
  lookAtScraped,
  type PrometheusLook,
  type PrometheusSource,
  type ScrapedEngines,
} from './gather-engines.js';

/** Looks at a live set-up, each part under a time limit of its own: what cannot be seen is told, and ends nothing. */

/** What can be looked at, or why it is not. */
export type DoctorSources = {
  readonly settings: DoctorSettings;
  readonly addresses: DoctorAddresses;
  readonly catalogue: GpuCatalogue;
  readonly clock: Clock;
  readonly sleep: (ms: number) => Promise<void>;
  /** For each part. */
  readonly timeoutMs: number;
  readonly redis: { readonly inspection: RedisInspection; readonly store: SharedStore } | null;
  /** A fault: there should be a cluster. A text: nobody needs one. */
  readonly cluster: ClusterInspection | Error | string;
  /** What gpumix would scale by; null = it does not. */
  readonly scale: {
    readonly client: ScaleClient;
    readonly targetOf: (deployment: ObservedDeployment) => ScaleTarget;
  } | null;
  /** What the configuration lists, where it does. */
  readonly listed: readonly ObservedDeployment[] | null;
  readonly profiles: ProfileSource;
  /** All files that can be profiles; null = they are in Redis. */
  readonly profileFiles: (() => Promise<{ readonly files: readonly string[]; readonly complete: boolean }>) | null;
  /** All that is configured, as one. */
  readonly engines: EngineMetrics | null;
  readonly prometheus: PrometheusSource | null;
  readonly scraped: ScrapedEngines | null;
  /** Status of an answer of the API server; null for any other error. */
  readonly statusOf: (error: unknown) => number | null;
};

/** Time in which a pod that serves shows it. [ms] */
const pauseMs = 1000;
/** After an interval ends, its record comes within half a second; clocks may differ by this. [s] */
const lateSeconds = 2;
/** Objects whose `scale` is read, and how many at once: what is wrong with rights or names shows in the first. */
const mostScales = 500;
const scalesAtOnce = 8;
/** Models whose newest record is read. */
const mostModels = 5000;

export async function gatherFacts(sources: DoctorSources): Promise<DoctorFacts> {
  const { settings, catalogue, clock, redis, cluster } = sources;
  const inRedis = <Value>(work: (look: NonNullable<typeof redis>) => Promise<Look<Value>>) =>
    redis === null ? unneeded<Value>('no Redis is configured') : look(sources, () => work(redis), ofRedis(sources));
  const inCluster = <Value>(
    work: (look: ClusterInspection, signal: AbortSignal) => Promise<Look<Value>>,
    options: { readonly optional: boolean },
  ): Promise<Sight<Value>> => {
    if (typeof cluster === 'string') return unneeded(cluster);
    if (cluster instanceof Error) {
      return Promise.resolve({ kind: 'unseen', because: cluster.message, isFault: !options.optional });
    }
    return look(sources, (signal) => work(cluster, signal), { ...options, where: cluster.server });
  };
  const consumersOf = (kind: keyof DoctorFacts['consumers']) =>
    inCluster((inspection, signal) => inspection.consumers(kind, signal), { optional: true });

  const [redisClocks, keys, apiClock, seen, hpas, scaledObjects, podAutoscalers, externalMetrics] = await Promise.all([
    inRedis(async ({ inspection }) => whole(await inspection.clocks())),
    inRedis(async ({ inspection }) => {
      const found = await inspection.keys();
      return { value: found, missing: found.complete ? null : 'only a part of the keys: there are too many' };
    }),
    inCluster(
      async (inspection, signal) => {
        const reading = await inspection.clock(signal);
        if (reading === null) throw new Error('the answer of the API server has no date');
        return whole(reading);
      },
      { optional: true },
    ),
    sources.listed === null
      ? inCluster((inspection, signal) => inspection.workloads(signal), { optional: false })
      : unneeded<Workloads>('deployments.source is config'),
    consumersOf('HorizontalPodAutoscaler'),
    consumersOf('ScaledObject'),
    consumersOf('PodAutoscaler'),
    inCluster((inspection, signal) => inspection.externalMetrics(signal), { optional: true }),
  ]);
  // Not before: a record that was written during a long look is none of the future.
  const atMs = clock.now();
  const workloads: DoctorFacts['workloads'] =
    sources.listed === null
      ? seen
      : { kind: 'seen', value: { deployments: sources.listed, slips: [], aibrix: [] }, missing: null };
  const deployments = workloads.kind === 'seen' ? workloads.value.deployments : [];
  const [profiles, newestTraces, untraced, scales, prometheus, scraped, profileFiles] = await Promise.all([
    workloads.kind === 'unseen'
      ? unneeded<ReadonlyMap<string, ProfileReading>>('the Deployments are not known')
      : look(sources, () => readProfiles(sources.profiles, deployments), { optional: false, where: 'the profiles' }),
    newestRecords(sources, keys),
    findUntraced(sources, keys, deployments),
    readScales(sources, deployments),
    sources.prometheus === null
      ? unneeded<PrometheusLook>('no prometheus is configured')
      : lookAtServer(sources, sources.prometheus, deployments),
    sources.scraped === null
      ? unneeded<readonly string[]>('engines.scrape is empty')
      : lookAtEngines(sources, sources.scraped),
    findProfileFiles(sources),
  ]);
  return {
    atMs,
    addresses: sources.addresses,
    settings,
    catalogue,
    redisClocks,
    apiClock,
    keys,
    newestTraces,
    untraced,
    workloads,
    consumers: {
      HorizontalPodAutoscaler: hpas,
      ScaledObject: scaledObjects,
      PodAutoscaler: podAutoscalers,
    },
    externalMetrics,
    scales,
    prometheus,
    scraped,
    profileFiles,
    profiles,
  };
}

function whole<Value>(value: Value): Look<Value> {
  return { value, missing: null };
}

function unneeded<Value>(because: string): Promise<Sight<Value>> {
  return Promise.resolve({ kind: 'unseen', because, isFault: false });
}

function ofRedis({ addresses }: DoctorSources): { readonly optional: false; readonly where: string } {
  return { optional: false, where: addresses.redis ?? 'Redis' };
}

/**
 * @param options.optional whether a set-up may do without it, or keep it from being read
 * @param options.where who is asked, for an answer that does not come
 */
async function look<Value>(
  { timeoutMs, statusOf }: DoctorSources,
  work: (signal: AbortSignal) => Promise<Look<Value>>,
  { optional, where }: { readonly optional: boolean; readonly where: string },
): Promise<Sight<Value>> {
  const calledOff = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${timeoutMs / 1000} s from ${where}`)), timeoutMs);
  });
  try {
    return { kind: 'seen', ...(await Promise.race([work(calledOff.signal), late])) };
  } catch (error) {
    const status = statusOf(error);
    if (optional && status === 404) return { kind: 'unseen', because: notInstalled, isFault: false };
    const message = error instanceof Error ? error.message || error.name : String(error);
    const code = error instanceof Error && 'code' in error && error.message === '' ? ` (${String(error.code)})` : '';
    return {
      kind: 'unseen',
      because: `${message}${code}`.replaceAll('\n', ' '),
      isFault: !(optional && status === 403),
    };
  } finally {
    clearTimeout(timer);
    calledOff.abort();
  }
}

async function readProfiles(
  source: ProfileSource,
  deployments: readonly ObservedDeployment[],
): Promise<Look<ReadonlyMap<string, ProfileReading>>> {
  const readings = await source.read(deployments.map(({ id, model, name }) => ({ id, model, deployment: name })));
  return whole(new Map(deployments.map(({ id }, index) => [id, readings[index]!])));
}

function lookAtServer(
  sources: DoctorSources,
  prometheus: PrometheusSource,
  deployments: readonly ObservedDeployment[],
): Promise<DoctorFacts['prometheus']> {
  const { clock, settings } = sources;
  const { intervalSeconds } = settings;
  const where = prometheus.inspection.server;
  const work = () => lookAtPrometheus(prometheus, deployments, { clock, intervalSeconds });
  return look(sources, work, { optional: false, where });
}

function lookAtEngines(sources: DoctorSources, scraped: ScrapedEngines): Promise<DoctorFacts['scraped']> {
  const where = 'the engines of engines.scrape';
  return look(sources, () => lookAtScraped(scraped), { optional: false, where });
}

/** One read of each `scale`, some at once; without any answer it is the server that is not there. */
async function readScales(
  sources: DoctorSources,
  deployments: readonly ObservedDeployment[],
): Promise<DoctorFacts['scales']> {
  const { scale, cluster } = sources;
  if (scale === null) return unneeded('actuate is none: gpumix scales nothing itself');
  if (typeof cluster === 'string') return unneeded(cluster);
  if (cluster instanceof Error) return { kind: 'unseen', because: cluster.message, isFault: true };
  const asked = deployments.slice(0, mostScales).map((deployment) => ({
    id: deployment.id,
    target: scale.targetOf(deployment),
  }));
  const work = async (signal: AbortSignal) => {
    await scale.client.start();
    const answers = new Map<string, { readonly target: string; readonly answer: ScaleAnswer }>();
    let next = 0;
    const readSome = async () => {
      while (next < asked.length && !signal.aborted) {
        const { id, target } = asked[next++]!;
        const answer = await scale.client.read(target);
        if (answer.kind === 'fault' && answer.fault === 'unreachable') throw new Error(answer.message);
        answers.set(id, { target: targetText(target), answer });
      }
    };
    await Promise.all(Array.from({ length: Math.min(scalesAtOnce, asked.length) }, readSome));
    const faults = [...answers.values()].flatMap(({ answer }) =>
      answer.kind === 'fault' && !['not_found', 'forbidden', 'unauthorized'].includes(answer.fault)
        ? [answer.message]
        : [],
    );
    const missing =
      faults[0] ?? (deployments.length > asked.length ? `only the first ${mostScales} of ${deployments.length}` : null);
    return { value: answers, missing };
  };
  return look(sources, work, { optional: false, where: cluster.server });
}

function findProfileFiles(sources: DoctorSources): Promise<DoctorFacts['profileFiles']> {
  const { profileFiles } = sources;
  if (profileFiles === null) return unneeded('the profiles are in Redis');
  const work = async () => {
    const { files, complete } = await profileFiles();
    return { value: files, missing: complete ? null : 'only a part of its files: there are too many' };
  };
  return look(sources, work, { optional: false, where: 'the folder of profiles' });
}

function newestRecords(sources: DoctorSources, keys: Sight<AibrixKeys>): Promise<DoctorFacts['newestTraces']> {
  const { redis, settings } = sources;
  if (!settings.readsTraces) return unneeded('demand does not come of request traces');
  if (redis === null || keys.kind === 'unseen') return unneeded('the keys of Redis are not known');
  const newest = [...keys.value.newestTraces].slice(0, mostModels);
  return look(
    sources,
    async () => {
      const readings = await redis.store.readTraces(newest.map(([model, endSeconds]) => ({ model, endSeconds })));
      const missing = newest.length < keys.value.newestTraces.size ? `only those of ${mostModels} models` : null;
      const records = newest.map(([model, endSeconds], index): [string, { endSeconds: number; reading: Reading }] => [
        model,
        { endSeconds, reading: readings[index]! },
      ]);
      return { value: new Map(records), missing };
    },
    ofRedis(sources),
  );
}

/**
 * Deployments that serve requests now, of models without any record: those that stay without when an interval has passed,
 * since the first record of new traffic is late by up to that.
 */
async function findUntraced(
  sources: DoctorSources,
  keys: Sight<AibrixKeys>,
  deployments: readonly ObservedDeployment[],
): Promise<DoctorFacts['untraced']> {
  const { redis, engines, settings, clock, sleep } = sources;
  if (!settings.readsTraces) return unneeded('demand does not come of request traces');
  if (redis === null || keys.kind === 'unseen') return unneeded('the keys of Redis are not known');
  if (!keys.value.complete) return unneeded('only a part of the keys of Redis was seen');
  if (keys.value.pods.length === 0 && engines === null) {
    return unneeded(
      'nobody says what pods do: no keys aibrix:pod:* (AIBrix before v0.7.0 writes none), and no engines are configured',
    );
  }
  const timeoutMs = sources.timeoutMs + pauseMs;
  const busy = await look({ ...sources, timeoutMs }, () => busyNow(sources, keys.value.pods, deployments), {
    optional: false,
    where: 'Redis and the engines',
  });
  if (busy.kind === 'unseen') return busy;
  const suspects = busy.value.filter(({ model }) => !keys.value.newestTraces.has(model));
  if (suspects.length === 0) return { kind: 'seen', value: [], missing: busy.missing };
  const { intervalSeconds } = settings;
  await sleep((intervalSeconds + lateSeconds) * 1000);
  const models = [...new Set(suspects.map(({ model }) => model))].slice(0, mostModels);
  const last = Math.floor(clock.now() / 1000 / intervalSeconds) * intervalSeconds;
  return look(
    sources,
    async () => {
      const asked = models.flatMap((model) =>
        [0, 1, 2].map((back) => ({ model, endSeconds: last - back * intervalSeconds })),
      );
      const readings = await redis.store.readTraces(asked);
      const traced = new Set(asked.filter((_, index) => readings[index]!.kind !== 'absent').map(({ model }) => model));
      const value = suspects.filter(({ model }) => models.includes(model) && !traced.has(model));
      return { value, missing: busy.missing };
    },
    ofRedis(sources),
  );
}

async function busyNow(
  { redis, engines, sleep }: DoctorSources,
  pods: readonly PodActivity[],
  deployments: readonly ObservedDeployment[],
): Promise<Look<readonly BusyDeployment[]>> {
  let missing: string | null = null;
  const tokens = async () => {
    const { samples, problems } = (await engines?.read(deployments).catch((error: Error) => ({
      samples: [],
      problems: [error.message],
    }))) ?? { samples: [], problems: [] };
    missing = problems.length === 0 ? missing : `some engines: ${problems[0]}`;
    return new Map(
      samples.map(({ deployment, instance, promptTokens, generationTokens }) => [
        `${deployment}\n${instance}`,
        { deployment, tokens: promptTokens + generationTokens },
      ]),
    );
  };
  const before = await tokens();
  await sleep(pauseMs);
  const [later, after] = await Promise.all([redis?.inspection.activity(pods) ?? [], tokens()]);
  const first = new Map(pods.map((each) => [podKey(each), each.completed]));
  const shown = new Map<string, string>();
  for (const pod of later) {
    const ended = (pod.completed ?? 0) - (first.get(podKey(pod)) ?? pod.completed ?? 0);
    if (pod.running === 0 && ended <= 0) continue;
    const deployment = deployments.find((each) => isPodOf(each, pod));
    if (deployment === undefined) continue;
    const counts = pod.running > 0 ? `${pod.running} running` : `${ended} ended`;
    shown.set(deployment.id, `gateway ${pod.gateway} counts ${counts} on ${pod.pod}`);
  }
  for (const [key, { deployment, tokens: now }] of after) {
    const then = before.get(key)?.tokens;
    if (then !== undefined && now > then && !shown.has(deployment)) shown.set(deployment, 'its engines count tokens');
  }
  const value = deployments.flatMap(({ id, model }) => {
    const shownBy = shown.get(id);
    return shownBy === undefined ? [] : [{ id, model, shownBy }];
  });
  return { value, missing };
}

function podKey({ gateway, namespace, pod }: PodActivity): string {
  return `${gateway}\n${namespace}\n${pod}`;
}

/** Pods of a Deployment are named after it, its ReplicaSet and five characters. */
function isPodOf({ namespace, name }: ObservedDeployment, pod: PodActivity): boolean {
  if (pod.namespace !== namespace || !pod.pod.startsWith(`${name}-`)) return false;
  return /^[a-z0-9]+-[a-z0-9]{5}$/.test(pod.pod.slice(name.length + 1));
}

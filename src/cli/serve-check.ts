import { describeRedis, parseRedisUrl } from '../adapters/redis-settings.js';
import { isLoopbackAddress } from '../service/access.js';
import type { ChosenConfig } from '../service/choose-config.js';
import { type Config, configuredPools } from '../service/config.js';

/** Names that are listed before the rest is counted: a line stays a line. */
const mostNamed = 4;

/**
 * What a configuration makes `gpumix serve` do, for `gpumix serve --check`: one line each, from the configuration alone.
 * Nothing is contacted and no file beyond it is read, so that it says the same on a laptop and in the cluster.
 *
 * @param options.clusterHost where it listens inside a cluster, if that is elsewhere; null = it is not
 * @returns lines, without the last line break; no password is in them
 */
export function describeConfiguration(
  { config, description }: Pick<ChosenConfig, 'config' | 'description'>,
  { version, clusterHost }: { readonly version: string; readonly clusterHost: string | null },
): string {
  const facts: readonly (readonly [string, string | null])[] = [
    ['demand', demandText(config)],
    ['deployments', deploymentsText(config)],
    ['profiles', profilesText(config)],
    ['limits', limitsText(config)],
    ['listens', listenersText(config, clusterHost)],
    ['changes', changesText(config.server, clusterHost)],
    ['publish', publishText(config)],
    ['actuate', actuateText(config)],
    ['not read', filesText(config)],
  ];
  const lines = facts.flatMap(([name, text]) => (text === null ? [] : [`  ${name.padEnd(12)} ${text}`]));
  return [`gpumix ${version}: ${description}: no fault found; it would serve`, ...lines].join('\n');
}

function redisText({ redis }: Config): string | null {
  return redis === null ? null : describeRedis(parseRedisUrl(redis.url, 'redis.url'));
}

/** User and password left out. */
function withoutCredentials(url: string): string {
  const shown = new URL(url);
  shown.username = '';
  shown.password = '';
  return shown.href.replace(/\/$/, '');
}

function demandText(config: Config): string {
  const { source, windowSeconds, intervalSeconds, replay } = config.demand;
  const window = `${windowSeconds} s in intervals of ${intervalSeconds} s`;
  switch (source) {
    case 'redis':
      return `request traces of the AIBrix gateway in ${redisText(config) ?? 'the embedded store'}, ${window}`;
    case 'replay':
      return `${replay?.file ?? 'a request log'}, played ${replay?.clock ?? 1} times as fast`;
    case 'prometheus': {
      const url = config.prometheus === null ? 'Prometheus' : withoutCredentials(config.prometheus.url);
      return `what engines count, from ${url}, ${window}`;
    }
  }
}

function deploymentsText({ deployments, models }: Config): string {
  const { source, list, namespaces } = deployments;
  const configured = Object.keys(models).length;
  const withModels = configured === 0 ? '' : `; ${counted(configured, 'model')} configured`;
  if (source === 'config') {
    return `${list.length} listed: ${named(list.map(({ namespace, name }) => `${namespace}/${name}`))}${withModels}`;
  }
  const where = namespaces.length === 0 ? 'every namespace' : `namespaces ${named(namespaces)}`;
  return `Deployments of the cluster with a label model.aibrix.ai/name, in ${where}${withModels}`;
}

function profilesText(config: Config): string {
  const { source, directory } = config.profiles;
  return source === 'files' ? `files in ${directory ?? '.'}` : (redisText(config) ?? 'the embedded store');
}

function limitsText(config: Config): string {
  const { list, fromNodes } = configuredPools(config);
  const { quotas, budgetUsdPerHour } = config;
  const pools = list.map(({ gpuType, gpus }) => `${gpuType} ${gpus === null ? 'unlimited' : counted(gpus, 'GPU')}`);
  const parts = [
    ...(fromNodes === null ? [] : ['GPUs of the nodes of the cluster']),
    ...(pools.length === 0 ? [] : [`pools ${named(pools)}`]),
    ...(quotas.length === 0 ? [] : [counted(quotas.length, 'quota')]),
    ...(budgetUsdPerHour === null ? [] : [`${budgetUsdPerHour} USD an hour`]),
  ];
  return parts.length === 0 ? 'none but those of each deployment' : parts.join('; ');
}

function listenersText({ server, keda, externalMetrics }: Config, clusterHost: string | null): string {
  const http = `HTTP ${address(server.host, server.port)}`;
  const elsewhere = clusterHost === null ? '' : ` (inside a cluster ${address(clusterHost, server.port)})`;
  const others: readonly (readonly [string, { readonly host: string | null; readonly port: number } | null])[] = [
    ["KEDA's external scaler", keda.scaler],
    ['external metrics API', externalMetrics],
  ];
  const more = others.flatMap(([name, face]) =>
    face === null ? [] : [`${name} ${address(face.host ?? clusterHost ?? server.host, face.port)}`],
  );
  return [`${http}${elsewhere}`, ...more].join(', ');
}

function address(host: string, port: number): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port === 0 ? '(a free port)' : port}`;
}

/** Who may fix replicas and the like; as `accessOf`, without asking what a name stands for. */
function changesText(
  { host, tokenFile, tokenReview, allowUnauthenticated }: Config['server'],
  clusterHost: string | null,
): string {
  if (tokenFile !== null) return `by bearers of a token in ${tokenFile}`;
  if (tokenReview !== null) return 'by bearers of a token that the cluster knows';
  if (allowUnauthenticated) return 'by everybody who reaches the port';
  const nobody = 'by nobody until server.tokenFile or server.tokenReview says who may';
  if (host !== 'localhost' && !isLoopbackAddress(host)) return nobody;
  return clusterHost === null
    ? 'by everybody on this machine'
    : `by everybody on this machine; inside a cluster ${nobody}`;
}

function publishText({ publish }: Config): string {
  const { mode, maxStepsDownPerMinute: down, maxStepsUpPerMinute: up } = publish;
  const what = mode === 'live' ? 'live: what is planned' : 'shadow: what runs; what is planned is only shown';
  const steps = [...(down === null ? [] : [`${down} down`]), ...(up === null ? [] : [`${up} up`])].join(' and ');
  return steps === '' ? what : `${what}; a minute at most ${steps}`;
}

function actuateText({ actuate }: Config): string {
  switch (actuate) {
    case 'none':
      return 'none: autoscalers do what is published';
    case 'dry-run':
      return 'dry-run: gpumix says what it would scale';
    case 'scale':
      return 'scale: gpumix scales Deployments itself';
  }
}

/** Files that are read at the start alone: there they may be, where here they are not. */
function filesText({ server, redis, prometheus, keda, externalMetrics }: Config): string | null {
  const files = [
    server.tokenFile,
    redis?.caFile,
    redis?.certFile,
    redis?.keyFile,
    prometheus?.caFile,
    prometheus?.bearerTokenFile,
    keda.scaler?.certFile,
    keda.scaler?.keyFile,
    keda.scaler?.clientCaFile,
    externalMetrics?.certFile,
    externalMetrics?.keyFile,
  ].filter((file) => file != null);
  return files.length === 0 ? null : files.join(', ');
}

function named(names: readonly string[]): string {
  const rest = names.length - mostNamed;
  const shown = names.slice(0, mostNamed).join(', ');
  return rest > 0 ? `${shown} and ${rest} more` : shown;
}

function counted(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}

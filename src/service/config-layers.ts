import { describeRedis, mayHoldRedisPassword, redisSettingsFromEnv } from '../adapters/redis-settings.js';
import { canonicalGpuType, type GpuCatalogue } from '../core/gpu-types.js';
import { InputError, type InputIssue, quoteInput } from '../core/input-error.js';
import { check, formatPath, nearestName } from '../core/parse.js';
import { nearestPlace, parseYaml } from '../core/parse-yaml.js';
import { prometheusIntervalSeconds } from './config/demand-config.js';
import { configKeys, nearestVariable, renamedKey } from './config/reference.js';
import { backtestConfigSchema, type Config, configSchema, configuredPools } from './config.js';

/**
 * YAML file, then environment, then flags, to one checked configuration. Every value remembers where it came from,
 * so that an error can name the line, the variable or the flag to mend.
 */

/** One flag of the command line that sets a key, e.g. `{ flag: '--port', key: 'server.port', value: '8081' }`. */
export type ConfigFlag = { readonly flag: string; readonly key: string; readonly value: string };

export type ConfigLayers = {
  /** The YAML file; null = none: the defaults of a service with Redis and Kubernetes. */
  readonly file: { readonly name: string; readonly text: string } | null;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly flags?: readonly ConfigFlag[];
  /** Says which GPU names mean the same type; without one only equal names do. */
  readonly catalogue?: GpuCatalogue;
  /** A backtest brings its demand: no Redis is needed for it. */
  readonly demandIsGiven?: boolean;
};

export type LoadedConfig = {
  readonly config: Config;
  /** Sentences for the log: variables that look like ours and mean nothing. */
  readonly warnings: readonly string[];
};

/** Largest configuration file [characters]: 3,000 listed deployments take about 0.6 million. */
const largestFile = 16 * 1_048_576;

type Places = Map<string, string>;
type Tree = Record<string, unknown>;

/**
 * @throws InputError and nothing else: source, line or variable, key, what was found, what was expected, and the
 *   nearest known key.
 */
export function loadConfig(layers: ConfigLayers): LoadedConfig {
  const places: Places = new Map();
  const warnings: string[] = [];
  const source = layers.file?.name ?? 'configuration';
  const tree: Tree =
    layers.file === null ? serviceDefaults(layers.environment) : readYaml(layers.file.name, layers.file.text, places);
  refuseDocument(tree, source);
  applyEnvironment(tree, layers.environment, places, warnings);
  for (const { flag, key, value } of layers.flags ?? []) setKey(tree, key, value, `flag ${flag}`, places);
  if (layers.environment.KUBERNETES_SERVICE_HOST && !hasKey(tree, ['server', 'host'])) {
    setKey(tree, 'server.host', '0.0.0.0', 'default inside a cluster', places);
  }
  if (valueAt(tree, ['demand', 'source']) === 'prometheus' && !hasKey(tree, ['demand', 'intervalSeconds'])) {
    const interval = String(prometheusIntervalSeconds);
    setKey(tree, 'demand.intervalSeconds', interval, 'default with demand.source: prometheus', places);
  }
  try {
    const config = check(layers.demandIsGiven === true ? backtestConfigSchema : configSchema, tree, source);
    refuseRepeatedLimits(config, { source, catalogue: layers.catalogue });
    return { config, warnings: [...warnings, ...strangeModels(config, { source, places })] };
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw located(error, { source, places, hasFile: layers.file !== null });
  }
}

/** A document of `gpumix plan` is not a configuration with many unknown keys. */
function refuseDocument(tree: Tree, source: string): void {
  if (tree.kind !== 'PlanningProblem' && tree.kind !== 'Plan') return;
  throw new InputError(source, [
    {
      place: '',
      found: `a ${tree.kind}`,
      expected: 'the configuration of a service (for planning documents, use gpumix plan)',
    },
  ]);
}

/** Two pools of one GPU type, or two quotas of one for a namespace, whatever they call it: one of them is a mistake. */
function refuseRepeatedLimits(
  config: Config,
  { source, catalogue }: { readonly source: string; readonly catalogue: GpuCatalogue | undefined },
): void {
  const typeOf = (name: string) => (catalogue === undefined ? name : canonicalGpuType(catalogue, name));
  const issues: InputIssue[] = [];
  const refuseRepeats = (
    list: 'pools' | 'pools.list' | 'quotas',
    entries: readonly { readonly gpuType: string; readonly namespace?: string }[],
  ) => {
    const first = new Map<string, { readonly name: string; readonly index: number }>();
    entries.forEach(({ gpuType, namespace }, index) => {
      const key = JSON.stringify([namespace, typeOf(gpuType)]);
      const other = first.get(key);
      if (other === undefined) {
        first.set(key, { name: gpuType, index });
        return;
      }
      const spelling = other.name === gpuType ? '' : ` (as ${quoteInput(other.name)})`;
      const where = namespace === undefined ? '' : ` for namespace ${quoteInput(namespace)}`;
      issues.push({
        place: `${list}[${index}].gpuType`,
        found: quoteInput(gpuType),
        expected: `a GPU type that no other entry names${where}: ${list}[${other.index}] has it${spelling}`,
      });
    });
  };
  refuseRepeats('fromNodes' in config.pools ? 'pools.list' : 'pools', configuredPools(config).list);
  refuseRepeats('quotas', config.quotas);
  if (issues.length > 0) throw new InputError(source, issues);
}

/** Without a file: a drop-in for AIBrix's optimizer, which looks for Redis on localhost unless told otherwise. */
function serviceDefaults(environment: ConfigLayers['environment']): Tree {
  const settings = redisSettingsFromEnv({ REDIS_PORT: environment.REDIS_PORT, REDIS_HOST: 'localhost' });
  return { redis: settings === null ? null : { url: describeRedis(settings) } };
}

/** Settings of models that no listed deployment serves: they act on nothing, so the name is probably misspelt. */
function strangeModels(
  { deployments, models }: Config,
  { source, places }: { readonly source: string; readonly places: Places },
): readonly string[] {
  if (deployments.source !== 'config') return [];
  const served = [...new Set(deployments.list.map((deployment) => deployment.model))];
  return Object.keys(models)
    .filter((model) => !served.includes(model))
    .map((model) => {
      const place = formatPath(['models', model]);
      const nearest = nearestName(model, served);
      const line = places.get(place);
      const where = line === undefined ? place : `${line}: ${place}`;
      const hint = nearest === undefined ? '' : `; did you mean ${quoteInput(nearest)}?`;
      return `${source}: ${where}: no deployment of deployments.list is of this model, so it changes nothing${hint}`;
    });
}

function readYaml(name: string, text: string, places: Places): Tree {
  const { value, lines } = parseYaml(text, name, {
    largest: largestFile,
    expected: 'the keys of the configuration, which are at most 5 deep',
  });
  for (const [place, line] of lines) places.set(place, line);
  if (value === null || value === undefined) return {};
  if (typeof value !== 'object' || Array.isArray(value)) {
    throw new InputError(name, [{ place: '', found: quoteInput(value), expected: 'a map of keys' }]);
  }
  return value as Tree;
}

/** `GPUMIX_SERVICE_HOST`, `GPUMIX_PORT_8080_TCP_ADDR`, …: what Kubernetes sets next to a Service of that name. */
const serviceLink = /_SERVICE_(HOST|PORT(_.+)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$/;

/** @param isOurs a variable of ours, such as GPUMIX_PORT: with a number it is meant for us, with a URL it is a link */
function isServiceLink(variable: string, value: string, isOurs: boolean): boolean {
  if (/^(tcp|udp|sctp):\/\//.test(value)) return /_PORT(_\d+_(TCP|UDP|SCTP))?$/.test(variable);
  return serviceLink.test(variable) && !isOurs;
}

function applyEnvironment(
  tree: Tree,
  environment: ConfigLayers['environment'],
  places: Places,
  warnings: string[],
): void {
  const known = new Map(configKeys().flatMap((key) => (key.environment === null ? [] : [[key.environment, key.path]])));
  const given = (variable: string): string | undefined => {
    const value = environment[variable];
    if (value === undefined || value === '') return undefined;
    return isServiceLink(variable, value, known.has(variable)) ? undefined : value;
  };
  applyRedisVariables(tree, environment, places);
  for (const variable of Object.keys(environment).sort()) {
    if (!variable.startsWith('GPUMIX_')) continue;
    const value = given(variable);
    if (value === undefined) continue;
    const key = known.get(variable);
    if (key !== undefined) {
      setKey(tree, key, value, `environment variable ${variable}`, places);
      continue;
    }
    const meant = nearestVariable(variable);
    if (meant !== undefined) {
      throw new InputError(`environment variable ${variable}`, [
        { place: '', found: 'an unknown name', expected: 'a variable of docs/configuration.md', suggestion: meant },
      ]);
    }
    warnings.push(`environment variable ${variable} means nothing to gpumix and was left alone`);
  }
}

/** AIBrix's three variables. They name one server; user, database, cluster, Sentinels and TLS need `redis.url`. */
function applyRedisVariables(tree: Tree, environment: ConfigLayers['environment'], places: Places): void {
  const settings = redisSettingsFromEnv(environment);
  if (settings !== null) {
    setKey(tree, 'redis.url', describeRedis(settings), 'environment variable REDIS_HOST', places);
  }
  const password = environment.REDIS_PASSWORD;
  if (password !== undefined && password !== '' && tree.redis !== undefined && tree.redis !== null) {
    setKey(tree, 'redis.password', password, 'environment variable REDIS_PASSWORD', places);
  }
}

function hasKey(tree: Tree | undefined, path: readonly string[]): boolean {
  let value: unknown = tree ?? null;
  for (const part of path) {
    if (value === null || typeof value !== 'object' || !Object.hasOwn(value, part)) return false;
    value = (value as Tree)[part];
  }
  return true;
}

function valueAt(tree: Tree, path: readonly string[]): unknown {
  let value: unknown = tree;
  for (const part of path) value = hasKey(value as Tree | undefined, [part]) ? (value as Tree)[part] : undefined;
  return value;
}

/** Sets a key from text; text that is not of the key's type stays text, and the check says so. */
function setKey(tree: Tree, key: string, text: string, from: string, places: Places): void {
  const path = key.split('.');
  let at = tree;
  for (const part of path.slice(0, -1)) {
    const next = Object.hasOwn(at, part) ? at[part] : undefined;
    if (next === null || next === undefined) at[part] = {};
    // A section that the file spells as a list or text stays as it is, for the check to name.
    else if (typeof next !== 'object' || Array.isArray(next)) return;
    at = at[part] as Tree;
  }
  const type = configKeys().find((known) => known.path === key)?.type ?? 'text';
  at[path.at(-1)!] = scalar(text, type);
  places.set(key, from);
}

function scalar(text: string, type: string): unknown {
  if (text === 'null' && type.endsWith(' or null')) return null;
  if (/^(whole )?number/.test(type)) {
    const value = Number(text);
    return text.trim() !== '' && Number.isFinite(value) ? value : text;
  }
  if (type.startsWith('boolean')) return text === 'true' ? true : text === 'false' ? false : text;
  return text;
}

type Origin = { readonly source: string; readonly places: Places; readonly hasFile: boolean };

/** The same issues, each with the line, variable or flag that its value came from. */
function located(error: InputError, { source, places, hasFile }: Origin): InputError {
  const issues = error.issues.map((issue): InputIssue & { readonly source: string } => {
    const from = nearestPlace(issue.place, places);
    const found = /^(redis|prometheus)\b|\burls?(\[\d+\])?$/.test(issue.place)
      ? withoutSecret(issue.found)
      : issue.found;
    const renamed = issue.found === 'an unknown key' ? renamedKey(issue.place) : undefined;
    const said: InputIssue =
      renamed !== undefined
        ? { ...issue, found, expected: `${renamed}, which is its name now`, suggestion: renamed }
        : { ...issue, found };
    if (from === undefined) return { ...said, source };
    if (from.startsWith('line ')) return { ...said, place: `${from}: ${issue.place}`, source };
    return { ...said, source: from };
  });
  const sources = new Set(issues.map((issue) => issue.source));
  if (sources.size === 1) {
    return new InputError(
      [...sources][0]!,
      issues.map(({ source: _, ...issue }) => issue),
    );
  }
  return new InputError(
    'configuration',
    issues.map(({ source: from, ...issue }) => ({
      ...issue,
      place: hasFile || from !== source ? `${from}: ${issue.place}` : issue.place,
    })),
  );
}

/** No message repeats a text that may hold a password. */
function withoutSecret(found: string): string {
  const shown = found === 'an unknown key' || found === 'nothing' || found === 'null' || !/["'[{]/.test(found);
  return shown || (/^"\w+:\/\//.test(found) && !mayHoldRedisPassword(found)) ? found : 'a value that is not shown';
}

import { z } from 'zod';
import { nearestName } from '../../core/parse.js';
import { configSchema } from '../config.js';

/** What is said of the keys: their documentation, their variables, and what an unknown one was meant to be. */

/** One documented key. */
export type ConfigKey = {
  /** Dotted; `[]` is each item of a list, `<model>` each entry of a record. */
  readonly path: string;
  readonly kind: 'section' | 'value';
  /** As a person writes it: `number > 0`, `live | shadow`. */
  readonly type: string;
  /** JSON; undefined = required. */
  readonly fallback: unknown;
  readonly description: string;
  /** Variable that sets it; null for lists, records and what is inside them. */
  readonly environment: string | null;
};

type JsonSchema = {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly string[];
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly items?: JsonSchema;
  readonly additionalProperties?: JsonSchema | boolean;
  readonly anyOf?: readonly JsonSchema[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
};

/** Every key of the configuration, in the order of the schema. */
export function configKeys(): readonly ConfigKey[] {
  const keys: ConfigKey[] = [];
  const walk = (schema: JsonSchema, path: readonly string[], settable: boolean): void => {
    for (const [key, raw] of Object.entries(schema.properties ?? {})) {
      const options = raw.anyOf?.filter((option) => option.type !== 'null') ?? [raw];
      const here = [...path, key];
      if (options.length > 1 && options.some(({ type }) => type === 'object')) {
        walkForms({ raw, options, here });
        continue;
      }
      const inner = options[0] ?? raw;
      const entries = typeof inner.additionalProperties === 'object' ? inner.additionalProperties : undefined;
      const isSection = inner.properties !== undefined || entries !== undefined || inner.items !== undefined;
      keys.push({
        path: here.join('.'),
        kind: inner.properties !== undefined && inner.items === undefined ? 'section' : 'value',
        type: typeOf(raw, inner),
        fallback: raw.default,
        description: raw.description ?? inner.description ?? '',
        environment: settable && !isSection ? variableOf(here) : null,
      });
      if (inner.properties !== undefined) walk(inner, here, settable);
      if (entries !== undefined) walk(entries, [...here, '<model>'], false);
      if (inner.items?.properties !== undefined) walk(inner.items, [...path, `${key}[]`], false);
    }
  };
  /** A key that can be written in several forms, such as a list or a map. */
  const walkForms = ({
    raw,
    options,
    here,
  }: {
    readonly raw: JsonSchema;
    readonly options: readonly JsonSchema[];
    readonly here: readonly string[];
  }): void => {
    const type = options.map((option) => typeOf(option, option)).join(' or ');
    const { default: fallback, description = '' } = raw;
    keys.push({ path: here.join('.'), kind: 'value', type, fallback, description, environment: null });
    for (const option of options) {
      if (option.items?.properties !== undefined) walk(option.items, [...here.slice(0, -1), `${here.at(-1)}[]`], false);
      walk(option, here, false);
    }
  };
  walk(z.toJSONSchema(configSchema, { io: 'input', unrepresentable: 'any' }) as JsonSchema, [], true);
  return keys;
}

function typeOf(raw: JsonSchema, inner: JsonSchema): string {
  const nullable = raw.anyOf?.some((option) => option.type === 'null') ? ' or null' : '';
  if (inner.enum !== undefined) return inner.enum.join(' \\| ') + nullable;
  if (inner.items !== undefined) return `list${nullable}`;
  if (inner.properties !== undefined || typeof inner.additionalProperties === 'object') return `map${nullable}`;
  const noun = inner.type === 'integer' ? 'whole number' : inner.type === 'string' ? 'text' : (inner.type ?? 'value');
  const low =
    inner.exclusiveMinimum !== undefined
      ? ` > ${inner.exclusiveMinimum}`
      : inner.minimum !== undefined && inner.minimum > Number.MIN_SAFE_INTEGER
        ? ` >= ${inner.minimum}`
        : '';
  const high = inner.maximum !== undefined && inner.maximum < Number.MAX_SAFE_INTEGER ? ` <= ${inner.maximum}` : '';
  return `${noun}${low}${low !== '' && high !== '' ? ',' : ''}${high}${nullable}`;
}

/** `demand.windowSeconds` is GPUMIX_DEMAND_WINDOW_SECONDS; the two keys of `server` go without their section. */
function variableOf(path: readonly string[]): string {
  const parts = path[0] === 'server' ? path.slice(1) : path;
  return `GPUMIX_${parts.map((part) => part.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()).join('_')}`;
}

/** Keys that had another name in an earlier version, with the one that takes their values now. */
const formerKeys: Readonly<Record<string, string>> = { planning: 'options' };

/** The key that an unknown one became, or undefined. */
export function renamedKey(path: string): string | undefined {
  return Object.hasOwn(formerKeys, path) ? formerKeys[path] : undefined;
}

/** The variable that was probably meant, or undefined. */
export function nearestVariable(variable: string): string | undefined {
  return nearestName(
    variable,
    configKeys().flatMap((key) => key.environment ?? []),
  );
}

/** docs/configuration.md: generated, so that it cannot differ from what is accepted. */
export function configReference(): string {
  const rows = configKeys().map((key) => {
    const fallback = key.kind === 'section' ? '' : key.fallback === undefined ? '*required*' : code(key.fallback);
    return `| \`${key.path}\` | ${key.type} | ${fallback} | ${key.environment === null ? '' : `\`${key.environment}\``} | ${key.description} |`;
  });
  return `# Configuration

<!-- Generated from src/service/config/: UPDATE_DOCS=1 npx vitest run test/service/config-docs -->

\`gpumix serve --config FILE\` reads YAML, then the environment, then flags; a later one wins. An unknown key is an
error that names the file, the line and the nearest known key. Relative paths start at the folder of the file.

Without a file: inside a Kubernetes cluster, or with \`REDIS_HOST\` set, the service reads Redis and Kubernetes with
the defaults below; otherwise it runs the embedded quickstart.

\`gpumix serve --check --config FILE\` says what would be served, or what is wrong, and ends: exit code 0, or 2 with the same errors as
a start. It contacts nothing and reads no other file (those that the configuration names are listed), so a ConfigMap's file can be
checked on a laptop. What a live set-up lacks, \`gpumix doctor\` says.

| key | type | default | environment | meaning |
|---|---|---|---|---|
${rows.join('\n')}

## Environment

A variable that is set to the empty text counts as not set. Besides the variables above:

| variable | meaning |
|---|---|
| \`REDIS_HOST\`, \`REDIS_PORT\` | \`redis.url\` of that host; the port defaults to 6379. \`GPUMIX_REDIS_URL\` wins over them. |
| \`REDIS_PASSWORD\` | \`redis.password\`. \`GPUMIX_REDIS_PASSWORD\` wins over it. |
| \`KUBERNETES_SERVICE_HOST\` | Set by Kubernetes in every container: \`server.host\` is 0.0.0.0 unless configured. |

Kubernetes sets \`GPUMIX_PORT=tcp://…\`, \`REDIS_PORT=tcp://…\` and the like in containers next to a Service of that
name; values of that form are left alone.
`;
}

function code(value: unknown): string {
  return `\`${JSON.stringify(value)}\``;
}

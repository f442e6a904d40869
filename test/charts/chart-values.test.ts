import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { configSchema } from '../../src/service/config.js';
import {
  chartFolder,
  defaultValues,
  isMap,
  mergedValues,
  root,
  templateFiles,
  type Values,
} from '../support/chart-renderer.js';

/** What can be said of the chart without rendering it: these tests run everywhere. */

const schemaFile = join(chartFolder, 'values.schema.json');

type Schema = {
  readonly description?: string;
  readonly additionalProperties?: boolean | Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
};

function readSchema(): Schema {
  return JSON.parse(readFileSync(schemaFile, 'utf8')) as Schema;
}

/**
 * The schema with the keys of gpumix as they are now. Without patterns and formats: Helm reads them with Go's regular
 * expressions, and gpumix checks them itself when it starts.
 */
function withConfigKeys(schema: Schema): Schema {
  const { $schema: _, ...config } = z.toJSONSchema(configSchema, {
    io: 'input',
    unrepresentable: 'any',
    target: 'draft-7',
    override: ({ jsonSchema }) => {
      delete jsonSchema.pattern;
      delete jsonSchema.format;
    },
  });
  const described = { description: 'The configuration of gpumix (docs/configuration.md).', ...config } as Schema;
  return { ...schema, properties: { ...schema.properties, config: described } };
}

describe('values.schema.json', () => {
  it('knows the configuration of gpumix key by key (UPDATE_DOCS=1 rewrites it)', () => {
    const text = `${JSON.stringify(withConfigKeys(readSchema()), null, 2)}\n`;
    if (process.env.UPDATE_DOCS === '1') writeFileSync(schemaFile, text);
    expect(readFileSync(schemaFile, 'utf8')).toBe(text);
  });

  const validate = new Ajv({ strict: true, strictRequired: false, allowUnionTypes: true }).compile(
    withConfigKeys(readSchema()),
  );
  const faultOf = (values: Values): string | null =>
    validate(mergedValues(values)) ? null : `${validate.errors?.[0]?.instancePath} ${validate.errors?.[0]?.message}`;

  it('accepts the values that the chart comes with', () => {
    expect(faultOf({})).toBeNull();
  });

  it.each<[string, Values]>([
    [
      'the place of AIBrix’s optimizer',
      { service: { name: 'aibrix-gpu-optimizer' }, redisPassword: { existingSecret: 'aibrix-redis' } },
    ],
    ['demand from Prometheus, profiles from a ConfigMap', prometheusValues()],
    ['an image by digest', { image: { repository: 'registry.example/gpumix', digest: `sha256:${'0'.repeat(64)}` } }],
    [
      'limits, tolerations and volumes of one’s own',
      {
        resources: { limits: { cpu: 2, memory: '2Gi' } },
        tolerations: [{ operator: 'Exists' }],
        extraVolumes: [{ name: 'ca', configMap: { name: 'ca' } }],
        extraVolumeMounts: [{ name: 'ca', mountPath: '/etc/ca' }],
      },
    ],
    ['being a part of another chart', { global: { anything: true } }],
  ])('accepts %s', (_, values) => {
    expect(faultOf(values)).toBeNull();
  });

  it.each<[string, Values, RegExp]>([
    ['a key that does not exist', { replicaCount: 2 }, /additional properties/],
    ['a misspelt key of a section', { service: { nam: 'x' } }, /\/service .*additional properties/],
    [
      'a misspelt key of gpumix',
      { config: { publish: { mod: 'shadow' } } },
      /\/config\/publish .*additional properties/,
    ],
    ['a mode that gpumix does not have', { config: { publish: { mode: 'dark' } } }, /\/config\/publish\/mode/],
    ['a port as text', { service: { port: '8080' } }, /\/service\/port must be integer/],
    ['a name that no Service may have', { service: { name: 'GPU_Optimizer' } }, /\/service\/name must match/],
    ['two replicas allowed to be missing', { podDisruptionBudget: { maxUnavailable: 2 } }, /maxUnavailable/],
    ['a digest without its algorithm', { image: { digest: 'abc' } }, /\/image\/digest must match/],
    ['a folder that would hide the configuration', { secrets: { config: 'mine' } }, /\/secrets/],
    ['a Secret without a name', { secrets: { tokens: '' } }, /\/secrets\/tokens/],
    ['labels that are no texts', { podLabels: { a: 1 } }, /\/podLabels\/a must be string/],
    ['runbooks at a path', { prometheusRule: { runbookBaseUrl: 'docs' } }, /runbookBaseUrl must match/],
    ['runbooks at a section', { prometheusRule: { runbookBaseUrl: 'https://a/b#c' } }, /runbookBaseUrl must match/],
  ])('refuses %s', (_, values, fault) => {
    expect(faultOf(values)).toMatch(fault);
  });

  it('says of every key what it is, and refuses the others of every section', () => {
    const { config: _, ...own } = readSchema().properties!;
    const sections = allSections({ ...readSchema(), properties: own }, '');
    const keys = sections.flatMap(([path, { properties }]) =>
      Object.entries(properties!).map(([key, { description }]) => ({ key: `${path}${key}`, description })),
    );
    expect(keys.filter(({ description = '' }) => !/^[A-Z`1].*\.$/.test(description)).map(({ key }) => key)).toEqual([]);
    const open = sections.filter(([, { additionalProperties }]) => additionalProperties !== false);
    expect(open.map(([path]) => path)).toEqual([]);
    expect(readSchema().properties!.config).toMatchObject({ additionalProperties: false });
  });

  it('has every key of values.yaml, and values.yaml has every key of it', () => {
    const known = keysOfSchema(readSchema()).filter((key) => key !== 'global');
    expect([...valueKeys(defaultValues())].sort()).toEqual([...known].sort());
  });
});

describe('the templates', () => {
  const used = templateFiles().flatMap(({ text }) =>
    [...text.matchAll(/\.Values\.([A-Za-z.]*[A-Za-z])/g)].map(([, key]) => key!),
  );

  it('ask for no value that does not exist', () => {
    const known = new Set(valueKeys(defaultValues()).flatMap((key) => prefixes(key)));
    expect(used.filter((key) => !known.has(key) && !key.startsWith('config'))).toEqual([]);
  });

  it('use every value, so that none does nothing', () => {
    const usedKeys = new Set(used);
    const unused = valueKeys(defaultValues()).filter((key) => !prefixes(key).some((prefix) => usedKeys.has(prefix)));
    expect(unused).toEqual([]);
  });

  it.each(templateFiles())('$name opens no more blocks than it closes', ({ text }) => {
    const actions = [...text.matchAll(/\{\{-?\s*(?!\/\*)(\w+)?[\s\S]*?\}\}/g)].map(([, word]) => word);
    const opened = actions.filter((word) => ['if', 'range', 'with', 'define'].includes(word ?? '')).length;
    expect(actions.filter((word) => word === 'end')).toHaveLength(opened);
    expect(text.split('{{').length).toBe(text.split('}}').length);
  });

  it('include only what is defined, and define nothing that is not included', () => {
    const all = templateFiles()
      .map(({ text }) => text)
      .join('\n');
    const named = (pattern: RegExp) => [...new Set([...all.matchAll(pattern)].map(([, name]) => name!))].sort();
    expect(named(/include "([^"]+)"/g)).toEqual(named(/define "([^"]+)"/g));
  });
});

describe('values.yaml', () => {
  it('links alerts to the repository that package.json names, and to none while that names none', () => {
    const { repository } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
      readonly repository?: string | { readonly url: string };
    };
    const url = (typeof repository === 'string' ? repository : (repository?.url ?? '')).replace(/^git\+|\.git$/g, '');
    const { runbookBaseUrl } = defaultValues().prometheusRule as { readonly runbookBaseUrl: string };
    if (url === '') expect(runbookBaseUrl).toBe('');
    else expect(runbookBaseUrl).toContain(url);
  });
});

describe('Chart.yaml', () => {
  it('runs the version of this tree', () => {
    const chart = parse(readFileSync(join(chartFolder, 'Chart.yaml'), 'utf8')) as { readonly appVersion: string };
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { readonly version: string };
    expect(chart.appVersion).toBe(version);
  });
});

function prometheusValues(): Values {
  return {
    config: {
      redis: null,
      demand: { source: 'prometheus' },
      prometheus: { url: 'http://prometheus.monitoring:9090' },
      profiles: { source: 'files', directory: '/etc/gpumix/profiles' },
    },
    configMaps: { profiles: 'gpumix-profiles' },
  };
}

/** Dotted paths of the values; maps whose keys are the user's are one value. */
function valueKeys(values: Values): readonly string[] {
  return Object.entries(values).flatMap(([key, value]) => {
    const inner = isMap(value) && !opaque.has(key) ? valueKeys(value) : [];
    return inner.length === 0 ? [key] : inner.map((name) => `${key}.${name}`);
  });
}

/** Handed on as they are. */
const opaque: ReadonlySet<string> = new Set([
  'config',
  'podSecurityContext',
  'securityContext',
  'resources',
  'labels',
  'issuerRef',
]);

/** Every object with keys of its own, with its dotted path. */
function allSections(schema: Schema, path: string): readonly (readonly [string, Schema])[] {
  if (schema.properties === undefined) return [];
  const inner = Object.entries(schema.properties);
  return [[path, schema], ...inner.flatMap(([key, value]) => allSections(value, `${path}${key}.`))];
}

function keysOfSchema(schema: Schema): readonly string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([key, inner]) =>
    inner.properties === undefined || opaque.has(key) ? [key] : keysOfSchema(inner).map((name) => `${key}.${name}`),
  );
}

/** `a.b` is `a` and `a.b`. */
function prefixes(key: string): readonly string[] {
  return key.split('.').map((_, i, parts) => parts.slice(0, i + 1).join('.'));
}

import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse, parseAllDocuments } from 'yaml';

/**
 * Renders the chart: with Helm itself where it is on PATH, else with the template engine and the functions that Helm is made
 * of, from Debian's packages (`chart-renderer/render.go`).
 */

export const root = fileURLToPath(new URL('../../', import.meta.url));
export const chartFolder = join(root, 'charts', 'gpumix');

/** An object of Kubernetes, as far as it is known before it was looked at. */
export type Manifest = {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  // biome-ignore lint/suspicious/noExplicitAny: tests look deep into objects whose schemas are checked apart
  readonly [key: string]: any;
};

export type Rendered = { readonly manifests: readonly Manifest[]; readonly notes: string };

export type Values = { readonly [key: string]: unknown };

const goSource = join(root, 'test', 'support', 'chart-renderer', 'render.go');
/** Where Debian's packages lay the sources of libraries. */
const goPath = '/usr/share/gocode';

/** `helm`, `go`, or why neither can be used. */
const renderer = runs('helm', ['version'])
  ? ({ kind: 'helm' } as const)
  : runs('go', ['version']) &&
      ['github.com/Masterminds/sprig', 'sigs.k8s.io/yaml'].every((path) => existsSync(join(goPath, 'src', path)))
    ? ({ kind: 'go' } as const)
    : null;

/** Why these tests are skipped, as one line; null where they run. */
export const rendererMissing: string | null =
  renderer === null
    ? 'skipped: no helm on PATH, nor Go with sprig (Debian and Ubuntu: apt-get install --no-install-recommends golang-go golang-github-masterminds-sprig-dev golang-k8s-sigs-yaml-dev)'
    : null;

/** `helm template` prints no NOTES. */
export const rendersNotes: boolean = renderer?.kind === 'go';

/**
 * What `helm template RELEASE charts/gpumix` prints, parsed.
 *
 * @param values over values.yaml, merged as Helm does
 * @throws Error with what the renderer said
 */
export function renderChart(
  values: Values = {},
  { release = 'gpumix', namespace = 'serving' }: { readonly release?: string; readonly namespace?: string } = {},
): Rendered {
  const key = JSON.stringify([values, release, namespace]);
  const known = rendered.get(key);
  if (known !== undefined) return known;
  const files =
    renderer?.kind === 'helm' ? withHelm(values, release, namespace) : withGo(mergedValues(values), release, namespace);
  const manifests = Object.entries(files)
    .filter(([name]) => name.endsWith('.yaml'))
    .sort(([a], [b]) => a.localeCompare(b))
    .flatMap(([name, text]) => documentsOf(name, text));
  const result = { manifests, notes: files['templates/NOTES.txt'] ?? '' };
  rendered.set(key, result);
  return result;
}

/** Many tests look at one rendering. */
const rendered = new Map<string, Rendered>();

function documentsOf(name: string, text: string): readonly Manifest[] {
  return parseAllDocuments(text).flatMap((document) => {
    const faults = [...document.errors, ...document.warnings];
    if (faults.length > 0) throw new Error(`${name}: ${faults[0]!.message}\n${text}`);
    const value = document.toJS() as Manifest | null;
    return value === null ? [] : [value];
  });
}

function withHelm(values: Values, release: string, namespace: string): Readonly<Record<string, string>> {
  const text = execFileSync('helm', ['template', release, chartFolder, '--namespace', namespace, '--values', '-'], {
    input: JSON.stringify(values),
    encoding: 'utf8',
  });
  return { 'all.yaml': text };
}

function withGo(values: Values, release: string, namespace: string): Readonly<Record<string, string>> {
  const ran = spawnSync(compiled(), {
    input: JSON.stringify({ chart: chartFolder, release, namespace, values }),
    encoding: 'utf8',
    maxBuffer: 64 * 1_048_576,
  });
  if (ran.status !== 0) throw new Error(ran.stderr);
  return JSON.parse(ran.stdout) as Record<string, string>;
}

/** Compiled once for each state of its source; it takes seconds. */
function compiled(): string {
  const digest = createHash('sha256').update(readFileSync(goSource)).digest('hex').slice(0, 16);
  const folder = join(root, 'node_modules', '.cache', 'gpumix');
  const program = join(folder, `render-chart-${digest}`);
  if (existsSync(program)) return program;
  mkdirSync(folder, { recursive: true });
  // Two test files may compile at the same time: each to a name of its own, then moved.
  const mine = `${program}.${process.pid}`;
  execFileSync('go', ['build', '-o', mine, goSource], {
    env: { ...process.env, GO111MODULE: 'off', GOPATH: goPath, GOFLAGS: '' },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  renameSync(mine, program);
  return program;
}

/** values.yaml under the given values: maps are merged, null takes a key away, anything else replaces. */
export function mergedValues(values: Values): Values {
  return merge(defaultValues(), values);
}

export function defaultValues(): Values {
  return parse(readFileSync(join(chartFolder, 'values.yaml'), 'utf8')) as Values;
}

function merge(under: Values, over: Values): Values {
  const merged: Record<string, unknown> = { ...under };
  for (const [key, value] of Object.entries(over)) {
    if (value === null) delete merged[key];
    else merged[key] = isMap(value) && isMap(merged[key]) ? merge(merged[key], value) : value;
  }
  return merged;
}

export function isMap(value: unknown): value is Values {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function runs(command: string, args: readonly string[]): boolean {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0;
}

/** Names and texts of the chart's templates. */
export function templateFiles(): readonly { readonly name: string; readonly text: string }[] {
  const folder = join(chartFolder, 'templates');
  return readdirSync(folder)
    .sort()
    .map((name) => ({ name, text: readFileSync(join(folder, name), 'utf8') }));
}

import { readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { basename, dirname, extname, join, relative } from 'node:path';
import { describe, expect, it } from 'vitest';

/** The rooms of src/ and which others each may import: the directions of the design. */
const rooms: Readonly<Record<string, readonly string[]>> = {
  core: [],
  demand: ['core'],
  optimizer: ['core'],
  placement: ['core', 'optimizer'],
  profiling: ['core', 'demand'],
  simulation: ['core', 'demand', 'optimizer', 'profiling'],
  // Of demand only what traces are, which adapters read and write; see the test on it below.
  adapters: ['core', 'optimizer', 'demand', 'profiling', 'simulation'],
  service: ['core', 'demand', 'optimizer', 'placement', 'profiling', 'simulation', 'adapters'],
  cli: ['core', 'demand', 'optimizer', 'placement', 'profiling', 'simulation', 'adapters', 'service'],
};
/** No I/O, clock, chance or environment. */
const pureRooms = ['core', 'demand', 'optimizer', 'placement', 'profiling', 'simulation'];
/**
 * Files of demand that adapters may import, and why: what the outside world writes about requests and what that means. A
 * source of traces hands out interval records whoever told of the requests, so making one is its work; the arithmetic of it
 * is pure, hence in demand, where it is tested without a server. What is decided by the records is not for adapters.
 */
const tracesForAdapters: Readonly<Record<string, string>> = {
  'demand/trace-record.ts': 'the record of one interval, which stores hold and sources hand out',
  'demand/engine-arrivals.ts': 'what counters of engines say of arrivals: the numbers of a record out of Prometheus',
  'demand/length-histogram.ts': 'what histograms of engines say of lengths: the buckets of a record out of Prometheus',
};

type Import = { readonly specifier: string; readonly typeOnly: boolean };
type Source = {
  /** Below src/, with `/`. */
  readonly path: string;
  readonly room: string;
  /** Without comments; texts are kept. */
  readonly code: string;
  readonly imports: readonly Import[];
};

/** Blanks comments, and texts too where `texts` is false, so that words in them are not taken for code. */
function strip(source: string, keep: { readonly texts: boolean }): string {
  const token =
    /\/\/[^\n]*|\/\*[\s\S]*?\*\/|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`|(?<=[=(,:!&|?{};\n]\s*)\/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n])+\/[a-z]*/g;
  return source.replace(token, (text) => {
    if (text.startsWith('//') || text.startsWith('/*')) return ' ';
    return keep.texts ? text : "''";
  });
}

function importsOf(code: string): readonly Import[] {
  const found: Import[] = [];
  const statement = /(?:^|[;}\n])\s*(import|export)\s+(type\s+)?(?:[\w*{}\s,$]+?\s+from\s+)?(['"])([^'"]+)\3/g;
  for (const [, , typeOnly, , specifier] of code.matchAll(statement)) {
    found.push({ specifier: specifier!, typeOnly: typeOnly !== undefined });
  }
  for (const [, , specifier] of code.matchAll(/\bimport\s*\(\s*(['"])([^'"]+)\1/g)) {
    found.push({ specifier: specifier!, typeOnly: false });
  }
  return found;
}

function filesBelow(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

const sources: readonly Source[] = filesBelow('src')
  .filter((file) => extname(file) === '.ts')
  .map((file) => {
    const path = relative('src', file).replaceAll('\\', '/');
    const code = strip(readFileSync(file, 'utf8'), { texts: true });
    return { path, room: path.split('/')[0]!, code, imports: importsOf(code) };
  });

/** Where an import of ours leads, below src/; null for packages and Node's own modules. */
function targetOf(source: Source, specifier: string): string | null {
  if (!specifier.startsWith('.')) return null;
  return join(dirname(source.path), specifier).replaceAll('\\', '/').replace(/\.js$/, '.ts');
}

function violations(find: (source: Source) => readonly string[]): readonly string[] {
  return sources.flatMap((source) => find(source).map((what) => `src/${source.path}: ${what}`));
}

describe('the scan of imports', () => {
  it('finds every form of import, and none in comments and texts', () => {
    const code = strip(
      `import fs from 'node:fs';
      import { a,
        b } from "./one.js"; import type { C } from './two.js';
      import './three.js';
      export * from './four.js';
      export { d } from './five.js';
      // import './comment.js';
      /* import './block.js'; */
      const lazy = await import('./six.js');`,
      { texts: true },
    );
    expect(importsOf(code).map(({ specifier }) => specifier)).toEqual([
      'node:fs',
      './one.js',
      './two.js',
      './three.js',
      './four.js',
      './five.js',
      './six.js',
    ]);
    expect(importsOf(code)[2]!.typeOnly).toBe(true);
  });

  it('sees the whole of src', () => {
    expect(sources.length).toBeGreaterThan(10);
    expect(sources.find(({ path }) => path === 'core/profile.ts')!.imports.map(({ specifier }) => specifier)).toEqual([
      'zod',
      './input-error.js',
      './parse.js',
    ]);
  });
});

describe('the rooms of src', () => {
  it('are those of the design', () => {
    // The dashboard is a page, not a room: it imports nothing of ours.
    const found = new Set(sources.map(({ room }) => room));
    expect([...found].filter((room) => !(room in rooms) && room !== 'dashboard')).toEqual([]);
  });

  it('import only in the directions of the design', () => {
    expect(
      violations((source) =>
        source.imports.flatMap(({ specifier }) => {
          const target = targetOf(source, specifier);
          if (target === null) return [];
          const room = target.split('/')[0]!;
          const allowed = room === source.room || (rooms[source.room] ?? []).includes(room);
          return allowed ? [] : [`imports ${specifier}, which ${source.room} may not`];
        }),
      ),
    ).toEqual([]);
  });

  it('leave nothing of demand to adapters but what traces are and mean', () => {
    const used = sources
      .filter(({ room }) => room === 'adapters')
      .flatMap((source) => source.imports.map(({ specifier }) => targetOf(source, specifier)))
      .filter((target) => target?.startsWith('demand/') === true);
    expect([...new Set(used)].sort()).toEqual(Object.keys(tracesForAdapters).sort());
  });

  it('import each other by files that exist', () => {
    const known = new Set(sources.map(({ path }) => path));
    expect(
      violations((source) =>
        source.imports
          .map(({ specifier }) => targetOf(source, specifier))
          .filter((target) => target?.endsWith('.ts') === true && !target.endsWith('.d.ts') && !known.has(target))
          .map((target) => `imports ${target}, which is not there`),
      ),
    ).toEqual([]);
  });
});

describe('the pure rooms', () => {
  const pure = (find: (source: Source) => readonly string[]) =>
    violations((source) => (pureRooms.includes(source.room) ? find(source) : []));

  it('import nothing of Node', () => {
    const builtin = new Set(builtinModules);
    expect(
      pure(({ imports }) =>
        imports
          .filter(({ specifier }) => specifier.startsWith('node:') || builtin.has(specifier))
          .map((one) => one.specifier),
      ),
    ).toEqual([]);
  });

  it('read no clock, no chance and no environment', () => {
    const forbidden =
      /\bDate\.now\b|\bnew Date\(\s*\)|\bMath\.random\b|\bprocess\.|\bperformance\.|\bcrypto\.|\bglobalThis\b|\bset(?:Timeout|Interval|Immediate)\(|\bfetch\(|\bconsole\./g;
    expect(pure(({ code }) => strip(code, { texts: false }).match(forbidden) ?? [])).toEqual([]);
  });
});

describe('every file of src', () => {
  it('has a name in kebab-case', () => {
    expect(violations(({ path }) => (/^[a-z0-9-]+(\.d)?\.ts$/.test(basename(path)) ? [] : ['name']))).toEqual([]);
  });

  it('is in no folder, and is itself none, that collects what has no place', () => {
    const magnet = /(^|\/)(utils?|helpers?|common|misc|shared|manager|interfaces)(\/|\.ts$)/;
    expect(violations(({ path }) => magnet.exec(path)?.slice(2, 3) ?? [])).toEqual([]);
  });

  /** The type `any`, and no variable of that name. */
  const anyType =
    /(?<![?]\s*[^\s:;?][^:;\n]*):\s*any\b(?!\s*[:(.?])|<\s*any\s*[,>]|<[^<>;=()\n]*,\s*any\s*>|\bas\s+any\b|\bany\s*\[\s*\]|(?<!\|)\|\s*any\b|\btype\s+\w+\s*=\s*any\b/;

  it('is searched for the type any, not for the word', () => {
    const types = [
      'x: any;',
      '(x?: any)',
      'Map<string, any>',
      'x<any>(',
      'x as any',
      'any[]',
      'string | any',
      'type A = any;',
    ];
    expect(types.filter((code) => !anyType.test(code))).toEqual([]);
    const names = [
      'let any = false;',
      'any = true',
      'return any ? shares : null;',
      'x ? shares : any;',
      'a || any',
      'f(a, any)',
    ];
    expect(names.filter((code) => anyType.test(code))).toEqual([]);
  });

  it('has no default export, enum, namespace or any', () => {
    const otherForms = /\bexport\s+default\b|\bas\s+default\b|\b(?:const\s+)?enum\s+\w+\s*\{|\bnamespace\s+\w+\s*\{/;
    const forbidden = new RegExp(`${otherForms.source}|${anyType.source}`, 'g');
    expect(
      violations(({ path, code }) =>
        path.endsWith('.d.ts') ? [] : (strip(code, { texts: false }).match(forbidden) ?? []),
      ),
    ).toEqual([]);
  });

  it('imports its neighbours with the extension that Node needs', () => {
    expect(
      violations(({ imports }) =>
        imports
          .filter(({ specifier }) => specifier.startsWith('.') && !/\.(js|json)$/.test(specifier))
          .map(({ specifier }) => specifier),
      ),
    ).toEqual([]);
  });
});

describe('packages', () => {
  it('that src imports are all dependencies, not only of development', () => {
    const manifest = JSON.parse(readFileSync('package.json', 'utf8')) as {
      readonly dependencies: Readonly<Record<string, string>>;
    };
    const nameOf = (specifier: string) => specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
    expect(
      violations(({ imports }) =>
        imports
          .filter(({ specifier }) => !specifier.startsWith('.') && !specifier.startsWith('node:'))
          .map(({ specifier }) => nameOf(specifier))
          .filter((name) => !(name in manifest.dependencies)),
      ),
    ).toEqual([]);
  });
});

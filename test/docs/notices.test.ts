import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

/**
 * The tables of notices in docs/concepts.md and of warnings in docs/placement.md against the codes that the source gives
 * to notices of a plan or of a deployment, and to warnings of a placement. Other things have codes too; they are not notices, and are left out here by name.
 */
const root = fileURLToPath(new URL('../../', import.meta.url));

/** Errors of HTTP answers, issues of schemas, and remarks on trace records, which no plan shows. */
const elsewhere = [/^src\/service\/http\//, /^src\/demand\/trace-record\.ts$/];

function sources(folder: string): readonly string[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length))
    .filter((path) => !elsewhere.some((pattern) => pattern.test(path)));
}

/** Every code that some line of the source names as one of a notice. */
function emittedCodes(belongs: (path: string) => boolean): ReadonlySet<string> {
  const codes = new Set<string>();
  for (const path of sources('src').filter(belongs)) {
    const text = readFileSync(join(root, path), 'utf8')
      // Failed readings are counted by input and code; they are no notices.
      .replaceAll(/errors\.push\([^)]*\)/g, '')
      // A fault of a schema.
      .replaceAll(/code: 'custom'/g, '');
    const named = [
      ...text.matchAll(/\bcode: ('[a-z_]+'(?: \| '[a-z_]+')*)/g),
      ...text.matchAll(/\bnotice\(\s*('[a-z_]+')/g),
      // Models without a plan are warned about by the reason for it.
      ...text.matchAll(/\btype FailureReason = ('[a-z_]+'(?: \| '[a-z_]+')*)/g),
    ];
    for (const [, list] of named) for (const [, code] of list!.matchAll(/'([a-z_]+)'/g)) codes.add(code!);
  }
  return codes;
}

function documentedCodes(file: string, title: string): readonly string[] {
  const page = readFileSync(join(root, file), 'utf8');
  const table = page.split('\n## ').find((section) => section.startsWith(`${title}\n`));
  return [...(table ?? '').matchAll(/^\| `([a-z_]+)` \|/gm)].map(([, code]) => code!);
}

const isPlacement = (path: string): boolean => path.startsWith('src/placement/');

describe.each([
  { file: 'docs/concepts.md', title: 'Notices', belongs: (path: string): boolean => !isPlacement(path) },
  { file: 'docs/placement.md', title: 'Warnings', belongs: isPlacement },
])('the table "$title" in $file', ({ file, title, belongs }) => {
  it('has every code that the source gives to a notice, and no other', () => {
    expect([...documentedCodes(file, title)].sort()).toEqual([...emittedCodes(belongs)].sort());
  });

  it('has each of them once', () => {
    const codes = documentedCodes(file, title);
    expect(codes.filter((code, index) => codes.indexOf(code) !== index)).toEqual([]);
  });
});

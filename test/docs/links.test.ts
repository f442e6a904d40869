import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));

function pagesUnder(folder: string): readonly string[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.md'))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)));
}

const pages = ['README.md', 'CHANGELOG.md', ...['docs', 'samples', 'benchmarks', 'charts'].flatMap(pagesUnder)].sort();

const textOf = (page: string): string => readFileSync(join(root, page), 'utf8');

/** Outside of code, where brackets are no links and a # is no heading. */
const proseOf = (page: string): string => textOf(page).replaceAll(/^```[\s\S]*?^```/gm, '');

/** The anchors of a page's headings, as GitHub names them. */
function anchorsOf(page: string): ReadonlySet<string> {
  const headings = [...proseOf(page).matchAll(/^#{1,6} (.+)$/gm)].map(([, heading]) => heading!);
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
        .trim()
        .replaceAll(/\s/g, '-'),
    ),
  );
}

function brokenLinks(page: string): readonly string[] {
  const targets = [...proseOf(page).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target!);
  return targets.filter((target) => {
    if (/^[a-z]+:/.test(target)) return false;
    const [path = '', anchor] = target.split('#');
    const file = path === '' ? page : join(dirname(page), path);
    if (!existsSync(join(root, file))) return true;
    return anchor !== undefined && file.endsWith('.md') && !anchorsOf(file).has(anchor);
  });
}

describe('the pages', () => {
  it.each(pages)('%s: its links lead somewhere in the repository', (page) => {
    expect(brokenLinks(page)).toEqual([]);
  });

  it('docs/decisions/README.md lists every decision, once, by its title', () => {
    const index = textOf('docs/decisions/README.md');
    const listed = [...index.matchAll(/^- \[(.+)\]\(([^)]+)\)$/gm)].map(([, title, file]) => `${file}: ${title}`);
    const decisions = pages.filter((page) => /^docs\/decisions\/(?!README)/.test(page));
    const expected = decisions.map(
      (page) => `${page.slice('docs/decisions/'.length)}: ${textOf(page).match(/^# (.+)$/m)?.[1]}`,
    );
    expect([...listed].sort()).toEqual([...expected].sort());
  });
});

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { placeCommand, runPlace } from '../../src/cli/place.js';
import { refusalReasons } from '../../src/core/placement.js';
import { type PlacementTableName, placementTables } from '../support/placement-tables.js';

const file = new URL('../../docs/placement.md', import.meta.url);
const read = (): string => readFileSync(file, 'utf8');
const names = Object.keys(placementTables) as PlacementTableName[];

/** `<!-- table NAME -->`, the table, `<!-- end -->`. */
const marked = (name: string): RegExp =>
  new RegExp(`(<!-- table ${name} -->\\n\\n)((?:(?!<!--)[\\s\\S])*?)(\\n\\n<!-- end -->)`);

describe('docs/placement.md', () => {
  it.each(names)('has the table %s as the code has it (UPDATE_DOCS=1 rewrites it)', (name) => {
    const table = placementTables[name]();
    if (process.env.UPDATE_DOCS === '1') {
      writeFileSync(
        file,
        read().replace(marked(name), (_, before: string, __, after: string) => before + table + after),
      );
    }
    expect(marked(name).exec(read())?.[2]).toBe(table);
  });

  it('has no other table between such marks', () => {
    const found = [...read().matchAll(/<!-- table (\S+) -->/g)].map(([, name]) => name);
    expect([...found].sort()).toEqual([...names].sort());
  });

  it('names every reason for a refusal, once, and no other', () => {
    const section = read()
      .split('\n## ')
      .find((text) => text.startsWith('Refusals\n'));
    const reasons = [...(section ?? '').matchAll(/^\| `(\w+)` \|/gm)].map(([, reason]) => reason!);
    expect(reasons.sort()).toEqual([...refusalReasons].sort());
  });

  it('has a first request that gives what is shown of it', async () => {
    const request = [...read().matchAll(/^```yaml\n([\s\S]*?)^```$/gm)]
      .map(([, text]) => text!)
      .find((text) => text.includes('services:'))!;
    const blocks = [...read().matchAll(/^```console\n\$ (.+)\n([\s\S]*?)\n```$/gm)];
    const shown = (command: string): string | undefined => blocks.find(([, own]) => own === command)?.[2];
    const plain = await placed(request, {});
    expect(shown('gpumix place request.yaml')).toBe(plain.trimEnd());
    const refused = await placed(request, { overcommit: 'refuse', pin: ['ai-llm=1'] });
    const command = "gpumix place request.yaml --overcommit refuse --pin ai-llm=1 | sed -n '/^refused/,$p'";
    expect(shown(command)).toBe(refused.slice(refused.indexOf('\nrefused\n') + 1).trimEnd());
  });

  it('names no flag that the command does not have', () => {
    const own = placeCommand().options.map(({ long }) => long);
    const commands = [...read().matchAll(/gpumix place[^`\n]*/g)].map(([command]) => command);
    const used = commands.flatMap((command) => [...command.matchAll(/--[a-z-]+/g)].map(([flag]) => flag));
    expect(used.filter((flag) => !own.includes(flag))).toEqual([]);
    expect(used.length).toBeGreaterThan(5);
  });
});

/** The table of a request, as a terminal of 100 columns has it. */
async function placed(request: string, flags: { readonly overcommit?: string; readonly pin?: readonly string[] }) {
  const folder = mkdtempSync(join(tmpdir(), 'gpumix-placement-docs-'));
  const path = join(folder, 'request.yaml');
  writeFileSync(path, request);
  let text = '';
  await runPlace(
    path,
    { json: false, advise: false, diff: false, timeLimit: 60, maxMib: 64, ...flags },
    {
      stdin: Readable.from([]),
      write: (piece) => {
        text += piece;
      },
      writeError: () => undefined,
      color: false,
      width: 100,
    },
  );
  rmSync(folder, { recursive: true });
  return text.replace(path, 'request.yaml');
}

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { errorsByGpu, errorsOfUnseen } from '../../src/simulation/estimate-calibration.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const page = readFileSync(`${root}docs/profiles.md`, 'utf8');

const blocks = (language: string): readonly string[] =>
  [...page.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, 'gm'))].map(([, text]) => text!);

const gpumix = (args: string) =>
  spawnSync(`node dist/cli/main.js ${args}`, { cwd: root, shell: true, encoding: 'utf8', timeout: 30_000 });

/** A line `$ gpumix …`, and what the page says that it prints. */
const shown = blocks('console').map((block) => {
  const [, args, output] = /^\$ gpumix (.+)\n([\s\S]*)$/.exec(block)!;
  return { args: args!, output: output! };
});

/** Commands that need an engine or Redis: their flags at least are those of the command. */
const mentioned = blocks('sh').map((block) => block.replaceAll(/\\\n/g, ' ').trim());

/** Rows of the first table below a line, as texts of their cells. */
function rowsBelow(line: string): readonly (readonly string[])[] {
  const lines = page.slice(page.indexOf(line)).split('\n');
  const first = lines.findIndex((text) => text.startsWith('|'));
  const table = lines.slice(first + 2);
  return table
    .slice(
      0,
      table.findIndex((text) => !text.startsWith('|')),
    )
    .map((text) =>
      text
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

describe('docs/profiles.md', () => {
  it.each(shown)('gpumix $args prints what it shows', ({ args, output }) => {
    const run = gpumix(args);
    expect(`${run.stdout}${run.stderr}`.trimEnd()).toBe(output.trimEnd());
  });

  it.each(mentioned)('has flags that there are: %s', (command) => {
    const [, name, rest] = /^gpumix (\S+) ([\s\S]*)$/.exec(command)!;
    const help = gpumix(`${name} --help`).stdout;
    for (const [, flag] of rest!.matchAll(/(?:^|\s)(--?[a-z][\w-]*)/g)) {
      expect(help).toMatch(new RegExp(`(?:^|[\\s,])${flag}(?=[\\s,])`, 'm'));
    }
  });

  it('shows commands', () => {
    expect(shown.length).toBeGreaterThanOrEqual(2);
    expect(mentioned.length).toBeGreaterThanOrEqual(2);
  });

  it('has the errors of every GPU that estimates state', () => {
    const rows = rowsBelow('By GPU:');
    expect(rows).toEqual(
      Object.entries(errorsByGpu).map(([name, { points, median, p10, p90, fitted }]) => [
        name,
        points.toLocaleString('en-US'),
        ...[median, p10, p90].map((value) => value.toFixed(2)),
        fitted ? 'knew it' : 'never saw it',
      ]),
    );
  });

  it('has the errors of the GPUs that the fit never saw', () => {
    const rows = rowsBelow('Predicted / measured **rate**');
    for (const [label, spread] of [
      ['NVIDIA, unseen', errorsOfUnseen.nvidia!],
      ['AMD, unseen (MI300X)', errorsOfUnseen.amd!],
    ] as const) {
      const row = rows.find(([name]) => name === label)!;
      expect(row.slice(1, 5)).toEqual([
        spread.points.toLocaleString('en-US'),
        ...[spread.median, spread.p10, spread.p90].map((value) => value.toFixed(2)),
      ]);
    }
  });
});

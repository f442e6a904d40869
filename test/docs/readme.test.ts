import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { configuredPools } from '../../src/service/config.js';
import { loadConfig } from '../../src/service/config-layers.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const readme = readFileSync(`${root}README.md`, 'utf8');

function blocks(language: string): readonly string[] {
  return [...readme.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, 'gm'))].map(([, text]) => text!);
}

/** A line `$ command`, and what the README says that it prints. */
const shown = blocks('console').flatMap((block) => {
  const [, command, output] = block.match(/^\$ (.+)\n([\s\S]*)$/) ?? [];
  return command !== undefined &&
    /^node dist\/cli\/main\.js (plan samples|explain samples|place samples|estimate --gpu)/.test(command)
    ? [{ command, output: output! }]
    : [];
});

/** Nodes and milliseconds are those of one run. */
const withoutEffort = (output: string): string =>
  output.replace(/^(solver +\S+), .*$/m, '$1').replace(/, \d+\s+nodes?\s+searched$/m, '');

describe('the README', () => {
  it('shows commands with what they print', () => {
    expect(shown.length).toBeGreaterThanOrEqual(5);
  });

  it.each(shown)('$command prints what it shows', ({ command, output }) => {
    const run = spawnSync(command, { cwd: root, shell: true, encoding: 'utf8', timeout: 30_000 });
    expect(run.stderr).toBe('');
    expect(withoutEffort(run.stdout).trimEnd()).toBe(withoutEffort(output).trimEnd());
  });

  it('has configurations that the service takes', () => {
    const connections = { REDIS_HOST: '127.0.0.1' };
    for (const text of blocks('yaml')) {
      const { config, warnings } = loadConfig({ file: { name: 'README.md', text }, environment: connections });
      expect(warnings).toEqual([]);
      expect(configuredPools(config).list.length).toBeGreaterThan(0);
    }
    expect(blocks('yaml').length).toBeGreaterThan(0);
  });
});

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { parseProfile } from '../../src/core/profile.js';

/** One objective on the way from a benchmark to a profile, by the commands themselves. */

const root = fileURLToPath(new URL('../../', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'gpumix-ttft-'));
afterAll(() => rmSync(folder, { recursive: true }));

const gpumix = (...args: readonly string[]) =>
  spawnSync(process.execPath, [join(root, 'dist/cli/main.js'), ...args], {
    cwd: folder,
    encoding: 'utf8',
    timeout: 60_000,
    env: { ...process.env, SOURCE_DATE_EPOCH: '1795219200' },
  });

const profileOf = (file: string) => parseProfile(readFileSync(join(folder, file), 'utf8'), file);

describe('a TTFT that longer prompts may exceed', () => {
  it('is searched for, named, and comes out of gen-profile with the limit of each cell', () => {
    const lengths = ['--inputs', '128,16384', '--outputs', '64', '--requests', '40', '--percentile', '90'];
    const replica = ['--model', 'llama-3.1-8b', '--simulate', '--gpu', 'L40S'];
    const limits = (prefix: string) => [`--${prefix}ttft`, '1', `--${prefix}ttft-per-input-token`, '0.0005'];
    const patient = gpumix('benchmark', ...replica, ...lengths, ...limits('slo-'), '-o', 'patient.jsonl');
    expect(patient.stdout).toContain('Highest rate within TTFT 1 s + 0.5 ms per input token (P90)');
    expect(patient.stdout).toContain('--ttft 1 --ttft-per-input-token 0.0005 --percentile 90');
    const strict = gpumix('benchmark', ...replica, ...lengths, '--slo-ttft', '1', '-o', 'strict.jsonl');
    expect(strict.status).toBe(0);

    // Verdicts of another objective are not mixed with these.
    const resumed = gpumix('benchmark', ...replica, ...lengths, '--slo-ttft', '1', '-o', 'patient.jsonl', '--resume');
    expect(resumed.status).toBe(2);
    expect(resumed.stderr).toContain('sloTtftPerInputToken');

    const made = (rows: string, slo: readonly string[], output: string) => {
      const run = gpumix(
        'gen-profile',
        'x',
        '--benchmark',
        rows,
        ...slo,
        '--percentile',
        '90',
        '--cost',
        '1',
        '-o',
        output,
      );
      expect(run.status, run.stderr).toBe(0);
      return profileOf(output);
    };
    const byLength = made('patient.jsonl', limits(''), 'patient.json');
    const fixed = made('strict.jsonl', ['--ttft', '1'], 'strict.json');
    expect(byLength.slos).toEqual({ percentile: 90, ttft: 1, ttft_per_input_token: 0.0005 });
    expect(fixed.slos).toEqual({ percentile: 90, ttft: 1 });
    // A prompt of 16k tokens takes more than 1 s by itself.
    expect(fixed.grid.tputs[0]![1]).toBe(0);
    expect(byLength.grid.tputs[0]![1]).toBeGreaterThan(0);
    // The same rows under the fixed objective: the rate of long prompts is gone, that of short ones is not.
    const again = made('patient.jsonl', ['--ttft', '1'], 'again.json');
    expect(again.grid.tputs[0]![1]).toBe(0);
    expect(again.grid.tputs[0]![0]).toBeGreaterThan(0.7 * byLength.grid.tputs[0]![0]!);
  });

  it('is estimated for, and needs a TTFT to be added to', () => {
    const replica = ['estimate', '--gpu', 'L40S', '--model', 'llama-3.1-8b', '--input-tokens', '128,16384'];
    const run = gpumix(...replica, '--ttft', '1', '--ttft-per-input-token', '0.0005', '--tpot', '0.1', '-o', 'e.json');
    expect(run.stdout).toContain('TTFT 1 s + 0.5 ms per input token, TPOT 0.1 s');
    expect(profileOf('e.json').slos).toEqual({ percentile: 99, ttft: 1, ttft_per_input_token: 0.0005, tpot: 0.1 });
    const without = gpumix(...replica, '--ttft-per-input-token', '0.0005', '--tpot', '0.1');
    expect(without.status).toBe(2);
    expect(without.stderr).toContain('--ttft-per-input-token: found no --ttft, expected --ttft');
    const infinite = gpumix('gen-profile', 'x', '--ttft-per-input-token', '0.0005', '--ttft', 'inf');
    expect(infinite.status).toBe(2);
    expect(infinite.stderr).toContain('--ttft-per-input-token: found no --ttft');
  });
});

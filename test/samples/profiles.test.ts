import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { loadGpuCatalogue } from '../../src/adapters/catalogue-file.js';
import { gpuByName } from '../../src/core/gpu-types.js';
import { parseProfile } from '../../src/core/profile.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'gpumix-test-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const files = ['estimated', 'simulated'].flatMap((method) =>
  readdirSync(join(root, 'profiles', method), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name)),
);
const profiles = files.map((file) => ({
  file: file.slice(root.length),
  method: basename(dirname(dirname(file))),
  text: readFileSync(file, 'utf8'),
}));

describe('the profiles that come with gpumix', () => {
  it('are of three models at least, and of six GPU types', () => {
    const parsed = profiles.map(({ file, text }) => parseProfile(text, file));
    expect(new Set(parsed.map(({ model }) => model)).size).toBeGreaterThanOrEqual(3);
    expect(new Set(parsed.map(({ gpuType }) => gpuType)).size).toBeGreaterThanOrEqual(6);
  });

  it.each(profiles)('$file says how it came about, and is of its folder', async ({ file, method, text }) => {
    const profile = parseProfile(text, file);
    const catalogue = await loadGpuCatalogue();
    const gpu = gpuByName(catalogue, profile.gpuType!)!;
    const gpus = profile.gpusPerReplica ?? 1;
    expect(profile.provenance?.method).toBe(method);
    expect(profile.provenance?.at).toBe('2026-11-21T00:00:00.000Z');
    expect(profile.provenance?.details).not.toMatch(/\/tmp|\/home/);
    // A suffix of the folder names another objective than that of the others.
    const [name, objective = ''] = basename(dirname(file)).split(/(?=-ttft-by-length$)/);
    expect(name).toBe(profile.model);
    expect(basename(file, '.json')).toBe(`${gpu.name.toLowerCase()}${gpus === 1 ? '' : `-x${gpus}`}`);
    expect(profile.cost).toBeCloseTo(gpu.usdPerGpuHour! * gpus, 6);
    expect(profile.slos).toEqual(
      objective === ''
        ? { percentile: 95, ttft: 4, tpot: 0.1 }
        : { percentile: 99, ttft: 2, ttft_per_input_token: 0.0002, tpot: 0.1 },
    );
    const [outputs, inputs] = profile.grid.indexes;
    expect(outputs!.at(-1)).toBe(4096);
    if (method === 'estimated') expect(inputs!.at(-1)).toBe(32_768);
  });

  it('serve more on GPUs that are faster in everything', () => {
    const of = (gpu: string) => {
      const file = `profiles/estimated/llama-3.1-8b/${gpu}.json`;
      return parseProfile(readFileSync(join(root, file), 'utf8'), file).grid.tputs.flat();
    };
    const order = ['l4', 'a100-80gb', 'h100', 'h200', 'b200'].map(of);
    for (const [i, slower] of order.slice(0, -1).entries()) {
      expect(order[i + 1]!.every((rate, cell) => rate! >= slower[cell]! * 0.98)).toBe(true);
    }
  });

  it('simulated and estimated, agree within a factor of two where requests are many', () => {
    for (const gpu of ['a100-80gb', 'h100', 'l40s']) {
      const [simulated, estimated] = ['simulated', 'estimated'].map((method) => {
        const file = `profiles/${method}/llama-3.1-8b/${gpu}.json`;
        return parseProfile(readFileSync(join(root, file), 'utf8'), file).grid;
      });
      const [outputs, inputs] = simulated!.indexes;
      const ratios = outputs!.flatMap((output, r) =>
        inputs!.flatMap((input, c) => {
          const other =
            estimated!.tputs[estimated!.indexes[0]!.indexOf(output)]![estimated!.indexes[1]!.indexOf(input)]!;
          return other > 0.05 ? [simulated!.tputs[r]![c]! / other] : [];
        }),
      );
      expect(ratios.length).toBeGreaterThan(10);
      expect(Math.min(...ratios)).toBeGreaterThan(0.5);
      expect(Math.max(...ratios)).toBeLessThan(2);
    }
  });

  it('come out the same when they are made again', () => {
    const file = join(scratch, 'h100.json');
    const arguments_ = ['--model', 'llama-3.1-8b', '--gpu', 'H100', '--gpus', '1', '--ttft', '4', '--tpot', '0.1'];
    const run = spawnSync(
      process.execPath,
      ['dist/cli/main.js', 'estimate', ...arguments_, '--percentile', '95', '-o', file],
      { cwd: root, encoding: 'utf8', env: { ...process.env, SOURCE_DATE_EPOCH: '1795219200' } },
    );
    expect(run.status).toBe(0);
    expect(readFileSync(file, 'utf8')).toBe(
      readFileSync(join(root, 'profiles/estimated/llama-3.1-8b/h100.json'), 'utf8'),
    );
  });
});

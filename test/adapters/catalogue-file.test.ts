import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  loadGpuCatalogue,
  loadModelCatalogue,
  shippedCatalogueFile,
  shippedModelsFile,
} from '../../src/adapters/catalogue-file.js';
import { gpuByName } from '../../src/core/gpu-types.js';

const reference = '../shared/data/prices/gpu_prices_reference.csv';

describe('the GPU catalogue file', () => {
  it('is found from the sources', async () => {
    expect(existsSync(shippedCatalogueFile)).toBe(true);
    expect((await loadGpuCatalogue()).entries.length).toBeGreaterThan(50);
  });

  it('has a catalogue of models beside it', async () => {
    expect(existsSync(shippedModelsFile)).toBe(true);
    expect((await loadModelCatalogue()).entries.length).toBeGreaterThan(90);
    await expect(loadModelCatalogue('/nowhere/models.json')).rejects.toThrow('expected a model catalogue such as');
    await expect(loadModelCatalogue(shippedCatalogueFile)).rejects.toThrow('kind: found "GpuCatalogue"');
  });

  it('is found from the build', () => {
    const program = `import { loadGpuCatalogue, loadModelCatalogue } from './dist/adapters/catalogue-file.js';
      console.log(Math.min((await loadGpuCatalogue()).entries.length, (await loadModelCatalogue()).entries.length));`;
    const printed = execFileSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' });
    expect(Number(printed)).toBeGreaterThan(50);
  });

  it('names a file that is missing or no JSON', async () => {
    await expect(loadGpuCatalogue('/nowhere/gpus.json')).rejects.toThrow(
      '/nowhere/gpus.json: found a file that cannot',
    );
    const folder = await mkdtemp(join(tmpdir(), 'gpumix-catalogue-'));
    try {
      await writeFile(join(folder, 'gpus.json'), '{"kind":');
      await expect(loadGpuCatalogue(join(folder, 'gpus.json'))).rejects.toThrow('line 1, column 9');
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it.skipIf(!existsSync(reference))('has the prices of the reference table (skipped where it is absent)', async () => {
    const catalogue = await loadGpuCatalogue();
    const names: Readonly<Record<string, string>> = {
      'A100-SXM-40GB': 'A100-40GB',
      'A100-SXM-80GB': 'A100-80GB',
      'H100-SXM-80GB': 'H100',
    };
    let compared = 0;
    for (const row of readFileSync(reference, 'utf8').trim().split(/\r?\n/).slice(1)) {
      const [gpu, , , , price, , , , asOf] = row.split(',');
      if (gpu === 'A100-PCIe-80GB') continue; // one type with the SXM part here, which has the price
      const entry = gpuByName(catalogue, names[gpu!] ?? gpu!);
      expect(entry, gpu).toBeDefined();
      expect(entry!.usdPerGpuHour, gpu).toBe(Number(price));
      expect(entry!.priceAsOf, gpu).toBe(asOf);
      compared += 1;
    }
    expect(compared).toBeGreaterThanOrEqual(12);
  });
});

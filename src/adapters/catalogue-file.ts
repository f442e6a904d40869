import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { type GpuCatalogue, parseGpuCatalogue } from '../core/gpu-types.js';
import { InputError, quoteInput } from '../core/input-error.js';
import { parseJson } from '../core/parse.js';

/** The catalogue that comes with the package: src/adapters and dist/adapters are equally deep below its root. */
export const shippedCatalogueFile = fileURLToPath(new URL('../../profiles/gpus.json', import.meta.url));

/**
 * Reads a GPU catalogue.
 *
 * @throws InputError that names the file where it cannot be read or is not a catalogue
 */
export async function loadGpuCatalogue(file: string = shippedCatalogueFile): Promise<GpuCatalogue> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    const found = error instanceof Error && 'code' in error ? `a file that cannot be read (${error.code})` : 'an error';
    throw new InputError(file, [{ place: '', found, expected: `a GPU catalogue such as ${quoteInput('gpus.json')}` }]);
  }
  return parseGpuCatalogue(parseJson(text, file), file);
}

import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { type GpuCatalogue, parseGpuCatalogue } from '../core/gpu-types.js';
import { InputError, quoteInput } from '../core/input-error.js';
import { type ModelCatalogue, parseModelCatalogue } from '../core/model-types.js';
import { parseJson } from '../core/parse.js';

/** The catalogues that come with the package: src/adapters and dist/adapters are equally deep below its root. */
export const shippedCatalogueFile = fileURLToPath(new URL('../../profiles/gpus.json', import.meta.url));
export const shippedModelsFile = fileURLToPath(new URL('../../profiles/models.json', import.meta.url));

/**
 * Reads a GPU catalogue.
 *
 * @throws InputError that names the file where it cannot be read or is not a catalogue
 */
export async function loadGpuCatalogue(file: string = shippedCatalogueFile): Promise<GpuCatalogue> {
  return parseGpuCatalogue(await readDocument(file, 'a GPU catalogue such as', 'gpus.json'), file);
}

/**
 * Reads a model catalogue.
 *
 * @throws InputError that names the file where it cannot be read or is not a catalogue
 */
export async function loadModelCatalogue(file: string = shippedModelsFile): Promise<ModelCatalogue> {
  return parseModelCatalogue(await readDocument(file, 'a model catalogue such as', 'models.json'), file);
}

async function readDocument(file: string, kind: string, example: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    const found = error instanceof Error && 'code' in error ? `a file that cannot be read (${error.code})` : 'an error';
    throw new InputError(file, [{ place: '', found, expected: `${kind} ${quoteInput(example)}` }]);
  }
  return parseJson(text, file);
}

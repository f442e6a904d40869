import { loadGpuCatalogue, loadModelCatalogue } from '../adapters/catalogue-file.js';
import { type GpuCatalogue, gpuByName, gpuOrPart } from '../core/gpu-types.js';
import { type InputError, quoteInput } from '../core/input-error.js';
import { modelByName, type WeightPrecision, weightFormatInName } from '../core/model-types.js';
import { nearestName } from '../core/parse.js';
import type { ReplicaSpec } from '../simulation/step-time.js';
import { flagError } from './flag-values.js';

/** The flags that name a replica of the catalogue. */
export type ReplicaFlags = {
  readonly gpu: string;
  readonly model: string;
  /** Tensor parallel; 1 by default. */
  readonly gpus?: number | undefined;
  readonly precision?: WeightPrecision | undefined;
  /** bf16 by default. */
  readonly kvPrecision?: 'bf16' | 'fp8' | undefined;
};

/**
 * The replica that flags name. A part of a GPU (`A100-80GB-MIG-1g.10gb`) is one too.
 *
 * The format of the weights is that of `--precision`; else what the model's name says, with the mean bits of a GGUF; else
 * as the model was published.
 *
 * @throws InputError for names that the catalogue does not know, and for a model that writes no tokens
 */
export async function cataloguedReplica(
  flags: ReplicaFlags,
): Promise<ReplicaSpec & { readonly kvPrecision: 'bf16' | 'fp8' }> {
  const [gpus, models] = await Promise.all([loadGpuCatalogue(), loadModelCatalogue()]);
  const gpu = gpuOrPart(gpus, flags.gpu);
  if (gpu === undefined)
    throw unknownPart(flags.gpu, gpus) ?? unknownName('--gpu', flags.gpu, { catalogue: 'GPU', entries: gpus.entries });
  const model = modelByName(models, flags.model);
  if (model === undefined) throw unknownName('--model', flags.model, { catalogue: 'model', entries: models.entries });
  if (model.task !== 'generate') {
    throw flagError('--model', {
      found: `${model.name}, which makes embeddings`,
      expected: 'a model that writes tokens',
    });
  }
  const named = flags.precision === undefined ? weightFormatInName(flags.model) : null;
  return {
    gpu,
    model,
    gpusPerReplica: flags.gpus ?? 1,
    weightPrecision: flags.precision ?? named?.precision ?? model.publishedPrecision,
    bitsPerWeight: named?.bitsPerWeight ?? null,
    kvPrecision: flags.kvPrecision ?? 'bf16',
  };
}

/** A known GPU that is not cut that way; null for all other names. */
function unknownPart(name: string, gpus: GpuCatalogue): InputError | null {
  const whole = /^(.+?)-MIG-/i.exec(name.trim())?.[1];
  const gpu = whole === undefined ? undefined : gpuByName(gpus, whole);
  if (gpu === undefined) return null;
  const parts = gpu.migProfiles.map((profile) => `MIG-${profile.name}`);
  const expected =
    parts.length === 0 ? `${gpu.name} whole: it has no MIG parts` : `a part of ${gpu.name}: ${parts.join(', ')}`;
  return flagError('--gpu', { found: quoteInput(name), expected });
}

function unknownName(
  flag: string,
  name: string,
  { catalogue, entries }: { readonly catalogue: string; readonly entries: readonly { readonly name: string }[] },
): InputError {
  const known = entries.map((entry) => entry.name);
  const suggestion = nearestName(name, known);
  return flagError(flag, {
    found: quoteInput(name),
    // The catalogue is long: it is listed only where nothing in it is near.
    expected: `a name of the ${catalogue} catalogue${suggestion === undefined ? `: ${known.join(', ')}` : ''}`,
    ...(suggestion === undefined ? {} : { suggestion }),
  });
}

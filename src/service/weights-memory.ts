import { weightsExceedMemory } from '../core/gpu-memory.js';
import { type GpuCatalogue, gpuOrPart } from '../core/gpu-types.js';
import { type ModelCatalogue, modelByName, type WeightPrecision, weightFormatInName } from '../core/model-types.js';
import type { ObservedDeployment } from '../core/ports.js';

/**
 * Why a deployment can never start: its model's weights are larger than all memory of a replica's GPUs. With the
 * arithmetic and with what was assumed of the weights; null where they might fit, and where the catalogues do not know
 * the model or the GPU: nothing is guessed.
 */
export function weightsThatCannotFit(
  deployment: Pick<ObservedDeployment, 'model' | 'gpuType' | 'gpusPerReplica'>,
  known: {
    readonly gpus: GpuCatalogue;
    readonly models: ModelCatalogue;
    /** As the configuration states it; null = the name may tell, and otherwise it is as the model was published. */
    readonly weightPrecision: WeightPrecision | null;
  },
): string | null {
  const { gpuType, gpusPerReplica } = deployment;
  if (gpuType === null || gpusPerReplica <= 0) return null;
  const gpu = gpuOrPart(known.gpus, gpuType);
  const model = modelByName(known.models, deployment.model);
  if (gpu === undefined || model === undefined) return null;
  const named = known.weightPrecision === null ? weightFormatInName(deployment.model) : null;
  const weightPrecision = known.weightPrecision ?? named?.precision ?? model.publishedPrecision;
  const bitsPerWeight = named?.bitsPerWeight ?? null;
  const sum = weightsExceedMemory({ gpu, model, gpusPerReplica, weightPrecision, bitsPerWeight });
  if (sum === null) return null;
  if (known.weightPrecision !== null) return `its weights cannot fit: ${sum}`;
  const assumed =
    named === null
      ? `${weightPrecision} is assumed, as it was published: its name states no other format (\`models.*.weightPrecision\` does)`
      : `${named.label} is as its name says`;
  return `its weights cannot fit: ${sum}; ${assumed}`;
}

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { type CataloguedGpu, type GpuCatalogue, gpuByName } from '../src/core/gpu-types.js';
import {
  type CataloguedModel,
  type ModelCatalogue,
  modelByName,
  type WeightPrecision,
  weightPrecisionInName,
} from '../src/core/model-types.js';
import { check, parseJson } from '../src/core/parse.js';

/**
 * Published end-to-end measurements (`gpu-profile/1` documents of kind `measured-end-to-end`) as points that a
 * prediction can be held against.
 *
 * A point whose source does not state what a prediction needs (which GPU, which precision, how the GPUs are laid out)
 * is left out, and counted with the reason. Nothing is left out for how well it is predicted.
 */

/** Where the collection lies, from the project's root; it is no part of the project. */
export const measuredFolder = '../shared/data/profiles/measured';

export type EngineFamily = 'vLLM' | 'SGLang' | 'TensorRT-LLM' | 'DeepSpeed' | 'other';

export type MeasuredPoint = {
  /** Name of the file it comes from. */
  readonly file: string;
  /** Repository that published it. */
  readonly source: string;
  readonly engine: EngineFamily;
  readonly gpu: CataloguedGpu;
  readonly model: CataloguedModel;
  readonly gpusPerReplica: number;
  readonly weightPrecision: WeightPrecision;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** `closed`: so many requests always in flight; `batch`: so many at once, and none follows. */
  readonly run: 'closed' | 'batch';
  readonly requests: number;
  readonly requestsPerSecond: number;
  /** null where the source publishes none. */
  readonly ttftMs: number | null;
  readonly tpotMs: number | null;
};

export type MeasuredPoints = {
  readonly points: readonly MeasuredPoint[];
  /** Points of a GPU and model in the catalogue whose precision the source does not state: taken as 16 bits, and kept apart. */
  readonly assumedPrecision: readonly MeasuredPoint[];
  /** Points left out, by reason. */
  readonly leftOut: ReadonlyMap<string, number>;
  readonly read: number;
};

const pointSchema = z.object({
  input: z.number().optional(),
  output: z.number().optional(),
  concurrency: z.number().optional(),
  batch: z.number().optional(),
  tp: z.number().optional(),
  precision: z.string().optional(),
  engine: z.string().optional(),
  ttft_ms: z.number().optional(),
  tpot_ms: z.number().optional(),
  req_per_s: z.number(),
});

const documentSchema = z.object({
  schema: z.literal('gpu-profile/1'),
  kind: z.literal('measured-end-to-end'),
  gpu: z.string(),
  gpus_per_replica: z.union([z.number(), z.string()]),
  model: z.string(),
  precision: z.string(),
  engine: z.string(),
  source: z.object({ repo: z.string() }),
  points: z.array(pointSchema),
});

type Document = z.output<typeof documentSchema>;
type Point = z.output<typeof pointSchema>;

const engines: readonly (readonly [pattern: RegExp, family: EngineFamily])[] = [
  [/^vllm/i, 'vLLM'],
  [/^sglang/i, 'SGLang'],
  [/^(?:trtllm|tensorrt)/i, 'TensorRT-LLM'],
  [/^deepspeed/i, 'DeepSpeed'],
];

/** Number formats as sources word them; null = not stated. */
function precisionOf(words: string): WeightPrecision | null {
  const lower = words.toLowerCase();
  if (/^(?:fp16|bf16|fp16\/bf16)\b/.test(lower)) return 'bf16';
  if (/^fp8\b/.test(lower)) return 'fp8';
  return lower === 'fp4' || lower === 'int4' || lower === 'int8' ? lower : null;
}

/** Parts that sources count as one GPU, and that show as several: an MI250 module has two dies of 64 GB. */
const modules: Readonly<Record<string, { readonly name: string; readonly gpus: number }>> = {
  'MI250-128GB': { name: 'MI250', gpus: 2 },
};

/** Why a whole file cannot be used; null = it can. */
function unusable({ gpu, gpus_per_replica: gpus, precision }: Document): string | null {
  if (/unstated/i.test(gpu)) return 'the source does not say which GPU (A100 of 40 or of 80 GB)';
  if (/power-capped/i.test(gpu)) return 'a GPU below its rated power';
  if (precision === 'see section') return 'precision and layout differ by section and are not stated';
  if (/\b2FP8\b/.test(precision)) return 'two replicas on the GPUs, not stated as such';
  return typeof gpus === 'number' || gpus === 'per point (tp)' ? null : 'GPUs of a replica not stated';
}

/**
 * Reads every file of the collection.
 *
 * @throws InputError for a file of another shape
 */
export function readMeasured(catalogues: {
  readonly gpus: GpuCatalogue;
  readonly models: ModelCatalogue;
  readonly folder?: string;
}): MeasuredPoints {
  const folder = catalogues.folder ?? measuredFolder;
  const points: MeasuredPoint[] = [];
  const assumedPrecision: MeasuredPoint[] = [];
  const leftOut = new Map<string, number>();
  let read = 0;
  const leave = (reason: string, count: number): void => void leftOut.set(reason, (leftOut.get(reason) ?? 0) + count);
  for (const file of readdirSync(folder).toSorted()) {
    if (!file.endsWith('.json')) continue;
    const path = join(folder, file);
    const document = check(documentSchema, parseJson(readFileSync(path, 'utf8'), path), path);
    read += document.points.length;
    const reason = unusable(document);
    const module = modules[document.gpu];
    const gpu = gpuByName(catalogues.gpus, module?.name ?? document.gpu);
    const model = modelByName(catalogues.models, document.model);
    if (reason !== null) leave(reason, document.points.length);
    else if (gpu === undefined) leave(`no ${document.gpu} in the catalogue`, document.points.length);
    else if (gpu.memoryGBps === null) leave(`no bandwidth of ${gpu.name} in the catalogue`, document.points.length);
    else if (model === undefined) leave(`no ${document.model} in the catalogue`, document.points.length);
    else {
      for (const point of document.points) {
        const taken = takePoint({ file, document, point, gpu, gpusEach: module?.gpus ?? 1, model });
        if (typeof taken === 'string') leave(taken, 1);
        else if (taken.assumed) {
          assumedPrecision.push(taken.point);
          leave('precision not stated (reported apart, taken as 16 bits)', 1);
        } else points.push(taken.point);
      }
    }
  }
  return { points, assumedPrecision, leftOut, read };
}

function takePoint(from: {
  readonly file: string;
  readonly document: Document;
  readonly point: Point;
  readonly gpu: CataloguedGpu;
  /** GPUs of the catalogue in one of the source. */
  readonly gpusEach: number;
  readonly model: CataloguedModel;
}): { readonly point: MeasuredPoint; readonly assumed: boolean } | string {
  const { file, document, point, gpu, gpusEach, model } = from;
  const requests = point.concurrency ?? point.batch;
  if (point.input === undefined || point.output === undefined) return 'lengths not stated';
  if (requests === undefined) return 'neither a concurrency nor a batch stated';
  if (!(point.req_per_s > 0)) return 'no rate';
  // Engines refuse such requests at once: what was timed is the refusal.
  if (point.input + point.output > model.maxTokens) return "longer than the model's context";
  const words = point.precision ?? document.precision;
  const stated = words === 'unstated' ? weightPrecisionInName(document.model) : precisionOf(words);
  if (stated === null && words !== 'unstated') return `precision ${JSON.stringify(words)} not known`;
  const engine = point.engine ?? document.engine;
  return {
    assumed: stated === null,
    point: {
      file,
      source: document.source.repo,
      engine: engines.find(([pattern]) => pattern.test(engine))?.[1] ?? 'other',
      gpu,
      model,
      gpusPerReplica: gpusEach * (point.tp ?? Number(document.gpus_per_replica)),
      weightPrecision: stated ?? 'bf16',
      inputTokens: point.input,
      outputTokens: point.output,
      run: point.concurrency === undefined ? 'batch' : 'closed',
      requests,
      requestsPerSecond: point.req_per_s,
      ttftMs: point.ttft_ms ?? null,
      tpotMs: point.tpot_ms ?? null,
    },
  };
}

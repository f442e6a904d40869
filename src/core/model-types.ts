import { z } from 'zod';
import { InputError, quoteInput } from './input-error.js';
import { check } from './parse.js';

/**
 * The shapes of open models: what decides how much memory a model's weights and its KV cache take, and how much there
 * is to compute. Servers, gateways and users spell one model in many ways (`meta-llama/Llama-3.1-8B-Instruct`,
 * `llama3.1:8b-instruct-q4_K_M`); all of them become one entry here, since a fine-tune and a quantisation keep the shape.
 */

/** Formats in which weights are stored. `int4` stands for AWQ, GPTQ and their like, `fp4` for MXFP4 and NVFP4. */
export const weightPrecisions = ['bf16', 'fp8', 'int8', 'int4', 'fp4'] as const;
export type WeightPrecision = (typeof weightPrecisions)[number];

/** `full`: keys and values of every head; `mla`: one compressed vector a token (DeepSeek); `hybrid`: most layers have none. */
const attentionKinds = ['full', 'mla', 'hybrid'] as const;
export type AttentionKind = (typeof attentionKinds)[number];

/** The feed-forward part of each layer, dense or a mixture of experts. */
export type FeedForward = {
  /** Inner size of the dense part, of each layer that has no experts; 0 where every layer has experts. */
  readonly denseSize: number;
  /** Matrices of one block: 3 where it is gated (SwiGLU, GeGLU), else 2. */
  readonly matrices: 2 | 3;
  /** Layers with experts; 0 = a dense model. */
  readonly expertLayers: number;
  /** Routed experts of such a layer, how many of them a token uses, and the inner size of one. */
  readonly experts: number;
  readonly activeExperts: number;
  readonly expertSize: number;
  /** Inner size of the experts that every token uses, together. */
  readonly sharedSize: number;
};

/** What the catalogue knows of one model. */
export type CataloguedModel = {
  /** Canonical name, e.g. `llama-3.1-8b`. */
  readonly name: string;
  readonly aliases: readonly string[];
  /** `generate`, or `embed`: an encoder without output tokens. */
  readonly task: 'generate' | 'embed';
  /** All weights. */
  readonly parameters: number;
  /** Weights that one token uses: fewer than all in a mixture of experts. */
  readonly activeParameters: number;
  readonly layers: number;
  readonly hiddenSize: number;
  readonly attentionHeads: number;
  /** Heads of keys and values; 1 with MLA, whose one compressed vector serves all heads. */
  readonly keyValueHeads: number;
  /** Size of one head; with MLA the mean of that of queries (as they are multiplied with keys) and of values. */
  readonly headSize: number;
  readonly vocabularySize: number;
  readonly attention: AttentionKind;
  /** Layers that keep keys and values; fewer than `layers` only in hybrids. */
  readonly keyValueLayers: number;
  /** Keys and values of one token over all layers at 16 bits [bytes]; with MLA the compressed vector. 0 = keeps none. */
  readonly kvBytesPerToken16: number;
  /** Context length that the model was made for [tokens]. */
  readonly maxTokens: number;
  /** Tokens that the windowed layers look back; null = all layers look at everything. */
  readonly attentionWindow: number | null;
  /** How many layers have that window. */
  readonly windowedLayers: number;
  readonly feedForward: FeedForward;
  /** One matrix for the embedding and for the output. */
  readonly tiedEmbeddings: boolean;
  /** In which its publisher gives the weights, and which a server uses unless the name says otherwise. */
  readonly publishedPrecision: WeightPrecision;
  /** Where the figures come from, in words. */
  readonly source: string;
};

/** The catalogue, indexed for lookups. Built by `parseModelCatalogue`, never by hand. */
export type ModelCatalogue = {
  readonly entries: readonly CataloguedModel[];
  /** By `modelNameKey` of every canonical name and alias. */
  readonly byKey: ReadonlyMap<string, CataloguedModel>;
};

const count = z.number().int().gt(0).max(1e15);
const size = z.number().int().min(0).max(1e9);
const modelName = z.string().min(1).max(200);

const feedForwardSchema = z.strictObject({
  denseSize: size.default(0),
  matrices: z.union([z.literal(2), z.literal(3)]).default(3),
  expertLayers: size.default(0),
  experts: size.default(0),
  activeExperts: size.default(0),
  expertSize: size.default(0),
  sharedSize: size.default(0),
});

const entrySchema = z
  .strictObject({
    name: modelName,
    aliases: z.array(modelName),
    task: z.enum(['generate', 'embed']).default('generate'),
    parameters: count,
    activeParameters: count.optional(),
    layers: count,
    hiddenSize: count,
    attentionHeads: count,
    keyValueHeads: count,
    headSize: count,
    vocabularySize: count,
    attention: z.enum(attentionKinds).default('full'),
    keyValueLayers: size.optional(),
    kvBytesPerToken16: size,
    maxTokens: count,
    attentionWindow: count.nullable().default(null),
    windowedLayers: size.optional(),
    feedForward: feedForwardSchema,
    tiedEmbeddings: z.boolean().default(false),
    publishedPrecision: z.enum(weightPrecisions).default('bf16'),
    note: z.string().optional(),
    source: z.string().min(1),
  })
  .refine((entry) => (entry.activeParameters ?? 0) <= entry.parameters, {
    path: ['activeParameters'],
    message: 'at most parameters',
  })
  .refine((entry) => (entry.keyValueLayers ?? 0) <= entry.layers, {
    path: ['keyValueLayers'],
    message: 'at most layers',
  })
  .refine((entry) => (entry.windowedLayers ?? 0) <= (entry.keyValueLayers ?? entry.layers), {
    path: ['windowedLayers'],
    message: 'at most the layers that keep keys and values',
  })
  .refine((entry) => (entry.attentionWindow === null) === (entry.windowedLayers === undefined), {
    path: ['windowedLayers'],
    message: 'how many layers have the attentionWindow, exactly where there is one',
  })
  .refine((entry) => (entry.attention === 'hybrid') === (entry.keyValueLayers !== undefined), {
    path: ['keyValueLayers'],
    message: "how many layers keep keys and values, exactly where attention is 'hybrid'",
  })
  .refine((entry) => entry.feedForward.expertLayers > 0 === entry.feedForward.experts > 0, {
    path: ['feedForward', 'experts'],
    message: 'a number above 0 exactly where expertLayers is',
  });

const catalogueSchema = z.strictObject({
  apiVersion: z.literal('gpumix/v1'),
  kind: z.literal('ModelCatalogue'),
  note: z.string().optional(),
  models: z.array(entrySchema),
});

/**
 * Checks a model catalogue (`profiles/models.json`, as plain JSON) and indexes it.
 *
 * @throws InputError for a wrong shape, and for a name that two entries claim
 */
export function parseModelCatalogue(document: unknown, source: string): ModelCatalogue {
  const { models } = check(catalogueSchema, document, source);
  const byKey = new Map<string, CataloguedModel>();
  const entries = models.map((model, index): CataloguedModel => {
    const { note: _, ...given } = model;
    const entry: CataloguedModel = {
      ...given,
      activeParameters: model.activeParameters ?? model.parameters,
      keyValueLayers: model.keyValueLayers ?? model.layers,
      windowedLayers: model.windowedLayers ?? 0,
    };
    for (const name of [entry.name, ...entry.aliases]) {
      const key = modelNameKey(name);
      const other = byKey.get(key);
      if (key === '' || (other !== undefined && other !== entry)) {
        throw new InputError(source, [
          {
            place: `models[${index}]`,
            found:
              other === undefined ? quoteInput(name) : `${quoteInput(name)}, which ${quoteInput(other.name)} has too`,
            expected: 'a name or alias that no other entry has',
          },
        ]);
      }
      byKey.set(key, entry);
    }
    return entry;
  });
  return { entries, byKey };
}

/** Words that tell how a model was trained further, or packed, and not what shape it has. */
const variantWords = new Set(
  [
    'instruct chat it base hf pt text latest meta gguf ggml mlx bnb exl2 quantized awq gptq',
    'dynamic block kv marlin autoround smoothquant unsloth ud imatrix qat',
  ].flatMap((words) => words.split(' ')),
);

/** Names of number formats inside a model's name, each between two separators. */
const formatInName =
  /(?<=^|[-_.:/ ])(?:iq[1-4](?:_(?:xxs|xs|s|m|nl))?|q[2-8](?:_(?:[01]|k))?(?:_(?:xs|xl|s|m|l))?|w\d+a\d+(?:kv\d+)?|(?:nv|mx)?fp(?:4|8|16|32)|bf16|f16|f32|u?int[48]|[48]-?bits?|g(?:32|64|128)|e4m3)(?=$|[-_.:/ ])/g;

/**
 * What two spellings of one model have in common: its words and numbers in order, without the publisher, the format
 * of the weights and words such as `instruct`. `meta-llama/Llama-3.1-8B-Instruct-AWQ-INT4` → `llama-3-1-8b`.
 */
export function modelNameKey(name: string): string {
  const path = name.toLowerCase().trim().replace(/\/+$/, '');
  const last = path.slice(path.lastIndexOf('/') + 1).replace(/\.gguf$/, '');
  return last
    .replace(formatInName, '')
    .replace(/([a-z])(?=\d)/g, '$1 ')
    .split(/[^a-z0-9]+/)
    .filter((word) => word !== '' && !variantWords.has(word))
    .join('-');
}

/** The entry of a model by any of its usual names; undefined where the catalogue does not know it. */
export function modelByName(catalogue: ModelCatalogue, name: string): CataloguedModel | undefined {
  return catalogue.byKey.get(modelNameKey(name));
}

/** The format of a model's weights as its name tells. */
export type NamedWeightFormat = {
  readonly precision: WeightPrecision;
  /** Mean bits of one weight, scales included, where the format quantises all weights alike (GGUF); null otherwise. */
  readonly bitsPerWeight: number | null;
  /** As the name has it: `q4_k_m`. */
  readonly label: string;
};

/**
 * Mean bits of one weight in llama.cpp's formats, as its quantize tool gives them for Llama-3.1-8B (llama.cpp,
 * tools/quantize/README.md). A variant that is not listed takes the smallest of its kind, the first here.
 */
const ggufBits = Object.entries({
  ...{ iq1_s: 2.0, iq1_m: 2.15, iq2_xxs: 2.38, iq2_xs: 2.59, iq2_s: 2.74, iq2_m: 2.93, iq3_xxs: 3.25, iq3_xs: 3.5 },
  ...{ iq3_s: 3.66, iq3_m: 3.76, iq4_xs: 4.46, iq4_nl: 4.68, q2_k_s: 2.97, q2_k: 3.16, q3_k_s: 3.64, q3_k_m: 4.0 },
  ...{ q3_k_l: 4.3, q4_k_s: 4.67, q4_k_m: 4.89, q5_k_s: 5.57, q5_k_m: 5.7, q6_k: 6.56, q8_0: 8.5 },
});

function ggufBitsOf(label: string): number | undefined {
  const kind = label.replace(/_.*$/, '');
  const found = ggufBits.find(([name]) => name === label) ?? ggufBits.find(([name]) => name.startsWith(`${kind}_`));
  return found?.[1];
}

/** What a model's name says of the format of its weights (`…-AWQ`, `…-FP8`, `…Q4_K_M`); null where it says nothing. */
export function weightFormatInName(name: string): NamedWeightFormat | null {
  const lower = name.toLowerCase();
  const last = lower.slice(lower.lastIndexOf('/') + 1);
  const labels = last.match(formatInName) ?? [];
  for (const label of labels) {
    const bits = ggufBitsOf(label);
    if (bits !== undefined) return { precision: bits > 7 ? 'int8' : 'int4', bitsPerWeight: bits, label };
  }
  const has = (pattern: RegExp) => labels.find((label) => pattern.test(label));
  const word = /(?<=^|[-_.:/ ])(?:awq|gptq)(?=$|[-_.:/ ])/.exec(last)?.[0];
  const four = has(/^(?:nvfp4|mxfp4|fp4)$/);
  if (four !== undefined) return { precision: 'fp4', bitsPerWeight: null, label: four };
  const eightBits = has(/^(?:u?int8|8-?bits?|w8a\d+)/);
  if (eightBits !== undefined) return { precision: 'int8', bitsPerWeight: null, label: eightBits };
  const fourBits = has(/^(?:u?int4|4-?bits?|w4a\d+)/) ?? word;
  if (fourBits !== undefined) return { precision: 'int4', bitsPerWeight: null, label: fourBits };
  const fp8 = has(/^fp8$/);
  if (fp8 !== undefined) return { precision: 'fp8', bitsPerWeight: null, label: fp8 };
  const half = has(/^(?:bf16|fp16|f16)$/);
  return half === undefined ? null : { precision: 'bf16', bitsPerWeight: null, label: half };
}

/** The precision that a model's name states: `…-AWQ` → int4; null where it states none. */
export function weightPrecisionInName(name: string): WeightPrecision | null {
  return weightFormatInName(name)?.precision ?? null;
}

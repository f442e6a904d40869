import { existsSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/core/input-error.js';
import {
  type CataloguedModel,
  modelByName,
  modelNameKey,
  parseModelCatalogue,
  weightFormatInName,
  weightPrecisionInName,
} from '../../src/core/model-types.js';

const catalogue = parseModelCatalogue(JSON.parse(readFileSync('profiles/models.json', 'utf8')), 'profiles/models.json');
const { entries } = catalogue;
const nameOf = (name: string) => modelByName(catalogue, name)?.name;

/** Weights by the shapes: embeddings, attention, feed-forward, routers. Norms, biases and positions are left out. */
function parametersByShape(model: CataloguedModel, expertsOfToken: 'all' | 'active'): number {
  const { layers, hiddenSize, attentionHeads, keyValueHeads, headSize, vocabularySize, tiedEmbeddings } = model;
  const { denseSize, matrices, expertLayers, experts, activeExperts, expertSize, sharedSize } = model.feedForward;
  const embeddings = (tiedEmbeddings ? 1 : 2) * vocabularySize * hiddenSize;
  const attention = layers * 2 * hiddenSize * headSize * (attentionHeads + keyValueHeads);
  const used = expertsOfToken === 'all' ? experts : activeExperts;
  const inner = (layers - expertLayers) * denseSize + expertLayers * (used * expertSize + sharedSize);
  return embeddings + attention + inner * matrices * hiddenSize + expertLayers * experts * hiddenSize;
}

describe('the model catalogue', () => {
  const full = entries.filter(({ attention, task }) => attention === 'full' && task === 'generate');
  // Their checkpoints have a vision part of 0.42 billion weights.
  const withVision = new Set(['gemma-3-4b', 'gemma-3-12b', 'gemma-3-27b']);

  it('has parameter counts that the shapes give', () => {
    for (const model of full) {
      const vision = withVision.has(model.name) ? 0.42e9 : 0;
      const ratio = (parametersByShape(model, 'all') + vision) / model.parameters;
      expect(Math.abs(ratio - 1), `${model.name}: ${ratio}`).toBeLessThan(model.parameters < 1e9 ? 0.015 : 0.006);
    }
    expect(full.length).toBeGreaterThan(75);
  });

  it('has active parameter counts that the shapes give', () => {
    const mixtures = full.filter(({ feedForward }) => feedForward.experts > 0);
    for (const model of mixtures) {
      const ratio = parametersByShape(model, 'active') / model.activeParameters;
      expect(Math.abs(ratio - 1), `${model.name}: ${ratio}`).toBeLessThan(0.02);
    }
    expect(mixtures.length).toBeGreaterThan(10);
    for (const { name, parameters, activeParameters, feedForward } of entries) {
      expect(activeParameters < parameters, name).toBe(feedForward.experts > 0);
    }
  });

  it('has encoders and decoders for embedding whose parameters the shapes give', () => {
    const embedding = entries.filter(({ task }) => task === 'embed');
    for (const model of embedding) {
      const ratio = parametersByShape(model, 'all') / model.parameters;
      expect(Math.abs(ratio - 1), `${model.name}: ${ratio}`).toBeLessThan(0.02);
    }
    expect(embedding.length).toBeGreaterThan(10);
  });

  it('has sizes that its names state', () => {
    for (const { name, parameters } of entries) {
      const stated = /(?<![a-z\d])([\d.]+)([bm])(?:-|$)/.exec(name);
      if (stated === null || /\dx\d/.test(name)) continue;
      const size = Number(stated[1]) * (stated[2] === 'b' ? 1e9 : 1e6);
      // Names round as their owners like: gemma-2-2b leaves out its embeddings, qwen3-1.7b half of them.
      expect(parameters / size, name).toBeGreaterThan(0.84);
      expect(parameters / size, name).toBeLessThan(1.32);
    }
  });

  it('counts keys and values of every layer that keeps them, at two bytes', () => {
    for (const model of entries) {
      const { name, attention, keyValueLayers, keyValueHeads, headSize, kvBytesPerToken16, layers } = model;
      if (kvBytesPerToken16 === 0) expect(model.task, name).toBe('embed');
      // MLA keeps one vector of 512 and a position of 64 a layer.
      else if (attention === 'mla') expect(kvBytesPerToken16, name).toBe(layers * (512 + 64) * 2);
      else expect(kvBytesPerToken16, name).toBe(2 * keyValueLayers * keyValueHeads * headSize * 2);
    }
  });

  it('has the cache sizes that are well known', () => {
    // 128 KiB a token for Llama-3-8B, 320 KiB for 70B, 512 KiB for Llama-2-7B, 68.6 KiB for DeepSeek-V3.
    expect(
      ['llama-3-8b', 'llama-3-70b', 'llama-2-7b', 'deepseek-v3'].map(
        (name) => modelByName(catalogue, name)!.kvBytesPerToken16 / 1024,
      ),
    ).toEqual([128, 320, 512, 68.625]);
  });

  it('splits heads evenly', () => {
    for (const { name, attentionHeads, keyValueHeads } of entries) {
      expect(attentionHeads % keyValueHeads, name).toBe(0);
    }
  });

  it('says where each figure comes from', () => {
    for (const { name, source } of entries) expect(source, name).toMatch(/^config\.json .*\//);
  });
});

describe('a model by any of its names', () => {
  it.each([
    ['meta-llama/Llama-3.1-8B-Instruct', 'llama-3.1-8b'],
    ['meta-llama/Meta-Llama-3.1-8B-Instruct', 'llama-3.1-8b'],
    ['meta-llama/Meta-Llama-3-8B', 'llama-3-8b'],
    ['llama-3-1-8b', 'llama-3.1-8b'],
    ['llama3.1:8b-instruct-q4_K_M', 'llama-3.1-8b'],
    ['llama2-7b', 'llama-2-7b'],
    ['LLaMA 7B', 'llama-7b'],
    ['meta-llama/Llama-2-70b-chat-hf', 'llama-2-70b'],
    ['hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4', 'llama-3.1-70b'],
    ['neuralmagic/Meta-Llama-3.1-8B-Instruct-quantized.w4a16', 'llama-3.1-8b'],
    ['RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic', 'llama-3.3-70b'],
    ['/models/Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf', 'llama-3.1-8b'],
    ['mistralai/Mistral-7B-Instruct-v0.3', 'mistral-7b-v0.3'],
    ['mistralai/Mixtral-8x7B-Instruct-v0.1', 'mixtral-8x7b'],
    ['Qwen/Qwen2.5-32B-Instruct-GPTQ-Int4', 'qwen2.5-32b'],
    ['Qwen/Qwen3-235B-A22B-FP8', 'qwen3-235b-a22b'],
    ['unsloth/Qwen3-30B-A3B-GGUF:UD-Q4_K_XL', 'qwen3-30b-a3b'],
    ['gemma3:27b-it-qat', 'gemma-3-27b'],
    ['deepseek-ai/DeepSeek-R1', 'deepseek-v3'],
    ['deepseek-ai/DeepSeek-R1-Distill-Llama-8B', 'llama-3.1-8b'],
    // As AIBrix's example serves its 6.7 billion; the second edition, another shape, says so in its names.
    ['deepseek-coder-7b-instruct', 'deepseek-coder-6.7b'],
    ['deepseek-ai/deepseek-coder-7b-instruct-v1.5', 'deepseek-llm-7b'],
    ['openai/gpt-oss-120b', 'gpt-oss-120b'],
    ['Nemotron-3-Nano-30B Q4_K_M', 'nemotron-3-nano-30b'],
    ['BAAI/bge-m3', 'bge-m3'],
  ])('%s is %s', (name, canonical) => {
    expect(nameOf(name)).toBe(canonical);
  });

  it('is itself by its canonical name and by each alias', () => {
    for (const entry of entries) {
      for (const name of [entry.name, ...entry.aliases, `${entry.aliases[0]}-AWQ`, `${entry.name}:latest`]) {
        expect(nameOf(name), name).toBe(entry.name);
      }
    }
  });

  it('is not another model of a similar name', () => {
    for (const name of [
      'llama',
      'llama-3-18b',
      'llama-27b',
      'qwen3-32',
      'gpt2',
      'mistral',
      'my-llama-3.1-8b-router',
      '',
    ]) {
      expect(nameOf(name), name).toBeUndefined();
    }
  });

  const index = '../shared/data/profiles/INDEX.csv';
  it.skipIf(!existsSync(index))('is known for the measured profiles (skipped where they are absent)', () => {
    const rows = readFileSync(index, 'utf8').trim().split(/\r?\n/).slice(1);
    const models = new Set(rows.map((row) => row.split(',')[3]!));
    // Key-value heads that differ by layer, a family of several sizes, and a shape that is not published.
    expect([...models].filter((name) => nameOf(name) === undefined).sort()).toEqual([
      'Deci/DeciLM-7B',
      'glm-4.x',
      'glm-5.2',
    ]);
    expect(models.size).toBeGreaterThan(50);
  });

  it('is compared by an idempotent key', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 100 }), (name) => {
        const key = modelNameKey(name);
        return modelNameKey(key) === key;
      }),
    );
  });
});

describe('the format of weights in a model name', () => {
  it.each([
    ['llama-3.1-8b', null],
    ['Qwen/Qwen3-235B-A22B-FP8', 'fp8'],
    ['RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic', 'fp8'],
    ['TheBloke/Llama-2-7B-Chat-AWQ', 'int4'],
    ['TheBloke/Llama-2-7B-Chat-GPTQ', 'int4'],
    ['Qwen/Qwen2.5-32B-Instruct-GPTQ-Int8', 'int8'],
    ['Meta-Llama-3.1-8B-Instruct-quantized.w8a8', 'int8'],
    ['Meta-Llama-3.1-8B-Instruct-quantized.w4a16', 'int4'],
    ['unsloth/Qwen3-32B-bnb-4bit', 'int4'],
    ['nvidia/DeepSeek-R1-NVFP4', 'fp4'],
    ['Llama-3.1-8B-Instruct-Q8_0.gguf', 'int8'],
    ['llama3.1:8b-instruct-q4_K_M', 'int4'],
    ['llama3.1:8b-instruct-fp16', 'bf16'],
    ['fp8-lovers/llama-3.1-8b', null],
    ['falcon-w4a-7b', null],
  ] as const)('%s: %s', (name, precision) => {
    expect(weightPrecisionInName(name)).toBe(precision);
  });

  it('counts the bits of GGUF, and those of the smallest variant where none is named', () => {
    const bits = (name: string) => weightFormatInName(name)?.bitsPerWeight;
    // The files of Llama-3.1-8B (8.03 billion weights): Q4_K_M 4.92 GB, Q8_0 8.54 GB, Q2_K 3.18 GB.
    expect((bits('x-Q4_K_M')! * 8.03) / 8).toBeCloseTo(4.92, 1);
    expect((bits('x-Q8_0')! * 8.03) / 8).toBeCloseTo(8.54, 1);
    expect((bits('x-Q2_K')! * 8.03) / 8).toBeCloseTo(3.18, 1);
    expect(bits('x-q4')).toBe(bits('x-Q4_K_S'));
    expect(bits('x-IQ3')).toBe(bits('x-iq3_xxs'));
    expect(bits('x-AWQ')).toBeNull();
  });

  it('is found in any text without a fault', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 200 }), (name) => {
        const format = weightFormatInName(name);
        return format === null || format.bitsPerWeight === null || format.bitsPerWeight >= 2;
      }),
    );
  });
});

describe('a model catalogue that cannot be used', () => {
  const entry = {
    ...{ name: 'x-1b', aliases: [], parameters: 1e9, layers: 2, hiddenSize: 8, attentionHeads: 2, keyValueHeads: 1 },
    ...{ headSize: 4, vocabularySize: 10, kvBytesPerToken16: 32, maxTokens: 100, feedForward: { denseSize: 16 } },
    source: 'a test',
  };
  const parse = (...models: readonly unknown[]) =>
    parseModelCatalogue({ apiVersion: 'gpumix/v1', kind: 'ModelCatalogue', models }, 'models.json');

  it('has defaults: dense, not windowed, in bf16, with all parameters active', () => {
    expect(parse(entry).entries[0]).toMatchObject({
      ...{ activeParameters: 1e9, attention: 'full', keyValueLayers: 2, attentionWindow: null, windowedLayers: 0 },
      ...{ publishedPrecision: 'bf16', task: 'generate', feedForward: { experts: 0, matrices: 3 } },
    });
  });

  it.each([
    [
      'two models claim one name',
      [entry, { ...entry, name: 'y', aliases: ['org/X-1B-Instruct-AWQ'] }],
      '"x-1b" has too',
    ],
    ['a name says nothing', [{ ...entry, name: 'instruct' }], 'models[0]: found "instruct", expected a name'],
    ['a key is misspelt', [{ ...entry, vocabSize: 10 }], 'models[0].vocabSize: found an unknown key'],
    ['more is active than there is', [{ ...entry, activeParameters: 2e9 }], 'expected at most parameters'],
    ['a window has no layers', [{ ...entry, attentionWindow: 128 }], 'how many layers have the attentionWindow'],
    ['a hybrid does not say which layers', [{ ...entry, attention: 'hybrid' }], 'how many layers keep keys'],
    ['experts have no layers', [{ ...entry, feedForward: { experts: 8 } }], 'a number above 0 exactly where'],
    ['it has no source', [{ ...entry, source: '' }], 'models[0].source'],
  ])('is refused where %s', (_, models, message) => {
    expect(() => parse(...models)).toThrow(message);
  });

  it('never makes anything but an InputError of any JSON', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        try {
          parseModelCatalogue(value, 'models.json');
          return false;
        } catch (error) {
          return error instanceof InputError;
        }
      }),
    );
  });
});

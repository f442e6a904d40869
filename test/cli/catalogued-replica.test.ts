import { describe, expect, it } from 'vitest';
import { cataloguedReplica } from '../../src/cli/catalogued-replica.js';
import { weightBytesOf } from '../../src/core/gpu-memory.js';
import { stepTimesOf } from '../../src/simulation/step-time.js';

describe('a replica named by flags', () => {
  it('is one GPU with the weights as they were published, unless the model or a flag says otherwise', async () => {
    const { gpu, model, ...rest } = await cataloguedReplica({
      gpu: 'nvidia-l4',
      model: 'meta-llama/Llama-3.1-8B-Instruct',
    });
    expect([gpu.name, model.name]).toEqual(['L4', 'llama-3.1-8b']);
    expect(rest).toEqual({ gpusPerReplica: 1, weightPrecision: 'bf16', bitsPerWeight: null, kvPrecision: 'bf16' });
    const awq = { gpu: 'L4', model: 'Qwen/Qwen3-8B-AWQ' };
    expect(await cataloguedReplica(awq)).toMatchObject({ weightPrecision: 'int4', bitsPerWeight: null });
    expect(await cataloguedReplica({ ...awq, precision: 'fp8', gpus: 2, kvPrecision: 'fp8' })).toMatchObject({
      weightPrecision: 'fp8',
      gpusPerReplica: 2,
      kvPrecision: 'fp8',
    });
  });

  it('has the bits of a GGUF, which are more than those of its kind: a step takes as long as reading them', async () => {
    const [six, four] = await Promise.all(
      ['Qwen3-8B-Q6_K', 'Qwen3-8B-Q4_K_M'].map((model) => cataloguedReplica({ gpu: 'H100', model })),
    );
    expect([six!.bitsPerWeight, four!.bitsPerWeight]).toEqual([6.56, 4.89]);
    const step = { prefillTokens: 0, prefillAttention: 0, decodeSequences: 1, decodeContextTokens: 1 };
    const [slow, fast] = [six!, four!].map((spec) => stepTimesOf(spec).stepMs(step)) as [number, number];
    const bytes = (spec: typeof six) => weightBytesOf(spec!.model, spec!.weightPrecision, spec!.bitsPerWeight);
    const readMs = (bytes(six) - bytes(four)) / (0.85 * 3350e6);
    // Less the embedding, which is looked up.
    expect((slow - fast) / readMs).toBeGreaterThan(0.85);
    expect((slow - fast) / readMs).toBeLessThan(1.001);
  });

  it('may be a part of a GPU', async () => {
    const { gpu } = await cataloguedReplica({ gpu: 'A100-80GB-MIG-3g.40gb', model: 'llama-3.1-8b' });
    expect(gpu.memoryGib).toBeLessThan(41);
    const otherwise = (name: string) => cataloguedReplica({ gpu: name, model: 'llama-3.1-8b' });
    await expect(otherwise('A100-80GB-MIG-9g.90gb')).rejects.toThrow('a part of A100-80GB: MIG-1g.10gb, ');
    await expect(otherwise('L4-MIG-1g.3gb')).rejects.toThrow('L4 whole: it has no MIG parts');
  });

  it('is none of a name that nobody knows, or of a model that writes nothing', async () => {
    await expect(cataloguedReplica({ gpu: 'H1000', model: 'llama-3.1-8b' })).rejects.toThrow('H100');
    await expect(cataloguedReplica({ gpu: 'L4', model: 'llama-3.1-8c' })).rejects.toThrow('llama-3.1-8b');
    await expect(cataloguedReplica({ gpu: 'L4', model: 'bge-m3' })).rejects.toThrow('makes embeddings');
  });
});

import { describe, expect, it } from 'vitest';
import { loadGpuCatalogue, loadModelCatalogue } from '../../src/adapters/catalogue-file.js';
import type { WeightPrecision } from '../../src/core/model-types.js';
import { weightsThatCannotFit } from '../../src/service/weights-memory.js';
import { deployment, profileText, World } from '../support/controller-world.js';

const gpus = await loadGpuCatalogue();
const models = await loadModelCatalogue();

function fault(
  model: string,
  gpuType: string | null,
  gpusPerReplica = 1,
  weightPrecision: WeightPrecision | null = null,
) {
  return weightsThatCannotFit({ model, gpuType, gpusPerReplica }, { gpus, models, weightPrecision });
}

describe('a deployment whose weights cannot fit its GPUs', () => {
  it('is told with the sum and with what was assumed', () => {
    // 70,553,706,496 weights × 2 bytes = 131.4 GiB; nvidia-smi prints 46,068 MiB = 45.0 GiB.
    expect(fault('meta-llama/Llama-3.1-70B-Instruct', 'L40S')).toBe(
      'its weights cannot fit: llama-3.1-70b has 70.6 billion weights, 131.4 GiB in bf16 on one GPU, and L40S has 45.0 GiB; ' +
        'bf16 is assumed, as it was published: its name states no other format (`models.*.weightPrecision` does)',
    );
    expect(fault('meta-llama/Llama-3.1-70B-Instruct', 'L40S', 2)).toContain('65.7 GiB on each of 2 GPUs');
    expect(fault('meta-llama/Llama-3.1-70B-Instruct', 'L40S', 4)).toBeNull();
  });

  it('is judged by the format that its name states', () => {
    // 39.8 GB as AWQ: too large for an L4, not for an L40S.
    expect(fault('Llama-3.1-70B-Instruct-AWQ', 'L40S')).toBeNull();
    expect(fault('Llama-3.1-70B-Instruct-AWQ', 'L4')).toMatch(/int4 on one GPU.*; awq is as its name says$/);
    expect(fault('Qwen3-32B-Q4_K_M', 'RTX-4090')).toBeNull();
    expect(fault('Qwen3-32B-Q8_0', 'RTX-4090')).toContain('8.5 bits each');
  });

  it('is judged by the format in which the model was published', () => {
    expect(fault('openai/gpt-oss-120b', 'H100')).toBeNull();
    expect(fault('openai/gpt-oss-120b', 'L40S')).toContain('fp4');
    expect(fault('deepseek-ai/DeepSeek-R1', 'H200', 8)).toBeNull();
    expect(fault('deepseek-ai/DeepSeek-R1', 'H200', 4)).toContain('626.7 GiB in fp8');
  });

  it('is judged by the format that the configuration states, before all', () => {
    expect(fault('llama-3.1-70b', 'L40S', 1, 'int4')).toBeNull();
    expect(fault('llama-3.1-70b-awq', 'L40S', 1, 'bf16')).toMatch(/and L40S has 45\.0 GiB$/);
  });

  it('is found on a slice of a GPU, whose memory the whole would have', () => {
    expect(fault('llama-3.1-8b', 'A100-80GB-MIG-1g.10gb')).toContain('A100-80GB-MIG-1g.10gb has 9.5 GiB');
    expect(fault('llama-3.1-8b', 'A100-80GB-MIG-2g.20gb')).toBeNull();
    expect(fault('llama-3.1-70b', 'L4-SHARED')).toContain('L4-SHARED has 22.5 GiB');
  });

  it('is not guessed where the model, the GPU or its memory is not known', () => {
    expect(fault('house-model-70b', 'L4')).toBeNull();
    expect(fault('llama-3.1-70b', 'Wafer-Scale-9')).toBeNull();
    expect(fault('llama-3.1-70b', null)).toBeNull();
    expect(fault('llama-3.1-70b', 'L4', 0)).toBeNull();
    // An A100 without a stated memory may have 80 GB: 61 GiB of weights might fit.
    expect(fault('qwen3-32b', 'A100')).toBeNull();
    expect(fault('qwen3-32b', 'A100-40GB')).not.toBeNull();
  });

  it('is a warning of the plan and of the log, once', async () => {
    const world = await new World({
      deployments: [
        deployment({ name: 'fits', model: 'llama-3.1-70b', gpusPerReplica: 2 }),
        deployment({ name: 'too-large', model: 'llama-3.1-70b', gpuType: 'L4' }),
      ],
    }).start();
    for (const name of ['fits', 'too-large']) await world.writeProfile(name, profileText({}), 'llama-3.1-70b');
    await world.send('llama-3.1-70b', { rps: 1 }).cycles(3);
    const warnings = world.controller.plan()?.warnings.filter(({ code }) => code === 'weights_exceed_gpu_memory');
    expect(warnings).toEqual([
      {
        code: 'weights_exceed_gpu_memory',
        deployment: 'default/too-large',
        model: 'llama-3.1-70b',
        message: expect.stringContaining(
          'default/too-large: its weights cannot fit: llama-3.1-70b has 70.6 billion weights',
        ),
      },
    ]);
    expect(world.log.filter(({ message }) => message.includes('its weights cannot fit'))).toHaveLength(1);
  });

  it('is no warning where the configuration says that the weights are smaller', async () => {
    const world = await new World({
      config: { models: { 'llama-3.1-70b': { weightPrecision: 'int4' } } },
      deployments: [deployment({ name: 'quantised', model: 'llama-3.1-70b', gpuType: 'A100-80GB' })],
    }).start();
    await world.send('llama-3.1-70b', { rps: 1 }).cycles(2);
    expect(JSON.stringify(world.controller.plan() ?? {})).not.toContain('weights_exceed_gpu_memory');
    expect(world.log.some(({ message }) => message.includes('its weights cannot fit'))).toBe(false);
  });
});

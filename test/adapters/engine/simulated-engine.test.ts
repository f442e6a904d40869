import { afterEach, describe, expect, it } from 'vitest';
import { loadGpuCatalogue, loadModelCatalogue } from '../../../src/adapters/catalogue-file.js';
import { noFaults } from '../../../src/adapters/engine/faults.js';
import { EngineServer } from '../../../src/adapters/engine/server.js';
import { type SimulationSettings, simulatedEngine } from '../../../src/adapters/engine/simulated-engine.js';
import { gpuByName } from '../../../src/core/gpu-types.js';
import { modelByName } from '../../../src/core/model-types.js';
import { stepTimesOf } from '../../../src/simulation/step-time.js';
import { post, samplesOf, TestClock } from './test-engine.js';

const [gpus, models] = await Promise.all([loadGpuCatalogue(), loadModelCatalogue()]);

const settings = (overrides: Partial<SimulationSettings> = {}): SimulationSettings => ({
  gpu: gpuByName(gpus, 'L4')!,
  model: modelByName(models, 'llama-3.1-8b')!,
  gpusPerReplica: 1,
  weightPrecision: 'bf16',
  kvPrecision: 'bf16',
  maxSequences: 256,
  maxBatchedTokens: 8192,
  maxModelTokens: null,
  servedModelName: 'm',
  ...overrides,
});

const servers: EngineServer[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.stop()));
});

describe('a simulated engine of the catalogue', () => {
  it.each([
    ['L4', 1, 'bf16'],
    ['H100', 2, 'fp8'],
  ] as const)(
    'answers a lone request in the step times of its replica (%s × %i, %s)',
    async (name, gpusPerReplica, weightPrecision) => {
      const chosen = settings({ gpu: gpuByName(gpus, name)!, gpusPerReplica, weightPrecision, maxBatchedTokens: 2048 });
      const clock = new TestClock({ runs: true });
      const server = new EngineServer({
        ...simulatedEngine(chosen, clock),
        version: '1',
        speed: 1,
        seed: 1,
        eosRate: 0,
        apiKey: null,
        faults: noFaults,
        maxRequests: 10,
      });
      servers.push(server);
      const url = await server.listen({ host: '127.0.0.1', port: 0 });
      const [inputTokens, outputTokens] = [3000, 20];
      const prompt = Array.from({ length: inputTokens }, (_, i) => i);
      expect((await post(`${url}/v1/completions`, { prompt, max_tokens: outputTokens })).status).toBe(200);
      const metrics = samplesOf(await (await fetch(`${url}/metrics`)).text());
      const sum = (metric: string) => metrics.get(`vllm:${metric}_sum{model_name="m",engine="0"}`)! * 1000;

      // Reckoned by hand: the prompt in two chunks, then a step for each further token, over all that came before it.
      const { stepMs } = stepTimesOf(chosen);
      const prefill = (from: number, tokens: number) =>
        stepMs({
          prefillTokens: tokens,
          prefillAttention: tokens * (from + tokens / 2),
          decodeSequences: 0,
          decodeContextTokens: 0,
        });
      const ttftMs = prefill(0, 2048) + prefill(2048, 952);
      let decodeMs = 0;
      for (let n = 1; n < outputTokens; n++) {
        decodeMs += stepMs({
          prefillTokens: 0,
          prefillAttention: 0,
          decodeSequences: 1,
          decodeContextTokens: inputTokens + n,
        });
      }
      expect(sum('time_to_first_token_seconds')).toBeCloseTo(ttftMs, 6);
      expect(sum('inter_token_latency_seconds')).toBeCloseTo(decodeMs, 6);
      expect(sum('request_time_per_output_token_seconds')).toBeCloseTo(decodeMs / (outputTokens - 1), 6);
      expect(sum('e2e_request_latency_seconds')).toBeCloseTo(ttftMs + decodeMs, 6);
    },
  );

  it('takes requests as long as its model and its cache can, and no longer', () => {
    const clock = new TestClock({ runs: true });
    const small = simulatedEngine(settings(), clock);
    expect(small.model.maxModelTokens).toBeLessThan(131_072);
    expect(small.model.maxModelTokens).toBe(Math.floor(small.kvCacheTokens! / 16) * 16);
    const large = simulatedEngine(settings({ gpu: gpuByName(gpus, 'H200')! }), clock);
    expect(large.model.maxModelTokens).toBe(131_072);
    expect(() => simulatedEngine(settings({ maxModelTokens: small.model.maxModelTokens + 1 }), clock)).toThrow(
      '--max-model-len',
    );
    expect(simulatedEngine(settings({ maxModelTokens: 512 }), clock).model.maxModelTokens).toBe(512);
  });

  it('is refused for weights that do not fit, and for a model that writes nothing', () => {
    const clock = new TestClock({ runs: true });
    expect(() => simulatedEngine(settings({ model: modelByName(models, 'llama-3.1-70b')! }), clock)).toThrow('1 × L4');
    const embedding = models.entries.find(({ task }) => task === 'embed');
    expect(embedding).toBeDefined();
    expect(() => simulatedEngine(settings({ model: embedding! }), clock)).toThrow('which makes embeddings');
  });
});

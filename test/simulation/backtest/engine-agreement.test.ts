import { expect, test } from 'vitest';
import { loadGpuCatalogue, loadModelCatalogue } from '../../../src/adapters/catalogue-file.js';
import { SimulatedBackend } from '../../../src/adapters/engine/backend.js';
import { gpuByName } from '../../../src/core/gpu-types.js';
import { modelByName } from '../../../src/core/model-types.js';
import { runRequests } from '../../../src/simulation/backtest/request-run.js';
import { SimulatedReplica } from '../../../src/simulation/replica.js';
import { stepTimesOf } from '../../../src/simulation/step-time.js';
import { TestClock } from '../../adapters/engine/test-engine.js';
import { seededRandom } from '../../support/seeded-random.js';
import { deployment, fleet, poisson, scripted, startMs } from './fleets.js';

/** What `gpumix engine` runs, without HTTP and on a clock of the test: over HTTP it is the benchmark `engine-check`. */
test('a replica of the backtest answers when the engine does, token by token the same', async () => {
  const gpu = gpuByName(await loadGpuCatalogue(), 'A100')!;
  const model = modelByName(await loadModelCatalogue(), 'llama-3.1-8b')!;
  const stepTimes = stepTimesOf({ gpu, model, gpusPerReplica: 1, weightPrecision: 'bf16' });
  const engine = { stepTimes, limits: { maxSequences: 64, maxBatchedTokens: 2048, maxTokens: 16_384 } };
  const settings = fleet({ deployments: [deployment({ engine })], endMs: startMs + 60_000 });
  const random = seededRandom(9);
  const lengths = (): readonly [number, number] => [
    Math.round(random.logBetween(50, 6000)),
    Math.round(random.logBetween(1, 400)),
  ];
  const requests = [...poisson(settings, { rps: 14, random, lengths })];

  const clock = new TestClock({ runs: false });
  const backend = new SimulatedBackend({ replica: new SimulatedReplica(engine), clock });
  const ttfts: number[] = [];
  const tpots: number[] = [];
  for (const { atMs, inputTokens, outputTokens } of requests) {
    const arrivedMs = atMs - startMs;
    clock.advanceTo(arrivedMs);
    let firstMs = 0;
    backend.submit(
      { inputTokens, outputTokens },
      {
        token: (produced, tokenMs) => {
          if (produced === 1) firstMs = tokenMs;
        },
        finished: (endMs) => {
          ttfts.push(firstMs - arrivedMs);
          if (outputTokens > 1) tpots.push((endMs - firstMs) / (outputTokens - 1));
        },
        rejected: () => expect.unreachable(),
      },
    );
  }
  clock.advanceTo(1e6);

  const result = await runRequests({ settings, requests, policy: scripted() });
  const meanSeconds = (ms: readonly number[]): number => ms.reduce((sum, one) => sum + one, 0) / ms.length / 1000;
  const medianSeconds = (ms: readonly number[]): number =>
    ms.toSorted((a, b) => a - b)[Math.ceil(ms.length / 2) - 1]! / 1000;
  // Unix milliseconds in a double are exact to a quarter of a microsecond, and so is each step.
  expect(ttfts).toHaveLength(result.requests);
  expect(result.ttft!.mean).toBeCloseTo(meanSeconds(ttfts), 5);
  expect(result.tpot!.mean).toBeCloseTo(meanSeconds(tpots), 5);
  expect(Math.abs(result.ttft!.p50 / medianSeconds(ttfts) - 1)).toBeLessThan(0.005);
  expect(Math.abs(result.tpot!.p50 / medianSeconds(tpots) - 1)).toBeLessThan(0.005);
  // It is under load: steps are shared, and requests wait.
  expect(result.utilization).toBeGreaterThan(0.9);
});

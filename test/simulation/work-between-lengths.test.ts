import { beforeAll, describe, expect, it } from 'vitest';
import { loadGpuCatalogue, loadModelCatalogue } from '../../src/adapters/catalogue-file.js';
import { gpuByName } from '../../src/core/gpu-types.js';
import { modelByName } from '../../src/core/model-types.js';
import { bucketWork, compileWork } from '../../src/core/work.js';
import { poissonRate } from '../../src/simulation/poisson-rate.js';
import type { ReplicaLimits } from '../../src/simulation/replica.js';
import { type StepTimes, stepTimesOf } from '../../src/simulation/step-time.js';
import { simulatedRate } from './simulated-rate.js';
import { within } from './slo.js';

/**
 * What plans read between the grid points of a profile, against what a replica then serves: an 8B model on an H100, in
 * events. Lengths are the geometric means of grid points, where an interpolation in log2 of tokens is the mean of the corners.
 */
let stepTimes: StepTimes;
beforeAll(async () => {
  const [gpus, models] = await Promise.all([loadGpuCatalogue(), loadModelCatalogue()]);
  const model = modelByName(models, 'llama-3.1-8b')!;
  stepTimes = stepTimesOf({ gpu: gpuByName(gpus, 'H100')!, model, gpusPerReplica: 1, weightPrecision: 'bf16' });
});

const limits: ReplicaLimits = { maxSequences: 256, maxBatchedTokens: 8192, maxTokens: 131_072 };
const slo = within({ ttftSeconds: 2, tpotSeconds: 0.1 });

/** Requests/s that one replica serves of one pair of lengths, within the SLO at the 90th percentile. */
const found = new Map<string, number>();
function servedRps(inputTokens: number, outputTokens: number): number {
  const key = `${inputTokens}:${outputTokens}`;
  const known = found.get(key);
  if (known !== undefined) return known;
  const asked = { stepTimes, limits, cell: { inputTokens, outputTokens }, slo, percentile: 90 } as const;
  const expected = poissonRate(asked)!;
  // So many that chance leaves a percent or two: a queue at the limit of its TTFT takes long to build up.
  const requests = Math.ceil(Math.max(3000, 12 * expected.sequences));
  const rps = simulatedRate({ ...asked, around: expected.requestsPerSecond, requests, halvings: 10 });
  found.set(key, rps);
  return rps;
}

/** Predicted / found throughput − 1 in the middle of every cell: linear in tokens as plans read it, and in log2. */
function errorsBetween(inputs: readonly number[], outputs: readonly number[]) {
  const tputs = outputs.map((output) => inputs.map((input) => servedRps(input, output)));
  const table = compileWork({ indexes: [outputs, inputs], tputs }, null);
  return outputs.slice(1).flatMap((_, r) =>
    inputs.slice(1).map((__, c) => {
      const input = Math.round(Math.sqrt(inputs[c]! * inputs[c + 1]!));
      const output = Math.round(Math.sqrt(outputs[r]! * outputs[r + 1]!));
      const served = servedRps(input, output);
      const corners = [tputs[r]![c]!, tputs[r]![c + 1]!, tputs[r + 1]![c]!, tputs[r + 1]![c + 1]!];
      const meanWork = corners.reduce((sum, rps) => sum + 1 / rps, 0) / 4;
      return { tokens: 1 / bucketWork(table, input, output).work / served - 1, log2: 1 / meanWork / served - 1 };
    }),
  );
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

describe('the work between two grid points', () => {
  it('is nearer to what a replica serves when read in tokens than in log2, on axes that step by two and by four', () => {
    const grids = [
      { steps: 'x2', inputs: [512, 1024, 2048], outputs: [64, 128, 256], tokens: 0.03, log2: 0.06 },
      { steps: 'x4', inputs: [256, 1024, 4096], outputs: [64, 256], tokens: 0.08, log2: 0.2 },
    ];
    for (const { steps, inputs, outputs, tokens, log2 } of grids) {
      const errors = errorsBetween(inputs, outputs);
      for (const error of errors) expect(Math.abs(error.tokens), steps).toBeLessThan(Math.abs(error.log2));
      // As seen: −0.5 % and −7 % on steps of two, −4 % and −27 % on steps of four.
      expect(Math.abs(mean(errors.map((error) => error.tokens))), steps).toBeLessThan(tokens);
      expect(mean(errors.map((error) => error.log2)), steps).toBeLessThan(-log2);
    }
  });
});

import type { SharedStore, TraceKey } from '../src/core/ports.js';
import { tokensOfBucketIndex } from '../src/core/token-bucket.js';
import { formatTraceRecord } from '../src/demand/trace-record.js';

/** A large fleet of made-up models, each on three GPU types, with forty lengths and rates that differ and move. */

/** Of the gateway's records [s]. */
export const intervalSeconds = 10;

const powers = [1, 2.2, 4.7] as const;
const modelName = (m: number) => `model-${m}`;
const deploymentName = (m: number, d: number) => `model-${m}-gpu${d}`;

/** As `deployments.list` of a configuration has them. */
export function fleetDeployments(models: number) {
  return Array.from({ length: models }, (_, m) =>
    powers.map((power, d) => ({
      name: deploymentName(m, d),
      model: modelName(m),
      gpuType: `GPU${d}`,
      usdPerReplicaHour: Number((power * (1 + ((m * 7 + d * 3) % 10) / 40)).toFixed(2)),
      maxReplicas: 1000,
    })),
  ).flat();
}

const tokenAxis = [32, 64, 128, 256, 512, 1024, 2048, 4096];

/** Every model has a profile of its own for each of its deployments. */
export async function writeFleetProfiles(store: SharedStore, models: number): Promise<void> {
  for (let m = 0; m < models; m += 1) {
    await Promise.all(
      powers.map((power, d) => {
        const seconds = (input: number, output: number) => input / 12_000 + output / (600 + d * 40);
        const matrix = (cell: (input: number, output: number) => number) =>
          tokenAxis.map((output) => tokenAxis.map((input) => Number(cell(input, output).toPrecision(5))));
        const speed = power * (1 + d * 0.05) * (1 + (m % 13) / 100);
        const profile = {
          gpu: deploymentName(m, d),
          cost: power,
          indexes: [tokenAxis, tokenAxis],
          tputs: matrix((input, output) => speed / (0.02 + seconds(input, output))),
          e2e: matrix((input, output) => 0.1 + 4 * seconds(input, output)),
          ttft: matrix((input) => 0.05 + input / 4000),
          created: 1_767_225_600,
          slos: { percentile: 99, ttft: 2, tpot: 0.1 },
        };
        return store.writeProfile({ model: modelName(m), deployment: deploymentName(m, d) }, JSON.stringify(profile));
      }),
    );
  }
}

/** Forty lengths, the same for every model; the rates differ from model to model and from interval to interval. */
const lengths = Array.from({ length: 40 }, (_, b) => ({
  inputTokens: tokensOfBucketIndex(60 + (b % 8) * 7, 10),
  outputTokens: tokensOfBucketIndex(50 + Math.floor(b / 8) * 9, 10),
}));

function record(m: number, endSeconds: number): string {
  const wobble = 1 + 0.2 * Math.sin(endSeconds / 90 + m);
  const buckets = lengths.map((length, b) => ({
    ...length,
    count: Math.max(1, Math.round(wobble * (0.2 + ((m * 31 + b * 17 + endSeconds) % 97) / 12))),
  }));
  const arrivals = buckets.reduce((sum, { count }) => sum + count, 0);
  return formatTraceRecord({ intervalSeconds, arrivals, pending: 3, queueing: 0, unknownLength: 0, buckets });
}

/** What a gateway writes of every model when an interval ends. */
export function fleetRecords(models: number, endSeconds: number): readonly (TraceKey & { readonly text: string })[] {
  return Array.from({ length: models }, (_, m) => ({ model: modelName(m), endSeconds, text: record(m, endSeconds) }));
}

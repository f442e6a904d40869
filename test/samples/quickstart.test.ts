import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { planningProblemSchema } from '../../src/core/planning-problem.js';
import { parseProfile } from '../../src/core/profile.js';
import { gatewayBucketIndex, tokensOfBucketIndex } from '../../src/core/token-bucket.js';
import { plan } from '../../src/optimizer/plan.js';

const shipped = 'samples/quickstart';
const profileNames = ['qwen3-14b-h100', 'qwen3-14b-l4', 'qwen3-14b-rtx'];

describe('the quickstart data', () => {
  let made = '';
  let trace = '';

  beforeAll(() => {
    made = mkdtempSync(join(tmpdir(), 'gpumix-samples-'));
    execFileSync(process.execPath, [join(shipped, 'generate.mjs'), '--only', 'trace', '--out', made]);
    trace = gunzipSync(readFileSync(join(shipped, 'trace.csv.gz'))).toString('utf8');
  });

  afterAll(() => rmSync(made, { recursive: true, force: true }));

  it('has the requests that the generator makes, byte for byte', () => {
    expect(gunzipSync(readFileSync(join(made, 'trace.csv.gz'))).toString('utf8') === trace).toBe(true);
    expect(readdirSync(join(shipped, 'profiles')).sort()).toEqual(profileNames.map((name) => `${name}.json`));
  });

  it('holds a day of requests in order, with whole and possible lengths', () => {
    const [header, ...rows] = trace.trimEnd().split('\n');
    expect(header).toBe('timestamp_ms,input_tokens,output_tokens');
    let previousMs = 0;
    for (const row of rows) {
      const [atMs, inputTokens, outputTokens] = row.split(',').map(Number) as [number, number, number];
      if (!(atMs >= previousMs && Number.isInteger(atMs))) throw new Error(`out of order: ${row}`);
      if (!(inputTokens >= 16 && inputTokens <= 11_000)) throw new Error(`input length: ${row}`);
      if (!(outputTokens >= 40 && outputTokens <= 3000)) throw new Error(`output length: ${row}`);
      previousMs = atMs;
    }
    expect(previousMs).toBeGreaterThan(23.9 * 3_600_000);
    expect(previousMs).toBeLessThan(24 * 3_600_000);
    expect(readFileSync(join(shipped, 'trace.csv.gz')).length).toBeLessThan(1_500_000);
  });

  it('has a load that changes between night, day and bursts', () => {
    const perHour = new Array<number>(24).fill(0);
    const longPerHour = new Array<number>(24).fill(0);
    for (const row of trace.trimEnd().split('\n').slice(1)) {
      const [atMs, inputTokens] = row.split(',').map(Number) as [number, number];
      const hour = Math.floor(atMs / 3_600_000);
      perHour[hour]! += 1 / 3600;
      if (inputTokens > 3000) longPerHour[hour]! += 1 / 3600;
    }
    // The trace begins at 08:00: index 6 is 14:00, index 19 is 03:00.
    expect(perHour[6]! / perHour[19]!).toBeGreaterThan(10);
    expect(perHour[1]! / perHour[0]!).toBeGreaterThan(1.3);
    expect(longPerHour[3]).toBeGreaterThan(0.9);
    expect(longPerHour[19]).toBe(0);
  });

  it('calls for other GPU types at night, by day and for long documents, each time proven optimal', () => {
    const rows = trace.trimEnd().split('\n').slice(1);
    const requests = rows.map((row) => row.split(',').map(Number) as unknown as Request);
    const atHour = (hour: number): Record<string, number | null> => {
      const answer = plan(problemOfWindow(requests, (hour - 8) * 3_600_000));
      expect(answer.status).toBe('optimal');
      expect(answer.warnings.filter(({ code }) => code !== 'estimated_profile')).toEqual([]);
      return Object.fromEntries(answer.deployments.map(({ gpuType, replicas }) => [gpuType, replicas]));
    };
    const usdAt = (hour: number): number => plan(problemOfWindow(requests, (hour - 8) * 3_600_000)).usdPerHour;
    const total = (replicas: Record<string, number | null>) =>
      Object.values(replicas).reduce<number>((sum, count) => sum + (count ?? 0), 0);
    expect(atHour(28)).toMatchObject({ H100: 0, 'RTX-PRO-6000': 0 });
    for (const hour of [9, 11.5, 14, 17]) {
      const busy = atHour(hour);
      expect(total(busy)).toBeGreaterThanOrEqual(2);
      expect(total(busy)).toBeLessThanOrEqual(12);
    }
    // At 13:30 many documents are summarised; around 12:45 and 14:30 there are fewer.
    expect(usdAt(13.5)).toBeGreaterThan(usdAt(12.75));
    expect(usdAt(13.5)).toBeGreaterThan(usdAt(14.5));
    const mixes = Array.from({ length: 47 }, (_, i) => JSON.stringify(atHour(8.5 + i / 2)));
    expect(new Set(mixes).size).toBeGreaterThan(10);
  });

  it.each(profileNames)('has a profile of %s that says it was simulated, at the list price', (name) => {
    const text = readFileSync(join(shipped, 'profiles', `${name}.json`), 'utf8');
    const profile = parseProfile(text, name);
    expect(profile.gpu).toBe(name);
    const document = JSON.parse(text) as {
      provenance: { method: string };
      gpuType: string;
      gpusPerReplica: number;
    };
    expect(document.provenance.method).toBe('simulated');
    const { gpus } = JSON.parse(readFileSync('profiles/gpus.json', 'utf8')) as {
      gpus: { name: string; usdPerGpuHour: number }[];
    };
    const price = gpus.find((gpu) => gpu.name === document.gpuType)!.usdPerGpuHour;
    expect(profile.cost).toBeCloseTo(price * document.gpusPerReplica, 6);
  });

  it('reads long documents in time on the dear type only, and short requests cheapest on the one beside it', () => {
    const perUsd = (name: string, inputTokens: number, outputTokens: number): number => {
      const { cost, grid } = parseProfile(readFileSync(join(shipped, 'profiles', `${name}.json`), 'utf8'), name);
      const rps = grid.tputs[grid.indexes[0]!.indexOf(outputTokens)]![grid.indexes[1]!.indexOf(inputTokens)]!;
      return rps / cost!;
    };
    expect(perUsd('qwen3-14b-h100', 8192, 256)).toBeGreaterThan(2 * perUsd('qwen3-14b-rtx', 8192, 256));
    expect(perUsd('qwen3-14b-rtx', 2048, 1024)).toBeGreaterThan(perUsd('qwen3-14b-h100', 2048, 1024));
  });
});

/** Time [ms], input tokens, output tokens. */
type Request = readonly [number, number, number];

/** The problem of the four minutes before a moment, in the gateway's buckets, at their mean rate. */
function problemOfWindow(requests: readonly Request[], endMs: number) {
  const windowMs = 240_000;
  const counts = new Map<string, number>();
  for (const [atMs, inputTokens, outputTokens] of requests) {
    if (atMs < endMs - windowMs || atMs >= endMs) continue;
    const key = `${gatewayBucketIndex(inputTokens)}:${gatewayBucketIndex(outputTokens)}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  const deployments = profileNames.map((name) => {
    const text = readFileSync(join(shipped, 'profiles', `${name}.json`), 'utf8');
    const { gpuType } = JSON.parse(text) as { gpuType: string };
    const { cost, grid } = parseProfile(text, name);
    return { id: `default/${name}`, gpuType, usdPerReplicaHour: cost, profile: grid };
  });
  const demand = [...counts].map(([key, count]) => {
    const [input, output] = key.split(':').map(Number) as [number, number];
    return {
      inputTokens: tokensOfBucketIndex(input, 10),
      outputTokens: tokensOfBucketIndex(output, 10),
      rps: count / (windowMs / 1000),
    };
  });
  return planningProblemSchema.parse({
    apiVersion: 'gpumix/v1',
    kind: 'PlanningProblem',
    models: [{ name: 'qwen3-14b', demand, deployments }],
  });
}

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
const profileNames = ['chat-14b-a100', 'chat-14b-h100', 'chat-14b-l4'];

describe('the quickstart data', () => {
  let made = '';
  let trace = '';

  beforeAll(() => {
    made = mkdtempSync(join(tmpdir(), 'gpumix-samples-'));
    execFileSync(process.execPath, [join(shipped, 'generate.mjs'), '--out', made]);
    trace = gunzipSync(readFileSync(join(shipped, 'trace.csv.gz'))).toString('utf8');
  });

  afterAll(() => rmSync(made, { recursive: true, force: true }));

  it('is what the generator makes, byte for byte', () => {
    expect(gunzipSync(readFileSync(join(made, 'trace.csv.gz'))).toString('utf8') === trace).toBe(true);
    expect(readdirSync(join(shipped, 'profiles')).sort()).toEqual(profileNames.map((name) => `${name}.json`));
    for (const name of profileNames) {
      const file = join('profiles', `${name}.json`);
      expect(readFileSync(join(made, file), 'utf8')).toBe(readFileSync(join(shipped, file), 'utf8'));
    }
  });

  it('holds a day of requests in order, with whole and possible lengths', () => {
    const [header, ...rows] = trace.trimEnd().split('\n');
    expect(header).toBe('timestamp_ms,input_tokens,output_tokens');
    let previousMs = 0;
    for (const row of rows) {
      const [atMs, inputTokens, outputTokens] = row.split(',').map(Number) as [number, number, number];
      if (!(atMs >= previousMs && Number.isInteger(atMs))) throw new Error(`out of order: ${row}`);
      if (!(inputTokens >= 16 && inputTokens <= 11_000)) throw new Error(`input length: ${row}`);
      if (!(outputTokens >= 40 && outputTokens <= 4000)) throw new Error(`output length: ${row}`);
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
      if (inputTokens > 2500) longPerHour[hour]! += 1 / 3600;
    }
    // The trace begins at 08:00: index 6 is 14:00, index 19 is 03:00.
    expect(perHour[6]! / perHour[19]!).toBeGreaterThan(10);
    expect(perHour[1]! / perHour[0]!).toBeGreaterThan(1.3);
    expect(longPerHour[8]).toBeGreaterThan(1);
    expect(longPerHour[19]).toBe(0);
  });

  it('calls for other GPU types at night, by day and for long documents, each time proven optimal', () => {
    const rows = trace.trimEnd().split('\n').slice(1);
    const requests = rows.map((row) => row.split(',').map(Number) as unknown as Request);
    const atHour = (hour: number): Record<string, number | null> => {
      const answer = plan(problemOfWindow(requests, (hour - 8) * 3_600_000));
      expect(answer.status).toBe('optimal');
      expect(answer.warnings).toEqual([]);
      return Object.fromEntries(answer.deployments.map(({ gpuType, replicas }) => [gpuType, replicas]));
    };
    const total = (replicas: Record<string, number | null>) =>
      Object.values(replicas).reduce<number>((sum, count) => sum + (count ?? 0), 0);
    expect(atHour(28)['H100-80GB']).toBe(0);
    expect(total(atHour(28))).toBeLessThanOrEqual(2);
    for (const hour of [9, 11.5, 14, 17]) {
      const busy = atHour(hour);
      expect(total(busy)).toBeGreaterThanOrEqual(4);
      expect(total(busy)).toBeLessThanOrEqual(15);
      expect(busy['A100-80GB']).toBeGreaterThan(busy['H100-80GB']!);
    }
    // The job of 16:00 runs for half an hour; around 15:00 and 17:00 there is none.
    expect(atHour(16.2)['H100-80GB']).toBeGreaterThan(atHour(15)['H100-80GB']!);
    expect(atHour(16.2)['H100-80GB']).toBeGreaterThan(atHour(17)['H100-80GB']!);
    const mixes = Array.from({ length: 47 }, (_, i) => JSON.stringify(atHour(8.5 + i / 2)));
    expect(new Set(mixes).size).toBeGreaterThan(10);
  });

  it.each(profileNames)('has a profile of %s that says it was computed, not measured', (name) => {
    const text = readFileSync(join(shipped, 'profiles', `${name}.json`), 'utf8');
    const profile = parseProfile(text, name);
    expect(profile.gpu).toBe(name);
    expect(JSON.parse(text).provenance).toMatchObject({
      kind: 'illustrative',
      generator: 'samples/quickstart/generate.mjs',
    });
    // An end-to-end time wherever there is a throughput: a gateway that routes by this profile divides by it.
    const { tputs, e2e } = JSON.parse(text) as { tputs: number[][]; e2e: number[][] };
    tputs.forEach((row, r) => {
      row.forEach((rps, c) => {
        expect(e2e[r]![c]! > 0).toBe(rps > 0);
      });
    });
  });

  it('agrees with the formula at one cell that was worked out by hand', () => {
    // A100: prefill 2 × 14e9 × 1024 / (312e12 × 0.5) = 0.183795 s. KV of a request (1024 + 64) × 196,608 B = 213.9 MB;
    // memory lets (72e9 − 28e9) / 213.9e6 = 205 run, so the batch is 64. A step (28e9 + 64 × 213.9e6) / 1.6312e12
    // = 25.5578 ms; 128 of them / 64 = 0.0511156 s. 0.7 / 0.2349106 = 2.97986 requests/s.
    const text = readFileSync(join(shipped, 'profiles', 'chat-14b-a100.json'), 'utf8');
    const { grid } = parseProfile(text, 'a100');
    expect(grid.tputs[grid.indexes[0]!.indexOf(128)]![grid.indexes[1]!.indexOf(1024)]).toBeCloseTo(2.97986, 3);
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
    const { gpu_type: gpuType } = JSON.parse(text) as { gpu_type: string };
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
    models: [{ name: 'chat-14b', demand, deployments }],
  });
}

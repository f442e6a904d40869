import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseProfile } from '../../src/core/profile.js';

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
      if (!(outputTokens >= 4 && outputTokens <= 1000)) throw new Error(`output length: ${row}`);
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
    // The trace begins at 05:00: index 9 is 14:00, index 21 is 02:00.
    expect(perHour[9]! / perHour[21]!).toBeGreaterThan(10);
    expect(longPerHour[11]).toBeGreaterThan(1);
    expect(longPerHour[12]! + longPerHour[21]!).toBe(0);
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

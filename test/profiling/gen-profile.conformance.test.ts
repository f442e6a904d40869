import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { SloPercentile } from '../../src/profiling/attainment.js';
import { generateProfile, type SloName, sloNames, unsetSlo } from '../../src/profiling/gen-profile.js';
import { readBenchmark } from '../../src/profiling/imports/read-benchmark.js';

const folder = '../shared/conformance';
type Case = {
  readonly benchmark: string;
  readonly args: readonly string[];
  readonly slos: Readonly<Record<string, number>>;
  readonly indexes: readonly (readonly number[])[];
  readonly tputs: readonly (readonly number[])[];
  readonly e2e: readonly (readonly number[])[];
};

describe.skipIf(!existsSync(folder))('profiles as AIBrix makes them (skipped where ../shared is absent)', () => {
  const cases: readonly Case[] = existsSync(folder)
    ? JSON.parse(readFileSync(join(folder, 'aibrix.json'), 'utf8')).gen_profile
    : [];

  it.each(cases.map((one) => [one.args.join(' ') || 'without an SLO', one] as const))('%s', (_, expected) => {
    const { runs } = readBenchmark(readFileSync(join(folder, expected.benchmark), 'utf8'), 'benchmark');
    const { percentile = 0, ...slos } = expected.slos;
    const { profile } = generateProfile({
      deployment: 'x',
      runs,
      slo: { ...unsetSlo, ...(slos as Partial<Record<SloName, number>>) },
      percentile: percentile as SloPercentile,
      cost: 1,
      strict: true,
      createdSeconds: 0,
      by: 'a test',
      source: 'benchmark',
    });
    expect(sloNames.length).toBe(6);
    expect(profile.grid.indexes).toEqual(expected.indexes);
    expect(profile.grid.tputs).toEqual(expected.tputs);
    expect(profile.e2e).toEqual(expected.e2e);
    expect(profile.slos).toEqual(expected.slos);
  });
});

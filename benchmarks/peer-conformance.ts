import type { MipEngine } from './mip.js';
import { aibrixPlan, melangePlan, type PeerModel } from './peer-rules.js';

/**
 * What the peers themselves answer to small problems. Our copy of a rule has to reproduce it before any comparison
 * with that rule is printed.
 *
 * Mélange: the problem of its own example (two GPU types, four request sizes, 30 requests/s), 6.70 USD/hour with one
 * slice per size and 5.69 with 2, 4 or 8. AIBrix: its optimizer at commit e3e10f9e, run on two made-up types; hundredths
 * as it publishes them (or whole GPUs where it was run without the fraction), and the price once each is rounded up.
 */
const melangeExample: PeerModel = {
  name: 'melange-example',
  priority: 0,
  rps: [6, 3, 15, 6],
  types: [typeOf('A10G', 1.01, [2, 1, 5, 2]), typeOf('A100-80GB', 3.67, [20, 20, 40, 20])],
};

const melangeCases = [
  { sliceFactor: 1, usdPerHour: 6.7 },
  { sliceFactor: 2, usdPerHour: 5.69 },
  { sliceFactor: 4, usdPerHour: 5.69 },
  { sliceFactor: 8, usdPerHour: 5.69 },
];

/** Requests/s of the two sizes, and what AIBrix makes of them. */
export const aibrixCases = [
  { rps: [1, 1], fraction: 1, published: [0, 3], usdPerHour: 0.9 },
  { rps: [1, 1], fraction: 100, published: [25, 25], usdPerHour: 1.3 },
  { rps: [4, 4], fraction: 1, published: [1, 1], usdPerHour: 1.3 },
  { rps: [4, 4], fraction: 100, published: [100, 100], usdPerHour: 1.3 },
  { rps: [9, 1], fraction: 1, published: [1, 1], usdPerHour: 1.3 },
  { rps: [9, 1], fraction: 100, published: [25, 225], usdPerHour: 1.9 },
  { rps: [0, 3], fraction: 1, published: [1, 0], usdPerHour: 1 },
  { rps: [0, 3], fraction: 100, published: [75, 0], usdPerHour: 1 },
  { rps: [3, 0], fraction: 1, published: [0, 1], usdPerHour: 0.3 },
  { rps: [3, 0], fraction: 100, published: [0, 75], usdPerHour: 0.3 },
] as const;

/** Throughputs of the two types of the AIBrix cases [requests/s], by size. */
export const aibrixTypes = [
  { gpuType: 'A', usdPerHour: 1, tputs: [10, 4] },
  { gpuType: 'B', usdPerHour: 0.3, tputs: [4, 0.5] },
] as const;

const limits = { timeLimitMs: 60_000, relativeGap: 0 };
const tolerance = 1e-6;

/** How our copies of the rules differ from what the peers answer; empty where they reproduce it. */
export function conformanceFaults(engine: MipEngine): readonly string[] {
  const faults: string[] = [];
  for (const { sliceFactor, usdPerHour } of melangeCases) {
    const found = melangePlan(melangeExample, { sliceFactor, engine, limits }).usdPerHour;
    if (Math.abs(found - usdPerHour) <= tolerance) continue;
    faults.push(`Mélange's example, slice factor ${sliceFactor}: expected ${usdPerHour} USD/hour, found ${found}`);
  }
  const types = aibrixTypes.map(({ gpuType, usdPerHour, tputs }) => typeOf(gpuType, usdPerHour, tputs));
  for (const { rps, fraction, published, usdPerHour } of aibrixCases) {
    const model = { name: 'aibrix-case', priority: 0, rps, types };
    const found = aibrixPlan(model, { sliceFactor: 4, engine, limits, fraction });
    const place = `AIBrix at ${rps.join(' and ')} requests/s in 1/${fraction} GPU`;
    if (found.fractions?.join() !== published.join()) {
      faults.push(`${place}: expected ${published.join(', ')}, found ${found.fractions?.join(', ') ?? 'no answer'}`);
    }
    if (!(Math.abs(found.usdPerHour - usdPerHour) <= tolerance)) {
      faults.push(`${place}, rounded up: expected ${usdPerHour} USD/hour, found ${found.usdPerHour}`);
    }
  }
  return faults;
}

function typeOf(gpuType: string, usdPerReplicaHour: number, tputs: readonly number[]): PeerModel['types'][number] {
  return { gpuType, gpusPerReplica: 1, usdPerReplicaHour, secondsPerRequest: tputs.map((tput) => 1 / tput) };
}

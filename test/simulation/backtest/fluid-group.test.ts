import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { loadGpuCatalogue, loadModelCatalogue } from '../../../src/adapters/catalogue-file.js';
import { type GpuCatalogue, gpuByName } from '../../../src/core/gpu-types.js';
import { type ModelCatalogue, modelByName } from '../../../src/core/model-types.js';
import { type GroupOutcome, ReplicaGroup } from '../../../src/simulation/backtest/fluid-group.js';
import { SimulatedReplica } from '../../../src/simulation/replica.js';
import { type StepTimes, stepTimesOf } from '../../../src/simulation/step-time.js';
import { seededRandom } from '../../support/seeded-random.js';
import { constantSteps } from './fleets.js';

const limits = { maxSequences: 256, maxBatchedTokens: 2048, maxTokens: 100_000 };

function group(overrides: { stepTimes?: StepTimes; limits?: Partial<typeof limits>; replicas?: number } = {}) {
  const outcomes: GroupOutcome[] = [];
  const made = new ReplicaGroup({
    stepTimes: overrides.stepTimes ?? constantSteps(10),
    limits: { ...limits, ...overrides.limits },
    listener: (outcome) => outcomes.push(outcome),
    replicas: overrides.replicas ?? 1,
    atMs: 0,
    originMs: 0,
  });
  return { group: made, outcomes };
}
const request = (arrivedMs: number, inputTokens: number, outputTokens: number, count = 1) => ({
  arrivedMs,
  inputTokens,
  outputTokens,
  count,
});

describe('a group', () => {
  test('takes a step for a prompt, which gives the first token, and one for each further token', () => {
    const { group: one, outcomes } = group({ replicas: 5 });
    one.submit(request(3, 30, 4, 5), 5);
    expect([one.running, one.waiting, one.load]).toEqual([0, 5, 1]);
    one.advance(1000);
    expect(outcomes).toEqual([
      { arrivedMs: 3, inputTokens: 30, outputTokens: 4, count: 5, firstTokenMs: 15, endMs: 45 },
    ]);
    expect(one.isEmpty).toBe(true);
    expect(one.busyReplicaMs(1000)).toBe(5 * 40);
    expect(one.inFlightMs(1000)).toBe(5 * 40);
  });

  test('looks at a request when the step ends that is in progress, however many are taken together', () => {
    const { group: one, outcomes } = group();
    one.submit(request(0, 30, 100), 0);
    one.submit(request(56, 30, 1), 56);
    // One at the very end of a step takes part in the next.
    one.submit(request(200, 30, 1), 200);
    one.advance(10_000);
    expect(outcomes.map(({ firstTokenMs, endMs }) => [firstTokenMs, endMs])).toEqual([
      [70, 70],
      [210, 210],
      [10, 1000],
    ]);
  });

  test('refuses what is longer than the context, or than the whole cache', () => {
    const { group: one } = group({
      stepTimes: { ...constantSteps(10), kvCacheTokens: 160 },
      limits: { maxTokens: 200 },
    });
    expect(one.submit(request(0, 150, 51), 0)).toBe(false);
    expect(one.submit(request(0, 150, 12), 0)).toBe(false);
    expect(one.submit(request(0, 150, 11), 0)).toBe(true);
    one.advance(1000);
    expect(one.isEmpty).toBe(true);
  });

  test('keeps requests waiting where all places are taken', () => {
    const { group: one, outcomes } = group({ limits: { maxSequences: 2 } });
    for (const arrivedMs of [0, 1, 2]) one.submit(request(arrivedMs, 10, 6), arrivedMs);
    one.advance(35);
    expect([one.running, one.waiting]).toEqual([2, 1]);
    one.advance(1000);
    // The first ends at 60: then the third has its prompt computed.
    expect(outcomes.map(({ firstTokenMs }) => firstTokenMs)).toEqual([10, 20, 70]);
  });

  test('loses what it has, and tells of it', () => {
    const { group: one, outcomes } = group({ replicas: 2 });
    one.submit(request(0, 10, 6, 2), 0);
    one.submit(request(5, 20, 6, 2), 5);
    one.advance(15);
    expect(one.abandon()).toEqual([request(0, 10, 6, 2), request(5, 20, 6, 2)]);
    one.advance(1000);
    expect(outcomes).toEqual([]);
    expect([one.isEmpty, one.load]).toEqual([true, 0]);
  });
});

describe('a group of one replica agrees with a replica that is computed step by step', () => {
  let gpus: GpuCatalogue;
  let models: ModelCatalogue;
  beforeAll(async () => {
    [gpus, models] = await Promise.all([loadGpuCatalogue(), loadModelCatalogue()]);
  });

  const cases = [
    { name: 'a little load', gpu: 'H100', rps: 3, input: 1000, output: 200 },
    { name: 'near its limit', gpu: 'L40S', rps: 3.2, input: 1000, output: 200 },
    { name: 'mostly prompts', gpu: 'A100', rps: 3, input: 2000, output: 20 },
    { name: 'a full cache, with preemptions', gpu: 'A100', rps: 1.3, input: 3000, output: 600 },
    { name: 'far too much load', gpu: 'L40S', rps: 8, input: 800, output: 100 },
  ];
  test.each(cases)('under $name', ({ gpu, rps, input, output }) => {
    const stepTimes = stepTimesOf({
      gpu: gpuByName(gpus, gpu)!,
      model: modelByName(models, 'llama-3.1-8b')!,
      gpusPerReplica: 1,
      weightPrecision: 'bf16',
    });
    const random = seededRandom(7);
    const exponential = (mean: number): number => -Math.log(1 - random.next()) * mean;
    let atMs = 0;
    const requests = Array.from({ length: 3000 }, () => {
      atMs += exponential(1000 / rps);
      return request(atMs, 1 + Math.floor(exponential(input)), 1 + Math.floor(exponential(output)));
    });
    const truth = { ttft: [] as number[], tpot: [] as number[] };
    const firstMs: number[] = [];
    const replica = new SimulatedReplica({ stepTimes, limits });
    const listen = (kind: string, id: number, at: number, tokens: number): void => {
      if (kind === 'token' && tokens === 1) {
        firstMs[id] = at;
        truth.ttft.push(at - requests[id]!.arrivedMs);
      } else if (kind === 'finished' && tokens > 1) truth.tpot.push((at - firstMs[id]!) / (tokens - 1));
    };
    requests.forEach(({ arrivedMs, inputTokens, outputTokens }, id) => {
      replica.advanceEach(arrivedMs, listen);
      replica.submit({ id, inputTokens, outputTokens }, arrivedMs);
    });
    replica.advanceEach(Number.POSITIVE_INFINITY, listen);

    const { group: one, outcomes } = group({ stepTimes });
    for (const each of requests) one.submit(each, each.arrivedMs);
    one.advance(Number.POSITIVE_INFINITY);
    expect(outcomes).toHaveLength(requests.length);
    const ttft = outcomes.map((each) => each.firstTokenMs - each.arrivedMs);
    const tpot = outcomes
      .filter(({ outputTokens }) => outputTokens > 1)
      .map((each) => (each.endMs - each.firstTokenMs) / (each.outputTokens - 1));
    for (const share of [0.1, 0.5, 0.9, 0.99]) {
      // Phases of steps differ, and with them which requests share one: quantiles of 3,000 requests agree to their chance.
      expect(Math.abs(quantile(ttft, share) / quantile(truth.ttft, share) - 1)).toBeLessThan(0.06);
      expect(Math.abs(quantile(tpot, share) / quantile(truth.tpot, share) - 1)).toBeLessThan(0.03);
    }
    if (gpu === 'A100' && input === 3000) expect(replica.load().preemptions).toBeGreaterThan(0);
  });
});

describe('groups that are split and merged', () => {
  test('serve on as if they had not been, where they are split alone', () => {
    const whole = group({ replicas: 6 });
    const parts = group({ replicas: 6 });
    for (const one of [whole.group, parts.group]) {
      for (const atMs of [0, 4, 33]) one.submit(request(atMs, 700, 20, 6), atMs);
      one.advance(45);
    }
    const other = parts.group.split(2);
    expect([parts.group.replicas, other.replicas, other.load]).toEqual([4, 2, whole.group.load]);
    for (const one of [whole.group, parts.group, other]) one.advance(10_000);
    const ends = (outcomes: readonly GroupOutcome[]) => [...new Set(outcomes.map(({ endMs }) => endMs))];
    expect(ends(parts.outcomes)).toEqual(ends(whole.outcomes));
    expect(parts.outcomes.reduce((sum, { count }) => sum + count, 0)).toBeCloseTo(18, 9);
    expect(parts.group.busyReplicaMs(10_000) + other.busyReplicaMs(10_000)).toBeCloseTo(
      whole.group.busyReplicaMs(10_000),
      6,
    );
  });

  test('tell of no end before the first token, where one of two had just ended a long step', () => {
    const stepTimes: StepTimes = { kvCacheTokens: 8000, stepMs: ({ prefillTokens }) => 10 + prefillTokens / 10 };
    const decoding = group({ stepTimes });
    const prompting = group({ stepTimes });
    decoding.group.submit(request(0, 30, 100), 0);
    prompting.group.submit(request(0, 2000, 2), 0);
    // The long step ends at 210 ms; together they stand at about 160, and take 10 ms for the next token.
    decoding.group.merge(prompting.group, 100);
    decoding.group.advance(10_000);
    const outcomes = [...decoding.outcomes, ...prompting.outcomes];
    expect(outcomes).toHaveLength(2);
    for (const { firstTokenMs, endMs } of outcomes) expect(endMs).toBeGreaterThanOrEqual(firstTokenMs);
  });

  test('keep every request, whatever is done to them, and never tell of one before it came', () => {
    const action = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({
          kind: fc.constant('submit' as const),
          input: fc.integer({ min: 1, max: 3000 }),
          output: fc.integer({ min: 1, max: 300 }),
          which: fc.nat(),
        }),
      },
      {
        weight: 2,
        arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.integer({ min: 0, max: 3000 }) }),
      },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('split' as const), which: fc.nat() }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('merge' as const), which: fc.nat() }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('lose' as const), which: fc.nat() }) },
    );
    // A cache of a few requests, so that many are preempted.
    const stepTimes: StepTimes = {
      kvCacheTokens: 8000,
      stepMs: ({ prefillTokens, decodeSequences, decodeContextTokens }) =>
        10 + prefillTokens / 20 + decodeSequences / 10 + decodeContextTokens / 10_000,
    };
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const { group: first, outcomes } = group({ stepTimes, replicas: 8, limits: { maxSequences: 6 } });
        let groups = [first];
        let nowMs = 0;
        let submitted = 0;
        let lost = 0;
        for (const each of actions) {
          const chosen = 'which' in each ? groups[each.which % groups.length]! : first;
          if (each.kind === 'submit') {
            for (const one of groups) one.advance(nowMs);
            chosen.submit(request(nowMs, each.input, each.output, chosen.replicas), nowMs);
            submitted += chosen.replicas;
          } else if (each.kind === 'wait') {
            nowMs += each.ms;
            for (const one of groups) one.advance(nowMs);
          } else if (each.kind === 'split' && chosen.replicas > 1) {
            groups.push(chosen.split(Math.ceil(chosen.replicas / 3)));
          } else if (each.kind === 'merge' && groups.length > 1) {
            const other = groups[(each.which + 1) % groups.length]!;
            chosen.merge(other, nowMs);
            groups = groups.filter((one) => one !== other);
          } else if (each.kind === 'lose' && groups.length > 1) {
            lost += chosen.abandon().reduce((sum, { count }) => sum + count, 0);
            groups = groups.filter((one) => one !== chosen);
          }
          const answered = outcomes.reduce((sum, { count }) => sum + count, 0);
          const open = groups.reduce((sum, one) => sum + one.running + one.waiting, 0);
          expect(answered + open + lost).toBeCloseTo(submitted, 6);
        }
        for (const one of groups) one.advance(Number.POSITIVE_INFINITY);
        expect(groups.every((one) => one.isEmpty)).toBe(true);
        expect(outcomes.reduce((sum, { count }) => sum + count, lost)).toBeCloseTo(submitted, 6);
        for (const { arrivedMs, firstTokenMs, endMs } of outcomes) {
          expect(firstTokenMs).toBeGreaterThanOrEqual(arrivedMs);
          expect(endMs).toBeGreaterThanOrEqual(firstTokenMs);
        }
      }),
      { numRuns: 150 },
    );
  });

  test('are refused where no replica would be left, or none taken', () => {
    const { group: one } = group({ replicas: 3 });
    expect(() => one.split(3)).toThrow('3 of 3 replicas, expected more than none and fewer than all');
    expect(() => one.split(0)).toThrow(RangeError);
  });
});

function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(share * sorted.length)]!;
}

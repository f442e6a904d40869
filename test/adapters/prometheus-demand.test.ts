import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createPrometheusDemand, type PrometheusDemandSettings } from '../../src/adapters/prometheus-demand.js';
import { type TraceReading, type TraceSource, Unavailable } from '../../src/core/ports.js';
import { parseTraceRecord, type TraceRecord } from '../../src/demand/trace-record.js';
import { engineHistory, historySettings, type ScriptedEngine, steadyRequests } from '../support/engine-history.js';
import { type PrometheusServer, prometheusMissing, startPrometheus } from '../support/prometheus-server.js';
import { type ScriptedEndpoint, startEndpoint } from '../support/scripted-endpoint.js';

if (prometheusMissing !== null) console.log(`prometheus-demand: ${prometheusMissing}`);

const startSeconds = Date.UTC(2026, 0, 5) / 1000;
const durationS = 1200;

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  await Promise.all(stops.splice(0).map((stop) => stop()));
});

function source(settings: Partial<PrometheusDemandSettings> & { readonly url: string }, nowSeconds: { value: number }) {
  const made = createPrometheusDemand({ ...historySettings, ...settings }, { now: () => nowSeconds.value * 1000 });
  stops.push(() => made.close());
  return made;
}

function recordOf(reading: TraceReading): TraceRecord | null {
  if (reading.kind === 'unknown') return null;
  if (reading.kind !== 'present') throw new Error(`found ${reading.kind}`);
  return parseTraceRecord(reading.text, 'record').record;
}

const engine = (overrides: Partial<ScriptedEngine> & Pick<ScriptedEngine, 'pod' | 'model'>): ScriptedEngine => ({
  requests: steadyRequests({ rps: 1, fromS: 0, toS: durationS }),
  ...overrides,
});

/** One model for each case, all in one server: they must not disturb each other. */
const engines: readonly ScriptedEngine[] = [
  engine({ pod: 'plain-0', model: 'plain', requests: steadyRequests({ rps: 2, fromS: 0, toS: durationS }) }),
  engine({ pod: 'plain-1', model: 'plain', namespace: 'other', scrapeOffsetS: 7 }),
  engine({ pod: 'silent-0', model: 'silent', requests: [] }),
  engine({ pod: 'restart-0', model: 'restart', restartsS: [615] }),
  engine({ pod: 'restart-1', model: 'restart' }),
  engine({ pod: 'vanish-0', model: 'vanish' }),
  engine({ pod: 'vanish-1', model: 'vanish', toS: 615, requests: steadyRequests({ rps: 1, fromS: 0, toS: 600 }) }),
  engine({ pod: 'appear-0', model: 'appear' }),
  engine({
    pod: 'appear-1',
    model: 'appear',
    fromS: 600,
    requests: steadyRequests({ rps: 1, fromS: 600, toS: durationS }),
  }),
  // A pod that has run for long and becomes a target only now.
  engine({ pod: 'late-0', model: 'late' }),
  engine({ pod: 'late-1', model: 'late', fromS: 600, requests: steadyRequests({ rps: 20, fromS: 0, toS: durationS }) }),
  engine({ pod: 'gap-0', model: 'gap', failsAt: (t) => t >= 600 && t < 690 }),
  ...['0', '1', '2', '3'].map((n) =>
    engine({ pod: `flaky-${n}`, model: 'flaky', ...(n === '3' ? { failsAt: (t: number) => t >= 600 } : {}) }),
  ),
  engine({
    pod: 'abort-0',
    model: 'abort',
    requests: steadyRequests({ rps: 2, fromS: 0, toS: durationS, isAborted: (index) => index % 2 === 1 }),
  }),
  engine({ pod: 'twice-0', model: 'twice', jobs: ['pods', 'services'] }),
  engine({ pod: 'slow-0', model: 'slow', labels: { cluster: 'slow' }, scrapeEveryS: 60 }),
  engine({ pod: 'dark-0', model: 'dark', isDark: (t) => t >= 600 && t < 690 }),
  engine({
    pod: 'long-0',
    model: 'long',
    requests: steadyRequests({ rps: 1, fromS: 0, toS: durationS, seconds: 300 }),
  }),
  // Two kinds of engines: the buckets of the second go further.
  engine({
    pod: 'mixed-0',
    model: 'mixed',
    requests: steadyRequests({ rps: 1, fromS: 0, toS: durationS, inputTokens: 3000, outputTokens: 40 }),
  }),
  engine({
    pod: 'mixed-1',
    model: 'mixed',
    maxModelTokens: 131_072,
    requests: steadyRequests({ rps: 1, fromS: 0, toS: durationS, inputTokens: 30_000, outputTokens: 40 }),
  }),
  engine({
    pod: 'spread-0',
    model: 'spread',
    requests: steadyRequests({
      // As many in each interval as make whole rounds of the lengths.
      rps: 3.2,
      fromS: 0,
      toS: durationS,
      inputTokens: (i) => [120, 900, 2500, 3900][i % 4]!,
      outputTokens: (i) => [10, 60, 350, 3][Math.floor(i / 4) % 4]!,
    }),
  }),
];

/** The same engine as SGLang tells of itself: other names, and gauges by each of two tensor-parallel ranks. */
function asSglang(history: string): string {
  const names: readonly (readonly [string, string])[] = [
    ['vllm:request_success_total', 'sglang:num_requests_total'],
    ['vllm:time_to_first_token_seconds', 'sglang:time_to_first_token_seconds'],
    ['vllm:num_requests_waiting', 'sglang:num_queue_reqs'],
    ['vllm:num_requests_running', 'sglang:num_running_reqs'],
    ['vllm:request_prompt_tokens', 'sglang:prompt_tokens_histogram'],
    ['vllm:request_generation_tokens', 'sglang:generation_tokens_histogram'],
  ];
  const renamed = names.reduce((text, [from, to]) => text.replaceAll(from, to), history);
  return renamed
    .split('\n')
    .flatMap((line) =>
      /^sglang:num_(queue|running)_reqs/.test(line)
        ? ['0', '1'].map((rank) => line.replace('{', `{tp_rank="${rank}",`))
        : [line],
    )
    .join('\n');
}

describe.skipIf(prometheusMissing !== null)('demand out of what a Prometheus server scraped', () => {
  let prometheus: PrometheusServer;
  let all: TraceSource;
  beforeAll(async () => {
    const vllm = engineHistory(engines, { startSeconds, durationS });
    const sglang = engineHistory([engine({ pod: 'sglang-0', model: 'sglang' })], { startSeconds, durationS });
    prometheus = await startPrometheus([], { history: `${vllm.replace('# EOF\n', '')}${asSglang(sglang)}` });
  });
  afterAll(() => prometheus?.stop());

  const ends = (fromS: number, toS: number): readonly number[] =>
    Array.from({ length: (toS - fromS) / 30 + 1 }, (_, i) => startSeconds + fromS + i * 30);

  async function recordsOf(
    model: string,
    { fromS = 540, toS = 900, ...settings }: Partial<PrometheusDemandSettings> & { fromS?: number; toS?: number } = {},
  ): Promise<readonly (TraceRecord | null)[]> {
    all = source({ url: prometheus.url, ...settings }, { value: startSeconds + toS + 6 });
    const readings = await all.readTraces(ends(fromS, toS).map((endSeconds) => ({ model, endSeconds })));
    return readings.map(recordOf);
  }
  const arrivalsOf = (records: readonly (TraceRecord | null)[]) => records.map((record) => record?.arrivals ?? null);
  const total = (records: readonly (TraceRecord | null)[]) =>
    records.reduce((sum, record) => sum + (record?.arrivals ?? 0), 0);

  it('is what was sent, interval by interval, over all namespaces and pods of the model', async () => {
    const records = await recordsOf('plain');
    expect(arrivalsOf(records)).toEqual(Array.from({ length: 13 }, () => 90));
    // Each request is in an engine for 4 s: 12 of them at any time.
    for (const record of records) expect(record!.pending).toBe(12);
    expect(all.concern).toBeNull();
  });

  it('is that of the followed namespaces alone, or of the series with a label', async () => {
    expect(arrivalsOf(await recordsOf('plain', { namespaces: ['other'], toS: 570 }))).toEqual([30, 30]);
    expect(arrivalsOf(await recordsOf('plain', { namespaces: ['o.*'], toS: 570 }))).toEqual([null, null]);
    expect(arrivalsOf(await recordsOf('plain', { labels: { pod: 'plain-0' }, toS: 570 }))).toEqual([60, 60]);
  });

  it('is zero where engines are up and silent, and unknown where there are none', async () => {
    expect(arrivalsOf(await recordsOf('silent'))).toEqual(Array.from({ length: 13 }, () => 0));
    expect(arrivalsOf(await recordsOf('nobody'))).toEqual(Array.from({ length: 13 }, () => null));
  });

  it('loses no more to a restart than what came between two scrapes', async () => {
    const records = await recordsOf('restart');
    expect(Math.min(...arrivalsOf(records).map(Number))).toBeGreaterThanOrEqual(60 - 10);
    expect(total(records)).toBeGreaterThanOrEqual(13 * 60 - 10);
    expect(total(records)).toBeLessThanOrEqual(13 * 60);
  });

  it('counts a pod until it vanishes, and one that appears from its first scrape', async () => {
    const vanished = arrivalsOf(await recordsOf('vanish'));
    expect(vanished.slice(0, 3)).toEqual([60, 60, 60]);
    expect(vanished.slice(4)).toEqual(Array.from({ length: 9 }, () => 30));
    const appeared = await recordsOf('appear');
    expect(arrivalsOf(appeared).slice(0, 2)).toEqual([30, 30]);
    expect(arrivalsOf(appeared).slice(4)).toEqual(Array.from({ length: 9 }, () => 60));
    expect(total(appeared)).toBe(3 * 30 + 10 * 60 - 7);
  });

  it('does not take the past of a pod that becomes a target late for what arrives now', async () => {
    const arrivals = arrivalsOf(await recordsOf('late'));
    expect(arrivals.slice(0, 3)).toEqual([30, 30, 30]);
    // Up to as many as the busiest other engine got, and from then on what it gets.
    expect(arrivals[3]).toBe(60);
    expect(arrivals.slice(4)).toEqual(Array.from({ length: 9 }, () => 630));
  });

  it.each(['gap', 'dark'])('is unknown, not zero, where nothing was scraped (%s), and exact over it', async (model) => {
    const arrivals = arrivalsOf(await recordsOf(model));
    // Scrapes at 603 … 683 are missing: of the three intervals that end at 630, 660 and 690 none was read.
    expect(arrivals.slice(0, 3)).toEqual([30, 30, 30]);
    expect(arrivals.slice(3, 6)).toEqual([null, null, null]);
    expect(arrivals.slice(6)).toEqual(Array.from({ length: 7 }, () => 30));
  });

  it('counts replicas that cannot be read now as the mean of those that can, for as long as they are remembered', async () => {
    const arrivals = arrivalsOf(await recordsOf('flaky'));
    expect(arrivals.slice(0, 12)).toEqual(Array.from({ length: 12 }, () => 120));
    // Five minutes after its last scrape it has gone.
    expect(arrivalsOf(await recordsOf('flaky', { fromS: 960, toS: 960 }))).toEqual([90]);
  });

  it('counts requests whose clients go away, which the engine counts nowhere as ended', async () => {
    expect(arrivalsOf(await recordsOf('abort'))).toEqual(Array.from({ length: 13 }, () => 60));
  });

  it('counts a target that two jobs scrape once', async () => {
    expect(arrivalsOf(await recordsOf('twice'))).toEqual(Array.from({ length: 13 }, () => 30));
  });

  it('is told by SGLang as by vLLM, whose ranks are one engine', async () => {
    const records = await recordsOf('sglang');
    expect(arrivalsOf(records)).toEqual(Array.from({ length: 13 }, () => 30));
    for (const record of records) expect(record!.pending).toBe(4);
    const [{ inputTokens, outputTokens }] = records[0]!.buckets as [TraceRecord['buckets'][number]];
    expect([Math.round(inputTokens), Math.round(outputTokens)]).toEqual([700, 130]);
  });

  it('counts requests when they arrive, not when they end', async () => {
    const records = await recordsOf('long');
    expect(arrivalsOf(records)).toEqual(Array.from({ length: 13 }, () => 30));
    expect(records[0]!.pending).toBe(300);
  });

  it('says what to set where engines are scraped less often than every interval', async () => {
    const arrivals = arrivalsOf(await recordsOf('slow', { labels: { cluster: 'slow' } }));
    expect(arrivals.filter((count) => count !== null)).toEqual(Array.from({ length: 6 }, () => 30));
    expect(all.concern).toContain('scraped about every 60 s');
    expect(all.concern).toContain('set demand.intervalSeconds');
    const at60 = source(
      { url: prometheus.url, labels: { cluster: 'slow' }, intervalSeconds: 60 },
      { value: startSeconds + 906 },
    );
    const [reading] = await at60.readTraces([{ model: 'slow', endSeconds: startSeconds + 900 }]);
    expect(recordOf(reading!)?.arrivals).toBe(60);
    expect(at60.concern).toBeNull();
  });

  it('has the exact mean lengths of what was completed', async () => {
    const [record] = await recordsOf('spread', { fromS: 900 });
    const requests = record!.buckets.reduce((sum, { count }) => sum + count, 0);
    const mean = (of: 'inputTokens' | 'outputTokens') =>
      record!.buckets.reduce((sum, bucket) => sum + bucket.count * bucket[of], 0) / requests;
    expect(requests / 1000).toBeCloseTo(96, 0);
    expect(Math.abs(mean('inputTokens') / 1855 - 1)).toBeLessThan(0.002);
    expect(Math.abs(mean('outputTokens') / 105.75 - 1)).toBeLessThan(0.002);
    // Lengths were independent here, and so the joint shape is right too: a quarter of a quarter each.
    const long = record!.buckets.filter(({ inputTokens, outputTokens }) => inputTokens > 2000 && outputTokens > 200);
    expect(long.reduce((sum, { count }) => sum + count, 0) / requests).toBeCloseTo(1 / 8, 2);
  });

  it('keeps the lengths of engines with other buckets apart', async () => {
    const [record] = await recordsOf('mixed', { fromS: 900 });
    const requests = record!.buckets.reduce((sum, { count }) => sum + count, 0);
    const byInput = record!.buckets.map(({ inputTokens, count }) => [Math.round(inputTokens / 100), count / requests]);
    expect(byInput).toEqual([
      [30, 0.5],
      [300, 0.5],
    ]);
  });

  it('is of a model by the name under which it is served; one that nobody serves is said', async () => {
    const named = await recordsOf('mine', { models: new Map([['plain', 'mine']]), toS: 570 });
    expect(arrivalsOf(named)).toEqual([90, 90]);
    await recordsOf('mine', { labels: { pod: 'plain-0' } });
    expect(all.concern).toContain('found no engines that serve mine, and some that serve plain');
    expect(all.concern).toContain('models.<model>.servedNames');
    await recordsOf('mine', { modelLabel: 'model' });
    expect(all.concern).toContain('found counters of engines without the label "model"');
    await recordsOf('mine', { labels: { pod: 'nobody' } });
    expect(all.concern).toContain('found no counters of engines');
  });

  it('of an interval that has just ended is not told before its scrapes can have arrived', async () => {
    const now = { value: startSeconds + 904 };
    const late = source({ url: prometheus.url }, now);
    const keys = [870, 900].map((s) => ({ model: 'plain', endSeconds: startSeconds + s }));
    expect((await late.readTraces(keys)).map(({ kind }) => kind)).toEqual(['present', 'unknown']);
    now.value += 2;
    expect((await late.readTraces(keys)).map(({ kind }) => kind)).toEqual(['present', 'present']);
  });
});

describe('a Prometheus server that tells no demand', () => {
  const empty = JSON.stringify({ status: 'success', data: { resultType: 'matrix', result: [] } });
  async function endpoint(answer: ScriptedEndpoint['answer'] | string): Promise<ScriptedEndpoint> {
    const started = await startEndpoint(answer);
    stops.push(() => started.stop());
    return started;
  }
  const key = { model: 'llama', endSeconds: startSeconds };
  const now = () => ({ value: startSeconds + 10 });

  it.each([
    ['no JSON', 'gateway timeout', 'strict JSON'],
    ['a refusal', JSON.stringify({ status: 'error', error: 'x' }), 'status: found "error"'],
    ['a vector', JSON.stringify({ status: 'success', data: { resultType: 'vector', result: [] } }), 'resultType'],
  ])('is unavailable where it answers with %s', async (_, answer, problem) => {
    const { url } = await endpoint(answer);
    const reading = source({ url }, now()).readTraces([key]);
    await expect(reading).rejects.toThrow(Unavailable);
    await expect(reading).rejects.toThrow(problem);
  });

  it('is unavailable where it hangs or is not there', async () => {
    const { url, stop } = await endpoint(() => undefined);
    await expect(source({ url, timeoutMs: 50 }, now()).readTraces([key])).rejects.toMatchObject({
      code: 'prometheus_unreachable',
    });
    await stop();
    await expect(source({ url }, now()).readTraces([key])).rejects.toMatchObject({ code: 'prometheus_unreachable' });
  });

  it.each([
    ['an hour ahead', -3600, 'behind'],
    ['an hour back', 3600, 'ahead of'],
  ])('is unavailable while our clock is set %s: it would tell of another time', async (_, aheadSeconds, word) => {
    const clock = now();
    const time = { resultType: 'vector', result: [{ metric: {}, value: [0, '0'] as [number, string] }] };
    let isOther = true;
    const server = await endpoint((request, response) => {
      const isTime = !request.url?.endsWith('_range');
      time.result[0]!.value[1] = String(clock.value + (isOther ? aheadSeconds : 0));
      response.end(isTime ? JSON.stringify({ status: 'success', data: time }) : empty);
    });
    const made = source({ url: server.url, clockToleranceSeconds: 60 }, clock);
    await expect(made.readTraces([key])).rejects.toMatchObject({
      code: 'prometheus_clock',
      message: expect.stringContaining(`found a clock 3600 s ${word} the clock here`),
    });
    isOther = false;
    expect(await made.readTraces([key])).toEqual([{ kind: 'unknown' }]);
  });

  it.skipIf(prometheusMissing !== null)('asks a real server for its time', async () => {
    const server = await startPrometheus([]);
    stops.push(() => server.stop());
    const clock = { value: Date.now() / 1000 };
    const made = source({ url: server.url, clockToleranceSeconds: 60 }, clock);
    const newest = () => [{ model: 'llama', endSeconds: Math.floor(clock.value / 10) * 10 - 30 }];
    expect(await made.readTraces(newest())).toEqual([{ kind: 'unknown' }]);
    clock.value -= 3600;
    await expect(made.readTraces(newest())).rejects.toMatchObject({ code: 'prometheus_clock' });
  });

  it('asks as many queries for a thousand models as for one, and none for what it was told', async () => {
    const server = await endpoint(empty);
    const clock = now();
    const made = source({ url: server.url }, clock);
    const keysAt = (endSeconds: number) => Array.from({ length: 1000 }, (_, i) => ({ model: `m${i}`, endSeconds }));
    expect((await made.readTraces(keysAt(startSeconds))).every(({ kind }) => kind === 'unknown')).toBe(true);
    expect(server.requests).toHaveLength(10);
    await made.readTraces(keysAt(startSeconds));
    expect(server.requests).toHaveLength(10);
    // A model without engines is asked for while they may still be heard of, and not for ever.
    clock.value += 30;
    await made.readTraces(keysAt(startSeconds));
    expect(server.requests).toHaveLength(20);
    clock.value += 120;
    await made.readTraces(keysAt(startSeconds));
    expect(server.requests).toHaveLength(20);
  });
});

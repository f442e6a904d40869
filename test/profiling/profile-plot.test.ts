import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { GpuProfile } from '../../src/core/profile.js';
import { generateProfile, type ProfileSlo, unsetSlo } from '../../src/profiling/gen-profile.js';
import { readBenchmark } from '../../src/profiling/imports/read-benchmark.js';
import { plotProfile } from '../../src/profiling/profile-plot.js';

/** The profile of a grid without its middle cell, at three rates each; or of other rows. */
function generated(slo: Partial<ProfileSlo>, others?: readonly object[]) {
  const grid = [128, 512, 2048].flatMap((input) =>
    [64, 256, 1024].flatMap((output) =>
      input === 512 && output === 256
        ? []
        : [1, 2, 4].flatMap((rate) => {
            const run = { input_tokens: input, output_tokens: output, request_rate: rate, model: 'a<b>&"c"' };
            const e2e = (rate * (input + output)) / 1000;
            const tput = output === 1024 ? Math.min(rate, 1.5) : rate;
            return [
              { ...run, metric: 'TPUT', mean: tput },
              { ...run, metric: 'E2E', mean: e2e, P95: 2 * e2e },
              { ...run, metric: 'TTFT', mean: e2e / 10, P95: e2e / 5 },
            ];
          }),
    ),
  );
  const rows: readonly object[] = others ?? grid;
  return generateProfile({
    deployment: 'x',
    runs: readBenchmark(rows.map((row) => JSON.stringify(row)).join('\n'), 'x').runs,
    slo: { ...unsetSlo, ...slo },
    percentile: 95,
    cost: 0.7,
    strict: false,
    createdSeconds: 1_790_000_000,
    by: 'a test',
    source: 'x',
    gpuType: 'L4',
    gpusPerReplica: 2,
  });
}

/** Opening and closing tags match, attributes are quoted, nothing else looks like a tag: enough of XML for our own text. */
function expectWellFormed(svg: string): void {
  const open: string[] = [];
  const rest = svg.replace(
    /<(\/?)([a-z]+)((?:\s+[a-zA-Z0-9:-]+="[^"<]*")*)\s*(\/?)>/g,
    (_, closing, name, __, empty) => {
      if (closing === '/') expect(open.pop()).toBe(name);
      else if (empty === '') open.push(name);
      return '';
    },
  );
  expect(open).toEqual([]);
  expect(rest).not.toMatch(/[<>]/);
  expect(rest.replace(/&(?:amp|lt|gt|quot);/g, '')).not.toContain('&');
  expect(svg).not.toMatch(/NaN|Infinity|undefined/);
}

describe('the picture of a profile', () => {
  const { profile, decisions } = generated({ e2e: 6, ttft: 0.5 });
  const svg = plotProfile({ profile, decisions });

  it('is a standalone SVG on a white ground, and the same every time', () => {
    expectWellFormed(svg);
    expect(svg).toMatch(/<rect width="1120" height="\d+" fill="#ffffff"\/>/);
    expect(svg).not.toMatch(/<(?:script|style|image|foreignObject)|href=|url\((?!#hatch\))/);
    expect(plotProfile({ profile, decisions })).toBe(svg);
  });

  it('says what it is of: model, GPUs, deployment, SLO, percentile, cost, method and date', () => {
    expect(svg).toContain('a&lt;b&gt;&amp;&quot;c&quot; on 2 × L4: throughput within the SLO');
    expect(svg).toContain(
      'deployment x  ·  E2E &lt; 6 s, TTFT &lt; 500 ms (P95)  ·  0.7 USD per replica-hour  ·  measured  ·  2026-09-21 14:13 UTC',
    );
  });

  it('writes the throughput into every cell, and marks those that are interpolated or 0', () => {
    const cells = [...svg.matchAll(/<title>(\d+ in, \d+ out: [^<]*)<\/title>/g)].map(([, hint]) => hint);
    expect(cells).toHaveLength(9);
    // A fifth of the way from 128 to 2048 tokens, and from 64 to 1024: work 1/4 + (1 − 1/4)/5 by both axes.
    expect(cells).toContain('512 in, 256 out: 2.5 requests/s, interpolated');
    expect(svg).toContain('>≈ 2.50</text>');
    expect(svg.match(/stroke-dasharray="4 3"/g)!.length).toBe(2);
    const zeros = profile.grid.tputs.flat().filter((tput) => tput === 0).length;
    expect(zeros).toBeGreaterThan(0);
    expect(svg.match(/>0<\/text>/g)!.length).toBe(zeros);
    expect(svg).toContain('cannot meet the SLO');
  });

  it('has numbers on both axes of a single run, whatever they are', () => {
    for (const [rate, e2e] of [
      [3, 1.3],
      [1.3, 0.0033],
      [77, 130],
      [1, 1],
    ] as const) {
      const run = { input_tokens: 64, output_tokens: 64, request_rate: rate };
      const { profile: one, decisions: its } = generated({}, [
        { ...run, metric: 'TPUT', mean: rate },
        { ...run, metric: 'E2E', mean: e2e, P95: e2e },
      ]);
      const picture = plotProfile({ profile: one, decisions: its });
      expectWellFormed(picture);
      const labels = [...picture.matchAll(/font-size="11.5" fill="#66727f" text-anchor="(\w+)">([^<]*)</g)];
      for (const anchor of ['end', 'middle']) {
        const numbers = labels.filter(([, found]) => found === anchor).map(([, , number]) => number);
        expect(numbers.length).toBeGreaterThanOrEqual(2);
        expect(new Set(numbers).size).toBe(numbers.length);
      }
    }
  });

  it('stays within the page, however many lengths and objectives there are and whatever they are called', () => {
    const inputs = [128, 256, 512, 1024, 2048, 4096, 8192, 16_384];
    const { profile: wide, decisions: its } = generated(
      { tput: 1, tt: 0.01, e2e: 100, ttft: 100, tpat: 100, tpot: 0.125 },
      inputs.flatMap((input) => {
        const run = { input_tokens: input, output_tokens: 64, request_rate: 1, model: `m\u202e${'m'.repeat(200)}` };
        const times = ['E2E', 'TTFT', 'TPOT'].map((metric) => ({ ...run, metric, mean: 0.1, P95: 0.1 }));
        return [{ ...run, metric: 'TPUT', mean: 1 }, { ...run, metric: 'TT', mean: 64 }, ...times];
      }),
    );
    const picture = plotProfile({ profile: { ...wide, gpu: 'd'.repeat(200) }, decisions: its });
    expectWellFormed(picture);
    expect(picture).not.toContain('\u202e');
    for (const [, x, size, rest, content] of picture.matchAll(
      /<text x="([\d.]+)"[^>]*font-size="([\d.]+)"([^>]*)>([^<]*)</g,
    )) {
      if (rest!.includes('text-anchor') || Number(size) > 20) continue;
      // Measured in DejaVu Sans, the widest of the fonts: such a line has 0.53 of its size a letter.
      expect(Number(x) + content!.replace(/&\w+;/g, '<').length * Number(size) * 0.55, content).toBeLessThan(1120);
    }
  });

  it('draws the latencies by rate of each objective, its limit, and the runs that were chosen', () => {
    expect(svg).toContain('End-to-end latency by request rate (P95, SLO 6 s)');
    expect(svg).toContain('Time to first token by request rate (P95, SLO 500 ms)');
    // Eight cells with runs, twice; the limit in three panels and the legend, twice.
    expect(svg.match(/stroke-linejoin="round"\/>/g)!.length).toBe(16);
    expect(svg.match(/stroke-dasharray="6 4"/g)!.length).toBe(8);
    const chosen = decisions.filter((cell) => cell.chosen !== null).length;
    expect(svg.match(/r="5.4"/g)!.length).toBe(2 * chosen + 2);
  });

  it('without an objective shows the end-to-end latency, and without runs the throughputs alone', () => {
    const free = generated({});
    const withCurves = plotProfile(free);
    expect(withCurves).toContain('no SLO');
    expect(withCurves).toContain('End-to-end latency by request rate (P95)');
    const alone = plotProfile({ profile: free.profile });
    expectWellFormed(alone);
    expect(alone).not.toContain('by request rate');
  });

  it('is one of any profile', () => {
    const axis = fc
      .uniqueArray(fc.integer({ min: 0, max: 200_000 }), { minLength: 1, maxLength: 14 })
      .map((values) => values.sort((a, b) => a - b));
    const any = fc.tuple(
      axis,
      axis,
      fc.string({ unit: 'binary' }),
      fc.infiniteStream(fc.constantFrom(0, null, 1e-9, 0.5, 30, 1e9)),
    );
    fc.assert(
      fc.property(any, ([outputs, inputs, name, values]) => {
        const drawn: GpuProfile = {
          gpu: name,
          cost: null,
          grid: { indexes: [outputs, inputs], tputs: outputs.map(() => inputs.map(() => values.next().value)) },
          created: 1e300,
          slos: { percentile: 99, e2e: 0 },
          model: name,
        };
        const text = plotProfile({ profile: drawn }).replaceAll(/(?:NaN|Infinity|undefined)(?=[^<]*<\/t)/g, '');
        expectWellFormed(text);
      }),
      { numRuns: 200 },
    );
  });
});

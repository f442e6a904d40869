import { describe, expect, it } from 'vitest';
import {
  isPlanChange,
  type QuickstartRow,
  quickstartLine,
  quickstartRow,
  renderQuickstart,
} from '../../src/service/quickstart-table.js';
import { deploymentView, modelView, planOf } from '../support/scripted-view.js';

const facts = {
  title: 'chat-14b on 3 GPU types',
  url: 'http://127.0.0.1:8080',
  metricPath: '/metrics/default/chat-14b-l4',
  objective: 'TTFT ≤ 2 s, TPOT ≤ 0.1 s',
};

function row(overrides: Partial<QuickstartRow> = {}): QuickstartRow {
  return {
    atMs: Date.parse('2026-11-20T10:00:10Z'),
    rps: 3.2,
    forecastRps: 4.14,
    replicas: new Map([
      ['L4', 2],
      ['A100-80GB', 1],
      ['H100-80GB', 0],
    ]),
    usdPerHour: 6.6,
    singleTypeUsdPerHour: 9.8,
    singleTypeGpu: 'H100-80GB',
    service: null,
    heldReason: null,
    ...overrides,
  };
}

const plainSize = { columns: 80, rows: 24, color: false };
const draw = (rows: readonly QuickstartRow[], size = plainSize, loads: readonly number[] = [1, 2, 4]) =>
  renderQuickstart(facts, rows, { size, loads });
// biome-ignore lint/suspicious/noControlCharactersInRegex: SGR codes are what is removed
const uncoloured = (line: string) => line.replace(/\x1b\[\d+m/g, '');

describe('the quickstart table', () => {
  it('draws time, load, replicas per GPU type, money and saving in columns that line up, and where to look', () => {
    const later = row({
      atMs: Date.parse('2026-11-20T10:05:00Z'),
      rps: 12.4,
      forecastRps: 14,
      replicas: new Map([
        ['L4', 1],
        ['A100-80GB', 3],
        ['H100-80GB', 0],
      ]),
      usdPerHour: 11.8,
      singleTypeUsdPerHour: 19.6,
    });
    expect(draw([row(), later]).join('\n')).toBe(
      [
        ' gpumix  chat-14b on 3 GPU types',
        '',
        ' load  ▃▅█  1.0 – 4.0 rps',
        '',
        ' trace time    rps forecast   L4  A100-80GB  H100-80GB    USD/h one type  saving',
        ' 11-20 10:00   3.2      4.1    2          1          0     6.60     9.80    33 %',
        ' 11-20 10:05  12.4     14.0    1↓         3↑         0    11.80    19.60    40 %',
        '',
        ' read  curl http://127.0.0.1:8080/metrics/default/chat-14b-l4',
        ' look  http://127.0.0.1:8080/docs  every route, to try',
        '       http://127.0.0.1:8080/api/v1/plan  the plan, with its proof',
        ' stop  Ctrl-C',
      ].join('\n'),
    );
  });

  const served = { attainment: 0.9969, ttftP95Seconds: 0.843, windowSeconds: 1800 };

  it('shows what the requests of simulated replicas saw beside what was planned for them, on 80 columns', () => {
    const quickstart = {
      replicas: new Map([
        ['L4', 0],
        ['A100-80GB', 3],
        ['H100', 1],
      ]),
      singleTypeGpu: 'H100',
    };
    const late = row({ ...quickstart, service: { ...served, attainment: 0.98 } });
    const lines = draw([row(quickstart), late, row({ ...quickstart, service: served })]);
    expect(lines.slice(3, 8)).toEqual([
      ' users 99.6 % in time, TTFT p95 0.84 s (TTFT ≤ 2 s, TPOT ≤ 0.1 s), last 30 min',
      ' trace time    rps forecast   L4  A100-80GB  H100    USD/h  saving attained',
      ' 11-20 10:00   3.2      4.1    0          3     1     6.60    33 %        –',
      ' 11-20 10:00   3.2      4.1    0          3     1     6.60    33 %   98.0 %',
      ' 11-20 10:00   3.2      4.1    0          3     1     6.60    33 %   99.6 %',
    ]);
    const wide = draw([late], { ...plainSize, columns: 100 });
    expect(wide[4]).toBe(
      ' trace time    rps forecast   L4  A100-80GB  H100    USD/h one type  saving attained TTFT p95',
    );
    expect(wide[5]).toMatch(/ 6\.60 {5}9\.80 {4}33 % {3}98\.0 % {3}0\.84 s$/);
    const coloured = draw([late, row({ service: served })], { ...plainSize, color: true }).join('\n');
    expect(coloured).toContain('\x1b[33m   98.0 %\x1b[39m');
    expect(coloured).toContain('\x1b[32m   99.6 %\x1b[39m');
  });

  it('does not round up to all of the requests, and says nothing of an objective that is not there', () => {
    const almost = row({ service: { ...served, attainment: 0.99999 } });
    expect(draw([almost]).join('\n')).toContain('99.9 % in time');
    expect(draw([row({ service: { ...served, attainment: 1 } })]).join('\n')).toContain('100.0 % in time');
    const none = row({ service: { ...served, attainment: null } });
    expect(draw([none])[3]).toBe(' users TTFT p95 0.84 s, last 30 min');
    expect(draw([row({ service: served, heldReason: 'no_traces' })])[3]).toMatch(/^ held /);
  });

  it.each([40, 60, 80, 120])(
    'never writes a line wider than a terminal of %i columns, nor more lines than it has',
    (columns) => {
      const rows = Array.from({ length: 50 }, (_, i) =>
        row({ atMs: i * 60_000, rps: i, usdPerHour: i * 1000, service: i % 2 === 0 ? served : null }),
      );
      for (const height of [3, 12, 24]) {
        const lines = draw(
          rows,
          { columns, rows: height, color: true },
          Array.from({ length: 500 }, (_, i) => i),
        );
        expect(lines.length).toBeLessThanOrEqual(height);
        for (const line of lines) expect(uncoloured(line).length).toBeLessThanOrEqual(columns);
      }
    },
  );

  it('cuts names, then counts the GPU types that find no room', () => {
    const types = Array.from({ length: 12 }, (_, i) => `GPU-TYPE-${String.fromCharCode(65 + i)}`);
    const many = row({ replicas: new Map(types.map((type, i) => [type, i])) });
    const lines = draw([many]);
    const heading = lines.find((line) => line.includes('trace time'))!;
    const [, hidden] = /\+(\d+)/.exec(heading)!;
    const shown = [...heading.matchAll(/GPU…/g)].length;
    expect(shown + Number(hidden)).toBe(types.length);
    expect(heading).toMatch(/USD\/h {2}saving$/);
    const wide = draw([many], { ...plainSize, columns: 220 });
    expect(wide.find((line) => line.includes('trace time'))).toContain('GPU-TYPE-L');
  });

  it('draws a whole day of loads as bars of averages', () => {
    const day = Array.from({ length: 8640 }, (_, i) => 5 - 5 * Math.cos((i / 8640) * 2 * Math.PI));
    const [, bars = ''] = /load {2}(\S+)/.exec(draw([row()], plainSize, day).join('\n')) ?? [];
    expect(bars.length).toBeLessThanOrEqual(50);
    expect(bars.length).toBeGreaterThan(40);
    expect([bars[0], bars[bars.length >> 2], bars[bars.length >> 1], bars.at(-1)]).toEqual(['▁', '▅', '█', '▁']);
    expect(draw([row()], plainSize, day).join('\n')).toContain('0.0 – 10.0 rps');
  });

  it('shows the newest rows where not all fit', () => {
    const rows = Array.from({ length: 50 }, (_, i) => row({ usdPerHour: 100 + i }));
    const text = draw(rows).join('\n');
    expect(text).toContain('149.00');
    expect(text).not.toContain('130.00');
  });

  it('says that a plan is held, and why', () => {
    const lines = draw([row({ heldReason: 'no_traces' })]);
    expect(lines).toContain(' held  the last plan is kept: no recent request traces of its model were found');
    expect(lines.find((line) => line.includes('11-20'))).toMatch(/held$/);
  });

  it('says that there is no plan yet, and why, and lists no row before there is one', () => {
    const waiting = row({ heldReason: 'no_lengths', usdPerHour: null, replicas: new Map([['L4', null]]) });
    const lines = draw([waiting]);
    expect(lines).toContain(' wait  no plan yet: no request of its model has completed with its lengths yet');
    expect(lines.filter((line) => line.includes('11-20'))).toEqual([]);
    expect(draw([])).toContain(' wait  no plan yet: the first cycle is not over');
    const planned = draw([waiting, row()]);
    expect(planned.filter((line) => line.includes('11-20'))).toHaveLength(1);
    expect(planned.join('\n')).not.toContain('wait');
  });

  it('shows what is not known as a question mark, never as zero', () => {
    const unknown = row({
      rps: null,
      forecastRps: null,
      singleTypeUsdPerHour: null,
      replicas: new Map([['L4', null]]),
    });
    expect(
      draw([unknown])
        .find((line) => line.includes('11-20'))!
        .replace(/ +/g, ' ')
        .trim(),
    ).toBe('11-20 10:00 ? ? ? 6.60 ? –');
  });

  it('has no colour codes where there is no colour, and the same text with them', () => {
    const rows = [row(), row({ replicas: new Map([['L4', 5]]) })];
    const [without, coloured] = [draw(rows), draw(rows, { ...plainSize, color: true })];
    expect(without.join('\n')).not.toContain('\x1b');
    expect(coloured.join('\n')).toContain('\x1b[1m');
    expect(coloured.map(uncoloured)).toEqual(without);
  });

  it('lets no name drive the terminal', () => {
    const hostile = { ...facts, title: 'a\x1b[2Jb\nc' };
    const lines = renderQuickstart(hostile, [row({ replicas: new Map([['x\x1b]0;y\x07', 1]]) })], {
      size: plainSize,
      loads: [],
    });
    expect(lines.join('')).not.toContain('\x1b');
    expect(lines[0]).toBe(' gpumix  a?[2Jb?c');
  });
});

describe('the row of a cycle', () => {
  it('sums replicas by GPU type and money over the models', () => {
    const models = [
      modelView(),
      modelView({
        name: 'other',
        singleTypeUsdPerHour: 10,
        deployments: [
          deploymentView({ name: 'other-l4', gpuType: 'L4', replicas: 2, targetReplicas: 2, usdPerReplicaHour: 0.7 }),
        ],
      }),
    ];
    const plan = planOf(models);
    expect(quickstartRow(5, models, plan)).toEqual({
      atMs: 5,
      rps: 8,
      forecastRps: 10,
      replicas: new Map([
        ['A100', 2],
        ['L4', 5],
      ]),
      usdPerHour: plan.usdPerHour,
      singleTypeUsdPerHour: 24.68,
      singleTypeGpu: 'A100',
      service: null,
      heldReason: null,
    });
  });

  it('counts every simulated request alike, and tells the slowest percentile', () => {
    const simulated = {
      windowSeconds: 1800,
      requests: 300,
      failed: 0,
      unserved: 0,
      attainment: 0.99,
      ttftP95Seconds: 0.5,
      sinceStart: { requests: 900, attainment: 0.9 },
    };
    const models = [
      modelView({ simulated }),
      modelView({ simulated: { ...simulated, requests: 100, attainment: 0.95, ttftP95Seconds: 0.7 } }),
      modelView(),
    ];
    expect(quickstartRow(0, models, null).service).toEqual({
      attainment: 0.98,
      ttftP95Seconds: 0.7,
      windowSeconds: 1800,
    });
    const nothingEnded = { ...simulated, requests: 0, attainment: null, ttftP95Seconds: null };
    expect(quickstartRow(0, [modelView({ simulated: nothingEnded })], null).service).toBeNull();
  });

  it('is unknown where one part is unknown', () => {
    const models = [
      modelView({ demand: null, deployments: [deploymentView(), deploymentView({ name: 'b', replicas: null })] }),
    ];
    const neverPlanned = [modelView({ status: 'held', heldReason: 'no_lengths', planAt: null })];
    expect(quickstartRow(0, neverPlanned, planOf(neverPlanned)).usdPerHour).toBeNull();
    expect(quickstartRow(0, models, null)).toMatchObject({
      rps: null,
      usdPerHour: null,
      replicas: new Map([['A100', null]]),
    });
  });

  it('begins a new line where replicas or the reason for holding change, not where only the load does', () => {
    expect(isPlanChange(undefined, row())).toBe(true);
    expect(isPlanChange(row(), row({ rps: 99, usdPerHour: 1 }))).toBe(false);
    expect(isPlanChange(row(), row({ heldReason: 'no_traces' }))).toBe(true);
    expect(
      isPlanChange(
        row(),
        row({
          replicas: new Map([
            ['L4', 3],
            ['A100-80GB', 1],
            ['H100-80GB', 0],
          ]),
        }),
      ),
    ).toBe(true);
    expect(isPlanChange(row(), row({ replicas: new Map([['L4', 2]]) }))).toBe(true);
  });
});

describe('the line of a plan change', () => {
  it('says the same in words', () => {
    expect(quickstartLine(row())).toBe(
      '11-20 10:00 · 3.2 rps (forecast 4.1) · 2 × L4, 1 × A100-80GB, 0 × H100-80GB · 6.60 USD/h · 33 % less than H100-80GB only (9.80)',
    );
    const service = { attainment: 0.9969, ttftP95Seconds: 12.34, windowSeconds: 1800 };
    expect(quickstartLine(row({ service }))).toContain(
      ' · 2 × L4, 1 × A100-80GB, 0 × H100-80GB · 99.6 % in time, TTFT p95 12 s · 6.60 USD/h',
    );
    expect(quickstartLine(row({ singleTypeUsdPerHour: null, heldReason: 'no_traces' }))).toBe(
      '11-20 10:00 · 3.2 rps (forecast 4.1) · 2 × L4, 1 × A100-80GB, 0 × H100-80GB · 6.60 USD/h · held: no_traces',
    );
    expect(quickstartLine(row({ usdPerHour: null, heldReason: 'no_lengths' }))).toBe(
      '11-20 10:00 · no plan yet: no request of its model has completed with its lengths yet',
    );
  });
});

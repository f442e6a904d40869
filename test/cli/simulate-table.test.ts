import { describe, expect, it } from 'vitest';
import { renderBacktest } from '../../src/cli/simulate-table.js';
import { backtest, comparisonDay, finishedRun, question, runResult } from '../support/backtest-documents.js';

const plain = { color: false, width: 100 } as const;

function withoutBlanks(text: string): string {
  return text.replace(/ +/g, ' ');
}

describe('the table of a backtest', () => {
  it('says money, service, latencies and turnover of one policy, with units', () => {
    expect(
      renderBacktest(backtest(), plain),
    ).toBe(`trace      day.csv.gz, 3 copies: 100,000 requests over 21.6 h that count
fleet      L40S, A100-80GB, H100; router least-request, fidelity request
objective  TTFT ≤ 2 s + 0.2 ms per input token, TPOT ≤ 100 ms; 99 % of the requests aimed at

policy     USD  USD/M tok  attained  late  failed  unserved  start/stop  busy
gpumix  812.30       5.89   99.20 %   800       0         0       41/38  64 %

latency  TTFT p50     p99  TPOT p50    p99  E2E p50     p99
gpumix     0.42 s  1.68 s     21 ms  84 ms   6.10 s  24.4 s

fleet   replicas  busy  starts  stops  A100-80GB h  L40S h
gpumix      19.2  64 %      41     38        112.3   301.5
`);
  });

  it('compares the same service in money', () => {
    const text = withoutBlanks(renderBacktest(comparisonDay({ steps: 30 }), plain));
    expect(text).toContain('the same service in money: 99 % attained, as aimed at');
    expect(text).toContain(' gpumix 626.69 USD 1.19 × oracle');
    expect(text).toContain(' aibrix 868.32 USD 1.65 × oracle gpumix saves 27.8 %');
    expect(text).toContain(' oracle 526.00 USD nobody can be cheaper');
    expect(text).toContain(' aibrix: on or below it from 90.80 % to 99.60 %');
    expect(text).toContain('* quantile 0.7 650.24');
    expect(text).toContain(' profiles +20 % 597.76');
  });

  it('has no number where a policy does not reach, and says where its runs all attain more', () => {
    const runs = [
      finishedRun('gpumix', { result: runResult({ attainment: 0.995, usd: 100 }) }),
      finishedRun('aibrix', { result: runResult({ attainment: 0.9, usd: 90 }) }),
    ];
    const text = withoutBlanks(renderBacktest(backtest({ runs }), plain));
    expect(text).toContain(' gpumix ≤ 100.00 USD its cheapest run attains more');
    expect(text).toContain(' aibrix - attains at most 90.00 %');
    expect(text).toContain('aibrix: above it by up to 11.1 % (at 90.00 %)');
  });

  it('says by how much the first policy is dearer', () => {
    const runs = [
      finishedRun('gpumix', { result: runResult({ usd: 110 }) }),
      finishedRun('aibrix', { result: runResult({ usd: 100 }) }),
    ];
    expect(renderBacktest(backtest({ runs }), plain)).toContain('gpumix is 10.0 % dearer');
  });

  it('never rounds an attainment up to the objective', () => {
    const runs = [finishedRun('gpumix', { result: runResult({ requests: 100_000, attained: 98_999 }) })];
    expect(renderBacktest(backtest({ runs }), plain)).toContain('98.99 %');
    const nearly = [finishedRun('gpumix', { result: runResult({ requests: 1_000_000, attained: 999_999 }) })];
    expect(renderBacktest(backtest({ runs: nearly }), plain)).toContain('99.99 %');
  });

  it.each([80, 100, 120, 300])('fits %i columns', (width) => {
    const lines = renderBacktest(comparisonDay({ steps: 30 }), { color: false, width }).split('\n');
    expect(Math.max(...lines.map((line) => [...line].length))).toBeLessThanOrEqual(Math.min(120, width));
  });

  it('has colours only where they are wanted', () => {
    const document = comparisonDay({ steps: 30 });
    const colours = new RegExp(`${String.fromCharCode(27)}\\[\\d+m`, 'g');
    const coloured = renderBacktest(document, { color: true, width: 100 });
    expect(coloured).toMatch(colours);
    expect(coloured.replace(colours, '')).toBe(renderBacktest(document, plain));
  });

  it('lets no name reach the terminal as a command, and shows what a reader must know', () => {
    const text = renderBacktest(
      backtest({
        asked: question({ trace: 'evil\u001b[2J.csv' }),
        notices: [{ code: 'gap_in_trace', message: 'the trace has no request\u001b[31m for 3 h' }],
      }),
      plain,
    );
    expect(text).not.toContain('\u001b');
    expect(text).toContain('note: the trace has no request');
  });

  it('of a trace that nobody answered has no latencies, and says so', () => {
    const result = runResult({
      requests: 10,
      attained: 0,
      unserved: 10,
      late: 0,
      usdPerMillionTokens: null,
      ttft: null,
      tpot: null,
      e2e: null,
      gpuHours: {},
    });
    const text = renderBacktest(backtest({ runs: [finishedRun('gpumix', { result })] }), plain);
    expect(text).toMatch(/latency[^\n]*\ngpumix +- +- +- +- +- +-\n/);
    expect(text).not.toMatch(/NaN|undefined|null/);
  });
});

import { describe, expect, it } from 'vitest';
import type { RunSeries } from '../../../src/simulation/backtest/backtest.js';
import type { BacktestDocument } from '../../../src/simulation/backtest/backtest-document.js';
import { policyNames } from '../../../src/simulation/backtest/policy-names.js';
import { reportPage } from '../../../src/simulation/backtest/report-page.js';
import {
  backtest,
  comparisonDay,
  finishedRun,
  noSeries,
  question,
  runResult,
} from '../../support/backtest-documents.js';

const day = comparisonDay({ steps: 400 });
const page = reportPage(day);

/** Elements that HTML does not close. */
const single = new Set(['meta', 'br', '!doctype']);

/** Tags that are opened and not closed, or closed and not open: none in a page that is well-formed. */
function faultsOf(html: string): readonly string[] {
  const open: string[] = [];
  const faults: string[] = [];
  // What stands in a style sheet is no markup.
  const markup = html.replace(/<style>[\s\S]*?<\/style>/, '');
  for (const [tag, slash, name, closed] of markup.matchAll(/<(\/?)([!\w]+)(?:\s+[\w-]+="[^"<]*")*\s*(\/?)>|</g)) {
    if (name === undefined) faults.push(`a stray <: ${html.slice(markup.indexOf(tag), 40)}`);
    else if (slash === '/') {
      const last = open.pop();
      if (last !== name) faults.push(`</${name}> after <${last}>`);
    } else if (closed !== '/' && !single.has(name)) open.push(name);
  }
  return [...faults, ...open.map((name) => `<${name}> is not closed`)];
}

/** The numbers of all paths; a NaN in one of them is no picture. */
function pathsOf(html: string): readonly string[] {
  return [...html.matchAll(/ d="([^"]*)"/g)].map(([, path]) => path!);
}

describe('the report of a backtest', () => {
  it('is well-formed, and every path is one', () => {
    expect(faultsOf(page.replace('<!doctype html>', ''))).toEqual([]);
    expect(pathsOf(page).length).toBeGreaterThan(60);
    expect(pathsOf(page).filter((path) => !/^M[\d.,MLHVZCAclhvmz\s-]*$/i.test(path))).toEqual([]);
  });

  it('is complete in itself: nothing is fetched, and nothing runs', () => {
    expect(page).not.toMatch(/https?:|\/\/[a-z]|<script|<link|<img|<iframe|@import|url\(|\son\w+=/i);
  });

  it('is the same each time', () => {
    expect(reportPage(comparisonDay({ steps: 400 }))).toBe(page);
  });

  it('does not change with the timings of the machine', () => {
    expect(reportPage({ ...day, timings: { totalSeconds: 99, runs: [] } })).toBe(page);
  });

  it('says the answer in money at the attainment that is aimed at', () => {
    expect(page).toContain('To serve 99 % of the requests within the objective');
    expect(page).toContain('<strong>626.69 USD</strong>');
    expect(page).toContain('<strong>27.8 %</strong> less than aibrix');
    expect(page).toContain('No fleet could do it below 84 % of that');
    expect(page).toContain('The frontier of gpumix lies on or below that of every other causal policy');
  });

  it('shows every policy in the bars, the frontier, the replicas and the tables', () => {
    for (const [i, policy] of policyNames.entries()) {
      expect(page).toContain(`<span class="who">${policy}</span>`);
      expect(page).toContain(`aria-label="Ready replicas of ${policy} by GPU type"`);
      expect(page).toMatch(new RegExp(`<g class="mark p${i}`));
      expect(page).toContain(`<tr><td>${policy}</td>`);
    }
    for (const title of [
      'Arrivals and forecast',
      'Cost per hour',
      'Attainment',
      'Time to first token, 95th percentile',
    ]) {
      expect(page).toContain(`<h3${title.startsWith('Arr') ? ' style="margin-top:16px"' : ''}>${title}</h3>`);
    }
  });

  it('names the axes with their units, and what was assumed', () => {
    for (const words of [
      'requests per second',
      'ready replicas',
      'USD per hour',
      'hours of the trace',
      'share of the requests within the objective',
      'every request on every replica',
      'TTFT is at most 2 s + 0.2 ms per input token and its mean time per further token at most 0.10 s',
      'It knows every arrival beforehand',
      'simulated replicas',
    ]) {
      expect(page).toContain(words);
    }
  });

  it('follows the ground that the reader has, and is another page for phones and for print', () => {
    expect(page).toContain('@media (prefers-color-scheme:dark)');
    expect(page).toContain('@media (max-width:700px)');
    expect(page.match(/<svg class="wide"/g)?.length).toBe(page.match(/<svg class="narrow"/g)?.length);
  });

  it('escapes names that would be markup, and turns no line around', () => {
    const evil = '"><script>alert(1)</script><b x=\'&\u202e';
    const document = backtest({
      asked: question({ trace: `/tmp/${evil}` }),
      fleet: {
        ...day.fleet,
        deployments: [{ ...day.fleet.deployments[0]!, id: evil, gpuType: evil, engine: evil, model: evil }],
      },
      runs: [
        finishedRun('gpumix', {
          variant: evil,
          knob: { name: evil, unit: evil, value: 1 },
          result: runResult({
            gpuHours: { [evil]: 1 },
            series: {
              ...noSeries,
              rps: [1],
              forecastRps: [1],
              readyReplicas: { [evil]: [2] },
              usdPerHour: [1],
              attainment: [1],
              ttftP95Seconds: [1],
            },
          }),
        }),
      ],
      oracle: { points: [{ attainment: 0.9, usd: 1 }], assumptions: [evil] },
      notices: [{ code: 'x', message: evil }],
    });
    const html = reportPage(document);
    expect(html).not.toMatch(/<script|<b x|\u202e/);
    expect(html).toContain('&quot;&gt;&lt;script&gt;alert(1)');
    expect(faultsOf(html.replace('<!doctype html>', ''))).toEqual([]);
  });

  const steady: RunSeries = {
    ...noSeries,
    rps: [0, 0, 0],
    forecastRps: [null, null, null],
    readyReplicas: { 'default/llama-l40s': [1, 1, 1] },
    usdPerHour: [0, 0, 0],
    attainment: [null, null, null],
    ttftP95Seconds: [null, null, null],
  };

  it.each<[string, BacktestDocument]>([
    ['no runs', backtest({ runs: [], asked: question({ policies: [] }) })],
    ['a run without a series', backtest()],
    [
      'a time without a request',
      backtest({ runs: [finishedRun('gpumix', { result: runResult({ series: steady }) })] }),
    ],
    [
      'nothing that was answered, and nothing spent',
      backtest({
        runs: [
          finishedRun('gpumix', {
            result: runResult({
              requests: 0,
              usd: 0,
              hours: 0,
              usdPerMillionTokens: null,
              ttft: null,
              tpot: null,
              e2e: null,
              attainment: 1,
              gpuHours: {},
            }),
          }),
          finishedRun('static', { result: runResult({ usd: 0, attainment: 0 }) }),
        ],
        oracle: { points: [], assumptions: [] },
      }),
    ],
    [
      'a sample alone',
      backtest({
        runs: [
          finishedRun('gpumix', {
            result: runResult({
              series: {
                ...steady,
                rps: [3],
                readyReplicas: {},
                forecastRps: [4],
                usdPerHour: [5],
                attainment: [1],
                ttftP95Seconds: [0],
              },
            }),
          }),
        ],
      }),
    ],
    [
      'an objective and costs beyond reason',
      backtest({
        asked: question({
          objective: { ttftSeconds: 0, ttftSecondsPerInputToken: 1e-9, tpotSeconds: 1e6 },
          copies: 1e5,
        }),
        runs: [finishedRun('gpumix', { result: runResult({ usd: 1e12, attainment: 0 }) })],
      }),
    ],
  ])('of %s is a page still, without a number that is none', (_, document) => {
    const html = reportPage(document);
    expect(faultsOf(html.replace('<!doctype html>', ''))).toEqual([]);
    expect(html).not.toMatch(/NaN|Infinity|undefined|>null</);
  });

  it('says where a policy does not reach what is aimed at', () => {
    const runs = [
      finishedRun('gpumix', { result: runResult({ attainment: 0.9, usd: 90 }) }),
      finishedRun('aibrix', { result: runResult({ attainment: 0.995, usd: 100 }) }),
    ];
    const html = reportPage(backtest({ runs }));
    expect(html).toContain(
      '<strong>gpumix</strong> does not reach 99 % attainment in any of its runs: at most 90.00 %.',
    );
    expect(html).toContain('aibrix: it attains up to 99.50 %, which gpumix does not reach');
  });

  it('says which run costs so little where all of them attain more, and which one is shown as its user has it', () => {
    const knob = (value: number) => ({ name: 'quantile', unit: 'share', value });
    const runs = [
      finishedRun('gpumix', { knob: knob(0.5), isUsualKnob: false, result: runResult({ usd: 80, attainment: 0.995 }) }),
      finishedRun('gpumix', { knob: knob(0.95), result: runResult({ usd: 90, attainment: 0.999 }) }),
      finishedRun('aibrix', { result: runResult({ usd: 100, attainment: 0.99 }) }),
    ];
    const html = reportPage(backtest({ runs }));
    expect(html).toContain('costs at most <strong>80.00 USD</strong> (its cheapest run, quantile 0.5): at least ');
    expect(html).toContain('gpumix saves at least 20.0 %');
    expect(html).toContain('<h3>gpumix, as its user has it: quantile 0.95</h3>');
  });

  it('does not hide that the first policy is dearer', () => {
    const runs = [
      finishedRun('gpumix', { result: runResult({ usd: 110, attainment: 0.99 }) }),
      finishedRun('aibrix', { result: runResult({ usd: 100, attainment: 0.99 }) }),
    ];
    const html = reportPage(backtest({ runs }));
    expect(html).toContain('<strong>10.0 %</strong> more than aibrix');
    expect(html).toContain('gpumix is 10.0 % dearer');
  });

  it('of two weeks is hardly larger than of a day: pictures have only so many pixels', () => {
    const weeks = reportPage(comparisonDay({ steps: 20_160 }));
    expect(weeks.length).toBeLessThan(1.3 * reportPage(comparisonDay({ steps: 1440 })).length);
    expect(weeks.length).toBeLessThan(900_000);
  });
});

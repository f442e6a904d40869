import { describe, expect, it } from 'vitest';
import type { BacktestProgress, EndedRun } from '../../../src/service/backtest/run-backtest.js';
import { type BacktestRun, backtestJson } from '../../../src/simulation/backtest/backtest-document.js';
import { boundAt } from '../../../src/simulation/backtest/frontier.js';
import { policyNames } from '../../../src/simulation/backtest/policy-names.js';
import { asked, backtestOf, configOf, traceOf } from './scenario.js';

/** Twenty-five minutes: calm, a hill, calm. */
const hill = traceOf([...Array(8).fill(3), 4, 6, 8, 8, 8, 6, 4, ...Array(10).fill(3)]);
/** Ten minutes for what takes many runs. */
const tenMinutes = traceOf([2, 2, 2, 3, 4, 5, 5, 4, 3, 2]);
const nameOf = (run: BacktestRun) => `${run.policy}/${run.variant}/${run.knob?.value}/${run.profileError}`;

describe('a backtest', () => {
  it('of all policies is one document, in which every request ends in one way, and nobody is cheaper than the oracle', async () => {
    const question = asked(tenMinutes, { policies: policyNames, oracle: true });
    const document = await backtestOf(question);
    expect(document.frontiers.map(({ policy }) => policy)).toEqual(policyNames);
    for (const policy of policyNames) {
      const own = document.runs.filter((run) => run.policy === policy);
      expect(own.filter(({ isMain }) => isMain)).toHaveLength(1);
    }
    expect(new Set(document.runs.map(nameOf)).size).toBe(document.runs.length);
    expect(document.runs.filter(({ policy }) => policy === 'hpa-concurrency').map(({ variant }) => variant)).toEqual(
      expect.arrayContaining(['A100-80GB', 'H100', 'L40S']),
    );
    expect(document.runs.filter(({ policy }) => policy === 'aibrix').map(({ variant }) => variant)).toEqual(
      expect.arrayContaining(['cool-down 300 s', 'no cool-down']),
    );
    for (const { result } of document.runs) {
      expect(result.attained + result.late + result.failed + result.unserved).toBe(result.requests);
      expect(result.requests).toBe(document.window.requests);
      const bound = boundAt(document.oracle!.points, result.attainment);
      if (bound !== null) expect(result.usd).toBeGreaterThanOrEqual(bound);
    }
    expect(document.oracle!.points.length).toBeGreaterThan(5);
  });

  it('is the same to the byte each time', async () => {
    const question = asked(tenMinutes, { policies: ['gpumix', 'aibrix', 'static'], copies: 1.5 });
    expect(backtestJson(await backtestOf(question))).toBe(backtestJson(await backtestOf(question)));
  });

  it('is also made with wrong profiles, but not for who knows the future and believes none', async () => {
    const document = await backtestOf(
      asked(tenMinutes, { policies: ['hpa-utilisation', 'gpumix', 'static'], profileErrors: [0, 0.2] }),
    );
    const wrong = document.runs.filter(({ profileError }) => profileError === 0.2).map(({ policy }) => policy);
    expect(new Set(wrong)).toEqual(new Set(['hpa-utilisation', 'gpumix']));
    // An HPA asks no profile: believing a wrong one changes nothing.
    const [hpa, misled] = [0, 0.2].map(
      (error) =>
        document.runs.find(
          ({ policy, profileError, variant }) =>
            policy === 'hpa-utilisation' && variant === 'L40S' && profileError === error,
        )!.result,
    );
    expect(misled!.usd).toBe(hpa!.usd);
    expect(misled!.attained).toBe(hpa!.attained);
  });

  it('lets policies of one type begin with their type alone, enough for the first minutes', async () => {
    const busy = traceOf(Array(12).fill(14));
    const document = await backtestOf(
      asked(busy, {
        policies: ['hpa-concurrency', 'single-type-best'],
        warmUpShare: 0,
        knobs: { 'hpa-concurrency': [12] },
      }),
    );
    for (const { variant, result } of document.runs) {
      expect(Object.keys(result.gpuHours).filter((type) => result.gpuHours[type]! > 0)).toEqual([variant]);
      // No backlog at the start: whoever waits for replicas does so for their 180 s.
      expect(result.ttft!.p50).toBeLessThan(1);
      expect(result.unserved).toBe(0);
    }
  });

  it('finds the cheapest constant fleet that attains what is aimed at in a few runs, and agrees with a sweep', async () => {
    const searched = await backtestOf(asked(hill));
    const swept = await backtestOf(asked(hill, { sweep: true }));
    const best = searched.runs.find(({ isMain }) => isMain)!;
    expect(best.result.attainment).toBeGreaterThanOrEqual(0.99);
    expect(best.result).toMatchObject({ starts: 0, stops: 0 });
    expect(searched.runs.length).toBeLessThan(swept.runs.length);
    const attaining = swept.runs.filter(({ result }) => result.attainment >= 0.99).map(({ result }) => result.usd);
    expect(swept.runs.find(({ isMain }) => isMain)!.result.usd).toBe(Math.min(...attaining));
    // The next cheaper one that was tried misses the aim.
    const cheaper = searched.runs.filter(({ result }) => result.usd < best.result.usd);
    expect(cheaper.every(({ result }) => result.attainment < 0.99)).toBe(true);
  });

  it('takes the values of a knob that are asked for, the first of them as the one of its user', async () => {
    const document = await backtestOf(asked(hill, { policies: ['aibrix'], knobs: { aibrix: [60, 90] } }));
    expect(document.runs.map(({ knob, variant }) => [knob!.value, variant])).toEqual([
      [60, 'cool-down 300 s'],
      [60, 'no cool-down'],
      [90, 'cool-down 300 s'],
      [90, 'no cool-down'],
    ]);
    expect(document.runs.find(({ isMain }) => isMain)!.knob!.value).toBe(60);
  });

  it('runs gpumix at the quantile that the configuration says', async () => {
    const config = configOf({ more: 'forecast: { quantile: 0.7 }' });
    const policies = ['gpumix', 'gpumix-reactive', 'single-type-best'] as const;
    const [alone, swept] = [
      await backtestOf(asked(tenMinutes, { config, policies })),
      await backtestOf(asked(tenMinutes, { config, policies: ['gpumix'], sweep: true })),
    ];
    expect(new Set(alone.runs.map(({ knob }) => knob!.value))).toEqual(new Set([0.7]));
    expect(swept.runs.find(({ isMain }) => isMain)!.knob!.value).toBe(0.7);
    expect(swept.runs.map(({ knob }) => knob!.value)).toContain(0.95);
  });

  it('in fluid fidelity comes to the same, where every replica is its own group', async () => {
    const [request, fluid] = await Promise.all(
      (['request', 'fluid'] as const).map((fidelity) =>
        backtestOf(asked(hill, { fidelity, policies: ['gpumix', 'static'], knobs: { static: [2] } })),
      ),
    );
    for (const [i, { result }] of request!.runs.entries()) {
      const other = fluid!.runs[i]!.result;
      expect(other.usd / result.usd).toBeCloseTo(1, 1);
      expect(Math.abs(other.attainment - result.attainment)).toBeLessThan(0.01);
    }
  });

  it('says so where the trace has a hole, and scales down in it', async () => {
    const holed = [
      ...traceOf(Array(10).fill(5)),
      ...traceOf(Array(10).fill(5), 6).map((one) => ({ ...one, atMs: one.atMs + 4 * 3_600_000 })),
    ];
    const document = await backtestOf(asked(holed, { policies: ['gpumix'] }));
    expect(document.notices).toContainEqual({
      code: 'gap_in_trace',
      message: 'the trace has no request for 3.83 h: that time counts as idle',
    });
    const { usd, hours } = document.runs[0]!.result;
    expect(usd / hours).toBeLessThan(2 * 1.9);
  });

  it('tells how far it is, run by run and within each', async () => {
    let nowMs = 0;
    const seen: BacktestProgress[] = [];
    await backtestOf(asked(hill, { policies: ['aibrix', 'static'] }), {
      steadyMs: () => (nowMs += 60),
      onProgress: (progress) => seen.push(progress),
    });
    const within = seen.filter(({ runsDone }) => runsDone === 0);
    expect(within[0]).toMatchObject({ runShare: 0, now: 'aibrix, cool-down 300 s, targetValue 100' });
    expect(within.length).toBeGreaterThan(10);
    expect(within.every(({ runShare }, i) => i === 0 || runShare > within[i - 1]!.runShare)).toBe(true);
    expect(within.at(-1)!.runShare).toBeLessThan(1);
    const last = seen.at(-1)!;
    expect(last).toEqual({ runsDone: last.runs, runs: last.runs, runShare: 0, now: '' });
    expect(seen.every(({ runsDone, runs }) => runsDone <= runs)).toBe(true);
  });

  it('tells of each run what came of it as soon as it is known', async () => {
    const told: EndedRun[] = [];
    const document = await backtestOf(asked(tenMinutes, { policies: ['hpa-concurrency', 'static'] }), {
      onRunEnd: (run) => told.push(run),
    });
    expect(told[0]!.name).toBe('hpa-concurrency, L40S, targetInFlight 32');
    const figures = ({ usd, attainment }: { usd: number; attainment: number }) => `${usd}@${attainment}`;
    expect(told.map(figures).sort()).toEqual(document.runs.map(({ result }) => figures(result)).sort());
  });

  it('ends when it is called off, also in a run in which nothing ever waits', async () => {
    const calledOff = new AbortController();
    let nowMs = 0;
    const running = backtestOf(asked(hill, { policies: ['hpa-concurrency'] }), {
      steadyMs: () => (nowMs += 60),
      signal: calledOff.signal,
      onProgress: ({ runShare }) => {
        if (runShare > 0.3) setImmediate(() => calledOff.abort(new Error('called off')));
        expect(runShare).toBeLessThan(0.4);
      },
    });
    await expect(running).rejects.toThrow('called off');
  });

  it('keeps the idle minimum that the configuration says', async () => {
    const deployments = '\n    - { name: l40s, model: llama-3.1-8b, gpuType: L40S, idleMinReplicas: 3 }';
    const quiet = [...traceOf([2]), { atMs: 1_800_000, inputTokens: 10, outputTokens: 10 }];
    for (const policy of ['aibrix', 'gpumix'] as const) {
      const document = await backtestOf(asked(quiet, { policies: [policy], config: configOf({ deployments }) }));
      expect(document.runs[0]!.result.series!.readyReplicas['default/l40s']!.at(-1)).toBe(3);
    }
  });

  it.each([
    ['a trace without requests', [], {}, 'trace.csv: found no request'],
    [
      'a configuration without profile',
      hill,
      { config: configOf({ deployments: '\n    - { name: l4, model: llama-3.1-8b, gpuType: L4 }' }) },
      'default/l4',
    ],
  ])('refuses %s', async (_, requests, overrides, message) => {
    await expect(backtestOf(asked(requests, overrides))).rejects.toThrow(message);
  });
});

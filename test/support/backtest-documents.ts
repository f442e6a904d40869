import type { LatencyPercentiles, RunResult, RunSeries } from '../../src/simulation/backtest/backtest.js';
import {
  type BacktestDocument,
  type BacktestQuestion,
  backtestDocument,
  type FinishedRun,
} from '../../src/simulation/backtest/backtest-document.js';
import { type PolicyName, policyNames } from '../../src/simulation/backtest/policy-names.js';

/** Backtests by hand: numbers of a plausible day, from a formula, for tests of what people see of them. */

export function latency(p50: number): LatencyPercentiles {
  return { mean: p50 * 1.2, p50, p90: p50 * 2, p95: p50 * 2.6, p99: p50 * 4 };
}

export const noSeries: RunSeries = {
  stepSeconds: 60,
  fromMs: 0,
  rps: [],
  forecastRps: [],
  readyReplicas: {},
  usdPerHour: [],
  attainment: [],
  ttftP95Seconds: [],
};

export function runResult(overrides: Partial<RunResult> = {}): RunResult {
  const requests = overrides.requests ?? 100_000;
  const attained = overrides.attained ?? Math.round(requests * (overrides.attainment ?? 0.992));
  return {
    usd: 812.3,
    hours: 21.6,
    requests,
    attained,
    late: requests - attained,
    failed: 0,
    unserved: 0,
    attainment: attained / requests,
    inputTokens: 120_000_000,
    outputTokens: 18_000_000,
    usdPerMillionTokens: 5.886,
    ttft: latency(0.42),
    tpot: latency(0.021),
    e2e: latency(6.1),
    starts: 41,
    stops: 38,
    failures: 0,
    gpuHours: { 'A100-80GB': 112.25, L40S: 301.5 },
    meanReplicas: 19.2,
    utilization: 0.64,
    series: noSeries,
    ...overrides,
  };
}

export function finishedRun(policy: PolicyName, overrides: Partial<FinishedRun> = {}): FinishedRun {
  return {
    policy,
    variant: null,
    knob: null,
    isUsualKnob: true,
    profileError: 0,
    seconds: 1.5,
    result: runResult(),
    ...overrides,
  };
}

export function question(overrides: Partial<BacktestQuestion> = {}): BacktestQuestion {
  return {
    trace: 'day.csv.gz',
    policies: ['gpumix'],
    router: 'least-request',
    fidelity: 'request',
    objective: { ttftSeconds: 2, ttftSecondsPerInputToken: 0.0002, tpotSeconds: 0.1 },
    targetAttainment: 0.99,
    seed: 1,
    copies: 3,
    jitterSeconds: 60,
    fromSeconds: 0,
    durationSeconds: null,
    warmUpShare: 0.1,
    cadenceSeconds: 60,
    profileErrors: [0],
    sweep: false,
    knobs: {},
    ...overrides,
  };
}

export function backtest(parts: Partial<Parameters<typeof backtestDocument>[0]> = {}): BacktestDocument {
  const runs = parts.runs ?? [finishedRun('gpumix')];
  return backtestDocument({
    asked: question({ policies: [...new Set(runs.map((run) => run.policy))] }),
    window: {
      fromSeconds: 0,
      toSeconds: 86_400,
      scoredFromSeconds: 8640,
      requests: 100_000,
      inputTokens: 120_000_000,
      outputTokens: 18_000_000,
    },
    fleet: {
      deployments: [
        deployment('default/llama-l40s', 'L40S', 1.2),
        deployment('default/llama-a100', 'A100-80GB', 2.5),
        deployment('default/llama-h100', 'H100', 4.8),
      ],
      queueTimeoutSeconds: 60,
      drainSeconds: 120,
      meanHoursBetweenFailures: null,
    },
    oracle: null,
    notices: [],
    totalSeconds: 12,
    ...parts,
    runs,
  });
}

function deployment(id: string, gpuType: string, usdPerReplicaHour: number) {
  return {
    id,
    model: 'llama-3.1-8b',
    gpuType,
    gpusPerReplica: 1,
    usdPerReplicaHour,
    minReplicas: 0,
    maxReplicas: 1000,
    startup: { medianSeconds: 180, spread: 0.2 },
    engine: `llama-3.1-8b in bf16 on 1 × ${gpuType}`,
  };
}

/** A whole comparison: every policy over its knob, a day with two peaks, an oracle. */
export function comparisonDay(options: { readonly steps?: number } = {}): BacktestDocument {
  const steps = options.steps ?? 1296;
  // How dear, how well served, and how late the fleet follows the load [steps].
  const traits: Readonly<Record<PolicyName, readonly [number, number, number, string]>> = {
    gpumix: [1, 0.9935, 0, 'quantile'],
    'gpumix-reactive': [1.03, 0.984, 6, 'headroom'],
    aibrix: [1.24, 0.981, 9, 'targetUtilization'],
    'hpa-concurrency': [1.38, 0.989, 7, 'targetInFlight'],
    'hpa-utilisation': [1.52, 0.976, 12, 'targetUtilisation'],
    'single-type-best': [1.17, 0.9925, 0, 'quantile'],
    static: [1.9, 0.9975, 0, 'replicas'],
  };
  const runs = policyNames.flatMap((policy, p): FinishedRun[] => {
    const [dear, attains, lag, name] = traits[policy];
    const at = (i: number): RunResult => {
      const misses = (1 - attains) * 2.2 ** (2 - i);
      const usd = 640 * dear * (0.86 + 0.07 * i + 0.004 * i * i);
      return runResult({
        usd,
        attainment: 1 - misses,
        usdPerMillionTokens: usd / 138,
        unserved: Math.round(misses * 20_000),
        late: Math.round(misses * 80_000),
        starts: 30 + 7 * p,
        stops: 28 + 7 * p,
        utilization: 0.7 / dear,
        ttft: latency(0.3 + 0.04 * p),
        series: daySeries({ steps, lag, dear, misses, flat: policy === 'static', single: p === 5 }),
      });
    };
    const swept = [0, 1, 2, 3, 4].map((i) =>
      finishedRun(policy, {
        knob: { name, unit: '', value: 0.5 + 0.1 * i },
        isUsualKnob: i === 2,
        result: at(i),
      }),
    );
    if (policy !== 'gpumix') return swept;
    const wrong = [0.2, -0.2].map((profileError) => ({
      ...swept[2]!,
      profileError,
      result: { ...at(profileError > 0 ? 1 : 3), series: noSeries },
    }));
    return [...swept, ...wrong];
  });
  return backtest({
    runs,
    asked: question({ policies: policyNames, sweep: true, profileErrors: [0, 0.2, -0.2] }),
    oracle: {
      points: [0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1].map((attainment, i) => ({ attainment, usd: 490 + 12 * i })),
      assumptions: [
        'It knows every arrival beforehand, and begins with any fleet without paying for its start.',
        'Replicas are billed by slots of 60 s; work may wait within a slot.',
      ],
    },
  });
}

function daySeries(options: {
  readonly steps: number;
  readonly lag: number;
  readonly dear: number;
  readonly misses: number;
  readonly flat: boolean;
  readonly single: boolean;
}): RunSeries {
  const { steps, lag, dear, misses, flat, single } = options;
  const load = (i: number): number =>
    22 + 12 * Math.sin((2 * Math.PI * i) / steps - 1) + 5 * Math.sin((14 * Math.PI * i) / steps);
  const noise = (i: number): number => Math.abs(Math.sin(i * 12.9898) * 43_758.5453) % 1;
  const indexes = Array.from({ length: steps }, (_, i) => i);
  const wanted = (i: number): number => (flat ? 42 : load(Math.max(0, i - lag)) + 3) * dear;
  const big = indexes.map((i) => (single ? 0 : Math.round(wanted(i) / 6)));
  const small = indexes.map((i) => Math.round(single ? wanted(i) / 1.6 : wanted(i) / 2.4));
  const rps = indexes.map((i) => load(i) + 4 * noise(i));
  const late = indexes.map((i) => Math.max(0, load(i) - load(Math.max(0, i - lag - 3))) * 0.08 + misses * noise(i + 7));
  return {
    stepSeconds: 60,
    fromMs: 8_640_000,
    rps,
    forecastRps: indexes.map((i) => (flat ? null : load(i) + 5)),
    readyReplicas: {
      'default/llama-l40s': small,
      'default/llama-a100': big,
      'default/llama-h100': indexes.map(() => (single || flat ? 0 : 1)),
    },
    usdPerHour: indexes.map((i) => small[i]! * 1.2 + big[i]! * 2.5 + (single || flat ? 0 : 4.8)),
    attainment: late.map((share, i) => (i % 97 === 5 ? null : Math.max(0, 1 - share))),
    ttftP95Seconds: late.map((share, i) => (i % 97 === 5 ? null : 0.5 + 12 * share + 0.3 * noise(i + 3))),
  };
}

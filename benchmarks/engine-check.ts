import { runLoad } from '../src/adapters/openai/load-generator.js';
import { probe } from '../src/adapters/openai/probe.js';
import { targetDefaults } from '../src/adapters/openai/target.js';
import { cataloguedReplica } from '../src/cli/catalogued-replica.js';
import { drawArrivals } from '../src/profiling/arrivals.js';
import type { Cell, RequestOutcome } from '../src/profiling/measurement.js';
import { type BacktestRequest, defaultObjective, type RunResult } from '../src/simulation/backtest/backtest.js';
import { runRequests } from '../src/simulation/backtest/request-run.js';
import { stepTimesOf } from '../src/simulation/step-time.js';
import { seededRandom } from '../test/support/seeded-random.js';
import { startEngine } from './engine-process.js';
import { brief, median, progress, table } from './timing.js';

/**
 * Is a replica of the backtest the engine that it stands for? `gpumix engine` in a process of its own gets load over HTTP
 * in real time; a fleet of one replica gets the same arrivals, as they really left, with the lengths that the engine
 * counted. What differs is HTTP, timers, and the backtest's own bookkeeping (it passes over steps).
 */

export type EngineCheck = readonly {
  readonly gpu: string;
  readonly requestRate: number;
  readonly requests: number;
  readonly failures: number;
  readonly engine: Latencies;
  readonly backtest: Latencies;
  /** Why the measured figures do not hold; null where they do. */
  readonly fault: string | null;
}[];

/** Medians [ms]. */
type Latencies = { readonly ttftMs: number; readonly tpotMs: number; readonly e2eMs: number };

/** The engine's own limits where no flag says otherwise. */
const limits = { maxSequences: 256, maxBatchedTokens: 8192, maxTokens: 16_384 };
const modelName = 'llama-3.1-8b';

/** From light to beyond what the replica can do, where requests queue. */
const loads = [
  { gpu: 'A100', requestRate: 2 },
  { gpu: 'A100', requestRate: 8 },
  { gpu: 'L4', requestRate: 1 },
  { gpu: 'L4', requestRate: 3 },
] as const;

/** Largest difference between medians that is aimed at. */
const aimedDifference = 0.1;

export async function benchmarkEngineCheck({ quick }: { readonly quick: boolean }): Promise<EngineCheck> {
  const seconds = quick ? 8 : 40;
  const results: EngineCheck[number][] = [];
  for (const { gpu, requestRate } of loads) {
    progress(`engine-check: ${gpu} at ${requestRate} requests/s`);
    const engine = await startEngine(['--gpu', gpu, '--model', modelName, '--max-model-len', String(limits.maxTokens)]);
    try {
      const target = { ...targetDefaults, baseUrl: engine.url, model: engine.model, timeoutSeconds: 300 };
      const server = await probe(target, { promptSalt: 1 });
      const count = Math.round(seconds * requestRate);
      const requests = drawArrivals({ kind: 'poisson', requestRate, count, seed: 7, lengths: mixedLengths() });
      const run = await runLoad({ target: server, requests, promptSalt: 2 });
      await server.close();
      const answered = run.outcomes.filter(({ failure }) => failure === null);
      results.push({
        gpu,
        requestRate,
        requests: count,
        failures: count - answered.length,
        engine: measuredIn(answered),
        backtest: simulatedIn(await backtestOf(gpu, answered)),
        fault: run.generatorFault ?? run.generatorStall,
      });
    } finally {
      engine.process.kill();
    }
  }
  progress('');
  return results;
}

export function describeEngineCheck(results: EngineCheck): string {
  const difference = (of: (latencies: Latencies) => number) => (result: EngineCheck[number]) =>
    of(result.backtest) / of(result.engine) - 1;
  const columns = (['ttftMs', 'tpotMs', 'e2eMs'] as const).map((key) => ({ key, off: difference((one) => one[key]) }));
  const percent = (share: number): string => `${share >= 0 ? '+' : '−'}${brief(Math.abs(100 * share))} %`;
  const worst = Math.max(...results.flatMap((one) => columns.slice(0, 2).map(({ off }) => Math.abs(off(one)))));
  return [
    table(
      [
        'GPU',
        'requests/s',
        'requests',
        'failed',
        ...['TTFT', 'TPOT', 'E2E'].flatMap((name) => [`${name} engine ms`, `backtest`]),
      ],
      results.map((one) => [
        one.gpu,
        brief(one.requestRate),
        String(one.requests),
        String(one.failures),
        ...columns.flatMap(({ key, off }) => [
          brief(one.engine[key]),
          `${brief(one.backtest[key])} (${percent(off(one))})`,
        ]),
      ]),
    ),
    '',
    `medians; ${modelName}, prompts of 50 to 3,000 tokens, answers of 5 to 250`,
    `largest difference on TTFT and TPOT: ${percent(worst)} (aim: within ${100 * aimedDifference} %)`,
    ...results.flatMap(({ gpu, requestRate, fault }) =>
      fault === null ? [] : [`${gpu} at ${requestRate}/s: ${fault}`],
    ),
  ].join('\n');
}

/** Evenly over orders of magnitude, as requests are. */
function mixedLengths(): readonly Cell[] {
  const random = seededRandom(3);
  return Array.from({ length: 200 }, () => ({
    inputTokens: Math.round(random.logBetween(50, 3000)),
    outputTokens: Math.round(random.logBetween(5, 250)),
  }));
}

function measuredIn(outcomes: readonly RequestOutcome[]): Latencies {
  const first = ({ firstTokenSeconds, endSeconds }: RequestOutcome): number => firstTokenSeconds ?? endSeconds;
  const ms = (values: readonly number[]): number => 1000 * median(values);
  return {
    ttftMs: ms(outcomes.map((one) => first(one) - one.sentSeconds)),
    tpotMs: ms(
      outcomes
        .filter(({ outputTokens }) => outputTokens > 1)
        .map((one) => (one.endSeconds - first(one)) / (one.outputTokens - 1)),
    ),
    e2eMs: ms(outcomes.map(({ endSeconds, sentSeconds }) => endSeconds - sentSeconds)),
  };
}

function simulatedIn({ ttft, tpot, e2e }: RunResult): Latencies {
  const ms = (seconds: number | undefined): number => 1000 * (seconds ?? Number.NaN);
  return { ttftMs: ms(ttft?.p50), tpotMs: ms(tpot?.p50), e2eMs: ms(e2e?.p50) };
}

async function backtestOf(gpu: string, outcomes: readonly RequestOutcome[]): Promise<RunResult> {
  const stepTimes = stepTimesOf(await cataloguedReplica({ gpu, model: modelName }));
  const requests: readonly BacktestRequest[] = outcomes
    .map(({ sentSeconds, inputTokens, outputTokens }) => ({ atMs: sentSeconds * 1000, inputTokens, outputTokens }))
    .toSorted((a, b) => a.atMs - b.atMs);
  const deployment = {
    id: 'default/engine',
    gpuType: gpu,
    gpusPerReplica: 1,
    usdPerReplicaHour: 1,
    minReplicas: 1,
    maxReplicas: 1,
    startup: { medianSeconds: 0, spread: 0 },
    engine: { stepTimes, limits },
    profile: { indexes: [[1], [1]], tputs: [[1]] },
  };
  const endMs = requests.at(-1)!.atMs + 1;
  return await runRequests({
    settings: {
      deployments: [deployment],
      router: 'least-request',
      objective: defaultObjective,
      seed: 1,
      startMs: 0,
      scoredFromMs: 0,
      endMs,
      initialReplicas: new Map([[deployment.id, 1]]),
      queueTimeoutSeconds: 60,
      drainSeconds: 0,
      meanHoursBetweenFailures: null,
      seriesSeconds: endMs / 1000,
    },
    requests,
    policy: {
      periodSeconds: endMs,
      lagSeconds: 0,
      decide: () => ({ replicas: new Map(), routing: null, forecastRps: null }),
    },
  });
}

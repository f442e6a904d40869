import { resolve } from 'node:path';
import { loadGpuCatalogue, loadModelCatalogue } from '../../../src/adapters/catalogue-file.js';
import { createMemoryStore } from '../../../src/adapters/memory-store.js';
import { createFileProfiles } from '../../../src/adapters/profile-source.js';
import { randomFrom } from '../../../src/profiling/random.js';
import { backtestFleet } from '../../../src/service/backtest/backtest-fleet.js';
import { type BacktestRequestOptions, runBacktest } from '../../../src/service/backtest/run-backtest.js';
import type { Config } from '../../../src/service/config.js';
import { loadConfig } from '../../../src/service/config-layers.js';
import { type BacktestRequest, defaultObjective } from '../../../src/simulation/backtest/backtest.js';

/** A small real fleet for tests: Llama 3.1 8B on three GPU types, with the profiles that gpumix ships for it. */

export const gpus = await loadGpuCatalogue();
export const models = await loadModelCatalogue();
export const profiles = createFileProfiles(resolve('profiles', 'simulated', 'llama-3.1-8b-ttft-by-length'));
export const createStore = createMemoryStore;

const usualDeployments = `
    - { name: l40s, model: llama-3.1-8b, gpuType: L40S }
    - { name: a100-80gb, model: llama-3.1-8b, gpuType: A100-80GB }
    - { name: h100, model: llama-3.1-8b, gpuType: H100 }`;

export function configOf({ deployments = usualDeployments, more = '' } = {}): Config {
  const text = `
profiles: { source: files, directory: profiles }
deployments:
  source: config
  list:${deployments}
${more}`;
  return loadConfig({ file: { name: 'gpumix.yaml', text }, environment: {}, demandIsGiven: true, catalogue: gpus })
    .config;
}

export function fleetOf(config: Config = configOf()) {
  return backtestFleet({ config, source: 'gpumix.yaml', profiles, gpus, models });
}

/** Requests of a quarter of an hour or more, at rates that change minute by minute, as chance has it. */
export function traceOf(rps: readonly number[], seed = 5): readonly BacktestRequest[] {
  const random = randomFrom(seed);
  const requests: BacktestRequest[] = [];
  for (const [minute, rate] of rps.entries()) {
    for (let seconds = 60 * minute; rate > 0; ) {
      seconds += -Math.log(1 - random.unit()) / rate;
      if (seconds >= 60 * (minute + 1)) break;
      const inputTokens = Math.round(200 * 2 ** (4 * random.unit()));
      const outputTokens = Math.round(20 * 2 ** (3 * random.unit()));
      requests.push({ atMs: Math.round(1000 * seconds), inputTokens, outputTokens });
    }
  }
  return requests;
}

export async function* streamed<Item>(items: Iterable<Item>): AsyncGenerator<Item, void, void> {
  yield* items;
}

export function asked(
  requests: readonly BacktestRequest[],
  overrides: Partial<BacktestRequestOptions> = {},
): BacktestRequestOptions {
  return {
    trace: { file: 'trace.csv', open: () => streamed(requests) },
    config: configOf(),
    configSource: 'gpumix.yaml',
    policies: ['static'],
    router: 'shares',
    fidelity: 'request',
    objective: defaultObjective,
    targetAttainment: 0.99,
    seed: 1,
    copies: 1,
    jitterSeconds: 60,
    fromSeconds: 0,
    durationSeconds: null,
    warmUpShare: 0.1,
    cadenceSeconds: 60,
    profileErrors: [0],
    sweep: false,
    knobs: {},
    oracle: false,
    ...overrides,
  };
}

export function backtestOf(
  options: BacktestRequestOptions,
  around: Partial<Parameters<typeof runBacktest>[1]> = {},
): ReturnType<typeof runBacktest> {
  return runBacktest(options, {
    profiles,
    gpus,
    models,
    createStore,
    steadyMs: () => 0,
    signal: new AbortController().signal,
    ...around,
  });
}

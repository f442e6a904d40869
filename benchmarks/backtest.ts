import { type ChildProcess, fork } from 'node:child_process';
import { on } from 'node:events';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadGpuCatalogue, loadModelCatalogue } from '../src/adapters/catalogue-file.js';
import { createFileProfiles } from '../src/adapters/profile-source.js';
import { readRequestLog } from '../src/adapters/request-log.js';
import { backtestFleet } from '../src/service/backtest/backtest-fleet.js';
import { loadConfig } from '../src/service/config-layers.js';
import { defaultObjective, type Fidelity, type Router } from '../src/simulation/backtest/backtest.js';
import { type BacktestDocument, backtestJson } from '../src/simulation/backtest/backtest-document.js';
import { type PolicyName, policyNames } from '../src/simulation/backtest/policy-names.js';
import { reportPage } from '../src/simulation/backtest/report-page.js';
import { meanDemand, traceFacts } from '../src/simulation/backtest/trace-facts.js';
import { windowOf } from '../src/simulation/backtest/trace-load.js';
import { cheapestFleet } from '../src/simulation/policies/constant-fleets.js';
import type { BacktestMessage, BacktestReply, BacktestTask } from './backtest-process.js';

/**
 * What a fleet costs over recorded traces, and what its users feel: gpumix against the rules of its peers, the best
 * constant fleet in hindsight and a proven lower bound.
 *
 * Llama-3.1-8B on L40S, A100-80GB and H100 at the catalogue's prices; replicas start in 180 s. The load is so many copies
 * of a window of a trace that the mean fleet has about 10 replicas (`request` fidelity) or 200 (`fluid`). The windows
 * were fixed before anything was run on them.
 */
type Load = {
  readonly trace: string;
  readonly fromHours: number;
  /** Null = all of it. */
  readonly hours: number | null;
  /** Whether the load is one that a forecast can follow: then a cost near the oracle's is expected. */
  readonly isSteady: boolean;
};

const day = 24;

export const backtestLoads: readonly Load[] = [
  { trace: 'azure_conv_2023', fromHours: 0, hours: null, isSteady: true },
  { trace: 'sg_mlarge_diurnal_14d', fromHours: 8 * day + 6, hours: 6, isSteady: true },
  { trace: 'sg_mmimage_24h', fromHours: 6, hours: 6, isSteady: true },
  { trace: 'azure_code_2023', fromHours: 0, hours: null, isSteady: false },
  { trace: 'sg_mlarge_mixed_7d', fromHours: 5 * day + 6, hours: 6, isSteady: false },
  { trace: 'sg_deepseekr1_00-12h', fromHours: 3, hours: 6, isSteady: false },
  { trace: 'sg_msmall_bursty_14d', fromHours: 8 * day + 12, hours: 6, isSteady: false },
  { trace: 'sg_msmall_dailyspike_7d', fromHours: 4 * day, hours: 6, isSteady: false },
  { trace: 'mooncake_conversation', fromHours: 0, hours: null, isSteady: false },
];

/** Where the traces lie, from the project's root; they are no part of the project. */
const traceFolder = '../shared/data/traces';

/** Profiles of the three types for the objective below, made by the benchmark procedure on simulated engines. */
const configuration = (profiles: string): string => `
demand: { source: redis }
redis: { url: redis://127.0.0.1:1 }
profiles: { source: files, directory: ${JSON.stringify(profiles)}, pooling: least-request }
deployments:
  source: config
  list:
    - { name: l40s, model: llama-3.1-8b, gpuType: L40S, maxReplicas: 2000 }
    - { name: a100-80gb, model: llama-3.1-8b, gpuType: A100-80GB, maxReplicas: 2000 }
    - { name: h100, model: llama-3.1-8b, gpuType: H100, maxReplicas: 2000 }
simulation: { startupSeconds: 180 }
`;

const target = 0.99;
/** Of the throughputs in the profiles. */
const wrongBy = 0.2;
/** Copies of the trace come up to so much later than the first [s]: long enough to be no echo, short beside its swings. */
const jitterSeconds = 60;

export type BacktestBenchOptions = {
  readonly quick: boolean;
  /** Names of traces, or parts of them; empty = all. */
  readonly traces?: readonly string[];
  /** Where reports and documents are written. */
  readonly out: string;
  readonly sizes?: readonly FleetSize[];
  readonly profileFolder?: string;
};

type FleetSize = {
  readonly meanReplicas: number;
  readonly fidelity: Fidelity;
  readonly routers: readonly Router[];
  /** Of a longer window this much of its beginning: a large fleet serves in an hour what a small one does in twenty. */
  readonly mostHours?: number;
};

/**
 * Swept by hand: enough of each knob to draw a frontier around 99 %, few enough that all of it ends within some hours. The best
 * constant fleet is searched.
 */
const knobs: Readonly<Partial<Record<PolicyName, readonly number[]>>> = {
  gpumix: [0.05, 0.3, 0.6, 0.8, 0.95, 0.99],
  'gpumix-reactive': [0.5, 0.95, 0.999],
  aibrix: [100, 60, 30],
  'hpa-concurrency': [64, 48, 32, 16],
  'hpa-utilisation': [90, 80],
  'single-type-best': [0.3, 0.7, 0.95],
};

const allSizes: readonly FleetSize[] = [
  { meanReplicas: 10, fidelity: 'request', routers: ['shares', 'least-request'] },
  { meanReplicas: 200, fidelity: 'fluid', routers: ['shares'], mostHours: 1 },
];

/** One load served by one size of fleet behind one router, by all policies. */
type Scenario = Load & {
  readonly size: FleetSize;
  readonly router: Router;
  readonly copies: number;
  /** gpumix alone, with profiles that are wrong by ±20 %; otherwise all policies, with profiles as measured. */
  readonly isWrong: boolean;
};

export type ScenarioResult = {
  readonly scenario: Scenario;
  readonly document: BacktestDocument;
  readonly peakRssMb: number;
};

/** Runs all loads, as many at a time as there are cores. */
export async function benchmarkBacktest(options: BacktestBenchOptions): Promise<string> {
  const folder = resolve(traceFolder);
  if (!existsSync(folder)) return `skipped: no traces in ${traceFolder}`;
  mkdirSync(options.out, { recursive: true });
  const scenarios = await scenariosOf(options);
  const results: ScenarioResult[] = [];
  const failures: string[] = [];
  const waiting = [...scenarios];
  const workers = Math.min(waiting.length, availableParallelism());
  await Promise.all(
    Array.from({ length: workers }, async () => {
      let worker = startWorker();
      try {
        for (let scenario = waiting.shift(); scenario !== undefined; scenario = waiting.shift()) {
          const kind = scenario.isWrong ? '-wrong-profiles' : '';
          const name = `${scenario.trace}-${scenario.size.meanReplicas}-${scenario.router}${kind}`;
          let reply: BacktestReply;
          try {
            reply = await runIn(worker, taskOf(scenario, options), name);
          } catch (error) {
            // What ran for an hour is not lost with it.
            failures.push(`${name} failed: ${error instanceof Error ? error.message : String(error)}`);
            process.stderr.write(`${failures.at(-1)}\n\n`);
            if (!worker.connected) worker = startWorker();
            continue;
          }
          const { document, peakRssMb } = reply;
          results.push({ scenario, document, peakRssMb });
          writeFileSync(join(options.out, `${name}.json`), backtestJson(document));
          writeFileSync(join(options.out, `${name}.html`), reportPage(document));
          process.stderr.write(`${describeScenario({ scenario, document, peakRssMb })}\n\n`);
        }
      } finally {
        worker.disconnect();
      }
    }),
  );
  const order = new Map(scenarios.map((scenario, index) => [scenario, index]));
  results.sort((a, b) => order.get(a.scenario)! - order.get(b.scenario)!);
  if (failures.length > 0) process.exitCode = 1;
  return describeAll(results, { failures, out: options.out });
}

async function scenariosOf({ quick, traces = [], sizes, profileFolder }: BacktestBenchOptions): Promise<Scenario[]> {
  const loads = backtestLoads.filter(
    ({ trace }) => traces.length === 0 || traces.some((part) => basename(trace).includes(part)),
  );
  const chosen = quick ? loads.slice(0, 2).map((load) => ({ ...load, hours: Math.min(load.hours ?? 1, 1) })) : loads;
  const found: Scenario[] = [];
  for (const whole of chosen) {
    const perCopyOf = new Map<number | null, number>();
    for (const size of sizes ?? (quick ? allSizes.slice(0, 1) : allSizes)) {
      const isMain = size.fidelity === 'request';
      // What a plain gateway makes of it, and what large fleets do, is shown on the loads that a forecast can follow.
      if (!whole.isSteady && !isMain) continue;
      const load = { ...whole, hours: shorter(whole.hours, size.mostHours) };
      const perCopy = perCopyOf.get(load.hours) ?? (await replicasOfOneCopy(load, profileFolder));
      perCopyOf.set(load.hours, perCopy);
      const copies = Number((size.meanReplicas / perCopy).toPrecision(3));
      for (const router of size.routers) {
        const usual = isMain && router === 'shares';
        if (load.isSteady || usual) found.push({ ...load, size, router, copies, isWrong: false });
        if (load.isSteady && usual) found.push({ ...load, size, router, copies, isWrong: true });
      }
    }
  }
  // What is asked first of all comes first, for whoever does not wait for the rest.
  const rank = ({ isWrong, router, size }: Scenario) =>
    (size.fidelity === 'fluid' ? 4 : 0) + (router === 'shares' ? 0 : 2) + (isWrong ? 1 : 0);
  return found.sort((a, b) => rank(a) - rank(b));
}

/** Of a window, no more than so many hours; null = all of the trace, which is left whole. */
function shorter(hours: number | null, mostHours = Number.POSITIVE_INFINITY): number | null {
  return hours === null ? null : Math.min(hours, mostHours);
}

/** The rate is multiplied so far that whole replicas do not matter. */
const manyCopies = 1000;

/** Replicas, of all types together, of the cheapest fleet for the mean of one copy. */
async function replicasOfOneCopy(load: Load, profileFolder?: string): Promise<number> {
  const [gpus, models] = await Promise.all([loadGpuCatalogue(), loadModelCatalogue()]);
  const directory = profileFolder ?? defaultProfiles;
  const file = { name: 'the configuration of the benchmark', text: configuration(directory) };
  const { config } = loadConfig({ file, environment: {}, flags: [], catalogue: gpus });
  const fleet = await backtestFleet({
    config,
    source: file.name,
    profiles: createFileProfiles(directory),
    gpus,
    models,
  });
  const window = {
    fromSeconds: load.fromHours * 3600,
    durationSeconds: load.hours === null ? null : load.hours * 3600,
    startMs: 0,
  };
  const facts = await traceFacts(windowOf(readRequestLog({ file: fileOf(load) }), window));
  const { replicas } = cheapestFleet({
    deployments: fleet.members.map(({ deployment }) => ({ ...deployment, maxReplicas: 1e6 })),
    meanDemand: meanDemand(facts, 1),
    rateFactor: manyCopies,
  });
  return [...replicas.values()].reduce((sum, count) => sum + count, 0) / manyCopies;
}

const defaultProfiles = resolve('profiles', 'simulated', 'llama-3.1-8b-ttft-by-length');

function fileOf({ trace }: Load): string {
  return resolve(traceFolder, `${trace}.csv.gz`);
}

function taskOf(scenario: Scenario, { profileFolder }: BacktestBenchOptions): BacktestTask {
  const { fromHours, hours, copies, router, size, isWrong } = scenario;
  const policies: readonly PolicyName[] = isWrong ? ['gpumix'] : policyNames;
  return {
    traceFile: fileOf(scenario),
    configuration: configuration(profileFolder ?? defaultProfiles),
    directory: resolve('.'),
    question: {
      policies,
      router,
      fidelity: size.fidelity,
      objective: defaultObjective,
      targetAttainment: target,
      seed: 1,
      copies,
      jitterSeconds,
      fromSeconds: fromHours * 3600,
      durationSeconds: hours === null ? null : hours * 3600,
      warmUpShare: 0.1,
      cadenceSeconds: 60,
      profileErrors: isWrong ? [0, -wrongBy, wrongBy] : [0],
      sweep: false,
      knobs: isWrong ? {} : knobs,
      oracle: !isWrong,
    },
  };
}

function startWorker(): ChildProcess {
  return fork(fileURLToPath(new URL('./backtest-process.js', import.meta.url)), { serialization: 'advanced' });
}

/** Runs one scenario, and says of each of its runs what came of it: whoever stops it after an hour has that. */
async function runIn(worker: ChildProcess, task: BacktestTask, name: string): Promise<BacktestReply> {
  const gone = new AbortController();
  const onExit = (code: number | null) => gone.abort(new Error(`the process of a backtest ended with status ${code}`));
  worker.once('exit', onExit);
  try {
    const messages = on(worker, 'message', { signal: gone.signal });
    worker.send(task);
    for await (const [message] of messages as AsyncIterable<[BacktestMessage]>) {
      if ('reply' in message) return message.reply;
      if ('fault' in message) throw new Error(`${basename(task.traceFile)}: ${message.fault}`);
      const { name: run, usd, attainment } = message.ended;
      process.stderr.write(`${name}: ${run}: ${number(usd, 2)} USD, ${percent(attainment)} attained\n`);
    }
    throw new Error('the process of a backtest said nothing more');
  } catch (error) {
    // What is awaited is aborted with an error of its own, which carries the reason.
    throw gone.signal.aborted ? gone.signal.reason : error;
  } finally {
    worker.off('exit', onExit);
  }
}

/** One load: what each policy costs for the same service. */
function describeScenario({ scenario, document, peakRssMb }: ScenarioResult): string {
  const { window, runs, matched, positions } = document;
  const hours = (window.toSeconds - window.scoredFromSeconds) / 3600;
  const rates = `${number(window.requests / hours / 3600, 1)} requests/s over ${number(hours, 1)} h`;
  const lines = [
    `${scenario.trace}, ${scenario.copies} copies (${rates}), ${scenario.size.fidelity} fidelity, router ${scenario.router}`,
    row('policy', ['USD/h', 'attained', 'USD/h at 99 %', '/ oracle', 'gpumix saves', 'at own', 'replicas', 'starts']),
  ];
  const own = matched.find(({ at }) => at === 'own') ?? matched[0];
  const aimed = matched.find(({ at }) => at === 'target');
  for (const policy of scenario.isWrong ? [] : document.asked.policies) {
    const main = runs.find((run) => run.policy === policy && run.isMain);
    if (main === undefined) continue;
    const atTarget = aimed?.costs.find((cost) => cost.policy === policy);
    const atOwn = own?.costs.find((cost) => cost.policy === policy);
    const { usd, attainment, meanReplicas, starts } = main.result;
    lines.push(
      row(policy, [
        number(usd / hours, 2),
        percent(attainment),
        atTarget?.usd == null
          ? 'not reached'
          : `${atTarget.basis === 'attains-more' ? '≤ ' : ''}${number(atTarget.usd / hours, 2)}`,
        atTarget?.oracleRatio == null ? '–' : number(atTarget.oracleRatio, 2),
        atTarget?.saving == null ? '–' : percent(atTarget.saving),
        atOwn?.saving == null ? '–' : percent(atOwn.saving),
        number(meanReplicas, 1),
        String(starts),
      ]),
    );
  }
  if (aimed?.oracleUsd != null) lines.push(row('oracle, at least', ['', '', number(aimed.oracleUsd / hours, 2)]));
  for (const { against, worstExcess, worstAt, beyond, onOrBelow } of positions) {
    if (onOrBelow) continue;
    const worst =
      worstExcess === null || worstExcess <= 0
        ? ''
        : `: dearer by up to ${percent(worstExcess)} at ${percent(worstAt ?? 0)}`;
    const short = beyond === null ? '' : `${worst === '' ? ':' : ','} and that one reaches ${percent(beyond)}`;
    lines.push(`  gpumix is not below ${against} everywhere${worst}${short}`);
  }
  for (const run of scenario.isWrong ? runs : []) {
    const name =
      run.profileError === 0
        ? 'profiles as measured'
        : `they claim ${percent(Math.abs(run.profileError))} ${run.profileError > 0 ? 'more' : 'less'}`;
    lines.push(row(name, [number(run.result.usd / hours, 2), percent(run.result.attainment)]));
  }
  const seconds = document.timings.runs.map((run) => run.seconds);
  const perMillion = (1e6 * seconds.reduce((sum, each) => sum + each, 0)) / seconds.length / window.requests;
  lines.push(
    `  ${seconds.length} runs in ${number(document.timings.totalSeconds, 0)} s; a million requests ${number(perMillion, 1)} s; ${number(peakRssMb, 0)} MB`,
  );
  return lines.join('\n');
}

function describeAll(
  results: readonly ScenarioResult[],
  { failures, out }: { readonly failures: readonly string[]; readonly out: string },
): string {
  return [
    ...results.map(describeScenario),
    ...failures,
    'At 99 %: read off each policy’s frontier, the runs of its knob; "not reached": no knob attained that much.',
    `Reports: ${out}`,
  ].join('\n\n');
}

function row(name: string, cells: readonly string[]): string {
  return `  ${name.padEnd(24)}${cells.map((cell) => cell.padStart(14)).join('')}`;
}

function number(value: number, digits: number): string {
  return value.toFixed(digits);
}

function percent(share: number): string {
  return `${(100 * share).toFixed(2)} %`;
}

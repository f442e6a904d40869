import { availableParallelism, cpus, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { benchmarkBacktest } from './backtest.js';
import { benchmarkConsumers, describeConsumers } from './consumers.js';
import { benchmarkCycle, describeCycle } from './cycle.js';
import { benchmarkEngineCheck, describeEngineCheck } from './engine-check.js';
import { benchmarkEstimates } from './estimate.js';
import { benchmarkForecasts, describeForecasts } from './forecast.js';
import { benchmarkGenProfile, describeGenProfile } from './gen-profile.js';
import { benchmarkGenerator, describeGenerator } from './generator.js';
import { benchmarkHttp, describeHttp } from './http.js';
import { benchmarkJoint, describeJoint } from './joint.js';
import { benchmarkMemory } from './memory.js';
import { benchmarkPeers, describePeers } from './peers.js';
import { benchmarkPlacement, describePlacement, placementSizes } from './placement.js';
import { benchmarkPlan, describePlanBenchmark } from './plan.js';
import { benchmarkPlanningThread, describePlanningThread } from './planning-thread.js';
import { benchmarkScrape, describeScrape } from './scrape.js';
import { benchmarkSearch, describeSearch } from './search.js';
import { benchmarkStepTime, describeStepTime } from './step-time.js';

/**
 * Runs benchmarks by name, all of them by default: `npm run bench -- [name…] [--quick]`.
 *
 * A benchmark measures its peers in the same run, on the same inputs, and prints ratios: figures of two runs, or of two
 * machines, are never compared.
 */
type Benchmark = {
  readonly about: string;
  /** Takes the better part of an hour: it is run where it is named. */
  readonly isOnItsOwn?: boolean;
  run(options: BenchmarkOptions): Promise<string>;
};

export type BenchmarkOptions = {
  /** Fewer instances and repetitions: to see that it works, not to quote. */
  readonly quick: boolean;
  /** Of the backtest: only traces with one of these in their names; empty = all. */
  readonly only: readonly string[];
  /** Of the backtest: the folder of its reports; absent = `backtest-reports`. */
  readonly out: string | undefined;
};

const benchmarks: Readonly<Record<string, Benchmark>> = {
  plan: {
    about: 'plan() against HiGHS and javascript-lp-solver on the same problems',
    run: async (options) => describePlanBenchmark(await benchmarkPlan(options)),
  },
  joint: {
    about: 'fleets that share pools: time, gap, memory, stalls; against HiGHS on the whole program',
    run: async (options) => describeJoint(await benchmarkJoint(options)),
  },
  peers: {
    about: "what the rules of Mélange, AIBrix and WVA's greedy optimizer would pay on the same instances",
    run: async (options) => describePeers(await benchmarkPeers(options)),
  },
  placement: {
    about: 'services on fixed GPUs: optimal against its bound, every rule, binpack, spread, and HiGHS',
    run: async ({ quick }) => describePlacement(await benchmarkPlacement(placementSizes(quick))),
  },
  'planning-thread': {
    about: 'a large problem through the planning thread, and how long the event loop waits',
    run: async (options) => describePlanningThread(await benchmarkPlanningThread(options)),
  },
  cycle: {
    about: "a fleet's cycle on a real Redis: time, memory, start",
    run: async (options) => describeCycle(await benchmarkCycle(options)),
  },
  memory: {
    about: 'what the service holds after a simulated hour of 1,000 models, and a simulated day of 100',
    isOnItsOwn: true,
    run: benchmarkMemory,
  },
  backtest: {
    about: 'money and attainment over recorded traces: gpumix, its peers, the best constant fleet, a proven bound',
    isOnItsOwn: true,
    run: ({ quick, only, out }) => benchmarkBacktest({ quick, traces: only, out: out ?? 'backtest-reports' }),
  },
  'step-time': {
    about: "the simulated engine's step times against profiles added up from measured kernels",
    run: async () => describeStepTime(await benchmarkStepTime()),
  },
  estimate: {
    about: 'estimated rates, TTFT and TPOT against published measurements; the fit of their factors',
    run: async (options) => (await benchmarkEstimates(options)).text,
  },
  forecast: {
    about: 'each forecaster on recorded traces: pinball loss on the largest minute within a horizon, coverage, time',
    run: async (options) => describeForecasts(await benchmarkForecasts(options)),
  },
  'gen-profile': {
    about: '100,000 rows of a benchmark into a profile, against JSON.parse of the lines',
    run: async (options) => describeGenProfile(benchmarkGenProfile(options)),
  },
  search: {
    about: 'requests of a benchmark: the search for the highest rates against the doubling sweep, in virtual time',
    run: async (options) => describeSearch(await benchmarkSearch(options)),
  },
  'engine-check': {
    about: 'a replica of the backtest against `gpumix engine` over HTTP, with the same arrivals',
    run: async (options) => describeEngineCheck(await benchmarkEngineCheck(options)),
  },
  scrape: {
    about: 'a scrape of /metrics with 3,000 deployments, against the same gauges by prom-client',
    run: async (options) => describeScrape(await benchmarkScrape(options)),
  },
  http: {
    about: "the metric's route against a bare Fastify route",
    run: async ({ quick }) => describeHttp(await benchmarkHttp(quick ? { repetitions: 2, secondsEach: 1 } : {})),
  },
  consumers: {
    about: "KEDA's gRPC and the external metrics API at 500 requests/s, against bare grpc-js and Fastify",
    run: async (options) => describeConsumers(await benchmarkConsumers(options)),
  },
  generator: {
    about: 'the load generator at 2,000 streaming requests/s, beside autocannon',
    run: async (options) => describeGenerator(await benchmarkGenerator(options)),
  },
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string', multiple: true, default: [] },
    out: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

if (values.help) {
  for (const [name, { about }] of Object.entries(benchmarks)) console.log(`${name.padEnd(18)}${about}`);
} else {
  const usual = Object.keys(benchmarks).filter((name) => benchmarks[name]?.isOnItsOwn !== true);
  const names = positionals.length > 0 ? positionals : usual;
  const unknown = names.filter((name) => !Object.hasOwn(benchmarks, name));
  if (unknown.length > 0) {
    console.error(`unknown benchmark ${unknown.join(', ')}; known: ${Object.keys(benchmarks).join(', ')}`);
    process.exitCode = 2;
  } else {
    const load = loadavg()[0]!.toFixed(2);
    const cores = availableParallelism();
    console.log(
      `Node ${process.version}, ${cpus()[0]?.model.trim() ?? 'unknown CPU'}, ${cores} cores, load ${load} at the start`,
    );
    for (const name of names) {
      console.log(`\n== ${name}: ${benchmarks[name]!.about}${values.quick ? ' (quick: not to quote)' : ''}\n`);
      console.log(await benchmarks[name]!.run({ quick: values.quick, only: values.only, out: values.out }));
    }
  }
}

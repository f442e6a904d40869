import { loadGpuCatalogue, loadModelCatalogue } from '../src/adapters/catalogue-file.js';
import { gpuByName } from '../src/core/gpu-types.js';
import { modelByName } from '../src/core/model-types.js';
import { drawArrivals } from '../src/profiling/arrivals.js';
import { type Attainment, attainmentOf, type Slo } from '../src/profiling/attainment.js';
import { type Agenda, searchAgenda, sweepAgenda } from '../src/profiling/benchmark-agenda.js';
import type { Cell } from '../src/profiling/measurement.js';
import type { CellResult } from '../src/profiling/rate-search.js';
import { withSettledThroughput } from '../src/profiling/settled-throughput.js';
import { measure, residencesOfSteadyRun } from '../src/profiling/steady-state.js';
import { coarseFirstCells, doubling } from '../src/profiling/sweep.js';
import { runBenchmark, runSeed } from '../src/service/benchmark-run.js';
import { type BenchmarkServer, simulatedBenchmarkServer } from '../src/service/benchmark-server.js';
import { simulateLoad } from '../src/simulation/load-run.js';
import { type ReplicaLimits, SimulatedReplica } from '../src/simulation/replica.js';
import { type StepTimes, stepTimesOf } from '../src/simulation/step-time.js';
import { brief, percentile, progress, table } from './timing.js';

/**
 * How many requests the search for the highest rate takes, against the doubling sweep over the same cells and rates, on
 * simulated replicas in virtual time; and how near what it finds is to what there is to find.
 *
 * Both modes make the same runs: same arrivals, same rule for their length (a run must fill the server and hold it there),
 * same rule for the verdict. The sweep can only name a power of two. What there is to find is scanned for: every rate in
 * steps of 2 %, with runs of the same length and arrivals (*same runs*: how well the search searches), and with runs ten
 * times as long on other arrivals, in some cells (*long runs*: how well such runs measure).
 */
export type SearchBenchmark = { readonly servers: readonly ServerResult[]; readonly slo: Slo };

type ServerResult = {
  readonly name: string;
  readonly requests: number;
  readonly cells: number;
  readonly search: ModeResult;
  readonly sweep: ModeResult;
  /** found / scanned − 1, for cells whose capacity lies between the rates. */
  readonly sameRuns: readonly number[];
  readonly longRuns: readonly number[];
  /** Cells at an end of the range by one and not by the other. */
  readonly otherEnd: number;
};

type ModeResult = {
  readonly runs: number;
  readonly requests: number;
  readonly hours: number;
  readonly results: readonly CellResult[];
};

const slo: Slo = { ttftSeconds: 2, tpotSeconds: 0.1, e2eSeconds: null, percentile: 90 };
const rates = { start: 1, limit: 64 };
/**
 * Counted requests of a run: AIBrix's number, and one that leaves less to chance. On an L4 the SLO is limited by TPOT in most
 * cells and by the KV cache in others; on an H100 by the 256 requests that run at once.
 */
const cases = [
  { gpu: 'L4', requests: 100 },
  { gpu: 'L4', requests: 1000 },
  { gpu: 'H100', requests: 100 },
] as const;
/** Of the runs that say what is true. */
const longRequests = 5000;
const limits: ReplicaLimits = { maxSequences: 256, maxBatchedTokens: 8192, maxTokens: 16_384 };
/** AIBrix's sweep sends so many prompts in each of its runs, long enough or not. */
const aibrixPrompts = 100;

export async function benchmarkSearch(options: { readonly quick: boolean }): Promise<SearchBenchmark> {
  const axis = doubling(4, 4096).filter((_, i) => !options.quick || i % 2 === 0);
  const servers: ServerResult[] = [];
  for (const { gpu, requests } of options.quick ? cases.slice(0, 1) : cases) {
    servers.push(await onServer(gpu, { cells: coarseFirstCells(axis, axis), requests }));
  }
  return { servers, slo };
}

async function onServer(
  gpuName: string,
  { cells, requests }: { readonly cells: readonly Cell[]; readonly requests: number },
): Promise<ServerResult> {
  const stepTimes = await stepTimesFor(gpuName);
  const mode = (name: string, agenda: Agenda, abortsEarly: boolean) =>
    runMode(simulatedBenchmarkServer({ name: `${gpuName}: ${name}`, stepTimes, limits }), agenda, abortsEarly);
  const { start, limit } = rates;
  const range = { rateStart: start, rateLimit: limit };
  const search = await mode(
    'search',
    searchAgenda({ cells, slo, ...range, requests, resolution: 0.05, confidence: 0.8, maxTokens: null }),
    true,
  );
  const sweep = await mode(
    'sweep',
    sweepAgenda({ cells, rates: doubling(start, limit), requests, maxTokens: null }),
    false,
  );
  const inside = search.results.filter(({ rate, state }) => rate !== null && state === 'found');
  const scanned = inside.map((one, i) => {
    progress(`${gpuName}: scanning cell ${i + 1} of ${inside.length}`);
    return one.rate! / scan(stepTimes, one, { requests, seedShift: 0 }) - 1;
  });
  const some = inside.filter((_, i) => i % 6 === 0);
  const long = some.map((one, i) => {
    progress(`${gpuName}: long runs, cell ${i + 1} of ${some.length}`);
    return one.rate! / scan(stepTimes, one, { requests: longRequests, seedShift: 1 }) - 1;
  });
  const sweptAt = new Map(sweep.results.map((one) => [keyOf(one.cell), one]));
  const otherEnd = search.results.filter(({ cell, state }) => {
    const other = sweptAt.get(keyOf(cell))!.state;
    return (state === 'none') !== (other === 'none') || (state === 'at_limit') !== (other === 'at_limit');
  }).length;
  return { name: gpuName, requests, cells: cells.length, search, sweep, sameRuns: scanned, longRuns: long, otherEnd };
}

const keyOf = ({ inputTokens, outputTokens }: Cell): string => `${inputTokens} ${outputTokens}`;

async function stepTimesFor(gpuName: string): Promise<StepTimes> {
  const gpu = gpuByName(await loadGpuCatalogue(), gpuName)!;
  const model = modelByName(await loadModelCatalogue(), 'llama-3.1-8b')!;
  return stepTimesOf({ gpu, model, gpusPerReplica: 1, weightPrecision: 'bf16' });
}

async function runMode(server: BenchmarkServer, agenda: Agenda, abortsEarly: boolean): Promise<ModeResult> {
  const report = await runBenchmark(
    {
      model: 'llama-3.1-8b',
      agenda,
      slo,
      abortsEarly,
      mix: null,
      arrivals: 'poisson',
      trace: null,
      seed: 0,
      temperature: 0,
      maxSeconds: null,
    },
    {
      servers: [server],
      write: async () => {},
      signal: new AbortController().signal,
      onProgress: ({ run, runsMade }) =>
        progress(`${server.name}, run ${runsMade}: ${keyOf(run.cell)} at ${brief(run.requestRate)}`),
    },
  );
  return { runs: report.runs, requests: report.requests, hours: report.seconds / 3600, results: report.results };
}

/** The rate up to which runs meet the SLO: before the first of two neighbours in steps of 2 % that both miss it. */
function scan(
  stepTimes: StepTimes,
  { cell, rate }: CellResult,
  { requests, seedShift }: { readonly requests: number; readonly seedShift: number },
): number {
  const seed = runSeed(seedShift, 0);
  const meets = (requestRate: number): boolean => judge(stepTimes, { cell, requestRate, seed, requests }).meets;
  const step = 1.02;
  let from = rate! / 1.15;
  while (from > rates.start / 2 && !(meets(from) && meets(from / step))) from /= 1.1;
  let best = from;
  let misses = 0;
  for (let next = from * step; misses < 2 && next < 2 * rates.limit; next *= step) {
    if (meets(next)) {
      best = next;
      misses = 0;
    } else misses += 1;
  }
  return best * Math.sqrt(step);
}

function judge(
  stepTimes: StepTimes,
  run: { readonly cell: Cell; readonly requestRate: number; readonly seed: number; readonly requests: number },
): Attainment {
  const { cell, requestRate, seed, requests } = run;
  const attempt = (count: number) => {
    const schedule = drawArrivals({ kind: 'poisson', requestRate, count, seed, lengths: cell });
    const { outcomes } = simulateLoad({ replica: new SimulatedReplica({ stepTimes, limits }), requests: schedule });
    const plan = { model: 'm', cell, mix: null, requestRate, arrivals: 'poisson', seed, temperature: 0 } as const;
    const measured = withSettledThroughput(measure(outcomes, plan));
    return { measured, attainment: attainmentOf(outcomes, measured, slo) };
  };
  const stay = attempt(200).measured.e2e?.mean ?? 0;
  const inFlight = Math.min(requestRate * stay, limits.maxSequences);
  const least = Math.max(requests + 2 * inFlight, 1.1 * residencesOfSteadyRun * inFlight);
  return attempt(Math.ceil(least)).attainment;
}

/** A table for people. */
export function describeSearch({ servers, slo: { ttftSeconds, tpotSeconds, percentile: p } }: SearchBenchmark): string {
  const share = (values: readonly number[], limit: number): string =>
    `${Math.round((100 * values.filter((value) => Math.abs(value) <= limit).length) / Math.max(1, values.length))} %`;
  const spread = (values: readonly number[]): string =>
    [0.05, 0.5, 0.95].map((q) => `${(100 * percentile(values, q)).toFixed(1)}`).join(' / ');
  const rows = servers.map(({ name, requests, cells, search, sweep, sameRuns, longRuns, otherEnd }) => [
    name,
    String(requests),
    String(cells),
    `${search.runs} / ${sweep.runs}`,
    `${brief(search.requests)} / ${brief(sweep.requests)}`,
    (search.requests / sweep.requests).toFixed(3),
    (search.requests / (cells * 7 * aibrixPrompts)).toFixed(2),
    `${brief(search.hours)} / ${brief(sweep.hours)}`,
    String(otherEnd),
    String(sameRuns.length),
    share(sameRuns, 0.05),
    spread(sameRuns),
    share(longRuns, 0.05),
    spread(longRuns),
  ]);
  const header = [
    'GPU',
    'requests a run',
    'cells',
    'runs search / sweep',
    'requests search / sweep',
    'ratio',
    'of 100 a run',
    'hours search / sweep',
    'other end',
    'found',
    'same runs: within 5 %',
    'P5 / P50 / P95 [%]',
    'long runs: within 5 %',
    'P5 / P50 / P95 [%]',
  ];
  return [
    `llama-3.1-8b, TTFT ${ttftSeconds} s, TPOT ${tpotSeconds} s at P${p}, rates ${rates.start} to ${rates.limit}`,
    '',
    table(header, rows),
  ].join('\n');
}

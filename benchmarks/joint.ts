import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { highsRuntime } from '../src/adapters/solvers/highs.js';
import type { PlanningProblem } from '../src/core/planning-problem.js';
import { jointFleet, withPools } from './joint-instances.js';
import type { JointReply, JointRequest } from './joint-process.js';
import type { BenchmarkOptions } from './main.js';
import { costOfValues, highsEngine, type MipEngine } from './mip.js';
import { brief, median, progress, table } from './timing.js';
import { wholeProgram } from './whole-program.js';

/**
 * Joint plans of generated fleets that share pools: time, proof, memory and stalls, against HiGHS on the whole program in
 * one piece with the same time and with ten times as much.
 *
 * Planned in processes of their own, one per size and way: through the planning thread, as the service does, and in the
 * thread of the caller.
 */
export type JointBenchmark = { readonly engine: string; readonly sizes: readonly SizeMeasurement[] };

type Size = {
  readonly models: number;
  readonly gpuTypes: number;
  readonly buckets: number;
  /** What plan() is given. */
  readonly timeLimitMs: number;
  /** Fleets, each with pools at three shares. */
  readonly fleets: number;
  /** On the first so many of them HiGHS runs too. */
  readonly baselineFleets: number;
};

type SizeMeasurement = {
  readonly size: Size;
  readonly measurements: readonly Measurement[];
  readonly threadRssMb: number;
  readonly inProcessRssMb: number;
};

type Measurement = {
  readonly poolShare: number;
  readonly freeUsdPerHour: number;
  readonly witnessUsdPerHour: number;
  readonly thread: JointReply;
  readonly inProcess: JointReply;
  readonly baseline: Baseline | null;
};

type Baseline = { readonly same: BaselineRun; readonly tenfold: BaselineRun };

type BaselineRun = {
  /** NaN where it found no plan in time, or one that does not fit. */
  readonly usdPerHour: number;
  readonly boundUsdPerHour: number;
  readonly milliseconds: number;
  readonly proven: boolean;
  readonly fault: string | null;
};

const poolShares = [0.7, 0.9, 1.1];
const sizes = {
  full: [
    { models: 10, gpuTypes: 4, buckets: 20, timeLimitMs: 2_000, fleets: 10, baselineFleets: 3 },
    { models: 100, gpuTypes: 6, buckets: 40, timeLimitMs: 1_000, fleets: 5, baselineFleets: 2 },
    { models: 1_000, gpuTypes: 8, buckets: 40, timeLimitMs: 4_000, fleets: 2, baselineFleets: 1 },
  ],
  quick: [
    { models: 10, gpuTypes: 4, buckets: 20, timeLimitMs: 2_000, fleets: 1, baselineFleets: 1 },
    { models: 30, gpuTypes: 6, buckets: 40, timeLimitMs: 1_000, fleets: 1, baselineFleets: 0 },
  ],
} as const satisfies Record<string, readonly Size[]>;

export async function benchmarkJoint({ quick }: BenchmarkOptions): Promise<JointBenchmark> {
  const engine = highsEngine(await highsRuntime());
  const measured: SizeMeasurement[] = [];
  for (const size of quick ? sizes.quick : sizes.full) measured.push(await measureSize(size, engine));
  progress('');
  return { engine: engine.name, sizes: measured };
}

async function measureSize(size: Size, engine: MipEngine): Promise<SizeMeasurement> {
  const { timeLimitMs } = size;
  const thread = startPlanner();
  const inProcess = startPlanner();
  try {
    const measurements: Measurement[] = [];
    let threadRssMb = 0;
    let inProcessRssMb = 0;
    for (let f = 0; f < size.fleets; f++) {
      const fleet = jointFleet({ ...size, seed: f + 1 });
      for (const poolShare of poolShares) {
        const instance = withPools(fleet, poolShare);
        progress(
          `joint: ${size.models} models, fleet ${f + 1} of ${size.fleets}, pools at ${Math.round(100 * poolShare)} %`,
        );
        const problem = JSON.stringify(instance.problem);
        const measure = async (planner: ChildProcess, where: JointRequest['where']) => {
          // The first problem of a process is planned twice: the service is warm after its first cycle.
          if (measurements.length === 0) await planIn(planner, { where, problem, timeLimitMs });
          return await planIn(planner, { where, problem, timeLimitMs });
        };
        const viaThread = await measure(thread, 'thread');
        const own = await measure(inProcess, 'in-process');
        threadRssMb = viaThread.peakRssMb;
        inProcessRssMb = own.peakRssMb;
        for (const { unservedRps } of [viaThread, own]) {
          if (unservedRps > 0) throw new Error(`${unservedRps} requests/s unserved, where a plan for all exists`);
        }
        measurements.push({
          poolShare,
          freeUsdPerHour: fleet.freeUsdPerHour,
          witnessUsdPerHour: instance.witnessUsdPerHour,
          thread: viaThread,
          inProcess: own,
          baseline: f < size.baselineFleets ? baselineOf(instance, engine, timeLimitMs) : null,
        });
      }
    }
    return { size, measurements, threadRssMb, inProcessRssMb };
  } finally {
    thread.disconnect();
    inProcess.disconnect();
  }
}

function startPlanner(): ChildProcess {
  const script = fileURLToPath(new URL('./joint-process.js', import.meta.url));
  return fork(script, { serialization: 'advanced', execArgv: ['--expose-gc'] });
}

async function planIn(planner: ChildProcess, request: JointRequest): Promise<JointReply> {
  const ended = new AbortController();
  try {
    planner.send(request);
    const answered = once(planner, 'message', { signal: ended.signal });
    const exited = once(planner, 'exit', { signal: ended.signal }).then(([code]) => {
      throw new Error(`the planning process ended with status ${code}`);
    });
    exited.catch(() => undefined);
    answered.catch(() => undefined);
    const [reply] = await Promise.race([answered, exited]);
    return reply as JointReply;
  } finally {
    ended.abort();
  }
}

function baselineOf({ problem }: { readonly problem: PlanningProblem }, engine: MipEngine, limitMs: number): Baseline {
  const { mip, replicasOf } = wholeProgram(problem);
  const run = (timeLimitMs: number): BaselineRun => {
    const { status, values, bound, milliseconds } = engine.solve(mip, { timeLimitMs, relativeGap: 0 });
    const found = values === null ? null : replicasOf(values);
    const fits = values !== null && typeof found !== 'string';
    return {
      usdPerHour: fits ? costOfValues(mip, values) : Number.NaN,
      boundUsdPerHour: bound,
      milliseconds,
      proven: fits && status === 'optimal',
      fault: typeof found === 'string' ? found : null,
    };
  };
  const same = run(limitMs);
  return { same, tenfold: same.proven ? same : run(10 * limitMs) };
}

const sameCost = 1e-6;

/** Where two proofs contradict each other: a bound above a plan that fits. */
function contradictions({ measurements }: SizeMeasurement): readonly string[] {
  return measurements.flatMap(({ thread, inProcess, baseline }) => {
    const runs = baseline === null ? [] : [baseline.same, baseline.tenfold];
    return [thread, inProcess].flatMap(({ usdPerHour, boundUsdPerHour }) =>
      runs.flatMap((run) => [
        ...(boundUsdPerHour > run.usdPerHour * (1 + sameCost)
          ? [`gpumix's bound ${boundUsdPerHour} is above HiGHS's plan of ${run.usdPerHour}`]
          : []),
        ...(run.boundUsdPerHour > usdPerHour * (1 + sameCost)
          ? [`HiGHS's bound ${run.boundUsdPerHour} is above gpumix's plan of ${usdPerHour}`]
          : []),
      ]),
    );
  });
}

export function describeJoint({ engine, sizes: measured }: JointBenchmark): string {
  const both = (values: readonly number[], show: (value: number) => string) =>
    values.length === 0 ? '–' : `${show(median(values))} / ${show(Math.max(...values))}`;
  const name = ({ models, gpuTypes, buckets }: Size) => `${models} × ${gpuTypes} × ${buckets}`;
  const rows = measured.flatMap(({ size, measurements }) =>
    [...poolShares, null].map((poolShare) => {
      const all = measurements.filter((it) => poolShare === null || it.poolShare === poolShare);
      const proven = all.filter(({ thread }) => thread.status === 'optimal').length;
      return [
        name(size),
        poolShare === null ? 'all' : `${Math.round(100 * poolShare)} %`,
        String(all.length),
        both(
          all.map(({ thread }) => thread.milliseconds),
          milliseconds,
        ),
        both(
          all.map(({ inProcess }) => inProcess.milliseconds),
          milliseconds,
        ),
        both(
          all.map(({ thread }) => thread.gap),
          percent,
        ),
        `${proven} of ${all.length}`,
        both(
          all.map(({ thread, freeUsdPerHour }) => thread.usdPerHour / freeUsdPerHour),
          ratio,
        ),
        both(
          all.map(({ thread, witnessUsdPerHour }) => witnessUsdPerHour / thread.usdPerHour),
          ratio,
        ),
      ];
    }),
  );
  const baselines = measured.flatMap(({ size, measurements }) => {
    const all = measurements.flatMap((it) => (it.baseline === null ? [] : [{ ...it, baseline: it.baseline }]));
    if (all.length === 0) return [];
    const runs = [
      { limitMs: size.timeLimitMs, of: ({ same }: Baseline) => same },
      { limitMs: 10 * size.timeLimitMs, of: ({ tenfold }: Baseline) => tenfold },
    ];
    return runs.map(({ limitMs, of }) => {
      const answered = all.filter(({ baseline }) => Number.isFinite(of(baseline).usdPerHour));
      return [
        name(size),
        `${limitMs / 1000} s`,
        String(all.length),
        String(answered.length),
        String(all.filter(({ baseline }) => of(baseline).proven).length),
        both(
          answered.map(({ baseline, thread }) => of(baseline).usdPerHour / thread.usdPerHour),
          ratio,
        ),
        both(
          answered.map(({ baseline }) => 1 - of(baseline).boundUsdPerHour / of(baseline).usdPerHour),
          percent,
        ),
        both(
          all.map(({ baseline }) => of(baseline).milliseconds),
          milliseconds,
        ),
      ];
    });
  });
  const faults = measured.flatMap((size) => contradictions(size));
  return [
    'Models × GPU types × buckets; median / worst. Pools as a share of the free use; all demand can be served, and is.',
    '',
    table(
      ['instances', 'pools', 'n', 'ms, thread', 'ms, in-process', 'gap', 'proven', 'cost ÷ free', 'witness ÷ cost'],
      rows,
    ),
    '',
    ...measured.map(({ size, measurements, threadRssMb, inProcessRssMb }) => {
      const stalls = measurements.map(({ thread }) => thread.longestStallMs);
      const idle = measurements.map(({ thread }) => thread.idleStallMs);
      return `${name(size)}, limit ${size.timeLimitMs / 1000} s: longest stall of the caller's event loop ${both(stalls, brief)} ms (idle for as long: ${both(idle, brief)}); peak RSS ${brief(threadRssMb)} MB with the thread, ${brief(inProcessRssMb)} MB in-process.`;
    }),
    '',
    `Baseline: ${engine} on the whole program, gap 0; cost ÷ gpumix's, its own gap where it found a plan.`,
    '',
    table(['instances', 'limit', 'n', 'answered', 'proven', 'cost ÷ ours', 'its gap', 'ms'], baselines),
    '',
    faults.length === 0 ? 'No bound of either is above a plan of the other.' : `WRONG: ${faults.join('; ')}`,
  ].join('\n');
}

const milliseconds = (value: number): string => brief(value);
const percent = (part: number): string => `${(100 * part).toFixed(3)} %`;
const ratio = (value: number): string => value.toFixed(4);

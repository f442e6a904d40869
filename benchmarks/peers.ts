import { highsRuntime } from '../src/adapters/solvers/highs.js';
import type { Plan } from '../src/core/plan.js';
import type { PlanningProblem } from '../src/core/planning-problem.js';
import { bucketWork, compileWork } from '../src/core/work.js';
import { branchAndBound } from '../src/optimizer/branch-and-bound.js';
import { plan } from '../src/optimizer/plan.js';
import { structuredInstances } from '../test/optimizer/corpus.js';
import { jointFleet, withPools } from './joint-instances.js';
import type { BenchmarkOptions } from './main.js';
import { cbcEngine, highsEngine, type MipEngine } from './mip.js';
import { conformanceFaults } from './peer-conformance.js';
import { aibrixFraction, aibrixPlan, aibrixSlices, greedyPlan, melangePlan, peerModelOf } from './peer-rules.js';
import { programOf } from './plan.js';
import { brief, median, progress, table, timeMs } from './timing.js';

/**
 * What peers' rules would pay on the same instances, gpumix's plan being 1, and how long they take.
 *
 * Nothing is printed of a rule that our copy of does not reproduce the peer's own numbers (peer-conformance.ts).
 */
export type PeersBenchmark = {
  readonly engine: string;
  readonly limitMs: number;
  /** Starting the engine and reading one trivial program [ms]. */
  readonly engineStartMs: number;
  readonly single: readonly SingleMeasurement[];
  readonly joint: readonly JointMeasurement[];
};

type SingleMeasurement = {
  readonly replicas: number;
  readonly proven: boolean;
  readonly planMs: number;
  readonly searchMs: number;
  readonly rules: Readonly<Record<SingleRule, RuleMeasurement>>;
};

const sliceFactors = [1, 4, 8] as const;
type SingleRule = `melange-${(typeof sliceFactors)[number]}` | 'aibrix';

type RuleMeasurement = {
  /** Its cost ÷ gpumix's; NaN where it had none in time. */
  readonly ratio: number;
  readonly milliseconds: number;
  readonly stopped: boolean;
};

type JointMeasurement = {
  /** GPUs of a pool as a share of the free use; Infinity = no pools. */
  readonly poolShare: number;
  readonly replicas: number;
  readonly ratio: number;
  /** Share of the demand that the greedy rule leaves. */
  readonly unservedShare: number;
};

/** A search of ours without end must not stop the benchmark; what it then has is counted as not proven. */
const guardMs = 20_000;
const sameCost = 1e-6;
/** Demand below this share is rounding. */
const sameDemand = 1e-6;

/** Fleet sizes by the replicas of gpumix's plan. */
const fleetClasses = [
  { name: '1–5', atMost: 5 },
  { name: '6–20', atMost: 20 },
  { name: '21–100', atMost: 100 },
  { name: 'over 100', atMost: Number.POSITIVE_INFINITY },
] as const;

export type FleetClass = (typeof fleetClasses)[number]['name'];

/** The class of a fleet by how many replicas its optimum has. */
export function fleetClassOf(replicas: number): FleetClass {
  return fleetClasses.find(({ atMost }) => replicas <= atMost)!.name;
}

export async function benchmarkPeers({ quick }: BenchmarkOptions): Promise<PeersBenchmark> {
  const engine = cbcEngine() ?? highsEngine(await highsRuntime());
  const faults = conformanceFaults(engine);
  if (faults.length > 0) {
    throw new Error(
      `our copy of a peer's rule does not reproduce the peer's numbers, so nothing is compared:\n${faults.join('\n')}`,
    );
  }
  const limitMs = quick ? 2_000 : 10_000;
  const trivial = {
    rowLower: [1],
    rowUpper: [1],
    columns: [{ cost: 1, upper: 1, whole: true, entries: [[0, 1]] }],
  } as const;
  const engineStartMs = timeMs(5, () => {
    engine.solve(trivial, { timeLimitMs: limitMs, relativeGap: 0 });
  });
  // Warm: both ways have seen a few models before the first that counts.
  for (const { problem } of structuredInstances({ gpuTypes: 3, count: 12, seed: 32 })) {
    await measureOwn(servable(problem), 5);
  }
  const single: SingleMeasurement[] = [];
  for (const gpuTypes of [2, 4, 6, 8, 12]) {
    for (const { problem } of structuredInstances({ gpuTypes, count: quick ? 3 : 40, seed: 31 })) {
      progress(`peers: ${gpuTypes} GPU types, instance ${single.length + 1}`);
      single.push(await measureSingle(servable(problem), { engine, limitMs, repetitions: quick ? 1 : 5 }));
    }
  }
  const joint = measureJoint(quick);
  progress('');
  return { engine: engine.name, limitMs, engineStartMs, single, joint };
}

/** Without the buckets that no type can serve, for which the rules have no answer. */
function servable(problem: PlanningProblem): PlanningProblem {
  return {
    ...problem,
    models: problem.models.map((model) => {
      const tables = model.deployments.map(({ profile, maxTokens }) => compileWork(profile!, maxTokens));
      const demand = model.demand.filter(({ inputTokens, outputTokens }) =>
        tables.some((table) => bucketWork(table, inputTokens, outputTokens).servable),
      );
      return { ...model, demand };
    }),
  };
}

async function measureOwn(
  problem: PlanningProblem,
  repetitions: number,
): Promise<{ readonly own: Plan; readonly planMs: number; readonly searchMs: number }> {
  const own = guardedPlan(problem);
  const planMs = timeMs(repetitions, () => {
    guardedPlan(problem);
  });
  const program = await programOf({ problem });
  const searchMs = timeMs(repetitions, () => {
    const endsAt = performance.now() + guardMs;
    const shouldStop = () => performance.now() > endsAt;
    branchAndBound(program, { shouldStop, timeLimitMs: guardMs, nodeLimit: null, relativeGap: 0 });
  });
  return { own, planMs, searchMs };
}

async function measureSingle(
  problem: PlanningProblem,
  {
    engine,
    limitMs,
    repetitions,
  }: { readonly engine: MipEngine; readonly limitMs: number; readonly repetitions: number },
): Promise<SingleMeasurement> {
  const { own, planMs, searchMs } = await measureOwn(problem, repetitions);
  const model = peerModelOf(problem.models[0]!);
  const measured = ({ usdPerHour, milliseconds, status }: ReturnType<typeof melangePlan>): RuleMeasurement => ({
    ratio: usdPerHour / own.usdPerHour,
    milliseconds,
    stopped: status !== 'optimal',
  });
  const sliced = (sliceFactor: number) =>
    measured(melangePlan(model, { sliceFactor, engine, limits: { timeLimitMs: limitMs, relativeGap: 0 } }));
  return {
    replicas: replicasOf(own),
    proven: own.status === 'optimal',
    planMs,
    searchMs,
    rules: {
      'melange-1': sliced(1),
      'melange-4': sliced(4),
      'melange-8': sliced(8),
      // Hundredths are rounded up afterwards: a proof of the last ten-thousandth would only take time.
      aibrix: measured(
        aibrixPlan(model, {
          sliceFactor: aibrixSlices,
          engine,
          limits: { timeLimitMs: limitMs, relativeGap: 1e-4 },
          fraction: aibrixFraction,
        }),
      ),
    },
  };
}

const poolShares = [Number.POSITIVE_INFINITY, 1.1, 0.9, 0.7];

/** Fleets of one to fifty models, each without pools and with pools at three shares of the free use. */
function measureJoint(quick: boolean): JointMeasurement[] {
  const measurements: JointMeasurement[] = [];
  for (const models of [1, 2, 5, 20, 50]) {
    for (let seed = 1; seed <= (quick ? 1 : 10); seed++) {
      progress(`peers: fleet ${seed} of ${models} models`);
      const fleet = jointFleet({ models, gpuTypes: seed % 2 === 0 ? 4 : 6, buckets: 20, seed: 1_000 * models + seed });
      for (const poolShare of poolShares) {
        const { problem } = withPools(fleet, poolShare);
        const own = guardedPlan(problem, jointLimitMs);
        if (own.unserved.length > 0) throw new Error('gpumix left demand unserved where a plan for all exists');
        const peers = problem.models.map(peerModelOf);
        const pools = new Map(problem.pools.map(({ gpuType, gpus }) => [gpuType, gpus ?? Number.POSITIVE_INFINITY]));
        const greedy = greedyPlan(peers, pools, 'PriorityExhaustive');
        const demand = peers.reduce((sum, { rps }) => sum + rps.reduce((all, rate) => all + rate, 0), 0);
        measurements.push({
          poolShare,
          replicas: replicasOf(own),
          ratio: greedy.usdPerHour / own.usdPerHour,
          unservedShare: greedy.unservedRps / demand,
        });
      }
    }
  }
  return measurements;
}

/** What the service would give such a fleet in a cycle. */
const jointLimitMs = 2_000;

function guardedPlan(problem: PlanningProblem, limitMs: number = guardMs): Plan {
  const endsAt = performance.now() + limitMs;
  return plan(problem, { shouldStop: () => performance.now() > endsAt });
}

function replicasOf({ deployments }: Plan): number {
  return deployments.reduce((sum, { targetReplicas }) => sum + (targetReplicas ?? 0), 0);
}

export function describePeers({ engine, limitMs, engineStartMs, single, joint }: PeersBenchmark): string {
  const rows: string[][] = [];
  const classes = [...fleetClasses.map(({ name }) => name), 'all'];
  const inClass = <Item extends { readonly replicas: number }>(items: readonly Item[], name: string) =>
    items.filter(({ replicas }) => name === 'all' || fleetClassOf(replicas) === name);
  const money = (ratios: readonly number[]) => {
    if (ratios.length === 0) return ['–', '–', '–'];
    const mean = ratios.reduce((sum, ratio) => sum + ratio, 0) / ratios.length;
    return [mean, median(ratios), Math.max(...ratios)].map((ratio) => ratio.toFixed(3));
  };
  const singleRules: readonly { readonly name: string; readonly key: SingleRule }[] = [
    ...sliceFactors.map((factor) => ({ name: `Mélange, slice factor ${factor}`, key: `melange-${factor}` as const })),
    { name: 'AIBrix, 1/100 GPU rounded up', key: 'aibrix' },
  ];
  for (const { name, key } of singleRules) {
    for (const fleet of classes) {
      const all = inClass(single, fleet);
      const answered = all.filter(({ rules }) => Number.isFinite(rules[key].ratio));
      const ratios = answered.map(({ rules }) => rules[key].ratio);
      if (all.length === 0) continue;
      rows.push([
        name,
        fleet,
        String(all.length),
        ...money(ratios),
        share(ratios.filter((ratio) => ratio > 1 + sameCost).length, ratios.length),
        '',
        share(all.filter(({ rules }) => rules[key].stopped).length, all.length),
      ]);
    }
  }
  for (const poolShare of poolShares) {
    for (const fleet of classes) {
      const all = inClass(
        joint.filter((it) => it.poolShare === poolShare),
        fleet,
      );
      if (all.length === 0) continue;
      const served = all.filter(({ unservedShare }) => unservedShare <= sameDemand).map(({ ratio }) => ratio);
      const left = all.map(({ unservedShare }) => unservedShare);
      rows.push([
        Number.isFinite(poolShare) ? `greedy, pools at ${Math.round(100 * poolShare)} %` : 'greedy, no pools',
        fleet,
        String(all.length),
        ...money(served),
        share(served.filter((ratio) => ratio > 1 + sameCost).length, served.length),
        served.length === all.length
          ? 'none'
          : `${percent(left.reduce((sum, it) => sum + it, 0) / left.length)} (in ${all.length - served.length})`,
        '',
      ]);
    }
  }
  const times = sliceFactors.map((factor) => {
    const key = `melange-${factor}` as const;
    const ratios = (own: (it: SingleMeasurement) => number, less: number) =>
      brief(median(single.map((it) => Math.max(0, it.rules[key].milliseconds - less) / own(it))));
    return [
      `Mélange, slice factor ${factor}`,
      `${brief(median(single.map(({ rules }) => rules[key].milliseconds)))} ms`,
      `${ratios(({ planMs }) => planMs, 0)}×`,
      `${ratios(({ searchMs }) => searchMs, 0)}×`,
      `${ratios(({ planMs }) => planMs, engineStartMs)}×`,
      `${ratios(({ searchMs }) => searchMs, engineStartMs)}×`,
    ];
  });
  const cheaper = single.flatMap(({ rules }) =>
    Object.values(rules).filter(({ ratio }) => ratio < 1 - sameCost),
  ).length;
  const cheaperJoint = joint.filter((it) => it.unservedShare <= sameDemand && it.ratio < 1 - sameCost).length;
  return [
    "Conformance: our copies of the peers' rules reproduce the peers' own numbers.",
    `Peers' integer programs by ${engine}, ${limitMs / 1000} s each. Cost of the rule's plan ÷ cost of gpumix's, by the replicas of gpumix's plan.`,
    '',
    table(['rule', 'fleet', 'n', 'mean', 'median', 'worst', 'dearer', 'unserved', 'stopped'], rows),
    '',
    cheaper + cheaperJoint === 0
      ? 'gpumix is never dearer.'
      : `gpumix is DEARER in ${cheaper} of the single-model and ${cheaperJoint} of the joint comparisons.`,
    `${single.filter(({ proven }) => proven).length} of ${single.length} single-model plans proven optimal.`,
    '',
    `Time of the same programs ÷ time of gpumix, median of the ratios; an empty program takes the engine ${brief(engineStartMs)} ms.`,
    '',
    table(['rule', 'its median', '÷ plan()', '÷ search', 'less start ÷ plan()', 'less start ÷ search'], times),
  ].join('\n');
}

const percent = (part: number): string => `${(100 * part).toFixed(part < 0.1 ? 1 : 0)} %`;
const share = (count: number, of: number): string => (of === 0 ? '–' : `${count} of ${of}`);

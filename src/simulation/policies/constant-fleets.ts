import { check } from '../../core/parse.js';
import { type BucketDemand, type PlanningProblem, planningProblemSchema } from '../../core/planning-problem.js';
import { type BucketRoute, withOverflow } from '../../core/routing.js';
import { plan } from '../../optimizer/plan.js';
import type { Decision, FleetDeployment, Policy } from '../backtest/backtest.js';

/**
 * Fleets that never change. The best one in hindsight is the yardstick of every autoscaler: who is dearer than it, at the
 * same service, had better not scale.
 */
export type ConstantFleet = {
  /** Replicas by deployment id, those without any included. */
  readonly replicas: ReadonlyMap<string, number>;
  /** How its plan routes: the same at every rate that it serves, since the busiest replica is what they spare. */
  readonly shares: readonly BucketRoute[];
  readonly usdPerHour: number;
  /** The rate that it was planned for, as a multiple of the mean. */
  readonly rateFactor: number;
};

export type Routing = PlanningProblem['options']['routing'];

export type ConstantFleetOptions = {
  readonly deployments: readonly FleetDeployment[];
  /** The mean mix [requests/s by bucket]. */
  readonly meanDemand: readonly BucketDemand[];
  /** Multiples of the mean rate to plan for; not negative. */
  readonly rateFactors: readonly number[];
  /** `proportional` where the router does not follow shares. */
  readonly routing?: Routing;
};

/** Nodes of a search: a time would make two runs differ. Plans of one model need tens. */
const nodeLimit = 20_000;

/**
 * For each rate the cheapest fleet that serves the mix at it by the profiles, as the optimizer plans it; each fleet once,
 * cheapest first. Rates that no fleet serves whole give the fleet that serves the most.
 */
export function constantFleets(options: ConstantFleetOptions): readonly ConstantFleet[] {
  const fleets = new Map<string, ConstantFleet>();
  for (const rateFactor of options.rateFactors.toSorted((a, b) => a - b)) {
    const fleet = cheapestFleet({ ...options, rateFactor });
    const key = [...fleet.replicas.values()].join();
    if (!fleets.has(key)) fleets.set(key, fleet);
  }
  return [...fleets.values()].sort((a, b) => a.usdPerHour - b.usdPerHour || a.rateFactor - b.rateFactor);
}

/** The cheapest fleet for the mean mix at a multiple of its rate. */
export function cheapestFleet(options: {
  readonly deployments: readonly FleetDeployment[];
  readonly meanDemand: readonly BucketDemand[];
  readonly rateFactor: number;
  readonly routing?: Routing;
}): ConstantFleet {
  const { deployments, meanDemand, rateFactor, routing = 'free' } = options;
  const problem = check(
    planningProblemSchema,
    {
      apiVersion: 'gpumix/v1',
      kind: 'PlanningProblem',
      models: [
        {
          name: 'model',
          demand: meanDemand.map((bucket) => ({ ...bucket, rps: bucket.rps * rateFactor })),
          deployments: deployments.map((deployment) => ({
            id: deployment.id,
            gpuType: deployment.gpuType,
            gpusPerReplica: deployment.gpusPerReplica,
            usdPerReplicaHour: deployment.usdPerReplicaHour,
            minReplicas: deployment.minReplicas,
            maxReplicas: deployment.maxReplicas,
            currentReplicas: 0,
            maxTokens: deployment.engine.limits.maxTokens,
            profile: deployment.profile,
          })),
        },
      ],
      options: { nodeLimit, routing },
    },
    'the mean mix of the trace',
  );
  const planned = plan(problem);
  const replicasOf = new Map(planned.deployments.map(({ id, targetReplicas }) => [id, targetReplicas ?? 0]));
  const replicas = new Map(deployments.map(({ id }) => [id, replicasOf.get(id) ?? 0]));
  const serving = problem.models[0]!.deployments.filter(({ id }) => replicas.get(id)! > 0);
  return {
    replicas,
    shares: withOverflow(planned.shares, { deployments: serving, routing }),
    usdPerHour: deployments.reduce((sum, { id, usdPerReplicaHour }) => sum + replicas.get(id)! * usdPerReplicaHour, 0),
    rateFactor,
  };
}

/** Time between two looks of something that never changes its mind: a failed replica is replaced by the fleet itself. */
const staticPeriodSeconds = 60;

/**
 * @param fleet its shares are for a router that follows them; null or absent = none are known. `fullInFlight` as in
 *   `ModelRouting`; absent = not known, and nothing overflows.
 */
export function staticPolicy(fleet: {
  readonly replicas: ReadonlyMap<string, number>;
  readonly shares?: readonly BucketRoute[] | null;
  readonly fullInFlight?: ReadonlyMap<string, number>;
}): Policy {
  const { replicas, shares = null, fullInFlight = new Map() } = fleet;
  const decision: Decision = {
    replicas,
    routing: shares === null ? null : { shares, fullInFlight },
    forecastRps: null,
  };
  return { periodSeconds: staticPeriodSeconds, lagSeconds: 0, decide: () => decision };
}

/** Fleets of a sweep, each a run. */
const mostFactors = 16;

/** Shares of the requests that arrive in calmer minutes; closer together where attainments of 90 % and more are decided. */
const requestShares = [0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1];

/** Profiles are made with a margin of their own, and a minute is not as short as a burst. */
const [belowLowest, aboveHighest] = [0.85, 1.4];

/**
 * Multiples of the mean rate whose fleets are worth a run, ascending: the best constant fleet lies between one that is
 * just too small and one that is hardly ever busy, and where that is depends on the trace. So they are the rates above
 * which few of the *requests* arrive, minute by minute, one beyond either end, and others where these lie far apart.
 *
 * @param minutes requests of each minute
 */
export function rateFactorsOf(minutes: ArrayLike<number>): readonly number[] {
  const counts = Array.from(minutes).sort((a, b) => a - b);
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total === 0) return [1];
  const mean = total / counts.length;
  const known: number[] = [];
  let before = 0;
  let minute = 0;
  for (const share of requestShares) {
    while (minute < counts.length - 1 && before + counts[minute]! < share * total) before += counts[minute++]!;
    known.push(counts[minute]! / mean);
  }
  const ends = [belowLowest * known[0]!, aboveHighest * known.at(-1)!];
  const factors = [...new Set([...known, ...ends].map(brief))].sort((a, b) => a - b);
  while (factors.length < mostFactors) {
    const ratios = factors.slice(1).map((factor, i) => factor / factors[i]!);
    const widest = ratios.indexOf(Math.max(...ratios));
    const between = brief(Math.sqrt(factors[widest]! * factors[widest + 1]!));
    if (factors.includes(between)) break;
    factors.splice(widest + 1, 0, between);
  }
  return factors;
}

function brief(factor: number): number {
  return Number(factor.toPrecision(3));
}

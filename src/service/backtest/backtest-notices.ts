import { canonicalGpuType, type GpuCatalogue } from '../../core/gpu-types.js';
import type { BacktestNotice, BacktestQuestion } from '../../simulation/backtest/backtest-document.js';
import type { PolicyName } from '../../simulation/backtest/policy-names.js';
import type { TraceFacts } from '../../simulation/backtest/trace-facts.js';
import type { Config } from '../config.js';
import { sloDifferences } from '../problem.js';
import type { BacktestFleet } from './backtest-fleet.js';
import { describeSeconds } from './backtest-trace.js';

/** What a reader of a backtest must know of its question: each is a usual slip, and none of them stops a run. */
export type NoticedBacktest = {
  readonly asked: Pick<BacktestQuestion, 'policies' | 'router' | 'objective' | 'targetAttainment'>;
  readonly config: Pick<Config, 'profiles'>;
  readonly fleet: BacktestFleet;
  readonly gpus: GpuCatalogue;
  readonly facts: Pick<TraceFacts, 'longestGapSeconds'>;
  /** Simulated before anything is counted. */
  readonly warmUpSeconds: number;
};

/** A time without any request that is worth a word [s]. */
const longGapSeconds = 2 * 3600;

/** Policies that plan from profiles, and that count on what replicas share. */
const readProfiles: readonly PolicyName[] = ['gpumix', 'gpumix-reactive', 'single-type-best', 'aibrix', 'static'];
const countSharing: readonly PolicyName[] = ['gpumix', 'gpumix-reactive', 'single-type-best'];

export function backtestNotices(of: NoticedBacktest): readonly BacktestNotice[] {
  return [...gap(of), ...warmUp(of), ...mix(of), ...pooling(of), ...profiles(of)];
}

function gap({ facts: { longestGapSeconds } }: NoticedBacktest): readonly BacktestNotice[] {
  if (longestGapSeconds < longGapSeconds) return [];
  const time = describeSeconds(longestGapSeconds);
  return [{ code: 'gap_in_trace', message: `the trace has no request for ${time}: that time counts as idle` }];
}

/** Policies start without the gateway's last minutes: what they do until replicas of theirs serve is no habit of theirs. */
function warmUp({ fleet, warmUpSeconds }: NoticedBacktest): readonly BacktestNotice[] {
  const slowest = Math.max(...fleet.members.map(({ deployment }) => deployment.startup.medianSeconds));
  if (warmUpSeconds >= slowest) return [];
  const found = warmUpSeconds === 0 ? 'there is no warm-up' : `the warm-up is ${describeSeconds(warmUpSeconds)}`;
  return [
    {
      code: 'short_warm_up',
      message: `${found}, and replicas take ${describeSeconds(slowest)} to start: first decisions, made with nothing seen yet, are counted; a longer window or a larger --warm-up leaves them out`,
    },
  ];
}

/** A plan that mixes types is one for requests, too. */
function mix({ asked, fleet }: NoticedBacktest): readonly BacktestNotice[] {
  const types = new Set(fleet.members.map(({ deployment }) => deployment.gpuType)).size;
  const mixing = asked.policies.find((policy) => policy === 'gpumix' || policy === 'gpumix-reactive');
  if (asked.router !== 'random' || mixing === undefined || types < 2) return [];
  return [
    {
      code: 'mix_without_shares',
      message: `the router random loads every replica alike, whatever its GPU, and ${mixing} mixes ${types} GPU types: the slower ones are overloaded; with such a gateway let a model run on one type (--policy single-type-best says what that costs)`,
    },
  ];
}

function pooling({ asked, config }: NoticedBacktest): readonly BacktestNotice[] {
  if (!asked.policies.some((policy) => countSharing.includes(policy))) return [];
  const isShared = asked.router !== 'random';
  const isCounted = config.profiles.pooling === 'least-request';
  if (isShared === isCounted) return [];
  const message = isCounted
    ? 'profiles.pooling is least-request, and the router random gives requests to replicas by chance: plans count on sharing that does not happen; profiles.pooling: none plans without it'
    : `profiles.pooling is none, and with the router ${asked.router} replicas share load: plans count each as if it stood alone; profiles.pooling: least-request needs fewer of them, and leaves less room for bursts`;
  return [{ code: 'pooling_mismatch', message }];
}

function profiles({ asked, fleet, gpus }: NoticedBacktest): readonly BacktestNotice[] {
  if (!asked.policies.some((policy) => readProfiles.includes(policy))) return [];
  const { ttftSeconds, ttftSecondsPerInputToken, tpotSeconds } = asked.objective;
  const slo = {
    ttftSeconds,
    ttftSecondsPerInputToken,
    tpotSeconds,
    e2eSeconds: null,
    attainment: asked.targetAttainment,
  };
  const byDifference = new Map<string, string[]>();
  const others: BacktestNotice[] = [];
  for (const { profile, deployment } of fleet.members) {
    const { id, gpuType } = deployment;
    const differences = sloDifferences(profile, slo).join(', ');
    if (differences !== '') byDifference.set(differences, [...(byDifference.get(differences) ?? []), id]);
    if (profile.gpuType !== undefined && canonicalGpuType(gpus, profile.gpuType) !== gpuType) {
      others.push({
        code: 'profile_gpu_mismatch',
        message: `the profile of ${id} was made on ${profile.gpuType}, and its replicas are simulated on ${gpuType}`,
      });
    }
  }
  const mismatches = [...byDifference].map(([differences, ids]): BacktestNotice => {
    const whose = `the profile${ids.length === 1 ? '' : 's'} of ${ids.join(', ')}`;
    const was = ids.length === 1 ? 'was' : 'were';
    return {
      code: 'slo_mismatch',
      message: `${whose} ${was} made for another objective than requests are counted by: ${differences}`,
    };
  });
  return [...mismatches, ...others];
}

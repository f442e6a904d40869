import type {
  Fidelity,
  FleetSettings,
  RequestObjective,
  Router,
  RunResult,
  RunSeries,
  StartupTime,
} from './backtest.js';
import {
  boundAt,
  compareAt,
  type FrontierPoint,
  type FrontierPosition,
  lowerFrontier,
  type MatchedComparison,
  positionsOf,
} from './frontier.js';
import { type PolicyName, policyNames } from './policy-names.js';

/**
 * A whole backtest as one plain JSON document: what was asked, what was assumed, every run, and what follows for money
 * at equal service. Contract: gpumix/v1, kind Backtest.
 *
 * Two backtests of one question are the same to the byte, but for `timings`, which is of the machine.
 */
export type BacktestDocument = {
  readonly apiVersion: 'gpumix/v1';
  readonly kind: 'Backtest';
  readonly asked: BacktestQuestion;
  /** The span that was simulated. */
  readonly window: BacktestWindow;
  readonly fleet: SimulatedFleet;
  /** In the order of policies; in a policy by profile error, knob, variant. */
  readonly runs: readonly BacktestRun[];
  /** One for each policy, from its runs with true profiles. */
  readonly frontiers: readonly BacktestFrontier[];
  /** Null = not asked for. */
  readonly oracle: BacktestOracle | null;
  /** Every policy at the attainment that is aimed at, and at that of the first policy itself. */
  readonly matched: readonly MatchedAttainment[];
  /** How the frontier of the first policy lies to those of the other causal ones. */
  readonly positions: readonly FrontierPosition[];
  readonly notices: readonly BacktestNotice[];
  /** The only part that may differ between two backtests of one question. */
  readonly timings: BacktestTimings;
};

/** What was asked, with its defaults. */
export type BacktestQuestion = {
  /** As it was given: a file, or `standard input`. */
  readonly trace: string;
  readonly policies: readonly PolicyName[];
  readonly router: Router;
  readonly fidelity: Fidelity;
  readonly objective: RequestObjective;
  /** Attainment that is aimed at, 0..1. */
  readonly targetAttainment: number;
  readonly seed: number;
  /** Of the trace, one upon the other; the last one may be a part. */
  readonly copies: number;
  readonly jitterSeconds: number;
  /** From the first request of the trace. */
  readonly fromSeconds: number;
  /** Null = to the end of the trace. */
  readonly durationSeconds: number | null;
  readonly warmUpShare: number;
  readonly cadenceSeconds: number;
  /** 0.2 = profiles claim 20 % more than replicas do. */
  readonly profileErrors: readonly number[];
  /** Each policy was run over the usual values of its knob. */
  readonly sweep: boolean;
  /** Values that were asked for by name, by policy. */
  readonly knobs: Readonly<Partial<Record<PolicyName, readonly number[]>>>;
};

export type BacktestWindow = {
  /** Of the trace, from its first request [s]. */
  readonly fromSeconds: number;
  readonly toSeconds: number;
  /** From here on requests and money count. */
  readonly scoredFromSeconds: number;
  /** Of the scored span, all copies. */
  readonly requests: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
};

/** What the simulated fleet is made of. */
export type SimulatedFleet = {
  readonly deployments: readonly {
    readonly id: string;
    readonly model: string;
    readonly gpuType: string;
    readonly gpusPerReplica: number;
    readonly usdPerReplicaHour: number;
    readonly minReplicas: number;
    readonly maxReplicas: number;
    readonly startup: StartupTime;
    /** One sentence: what its replicas really run. */
    readonly engine: string;
  }[];
} & Pick<FleetSettings, 'queueTimeoutSeconds' | 'drainSeconds' | 'meanHoursBetweenFailures'>;

/** The one number that a policy's user turns. */
export type Knob = { readonly name: string; readonly unit: string; readonly value: number };

export type BacktestRun = {
  readonly policy: PolicyName;
  /** What a policy ran on that had to choose, such as a GPU type; null = it had no choice. */
  readonly variant: string | null;
  /** Null = the policy has none. */
  readonly knob: Knob | null;
  /** 0 = the profiles are as benchmarks of the simulated engine made them. */
  readonly profileError: number;
  /** The policy as a user has it: its usual knob, true profiles. One run of each policy. */
  readonly isMain: boolean;
  /** `series` only where `isMain`. */
  readonly result: Omit<RunResult, 'series'> & { readonly series: RunSeries | null };
};

export type BacktestFrontier = {
  readonly policy: PolicyName;
  /** Ascending in attainment and USD. */
  readonly points: readonly (FrontierPoint & { readonly knob: number | null })[];
};

export type BacktestOracle = {
  /** Attaining so much costs at least so much, whoever plans. */
  readonly points: readonly FrontierPoint[];
  /** Sentences: what it knows, and what it need not pay for. */
  readonly assumptions: readonly string[];
};

export type MatchedAttainment = MatchedComparison & {
  /** `target`: the attainment aimed at. `own`: what the first policy attains as its user has it. */
  readonly at: 'target' | 'own';
};

/** Something that a reader must know. `code` is stable. */
export type BacktestNotice = {
  readonly code: string;
  readonly message: string;
  readonly policy?: PolicyName;
};

export type BacktestTimings = {
  readonly totalSeconds: number;
  /** In the order of `runs`. */
  readonly runs: readonly { readonly seconds: number }[];
};

/** A run as it was made. */
export type FinishedRun = {
  readonly policy: PolicyName;
  readonly variant: string | null;
  readonly knob: Knob | null;
  /** The knob has the value that the policy has without a sweep. */
  readonly isUsualKnob: boolean;
  readonly profileError: number;
  readonly result: RunResult;
  /** Of the machine's time. */
  readonly seconds: number;
};

/**
 * Puts the document together. Pure, but for the timings that are handed in.
 *
 * @param parts.runs any order; the first policy of `asked.policies` is the one that is compared with the others
 */
export function backtestDocument(parts: {
  readonly asked: BacktestQuestion;
  readonly window: BacktestWindow;
  readonly fleet: SimulatedFleet;
  readonly runs: readonly FinishedRun[];
  readonly oracle: BacktestOracle | null;
  readonly notices: readonly BacktestNotice[];
  readonly totalSeconds: number;
}): BacktestDocument {
  const { asked, oracle } = parts;
  const runs = [...parts.runs].sort(byPolicyErrorKnob(asked.policies));
  const mains = new Set(asked.policies.flatMap((policy) => mainRun(runs, policy) ?? []));
  const frontiers = asked.policies.map((policy): BacktestFrontier => {
    const points = runs
      .filter((run) => run.policy === policy && run.profileError === 0)
      .map(({ knob, result }) => ({ attainment: result.attainment, usd: result.usd, knob: knob?.value ?? null }));
    return { policy, points: lowerFrontier(points) };
  });
  const compared = asked.policies[0];
  return {
    apiVersion: 'gpumix/v1',
    kind: 'Backtest',
    asked,
    window: parts.window,
    fleet: parts.fleet,
    runs: runs.map((run): BacktestRun => {
      const { policy, variant, knob, profileError, result } = run;
      const isMain = mains.has(run);
      return {
        policy,
        variant,
        knob,
        profileError,
        isMain,
        result: { ...result, series: isMain ? briefSeries(result.series) : null },
      };
    }),
    frontiers,
    oracle,
    matched: compared === undefined ? [] : matchedAttainments({ asked, frontiers, oracle, runs, mains }),
    positions: compared === undefined ? [] : positionsOf(frontiers, compared),
    notices: parts.notices,
    timings: { totalSeconds: parts.totalSeconds, runs: runs.map(({ seconds }) => ({ seconds })) },
  };
}

function matchedAttainments(options: {
  readonly asked: BacktestQuestion;
  readonly frontiers: readonly BacktestFrontier[];
  readonly oracle: BacktestOracle | null;
  readonly runs: readonly FinishedRun[];
  readonly mains: ReadonlySet<FinishedRun>;
}): readonly MatchedAttainment[] {
  const { asked, frontiers, oracle, runs, mains } = options;
  const policy = asked.policies[0]!;
  const at = (kind: MatchedAttainment['at'], attainment: number): MatchedAttainment => ({
    at: kind,
    ...compareAt({ frontiers, policy, attainment, oracle: oracle?.points ?? [] }),
  });
  const own = runs.find((run) => run.policy === policy && mains.has(run))?.result.attainment;
  const target = at('target', asked.targetAttainment);
  return own === undefined || own === asked.targetAttainment ? [target] : [target, at('own', own)];
}

/** With true profiles where there is such a run, at its usual knob where there is such a run; else the first one. */
function mainRun(runs: readonly FinishedRun[], policy: PolicyName): FinishedRun | undefined {
  const own = runs.filter((run) => run.policy === policy);
  const exact = own.filter((run) => run.profileError === 0);
  const candidates = exact.length > 0 ? exact : own;
  return candidates.find((run) => run.isUsualKnob) ?? candidates[0];
}

function byPolicyErrorKnob(policies: readonly PolicyName[]): (a: FinishedRun, b: FinishedRun) => number {
  const rank = (policy: PolicyName): number => {
    const asked = policies.indexOf(policy);
    return asked >= 0 ? asked : policies.length + policyNames.indexOf(policy);
  };
  return (a, b) =>
    rank(a.policy) - rank(b.policy) ||
    Math.abs(a.profileError) - Math.abs(b.profileError) ||
    a.profileError - b.profileError ||
    (a.knob?.value ?? 0) - (b.knob?.value ?? 0) ||
    compareNames(a.variant ?? '', b.variant ?? '');
}

/** By their characters: the order of a language would depend on the machine. */
function compareNames(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** A sample of a minute needs no seventeen digits: five are beyond what a picture or a reader tells apart. */
function briefSeries(series: RunSeries): RunSeries {
  return {
    stepSeconds: series.stepSeconds,
    fromMs: series.fromMs,
    rps: series.rps.map(brief),
    forecastRps: series.forecastRps.map(briefOrNull),
    readyReplicas: series.readyReplicas,
    usdPerHour: series.usdPerHour.map(brief),
    attainment: series.attainment.map(briefOrNull),
    ttftP95Seconds: series.ttftP95Seconds.map(briefOrNull),
  };
}

function brief(value: number): number {
  return Number.isFinite(value) ? Number(value.toPrecision(5)) : value;
}

function briefOrNull(value: number | null): number | null {
  return value === null ? null : brief(value);
}

/** Cost / the oracle's bound at the attainment of the run; null without an oracle, or where it has no bound there. */
export function oracleRatio(run: BacktestRun, oracle: BacktestOracle | null): number | null {
  const bound = oracle === null ? null : boundAt(oracle.points, run.result.attainment);
  return bound === null || bound <= 0 ? null : run.result.usd / bound;
}

/**
 * The document as strict JSON, its lists of numbers on one line each, so that it can be read and compared by lines.
 *
 * @throws Error where a number is not finite: JSON would silently make it null
 */
export function backtestJson(document: BacktestDocument): string {
  return `${write(document, 0, '')}\n`;
}

function write(value: unknown, depth: number, place: string): string {
  if (typeof value === 'number' && !Number.isFinite(value)) throw new Error(`${place} of a backtest is ${value}`);
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  const inner = '  '.repeat(depth + 1);
  const outer = '  '.repeat(depth);
  if (Array.isArray(value)) {
    const items = value.map((item: unknown, index) => write(item, depth + 1, `${place}[${index}]`));
    if (value.every((item) => item === null || typeof item !== 'object')) return `[${items.join(', ')}]`;
    return `[\n${items.map((item) => inner + item).join(',\n')}\n${outer}]`;
  }
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .map(
      ([key, member]) => `${JSON.stringify(key)}: ${write(member, depth + 1, place === '' ? key : `${place}.${key}`)}`,
    );
  return members.length === 0 ? '{}' : `{\n${members.map((member) => inner + member).join(',\n')}\n${outer}}`;
}

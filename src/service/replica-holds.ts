import { z } from 'zod';

/**
 * Why a plan may not fall at once to the replicas that the demand needs now: what was planned a moment ago is kept for a
 * while, so that what trembles moves nothing. Pure, except for its memory, which a restart is given back.
 *
 * Three rules, each a floor for the replicas of one deployment; the highest counts. A floor is never above what runs (or
 * was asked for): holding starts nothing.
 *
 *   stabilization  the most that was planned for within the last `scaleDownStabilizationSeconds`;
 *   tolerance      a fall (nothing rises) is taken only as far as what is left would also serve demand that is
 *                  `scaleDownTolerance` larger;
 *   lifetime       what was asked for by a rise stays for `minReplicaLifetimeSeconds`.
 *
 * Stabilisation goes by what the plans *without* holds wanted, or it would feed itself for ever. In a mix it could keep
 * both what is left and what it is left for, and with rising demand more and more of what is left. So a plan that keeps
 * may cost little more than the dearest plan of the window without holds; beyond it one plan of the window is kept as a
 * whole, or only what the other rules keep (`otherwise`).
 *
 * See docs/decisions/stability.md.
 */
export type HoldSettings = {
  /** 0 = nothing is held. */
  readonly scaleDownStabilizationSeconds: number;
  /** Share of the demand, >= 0. */
  readonly scaleDownTolerance: number;
  readonly minReplicaLifetimeSeconds: number;
};

export const holdRules = ['stabilization', 'tolerance', 'lifetime'] as const;
export type HoldRule = (typeof holdRules)[number];

/** A deployment that is kept above what its demand needs now. */
export type ReplicaHold = {
  readonly rule: HoldRule;
  /** At least so many are planned. */
  readonly replicas: number;
  /** The plan without holds has so many. */
  readonly wanted: number;
  /** When the rule lets this number go, unless it is planned anew [Unix ms]; null = when the demand falls further. */
  readonly untilMs: number | null;
};

/** What is kept of one model. */
export type ModelHolds = {
  /** By deployment id; only those that the plan without holds lets fall. */
  readonly replicas: ReadonlyMap<string, ReplicaHold>;
  /** What the plan without holds wants of what runs, by deployment id: what is kept does not take its place. */
  readonly wanted: ReadonlyMap<string, number>;
  /** A plan that keeps them is worth it up to this price. */
  readonly mostUsdPerHour: number;
  /** What to keep where that plan is dearer; null = nothing. */
  readonly otherwise: ModelHolds | null;
};

/** One deployment of a model in the plan of this cycle, without holds. */
export type HoldFacts = {
  readonly id: string;
  readonly wanted: number;
  /** Run or were asked for; null = not known, and nothing is held. */
  readonly running: number | null;
  readonly maxReplicas: number;
  /** Work / wanted of that plan, as a share of what may be filled; 1 = full. */
  readonly fill: number;
  readonly usdPerReplicaHour: number;
};

const savedSchema = z.array(
  z.object({
    model: z.string(),
    plans: z.array(
      z.object({
        atMs: z.number(),
        usdPerHour: z.number(),
        replicas: z.array(z.tuple([z.string(), z.int().min(0)])),
      }),
    ),
    rises: z.array(z.object({ id: z.string(), atMs: z.number(), replicas: z.int().min(0) })),
  }),
);

/** What a restart must remember. */
export type SavedHolds = z.output<typeof savedSchema>;
export const savedHoldsSchema: z.ZodType<SavedHolds> = savedSchema;

/** What was planned, from some moment until `atMs`. */
type PastPlan = { readonly atMs: number; readonly usdPerHour: number; readonly replicas: ReadonlyMap<string, number> };
type Rise = { readonly id: string; readonly atMs: number; readonly replicas: number };
type Memory = {
  plans: readonly PastPlan[];
  rises: readonly Rise[];
  /** When it was last told, also of plans that are too old to be kept; null = never. */
  toldMs: number | null;
};

/** Different plans that are remembered of a model; beyond them the two oldest become one that has the more of both. */
const mostPlans = 60;
const mostRises = 60;

/** What is held, and the plan with it, costs at most so many times the dearest plan of the window without holds. */
const dearestHold = 1.05;

/** Plans that cost so little less than the dearest are as large: the newest of them is kept. */
const asDear = 1.05;

/** Equal shares may differ by so much. */
const rounding = 1e-6;

/**
 * Without a plan for longer than this nobody knows what was needed meanwhile: the model was held because an input was
 * missing, or no process ran. What runs then counts as planned just now. At least so many intervals, too.
 */
const longestGapMs = 60_000;
const longestGapIntervals = 3;

/** Remembers the plans of the last minutes, and says what must be kept of them. */
export class ReplicaHolds {
  readonly #settings: HoldSettings;
  readonly #gapMs: number;
  readonly #byModel = new Map<string, Memory>();

  /** @param settings.intervalSeconds between two plans */
  constructor(settings: HoldSettings & { readonly intervalSeconds: number }) {
    this.#settings = settings;
    this.#gapMs = Math.max(longestGapMs, longestGapIntervals * settings.intervalSeconds * 1000);
  }

  /** Begins with what an earlier process remembered; what this one knows stands. */
  restore(saved: SavedHolds): void {
    for (const { model, plans, rises } of saved) {
      if (this.#byModel.has(model)) continue;
      this.#byModel.set(model, {
        plans: plans.map(({ replicas, ...rest }) => ({ ...rest, replicas: new Map(replicas) })),
        rises,
        toldMs: plans.length === 0 ? null : Math.max(...plans.map(({ atMs }) => atMs)),
      });
    }
  }

  /** Everything that is still of use. */
  saved(nowMs: number): SavedHolds {
    return [...this.#byModel].flatMap(([model, memory]) => {
      this.#prune(memory, nowMs);
      if (memory.plans.length === 0 && memory.rises.length === 0) return [];
      const plans = memory.plans.map(({ replicas, ...rest }) => ({ ...rest, replicas: [...replicas] }));
      return [{ model, plans, rises: [...memory.rises] }];
    });
  }

  /** Forgets models that are gone. */
  keepOnly(models: ReadonlyMap<string, unknown>): void {
    for (const name of this.#byModel.keys()) if (!models.has(name)) this.#byModel.delete(name);
  }

  /**
   * Takes the plan that a model would have without holds, and says what is kept above it, by deployment id.
   *
   * @param facts every deployment that the plan may move
   */
  observe(model: string, facts: readonly HoldFacts[], nowMs: number): ModelHolds | null {
    const memory = this.#memoryOf(model, nowMs);
    const { toldMs } = memory;
    memory.toldMs = nowMs;
    const ids = new Set(facts.map(({ id }) => id));
    // A clock that was set back is a gap, too: what is later than now is nobody's past.
    if (toldMs === null || toldMs > nowMs || nowMs - toldMs > this.#gapMs) {
      this.#remember(memory, { facts, nowMs, replicasOf: ({ running, wanted }) => running ?? wanted });
    }
    this.#remember(memory, { facts, nowMs, replicasOf: ({ wanted }) => wanted });
    memory.rises = memory.rises.filter(({ id }) => ids.has(id));

    const costs = memory.plans.map(({ usdPerHour }) => usdPerHour);
    const dearestUsd = Math.max(
      costOf(facts, ({ wanted }) => wanted),
      ...costs,
    );
    const mostUsdPerHour = dearestHold * dearestUsd * (1 + rounding);
    const most = mostOf(memory.plans, facts);
    // Of plans that are as large the newest: it is the mix that is wanted now.
    const whole = memory.plans.findLast(({ usdPerHour }) => usdPerHour * asDear >= dearestUsd);
    const chain = [
      { kept: most, mostUsdPerHour },
      { kept: mostOf(whole === undefined ? [] : [whole], facts), mostUsdPerHour },
      { kept: null, mostUsdPerHour: Number.POSITIVE_INFINITY },
    ];
    const wanted = new Map(facts.map((each) => [each.id, Math.min(each.wanted, each.running ?? 0)]));
    const holds = chain.reduceRight<ModelHolds | null>((otherwise, { kept, mostUsdPerHour: worth }) => {
      const replicas = new Map<string, ReplicaHold>();
      for (const each of facts) {
        const hold = this.#holdOf(each, { kept, memory, facts });
        if (hold !== null) replicas.set(each.id, hold);
      }
      return replicas.size === 0 ? otherwise : { replicas, wanted, mostUsdPerHour: worth, otherwise };
    }, null);
    return holds;
  }

  /**
   * Takes the plan that keeps what `observe` said. What it has beyond that is needed beside what is kept, and counts as
   * planned; what it only keeps does not.
   *
   * @param targetOf replicas of that plan, by deployment id; null = it has none of it
   */
  follow(
    model: string,
    facts: readonly HoldFacts[],
    plan: { readonly holds: ModelHolds; readonly targetOf: (id: string) => number | null; readonly nowMs: number },
  ): void {
    const { holds, targetOf, nowMs } = plan;
    const replicasOf = ({ id, wanted }: HoldFacts): number => {
      const target = targetOf(id) ?? 0;
      return target > (holds.replicas.get(id)?.replicas ?? 0) ? target : Math.min(wanted, target);
    };
    // It has no price: what holding led to must not make more holding worth it.
    this.#remember(this.#memoryOf(model, nowMs), { facts, nowMs, replicasOf, isPriced: false });
  }

  /** A published number rose: what was asked for has its lifetime before it. */
  rose(model: string, rise: { readonly id: string; readonly replicas: number; readonly nowMs: number }): void {
    if (this.#settings.minReplicaLifetimeSeconds === 0) return;
    const { id, replicas, nowMs } = rise;
    const memory = this.#memoryOf(model, nowMs);
    // A lower rise that is older says nothing any more.
    const others = memory.rises.filter((other) => other.id !== id || other.replicas > replicas);
    memory.rises = [...others, { id, replicas, atMs: nowMs }].slice(-mostRises);
  }

  #memoryOf(model: string, nowMs: number): Memory {
    const known = this.#byModel.get(model) ?? { plans: [], rises: [], toldMs: null };
    this.#byModel.set(model, known);
    this.#prune(known, nowMs);
    return known;
  }

  #prune(memory: Memory, nowMs: number): void {
    const { scaleDownStabilizationSeconds, minReplicaLifetimeSeconds } = this.#settings;
    // A clock that was set back must not hold anything for ever.
    const within = (atMs: number, seconds: number) => atMs <= nowMs && nowMs - atMs < seconds * 1000;
    memory.plans = memory.plans.filter(({ atMs }) => within(atMs, scaleDownStabilizationSeconds));
    memory.rises = memory.rises.filter(({ atMs }) => within(atMs, minReplicaLifetimeSeconds));
  }

  #remember(
    memory: Memory,
    from: {
      readonly facts: readonly HoldFacts[];
      readonly nowMs: number;
      readonly replicasOf: (facts: HoldFacts) => number;
      readonly isPriced?: boolean;
    },
  ): void {
    const { facts, nowMs, replicasOf, isPriced = true } = from;
    if (this.#settings.scaleDownStabilizationSeconds === 0) return;
    const replicas = new Map(facts.map((each) => [each.id, replicasOf(each)]));
    const same = memory.plans.find((other) => isSame(other.replicas, replicas));
    const usdPerHour = isPriced ? costOf(facts, replicasOf) : (same?.usdPerHour ?? 0);
    const others = memory.plans.filter((other) => other !== same);
    const plans = [...others, { atMs: nowMs, usdPerHour, replicas }];
    memory.plans = plans.length > mostPlans ? [joined(plans[0]!, plans[1]!), ...plans.slice(2)] : plans;
  }

  #holdOf(
    each: HoldFacts,
    around: {
      readonly kept: ReadonlyMap<string, { readonly replicas: number; readonly atMs: number }> | null;
      readonly memory: Memory;
      readonly facts: readonly HoldFacts[];
    },
  ): ReplicaHold | null {
    const { id, wanted, running, maxReplicas } = each;
    if (running === null || wanted >= running) return null;
    const { scaleDownStabilizationSeconds, scaleDownTolerance, minReplicaLifetimeSeconds } = this.#settings;
    const most = Math.min(running, maxReplicas);
    const candidates: ReplicaHold[] = [];
    const add = (rule: HoldRule, replicas: number, untilMs: number | null) =>
      candidates.push({ rule, replicas: Math.min(replicas, most), wanted, untilMs });

    const planned = around.kept?.get(id);
    if (planned !== undefined) {
      add('stabilization', planned.replicas, planned.atMs + scaleDownStabilizationSeconds * 1000);
    }
    // Shares are spread as evenly as they can be: where any deployment would be too full, no others have the room. What
    // makes place for another type is no fall: there the price of the starts is the threshold.
    const isFall = around.facts.every((other) => other.running !== null && other.wanted <= other.running);
    const fullest = Math.max(...around.facts.map(({ fill }) => fill));
    if (isFall && fullest * (1 + scaleDownTolerance) > 1 + rounding) {
      add('tolerance', Math.ceil(wanted * (1 + scaleDownTolerance) - rounding), null);
    }
    for (const rise of around.memory.rises) {
      if (rise.id === id) add('lifetime', rise.replicas, rise.atMs + minReplicaLifetimeSeconds * 1000);
    }
    return highest(candidates.filter(({ replicas }) => replicas > wanted));
  }
}

function highest(holds: readonly ReplicaHold[]): ReplicaHold | null {
  return holds.reduce<ReplicaHold | null>(
    (best, hold) => (best === null || hold.replicas > best.replicas ? hold : best),
    null,
  );
}

/** The most that some plans had of each deployment, as far as it runs, and when the last of them was made. */
function mostOf(
  plans: readonly PastPlan[],
  facts: readonly HoldFacts[],
): ReadonlyMap<string, { readonly replicas: number; readonly atMs: number }> {
  return new Map(
    facts.map(({ id, running }) => {
      const planned = plans.map((past) => Math.min(past.replicas.get(id) ?? 0, running ?? 0));
      const replicas = Math.max(0, ...planned);
      // Plans are in the order in which they were made last.
      return [id, { replicas, atMs: plans[planned.lastIndexOf(replicas)]?.atMs ?? 0 }];
    }),
  );
}

function costOf(facts: readonly HoldFacts[], replicasOf: (facts: HoldFacts) => number): number {
  return facts.reduce((sum, each) => sum + replicasOf(each) * each.usdPerReplicaHour, 0);
}

function isSame(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): boolean {
  return a.size === b.size && [...a].every(([id, replicas]) => b.get(id) === replicas);
}

/** Two plans as one: the more of both, for as long as the later one. */
function joined(a: PastPlan, b: PastPlan): PastPlan {
  const replicas = new Map(a.replicas);
  for (const [id, count] of b.replicas) replicas.set(id, Math.max(count, replicas.get(id) ?? 0));
  return { atMs: Math.max(a.atMs, b.atMs), usdPerHour: Math.max(a.usdPerHour, b.usdPerHour), replicas };
}

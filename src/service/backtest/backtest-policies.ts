import type { GpuCatalogue } from '../../core/gpu-types.js';
import type { ModelCatalogue } from '../../core/model-types.js';
import type { BucketDemand } from '../../core/planning-problem.js';
import type { SharedStore } from '../../core/ports.js';
import { PoolReader } from '../../profiling/pooling.js';
import type { Policy } from '../../simulation/backtest/backtest.js';
import { isCausal, type PolicyName } from '../../simulation/backtest/policy-names.js';
import { meanDemand, type TraceFacts } from '../../simulation/backtest/trace-facts.js';
import { cheapestFleet, constantFleets, rateFactorsOf } from '../../simulation/policies/constant-fleets.js';
import { kpaDefaults } from '../../simulation/policies/kpa.js';
import {
  type PurePolicyName,
  type PurePolicyOptions,
  policyTable,
  purePolicyNames,
} from '../../simulation/policies/policies.js';
import { type Config, modelConfig } from '../config.js';
import { type BacktestFleet, type FleetMember, partOfFleet } from './backtest-fleet.js';
import { createLivePolicy } from './live-policy.js';

/**
 * All policies in one table: gpumix in three shapes, which are the live service, and the peers, which are pure rules.
 *
 * A policy has one knob, the number that its users turn to trade money against service; sweeping it draws its frontier.
 */
export type PolicyEntry = {
  /** One line. */
  readonly about: string;
  readonly knob: {
    readonly name: string;
    readonly unit: string;
    /** As its user has it: as configured, or as documented. */
    readonly usual: (config: Config) => number;
    /** What a sweep tries. */
    readonly values: readonly number[];
  };
  /** The value of its knob is chosen by what came of it, too: it knows the future, and has no usual value. */
  readonly isInHindsight: boolean;
  /** One run each; several where a user has to choose beforehand and the best choice is known in hindsight only. */
  variants(context: PolicyContext): readonly PolicyVariant[];
};

/** A policy on a part of the fleet. */
export type PolicyVariant = {
  /** Names the choice, such as a GPU type; null where there is none. */
  readonly name: string | null;
  /** What it may use: what it begins with is made of this alone. */
  readonly part: BacktestFleet;
  /** What a sweep tries here, instead of the values of the table. */
  readonly values?: readonly number[];
  /** Replicas to begin with; absent = what the first minutes need. */
  firstReplicas?(knob: number): ReadonlyMap<string, number>;
  create(knob: number): Policy;
};

/** What policies are made of. */
export type PolicyContext = {
  readonly config: Config;
  /** As policies believe it. */
  readonly fleet: BacktestFleet;
  readonly gpus: GpuCatalogue;
  readonly models: ModelCatalogue;
  readonly facts: TraceFacts;
  /** Of the trace, one upon the other. */
  readonly copies: number;
  readonly startMs: number;
  readonly cadenceSeconds: number;
  readonly createStore: (clock: { now(): number }) => SharedStore;
  /** Rates before the simulated span; oldest first. */
  readonly history: readonly { readonly endSeconds: number; readonly rps: number }[];
};

/** From 95 % to 99.9 % attained: on calm traces low quantiles do that, because profiles have a margin of their own. */
const quantiles = [0.05, 0.2, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999];

const usual = {
  name: 'quantile',
  unit: 'share',
  usual: (config: Config) => config.forecast.quantile,
  values: quantiles,
} as const;

function live(context: PolicyContext, fleet: BacktestFleet, forecast: Partial<Config['forecast']>): Policy {
  const { config } = context;
  return createLivePolicy({
    ...context,
    fleet,
    config: { ...config, forecast: { ...config.forecast, ...forecast } },
    lagSeconds: config.forecast.consumerLagSeconds,
  });
}

const livePolicies = {
  gpumix: {
    about: 'the live service: forecast over start-up time and lag, exact plans over all types',
    knob: usual,
    isInHindsight: false,
    variants: (context) => [
      { name: null, part: context.fleet, create: (quantile) => live(context, context.fleet, { quantile }) },
    ],
  },
  'gpumix-reactive': {
    about: 'the same without a forecast: the rates of the last minutes',
    knob: usual,
    isInHindsight: false,
    variants: (context) => [
      {
        name: null,
        part: context.fleet,
        create: (quantile) => live(context, context.fleet, { method: 'window', quantile }),
      },
    ],
  },
  'single-type-best': {
    about: 'the same with one GPU type only, the best one in hindsight',
    knob: usual,
    isInHindsight: false,
    variants: (context) =>
      [...new Set(context.fleet.members.map(({ deployment }) => deployment.gpuType))].sort().map((gpuType) => {
        const part = partOfFleet(context.fleet, ({ deployment }) => deployment.gpuType === gpuType);
        return { name: gpuType, part, create: (quantile) => live(context, part, { quantile }) };
      }),
  },
} as const satisfies Record<Exclude<PolicyName, PurePolicyName>, PolicyEntry>;

/** A rule of its own, on a part of the fleet as it believes it. */
function pureVariant(
  policy: PurePolicyName,
  { facts, copies }: PolicyContext,
  choice: Pick<PolicyVariant, 'name' | 'part'> & { readonly more?: Partial<PurePolicyOptions> },
): PolicyVariant {
  const { name, part, more } = choice;
  const demand = meanDemand(facts, copies);
  const deployments = deploymentsOf(part);
  const create = (knob: number) => policyTable[policy].create({ deployments, meanDemand: demand, knob, ...more });
  return { name, part, create };
}

const pureVariants = {
  /** As at its HEAD, whose cool-down takes the lowest recommendation, and with the annotation that turns it off. */
  aibrix: (context) => {
    const idleMinReplicas = idleMinimaOf(context);
    return [kpaDefaults.scaleDownCooldownSeconds, 0].map((scaleDownCooldownSeconds) =>
      pureVariant('aibrix', context, {
        name: scaleDownCooldownSeconds === 0 ? 'no cool-down' : `cool-down ${scaleDownCooldownSeconds} s`,
        part: context.fleet,
        more: { scaleDownCooldownSeconds, ...(idleMinReplicas === null ? {} : { idleMinReplicas }) },
      }),
    );
  },
  'hpa-concurrency': (context) =>
    eachDeployment(context).map((choice) => pureVariant('hpa-concurrency', context, choice)),
  'hpa-utilisation': (context) =>
    eachDeployment(context).map((choice) => pureVariant('hpa-utilisation', context, choice)),
  static: (context) => {
    const { config, facts, copies, fleet } = context;
    const routing = config.options.routing;
    const fullInFlight = fullInFlightOf(fleet, meanDemand(facts, copies));
    const variant = pureVariant('static', context, { name: null, part: fleet, more: { routing, fullInFlight } });
    const fleets = constantFleets({
      deployments: deploymentsOf(fleet),
      meanDemand: meanDemand(facts, copies),
      rateFactors: rateFactorsOf(facts.minutes),
      routing,
    });
    const firstReplicas = (rateFactor: number) =>
      cheapestFleet({
        deployments: deploymentsOf(fleet),
        meanDemand: meanDemand(facts, copies),
        rateFactor,
        routing,
      }).replicas;
    return [{ ...variant, values: fleets.map(({ rateFactor }) => rateFactor), firstReplicas }];
  },
} as const satisfies Record<PurePolicyName, (context: PolicyContext) => readonly PolicyVariant[]>;

/** One choice for each deployment, named by its GPU type where that says which. */
function eachDeployment({ fleet }: PolicyContext): readonly Pick<PolicyVariant, 'name' | 'part'>[] {
  const types = fleet.members.map(({ deployment }) => deployment.gpuType);
  return fleet.members.map((member) => {
    const { id, gpuType } = member.deployment;
    const isOnlyOne = types.filter((type) => type === gpuType).length === 1;
    return { name: isOnlyOne ? gpuType : id, part: partOfFleet(fleet, (each) => each === member) };
  });
}

/** How many requests fill a replica, by the profiles, as the service tells its router. */
function fullInFlightOf({ members }: BacktestFleet, demand: readonly BucketDemand[]): ReadonlyMap<string, number> {
  const reader = new PoolReader();
  return new Map(
    members.flatMap(({ deployment, profile }) => {
      const traits = reader.traitsOf(profile, demand);
      return traits === null ? [] : [[deployment.id, traits.inFlight] as const];
    }),
  );
}

/** As the service reads them; null where no deployment says anything: then one of the cheapest stays. */
function idleMinimaOf({ config, fleet }: PolicyContext): ReadonlyMap<string, number> | null {
  const said = fleet.members.flatMap(({ configured, deployment }: FleetMember) =>
    configured.idleMinReplicas === null ? [] : [[deployment.id, configured.idleMinReplicas] as const],
  );
  return said.length > 0 || modelConfig(config, fleet.model).scaleToZero ? new Map(said) : null;
}

function deploymentsOf({ members }: BacktestFleet) {
  return members.map(({ deployment }) => deployment);
}

export const policies: Readonly<Record<PolicyName, PolicyEntry>> = {
  ...livePolicies,
  ...(Object.fromEntries(
    purePolicyNames.map((name): [PurePolicyName, PolicyEntry] => {
      const { about, knob: own } = policyTable[name];
      const knob = { ...own, usual: () => own.usual };
      return [name, { about, knob, isInHindsight: !isCausal(name), variants: pureVariants[name] }];
    }),
  ) as Record<PurePolicyName, PolicyEntry>),
};

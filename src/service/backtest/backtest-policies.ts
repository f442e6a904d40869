import type { GpuCatalogue } from '../../core/gpu-types.js';
import type { ModelCatalogue } from '../../core/model-types.js';
import type { SharedStore } from '../../core/ports.js';
import type { Policy } from '../../simulation/backtest/backtest.js';
import type { PolicyName } from '../../simulation/backtest/policy-names.js';
import { meanDemand, type TraceFacts } from '../../simulation/backtest/trace-facts.js';
import { type PurePolicyName, policyTable, purePolicyNames } from '../../simulation/policies/policies.js';
import type { Config } from '../config.js';
import { type BacktestFleet, partOfFleet } from './backtest-fleet.js';
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
    /** As its user has it who turns nothing. */
    readonly usual: number;
    /** What a sweep tries. */
    readonly values: readonly number[];
  };
  /** One run each; several where the policy has to choose what to run on and the best choice is known in hindsight only. */
  variants(context: PolicyContext): readonly PolicyVariant[];
};

/** A policy on a part of the fleet. */
export type PolicyVariant = {
  /** Names the choice, such as a GPU type; null where there is none. */
  readonly name: string | null;
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

const quantiles = [0.5, 0.8, 0.9, 0.95, 0.99, 0.999];

const usual = { name: 'quantile', unit: 'share', usual: 0.95, values: quantiles } as const;

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
    variants: (context) => [{ name: null, create: (quantile) => live(context, context.fleet, { quantile }) }],
  },
  'gpumix-reactive': {
    about: 'the same without a forecast: the rates of the last minutes',
    knob: usual,
    variants: (context) => [
      { name: null, create: (quantile) => live(context, context.fleet, { method: 'window', quantile }) },
    ],
  },
  'single-type-best': {
    about: 'the same with one GPU type only, the best one in hindsight',
    knob: usual,
    variants: (context) =>
      [...new Set(context.fleet.members.map(({ deployment }) => deployment.gpuType))].sort().map((gpuType) => ({
        name: gpuType,
        create: (quantile) =>
          live(
            context,
            partOfFleet(context.fleet, ({ deployment }) => deployment.gpuType === gpuType),
            { quantile },
          ),
      })),
  },
} as const satisfies Record<Exclude<PolicyName, PurePolicyName>, PolicyEntry>;

/** A rule of its own, on the fleet as it believes it. */
function pure(name: PurePolicyName): PolicyEntry {
  const { about, knob, create } = policyTable[name];
  return {
    about,
    knob,
    variants: ({ fleet, facts, copies }) => [
      {
        name: null,
        create: (value) =>
          create({
            deployments: fleet.members.map(({ deployment }) => deployment),
            meanDemand: meanDemand(facts, copies),
            knob: value,
          }),
      },
    ],
  };
}

export const policies: Readonly<Record<PolicyName, PolicyEntry>> = {
  ...livePolicies,
  ...(Object.fromEntries(purePolicyNames.map((name) => [name, pure(name)])) as Record<PurePolicyName, PolicyEntry>),
};

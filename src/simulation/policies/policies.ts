import type { BucketDemand } from '../../core/planning-problem.js';
import type { FleetDeployment, Policy } from '../backtest/backtest.js';
import type { PolicyName } from '../backtest/policy-names.js';
import { aibrixPolicy } from './aibrix.js';
import { cheapestFleet, type Routing, staticPolicy } from './constant-fleets.js';
import { cheapestAlone, hpaPolicy, requestsInFlight, utilisationPercent } from './hpa-policies.js';
import { kpaDefaults } from './kpa.js';

/**
 * The policies that are rules of their own and need nothing of the live service: what gpumix is compared with. Those that
 * run the live service stand beside it; both are one table there.
 */
export const purePolicyNames = [
  'aibrix',
  'hpa-concurrency',
  'hpa-utilisation',
  'static',
] as const satisfies readonly PolicyName[];
export type PurePolicyName = (typeof purePolicyNames)[number];

export type PurePolicyOptions = {
  /** As the policy believes them. */
  readonly deployments: readonly FleetDeployment[];
  /** The mean mix [requests/s by bucket]: what the operator who set the policy up knew of the traffic. */
  readonly meanDemand: readonly BucketDemand[];
  readonly knob: number;
  /** Of the HPAs: id of the deployment to scale; by default the cheapest one for the mean mix alone. */
  readonly on?: string;
  /** Of `static`: `proportional` where the router does not follow shares. */
  readonly routing?: Routing;
  /** Of `static`: requests on a full replica by deployment id, see `ModelRouting`; by default not known. */
  readonly fullInFlight?: ReadonlyMap<string, number>;
  /** Of `aibrix`: its `min_replicas` labels by deployment id; by default 1 of the cheapest. */
  readonly idleMinReplicas?: ReadonlyMap<string, number>;
  /** Of `aibrix`: its annotation `scale-down-cooldown-window` [s]; by default as without it. */
  readonly scaleDownCooldownSeconds?: number;
};

export type PurePolicy = {
  /** One line. */
  readonly about: string;
  /** The number that its users turn to trade money against service. */
  readonly knob: {
    readonly name: string;
    readonly unit: string;
    /** As its user has it who turns nothing. */
    readonly usual: number;
    /** What a sweep tries, from thrifty to generous. */
    readonly values: readonly number[];
  };
  /** For one run: what it remembers stays in it. */
  create(options: PurePolicyOptions): Policy;
};

export const policyTable = {
  aibrix: {
    about:
      "AIBrix's GPU optimizer: clusters of the last 4 minutes, hundredths of a GPU, a PodAutoscaler per deployment",
    knob: {
      name: 'targetValue',
      unit: 'hundredths of a GPU per replica',
      usual: kpaDefaults.targetValue,
      values: [100, 90, 80, 70, 60, 50, 40, 30],
    },
    create: ({ deployments, knob, idleMinReplicas, scaleDownCooldownSeconds }) =>
      aibrixPolicy({
        deployments,
        targetValue: knob,
        ...(idleMinReplicas === undefined ? {} : { idleMinReplicas }),
        ...(scaleDownCooldownSeconds === undefined ? {} : { scaleDownCooldownSeconds }),
      }),
  },
  'hpa-concurrency': {
    about: 'one GPU type, a HorizontalPodAutoscaler on requests in flight per replica',
    knob: {
      name: 'targetInFlight',
      unit: 'requests per replica',
      usual: 32,
      values: [128, 64, 48, 32, 24, 16, 12, 8, 5, 3],
    },
    create: ({ deployments, meanDemand, knob, on }) =>
      hpaPolicy({
        deployments,
        on: on ?? cheapestAlone(deployments, meanDemand).id,
        target: knob,
        sumOf: requestsInFlight,
      }),
  },
  'hpa-utilisation': {
    about: 'one GPU type, a HorizontalPodAutoscaler on the utilisation that the GPU reports',
    knob: {
      name: 'targetUtilisation',
      unit: 'percent',
      usual: 80,
      values: [98, 95, 90, 80, 70, 60, 50, 40, 30, 20],
    },
    create: ({ deployments, meanDemand, knob, on }) =>
      hpaPolicy({
        deployments,
        on: on ?? cheapestAlone(deployments, meanDemand).id,
        target: knob,
        sumOf: utilisationPercent,
      }),
  },
  static: {
    about:
      'a constant fleet, the cheapest one for a multiple of the mean rate; of several multiples the best one in hindsight',
    knob: {
      name: 'rateFactor',
      unit: 'times the mean rate',
      usual: 2,
      values: [0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 6, 8],
    },
    create: ({ deployments, meanDemand, knob, routing = 'free', fullInFlight = new Map() }) =>
      staticPolicy({ ...cheapestFleet({ deployments, meanDemand, rateFactor: knob, routing }), fullInFlight }),
  },
} as const satisfies Record<PurePolicyName, PurePolicy>;

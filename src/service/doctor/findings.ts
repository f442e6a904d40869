/**
 * What `gpumix doctor` can find: one table of codes, each with what it is, why it works in silence as nobody meant it, and
 * how to mend it. docs/doctor.md is made of it.
 */

/** `broken`: something does not work at all, or wrongly. `risk`: it works in part, or only at some sizes. */
export const severities = ['broken', 'risk'] as const;

type FindingKind = {
  readonly severity: (typeof severities)[number];
  /** What was found, as a heading. */
  readonly title: string;
  /** Why nothing else tells it. */
  readonly why: string;
  readonly mend: string;
};

export const findingKinds = {
  redis_unreachable: {
    severity: 'broken',
    title: 'Redis cannot be reached or read',
    why: 'Without it there is no demand: gpumix holds its last plan, and nothing follows the load.',
    mend: 'Mend redis.url (REDIS_HOST, REDIS_PORT, REDIS_PASSWORD), the network policy, or the server.',
  },
  kubernetes_unreachable: {
    severity: 'broken',
    title: 'The Kubernetes API server cannot be reached or read',
    why: 'Without it neither the Deployments nor what scales them are known: gpumix holds what it published last.',
    mend: 'Mend the kubeconfig or the service account, and the rights on deployments.apps (docs/kubernetes.md).',
  },
  profiles_unreadable: {
    severity: 'broken',
    title: 'The profiles cannot be read',
    why: 'gpumix keeps those that it has read before; after a restart it has none, and holds everything.',
    mend: 'Mend profiles.directory, or the rights on it.',
  },
  clock_skew: {
    severity: 'broken',
    title: 'Clocks disagree',
    why: 'Interval records are named by the second in which the gateway closed them: read by another clock, demand is late, or of intervals that have not been.',
    mend: 'Have all machines follow one time (NTP, chrony).',
  },
  no_traces: {
    severity: 'broken',
    title: 'Pods serve requests that nobody records',
    why: 'The gateway writes no request traces of the model, so that gpumix sees no demand, while its pods are busy.',
    mend: 'Set AIBRIX_GPU_OPTIMIZER_TRACING_FLAG=true on the gateway, and let it use the Redis and database 0 that gpumix reads.',
  },
  prometheus_unreachable: {
    severity: 'broken',
    title: 'Prometheus cannot be reached or read',
    why: 'With demand.source: prometheus gpumix sees no demand and holds its last plan; otherwise nobody notices that replicas serve less than their profiles say.',
    mend: 'Mend prometheus.url, its token and authority, the network policy, or the server.',
  },
  no_engine_series: {
    severity: 'broken',
    title: 'Prometheus lacks the series of engines that are wanted',
    why: 'It answers, and what gpumix asks for is not there, or of nobody that it knows: demand is unknown, which holds plans.',
    mend: 'Have Prometheus scrape the engines, without rewriting names; correct prometheus.namespaceLabel, podLabel, demand.prometheus.modelLabel and labels, or models.<model>.servedNames.',
  },
  engine_unreachable: {
    severity: 'risk',
    title: 'An engine of engines.scrape cannot be read',
    why: 'What its replicas really serve stays unknown, so that a profile that is off is not seen.',
    mend: 'Correct the URL of engines.scrape, or the network policy before the engine.',
  },
  unreadable_traces: {
    severity: 'broken',
    title: 'Request traces cannot be read',
    why: 'A record that cannot be read is an unknown interval, never a quiet one: where all are, the plan is held.',
    mend: 'See what writes this key; with another interval than the gateway’s, set demand.intervalSeconds.',
  },
  several_gateways: {
    severity: 'broken',
    title: 'Several gateways overwrite each other',
    why: 'All replicas of AIBrix’s gateway write the same key each interval, and the last one wins: the requests of the others are lost, and too few replicas are planned.',
    mend: 'Run one replica of the gateway, or take demand from the engines (demand.source: prometheus).',
  },
  gateway_does_not_trace: {
    severity: 'broken',
    title: 'The gateway is not set to record requests',
    why: 'AIBrix’s gateway records requests only where its environment says so, from v0.4.0 to v0.7 by three variables instead of one; it runs just as well without.',
    mend: 'Set the variables that are named on the gateway’s Deployment.',
  },
  traces_without_deployment: {
    severity: 'risk',
    title: 'Requests are recorded for a model that no Deployment serves',
    why: 'Models are matched by their exact names: this demand is in no plan.',
    mend: 'Give the Deployments the label model.aibrix.ai/name with the name that requests ask for.',
  },
  no_deployments: {
    severity: 'broken',
    title: 'No Deployment carries the model label',
    why: 'gpumix follows Deployments with the label model.aibrix.ai/name, and there is none: it plans nothing, which is no error.',
    mend: 'Label the Deployments themselves (not their pods): model.aibrix.ai/name: MODEL; see deployments.namespaces.',
  },
  model_label_slip: {
    severity: 'broken',
    title: 'A label that was probably meant to be the model label',
    why: 'A Deployment without the exact label is not followed, so that nothing is published for it.',
    mend: 'Put the label model.aibrix.ai/name: MODEL on the Deployment itself.',
  },
  setting_ignored: {
    severity: 'risk',
    title: 'A label or annotation is ignored, or not as its owner meant it',
    why: 'Names that are not known and values that cannot be read are replaced by defaults; only plans tell.',
    mend: 'Write the name or the value as expected.',
  },
  unknown_gpu_type: {
    severity: 'risk',
    title: 'The GPU type is not known',
    why: 'It has no price and no pool unless these call it by exactly the same name; without a type at all, a deployment shares in no pool.',
    mend: 'Name the type by gpumix.dev/gpu-type, and give unknown ones a price (gpumix.dev/usd-per-hour) and a pool.',
  },
  type_without_pool: {
    severity: 'risk',
    title: 'A GPU type in use is missing in pools',
    why: 'With any entry in pools, a type without one may use no more GPUs than its Deployments were seen to use: it never grows.',
    mend: 'Add the type to pools, with gpus: null where there is no limit.',
  },
  pool_without_deployment: {
    severity: 'risk',
    title: 'A pool of a GPU type that no Deployment uses',
    why: 'Its limit binds nothing; often its name is not the one that Deployments have, whose own type is then without a pool.',
    mend: 'Write the type as the Deployments have it, or remove the pool.',
  },
  deployment_without_profile: {
    severity: 'broken',
    title: 'A Deployment without a profile',
    why: 'Nobody knows what a replica of it serves: it keeps its replicas, and no demand is planned on it.',
    mend: 'Store a profile under the expected name: gpumix gen-profile, or gpumix estimate for a first one.',
  },
  bad_profile: {
    severity: 'broken',
    title: 'A profile cannot be used',
    why: 'It is there, so it looks well in Redis; gpumix keeps the last good one, or the Deployment keeps its replicas.',
    mend: 'Write it anew with gpumix gen-profile.',
  },
  profile_without_deployment: {
    severity: 'risk',
    title: 'A profile without a Deployment',
    why: 'Profiles are found by exact name: the model as the Deployment has it, and the name of the Deployment without namespace. This one is never read.',
    mend: 'Rename the key, or delete it where the Deployment is gone for good.',
  },
  shadow_mode: {
    severity: 'risk',
    title: 'Shadow mode: nothing is scaled',
    why: 'gpumix plans and shows everything, and publishes the replicas that run: autoscalers that follow it hold them for ever. What is said of autoscalers is what would happen live.',
    mend: 'The last step is publish.mode: live. Where the service has it from its variable GPUMIX_PUBLISH_MODE, this is not what the service does: set it for the doctor too (GPUMIX_PUBLISH_MODE=live gpumix doctor …), or look inside the cluster.',
  },
  dry_run: {
    severity: 'risk',
    title: 'Dry run: gpumix scales nothing',
    why: 'With actuate: dry-run the API server checks every change, and stores none.',
    mend: 'Set actuate: scale when the changes that are told look right.',
  },
  deployment_paused: {
    severity: 'risk',
    title: 'A deployment is paused',
    why: 'It is planned, and the replicas that run are published for it: nobody scales it.',
    mend: 'Take the pause away when what it was for is over.',
  },
  scale_target_missing: {
    severity: 'broken',
    title: 'What gpumix is to scale is not there',
    why: 'With actuate gpumix writes the scale of this object; there is no such object, or it has no scale, and only the log tells.',
    mend: 'Correct namespace and name, or target with its kind, group and version (docs/actuation.md).',
  },
  scale_forbidden: {
    severity: 'broken',
    title: 'What gpumix is to scale may not be read',
    why: 'Without get and patch on the scale of the object its plan is not carried out.',
    mend: 'Grant get and patch on the scale of its kind (docs/kubernetes.md). The rights are those of whoever runs the doctor, which may differ from those of the service: run it inside the cluster to be sure.',
  },
  scalers_unknown: {
    severity: 'broken',
    title: 'Whether something else scales is not known',
    why: 'With actuate: scale gpumix scales nothing while a kind of autoscalers cannot be read, since it would fight what it does not see.',
    mend: 'Grant list and watch on that kind (docs/kubernetes.md). The rights are those of whoever runs the doctor, which may differ from those of the service: run it inside the cluster to be sure.',
  },
  nothing_scales: {
    severity: 'broken',
    title: 'Nothing scales a followed Deployment',
    why: 'gpumix publishes a number for it, and no HorizontalPodAutoscaler, ScaledObject or PodAutoscaler acts on it.',
    mend: 'Create one that reads the number of gpumix, or let gpumix scale it (actuate: scale).',
  },
  other_scaler: {
    severity: 'broken',
    title: 'Something else scales what gpumix is to scale',
    why: 'With actuate: scale gpumix leaves alone what a HorizontalPodAutoscaler, a ScaledObject or a PodAutoscaler targets, paused or not: the plan for it is not carried out.',
    mend: 'Delete that object, or set actuate: none and let it read the number of gpumix.',
  },
  foreign_metric: {
    severity: 'broken',
    title: 'What scales a Deployment reads nothing of gpumix',
    why: 'It scales by something else, whatever is published.',
    mend: 'Let it read the number of gpumix alone: with several metrics the largest answer wins.',
  },
  other_deployment: {
    severity: 'broken',
    title: 'An autoscaler reads the number of another Deployment',
    why: 'It follows that number faithfully, on the wrong Deployment.',
    mend: 'Let the path, name or selector of the metric name the Deployment that is scaled.',
  },
  metric_selector: {
    severity: 'broken',
    title: 'A selector of the external metric does not select one Deployment',
    why: 'A HorizontalPodAutoscaler adds up every series that its selector leaves over; one that leaves none over is an error that only its events tell.',
    mend: 'Select by the labels deployment (and namespace, model, gpu_type).',
  },
  value_target: {
    severity: 'broken',
    title: 'A target of type Value on a number of replicas',
    why: 'Value multiplies the answer by the replicas that run: three wanted at three become nine.',
    mend: 'Use AverageValue (metricType: AverageValue in KEDA) with 1.',
  },
  target_units: {
    severity: 'broken',
    title: 'The target is in other units than the number',
    why: 'Replicas are the number divided by the target: a wrong unit is a constant factor, which looks like a decision.',
    mend: 'Write the target that is expected.',
  },
  dead_band: {
    severity: 'risk',
    title: 'Steps of up to 10 % are not made',
    why: 'A HorizontalPodAutoscaler ignores changes within its tolerance, 0.1 unless said otherwise: from ten replicas on, single replicas are neither added nor taken away.',
    mend: 'Set behavior.scaleUp.tolerance and behavior.scaleDown.tolerance to "0" (Kubernetes 1.33 with the gate HPAConfigurableTolerance, later without).',
  },
  tolerance_dropped: {
    severity: 'risk',
    title: 'The cluster dropped the tolerance',
    why: 'KEDA was told a tolerance of 0, and the HorizontalPodAutoscaler that it made has none: this version of Kubernetes does not know the field.',
    mend: 'Enable HPAConfigurableTolerance (Kubernetes 1.33 or later).',
  },
  aibrix_tolerance: {
    severity: 'broken',
    title: 'The tolerance of a PodAutoscaler swallows single replicas',
    why: 'The number lies half a replica below the target, so a tolerance of 0.5 and more holds one replica wherever it is.',
    mend: 'Set autoscaling.aibrix.ai/scale-up-tolerance and scale-down-tolerance to "0".',
  },
  aibrix_min_replicas: {
    severity: 'broken',
    title: 'A PodAutoscaler whose minReplicas is not 0',
    why: 'With a minimum, AIBrix never scales to 0, and at 0 replicas it stops scaling altogether. An absent minReplicas is 1.',
    mend: 'Set minReplicas: 0; what must stay is the Deployment’s label model.aibrix.ai/min_replicas or gpumix.dev/min-replicas.',
  },
  aibrix_strategy: {
    severity: 'broken',
    title: 'A PodAutoscaler whose strategy does not take a whole number of replicas',
    why: 'APA multiplies the number by the replicas that run, and HPA averages it over pods.',
    mend: 'Set scalingStrategy: KPA.',
  },
  aibrix_version: {
    severity: 'broken',
    title: 'This version of AIBrix cannot read gpumix that way',
    why: 'From v0.5.0 to v0.7 the controller takes an endpoint that it cannot ask for 0, so that it scales to zero; versions before v0.8 know no external metric without an endpoint.',
    mend: 'Up to v0.4.1, and from v0.8 on: endpoint and path. In between: another autoscaler (KEDA, HPA), or upgrade.',
  },
  external_metrics_owner: {
    severity: 'broken',
    title: 'The external metrics API does not answer with numbers of gpumix',
    why: 'One APIService owns external.metrics.k8s.io in a cluster, mostly that of KEDA or prometheus-adapter; what asks it for a number of gpumix is refused, and keeps its replicas.',
    mend: 'Read the number through KEDA (metrics-api), or let gpumix own the group where nobody else needs it.',
  },
  value_location: {
    severity: 'broken',
    title: 'A trigger of KEDA reads a field that is not there',
    why: 'KEDA reports an error to its log and falls back, or keeps what runs.',
    mend: 'Set valueLocation: replicas.',
  },
  null_values: {
    severity: 'risk',
    title: 'A trigger of KEDA takes no answer for 0',
    why: 'Where the series is gone (gpumix or Prometheus is down), the prometheus trigger goes on with 0 and scales down.',
    mend: 'Set ignoreNullValues: "false", so that its fallback counts.',
  },
  activation: {
    severity: 'risk',
    title: 'A trigger of KEDA does not wake for one replica',
    why: 'KEDA leaves 0 only for numbers above the activation value.',
    mend: 'Set the activation value to "0".',
  },
  consumer_paused: {
    severity: 'risk',
    title: 'An autoscaler is paused',
    why: 'What is published waits until somebody remembers the annotation.',
    mend: 'Remove the annotation.',
  },
  consumer_fails: {
    severity: 'broken',
    title: 'An autoscaler says that it fails',
    why: 'It cannot get its number, or cannot scale: the Deployment keeps its replicas, or those of a fallback, and only the status of the object tells. A wrong host, port or path shows here, and a network policy in between.',
    mend: 'Do what its message says; from a pod of its namespace, ask for the address that it asks for.',
  },
  several_consumers: {
    severity: 'broken',
    title: 'Several autoscalers scale one Deployment',
    why: 'Each undoes what the others do, every few seconds, whatever their limits are.',
    mend: 'Remove all but one.',
  },
  consumer_limits: {
    severity: 'risk',
    title: 'Limits of an autoscaler and of its Deployment disagree',
    why: 'What is planned outside the limits of what scales the Deployment does not come about.',
    mend: 'Let the limits agree, or leave the maximum to the autoscaler alone.',
  },
} as const satisfies Readonly<Record<string, FindingKind>>;

export type FindingCode = keyof typeof findingKinds;
export const findingCodes = Object.keys(findingKinds) as readonly FindingCode[];

/** docs/doctor.md, as far as it is the table. */
export function describeFindings(): string {
  return findingCodes
    .map((code) => {
      const { severity, title, why, mend } = findingKinds[code];
      return `### ${code}\n\n**${title}** (${severity}). ${why}\n\nMend: ${mend}\n`;
    })
    .join('\n');
}

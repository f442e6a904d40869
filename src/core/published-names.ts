/**
 * Names under which numbers are published. Autoscalers' objects hold them, so they are a contract: what publishes and what
 * looks at such objects take them from here.
 */

/** Series that say whole replicas of one deployment: what runs now, what the plan heads for, llm-d's name of the former. */
export const desiredReplicasMetric = 'gpumix_desired_replicas';
export const targetReplicasMetric = 'gpumix_target_replicas';
export const wvaDesiredReplicasMetric = 'wva_desired_replicas';

/** Labels of `gpumix_desired_replicas` and its like. */
export const deploymentLabels = ['namespace', 'deployment', 'model', 'gpu_type'] as const;

/** External metrics for AIBrix, which has no selectors: one metric a deployment, with its name behind this. */
export const aibrixMetricPrefix = 'gpumix-aibrix-';

/** The API group of external metrics, and the APIService that leads requests for it to whoever serves it. */
export const externalMetricsGroup = 'external.metrics.k8s.io';
export const externalMetricsVersion = 'v1beta1';
export const externalMetricsApiService = `${externalMetricsVersion}.${externalMetricsGroup}`;

/**
 * The name of the metric that AIBrix's autoscaler looks for. Its older parser takes the last word of the first line
 * that contains this text as the number of replicas, whatever the status of the answer: no error may contain it.
 */
export const aibrixMetricName = 'vllm:deployment_replicas';

/** Key in the metadata of KEDA's `external` trigger that names a Deployment other than the ScaledObject itself. */
export const scalerDeploymentKey = 'deployment';

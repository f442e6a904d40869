import { chooseDeployments, colorSteps, type DashboardSpec, series } from './panels.js';

const replicas = (what: string) => series(`gpumix_${what}_replicas`, ['namespace', 'model']);
const targetGpus = series('gpumix_target_gpus', ['namespace']);
const poolGpus = series('gpumix_pool_gpus');
/** All namespaces share a pool, whichever are chosen. */
const poolUse = `sum by (gpu_type) (${series('gpumix_target_gpus')}) / on (gpu_type) sum by (gpu_type) (${poolGpus})`;
const unserved = series('gpumix_unserved_rps', ['model']);
const ofDeployment = 'namespace, deployment, model, gpu_type';
const notFollowed = `abs(${replicas('desired')} - ${replicas('current')})`;

export const capacityDashboard: DashboardSpec = {
  uid: 'gpumix-capacity',
  title: 'gpumix / Capacity',
  description: 'What is published, what runs, what is on its way, and which limits leave demand unserved.',
  variables: chooseDeployments,
  rows: [
    {
      title: 'Now',
      height: 4,
      panels: [
        {
          kind: 'stat',
          title: 'Replicas published',
          question: 'How many replicas should run now?',
          reading: 'Published for the autoscalers, of the chosen namespaces and models.',
          width: 4,
          unit: 'none',
          noValue: 'none known',
          queries: [{ expr: `sum(${replicas('desired')})`, legend: 'replicas' }],
        },
        {
          kind: 'stat',
          title: 'GPUs planned',
          question: 'How many GPUs does the plan take?',
          reading: 'GPUs of the replicas that the plan is heading for, of the chosen namespaces.',
          width: 4,
          unit: 'none',
          queries: [{ expr: `sum(${targetGpus})`, legend: 'GPUs' }],
        },
        {
          kind: 'stat',
          title: 'Fullest pool',
          question: 'Is a pool full?',
          reading:
            'The largest share of a pool that the plan takes. A full pool is not bad in itself; beside unserved demand it is the reason.',
          width: 4,
          unit: 'percentunit',
          noValue: 'no pools',
          thresholds: colorSteps('green', [0.9, 'orange'], [1, 'red']),
          queries: [{ expr: `max(${poolUse})`, legend: 'used' }],
        },
        {
          kind: 'stat',
          title: 'Demand unserved',
          question: 'Which share of the demand does the plan leave out?',
          reading:
            'Unserved over planned-for requests of the chosen models. Anything above 0 is demand that no limit leaves room for, or that no profile serves.',
          width: 4,
          unit: 'percentunit',
          noValue: '0 %',
          thresholds: colorSteps('green', [0.0001, 'orange'], [0.01, 'red']),
          queries: [
            { expr: `sum(${unserved}) / sum(${series('gpumix_forecast_rps', ['model'])})`, legend: 'unserved' },
          ],
        },
        {
          kind: 'stat',
          title: 'Replicas pending',
          question: 'How many replicas wait for a place?',
          reading: 'Asked for and without a node. A few while a plan changes; for longer, the GPUs do not come.',
          width: 4,
          unit: 'none',
          noValue: 'not known',
          thresholds: colorSteps('green', [1, 'orange']),
          queries: [{ expr: `sum(${replicas('pending')})`, legend: 'pending' }],
        },
        {
          kind: 'stat',
          title: 'GPUs short',
          question: 'Are GPUs asked for that do not come?',
          reading:
            'GPUs of replicas that did not start in time. While a type is short its demand is planned on other types.',
          width: 4,
          unit: 'none',
          noValue: '0',
          thresholds: colorSteps('green', [1, 'red']),
          queries: [{ expr: `sum(${series('gpumix_gpu_type_short_gpus')})`, legend: 'GPUs' }],
        },
      ],
    },
    {
      title: 'Replicas',
      height: 9,
      panels: [
        {
          kind: 'timeseries',
          title: 'Published, target, current, ready, pending',
          question: 'Does the cluster follow what is published?',
          reading:
            'Published lags behind target while replicas start before others go. Current is what the deployments ask for: it follows published within the autoscaler’s lag. Ready follows current within the start-up time.',
          width: 12,
          unit: 'none',
          queries: [
            { expr: `sum(${replicas('desired')})`, legend: 'published' },
            { expr: `sum(${replicas('target')})`, legend: 'target' },
            { expr: `sum(${replicas('current')})`, legend: 'current' },
            { expr: `sum(${replicas('ready')})`, legend: 'ready' },
            { expr: `sum(${replicas('pending')})`, legend: 'pending' },
          ],
        },
        {
          kind: 'timeseries',
          title: 'Published replicas by GPU type',
          question: 'Which GPU types does the mix consist of?',
          reading: 'Published replicas, stacked.',
          width: 12,
          unit: 'none',
          stacked: true,
          queries: [{ expr: `sum by (gpu_type) (${replicas('desired')})`, legend: '{{gpu_type}}' }],
        },
        {
          kind: 'timeseries',
          title: 'Published and not asked for',
          question: 'Where does the consumer not do what is published?',
          reading:
            'Difference between published and current replicas of each deployment, the twenty largest. Above 0 for longer than the autoscaler’s lag: look at its object, its maximum and its tolerance.',
          width: 12,
          unit: 'none',
          queries: [{ expr: `topk(20, ${notFollowed})`, legend: '{{namespace}}/{{deployment}}' }],
        },
        {
          kind: 'timeseries',
          title: 'Replicas that are kept',
          question: 'How many replicas does stability keep beyond what the demand needs?',
          reading:
            'By the rule that keeps them (`stability.*`), stacked: the price of not scaling down and up again. Absent while none is kept.',
          width: 12,
          unit: 'none',
          stacked: true,
          noValue: 'none is kept',
          queries: [{ expr: `sum by (rule) (${replicas('held_up')})`, legend: '{{rule}}' }],
        },
      ],
    },
    {
      title: 'Deployments',
      height: 10,
      panels: [
        {
          kind: 'table',
          title: 'Replicas by deployment',
          question: 'What is published for each deployment, and what runs?',
          reading: 'Now. An empty cell is a number that is not known, which is not 0.',
          width: 24,
          unit: 'none',
          labels: { namespace: 'Namespace', deployment: 'Deployment', model: 'Model', gpu_type: 'GPU type' },
          sortBy: 'Published',
          queries: [
            { expr: `sum by (${ofDeployment}) (${replicas('desired')})`, legend: 'Published' },
            { expr: `sum by (${ofDeployment}) (${replicas('target')})`, legend: 'Target' },
            { expr: `sum by (${ofDeployment}) (${replicas('current')})`, legend: 'Current' },
            { expr: `sum by (${ofDeployment}) (${replicas('ready')})`, legend: 'Ready' },
            { expr: `sum by (${ofDeployment}) (${replicas('pending')})`, legend: 'Pending' },
            { expr: `sum by (${ofDeployment}) (${replicas('held_up')})`, legend: 'Kept' },
          ],
        },
      ],
    },
    {
      title: 'Limits',
      height: 9,
      panels: [
        {
          kind: 'timeseries',
          title: 'GPUs by type, and pools',
          question: 'How many GPUs of each type are planned, run, and may be used?',
          reading:
            'Of all namespaces. The dashed line is the pool: as configured, less what does not come while a type is short.',
          width: 12,
          unit: 'none',
          limits: '.*pool',
          queries: [
            { expr: `sum by (gpu_type) (${series('gpumix_target_gpus')})`, legend: '{{gpu_type}} planned' },
            { expr: `sum by (gpu_type) (${series('gpumix_ready_gpus')})`, legend: '{{gpu_type}} ready' },
            { expr: `sum by (gpu_type) (${poolGpus})`, legend: '{{gpu_type}} pool' },
          ],
        },
        {
          kind: 'timeseries',
          title: 'Use of pools and quotas',
          question: 'Which limit is reached?',
          reading:
            'Share that the plan takes of each pool, and of each quota of the chosen namespaces. At 100 % the limit decides.',
          width: 12,
          unit: 'percentunit',
          thresholds: colorSteps('green', [1, 'red']),
          queries: [
            { expr: poolUse, legend: '{{gpu_type}}' },
            {
              expr: `sum by (namespace, gpu_type) (${targetGpus}) / sum by (namespace, gpu_type) (${series('gpumix_quota_gpus', ['namespace'])})`,
              legend: '{{gpu_type}} in {{namespace}}',
            },
          ],
        },
        {
          kind: 'timeseries',
          title: 'Unserved demand by reason',
          question: 'Why is demand left out?',
          reading:
            'Requests/s, stacked. slo: no profile serves them in time. max_replicas: a maximum. quota, capacity, budget: that limit. Absent while all is served.',
          width: 12,
          unit: 'reqps',
          stacked: true,
          noValue: 'all is served',
          queries: [{ expr: `sum by (reason) (${unserved})`, legend: '{{reason}}' }],
        },
        {
          kind: 'timeseries',
          title: 'Unserved demand by model',
          question: 'Whose demand is left out?',
          reading: 'Requests/s, stacked. A higher priority is served first.',
          width: 12,
          unit: 'reqps',
          stacked: true,
          noValue: 'all is served',
          queries: [{ expr: `sum by (model) (${unserved})`, legend: '{{model}}' }],
        },
        {
          kind: 'timeseries',
          title: 'GPUs short by type',
          question: 'Which GPU types cannot be had?',
          reading: 'GPUs that replicas asked for and that did not come in time. Absent while every type can be had.',
          width: 24,
          unit: 'none',
          stacked: true,
          noValue: 'every type can be had',
          queries: [{ expr: `sum by (gpu_type) (${series('gpumix_gpu_type_short_gpus')})`, legend: '{{gpu_type}}' }],
        },
      ],
    },
  ],
};

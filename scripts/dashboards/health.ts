import { chooseFleet, colorSteps, type DashboardSpec, series } from './panels.js';

const phase = (what: 'sum' | 'count' | 'bucket') =>
  `rate(${series(`gpumix_phase_duration_seconds_${what}`)}[$__rate_interval])`;
const inputAge = series('gpumix_input_age_seconds');
/** All seven phases of a cycle, in seconds for each second. */
const busy = `sum(${phase('sum')})`;
const cycles = `sum(rate(gpumix_phase_duration_seconds_count{job="$job",phase="publish"}[$__rate_interval]))`;
const ofProcess = (metric: string) => series(metric);

export const healthDashboard: DashboardSpec = {
  uid: 'gpumix-health',
  title: 'gpumix / Health',
  description: 'Whether gpumix sees, plans and publishes as it should.',
  variables: chooseFleet,
  rows: [
    {
      title: 'Now',
      height: 4,
      panels: [
        {
          kind: 'stat',
          shows: 'name',
          title: 'Plan',
          question: 'What is the state of the plan?',
          reading:
            'The worst of its models: optimal (proven), feasible (not proven to be the cheapest), infeasible (a required share is not served), held.',
          width: 4,
          unit: 'none',
          noValue: 'none yet',
          queries: [{ expr: `${series('gpumix_plan_status')} == 1`, legend: '{{status}}' }],
        },
        {
          kind: 'stat',
          title: 'Models held',
          question: 'How many models keep an old plan?',
          reading:
            'Models whose last good plan is kept because an input is missing. Nothing is scaled down by it, and nothing up.',
          width: 4,
          unit: 'none',
          noValue: '0',
          thresholds: colorSteps('green', [1, 'red']),
          queries: [{ expr: `count(${series('gpumix_plan_held')})`, legend: 'held' }],
        },
        {
          kind: 'stat',
          title: 'Oldest input',
          question: 'How old is the oldest input?',
          reading: 'Since it was last read whole. Every cycle reads every input.',
          width: 4,
          unit: 's',
          noValue: 'none read yet',
          thresholds: colorSteps('green', [60, 'orange'], [300, 'red']),
          queries: [{ expr: `max(${inputAge})`, legend: 'age' }],
        },
        {
          kind: 'stat',
          title: 'Inputs that fail',
          question: 'Can every input be read?',
          reading: 'Inputs whose last reading failed, or that were never read.',
          width: 4,
          unit: 'none',
          thresholds: colorSteps('green', [1, 'red']),
          queries: [{ expr: `sum(1 - ${series('gpumix_input_ok')})`, legend: 'failing' }],
        },
        {
          kind: 'stat',
          title: 'Time in cycles now',
          question: 'Is there time left between two plans?',
          reading:
            'Seconds of planning per second. Near 100 % the next plan is late, and the fleet follows demand late.',
          width: 4,
          unit: 'percentunit',
          noValue: 'no cycle',
          thresholds: colorSteps('green', [0.5, 'orange'], [0.8, 'red']),
          queries: [{ expr: busy, legend: 'busy' }],
        },
        {
          kind: 'stat',
          title: 'Memory now',
          question: 'How much memory does gpumix take?',
          reading: 'Resident. Compare it with the limit of its container.',
          width: 4,
          unit: 'bytes',
          queries: [{ expr: `max(${ofProcess('process_resident_memory_bytes')})`, legend: 'resident' }],
        },
      ],
    },
    {
      title: 'Inputs and holds',
      height: 8,
      panels: [
        {
          kind: 'timeseries',
          title: 'Age of inputs',
          question: 'How old is what each input said last?',
          reading:
            'Seconds since it was last read whole. It stays below the interval of the cycles; a ramp is an input that is gone.',
          width: 12,
          unit: 's',
          thresholds: colorSteps('green', [300, 'red']),
          queries: [{ expr: `max by (input) (${inputAge})`, legend: '{{input}}' }],
        },
        {
          kind: 'states',
          title: 'Inputs',
          question: 'Since when can an input not be read?',
          reading: 'Whether the last reading of each input succeeded.',
          width: 12,
          unit: 'none',
          states: { '1': { text: 'read', color: 'green' }, '0': { text: 'fails', color: 'red' } },
          queries: [{ expr: `min by (input) (${series('gpumix_input_ok')})`, legend: '{{input}}' }],
        },
        {
          kind: 'states',
          title: 'Held models',
          question: 'Which models are held, since when, and why?',
          reading: 'Absent while none is. The reasons stand in docs/concepts.md, under Holding.',
          width: 12,
          unit: 'none',
          noValue: 'none is held',
          states: { '1': { text: 'held', color: 'orange' } },
          queries: [
            { expr: `max by (model, reason) (${series('gpumix_plan_held')})`, legend: '{{model}}: {{reason}}' },
          ],
        },
        {
          kind: 'states',
          title: 'Status of the plan',
          question: 'How did the status of the plan change?',
          reading: 'The status that holds is marked; the plan has that of its worst model.',
          width: 12,
          unit: 'none',
          states: { '1': { text: 'is', color: 'blue' }, '0': { text: ' ', color: 'transparent' } },
          queries: [{ expr: `max by (status) (${series('gpumix_plan_status')})`, legend: '{{status}}' }],
        },
        {
          kind: 'timeseries',
          title: 'Failed readings',
          question: 'Which readings fail, and how?',
          reading: 'Failures of each input by code, per second. Absent until the first one.',
          width: 24,
          unit: 'none',
          stacked: true,
          noValue: 'none failed',
          queries: [
            {
              expr: `sum by (input, code) (rate(${series('gpumix_input_errors_total')}[$__rate_interval]))`,
              legend: '{{input}}: {{code}}',
            },
          ],
        },
      ],
    },
    {
      title: 'Cycle',
      height: 8,
      panels: [
        {
          kind: 'timeseries',
          title: 'Mean time of the phases',
          question: 'What does a cycle spend its time on?',
          reading:
            'Seconds of each phase of a cycle, stacked. plan has a limit (`options.timeLimitMs`); demand grows with a slow store.',
          width: 12,
          unit: 's',
          stacked: true,
          queries: [
            { expr: `sum by (phase) (${phase('sum')}) / sum by (phase) (${phase('count')})`, legend: '{{phase}}' },
          ],
        },
        {
          kind: 'timeseries',
          title: 'Slow phases (95th percentile)',
          question: 'Which phase is slow at times?',
          reading: 'Seconds. Read off the buckets of a histogram, so as exact as they are (… 0.3, 1, 3, 10).',
          width: 12,
          unit: 's',
          queries: [{ expr: `histogram_quantile(0.95, sum by (phase, le) (${phase('bucket')}))`, legend: '{{phase}}' }],
        },
        {
          kind: 'timeseries',
          title: 'Time spent in cycles',
          question: 'Does planning keep up?',
          reading: 'Seconds in cycles per second. At 100 % one cycle follows the other without a pause.',
          width: 12,
          unit: 'percentunit',
          thresholds: colorSteps('green', [0.8, 'red']),
          queries: [{ expr: busy, legend: 'busy' }],
        },
        {
          kind: 'timeseries',
          title: 'Cycles per minute',
          question: 'How often is a plan made?',
          reading: 'Finished cycles. With the default interval of 10 s it is 6; 0 means that planning has stopped.',
          width: 12,
          unit: 'none',
          queries: [{ expr: `60 * ${cycles}`, legend: 'cycles' }],
        },
      ],
    },
    {
      title: 'Process',
      height: 8,
      panels: [
        {
          kind: 'timeseries',
          title: 'Event loop lag',
          question: 'Do answers wait for the process?',
          reading:
            'How late timers were. Above 0.1 s autoscalers wait; plans are made in a thread and do not count here.',
          width: 8,
          unit: 's',
          thresholds: colorSteps('green', [0.1, 'orange']),
          queries: [
            { expr: `max(${ofProcess('nodejs_eventloop_lag_p99_seconds')})`, legend: '99th percentile' },
            { expr: `max(${ofProcess('nodejs_eventloop_lag_mean_seconds')})`, legend: 'mean' },
          ],
        },
        {
          kind: 'timeseries',
          title: 'Memory',
          question: 'Does memory grow?',
          reading: 'Resident memory and the used part of the heap of the main thread.',
          width: 8,
          unit: 'bytes',
          queries: [
            { expr: `max(${ofProcess('process_resident_memory_bytes')})`, legend: 'resident' },
            { expr: `max(${ofProcess('nodejs_heap_size_used_bytes')})`, legend: 'heap' },
          ],
        },
        {
          kind: 'timeseries',
          title: 'Processor time',
          question: 'How many cores does it use?',
          reading: 'Seconds of processor time per second, of all threads.',
          width: 8,
          unit: 'none',
          queries: [
            { expr: `sum(rate(${ofProcess('process_cpu_seconds_total')}[$__rate_interval]))`, legend: 'cores' },
          ],
        },
      ],
    },
  ],
};

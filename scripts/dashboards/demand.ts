import { chooseModels, colorSteps, type DashboardSpec, series } from './panels.js';

const demand = series('gpumix_demand_rps', ['model']);
const forecast = series('gpumix_forecast_rps', ['model']);
const tokens = series('gpumix_demand_tokens_per_second', ['model']);
const pending = series('gpumix_pending_requests', ['model']);
const byLength = series('gpumix_demand_by_length_rps', ['model']);
/** Columns are sorted as numbers, and that is none; the cell means "longer than the one before". */
const withoutInfinity = (expr: string, label: string) =>
  `label_replace(${expr}, "${label}", "65536", "${label}", "[+]Inf")`;

export const demandDashboard: DashboardSpec = {
  uid: 'gpumix-demand',
  title: 'gpumix / Demand',
  description: 'What arrives, what is planned for, and how long requests are.',
  variables: chooseModels,
  rows: [
    {
      title: 'Now',
      height: 4,
      panels: [
        {
          kind: 'stat',
          title: 'Arrivals',
          question: 'How many requests arrive?',
          reading: 'Mean over the window of the demand (`demand.windowSeconds`), of the chosen models.',
          width: 4,
          unit: 'reqps',
          noValue: 'not known',
          queries: [{ expr: `sum(${demand})`, legend: 'arrivals' }],
        },
        {
          kind: 'stat',
          title: 'Planned for',
          question: 'How many does the plan expect?',
          reading: 'Forecast of the busiest minute within the horizon, at the configured quantile.',
          width: 4,
          unit: 'reqps',
          noValue: 'not known',
          queries: [{ expr: `sum(${forecast})`, legend: 'forecast' }],
        },
        {
          kind: 'stat',
          title: 'Planned for over arrivals',
          question: 'How much room does the forecast leave?',
          reading:
            'Forecast over arrivals. Above 1 as a rule: the busiest minute, at a high quantile. Below 1 load is expected to fall; well below it for long, the forecast misses.',
          width: 4,
          unit: 'none',
          noValue: 'nothing arrives',
          thresholds: colorSteps('orange', [0.95, 'green'], [3, 'orange']),
          queries: [{ expr: `sum(${forecast}) / (sum(${demand}) > 0)`, legend: 'ratio' }],
        },
        {
          kind: 'stat',
          title: 'Tokens per second',
          question: 'How many tokens is that?',
          reading: 'Input and output tokens of what arrives, of models whose lengths are known.',
          width: 4,
          unit: 'short',
          noValue: 'lengths not known',
          queries: [{ expr: `sum(${tokens})`, legend: 'tokens/s' }],
        },
        {
          kind: 'stat',
          title: 'Requests pending',
          question: 'How many requests are under way?',
          reading: 'Arrived and not completed at the end of the last known interval.',
          width: 4,
          unit: 'none',
          noValue: 'not known',
          queries: [{ expr: `sum(${pending})`, legend: 'pending' }],
        },
        {
          kind: 'stat',
          title: 'Models with demand',
          question: 'How many models are in use?',
          reading: 'Models with an arrival within the window.',
          width: 4,
          unit: 'none',
          noValue: '0',
          queries: [{ expr: `count(${demand} > 0)`, legend: 'models' }],
        },
      ],
    },
    {
      title: 'Rates',
      height: 9,
      panels: [
        {
          kind: 'timeseries',
          title: 'Arrivals and forecast',
          question: 'Does the forecast lie above what then comes?',
          reading:
            'Requests/s of the chosen models. The forecast is of the horizon ahead: it should stand above the arrivals before they rise, not after.',
          width: 24,
          unit: 'reqps',
          limits: 'planned for',
          queries: [
            { expr: `sum(${demand})`, legend: 'arrivals' },
            { expr: `sum(${forecast})`, legend: 'planned for' },
          ],
        },
        {
          kind: 'timeseries',
          title: 'Arrivals by model',
          question: 'Which models do the requests go to?',
          reading: 'Requests/s, stacked.',
          width: 12,
          unit: 'reqps',
          stacked: true,
          queries: [{ expr: `sum by (model) (${demand})`, legend: '{{model}}' }],
        },
        {
          kind: 'timeseries',
          title: 'Planned for by model',
          question: 'Which models does the plan expect requests of?',
          reading:
            'Requests/s, stacked. A model without arrivals that stands here is woken by its season or by the calendar.',
          width: 12,
          unit: 'reqps',
          stacked: true,
          queries: [{ expr: `sum by (model) (${forecast})`, legend: '{{model}}' }],
        },
      ],
    },
    {
      title: 'Lengths',
      height: 11,
      panels: [
        {
          kind: 'matrix',
          title: 'Planned-for requests/s by length: rows input, columns output tokens',
          question: 'How long are the requests that the plan is made for?',
          reading:
            'Now. A cell holds requests of at most so many tokens and more than the cell before; 65536 stands for all that are longer than 32768. The twenty busiest models have cells of their own; of any other choose All.',
          width: 14,
          unit: 'reqps',
          noValue: 'no cells of its own, or no demand',
          row: 'input_tokens',
          column: 'output_tokens',
          queries: [
            {
              expr: withoutInfinity(
                withoutInfinity(`sum by (input_tokens, output_tokens) (${byLength})`, 'input_tokens'),
                'output_tokens',
              ),
              legend: 'requests/s',
            },
          ],
        },
        {
          kind: 'timeseries',
          title: 'Mean lengths',
          question: 'Do requests grow longer?',
          reading: 'Tokens per request, over the chosen models. Longer outputs need more replicas at the same rate.',
          width: 10,
          unit: 'none',
          queries: [
            {
              expr: `sum by (kind) (${tokens}) / on () group_left () (sum(${demand} and on (model) ${tokens}) > 0)`,
              legend: '{{kind}}',
            },
          ],
        },
      ],
    },
    {
      title: 'Queues and horizon',
      height: 8,
      panels: [
        {
          kind: 'timeseries',
          title: 'Pending requests by model',
          question: 'Where do requests pile up?',
          reading:
            'Arrived and not completed. Growth at a steady rate of arrivals means that replicas are late or too few.',
          width: 12,
          unit: 'none',
          queries: [{ expr: `sum by (model) (${pending})`, legend: '{{model}}' }],
        },
        {
          kind: 'timeseries',
          title: 'Forecast horizon by model',
          question: 'How far ahead must the forecast look?',
          reading:
            'Seconds: start-up, the autoscaler’s lag, and the time to the next plan. A longer one is dearer: more may come within it.',
          width: 12,
          unit: 's',
          queries: [
            { expr: `max by (model) (${series('gpumix_forecast_horizon_seconds', ['model'])})`, legend: '{{model}}' },
          ],
        },
      ],
    },
  ],
};

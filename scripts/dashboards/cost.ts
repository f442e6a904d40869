import { chooseModels, colorSteps, type DashboardSpec, series } from './panels.js';

const cost = series('gpumix_cost_usd_per_hour', ['model']);
const idle = series('gpumix_idle_cost_usd_per_hour', ['model']);
const single = series('gpumix_single_type_cost_usd_per_hour', ['model']);
const tokens = series('gpumix_demand_tokens_per_second', ['model']);
/** Only of models that could be compared: the others would count as saved in full, or as not saved at all. */
const comparedCost = `sum(sum by (model) (${cost}) and on (model) ${single})`;
const budgetUse = `sum(${series('gpumix_cost_usd_per_hour')}) / sum(${series('gpumix_budget_usd_per_hour')})`;

export const costDashboard: DashboardSpec = {
  uid: 'gpumix-cost',
  title: 'gpumix / Cost',
  description:
    'What the plan costs, what it saves, what lies idle, and how far from the proven bound and the budget it is.',
  variables: chooseModels,
  rows: [
    {
      title: 'Now',
      height: 4,
      panels: [
        {
          kind: 'stat',
          title: 'Cost per hour',
          question: 'What does the plan cost an hour?',
          reading: 'USD per hour of the replicas that the plan is heading for, of the chosen models.',
          width: 3,
          unit: 'currencyUSD',
          queries: [{ expr: `sum(${cost})`, legend: 'USD/h' }],
        },
        {
          kind: 'stat',
          title: 'Spent in the time shown',
          question: 'What has it cost in the time range above?',
          reading:
            'The cost per hour added up over the time range: USD. Hours in which gpumix did not run count as nothing.',
          width: 3,
          unit: 'currencyUSD',
          queries: [
            { expr: `sum_over_time(sum(${cost})[$__range:$__interval]) * $__interval_ms / 3600000`, legend: 'USD' },
          ],
        },
        {
          kind: 'stat',
          title: 'USD per million tokens',
          question: 'What do a million tokens cost?',
          reading:
            'Cost over the input and output tokens that arrive, together, of the models whose lengths are known.',
          width: 3,
          unit: 'currencyUSD',
          noValue: 'no tokens',
          queries: [
            {
              expr: `1e6 / 3600 * sum(${cost} and on (model) ${tokens}) / sum(${tokens})`,
              legend: 'USD per million tokens',
            },
          ],
        },
        {
          kind: 'stat',
          title: 'Saving',
          question: 'What does the mix save against the best single GPU type?',
          reading:
            'Share of the cost of the cheapest single type that serves as much, over the models for which there is one. Each type at the most of the scale-down stabilization, and nothing before that time was seen. Below 0 the mix is dearer for the moment: it is changing, or a type is short.',
          width: 3,
          unit: 'percentunit',
          noValue: 'nothing to compare',
          thresholds: colorSteps('orange', [0, 'text'], [0.05, 'green']),
          queries: [{ expr: `1 - ${comparedCost} / sum(${single})`, legend: 'saving' }],
        },
        {
          kind: 'stat',
          title: 'Saved per hour',
          question: 'How much money is that an hour?',
          reading: 'USD per hour: cost of the cheapest single type less the cost of the plan, over the same models.',
          width: 3,
          unit: 'currencyUSD',
          noValue: 'nothing to compare',
          queries: [{ expr: `sum(${single}) - ${comparedCost}`, legend: 'USD/h' }],
        },
        {
          kind: 'stat',
          title: 'Idle share',
          question: 'Which part of the money is for capacity that the plan does not use?',
          reading:
            'Idle part of the cost. Whole replicas never fit exactly: with few replicas of a model a third is usual. Above half, look at minimums, at models that could share a type, and at smaller GPUs.',
          width: 3,
          unit: 'percentunit',
          thresholds: colorSteps('green', [0.35, 'orange'], [0.5, 'red']),
          queries: [{ expr: `sum(${idle}) / sum(${cost})`, legend: 'idle' }],
        },
        {
          kind: 'stat',
          title: 'Budget used',
          question: 'How much of the budget is taken?',
          reading:
            'Cost of all models, whichever are chosen above, over `budgetUsdPerHour`. At 100 % demand goes unserved for money.',
          width: 3,
          unit: 'percentunit',
          noValue: 'no budget',
          thresholds: colorSteps('green', [0.9, 'orange'], [0.999, 'red']),
          queries: [{ expr: budgetUse, legend: 'used' }],
        },
        {
          kind: 'stat',
          title: 'Distance from the bound',
          question: 'How much cheaper could any plan be at most?',
          reading:
            'Gap between the plan and its proven bound, as a share of its cost with switching; 0 % is proven optimal. A large one means that the time limit ended the search, or that models had to be planned apart.',
          width: 3,
          unit: 'percentunit',
          noValue: 'no plan',
          thresholds: colorSteps('green', [0.02, 'orange'], [0.1, 'red']),
          queries: [{ expr: `max(${series('gpumix_plan_gap_ratio')})`, legend: 'gap' }],
        },
      ],
    },
    {
      title: 'Where the money goes',
      height: 9,
      panels: [
        {
          kind: 'timeseries',
          title: 'Cost by model',
          question: 'Which models cost how much?',
          reading: 'USD per hour of the replicas that the plan is heading for, stacked.',
          width: 12,
          unit: 'currencyUSD',
          stacked: true,
          queries: [{ expr: `sum by (model) (${cost})`, legend: '{{model}}' }],
        },
        {
          kind: 'timeseries',
          title: 'Cost by GPU type',
          question: 'Which GPU types does the money go to?',
          reading: 'USD per hour, stacked. A type that comes and goes is used for peaks.',
          width: 12,
          unit: 'currencyUSD',
          stacked: true,
          queries: [{ expr: `sum by (gpu_type) (${cost})`, legend: '{{gpu_type}}' }],
        },
        {
          kind: 'timeseries',
          title: 'Cost, budget and bound',
          question: 'How far are plan, publication, proven bound and budget apart?',
          reading:
            'USD per hour of all models. Published is above planned while new replicas start before old ones go. The bound is of cost and switching: no plan that serves as much is cheaper.',
          width: 12,
          unit: 'currencyUSD',
          limits: 'budget|bound',
          queries: [
            { expr: `sum(${series('gpumix_cost_usd_per_hour')})`, legend: 'planned' },
            { expr: `sum(${series('gpumix_published_cost_usd_per_hour')})`, legend: 'published' },
            { expr: `sum(${series('gpumix_cost_bound_usd_per_hour')})`, legend: 'bound' },
            { expr: `sum(${series('gpumix_switching_usd_per_hour')})`, legend: 'switching' },
            { expr: `sum(${series('gpumix_budget_usd_per_hour')})`, legend: 'budget' },
          ],
        },
        {
          kind: 'timeseries',
          title: 'Idle money by GPU type',
          question: 'On which types is capacity paid for that the plan does not use?',
          reading:
            'USD per hour, stacked: cost of the target replicas times the part of them that the demand of the plan leaves free.',
          width: 12,
          unit: 'currencyUSD',
          stacked: true,
          queries: [{ expr: `sum by (gpu_type) (${idle})`, legend: '{{gpu_type}}' }],
        },
        {
          kind: 'timeseries',
          title: 'USD per million tokens by model',
          question: 'Which models are dear for what they do?',
          reading:
            'Cost over the input and output tokens that arrive. It rises when a model falls quiet and its minimum stays; it is absent where nothing arrives.',
          width: 12,
          unit: 'currencyUSD',
          queries: [{ expr: series('gpumix_cost_per_million_tokens_usd', ['model']), legend: '{{model}}' }],
        },
        {
          kind: 'timeseries',
          title: 'Plan and best single type',
          question: 'What would the cheapest single GPU type of each model cost instead?',
          reading:
            'USD per hour, over the models for which one type alone serves as much. The distance is what the mix saves.',
          width: 12,
          unit: 'currencyUSD',
          limits: 'best single type',
          queries: [
            { expr: comparedCost, legend: 'plan' },
            { expr: `sum(${single})`, legend: 'best single type' },
          ],
        },
      ],
    },
    {
      title: 'By model',
      height: 9,
      panels: [
        {
          kind: 'table',
          title: 'Money by model',
          question: 'How do the models compare, one by one?',
          reading: 'Now. A saving is absent where no single type serves all of the demand.',
          width: 24,
          unit: 'currencyUSD',
          labels: { model: 'Model' },
          columnUnits: { Saving: 'percentunit', 'Requests/s': 'reqps' },
          sortBy: 'USD/h',
          queries: [
            { expr: `sum by (model) (${cost})`, legend: 'USD/h' },
            { expr: `sum by (model) (${idle})`, legend: 'Idle USD/h' },
            { expr: `sum by (model) (${single})`, legend: 'Best single type USD/h' },
            { expr: `sum by (model) (${series('gpumix_saving_vs_single_type_ratio', ['model'])})`, legend: 'Saving' },
            {
              expr: `sum by (model) (${series('gpumix_cost_per_million_tokens_usd', ['model'])})`,
              legend: 'USD per million tokens',
            },
            { expr: `sum by (model) (${series('gpumix_demand_rps', ['model'])})`, legend: 'Requests/s' },
          ],
        },
      ],
    },
  ],
};

import { describe, expect, it, onTestFinished } from 'vitest';
import { costPerMillionTokens, createMetrics, savingVsSingleType } from '../../src/service/metrics.js';
import { type CyclePhase, cyclePhases } from '../../src/service/view.js';
import {
  deploymentView,
  modelView,
  planOf,
  problemOf,
  type ScriptedState,
  scriptedController,
} from '../support/scripted-view.js';

type Sample = { readonly name: string; readonly labels: Record<string, string>; readonly value: number };

/** A small strict reader of the Prometheus text format: every line must be a comment or a sample. */
function parseExposition(text: string): readonly Sample[] {
  expect(text.endsWith('\n')).toBe(true);
  const samples: Sample[] = [];
  const typed = new Set<string>();
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const type = /^# TYPE (\S+) (counter|gauge|histogram|summary)$/.exec(line);
    if (type) {
      expect(typed.has(type[1]!), `# TYPE ${type[1]} twice`).toBe(false);
      typed.add(type[1]!);
      continue;
    }
    if (line.startsWith('# HELP ')) continue;
    const sample = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
    expect(sample, line).not.toBeNull();
    const labels: Record<string, string> = {};
    for (const [, key, value] of (sample![2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      labels[key!] = value!.replace(/\\(.)/g, (_whole, letter: string) => (letter === 'n' ? '\n' : letter));
    }
    samples.push({ name: sample![1]!, labels, value: Number(sample![3]) });
  }
  return samples;
}

function metricsOf(state: Partial<ScriptedState> = {}) {
  const controller = scriptedController(state);
  const metrics = createMetrics(controller.view);
  onTestFinished(() => metrics.close());
  const scrape = async () => parseExposition(await metrics.render());
  const named = async (name: string) => (await scrape()).filter((sample) => sample.name === name);
  return { ...controller, metrics, scrape, named };
}

describe('metrics', () => {
  it('tell desired, target and current replicas of every deployment, and the same under the name of llm-d', async () => {
    const { named } = metricsOf();
    const labels = { namespace: 'default', deployment: 'llama-l4', model: 'llama', gpu_type: 'L4' };
    expect(await named('gpumix_desired_replicas')).toContainEqual({
      name: 'gpumix_desired_replicas',
      labels,
      value: 3,
    });
    expect(await named('gpumix_target_replicas')).toContainEqual({ name: 'gpumix_target_replicas', labels, value: 4 });
    expect(await named('gpumix_current_replicas')).toContainEqual({
      name: 'gpumix_current_replicas',
      labels,
      value: 2,
    });
    expect(await named('wva_desired_replicas')).toContainEqual({
      name: 'wva_desired_replicas',
      labels: { variant_name: 'llama-l4', namespace: 'default', accelerator_type: 'L4' },
      value: 3,
    });
  });

  it('tell whether what is published was done, and for how long not, where that can be told', async () => {
    const landed = { landed: true, notLandedSeconds: 0 };
    const late = { landed: false, notLandedSeconds: 95 };
    const views = [
      deploymentView({ name: 'a', landing: landed }),
      deploymentView({ name: 'b', landing: late }),
      deploymentView({ name: 'c', landing: null }),
    ];
    const { named, state } = metricsOf({ models: [modelView({ deployments: views })] });
    const values = async (name: string) => (await named(name)).map(({ labels, value }) => [labels, value] as const);
    const a = { namespace: 'default', deployment: 'a' };
    const b = { namespace: 'default', deployment: 'b' };
    expect(await values('gpumix_landed')).toEqual([
      [a, 1],
      [b, 0],
    ]);
    expect(await values('gpumix_not_landed_seconds')).toEqual([
      [a, 0],
      [b, 95],
    ]);
    // Nothing is left of a deployment that is gone.
    state.models = [modelView({ deployments: views.slice(1) })];
    expect(await values('gpumix_landed')).toEqual([[b, 0]]);
    expect(await values('gpumix_not_landed_seconds')).toEqual([[b, 95]]);
  });

  it('tell the money of the plan, per model and GPU type, with its bound', async () => {
    const models = [
      modelView({
        deployments: [
          deploymentView({ name: 'a', targetReplicas: 1, usdPerReplicaHour: 3 }),
          deploymentView({ name: 'b', targetReplicas: 2, usdPerReplicaHour: 4 }),
          deploymentView({ name: 'c', gpuType: 'L4', targetReplicas: 1, usdPerReplicaHour: 0.5 }),
        ],
      }),
    ];
    const { named } = metricsOf({
      models,
      plan: planOf(models, { boundUsdPerHour: 11, gap: 0.5 / 11.5, switchingUsdPerHour: 0.25 }),
    });
    expect((await named('gpumix_cost_usd_per_hour')).map(({ labels, value }) => [labels, value])).toEqual([
      [{ model: 'llama', gpu_type: 'A100' }, 11],
      [{ model: 'llama', gpu_type: 'L4' }, 0.5],
    ]);
    expect((await named('gpumix_cost_bound_usd_per_hour')).map(({ value }) => value)).toEqual([11]);
    expect((await named('gpumix_plan_gap_ratio'))[0]!.value).toBeCloseTo(0.0435, 4);
    expect((await named('gpumix_switching_usd_per_hour')).map(({ value }) => value)).toEqual([0.25]);
    // 11.5 USD/h against 14.68 on the cheapest single type.
    expect((await named('gpumix_saving_vs_single_type_ratio'))[0]!.value).toBeCloseTo(1 - 11.5 / 14.68, 12);
    // 4 requests/s × 3,600 s × 600 tokens = 8.64 million tokens an hour.
    expect((await named('gpumix_cost_per_million_tokens_usd'))[0]!.value).toBeCloseTo(11.5 / 8.64, 12);
  });

  it('tell demand, forecast, unserved demand by reason, and held models', async () => {
    const bucket = { model: 'llama', inputTokens: 1, outputTokens: 1 };
    const models = [modelView({ status: 'held', heldReason: 'redis_unreachable' })];
    const { named } = metricsOf({
      models,
      plan: planOf(models, {
        status: 'held',
        unserved: [
          { ...bucket, rps: 1, reason: 'slo' },
          { ...bucket, rps: 0.5, reason: 'slo' },
          { ...bucket, rps: 2, reason: 'max_replicas' },
        ],
      }),
    });
    expect((await named('gpumix_demand_rps'))[0]).toMatchObject({ labels: { model: 'llama' }, value: 4 });
    expect((await named('gpumix_forecast_rps'))[0]).toMatchObject({ labels: { model: 'llama' }, value: 5 });
    expect((await named('gpumix_unserved_rps')).map(({ labels, value }) => [labels.reason, value])).toEqual([
      ['slo', 1.5],
      ['max_replicas', 2],
    ]);
    expect(await named('gpumix_plan_held')).toEqual([
      { name: 'gpumix_plan_held', labels: { model: 'llama', reason: 'redis_unreachable' }, value: 1 },
    ]);
    expect((await named('gpumix_plan_status')).map(({ labels, value }) => [labels.status, value])).toEqual([
      ['optimal', 0],
      ['feasible', 0],
      ['infeasible', 0],
      ['held', 1],
    ]);
  });

  it('the series of a vanished deployment and of a vanished model vanish', async () => {
    const { named, scrape, state } = metricsOf({
      models: [modelView(), modelView({ name: 'gone', deployments: [deploymentView({ name: 'gone-a100' })] })],
    });
    const about = async (text: string) => (await scrape()).filter(({ labels }) => Object.values(labels).includes(text));
    expect((await about('gone')).length).toBeGreaterThan(5);
    state.models = [modelView({ deployments: [deploymentView()] })];
    state.plan = planOf(state.models);
    state.problem = problemOf(state.models);
    expect(await about('gone')).toEqual([]);
    expect(await about('gone-a100')).toEqual([]);
    expect(await about('llama-l4')).toEqual([]);
    expect(await named('gpumix_desired_replicas')).toHaveLength(1);
  });

  it('tell the GPU types that cannot be had, while they cannot', async () => {
    const { named, state } = metricsOf({
      shortages: [{ gpuType: 'H100', shortGpus: 8, usableGpus: 16, until: 1_000 }],
    });
    const short = async () => (await named('gpumix_gpu_type_short_gpus')).map(({ labels, value }) => [labels, value]);
    expect(await short()).toEqual([[{ gpu_type: 'H100' }, 8]]);
    state.shortages = [];
    expect(await short()).toEqual([]);
  });

  it('export no number that is not known: no NaN, no 0 in its place', async () => {
    const models = [
      modelView({
        demand: null,
        singleTypeUsdPerHour: null,
        deployments: [
          deploymentView({
            replicas: null,
            targetReplicas: null,
            currentReplicas: null,
            readyReplicas: null,
            pendingReplicas: null,
            usdPerReplicaHour: null,
          }),
        ],
      }),
    ];
    const { scrape } = metricsOf({
      models,
      plan: planOf(models, {
        gap: Number.NaN,
        boundUsdPerHour: Number.NEGATIVE_INFINITY,
        switchingUsdPerHour: Number.NaN,
      }),
      inputs: [{ input: 'redis', ok: false, ageSeconds: null, problem: 'refused' }],
    });
    const ours = (await scrape()).filter(({ name }) => /^(gpumix|wva)_/.test(name));
    expect([...new Set(ours.map(({ name }) => name))].sort()).toEqual([
      'gpumix_cost_usd_per_hour',
      'gpumix_demand_by_length_rps',
      'gpumix_idle_cost_usd_per_hour',
      'gpumix_input_ok',
      'gpumix_plan_status',
      'gpumix_published_cost_usd_per_hour',
    ]);
    expect((await scrape()).filter(({ name, value }) => !name.startsWith('nodejs_') && Number.isNaN(value))).toEqual(
      [],
    );
  });

  it('tell what of the cost lies idle, what is published, the budget, and the best single type in money', async () => {
    const models = [modelView({ deployments: [deploymentView({ targetReplicas: 4, usdPerReplicaHour: 2 })] })];
    const plan = planOf(models, { publishedUsdPerHour: 9 });
    const deployments = plan.deployments.map((each) => ({ ...each, utilization: 0.75 }));
    const problem = { ...problemOf(models), budgetUsdPerHour: 20 };
    const { named, state } = metricsOf({ models, plan: { ...plan, deployments }, problem });
    const only = async (name: string) => (await named(name)).map(({ labels, value }) => [labels, value]);
    const ofCost = { model: 'llama', gpu_type: 'A100' };
    expect(await only('gpumix_idle_cost_usd_per_hour')).toEqual([[ofCost, 2]]);
    expect(await only('gpumix_single_type_cost_usd_per_hour')).toEqual([[ofCost, 14.68]]);
    expect(await only('gpumix_published_cost_usd_per_hour')).toEqual([[{}, 9]]);
    expect(await only('gpumix_budget_usd_per_hour')).toEqual([[{}, 20]]);
    state.problem = problemOf(models);
    expect(await only('gpumix_budget_usd_per_hour')).toEqual([]);
  });

  it('tell pools and quotas beside the GPUs that the plan takes and that are ready', async () => {
    const models = [modelView({ deployments: [deploymentView({ targetReplicas: 3, readyReplicas: 2 })] })];
    const problem = problemOf(models);
    const { named } = metricsOf({
      models,
      problem: {
        ...problem,
        pools: [
          { gpuType: 'A100', gpus: 16 },
          { gpuType: 'L4', gpus: null },
        ],
        quotas: [{ namespace: 'default', gpuType: 'A100', gpus: 4 }],
        models: problem.models.map((model) => ({
          ...model,
          deployments: model.deployments.map((each) => ({ ...each, gpusPerReplica: 2, readyReplicas: 2 })),
        })),
      },
    });
    const only = async (name: string) => (await named(name)).map(({ labels, value }) => [labels, value]);
    const labels = { namespace: 'default', gpu_type: 'A100' };
    expect(await only('gpumix_pool_gpus')).toEqual([[{ gpu_type: 'A100' }, 16]]);
    expect(await only('gpumix_quota_gpus')).toEqual([[labels, 4]]);
    expect(await only('gpumix_target_gpus')).toEqual([[labels, 6]]);
    expect(await only('gpumix_ready_gpus')).toEqual([[labels, 4]]);
  });

  it('tell demand by length in few cells: the busiest models by themselves, the others together', async () => {
    const many = Array.from({ length: 30 }, (_, i) => modelView({ name: `m${i}`, deployments: [] }));
    const problem = problemOf(many);
    const demand = (i: number) => [
      { inputTokens: 500, outputTokens: 64, rps: i },
      { inputTokens: 100_000, outputTokens: 65, rps: 1 },
    ];
    const models = problem.models.map((model, i) => ({ ...model, demand: demand(i) }));
    const { named } = metricsOf({ models: many, problem: { ...problem, models } });
    const cells = await named('gpumix_demand_by_length_rps');
    expect(cells).toHaveLength(21 * 4);
    const of = (model: string) =>
      Object.fromEntries(
        cells
          .filter(({ labels }) => labels.model === model)
          .map(({ labels, value }) => [`${labels.input_tokens} → ${labels.output_tokens}`, value]),
      );
    expect(of('m29')).toEqual({ '512 → 64': 29, '512 → 128': 0, '+Inf → 64': 0, '+Inf → 128': 1 });
    expect(of('(others)')).toEqual({ '512 → 64': 45, '512 → 128': 0, '+Inf → 64': 0, '+Inf → 128': 10 });
    expect(of('m9')).toEqual({});
  });

  it('tell tokens, pending requests, and which input cannot be read', async () => {
    const { named } = metricsOf({ inputs: [{ input: 'redis', ok: false, ageSeconds: 90, problem: 'refused' }] });
    const only = async (name: string) => (await named(name)).map(({ labels, value }) => [labels, value]);
    expect(await only('gpumix_demand_tokens_per_second')).toEqual([
      [{ model: 'llama', kind: 'input' }, 2000],
      [{ model: 'llama', kind: 'output' }, 400],
    ]);
    expect(await only('gpumix_pending_requests')).toEqual([[{ model: 'llama' }, 3]]);
    expect(await only('gpumix_input_ok')).toEqual([[{ input: 'redis' }, 0]]);
  });

  it('before the first plan there is nothing about plans', async () => {
    const { scrape } = metricsOf({ plan: null, problem: null, models: [], inputs: [] });
    expect((await scrape()).filter(({ name }) => /^(gpumix|wva)_/.test(name))).toEqual([]);
  });

  it('count failed readings and time the phases of every cycle', async () => {
    const { named, endCycle } = metricsOf();
    const phaseSeconds = Object.fromEntries(cyclePhases.map((phase) => [phase, 0.02])) as Record<CyclePhase, number>;
    endCycle({ phaseSeconds, errors: [{ input: 'redis', code: 'ECONNREFUSED' }] });
    endCycle({ phaseSeconds: { ...phaseSeconds, plan: 2 }, errors: [{ input: 'redis', code: 'ECONNREFUSED' }] });
    expect(await named('gpumix_input_errors_total')).toEqual([
      { name: 'gpumix_input_errors_total', labels: { input: 'redis', code: 'ECONNREFUSED' }, value: 2 },
    ]);
    const counts = await named('gpumix_phase_duration_seconds_count');
    expect(counts.map(({ labels, value }) => [labels.phase, value])).toEqual(cyclePhases.map((phase) => [phase, 2]));
    const upTo = async (le: string) =>
      (await named('gpumix_phase_duration_seconds_bucket')).find(
        ({ labels }) => labels.phase === 'plan' && labels.le === le,
      )?.value;
    expect([await upTo('0.01'), await upTo('0.03'), await upTo('1'), await upTo('3')]).toEqual([0, 1, 1, 2]);
  });

  it('tell the age of every input that was read', async () => {
    const { named } = metricsOf();
    expect((await named('gpumix_input_age_seconds')).map(({ labels, value }) => [labels.input, value])).toEqual([
      ['redis', 1.5],
      ['kubernetes', 0.5],
    ]);
  });

  it('survive hostile names', async () => {
    const name = 'a"b\\c\nd{e="f"} 1';
    const { named } = metricsOf({ models: [modelView({ name })] });
    expect((await named('gpumix_demand_rps'))[0]!.labels).toEqual({ model: name });
  });

  it('bring those of the process itself, on a registry of their own', async () => {
    const [one, other] = [metricsOf(), metricsOf()];
    expect((await one.named('process_resident_memory_bytes'))[0]!.value).toBeGreaterThan(1e6);
    expect(await other.named('process_cpu_seconds_total')).toHaveLength(1);
    expect(one.metrics.contentType).toContain('text/plain');
  });
});

describe('derived money', () => {
  const demand = modelView().demand!;

  it('a cost per token needs tokens', () => {
    expect(costPerMillionTokens({ demand: null }, 10)).toBeNull();
    expect(costPerMillionTokens({ demand: { ...demand, rps: 0 } }, 10)).toBeNull();
    expect(costPerMillionTokens({ demand: { ...demand, meanInputTokens: null } }, 10)).toBeNull();
    expect(
      costPerMillionTokens({ demand: { ...demand, rps: 1, meanInputTokens: 500, meanOutputTokens: 500 } }, 3.6),
    ).toBeCloseTo(1, 12);
  });

  it('a saving needs something to save against, and may be negative', () => {
    expect(savingVsSingleType(null, 5)).toBeNull();
    expect(savingVsSingleType(0, 0)).toBeNull();
    expect(savingVsSingleType(10, 7.5)).toBeCloseTo(0.25, 12);
    expect(savingVsSingleType(10, 11)).toBeCloseTo(-0.1, 12);
  });
});

import { describe, expect, it } from 'vitest';
import { MetricValues } from '../../../src/service/external-metrics/metric-values.js';
import { deploymentView, modelView, type ScriptedState, scriptedController } from '../../support/scripted-view.js';

const all = () => true;

function valuesOf(state: Partial<ScriptedState> = {}) {
  return new MetricValues(scriptedController(state).view);
}

describe('the metric of all deployments', () => {
  it('says whole replicas of each in the namespace, with its labels', () => {
    expect(valuesOf().read('default', 'gpumix_desired_replicas', all)).toEqual({
      kind: 'values',
      items: [
        {
          metricName: 'gpumix_desired_replicas',
          metricLabels: { namespace: 'default', deployment: 'llama-a100', model: 'llama', gpu_type: 'A100' },
          timestamp: '2026-11-20T10:00:00Z',
          value: '2',
        },
        {
          metricName: 'gpumix_desired_replicas',
          metricLabels: { namespace: 'default', deployment: 'llama-l4', model: 'llama', gpu_type: 'L4' },
          timestamp: '2026-11-20T10:00:00Z',
          value: '3',
        },
      ],
    });
  });

  it('is an error where one number of those that fit is not known: without it their sum would be too small', () => {
    const values = valuesOf({ notKnown: new Set(['default/llama-a100']) });
    expect(values.read('default', 'gpumix_desired_replicas', all)).toEqual({
      kind: 'not-known',
      message: expect.stringContaining('replicas of default/llama-a100 are not known: no profile'),
    });
    expect(values.read('default', 'gpumix-aibrix-llama-a100', all).kind).toBe('not-known');
    expect(
      values.read('default', 'gpumix_desired_replicas', ({ deployment }) => deployment === 'llama-l4'),
    ).toMatchObject({ kind: 'values', items: [{ metricLabels: { deployment: 'llama-l4' }, value: '3' }] });
  });

  it('is none where no deployment fits, and not known before every input was read', () => {
    expect(valuesOf().read('default', 'gpumix_desired_replicas', () => false)).toMatchObject({
      kind: 'none',
      message: expect.stringContaining('fits the label selector'),
    });
    expect(valuesOf().read('elsewhere', 'gpumix_desired_replicas', all).kind).toBe('none');
    expect(valuesOf().read('default', 'gpumix_replicas', all)).toMatchObject({
      kind: 'none',
      message: expect.stringContaining('gpumix-aibrix-<deployment>'),
    });
    expect(valuesOf({ ready: false }).read('elsewhere', 'gpumix_desired_replicas', all).kind).toBe('not-known');
  });

  it('follows the view', () => {
    const controller = scriptedController();
    const values = new MetricValues(controller.view);
    expect(values.names()).toEqual(['gpumix_desired_replicas', 'gpumix-aibrix-llama-a100', 'gpumix-aibrix-llama-l4']);
    const there = deploymentView({ namespace: 'prod', name: 'mistral-h100', gpuType: 'H100', replicas: 5 });
    controller.state.models = [modelView({ name: 'mistral', deployments: [there] })];
    expect(values.names()).toEqual(['gpumix_desired_replicas', 'gpumix-aibrix-mistral-h100']);
    expect(values.read('default', 'gpumix_desired_replicas', all).kind).toBe('none');
    expect(values.read('prod', 'gpumix_desired_replicas', all)).toMatchObject({ items: [{ value: '5' }] });
  });
});

describe('the metric of one deployment for AIBrix', () => {
  it.each([
    [0, '0'],
    [1, '500m'],
    [3, '2500m'],
    [1000, '999500m'],
  ])('says %s replicas as %s, which it rounds up outside its dead band', (replicas, value) => {
    const models = [modelView({ deployments: [deploymentView({ replicas }), deploymentView({ name: 'llama-l4' })] })];
    const answer = valuesOf({ models }).read('default', 'gpumix-aibrix-llama-a100', all);
    expect(answer).toMatchObject({ kind: 'values', items: [{ metricName: 'gpumix-aibrix-llama-a100', value }] });
    expect(answer.kind === 'values' && answer.items.length).toBe(1);
  });
});

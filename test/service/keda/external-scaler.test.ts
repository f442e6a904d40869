import { describe, expect, it } from 'vitest';
import { ActivityStreams, scalerAnswer } from '../../../src/service/keda/external-scaler.js';
import { deploymentView, modelView, type ScriptedState, scriptedController } from '../../support/scripted-view.js';

const ref = (overrides: { name?: string; namespace?: string; scalerMetadata?: Record<string, string> } = {}) => ({
  name: 'llama-a100',
  namespace: 'default',
  scalerMetadata: {},
  ...overrides,
});

function viewOf(state: Partial<ScriptedState> = {}) {
  return scriptedController(state).view;
}

describe('the answer to a ScaledObject', () => {
  it('is the number of the Deployment that has its name', () => {
    expect(scalerAnswer(viewOf(), ref())).toEqual({ kind: 'known', replicas: 2 });
  });

  it('is that of the Deployment that the trigger names', () => {
    const scalerMetadata = { deployment: 'llama-l4', scalerAddress: 'gpumix:9090' };
    expect(scalerAnswer(viewOf(), ref({ name: 'anything', scalerMetadata }))).toEqual({ kind: 'known', replicas: 3 });
  });

  it.each([
    ['without a name', ref({ name: '' }), 'found a ScaledObjectRef without a name'],
    ['without a namespace', ref({ namespace: '' }), 'found a ScaledObjectRef without a namespace'],
    ['that is none', null, 'found a ScaledObjectRef without a namespace'],
  ])('%s is a bad request', (_, asked, message) => {
    const answer = scalerAnswer(viewOf(), asked);
    expect(answer).toMatchObject({ kind: 'bad-request', message: expect.stringContaining(message) });
  });

  it('of a Deployment that is not there says which one was looked for, and how to name another', () => {
    expect(scalerAnswer(viewOf(), ref({ name: 'lama' }))).toEqual({
      kind: 'no-such-deployment',
      message:
        'no deployment default/lama is followed (the name of the ScaledObject; metadata "deployment" of the trigger names another one)',
    });
    expect(scalerAnswer(viewOf(), ref({ scalerMetadata: { deployment: 'lama' } }))).toMatchObject({
      message: 'no deployment default/lama is followed (metadata "deployment" of the trigger)',
    });
  });

  it('is no verdict on names before every input was read', () => {
    const answer = scalerAnswer(viewOf({ ready: false, models: [] }), ref());
    expect(answer).toMatchObject({ kind: 'not-known', message: expect.stringContaining('not every input has been') });
  });

  it('is never 0 for a number that is not known', () => {
    const answer = scalerAnswer(viewOf({ notKnown: new Set(['default/llama-a100']) }), ref());
    expect(answer).toMatchObject({
      kind: 'not-known',
      message: expect.stringContaining('are not known yet: no profile'),
    });
  });
});

describe('streams of activity', () => {
  function streams(replicas: number | null, state: Partial<ScriptedState> = {}) {
    const controller = scriptedController({
      ...state,
      models: [modelView({ deployments: [deploymentView({ replicas })] })],
    });
    const told: unknown[] = [];
    const open = new ActivityStreams(controller.view);
    open.add({ send: (active) => told.push(active), end: (answer) => told.push(answer.kind) }, ref());
    const become = (next: number | null | 'gone') => {
      const deployments = next === 'gone' ? [] : [deploymentView({ replicas: next })];
      controller.state.models = [modelView({ deployments })];
      open.tellAll();
    };
    return { told, open, become };
  }

  it('are told at once, and then only what changes', () => {
    const { told, become } = streams(2);
    expect(told).toEqual([true]);
    for (const next of [3, 0, 0, 5, 1]) become(next);
    expect(told).toEqual([true, false, true]);
  });

  it('are told nothing while the number is not known: what was said last goes on', () => {
    const { told, become } = streams(null);
    expect(told).toEqual([]);
    for (const next of [1, null, 1, null]) become(next);
    expect(told).toEqual([true]);
  });

  it('end when their Deployment goes, once', () => {
    const { told, open, become } = streams(1);
    become('gone');
    become('gone');
    expect(told).toEqual([true, 'no-such-deployment']);
    expect(open.size).toBe(0);
  });
});

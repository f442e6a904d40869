import { describe, expect, it } from 'vitest';
import type { ConsumerSnapshot } from '../../../src/core/ports.js';
import { otherScalers } from '../../../src/service/actuation/other-scalers.js';

const scaledObject = {
  kind: 'ScaledObject',
  namespace: 'prod',
  name: 'so',
  deployment: 'prod/llama',
  minReplicas: 0,
  maxReplicas: 9,
  pausedBy: 'autoscaling.keda.sh/paused: "true"',
} as const;

function scalers(snapshot: Partial<ConsumerSnapshot>) {
  return otherScalers({ snapshot: () => ({ settled: true, problems: [], unread: [], consumers: [], ...snapshot }) });
}

describe('what else scales a deployment', () => {
  it('is what targets it, paused or not, and nothing of another', () => {
    const known = scalers({ consumers: [scaledObject] });
    expect(known({ id: 'prod/llama', namespace: 'prod' })).toEqual({
      names: ['ScaledObject prod/so'],
      unknownBecause: null,
    });
    expect(known({ id: 'prod/other', namespace: 'prod' })).toEqual({ names: [], unknownBecause: null });
  });

  it('is not known where a kind was never read in its namespace, or in any', () => {
    const here = scalers({ unread: [{ namespace: 'test', reason: '403' }] });
    expect(here({ id: 'test/llama', namespace: 'test' }).unknownBecause).toBe('403');
    expect(here({ id: 'prod/llama', namespace: 'prod' }).unknownBecause).toBeNull();
    const nowhere = scalers({ unread: [{ namespace: null, reason: '403' }] });
    expect(nowhere({ id: 'prod/llama', namespace: 'prod' }).unknownBecause).toBe('403');
  });

  it('is what it is now', () => {
    let snapshot: ConsumerSnapshot = { settled: true, problems: [], unread: [], consumers: [] };
    const known = otherScalers({ snapshot: () => snapshot });
    expect(known({ id: 'prod/llama', namespace: 'prod' }).names).toEqual([]);
    snapshot = { ...snapshot, consumers: [scaledObject] };
    expect(known({ id: 'prod/llama', namespace: 'prod' }).names).toEqual(['ScaledObject prod/so']);
  });
});

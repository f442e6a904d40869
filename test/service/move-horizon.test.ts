import { describe, expect, it } from 'vitest';
import type { ObservedDeployment } from '../../src/core/ports.js';
import { MoveHorizon } from '../../src/service/move-horizon.js';
import { deployment, profileText, World } from '../support/controller-world.js';

const hour = 3600;

describe('the time over which a change of mix must pay', () => {
  const at = (nowSeconds: number) => nowSeconds * 1000;

  it('is short in a process that has just begun, and grows with the calm up to the configured time', () => {
    const horizon = new MoveHorizon({ longestSeconds: hour });
    expect(horizon.secondsOf('llama', at(0))).toBe(900);
    expect(horizon.secondsOf('llama', at(150))).toBe(900);
    expect(horizon.secondsOf('llama', at(1000))).toBe(1000);
    expect(horizon.secondsOf('llama', at(50_000))).toBe(hour);
  });

  it('is short again after some replicas were started while others were let go, of that model', () => {
    const horizon = new MoveHorizon({ longestSeconds: hour });
    for (const model of ['llama', 'mistral']) horizon.secondsOf(model, at(0));
    horizon.observe(
      'llama',
      [
        { running: 4, target: 2 },
        { running: 0, target: 1 },
      ],
      2_000_000,
    );
    expect(horizon.secondsOf('llama', at(2001))).toBe(900);
    expect(horizon.secondsOf('mistral', at(2001))).toBe(2001);
  });

  it.each([
    [
      'more of what runs',
      [
        { running: 4, target: 9 },
        { running: 1, target: 1 },
      ],
    ],
    [
      'less of what runs',
      [
        { running: 4, target: 2 },
        { running: 1, target: 0 },
      ],
    ],
    [
      'a start beside replicas of which nothing is known',
      [
        { running: null, target: 2 },
        { running: 1, target: 3 },
      ],
    ],
  ])('is not cut by %s', (_, headings) => {
    const horizon = new MoveHorizon({ longestSeconds: hour });
    horizon.secondsOf('llama', at(0));
    horizon.observe('llama', headings, 2_000_000);
    expect(horizon.secondsOf('llama', at(2001))).toBe(2001);
  });

  it('is never longer than what is configured, even where replicas take longer to start', () => {
    expect(new MoveHorizon({ longestSeconds: 60 }).secondsOf('llama', at(0))).toBe(60);
  });
});

describe('a cheaper mix', () => {
  // A replica serves 1 request/s on either type and takes 180 s to start.
  const old = deployment({ name: 'old', usdPerReplicaHour: 1, currentReplicas: 4 });
  const fresh = deployment({ name: 'new', gpuType: 'L4', usdPerReplicaHour: 3, currentReplicas: 0 });

  /** The old type has become a fifth dearer than the new one; cycles until the new one is asked for, at most `most`. */
  async function cyclesUntilMoved(most: number): Promise<number | null> {
    const world = await new World({
      deployments: [old, fresh],
      profiles: { old: profileText({}), new: profileText({}) },
      config: { options: { startUsdPerReplica: null } },
    }).start();
    await world.send('llama', { rps: 4 }).cycles(30);
    const deployments = world.deployments.current.deployments.map(
      (each): ObservedDeployment => (each.name === 'old' ? { ...each, usdPerReplicaHour: 3.6 } : each),
    );
    world.deployments.set({ deployments });
    for (let cycle = 1; cycle <= most; cycle += 1) {
      await world.cycle();
      if (world.replicas('new') === 4) return cycle;
    }
    return null;
  }

  it('is not taken at once, and is taken when the mix has stood long enough to earn the starts back', async () => {
    // 4 × 3 USD/h × 180 s = 0.6 USD to be earned by 2.4 USD/h: after 900 s, of which 300 s had passed.
    const cycles = await cyclesUntilMoved(100);
    expect(cycles).toBeGreaterThanOrEqual(58);
    expect(cycles).toBeLessThanOrEqual(64);
  });
});

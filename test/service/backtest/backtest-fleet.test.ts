import { describe, expect, it } from 'vitest';
import { InputError } from '../../../src/core/input-error.js';
import { backtestFleet, partOfFleet, withBelief } from '../../../src/service/backtest/backtest-fleet.js';
import { configOf, fleetOf, gpus, models, profiles } from './scenario.js';

const one = (fields: string) => `\n    - { name: l40s, model: llama-3.1-8b, ${fields} }`;

describe('the fleet of a backtest', () => {
  it('has each configured deployment as it is, with its price, and as its profile says', async () => {
    const { model, members } = await fleetOf();
    expect(model).toBe('llama-3.1-8b');
    expect(members.map(({ deployment }) => [deployment.id, deployment.gpuType])).toEqual([
      ['default/l40s', 'L40S'],
      ['default/a100-80gb', 'A100-80GB'],
      ['default/h100', 'H100'],
    ]);
    for (const { deployment, profile } of members) {
      expect(deployment.usdPerReplicaHour).toBe(profile.cost);
      expect(deployment.profile).toBe(profile.grid);
      expect(deployment.startup).toEqual({ medianSeconds: 180, spread: 0.1 });
    }
    // A decoding step reads the weights once: the GPU with more bandwidth takes less time.
    const [l40s, , h100] = members.map(({ deployment }) => deployment.engine.stepTimes);
    const step = { prefillTokens: 0, prefillAttention: 0, decodeSequences: 8, decodeContextTokens: 8000 };
    expect(h100!.stepMs(step)).toBeLessThan(l40s!.stepMs(step));
  });

  it('takes price, start-up time and context of the deployment where it says them', async () => {
    const fields = 'gpuType: L40S, usdPerReplicaHour: 7, startupSeconds: 33, maxTokens: 4096, maxReplicas: 9';
    const { members } = await fleetOf(configOf({ deployments: one(fields) }));
    expect(members[0]!.deployment).toMatchObject({
      usdPerReplicaHour: 7,
      maxReplicas: 9,
      startup: { medianSeconds: 33 },
      engine: { limits: { maxTokens: 4096, maxSequences: 256, maxBatchedTokens: 8192 } },
    });
  });

  it.each([
    [4096.5, 4096],
    [0.5, 1],
  ])('simulates whole tokens of context: a maxTokens of %d is %d', async (configured, simulated) => {
    const { members } = await fleetOf(configOf({ deployments: one(`gpuType: L40S, maxTokens: ${configured}`) }));
    expect(members[0]!.deployment.engine.limits.maxTokens).toBe(simulated);
  });

  it('is believed faster or slower as a whole, and stays what it is', async () => {
    const fleet = await fleetOf();
    const doubted = withBelief(fleet, 1.2);
    const [before, after] = [fleet, doubted].map(({ members }) => members[0]!.deployment);
    expect(after!.profile.tputs[0]![0]).toBeCloseTo(1.2 * before!.profile.tputs[0]![0]!, 12);
    expect(after!.engine).toBe(before!.engine);
    expect(doubted.members[0]!.profile.grid).toBe(after!.profile);
    expect(withBelief(fleet, 1)).toBe(fleet);
    expect(partOfFleet(fleet, ({ deployment }) => deployment.gpuType === 'H100').members).toHaveLength(1);
  });

  it.each<[string, Parameters<typeof configOf>[0], string]>([
    [
      'a deployment without a profile',
      { deployments: '\n    - { name: l4, model: llama-3.1-8b, gpuType: L4 }' },
      'gpumix.yaml: default/l4: found no profile of llama-3.1-8b for it, expected llama-3.1-8b/l4.json or l4.json in profiles.directory',
    ],
    [
      'a GPU that nobody knows',
      { deployments: one('gpuType: L41S') },
      'gpumix.yaml: default/l40s: found gpuType "L41S", expected a GPU of the catalogue',
    ],
    ['no GPU at all', { deployments: one('maxReplicas: 2') }, 'gpumix.yaml: default/l40s: found no gpuType, expected'],
    [
      'several models, and no word which one',
      { deployments: `${one('gpuType: L40S')}\n    - { name: h100, model: other, gpuType: H100 }` },
      'gpumix.yaml: simulation.model: found nothing, beside 2 configured models, expected simulation.model: which of them',
    ],
    [
      'a model that no deployment has',
      { more: 'simulation: { model: llama-3.1-8c }' },
      'gpumix.yaml: simulation.model: found "llama-3.1-8c", expected a model of deployments.list: llama-3.1-8b; did you mean "llama-3.1-8b"?',
    ],
    [
      'an engine of a model that is not in the catalogue',
      { more: 'simulation: { catalogueModel: lama-3.1-8b }' },
      'gpumix.yaml: simulation.catalogueModel: found "lama-3.1-8b", expected a model of the catalogue that writes tokens',
    ],
  ])('refuses %s', async (_, parts, message) => {
    const fault = await fleetOf(configOf(parts)).catch((error: unknown) => error);
    expect(fault).toBeInstanceOf(InputError);
    expect((fault as InputError).message).toContain(message);
  });

  it('refuses a configuration whose deployments only a cluster knows', async () => {
    const config = { ...configOf(), deployments: { ...configOf().deployments, list: [] } };
    await expect(backtestFleet({ config, source: 'gpumix.yaml', profiles, gpus, models })).rejects.toThrow(
      'gpumix.yaml: deployments: found no list of deployments, expected deployments.source: config',
    );
  });
});

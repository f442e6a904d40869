import { describe, expect, it } from 'vitest';
import { deployment, profileText, World } from '../support/controller-world.js';

const a100 = deployment({ name: 'a100', gpuType: 'A100-80GB' });

/** What `gpumix estimate -o redis://` stores. */
const estimated = (rps: number): string =>
  JSON.stringify({
    ...(JSON.parse(profileText({ rps })) as object),
    provenance: { method: 'estimated', by: 'gpumix', at: '2026-11-21T00:00:00Z', details: '', relativeError: null },
  });

describe('a profile that was estimated', () => {
  it('is planned with, and the plan says so until a measured one takes its place', async () => {
    const world = new World({ deployments: [a100], profiles: { a100: estimated(1) } });
    await world.start();
    await world.send('llama', { rps: 4 }).cycle();
    expect(world.replicas('a100')).toBe(4);
    expect(world.warnings()).toEqual(['estimated_profile']);
    expect(world.controller.problem()?.models[0]?.deployments[0]?.profile?.method).toBe('estimated');
    expect(world.controller.plan()?.warnings[0]?.message).toContain('default/a100 (estimated)');

    await world.writeProfile('a100', profileText({ rps: 2 }));
    await world.send('llama', { rps: 4 }).cycle();
    expect(world.replicas('a100')).toBe(2);
    expect(world.warnings()).toEqual([]);
  });
});

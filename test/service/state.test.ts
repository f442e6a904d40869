import { describe, expect, it } from 'vitest';
import { createMemoryStore } from '../../src/adapters/memory-store.js';
import { InputError } from '../../src/core/input-error.js';
import type { GpuProfile } from '../../src/core/profile.js';
import { DecisionHistory } from '../../src/service/history.js';
import { KnownProfiles } from '../../src/service/known-profiles.js';
import { Overrides } from '../../src/service/overrides.js';
import type { DecisionRecord } from '../../src/service/view.js';
import { unreachable } from '../support/controller-world.js';

const clock = { now: () => 0 };

function record(model: string, atSeconds: number): DecisionRecord {
  const at = new Date(atSeconds * 1000).toISOString();
  return { at, model, status: 'optimal', heldReason: null, usdPerHour: 1, rps: 1, changes: [] };
}

describe('overrides', () => {
  it('set before the store could be read win over what it holds', async () => {
    const store = createMemoryStore(clock);
    const before = new Overrides(store);
    before.fix({ id: 'a', replicas: 1, expiresAtMs: null });
    before.fix({ id: 'b', replicas: 1, expiresAtMs: null });
    before.fix({ id: 'c', replicas: 1, expiresAtMs: null });
    await before.flush();
    const after = new Overrides(store);
    after.fix({ id: 'a', replicas: 5, expiresAtMs: null });
    after.clear(new Set(['b']));
    await after.restore();
    const numbers = [...after.active(0).values()].map(({ id, replicas }) => [id, replicas]);
    expect(numbers.sort()).toEqual([
      ['a', 5],
      ['c', 1],
    ]);
  });

  it('that have expired are forgotten, also in the store', async () => {
    const store = createMemoryStore(clock);
    const overrides = new Overrides(store);
    overrides.fix({ id: 'a', replicas: 1, expiresAtMs: 1000 });
    expect([overrides.active(999).size, overrides.active(1000).size]).toEqual([1, 0]);
    await overrides.flush();
    expect(await store.readState('overrides')).toBe('{"overrides":[],"cleared":[]}');
  });

  it('act while the store is down and are written when it is back', async () => {
    const store = createMemoryStore(clock);
    let isDown = true;
    const overrides = new Overrides({
      readState: async (name) => (isDown ? Promise.reject(unreachable) : store.readState(name)),
      writeState: async (name, text) => (isDown ? Promise.reject(unreachable) : store.writeState(name, text)),
    });
    overrides.fix({ id: 'a', replicas: 3, expiresAtMs: null });
    await expect(overrides.flush()).rejects.toBe(unreachable);
    expect(overrides.active(0).get('a')?.replicas).toBe(3);
    isDown = false;
    await overrides.flush();
    expect(await store.readState('overrides')).toContain('"replicas":3');
  });

  it('whose document is no document are replaced by those in memory, and that is said', async () => {
    const store = createMemoryStore(clock);
    await store.writeState('overrides', '{"overrides": "none"}');
    const overrides = new Overrides(store);
    expect(await overrides.restore()).toContain('state overrides: overrides: found "none"');
    await overrides.flush();
    expect(await store.readState('overrides')).toContain('"overrides":[]');
  });
});

describe('the decision history', () => {
  it('is bounded, in memory and in the store', async () => {
    const store = createMemoryStore(clock);
    const history = new DecisionHistory(store, 3);
    for (let i = 0; i < 9; i += 1) history.add([record('m', i)]);
    await history.flush();
    expect(history.query({ limit: 99 }).map(({ at }) => Date.parse(at))).toEqual([6000, 7000, 8000]);
    expect(await store.readList('decisions', 99)).toHaveLength(3);
  });

  it('answers the newest that match, oldest first', () => {
    const history = new DecisionHistory(createMemoryStore(clock), 10);
    history.add([record('a', 1), record('b', 2), record('a', 3), record('a', 4)]);
    expect(history.query({ model: 'a', limit: 2 }).map(({ at }) => Date.parse(at))).toEqual([3000, 4000]);
    expect(history.query({ sinceMs: 2000, limit: 9 })).toHaveLength(3);
    expect(history.query({ limit: 0 })).toEqual([]);
  });

  it('leaves out what it cannot read', async () => {
    const store = createMemoryStore(clock);
    await store.appendToList('decisions', [JSON.stringify(record('a', 1)), '{', '{"model": 1}'], 10);
    const history = new DecisionHistory(store, 10);
    expect(await history.restore()).toBe('2 entries of the decision history could not be read');
    expect(history.query({ limit: 9 })).toHaveLength(1);
  });

  it('is not written twice to a server that kept it through its restart', async () => {
    const store = createMemoryStore(clock);
    const history = new DecisionHistory(store, 10);
    history.add([record('a', 1)]);
    await history.flush();
    history.storeWasReplaced();
    history.add([record('a', 2)]);
    await history.flush();
    expect(await store.readList('decisions', 10)).toHaveLength(2);
  });
});

describe('what is known of a profile', () => {
  const profile: GpuProfile = {
    gpu: 'x',
    cost: 1,
    grid: { indexes: [[1], [1]], tputs: [[1]] },
    created: null,
    slos: {},
  };
  const present = { kind: 'present', profile } as const;
  const absent = { kind: 'absent' } as const;
  const bad = { kind: 'bad', error: new InputError('p', [{ place: 'tputs', found: 'x', expected: 'y' }]) } as const;
  const after = (readings: readonly (readonly [typeof present | typeof absent | typeof bad, string])[]) => {
    const known = new KnownProfiles();
    for (const [reading, epoch] of readings) known.update({ id: 'd', model: 'm', reading, epoch });
    const { kind, ...rest } = known.get('d', 'm');
    return [kind, 'concern' in rest ? (rest.concern?.split(':')[0] ?? null) : 'code' in rest ? rest.code : null];
  };

  const kept = ['known', 'its profile is missing since the store was emptied or replaced; the last one read is kept'];
  const gone = ['none', 'no_profile'];
  it.each([
    ['nothing before it was read', [], ['unread', null]],
    ['good', [[present, '1']], ['known', null]],
    ['none', [[absent, '1']], gone],
    ['bad', [[bad, '1']], ['none', 'bad_profile']],
    [
      'bad after good',
      [
        [present, '1'],
        [bad, '1'],
      ],
      ['known', 'its new profile cannot be used, the last good one is kept'],
    ],
    [
      'missing once',
      [
        [present, '1'],
        [absent, '1'],
      ],
      ['known', 'its profile is missing; it is looked for once more'],
    ],
    [
      'deleted',
      [
        [present, '1'],
        [absent, '1'],
        [absent, '1'],
      ],
      gone,
    ],
    [
      'back after it was missing',
      [
        [present, '1'],
        [absent, '1'],
        [present, '1'],
        [absent, '1'],
      ],
      ['known', 'its profile is missing; it is looked for once more'],
    ],
    [
      'gone with its store',
      [
        [present, '1'],
        [absent, '2'],
        [absent, '2'],
        [absent, '2'],
      ],
      kept,
    ],
    [
      'gone with its store while it was read',
      [
        [present, '1'],
        [absent, '1'],
        [absent, '2'],
        [absent, '2'],
      ],
      kept,
    ],
    [
      'deleted after the store was replaced',
      [
        [present, '1'],
        [absent, '2'],
        [present, '2'],
        [absent, '2'],
        [absent, '2'],
      ],
      gone,
    ],
  ] as const)('is: %s', (_, readings, expected) => {
    expect(after(readings)).toEqual(expected);
  });

  it('belongs to one model: a label that moves the deployment asks for another profile', () => {
    const known = new KnownProfiles();
    known.update({ id: 'd', model: 'm', reading: present, epoch: '' });
    expect([known.get('d', 'm').kind, known.get('d', 'other').kind]).toEqual(['known', 'unread']);
  });
});

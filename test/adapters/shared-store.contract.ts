import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { SharedStore } from '../../src/core/ports.js';

/** An empty store under test. */
export type StoreFixture = {
  readonly store: SharedStore;
  stop(): Promise<void>;
};

const mib = 1_048_576;

/** Names that a key, a pattern or a protocol could stumble over. */
export const hostileModelNames = [
  'meta-llama/Llama-2-7b-chat-hf',
  'a:b:c',
  '*',
  'llama[ab]?',
  'line\nbreak\r\n$3\r\n',
  'tab\tand "quotes" and \\',
  '模型-🦙',
  '{slot}tag',
  ' ',
  'x'.repeat(10_000),
];

/** What every implementation of `SharedStore` does; run against each of them. */
export function describeSharedStore(name: string, createFixture: () => Promise<StoreFixture>): void {
  describe(`shared store: ${name}`, () => {
    let fixture: StoreFixture;
    let store: SharedStore;
    beforeEach(async () => {
      fixture = await createFixture();
      store = fixture.store;
    });
    afterEach(() => fixture.stop());

    it('reads interval records in the order asked for, and says which are absent', async () => {
      await store.writeTraces([
        { model: 'llama', endSeconds: 20, text: '{"b":2}' },
        { model: 'llama', endSeconds: 10, text: '{"a":1}' },
      ]);
      expect(
        await store.readTraces([
          { model: 'llama', endSeconds: 10 },
          { model: 'llama', endSeconds: 30 },
          { model: 'llama', endSeconds: 20 },
          { model: 'llama', endSeconds: 10 },
        ]),
      ).toEqual([
        { kind: 'present', text: '{"a":1}' },
        { kind: 'absent' },
        { kind: 'present', text: '{"b":2}' },
        { kind: 'present', text: '{"a":1}' },
      ]);
    });

    it('replaces an interval record that is written again: the last writer wins', async () => {
      const key = { model: 'llama', endSeconds: 10 };
      await store.writeTraces([{ ...key, text: 'first' }]);
      await store.writeTraces([{ ...key, text: 'second' }]);
      expect(await store.readTraces([key])).toEqual([{ kind: 'present', text: 'second' }]);
    });

    it('asks for nothing and answers nothing', async () => {
      await store.writeTraces([]);
      expect(await store.readTraces([])).toEqual([]);
      expect(await store.readProfiles([])).toEqual([]);
    });

    it('keeps a model apart from one whose name begins with its own', async () => {
      await store.writeTraces([{ model: 'llama_7b', endSeconds: 10, text: 'seven' }]);
      await store.writeProfile({ model: 'llama_7b', deployment: 'a100' }, 'profile of llama_7b');
      expect(await store.readTraces([{ model: 'llama', endSeconds: 10 }])).toEqual([{ kind: 'absent' }]);
      expect(
        await store.readProfiles([
          { model: 'llama', deployment: 'a100' },
          { model: 'llama_7b', deployment: 'a100' },
          { model: 'llama', deployment: '*' },
        ]),
      ).toEqual([{ kind: 'absent' }, { kind: 'present', text: 'profile of llama_7b' }, { kind: 'absent' }]);
    });

    it('takes hostile model names verbatim, each as its own', async () => {
      await store.writeTraces(hostileModelNames.map((model, i) => ({ model, endSeconds: 10, text: `trace ${i}` })));
      for (const [i, model] of hostileModelNames.entries()) {
        await store.writeProfile({ model, deployment: 'd' }, `profile ${i}`);
      }
      expect(await store.readTraces(hostileModelNames.map((model) => ({ model, endSeconds: 10 })))).toEqual(
        hostileModelNames.map((_, i) => ({ kind: 'present', text: `trace ${i}` })),
      );
      expect(await store.readProfiles(hostileModelNames.map((model) => ({ model, deployment: 'd' })))).toEqual(
        hostileModelNames.map((_, i) => ({ kind: 'present', text: `profile ${i}` })),
      );
    });

    it('gives a new profile text at the next read', async () => {
      const key = { model: 'llama', deployment: 'a100' };
      await store.writeProfile(key, 'old');
      await store.writeProfile(key, 'new');
      expect(await store.readProfiles([key])).toEqual([{ kind: 'present', text: 'new' }]);
    });

    it('reads a value of exactly 1 MiB, fails one byte more, and reads the others beside it', async () => {
      const texts = ['x'.repeat(mib), 'x'.repeat(mib + 1), `é${'x'.repeat(mib - 1)}`, 'y'.repeat(70_000), ''];
      await store.writeTraces(texts.map((text, i) => ({ model: 'm', endSeconds: i, text })));
      const readings = await store.readTraces([0, 1, 2, 3, 4, 5].map((endSeconds) => ({ model: 'm', endSeconds })));
      expect(readings.map((reading) => reading.kind)).toEqual([
        'present',
        'failed',
        'failed',
        'present',
        'present',
        'absent',
      ]);
      expect(readings[0]).toEqual({ kind: 'present', text: texts[0] });
      expect(readings[1]).toMatchObject({ message: expect.stringContaining('at most 1048576') });
      expect(readings[3]).toEqual({ kind: 'present', text: texts[3] });
      expect(readings[4]).toEqual({ kind: 'present', text: '' });
    });

    it('reads 10,000 keys in one call', async () => {
      const keys = Array.from({ length: 10_000 }, (_, i) => ({ model: `model-${i % 1000}`, endSeconds: i }));
      await store.writeTraces(keys.filter((_, i) => i % 3 === 0).map((key) => ({ ...key, text: `${key.endSeconds}` })));
      expect(await store.readTraces(keys)).toEqual(
        keys.map((_, i) => (i % 3 === 0 ? { kind: 'present', text: `${i}` } : { kind: 'absent' })),
      );
    });

    it('keeps small documents of its own, apart from each other', async () => {
      expect(await store.readState('overrides')).toBeNull();
      await store.writeState('overrides', '{"a":1}');
      await store.writeState('models', 'é\n🦙');
      await store.writeState('empty', '');
      expect(await store.readState('overrides')).toBe('{"a":1}');
      expect(await store.readState('models')).toBe('é\n🦙');
      expect(await store.readState('empty')).toBe('');
    });

    it('keeps a document larger than any record, up to 8 MiB, and refuses to write a larger one', async () => {
      const text = 'é'.repeat(4 * mib);
      await store.writeState('large', text);
      expect(await store.readState('large')).toBe(text);
      await expect(store.writeState('large', `${text}x`)).rejects.toThrow(/state large: .* at most 8388608/);
      expect(await store.readState('large')).toBe(text);
    });

    it('keeps the newest entries of a list, newest last', async () => {
      expect(await store.readList('history', 10)).toEqual([]);
      await store.appendToList('history', ['1', '2', '3'], 4);
      await store.appendToList('history', ['4', '5'], 4);
      expect(await store.readList('history', 10)).toEqual(['2', '3', '4', '5']);
      expect(await store.readList('history', 2)).toEqual(['4', '5']);
      expect(await store.readList('history', 0)).toEqual([]);
      await store.appendToList('history', [], 1);
      expect(await store.readList('history', 10)).toEqual(['5']);
      await store.appendToList('history', ['6'], 0);
      expect(await store.readList('history', 10)).toEqual([]);
    });

    it('takes more list entries at once than it keeps', async () => {
      const entries = Array.from({ length: 3000 }, (_, i) => String(i));
      await store.appendToList('history', entries, 1200);
      expect(await store.readList('history', 5000)).toEqual(entries.slice(-1200));
    });

    it('is the same server from one question to the next', async () => {
      const first = await store.identity();
      expect(first.runId).not.toBe('');
      expect(first.startedAtMs).toBeGreaterThan(0);
      expect(await store.identity()).toEqual(first);
    });

    it('answers nothing once it is closed, least of all something empty', async () => {
      await store.close();
      await expect(store.readTraces([{ model: 'm', endSeconds: 0 }])).rejects.toMatchObject({ name: 'Unavailable' });
      await expect(store.identity()).rejects.toMatchObject({ name: 'Unavailable' });
      await expect(store.writeState('s', '')).rejects.toMatchObject({ name: 'Unavailable' });
    });
  });
}

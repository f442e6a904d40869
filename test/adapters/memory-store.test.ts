import { expect, it } from 'vitest';
import { createMemoryStore } from '../../src/adapters/memory-store.js';
import { describeSharedStore } from './shared-store.contract.js';

const startMs = Date.UTC(2026, 10, 20);

describeSharedStore('in this process', async () => {
  const store = createMemoryStore({ now: () => startMs });
  return { store, stop: () => store.close() };
});

it('lets interval records live 10 minutes, from their last writing', async () => {
  let now = startMs;
  const store = createMemoryStore({ now: () => now });
  const [first, second] = [10, 20].map((endSeconds) => ({ model: 'm', endSeconds }));
  await store.writeTraces([
    { ...first!, text: 'a' },
    { ...second!, text: 'b' },
  ]);
  now += 1000;
  await store.writeTraces([{ ...first!, text: 'c' }]);
  const kinds = async (): Promise<readonly string[]> =>
    (await store.readTraces([first!, second!])).map((reading) => reading.kind);
  now = startMs + 599_999;
  expect(await kinds()).toEqual(['present', 'present']);
  now = startMs + 600_000;
  expect(await kinds()).toEqual(['present', 'absent']);
  now = startMs + 601_000;
  expect(await kinds()).toEqual(['absent', 'absent']);
});

it('says since when it has run, and is another store each time', async () => {
  const clock = { now: () => startMs };
  const first = await createMemoryStore(clock).identity();
  expect(first.startedAtMs).toBe(startMs);
  expect((await createMemoryStore(clock).identity()).runId).not.toBe(first.runId);
});

import { describe, expect, it } from 'vitest';
import { createMemoryStore } from '../../src/adapters/memory-store.js';
import { Unavailable } from '../../src/core/ports.js';
import { DemandForecaster } from '../../src/demand/forecast.js';
import { StoredForecasts } from '../../src/service/stored-forecasts.js';

const options = { method: 'auto', quantile: 0.95 } as const;
const clock = { now: () => 1e12 };
const logger = { warn: () => {}, error: () => {} };

/** A forecaster that knows an hour at a rate. */
function knowing(rps: number): DemandForecaster {
  const forecaster = new DemandForecaster(options);
  forecaster.rememberMinutes(Array.from({ length: 60 }, (_, i) => ({ endSeconds: 60 * (i + 1), rps })));
  return forecaster;
}

/** A store that counts its writes. */
function countingStore() {
  const store = createMemoryStore(clock);
  const written: string[] = [];
  return {
    written,
    down: false,
    readState: (name: string) => store.readState(name),
    async writeState(name: string, text: string) {
      if (this.down) throw new Unavailable('redis_unreachable', 'down');
      written.push(name);
      await store.writeState(name, text);
    },
  };
}

describe('what forecasters remember in the store', () => {
  it('is there for the next process, whole', async () => {
    const store = countingStore();
    const first = new StoredForecasts({ store, logger });
    expect(await first.read(['a/b:c', 'other'], 0)).toEqual([null, null]);
    const forecaster = knowing(3);
    const models = [{ name: 'a/b:c', forecaster }];
    expect(await first.flush({ nowMs: 0, models, isLast: true })).toBeNull();
    const [memory, none] = await new StoredForecasts({ store, logger }).read(['a/b:c', 'other'], 0);
    expect(memory).toEqual(forecaster.memory());
    expect(none).toBeNull();
    const again = new DemandForecaster(options, memory);
    expect(JSON.stringify(again.memory())).toBe(JSON.stringify(forecaster.memory()));
  });

  it('is written once in five minutes, some models a cycle, and whole at the end', async () => {
    const store = countingStore();
    const forecasts = new StoredForecasts({ store, logger });
    const forecaster = knowing(3);
    const models = Array.from({ length: 300 }, (_, i) => ({ name: `m${i}`, forecaster }));
    await forecasts.read(
      models.map(({ name }) => name),
      0,
    );
    let most = 0;
    for (let seconds = 10; seconds <= 300; seconds += 10) {
      const before = store.written.length;
      await forecasts.flush({ nowMs: seconds * 1000, models, isLast: false });
      most = Math.max(most, store.written.length - before);
    }
    expect(most).toBeLessThanOrEqual(20);
    expect(new Set(store.written).size).toBe(300);
    expect(store.written.length).toBe(300);
    await forecasts.flush({ nowMs: 301_000, models, isLast: true });
    expect(store.written.length).toBe(600);
  });

  it('of a model that was never read is not written: the store may know more', async () => {
    const store = countingStore();
    const forecasts = new StoredForecasts({ store, logger });
    await forecasts.flush({ nowMs: 1e9, models: [{ name: 'm', forecaster: knowing(1) }], isLast: true });
    expect(store.written).toEqual([]);
  });

  it('is written later where the store cannot be reached', async () => {
    const store = countingStore();
    const forecasts = new StoredForecasts({ store, logger });
    const models = [{ name: 'm', forecaster: knowing(1) }];
    await forecasts.read(['m'], 0);
    store.down = true;
    expect(await forecasts.flush({ nowMs: 1e6, models, isLast: false })).toBe('redis_unreachable');
    store.down = false;
    expect(await forecasts.flush({ nowMs: 1e6, models, isLast: false })).toBeNull();
    expect(store.written).toEqual(['forecast:m']);
  });

  it('is written on where the clock was set back', async () => {
    const store = countingStore();
    const forecasts = new StoredForecasts({ store, logger });
    const models = [{ name: 'm', forecaster: knowing(1) }];
    await forecasts.read(['m'], 3_600_000);
    const writesAt = async (nowMs: number): Promise<number> => {
      await forecasts.flush({ nowMs, models, isLast: false });
      return store.written.length;
    };
    expect([await writesAt(1000), await writesAt(300_000), await writesAt(301_000)]).toEqual([1, 1, 2]);
  });

  it.each(['{', '{"version":2}', '[]'])('begins anew where %s lies there, and says so', async (text) => {
    const store = countingStore();
    await store.writeState('forecast:m', text);
    const warned: string[] = [];
    const warn = (_details: unknown, message?: string) => warned.push(message ?? '');
    const forecasts = new StoredForecasts({ store, logger: { ...logger, warn } });
    expect(await forecasts.read(['m'], 0)).toEqual([null]);
    expect(warned[0]).toContain('the history of m begins anew: state forecast:m');
  });
});

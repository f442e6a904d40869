import { formatTraceRecord, type TraceBucket, type TraceRecord } from '../../src/demand/trace-record.js';
import { type DemandHistory, type DemandWindow, interpretReading } from '../../src/demand/window.js';

/** Builders and a driver for the tests of demand: a store of interval records on a clock of its own. */

/** A round moment on a 10 s boundary and a minute boundary [Unix s]. */
export const start = 1_700_000_040;

export function record(overrides: Partial<TraceRecord> = {}): TraceRecord {
  return {
    version: 4,
    intervalSeconds: 10,
    arrivals: 0,
    pending: 0,
    queueing: 0,
    unknownLength: 0,
    buckets: [],
    ...overrides,
  };
}

export function bucket(inputTokens: number, outputTokens: number, count: number): TraceBucket {
  return { inputTokens, outputTokens, count };
}

/** 100 requests in an interval, all of one length, and as many answers: a steady 10 requests/s. */
export const steady = record({ arrivals: 100, pending: 20, buckets: [bucket(256, 64, 100)] });

/** The store as one model's window sees it. Tests write and delete keys; `down` makes every read fail. */
export class TraceStore {
  runId = 'run-1';
  startedAtMs = (start - 86_400) * 1000;
  down = false;
  readonly keys = new Map<number, string>();
  /** Every key that was asked for, in order. */
  readonly asked: number[][] = [];

  write(endSeconds: number, written: TraceRecord): void {
    this.keys.set(endSeconds, formatTraceRecord(written));
  }

  /** A restart without persistence. */
  restart(atSeconds: number): void {
    this.runId = `${this.runId}+`;
    this.startedAtMs = atSeconds * 1000;
    this.keys.clear();
  }

  /** One cycle of the service for one model. */
  cycle(window: DemandWindow, nowSeconds: number): DemandHistory {
    const nowMs = nowSeconds * 1000;
    for (const endSeconds of this.keys.keys()) if (endSeconds + 600 <= nowSeconds) this.keys.delete(endSeconds);
    if (this.down) return window.view(nowMs);
    window.storeIdentity({ runId: this.runId, startedAtMs: this.startedAtMs });
    const asked: number[] = [];
    const read = (keys: readonly number[]) => {
      asked.push(...keys);
      for (const endSeconds of keys) {
        const text = this.keys.get(endSeconds);
        const { reading } = interpretReading(
          text === undefined ? { kind: 'absent' } : { kind: 'present', text },
          `key ${endSeconds}`,
          { intervalSeconds: 10 },
        );
        window.record(endSeconds, reading, nowMs);
      }
    };
    read(window.keysToRead(nowMs));
    read(window.olderKeysToRead(nowMs));
    this.asked.push(asked);
    return window.view(nowMs);
  }
}

export function knownRates(history: DemandHistory): readonly number[] {
  return history.intervals.flatMap((interval) => (interval.state === 'known' ? [interval.rps] : []));
}

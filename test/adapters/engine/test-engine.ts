import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { type Backend, SimulatedBackend } from '../../../src/adapters/engine/backend.js';
import type { EngineClock } from '../../../src/adapters/engine/clock.js';
import { noFaults } from '../../../src/adapters/engine/faults.js';
import { type EngineOptions, EngineServer } from '../../../src/adapters/engine/server.js';
import { type ReplicaLimits, SimulatedReplica } from '../../../src/simulation/replica.js';
import type { StepTimes } from '../../../src/simulation/step-time.js';

/** Time that stands until the test moves it; or that runs from one call to the next, as fast as the process can. */
export class TestClock implements EngineClock {
  #now = 0;
  #timers: { readonly dueMs: number; readonly callback: () => void }[] = [];
  readonly #runs: boolean;

  constructor({ runs }: { readonly runs: boolean }) {
    this.#runs = runs;
  }

  nowMs(): number {
    return this.#now;
  }

  at(dueMs: number, callback: () => void): () => void {
    const timer = { dueMs, callback };
    this.#timers.push(timer);
    if (this.#runs) setImmediate(() => this.#timers.includes(timer) && this.advanceTo(dueMs));
    return () => {
      this.#timers = this.#timers.filter((one) => one !== timer);
    };
  }

  /** Calls back everything that is due by then, each at its time. */
  advanceTo(ms: number): void {
    for (;;) {
      const due = this.#timers.filter(({ dueMs }) => dueMs <= ms).sort((a, b) => a.dueMs - b.dueMs)[0];
      if (due === undefined) break;
      this.#timers = this.#timers.filter((one) => one !== due);
      this.#now = Math.max(this.#now, due.dueMs);
      due.callback();
    }
    this.#now = Math.max(this.#now, ms);
  }
}

/** Steps that are easy to reckon with: 10 ms, a millisecond for each 10 prompt tokens, a tenth for each sequence. */
export const plainSteps: StepTimes = {
  kvCacheTokens: 16_000,
  stepMs: ({ prefillTokens, decodeSequences }) => 10 + prefillTokens / 10 + decodeSequences / 10,
};

export type TestEngine = {
  readonly url: string;
  readonly clock: TestClock;
  readonly backend: Backend;
  readonly server: EngineServer;
  stop(): Promise<void>;
};

/** An engine on a free port, on a clock that runs unless `clock` says otherwise. */
export async function startTestEngine(
  overrides: Partial<EngineOptions> & {
    readonly clock?: TestClock;
    readonly steps?: StepTimes;
    readonly limits?: Partial<ReplicaLimits>;
  } = {},
): Promise<TestEngine> {
  const { clock = new TestClock({ runs: true }), steps = plainSteps, limits, ...options } = overrides;
  const replica = new SimulatedReplica({
    stepTimes: steps,
    limits: { maxSequences: 256, maxBatchedTokens: 8192, maxTokens: 4096, ...limits },
  });
  const backend = options.backend ?? new SimulatedBackend({ replica, clock });
  const server = new EngineServer({
    backend,
    model: { modelName: 'test-model', maxModelTokens: 4096 },
    kvCacheTokens: steps.kvCacheTokens,
    simulates: 'gpu=test; model=test-model',
    version: '1.2.3',
    speed: 1,
    seed: 1,
    eosRate: 0.004,
    apiKey: null,
    faults: noFaults,
    maxRequests: 1000,
    ...options,
  });
  const url = await server.listen({ host: '127.0.0.1', port: 0 });
  return { url, clock, backend, server, stop: () => server.stop() };
}

/** POSTs JSON. */
export function post(url: string, body: unknown, init: RequestInit = {}): Promise<Response> {
  return fetch(url, {
    method: 'POST',
    body: typeof body === 'string' ? body : JSON.stringify(body),
    ...init,
    headers: { 'content-type': 'application/json', ...init.headers },
  });
}

/** What a strict client makes of an event stream: the data of its events, and whether the stream ended as it should. */
export type ReadStream = {
  readonly data: readonly string[];
  /** Those that are JSON. */
  readonly events: readonly StreamEvent[];
  readonly done: boolean;
  /** What the connection died of; null where it ended well. */
  readonly error: string | null;
};

export type StreamEvent = {
  readonly id: string;
  readonly object: string;
  readonly model: string;
  readonly choices: readonly {
    readonly text?: string;
    readonly delta?: { readonly role?: string; readonly content?: string };
    readonly finish_reason: string | null;
    readonly stop_reason?: string | null;
  }[];
  readonly usage?: Usage;
  readonly error?: { readonly message: string; readonly code: number };
};

export type Usage = {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
};

/** Reads a stream to its end, however it ends; `onEvent` may stop it by aborting. */
export async function readStream(
  response: Response,
  onEvent: (event: EventSourceMessage, index: number) => void = () => {},
): Promise<ReadStream> {
  const data: string[] = [];
  const parser = createParser({
    onEvent: (event) => {
      data.push(event.data);
      onEvent(event, data.length - 1);
    },
  });
  let error: string | null = null;
  try {
    const decoder = new TextDecoder();
    for await (const chunk of response.body!) parser.feed(decoder.decode(chunk as Uint8Array, { stream: true }));
  } catch (caught) {
    error = caught instanceof Error ? caught.message : String(caught);
  }
  const events = data.flatMap((one) => {
    try {
      return one === '[DONE]' ? [] : [JSON.parse(one) as StreamEvent];
    } catch {
      return [];
    }
  });
  return { data, events, done: data.at(-1) === '[DONE]', error };
}

/** The text of a stream's events. */
export function textOf({ events }: ReadStream): string {
  return events.map(({ choices }) => choices?.[0]?.text ?? choices?.[0]?.delta?.content ?? '').join('');
}

/** Waits, turn by turn of the event loop, until something is so. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`never so: ${condition}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** A Prometheus text as its samples: `name{a="b"}` → value. */
export function samplesOf(text: string): ReadonlyMap<string, number> {
  const samples = new Map<string, number>();
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    const sample = /^([a-zA-Z_:][a-zA-Z0-9_:]*(?:\{[^}]*\})?) (\S+)$/.exec(line);
    if (sample === null || Number.isNaN(Number(sample[2]))) throw new Error(`no sample: ${line}`);
    if (samples.has(sample[1]!)) throw new Error(`twice: ${sample[1]}`);
    samples.set(sample[1]!, Number(sample[2]));
  }
  return samples;
}

import { isUtf8 } from 'node:buffer';
import type { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import calculateSlot from 'cluster-key-slot';
import { type ChainableCommander, Cluster, Redis, type RedisOptions } from 'ioredis';
import { InputError, quoteInput } from '../core/input-error.js';
import {
  type Clock,
  type ProfileKey,
  type Reading,
  type SharedStore,
  type StoreIdentity,
  type TraceKey,
  Unavailable,
} from '../core/ports.js';
import {
  hasSentinel,
  type SentinelSettings,
  SentinelWatch,
  sentinelOptions,
  sentinelSentence,
  tlsOptions,
} from './redis-sentinel.js';
import { describeRedis, type RedisSettings, redisPasswords } from './redis-settings.js';
import {
  defaultStatePrefix,
  largestStateBytes,
  largestValueBytes,
  listKeyName,
  profileKeyName,
  stateKeyName,
  tooLong,
  traceKeyName,
  traceTtlSeconds,
} from './store-keys.js';

/** Knobs of the connection; the defaults suit a cycle of ten seconds. */
export type RedisStoreOptions = {
  /** An answer that takes longer counts as no answer [ms]. */
  readonly commandTimeoutMs?: number;
  /** Longest wait for a connection, also for one that is being re-established [ms]. */
  readonly connectTimeoutMs?: number;
  /** Commands of one pipeline: large enough to fill a packet, small enough that no reply becomes much memory. */
  readonly chunkSize?: number;
  /** First part of the names of gpumix's own keys. */
  readonly statePrefix?: string;
  /** Told once whenever the connection is gained or lost, with a sentence for the log. */
  readonly onConnection?: (state: { readonly connected: boolean; readonly message: string }) => void;
};

/** First wait before reconnecting [ms]. */
const firstReconnectMs = 100;
/** Longest wait before reconnecting [ms]: well under a cycle, so that a returning server costs no more than one. */
const longestReconnectMs = 3000;

/**
 * The wait before reconnecting: doubling, and between half and the whole of it by chance, so that the clients of a
 * returning server do not come back all at once.
 *
 * @param attempt 1 for the first
 * @param random in [0, 1)
 */
export function reconnectDelayMs(attempt: number, random: number): number {
  const whole = Math.min(longestReconnectMs, firstReconnectMs * 2 ** Math.min(attempt - 1, 10));
  return Math.round(whole * (0.5 + random / 2));
}

/**
 * Bytes of a value that the first read asks for. Nearly every record fits; what does not is read again, a few at a
 * time, so that a chunk of hostile values is never more than a chunk of these.
 */
const firstReadBytes = 65_536;
/** Values over `firstReadBytes` that are read at once: at most 8 MiB. */
const longReadChunk = 8;

/** Time for a cluster to redirect, beyond the time for a command [ms]. */
const redirectionMs = 500;

/** One command of a pipeline, with the key that decides its node on a cluster. */
type Step = { readonly key: string; readonly add: (pipeline: ChainableCommander) => unknown };
type Outcome = { readonly error: Error } | { readonly value: unknown };

/** Opens the shared store on a Redis server, a cluster, or the master that Sentinels name. Connects at the first use, and again whenever it must. */
export function createRedisStore(settings: RedisSettings, clock: Clock, options: RedisStoreOptions = {}): SharedStore {
  return new RedisStore(settings, clock, options);
}

class RedisStore implements SharedStore {
  readonly #client: Redis | Cluster;
  readonly #clock: Clock;
  readonly #settings: RedisSettings;
  readonly #name: string;
  readonly #commandTimeoutMs: number;
  readonly #connectTimeoutMs: number;
  readonly #chunkSize: number;
  readonly #statePrefix: string;
  readonly #onConnection: RedisStoreOptions['onConnection'];
  #connected: boolean | null = null;
  #closed = false;
  #lastProblem: string;
  /** Set where the server refused to select the database: the connection then works, on the wrong database. */
  #wrongDatabase: string | null = null;
  #identity: StoreIdentity | null = null;
  /** Opened with the first attempt to connect. */
  #watch: SentinelWatch | null = null;
  /** Shared by everybody who waits for a connection. */
  #connecting: Promise<void> | null = null;

  constructor(settings: RedisSettings, clock: Clock, options: RedisStoreOptions) {
    this.#clock = clock;
    this.#name = describeRedis(settings);
    this.#settings = settings;
    // A server without TLS says nothing to a client with it: there is no error that would tell.
    this.#lastProblem =
      settings.tls === null ? 'no connection yet' : 'no connection with TLS yet (redis:// is without)';
    this.#commandTimeoutMs = options.commandTimeoutMs ?? 3000;
    this.#connectTimeoutMs = options.connectTimeoutMs ?? 5000;
    this.#chunkSize = options.chunkSize ?? 500;
    this.#statePrefix = options.statePrefix ?? defaultStatePrefix;
    this.#onConnection = options.onConnection;
    this.#client = this.#createClient(settings);
    this.#listen(this.#client as EventEmitter);
  }

  #createClient(settings: RedisSettings): Redis | Cluster {
    const common = {
      ...(settings.username === null ? {} : { username: settings.username }),
      ...(settings.password === null ? {} : { password: settings.password }),
      ...tlsOptions(settings),
      connectionName: 'gpumix',
      // RESP2 and no client info: also old servers and proxies understand all of it.
      protocol: 2,
      disableClientInfo: true,
      connectTimeout: this.#connectTimeoutMs,
      commandTimeout: this.#commandTimeoutMs,
      // A frozen server keeps its connections open: one without any answer is dropped, and made anew.
      socketTimeout: this.#commandTimeoutMs,
      disconnectTimeout: 500,
      // Nothing is queued or sent twice behind the caller's back: a cycle that fails is a cycle that holds its plan.
      maxRetriesPerRequest: 0,
      autoResendUnfulfilledCommands: false,
      autoResubscribe: false,
      maxLoadingRetryTime: longestReconnectMs,
    } satisfies RedisOptions;
    const retryStrategy = (attempt: number): number => reconnectDelayMs(attempt, Math.random());
    if (!settings.cluster) {
      const { host, port } = settings.nodes[0]!;
      return new Redis({
        ...common,
        ...(hasSentinel(settings) ? this.#throughSentinels(settings) : { host, port }),
        db: settings.database,
        lazyConnect: true,
        enableOfflineQueue: false,
        retryStrategy,
      });
    }
    return new Cluster([...settings.nodes], {
      lazyConnect: true,
      enableOfflineQueue: false,
      clusterRetryStrategy: retryStrategy,
      slotsRefreshTimeout: this.#commandTimeoutMs,
      redisOptions: common,
      // The certificate of a node names its host, not its address.
      ...(settings.tls === null ? {} : { dnsLookup: (address, callback) => callback(null, address) }),
    });
  }

  #throughSentinels(settings: SentinelSettings): RedisOptions {
    return {
      ...sentinelOptions(settings, { timeoutMs: this.#commandTimeoutMs }),
      // The master of before, which became a replica without ending its connections.
      reconnectOnError: (error) => {
        const isReplica = error.message.startsWith('READONLY');
        if (isReplica) this.#lastProblem = 'this server is a replica now (READONLY)';
        return isReplica;
      },
    };
  }

  #listen(events: EventEmitter): void {
    const note = (error: Error & { command?: { name?: string } }): void => {
      this.#lastProblem = this.#describe(error);
      if (error.command?.name === 'select') this.#wrongDatabase = this.#lastProblem;
    };
    events.on('error', note);
    events.on('node error', note);
    events.on('connect', () => {
      this.#wrongDatabase = null;
    });
    events.on('ready', () => {
      this.#report(true, `connected to Redis at ${this.#name}`);
    });
    // Where no Sentinel names a master there is nothing to close.
    for (const lost of ['close', 'end']) {
      events.on(lost, () => {
        if (!this.#closed) this.#report(false, `lost Redis at ${this.#name}: ${this.#lastProblem}`);
      });
    }
  }

  #report(connected: boolean, message: string): void {
    if (this.#connected === connected) return;
    this.#connected = connected;
    this.#onConnection?.({ connected, message });
  }

  #watchSentinels(): void {
    if (this.#watch !== null || !hasSentinel(this.#settings)) return;
    this.#watch = new SentinelWatch(this.#settings, {
      timeoutMs: this.#connectTimeoutMs,
      onSwitch: (master) => {
        // Every Sentinel says it once, some when we are there already.
        const stream = (this.#client as Redis).stream as Socket | undefined;
        if (stream?.remoteAddress === master.host && stream.remotePort === master.port) return;
        this.#lastProblem = 'another server is the master now';
        this.#client.disconnect(true);
      },
    });
  }

  async identity(): Promise<StoreIdentity> {
    await this.#ready();
    const askedMs = this.#clock.now();
    const nodes = this.#client instanceof Cluster ? this.#client.nodes('master') : [this.#client];
    const texts = await this.#within(Promise.all(nodes.map((node) => node.info('server'))));
    const servers = texts.map((text) => this.#parseServerInfo(text));
    const runId = servers
      .map((server) => server.runId)
      .sort()
      .join('+');
    // Computed once per run: uptime has whole seconds, and a start that wanders would look like news.
    if (this.#identity?.runId !== runId) {
      // A replica that was promoted has run for long, but nobody could write between the end of the master and now:
      // what is absent from that time is not known to be quiet.
      const startedAtMs =
        this.#identity === null ? Math.max(...servers.map((server) => server.startedAtMs)) : this.#clock.now();
      this.#identity = { runId, startedAtMs };
    }
    return { ...this.#identity, aheadMs: furthestAhead(texts, [askedMs, this.#clock.now()]) };
  }

  #parseServerInfo(text: string): StoreIdentity {
    // It answers like a server, and holds nothing.
    if (/^redis_mode:sentinel/m.test(text)) {
      throw this.#unavailable('this is a Sentinel, which holds no data: its URL needs ?sentinel=NAME (of the master)');
    }
    const runId = /^run_id:(\S+)/m.exec(text)?.[1];
    const uptime = /^uptime_in_seconds:(\d+)/m.exec(text)?.[1];
    if (runId === undefined || uptime === undefined) {
      throw this.#unavailable('INFO server names no run_id or uptime_in_seconds');
    }
    // The server rounds its start and its present to whole seconds, so the uptime may be up to one second too long.
    // A start that is said too early would make time before it look quiet; too late by a second harms nobody.
    return { runId, startedAtMs: this.#clock.now() - Math.max(0, Number(uptime) - 1) * 1000 };
  }

  async readTraces(keys: readonly TraceKey[]): Promise<readonly Reading[]> {
    return this.#readBounded(keys.map(traceKeyName), largestValueBytes);
  }

  async writeTraces(records: readonly (TraceKey & { readonly text: string })[]): Promise<void> {
    await this.#write(
      records.map((record) => {
        const key = traceKeyName(record);
        return { key, add: (pipeline) => pipeline.set(key, record.text, 'EX', traceTtlSeconds) };
      }),
    );
  }

  async readProfiles(keys: readonly ProfileKey[]): Promise<readonly Reading[]> {
    return this.#readBounded(keys.map(profileKeyName), largestValueBytes);
  }

  async writeProfile(profileKey: ProfileKey, text: string): Promise<void> {
    const key = profileKeyName(profileKey);
    await this.#write([{ key, add: (pipeline) => pipeline.set(key, text) }]);
  }

  async readState(name: string): Promise<string | null> {
    const key = stateKeyName(name, this.#statePrefix);
    const [[probe], [reading]] = await Promise.all([
      this.#run([rangeOf(key, 0)]),
      this.#readBounded([key], largestStateBytes),
    ]);
    if (isWrongType(probe!)) throw unusable(key, wrongType, 'text');
    if ('error' in probe!) throw this.#refused(key, probe.error);
    if (reading!.kind === 'failed') {
      throw unusable(key, `a value of more than ${largestStateBytes} bytes, or one that is not UTF-8`, 'text');
    }
    return reading!.kind === 'present' ? reading!.text : null;
  }

  async writeState(name: string, text: string): Promise<void> {
    if (Buffer.byteLength(text) > largestStateBytes)
      throw new RangeError(`state ${name}: ${tooLong(largestStateBytes)}`);
    const key = stateKeyName(name, this.#statePrefix);
    await this.#write([{ key, add: (pipeline) => pipeline.set(key, text) }]);
  }

  async appendToList(name: string, entries: readonly string[], keep: number): Promise<void> {
    const key = listKeyName(name, this.#statePrefix);
    if (keep <= 0) return this.#write([{ key, add: (pipeline) => pipeline.del(key) }]);
    const newest = entries.slice(-keep);
    const steps: Step[] = [];
    for (let start = 0; start < newest.length; start += this.#chunkSize) {
      const chunk = newest.slice(start, start + this.#chunkSize);
      steps.push({ key, add: (pipeline) => pipeline.rpush(key, ...chunk) });
    }
    steps.push({ key, add: (pipeline) => pipeline.ltrim(key, -keep, -1) });
    const outcomes = await this.#run(steps);
    if (!outcomes.some(isWrongType)) return this.#check(steps, outcomes);
    // Something else lies in our place; a document in its place would be overwritten too.
    await this.#write([{ key, add: (pipeline) => pipeline.del(key) }, ...steps]);
  }

  async readList(name: string, count: number): Promise<readonly string[]> {
    if (count <= 0) return [];
    const key = listKeyName(name, this.#statePrefix);
    const [outcome] = await this.#run([{ key, add: (pipeline) => pipeline.lrange(key, -count, -1) }]);
    if (isWrongType(outcome!)) throw unusable(key, wrongType, 'a list');
    if ('error' in outcome!) throw this.#refused(key, outcome.error);
    return outcome!.value as string[];
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch?.close();
    const events = this.#client as EventEmitter;
    const { status } = this.#client;
    const ended =
      status === 'ready' || status === 'connect' || status === 'connecting'
        ? new Promise<void>((resolve) => {
            const timer = setTimeout(resolve, 1000);
            events.once('end', () => {
              clearTimeout(timer);
              resolve();
            });
          })
        : Promise.resolve();
    this.#client.disconnect();
    await ended;
  }

  /**
   * Reads whole values of at most `limitBytes`, in the order of the keys.
   *
   * GETRANGE bounds the answer, but says '' for an absent key too: the empty ones are asked for with EXISTS, since a
   * key that is there and empty is a bad record, not a quiet interval.
   */
  async #readBounded(keys: readonly string[], limitBytes: number): Promise<readonly Reading[]> {
    const readings: Reading[] = new Array(keys.length);
    const first = await this.#run(keys.map((key) => rangeOf(key, firstReadBytes)));
    const empty: number[] = [];
    const again: number[] = [];
    first.forEach((outcome, i) => {
      const bytes = 'value' in outcome ? (outcome.value as Buffer).length : -1;
      if (bytes === 0) empty.push(i);
      else if (bytes > firstReadBytes) again.push(i);
      else readings[i] = this.#toReading(keys[i]!, outcome, firstReadBytes);
    });

    const exist = await this.#run(empty.map((i) => ({ key: keys[i]!, add: (pipeline) => pipeline.exists(keys[i]!) })));
    exist.forEach((outcome, i) => {
      const at = empty[i]!;
      if ('error' in outcome) readings[at] = this.#toReading(keys[at]!, outcome, limitBytes);
      else if (outcome.value === 0) readings[at] = { kind: 'absent' };
      else again.push(at); // empty, or written between the two questions
    });

    const second = await this.#run(
      again.map((i) => rangeOf(keys[i]!, limitBytes)),
      longReadChunk,
    );
    second.forEach((outcome, i) => {
      const at = again[i]!;
      readings[at] = this.#toReading(keys[at]!, outcome, limitBytes);
    });
    return readings;
  }

  #toReading(key: string, outcome: Outcome, limitBytes: number): Reading {
    if ('error' in outcome) return { kind: 'failed', message: this.#refused(key, outcome.error).message };
    const bytes = outcome.value as Buffer;
    const problem =
      bytes.length > limitBytes
        ? tooLong(limitBytes)
        : isUtf8(bytes)
          ? null
          : 'found bytes that are not UTF-8, expected text';
    if (problem !== null) return { kind: 'failed', message: `Redis key ${quoteInput(key)}: ${problem}` };
    return { kind: 'present', text: bytes.toString('utf8') };
  }

  /** What one key's own error means to a person. */
  #refused(key: string, error: Error): Unavailable {
    const sentence = error.message.startsWith('WRONGTYPE') ? `found ${wrongType}` : this.#describe(error);
    return new Unavailable('redis_unreachable', `Redis key ${quoteInput(key)}: ${sentence}`);
  }

  async #write(steps: readonly Step[]): Promise<void> {
    this.#check(steps, await this.#run(steps));
  }

  #check(steps: readonly Step[], outcomes: readonly Outcome[]): void {
    outcomes.forEach((outcome, i) => {
      if ('error' in outcome) throw this.#refused(steps[i]!.key, outcome.error);
    });
  }

  /**
   * Runs commands in pipelines of one chunk after the other, and answers in their order. An error that concerns one
   * key alone is its outcome; any other rejects with `Unavailable`.
   */
  async #run(steps: readonly Step[], chunkSize = this.#chunkSize): Promise<readonly Outcome[]> {
    const outcomes: Outcome[] = new Array(steps.length);
    if (steps.length === 0) return outcomes;
    await this.#ready();
    for (const group of this.#groupByNode(steps)) {
      for (let start = 0; start < group.length; start += chunkSize) {
        await this.#runChunk(steps, group.slice(start, start + chunkSize), outcomes);
      }
    }
    return outcomes;
  }

  /** Indexes of the steps that one pipeline may hold: on a cluster, those whose slots live on the same node. */
  #groupByNode(steps: readonly Step[]): readonly (readonly number[])[] {
    if (!(this.#client instanceof Cluster)) return [steps.map((_, i) => i)];
    const { slots } = this.#client;
    const groups = new Map<string, number[]>();
    steps.forEach((step, i) => {
      const owners = (slots[calculateSlot(step.key)] ?? []).join(';');
      const group = groups.get(owners);
      if (group === undefined) groups.set(owners, [i]);
      else group.push(i);
    });
    return [...groups.values()];
  }

  async #runChunk(steps: readonly Step[], chunk: readonly number[], outcomes: Outcome[]): Promise<void> {
    const moved: number[] = [];
    const replies = await this.#pipeline(chunk.map((i) => steps[i]!)).catch((error: Error) => {
      // Slots moved between nodes after they were grouped: each command then finds its own way.
      if (error.message.startsWith('All keys in the pipeline')) return null;
      throw error;
    });
    chunk.forEach((i, at) => {
      const reply = replies === null ? undefined : replies[at]!;
      if (reply === undefined || (reply[0] !== null && isRedirection(reply[0]))) moved.push(i);
      else outcomes[i] = this.#toOutcome(reply);
    });
    if (moved.length === 0) return;
    await Promise.all(
      moved.map(async (i) => {
        const [reply] = await this.#pipeline([steps[i]!]);
        outcomes[i] = this.#toOutcome(reply!);
      }),
    );
  }

  async #pipeline(steps: readonly Step[]): Promise<readonly [Error | null, unknown][]> {
    const pipeline = this.#client.pipeline();
    for (const step of steps) step.add(pipeline);
    return (await this.#within(pipeline.exec())) ?? [];
  }

  #toOutcome([error, value]: [Error | null, unknown]): Outcome {
    if (error === null) return { value };
    if (error.name === 'ReplyError' && /^(WRONGTYPE|NOPERM)\b/.test(error.message)) return { error };
    throw this.#unavailable(error);
  }

  /** Bounds a wait that ioredis leaves open (a cluster redirecting), and turns every failure into `Unavailable`. */
  async #within<T>(work: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<never>((_, reject) => {
      const ms = this.#commandTimeoutMs + redirectionMs;
      timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms);
    });
    try {
      return await Promise.race([work, deadline]);
    } catch (error) {
      if (error instanceof Error && error.message.startsWith('All keys in the pipeline')) throw error;
      throw this.#unavailable(error);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Resolves when commands can be sent; rejects when the next attempt to connect has failed, or none was in time. */
  async #ready(): Promise<void> {
    const client = this.#client;
    if (this.#closed) throw this.#unavailable(closedByUs);
    this.#watchSentinels();
    await this.#watch?.begun;
    if (this.#closed) throw this.#unavailable(closedByUs);
    if (client.status === 'wait' || client.status === 'end') client.connect().catch(() => {});
    if (client.status !== 'ready') {
      this.#connecting ??= this.#connectionAttempt().finally(() => {
        this.#connecting = null;
      });
      await this.#connecting;
    }
    // Read again: the status changes while we wait, which the compiler cannot see.
    if ((client.status as string) !== 'ready') throw this.#unavailable(this.#lastProblem);
    if (this.#wrongDatabase !== null) throw this.#unavailable(this.#wrongDatabase);
  }

  /** Resolves when an attempt has ended, whatever its end. */
  async #connectionAttempt(): Promise<void> {
    const events = this.#client as EventEmitter;
    let settle = (): void => {};
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      settle = resolve;
      timer = setTimeout(resolve, this.#connectTimeoutMs);
      for (const name of attemptEnds) events.once(name, settle);
    });
    clearTimeout(timer);
    for (const name of attemptEnds) events.off(name, settle);
  }

  #unavailable(problem: unknown): Unavailable {
    if (problem instanceof Unavailable) return problem;
    const sentence = problem instanceof Error ? this.#describe(problem) : String(problem);
    // Without `cause`: errors of ioredis carry the arguments of their command, which may be the password.
    return new Unavailable('redis_unreachable', `Redis at ${this.#name}: ${sentence}`);
  }

  /** An error as a sentence, without the password. */
  #describe(error: Error & { code?: string; errors?: readonly Error[]; lastNodeError?: Error | null }): string {
    const inner = error.lastNodeError ?? error.errors?.[0];
    const own = error.message === '' ? (error.code ?? error.name) : error.message;
    const text = inner === undefined ? own : error.message === '' ? inner.message : `${own} (${inner.message})`;
    const isLost = text.startsWith("Stream isn't writeable");
    const timedOut = text === 'Command timed out';
    const { sentinel } = this.#settings;
    const readable = timedOut
      ? `no answer within ${this.#commandTimeoutMs} ms`
      : isLost
        ? 'the connection was closed before there was an answer'
        : sentinelSentence(text, sentinel, this.#watch?.problem ?? null);
    return redisPasswords(this.#settings).reduce((said, password) => said.replaceAll(password, '***'), readable);
  }
}

const closedByUs = 'the connection was closed by gpumix';
const attemptEnds = ['ready', 'close', 'end'] as const;

function rangeOf(key: string, limitBytes: number): Step {
  // The end is inclusive: one byte more than the limit, which tells a value of the limit from a longer one.
  return { key, add: (pipeline) => pipeline.getrangeBuffer(key, 0, limitBytes) };
}

const wrongType = 'a value of another type than expected (WRONGTYPE)';

function isWrongType(outcome: Outcome): boolean {
  return 'error' in outcome && outcome.error.message.startsWith('WRONGTYPE');
}

/** A value of our own that no try of ours will make readable: it is reported and replaced, as one that does not parse. */
function unusable(key: string, found: string, expected: string): InputError {
  return new InputError(`Redis key ${quoteInput(key)}`, [{ place: '', found, expected }]);
}

function isRedirection(error: Error): boolean {
  return /^(MOVED|ASK|TRYAGAIN|CLUSTERDOWN)\b/.test(error.message);
}

/**
 * How far the clock that differs most was ahead of ours, where `INFO server` says the time (newer servers) [ms].
 *
 * @param within when it was asked, and when it had answered, by our clock [ms]
 */
function furthestAhead(texts: readonly string[], [askedMs, answeredMs]: readonly [number, number]): number | null {
  let furthest: number | null = null;
  for (const text of texts) {
    const told = /^server_time_usec:(\d+)/m.exec(text)?.[1];
    if (told === undefined) continue;
    const shownMs = Math.floor(Number(told) / 1000);
    // Anything that it may have said on the way is no difference.
    const aheadMs = shownMs < askedMs ? shownMs - askedMs : Math.max(0, shownMs - answeredMs);
    if (furthest === null || Math.abs(aheadMs) > Math.abs(furthest)) furthest = aheadMs;
  }
  return furthest;
}

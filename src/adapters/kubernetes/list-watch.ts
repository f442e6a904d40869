import type { Readable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import { setTimeout as delay } from 'node:timers/promises';
import type { Clock } from '../../core/ports.js';
import { type ApiClient, ApiError, messageOf } from './api-client.js';
import { items, record, textOf } from './wire.js';

/**
 * A local copy of some Kubernetes objects that follows the API server for as long as it runs.
 *
 * One loop: list all pages → watch from the list's resource version → on the watch's end, watch again from the last
 * version seen; on "too old" (410), list again. It never ends by itself, and the copy is never emptied by a failure.
 *
 * Why not client-node's informer or Watch (read in 1.4.0; threads of kubernetes-client/javascript): the informer stops
 * for good on any error but 410 and leaves restarting to its caller (#1496), restarts at once and without limit when
 * the server closes (#1933), keeps everything in one unpaged list and asks for no bookmarks, so that a quiet watch
 * expires. Watch skips lines that it cannot parse, which loses an event, and has no limit on silence: a half-open
 * connection hangs for ever (#596, #2432; its 30 s signal is overwritten a line later, and in 2.0 cuts healthy watches
 * instead, #3020).
 */

/** Times and sizes; the defaults suit real clusters, tests shorten them. */
export type ListWatchTiming = {
  /** Objects per page of a list. client-go's page size. */
  readonly pageSize: number;
  /** For one whole page. [ms] */
  readonly pageTimeoutMs: number;
  /** For credentials, connection and status line of any request. [ms] */
  readonly answerTimeoutMs: number;
  /** The server is asked to end a watch after a random time in this range, so that many clients do not return at once. [s] */
  readonly watchSeconds: readonly [number, number];
  /**
   * A watch that is silent for longer is taken for half-open and renewed. API servers send a bookmark about once a
   * minute; where one does not, the price is a cheap request now and then. [ms]
   */
  readonly silenceMs: number;
  /** A watch that lived this long was a good one: what follows it starts without delay. [ms] */
  readonly steadyMs: number;
  /** First wait after a failure; doubles, with jitter, up to `longestBackoffMs`. [ms] */
  readonly backoffMs: number;
  readonly longestBackoffMs: number;
  /** Wait after an optional resource was found absent, or forbidden; with jitter. [ms] */
  readonly absentMs: number;
};

export const defaultListWatchTiming: ListWatchTiming = {
  pageSize: 500,
  pageTimeoutMs: 60_000,
  answerTimeoutMs: 30_000,
  watchSeconds: [240, 480],
  silenceMs: 150_000,
  steadyMs: 5_000,
  backoffMs: 500,
  longestBackoffMs: 30_000,
  // Installing a custom resource and granting a right are a person's deeds: five minutes until they are taken up cost a
  // dozen requests an hour.
  absentMs: 300_000,
};

/** Pages of 500 objects have a few MB; etcd keeps no object above 1.5 MiB. */
const largestPage = 512 * 1024 * 1024;
const longestEventLine = 16 * 1024 * 1024;
/** A server may ask for a longer wait than ours, but not for an endless one. [s] */
const longestRetryAfterSeconds = 120;

export type ListWatchOptions<Item> = {
  readonly api: ApiClient;
  /** E.g. `/apis/apps/v1/deployments`. */
  readonly path: string;
  /** Kind of the list, e.g. `DeploymentList`: what any other document is told apart by. */
  readonly listKind: string;
  /** Empty = all. */
  readonly labelSelector: string;
  /** Empty or absent = all. */
  readonly fieldSelector?: string;
  /** What a role must allow to list and watch, for messages: `deployments.apps`. */
  readonly permission: string;
  /**
   * A cluster may do without it: where the API is not there (404) or not allowed (403), it is asked for again only seldom.
   * The former is no problem at all.
   */
  readonly optional?: boolean;
  /** Makes an item of an object; null = not one of ours. Must not throw. */
  readonly read: (object: unknown) => Item | null;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
  readonly timing: ListWatchTiming;
  /** Called after every change of `items`, `synced` or `problem`. */
  readonly onChange: () => void;
  readonly log: (level: 'info' | 'warn', message: string) => void;
};

/** Why a watch that had begun came to its end. */
type WatchEnd = {
  readonly kind: 'closed' | 'reset' | 'silent' | 'expired' | 'unreadable';
  readonly detail: string;
};

export class ListWatch<Item> {
  readonly #options: ListWatchOptions<Item>;
  readonly #stopping = new AbortController();
  #running: Promise<void> | null = null;
  #items = new Map<string, Item>();
  #resourceVersion: string | null = null;
  #synced = false;
  #problem: string | null = null;
  /** Answers of 404 in a row. */
  #absences = 0;
  #freshAt: number;

  constructor(options: ListWatchOptions<Item>) {
    this.#options = options;
    this.#freshAt = options.clock.now();
  }

  /** By `namespace/name`. */
  get items(): ReadonlyMap<string, Item> {
    return this.#items;
  }

  /** True once a first list was complete. */
  get synced(): boolean {
    return this.#synced;
  }

  /** Why the API server cannot be followed now; null = it is being followed. */
  get problem(): string | null {
    return this.#problem;
  }

  /** Whether the cluster does not have this resource now. */
  get absent(): boolean {
    return this.#absences > 0;
  }

  /** When the copy was last known to be the server's (or the start, before the first list). Unix [ms] */
  get freshAt(): number {
    return this.#freshAt;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Ends the open request and the loop; resolves when nothing is left running. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { timing } = this.#options;
    let failures = 0;
    let hastyEnds = 0;
    while (!this.#stopping.signal.aborted) {
      let waitMs: number;
      try {
        if (this.#resourceVersion === null) await this.#list();
        const { end, livedMs } = await this.#watch();
        failures = 0;
        if (end.kind === 'expired' || end.kind === 'unreadable') this.#resourceVersion = null;
        if (this.#stopping.signal.aborted) return;
        if (end.kind !== 'closed') this.#options.log('info', `watch ended (${end.kind}: ${end.detail}), renewing it`);
        // A watch ends sooner or later; that is no sign of trouble, and the next one starts at once. Only watches that
        // keep ending right after they began are renewed more and more slowly.
        hastyEnds = livedMs >= timing.steadyMs ? 0 : hastyEnds + 1;
        waitMs = hastyEnds <= 1 ? 0 : this.#backoff(hastyEnds - 2);
      } catch (error) {
        if (this.#stopping.signal.aborted) return;
        if (this.#mayBeWithout(error)) {
          waitMs = await this.#withoutIt(error);
          failures = 0;
          await this.#rest(waitMs);
          continue;
        }
        waitMs = this.#backoff(failures);
        if (error instanceof ApiError) {
          waitMs = Math.max(waitMs, 1000 * Math.min(error.retryAfterSeconds ?? 0, longestRetryAfterSeconds));
        }
        if (error instanceof ApiError && error.status === 410) {
          // Too old a version is everyday life, unless it comes again after a new list.
          this.#resourceVersion = null;
          if (failures === 0) waitMs = 0;
          else await this.#report(error);
        } else await this.#report(error);
        failures += 1;
      }
      if (waitMs > 0) await this.#rest(waitMs);
    }
  }

  async #rest(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: this.#stopping.signal }).catch(() => {});
  }

  #mayBeWithout(error: unknown): error is ApiError {
    const { optional = false } = this.#options;
    return optional && error instanceof ApiError && (error.status === 404 || error.status === 403);
  }

  /** @returns how long to wait before it is asked for again [ms] */
  async #withoutIt(error: ApiError): Promise<number> {
    const { api, path, timing, random, log, onChange } = this.#options;
    this.#resourceVersion = null;
    if (error.status === 403) {
      // A right that was taken away is a fault: what was known stays.
      this.#absences = 0;
      await this.#report(error);
    } else {
      this.#absences += 1;
      if (this.#absences === 1)
        log('info', `${api.server}${path} is not served by this cluster; looked for again later`);
      // A single 404 can come from a proxy; objects of a resource that stays away are gone with it.
      if (this.#absences > 1) this.#items = new Map();
      this.#problem = null;
      onChange();
    }
    return timing.absentMs * (0.5 + 0.5 * random());
  }

  /** Half of the wait is chance: clients that failed together must not come back together. */
  #backoff(step: number): number {
    const { backoffMs, longestBackoffMs } = this.#options.timing;
    const full = Math.min(longestBackoffMs, backoffMs * 2 ** Math.min(step, 30));
    return full * (0.5 + 0.5 * this.#options.random());
  }

  async #report(error: unknown): Promise<void> {
    const { api, path, permission } = this.#options;
    const status = error instanceof ApiError ? error.status : null;
    const hint =
      status === 403 ? ` (needs list and watch on ${permission})` : status === 401 ? ' (credentials refused)' : '';
    let text = `GET ${api.server}${path}: ${messageOf(error)}${hint}`;
    if (status === 401) {
      // Caches of exec and file credentials do not know that a token was revoked: read them anew.
      await api.renew().catch((renewing) => {
        text += `; reading the credentials again: ${messageOf(renewing)}`;
      });
    }
    if (this.#problem === text) return;
    this.#problem = text;
    this.#options.log('warn', text);
    this.#options.onChange();
  }

  #fresh(): void {
    this.#freshAt = this.#options.clock.now();
  }

  /** Replaces the copy by a complete list, or throws and leaves it as it was. */
  async #list(): Promise<void> {
    const { read } = this.#options;
    const listed = new Map<string, Item>();
    let limit = this.#options.timing.pageSize;
    let next: string | null = null;
    let resourceVersion: string | null = null;
    do {
      let page: ListPage;
      try {
        page = await this.#page(next, limit);
      } catch (error) {
        if (!(error instanceof ApiError && error.status === 410 && next !== null)) throw error;
        // The list took longer than the server keeps its continuation: once more in a single page, which cannot expire.
        listed.clear();
        limit = 0;
        next = null;
        resourceVersion = null;
        page = await this.#page(next, limit);
      }
      for (const object of page.items) {
        const key = keyOf(object);
        const item = key === null ? null : read(object);
        if (key !== null && item !== null) listed.set(key, item);
      }
      // All pages are one state, that of the first page's version.
      resourceVersion ??= page.resourceVersion;
      next = page.next;
    } while (next !== null);
    // No `resourceVersion` was asked for, so this is the newest state, never one from before what we have.
    this.#items = listed;
    this.#resourceVersion = resourceVersion;
    this.#synced = true;
    this.#absences = 0;
    this.#fresh();
    this.#options.onChange();
  }

  async #page(next: string | null, limit: number): Promise<ListPage> {
    const { api, path, listKind, timing } = this.#options;
    const deadline = AbortSignal.timeout(timing.pageTimeoutMs);
    try {
      const body = await api.get({
        path,
        query: {
          ...this.#selectors(),
          ...(limit > 0 ? { limit: String(limit) } : {}),
          ...(next === null ? {} : { continue: next }),
        },
        answerTimeoutMs: timing.answerTimeoutMs,
        signal: AbortSignal.any([this.#stopping.signal, deadline]),
      });
      return parsePage(await readPage(body), listKind);
    } catch (error) {
      if (deadline.aborted) throw new Error(`no complete list within ${timing.pageTimeoutMs / 1000} s`);
      throw error;
    }
  }

  #selectors(): Readonly<Record<string, string>> {
    const { labelSelector, fieldSelector = '' } = this.#options;
    return {
      ...(labelSelector === '' ? {} : { labelSelector }),
      ...(fieldSelector === '' ? {} : { fieldSelector }),
    };
  }

  /** Follows changes until the watch ends; throws where it could not begin, or the server reports an error in it. */
  async #watch(): Promise<{ readonly end: WatchEnd; readonly livedMs: number }> {
    const { api, path, timing, random } = this.#options;
    const [shortest, longest] = timing.watchSeconds;
    const body = await api.get({
      path,
      query: {
        ...this.#selectors(),
        watch: '1',
        allowWatchBookmarks: 'true',
        resourceVersion: this.#resourceVersion ?? '',
        timeoutSeconds: String(Math.round(shortest + (longest - shortest) * random())),
      },
      answerTimeoutMs: timing.answerTimeoutMs,
      signal: this.#stopping.signal,
    });
    const begun = performance.now();
    this.#fresh();
    if (this.#problem !== null) {
      this.#problem = null;
      this.#options.log('info', `following ${api.server}${path} again`);
      this.#options.onChange();
    }
    const end = await this.#follow(body);
    return { end, livedMs: performance.now() - begun };
  }

  #follow(body: Readable): Promise<WatchEnd> {
    const { timing, onChange } = this.#options;
    return new Promise((resolve, reject) => {
      const decoder = new StringDecoder('utf8');
      let partial = '';
      const silence = setTimeout(
        () => finish({ kind: 'silent', detail: `nothing for ${timing.silenceMs / 1000} s` }),
        timing.silenceMs,
      );
      const finish = (end: WatchEnd | Error) => {
        clearTimeout(silence);
        body.off('data', take);
        // Destroying makes late errors; they say nothing about the next watch.
        body.on('error', () => {});
        body.destroy();
        if (end instanceof Error) reject(end);
        else resolve(end);
      };
      const take = (chunk: Buffer) => {
        silence.refresh();
        this.#fresh();
        const text = decoder.write(chunk);
        const lines = text.includes('\n') ? (partial + text).split('\n') : [];
        partial = lines.pop() ?? partial + text;
        let changed = false;
        let end: WatchEnd | Error | null = null;
        for (const line of lines) {
          if (line.trim() === '') continue;
          const outcome = this.#apply(line);
          if (outcome === 'changed') changed = true;
          else if (outcome !== 'same') {
            end = outcome;
            break;
          }
        }
        if (end === null && partial.length > longestEventLine) {
          end = { kind: 'unreadable', detail: `a line of more than ${longestEventLine} characters` };
        }
        if (changed) onChange();
        if (end !== null) finish(end);
      };
      body.on('data', take);
      // An unfinished last line is dropped: its version was not taken over, so the next watch brings it again. One that is
      // no beginning of an event is the page of another program, such as a proxy's login, which a list finds out.
      body.once('end', () => {
        const isForeign = /^\s*[^\s{]/.test(partial);
        finish(
          isForeign
            ? { kind: 'unreadable', detail: 'a text that is no event' }
            : { kind: 'closed', detail: 'by the server' },
        );
      });
      body.once('error', (error) => finish({ kind: 'reset', detail: messageOf(error) }));
      body.once('close', () => finish({ kind: 'reset', detail: 'connection closed' }));
    });
  }

  /** Applies one line of a watch to the copy. */
  #apply(line: string): 'changed' | 'same' | WatchEnd | Error {
    let event: Readonly<Record<string, unknown>>;
    try {
      event = record(JSON.parse(line));
    } catch {
      // Skipping it would lose a change for good; only a new list tells what it was.
      return { kind: 'unreadable', detail: 'a line that is not JSON' };
    }
    const object = record(event.object);
    if (event.type === 'ERROR') {
      const code = typeof object.code === 'number' ? object.code : 0;
      const message = textOf(object, 'message') ?? 'an error without a message';
      if (code === 410) return { kind: 'expired', detail: message };
      return new ApiError(`in the watch: ${code} ${message}`, { status: code });
    }
    const version = textOf(record(object.metadata), 'resourceVersion');
    if (version === undefined || version === '') {
      return { kind: 'unreadable', detail: 'an event without a resource version' };
    }
    const changed = event.type === 'BOOKMARK' ? false : this.#applyObject(event.type, object);
    if (changed === null) return { kind: 'unreadable', detail: 'an event of unknown type or without a name' };
    this.#resourceVersion = version;
    return changed ? 'changed' : 'same';
  }

  /** True where an item changed; null where the event cannot be understood. */
  #applyObject(type: unknown, object: unknown): boolean | null {
    const key = keyOf(object);
    if (key === null) return null;
    if (type === 'DELETED') return this.#items.delete(key);
    if (type !== 'ADDED' && type !== 'MODIFIED') return null;
    const item = this.#options.read(object);
    if (item === null) return this.#items.delete(key);
    const before = this.#items.get(key);
    // Controllers touch objects far more often than they change what we read of them.
    if (before !== undefined && JSON.stringify(before) === JSON.stringify(item)) return false;
    this.#items.set(key, item);
    return true;
  }
}

/** One page of a list. */
export type ListPage = {
  readonly items: readonly unknown[];
  readonly resourceVersion: string;
  readonly next: string | null;
};

/** A login page with status 200 must not be taken for an empty cluster. */
export function parsePage(text: string, listKind: string): ListPage {
  let document: Readonly<Record<string, unknown>>;
  try {
    document = record(JSON.parse(text));
  } catch {
    throw new ApiError(`found a text that is not JSON, expected a ${listKind}`, { status: 0 });
  }
  const metadata = record(document.metadata);
  const resourceVersion = textOf(metadata, 'resourceVersion') ?? '';
  const isList = document.kind === listKind && (Array.isArray(document.items) || document.items === null);
  if (!isList || resourceVersion === '') {
    throw new ApiError(`found a JSON document of another kind, expected a ${listKind} with items and version`, {
      status: 0,
    });
  }
  const next = textOf(metadata, 'continue') ?? '';
  return { items: items(document.items), resourceVersion, next: next === '' ? null : next };
}

/** The whole text of a page, which has its limit. */
export async function readPage(body: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body) {
    chunks.push(chunk as Buffer);
    size += (chunk as Buffer).length;
    if (size > largestPage) throw new ApiError(`found more than ${largestPage} bytes in one page`, { status: 0 });
  }
  return Buffer.concat(chunks).toString('utf8');
}

function keyOf(object: unknown): string | null {
  const metadata = record(record(object).metadata);
  const name = textOf(metadata, 'name') ?? '';
  return name === '' ? null : `${textOf(metadata, 'namespace') ?? ''}/${name}`;
}

import { InputError, type InputIssue, quoteInput } from '../core/input-error.js';
import { formatPath, parseJson } from '../core/parse.js';
import { largestTokensLog2, tokensOfBucketIndex } from '../core/token-bucket.js';

/**
 * One interval record of request traces: what a gateway saw of one model in [T − interval, T), written under key T.
 *
 * The text is a flat JSON object of whole numbers: `"<input index>:<output index>"` counts completed requests, `meta_*`
 * describes the record. Versions: 1 has no meta (precision 1); 2 adds version, precision and interval; 3 adds arrivals
 * and pending requests; 4 adds the queue. Arrivals and completions of one request fall in different records, so the
 * counts of a record need not sum to its arrivals. `0:0` is a request whose lengths the gateway never learnt.
 */

/** Completed requests of one length. Token counts are those that the record's indexes stand for. */
export type TraceBucket = { readonly inputTokens: number; readonly outputTokens: number; readonly count: number };

export type TraceRecord = {
  /** 1 to 4; a newer one is read as 4. */
  readonly version: number;
  readonly intervalSeconds: number;
  /** Requests that arrived in the interval; for versions 1 and 2, which do not say, those that completed in it. */
  readonly arrivals: number;
  /** Requests outstanding when the record was written; 0 before version 3. */
  readonly pending: number;
  /** Requests waiting in the gateway's own queue; 0 before version 4. */
  readonly queueing: number;
  /** Completed requests of unknown length (`0:0`). */
  readonly unknownLength: number;
  /** Completed requests of known length; every count > 0. */
  readonly buckets: readonly TraceBucket[];
};

/** Something in a record that was left out, while the rest of it was used. */
export type TraceNotice = { readonly code: 'unknown_key' | 'newer_version'; readonly message: string };

/** The version that gateways write since AIBrix v0.4, and the newest that is understood. */
export const newestTraceVersion = 4;

/** Bucket indexes per doubling of tokens that versions 2 to 4 write. */
export const gatewayPrecision = 10;

/** Interval that versions 2 to 4 state, and that version 1 used without saying. [s] */
export const gatewayIntervalSeconds = 10;

/** No interval of any gateway holds more requests: a larger count is a broken record, not load. */
const largestCount = 1_000_000_000;

/** Finer steps than 1/1000 of a doubling are no bucketing at all; the window keeps its shape in such steps. */
export const largestPrecision = 1000;

const largestIntervalSeconds = 3600;

/** Notices of one kind that are kept one by one; a record with thousands of odd keys is summed up. */
const listedNotices = 5;

/** Tokens of each index at the gateway's precision, which nearly every record has: a first cycle decodes millions. */
const gatewayTokens = Array.from({ length: largestTokensLog2 * gatewayPrecision + 1 }, (_, index) =>
  tokensOfBucketIndex(index, gatewayPrecision),
);

const bucketKey = /^(-?\d+):(-?\d+)$/;

const knownMeta = new Set([
  'meta_v',
  'meta_interval_sec',
  'meta_precision',
  'meta_total_reqs',
  'meta_pending_reqs',
  'meta_queueing_reqs',
]);

/**
 * Parses the text of one interval record, any version.
 *
 * @param source names the record in errors, e.g. its key
 * @param expected where given, a record of another interval length is refused: its neighbours mean something else
 * @throws InputError that names the key; the record is then *unreadable*, which is unknown and never zero
 */
export function parseTraceRecord(
  text: string,
  source: string,
  expected: { readonly intervalSeconds?: number } = {},
): { readonly record: TraceRecord; readonly notices: readonly TraceNotice[] } {
  const document = parseJson(text, source);
  if (document === null || typeof document !== 'object' || Array.isArray(document)) {
    throw new InputError(source, [
      { place: '', found: quoteInput(document), expected: 'an object of whole numbers (an interval record)' },
    ]);
  }
  const entries = Object.entries(document);
  const meta = readMeta(entries, source);
  if (expected.intervalSeconds !== undefined && meta.intervalSeconds !== expected.intervalSeconds) {
    throw new InputError(source, [
      {
        place: 'meta_interval_sec',
        found: String(meta.intervalSeconds),
        expected: `${expected.intervalSeconds} (the configured interval in seconds)`,
      },
    ]);
  }

  const notices: TraceNotice[] = [];
  if (meta.version > newestTraceVersion) {
    notices.push({
      code: 'newer_version',
      message: `${source}: version ${meta.version} is newer than ${newestTraceVersion} and is read as ${newestTraceVersion}`,
    });
  }
  const issues: InputIssue[] = [];
  const buckets: TraceBucket[] = [];
  let unknownLength = 0;
  let completions = 0;
  let unknownKeys = 0;
  const largestIndex = largestTokensLog2 * meta.precision;
  const decode = (index: number): number =>
    meta.precision === gatewayPrecision ? gatewayTokens[index]! : tokensOfBucketIndex(index, meta.precision);
  for (const [key, value] of entries) {
    if (key.startsWith('meta_')) continue;
    const indexes = bucketKey.exec(key);
    if (indexes === null) {
      unknownKeys += 1;
      if (unknownKeys <= listedNotices) {
        notices.push({ code: 'unknown_key', message: `${source}: ${formatPath([key])} is no bucket and was left out` });
      }
      continue;
    }
    if (!isCount(value)) {
      issues.push({ place: formatPath([key]), found: quoteInput(value), expected: countExpectation });
      continue;
    }
    const input = Number(indexes[1]);
    const output = Number(indexes[2]);
    if (!(input >= 0 && output >= 0 && input <= largestIndex && output <= largestIndex)) {
      issues.push({
        place: formatPath([key]),
        found: 'a bucket index out of range',
        expected: `indexes between 0 and ${largestIndex} (2^${largestTokensLog2} tokens at precision ${meta.precision})`,
      });
      continue;
    }
    completions += value;
    if (value === 0) continue;
    if (input === 0 && output === 0) unknownLength += value;
    else {
      buckets.push({
        inputTokens: decode(input),
        outputTokens: decode(output),
        count: value,
      });
    }
  }
  if (issues.length > 0) throw new InputError(source, issues);
  if (completions > largestCount) {
    throw new InputError(source, [
      { place: '', found: `${completions} completed requests`, expected: `at most ${largestCount} in one interval` },
    ]);
  }
  if (unknownKeys > listedNotices) {
    notices.push({
      code: 'unknown_key',
      message: `${source}: ${unknownKeys - listedNotices} more keys are no buckets and were left out`,
    });
  }
  return {
    record: {
      version: Math.min(meta.version, newestTraceVersion),
      intervalSeconds: meta.intervalSeconds,
      arrivals: meta.arrivals ?? completions,
      pending: meta.pending,
      queueing: meta.queueing,
      unknownLength,
      buckets,
    },
    notices,
  };
}

type TraceMeta = {
  readonly version: number;
  readonly intervalSeconds: number;
  readonly precision: number;
  readonly arrivals: number | null;
  readonly pending: number;
  readonly queueing: number;
};

const countExpectation = `a whole number between 0 and ${largestCount}`;

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= largestCount;
}

function readMeta(entries: readonly (readonly [string, unknown])[], source: string): TraceMeta {
  const meta = new Map(entries.filter(([key]) => knownMeta.has(key)));
  const issues: InputIssue[] = [];
  const fail = (key: string, expected: string): undefined => {
    issues.push({ place: key, found: quoteInput(meta.get(key)), expected });
  };
  const whole = (key: string, low: number, high: number): number | undefined => {
    const value = meta.get(key);
    if (value === undefined) return undefined;
    if (typeof value === 'number' && Number.isInteger(value) && value >= low && value <= high) return value;
    return fail(key, `a whole number between ${low} and ${high}`);
  };

  // Some writers quote the version; its value is plain all the same.
  const stated = meta.get('meta_v');
  if (typeof stated === 'string' && /^\d{1,4}$/.test(stated)) meta.set('meta_v', Number(stated));
  const version = whole('meta_v', 1, 9999) ?? 1;
  const precision = whole('meta_precision', 1, largestPrecision);
  const intervalSeconds = whole('meta_interval_sec', 1, largestIntervalSeconds);
  const arrivals = whole('meta_total_reqs', 0, largestCount);
  const pending = whole('meta_pending_reqs', 0, largestCount);
  const queueing = whole('meta_queueing_reqs', 0, largestCount);
  if (issues.length === 0) {
    // Only version 1 may leave these out, and it has no meta at all. Guessing them would shift every length or rate.
    if (meta.size > 0 && precision === undefined) fail('meta_precision', 'the indexes per doubling of tokens (10)');
    if (version >= 2 && intervalSeconds === undefined) fail('meta_interval_sec', 'the seconds of the interval (10)');
    if (version >= 3 && arrivals === undefined) fail('meta_total_reqs', 'the requests that arrived in the interval');
  }
  if (issues.length > 0) throw new InputError(source, issues);
  return {
    version,
    precision: precision ?? 1,
    intervalSeconds: intervalSeconds ?? gatewayIntervalSeconds,
    arrivals: arrivals ?? null,
    pending: pending ?? 0,
    queueing: queueing ?? 0,
  };
}

/**
 * The text of a record as a gateway writes it (version 4): compact JSON, whole numbers.
 *
 * Token counts must be those of bucket indexes at the precision, as `parseTraceRecord` of versions 2 to 4 and
 * `GatewayTrace` give them at precision 10; others go to the nearest index. One token in and one out is written `0:0`, as
 * the gateway does, and so reads back as unknown length.
 *
 * @param precision bucket indexes per doubling of tokens, 1 to 1000
 */
export function formatTraceRecord(record: Omit<TraceRecord, 'version'>, precision: number = gatewayPrecision): string {
  const counts = new Map<string, number>();
  if (record.unknownLength > 0) counts.set('0:0', record.unknownLength);
  for (const bucket of record.buckets) {
    const key = `${indexOfTokens(bucket.inputTokens, precision)}:${indexOfTokens(bucket.outputTokens, precision)}`;
    counts.set(key, (counts.get(key) ?? 0) + bucket.count);
  }
  return JSON.stringify({
    ...Object.fromEntries(counts),
    meta_interval_sec: record.intervalSeconds,
    meta_pending_reqs: record.pending,
    meta_precision: precision,
    meta_queueing_reqs: record.queueing,
    meta_total_reqs: record.arrivals,
    meta_v: newestTraceVersion,
  });
}

/** Inverse of `tokensOfBucketIndex` (not of the gateway's truncating index of raw token counts). */
function indexOfTokens(tokens: number, precision: number): number {
  return tokens <= 1 ? 0 : Math.round(Math.log2(tokens) * precision);
}

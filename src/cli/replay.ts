import { readFileSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { Command } from 'commander';
import { parseRedisUrl, type RedisSettings, redisSettingsFromEnv } from '../adapters/redis-settings.js';
import { createRedisStore } from '../adapters/redis-store.js';
import { readRequestLog } from '../adapters/request-log.js';
import { InputError } from '../core/input-error.js';
import { Unavailable } from '../core/ports.js';
import { fixedEngines, type ReplayProgress, type ReplaySummary, replayAsGateway } from '../service/gateway-replay.js';
import { runUntilCalledOff } from './called-off.js';
import { nonNegativeNumber, positiveNumber } from './flag-values.js';

export type ReplayFlags = {
  readonly trace: string;
  readonly redis?: string;
  readonly cacert?: string;
  readonly model: string;
  readonly speed: number;
  readonly ttft: number;
  readonly tpot: number;
  readonly duration?: number;
  readonly loop: boolean;
  readonly json: boolean;
};

/** What a command sees of the process around it. */
export type ReplaySurroundings = {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdin: Readable;
  readonly write: (text: string) => void;
  readonly writeError: (text: string) => void;
  /** Draws a progress line on standard error. */
  readonly isTerminal: boolean;
  /** Columns of the terminal now; it may change. */
  readonly width?: () => number | undefined;
  /** Calls the replay off. */
  readonly signal: AbortSignal;
};

/** `gpumix replay`: writes request traces into Redis as the AIBrix gateway does, from a request log. */
export function replayCommand(): Command {
  return new Command('replay')
    .summary('write request traces into Redis as the AIBrix gateway does, from a request log')
    .description(
      'Plays a request log (CSV with timestamp_ms,input_tokens,output_tokens; plain or gzip) in wall-clock time: the ' +
        'first request arrives now, and every 10 seconds a trace record is written, for 10 minutes. A request completes ' +
        'at its arrival + ttft + output tokens × tpot, in the time of the log. Ctrl-C ends it cleanly: requests in flight ' +
        'count as cancelled.\n\n' +
        'Exit code: 0 played, 1 Redis could not be reached, 2 bad input.',
    )
    .requiredOption('--trace <file>', 'the request log, or - for standard input')
    .option(
      '--redis <url>',
      'redis://[user:password@]host:port, rediss:// for TLS (default: REDIS_HOST, REDIS_PORT, REDIS_PASSWORD)',
    )
    .option('--cacert <file>', 'PEM file of the authority that signed the certificate of Redis')
    .requiredOption('--model <name>', 'model whose requests these are')
    .option('--speed <n>', 'seconds of the log per second: the rate is n times that of the log', positiveNumber, 1)
    .option('--ttft <seconds>', 'time to first token', nonNegativeNumber, 0.5)
    .option('--tpot <seconds>', 'time per output token', nonNegativeNumber, 0.03)
    .option('--duration <seconds>', 'no arrivals after this time', positiveNumber)
    .option('--loop', 'begin again when the log ends', false)
    .option('--json', 'print the summary as JSON', false)
    .action(async (flags: ReplayFlags) => {
      const { env, stdin, stdout, stderr } = process;
      await runUntilCalledOff((signal) =>
        runReplay(flags, {
          env,
          stdin,
          write: (text) => stdout.write(text),
          writeError: (text) => stderr.write(text),
          isTerminal: stderr.isTTY === true,
          width: () => stderr.columns,
          signal,
        }),
      );
    });
}

/**
 * The command itself.
 *
 * @returns the exit code: 0 played (also when it was called off), 1 Redis could not be reached
 * @throws InputError for flags or a log that cannot be used
 */
export async function runReplay(flags: ReplayFlags, around: ReplaySurroundings): Promise<number> {
  const { signal, stdin } = around;
  if (flags.model === '')
    throw new InputError('--model', [{ place: '', found: '""', expected: 'the name of a model' }]);
  if (flags.loop && flags.trace === '-') {
    throw new InputError('--loop', [
      { place: '', found: 'standard input', expected: 'a file, which can be read again (--trace FILE)' },
    ]);
  }
  const clock = { now: () => Date.now() };
  const store = createRedisStore(redisSettings(flags, around.env), clock);
  const progress = around.isTerminal ? progressLine(around, flags.model) : null;
  try {
    const summary = await replayAsGateway({
      open: () => readRequestLog({ file: flags.trace, stdin, signal }),
      source: flags.trace === '-' ? 'standard input' : flags.trace,
      store,
      model: flags.model,
      speed: flags.speed,
      engines: fixedEngines({ ttftSeconds: flags.ttft, tpotSeconds: flags.tpot, speed: flags.speed }),
      durationSeconds: flags.duration ?? null,
      loop: flags.loop,
      clock,
      sleep: abortableSleep,
      signal,
      onWaiting: (problem) => around.writeError(`waiting for ${problem}\n`),
      ...(progress === null ? {} : { onProgress: progress.show }),
    });
    progress?.clear();
    around.write(flags.json ? `${JSON.stringify(summary)}\n` : `${describeSummary(summary)}\n`);
    return 0;
  } catch (error) {
    progress?.clear();
    if (!(error instanceof Unavailable)) throw error;
    around.writeError(`${error.message}\n`);
    return 1;
  } finally {
    await store.close();
  }
}

function redisSettings(flags: ReplayFlags, env: ReplaySurroundings['env']): RedisSettings {
  const settings = flags.redis === undefined ? redisSettingsFromEnv(env) : parseRedisUrl(flags.redis, '--redis');
  if (settings === null) {
    throw new InputError('--redis', [
      { place: '', found: 'nothing, and no REDIS_HOST', expected: 'where to write: redis://host:port' },
    ]);
  }
  if (flags.cacert === undefined) return settings;
  if (settings.tls === null) {
    throw new InputError('--cacert', [
      { place: '', found: 'a connection without TLS', expected: 'a rediss:// URL (--redis)' },
    ]);
  }
  try {
    return { ...settings, tls: { ...settings.tls, ca: readFileSync(flags.cacert, 'utf8') } };
  } catch (error) {
    const found = error instanceof Error && 'code' in error ? `a file that cannot be read (${error.code})` : 'no file';
    throw new InputError('--cacert', [{ place: flags.cacert, found, expected: 'a PEM file' }]);
  }
}

async function abortableSleep(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await delay(ms, undefined, { signal });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** Wide enough to tell two replays apart; longer names would wrap the progress line. */
const shownModelLength = 30;

/** Where the terminal does not say how wide it is. */
const usualWidth = 80;

function progressLine(
  { writeError: write, width }: ReplaySurroundings,
  model: string,
): { readonly show: (progress: ReplayProgress) => void; readonly clear: () => void } {
  const printable = JSON.stringify(model).slice(1, -1);
  const name = printable.length > shownModelLength ? `${printable.slice(0, shownModelLength)}…` : printable;
  return {
    show({ elapsedSeconds, requests, records, outstanding, problem }) {
      const time = new Date(Math.round(elapsedSeconds) * 1000).toISOString().slice(11, 19);
      const rate = elapsedSeconds > 0 ? (requests / elapsedSeconds).toFixed(2) : '-';
      const state = problem === null ? '' : ' · retrying: Redis does not answer';
      const line =
        `${name} · ${time} · ${count(requests, 'request')} (${rate} rps) · ${outstanding} in flight · ` +
        `${count(records, 'record')}${state}`;
      // A line that wraps could not be drawn over. The last column stays free: some terminals wrap once it is filled.
      write(`\r\u001b[K${cut(line, (width?.() || usualWidth) - 1)}`);
    },
    clear() {
      write('\r\u001b[K');
    },
  };
}

function cut(line: string, width: number): string {
  const characters = [...line];
  return characters.length <= width ? line : `${characters.slice(0, Math.max(0, width - 1)).join('')}…`;
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}

function describeSummary(summary: ReplaySummary): string {
  const rate =
    summary.meanRps === null ? '' : `, ${summary.meanRps.toFixed(2)} rps over ${summary.seconds.toFixed(1)} s`;
  return (
    `${summary.interrupted ? 'called off: ' : ''}replayed ${count(summary.requests, 'request')} as ` +
    `${JSON.stringify(summary.model)} (${count(summary.records, 'trace record')}${rate})`
  );
}

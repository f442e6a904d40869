import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ReplayFlags, replayCommand, runReplay } from '../../src/cli/replay.js';
import { parseTraceRecord } from '../../src/demand/trace-record.js';
import { freePort, type RedisServer, redisMissing, startRedisServer } from '../support/redis-server.js';

const folder = mkdtempSync(join(tmpdir(), 'gpumix-replay-'));
afterAll(() => rmSync(folder, { recursive: true }));
const log = join(folder, 'log.csv.gz');
// Ten requests a second for an hour.
const rows = Array.from({ length: 36_000 }, (_, i) => `${i * 100},500,60\n`).join('');
writeFileSync(log, gzipSync(`timestamp_ms,input_tokens,output_tokens\n${rows}`));

const defaults: ReplayFlags = {
  trace: log,
  model: 'org/model:7b',
  speed: 1,
  ttft: 0.5,
  tpot: 0.03,
  loop: false,
  json: false,
};

type Outcome = { readonly code: number; readonly output: string; readonly errors: string };

/** Runs the command; `onError` sees the progress as it is drawn. */
async function run(
  flags: Partial<ReplayFlags>,
  around: {
    readonly env?: Record<string, string>;
    readonly signal?: AbortSignal;
    readonly stdin?: Readable;
    readonly isTerminal?: boolean;
    readonly width?: number;
    readonly onError?: (text: string) => void;
  } = {},
): Promise<Outcome> {
  let output = '';
  let errors = '';
  const code = await runReplay(
    { ...defaults, ...flags },
    {
      env: around.env ?? {},
      stdin: around.stdin ?? Readable.from([]),
      write: (text) => {
        output += text;
      },
      writeError: (text) => {
        errors += text;
        around.onError?.(text);
      },
      isTerminal: around.isTerminal ?? false,
      width: () => around.width,
      signal: around.signal ?? new AbortController().signal,
    },
  );
  return { code, output, errors };
}

describe('gpumix replay', () => {
  it.each<[string, Partial<ReplayFlags>, string]>([
    ['no Redis', {}, '--redis: found nothing, and no REDIS_HOST, expected where to write: redis://host:port'],
    ['a wrong URL', { redis: 'localhost' }, '--redis: found "localhost", expected redis://host:port/database'],
    ['no model', { redis: 'redis://h', model: '' }, '--model: found "", expected the name of a model'],
    [
      'a loop over standard input',
      { redis: 'redis://h', trace: '-', loop: true },
      '--loop: found standard input, expected a file, which can be read again (--trace FILE)',
    ],
    [
      'a certificate without TLS',
      { redis: 'redis://h', cacert: 'ca.pem' },
      '--cacert: found a connection without TLS, expected a rediss:// URL (--redis)',
    ],
    [
      'a certificate that is not there',
      { redis: 'rediss://h', cacert: '/no/ca.pem' },
      '--cacert: /no/ca.pem: found a file that cannot be read (ENOENT), expected a PEM file',
    ],
    [
      'a log that is not there, whether or not Redis is',
      { redis: 'redis://127.0.0.1:1', trace: '/no/log.csv' },
      '/no/log.csv: found no such file, expected a request log in CSV, plain or gzip, or - for standard input',
    ],
  ])('refuses %s with a sentence', async (_, flags, message) => {
    await expect(run(flags)).rejects.toMatchObject({ name: 'InputError', message });
  });

  it('answers 1 and says why where Redis cannot be reached', async () => {
    const stop = new AbortController();
    stop.abort(); // not to wait for it
    const redis = `redis://:hunter2@127.0.0.1:${await freePort()}`;
    const stdin = Readable.from(['timestamp_ms,input_tokens,output_tokens\n0,1,1\n']);
    const { code, output, errors } = await run({ redis, trace: '-' }, { stdin, signal: stop.signal });
    expect({ code, output }).toEqual({ code: 1, output: '' });
    expect(errors).toMatch(/^Redis at redis:\/\/127\.0\.0\.1:\d+\/0: .*ECONNREFUSED.*\n$/);
  });

  it('says at once that it waits for Redis', async () => {
    const stop = new AbortController();
    const redis = `redis://127.0.0.1:${await freePort()}`;
    const { code, errors } = await run({ redis }, { signal: stop.signal, onError: () => stop.abort() });
    expect(code).toBe(1);
    expect(errors).toMatch(/^waiting for Redis at redis:\/\/127\.0\.0\.1:\d+\/0: .*ECONNREFUSED.*\nRedis at .*\n$/);
  });

  it.each(['-1', '0', 'x'])('refuses --speed %s in the same words', async (speed) => {
    const command = replayCommand()
      .exitOverride()
      .configureOutput({ writeErr: () => {} });
    const parsed = command.parseAsync(['--trace', log, '--model', 'm', '--speed', speed], { from: 'user' });
    await expect(parsed).rejects.toThrow(/ argument '.*' is invalid\. expected a number > 0\.$/);
  });
});

if (redisMissing !== null) console.warn(`replay.test.ts ${redisMissing}`);

describe.skipIf(redisMissing !== null)('gpumix replay into a real Redis', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await startRedisServer({ password: 'p@ss' });
  });
  afterAll(() => server.stop());

  function writtenRecords(model: string): readonly { readonly key: string; readonly text: string }[] {
    const keys = server.command('KEYS', `aibrix:${model}_request_trace_*`).split('\n').filter(Boolean).sort();
    return keys.map((key) => ({ key, text: server.command('GET', key) }));
  }

  it.each([
    ['a wrong password', 'redis://:wrong@', 'WRONGPASS'],
    ['no password', 'redis://', 'NOAUTH'],
  ])('ends at once with %s, which no wait cures', async (_, scheme, reason) => {
    const { code, errors } = await run({ redis: `${scheme}127.0.0.1:${new URL(server.url).port}` });
    expect({ code, lines: errors.trimEnd().split('\n').length }).toEqual({ code: 1, lines: 1 });
    expect(errors).toContain(reason);
  });

  it('keeps its progress within one line of the terminal', async () => {
    const stop = new AbortController();
    const drawn: string[] = [];
    await run(
      { redis: server.url, model: 'narrow' },
      {
        isTerminal: true,
        width: 30,
        signal: stop.signal,
        onError: (text) => {
          drawn.push(text);
          if (drawn.length > 2) stop.abort();
        },
      },
    );
    const lines = drawn.map((text) => text.replace('\r\u001b[K', ''));
    expect(lines[0]).toMatch(/^narrow · 00:00:0\d · .*…$/);
    expect(Math.max(...lines.map((line) => line.length))).toBe(29);
  });

  it('writes records that a reader of AIBrix traces understands, until it is called off', async () => {
    const stop = new AbortController();
    const before = Date.now();
    const { code, output, errors } = await run(
      { speed: 20 },
      {
        env: { REDIS_HOST: server.host, REDIS_PORT: String(server.port), REDIS_PASSWORD: 'p@ss' },
        signal: stop.signal,
        isTerminal: true,
        onError: (text) => {
          // Far enough that some have completed.
          if (Number(/ (\d+) requests/.exec(text)?.[1] ?? 0) > 150) stop.abort();
        },
      },
    );
    const after = Date.now();
    expect(code).toBe(0);
    expect(errors).toContain('org/model:7b');
    const replayed = Number(
      /^called off: replayed (\d+) requests as "org\/model:7b" \(\d trace record/.exec(output)?.[1],
    );
    const records = writtenRecords(defaults.model);
    let arrivals = 0;
    for (const { key, text } of records) {
      const endMs = Number(key.slice(key.lastIndexOf('_') + 1)) * 1000;
      expect(endMs % 10_000).toBe(0);
      expect(endMs).toBeGreaterThan(before);
      expect(endMs).toBeLessThanOrEqual(after + 10_000);
      expect(Number(server.command('TTL', key))).toBeGreaterThan(580);
      const { record, notices } = parseTraceRecord(text, key, { intervalSeconds: 10 });
      expect(notices).toEqual([]);
      expect(record.version).toBe(4);
      for (const bucket of record.buckets) {
        expect(Math.abs(Math.log2(bucket.inputTokens / 500))).toBeLessThanOrEqual(0.1);
        expect(Math.abs(Math.log2(bucket.outputTokens / 60))).toBeLessThanOrEqual(0.1);
      }
      arrivals += record.arrivals;
    }
    expect(arrivals).toBe(replayed);
    expect(replayed).toBeGreaterThan(150);
    expect(parseTraceRecord(records.at(-1)!.text, 'last').record.pending).toBe(0);
  });

  it('ends by itself when the last request has completed, and sums up as JSON', async () => {
    const stdin = Readable.from(['timestamp_ms,input_tokens,output_tokens\n', '0,10,1\n0,10,1\n4000,10,1\n']);
    const { code, output, errors } = await run(
      { redis: server.url, model: 'short', trace: '-', speed: 1000, json: true },
      { stdin },
    );
    expect({ code, errors }).toEqual({ code: 0, errors: '' });
    expect(JSON.parse(output)).toEqual({
      model: 'short',
      requests: 3,
      records: expect.any(Number),
      seconds: 0.004,
      meanRps: 750,
      interrupted: false,
    });
    const records = writtenRecords('short').map(({ key, text }) => parseTraceRecord(text, key).record);
    expect(records.reduce((sum, record) => sum + record.arrivals, 0)).toBe(3);
    expect(records.flatMap(({ buckets }) => buckets).reduce((sum, { count }) => sum + count, 0)).toBe(3);
    expect(JSON.parse(output).records).toBe(records.length);
  });

  describe('as a process', () => {
    const main = new URL('../../dist/cli/replay.js', import.meta.url).href;
    const script = `const { replayCommand } = await import(${JSON.stringify(main)}); await replayCommand().parseAsync(process.argv.slice(1), { from: 'user' });`;
    let child: ChildProcess | null = null;
    afterAll(() => {
      child?.kill('SIGKILL');
    });

    it('ends cleanly at Ctrl-C, with its last record written', async () => {
      child = spawn(
        process.execPath,
        ['--input-type=module', '-e', script, '--', '--trace', log, '--redis', server.url, '--model', 'stopped'],
        { stdio: ['ignore', 'pipe', 'pipe'] },
      );
      let output = '';
      let errors = '';
      child.stdout!.on('data', (text) => {
        output += String(text);
      });
      child.stderr!.on('data', (text) => {
        errors += String(text);
      });
      const exit = once(child, 'exit');
      // The store is asked who it is just before the first request arrives.
      while (!/cmd=info/.test(clientsOf(server))) {
        expect(child.exitCode, errors).toBeNull();
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      await new Promise((resolve) => setTimeout(resolve, 1500));
      child.kill('SIGINT');
      const [code] = await exit;
      expect({ code, errors }).toEqual({ code: 0, errors: '' });
      const requests = Number(/^called off: replayed (\d+) requests as "stopped"/.exec(output)?.[1]);
      expect(requests).toBeGreaterThan(0);
      const arrivals = writtenRecords('stopped').map(({ key, text }) => parseTraceRecord(text, key).record.arrivals);
      expect(arrivals.reduce((sum, count) => sum + count, 0)).toBe(requests);
    });
  });

  function clientsOf(redis: RedisServer): string {
    return redis
      .command('CLIENT', 'LIST')
      .split('\n')
      .filter((line) => line.includes('name=gpumix'))
      .join('\n');
  }
});

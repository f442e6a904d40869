import { afterEach, describe, expect, it } from 'vitest';
import { openRedisInspection } from '../../src/adapters/redis-inspection.js';
import { parseRedisUrl } from '../../src/adapters/redis-settings.js';
import type { RedisInspection } from '../../src/core/inspection.js';
import { type RedisServer, redisMissing, startRedisCluster, startRedisServer } from '../support/redis-server.js';

const open: (RedisServer | RedisInspection)[] = [];
afterEach(async () => {
  for (const each of open.splice(0)) await ('close' in each ? each.close() : each.stop());
});

function inspectionOf(url: string): RedisInspection {
  return openRedisInspection(parseRedisUrl(url, 'test'), { timeoutMs: 5000, now: () => Date.now() });
}

async function inspected() {
  const server = await startRedisServer();
  const inspection = inspectionOf(server.url);
  open.push(inspection, server);
  return { server, inspection };
}

describe.skipIf(redisMissing !== null)('a look at a Redis', () => {
  it('tells models by their newest record, profiles, and pods as gateways see them', async () => {
    const { server, inspection } = await inspected();
    for (const end of [1_700_000_000, 1_700_000_020, 1_700_000_010]) {
      server.command('SET', `aibrix:org/a:b_request_trace_${end}`, '{}');
    }
    server.command('SET', 'aibrix:profile_org/a:b_llama-l4', '{}');
    server.command('SET', 'other', 'x');
    server.command('HSET', 'aibrix:pod:gw:1:prod:llama-1', 'requests_running', '3', 'seq', '17');
    expect(await inspection.keys()).toEqual({
      newestTraces: new Map([['org/a:b', 1_700_000_020]]),
      profiles: ['aibrix:profile_org/a:b_llama-l4'],
      pods: [{ gateway: 'gw:1', namespace: 'prod', pod: 'llama-1', running: 3, completed: 17 }],
      complete: true,
    });
  });

  it('leaves out pods that are gone, of another type, or said in more than a number takes', async () => {
    const { server, inspection } = await inspected();
    server.command('HSET', 'aibrix:pod:gw:prod:good', 'requests_running', '1');
    server.command('SET', 'aibrix:pod:gw:prod:text', 'x');
    server.command('HSET', 'aibrix:pod:gw:prod:long', 'requests_running', '1'.repeat(100_000));
    server.command('HSET', 'aibrix:pod:gw:prod:empty', 'other', '1');
    const { pods } = await inspection.keys();
    expect(pods.map(({ pod }) => pod)).toEqual(['good']);
    server.command('DEL', 'aibrix:pod:gw:prod:good');
    expect(await inspection.activity(pods)).toEqual([]);
  });

  it('passes by all keys of a large database', async () => {
    const { server, inspection } = await inspected();
    const fill = "for i=1,ARGV[1] do redis.call('SET', 'aibrix:profile_m_d'..i, '') redis.call('SET', 'x'..i, '') end";
    server.command('EVAL', fill, '0', '30000');
    const { profiles, complete } = await inspection.keys();
    expect([new Set(profiles).size, complete]).toEqual([30_000, true]);
  });

  it('reads a clock', async () => {
    const { inspection } = await inspected();
    const [clock, ...rest] = await inspection.clocks();
    expect(rest).toEqual([]);
    // TIME is of the same machine, and Date.now() cuts off parts of a millisecond.
    expect(clock!.shownMs[0]).toBeGreaterThanOrEqual(clock!.askedMs[0] - 1);
    expect(clock!.shownMs[1]).toBeLessThanOrEqual(clock!.askedMs[1] + 1);
  });

  it('looks at every server of a cluster', async () => {
    const servers = await startRedisCluster(3);
    const inspection = inspectionOf(`redis://127.0.0.1:${servers[0]!.port}?cluster=true`);
    open.push(inspection, ...servers);
    const node = (key: string) => servers.find((server) => !server.command('TYPE', key).includes('MOVED'))!;
    const pods = ['a', 'b', 'c', 'd'].map((pod) => `aibrix:pod:gw:prod:${pod}`);
    for (const key of pods) node(key).command('HSET', key, 'seq', '1');
    node('aibrix:m_request_trace_10').command('SET', 'aibrix:m_request_trace_10', '{}');
    const found = await inspection.keys();
    expect([found.newestTraces.get('m'), found.pods.map(({ pod }) => pod)]).toEqual([10, ['a', 'b', 'c', 'd']]);
    expect(await inspection.clocks()).toHaveLength(3);
  });

  it('says that nobody answers, once and for all questions', async () => {
    const { server, inspection } = await inspected();
    await server.kill();
    await expect(inspection.clocks()).rejects.toThrow(/^Redis at redis:.*ECONNREFUSED/);
    await expect(inspection.keys()).rejects.toThrow(/^Redis at redis:.*ECONNREFUSED/);
  });
});

import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { PodActivity } from '../../../src/core/inspection.js';
import { type DoctorSources, gatherFacts } from '../../../src/service/doctor/gather.js';
import { deployment } from '../../support/controller-world.js';

const busy: PodActivity = {
  gateway: 'gateway-1',
  namespace: 'prod',
  pod: 'llama-5d4f8b9c7-x2x4z',
  running: 3,
  completed: 17,
};

function sources(overrides: Partial<DoctorSources> & { readonly onKeys?: () => void }): DoctorSources {
  const { onKeys = () => {}, ...rest } = overrides;
  const nothing = async () => [];
  return {
    settings: {
      intervalSeconds: 10,
      readsTraces: true,
      aibrixUnit: 100,
      configuration: null,
      mode: { value: 'live', from: null },
      actuate: 'none',
      isListed: false,
      pools: { list: [], areCounted: false },
      profilesDirectory: null,
    },
    addresses: { redis: 'redis://redis:6379/0', kubernetes: null, prometheus: null },
    prometheus: null,
    scraped: null,
    scale: null,
    catalogue: { entries: [] } as never,
    clock: { now: () => 1_000_000 },
    sleep: async () => {},
    timeoutMs: 1000,
    redis: {
      inspection: {
        clocks: nothing,
        keys: async () => {
          onKeys();
          return { newestTraces: new Map(), profiles: [], pods: [busy], complete: true };
        },
        activity: async (pods) => pods,
        close: async () => {},
      },
      store: { readTraces: async (keys: readonly unknown[]) => keys.map(() => ({ kind: 'absent' })) } as never,
    },
    cluster: 'there is none',
    listed: [deployment({ namespace: 'prod', name: 'llama', model: 'm' })],
    profiles: { read: nothing } as never,
    profileFiles: null,
    engines: null,
    statusOf: () => null,
    ...rest,
  };
}

it('takes for now what it is when all was looked at: a record that was written meanwhile is none of the future', async () => {
  let nowMs = 1_000_000;
  const onKeys = () => {
    nowMs += 8_000;
  };
  const { atMs } = await gatherFacts(sources({ clock: { now: () => nowMs }, onKeys }));
  expect(atMs).toBe(1_008_000);
});

it('gives pods the time to show that they serve beside the limit for answers', async () => {
  const { untraced } = await gatherFacts(sources({ timeoutMs: 30, sleep: () => delay(100) }));
  expect(untraced).toMatchObject({ kind: 'seen', value: [{ id: 'prod/llama' }] });
});

it.each([
  [{ ...busy }, 'counts 3 running'],
  [{ ...busy, running: 0, completed: 19 }, 'counts 2 ended'],
])('says what a gateway counts on a pod', async (later, shown) => {
  const { redis, ...rest } = sources({});
  const inspection = { ...redis!.inspection, activity: async () => [later] };
  const { untraced } = await gatherFacts({ ...rest, redis: { ...redis!, inspection } });
  expect(untraced).toMatchObject({ kind: 'seen', value: [{ shownBy: expect.stringContaining(shown) }] });
});

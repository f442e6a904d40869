import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadGpuCatalogue } from '../../../src/adapters/catalogue-file.js';
import { readAibrixComponent } from '../../../src/adapters/kubernetes/aibrix-components.js';
import { readConsumerFailures } from '../../../src/adapters/kubernetes/consumer-conditions.js';
import { readConsumerMetrics } from '../../../src/adapters/kubernetes/consumer-metrics.js';
import { consumerResources, readConsumer } from '../../../src/adapters/kubernetes/consumer-source.js';
import { modelLabelSlip } from '../../../src/adapters/kubernetes/model-label-slips.js';
import { observeDeployment } from '../../../src/adapters/kubernetes/observed-deployment.js';
import { renderReport } from '../../../src/cli/doctor-page.js';
import type { ScalingObject } from '../../../src/core/inspection.js';
import { diagnose } from '../../../src/service/doctor/diagnose.js';
import type { DoctorFacts, Sight } from '../../../src/service/doctor/facts.js';
import { doctorReportSchema } from '../../../src/service/doctor/report.js';
import { aibrixPart, hpa, names, podAutoscaler, scaledObject, served } from '../../support/doctor-world.js';

/** No object of a cluster, and no key of a Redis, makes the doctor throw. */

const catalogue = await loadGpuCatalogue();
const seen = <Value>(value: Value): Sight<Value> => ({ kind: 'seen', value, missing: null });

function factsOf(objects: readonly unknown[], keys: readonly string[] = []): DoctorFacts {
  const scaling = (kind: ScalingObject['kind']) => {
    const resource = consumerResources.find((each) => each.kind === kind)!;
    return seen(
      objects.flatMap((object) => {
        const consumer = readConsumer(object, resource);
        if (consumer === null) return [];
        return [{ ...consumer, ...readConsumerMetrics(object, kind), failures: readConsumerFailures(object, kind) }];
      }),
    );
  };
  const each = <Value>(read: (object: unknown) => Value | null) => objects.flatMap((object) => read(object) ?? []);
  return {
    atMs: 1_800_000_000_000,
    settings: {
      intervalSeconds: 10,
      readsTraces: true,
      aibrixUnit: 100,
      configuration: null,
      mode: { value: 'live', from: null },
      actuate: 'none',
      isListed: false,
      pools: { list: [{ gpuType: 'L4', gpus: 3 }], areCounted: false },
      profilesDirectory: null,
    },
    addresses: { redis: null, kubernetes: null, prometheus: null },
    prometheus: { kind: 'unseen', because: 'x', isFault: false },
    scraped: seen(keys),
    profileFiles: seen(keys),
    scales: { kind: 'unseen', because: 'x', isFault: false },
    catalogue,
    redisClocks: seen([{ where: 'Redis', shownMs: [0, 0], askedMs: [0, 0] }]),
    apiClock: { kind: 'unseen', because: 'x', isFault: true },
    keys: seen({
      newestTraces: new Map(keys.map((key, index) => [key, index])),
      profiles: keys,
      pods: keys.map((key) => ({ gateway: key, namespace: key, pod: key, running: 1, completed: null })),
      complete: true,
    }),
    newestTraces: seen(
      new Map(keys.map((key) => [key, { endSeconds: 0, reading: { kind: 'present' as const, text: key } }])),
    ),
    untraced: seen(keys.map((key) => ({ id: key, model: key, shownBy: key }))),
    workloads: seen({
      deployments: each((object) => observeDeployment(object, catalogue)),
      slips: each(modelLabelSlip),
      aibrix: each(readAibrixComponent),
    }),
    consumers: {
      HorizontalPodAutoscaler: scaling('HorizontalPodAutoscaler'),
      ScaledObject: scaling('ScaledObject'),
      PodAutoscaler: scaling('PodAutoscaler'),
    },
    externalMetrics: seen({ owner: { service: 'a/b', available: null }, metrics: keys }),
    profiles: seen(new Map()),
  };
}

function examine(facts: DoctorFacts): void {
  const report = diagnose(facts);
  doctorReportSchema.parse(JSON.parse(JSON.stringify(report)));
  const page = renderReport(report, { color: false, width: 80, all: true });
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not reach a terminal
  expect(page).not.toMatch(/[\u0000-\u0009\u000b-\u001f]/);
}

/** Every place of a document, as the keys that lead to it. */
function placesOf(value: unknown, at: readonly string[] = []): readonly (readonly string[])[] {
  if (value === null || typeof value !== 'object') return [at];
  return [at, ...Object.entries(value).flatMap(([key, inner]) => placesOf(inner, [...at, key]))];
}

function withPlace(value: unknown, [key, ...rest]: readonly string[], instead: unknown): unknown {
  if (key === undefined) return instead;
  const inner = withPlace((value as Readonly<Record<string, unknown>>)[key], rest, instead);
  if (Array.isArray(value)) return value.map((each, index) => (String(index) === key ? inner : each));
  return { ...(value as object), [key]: inner };
}

const healthy = [
  served(names.aibrix, 'L4'),
  served(names.keda, 'A100-80GB'),
  served(names.hpa, 'H100'),
  aibrixPart('gateway-plugins', 'v0.5.0'),
  aibrixPart('controller-manager', 'v0.5.0', { env: { AIBRIX_X: 'y' } }),
  ...[podAutoscaler(), scaledObject(), hpa()].map((object) => ({
    ...object,
    status: { conditions: [{ type: 'Ready', status: 'False', reason: 'R', message: 'm' }] },
  })),
];

const damage = fc
  .integer({ min: 0, max: healthy.length - 1 })
  .chain((index) => fc.tuple(fc.constant(index), fc.constantFrom(...placesOf(healthy[index])), fc.jsonValue()));

describe('the doctor', () => {
  it('survives any value at any place of any object', () => {
    fc.assert(
      fc.property(fc.array(damage, { minLength: 1, maxLength: 4 }), (damages) => {
        const objects: unknown[] = [...healthy];
        for (const [index, place, value] of damages) {
          // A place may be gone with one above it.
          try {
            objects[index] = withPlace(objects[index], place, value);
          } catch {
            objects[index] = value;
          }
        }
        examine(factsOf(objects));
      }),
      { numRuns: 400 },
    );
  });

  it('survives objects that are none', () => {
    fc.assert(fc.property(fc.array(fc.anything(), { maxLength: 5 }), (objects) => examine(factsOf(objects))));
  });

  it('survives any name in Redis', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.string({ unit: 'binary', maxLength: 600 }), { maxLength: 5 }), (keys) =>
        examine(factsOf(healthy, keys)),
      ),
    );
  });
});

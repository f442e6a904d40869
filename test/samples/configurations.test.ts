import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/service/config-layers.js';

function load(file: string) {
  return loadConfig({ file: { name: file, text: readFileSync(file, 'utf8') }, environment: {} });
}

describe('the sample configurations', () => {
  it.each(['samples/quickstart/gpumix.yaml', 'samples/redis/gpumix.yaml', 'samples/aibrix/gpumix.yaml'])(
    '%s is accepted without a warning',
    (file) => {
      expect(load(file).warnings).toEqual([]);
    },
  );

  it('the quickstart needs neither Redis nor a cluster', () => {
    const { config } = load('samples/quickstart/gpumix.yaml');
    expect(config.redis).toBeNull();
    expect([config.demand.source, config.profiles.source, config.deployments.source]).toEqual([
      'replay',
      'files',
      'config',
    ]);
  });

  it('in the place of AIBrix nothing is published before a person says `live`', () => {
    const { config } = load('samples/aibrix/gpumix.yaml');
    expect(config.publish).toMatchObject({ mode: 'shadow', aibrixUnit: 100 });
    expect(config.server).toMatchObject({ host: '0.0.0.0', port: 8080 });
  });

  it('the quickstart serves its requests on simulated replicas, under the objective of its profiles', () => {
    const { config } = load('samples/quickstart/gpumix.yaml');
    expect(config.demand.replay?.engines).toBe('simulated');
    const { slo } = config.models['qwen3-14b']!;
    for (const { name } of config.deployments.list) {
      const profile = JSON.parse(readFileSync(`samples/quickstart/profiles/${name}.json`, 'utf8')) as { slos: object };
      expect(profile.slos).toMatchObject({
        ttft: slo?.ttftSeconds,
        tpot: slo?.tpotSeconds,
        percentile: 100 * (slo?.attainment ?? 0),
      });
    }
  });
});

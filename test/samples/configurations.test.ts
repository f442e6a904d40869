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

  it('the prices of the quickstart are those that its profiles state', () => {
    for (const { name, usdPerReplicaHour } of load('samples/quickstart/gpumix.yaml').config.deployments.list) {
      const profile = JSON.parse(readFileSync(`samples/quickstart/profiles/${name}.json`, 'utf8')) as { cost: number };
      expect(usdPerReplicaHour).toBe(profile.cost);
    }
  });
});

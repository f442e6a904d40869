import { describe, expect, it } from 'vitest';
import { prometheusDemand } from '../../src/service/config/demand-config.js';
import { loadConfig } from '../../src/service/config-layers.js';

const base = `profiles: { source: files, directory: profiles }
deployments: { source: config, list: [ { name: llama-l4, model: llama } ] }
`;
const server = 'prometheus: { url: "http://prometheus:9090" }\n';

function load(text: string, environment: Readonly<Record<string, string>> = {}) {
  return loadConfig({ file: { name: 'gpumix.yaml', text: base + text }, environment }).config;
}

describe('demand from Prometheus', () => {
  it('needs no Redis, and looks at intervals that hold a scrape', () => {
    const config = load(`${server}demand: { source: prometheus }`);
    expect(config).toMatchObject({
      redis: null,
      demand: { intervalSeconds: 30, windowSeconds: 240, prometheus: null },
    });
    expect(prometheusDemand(config)).toEqual({ modelLabel: 'model_name', labels: {}, delaySeconds: 5 });
  });

  it('may be chosen by the environment, which brings the same default', () => {
    const { demand } = load('', {
      GPUMIX_DEMAND_SOURCE: 'prometheus',
      GPUMIX_PROMETHEUS_URL: 'http://prometheus:9090',
      GPUMIX_DEMAND_PROMETHEUS_DELAY_SECONDS: '20',
    });
    expect(demand).toMatchObject({ source: 'prometheus', intervalSeconds: 30, prometheus: { delaySeconds: 20 } });
  });

  it('takes the interval that is asked for', () => {
    expect(load(`${server}demand: { source: prometheus, intervalSeconds: 60 }`).demand.intervalSeconds).toBe(60);
  });

  it('may keep its state in Redis', () => {
    const { redis } = load(`${server}demand: { source: prometheus }\nredis: { url: "redis://h/0" }`);
    expect(redis).toMatchObject({ url: 'redis://h/0' });
  });

  it('knows models by the names under which they are served', () => {
    const { models } = load(`${server}demand: { source: prometheus }\nmodels: { llama: { servedNames: [a/b, c] } }`);
    expect(models.llama?.servedNames).toEqual(['a/b', 'c']);
  });

  it.each([
    ['no server', 'demand: { source: prometheus }', 'prometheus: found nothing, expected prometheus: { url: … }'],
    [
      'its settings beside another source',
      'redis: { url: "redis://h/0" }\ndemand: { prometheus: { delaySeconds: 9 } }',
      'expected null, because demand.source is not prometheus',
    ],
    [
      'served names that nothing looks at',
      'redis: { url: "redis://h/0" }\nmodels: { llama: { servedNames: [a] } }',
      'models.llama.servedNames: found ["a"], expected no served names',
    ],
    [
      'one name for two models',
      `${server}demand: { source: prometheus }\nmodels: { llama: { servedNames: [a] }, qwen: { servedNames: [b, a] } }`,
      'models.qwen.servedNames[1]: found "a", expected a name that no other model is served under (llama is)',
    ],
    [
      'a label that is none',
      `${server}demand: { source: prometheus, prometheus: { modelLabel: model-name } }`,
      'the name of a Prometheus label',
    ],
    [
      'a misspelt key',
      `${server}demand: { source: prometheus, prometheus: { delay: 5 } }`,
      'demand.prometheus.delay: found an unknown key',
    ],
  ])('is refused with %s', (_, text, message) => {
    expect(() => load(text)).toThrow(message);
  });
});

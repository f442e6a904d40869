import type { z } from 'zod';
import { isKnownKind, scaleTarget } from '../../adapters/kubernetes/scale-kinds.js';
import { nearestName } from '../../core/parse.js';
import type { WholeConfig } from '../config.js';
import { replayedModel } from './demand-config.js';

/** Rules over several keys. Each message is what is expected at the key it names. */
export function checkTogether(
  config: WholeConfig,
  context: z.RefinementCtx,
  { demandIsGiven }: { readonly demandIsGiven: boolean },
): void {
  const expect = (path: (string | number)[], message: string) => context.addIssue({ code: 'custom', path, message });
  const { demand, deployments, profiles, redis } = config;
  if (demand.windowSeconds % demand.intervalSeconds !== 0) {
    expect(['demand', 'windowSeconds'], `a multiple of demand.intervalSeconds (${demand.intervalSeconds})`);
  }
  if (demand.source === 'redis' && redis === null && !demandIsGiven) {
    expect(['redis'], 'redis: { url: … }, because demand.source is redis (or demand.source: replay)');
  }
  checkServer(config, expect);
  checkPrometheusDemand(config, expect);
  checkReplayEngines(config, expect);
  if (demand.source === 'replay') {
    if (redis !== null) {
      expect(
        ['redis'],
        'no redis with demand.source: replay, which runs on the embedded store (`gpumix replay` plays into Redis)',
      );
    }
    if (demand.intervalSeconds !== 10) {
      expect(
        ['demand', 'intervalSeconds'],
        '10 with demand.source: replay, which writes what an AIBrix gateway writes',
      );
    }
    if (demand.replay === null) expect(['demand', 'replay'], '{ file: … }, because demand.source is replay');
    else if (replayedModel(config) === null) {
      expect(
        ['demand', 'replay', 'model'],
        'the model that the requests ask for (there is not exactly one configured)',
      );
    }
  }
  if (redis?.url.startsWith('redis:')) {
    for (const key of ['caFile', 'certFile', 'keyFile'] as const) {
      if (redis[key] !== null) expect(['redis', key], 'null, because redis.url is not rediss://');
    }
  }
  if (profiles.source === 'redis' && redis === null) {
    expect(['profiles', 'source'], 'files (with profiles.directory), because no redis is configured');
  }
  if (profiles.source === 'files' && profiles.directory === null) {
    expect(['profiles', 'directory'], 'a folder, because profiles.source is files');
  }
  if (deployments.source === 'config' && deployments.list.length === 0) {
    expect(['deployments', 'list'], 'at least one deployment, because deployments.source is config');
  }
  if (deployments.source === 'kubernetes' && deployments.list.length > 0) {
    expect(['deployments', 'source'], 'config, because deployments.list is given');
  }
  checkEngines(config, expect);
  if ('fromNodes' in config.pools && config.pools.fromNodes) {
    if (deployments.source !== 'kubernetes') {
      expect(['pools', 'fromNodes'], 'false, because deployments.source is config: there are no nodes to count');
    }
  } else if ('fromNodes' in config.pools && config.pools.nodeSelector !== '') {
    expect(['pools', 'nodeSelector'], 'none without fromNodes: true');
  }
  checkScaler(config, expect);
  checkActuation(config, expect);
  const seen = new Set<string>();
  deployments.list.forEach((deployment, index) => {
    const id = `${deployment.namespace}/${deployment.name}`;
    if (seen.has(id)) expect(['deployments', 'list', index, 'name'], `a name that no other entry has (${id} is twice)`);
    seen.add(id);
  });
}

/** Rules on who may ask for what. */
function checkServer({ server }: WholeConfig, expect: (path: (string | number)[], message: string) => void): void {
  const { tokenFile, tokenReview, allowUnauthenticated } = server;
  if (tokenFile !== null && tokenReview !== null) {
    expect(['server', 'tokenReview'], 'null, because server.tokenFile says who may');
  }
  if (!allowUnauthenticated || (tokenFile === null && tokenReview === null)) return;
  const other = tokenFile === null ? 'server.tokenReview' : 'server.tokenFile';
  expect(['server', 'allowUnauthenticated'], `false, because ${other} says who may (or no ${other})`);
}

/** Rules on the files of KEDA's external scaler. */
function checkScaler(
  { keda: { scaler } }: WholeConfig,
  expect: (path: (string | number)[], message: string) => void,
): void {
  if (scaler === null) return;
  const { certFile, keyFile, clientCaFile } = scaler;
  const needed = (key: string, because: string) => expect(['keda', 'scaler', key], `a PEM file, because ${because}`);
  if (certFile !== null && keyFile === null) needed('keyFile', 'keda.scaler.certFile is given');
  if (keyFile !== null && certFile === null) needed('certFile', 'keda.scaler.keyFile is given');
  if (clientCaFile !== null && certFile === null && keyFile === null) {
    needed('certFile', 'keda.scaler.clientCaFile asks for client certificates');
  }
}

/** What an API server takes as a name: a DNS name. */
const objectName = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;
/** A label of such a name. */
const namespaceName = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

/** Rules on what gpumix scales itself. */
function checkActuation(
  { actuate, demand, deployments }: WholeConfig,
  expect: (path: (string | number)[], message: string) => void,
): void {
  if (actuate !== 'none' && demand.source === 'replay') {
    expect(['actuate'], 'none with demand.source: replay: no cluster is scaled by requests of the past');
  }
  if (actuate !== 'none' && !deployments.followConsumers) {
    expect(['deployments', 'followConsumers'], `true with actuate: ${actuate}, which leaves alone what they scale`);
  }
  const owners = new Map<string, string>();
  deployments.list.forEach(({ namespace, name, target }, index) => {
    const path = ['deployments', 'list', index];
    if (target !== null && !isKnownKind(target)) {
      for (const key of ['group', 'version', 'resource'] as const) {
        if (target[key] === null) expect([...path, 'target', key], `a text, because ${target.kind} is no known kind`);
      }
    }
    if (actuate === 'none') return;
    if (!namespaceName.test(namespace)) {
      expect([...path, 'namespace'], 'a name that a namespace can have: at most 63 small letters, digits and -');
    }
    if (!objectName.test(target?.name ?? name)) {
      const at = target?.name == null ? [...path, 'name'] : [...path, 'target', 'name'];
      expect(at, 'a name that an API server takes: small letters, digits, - and .');
    }
    const { group, resource, name: object } = scaleTarget(target, { namespace, name });
    const key = `${group}/${resource}/${namespace}/${object}`;
    const owner = owners.get(key);
    if (owner !== undefined) expect([...path, 'target'], `an object that no other entry scales (${owner} does)`);
    owners.set(key, `${namespace}/${name}`);
  });
}

/** Rules on who serves replayed requests. */
function checkReplayEngines(config: WholeConfig, expect: (path: (string | number)[], message: string) => void): void {
  const { demand, deployments } = config;
  if (demand.source !== 'replay' || demand.replay?.engines !== 'simulated') return;
  for (const key of ['ttftSeconds', 'tpotSeconds'] as const) {
    if (demand.replay[key] === null) continue;
    expect(['demand', 'replay', key], 'null with engines: simulated, whose times come of the load (or engines: fixed)');
  }
  if (deployments.source !== 'config') {
    expect(
      ['deployments', 'source'],
      'config with demand.replay.engines: simulated, whose replicas run in the process',
    );
    return;
  }
  const model = replayedModel(config);
  if (model === null) return;
  deployments.list.forEach((deployment, index) => {
    if (deployment.model === model) return;
    const expected = `${model}, which the replayed requests ask for: with demand.replay.engines: simulated there is no other`;
    expect(['deployments', 'list', index, 'model'], expected);
  });
}

/** Rules on demand out of what engines count. */
function checkPrometheusDemand(
  { demand, prometheus, models }: WholeConfig,
  expect: (path: (string | number)[], message: string) => void,
): void {
  const isSource = demand.source === 'prometheus';
  if (isSource && prometheus === null) {
    expect(['prometheus'], 'prometheus: { url: … }, because demand.source is prometheus');
  }
  if (!isSource && demand.prometheus !== null) {
    expect(['demand', 'prometheus'], 'null, because demand.source is not prometheus');
  }
  const owners = new Map<string, string>();
  for (const [model, { servedNames }] of Object.entries(models)) {
    if (servedNames.length > 0 && !isSource) {
      expect(['models', model, 'servedNames'], 'no served names, because demand.source is not prometheus');
    }
    servedNames.forEach((served, index) => {
      const path = ['models', model, 'servedNames', index];
      const owner = owners.get(served);
      if (owner !== undefined) expect(path, `a name that no other model is served under (${owner} is)`);
      owners.set(served, model);
    });
  }
}

/** Rules on where engines are read. */
function checkEngines(
  { prometheus, engines, profiles, demand, deployments }: WholeConfig,
  expect: (path: (string | number)[], message: string) => void,
): void {
  const isRead = prometheus !== null || engines.scrape.length > 0;
  if (profiles.correction.enabled && !isRead) {
    expect(
      ['profiles', 'correction', 'enabled'],
      'false, or prometheus: { url: … } or engines.scrape, which tell how fast engines are',
    );
  }
  if (isRead && demand.source === 'replay') {
    const path = prometheus === null ? ['engines', 'scrape'] : ['prometheus'];
    expect(path, 'no engines with demand.source: replay: real ones do not serve its simulated requests');
  }
  if (prometheus?.caFile != null && !prometheus.url.startsWith('https:')) {
    expect(['prometheus', 'caFile'], 'null, because prometheus.url is not https://');
  }
  const listed = deployments.list.map(({ namespace, name }) => `${namespace}/${name}`);
  const seen = new Set<string>();
  engines.scrape.forEach(({ deployment }, index) => {
    const path = ['engines', 'scrape', index, 'deployment'];
    if (seen.has(deployment)) expect(path, 'a deployment that no other entry has');
    seen.add(deployment);
    if (deployments.source !== 'config' || listed.includes(deployment)) return;
    const nearest = nearestName(deployment, listed);
    const hint = nearest === undefined ? '' : ` (did you mean ${nearest}?)`;
    expect(path, `a deployment of deployments.list${hint}`);
  });
}

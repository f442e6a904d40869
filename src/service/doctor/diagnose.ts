import { consumerKinds } from '../../core/ports.js';
import { checkConsumers } from './consumer-checks.js';
import { checkClocks, checkGateways, checkTraces } from './demand-checks.js';
import { checkDeployments, checkProfiles } from './deployment-checks.js';
import { checkEngines } from './engine-checks.js';
import type { DoctorFacts, Sight } from './facts.js';
import { severities } from './findings.js';
import { checkAibrixVersion, checkExternalMetrics, checkReach } from './platform-checks.js';
import type { DoctorReport, Finding } from './report.js';
import { checkMode, checkScaleTargets } from './scaling-checks.js';

/** All that is looked for, in the order in which it is told. */
const checks: readonly ((facts: DoctorFacts) => readonly Finding[])[] = [
  checkReach,
  checkMode,
  checkClocks,
  checkTraces,
  checkEngines,
  checkGateways,
  checkDeployments,
  checkProfiles,
  checkScaleTargets,
  checkConsumers,
  checkAibrixVersion,
  checkExternalMetrics,
];

/** Facts in, report out; what is broken comes first. */
export function diagnose(facts: DoctorFacts): DoctorReport {
  const found = checks.flatMap((check) => check(facts));
  return {
    apiVersion: 'gpumix/v1',
    kind: 'DoctorReport',
    at: new Date(facts.atMs).toISOString(),
    setup: {
      configuration: facts.settings.configuration,
      mode: facts.settings.mode.value,
      actuate: facts.settings.actuate,
      deployments: facts.settings.isListed ? 'config' : 'kubernetes',
      ...facts.addresses,
    },
    findings: severities.flatMap((severity) => found.filter((each) => each.severity === severity)),
    ...coverage(facts),
  };
}

function coverage(facts: DoctorFacts): Pick<DoctorReport, 'looked' | 'notLooked'> {
  const looked: { at: string; seen: string }[] = [];
  const notLooked: { at: string; because: string }[] = [];
  const tell = <Value>(at: string, sight: Sight<Value>, describe: (value: Value) => string) => {
    if (sight.kind === 'unseen') notLooked.push({ at, because: sight.because });
    else {
      looked.push({ at, seen: describe(sight.value) });
      if (sight.missing !== null) notLooked.push({ at, because: sight.missing });
    }
  };
  tell('clock of Redis', facts.redisClocks, (clocks) => counted(clocks.length, 'server'));
  tell('keys of AIBrix in Redis', facts.keys, ({ newestTraces, profiles, pods }) =>
    [
      counted(newestTraces.size, 'model with request traces', 'models with request traces'),
      counted(profiles.length, 'profile'),
      counted(pods.length, 'pod as gateways see it', 'pods as gateways see them'),
    ].join(', '),
  );
  tell('request traces', facts.newestTraces, (traces) => counted(traces.size, 'newest record'));
  tell('pods that serve without traces', facts.untraced, () => 'what gateways and engines say of requests');
  // Most set-ups configure neither.
  if (facts.addresses.prometheus !== null) {
    tell('Prometheus', facts.prometheus, ({ names }) =>
      counted(names.length, 'name of engines’ series', 'names of engines’ series'),
    );
  }
  if (facts.scraped.kind === 'seen' || facts.scraped.isFault) {
    tell('engines.scrape', facts.scraped, (problems) =>
      problems.length === 0 ? 'all answer' : counted(problems.length, 'problem'),
    );
  }
  tell('clock of the API server', facts.apiClock, () => '1 server');
  if (facts.settings.isListed) tell('deployments.list', facts.workloads, ({ deployments }) => `${deployments.length}`);
  else {
    tell('Deployments', facts.workloads, ({ deployments, aibrix }) =>
      [`${deployments.length} with the model label`, counted(aibrix.length, 'part of AIBrix', 'parts of AIBrix')].join(
        ', ',
      ),
    );
  }
  for (const kind of consumerKinds) {
    tell(`${kind}s`, facts.consumers[kind], (objects) => `${objects.length} that scale Deployments`);
  }
  tell('external metrics API', facts.externalMetrics, ({ owner }) =>
    owner === null ? 'owned by nobody' : `owned by ${owner.service}`,
  );
  if (facts.settings.actuate !== 'none') {
    tell('what gpumix scales', facts.scales, (scales) => counted(scales.size, 'object'));
  }
  tell('profiles', facts.profiles, (profiles) => counted(profiles.size, 'Deployment'));
  return { looked, notLooked };
}

function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}

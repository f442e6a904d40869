import type { AibrixComponent, ConsumerMetric, ScalingObject } from '../../core/inspection.js';
import { consumerKinds } from '../../core/ports.js';
import { externalMetricsApiService } from '../../core/published-names.js';
import { consumerName } from '../landing.js';
import { type DoctorFacts, noWorkloads, seenOr } from './facts.js';
import { type Finding, finding } from './report.js';

/** Whether the parts between gpumix and the Deployments can read it: reachability, AIBrix's version, the APIService. */

export function checkReach({
  addresses,
  settings,
  redisClocks,
  keys,
  newestTraces,
  workloads,
  scales,
  profiles,
}: DoctorFacts): readonly Finding[] {
  const found: Finding[] = [];
  const redis = [redisClocks, keys, newestTraces].find((sight) => sight.kind === 'unseen' && sight.isFault);
  if (redis?.kind === 'unseen') {
    found.push(
      finding('redis_unreachable', {
        place: `Redis ${addresses.redis}`,
        found: redis.because,
        expected: 'a server that answers',
      }),
    );
  }
  // Of listed deployments the cluster is asked for their scale alone.
  const cluster = [workloads, scales].find((sight) => sight.kind === 'unseen' && sight.isFault);
  if (cluster?.kind === 'unseen') {
    found.push(
      finding('kubernetes_unreachable', {
        place: addresses.kubernetes === null ? 'Kubernetes' : `Kubernetes ${addresses.kubernetes}`,
        found: cluster.because,
        ...(settings.isListed
          ? { mend: 'Mend the kubeconfig or the service account, and the rights on the scale of what is listed.' }
          : {}),
        expected: cluster === workloads ? 'a list of Deployments' : 'the scale of what gpumix scales',
      }),
    );
  }
  // Those in Redis are unreadable with it.
  if (redis === undefined && profiles.kind === 'unseen' && profiles.isFault) {
    const expected = 'profiles of the Deployments, or none';
    found.push(finding('profiles_unreadable', { place: 'profiles', found: profiles.because, expected }));
  }
  return found;
}

/** Of objects of a kind that ask gpumix for a number in some way. */
function asking(
  facts: DoctorFacts,
  fits: (object: ScalingObject, metric: ConsumerMetric) => boolean,
): readonly { readonly object: ScalingObject; readonly metric: ConsumerMetric }[] {
  const followed = new Set(seenOr(facts.workloads, noWorkloads).deployments.map(({ id }) => id));
  return consumerKinds
    .flatMap((kind) => seenOr(facts.consumers[kind], []))
    .filter(({ deployment }) => followed.has(deployment))
    .flatMap((object) =>
      object.metrics
        .filter((metric) => metric.isOurs === true && fits(object, metric))
        .map((metric) => ({ object, metric })),
    );
}

export function checkAibrixVersion(facts: DoctorFacts): readonly Finding[] {
  const components = seenOr(facts.workloads, noWorkloads).aibrix;
  return components
    .filter(({ part }) => part === 'controller')
    .flatMap((controller) =>
      asking(facts, ({ kind }) => kind === 'PodAutoscaler').flatMap(({ object, metric }) => {
        const problem = unreadableBy(controller, metric);
        if (problem === null) return [];
        return [
          finding('aibrix_version', {
            place: `${consumerName(object)} ${metric.place}`,
            found: `${metric.way === 'endpoint' ? 'an endpoint' : 'an external metric'}, and ${controller.image} (Deployment ${controller.id}): ${problem}`,
            expected:
              metric.way === 'endpoint'
                ? 'AIBrix up to v0.4.1, or v0.8 and later'
                : 'AIBrix v0.8 and later, or an endpoint',
          }),
        ];
      }),
    );
}

/** Null where it can, or the version is not known. See the table of versions in docs/doctor.md. */
function unreadableBy({ version }: AibrixComponent, { way }: ConsumerMetric): string | null {
  if (version === null) return null;
  const [major, minor] = version;
  if (major > 0 || minor >= 8) return null;
  if (minor < 2) return 'it asks nobody but pods';
  if (way === 'endpoint') return minor >= 5 ? 'it takes what it cannot read for 0, and scales to zero' : null;
  return minor < 5 ? 'it knows sources of type pod and domain only' : 'external metrics are not implemented in it';
}

export function checkExternalMetrics(facts: DoctorFacts): readonly Finding[] {
  const { externalMetrics } = facts;
  if (externalMetrics.kind === 'unseen') return [];
  const { owner, metrics } = externalMetrics.value;
  const isOurs = metrics?.some((name) => name.startsWith('gpumix_') || name.startsWith('gpumix-')) === true;
  return asking(facts, (_, { way }) => way === 'external-metrics').flatMap(({ object, metric }) => {
    const place = `${consumerName(object)} ${metric.place}`;
    const expected = `an APIService ${externalMetricsApiService} that serves ${metric.asks}`;
    const told = (found: string) => [finding('external_metrics_owner', { place, found, expected })];
    if (owner === null) return told(`no APIService ${externalMetricsApiService}`);
    if (owner.available === false) return told(`the APIService of ${owner.service} is not available`);
    if (metrics === null ? !isStranger(owner.service) : isOurs || metrics.includes(metric.asks)) return [];
    return told(`the APIService is that of ${owner.service}, which does not serve it`);
  });
}

/** Owners of the group that serve what they were made for, where discovery does not tell. */
function isStranger(service: string): boolean {
  return /keda|datadog/i.test(service);
}

import { traceKeyName } from '../../adapters/store-keys.js';
import { InputError } from '../../core/input-error.js';
import type { AibrixComponent, ClockReading } from '../../core/inspection.js';
import { nearestName } from '../../core/parse.js';
import { parseTraceRecord } from '../../demand/trace-record.js';
import { type DoctorFacts, noWorkloads, seenOr } from './facts.js';
import { type Finding, finding } from './report.js';

/** Whether demand reaches gpumix: clocks, the gateway's request traces, the gateway itself. */

/** What is right here is right up to this, beyond what the question took: half of the shortest usual interval. [ms] */
const clockToleranceMs = 5000;

export function checkClocks(facts: DoctorFacts): readonly Finding[] {
  const readings = [
    ...seenOr(facts.redisClocks, []),
    ...(facts.apiClock.kind === 'seen' ? [facts.apiClock.value] : []),
  ];
  const skewed = readings.flatMap((reading) => {
    const skewMs = skewOf(reading);
    if (Math.abs(skewMs) <= clockToleranceMs) return [];
    const seconds = Math.round(Math.abs(skewMs) / 1000);
    return finding('clock_skew', {
      place: `clock of ${reading.where}`,
      found: `${seconds} s ${skewMs > 0 ? 'ahead of' : 'behind'} the clock here`,
      expected: `at most ${clockToleranceMs / 1000} s apart`,
    });
  });
  // A record of the future was named by a clock that is ahead: that of the gateway, where Redis agrees with us.
  if (skewed.length > 0) return skewed;
  const aheadMs = ([, endSeconds]: readonly [string, number]) => endSeconds * 1000 - facts.atMs;
  return [...(facts.keys.kind === 'seen' ? facts.keys.value.newestTraces : [])]
    .filter((trace) => aheadMs(trace) > clockToleranceMs)
    .map(([model, endSeconds]) =>
      finding('clock_skew', {
        place: `Redis key ${traceKeyName({ model, endSeconds })}`,
        found: `a record of ${Math.round(aheadMs([model, endSeconds]) / 1000)} s in the future: the clock of the gateway is ahead`,
        expected: 'records of intervals that are over',
      }),
    );
}

/** The least by which the clocks must differ, whenever between question and answer it was read; > 0 = ahead. [ms] */
function skewOf({ shownMs: [earliest, latest], askedMs: [before, after] }: ClockReading): number {
  if (earliest > after) return earliest - after;
  return latest < before ? latest - before : 0;
}

export function checkTraces(facts: DoctorFacts): readonly Finding[] {
  if (!facts.settings.readsTraces) return [];
  return [...untraced(facts), ...unreadable(facts), ...unserved(facts)];
}

function untraced(facts: DoctorFacts): readonly Finding[] {
  const byModel = new Map<string, string[]>();
  for (const { id, model, shownBy } of seenOr(facts.untraced, [])) {
    byModel.set(model, [...(byModel.get(model) ?? []), `${id} (${shownBy})`]);
  }
  return [...byModel].map(([model, busy]) =>
    finding('no_traces', {
      place: `Redis key aibrix:${model}_request_trace_*`,
      found: `no record of the last 10 minutes, while requests run on ${busy.slice(0, 3).join(', ')}${busy.length > 3 ? ' and others' : ''}`,
      expected: `one for every ${facts.settings.intervalSeconds} s in which requests arrive or end`,
    }),
  );
}

function unreadable(facts: DoctorFacts): readonly Finding[] {
  const { intervalSeconds } = facts.settings;
  return [...seenOr(facts.newestTraces, new Map())].flatMap(([model, { endSeconds, reading }]) => {
    const key = `Redis key ${traceKeyName({ model, endSeconds })}`;
    const found = reading.kind === 'failed' ? reading.message : reading.kind === 'present' ? fault(reading.text) : null;
    if (found === null) return [];
    return [
      finding('unreadable_traces', { place: key, found, expected: 'an interval record as the gateway writes it' }),
    ];
  });

  function fault(text: string): string | null {
    try {
      parseTraceRecord(text, 'the record', { intervalSeconds });
      return null;
    } catch (error) {
      if (error instanceof InputError) return error.message;
      throw error;
    }
  }
}

function unserved({ keys, workloads, settings }: DoctorFacts): readonly Finding[] {
  if (keys.kind === 'unseen' || workloads.kind === 'unseen' || workloads.missing !== null) return [];
  const models = [...new Set(workloads.value.deployments.map(({ model }) => model))];
  return [...keys.value.newestTraces.keys()]
    .filter((model) => !models.includes(model))
    .map((model) => {
      const nearest = nearestName(model, models);
      return finding('traces_without_deployment', {
        place: `Redis key aibrix:${model}_request_trace_*`,
        found: settings.isListed
          ? 'no entry of deployments.list with this model'
          : 'no Deployment with this model in its label',
        expected:
          nearest === undefined
            ? 'one, or requests for a model that is served'
            : `the same name in both; ${settings.isListed ? 'the list' : 'a Deployment'} says ${JSON.stringify(nearest)}`,
        ...(settings.isListed ? { mend: 'Give deployments.list[].model the name that requests ask for.' } : {}),
      });
    });
}

export function checkGateways(facts: DoctorFacts): readonly Finding[] {
  if (!facts.settings.readsTraces) return [];
  const gateways = seenOr(facts.workloads, noWorkloads).aibrix.filter(({ part }) => part === 'gateway');
  return [...overwriting(facts, gateways), ...gateways.flatMap(tracing)];
}

function overwriting(facts: DoctorFacts, gateways: readonly AibrixComponent[]): readonly Finding[] {
  const pods = facts.keys.kind === 'seen' ? facts.keys.value.pods : [];
  const names = [...new Set(pods.map(({ gateway }) => gateway))];
  if (names.length > 1) {
    return [
      finding('several_gateways', {
        place: 'Redis keys aibrix:pod:*',
        found: `${names.length} gateways: ${names.slice(0, 4).join(', ')}`,
        expected: 'one',
      }),
    ];
  }
  const replicas = gateways.reduce((sum, gateway) => sum + gateway.replicas, 0);
  if (replicas <= 1) return [];
  return [
    finding('several_gateways', {
      place: gateways.map(({ id }) => `Deployment ${id}`).join(', '),
      found: `${replicas} replicas`,
      expected: '1',
    }),
  ];
}

const tracingFlag = 'AIBRIX_GPU_OPTIMIZER_TRACING_FLAG';
/** Without these, v0.4.0 to v0.7 take themselves for no gateway and record nothing. */
const kvSyncFlags = ['AIBRIX_PREFIX_CACHE_KV_EVENT_SYNC_ENABLED', 'AIBRIX_PREFIX_CACHE_USE_REMOTE_TOKENIZER'];

function tracing({ id, version, image, environment }: AibrixComponent): readonly Finding[] {
  const minor = version === null || version[0] > 0 ? null : version[1];
  if (minor !== null && minor < 3) return [];
  const wanted = minor !== null && minor >= 4 && minor < 8 ? [tracingFlag, ...kvSyncFlags] : [tracingFlag];
  // What a ConfigMap or a Secret gives is null: it may be right.
  const wrong = wanted.filter((name) => {
    const value = Object.hasOwn(environment, name) ? environment[name] : undefined;
    return value !== null && value?.toLowerCase() !== 'true';
  });
  if (wrong.length === 0) return [];
  return [
    finding('gateway_does_not_trace', {
      place: `Deployment ${id}`,
      found: `${image} with ${wrong.map((name) => `${name}=${environment[name] ?? '(not set)'}`).join(', ')}`,
      expected: wrong.map((name) => `${name}=true`).join(', '),
    }),
  ];
}

import type { Agent } from 'undici';
import { InputError } from '../core/input-error.js';
import {
  type Clock,
  type EngineLatency,
  type EngineMetrics,
  type EngineReading,
  type EngineSample,
  type LatencyTotal,
  Unavailable,
} from '../core/ports.js';
import { createAgent, RequestFailed, readBounded, shownUrl } from './bounded-request.js';
import { parseMetricSamples } from './prometheus-text.js';

/**
 * What inference engines tell of themselves: vLLM's and SGLang's metrics by their names of several versions, read from
 * each engine's own `/metrics`. The same names in a Prometheus server are read by `prometheus-queries.ts`.
 */

/** What stands before the names: vLLM, vLLM as KServe relabels it, SGLang. The first that an engine has counts. */
const prefixes = ['vllm:', 'kserve_vllm:', 'sglang:'] as const;

const promptTokens = 'prompt_tokens_total';
const generationTokens = 'generation_tokens_total';

/**
 * Histograms of each latency, the best first. A profile's TPOT is a mean over requests; versions without that have one
 * over tokens, under a name that changed.
 */
const histograms = {
  ttft: ['time_to_first_token_seconds'],
  tpot: ['request_time_per_output_token_seconds', 'inter_token_latency_seconds', 'time_per_output_token_seconds'],
  e2e: ['e2e_request_latency_seconds'],
} satisfies Record<EngineLatency, readonly string[]>;

const parts = [
  promptTokens,
  generationTokens,
  ...Object.values(histograms)
    .flat()
    .flatMap((name) => [`${name}_sum`, `${name}_count`]),
];

/** The metrics that are read. */
export const engineMetricNames: readonly string[] = prefixes.flatMap((prefix) => parts.map((part) => prefix + part));
const wantedNames: ReadonlySet<string> = new Set(engineMetricNames);

/** The counter of which every engine has one, by which the time of a sample is asked for. */
export const everyEnginesCounter: readonly string[] = prefixes.map((prefix) => prefix + promptTokens);

/**
 * One process' totals out of the sums of its series by name; null where they are not those of a known engine.
 *
 * A histogram of which only one half is there, or that holds what is no number, is not told.
 */
export function totalsOf(
  sums: ReadonlyMap<string, number>,
): Pick<EngineSample, 'promptTokens' | 'generationTokens' | 'latencies'> | null {
  for (const prefix of prefixes) {
    const total = (name: string): number | null => {
      const value = sums.get(prefix + name);
      return value !== undefined && Number.isFinite(value) && value >= 0 ? value : null;
    };
    const [prompts, generated] = [total(promptTokens), total(generationTokens)];
    if (prompts === null || generated === null) continue;
    const latency = (names: readonly string[]): LatencyTotal | null => {
      for (const name of names) {
        const [seconds, count] = [total(`${name}_sum`), total(`${name}_count`)];
        if (seconds !== null && count !== null) return { seconds, count };
      }
      return null;
    };
    const latencies = {
      ttft: latency(histograms.ttft),
      tpot: latency(histograms.tpot),
      e2e: latency(histograms.e2e),
    };
    // Without either nobody can tell how many requests there were.
    if (latencies.ttft === null && latencies.e2e === null) continue;
    return { promptTokens: prompts, generationTokens: generated, latencies };
  }
  return null;
}

/** Adds a value to the sum of its name: an engine has one series for each of its cores, models and reasons. */
export function addTo(sums: Map<string, number>, name: string, value: number): void {
  sums.set(name, (sums.get(name) ?? 0) + value);
}

/** Where the engines of one deployment answer. */
export type ScrapeTarget = {
  /** namespace/name */
  readonly deployment: string;
  readonly urls: readonly string[];
};

/** vLLM's own answers have some 200 kB: several models and many buckets have room. */
const largestAnswerBytes = 8 * 1024 * 1024;

/** Engines that are asked at once. */
const enginesAtOnce = 16;

/**
 * Reads the `/metrics` of engines at configured URLs. One that cannot be read is a problem of the reading; all of them is
 * `Unavailable`.
 */
export function createScrapedEngines(options: {
  readonly targets: readonly ScrapeTarget[];
  readonly timeoutMs: number;
  readonly clock: Clock;
}): EngineMetrics {
  const { targets, timeoutMs, clock } = options;
  const agent = createAgent(null);
  return {
    async read(deployments) {
      const followed = new Set(deployments.map(({ id }) => id));
      const wanted = targets
        .filter(({ deployment }) => followed.has(deployment))
        .flatMap(({ deployment, urls }) => urls.map((url) => ({ deployment, url: new URL(url) })));
      const samples: EngineSample[] = [];
      const problems: string[] = [];
      let next = 0;
      const readSome = async (): Promise<void> => {
        while (next < wanted.length) {
          const { deployment, url } = wanted[next++]!;
          const answer = await readEngine({ url, timeoutMs, agent });
          if (typeof answer === 'string') problems.push(`${deployment}: ${answer}`);
          else samples.push({ deployment, instance: shownUrl(url), atMs: clock.now(), ...answer });
        }
      };
      await Promise.all(Array.from({ length: Math.min(enginesAtOnce, wanted.length) }, readSome));
      if (wanted.length > 0 && samples.length === 0) throw new Unavailable('engines_unreachable', shortList(problems));
      return { samples, problems: problems.sort() };
    },
    close: () => agent.destroy(),
  };
}

/** The totals of one engine, or a sentence on why there are none. */
async function readEngine(options: {
  readonly url: URL;
  readonly timeoutMs: number;
  readonly agent: Agent;
}): Promise<NonNullable<ReturnType<typeof totalsOf>> | string> {
  const { url, timeoutMs, agent } = options;
  const source = `metrics of ${shownUrl(url)}`;
  try {
    const text = await readBounded({
      url,
      timeoutMs,
      largestBytes: largestAnswerBytes,
      dispatcher: agent,
      headers: { accept: 'text/plain;version=0.0.4' },
    });
    const sums = new Map<string, number>();
    for (const { name, value } of parseMetricSamples(text, { source, wanted: (name) => wantedNames.has(name) })) {
      addTo(sums, name, value);
    }
    return totalsOf(sums) ?? `${source}: found no counters of an engine, expected those of vLLM or SGLang`;
  } catch (error) {
    if (error instanceof RequestFailed) return `${source}: found ${error.message}, expected metrics as text`;
    if (error instanceof InputError) return error.message;
    throw error;
  }
}

/** Problems that one sentence lists. */
const listedProblems = 3;

/** Several problems as one text. */
function shortList(problems: readonly string[]): string {
  const rest = problems.length - listedProblems;
  return `${problems.slice(0, listedProblems).join('; ')}${rest > 0 ? `; and ${rest} more` : ''}`;
}

/**
 * Several sources as one. A deployment of which the first tells something is not asked for elsewhere: its engines would
 * count twice.
 */
export function joinEngineMetrics(sources: readonly EngineMetrics[]): EngineMetrics {
  return {
    async read(deployments) {
      const readings: EngineReading[] = [];
      const failures: Unavailable[] = [];
      let asked = deployments;
      for (const source of sources) {
        try {
          const reading = await source.read(asked);
          readings.push(reading);
          const told = new Set(reading.samples.map(({ deployment }) => deployment));
          asked = asked.filter(({ id }) => !told.has(id));
        } catch (error) {
          if (!(error instanceof Unavailable)) throw error;
          failures.push(error);
        }
      }
      if (readings.length === 0 && failures[0] !== undefined) throw failures[0];
      const problems = [...failures.map(({ message }) => message), ...readings.flatMap((reading) => reading.problems)];
      return { samples: readings.flatMap((reading) => reading.samples), problems };
    },
    async close() {
      await Promise.all(sources.map((source) => source.close()));
    },
  };
}

import autocannon from 'autocannon';
import { runLoad } from '../src/adapters/openai/load-generator.js';
import { probe } from '../src/adapters/openai/probe.js';
import { requestBody, targetDefaults } from '../src/adapters/openai/target.js';
import { drawArrivals } from '../src/profiling/arrivals.js';
import { promptSource } from '../src/profiling/prompts.js';
import { measure } from '../src/profiling/steady-state.js';

/**
 * One client in a process of its own, so that the processor time it takes is known: gpumix's load generator, or
 * autocannon with the same request. Told what to do by one message, answers with one.
 */

export type ClientTurn = {
  readonly client: 'gpumix' | 'autocannon';
  readonly url: string;
  readonly model: string;
  /** null: as many as it gets through (autocannon). */
  readonly requestRate: number | null;
  readonly seconds: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Of autocannon. */
  readonly connections: number;
};

export type ClientResult = {
  /** Whole answers per second. */
  readonly rps: number;
  readonly failures: number;
  /** Processor time by real time: 1 is one core. */
  readonly cores: number;
  /** Processor time for each whole answer [ms]. */
  readonly cpuMsPerRequest: number;
  /** 99th percentile of sent − scheduled [ms]; null where nothing was scheduled. */
  readonly scheduleErrorP99Ms: number | null;
  readonly scheduleErrorP50Ms: number | null;
  /** Requests in flight, mean (Little's law). */
  readonly inFlight: number;
  readonly invalidBecause: string | null;
};

/** Seconds of load before the turn counts: compiling, and the first connections. */
const warmUpSeconds = 1;

async function gpumixTurn(turn: ClientTurn): Promise<ClientResult> {
  const { model, url, seconds, inputTokens, outputTokens } = turn;
  const requestRate = turn.requestRate!;
  const server = await probe({ ...targetDefaults, baseUrl: url, model, timeoutSeconds: 30 }, { promptSalt: 1 });
  const load = async (duration: number, seed: number) => {
    const count = Math.round(requestRate * duration);
    const lengths = { inputTokens, outputTokens };
    const requests = drawArrivals({ kind: 'poisson', requestRate, count, seed, lengths });
    const run = await runLoad({ target: server, requests, promptSalt: seed });
    const plan = { model, cell: lengths, mix: null, requestRate, arrivals: 'poisson', seed, temperature: 0 } as const;
    return measure(run.outcomes, { ...plan, ...run });
  };
  await load(warmUpSeconds, 2);
  const used = stopwatch();
  const measured = await load(seconds, 3);
  const { cores, cpuMs } = used();
  await server.close();
  const { completed, sent } = measured.counts;
  return {
    rps: measured.throughputRps,
    failures: sent - completed,
    cores,
    cpuMsPerRequest: cpuMs / completed,
    scheduleErrorP99Ms: measured.scheduleError!.p99 * 1000,
    scheduleErrorP50Ms: measured.scheduleError!.p50 * 1000,
    inFlight: measured.throughputRps * (measured.e2e?.mean ?? 0),
    invalidBecause: measured.invalidBecause,
  };
}

async function autocannonTurn(turn: ClientTurn): Promise<ClientResult> {
  const { model, url, requestRate, seconds, inputTokens, outputTokens, connections } = turn;
  const shape = {
    extras: ['ignore_eos', 'min_tokens', 'stream_options'],
    lengthField: 'max_tokens',
    streaming: true,
  } as const;
  const prompt = promptSource({ salt: 1 }).prompt(0, inputTokens);
  const load = (duration: number) =>
    autocannon({
      url: `${url}/v1/completions`,
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: requestBody({ api: 'completions', model, temperature: 0 }, shape, { prompt, outputTokens }),
      duration,
      connections,
      ...(requestRate === null ? {} : { overallRate: requestRate }),
    });
  await load(warmUpSeconds);
  const used = stopwatch();
  const result = await load(seconds);
  const { cores, cpuMs } = used();
  const completed = result['2xx'];
  return {
    rps: completed / result.duration,
    failures: result.non2xx + result.errors,
    cores,
    cpuMsPerRequest: cpuMs / completed,
    scheduleErrorP99Ms: null,
    scheduleErrorP50Ms: null,
    inFlight: connections,
    invalidBecause: null,
  };
}

function stopwatch(): () => { readonly cores: number; readonly cpuMs: number } {
  const cpu = process.cpuUsage();
  const begun = performance.now();
  return () => {
    const { user, system } = process.cpuUsage(cpu);
    const cpuMs = (user + system) / 1000;
    return { cores: cpuMs / (performance.now() - begun), cpuMs };
  };
}

process.once('message', async (turn: ClientTurn) => {
  const result = turn.client === 'gpumix' ? await gpumixTurn(turn) : await autocannonTurn(turn);
  process.send!(result);
  process.disconnect();
});

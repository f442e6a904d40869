import { fork } from 'node:child_process';
import { once } from 'node:events';
import { startEngine } from './engine-process.js';
import type { ClientResult, ClientTurn } from './generator-process.js';
import { brief, median, progress, table } from './timing.js';

/**
 * The load generator against `gpumix engine --null`: 2,000 streaming requests/s of 16 tokens, Poisson arrivals. How late
 * do requests leave, and what does one cost?
 *
 * Beside it autocannon with the same request: at the same rate (paced, closed loop: it waits for answers and reads no
 * events), and as fast as it can. Engine and clients are processes of their own; turns alternate.
 */

export type GeneratorBenchmark = {
  readonly requestRate: number;
  readonly repetitions: number;
  /** Medians of the turns of each. */
  readonly gpumix: ClientResult;
  readonly autocannonPaced: ClientResult;
  readonly autocannonFree: ClientResult;
  /** Turns of gpumix whose schedule did not hold, with the reason of the last. */
  readonly invalidTurns: number;
  readonly invalidBecause: string | null;
  /** Highest of the rates tried whose schedule held; null where none did. */
  readonly highestValidRate: number | null;
};

/** 99th percentile of the schedule error that is aimed at [ms]. */
export const aimedScheduleErrorMs = 10;

const cell = { inputTokens: 64, outputTokens: 16 };

export async function benchmarkGenerator({ quick }: { readonly quick: boolean }): Promise<GeneratorBenchmark> {
  const requestRate = 2000;
  const repetitions = quick ? 1 : 5;
  const seconds = quick ? 2 : 5;
  const engine = await startEngine(['--null']);
  try {
    const turn = (client: ClientTurn['client'], rate: number | null, connections = 32): Promise<ClientResult> =>
      oneTurn({ client, url: engine.url, model: engine.model, requestRate: rate, seconds, connections, ...cell });
    const turns = { gpumix: [] as ClientResult[], paced: [] as ClientResult[], free: [] as ClientResult[] };
    for (let i = 0; i < repetitions; i += 1) {
      progress(`generator: repetition ${i + 1} of ${repetitions}`);
      const first = await turn('gpumix', requestRate);
      turns.gpumix.push(first);
      // The same concurrency, but enough connections that pacing is not what limits it.
      const connections = Math.min(512, Math.max(16, Math.ceil(first.inFlight)));
      turns.paced.push(await turn('autocannon', requestRate, connections));
      turns.free.push(await turn('autocannon', null, connections));
    }
    const invalid = turns.gpumix.filter(({ invalidBecause }) => invalidBecause !== null);
    let highestValidRate = invalid.length === 0 ? requestRate : null;
    for (const rate of quick ? [] : [2500, 3000, 4000, 5000]) {
      if (highestValidRate === null) break;
      progress(`generator: ${rate} requests/s`);
      if ((await turn('gpumix', rate)).invalidBecause !== null) break;
      highestValidRate = rate;
    }
    progress('');
    return {
      requestRate,
      repetitions,
      gpumix: medians(turns.gpumix),
      autocannonPaced: medians(turns.paced),
      autocannonFree: medians(turns.free),
      invalidTurns: invalid.length,
      invalidBecause: invalid.at(-1)?.invalidBecause ?? null,
      highestValidRate,
    };
  } finally {
    engine.process.kill();
  }
}

export function describeGenerator(result: GeneratorBenchmark): string {
  const { gpumix, autocannonPaced, autocannonFree, requestRate, repetitions } = result;
  const row = (name: string, client: ClientResult) => [
    name,
    brief(client.rps),
    client.scheduleErrorP50Ms === null ? '–' : brief(client.scheduleErrorP50Ms),
    client.scheduleErrorP99Ms === null ? '–' : brief(client.scheduleErrorP99Ms),
    brief(client.cores * 100),
    brief(client.cpuMsPerRequest * 1000),
    String(client.failures),
  ];
  const late = gpumix.scheduleErrorP99Ms ?? Number.NaN;
  return [
    table(
      ['client', 'requests/s', 'late p50 ms', 'late p99 ms', '% of a core', 'CPU µs/request', 'failed'],
      [
        row(`gpumix, open loop at ${requestRate}/s`, gpumix),
        row(`autocannon, paced at ${requestRate}/s`, autocannonPaced),
        row('autocannon, as fast as it can', autocannonFree),
      ],
    ),
    '',
    `schedule error p99 ${brief(late)} ms (aim < ${aimedScheduleErrorMs})`,
    `CPU per request, gpumix ÷ autocannon: ${brief(gpumix.cpuMsPerRequest / autocannonPaced.cpuMsPerRequest)}× paced, ${brief(gpumix.cpuMsPerRequest / autocannonFree.cpuMsPerRequest)}× free (autocannon sends one prompt and reads no events; gpumix makes each prompt, and reads and dates each token)`,
    `turns in which the schedule did not hold: ${result.invalidTurns} of ${repetitions}${result.invalidBecause === null ? '' : ` (${result.invalidBecause})`}`,
    `highest rate tried that held: ${result.highestValidRate === null ? 'none' : `${brief(result.highestValidRate)}/s`}; medians of ${repetitions}`,
  ].join('\n');
}

async function oneTurn(turn: ClientTurn): Promise<ClientResult> {
  const child = fork(new URL('./generator-process.js', import.meta.url));
  child.send(turn);
  const result = await Promise.race([
    once(child, 'message').then(([message]) => message as ClientResult),
    once(child, 'exit').then(([code]) => {
      throw new Error(`the client ended with code ${code}`);
    }),
  ]);
  return result;
}

function medians(results: readonly ClientResult[]): ClientResult {
  const of = (value: (result: ClientResult) => number) => median(results.map(value));
  const ofSome = (value: (result: ClientResult) => number | null) => {
    const values = results.map(value).filter((one) => one !== null);
    return values.length === 0 ? null : median(values);
  };
  return {
    rps: of(({ rps }) => rps),
    failures: results.reduce((sum, { failures }) => sum + failures, 0),
    cores: of(({ cores }) => cores),
    cpuMsPerRequest: of(({ cpuMsPerRequest }) => cpuMsPerRequest),
    scheduleErrorP99Ms: ofSome(({ scheduleErrorP99Ms }) => scheduleErrorP99Ms),
    scheduleErrorP50Ms: ofSome(({ scheduleErrorP50Ms }) => scheduleErrorP50Ms),
    inFlight: of(({ inFlight }) => inFlight),
    invalidBecause: results.find(({ invalidBecause }) => invalidBecause !== null)?.invalidBecause ?? null,
  };
}

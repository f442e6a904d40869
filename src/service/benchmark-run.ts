import { drawArrivals, scheduleTrace, type TracedRequest } from '../profiling/arrivals.js';
import type { Slo } from '../profiling/attainment.js';
import type { Agenda } from '../profiling/benchmark-agenda.js';
import { type BenchmarkRow, rowsOf } from '../profiling/benchmark-row.js';
import { projectCapacity } from '../profiling/capacity-projection.js';
import { abortReason } from '../profiling/early-abort.js';
import { judgeRun } from '../profiling/judged-run.js';
import type {
  ArrivalKind,
  Cell,
  FailureKind,
  Measurement,
  RequestOutcome,
  ScheduledRequest,
} from '../profiling/measurement.js';
import type { Mix } from '../profiling/mix.js';
import { type CellResult, type PlannedRun, type RunRecord, recordOf } from '../profiling/rate-search.js';
import type { BenchmarkServer } from './benchmark-server.js';

/**
 * A benchmark: the runs of an agenda, one after another on each server, their rows written as each run ends.
 *
 * Servers are taken to be replicas of one kind: cells are shared out among them, and no cell is on two at once. What was
 * measured lives in the records only, so a benchmark that is called off, or runs out of time, goes on from them.
 *
 * A run is left without rows where it says nothing of the server's speed: called off, out of time, or sent to a server that
 * was gone (refused connections, a key or a model that is not taken any more). A server that is gone takes no more runs.
 */
export type BenchmarkWork = {
  readonly model: string;
  readonly agenda: Agenda;
  /** null: every run is finished, and none is held against latencies. */
  readonly slo: Slo | null;
  /** Ends hopeless runs early. */
  readonly abortsEarly: boolean;
  /** The lengths that are drawn where a mixture is measured, not cells. */
  readonly mix: Mix | null;
  readonly arrivals: ArrivalKind;
  /** Whose times are taken with `arrivals: 'trace'`. */
  readonly trace: readonly TracedRequest[] | null;
  readonly seed: number;
  readonly temperature: number;
  /** Time after which no run is begun, and none that would last beyond it [s]; null = no limit. */
  readonly maxSeconds: number | null;
};

export type BenchmarkPorts = {
  /** At least one. */
  readonly servers: readonly BenchmarkServer[];
  /** Stores the rows of one run, whole. */
  readonly write: (rows: readonly BenchmarkRow[], record: RunRecord) => Promise<void>;
  readonly signal: AbortSignal;
  /**
   * One for each benchmark, however often it is begun: its prompts are in no cache that an earlier one filled. Of a benchmark's own
   * runs, no two send the same prompts. Default 0.
   */
  readonly promptSalt?: number;
  readonly onProgress?: (progress: BenchmarkProgress) => void;
};

/** Told as requests end and as runs begin and end. */
export type BenchmarkProgress = {
  readonly server: string;
  readonly run: PlannedRun;
  /** Requests of this run that ended, and its mean TTFT so far [s]. */
  readonly ended: number;
  readonly ttftSeconds: number | null;
  readonly cellsDone: number;
  readonly cells: number;
  readonly runsMade: number;
  /** About how long the rest takes [s]. */
  readonly remainingSeconds: number;
};

export type BenchmarkReport = {
  /**
   * - done: nothing is left to measure
   * - time: the time that was allowed is over
   * - interrupted: called off
   * - lost: no server answers any more
   */
  readonly ended: 'done' | 'time' | 'interrupted' | 'lost';
  readonly results: readonly CellResult[];
  /** Of this session and those before it. */
  readonly runs: number;
  readonly requests: number;
  /** Time that this session took [s], on the servers' clock. */
  readonly seconds: number;
  readonly warnings: readonly string[];
};

/**
 * Makes the runs.
 *
 * @param records what earlier sessions measured; not changed
 */
export async function runBenchmark(
  work: BenchmarkWork,
  ports: BenchmarkPorts,
  records: readonly RunRecord[] = [],
): Promise<BenchmarkReport> {
  const session = new BenchmarkSession(work, ports, records);
  return session.run();
}

/** Failures that say that the server is not there for us any more, however fast it may be. */
const goneKinds: readonly FailureKind[] = ['connect', 'http_401', 'http_404'];
/** Failures of that kind, and nothing else, after which a run is given up. */
const goneAfter = 5;
/** Share of the answers that may be shorter than asked for before it is said. */
const toleratedShortened = 0.01;

type Ended = 'called_off' | 'out_of_time' | 'server_gone';

class BenchmarkSession {
  readonly #work: BenchmarkWork;
  readonly #ports: BenchmarkPorts;
  readonly #records: RunRecord[];
  readonly #busy = new Map<BenchmarkServer, Cell>();
  readonly #waiting: (() => void)[] = [];
  readonly #warnings = new Set<string>();
  readonly #shortestTtft = new Map<string, number>();
  #ended: BenchmarkReport['ended'] = 'done';
  #lost = 0;
  #invalid = 0;
  #late = 0;
  #seconds = 0;
  #remaining = 0;

  constructor(work: BenchmarkWork, ports: BenchmarkPorts, records: readonly RunRecord[]) {
    this.#work = work;
    this.#ports = ports;
    this.#records = [...records];
  }

  async run(): Promise<BenchmarkReport> {
    const { servers } = this.#ports;
    for (const server of servers) {
      for (const warning of server.warnings) {
        this.#warnings.add(servers.length > 1 ? `${server.name}: ${warning}` : warning);
      }
    }
    await Promise.all(servers.map((server) => this.#useServer(server)));
    if (this.#ports.signal.aborted) this.#ended = 'interrupted';
    else if (this.#lost === servers.length) this.#ended = 'lost';
    const results = this.#work.agenda.results(this.#records);
    this.#warnAtTheEnd(results);
    return {
      ended: this.#ended,
      results,
      runs: this.#records.length,
      requests: this.#records.reduce((sum, { sent }) => sum + sent, 0),
      seconds: this.#seconds,
      warnings: [...this.#warnings],
    };
  }

  /** Runs on one server until nothing is left for it. */
  async #useServer(server: BenchmarkServer): Promise<void> {
    const begun = server.now();
    const { signal } = this.#ports;
    const { agenda, maxSeconds } = this.#work;
    const secondsLeft = (): number => (maxSeconds ?? Number.POSITIVE_INFINITY) - (server.now() - begun);
    while (!signal.aborted) {
      const isBusy = (cell: Cell): boolean => [...this.#busy.values()].some((other) => sameCell(other, cell));
      let passedOver = false;
      const run = agenda.next(this.#records, {
        isBusy,
        fits: ({ expectedSeconds }) => {
          const fits = expectedSeconds <= secondsLeft();
          if (!fits) passedOver = true;
          return fits;
        },
      });
      if (run === null) {
        // What another server is at may leave something over.
        if (this.#busy.size > 0) {
          await this.#nextEnd();
          continue;
        }
        if (passedOver) this.#ended = 'time';
        break;
      }
      this.#busy.set(server, run.cell);
      const ended = await this.#makeRun(server, run, secondsLeft).finally(() => {
        this.#busy.delete(server);
        this.#tellEnd();
      });
      this.#seconds = Math.max(this.#seconds, server.now() - begun);
      if (ended === 'out_of_time') this.#ended = 'time';
      if (ended === 'server_gone') this.#lost += 1;
      if (ended !== null) break;
    }
  }

  /** Resolves when a run ends, on whatever server. */
  #nextEnd(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #tellEnd(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** Makes one run and writes its rows; where it has none, says why. */
  async #makeRun(server: BenchmarkServer, run: PlannedRun, secondsLeft: () => number): Promise<Ended | null> {
    const { slo, abortsEarly, model, arrivals, temperature, mix } = this.#work;
    const attempt = this.#records.filter(
      (record) => sameCell(record.cell, run.cell) && record.requestRate === run.requestRate,
    ).length;
    const seed = runSeed(this.#work.seed, attempt);
    const requests = this.#schedule(run, seed);
    const rules = slo === null || !abortsEarly ? null : { slo, schedule: requests, requestRate: run.requestRate };
    let gone: RequestOutcome | null = null;
    let isOver = false;
    const shouldAbort = (soFar: readonly RequestOutcome[], elapsedSeconds: number): string | null => {
      gone = goneAnswer(soFar, requests.length);
      if (gone !== null) return 'the server does not answer';
      // What runs long is cut off at the end of the time; a run that was expected to fit gets that much more.
      if (secondsLeft() < -0.1 * (this.#work.maxSeconds ?? 0)) {
        isOver = true;
        return 'the time allowed is over';
      }
      return rules === null ? null : abortReason(rules, soFar, elapsedSeconds);
    };
    const watch = this.#watch(server, run);
    const served = await server.serve({
      requests,
      promptSalt: saltOf(this.#ports.promptSalt ?? 0, seed, run),
      signal: this.#ports.signal,
      onOutcome: watch,
      shouldAbort,
    });
    if (this.#ports.signal.aborted) return 'called_off';
    if (isOver) return 'out_of_time';
    gone ??= goneAnswer(served.outcomes, served.outcomes.length);
    if (gone !== null) {
      const { failure, failureDetail } = gone as RequestOutcome;
      this.#warnings.add(`${server.name} is gone: ${failureDetail ?? failure}`);
      return 'server_gone';
    }
    const judged = judgeRun(
      served.outcomes,
      {
        model,
        cell: mix === null ? run.cell : null,
        mix: mix?.name ?? null,
        requestRate: run.requestRate,
        arrivals,
        seed,
        temperature,
        aborted: run.presumed ?? served.aborted,
        generatorFault: served.generatorFault,
        generatorStall: served.generatorStall,
      },
      slo,
    );
    const { measurement: measured, attainment } = judged;
    const record = recordOf(run, {
      measurement: measured,
      attainment,
      projection: slo === null ? null : projectCapacity(judged.outcomes, slo),
    });
    this.#records.push(record);
    if (judged.fromSchedule) this.#late += 1;
    this.#warn(measured, record);
    await this.#ports.write(
      rowsOf(asJudged(measured, record), {
        method: server.method,
        lowerRatesOpen: this.#work.agenda.leavesLowerRatesOpen(record),
      }),
      record,
    );
    this.#remaining = this.#work.agenda.remainingSeconds(this.#records) / this.#ports.servers.length;
    return null;
  }

  #schedule({ cell, requestRate, requests: count }: PlannedRun, seed: number): readonly ScheduledRequest[] {
    const { arrivals, mix, trace } = this.#work;
    const lengths = mix === null ? cell : mix.lengths;
    if (arrivals !== 'trace' || trace === null) {
      return drawArrivals({ kind: arrivals === 'trace' ? 'poisson' : arrivals, requestRate, count, seed, lengths });
    }
    return scheduleTrace({
      requests: sliceOfTrace(trace, { count, seed, cell: mix === null ? cell : null }),
      requestRate,
    });
  }

  #watch(server: BenchmarkServer, run: PlannedRun): (outcome: RequestOutcome) => void {
    const { onProgress } = this.#ports;
    if (onProgress === undefined) return () => {};
    const { agenda } = this.#work;
    const cellsDone = agenda.results(this.#records).filter(({ state }) => isSettled(state)).length;
    let ended = 0;
    let answered = 0;
    let ttft = 0;
    const tell = (): void =>
      onProgress({
        server: server.name,
        run,
        ended,
        ttftSeconds: answered === 0 ? null : ttft / answered,
        cellsDone,
        cells: agenda.cells.length,
        runsMade: this.#records.length,
        remainingSeconds: Math.max(this.#remaining, run.expectedSeconds),
      });
    tell();
    return ({ firstTokenSeconds, sentSeconds }) => {
      ended += 1;
      if (firstTokenSeconds !== null) {
        answered += 1;
        ttft += firstTokenSeconds - sentSeconds;
      }
      tell();
    };
  }

  /** What a run says beside its figures. */
  #warn(measured: Measurement, record: RunRecord): void {
    const { counts, usage, cell, ttft } = measured;
    if (record.verdict === 'invalid') this.#invalid += 1;
    if (counts.completed > 0 && usage === 'counted') {
      this.#warnings.add(
        'the server sends no usage: output tokens were counted by us, prompt lengths are as asked for',
      );
    }
    if (counts.completed > 0 && usage === 'requested') {
      this.#warnings.add('the server sends no usage and nothing could be counted: token counts are those asked for');
    }
    if (counts.shortened > toleratedShortened * counts.completed) {
      this.#warnings.add(
        'answers ended before the wanted length (the server does not keep to ignore_eos or min_tokens): ' +
          'throughputs are of shorter answers than their cells say',
      );
    }
    if (cell !== null && ttft !== null && measured.aborted === null) {
      const key = `${cell.inputTokens} ${cell.outputTokens}`;
      this.#shortestTtft.set(key, Math.min(this.#shortestTtft.get(key) ?? Number.POSITIVE_INFINITY, ttft.p50));
    }
  }

  #warnAtTheEnd(results: readonly CellResult[]): void {
    if (this.#invalid > 0) {
      this.#warnings.add(
        `${this.#invalid} ${this.#invalid === 1 ? 'run was' : 'runs were'} invalid and count${this.#invalid === 1 ? 's' : ''} for nothing (the rows say why)`,
      );
    }
    if (this.#late > 0) {
      this.#warnings.add(
        `gpumix was not given the processor in time in ${this.#late} ${this.#late === 1 ? 'run' : 'runs'} that met the SLO all the same: ` +
          'their latencies are counted from when requests were due, too long rather than too short',
      );
    }
    const suspicion = prefixCacheSuspicion(
      results.map(({ cell }) => cell),
      (cell) => this.#shortestTtft.get(`${cell.inputTokens} ${cell.outputTokens}`) ?? null,
    );
    if (suspicion !== null) this.#warnings.add(suspicion);
  }
}

const sameCell = (a: Cell, b: Cell): boolean => a.inputTokens === b.inputTokens && a.outputTokens === b.outputTokens;

/** Nothing more will be measured of such a cell. */
export function isSettled(state: CellResult['state']): boolean {
  return state !== 'unfinished' && state !== 'not_measured';
}

/**
 * The seed of a run's arrivals: that of the benchmark. All cells and rates see the same arrivals, stretched to their rate, so
 * that they differ by themselves alone and predict each other. A run that is repeated sees others: it is to tell chance apart.
 */
export function runSeed(seed: number, attempt: number): number {
  return attempt === 0 ? seed : hashOf([seed, attempt]);
}

/** Prompts of its own for each run: two runs of one seed would send prompts that begin alike, and a cache would know them. */
export function saltOf(
  benchmark: number,
  seed: number,
  { cell, requestRate }: Pick<PlannedRun, 'cell' | 'requestRate'>,
): number {
  return hashOf([benchmark, seed, cell.inputTokens, cell.outputTokens, Math.round(requestRate * 1e6)]);
}

/** FNV-1a of whole numbers. */
function hashOf(parts: readonly number[]): number {
  let hash = 0x811c9dc5;
  for (const part of parts) {
    for (let rest = Math.abs(part), i = 0; i < 7; i++, rest = Math.floor(rest / 256)) {
      hash = Math.imul(hash ^ (rest & 0xff), 0x01000193);
    }
  }
  return hash >>> 0;
}

/** The first answer of a server that is gone; null where it is there, or too little was heard. */
function goneAnswer(soFar: readonly RequestOutcome[], planned: number): RequestOutcome | null {
  const first = soFar[0];
  if (first === undefined || soFar.length < Math.min(goneAfter, planned)) return null;
  return soFar.every(({ failure }) => failure !== null && goneKinds.includes(failure)) ? first : null;
}

/** A stretch of a log, from a place that the seed chooses, going on at its beginning after its end. */
function sliceOfTrace(
  trace: readonly TracedRequest[],
  { count, seed, cell }: { readonly count: number; readonly seed: number; readonly cell: Cell | null },
): readonly TracedRequest[] {
  const span = trace.at(-1)!.atMs - trace[0]!.atMs;
  const gap = span / Math.max(1, trace.length - 1);
  const start = seed % trace.length;
  return Array.from({ length: count }, (_, i) => {
    const place = start + i;
    const request = trace[place % trace.length]!;
    const lap = Math.floor(place / trace.length);
    return { ...(cell ?? request), atMs: request.atMs + lap * (span + gap) };
  });
}

/** A run that the search does not count must not be counted by a profile either. */
function asJudged(measured: Measurement, { verdict, invalidBecause }: RunRecord): Measurement {
  return (verdict === 'invalid' || verdict === 'short') && measured.valid
    ? { ...measured, valid: false, invalidBecause }
    : measured;
}

/** Prompts so many times longer must take visibly longer to read. */
const longerPrompts = 16;
const visiblyLonger = 1.2;
/** Shorter prompts take less than a step of any engine [tokens]. */
const longPrompt = 2048;

/**
 * Says where long prompts take no longer than short ones: they were not read. All prompts of a benchmark begin differently,
 * so this should never be.
 */
export function prefixCacheSuspicion(cells: readonly Cell[], ttftOf: (cell: Cell) => number | null): string | null {
  for (const long of cells) {
    if (long.inputTokens < longPrompt) continue;
    for (const short of cells) {
      if (short.outputTokens !== long.outputTokens || short.inputTokens * longerPrompts > long.inputTokens) continue;
      const [longTtft, shortTtft] = [ttftOf(long), ttftOf(short)];
      if (longTtft === null || shortTtft === null || longTtft >= visiblyLonger * shortTtft) continue;
      return (
        `prompts of ${long.inputTokens} tokens are answered as fast as those of ${short.inputTokens} ` +
        `(TTFT ${longTtft.toPrecision(2)} s and ${shortTtft.toPrecision(2)} s): the server seems not to read them (a cache of prompts, or a proxy?)`
      );
    }
  }
  return null;
}

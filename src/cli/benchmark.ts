import { randomInt } from 'node:crypto';
import type { Command } from 'commander';
import { probe } from '../adapters/openai/probe.js';
import { targetDefaults } from '../adapters/openai/target.js';
import { readRequestLog } from '../adapters/request-log.js';
import { openRowFile } from '../adapters/row-file.js';
import { blockTokens } from '../core/gpu-memory.js';
import { InputError } from '../core/input-error.js';
import { parseProfile } from '../core/profile.js';
import { compileWork, type WorkTable } from '../core/work.js';
import type { TracedRequest } from '../profiling/arrivals.js';
import type { Slo } from '../profiling/attainment.js';
import { type Agenda, searchAgenda, sweepAgenda } from '../profiling/benchmark-agenda.js';
import { parseRows, runsOfRows } from '../profiling/benchmark-row.js';
import { generateProfile, unsetSlo } from '../profiling/gen-profile.js';
import { type Additivity, additivityOf, type Mix, meanCell, mixOf } from '../profiling/mix.js';
import type { RunRecord } from '../profiling/rate-search.js';
import { type NotedSettings, notedLines, readNotes } from '../service/benchmark-notes.js';
import { type BenchmarkReport, type BenchmarkWork, runBenchmark } from '../service/benchmark-run.js';
import { type BenchmarkServer, openAiBenchmarkServer, simulatedBenchmarkServer } from '../service/benchmark-server.js';
import { stepTimesOf } from '../simulation/step-time.js';
import { type BenchmarkFlags, type BenchmarkIntent, benchmarkFlags, intentOf } from './benchmark-flags.js';
import { benchmarkProgressLine } from './benchmark-progress.js';
import { mixLines, openLines, ratesTable } from './benchmark-table.js';
import { runUntilCalledOff } from './called-off.js';
import { cataloguedReplica } from './catalogued-replica.js';
import { describeTtft, flagError } from './flag-values.js';
import { defaultLimitMib, readDocument } from './read-document.js';
import { hang } from './terminal-text.js';
import { packageVersion } from './version.js';

/** What the command sees of the process around it. */
export type BenchmarkSurroundings = {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdin: NodeJS.ReadStream;
  readonly write: (text: string) => void;
  readonly writeError: (text: string) => void;
  /** Draws a progress line on standard error. */
  readonly isTerminal: boolean;
  /** Columns of the terminal now. */
  readonly width: () => number | undefined;
  /** Wall clock, monotonic. */
  readonly nowSeconds: () => number;
  /** Calls the benchmark off. */
  readonly signal: AbortSignal;
};

/** `gpumix benchmark`. */
export function benchmarkCommand(): Command {
  return benchmarkFlags().action(async (flags: BenchmarkFlags) => {
    const { env, stdin, stdout, stderr } = process;
    await runUntilCalledOff((signal) =>
      runBenchmarkCommand(flags, {
        env,
        stdin,
        write: (text) => stdout.write(text),
        writeError: (text) => stderr.write(text),
        isTerminal: stderr.isTTY === true,
        width: () => stderr.columns,
        nowSeconds: () => performance.now() / 1000,
        signal,
      }),
    );
  });
}

/** Where the terminal does not say how wide it is. */
const usualWidth = 80;

/**
 * The command itself.
 *
 * @returns the exit code: 0 done, 1 nothing could be measured, the servers went away, or it was called off
 * @throws Unavailable for a server that does not answer; InputError for flags, files and servers that cannot be used
 */
export async function runBenchmarkCommand(flags: BenchmarkFlags, around: BenchmarkSurroundings): Promise<number> {
  const intent = intentOf(flags);
  const mixLog = flags.mix === undefined ? null : await readLog(flags.mix, around);
  const trace = flags.trace === undefined ? mixLog : await readLog(flags.trace, around);
  const works = flags.profile === undefined ? null : await readWorks(flags.profile, intent, around);
  if (flags.dryRun) {
    around.write(dryRun(flags, intent, mixLog));
    return 0;
  }
  const servers = await openServers(flags, around);
  try {
    const maxTokens = leastOf(servers.map((server) => server.maxTokens));
    if (
      servers.some(({ streams }) => !streams) &&
      (intent.slo?.ttftSeconds ?? intent.slo?.tpotSeconds ?? null) !== null
    ) {
      throw flagError('--base-url', {
        found: 'a server that does not stream',
        expected: 'one that does: TTFT and TPOT are limited',
      });
    }
    const mix = mixLog === null ? null : namedMix(flags.mix!, mixLog, maxTokens);
    const agenda = agendaOf({ ...intent, ...fineness(flags) }, { mix, maxTokens });
    const settings = notedSettings(flags, intent, servers[0]!);
    const store = await openStore(flags, settings, around);
    try {
      const progress = around.isTerminal ? benchmarkProgressLine(around) : null;
      const work: BenchmarkWork = {
        model: flags.model,
        agenda,
        slo: intent.slo,
        abortsEarly: intent.mode === 'search',
        mix,
        arrivals: flags.arrivals,
        trace: flags.arrivals === 'trace' ? trace : null,
        seed: flags.seed,
        temperature: flags.temperature,
        maxSeconds: flags.maxMinutes === undefined ? null : flags.maxMinutes * 60,
      };
      const report = await runBenchmark(
        work,
        {
          servers,
          signal: around.signal,
          promptSalt: randomInt(largestSalt),
          write: (rows, record) => store.write(notedLines(rows, { record, settings })),
          ...(progress === null ? {} : { onProgress: progress.show }),
        },
        store.records,
      ).finally(() => progress?.clear());
      const additivity = mix === null || works === null ? null : compareWithSum({ mix, works, report });
      const tell = flags.output === undefined ? around.writeError : around.write;
      tell(flags.json ? json(report, additivity) : summary({ flags, intent, report, additivity, around }));
      return exitCode(report);
    } finally {
      await store.close();
    }
  } finally {
    await Promise.all(servers.map((server) => server.close()));
  }
}

/** Salts of prompts are below this. */
const largestSalt = 2 ** 31;

function exitCode({ ended, results }: BenchmarkReport): number {
  if (ended === 'interrupted' || ended === 'lost') return 1;
  return results.some(({ state }) => state !== 'not_measured' && state !== 'not_measurable' && state !== 'too_long')
    ? 0
    : 1;
}

async function readLog(file: string, { stdin, signal }: BenchmarkSurroundings): Promise<readonly TracedRequest[]> {
  const requests: TracedRequest[] = [];
  for await (const request of readRequestLog({ file, stdin, signal })) requests.push(request);
  if (requests.length > 0) return requests;
  throw new InputError(file, [{ place: '', found: 'a header and no request', expected: 'requests' }]);
}

function namedMix(file: string, requests: readonly TracedRequest[], maxTokens: number | null): Mix {
  const name = file === '-' ? 'standard input' : (file.split(/[\\/]/).at(-1) ?? file);
  const mix = mixOf({ name, requests, maxTokens });
  if (mix.lengths.length > 0) return mix;
  const expected = `requests with a prompt and an answer${maxTokens === null ? '' : `, of at most ${maxTokens} tokens in all`}`;
  throw new InputError(file, [
    { place: '', found: `${requests.length} requests, none of which can be asked`, expected },
  ]);
}

/** The works of a profile, or of the rows of a search under the same SLO. */
async function readWorks(file: string, { slo }: BenchmarkIntent, around: BenchmarkSurroundings): Promise<WorkTable> {
  const { text, source } = await readDocument({ file, limitMib: defaultLimitMib, stdin: around.stdin });
  if (/^\s*\{[^\n]*"(metric|input_tokens)"/.test(text)) {
    const { runs } = runsOfRows(parseRows(text, source), { source });
    const { profile } = generateProfile({
      deployment: 'mix',
      runs,
      slo: {
        ...unsetSlo,
        ttft: slo?.ttftSeconds ?? unsetSlo.ttft,
        tpot: slo?.tpotSeconds ?? unsetSlo.tpot,
        e2e: slo?.e2eSeconds ?? unsetSlo.e2e,
      },
      ttftPerInputToken: slo?.ttftSecondsPerInputToken ?? 0,
      percentile: slo?.percentile ?? 0,
      cost: 1,
      strict: false,
      createdSeconds: 0,
      by: `gpumix ${packageVersion()}`,
      source,
    });
    return compileWork(profile.grid, null);
  }
  return compileWork(parseProfile(text, source).grid, null);
}

function compareWithSum(options: {
  readonly mix: Mix;
  readonly works: WorkTable;
  readonly report: BenchmarkReport;
}): Additivity | null {
  const measured = options.report.results[0]?.rate ?? null;
  if (measured === null) return null;
  return additivityOf({ lengths: options.mix.lengths, works: options.works, measuredRps: measured });
}

function agendaOf(
  { mode, slo, cells, rates, rateStart, rateLimit, requests, ...fine }: BenchmarkIntent & SearchFineness,
  { mix, maxTokens }: { readonly mix: Mix | null; readonly maxTokens: number | null },
): Agenda {
  // A mixture is looked for as if it were one cell; its own requests fit the model already.
  const looked = mix === null ? { cells, maxTokens } : { cells: [meanCell(mix.lengths)], maxTokens: null };
  if (mode === 'sweep' || slo === null) return sweepAgenda({ ...looked, rates, requests });
  const { resolution, confidence } = fine;
  return searchAgenda({ ...looked, slo, rateStart, rateLimit, requests, resolution, confidence });
}

type SearchFineness = Pick<BenchmarkFlags, 'resolution' | 'confidence'>;

const fineness = ({ resolution, confidence }: BenchmarkFlags): SearchFineness => ({ resolution, confidence });

async function openServers(flags: BenchmarkFlags, around: BenchmarkSurroundings): Promise<readonly BenchmarkServer[]> {
  if (flags.simulate) return [await simulated(flags)];
  const key = flags.apiKey ?? around.env.OPENAI_API_KEY ?? null;
  const urls = [...new Set(flags.baseUrl)];
  const probes = await Promise.allSettled(
    urls.map((baseUrl, index) =>
      probe(
        {
          ...targetDefaults,
          baseUrl,
          model: flags.model,
          apiKey: key === '' ? null : key,
          api: flags.chat ? 'chat' : 'completions',
          streaming: flags.stream,
          temperature: flags.temperature,
          timeoutSeconds: flags.timeout,
        },
        { signal: around.signal, promptSalt: randomInt(largestSalt) + index },
      ),
    ),
  );
  const failed = probes.find((one) => one.status === 'rejected');
  const opened = probes.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  if (failed !== undefined) {
    await Promise.all(opened.map((server) => server.close()));
    throw failed.reason;
  }
  return opened.map((server) => openAiBenchmarkServer(server, { nowSeconds: around.nowSeconds }));
}

async function simulated(flags: BenchmarkFlags): Promise<BenchmarkServer> {
  const spec = await cataloguedReplica({ ...flags, gpu: flags.gpu! });
  const stepTimes = stepTimesOf(spec);
  const { gpu, model, gpusPerReplica, weightPrecision } = spec;
  const cached = Math.floor(stepTimes.kvCacheTokens / blockTokens) * blockTokens;
  return simulatedBenchmarkServer({
    name: `simulated: ${model.name} (${weightPrecision}) on ${gpusPerReplica} x ${gpu.name}`,
    stepTimes,
    limits: {
      maxSequences: flags.maxNumSeqs ?? 256,
      maxBatchedTokens: 8192,
      maxTokens: Math.min(model.maxTokens, cached),
    },
  });
}

function leastOf(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : Math.min(...known);
}

/** What both halves of a resumed benchmark must share. Cells, rates and time may differ: they only say what is left. */
function notedSettings(
  flags: BenchmarkFlags,
  { mode, slo, requests }: BenchmarkIntent,
  server: BenchmarkServer,
): NotedSettings {
  return {
    model: flags.model,
    mode,
    sloTtft: slo?.ttftSeconds ?? null,
    // Only where there is one: files of before have no such setting.
    ...(slo?.ttftSecondsPerInputToken ? { sloTtftPerInputToken: slo.ttftSecondsPerInputToken } : {}),
    sloTpot: slo?.tpotSeconds ?? null,
    sloE2e: slo?.e2eSeconds ?? null,
    percentile: slo?.percentile ?? null,
    requests,
    resolution: mode === 'search' ? flags.resolution : null,
    confidence: mode === 'search' ? flags.confidence : null,
    arrivals: flags.arrivals,
    trace: flags.trace ?? null,
    mix: flags.mix ?? null,
    seed: flags.seed,
    temperature: flags.temperature,
    api: flags.chat ? 'chat' : 'completions',
    streaming: flags.stream,
    // Another simulated replica is another machine; servers may move.
    simulated: server.method === 'simulated' ? server.name : null,
  };
}

type RowStore = {
  readonly records: readonly RunRecord[];
  write(lines: string): Promise<void>;
  close(): Promise<void>;
};

async function openStore(
  flags: BenchmarkFlags,
  settings: NotedSettings,
  around: BenchmarkSurroundings,
): Promise<RowStore> {
  if (flags.output === undefined) {
    return { records: [], write: async (lines) => around.write(lines), close: async () => {} };
  }
  const file = await openRowFile(flags.output, { resume: flags.resume });
  try {
    const { records, wholeCharacters } = readNotes(file.text, { source: flags.output, settings });
    const dropped = file.text.length - wholeCharacters + file.cutCharacters;
    if (wholeCharacters < file.text.length) await file.cutTo(wholeCharacters);
    if (dropped > 0) around.writeError(`gpumix: ${flags.output}: its last run was cut off and is measured again\n`);
    return { records, write: (lines) => file.append(lines), close: () => file.close() };
  } catch (error) {
    await file.close();
    throw error;
  }
}

function dryRun(flags: BenchmarkFlags, intent: BenchmarkIntent, log: readonly TracedRequest[] | null): string {
  const { mode, rates, requests, rateStart, rateLimit } = intent;
  const mix = log === null ? null : namedMix(flags.mix!, log, null);
  const cells = mix === null ? intent.cells : [meanCell(mix.lengths)];
  const lines =
    mode === 'sweep'
      ? cells.flatMap(({ inputTokens, outputTokens }) =>
          rates.map((rate) => `${inputTokens} input, ${outputTokens} output, ${rate} requests/s, ${requests} requests`),
        )
      : cells.map(
          ({ inputTokens, outputTokens }) =>
            `${inputTokens} input, ${outputTokens} output, looked for from ${Number(rateStart.toPrecision(4))} to ${rateLimit} requests/s, ${requests} requests a run`,
        );
  const counted =
    mode === 'sweep'
      ? `${lines.length} runs, ${lines.length * requests} requests, and those that fill the server`
      : `${lines.length} ${lines.length === 1 ? 'cell' : 'cells'}, in this order; how many runs each takes, the runs decide`;
  return `${lines.join('\n')}\n${mix === null ? counted : `a mixture of ${mix.lengths.length} requests (mean lengths above): ${counted}`}\n`;
}

function json(report: BenchmarkReport, additivity: Additivity | null): string {
  return `${JSON.stringify({ ...report, ...(additivity === null ? {} : { additivity }) })}\n`;
}

function summary(options: {
  readonly flags: BenchmarkFlags;
  readonly intent: BenchmarkIntent;
  readonly report: BenchmarkReport;
  readonly additivity: Additivity | null;
  readonly around: BenchmarkSurroundings;
}): string {
  const { flags, intent, report, additivity, around } = options;
  const width = around.width() || usualWidth;
  const { results, runs, requests, seconds, warnings, ended } = report;
  const title = `Highest rate ${intent.slo === null ? 'that the server keeps up with' : `within ${describeSlo(intent.slo)}`} [requests/s]`;
  const minutes = seconds < 90 ? `${seconds.toFixed(0)} s` : `${(seconds / 60).toFixed(1)} min`;
  const ends: Readonly<Record<BenchmarkReport['ended'], string | null>> = {
    done: null,
    time: 'The time allowed is over.',
    interrupted: 'Called off.',
    lost: 'No server answers any more.',
  };
  const goOn =
    flags.output === undefined || ended === 'done'
      ? []
      : [`To go on: the same command with --resume${ended === 'time' ? ' (and more --max-minutes)' : ''}`];
  const body = flags.mix === undefined ? [ratesTable(results, title)] : [title, ...mixLines(results[0]!, additivity)];
  const lines = [
    ...body,
    '',
    `${runs} runs, ${requests} requests, ${minutes}`,
    ...openLines(results, width),
    ...warnings.flatMap((warning) => hang('warning: ', warning, width)),
    ...(ends[ended] === null ? [] : [ends[ended]]),
    ...goOn,
    ...(flags.output === undefined || flags.mix !== undefined || exitCode(report) !== 0
      ? []
      : ['', `Next: ${genProfileLine(flags.output, intent.slo)}`]),
  ];
  return `${lines.join('\n')}\n`;
}

function describeSlo({ ttftSeconds, ttftSecondsPerInputToken = 0, tpotSeconds, e2eSeconds, percentile }: Slo): string {
  const limits = [
    ...(ttftSeconds === null ? [] : [describeTtft(ttftSeconds, ttftSecondsPerInputToken)]),
    ...(tpotSeconds === null ? [] : [`TPOT ${tpotSeconds} s`]),
    ...(e2eSeconds === null ? [] : [`E2E ${e2eSeconds} s`]),
  ];
  return `${limits.join(', ')} (${percentile === 0 ? 'mean' : `P${percentile}`})`;
}

function genProfileLine(file: string, slo: Slo | null): string {
  const flags =
    slo === null
      ? '--ttft S --tpot S'
      : [
          ...(slo.ttftSeconds === null ? [] : [`--ttft ${slo.ttftSeconds}`]),
          ...(slo.ttftSecondsPerInputToken ? [`--ttft-per-input-token ${slo.ttftSecondsPerInputToken}`] : []),
          ...(slo.tpotSeconds === null ? [] : [`--tpot ${slo.tpotSeconds}`]),
          ...(slo.e2eSeconds === null ? [] : [`--e2e ${slo.e2eSeconds}`]),
          `--percentile ${slo.percentile}`,
        ].join(' ');
  return `gpumix gen-profile DEPLOYMENT --benchmark ${file} ${flags} --cost USD_PER_HOUR -o PROFILE.json`;
}

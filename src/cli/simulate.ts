import { randomUUID } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Command, Option } from 'commander';
import { loadGpuCatalogue, loadModelCatalogue } from '../adapters/catalogue-file.js';
import { createMemoryStore } from '../adapters/memory-store.js';
import { type LoggedRequest, readRequestLog } from '../adapters/request-log.js';
import { Unavailable } from '../core/ports.js';
import type { BacktestRequestOptions, BacktestSurroundings, runBacktest } from '../service/backtest/run-backtest.js';
import { chooseConfig } from '../service/choose-config.js';
import { openProfiles } from '../service/compose-inputs.js';
import { defaultObjective, type Fidelity, fidelities, type Router, routers } from '../simulation/backtest/backtest.js';
import { type BacktestDocument, backtestJson } from '../simulation/backtest/backtest-document.js';
import { policyNames } from '../simulation/backtest/policy-names.js';
import { runUntilCalledOff } from './called-off.js';
import { flagError, nonNegativeNumber, positiveNumber, wholeNumber } from './flag-values.js';
import {
  cadence,
  checkOutputs,
  copies,
  type KnownPolicies,
  profileError,
  readKnobs,
  readPolicies,
  someTime,
  targetAttainment,
  timeSpan,
  warmUpShare,
} from './simulate-flags.js';
import { simulateProgressLine } from './simulate-progress.js';
import { renderBacktest } from './simulate-table.js';
import { writeWholeFile } from './whole-file.js';

export type SimulateFlags = {
  readonly trace: string;
  readonly config: string;
  readonly policy: readonly string[];
  readonly router: Router;
  readonly fidelity: Fidelity;
  readonly seed: number;
  readonly copies: number;
  readonly jitter: number;
  readonly from: number;
  readonly duration?: number;
  readonly warmUp: number;
  readonly cadence: number;
  readonly profileError?: number;
  readonly sweep: boolean;
  readonly knob: readonly string[];
  readonly oracle: boolean;
  readonly ttft: number;
  readonly ttftPerInputToken: number;
  readonly tpot: number;
  readonly attainment: number;
  readonly report?: string;
  readonly output?: string;
  readonly json: boolean;
};

/** What the command sees of the process around it. */
export type SimulateSurroundings = {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdin: Readable;
  readonly write: (text: string) => void;
  readonly writeError: (text: string) => void;
  /** Draws a progress line on standard error. */
  readonly isTerminal: boolean;
  /** Columns of the terminals now: of results, and of progress. */
  readonly width: () => number | undefined;
  readonly errorWidth: () => number | undefined;
  readonly color: boolean;
  readonly steadyMs: () => number;
  readonly signal: AbortSignal;
};

/** What runs a backtest, and what it knows of policies. */
export type Simulator = { readonly run: typeof runBacktest; readonly policies: KnownPolicies };

/** Further copies come so much later, so that no minute of the trace meets itself [s]. */
const usualJitterSeconds = 60;

/** `gpumix simulate`: a recorded trace through the live code, in money. */
export function simulateCommand(): Command {
  return new Command('simulate')
    .summary('backtest in money: what autoscaling policies would have cost, and what users would have felt')
    .description(
      [
        'Plays a request log (CSV with timestamp_ms,input_tokens,output_tokens; plain or gzip) against a simulated fleet of the configured deployments, once for each policy, and counts money and latencies. The policy gpumix is the code of the service itself on a simulated clock. Replicas run the timing of gpumix engine; policies see the profiles. docs/backtest.md says what is assumed.',
        'The same flags and files give the same result. Exit code: 0 done, 1 the store of the profiles could not be reached, 2 bad input.',
      ].join('\n\n'),
    )
    .requiredOption('--trace <file>', 'the request log, or - for standard input')
    .requiredOption('--config <file>', 'configuration of the service, with deployments.list and profiles')
    .option(
      '--policy <names>',
      `separated by commas, the first is compared with the others: ${policyNames.join(', ')}; all = all of them`,
      (text, before: readonly string[] | undefined) => [...(before === undefined ? [] : before), text],
    )
    .addOption(
      new Option('--router <name>', 'who gets a request: by the shares of the plan, or as a plain gateway does')
        .choices(routers)
        .default('shares' satisfies Router),
    )
    .addOption(
      new Option('--fidelity <name>', 'request: every request; fluid: rates and means, for hundreds of replicas')
        .choices(fidelities)
        .default('request' satisfies Fidelity),
    )
    .optionsGroup('Load:')
    .option('--from <time>', 'begin so far into the trace: seconds, or 90s, 15m, 6h, 7d', timeSpan, 0)
    .option('--duration <time>', 'length of the window (default: to the end of the trace)', someTime)
    .option('--warm-up <share>', 'first part of the window that is simulated but not counted', warmUpShare, 0.1)
    .option('--copies <n>', 'the trace, so many times at once; 2.5 is two and half of a third', copies, 1)
    .option(
      '--jitter <time>',
      'requests of further copies come up to so much later, each by chance',
      timeSpan,
      usualJitterSeconds,
    )
    .option('--seed <n>', 'settles everything that is by chance', wholeNumber(0, 2 ** 32 - 1), 1)
    .optionsGroup('Policies:')
    .option('--cadence <time>', 'time between two plans of gpumix', cadence, 60)
    .option(
      '--sweep',
      "run each policy over its knob's usual values, which draws its frontier of cost and attainment",
      false,
    )
    .option(
      '--knob <values>',
      "values of a policy's knob: POLICY=V1,V2,… (repeatable; only the values with one policy)",
      (text, before: readonly string[] | undefined) => [...(before === undefined ? [] : before), text],
    )
    .option(
      '--profile-error <share>',
      'also with profiles that claim so much more and so much less than replicas do: 0.2 = ±20 %',
      profileError,
    )
    .option('--oracle', 'also a proven lower bound on the cost of every policy', false)
    .optionsGroup('When a request attains:')
    .option('--ttft <seconds>', 'time to first token, at most', nonNegativeNumber, defaultObjective.ttftSeconds)
    .option(
      '--ttft-per-input-token <seconds>',
      'and so much more for each token of its prompt',
      nonNegativeNumber,
      defaultObjective.ttftSecondsPerInputToken,
    )
    .option('--tpot <seconds>', 'mean time per further token, at most', positiveNumber, defaultObjective.tpotSeconds)
    .option(
      '--attainment <share>',
      'of the requests that is aimed at: there costs are compared',
      targetAttainment,
      0.99,
    )
    .optionsGroup('Results:')
    .option('--report <file.html>', 'a page with plots, complete in itself')
    .option('-o, --output <file.json>', 'the document')
    .option('--json', 'print the document instead of the table', false)
    .addHelpText('after', help)
    .action(async (flags: Omit<SimulateFlags, 'policy' | 'knob'> & Partial<SimulateFlags>) => {
      const { env, stdin, stdout, stderr } = process;
      const { runBacktest: run } = await import('../service/backtest/run-backtest.js');
      const { policies } = await import('../service/backtest/backtest-policies.js');
      await runUntilCalledOff((signal) =>
        runSimulate(
          { ...flags, policy: flags.policy ?? ['gpumix'], knob: flags.knob ?? [] },
          {
            env,
            stdin,
            write: (text) => stdout.write(text),
            writeError: (text) => stderr.write(text),
            isTerminal: stderr.isTTY === true,
            width: () => stdout.columns,
            errorWidth: () => stderr.columns,
            color: stdout.isTTY === true && !env.NO_COLOR && env.TERM !== 'dumb',
            steadyMs: () => performance.now(),
            signal,
          },
          { run, policies },
        ),
      );
    });
}

const help = `
Examples:
  gpumix simulate --trace day.csv.gz --config gpumix.yaml --policy gpumix,aibrix --report day.html
  gpumix simulate --trace day.csv.gz --config gpumix.yaml --policy all --sweep --oracle --report all.html -o all.json
  gpumix simulate --trace week.csv.gz --config gpumix.yaml --from 2d --duration 12h --copies 40 --fidelity fluid
  gpumix simulate --trace day.csv.gz --config gpumix.yaml --policy aibrix --knob 100,80,60 --profile-error 0.2
`;

/**
 * The command itself.
 *
 * @returns the exit code: 0 done, 1 the store of the profiles could not be reached
 * @throws InputError for flags, a trace or a configuration that cannot be used; AbortError where it is called off
 */
export async function runSimulate(
  flags: SimulateFlags,
  around: SimulateSurroundings,
  simulator: Simulator,
): Promise<number> {
  const policies = readPolicies(flags.policy);
  const knobs = readKnobs(flags.knob, { asked: policies, known: simulator.policies });
  checkObjective(flags);
  await checkOutputs({
    outputs: { '--report': flags.report, '--output': flags.output },
    inputs: { '--trace': flags.trace, '--config': flags.config },
  });
  const { config, directory, warnings } = await chooseConfig({
    configFile: flags.config,
    quickstart: false,
    environment: around.env,
    demandIsGiven: true,
  });
  for (const warning of warnings) around.writeError(`gpumix: ${warning}\n`);
  const trace = await openTrace(flags.trace, around);
  const progress = around.isTerminal ? simulateProgressLine({ ...around, width: around.errorWidth }) : null;
  const [gpus, models] = await Promise.all([loadGpuCatalogue(), loadModelCatalogue()]);
  const profiles = await openProfiles({ config, directory });
  try {
    const asked: BacktestRequestOptions = {
      trace: { file: trace.name, open: trace.open },
      config,
      configSource: flags.config,
      policies,
      knobs,
      router: flags.router,
      fidelity: flags.fidelity,
      seed: flags.seed,
      copies: flags.copies,
      jitterSeconds: flags.jitter,
      fromSeconds: flags.from,
      durationSeconds: flags.duration ?? null,
      warmUpShare: flags.warmUp,
      cadenceSeconds: flags.cadence,
      profileErrors: flags.profileError === undefined ? [0] : [0, flags.profileError, -flags.profileError],
      sweep: flags.sweep,
      oracle: flags.oracle,
      objective: {
        ttftSeconds: flags.ttft,
        ttftSecondsPerInputToken: flags.ttftPerInputToken,
        tpotSeconds: flags.tpot,
      },
      targetAttainment: flags.attainment,
    };
    const surroundings: BacktestSurroundings = {
      profiles: profiles.source,
      gpus,
      models,
      createStore: createMemoryStore,
      steadyMs: around.steadyMs,
      signal: around.signal,
      ...(progress === null ? {} : { onProgress: progress.show }),
    };
    const document = await simulator.run(asked, surroundings);
    progress?.clear();
    await writeResults(document, flags, around);
    return 0;
  } catch (error) {
    progress?.clear();
    // Whatever a run that was stopped says of it: called off is no fault.
    around.signal.throwIfAborted();
    if (!(error instanceof Unavailable)) throw error;
    around.writeError(`gpumix: ${error.message}\n`);
    return 1;
  } finally {
    await profiles.close();
    await trace.close();
  }
}

/** A first token at once is no objective that anything could meet. */
function checkObjective({ ttft, ttftPerInputToken }: SimulateFlags): void {
  if (ttft > 0 || ttftPerInputToken > 0) return;
  throw flagError('--ttft', { found: '0', expected: 'a number > 0, or --ttft-per-input-token above 0' });
}

async function writeResults(
  document: BacktestDocument,
  flags: SimulateFlags,
  around: SimulateSurroundings,
): Promise<void> {
  const json = flags.json || flags.output !== undefined ? backtestJson(document) : '';
  if (flags.output !== undefined) await writeWholeFile({ path: flags.output, text: json, flag: '--output' });
  if (flags.report !== undefined) {
    // Loaded where it is used: who only wants the table need not wait for what draws.
    const { reportPage } = await import('../simulation/backtest/report-page.js');
    await writeWholeFile({ path: flags.report, text: reportPage(document), flag: '--report' });
  }
  if (flags.json) around.write(json);
  else around.write(renderBacktest(document, { width: around.width() || usualWidth, color: around.color }));
}

/** Where results go into a file or a pipe. */
const usualWidth = 120;

type OpenTrace = {
  readonly name: string;
  readonly open: () => AsyncIterable<LoggedRequest>;
  readonly close: () => Promise<void>;
};

/** Every run reads the trace from its beginning: what comes through a pipe is kept in a file meanwhile. */
async function openTrace(file: string, { stdin, signal }: SimulateSurroundings): Promise<OpenTrace> {
  if (file === '') throw flagError('--trace', { found: '""', expected: 'a request log, or - for standard input' });
  if (file !== '-' && !(await isPipe(file))) {
    return { name: file, open: () => readRequestLog({ file, signal }), close: async () => {} };
  }
  const name = file === '-' ? 'standard input' : file;
  const source = file === '-' ? stdin : createReadStream(file);
  const kept = join(tmpdir(), `gpumix-trace-${randomUUID()}`);
  const close = (): Promise<void> => rm(kept, { force: true });
  try {
    await pipeline(source, createWriteStream(kept, { flags: 'wx', mode: 0o600 }), { signal });
  } catch (error) {
    await close();
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code !== 'ENOSPC') throw error;
    throw flagError('--trace', {
      found: `a trace that does not fit into ${tmpdir()}`,
      expected: `a file instead of ${file === '-' ? 'standard input' : 'a pipe'}`,
    });
  }
  return { name, open: () => readRequestLog({ file: kept, name, signal }), close };
}

/** A named pipe, `<(…)` of a shell or `/dev/stdin`: what can be read once. */
async function isPipe(file: string): Promise<boolean> {
  const found = await stat(file).catch(() => null);
  return found !== null && !found.isFile() && !found.isDirectory();
}

#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import { InputError } from '../core/input-error.js';
import { Unavailable } from '../core/ports.js';
import { exitCodes, exitCodesHelp } from './exit-codes.js';
import { endWithoutOutput } from './standard-output.js';
import { packageVersion } from './version.js';

/**
 * `gpumix <command>`.
 *
 * A command's code is loaded when that command is asked for, so that `--help` costs nothing.
 */

type LazyCommand = { readonly summary: string; readonly load: () => Promise<Command> };

const commands: Readonly<Record<string, LazyCommand>> = {
  serve: {
    summary: 'run the service: traces in, plans out, numbers for autoscalers',
    load: async () => (await import('./serve.js')).serveCommand(),
  },
  plan: {
    summary: 'plan a PlanningProblem: which replicas to run, at what cost, with its proof',
    load: async () => (await import('./plan.js')).planCommand(),
  },
  explain: {
    summary: 'why a plan is as it is, and what would change it',
    load: async () => (await import('./explain.js')).explainCommand(),
  },
  place: {
    summary: 'place services on the GPUs that exist, and write what makes it so',
    load: async () => (await import('./place.js')).placeCommand(),
  },
  estimate: {
    summary: 'a profile without a benchmark, from the figures of the GPU and the model',
    load: async () => (await import('./estimate.js')).estimateCommand(),
  },
  simulate: {
    summary: 'backtest in money: what policies would have cost, and what users would have felt',
    load: async () => (await import('./simulate.js')).simulateCommand(),
  },
  replay: {
    summary: 'write a request log into Redis as the AIBrix gateway does',
    load: async () => (await import('./replay.js')).replayCommand(),
  },
  doctor: {
    summary: 'look at a live set-up and say what would silently not work, and how to mend it',
    load: async () => (await import('./doctor.js')).doctorCommand(),
  },
  benchmark: {
    summary: 'measure an OpenAI-compatible server: the highest rate that meets an SLO, for each length',
    load: async () => (await import('./benchmark.js')).benchmarkCommand(),
  },
  'gen-profile': {
    summary: 'benchmark results, an SLO and a cost in, a profile out',
    load: async () => (await import('./gen-profile.js')).genProfileCommand(),
  },
  engine: {
    summary: 'a simulated OpenAI-compatible engine: no GPU, the timing of one',
    load: async () => (await import('./engine.js')).engineCommand(),
  },
};

const examples = `
Examples:
  gpumix serve                          the quickstart: no Redis, no cluster
  gpumix serve --config gpumix.yaml     the service of a configuration
  gpumix plan problem.json              a plan as a table
  gpumix plan --json - < problem.json   a plan as JSON
  gpumix explain problem.json           why that plan, and what would change it
  gpumix place request.yaml             services on the GPUs that exist, as a table
  gpumix place --detect                 which GPUs exist here
  gpumix doctor                         what of Redis and the cluster would silently not work
  gpumix simulate --help                what autoscaling would have cost on a recorded day
  gpumix replay --help                  try the service on Redis without a gateway
  gpumix engine --gpu L4 --model llama-3.1-8b    an engine to try things on, without a GPU
`;

/** Where a command line names its command: the first word that is no flag; `help X` names X. */
function namedCommand(args: readonly string[]): string | undefined {
  const words = args.filter((arg) => !arg.startsWith('-'));
  return words[0] === 'help' ? words[1] : words[0];
}

async function buildProgram(args: readonly string[]): Promise<Command> {
  const program = new Command('gpumix')
    .description('Decides which GPUs should run what, at the lowest cost that still meets the latency objectives.')
    .version(packageVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .showHelpAfterError('(gpumix --help lists the commands)')
    .showSuggestionAfterError()
    .addHelpText('after', `${examples}${exitCodesHelp}`)
    .exitOverride();
  const asked = namedCommand(args);
  for (const [name, { summary, load }] of Object.entries(commands)) {
    const command = name === asked ? await load() : new Command(name).summary(summary).description(summary);
    command.copyInheritedSettings(program);
    program.addCommand(command.showHelpAfterError(`(gpumix ${name} --help lists its flags)`));
  }
  return program;
}

/** What an error is worth on the command line: its exit code and what stderr is told. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.done : exitCodes.badInput;
  if (error instanceof InputError) {
    process.stderr.write(`gpumix: ${error.message}\n`);
    return exitCodes.badInput;
  }
  if (error instanceof Unavailable) {
    process.stderr.write(`gpumix: ${error.message}\n`);
    return exitCodes.no;
  }
  // Only a command that listens for Ctrl-C or SIGTERM aborts what it waits for: that was wanted.
  if (error instanceof Error && error.name === 'AbortError') {
    process.stderr.write('gpumix: called off before there was a result\n');
    return exitCodes.no;
  }
  const wantsStack = (process.env.DEBUG ?? '') !== '';
  const message = error instanceof Error ? (wantsStack ? error.stack : error.message) : String(error);
  const hint = wantsStack ? '' : ' (DEBUG=1 prints where)';
  process.stderr.write(`gpumix: this should not have happened: ${message}${hint}\n`);
  return exitCodes.ownFault;
}

endWithoutOutput(process.stdout, (fault) => process.exit(fault === null ? exitCodes.done : report(fault)));
process.on('uncaughtException', (error) => {
  process.exit(report(error));
});

const args = process.argv.slice(2);
try {
  const program = await buildProgram(args);
  if (args.length === 0) program.outputHelp();
  else await program.parseAsync(args, { from: 'user' });
} catch (error) {
  process.exitCode = report(error);
}

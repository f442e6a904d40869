import type { Readable } from 'node:stream';
import { Command, Option } from 'commander';
import { openSolver, type SolverName, solverNames } from '../adapters/solvers/engines.js';
import { type ProblemEdit, parseSetEdit } from '../core/edit-syntax.js';
import { InputError } from '../core/input-error.js';
import type { Plan, PlanNotice } from '../core/plan.js';
import { comparePlans } from '../core/plan-comparison.js';
import { type PlanningProblem, parsePlanningProblem } from '../core/planning-problem.js';
import { applyEdits } from '../core/problem-edits.js';
import { readMelangeConfig } from '../optimizer/melange.js';
import { type PlanRun, plan, planWith } from '../optimizer/plan.js';
import { renderComparison } from './comparison-table.js';
import { collect } from './flag-values.js';
import { renderPlan } from './plan-table.js';
import { defaultLimitMib, parseLimitMib, readDocument } from './read-document.js';

type ReadProblem = { readonly problem: PlanningProblem; readonly notices: readonly PlanNotice[] };

/** Formats that `--from` reads. */
const problemFormats = {
  gpumix: readPlanningProblem,
  melange: readMelangeConfig,
} satisfies Record<string, (text: string, source: string) => ReadProblem>;

/** @throws InputError, with the way out where the document is one of Mélange */
function readPlanningProblem(text: string, source: string): ReadProblem {
  try {
    // The size was bounded while reading, by --max-mib.
    return { problem: parsePlanningProblem(text, source, Number.POSITIVE_INFINITY), notices: [] };
  } catch (error) {
    if (!(error instanceof InputError) || !isMelangeConfig(text)) throw error;
    throw new InputError(source, [
      {
        place: '',
        found: 'the configuration JSON of Mélange',
        expected: 'a PlanningProblem, or --from melange to read it as what it is',
      },
    ]);
  }
}

/** Whether a text that is no PlanningProblem has the two keys that every configuration of Mélange has. */
function isMelangeConfig(text: string): boolean {
  try {
    const document: unknown = JSON.parse(text);
    return (
      typeof document === 'object' && document !== null && 'gpu_info' in document && 'workload_distribution' in document
    );
  } catch {
    return false;
  }
}

type ProblemFormat = keyof typeof problemFormats;

export type PlanFlags = {
  readonly json: boolean;
  readonly solver: SolverName;
  readonly from: ProblemFormat;
  readonly maxMib: number;
  /** Edits of the problem, `PATH=VALUE`; with any of these two a second plan is made and compared with the first. */
  readonly set?: readonly string[];
  /** GPU types that are taken away, after the edits of `set`. */
  readonly without?: readonly string[];
};

/** What a command sees of the process around it. */
export type PlanSurroundings = {
  readonly stdin: Readable;
  readonly write: (text: string) => void;
  /** What is worth saying beside the result. */
  readonly writeError: (text: string) => void;
  readonly color: boolean;
  readonly width: number;
};

/** `gpumix plan FILE`: PlanningProblem in, Plan out, as a table or as JSON. Exit code 1: infeasible, or no plan found. */
export function planCommand(): Command {
  return new Command('plan')
    .summary('plan a PlanningProblem: which replicas to run, at what cost, with its proof')
    .description(
      'Reads a PlanningProblem (JSON) and prints its Plan: the cheapest replicas that serve the demand within the SLO. ' +
        'With --set or --without it plans the problem twice, as given and edited, and compares the two.\n\n' +
        'Exit code: 0 planned, 1 infeasible or no plan found within the limits (of the edited plan), 2 bad input.',
    )
    .argument('<file>', 'the document, or - for standard input')
    .option('--json', 'print the whole Plan as JSON', false)
    .addOption(new Option('--solver <name>', 'who solves it').choices([...solverNames]).default('builtin'))
    .addOption(
      new Option('--from <format>', 'gpumix: PlanningProblem; melange: the configuration JSON of Mélange')
        .choices(Object.keys(problemFormats))
        .default('gpumix'),
    )
    .option('--set <edit>', 'what if: PATH=VALUE, PATH*=FACTOR, PATH+=N, PATH-=N (repeatable)', collect)
    .option('--without <gpu>', 'what if there were no GPUs of this type (repeatable)', collect)
    .option('--max-mib <n>', 'largest document that is read [MiB]', parseLimitMib, defaultLimitMib)
    .addHelpText('after', whatIfHelp)
    .action(async (file: string, flags: PlanFlags) => {
      const { stdin, stdout, stderr, env } = process;
      process.exitCode = await runPlan(file, flags, {
        stdin,
        write: (text) => stdout.write(text),
        writeError: (text) => stderr.write(text),
        color: stdout.isTTY === true && !env.NO_COLOR && env.TERM !== 'dumb',
        width: stdout.columns || 100,
      });
    });
}

/**
 * The command itself.
 *
 * @returns the exit code: 0 planned, 1 infeasible or, for some model, no plan found
 * @throws InputError for a document that cannot be used
 */
export async function runPlan(file: string, flags: PlanFlags, around: PlanSurroundings): Promise<number> {
  const edits: readonly ProblemEdit[] = [
    ...(flags.set ?? []).map(parseSetEdit),
    ...(flags.without ?? []).map((gpuType) => ({ kind: 'without', gpuType }) as const),
  ];
  const { text, source } = await readDocument({
    file,
    limitMib: flags.maxMib,
    limitFlag: '--max-mib',
    stdin: around.stdin,
  });
  const { problem, notices } = problemFormats[flags.from](text, source);
  for (const { message } of notices) around.writeError(`gpumix: ${source}: ${message}\n`);
  const view = { title: source, color: around.color, width: around.width };
  if (edits.length === 0) {
    const answer = await solve(problem, flags.solver);
    around.write(flags.json ? json(answer) : renderPlan(answer, problem, view));
    return exitCode(answer);
  }
  const editedProblem = applyEdits(problem, edits, source);
  const base = await solve(problem, flags.solver);
  const edited = await solve(editedProblem, flags.solver);
  const comparison = comparePlans({ base, edited, edits });
  const problems = { base: problem, edited: editedProblem };
  around.write(flags.json ? json(comparison) : renderComparison(comparison, problems, view));
  return exitCode(edited);
}

function json(document: unknown): string {
  return `${JSON.stringify(document, null, 2)}\n`;
}

function exitCode(answer: Plan): number {
  return answer.status === 'infeasible' || answer.status === 'held' ? 1 : 0;
}

const whatIfHelp = `
What if (quote * for your shell):
  --set pools.H100=8                            GPUs of a pool; null = unlimited
  --set quotas.team-a.H100=4                    of a namespace; null = no quota
  --set budgetUsdPerHour=40                     null = no budget
  --set 'models.chat.rps*=1.5'                  demand; 'models.*.rps*=1.5' of all
  --set models.chat.priority=10                 or unservedUsdPerRequest,
                                                minServedShare; and with *= only:
                                                inputTokens, outputTokens
  --set deployments.prod/chat-l4.maxReplicas=8  any number of a deployment; and
                                                with *= only: throughput
  --set 'gpuTypes.A100.usdPerReplicaHour*=0.8'  of all deployments of a GPU type
  --set options.routing=proportional            any option
Names may hold dots and slashes. Quote one that holds = or ": 'models."a=b".rps=2'
`;

async function solve(problem: PlanningProblem, name: SolverName): Promise<Plan> {
  if (name === 'builtin') return plan(problem, timed(problem));
  const engine = openSolver(name);
  try {
    // Loading an engine takes longer than many a problem: the limit is for the planning.
    await engine.ready();
    return await planWith(problem, engine, timed(problem));
  } finally {
    await engine.close();
  }
}

function timed(problem: PlanningProblem): PlanRun {
  const startedAt = performance.now();
  const elapsedMs = (): number => performance.now() - startedAt;
  return { elapsedMs, shouldStop: () => elapsedMs() > problem.options.timeLimitMs };
}

import type { Readable } from 'node:stream';
import { Command, InvalidArgumentError } from 'commander';
import type { Explanation } from '../core/explanation.js';
import { InputError } from '../core/input-error.js';
import { type PlanningProblem, parsePlanningProblem } from '../core/planning-problem.js';
import { defaultExplainLimits } from '../optimizer/explain/bounded-plans.js';
import { explain } from '../optimizer/explain.js';
import { renderExplanation } from './explain-page.js';
import { defaultLimitMib, parseLimitMib, readDocument } from './read-document.js';

export type ExplainFlags = {
  readonly json: boolean;
  /** The one model to explain; absent = all. */
  readonly model?: string;
  /** When the explanation ends with what it has. */
  readonly timeLimit: number;
  readonly maxPlans: number;
  readonly maxMib: number;
};

/** What the command sees of the process around it. */
export type ExplainSurroundings = {
  readonly stdin: Readable;
  readonly write: (text: string) => void;
  readonly color: boolean;
  readonly width: number;
};

const defaultTimeLimitSeconds = 30;

/** `gpumix explain FILE`: PlanningProblem in, why its plan is as it is out, as a page or as JSON. */
export function explainCommand(): Command {
  return new Command('explain')
    .summary('why a plan is as it is, and what would change it')
    .description(
      'Reads a PlanningProblem (JSON), plans it, and plans it again with one thing changed at a time: one more GPU of each ' +
        'scarce type, less and more demand or budget, each mix but the best, each price at which an unused GPU would be used.\n\n' +
        'Exit code: 0 explained, 1 the plan is infeasible or none was found, 2 bad input.',
    )
    .argument('<file>', 'the document, or - for standard input')
    .option('--json', 'print the whole Explanation as JSON', false)
    .option('--model <name>', 'only this model, with the limits that it shares')
    .option('--time-limit <s>', 'end after this many seconds with what is known', positive, defaultTimeLimitSeconds)
    .option('--max-plans <n>', 'make at most this many plans', wholePositive, defaultExplainLimits.maxSolves)
    .option('--max-mib <n>', 'largest document that is read [MiB]', parseLimitMib, defaultLimitMib)
    .action(async (file: string, flags: ExplainFlags) => {
      const { stdin, stdout, env } = process;
      process.exitCode = await runExplain(file, flags, {
        stdin,
        write: (text) => stdout.write(text),
        color: stdout.isTTY === true && !env.NO_COLOR && env.TERM !== 'dumb',
        width: stdout.columns || 100,
      });
    });
}

/**
 * The command itself.
 *
 * @returns the exit code: 0 explained, 1 infeasible or, for some model, no plan found
 * @throws InputError for a document that cannot be used
 */
export async function runExplain(file: string, flags: ExplainFlags, around: ExplainSurroundings): Promise<number> {
  const { text, source } = await readDocument({
    file,
    limitMib: flags.maxMib,
    limitFlag: '--max-mib',
    stdin: around.stdin,
  });
  // The size was bounded while reading, by --max-mib.
  const problem = parsePlanningProblem(text, source, Number.POSITIVE_INFINITY);
  const answer = explained(problem, flags, source);
  around.write(
    flags.json
      ? `${JSON.stringify(answer, null, 2)}\n`
      : renderExplanation(answer, problem, { title: source, color: around.color, width: around.width }),
  );
  return answer.status === 'infeasible' || answer.status === 'held' ? 1 : 0;
}

function explained(problem: PlanningProblem, flags: ExplainFlags, source: string): Explanation {
  const startedAt = performance.now();
  const elapsedMs = (): number => performance.now() - startedAt;
  try {
    return explain(problem, {
      elapsedMs,
      shouldStop: () => elapsedMs() > flags.timeLimit * 1000,
      maxSolves: flags.maxPlans,
      ...(flags.model === undefined ? {} : { model: flags.model }),
    });
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    // The optimizer knows the document, but not which file it came from, nor that the model came from a flag.
    throw new InputError(error.source === 'model' ? 'flag --model' : source, error.issues);
  }
}

function positive(text: string): number {
  const value = Number(text);
  if (value > 0 && value < Number.POSITIVE_INFINITY) return value;
  throw new InvalidArgumentError('expected a number > 0.');
}

function wholePositive(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 1) return value;
  throw new InvalidArgumentError('expected a whole number >= 1.');
}

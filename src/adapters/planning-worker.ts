import { parentPort } from 'node:worker_threads';
import type { Explanation } from '../core/explanation.js';
import { InputError } from '../core/input-error.js';
import type { Plan } from '../core/plan.js';
import type { PlanningProblem } from '../core/planning-problem.js';
import { explain } from '../optimizer/explain.js';
import { PlanRejected, plan } from '../optimizer/plan.js';

/**
 * The thread that plans and explains, so that the event loop that answers requests never waits for a plan.
 *
 * A problem arrives as JSON text in pieces and leaves as a plan (or an explanation) in pieces, each pulled by the other side when it has
 * time: of 1,000 models × 3 deployments × 40 buckets (10 MB there, 11 MB back), JSON takes less than half the time of
 * a structured clone, and in pieces neither side is busy for more than a few milliseconds at once.
 */

export type PlanningRequest =
  /** `head` is the problem without its models. */
  | { readonly kind: 'begin'; readonly head: string }
  /** A JSON array of models. */
  | { readonly kind: 'models'; readonly text: string }
  | { readonly kind: 'run'; readonly timeLimitMs: number; readonly task: PlanningTask }
  | { readonly kind: 'more' };

/** What is to be made of a problem; `model` null = explain all models. */
export type PlanningTask = { readonly kind: 'plan' } | { readonly kind: 'explain'; readonly model: string | null };

export type PlanningReply =
  /** The answer without its long lists; its first piece. */
  | { readonly kind: 'head'; readonly text: string }
  /** A JSON array: the next items of one of the long lists. */
  | { readonly kind: 'items'; readonly list: string; readonly text: string }
  | { readonly kind: 'end' }
  | { readonly kind: 'failed'; readonly error: TransferredError };

/** An error as data, with what makes an error of `plan` the one it was. */
export type TransferredError =
  | { readonly kind: 'input'; readonly source: string; readonly issues: InputError['issues'] }
  | { readonly kind: 'rejected'; readonly violations: readonly string[] }
  | { readonly kind: 'other'; readonly message: string };

/** The lists of an answer that grow with the number of models, deployments and buckets. */
const longListsOfPlan = ['deployments', 'shares', 'unserved', 'shortfalls', 'warnings', 'models'] as const;
const longListsOfExplanation = ['models', 'limits', 'sentences'] as const;

/** Text of a piece [characters]: shares of this length take about a millisecond to parse. */
const pieceLength = 100_000;

/** Cuts an answer in the replies that carry it, made one at a time. */
function* repliesOf(answer: Plan | Explanation): Generator<PlanningReply> {
  const [lists, longLists]: [Readonly<Record<string, unknown>>, readonly string[]] =
    answer.kind === 'Plan' ? [answer, longListsOfPlan] : [answer, longListsOfExplanation];
  const empty = Object.fromEntries(longLists.map((list) => [list, []]));
  yield { kind: 'head', text: JSON.stringify({ ...answer, ...empty }) };
  for (const list of longLists) {
    let texts: string[] = [];
    let length = 0;
    for (const item of lists[list] as readonly unknown[]) {
      const text = JSON.stringify(item);
      texts.push(text);
      length += text.length;
      if (length < pieceLength) continue;
      yield { kind: 'items', list, text: `[${texts.join(',')}]` };
      texts = [];
      length = 0;
    }
    if (texts.length > 0) yield { kind: 'items', list, text: `[${texts.join(',')}]` };
  }
  yield { kind: 'end' };
}

const port = parentPort;
if (port !== null) {
  let head: Omit<PlanningProblem, 'models'> | null = null;
  let models: PlanningProblem['models'][number][] = [];
  let replies: Generator<PlanningReply> | null = null;
  const sendNext = () => {
    const next = replies?.next();
    if (next === undefined || next.done === true) return;
    if (next.value.kind === 'end') replies = null;
    port.postMessage(next.value);
  };
  port.on('message', (request: PlanningRequest) => {
    try {
      switch (request.kind) {
        case 'begin':
          head = JSON.parse(request.head) as Omit<PlanningProblem, 'models'>;
          models = [];
          break;
        case 'models':
          for (const model of JSON.parse(request.text) as PlanningProblem['models']) models.push(model);
          break;
        case 'run': {
          const problem: PlanningProblem = { ...head!, models };
          const startedAt = performance.now();
          const elapsedMs = () => performance.now() - startedAt;
          // Nothing of the last problem is kept while the next is waited for.
          head = null;
          models = [];
          const run = { shouldStop: () => elapsedMs() >= request.timeLimitMs, elapsedMs };
          const { task } = request;
          replies = repliesOf(
            task.kind === 'plan'
              ? plan(problem, run)
              : explain(problem, { ...run, ...(task.model === null ? {} : { model: task.model }) }),
          );
          sendNext();
          break;
        }
        case 'more':
          sendNext();
          break;
      }
    } catch (error) {
      head = null;
      models = [];
      replies = null;
      port.postMessage({ kind: 'failed', error: transferable(error) } satisfies PlanningReply);
    }
  });
}

function transferable(error: unknown): TransferredError {
  if (error instanceof InputError) return { kind: 'input', source: error.source, issues: error.issues };
  if (error instanceof PlanRejected) return { kind: 'rejected', violations: error.violations };
  return { kind: 'other', message: error instanceof Error ? error.message : String(error) };
}

import type { ExplainQuestion, NotComputed, NotComputedReason } from '../../core/explanation.js';
import { InputError } from '../../core/input-error.js';
import type { Plan } from '../../core/plan.js';
import type { PlanningProblem, ProblemDeployment, ProblemModel } from '../../core/planning-problem.js';
import { type PlanRun, plan } from '../plan.js';
import { type Outcome, outcomeOf, partsOf } from './outcome.js';
import { problemOfGroup } from './sharing-groups.js';

/** What an explanation may spend. Everything but `shouldStop` is deterministic. */
export type ExplainLimits = {
  /** Problems that are planned for one explanation, its own included. */
  readonly maxSolves: number;
  /** Nodes of each changed problem, for each of its models; a lower limit of the document itself stands. */
  readonly nodesPerModel: number;
};

export const defaultExplainLimits: ExplainLimits = {
  // A model with ten deployments asks some forty questions of a millisecond each. Where models share limits one takes up to
  // a second: what ends such an explanation is the time.
  maxSolves: 1000,
  // A model needs a few tens as a rule, and the worst that is known 800.
  nodesPerModel: 2000,
};

/** Models that are asked about together, with the plan that they have. */
export type Group = {
  /** The document of these models alone, with the limits that concern them. */
  readonly problem: PlanningProblem;
  readonly base: Outcome;
  readonly deployments: ReadonlyMap<string, ProblemDeployment>;
};

export function groupOf(problem: PlanningProblem, models: readonly ProblemModel[], base: Outcome): Group {
  return {
    problem: problemOfGroup(problem, models),
    base,
    deployments: new Map(models.flatMap((model) => model.deployments.map((each) => [each.id, each] as const))),
  };
}

/** The same problem with one deployment changed. */
export function withDeployment(
  problem: PlanningProblem,
  id: string,
  change: Partial<ProblemDeployment>,
): PlanningProblem {
  return {
    ...problem,
    models: problem.models.map((model) =>
      model.deployments.some((deployment) => deployment.id === id)
        ? {
            ...model,
            deployments: model.deployments.map((deployment) =>
              deployment.id === id ? { ...deployment, ...change } : deployment,
            ),
          }
        : model,
    ),
  };
}

/** A question, and the model, deployment or limit that it is about. */
export type Asked = { readonly question: ExplainQuestion; readonly subject: string };

/** Subjects that are named one by one for each question that was not answered. */
const namedSubjects = 5;

const notComputedWords: Readonly<Record<NotComputedReason, string>> = {
  solves: 'the number of plans that one explanation may make was used up',
  time: 'the time of one explanation was used up',
  held: 'the model, or one that shares limits with it, has no plan',
  no_plan: 'no plan was found for the changed problem within its limits',
};

const questionWords: Readonly<Record<ExplainQuestion, string>> = {
  limit: 'which limits bind, and what one more is worth',
  budget: 'what another budget would change',
  demand: 'what less and more demand would change',
  runner_up: 'the next best mix',
  entry_price: 'the price at which what is not used would be',
};

/** Plans changed problems within limits, and remembers what it could not plan. */
export class BoundedPlans {
  readonly #run: PlanRun;
  readonly #limits: ExplainLimits;
  readonly #missing = new Map<
    string,
    { readonly question: ExplainQuestion; readonly reason: NotComputedReason; readonly subjects: Set<string> }
  >();
  #plans = 0;
  #nodes = 0;

  constructor(run: PlanRun, limits: ExplainLimits) {
    this.#run = run;
    this.#limits = limits;
  }

  get plans(): number {
    return this.#plans;
  }

  get nodes(): number {
    return this.#nodes;
  }

  /**
   * The plan of the document itself, under its own limits.
   *
   * @throws InputError, PlanRejected as `plan` does
   */
  first(problem: PlanningProblem): Plan {
    return this.#plan(problem);
  }

  /** What a changed problem of a group comes to; null = not computed, which is remembered under the question. */
  outcome(group: Group, changed: PlanningProblem, asked: Asked): Outcome | null {
    const refused = this.#refusal();
    if (refused !== null) return this.missing(asked, refused);
    const nodeLimit = this.#limits.nodesPerModel * changed.models.length;
    let answer: Plan;
    try {
      answer = this.#plan({
        ...changed,
        options: {
          ...changed.options,
          nodeLimit: Math.min(changed.options.nodeLimit ?? nodeLimit, nodeLimit),
          relativeGap: 0,
        },
      });
    } catch (error) {
      // Whatever is wrong with the document was already wrong with the unchanged one.
      if (error instanceof InputError) throw error;
      return this.missing(asked, 'no_plan');
    }
    const outcome = outcomeOf(answer, partsOf(answer), changed.models);
    if (!outcome.proven && (this.#run.shouldStop?.() ?? false)) return this.missing(asked, 'time');
    if (outcome.held !== group.base.held) return this.missing(asked, 'no_plan');
    return outcome;
  }

  /** Remembers that a question was not answered. */
  missing(asked: Asked, reason: NotComputedReason): null {
    const key = `${asked.question} ${reason}`;
    const entry = this.#missing.get(key) ?? { question: asked.question, reason, subjects: new Set() };
    entry.subjects.add(asked.subject);
    this.#missing.set(key, entry);
    return null;
  }

  notComputed(): readonly NotComputed[] {
    return [...this.#missing.values()].map(({ question, reason, subjects }) => {
      const named = [...subjects].slice(0, namedSubjects);
      const more = subjects.size - named.length;
      const which = `${named.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
      return {
        question,
        reason,
        count: subjects.size,
        subjects: named,
        message: `Not computed: ${questionWords[question]} (${which}): ${notComputedWords[reason]}.`,
      };
    });
  }

  #refusal(): NotComputedReason | null {
    if (this.#plans >= this.#limits.maxSolves) return 'solves';
    return (this.#run.shouldStop?.() ?? false) ? 'time' : null;
  }

  #plan(problem: PlanningProblem): Plan {
    const { shouldStop, elapsedMs } = this.#run;
    const startedMs = elapsedMs?.() ?? 0;
    const { timeLimitMs } = problem.options;
    this.#plans += 1;
    const answer = plan(problem, {
      shouldStop: () =>
        (shouldStop?.() ?? false) || (elapsedMs !== undefined && elapsedMs() - startedMs >= timeLimitMs),
    });
    this.#nodes += answer.solver.nodes;
    return answer;
  }
}

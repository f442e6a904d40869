import type { Explanation } from '../core/explanation.js';
import type { PlanningProblem } from '../core/planning-problem.js';

/** Explains off the event loop. Rejects with InputError for a problem that is refused, with anything else for a fault. */
export interface Explainer {
  explain(
    problem: PlanningProblem,
    limits: { readonly timeLimitMs: number; readonly model: string | null },
  ): Promise<Explanation>;
}

/** An explanation ends after this with what it has, and says what it left out. [ms] */
const timeLimitMs = 10_000;

/** Explanations that are made or wait to be made at one time: each may take its whole time, one after the other. */
const mostUnderWay = 2;

/**
 * Explanations of the problems in force, each made once: asked again, by whomever, the same answer is given until the next
 * plan. An explanation that failed is made anew.
 */
export class Explanations {
  readonly #explainer: Explainer;
  /** By problem, so that the explanations of a plan that is no longer in force go with it; then by model. */
  readonly #made = new WeakMap<PlanningProblem, Map<string | null, Promise<Explanation>>>();
  #underWay = 0;

  constructor(explainer: Explainer) {
    this.#explainer = explainer;
  }

  /** @param model null = all of them; `busy` = too many are under way */
  async of(problem: PlanningProblem, model: string | null): Promise<Explanation | 'busy'> {
    const made = this.#made.get(problem) ?? new Map<string | null, Promise<Explanation>>();
    this.#made.set(problem, made);
    const known = made.get(model);
    if (known !== undefined) return known;
    if (this.#underWay >= mostUnderWay) return 'busy';
    this.#underWay += 1;
    const answer = this.#explainer.explain(problem, { timeLimitMs, model });
    made.set(model, answer);
    try {
      return await answer;
    } catch (error) {
      made.delete(model);
      throw error;
    } finally {
      this.#underWay -= 1;
    }
  }
}

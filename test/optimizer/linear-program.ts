import { highsRuntime } from '../../src/adapters/solvers/highs.js';

/** A linear program in words, for HiGHS as an independent judge: LP format, all variables ≥ 0 unless bounded. */
export type LinearProgram = {
  readonly objective: readonly Term[];
  readonly rows: readonly {
    readonly terms: readonly Term[];
    readonly sense: '<=' | '=' | '>=';
    readonly right: number;
  }[];
  readonly bounds?: readonly { readonly name: string; readonly lower: number; readonly upper: number }[];
};

export type Term = readonly [coefficient: number, name: string];

/** The optimal value, or `infeasible`. Throws on any other answer: then the judge has not judged. */
export async function optimumByHighs(program: LinearProgram): Promise<number | 'infeasible'> {
  const highs = await highsRuntime();
  const sum = (terms: readonly Term[]) =>
    terms.length === 0 ? '0 nothing' : terms.map(([factor, name]) => `${factor} ${name}`).join(' + ');
  const text = [
    'Minimize',
    ` obj: ${sum(program.objective)}`,
    'Subject To',
    ...program.rows.map(({ terms, sense, right }, i) => ` r${i}: ${sum(terms)} ${sense} ${right}`),
    'Bounds',
    ...(program.bounds ?? []).map(({ name, lower, upper }) => ` ${lower} <= ${name} <= ${upper}`),
    'End',
  ].join('\n');
  const { Status, ObjectiveValue } = highs.solve(text, {
    output_flag: false,
    primal_feasibility_tolerance: 1e-9,
    dual_feasibility_tolerance: 1e-9,
  });
  if (Status === 'Infeasible') return 'infeasible';
  if (Status !== 'Optimal') throw new Error(`HiGHS answers ${Status} to\n${text}`);
  return ObjectiveValue;
}

import { z } from 'zod';
import { InputError, type InputIssue, quoteInput } from '../core/input-error.js';
import { check, parseJson } from '../core/parse.js';
import type { PlanNotice } from '../core/plan.js';
import { type PlanningProblem, planningProblemSchema } from '../core/planning-problem.js';
import { largestRps, largestTokens, largestUsd, throughputSchema } from '../core/profile.js';

/**
 * Mélange's configuration as a PlanningProblem, for `gpumix plan --from melange`.
 *
 * The format is that of `melange/config/example.json` in tyler-griggs/melange-release (`SolverRunner.Config` in
 * `melange/lib/runner.py`; Griggs et al., 2024): `workload_distribution[row][column]` and each `gpu_info.*.tputs` are
 * matrices of one shape; rows are input sizes, columns output sizes; the rate of a cell is its share times
 * `total_request_rate`. The shares are multiplied as they stand: nothing there asks that they sum to 1, nor does this.
 *
 * The configuration does not name the sizes. Each cell becomes a bucket at a grid point of its own, with the sizes
 * that Mélange's profiling script runs (25, 100, 250, 500, 1000, 2000 tokens), doubled from there on (by less on axes
 * of more than 34 sizes): labels, which no result depends on, because no work is interpolated.
 *
 * Worked line: a share of 0.1 at 30 requests/s on a type that serves 1 request/s of that size fills 3 replicas.
 */
export type MelangeImport = {
  readonly problem: PlanningProblem;
  /** What of the configuration has no meaning here, or deserves a look. */
  readonly notices: readonly PlanNotice[];
};

/** Sizes of `melange/profiling/benchmark-launcher.sh` [tokens], for inputs and outputs alike. */
const profiledSizes = [25, 100, 250, 500, 1000, 2000] as const;
/** Far beyond the 10 × 6 of the paper. */
const largestAxis = 256;
/** Namespace of the deployments that are made, one per GPU type. */
const namespace = 'melange';

const matrixOf = <Cell extends z.ZodType>(cell: Cell) =>
  z.array(z.array(cell).min(1).max(largestAxis)).min(1).max(largestAxis);

const gpuSchema = z.looseObject({
  cost: z.number().min(0).max(largestUsd).describe('USD per hour'),
  tputs: matrixOf(throughputSchema).describe('requests/s per GPU; 0 = cannot serve that size'),
});

/** Keys as in `SolverRunner.Config`, which refuses others; entries of `gpu_info` may carry more, as there. */
const configSchema = z.strictObject({
  gpu_info: z.record(z.string().min(1).max(4000), gpuSchema),
  workload_distribution: matrixOf(z.number().min(0).max(largestRps)),
  total_request_rate: z.number().min(0).max(largestRps).default(0),
  slice_factor: z.number().gt(0).default(1),
});

/** Shares that sum to 1 within this are meant to. */
const roundingOfShares = 1e-6;

/** The PlanningProblem of a Mélange configuration; see `readMelangeConfig` for its notices. */
export function parseMelangeConfig(text: string, source: string): PlanningProblem {
  return readMelangeConfig(text, source).problem;
}

/**
 * Reads a Mélange configuration.
 *
 * @param source names the document in errors
 * @throws InputError that names the place: unknown keys, ragged or differing matrices, negative numbers, NaN
 */
export function readMelangeConfig(text: string, source: string): MelangeImport {
  const document = parseJson(text, source);
  const config = check(configSchema, document, source);
  const { gpu_info: gpus, workload_distribution: distribution, total_request_rate: totalRps } = config;
  const issues = [
    ...shapeIssues('workload_distribution', distribution, distribution.length, distribution[0]!.length),
    ...Object.entries(gpus).flatMap(([gpu, { tputs }]) =>
      shapeIssues(`gpu_info${keyPlace(gpu)}.tputs`, tputs, distribution.length, distribution[0]!.length),
    ),
  ];
  const total = distribution.flat().reduce((sum, share) => sum + share, 0);
  if (total * totalRps > largestRps) {
    const expected = `at most ${largestRps} requests/s when multiplied with the shares, which sum to ${total}`;
    issues.push({ place: 'total_request_rate', found: quoteInput(totalRps), expected });
  }
  if (issues.length > 0) throw new InputError(source, issues);

  const inputs = sizes(distribution.length);
  const outputs = sizes(distribution[0]!.length);
  const problem = check(
    planningProblemSchema,
    {
      apiVersion: 'gpumix/v1',
      kind: 'PlanningProblem',
      models: [
        {
          name: 'melange',
          demand: distribution.flatMap((row, i) =>
            row.map((share, o) => ({ inputTokens: inputs[i]!, outputTokens: outputs[o]!, rps: share * totalRps })),
          ),
          deployments: Object.entries(gpus).map(([gpu, { cost, tputs }]) => ({
            id: `${namespace}/${gpu}`,
            gpuType: gpu,
            usdPerReplicaHour: cost,
            maxReplicas: unlimitedReplicas,
            // Theirs is [input][output]; a profile's rows are outputs.
            profile: { indexes: [outputs, inputs], tputs: outputs.map((_, o) => inputs.map((_, i) => tputs[i]![o]!)) },
          })),
        },
      ],
    },
    source,
  );
  return { problem, notices: noticesOf({ total, slicesIgnored: hasKey(document, 'slice_factor') }) };
}

/** Mélange has no ceiling; this is the largest that a PlanningProblem can state. */
const unlimitedReplicas = 1_000_000;

function noticesOf(facts: { readonly total: number; readonly slicesIgnored: boolean }): readonly PlanNotice[] {
  const notices: PlanNotice[] = [];
  if (facts.slicesIgnored) {
    notices.push({
      code: 'slice_factor_ignored',
      message: 'slice_factor is ignored: shares are continuous here, which is at most as dear as any number of slices',
    });
  }
  if (Math.abs(facts.total - 1) > roundingOfShares) {
    notices.push({
      code: 'shares_do_not_sum_to_one',
      message: `workload_distribution sums to ${Number(facts.total.toPrecision(6))}, not 1: the planned rate is that much of total_request_rate, as in Mélange`,
    });
  }
  return notices;
}

function sizes(count: number): number[] {
  const more = count - profiledSizes.length;
  const last = profiledSizes.at(-1)!;
  const growth = more > 0 ? Math.min(2, (largestTokens / last) ** (1 / more)) : 2;
  return Array.from({ length: count }, (_, i) =>
    i < profiledSizes.length ? profiledSizes[i]! : Math.floor(last * growth ** (i - profiledSizes.length + 1)),
  );
}

function shapeIssues(
  place: string,
  rows: readonly (readonly number[])[],
  rowCount: number,
  columnCount: number,
): readonly InputIssue[] {
  const issues: InputIssue[] = [];
  if (rows.length !== rowCount) {
    const expected = `${rowCount} rows, as in workload_distribution (one per input size)`;
    issues.push({ place, found: `${rows.length} rows`, expected });
  }
  rows.forEach((row, r) => {
    if (row.length === columnCount) return;
    const expected = `${columnCount} columns, as in the first row of workload_distribution (one per output size)`;
    issues.push({ place: `${place}[${r}]`, found: `${row.length} columns`, expected });
  });
  return issues;
}

function keyPlace(key: string): string {
  return /^[A-Za-z_][\w-]*$/.test(key) ? `.${key}` : `[${quoteInput(key)}]`;
}

function hasKey(value: unknown, key: string): boolean {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, key);
}

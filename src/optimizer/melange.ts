import { z } from 'zod';
import { InputError } from '../core/input-error.js';
import { check, parseJson } from '../core/parse.js';
import { type PlanningProblem, type PlanningProblemInput, planningProblemSchema } from '../core/planning-problem.js';
import { largestRps, largestUsd, throughputSchema } from '../core/profile.js';

/**
 * Mélange's configuration as a PlanningProblem of one model.
 *
 * Its matrices have a row per input size and a column per output size, without saying the sizes: cell (row, column)
 * becomes the bucket of `row + 1` input and `column + 1` output tokens, which lies exactly on a grid point of every
 * profile, so that nothing is interpolated. The rate of a cell is its share of `total_request_rate`.
 * `slice_factor` is read and has no effect: shares are continuous here.
 *
 * Source: Griggs et al., "Mélange: Cost Efficient Large Language Model Serving by Exploiting GPU Heterogeneity", 2024.
 */
const matrix = <Cell extends z.ZodType>(cell: Cell) => z.array(z.array(cell).min(1)).min(1);

/** Shares are written in decimals, which rarely sum to exactly 1. */
const shareTolerance = 1e-6;

const melangeSchema = z
  .strictObject({
    gpu_info: z.record(
      z.string().min(1),
      z.strictObject({ cost: z.number().min(0).max(largestUsd), tputs: matrix(throughputSchema) }),
    ),
    workload_distribution: matrix(z.number().min(0).max(1)),
    total_request_rate: z.number().min(0).max(largestRps),
    slice_factor: z.int().min(1).optional(),
  })
  .superRefine((config, context) => {
    const rows = config.workload_distribution.length;
    const columns = config.workload_distribution[0]?.length ?? 0;
    const checkShape = (cells: readonly (readonly number[])[], path: readonly string[]): void => {
      if (cells.length !== rows) {
        const message = `${rows} rows, as workload_distribution has`;
        context.addIssue({ code: 'custom', path: [...path], message });
      }
      cells.forEach((row, r) => {
        if (row.length === columns) return;
        const message = `${columns} columns, as the first row of workload_distribution has`;
        context.addIssue({ code: 'custom', path: [...path, r], message });
      });
    };
    checkShape(config.workload_distribution, ['workload_distribution']);
    const total = config.workload_distribution.flat().reduce((sum, share) => sum + share, 0);
    if (total > 1 + shareTolerance) {
      const message = `shares of total_request_rate, which sum to at most 1 (these sum to ${Number(total.toPrecision(6))})`;
      context.addIssue({ code: 'custom', path: ['workload_distribution'], message });
    }
    for (const [gpu, info] of Object.entries(config.gpu_info)) checkShape(info.tputs, ['gpu_info', gpu, 'tputs']);
  });

/** Model that the problem names, and namespace of its deployments. */
const melangeName = 'melange';

/** No number of replicas is too many in Mélange's program. */
const anyReplicas = 1_000_000;

/**
 * Parses the JSON text of a Mélange configuration.
 *
 * @param source names the text in errors
 * @throws InputError that names the key, what was found and what was expected
 */
export function parseMelangeConfig(text: string, source: string): PlanningProblem {
  const config = check(melangeSchema, parseJson(text, source), source);
  const gpus = Object.entries(config.gpu_info);
  if (gpus.length === 0) {
    throw new InputError(source, [{ place: 'gpu_info', found: 'an empty object', expected: 'at least one GPU type' }]);
  }
  const inputs = config.workload_distribution.map((_, row) => row + 1);
  const outputs = config.workload_distribution[0]!.map((_, column) => column + 1);
  const problem: PlanningProblemInput = {
    apiVersion: 'gpumix/v1',
    kind: 'PlanningProblem',
    models: [
      {
        name: melangeName,
        demand: config.workload_distribution.flatMap((shares, row) =>
          shares.map((share, column) => ({
            inputTokens: inputs[row]!,
            outputTokens: outputs[column]!,
            rps: share * config.total_request_rate,
          })),
        ),
        deployments: gpus.map(([gpu, { cost, tputs }]) => ({
          id: `${melangeName}/${gpu}`,
          gpuType: gpu,
          usdPerReplicaHour: cost,
          maxReplicas: anyReplicas,
          // A profile has a row per output size: the matrix turned over.
          profile: {
            indexes: [outputs, inputs],
            tputs: outputs.map((_, column) => inputs.map((__, row) => tputs[row]![column]!)),
          },
        })),
      },
    ],
  };
  return check(planningProblemSchema, problem, source);
}

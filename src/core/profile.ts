import { z } from 'zod';
import { InputError } from './input-error.js';
import { check, parseJson } from './parse.js';

/** Largest token count and rate of any input: far beyond real ones, so that no sum or product of them overflows. */
export const largestTokens = 1e12;
export const largestRps = 1e9;

/** Largest price of any input [USD]. */
export const largestUsd = 1e9;

/** A throughput below this is no measurement (one request in 30 years), and its inverse would swallow all else. */
const smallestThroughput = 1e-9;

/** Requests/s of one replica; 0 = cannot meet the SLO. */
export const throughputSchema = z
  .number()
  .min(0)
  .max(largestRps)
  .refine((rps) => rps <= 0 || rps >= smallestThroughput, `0 or a number >= ${smallestThroughput}`);

const tokenAxis = z.array(z.number().min(0).max(largestTokens));

/**
 * A GPU profile: the requests/s that one replica serves within the SLO, per cell of (output tokens, input tokens).
 *
 * `tputs[row][column]`: rows are output tokens (`indexes[0]`), columns input tokens (`indexes[1]`), both ascending
 * and in raw token counts. 0 = cannot meet the SLO there; null = not profiled. Source: AIBrix's profile format.
 */
export const profileGridSchema = z
  .strictObject({
    indexes: z.tuple([tokenAxis.min(1), tokenAxis.min(1)], 'two axes: [output tokens …] and [input tokens …]'),
    tputs: z.array(z.array(throughputSchema.nullable())).min(1),
  })
  .superRefine(checkGrid);

type Grid = {
  readonly indexes: readonly (readonly number[])[];
  readonly tputs: readonly (readonly (number | null)[])[];
};

/** Throughput grid of a PlanningProblem's deployment. */
export type ProfileGrid = Grid;

function checkGrid(
  grid: { indexes: [number[], number[]]; tputs: (number | null)[][] },
  context: z.RefinementCtx,
): void {
  const [outputs, inputs] = grid.indexes;
  for (const [axis, values] of [outputs, inputs].entries()) {
    const at = values.findIndex((value, i) => i > 0 && value <= values[i - 1]!);
    if (at > 0) {
      context.addIssue({
        code: 'custom',
        path: ['indexes', axis, at],
        message: `more than the ${values[at - 1]} before it (token counts ascend)`,
      });
    }
  }
  if (grid.tputs.length !== outputs.length) {
    context.addIssue({
      code: 'custom',
      path: ['tputs'],
      message: `${counted(outputs.length, 'row')}, one for each output token count in indexes[0]`,
    });
  }
  grid.tputs.forEach((row, r) => {
    if (row.length !== inputs.length) {
      context.addIssue({
        code: 'custom',
        path: ['tputs', r],
        message: `${counted(inputs.length, 'column')}, one for each input token count in indexes[1]`,
      });
    }
  });
  if (grid.tputs.every((row) => row.every((cell) => cell === null))) {
    context.addIssue({ code: 'custom', path: ['tputs'], message: 'at least one cell that is not null' });
  }
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** A profile document as benchmark tools write it and the gateway reads it. */
export type GpuProfile = {
  /** The deployment that it was made for, without namespace. */
  readonly gpu: string;
  /** USD per replica-hour; null where the profile states none. */
  readonly cost: number | null;
  readonly grid: ProfileGrid;
  /** Unix seconds; null where the profile states none. */
  readonly created: number | null;
  /** The SLO that the throughputs meet; empty where the profile states none. */
  readonly slos: Readonly<Record<string, number>>;
};

/** Unknown keys are ignored here, as both of AIBrix's readers do, so that profiles may carry more. */
const profileSchema = z
  .object({
    gpu: z.string().default(''),
    cost: z.number().min(0).max(largestUsd).nullish(),
    created: z.number().nullish(),
    slos: z.record(z.string(), z.number().nullable()).nullish(),
    indexes: profileGridSchema.shape.indexes,
    tputs: profileGridSchema.shape.tputs,
  })
  .superRefine(checkGrid);

/** Longest profile text that is parsed, in characters: the largest real ones have about 10 kB. */
export const largestProfileText = 1_048_576;

/**
 * Parses the JSON text of a profile.
 *
 * @param source names the profile in errors, e.g. `profile of llama2-7b on default/llama2-7b-a100`
 * @throws InputError that names field, row and column
 */
export function parseProfile(text: string, source: string): GpuProfile {
  if (text.length > largestProfileText) {
    throw new InputError(source, [
      { place: '', found: `${text.length} characters`, expected: `at most ${largestProfileText} characters` },
    ]);
  }
  const { gpu, cost, created, slos, indexes, tputs } = check(profileSchema, parseJson(text, source), source);
  // Benchmarks that failed write such profiles; to plan with one would take its deployment out of service.
  if (!tputs.some((row) => row.some((cell) => cell !== null && cell > 0))) {
    throw new InputError(source, [
      {
        place: 'tputs',
        found: 'a profile that serves nothing within its SLO: every throughput is 0',
        expected: 'at least one above 0',
      },
    ]);
  }
  const stated = Object.entries(slos ?? {}).flatMap(([name, value]) =>
    value === null ? [] : [[name, value] as const],
  );
  return {
    gpu,
    cost: cost ?? null,
    grid: { indexes, tputs },
    created: created ?? null,
    slos: Object.fromEntries(stated),
  };
}

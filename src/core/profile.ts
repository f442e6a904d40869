import { z } from 'zod';
import { InputError } from './input-error.js';
import { check, parseJson } from './parse.js';

/** Largest token count and rate of any input: far beyond real ones, so that no sum or product of them overflows. */
export const largestTokens = 1e12;
export const largestRps = 1e9;

/** Largest price of any input [USD]. */
export const largestUsd = 1e9;

/** A throughput below this is no measurement (one request in 30 years), and its inverse would swallow all else [requests/s]. */
export const smallestThroughput = 1e-9;

/** Requests/s of one replica; 0 = cannot meet the SLO. */
export const throughputSchema = z
  .number()
  .min(0)
  .max(largestRps)
  .refine((rps) => rps <= 0 || rps >= smallestThroughput, `0 or a number >= ${smallestThroughput}`);

const tokenAxis = z.array(z.number().min(0).max(largestTokens));

/**
 * How the throughputs of a profile came about: measured on the real engine, measured on a simulated one, or estimated
 * from the figures of the GPU and the model without any run.
 */
export const profileMethods = ['measured', 'simulated', 'estimated'] as const;
export type ProfileMethod = (typeof profileMethods)[number];

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
    method: z.enum(profileMethods).optional().describe('how the throughputs came about; absent = not stated'),
  })
  .superRefine(checkGrid);

/** Throughput grid of a PlanningProblem's deployment. */
export type ProfileGrid = {
  /** [output tokens …] and [input tokens …], each ascending. */
  readonly indexes: readonly (readonly number[])[];
  /** [row by output][column by input], requests/s; null = not profiled. */
  readonly tputs: readonly (readonly (number | null)[])[];
  /** How the throughputs came about; absent where the profile does not say. */
  readonly method?: ProfileMethod | undefined;
};

/** A matrix over the cells of a grid, row by output and column by input; null = not known there. */
export type ProfileMatrix = readonly (readonly (number | null)[])[];

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

/** Where the throughput of one cell comes from. */
export const cellOrigins = ['measured', 'interpolated', 'simulated', 'estimated'] as const;
export type CellOrigin = (typeof cellOrigins)[number];

/** How a profile came about, for those who must decide how far to trust it. */
export type ProfileProvenance = {
  readonly method: ProfileMethod;
  /** The tool and its version. */
  readonly by: string;
  /** When, ISO 8601. */
  readonly at: string;
  /** One or two sentences: of what it was made, with which settings. */
  readonly details: string;
  /** Predicted / measured throughput over known cases, tenth and ninetieth percentile; null where not known. */
  readonly relativeError: { readonly p10: number; readonly p90: number } | null;
};

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
  /** Name of the model, as the server that was measured names it. */
  readonly model?: string | undefined;
  readonly gpuType?: string | undefined;
  readonly gpusPerReplica?: number | undefined;
  /** Mean latencies at the throughput of each cell [s]; absent where none were measured. */
  readonly e2e?: ProfileMatrix | undefined;
  readonly ttft?: ProfileMatrix | undefined;
  readonly tpot?: ProfileMatrix | undefined;
  /** Origin of each cell; null where the cell was not profiled. */
  readonly cells?: readonly (readonly (CellOrigin | null)[])[] | undefined;
  readonly provenance?: ProfileProvenance | undefined;
};

const matrix = z.array(z.array(z.number().min(0).nullable()));

/** Whole numbers of GPUs: nothing runs on more. */
const mostGpusPerReplica = 1e6;

/**
 * Unknown keys are ignored here, as both of AIBrix's readers do, so that profiles may carry more. Keys that no reader
 * of AIBrix's knows, and latencies, which no plan needs, are ignored as well where they are not as we write them.
 */
const profileSchema = z
  .object({
    gpu: z.string().default(''),
    cost: z.number().min(0).max(largestUsd).nullish(),
    created: z.number().nullish(),
    slos: z.record(z.string(), z.number().nullable()).nullish(),
    indexes: profileGridSchema.shape.indexes,
    tputs: profileGridSchema.shape.tputs,
    e2e: matrix.optional().catch(undefined),
    ttft: matrix.optional().catch(undefined),
    tpot: matrix.optional().catch(undefined),
    model: z.string().optional().catch(undefined),
    gpuType: z.string().optional().catch(undefined),
    gpusPerReplica: z.number().int().min(1).max(mostGpusPerReplica).optional().catch(undefined),
    cells: z
      .array(z.array(z.enum(cellOrigins).nullable()))
      .optional()
      .catch(undefined),
    provenance: z
      .object({
        method: z.enum(profileMethods),
        by: z.string().default(''),
        at: z.string().default(''),
        details: z.string().default(''),
        relativeError: z.object({ p10: z.number(), p90: z.number() }).nullable().default(null).catch(null),
      })
      .optional()
      .catch(undefined),
  })
  .superRefine(checkGrid);

/** Longest profile text that is parsed, in characters: the largest real ones have about 30 kB. */
export const largestProfileText = 1_048_576;

/**
 * Parses the JSON text of a profile: AIBrix's documents, of every age, and ours.
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
  const read = check(profileSchema, parseJson(text, source), source);
  const { indexes, cost, created, slos, provenance } = read;
  const fits = (rows: readonly (readonly unknown[])[]): boolean =>
    rows.length === read.tputs.length && rows.every((row, r) => row.length === read.tputs[r]!.length);
  const cells = read.cells !== undefined && fits(read.cells) ? read.cells : undefined;
  // AIBrix's readers take numbers only: a cell that was not profiled is written as 0, and `cells` tells the two apart.
  const tputs =
    cells === undefined
      ? read.tputs
      : read.tputs.map((row, r) => row.map((tput, c) => (tput === 0 && cells[r]![c] === null ? null : tput)));
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
  const latencies = latencyNames.flatMap((name) => {
    const values = read[name];
    return values !== undefined && fits(values) ? [[name, values] as const] : [];
  });
  return {
    gpu: read.gpu,
    cost: cost ?? null,
    grid: { indexes, tputs, ...(provenance === undefined ? {} : { method: provenance.method }) },
    created: created ?? null,
    slos: Object.fromEntries(stated),
    ...Object.fromEntries(latencies),
    ...(read.model === undefined ? {} : { model: read.model }),
    ...(read.gpuType === undefined ? {} : { gpuType: read.gpuType }),
    ...(read.gpusPerReplica === undefined ? {} : { gpusPerReplica: read.gpusPerReplica }),
    ...(cells === undefined ? {} : { cells }),
    ...(provenance === undefined ? {} : { provenance }),
  };
}

const latencyNames = ['e2e', 'ttft', 'tpot'] as const;

/**
 * The JSON document of a profile, as AIBrix's optimizer and gateway read it, with our own keys after theirs.
 *
 * A cell that was not profiled (null) is written as throughput 0, since AIBrix's readers take numbers only, and as null
 * in `cells`, by which `parseProfile` recognises it.
 *
 * @throws RangeError for what neither reader would take: a number that is not finite, matrices of another shape than
 *   the axes, a throughput above 0 without an E2E latency above 0 (the gateway divides by it)
 */
export function profileDocument(profile: GpuProfile): Readonly<Record<string, unknown>> {
  const { grid, e2e, ttft, tpot, cells, provenance } = profile;
  const [outputs = [], inputs = []] = grid.indexes;
  const matrices: readonly [string, readonly (readonly unknown[])[] | undefined][] = [
    ['tputs', grid.tputs],
    ['e2e', e2e],
    ['ttft', ttft],
    ['tpot', tpot],
    ['cells', cells],
  ];
  for (const [name, rows] of matrices) {
    if (rows === undefined) continue;
    if (rows.length !== outputs.length || rows.some((row) => row.length !== inputs.length)) {
      throw new RangeError(`${name} is no matrix of ${outputs.length} × ${inputs.length}`);
    }
    if (rows.some((row) => row.some((value) => typeof value === 'number' && !Number.isFinite(value)))) {
      throw new RangeError(`${name} holds a number that is not finite`);
    }
  }
  grid.tputs.forEach((row, r) => {
    row.forEach((tput, c) => {
      if (e2e !== undefined && (tput ?? 0) > 0 && !((e2e[r]![c] ?? 0) > 0)) {
        throw new RangeError(`e2e[${r}][${c}] is ${e2e[r]![c]}, where the throughput is ${tput}`);
      }
    });
  });
  const unprofiled = grid.tputs.some((row) => row.includes(null));
  const origins = grid.tputs.map((row, r) =>
    row.map((tput, c) => (tput === null ? null : ((cells ?? [])[r]?.[c] ?? provenance?.method ?? 'measured'))),
  );
  const document = {
    gpu: profile.gpu,
    cost: profile.cost ?? undefined,
    tputs: grid.tputs.map((row) => row.map((tput) => tput ?? 0)),
    indexes: grid.indexes,
    created: profile.created ?? undefined,
    e2e,
    ttft,
    tpot,
    slos: profile.slos,
    apiVersion: 'gpumix/v1',
    kind: 'GpuProfile',
    model: profile.model,
    gpuType: profile.gpuType,
    gpusPerReplica: profile.gpusPerReplica,
    cells: cells === undefined && !unprofiled ? undefined : origins,
    provenance,
  };
  return Object.fromEntries(Object.entries(document).filter(([, value]) => value !== undefined));
}

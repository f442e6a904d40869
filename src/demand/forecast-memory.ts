import { z } from 'zod';
import type { DeepReadonly } from '../core/parse.js';

/**
 * What a forecaster remembers, as plain JSON: 54 kB of minutes when full, and 7 kB for each setting that a member tries (one
 * of the last value, four each of `holt` and `seasonal`): 118 kB for `auto`. What does not belong to the forecasters of a
 * version (other numbers of them) is learnt anew; the minutes stay.
 */

const number = z.number();
const weight = z.number().min(0);

const residualsSchema = z.object({
  weight,
  spread: weight,
  spreadWeight: weight,
  longSpread: weight,
  longSpreadWeight: weight,
  longGuess: weight,
  longGuessWeight: weight,
  bins: z.string(),
});

const memberSchema = z.object({
  point: z.array(number),
  variants: z.array(z.object({ loss: weight, residuals: residualsSchema })),
  lossWeight: weight,
});

export const forecastMemorySchema = z.object({
  version: z.literal(2),
  history: z.object({ newest: z.int(), minutes: z.string() }),
  /** What the residuals are of [s]. */
  horizonSeconds: z.number().gt(0),
  members: z.record(z.string(), memberSchema),
  weighting: z.object({
    members: z.array(z.string()),
    losses: z.array(number),
    squares: z.array(weight),
    largest: z.array(weight),
  }),
});

/** What `DemandForecaster.memory` gives and its constructor takes. */
export type ForecastMemory = DeepReadonly<z.output<typeof forecastMemorySchema>>;

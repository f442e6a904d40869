import type { Moment, PointForecaster } from './moment.js';

/**
 * Holt's linear method with a damped trend (Gardner and McKenzie, "Forecasting trends in time series", Management Science
 * 1985), on the rate of each minute:
 *
 *     level ← α x + (1 − α)(level + φ trend),    trend ← β (level − level before) + (1 − β) φ trend
 *
 * One expectation per α, the middle one first: sparse traffic needs an hour to show its rate, dense traffic a minute. Until
 * 1/α minutes are known a level is their mean, so that the first minute, in which traffic may have begun, is one of many.
 */
const smoothings = [0.3, 0.7, 0.1, 0.03] as const;

/** Trends change more slowly than levels: a third of it is the usual start. */
const trendSmoothing = (alpha: number): number => alpha / 3;

/** Of a trend a minute this much is left in the next one: a rise goes on for ten minutes' worth of itself, no more. */
const damping = 0.9;

/** More than 1/α of the slowest. */
const manyMinutes = 100;

type State = { level: number; trend: number };

export function createHolt(): PointForecaster {
  /** Null before the first known minute. */
  let states: State[] | null = null;
  /** Minutes that were learnt, as far as that matters. */
  let known = 0;

  const moved = ({ level, trend }: State, alpha: number, rps: number): State => {
    const expected = level + damping * trend;
    const next = expected + Math.max(alpha, 1 / known) * (rps - expected);
    const beta = trendSmoothing(alpha);
    return { level: next, trend: beta * (next - level) + (1 - beta) * damping * trend };
  };

  return {
    variants: smoothings.length,
    basis: null,
    learn(_minute, rps) {
      if (rps === null) return;
      known = Math.min(manyMinutes, known + 1);
      states =
        states === null
          ? smoothings.map(() => ({ level: rps, trend: 0 }))
          : states.map((state, i) => moved(state, smoothings[i]!, rps));
    },
    expect(moment) {
      return smoothings.map((alpha, i) => {
        const state = states?.[i];
        return state === undefined ? moment.windowMeanRps : largestExpected(state, alpha, moment);
      });
    },
    // How many minutes are known comes first.
    memory: () => [known, ...smoothings.flatMap((_, i) => [states?.[i]?.level ?? 0, states?.[i]?.trend ?? 0])],
    restore([minutes, ...numbers]) {
      known = minutes!;
      states = known > 0 ? smoothings.map((_, i) => ({ level: numbers[2 * i]!, trend: numbers[2 * i + 1]! })) : null;
    },
  };
}

/** The largest of the minutes of the horizon, from the state of the last minute and what came since. */
function largestExpected({ level, trend }: State, alpha: number, moment: Moment): number {
  const { sinceShare, sinceRps, horizonMinutes } = moment;
  // A part of a minute moves the level by its part.
  const expected = level + damping * trend * sinceShare;
  const now = expected + alpha * sinceShare * (sinceRps - expected);
  let rate = now + damping * trend;
  let largest = rate;
  let step = damping * trend;
  for (let minute = 2; minute <= horizonMinutes; minute += 1) {
    step *= damping;
    rate += step;
    if (rate > largest) largest = rate;
  }
  return Math.max(0, largest);
}

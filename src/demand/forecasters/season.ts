import { minutesPerDay, type RateHistory } from '../rate-history.js';

/**
 * Whether the rates of a model repeat by the day or by the week, from its history alone.
 *
 * A period is believed where rates resemble those of one period before, and resemble those of a part of a period before
 * clearly less: a slow drift resembles everything that is near, and nearer times more. The resemblance is the correlation
 * of the means of ten minutes, as square roots, so that neither noise nor one peak decides. The fewer periods were seen,
 * the closer the resemblance must be: two days of anything slow look alike by chance.
 */
export const seasons = ['none', 'day', 'week'] as const;
export type Season = (typeof seasons)[number];

export const seasonMinutes: Readonly<Record<Exclude<Season, 'none'>, number>> = {
  day: minutesPerDay,
  week: 7 * minutesPerDay,
};

const blockMinutes = 10;
const blocksPerDay = minutesPerDay / blockMinutes;

/** Less resemblance than this explains a tenth of the variance and is not worth following. */
const leastCorrelation = 0.3;

/** By how much a period must resemble more than its parts, and a week more than a day. */
const leastAdvantage = 0.15;

/** Independent stretches of a day: traffic keeps its level for some hours. Two standard errors of a correlation. */
const stretchesPerDay = 6;

/** Overlap of a series with itself shifted by a period that is needed to say anything [days]. */
const leastOverlapDays: Readonly<Record<Exclude<Season, 'none'>, number>> = { day: 1, week: 3 };

const parts = [1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4] as const;

export function detectSeason(history: RateHistory): Season {
  const blocks = blockRoots(history);
  const day = periodic(blocks, 'day');
  const week = periodic(blocks, 'week');
  if (week !== null && (day === null || week > day + leastAdvantage)) return 'week';
  return day === null ? 'none' : 'day';
}

/** The resemblance at a period; null = it is no period. */
function periodic(blocks: Float64Array, season: Exclude<Season, 'none'>): number | null {
  const lag = seasonMinutes[season] / blockMinutes;
  const { correlation, pairs } = correlationAt(blocks, lag);
  const days = pairs / blocksPerDay;
  if (days < leastOverlapDays[season] * 0.9) return null;
  if (correlation < Math.max(leastCorrelation, 2 / Math.sqrt(stretchesPerDay * days))) return null;
  let least = 1;
  for (const part of parts) least = Math.min(least, correlationAt(blocks, Math.round(part * lag)).correlation);
  return correlation > least + leastAdvantage ? correlation : null;
}

/** Square roots of the mean rate of every ten minutes, oldest first; NaN = not known. */
function blockRoots(history: RateHistory): Float64Array {
  const newest = history.newest;
  if (newest === null) return new Float64Array();
  const oldest = history.oldestKnown() ?? newest;
  const count = Math.floor((newest - oldest + 1) / blockMinutes);
  const blocks = new Float64Array(count);
  for (let i = 0; i < count; i += 1) {
    const to = newest - (count - 1 - i) * blockMinutes;
    const mean = history.mean(to - blockMinutes, to);
    blocks[i] = mean === null ? Number.NaN : Math.sqrt(mean);
  }
  return blocks;
}

/** Correlation of a series with itself `lag` earlier, over the pairs that are known; 0 where it is constant. */
function correlationAt(blocks: Float64Array, lag: number): { readonly correlation: number; readonly pairs: number } {
  let pairs = 0;
  let x = 0;
  let y = 0;
  let xx = 0;
  let yy = 0;
  let xy = 0;
  for (let i = lag; i < blocks.length; i += 1) {
    const now = blocks[i]!;
    const before = blocks[i - lag]!;
    if (Number.isNaN(now) || Number.isNaN(before)) continue;
    pairs += 1;
    x += now;
    y += before;
    xx += now * now;
    yy += before * before;
    xy += now * before;
  }
  if (pairs === 0) return { correlation: 0, pairs };
  const varianceX = xx / pairs - (x / pairs) ** 2;
  const varianceY = yy / pairs - (y / pairs) ** 2;
  const covariance = xy / pairs - (x / pairs) * (y / pairs);
  // Of a constant series only rounding is left.
  if (!(varianceX > 1e-9 * (xx / pairs)) || !(varianceY > 1e-9 * (yy / pairs))) return { correlation: 0, pairs };
  return { correlation: covariance / Math.sqrt(varianceX * varianceY), pairs };
}

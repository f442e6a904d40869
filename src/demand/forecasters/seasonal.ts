import type { RateHistory } from '../rate-history.js';
import type { Moment, PointForecaster } from './moment.js';
import { detectSeason, type Season, seasonMinutes, seasons } from './season.js';

/**
 * As at this time of the day (or the week) before, moved by how much the rate now differs from what was usual now.
 *
 * The usual rate of a minute is the mean of the minutes around the same time of earlier days, newer days for more. The
 * rate now is that of the last minute, or of the window where single minutes are noise, and a share of the difference is
 * believed to last. Without a season it expects the rate now.
 */
const views = [
  { now: 'minute', lasting: 1 },
  { now: 'minute', lasting: 0.7 },
  { now: 'window', lasting: 1 },
  { now: 'window', lasting: 0.5 },
] as const;

/** Minutes before and after the same time that count: with more, a rise would blur over more than the usual horizon. */
const aroundMinutes = 2;

/** The day before counts so much less than the one after. */
const olderDay = 0.9;

/** Minutes between two looks for a season. */
const detectionMinutes = 60;

/** Usual rates that are remembered: those of the longest horizon, and of now. */
const rememberedRates = 256;

export type SeasonalForecaster = PointForecaster & { readonly season: Season };

export function createSeasonal(): SeasonalForecaster {
  let season: Season = 'none';
  /** Usual rates by minute; null = none is known. */
  let usual = new Map<number, number | null>();

  const usualAt = (minute: number, history: RateHistory): number | null => {
    const known = usual.get(minute);
    if (known !== undefined) return known;
    const rate = season === 'none' ? null : usualRate(minute, seasonMinutes[season], history);
    if (usual.size >= rememberedRates) usual.clear();
    usual.set(minute, rate);
    return rate;
  };

  return {
    variants: views.length,
    get season() {
      return season;
    },
    get basis() {
      return season === 'none' ? null : season;
    },
    learn(minute, _rps, history) {
      if (minute % detectionMinutes !== 0) return;
      season = detectSeason(history);
      usual = new Map();
    },
    expect(moment) {
      const { minute, lastRps, windowMeanRps, history } = moment;
      const now = usualAt(minute, history);
      const largest = largestUsual(moment, (at) => usualAt(at, history));
      return views.map((view) => {
        const rps = view.now === 'minute' ? lastRps : windowMeanRps;
        return now === null || largest === null ? rps : Math.max(0, largest + view.lasting * (rps - now));
      });
    },
    memory: () => [seasons.indexOf(season)],
    restore([index]) {
      season = seasons[index!] ?? 'none';
    },
  };
}

function largestUsual({ minute, horizonMinutes }: Moment, usualAt: (minute: number) => number | null): number | null {
  let largest: number | null = null;
  for (let ahead = 1; ahead <= horizonMinutes; ahead += 1) {
    const rate = usualAt(minute + ahead);
    if (rate !== null && (largest === null || rate > largest)) largest = rate;
  }
  return largest;
}

function usualRate(minute: number, period: number, history: RateHistory): number | null {
  let sum = 0;
  let weights = 0;
  let weight = 1;
  const oldest = history.oldestKnown();
  if (oldest === null) return null;
  for (let same = minute - period; same + aroundMinutes >= oldest; same -= period) {
    const mean = history.mean(same - aroundMinutes - 1, same + aroundMinutes);
    if (mean !== null) {
      sum += weight * mean;
      weights += weight;
    }
    weight *= olderDay;
  }
  return weights === 0 ? null : sum / weights;
}

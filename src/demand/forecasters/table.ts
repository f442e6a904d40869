import { createHolt } from './holt.js';
import { createLastValue } from './last-value.js';
import type { PointForecaster } from './moment.js';
import { createSeasonal } from './seasonal.js';

/**
 * The forecasters. A new one is a name, a function that makes it, and one line in each table.
 */
export const forecasterNames = ['window', 'last-value', 'holt', 'seasonal', 'auto'] as const;
export type ForecasterName = (typeof forecasterNames)[number];

/** What each is for, and whose forecasts it weighs: itself alone, or several by their recent losses. */
export const demandForecasters = {
  window: { about: "the larger of the quantile and the mean of the window's rates", members: ['window'] },
  'last-value': { about: 'the last minute', members: ['last-value'] },
  holt: { about: 'a smoothed level with a damped trend', members: ['holt'] },
  seasonal: { about: 'the same time of earlier days or weeks, where they repeat', members: ['seasonal'] },
  auto: {
    about: 'all of them, each by how little it lost lately',
    members: ['window', 'last-value', 'holt', 'seasonal'],
  },
} as const satisfies Record<ForecasterName, { readonly about: string; readonly members: readonly MemberName[] }>;

/** Forecasters that stand for themselves. */
type MemberName = Exclude<ForecasterName, 'auto'>;

/** Those that expect one rate and learn their margin; the window's quantile has its own. */
export const pointForecasters = {
  'last-value': createLastValue,
  holt: createHolt,
  seasonal: createSeasonal,
} as const satisfies Record<Exclude<MemberName, 'window'>, () => PointForecaster>;

export function createPointForecaster(name: ForecasterName): PointForecaster | null {
  return Object.hasOwn(pointForecasters, name) ? pointForecasters[name as keyof typeof pointForecasters]() : null;
}

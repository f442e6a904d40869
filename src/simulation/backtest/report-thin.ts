import type { RunSeries } from './backtest.js';

/**
 * A long series at the resolution of a picture: neighbouring samples become one column. Rates, costs and replicas are
 * their mean; what is of requests is their mean by requests, so that a quiet minute does not speak for a busy one.
 */
export type ThinSeries = {
  /** Seconds of the trace at the middle of each column; all lists are equally long. */
  readonly atSeconds: readonly number[];
  readonly columnSeconds: number;
  readonly rps: readonly (number | null)[];
  readonly forecastRps: readonly (number | null)[];
  readonly usdPerHour: readonly (number | null)[];
  readonly attainment: readonly (number | null)[];
  readonly ttftP95Seconds: readonly (number | null)[];
  /** Ready replicas by GPU type. */
  readonly replicas: Readonly<Record<string, readonly number[]>>;
};

/**
 * @param options.fromSeconds of the trace, at the first sample
 * @param options.columns most columns
 * @param options.typeOf GPU type of a deployment
 */
export function thinSeries(
  series: RunSeries,
  options: {
    readonly fromSeconds: number;
    readonly columns: number;
    readonly typeOf: (deployment: string) => string;
  },
): ThinSeries {
  const { fromSeconds, columns, typeOf } = options;
  const samples = series.rps.length;
  const width = Math.max(1, Math.ceil(samples / Math.max(1, columns)));
  const starts = Array.from({ length: Math.ceil(samples / width) }, (_, column) => column * width);
  const mean = (values: readonly (number | null)[], weights: readonly number[] | null) =>
    starts.map((start) => weightedMean(values, { start, end: Math.min(samples, start + width), weights }));
  const byType = new Map<string, number[]>();
  for (const [deployment, ready] of Object.entries(series.readyReplicas)) {
    const columnsOfIt = mean(ready, null).map((value) => value ?? 0);
    const sum = byType.get(typeOf(deployment));
    if (sum === undefined) byType.set(typeOf(deployment), columnsOfIt);
    else for (const [column, value] of columnsOfIt.entries()) sum[column] = sum[column]! + value;
  }
  return {
    atSeconds: starts.map(
      (start) => fromSeconds + ((start + Math.min(samples, start + width)) / 2) * series.stepSeconds,
    ),
    columnSeconds: width * series.stepSeconds,
    rps: mean(series.rps, null),
    forecastRps: mean(series.forecastRps, null),
    usdPerHour: mean(series.usdPerHour, null),
    attainment: mean(series.attainment, series.rps),
    ttftP95Seconds: mean(series.ttftP95Seconds, series.rps),
    replicas: Object.fromEntries(byType),
  };
}

function weightedMean(
  values: readonly (number | null)[],
  options: { readonly start: number; readonly end: number; readonly weights: readonly number[] | null },
): number | null {
  const { start, end, weights } = options;
  let sum = 0;
  let total = 0;
  for (let i = start; i < end; i++) {
    const value = values[i] ?? null;
    if (value === null) continue;
    const weight = weights === null ? 1 : Math.max(weights[i] ?? 0, 1e-12);
    sum += value * weight;
    total += weight;
  }
  return total > 0 ? sum / total : null;
}

import { scaleLinear } from 'd3-scale';

/** Axes of the pictures of a backtest: where a value stands, and which values are named. Pure. */

export type Axis = {
  /** 0 at the beginning of the axis, 1 at its end; not cut off. */
  readonly position: (value: number) => number;
  readonly ticks: readonly { readonly value: number; readonly label: string }[];
};

/** Money, rates, counts: from 0. */
export function countAxis(options: {
  readonly most: number;
  readonly ticks: number;
  readonly label?: (value: number) => string;
}): Axis {
  const { label = (value: number) => value.toLocaleString('en-US') } = options;
  const most = options.most > 1e-9 && Number.isFinite(options.most) ? options.most : 1;
  const scale = scaleLinear([0, most], [0, 1]).nice(options.ticks);
  return {
    position: (value) => scale(value),
    ticks: scale.ticks(options.ticks).map((value) => ({ value, label: label(value) })),
  };
}

/** A range of money that need not begin at 0. */
export function rangeAxis(options: {
  readonly from: number;
  readonly to: number;
  readonly ticks: number;
  readonly label: (value: number) => string;
}): Axis {
  const { from, to, ticks, label } = options;
  // Costs that differ by a thousandth are alike, and are to look so.
  const room = Math.max((to - from) * 0.06, Math.abs(to) * 0.02, 1e-6);
  const scale = scaleLinear([Math.max(0, from - room), to + room], [0, 1]).nice(ticks);
  return {
    position: (value) => scale(value),
    ticks: scale.ticks(ticks).map((value) => ({ value, label: label(value) })),
  };
}

/** Times on a logarithm, named at 1, 2 and 5 of each decade, or at fewer where they are many. */
export function timeAxis(options: {
  readonly low: number;
  readonly high: number;
  readonly label: (seconds: number) => string;
}): Axis {
  const low = Math.log10(Math.max(options.low, 1e-6) / 1.15);
  const high = Math.log10(Math.max(options.high, options.low, 2e-6) * 1.15);
  const steps = high - low > 3.2 ? [1] : high - low > 1.6 ? [1, 3] : [1, 2, 5];
  const ticks: { value: number; label: string }[] = [];
  for (let power = Math.floor(low); power <= high; power++) {
    for (const step of steps) {
      const value = Number((step * 10 ** power).toPrecision(1));
      const at = Math.log10(value);
      if (at >= low - 1e-9 && at <= high + 1e-9) ticks.push({ value, label: options.label(value) });
    }
  }
  return { position: (value) => (Math.log10(Math.max(value, 1e-9)) - low) / (high - low), ticks };
}

const namedShares = [0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 0.99999, 1] as const;

/**
 * Attainment by its nines: what is between 99 and 99.9 % matters as much as what is between 90 and 99 %. `finest` is the
 * share of misses below which all is one: 100 % must stand somewhere.
 */
export function ninesAxis(options: {
  readonly low: number;
  readonly high: number;
  readonly finest: number;
  /** Least distance between two names, as a share of the axis. */
  readonly spacing: number;
}): Axis {
  const { finest, spacing } = options;
  const depth = (share: number): number => -Math.log10(1 - Math.min(1, Math.max(0, share)) + finest);
  let from = depth(options.low);
  let to = depth(options.high);
  const room = to - from > 1e-9 ? (to - from) * 0.05 : 0.15;
  from = Math.max(depth(0), from - room);
  to = Math.min(depth(1), to + room);
  if (to - from < 1e-9) from -= 0.3;
  const position = (share: number): number => (depth(share) - from) / (to - from);
  const ticks: { value: number; label: string }[] = [];
  // From the top: 100 and 99 % are what people look for.
  const wanted = [...namedShares].sort((a, b) => nameRank(a) - nameRank(b));
  for (const value of wanted) {
    const at = position(value);
    if (at < -1e-9 || at > 1 + 1e-9) continue;
    if (ticks.some((tick) => Math.abs(position(tick.value) - at) < spacing)) continue;
    ticks.push({ value, label: `${Number((value * 100).toPrecision(7))} %` });
  }
  return { position, ticks: ticks.sort((a, b) => a.value - b.value) };
}

/** Whole nines and the ends before what is between them. */
function nameRank(share: number): number {
  const order = [0.99, 0.9, 0.999, 1, 0.95, 0.9999, 0.5, 0.995, 0.98, 0.8];
  const at = order.indexOf(share);
  return at < 0 ? order.length : at;
}

const clockUnits = [
  { unit: 'minutes', seconds: 60, steps: [1, 2, 5, 10, 15, 20, 30] },
  { unit: 'hours', seconds: 3600, steps: [0.5, 1, 2, 3, 4, 6, 12, 24] },
  { unit: 'days', seconds: 86_400, steps: [0.5, 1, 2, 5, 7, 14, 30, 90, 365] },
] as const;

/** Time of the trace, in minutes, hours or days by how long it is. */
export function clockAxis(options: {
  readonly fromSeconds: number;
  readonly toSeconds: number;
  readonly ticks: number;
}): Axis & { readonly unit: string } {
  const { fromSeconds, ticks: most } = options;
  const span = Math.max(1e-3, options.toSeconds - fromSeconds);
  const [minutes, hours, days] = clockUnits;
  const chosen = span <= 3 * 3600 ? minutes : span <= 3 * 86_400 ? hours : days;
  const coarsest = chosen.steps.at(-1)!;
  const step =
    chosen.steps.find((one) => span / (one * chosen.seconds) <= most) ??
    coarsest * Math.ceil(span / chosen.seconds / coarsest / most);
  const ticks: { value: number; label: string }[] = [];
  const first = Math.ceil(fromSeconds / chosen.seconds / step - 1e-9);
  for (let i = first; ticks.length <= most; i++) {
    const value = i * step * chosen.seconds;
    if (value > fromSeconds + span * (1 + 1e-9)) break;
    ticks.push({ value, label: String(Number((i * step).toPrecision(9))) });
  }
  return { position: (seconds) => (seconds - fromSeconds) / span, ticks, unit: chosen.unit };
}

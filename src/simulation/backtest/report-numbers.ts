import type { FrontierPosition } from './frontier.js';
import type { PolicyName } from './policy-names.js';

/** Numbers of a backtest as people read them, the same in the table and in the report. Pure. */

/** `812.30`, `1,234`; cents only below a thousand. */
export function usdText(usd: number): string {
  if (usd === 0) return '0.00';
  if (Math.abs(usd) < 0.1) return usd.toPrecision(2);
  return Math.abs(usd) < 1000 ? usd.toFixed(2) : wholeText(usd);
}

/** `1,234,567` */
export function wholeText(count: number): string {
  return Math.round(count).toLocaleString('en-US');
}

/**
 * A share of requests within the objective, rounded down: what is below an objective must not be printed as meeting it.
 * `99.21 %`, `99.99 %` for 0.99999, `100 %` only for all.
 */
export function attainmentText(share: number): string {
  if (share >= 1) return '100 %';
  // A hundredth of a percent, and what binary fractions lack to it.
  return `${(Math.floor(share * 10_000 + 1e-7) / 100).toFixed(2)} %`;
}

/** An attainment that was asked for: `99 %`, `99.5 %`. */
export function targetText(share: number): string {
  return `${Number((share * 100).toPrecision(6))} %`;
}

/** `12.3 %`, `-4.0 %` */
export function shareText(share: number, digits = 1): string {
  const text = (share * 100).toFixed(digits);
  return `${/^-0\.?0*$/.test(text) ? text.slice(1) : text} %`;
}

/** With its sign: `+20 %`, `−20 %`, `±0`. */
export function errorText(share: number): string {
  if (share === 0) return '±0';
  return `${share > 0 ? '+' : '−'}${Number((Math.abs(share) * 100).toPrecision(4))} %`;
}

/** Three digits of a time: `84 ms`, `1.24 s`, `312 s`. */
export function secondsText(seconds: number): string {
  if (seconds === 0) return '0 s';
  if (seconds < 0.0995) return `${Number((seconds * 1000).toPrecision(2))} ms`;
  if (seconds < 9.995) return `${seconds.toFixed(2)} s`;
  return seconds < 99.95 ? `${seconds.toFixed(1)} s` : `${wholeText(seconds)} s`;
}

/** A span as one says it: `45 s`, `90 min`, `6 h`, `14 days`. */
export function spanText(seconds: number): string {
  if (seconds < 120) return `${Number(seconds.toPrecision(3))} s`;
  if (seconds < 2 * 3600) return `${Number((seconds / 60).toPrecision(3))} min`;
  if (seconds < 3 * 86_400) return `${Number((seconds / 3600).toPrecision(3))} h`;
  return `${Number((seconds / 86_400).toPrecision(3))} days`;
}

/** Any quantity with at most so many digits that matter: `0.65`, `12.4`, `1,240`. */
export function quantityText(value: number, digits = 3): string {
  return Math.abs(value) >= 1000 ? wholeText(value) : String(Number(value.toPrecision(digits)));
}

/** `targetUtilisation 80` */
export function knobText(knob: { readonly name: string; readonly value: number }): string {
  return `${knob.name} ${quantityText(knob.value, 4)}`;
}

/** With its unit: `targetUtilisation 80 percent`; a share needs no word. */
export function knobUnitText(knob: { readonly name: string; readonly unit: string; readonly value: number }): string {
  return knob.unit === '' || knob.unit === 'share' ? knobText(knob) : `${knobText(knob)} ${knob.unit}`;
}

/** What a policy is, in a few words. */
export const policyTitles: Readonly<Record<PolicyName, string>> = {
  gpumix: 'gpumix with its forecast',
  'gpumix-reactive': 'gpumix without a forecast',
  aibrix: "AIBrix's GPU optimizer",
  'hpa-concurrency': 'HPA on requests in flight, one GPU type',
  'hpa-utilisation': 'HPA on GPU utilisation, one GPU type',
  'single-type-best': 'gpumix on the cheapest single GPU type',
  static: 'best constant fleet in hindsight',
};

/** `aibrix: on or below it from 92.10 to 99.30 %`. */
export function positionText(position: FrontierPosition): string {
  const { against, range, worstExcess, worstAt, beyond } = position;
  if (range === null) {
    return beyond === null
      ? `${against}: no run to compare with`
      : `${against}: it attains up to ${attainmentText(beyond)}, which ${position.policy} does not reach`;
  }
  const [from, to] = [attainmentText(range.from), attainmentText(range.to)];
  const where = from === to ? `at ${from}, all that both have` : `from ${from} to ${to}`;
  const after = beyond === null ? '' : `; above that, up to ${attainmentText(beyond)}, ${position.policy} was not seen`;
  const isBelow = worstExcess !== null && worstExcess <= 1e-9;
  if (isBelow) return `${against}: on or below it ${where}${after}`;
  const excess =
    worstExcess === null || worstAt === null
      ? 'above it'
      : `above it by up to ${shareText(worstExcess)} (at ${attainmentText(worstAt)})`;
  return `${against}: ${excess} ${where}${after}`;
}

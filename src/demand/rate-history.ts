import { packUint16, unpackUint16 } from './packed-numbers.js';

/**
 * The last 14 days of one model: one rate a minute, 40 kB however long it runs.
 *
 * A minute is named by its number: the minute that ends at Unix time 60·n is n. What is not known is unknown, never 0.
 * Rates are kept as numbers of 16 bits with 12 significant ones: a whole number of requests a minute is exact up to
 * 4,096, any other rate is within an eighth of a request a minute or 1 part in 4,096. What is read is what was kept, so that a restart changes nothing.
 */

export const historyDays = 14;
export const minutesPerDay = 1440;
const capacity = historyDays * minutesPerDay;

/** One minute of an earlier time: the mean rate of [endSeconds − 60, endSeconds) [requests/s]. */
export type KnownMinute = { readonly endSeconds: number; readonly rps: number };

/** Plain JSON: 54 kB when full. */
export type RateHistoryMemory = {
  /** The newest minute; `minutes` ends with it. */
  readonly newest: number;
  /** 16 bits each, in base64. */
  readonly minutes: string;
};

export class RateHistory {
  readonly #codes = new Uint16Array(capacity).fill(unknownCode);
  /** Newest minute that was set; null = none was. */
  #newest: number | null = null;
  /** No older minute is known: where to look for the oldest one. */
  #oldest: number | null = null;
  #peak: { readonly rps: number; readonly atMinute: number } | null = null;

  constructor(memory: RateHistoryMemory | null = null) {
    const codes = memory === null ? null : unpackUint16(memory.minutes);
    if (memory === null || codes === null || codes.length > capacity || !Number.isSafeInteger(memory.newest)) return;
    this.#newest = memory.newest;
    codes.forEach((code, i) => {
      this.#codes[this.#indexOf(memory.newest - codes.length + 1 + i)] = code;
    });
  }

  get newest(): number | null {
    return this.#newest;
  }

  /** Sets one minute [requests/s]; null = not known. One that is older than the history is left out. */
  set(minute: number, rps: number | null): void {
    const newest = this.#newest;
    if (newest !== null && minute <= newest - capacity) return;
    if (newest !== null) {
      for (let skipped = Math.max(newest + 1, minute - capacity + 1); skipped < minute; skipped += 1) {
        this.#codes[this.#indexOf(skipped)] = unknownCode;
      }
    }
    this.#newest = Math.max(newest ?? minute, minute);
    if (this.#oldest !== null && minute < this.#oldest) this.#oldest = minute;
    const code = rps === null ? unknownCode : codeOf(60 * rps);
    this.#codes[this.#indexOf(minute)] = code;
    if (this.#peak === null || code === unknownCode) return;
    this.#peak = { ...this.#peak, rps: Math.max(this.#peak.rps, countOf(code) / 60) };
  }

  /** The rate of one minute [requests/s]; null = not known. */
  at(minute: number): number | null {
    if (this.#newest === null || minute > this.#newest || minute <= this.#newest - capacity) return null;
    const code = this.#codes[this.#indexOf(minute)]!;
    return code === unknownCode ? null : countOf(code) / 60;
  }

  /** Mean rate of the known minutes of (from, to] [requests/s]; null = none is known. */
  mean(from: number, to: number): number | null {
    let sum = 0;
    let known = 0;
    for (let minute = from + 1; minute <= to; minute += 1) {
      const rps = this.at(minute);
      if (rps === null) continue;
      sum += rps;
      known += 1;
    }
    return known === 0 ? null : sum / known;
  }

  /** The oldest known minute; null = none is known. */
  oldestKnown(): number | null {
    const newest = this.#newest;
    if (newest === null) return null;
    const from = newest - capacity + 1;
    let oldest = Math.max(this.#oldest ?? from, from);
    while (oldest <= newest && this.#codes[this.#indexOf(oldest)] === unknownCode) oldest += 1;
    this.#oldest = oldest;
    return oldest > newest ? null : oldest;
  }

  /** Rate of the busiest minute [requests/s]; one that has left the history may count for another hour. */
  peak(): number {
    const newest = this.#newest;
    if (newest === null) return 0;
    if (this.#peak === null || newest - this.#peak.atMinute >= 60 || newest < this.#peak.atMinute) {
      let largest = 0;
      for (const code of this.#codes) if (code !== unknownCode && code > largest) largest = code;
      this.#peak = { rps: countOf(largest) / 60, atMinute: newest };
    }
    return this.#peak.rps;
  }

  /** Forgets what lies after a minute: a clock that ran ahead and was set back had named it. */
  forgetAfter(minute: number): void {
    if (this.#newest === null || this.#newest <= minute) return;
    const kept = Math.max(minute, this.#newest - capacity);
    for (let later = kept + 1; later <= this.#newest; later += 1) this.#codes[this.#indexOf(later)] = unknownCode;
    this.#newest = minute <= this.#newest - capacity ? null : minute;
    this.#peak = null;
    this.#oldest = null;
  }

  memory(): RateHistoryMemory | null {
    const newest = this.#newest;
    if (newest === null) return null;
    const length = newest - (this.oldestKnown() ?? newest + 1) + 1;
    const codes = Uint16Array.from({ length }, (_, i) => this.#codes[this.#indexOf(newest - length + 1 + i)]!);
    return { newest, minutes: packUint16(codes) };
  }

  #indexOf(minute: number): number {
    return ((minute % capacity) + capacity) % capacity;
  }
}

const unknownCode = 0xffff;

/**
 * 5 bits of exponent, 11 of mantissa, as a floating-point number without sign and with an implied leading 1; the unit is
 * a quarter of a request a minute, so that a minute of which some seconds are unknown is no whole number either.
 * Codes ascend with the counts.
 */
const unitsPerCount = 4;
const mantissas = 2048;

function codeOf(count: number): number {
  const units = Math.max(0, count) * unitsPerCount;
  if (!(units >= 2 * mantissas)) return Math.round(units) || 0;
  let exponent = Math.floor(Math.log2(units / mantissas));
  let mantissa = Math.round(units / 2 ** exponent);
  if (mantissa >= 2 * mantissas) {
    exponent += 1;
    mantissa = mantissas;
  }
  return Math.min(unknownCode - 1, (exponent + 1) * mantissas + (mantissa - mantissas));
}

function countOf(code: number): number {
  const exponent = code >>> 11;
  const units = exponent === 0 ? code : (mantissas + (code & (mantissas - 1))) * 2 ** (exponent - 1);
  return units / unitsPerCount;
}

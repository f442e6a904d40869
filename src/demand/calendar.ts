import { Cron } from 'croner';

/**
 * Events that people know of beforehand: from when, for how long, and how much they bring.
 *
 * An entry *begins* at each time that its cron expression names in its time zone, and lasts for `durationSeconds`. A
 * time that the clocks leave out in spring begins when they go on; one that they repeat in autumn begins once. Of entries
 * that overlap the largest rate and the largest factor count; rates and factors only ever raise a forecast, so that an
 * event that does not come costs money and not requests.
 */
export type CalendarEntry = {
  /** Five fields, or six with seconds first. */
  readonly cron: string;
  readonly durationSeconds: number;
  /** IANA name; `UTC` and the like. */
  readonly timeZone: string;
  /** Null = every model. */
  readonly model: string | null;
  /** At least this rate while it lasts [requests/s]; null = no rate. */
  readonly rps: number | null;
  /** So many times the rate before it; >= 1; null = no factor. */
  readonly factor: number | null;
};

/** One occurrence of an entry [Unix ms]. */
export type CalendarEvent = {
  readonly entry: CalendarEntry;
  readonly beginMs: number;
  readonly endMs: number;
};

/** Why an expression or a time zone is none, for people; null = it can be used. */
export function calendarFault(entry: Pick<CalendarEntry, 'cron' | 'timeZone'>): {
  readonly key: 'cron' | 'timeZone';
  readonly expected: string;
} | null {
  try {
    new Intl.DateTimeFormat('en', { timeZone: entry.timeZone });
  } catch {
    return { key: 'timeZone', expected: 'an IANA time zone such as Europe/Berlin or UTC' };
  }
  try {
    createCron(entry);
    return null;
  } catch {
    return { key: 'cron', expected: 'a cron expression of five fields, such as 0 9 * * MON-FRI' };
  }
}

function createCron({ cron, timeZone }: Pick<CalendarEntry, 'cron' | 'timeZone'>): Cron {
  // croner also takes a date here, which would be an event that happens once and has no zone of its own.
  if (!/^(?:\S+\s+){4,5}\S+$/.test(cron.trim())) throw new TypeError('not five or six fields');
  return new Cron(cron.trim(), { paused: true, timezone: timeZone });
}

/** The events of all entries. It asks an expression for a time once, however many models ask. */
export class Calendar {
  readonly #entries: readonly Occurrences[];

  /** @throws TypeError for an expression or a time zone that `calendarFault` names */
  constructor(entries: readonly CalendarEntry[]) {
    this.#entries = entries.map((entry) => new Occurrences(entry));
  }

  /** Events of a model that last at some moment of [from, to], earliest first. */
  events(model: string, fromMs: number, toMs: number): readonly CalendarEvent[] {
    const events: CalendarEvent[] = [];
    for (const occurrences of this.#entries) {
      const { entry } = occurrences;
      if (entry.model !== null && entry.model !== model) continue;
      const beginMs = occurrences.firstAfter(fromMs - entry.durationSeconds * 1000);
      if (beginMs !== null && beginMs <= toMs) {
        events.push({ entry, beginMs, endMs: beginMs + entry.durationSeconds * 1000 });
      }
    }
    return events.sort((a, b) => a.beginMs - b.beginMs);
  }
}

/** The times of one entry, and the last answer: it stands until that time has come. */
class Occurrences {
  readonly entry: CalendarEntry;
  readonly #cron: Cron;
  #asked: { readonly afterMs: number; readonly nextMs: number | null } | null = null;

  constructor(entry: CalendarEntry) {
    this.entry = entry;
    this.#cron = createCron(entry);
  }

  /** The first time after a moment [Unix ms]; null = there is none any more. */
  firstAfter(afterMs: number): number | null {
    const asked = this.#asked;
    if (asked !== null && afterMs >= asked.afterMs && (asked.nextMs === null || afterMs < asked.nextMs)) {
      return asked.nextMs;
    }
    const nextMs = this.#cron.nextRun(new Date(afterMs))?.getTime() ?? null;
    this.#asked = { afterMs, nextMs };
    return nextMs;
  }
}

/** Before an event its factor is on the forecast; once it began, on the busiest minute of this long before it [s]. */
const referenceSeconds = 900;

/**
 * A forecast raised to what the events of its horizon bring.
 *
 * @param forecast.rps without the calendar [requests/s]
 * @param forecast.busiestMinute the busiest known minute of a time; null = not known
 * @returns the rate, and the event that it rests on; null = none raises it
 */
export function withEvents(
  events: readonly CalendarEvent[],
  forecast: {
    readonly rps: number;
    readonly nowMs: number;
    readonly busiestMinute: (fromMs: number, toMs: number) => number | null;
  },
): { readonly rps: number; readonly event: CalendarEvent | null } {
  const { nowMs, busiestMinute } = forecast;
  let rps = forecast.rps;
  let event: CalendarEvent | null = null;
  for (const each of events) {
    const { entry, beginMs } = each;
    const before = beginMs > nowMs ? forecast.rps : busiestMinute(beginMs - referenceSeconds * 1000, beginMs);
    const brought = Math.max(entry.rps ?? 0, (entry.factor ?? 0) * (before ?? forecast.rps));
    if (brought <= rps) continue;
    rps = brought;
    event = each;
  }
  return { rps, event };
}

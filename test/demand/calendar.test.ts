import { describe, expect, it } from 'vitest';
import { Calendar, type CalendarEntry, calendarFault, withEvents } from '../../src/demand/calendar.js';

function entry(overrides: Partial<CalendarEntry> = {}): CalendarEntry {
  return {
    cron: '0 9 * * *',
    durationSeconds: 3600,
    timeZone: 'UTC',
    model: null,
    rps: 20,
    factor: null,
    ...overrides,
  };
}

const at = (iso: string): number => Date.parse(iso);
const minutes = 60_000;

/** When events of a whole day begin, ISO 8601. */
function begins(of: CalendarEntry, day: string): readonly string[] {
  const calendar = new Calendar([of]);
  const found: string[] = [];
  for (let ms = at(`${day}T00:00:00Z`); ms < at(`${day}T00:00:00Z`) + 1440 * minutes; ms += minutes) {
    for (const { beginMs } of calendar.events('m', ms, ms)) found.push(new Date(beginMs).toISOString());
  }
  return [...new Set(found)];
}

describe('the calendar', () => {
  it('names an event from its horizon before the beginning until its end', () => {
    const calendar = new Calendar([entry()]);
    const seen = (iso: string) => calendar.events('m', at(iso), at(iso) + 4 * minutes).length;
    expect(seen('2026-11-20T08:55:59Z')).toBe(0);
    expect(seen('2026-11-20T08:56:00Z')).toBe(1);
    expect(seen('2026-11-20T09:30:00Z')).toBe(1);
    expect(seen('2026-11-20T09:59:59Z')).toBe(1);
    expect(seen('2026-11-20T10:00:00Z')).toBe(0);
    // And asked for an earlier time afterwards, it answers for that.
    expect(seen('2026-11-20T08:57:00Z')).toBe(1);
  });

  it('follows the clocks of its time zone', () => {
    const berlin = entry({ timeZone: 'Europe/Berlin', durationSeconds: 600 });
    expect(begins(berlin, '2026-07-01')).toEqual(['2026-07-01T07:00:00.000Z']);
    expect(begins(berlin, '2026-12-01')).toEqual(['2026-12-01T08:00:00.000Z']);
  });

  it('begins once where the clocks are set back, and when they go on where they are set forward', () => {
    const half = entry({ cron: '30 2 * * *', timeZone: 'Europe/Berlin', durationSeconds: 600 });
    // 2026-03-29: 02:00 CET is 03:00 CEST; 2026-10-25: 03:00 CEST is 02:00 CET.
    expect(begins(half, '2026-03-29')).toHaveLength(1);
    expect(begins(half, '2026-10-25')).toEqual(['2026-10-25T00:30:00.000Z']);
  });

  it('concerns one model where an entry names it', () => {
    const calendar = new Calendar([entry({ model: 'llama' }), entry({ cron: '30 9 * * *' })]);
    const now = at('2026-11-20T09:45:00Z');
    expect(calendar.events('llama', now, now)).toHaveLength(2);
    expect(calendar.events('qwen', now, now).map(({ entry: { cron } }) => cron)).toEqual(['30 9 * * *']);
  });

  it('names weekdays', () => {
    const workday = entry({ cron: '0 9 * * MON-FRI' });
    expect(begins(workday, '2026-11-20')).toHaveLength(1);
    expect(begins(workday, '2026-11-21')).toHaveLength(0);
  });

  it.each([
    ['0 9 * *', 'UTC', 'cron'],
    ['0 25 * * *', 'UTC', 'cron'],
    ['2026-11-20T09:00:00', 'UTC', 'cron'],
    ['', 'UTC', 'cron'],
    ['0 9 * * *', 'Europe/Atlantis', 'timeZone'],
  ] as const)('finds the fault of %j in %s', (cron, timeZone, key) => {
    expect(calendarFault({ cron, timeZone })?.key).toBe(key);
  });

  it('finds no fault in five fields or six', () => {
    expect(calendarFault({ cron: '0 9 * * MON-FRI', timeZone: 'Europe/Berlin' })).toBeNull();
    expect(calendarFault({ cron: '30 0 9 * * *', timeZone: 'UTC' })).toBeNull();
  });
});

describe('a forecast with events', () => {
  const nowMs = at('2026-11-20T08:58:00Z');
  const soon = (overrides: Partial<CalendarEntry>) => {
    const calendar = new Calendar([entry(overrides)]);
    return calendar.events('m', nowMs, nowMs + 4 * minutes)[0]!;
  };
  const unknown = () => null;

  it('is raised to the rate of an event, and never lowered', () => {
    expect(withEvents([soon({ rps: 20 })], { rps: 5, nowMs, busiestMinute: unknown }).rps).toBe(20);
    expect(withEvents([soon({ rps: 20 })], { rps: 30, nowMs, busiestMinute: unknown })).toEqual({
      rps: 30,
      event: null,
    });
  });

  it('takes the largest of events that overlap, and says which', () => {
    const events = [soon({ rps: 20 }), soon({ rps: 25 }), soon({ rps: null, factor: 2 })];
    const { rps, event } = withEvents(events, { rps: 5, nowMs, busiestMinute: unknown });
    expect(rps).toBe(25);
    expect(event?.entry.rps).toBe(25);
  });

  it('multiplies the forecast before an event, and the busiest minute before it while it lasts', () => {
    const event = soon({ rps: null, factor: 3 });
    expect(withEvents([event], { rps: 5, nowMs, busiestMinute: unknown }).rps).toBe(15);
    const during = { rps: 14, nowMs: at('2026-11-20T09:10:00Z') };
    const asked: number[][] = [];
    const busiestMinute = (fromMs: number, toMs: number) => {
      asked.push([fromMs, toMs]);
      return 6;
    };
    // Three times 14 would count the event twice.
    expect(withEvents([event], { ...during, busiestMinute }).rps).toBe(18);
    expect(asked).toEqual([[at('2026-11-20T08:45:00Z'), at('2026-11-20T09:00:00Z')]]);
  });
});

import { z } from 'zod';
import { InputError, quoteInput } from '../core/input-error.js';
import { check, parseJson } from '../core/parse.js';
import type { BenchmarkRow } from '../profiling/benchmark-row.js';
import type { RunRecord } from '../profiling/rate-search.js';

/**
 * What a benchmark notes in its own rows so that it can go on later: with each run its record, and the settings that it was
 * made with. The note stands on the run's first row (TPUT) under `gpumix`; readers of profiles ignore it.
 */

/** Settings that two halves of one benchmark must share; what may differ (cells, rates, time) is not among them. */
export type NotedSettings = Readonly<Record<string, string | number | boolean | null>>;

const number = z.number();

const noteSchema = z.object({
  /** Rows of this run, this one included. */
  rows: z.number().int().min(1),
  settings: z.record(z.string(), z.union([z.string(), number, z.boolean(), z.null()])),
  record: z.object({
    cell: z.object({ inputTokens: number, outputTokens: number }),
    requestRate: number,
    requests: number,
    presumed: z.string().nullable(),
    verdict: z.enum(['meets', 'misses', 'short', 'invalid']),
    invalidBecause: z.string().nullable(),
    aborted: z.boolean(),
    evidence: number,
    nearness: number.nullable(),
    nearestLimit: z.enum(['ttft', 'tpot', 'e2e']).nullable(),
    decidedBy: z.enum(['ttft', 'tpot', 'e2e', 'failures', 'throughput', 'nothing']),
    projection: z.object({ rate: number, logDeviation: number }).nullable(),
    sent: number,
    throughputRps: number,
    e2eSeconds: number.nullable(),
    seconds: number,
  }),
});

/** The lines of a run: its rows, the first with the note. */
export function notedLines(
  rows: readonly BenchmarkRow[],
  { record, settings }: { readonly record: RunRecord; readonly settings: NotedSettings },
): string {
  const note: z.infer<typeof noteSchema> = { rows: rows.length, settings: { ...settings }, record };
  return rows.map((row, i) => `${JSON.stringify(i === 0 ? { ...row, gpumix: note } : row)}\n`).join('');
}

export type ReadNotes = {
  readonly records: readonly RunRecord[];
  /** Characters of the text that hold whole runs; beyond them the last run was being written. */
  readonly wholeCharacters: number;
};

/**
 * Reads back the runs of a file.
 *
 * @throws InputError where a line is no row of ours, and where a run was made with other settings
 */
export function readNotes(
  text: string,
  options: { readonly source: string; readonly settings: NotedSettings },
): ReadNotes {
  const { source, settings } = options;
  const records: RunRecord[] = [];
  let wholeCharacters = 0;
  let offset = 0;
  let line = 0;
  let open: { record: RunRecord; rowsLeft: number } | null = null;
  for (const content of text.split('\n').slice(0, -1)) {
    line += 1;
    offset += content.length + 1;
    if (content.trim() === '') continue;
    const row = parseLine(content, { source, line });
    if (open === null) {
      const found = row.gpumix;
      if (found === undefined) {
        throw new InputError(source, [
          {
            place: `line ${line}`,
            found: 'a row without the note of a run',
            expected: 'rows that gpumix benchmark wrote',
          },
        ]);
      }
      const note = check(noteSchema, found, `${source}, line ${line}, gpumix`);
      sameSettings(note.settings, { source, line, settings });
      open = { record: note.record, rowsLeft: note.rows };
    }
    open.rowsLeft -= 1;
    if (open.rowsLeft === 0) {
      records.push(open.record);
      wholeCharacters = offset;
      open = null;
    }
  }
  return { records, wholeCharacters };
}

function parseLine(
  content: string,
  place: { readonly source: string; readonly line: number },
): Record<string, unknown> {
  const source = `${place.source}, line ${place.line}`;
  const value = parseJson(content, source);
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw new InputError(source, [{ place: '', found: quoteInput(value), expected: 'a row: an object' }]);
  }
  return value as Record<string, unknown>;
}

function sameSettings(
  found: NotedSettings,
  { source, line, settings }: { readonly source: string; readonly line: number; readonly settings: NotedSettings },
): void {
  const different = [...new Set([...Object.keys(found), ...Object.keys(settings)])].filter(
    (name) => (found[name] ?? null) !== (settings[name] ?? null),
  );
  if (different.length === 0) return;
  throw new InputError(
    '--resume',
    different.map((name) => ({
      place: name,
      found: quoteInput(settings[name] ?? null),
      expected: `${quoteInput(found[name] ?? null)}, as ${source} was made with (line ${line})`,
    })),
  );
}

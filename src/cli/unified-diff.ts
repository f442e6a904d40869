import { FILE_HEADERS_ONLY, formatPatch, type StructuredPatch, structuredPatch } from 'diff';
import { type Ink, printable } from './terminal-text.js';

/** What would change in a file, as `diff -u` and `git diff` write it. */

/** Lines that differ before the search for the fewest changes is given up: it takes their square in time. */
const mostEdits = 5000;

const contextLines = 3;

/**
 * @param change.before text of the file; null = there is none
 * @returns '' where nothing differs, else a patch that `patch` takes
 */
export function unifiedDiff(change: {
  readonly path: string;
  readonly before: string | null;
  readonly after: string;
}): string {
  const { path, before, after } = change;
  if (before === after) return '';
  const patch = structuredPatch(before === null ? '/dev/null' : path, path, before ?? '', after, undefined, undefined, {
    context: contextLines,
    maxEditLength: mostEdits,
  });
  return formatPatch(patch ?? replaced(change), FILE_HEADERS_ONLY);
}

/** All lines out and all lines in. */
function replaced({ path, before, after }: Parameters<typeof unifiedDiff>[0]): StructuredPatch {
  const old = linesOf(before ?? '');
  const fresh = linesOf(after);
  const oldStart = old.count === 0 ? 0 : 1;
  return {
    oldFileName: before === null ? '/dev/null' : path,
    newFileName: path,
    oldHeader: undefined,
    newHeader: undefined,
    hunks: [
      {
        oldStart,
        oldLines: old.count,
        newStart: 1,
        newLines: fresh.count,
        lines: [...old.marked('-'), ...fresh.marked('+')],
      },
    ],
  };
}

function linesOf(text: string): { readonly count: number; readonly marked: (sign: '-' | '+') => readonly string[] } {
  const isWhole = text === '' || text.endsWith('\n');
  const lines = text === '' ? [] : (isWhole ? text.slice(0, -1) : text).split('\n');
  const note = isWhole ? [] : ['\\ No newline at end of file'];
  return { count: lines.length, marked: (sign) => [...lines.map((line) => sign + line), ...note] };
}

/** The same for a terminal: coloured, and without control characters, which files may hold. */
export function paintDiff(diff: string, ink: Ink): string {
  const paint = (line: string, at: number): string => {
    const text = printable(line);
    if (at < 2) return ink.bold(text);
    if (line.startsWith('+')) return ink.good(text);
    if (line.startsWith('-')) return ink.bad(text);
    return line.startsWith('@@') ? ink.dim(text) : text;
  };
  return diff.split('\n').map(paint).join('\n');
}

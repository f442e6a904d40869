/** One line on a terminal that is drawn over and over, and what such lines say of time. */

/** Where the terminal does not say how wide it is. */
const usualWidth = 80;

const toLineStart = '\r\u001b[K';

export type ProgressTerminal = {
  readonly writeError: (text: string) => void;
  /** Columns of the terminal now; undefined or 0 = it does not say. */
  readonly width: () => number | undefined;
};

/** @returns functions that draw the line anew, cut to the terminal, and that take it away */
export function progressLine({ writeError, width }: ProgressTerminal): {
  readonly show: (text: string) => void;
  readonly clear: () => void;
} {
  return {
    show(text) {
      // A line that wraps could not be drawn over. The last column stays free: some terminals wrap once it is filled.
      const free = Math.max(0, (width() || usualWidth) - 1);
      writeError(`${toLineStart}${[...text].slice(0, free).join('')}`);
    },
    clear() {
      writeError(toLineStart);
    },
  };
}

/** `45 s`, `12 min`, `1 h 40 min`. */
export function roughDuration(seconds: number): string {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

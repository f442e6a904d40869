import type { BacktestProgress } from '../service/backtest/run-backtest.js';

/** One line on a terminal: which run of how many, and since when. */

/** Where the terminal does not say how wide it is. */
const usualWidth = 80;

export function simulateProgressLine(terminal: {
  readonly writeError: (text: string) => void;
  readonly width: () => number | undefined;
  readonly steadyMs: () => number;
}): { readonly show: (progress: BacktestProgress) => void; readonly clear: () => void } {
  const { writeError: write, width, steadyMs } = terminal;
  const beganMs = steadyMs();
  return {
    show(progress) {
      const text = progressText(progress, (steadyMs() - beganMs) / 1000);
      // A line that wraps could not be drawn over. The last column stays free: some terminals wrap once it is filled.
      write(`\r\u001b[K${[...text].slice(0, Math.max(0, (width() ?? usualWidth) - 1)).join('')}`);
    },
    clear() {
      write('\r\u001b[K');
    },
  };
}

/** `run 3 of 12: aibrix, targetValue 80 · 1 min 20 s so far, about 4 min left` */
function progressText({ runsDone, runs, now }: BacktestProgress, seconds: number): string {
  const what = runsDone < runs ? `run ${runsDone + 1} of ${runs}: ${now}` : now;
  const left =
    runsDone === 0 || runsDone >= runs ? '' : `, about ${span((seconds / runsDone) * (runs - runsDone))} left`;
  return `${what === '' ? 'done' : what} · ${span(seconds)} so far${left}`;
}

function span(seconds: number): string {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

import type { BacktestProgress } from '../service/backtest/run-backtest.js';
import { type ProgressTerminal, progressLine, roughDuration } from './progress-line.js';

/** One line on a terminal: which run of how many, and since when. */
export function simulateProgressLine(terminal: ProgressTerminal & { readonly steadyMs: () => number }): {
  readonly show: (progress: BacktestProgress) => void;
  readonly clear: () => void;
} {
  const { show, clear } = progressLine(terminal);
  const { steadyMs } = terminal;
  const beganMs = steadyMs();
  return { show: (progress) => show(progressText(progress, (steadyMs() - beganMs) / 1000)), clear };
}

/** `run 3 of 12: aibrix, targetValue 80 · 1 min 20 s so far, about 4 min left` */
function progressText({ runsDone, runs, now }: BacktestProgress, seconds: number): string {
  const what = runsDone < runs ? `run ${runsDone + 1} of ${runs}: ${now}` : now;
  const left =
    runsDone === 0 || runsDone >= runs ? '' : `, about ${roughDuration((seconds / runsDone) * (runs - runsDone))} left`;
  return `${what === '' ? 'done' : what} · ${roughDuration(seconds)} so far${left}`;
}

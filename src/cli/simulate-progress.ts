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

/** Runs, or parts of one, from which the time of the others is told. */
const leastDone = 0.05;

/** `run 3 of 12: aibrix, targetValue 80, 45 % · 80 s so far, about 4 min left` */
function progressText({ runsDone, runs, runShare, now }: BacktestProgress, seconds: number): string {
  const isRunning = runsDone < runs;
  const share = isRunning && runShare > 0 ? `, ${Math.floor(100 * Math.min(1, runShare))} %` : '';
  const what = isRunning ? `run ${runsDone + 1} of ${runs}: ${now}${share}` : now;
  const done = runsDone + runShare;
  const left = !isRunning || done < leastDone ? '' : `, about ${roughDuration((seconds / done) * (runs - done))} left`;
  return `${what === '' ? 'done' : what} · ${roughDuration(seconds)} so far${left}`;
}

import type { BenchmarkProgress } from '../service/benchmark-run.js';
import { type ProgressTerminal, progressLine, roughDuration } from './progress-line.js';

/** Between two drawings of the line [s]: requests end by the thousand. */
const drawingGapSeconds = 0.1;

/** One line on a terminal: which cell at which rate, its TTFT, how far the whole is. */
export function benchmarkProgressLine(terminal: ProgressTerminal & { readonly nowSeconds: () => number }): {
  readonly show: (progress: BenchmarkProgress) => void;
  readonly clear: () => void;
} {
  const { show, clear } = progressLine(terminal);
  let drawnAt = Number.NEGATIVE_INFINITY;
  return {
    show(progress) {
      const now = terminal.nowSeconds();
      if (now - drawnAt < drawingGapSeconds) return;
      drawnAt = now;
      show(progressText(progress));
    },
    clear,
  };
}

/** `128 in, 512 out · 3.42 requests/s · 37/84 · TTFT 0.21 s · cell 12 of 121 · about 1 h 40 min left` */
function progressText(progress: BenchmarkProgress): string {
  const { run, ended, ttftSeconds, cellsDone, cells, remainingSeconds } = progress;
  const { cell, requestRate, requests } = run;
  return [
    `${cell.inputTokens} in, ${cell.outputTokens} out`,
    `${Number(requestRate.toPrecision(3))} requests/s`,
    `${ended}/${requests}`,
    `TTFT ${ttftSeconds === null ? '-' : `${Number(ttftSeconds.toPrecision(2))} s`}`,
    `cell ${Math.min(cellsDone + 1, cells)} of ${cells}`,
    `about ${roughDuration(remainingSeconds)} left`,
  ].join(' · ');
}

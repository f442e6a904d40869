import type { BenchmarkProgress } from '../service/benchmark-run.js';

/** One line on a terminal: which cell at which rate, its TTFT, how far the whole is. */

/** Where the terminal does not say how wide it is. */
const usualWidth = 80;
/** Between two drawings of the line [s]: requests end by the thousand. */
const drawingGapSeconds = 0.1;

export function benchmarkProgressLine(terminal: {
  readonly writeError: (text: string) => void;
  readonly width: () => number | undefined;
  readonly nowSeconds: () => number;
}): { readonly show: (progress: BenchmarkProgress) => void; readonly clear: () => void } {
  const { writeError: write, width, nowSeconds } = terminal;
  let drawnAt = Number.NEGATIVE_INFINITY;
  return {
    show(progress) {
      const now = nowSeconds();
      if (now - drawnAt < drawingGapSeconds) return;
      drawnAt = now;
      // A line that wraps could not be drawn over. The last column stays free: some terminals wrap once it is filled.
      write(`\r\u001b[K${[...progressText(progress)].slice(0, Math.max(0, (width() ?? usualWidth) - 1)).join('')}`);
    },
    clear() {
      write('\r\u001b[K');
    },
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
    `about ${duration(remainingSeconds)} left`,
  ].join(' · ');
}

function duration(seconds: number): string {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

import { type ChildProcess, fork } from 'node:child_process';
import { on } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { BenchmarkOptions } from './main.js';
import type { MemoryReading, MemoryTask } from './memory-process.js';
import { table } from './timing.js';

/** Whether a service that runs for long holds more and more: the controller through simulated hours, in a process of its own. */
export type MemoryRun = MemoryTask & { readonly readings: readonly MemoryReading[] };

/** What is aimed at: growth from the first reading to the last. */
const largestGrowth = 0.05;

const full: readonly MemoryTask[] = [
  { models: 1000, hours: 1, everyMinutes: 10 },
  { models: 100, hours: 24, everyMinutes: 120 },
];
const short: readonly MemoryTask[] = [{ models: 50, hours: 0.5, everyMinutes: 10 }];

export async function benchmarkMemory({ quick }: BenchmarkOptions): Promise<string> {
  const runs: MemoryRun[] = [];
  for (const task of quick ? short : full) runs.push({ ...task, readings: await runIn(process.stderr, task) });
  return runs.map(describeRun).join('\n\n');
}

/** Each reading is told as it comes: whoever stops it after half an hour has those. */
async function runIn(progress: { write(text: string): unknown }, task: MemoryTask): Promise<readonly MemoryReading[]> {
  const child: ChildProcess = fork(fileURLToPath(new URL('./memory-process.js', import.meta.url)), {
    execArgv: ['--expose-gc'],
  });
  const gone = new AbortController();
  child.once('exit', (code) => gone.abort(new Error(`the process ended with status ${code}`)));
  const readings: MemoryReading[] = [];
  try {
    const messages = on(child, 'message', { signal: gone.signal });
    child.send(task);
    for await (const [reading] of messages as AsyncIterable<[MemoryReading | null]>) {
      if (reading === null) return readings;
      readings.push(reading);
      progress.write(`memory: ${task.models} models: ${cellsOf(reading).join('  ')}\n`);
    }
    return readings;
  } finally {
    child.kill();
  }
}

function cellsOf({ minutes, cycles, heapMb, rssMb }: MemoryReading): readonly string[] {
  const time = minutes < 120 ? `${minutes} min` : `${minutes / 60} h`;
  return [time, String(cycles), `${heapMb.toFixed(1)} MB`, `${Math.round(rssMb)} MB`];
}

function describeRun({ models, hours, readings }: MemoryRun): string {
  const [first, last] = [readings[0]!, readings.at(-1)!];
  const growth = (pick: (reading: MemoryReading) => number) => {
    const share = pick(last) / pick(first) - 1;
    return `${share < 0 ? '−' : '+'}${Math.abs(100 * share).toFixed(1)} %`;
  };
  return [
    `${models} models, ${hours} simulated ${hours === 1 ? 'hour' : 'hours'}`,
    '',
    table(['simulated', 'cycles', 'heap after collection', 'RSS'], readings.map(cellsOf)),
    '',
    `from the first reading to the last: heap ${growth(({ heapMb }) => heapMb)}, RSS ${growth(({ rssMb }) => rssMb)} (aim: under ${100 * largestGrowth} %)`,
  ].join('\n');
}

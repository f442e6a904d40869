import { resolve } from 'node:path';
import { loadGpuCatalogue, loadModelCatalogue } from '../src/adapters/catalogue-file.js';
import { createMemoryStore } from '../src/adapters/memory-store.js';
import { createFileProfiles } from '../src/adapters/profile-source.js';
import { readRequestLog } from '../src/adapters/request-log.js';
import { type BacktestRequestOptions, type EndedRun, runBacktest } from '../src/service/backtest/run-backtest.js';
import { loadConfig } from '../src/service/config-layers.js';
import type { BacktestDocument } from '../src/simulation/backtest/backtest-document.js';

/** A process that runs one backtest after the other: simulations take a core each. Started by the `backtest` benchmark. */
export type BacktestTask = {
  readonly traceFile: string;
  /** YAML. */
  readonly configuration: string;
  readonly directory: string;
  readonly question: Omit<BacktestRequestOptions, 'trace' | 'config' | 'configSource'>;
};

export type BacktestReply = {
  readonly document: BacktestDocument;
  /** Largest resident memory of this process so far [MB]. */
  readonly peakRssMb: number;
};

/** What the process tells: runs as they end, then the reply or why there is none. */
export type BacktestMessage =
  | { readonly ended: EndedRun }
  | { readonly reply: BacktestReply }
  | { readonly fault: string };

/** Runs one in this process. */
export async function backtest(
  task: BacktestTask,
  onRunEnd: (run: EndedRun) => void = () => undefined,
): Promise<BacktestReply> {
  const [gpus, models] = await Promise.all([loadGpuCatalogue(), loadModelCatalogue()]);
  const file = { name: 'the configuration of the benchmark', text: task.configuration };
  const { config } = loadConfig({ file, environment: {}, flags: [], catalogue: gpus });
  const document = await runBacktest(
    {
      ...task.question,
      config,
      configSource: file.name,
      trace: { file: task.traceFile, open: () => readRequestLog({ file: task.traceFile }) },
    },
    {
      gpus,
      models,
      profiles: createFileProfiles(resolve(task.directory, config.profiles.directory ?? '.')),
      createStore: createMemoryStore,
      steadyMs: () => performance.now(),
      signal: new AbortController().signal,
      onRunEnd,
    },
  );
  return { document, peakRssMb: process.resourceUsage().maxRSS / 1024 };
}

if (process.send !== undefined) {
  const tell = (message: BacktestMessage) => process.send!(message);
  process.on('message', async (task: BacktestTask) => {
    try {
      tell({ reply: await backtest(task, (ended) => tell({ ended })) });
    } catch (error) {
      tell({ fault: error instanceof Error ? (error.stack ?? error.message) : String(error) });
    }
  });
}

import { Command, Option } from 'commander';
import { realClock } from '../adapters/engine/clock.js';
import type { FaultSettings } from '../adapters/engine/faults.js';
import { EngineServer } from '../adapters/engine/server.js';
import { type EngineParts, nullEngine, simulatedEngine } from '../adapters/engine/simulated-engine.js';
import { type InputError, quoteInput } from '../core/input-error.js';
import { type WeightPrecision, weightPrecisions } from '../core/model-types.js';
import { untilStopSignal } from '../service/server.js';
import { cataloguedReplica } from './catalogued-replica.js';
import { flagError, nonNegativeNumber, positiveNumber, probability, wholeNumber } from './flag-values.js';
import { packageVersion } from './version.js';

export type EngineFlags = {
  readonly gpu?: string;
  readonly model?: string;
  readonly null?: boolean;
  readonly gpus?: number;
  readonly precision?: WeightPrecision;
  readonly kvPrecision?: 'bf16' | 'fp8';
  readonly maxNumSeqs?: number;
  readonly maxNumBatchedTokens?: number;
  readonly speed?: number;
  readonly maxModelLen?: number;
  readonly servedModelName?: string;
  readonly host: string;
  readonly port: number;
  readonly apiKey?: string;
  readonly seed: number;
  readonly eosRate: number;
  readonly maxRequests: number;
  readonly json?: boolean;
  readonly faultErrors: number;
  readonly faultRateLimit: number;
  readonly faultHang: number;
  readonly faultStall: number;
  readonly faultDrop: number;
  readonly faultMalformed: number;
  readonly faultStreamErrors: number;
  readonly faultSlowStart: number;
  readonly faultNoUsage?: boolean;
};

/** What the command sees of the process around it. */
export type EngineSurroundings = {
  readonly write: (text: string) => void;
  /** Resolves with the name of the signal that asks to stop. */
  readonly untilStopped: () => Promise<string>;
};

/** Flags that say what is simulated: with `--null` nothing is, and they would do nothing. */
const simulationFlags = {
  gpu: '--gpu',
  model: '--model',
  gpus: '--gpus',
  precision: '--precision',
  kvPrecision: '--kv-precision',
  maxNumSeqs: '--max-num-seqs',
  maxNumBatchedTokens: '--max-num-batched-tokens',
  speed: '--speed',
} satisfies Partial<Record<keyof EngineFlags, string>>;

/** Longest request of the engine that simulates nothing, unless a flag says otherwise [tokens]. */
const nullModelTokens = 131_072;

/** `gpumix engine`: a simulated OpenAI-compatible engine, until SIGTERM or Ctrl-C. */
export function engineCommand(): Command {
  return new Command('engine')
    .summary('a simulated OpenAI-compatible engine: no GPU, the timing of one')
    .description(
      [
        'Answers /v1/completions, /v1/chat/completions, /v1/models, /tokenize, /health and /metrics as vLLM does, with made-up words, at the times that a model of the GPU gives: continuous batching, prefill and decode, KV cache, queue. For tests, demos and CI. Every response says that it is simulated. docs/simulated-engine.md describes the model and how far to trust it.',
        'SIGTERM or Ctrl-C ends it. Exit code: 0 stopped, 2 bad input or a port in use.',
      ].join('\n\n'),
    )
    .option('--gpu <type>', 'GPU type of the catalogue: L4, A100-80GB, H100, …')
    .option('--model <name>', 'model of the catalogue, as you spell it: llama-3.1-8b, Qwen/Qwen3-32B-AWQ, …')
    .option('--gpus <n>', 'GPUs of the replica, tensor parallel (default: 1)', wholeNumber(1))
    .addOption(
      new Option(
        '--precision <format>',
        "format of the weights (default: what the model's name says, else as published)",
      ).choices(weightPrecisions),
    )
    .addOption(new Option('--kv-precision <format>', 'format of the KV cache (default: bf16)').choices(['bf16', 'fp8']))
    .option('--max-num-seqs <n>', 'most requests that run at once (default: 256)', wholeNumber(1))
    .option('--max-num-batched-tokens <n>', 'most tokens of one step (default: 8192)', wholeNumber(1))
    .option('--speed <n>', 'engine seconds a second: latencies and metrics shrink as well (default: 1)', positiveNumber)
    .option(
      '--null',
      'simulate nothing: every answer as fast as the process can, each token still written by itself; to measure clients',
    )
    .option(
      '--max-model-len <tokens>',
      'longest request, input + output (default: what model and cache can)',
      wholeNumber(1),
    )
    .option('--served-model-name <name>', "the model's name in requests (default: as --model says)")
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--port <number>', 'port to listen on, 0 takes a free one', wholeNumber(0, 65_535), 8000)
    .option('--api-key <key>', 'below /v1, answer only requests with this bearer token')
    .option('--seed <n>', 'settles words, lengths and faults', wholeNumber(0), 0)
    .option(
      '--eos-rate <p>',
      'probability of each token to end its answer, without ignore_eos; 0 = answers run to max_tokens',
      probability,
      0.004,
    )
    .option(
      '--max-requests <n>',
      'most requests in the engine, running and waiting; more get 503',
      wholeNumber(1),
      10_000,
    )
    .option('--json', 'print what is simulated, and where, as one line of JSON')
    .optionsGroup('Faults, each for a seeded share of the requests, together at most 1:')
    .option('--fault-errors <p>', '500', probability, 0)
    .option('--fault-rate-limit <p>', '429 with Retry-After', probability, 0)
    .option('--fault-hang <p>', 'taken, never answered', probability, 0)
    .option('--fault-stall <p>', 'the stream stops part of the way and stays open', probability, 0)
    .option('--fault-drop <p>', 'the connection is cut part of the way', probability, 0)
    .option('--fault-malformed <p>', 'an event or a body that is no JSON', probability, 0)
    .option('--fault-stream-errors <p>', 'an error event in the stream', probability, 0)
    .optionsGroup('Faults of the whole engine:')
    .option('--fault-slow-start <seconds>', '503 for so long after the start', nonNegativeNumber, 0)
    .option('--fault-no-usage', 'answers carry no usage')
    .addHelpText(
      'after',
      `
Examples:
  gpumix engine --gpu L4 --model llama-3.1-8b               an L4 at http://127.0.0.1:8000/v1
  gpumix engine --gpu H100 --gpus 4 --model llama-3.1-70b --speed 10
  gpumix engine --null --port 0 --json                      for measuring a load generator
  gpumix engine --gpu L4 --model llama-3.1-8b --fault-errors 0.01 --fault-drop 0.01
`,
    )
    .usage('--gpu <type> --model <name> [options]')
    .action(async (flags: EngineFlags) => {
      await runEngine(flags, {
        write: (text) => process.stdout.write(text),
        untilStopped: untilStopSignal,
      });
    });
}

/**
 * The command itself: answers until it is asked to stop, and has stopped when it resolves.
 *
 * @throws InputError for flags, a GPU, a model or an address that cannot be used
 */
export async function runEngine(flags: EngineFlags, around: EngineSurroundings): Promise<void> {
  // An empty key is a variable that was not set, and an empty address would be every one of this machine.
  for (const [flag, value] of [
    ['--host', flags.host],
    ['--api-key', flags.apiKey],
  ] as const) {
    if (value?.trim() !== '') continue;
    const expected = flag === '--host' ? 'an address of this machine, such as 127.0.0.1' : 'a key, or no such flag';
    throw flagError(flag, { found: quoteInput(value), expected });
  }
  const parts = flags.null === true ? nullParts(flags) : await simulatedParts(flags);
  const server = new EngineServer({
    ...parts,
    simulates: flags.speed === undefined ? parts.simulates : `${parts.simulates}; speed=${flags.speed}`,
    version: packageVersion(),
    speed: flags.speed ?? 1,
    seed: flags.seed,
    eosRate: flags.eosRate,
    apiKey: flags.apiKey ?? null,
    faults: faultsOf(flags),
    maxRequests: flags.maxRequests,
  });
  // Listened for from the start: a signal that comes while the engine starts counts.
  const stopAsked = around.untilStopped();
  const url = await server.listen({ host: flags.host, port: flags.port });
  around.write(flags.json === true ? jsonLine(url, parts) : describe(url, parts));
  const signal = await stopAsked;
  await server.stop();
  if (flags.json !== true) {
    const { requests } = server.counts;
    around.write(`stopped by ${signal} after ${requests} ${requests === 1 ? 'request' : 'requests'}\n`);
  }
}

function nullParts(flags: EngineFlags): EngineParts {
  for (const [key, flag] of Object.entries(simulationFlags)) {
    if (flags[key as keyof EngineFlags] !== undefined) {
      throw flagError(flag, { found: 'a value beside --null', expected: 'one of the two' });
    }
  }
  return nullEngine({
    modelName: servedName(flags) ?? 'null',
    maxModelTokens: flags.maxModelLen ?? nullModelTokens,
  });
}

async function simulatedParts(flags: EngineFlags): Promise<EngineParts> {
  const missing = (flag: string, expected: string): InputError =>
    flagError(flag, { found: 'nothing', expected: `${expected}, or --null to simulate nothing` });
  const { gpu, model } = flags;
  if (gpu === undefined) throw missing('--gpu', 'a GPU type, such as L4');
  if (model === undefined) throw missing('--model', 'a model, such as llama-3.1-8b');
  return simulatedEngine(
    {
      ...(await cataloguedReplica({ ...flags, gpu, model })),
      maxSequences: flags.maxNumSeqs ?? 256,
      maxBatchedTokens: flags.maxNumBatchedTokens ?? 8192,
      maxModelTokens: flags.maxModelLen ?? null,
      servedModelName: servedName(flags) ?? model,
    },
    realClock(flags.speed ?? 1),
  );
}

function servedName({ servedModelName }: EngineFlags): string | null {
  if (servedModelName !== '') return servedModelName ?? null;
  throw flagError('--served-model-name', { found: '""', expected: 'the name of a model' });
}

function faultsOf(flags: EngineFlags): FaultSettings {
  return {
    rates: {
      error: flags.faultErrors,
      rateLimit: flags.faultRateLimit,
      hang: flags.faultHang,
      stall: flags.faultStall,
      drop: flags.faultDrop,
      malformed: flags.faultMalformed,
      streamError: flags.faultStreamErrors,
    },
    slowStartSeconds: flags.faultSlowStart,
    noUsage: flags.faultNoUsage === true,
  };
}

function jsonLine(url: string, { model, kvCacheTokens, simulates }: EngineParts): string {
  return `${JSON.stringify({
    url,
    simulated: true,
    simulates,
    model: model.modelName,
    maxModelTokens: model.maxModelTokens,
    kvCacheTokens: kvCacheTokens === null ? null : Math.floor(kvCacheTokens),
  })}\n`;
}

function describe(url: string, { model, kvCacheTokens, simulates }: EngineParts): string {
  const limits = `model ${JSON.stringify(model.modelName)}, requests of up to ${model.maxModelTokens} tokens`;
  const cache = kvCacheTokens === null ? '' : `, a KV cache of ${Math.floor(kvCacheTokens)} tokens`;
  return (
    `simulated engine (${simulates}) at ${url}/v1: no GPU and no model, the words are made up\n` + `${limits}${cache}\n`
  );
}

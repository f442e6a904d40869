// Makes the profiles of this folder anew with gpumix's own commands: `npm run build && node profiles/regenerate.mjs`.
// They are of one date, so that the same version of gpumix gives the same bytes. README.md says what they are good for.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));
const cli = join(here, '..', 'dist', 'cli', 'main.js');

/** The objectives of most of them: seconds, at the 95th percentile. */
const objectives = { ttft: 4, tpot: 0.1, percentile: 95 };
/** Those of backtests: longer prompts may take longer to their first token, seconds per input token. */
const lengthObjectives = { ttft: 2, 'ttft-per-input-token': 0.0002, tpot: 0.1, percentile: 99 };
/** 2026-11-21, midnight UTC. */
const dateSeconds = 1_795_219_200;

/** GPUs of a replica by type: enough for the weights in 16 bits and a useful cache. */
const estimated = {
  'llama-3.1-8b': {
    L4: 1,
    A10G: 1,
    L40S: 1,
    'RTX-PRO-6000': 1,
    'A100-80GB': 1,
    H100: 1,
    H200: 1,
    B200: 1,
    MI300X: 1,
  },
  'qwen3-32b': { L4: 4, L40S: 2, 'RTX-PRO-6000': 1, 'A100-80GB': 2, H100: 2, H200: 1, B200: 1, MI300X: 1 },
  'llama-3.1-70b': { L40S: 4, 'RTX-PRO-6000': 2, 'A100-80GB': 4, H100: 4, H200: 2, B200: 2, MI300X: 1 },
};
const simulated = {
  'llama-3.1-8b': { L4: 1, L40S: 1, 'A100-80GB': 1, H100: 1 },
  'qwen3-32b': { 'A100-80GB': 2, H100: 2 },
  'llama-3.1-70b': { 'A100-80GB': 4, H100: 4 },
};
/** Lengths of the simulated ones [tokens]; gaps between them are interpolated where they are planned with. */
const inputs = '128,512,2048,8192,32768';
const outputs = '16,128,1024,4096';

/** As simulated ones, for the objectives whose limit grows with the prompt; up to the context of the model. */
const simulatedByLength = { 'llama-3.1-8b': { L40S: 1, 'A100-80GB': 1, H100: 1 } };
const folderByLength = (model) => `${model}-ttft-by-length`;
const inputsByLength = '128,256,512,1024,2048,4096,8192,16384,32768,65536';
const outputsByLength = '16,64,256,1024,4096';

const asked = process.argv[2] ?? '';
const scratch = mkdtempSync(join(tmpdir(), 'gpumix-profiles-'));
try {
  for (const [model, gpu, gpus] of replicas(estimated)) {
    gpumix(['estimate', ...replica(model, gpu, gpus), ...slo(''), '-o', target('estimated', model, gpu, gpus)]);
  }
  for (const [model, gpu, gpus] of replicas(simulated)) {
    const lengths = ['--inputs', inputs, '--outputs', outputs, '--requests', '120'];
    simulate({ model, gpu, gpus, folder: model, lengths, limits: objectives });
  }
  for (const [model, gpu, gpus] of replicas(simulatedByLength, folderByLength)) {
    // Plans go where a profile promises most, so what chance adds to single cells is what they choose: fewer such errors.
    const lengths = [
      '--inputs',
      inputsByLength,
      '--outputs',
      outputsByLength,
      '--requests',
      '400',
      '--confidence',
      '0.95',
    ];
    simulate({ model, gpu, gpus, folder: folderByLength(model), lengths, limits: lengthObjectives });
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

function simulate({ model, gpu, gpus, folder, lengths, limits }) {
  // Relative, since profiles name the file that they are made from.
  const results = `${folder}-${nameOf(gpu, gpus)}.jsonl`;
  const load = [...lengths, ...slo('slo-', limits)];
  gpumix(['benchmark', '--simulate', ...replica(model, gpu, gpus), ...load, '-o', results]);
  const facts = ['--model', model, '--gpu-type', gpu, '--gpus-per-replica', String(gpus), ...cost(gpu, gpus)];
  const output = ['-o', target('simulated', folder, gpu, gpus)];
  const deployment = `${model}-${nameOf(gpu, gpus)}`;
  gpumix(['gen-profile', deployment, '--benchmark', results, ...slo('', limits), ...facts, ...output]);
}

/** All replicas of a table, or those whose path holds what the command line asks for. */
function replicas(table, folderOf = (model) => model) {
  return Object.entries(table)
    .flatMap(([model, gpus]) => Object.entries(gpus).map(([gpu, count]) => [model, gpu, count]))
    .filter(([model, gpu, count]) => `${folderOf(model)}/${nameOf(gpu, count)}`.includes(asked));
}

function nameOf(gpu, gpus) {
  return gpus === 1 ? gpu.toLowerCase() : `${gpu.toLowerCase()}-x${gpus}`;
}

function target(method, name, gpu, gpus) {
  const folder = join(here, method, name);
  mkdirSync(folder, { recursive: true });
  return join(folder, `${nameOf(gpu, gpus)}.json`);
}

function replica(model, gpu, gpus) {
  return ['--model', model, '--gpu', gpu, '--gpus', String(gpus)];
}

function slo(prefix, { percentile, ...limits } = objectives) {
  const flags = Object.entries(limits).flatMap(([name, seconds]) => [`--${prefix}${name}`, String(seconds)]);
  return [...flags, '--percentile', String(percentile)];
}

/** The list price of the catalogue, as `gpumix estimate` takes it. */
function cost(gpu, gpus) {
  const { gpus: entries } = JSON.parse(readFileSync(join(here, 'gpus.json'), 'utf8'));
  const price = entries.find(({ name }) => name === gpu)?.usdPerGpuHour ?? null;
  return price === null ? [] : ['--cost', String(Number((price * gpus).toFixed(6)))];
}

function gpumix(args) {
  console.log(`gpumix ${args.join(' ')}`);
  execFileSync(process.execPath, [cli, ...args], {
    cwd: scratch,
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, SOURCE_DATE_EPOCH: String(dateSeconds) },
  });
}

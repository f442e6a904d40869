import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import type { ExportInput } from '../../../src/placement/export/exporter.js';
import { vllm } from '../../../src/placement/export/vllm.js';
import {
  accelerators,
  exportInput,
  gpuLess,
  homelab,
  partitioned,
  workstation,
} from '../../support/exported-placements.js';

const folder = mkdtempSync(join(tmpdir(), 'gpumix-vllm-'));
// Stands where vLLM would and prints what it was started with, each item ended by a NUL.
writeFileSync(
  join(folder, 'vllm'),
  `#!/bin/sh\nprintf '%s\\0' "CUDA=\${CUDA_VISIBLE_DEVICES-}" "HIP=\${HIP_VISIBLE_DEVICES-}" "ZE=\${ZE_AFFINITY_MASK-}" "$@"\n`,
  { mode: 0o755 },
);
afterAll(() => rmSync(folder, { recursive: true }));

function textOf(input: ExportInput): string {
  const { files } = vllm.write(input);
  expect(files.map(({ fileName }) => fileName)).toEqual(['gpumix-vllm.sh']);
  return files[0]!.text;
}

/** Runs the script with the stand-in for vLLM. */
function start(text: string, args: readonly string[], environment: Readonly<Record<string, string>> = {}) {
  const script = join(folder, 'gpumix-vllm.sh');
  writeFileSync(script, text);
  const { status, stdout, stderr } = spawnSync('sh', [script, ...args], {
    encoding: 'utf8',
    env: { PATH: `${folder}:${process.env.PATH}`, ...environment },
  });
  return { status, words: stdout.split('\0').slice(0, -1), stderr };
}

describe('the script that starts vLLM', () => {
  it('starts the language model of a workstation on its GPU and leaves out what vLLM does not serve', () => {
    expect(vllm.write(workstation)).toEqual({
      files: [
        {
          fileName: 'gpumix-vllm.sh',
          text: `#!/bin/sh
# vLLM on its GPUs. Made by gpumix place: strategy vram_based, status feasible (not proven the best
#   there is).
# sh gpumix-vllm.sh SERVICE [ARGUMENT OF vllm serve]...
# Not here: ai-yolo26 (a vision service), ai-florence (a vision service), ai-clip (a vision
#   service), ai-enrichment (kind other).
# Warnings:
#   ai-enrichment budget (6.8 GB) exceeds GPU 1 (4 GB). Auto-adjusted to 2 GB.
set -eu

case "\${1-}" in
'ai-llm')
  # GPU 0, RTX A5500: 21.7 of 24 GB, time-slicing
  shift
  export CUDA_DEVICE_ORDER=PCI_BUS_ID
  export CUDA_VISIBLE_DEVICES=0
  exec vllm serve 'Nemotron-3-Nano-30B Q4_K_M' \\
    --gpu-memory-utilization 0.90 \\
    "$@"
  ;;
*)
  echo 'usage: gpumix-vllm.sh SERVICE [ARGUMENT OF vllm serve]...' >&2
  echo '  ai-llm: GPU 0' >&2
  exit 2
  ;;
esac
`,
        },
      ],
      notices: [
        'vLLM is not started for: ai-yolo26 (a vision service), ai-florence (a vision service), ai-clip (a vision service), ai-enrichment (kind other).',
      ],
    });
  });

  it('starts models of three vendors, poolers among them', () => {
    expect(vllm.write(homelab)).toEqual({
      files: [
        {
          fileName: 'gpumix-vllm.sh',
          text: `#!/bin/sh
# vLLM on its GPUs. Made by gpumix place: strategy optimal, status optimal (proven the best there
#   is).
# sh gpumix-vllm.sh SERVICE [ARGUMENT OF vllm serve]...
# Each service is started on its own node, which stands beside its name.
# Not here: whisper (a speech service), xtts (a speech service), qdrant (a database service).
# Refused, so not here:
#   mindie (vendor): mindie runs on huawei (cann); the GPUs here are of amd, nvidia and intel.
set -eu

case "\${1-}" in
'vllm')
  # GPU 0 of strix, Strix Halo: 60.79 of 64 GB, exclusive
  shift
  export HIP_VISIBLE_DEVICES=0
  exec vllm serve 'openai/gpt-oss-120b' \\
    --gpu-memory-utilization 0.95 \\
    --max-num-seqs 16 \\
    "$@"
  ;;
'bge-embed')
  # GPU 0 of mini, Radeon 680M: 9.59 of 12 GB, exclusive
  shift
  export HIP_VISIBLE_DEVICES=0
  exec vllm serve 'BAAI/bge-m3' \\
    --gpu-memory-utilization 0.80 \\
    --runner pooling \\
    "$@"
  ;;
'bge-rerank')
  # GPU 1 of tower, Arc A770: 12.72 of 15.9 GB, exclusive
  shift
  export ZE_AFFINITY_MASK=0
  exec vllm serve 'BAAI/bge-reranker-v2-m3' \\
    --gpu-memory-utilization 0.80 \\
    --runner pooling \\
    "$@"
  ;;
*)
  echo 'usage: gpumix-vllm.sh SERVICE [ARGUMENT OF vllm serve]...' >&2
  echo '  vllm: GPU 0 of strix' >&2
  echo '  bge-embed: GPU 0 of mini' >&2
  echo '  bge-rerank: GPU 1 of tower' >&2
  exit 2
  ;;
esac
`,
        },
      ],
      notices: [
        'vLLM is not started for: whisper (a speech service), xtts (a speech service), qdrant (a database service).',
        'Refused, so not in the script: mindie.',
      ],
    });
  });

  it('counts the budget against the instance with MIG and against the whole GPU with MPS', () => {
    expect(vllm.write(partitioned)).toEqual({
      files: [
        {
          fileName: 'gpumix-vllm.sh',
          text: `#!/bin/sh
# vLLM on its GPUs. Made by gpumix place: strategy isolation_first, status feasible (not proven the
#   best there is).
# sh gpumix-vllm.sh SERVICE [ARGUMENT OF vllm serve]...
# Not here: whisper (a speech service).
set -eu

case "\${1-}" in
'chat')
  # GPU 0, A100-80GB: 36 of 80 GB, mig 3g.40gb
  shift
  export CUDA_VISIBLE_DEVICES='MIG-b0e3ab4d-4ae1-5d2c-9f4e-3d2f7a0b6c11'
  exec vllm serve 'meta-llama/Llama-3.1-8B-Instruct' \\
    --gpu-memory-utilization 0.91 \\
    "$@"
  ;;
'embed')
  # GPU 0, A100-80GB: 12 of 80 GB, mig 2g.20gb
  shift
  export CUDA_VISIBLE_DEVICES="\${EMBED_MIG_UUID:?UUID of a 2g.20gb instance of GPU 0, from nvidia-smi -L}"
  exec vllm serve 'BAAI/bge-m3' \\
    --gpu-memory-utilization 0.61 \\
    --runner pooling \\
    "$@"
  ;;
'guard')
  # GPU 2, A100-80GB: 40 of 80 GB, mps
  shift
  export CUDA_VISIBLE_DEVICES=0
  export CUDA_MPS_PIPE_DIRECTORY=/tmp/nvidia-mps-2
  export CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=100
  export CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0=40960M
  exec vllm serve 'meta-llama/Llama-Guard-3-8B' \\
    --gpu-memory-utilization 0.50 \\
    "$@"
  ;;
*)
  echo 'usage: gpumix-vllm.sh SERVICE [ARGUMENT OF vllm serve]...' >&2
  echo '  chat: GPU 0' >&2
  echo '  embed: GPU 0' >&2
  echo '  guard: GPU 2' >&2
  exit 2
  ;;
esac
`,
        },
      ],
      notices: [
        'vLLM is not started for: whisper (a speech service).',
        'Every vLLM listens on port 8000: give all but one on a node another with --port.',
      ],
    });
  });

  it('leaves out what it cannot address', () => {
    expect(vllm.write(accelerators).notices).toEqual([
      'vLLM is not started for: gaudi (on Gaudi, whose modules are not counted as its indexes are).',
      'Every vLLM listens on port 8000: give all but one on a node another with --port.',
    ]);
    expect(vllm.write(gpuLess).notices).toEqual([
      'vLLM is not started for: qdrant (a database service).',
      'Refused, so not in the script: llm.',
    ]);
  });

  it('is a script that shells accept', () => {
    for (const input of [workstation, homelab, partitioned, accelerators, gpuLess]) {
      for (const shell of ['sh', 'bash']) {
        const { status, stderr } = spawnSync(shell, ['-n'], { input: textOf(input), encoding: 'utf8' });
        expect({ shell, status, stderr }).toEqual({ shell, status: 0, stderr: '' });
      }
    }
  });

  it('sets the device and passes further arguments on', () => {
    expect(start(textOf(homelab), ['bge-rerank', '--port', '8001'])).toEqual({
      status: 0,
      words: [
        'CUDA=',
        'HIP=',
        'ZE=0',
        'serve',
        'BAAI/bge-reranker-v2-m3',
        '--gpu-memory-utilization',
        '0.80',
        '--runner',
        'pooling',
        '--port',
        '8001',
      ],
      stderr: '',
    });
  });

  it('lists its services where none is named, or one that it does not have', () => {
    const usage = {
      status: 2,
      words: [],
      stderr:
        'usage: gpumix-vllm.sh SERVICE [ARGUMENT OF vllm serve]...\n  vllm: GPU 0 of strix\n  bge-embed: GPU 0 of mini\n  bge-rerank: GPU 1 of tower\n',
    };
    expect(start(textOf(homelab), [])).toEqual(usage);
    expect(start(textOf(homelab), ['whisper'])).toEqual(usage);
  });

  it('asks for the UUID of a MIG instance that the request does not name', () => {
    const refused = start(textOf(partitioned), ['embed']);
    expect(refused.status).not.toBe(0);
    expect(refused.stderr).toContain('EMBED_MIG_UUID: UUID of a 2g.20gb instance of GPU 0, from nvidia-smi -L');
    expect(start(textOf(partitioned), ['embed'], { EMBED_MIG_UUID: 'MIG-1' }).words[0]).toBe('CUDA=MIG-1');
  });

  it('says that a budget of more than is free will not start', () => {
    const input = exportInput({
      gpus: [{ index: 0, node: 'box', vendor: 'nvidia', memoryMb: 4096, usedMb: 1024 }],
      services: [{ name: 'llm', model: 'm', memoryMb: 6144, kind: 'llm', frameworks: ['cuda'] }],
      assignments: [{ service: 'llm', node: 'box', gpuIndex: 0, memoryBudgetMb: 6144, sharing: 'exclusive', share: 1 }],
    });
    expect(vllm.write(input).notices).toEqual([
      'llm: its budget (6 GB) is more than is free (3 GB); vLLM checks that when it starts and stops.',
    ]);
    expect(textOf(input)).toContain('--gpu-memory-utilization 1.00 ');
  });

  it('quotes whatever names and models hold', () => {
    const awkward = fc.constantFrom(
      "'",
      '"',
      '$(touch x)',
      '`id`',
      '*',
      'esac',
      '\\',
      '\n',
      ';;',
      '# x',
      `\${A:?}`,
      '!!',
      'a\r',
    );
    const text = fc.oneof(
      awkward,
      fc.string({ unit: 'binary', minLength: 1, maxLength: 20 }).filter((one) => !one.includes('\0')),
    );
    fc.assert(
      fc.property(
        text,
        text.filter((model) => !model.startsWith('-')),
        (name, model) => {
          const input = exportInput({
            gpus: [{ index: 1, node: 'box', vendor: 'nvidia', name: name.slice(0, 200), memoryMb: 1000 }],
            services: [
              { name, model, memoryMb: 500, kind: 'llm', frameworks: ['cuda'] },
              { name: `${name}${model}`, memoryMb: 1, kind: 'vision', frameworks: ['cuda'] },
            ],
            assignments: [
              { service: name, node: 'box', gpuIndex: 1, memoryBudgetMb: 500, sharing: 'exclusive', share: 1 },
              {
                service: `${name}${model}`,
                node: 'box',
                gpuIndex: 1,
                memoryBudgetMb: 1,
                sharing: 'exclusive',
                share: 1,
              },
            ],
            warnings: [{ code: 'x', message: `${name}\n${model}` }],
          });
          expect(start(textOf(input), [name, '-x'])).toEqual({
            status: 0,
            words: ['CUDA=1', 'HIP=', 'ZE=', 'serve', model, '--gpu-memory-utilization', '0.50', '-x'],
            stderr: '',
          });
        },
      ),
      { numRuns: 25 },
    );
  });

  it('refuses a NUL, which no shell can hold', () => {
    const input = exportInput({
      gpus: [{ index: 0, node: 'box', vendor: 'nvidia', memoryMb: 1024 }],
      services: [{ name: 'a', model: 'm\0', memoryMb: 1, kind: 'llm', frameworks: ['cuda'] }],
      assignments: [{ service: 'a', node: 'box', gpuIndex: 0, memoryBudgetMb: 1, sharing: 'exclusive', share: 1 }],
    });
    expect(() => vllm.write(input)).toThrow('expected text without NUL, which no shell can hold');
  });
});

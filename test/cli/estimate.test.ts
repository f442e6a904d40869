import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type EstimateFlags, estimateCommand, runEstimate } from '../../src/cli/estimate.js';
import { InputError } from '../../src/core/input-error.js';
import { parseProfile } from '../../src/core/profile.js';
import { type RedisServer, redisMissing, startRedisServer } from '../support/redis-server.js';

const now = Date.UTC(2026, 10, 21);

async function estimate(flags: Partial<EstimateFlags>) {
  let output = '';
  let errors = '';
  const code = await runEstimate(
    {
      gpu: 'L4',
      model: 'llama-3.1-8b',
      ttft: 1,
      tpot: 0.1,
      percentile: 99,
      gpus: 1,
      kvPrecision: 'bf16',
      json: false,
      inputTokens: [128, 1024],
      outputTokens: [64, 256],
      ...flags,
    },
    {
      write: (text) => {
        output += text;
      },
      writeError: (text) => {
        errors += text;
      },
      now: () => now,
      color: false,
      width: 100,
    },
  );
  return { code, output, errors };
}

const refusal = async (flags: Partial<EstimateFlags>): Promise<string> => {
  const error = await estimate(flags).catch((thrown: unknown) => thrown);
  if (!(error instanceof InputError)) throw new Error(`not refused: ${JSON.stringify(error)}`);
  return error.message;
};

describe('gpumix estimate', () => {
  it('shows a person rates, prices, the cache and the error', async () => {
    const { code, output, errors } = await estimate({});
    expect(code).toBe(0);
    expect(errors).toBe('');
    expect(output).toContain('llama-3.1-8b (bf16 weights, bf16 KV cache) on 1 x L4');
    expect(output).toContain('SLO       TTFT 1 s, TPOT 0.1 s, P99 under Poisson arrivals');
    expect(output).toMatch(/KV cache {2}[\d,]+ tokens/);
    expect(output).toMatch(/measured rates lay between \d+ % and \d+ % of the predicted ones/);
    expect(output).toContain('requests/s of one replica');
    expect(output).toContain('USD per million tokens');
    expect(output.split('\n').every((line) => line.length <= 100)).toBe(true);
  });

  it('prices a cell as the replica-hour over the tokens of that hour', async () => {
    const { output } = await estimate({ json: true, cost: 2 });
    const profile = parseProfile(output, 'the output');
    const rate = profile.grid.tputs[0]![0]!;
    const usdPerMillion = (2 / 3600 / rate / (128 + 64)) * 1e6;
    const table = (await estimate({ cost: 2 })).output.split('USD per million')[1]!;
    const shown = Number(table.split('\n')[2]!.trim().split(/\s+/)[1]);
    expect(shown / usdPerMillion).toBeGreaterThan(0.94);
    expect(shown / usdPerMillion).toBeLessThan(1.06);
  });

  it('shows no prices where none is known', async () => {
    const { output } = await estimate({ gpu: 'A100-80GB-MIG-3g.40gb' });
    expect(output).not.toContain('USD');
    expect(output).toContain('requests/s of one replica');
  });

  it('prints the profile with --json, and nothing else on standard output', async () => {
    const { code, output } = await estimate({ json: true, model: 'meta-llama/Llama-3.1-8B-Instruct', gpus: 2 });
    expect(code).toBe(0);
    const profile = parseProfile(output, 'the output');
    expect(profile).toMatchObject({
      gpu: 'llama-3-1-8b-l4-x2',
      model: 'meta-llama/Llama-3.1-8B-Instruct',
      gpuType: 'L4',
      gpusPerReplica: 2,
      created: now / 1000,
      provenance: { method: 'estimated' },
      slos: { percentile: 99, ttft: 1, tpot: 0.1 },
    });
    // The list price of one GPU, twice.
    expect(profile.cost).toBeCloseTo(2 * parseProfile((await estimate({ json: true })).output, '').cost!, 9);
  });

  it('says with the arithmetic that weights do not fit, and how they would', async () => {
    const { code, output, errors } = await estimate({ model: 'qwen3-32b' });
    expect(code).toBe(1);
    expect(output).toBe('');
    expect(errors).toContain('32.8 billion weights, 61.0 GiB in bf16');
    expect(errors).toContain('in bf16 on 4 of them (--gpus 4)');
    expect(errors).toContain('int4');
    // What it advises works.
    expect((await estimate({ model: 'qwen3-32b', gpus: 4 })).code).toBe(0);
    const huge = await estimate({ gpu: 'T4', model: 'llama-3.1-405b' });
    expect(huge).toMatchObject({ code: 1, output: '' });
    expect(huge.errors).toContain('nor would it on 16 of them');
  });

  it('takes the precision from the name of the model', async () => {
    const { output } = await estimate({ model: 'Qwen/Qwen3-32B-AWQ', gpus: 2 });
    expect(output).toContain('qwen3-32b (int4 weights');
    const other = await estimate({ model: 'Qwen/Qwen3-32B-AWQ', gpus: 4, precision: 'fp8' });
    expect(other.output).toContain('qwen3-32b (fp8 weights');
  });

  it('counts the bits that a GGUF has, which are more than those of its kind', async () => {
    const [six, four] = await Promise.all(
      ['llama-3.1-8b-Q6_K', 'llama-3.1-8b-Q4_K_M'].map((model) => estimate({ model, json: true })),
    );
    expect(six!.output).toContain('llama-3.1-8b (6.56-bit weights');
    const cacheOf = ({ output }: typeof six & {}): number =>
      Number(/KV cache of (\d+) tokens/.exec(parseProfile(output, 'the output').provenance!.details)![1]);
    // 8.03 billion weights at 6.56 and at 4.89 bits; 131,072 bytes of cache a token.
    expect(cacheOf(four!) - cacheOf(six!)).toBeCloseTo((8.03e9 * (6.56 - 4.89)) / 8 / 131_072, -2);
    const { code, errors } = await estimate({ model: 'llama-3.1-70b-Q6_K' });
    expect(code).toBe(1);
    expect(errors).toContain('in 6.56 bits each');
    expect(errors).toContain('in 6.56 bits on 4 of them (--gpus 4)');
  });

  it('writes an estimate that meets the SLO nowhere, with a warning', async () => {
    const { code, output, errors } = await estimate({ tpot: 0.0001, json: true });
    expect(code).toBe(0);
    expect(JSON.parse(output).tputs.flat()).toEqual([0, 0, 0, 0]);
    expect(errors).toMatch(/warning: none of the 4 cells meets the SLO on L4 \(alone, a request of 128 input/);
    expect((await estimate({ tpot: 0.0001 })).output).toContain('warning: none of the 4 cells');
  });

  it('says which model it took where the name is not that of the catalogue', async () => {
    const alias = await estimate({ model: 'deepseek-ai/DeepSeek-R1-Distill-Llama-8B' });
    expect(alias.output.replaceAll(/\s+/g, ' ')).toContain(
      'note: the catalogue has "deepseek-ai/DeepSeek-R1-Distill-Llama-8B" among the names of llama-3.1-8b, and this is an estimate of llama-3.1-8b;',
    );
    const json = await estimate({ model: 'deepseek-coder-7b', gpu: 'L20', json: true });
    expect(json.errors).toMatch(/^gpumix: note: .*"deepseek-coder-7b" among the names of deepseek-coder-6\.7b/);
    expect(parseProfile(json.output, 'the output').model).toBe('deepseek-coder-7b');
    // Spellings of one name are no news.
    for (const model of ['meta-llama/Llama-3.1-8B-Instruct', 'llama3.1:8b-instruct-q4_K_M', 'LLAMA-3-1-8B']) {
      expect((await estimate({ model })).output).not.toContain('note:');
    }
  });

  it('suggests the nearest name of GPUs and models that it does not know', async () => {
    expect(await refusal({ gpu: 'L40X' })).toMatch(/--gpu: found "L40X".*did you mean "L40S?"/);
    expect(await refusal({ gpu: 'A100-80GB-MIG-9g.90gb' })).toContain('a part of A100-80GB: MIG-1g.10gb, ');
    expect(await refusal({ model: 'bge-m3' })).toContain('makes embeddings');
    expect(await refusal({ model: 'lama-3.1-8b' })).toMatch(/--model: found "lama-3.1-8b".*"llama-3.1-8b"/);
  });

  it('refuses what makes no profile', async () => {
    expect(await refusal({ ttft: undefined, tpot: undefined } as Partial<EstimateFlags>)).toContain(
      '--ttft, --tpot, --e2e',
    );
    expect(await refusal({ maxModelLen: 1e9 })).toContain('--max-model-len');
    expect(await refusal({ deployment: ' ' })).toContain('--deployment');
    expect(await refusal({ output: 'redis://127.0.0.1:1/', deployment: 'default/llama' })).toContain('namespace');
  });

  it.each([
    ['--ttft', '0'],
    ['--tpot', 'fast'],
    ['--gpus', '1.5'],
    ['--gpus', '0'],
    ['--max-model-len', '1e99'],
    ['--percentile', '98'],
    ['--input-tokens', '128,64'],
    ['--cost', '-1'],
    ['--precision', 'fp3'],
  ])('refuses %s %s before anything is done', async (flag, value) => {
    const command = estimateCommand()
      .exitOverride()
      .configureOutput({ writeErr: () => {} });
    const given = ['--gpu', 'L4', '--model', 'llama-3.1-8b', '--tpot', '1', flag, value];
    await expect(command.parseAsync(given, { from: 'user' })).rejects.toMatchObject({ exitCode: 1 });
  });

  describe('with -o', () => {
    const folder = mkdtempSync(join(tmpdir(), 'gpumix-estimate-'));
    afterAll(() => rmSync(folder, { recursive: true }));

    it('writes the profile to a file, beside the table', async () => {
      const file = join(folder, 'profile.json');
      const { code, output, errors } = await estimate({ output: file, deployment: 'llama-l4' });
      expect(code).toBe(0);
      expect(output).toContain('requests/s of one replica');
      expect(errors).toContain(file);
      expect(parseProfile(readFileSync(file, 'utf8'), file).gpu).toBe('llama-l4');
    });

    it('says that Redis cannot be reached with exit code 1', async () => {
      const { code, errors } = await estimate({ output: 'redis://127.0.0.1:1/?model=m', json: true });
      expect(code).toBe(1);
      expect(errors).toContain('127.0.0.1:1');
    });

    describe.skipIf(redisMissing !== null)(
      `to Redis${redisMissing === null ? '' : ` (skipped: ${redisMissing})`}`,
      () => {
        let redis: RedisServer;
        beforeAll(async () => {
          redis = await startRedisServer();
        });
        afterAll(() => redis.stop());

        it('stores it where services and gateways look for it', async () => {
          const { code, output } = await estimate({ output: `${redis.url}?model=chat`, deployment: 'chat-l4' });
          expect(code).toBe(0);
          expect(output).toContain('Result stored in Redis: aibrix:profile_chat_chat-l4.');
          const client = new Redis(redis.url);
          const text = await client.get('aibrix:profile_chat_chat-l4');
          client.disconnect();
          expect(parseProfile(text!, 'Redis')).toMatchObject({
            gpu: 'chat-l4',
            model: 'chat',
            grid: { method: 'estimated' },
          });
        });
      },
    );
  });
});

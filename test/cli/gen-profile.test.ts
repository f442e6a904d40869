import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { parseRedisUrl } from '../../src/adapters/redis-settings.js';
import { createRedisStore } from '../../src/adapters/redis-store.js';
import { type GenProfileFlags, genProfileCommand, runGenProfile } from '../../src/cli/gen-profile.js';
import { InputError } from '../../src/core/input-error.js';
import { parseProfile } from '../../src/core/profile.js';
import { unsetSlo } from '../../src/profiling/gen-profile.js';
import { childEnvironment } from '../support/child-environment.js';
import { freePort, type RedisServer, redisMissing, startRedisServer } from '../support/redis-server.js';

const folder = mkdtempSync(join(tmpdir(), 'gpumix-gen-profile-'));
afterAll(() => rmSync(folder, { recursive: true }));
const nowMs = Date.UTC(2026, 10, 21, 10);

/** Rows of one run as AIBrix writes them. */
function rows(
  input: number,
  output: number,
  rate: number,
  more: { readonly e2e?: number; readonly model?: string } = {},
) {
  const { e2e = 1, model = 'llama2-7b' } = more;
  const run = { input_tokens: input, output_tokens: output, request_rate: rate, seed: 0, model, samples: 100 };
  const times = (mean: number) => ({ mean, P50: mean, P90: mean * 2, P99: mean * 4 });
  return [
    { ...run, metric: 'TPUT', mean: rate * 0.98 },
    { ...run, metric: 'TT', mean: rate * output },
    { ...run, metric: 'E2E', ...times(e2e) },
    { ...run, metric: 'TTFT', ...times(e2e / 10) },
    { ...run, metric: 'TPOT', ...times(e2e / 100) },
  ];
}

function file(name: string, ...documents: readonly unknown[]): string {
  const path = join(folder, name);
  writeFileSync(
    path,
    documents.map((document) => (typeof document === 'string' ? document : `${JSON.stringify(document)}\n`)).join(''),
  );
  return path;
}

const grid = file(
  'grid.jsonl',
  ...[128, 512].flatMap((input) =>
    [64, 256].flatMap((output) => [1, 2, 4].flatMap((rate) => rows(input, output, rate, { e2e: rate }))),
  ),
);

const defaults: GenProfileFlags = {
  ...unsetSlo,
  benchmark: [grid],
  percentile: 0,
  cost: 0.7,
  strict: false,
  verbose: false,
};

async function run(
  flags: Partial<GenProfileFlags> = {},
  more: { readonly deployment?: string; readonly stdin?: Readable } = {},
) {
  let output = '';
  let errors = '';
  const code = await runGenProfile(
    more.deployment ?? 'llama-l4',
    { ...defaults, ...flags },
    {
      stdin: more.stdin ?? Readable.from([]),
      write: (text) => {
        output += text;
      },
      writeError: (text) => {
        errors += text;
      },
      now: () => nowMs,
    },
  );
  return { code, output, errors };
}

async function faultOf(flags: Partial<GenProfileFlags>, more: Parameters<typeof run>[1] = {}): Promise<string> {
  try {
    await run(flags, more);
  } catch (error) {
    if (error instanceof InputError) return error.message;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('gpumix gen-profile', () => {
  it('prints the profile on standard output, in one line', async () => {
    const { code, output, errors } = await run({ e2e: 3, percentile: 50 });
    expect(code).toBe(0);
    expect(errors).toBe('');
    expect(output.trimEnd()).not.toContain('\n');
    expect(JSON.parse(output)).toMatchObject({
      gpu: 'llama-l4',
      cost: 0.7,
      indexes: [
        [64, 256],
        [128, 512],
      ],
      tputs: [
        [1.96, 1.96],
        [1.96, 1.96],
      ],
      created: nowMs / 1000,
      slos: { percentile: 50, e2e: 3 },
      model: 'llama2-7b',
      provenance: { method: 'measured', at: '2026-11-21T10:00:00.000Z' },
    });
  });

  it('with --verbose indents it and says how each cell came by its number', async () => {
    const { output, errors } = await run({ e2e: 3, verbose: true });
    expect(output).toContain('\n  "gpu": "llama-l4",');
    expect(errors.split('\n')[0]).toBe(
      '128 in, 64 out: 1.96 requests/s (at 2/s) | 1/s: meets the SLO | 2/s: meets the SLO | 4/s: E2E mean 4',
    );
  });

  it('says the cost that it assumes where none is given, which is that of the other tool', async () => {
    const { cost, ...flags } = defaults;
    const { output, errors } = await run({ ...flags, cost: undefined as never });
    expect(JSON.parse(output).cost).toBe(1);
    expect(errors).toContain('1 USD per replica-hour, the default of --cost');
  });

  it('writes a file whole, through links, and leaves nothing beside it', async () => {
    const inner = join(folder, 'out');
    mkdirSync(inner);
    const target = join(inner, 'profile.json');
    writeFileSync(target, 'old');
    const link = join(folder, 'link.json');
    symlinkSync(target, link);
    const { code, output } = await run({ output: link });
    expect(code).toBe(0);
    expect(output).toBe('');
    expect(parseProfile(readFileSync(target, 'utf8'), 'profile').gpu).toBe('llama-l4');
    expect(readdirSync(inner)).toEqual(['profile.json']);
    expect(readFileSync(link, 'utf8')).toBe(readFileSync(target, 'utf8'));
  });

  it('in which no cell meets the SLO is written, with a warning', async () => {
    const { code, output, errors } = await run({ e2e: 0.5 });
    expect(code).toBe(0);
    expect(JSON.parse(output).tputs.flat()).toEqual([0, 0, 0, 0]);
    expect(errors).toContain('gpumix: no cell meets the SLO: every throughput is 0');
  });

  it('reads several files, a folder and standard input, of any tool', async () => {
    const many = join(folder, 'many');
    mkdirSync(many);
    file('many/a.jsonl', ...rows(128, 64, 1));
    file('many/b.JSON', {
      model_id: 'llama2-7b',
      request_rate: 2,
      completed: 100,
      total_input_tokens: 12_830,
      total_output_tokens: 25_600,
      request_throughput: 1.9,
      mean_ttft_ms: 100,
      mean_tpot_ms: 10,
    });
    file('many/readme.txt', 'not read');
    const text = rows(128, 256, 4)
      .map((row) => JSON.stringify(row))
      .join('\n');
    const { output, errors } = await run({ benchmark: [many, '-', many] }, { stdin: Readable.from([text]) });
    expect(JSON.parse(output)).toMatchObject({
      indexes: [[64, 256], [128]],
      tputs: [[0.98], [3.92]],
    });
    expect(errors).toBe('');
  });

  it('uses what there is of a file that was cut off, and says so', async () => {
    const whole = readFileSync(grid, 'utf8');
    const { code, errors } = await run({ benchmark: [file('cut.jsonl', whole.slice(0, -40))] });
    expect(code).toBe(0);
    expect(errors).toContain('cut.jsonl: line 60 is cut off: it is left out, the 59 rows before it are used');
  });

  it('says where --model has nothing to say', async () => {
    const { output, errors } = await run({ model: 'qwen' });
    expect(JSON.parse(output).model).toBe('llama2-7b');
    expect(errors).toBe('gpumix: --model "qwen" changes nothing: all results are of "llama2-7b"\n');
    expect((await run({ model: 'llama2-7b' })).errors).toBe('');
  });

  it('does not speak of a flag that it lacks where a file is too large', async () => {
    const path = join(folder, 'large.jsonl');
    closeSync(openSync(path, 'w'));
    truncateSync(path, 501 * 2 ** 20);
    const fault = await faultOf({ benchmark: [path] });
    rmSync(path);
    expect(fault).toMatch(/found 501.0 MiB, expected a document of at most 500 MiB$/);
  });

  it('draws a picture where it is asked for one', async () => {
    const plot = join(folder, 'plot.svg');
    await run({ plot, e2e: 3 });
    expect(readFileSync(plot, 'utf8')).toMatch(/^<svg xmlns=[\s\S]*<\/svg>\n$/);
  });
});

describe('bad input is refused with its place:', () => {
  it.each<[string, Partial<GenProfileFlags>, string]>([
    ['no such file', { benchmark: ['nowhere.jsonl'] }, 'nowhere.jsonl: found no such file'],
    ['an empty file', { benchmark: [file('empty.jsonl', '')] }, 'empty.jsonl: found an empty file'],
    ['bytes', { benchmark: [file('bytes.jsonl', 'PK\u0003\u0004\0')] }, 'bytes.jsonl: found a binary file'],
    [
      'a folder without results',
      { benchmark: [mkdtempSync(join(folder, 'none-'))] },
      'found a folder without .json or .jsonl files',
    ],
    [
      'a broken line in the middle',
      { benchmark: [file('broken.jsonl', rows(1, 1, 1)[0], '{"input_tokens": 4,\n', rows(1, 1, 2)[0])] },
      'broken.jsonl: line 2, column 20: found the end of the text',
    ],
    [
      'a missing cell where it is strict',
      { strict: true, benchmark: [file('gap.jsonl', ...rows(1, 1, 1), ...rows(2, 2, 1))] },
      'gap.jsonl: 2 in, 1 out: found no run that counts',
    ],
    [
      'a percentile that is not there',
      { e2e: 1, percentile: 95 },
      'E2E.P95: found no value; the rows have mean, P50, P90, P99',
    ],
    ['an output folder', { output: folder }, `-o: ${folder}: found a folder, expected a file that can be written`],
    ['an output in no folder', { output: join(folder, 'no/where.json') }, 'found no such file or folder'],
    ['an empty output', { output: '' }, '-o: found "", expected a file, redis://host:port?model=NAME, or -'],
    [
      'another scheme',
      { output: 'https://user:secret@host/x' },
      '-o: scheme: found "https", expected redis, rediss, or a file',
    ],
    [
      'Redis without a model',
      { output: 'redis://127.0.0.1:1' },
      '-o: query.model: found nothing, expected whose profile it is',
    ],
    ['Redis with an empty model', { output: 'redis://127.0.0.1:1/0?model=' }, '-o: query.model: found nothing'],
    [
      'two models',
      { output: 'redis://127.0.0.1:1?model=a', model: 'b' },
      'query.model: found 2 names: "a", "b", expected the same name as --model',
    ],
    ['an unknown parameter', { output: 'redis://127.0.0.1:1?model=a&modle=b' }, '-o: query: found "modle"'],
    ['a scheme without its colon', { output: 'redis//:pw@h?model=a' }, '-o: scheme: found "redis", expected redis, '],
    ['no name of a file', { benchmark: [''] }, '--benchmark: found "", expected a file, a folder, or -'],
    ['a picture on standard output', { plot: '-' }, '--plot: found "-", expected a file of its own for the picture'],
    ['a picture without a name', { plot: '' }, '--plot: found "", expected a file of its own for the picture'],
    [
      'a picture that the profile would replace',
      { plot: join(folder, 'both'), output: `${folder}/./both` },
      '--plot: found the file of -o, expected a file of its own',
    ],
    ['no host', { output: 'redis://:1?model=a' }, '-o: host: found ":1", expected host or host:port'],
    [
      'a certificate without TLS',
      { output: 'redis://127.0.0.1:1?model=a', cacert: 'x' },
      '--cacert: found an output without TLS',
    ],
    [
      'a certificate that is none',
      { output: 'rediss://127.0.0.1:1?model=a', cacert: 'x' },
      '--cacert: x: found no such file',
    ],
  ])('%s', async (_, flags, message) => {
    expect(await faultOf(flags)).toContain(message);
  });

  it('a password stays out of every message', async () => {
    const fault = await faultOf({ output: 'redis://user:s%ecret@host:1?model=a' });
    expect(fault).not.toContain('ecret');
    expect(fault).toContain('-o: password: found a % that starts no percent-encoded character');
  });

  it('a deployment with its namespace, by which nobody would look the profile up', async () => {
    expect(await faultOf({ output: 'redis://127.0.0.1:1?model=a' }, { deployment: 'default/llama-l4' })).toContain(
      'deployment: found "default/llama-l4", expected the deployment\'s name without its namespace',
    );
    expect(await faultOf({}, { deployment: ' ' })).toContain('deployment: found " ", expected its name');
  });

  it('nothing to read: without --benchmark there is a file by a rule, or a word about it', async () => {
    expect(await faultOf({ benchmark: undefined as never })).toBe(
      `--benchmark: found nothing, and no ${join('result', 'llama-l4.jsonl')}, expected the results of a benchmark: --benchmark FILE`,
    );
  });
});

describe('the flags', () => {
  /** Flags as the command line reads them, or what it complains of. */
  function parse(...args: readonly string[]): Record<string, unknown> | string {
    const command = genProfileCommand()
      .exitOverride()
      .configureOutput({ writeErr: () => {} });
    let seen: Record<string, unknown> | undefined;
    command.action((_, flags) => {
      seen = flags;
    });
    try {
      command.parse(['dep', ...args], { from: 'user' });
    } catch (error) {
      return (error as Error).message;
    }
    return seen!;
  }

  it('take numbers as the other tool does: inf is no objective', () => {
    expect(
      parse('--e2e', '5', '--ttft=.5', '--tpat', '1e-2', '--tpot', 'inf', '--tput', '2.', '--tt', '1_000'),
    ).toMatchObject({
      e2e: 5,
      ttft: 0.5,
      tpat: 0.01,
      tpot: Number.POSITIVE_INFINITY,
      tput: 2,
      tt: 1000,
    });
    expect(parse('--percentile', '95', '-v', '-o', 'x.json', '--benchmark', 'a', '--benchmark', 'b')).toMatchObject({
      percentile: 95,
      verbose: true,
      output: 'x.json',
      benchmark: ['a', 'b'],
    });
    expect(parse()).toMatchObject({ ...unsetSlo, percentile: 0, verbose: false, strict: false });
  });

  it('say in the help what stands without them', () => {
    const text = genProfileCommand().helpInformation();
    expect(text).not.toMatch(/null|Infinity/);
    expect(text.replace(/\s+/g, ' ')).toContain('SLO: end-to-end latency, below (default: no objective)');
  });

  it.each([
    [['--e2e', '-1'], "'-1' is invalid. expected seconds >= 0"],
    [['--ttft', 'nan'], "'nan' is invalid"],
    [['--tput', 'inf'], 'expected a number >= 0'],
    [['--cost', '1e10'], 'expected USD, 0 to'],
    [['--percentile', '75'], 'expected one of 0, 50, 90, 95, 99'],
    [['--gpus-per-replica', '0.5'], 'expected a whole number from 1 to 1000000'],
    [['--percentil', '95'], "unknown option '--percentil'"],
  ] as const)('%s is refused', (args, message) => {
    expect(parse(...args)).toContain(message);
  });

  it('of an unknown name end the program with 2, at once', () => {
    const { status, stderr } = spawnSync(process.execPath, ['dist/cli/main.js', 'gen-profile', 'x', '--unknown'], {
      encoding: 'utf8',
      env: childEnvironment() as NodeJS.ProcessEnv,
      timeout: 20_000,
    });
    expect(status).toBe(2);
    expect(stderr).toContain("unknown option '--unknown'");
  });
});

describe.skipIf(redisMissing !== null)(`profiles in Redis${redisMissing === null ? '' : ` (${redisMissing})`}`, () => {
  let server: RedisServer | null = null;
  afterEach(async () => {
    await server?.stop();
    server = null;
  });

  it('are written under the key that gateway and optimizer read, with a password that needs encoding', async () => {
    server = await startRedisServer({ password: 'p@ss/w:rd%' });
    const url = `redis://:${encodeURIComponent('p@ss/w:rd%')}@127.0.0.1:${server.port}/0?model=meta-llama%2FLlama`;
    const { code, output } = await run({ output: url });
    expect(code).toBe(0);
    expect(output).toBe('Result stored in Redis: aibrix:profile_meta-llama/Llama_llama-l4.\n');
    const store = createRedisStore(parseRedisUrl(server.url, 'x'), { now: () => nowMs });
    const [reading] = await store.readProfiles([{ model: 'meta-llama/Llama', deployment: 'llama-l4' }]);
    await store.close();
    expect(reading).toMatchObject({ kind: 'present' });
    const profile = parseProfile((reading as { text: string }).text, 'profile');
    expect(profile).toMatchObject({ gpu: 'llama-l4', model: 'llama2-7b', cost: 0.7 });
  });

  it('are written over TLS, by the name of --model', async () => {
    server = await startRedisServer({ tls: true, password: 'pw' });
    const cacert = file('ca.pem', server.ca!);
    const { code, output } = await run({ output: `rediss://:pw@127.0.0.1:${server.port}`, model: 'm', cacert });
    expect(output).toBe('Result stored in Redis: aibrix:profile_m_llama-l4.\n');
    expect(code).toBe(0);
    expect(server.command('GET', 'aibrix:profile_m_llama-l4')).toContain('"gpu":"llama-l4"');
  });

  it('are said not to be written, with exit code 1 and without the password, where they cannot', async () => {
    server = await startRedisServer({ password: 'right' });
    const wrong = await run({ output: `redis://:wr0ng@127.0.0.1:${server.port}?model=m` });
    expect(wrong.code).toBe(1);
    expect(wrong.output).toBe('');
    expect(wrong.errors).toMatch(/^gpumix: Redis at .*127\.0\.0\.1/);
    expect(wrong.errors).not.toContain('wr0ng');
    const nobody = await run({ output: `redis://127.0.0.1:${await freePort()}?model=m` });
    expect(nobody.code).toBe(1);
  });
});

const shared = '../shared/data/aibrix/simulator-llama2-7b-a100.jsonl';

describe.skipIf(!existsSync(shared))('the example of the gateway project (skipped where ../shared is absent)', () => {
  it('gives the profile that it ships', async () => {
    const { output } = await run({ benchmark: [shared], percentile: 99, e2e: 5, cost: 1 });
    const ours = JSON.parse(output);
    const theirs = JSON.parse(readFileSync(shared.replace('.jsonl', '.json'), 'utf8'));
    const { gpu, created, ...rest } = theirs;
    expect(ours).toMatchObject(rest);
    expect(ours.ttft).toHaveLength(8);
    expect(ours.tpot).toHaveLength(8);
  });
});

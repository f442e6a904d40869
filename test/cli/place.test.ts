import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { type PlaceFlags, runPlace } from '../../src/cli/place.js';
import type { Placement } from '../../src/core/placement.js';
import type { PlacementRequestInput } from '../../src/core/placement-request.js';

let root = '';
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'gpumix-place-'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

let folders = 0;
/** An empty folder for one test. */
function folder(): string {
  folders += 1;
  const path = join(root, String(folders));
  mkdirSync(path);
  return path;
}

function written(name: string, text: string): string {
  const file = join(folder(), name);
  writeFileSync(file, text);
  return file;
}

const reference = `apiVersion: gpumix/v1
kind: PlacementRequest
strategy: optimal
gpus:
- { index: 0, node: box, name: RTX A5500, vendor: nvidia, memoryMb: 24564, speed: 1 }
- { index: 1, node: box, name: RTX A400, vendor: nvidia, memoryMb: 4094, speed: 0.25 }
services:
- { name: ai-llm, memoryMb: 22221, kind: llm, critical: true, priority: 10, frameworks: [cuda] }
- { name: ai-yolo26, memoryMb: 666, kind: vision, critical: true, frameworks: [cuda] }
- { name: ai-florence, memoryMb: 1536, kind: vision, frameworks: [cuda] }
- { name: ai-clip, memoryMb: 1229, kind: embedding, frameworks: [cuda] }
- { name: ai-enrichment, memoryMb: 6963, minMemoryMb: 1024, frameworks: [cuda] }
`;

/** The reference as JSON, changed. */
function request(over: Partial<PlacementRequestInput> = {}): string {
  return JSON.stringify({ ...(parse(reference) as PlacementRequestInput), ...over });
}

const twoNodes: Partial<PlacementRequestInput> = {
  gpus: [
    { index: 0, node: 'strix', vendor: 'amd', memoryMb: 65_536 },
    { index: 0, node: 'lab/tower', vendor: 'nvidia', memoryMb: 24_564 },
    { index: 1, node: 'lab/tower', vendor: 'nvidia', memoryMb: 24_564 },
  ],
};

type Outcome = { readonly code: number; readonly text: string; readonly notes: string };

async function run(
  file: string | undefined,
  flags: Partial<PlaceFlags> = {},
  around: { readonly stdin?: string; readonly color?: boolean } = {},
): Promise<Outcome> {
  let text = '';
  let notes = '';
  const code = await runPlace(
    file,
    { json: false, advise: false, diff: false, timeLimit: 10, maxMib: 64, ...flags },
    {
      stdin: Readable.from(around.stdin === undefined ? [] : [around.stdin]),
      write: (piece) => {
        text += piece;
      },
      writeError: (piece) => {
        notes += piece;
      },
      color: around.color ?? false,
      width: 80,
    },
  );
  return { code, text, notes };
}

const placed = async (file: string | undefined, flags: Partial<PlaceFlags> = {}, stdin?: string): Promise<Placement> =>
  JSON.parse((await run(file, { json: true, ...flags }, stdin === undefined ? {} : { stdin })).text) as Placement;

const gpuOf = (placement: Placement, service: string): string => {
  const found = placement.assignments.find((each) => each.service === service);
  return found === undefined ? 'none' : `${found.node} ${found.gpuIndex}`;
};

describe('gpumix place', () => {
  it('reads YAML and draws where everything runs', async () => {
    const file = written('request.yaml', reference);
    const { code, text, notes } = await run(file);
    expect([code, notes]).toEqual([0, '']);
    expect(text.replace(file, 'request.yaml')).toBe(`request.yaml: 5 services, 2 GPUs

        SERVICE        KIND            MEMORY  SHARING
box
├─ GPU 0 RTX A5500     [█████████████████████████████▓▒▒·]  23.6 of 24 GB  98 %
│  ├─ █ ai-llm         llm            21.7 GB  time-slicing 90 %  critical
│  ├─ ▓ ai-yolo26      vision          0.7 GB  time-slicing  3 %  critical
│  └─ ▒ ai-clip        embedding       1.2 GB  time-slicing  5 %
└─ GPU 1 RTX A400      [████████████▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓····]    3.5 of 4 GB  88 %
   ├─ █ ai-florence    vision          1.5 GB  time-slicing 38 %
   └─ ▓ ai-enrichment  other      2 of 6.8 GB  time-slicing 50 %

strategy   optimal: least in the objective, component by component, proven where
           the search ends in time
objective  nothing refused, no memory overcommitted, 4.8 GB shrunk,
           critical slowness 6, fullest GPU at 98 %
proof      proven optimal: no placement of these services is better, 26 nodes
           searched

warnings
  - ai-enrichment budget (6.8 GB) exceeds GPU 1 (4 GB). Auto-adjusted to 2 GB.
`);
  });

  it('says of memory that was meant in GB that it is in MiB, and places all the same', async () => {
    const inGb = reference.replace('memoryMb: 24564', 'memoryMb: 24').replace('memoryMb: 22221', 'memoryMb: 22');
    const { code, notes } = await run('-', {}, { stdin: inGb });
    expect(code).toBe(0);
    expect(notes).toBe('gpumix: memoryMb is in MiB: GPU 0 of box has 24 (and 1 more like it), and 24 GB are 24,576\n');
    const onCpu = reference.replace(
      'memoryMb: 666, kind: vision, critical: true, frameworks: [cuda]',
      'memoryMb: 20, frameworks: [cpu]',
    );
    expect((await run('-', {}, { stdin: onCpu })).notes).toBe('');
  });

  it('reads the same from standard input, as YAML or as JSON', async () => {
    const fromFile = await placed(written('request.json', request()));
    expect(await placed('-', {}, reference)).toEqual(fromFile);
    expect(await placed('-', {}, request())).toEqual(fromFile);
    expect(fromFile).toMatchObject({
      apiVersion: 'gpumix/v1',
      kind: 'Placement',
      strategy: 'optimal',
      status: 'optimal',
    });
  });

  it('takes strategy and overcommit from the flags before those of the document', async () => {
    const placement = await placed('-', { strategy: 'vram_based', overcommit: 'refuse' }, reference);
    expect([placement.strategy, placement.overcommit]).toEqual(['vram_based', 'refuse']);
  });

  it('ends with 1 where a service is refused, and says why', async () => {
    const services = [{ name: 'rocm-llm', memoryMb: 4096, frameworks: ['rocm' as const] }];
    const { code, text } = await run('-', {}, { stdin: request({ services }) });
    expect(code).toBe(1);
    expect(text).toContain('\nrefused\n  - ');
    expect(text).toContain('(vendor)\n');
  });

  it('places services on the CPU where there are no GPUs, and says that there are none', async () => {
    const services = [{ name: 'vectors', memoryMb: 4096, cpuAllowed: true, frameworks: ['cpu' as const] }];
    const { code, text } = await run('-', {}, { stdin: request({ gpus: [], services }) });
    expect(code).toBe(0);
    expect(text).toContain('\nNo GPUs detected\nCPU\n└─ vectors');
  });

  it('compares strategies and ways to share with --advise, as a page or as one document', async () => {
    const { code, text } = await run('-', { advise: true }, { stdin: reference });
    expect(code).toBe(0);
    expect(text).toMatch(/\n {2}STRATEGY +REFUSED +TOO MUCH +SHRUNK +SLOWNESS +FULLEST\n/);
    expect(text).toMatch(/\n {2}recommended: \w+: /);
    expect(text).toContain('\nRTX A5500 (ampere, 24 GB): GPU 0\n');
    expect(text).toContain('nvidia-smi -i 0 -c EXCLUSIVE_PROCESS\n');
    expect(text).toContain('\nservices, as optimal places them\n');
    const document = JSON.parse((await run('-', { advise: true, json: true }, { stdin: reference })).text);
    expect(document).toMatchObject({
      kind: 'PlacementAdvice',
      strategy: 'optimal',
      recommendation: { placements: expect.any(Array) },
      sharing: { kind: 'SharingAdvice', gpus: [{ name: 'RTX A5500' }, { name: 'RTX A400' }] },
    });
  });
});

describe('--pin', () => {
  it('puts a service on a GPU, also one that the document pins elsewhere or to nothing', async () => {
    const services = (parse(reference) as PlacementRequestInput).services.map((service) =>
      service.name === 'ai-clip' ? { ...service, gpu: { node: 'gone', index: 7 } } : service,
    );
    const placement = await placed('-', { pin: ['ai-clip=1', 'ai-florence=box/1'] }, request({ services }));
    expect(['ai-clip', 'ai-florence'].map((name) => gpuOf(placement, name))).toEqual(['box 1', 'box 1']);
  });

  it('names the node where there are several, whatever is in its name', async () => {
    const placement = await placed('-', { pin: ['ai-clip=lab/tower/1'] }, request(twoNodes));
    expect(gpuOf(placement, 'ai-clip')).toBe('lab/tower 1');
  });

  it.each([
    [
      ['ai-clip'],
      '--pin: found "ai-clip", expected SERVICE=INDEX, or SERVICE=NODE/INDEX where there are several nodes',
    ],
    [['ai-clip=x'], '--pin: found "ai-clip=x", expected SERVICE=INDEX'],
    [['ai-clip=1', 'ai-clip=0'], '--pin: found "ai-clip" twice, expected one GPU for each service'],
    [
      ['ai-clap=1'],
      '--pin: found the service "ai-clap", expected a service of services (ai-llm, ai-yolo26, ai-florence, ai-clip, ai-enrichment); did you mean "ai-clip"?',
    ],
    [['ai-clip=2'], '--pin: found ai-clip=2, expected an index that node "box" has (0, 1)'],
    [['ai-clip=bux/0'], '--pin: found ai-clip=bux/0, expected a node of gpus (box); did you mean "box"?'],
  ])('that is wrong is refused: %j', async (pin, message) => {
    await expect(run('-', { pin }, { stdin: reference })).rejects.toThrow(message);
  });

  it('without a node where there are several is refused', async () => {
    await expect(run('-', { pin: ['ai-clip=0'] }, { stdin: request(twoNodes) })).rejects.toThrow(
      '--pin: found ai-clip=0 without a node, expected ai-clip=NODE/0, as there are 2 nodes (strix, lab/tower)',
    );
  });
});

describe('--detect', () => {
  const gpus = '- { index: 0, node: edge, name: Tesla P40, vendor: nvidia, memoryMb: 24576 }\n';

  it('takes GPUs of a file instead of those of the document, against which pins are checked', async () => {
    const from = written('gpus.yaml', gpus);
    const placement = await placed('-', { detect: from, strategy: 'vram_based' }, reference);
    expect(placement.gpus).toMatchObject([{ node: 'edge', index: 0, memoryMb: 24_576 }]);
    await expect(run('-', { detect: from, pin: ['ai-clip=1'] }, { stdin: reference })).rejects.toThrow(
      '--pin: found ai-clip=1, expected an index that node "edge" has (0)',
    );
  });

  it('without a FILE draws what was found', async () => {
    const from = written('gpus.yaml', gpus);
    const { code, text } = await run(undefined, { detect: from });
    expect(code).toBe(0);
    expect(text.replace(from, 'gpus.yaml')).toBe(`gpus.yaml: 1 GPU on 1 node

edge
└─ GPU 0 Tesla P40  [·······································]  0 of 24 GB   0 %
   nvidia
`);
  });

  it('without a FILE prints with --json a request to fill in', async () => {
    const { text } = await run(undefined, { detect: written('gpus.yaml', gpus), json: true, strategy: 'balanced' });
    expect(JSON.parse(text)).toEqual({
      apiVersion: 'gpumix/v1',
      kind: 'PlacementRequest',
      strategy: 'balanced',
      gpus: [{ index: 0, node: 'edge', name: 'Tesla P40', vendor: 'nvidia', memoryMb: 24_576 }],
      services: [],
    });
  });

  it('says what to do where its value is the request that was meant', async () => {
    const file = written('request.yaml', reference);
    const { notes } = await run(undefined, { detect: file });
    expect(notes).toBe(`gpumix: ${file}: only its GPUs were read; gpumix place ${file} places its services\n`);
  });

  it('is needed where there is no FILE', async () => {
    await expect(run(undefined)).rejects.toThrow(
      'FILE: found nothing, expected a PlacementRequest (YAML or JSON), - for standard input, or --detect',
    );
  });

  it.each([
    ['-', '--detect: found "-", expected machine, kubernetes or a file'],
    ['/nowhere.yaml', '/nowhere.yaml: found no such file'],
  ])('from %s is refused', async (detect, message) => {
    await expect(run(undefined, { detect })).rejects.toThrow(message);
  });
});

describe('a document that cannot be used', () => {
  it.each([
    ['a: [1, 2', 'standard input: line 1, column 9: found the end of the text, expected valid YAML'],
    ['{"a": 1,}', 'standard input: line 1, column 9: found "}", expected strict JSON, here a key in double quotes'],
    ['', 'standard input: found an empty text, expected a PlacementRequest'],
    ['kind: Placement\n', 'standard input: found a Placement, expected the PlacementRequest that it was made from'],
    ['{"kind":"PlanningProblem"}', 'standard input: found a PlanningProblem, expected a PlacementRequest (gpumix plan'],
    [
      reference.replace('memoryMb: 1229', 'memoryMb: -1'),
      'standard input: line 11: services[3].memoryMb: found -1, expected a number >= 0',
    ],
    [
      reference.replace('critical: true, frameworks', 'critcal: true, frameworks'),
      'standard input: line 9: services[1].critcal: found an unknown key',
    ],
    [
      reference.replace('index: 1', 'index: 0'),
      'standard input: line 6: gpus[1].index: found 0, expected an index of its own on node "box" (gpus[0] has it too)',
    ],
  ])('is refused by line and key: %j', async (stdin, message) => {
    await expect(run('-', {}, { stdin })).rejects.toThrow(message);
  });

  it.each([
    [{ strategy: 'vram-based' }, '--strategy: found "vram-based", expected one of manual, vram_based,'],
    [{ strategy: 'optimel' }, 'did you mean "optimal"?'],
    [{ overcommit: 'refused' }, '--overcommit: found "refused", expected one of warn, refuse; did you mean "refuse"?'],
    [{ export: ['composer'] }, '--export: found "composer", expected one of compose,'],
    [{ out: 'a.yml' }, '--out: found no --export, expected --export FORMAT'],
    [{ diff: true }, '--diff: found no --export, expected --export FORMAT'],
    [{ allocation: 'dra' }, '--allocation: found no --export kubernetes, expected --export kubernetes beside it'],
    [
      { export: ['compose', 'assignments'] },
      '--export: found 2 formats (compose, assignments) for standard output, expected --out FOLDER',
    ],
    [{ export: ['compose'], json: true }, '--json: found --export without --out beside it, expected one of them'],
    [{ export: ['compose'], diff: true, json: true }, '--json: found --diff beside it, expected one of them'],
    [{ export: ['compose'], advise: true }, '--export: found --advise beside it, expected one of them'],
    [{ export: ['compose'], out: '-' }, '--out: found "-", expected a file or a folder'],
    [{ export: ['compose'], out: '/nowhere/a.yml' }, '--out: /nowhere/a.yml: found no such folder'],
    [
      { export: ['compose'], out: '/nowhere/' },
      '--out: /nowhere/: found no such folder, expected a folder that exists',
    ],
    [
      { export: ['compose', 'assignments'], out: '/nowhere/a' },
      '--out: /nowhere/a: found nothing of that name, expected a folder that exists, for 2 exports (compose, assignments)',
    ],
  ] as const)('flags that contradict each other are refused before anything is read: %j', async (flags, message) => {
    await expect(run('/not-read.yaml', flags)).rejects.toThrow(message);
  });
});

describe('--export', () => {
  it('prints one export, and what to know of it beside it', async () => {
    const { code, text, notes } = await run('-', { export: ['compose'] }, { stdin: reference });
    expect(code).toBe(0);
    expect(text).toMatch(/^services:\n/m);
    expect(text).toMatch(/^ {2}ai-llm:\n/m);
    for (const line of notes.trimEnd().split('\n')) expect(line).toMatch(/^(gpumix: .+|)$/);
  });

  it('writes several into a folder under their usual names, below the table', async () => {
    const out = folder();
    const { code, text } = await run('-', { export: ['compose', 'assignments'], out }, { stdin: reference });
    expect(code).toBe(0);
    expect(readdirSync(out).sort()).toEqual(['docker-compose.gpu-override.yml', 'gpu-assignments.yml']);
    expect(text).toContain('├─ GPU 0 RTX A5500');
    expect(
      text.endsWith(
        `\nwrote ${join(out, 'docker-compose.gpu-override.yml')} (compose)\nwrote ${join(out, 'gpu-assignments.yml')} (assignments)\n`,
      ),
    ).toBe(true);
  });

  it('gives pods their GPUs as --allocation says', async () => {
    const of = async (allocation: string): Promise<string> =>
      (await run('-', { export: ['kubernetes'], allocation }, { stdin: reference })).text;
    expect(await of('dra')).toContain('resourceClaims:');
    expect(await of('device-plugin')).not.toContain('resourceClaims:');
    await expect(of('dar')).rejects.toThrow('--allocation: found "dar", expected one of device-plugin, hami, kai, dra');
  });

  it('keeps JSON alone on standard output', async () => {
    const out = join(folder(), 'a.yml');
    const { text, notes } = await run('-', { export: ['assignments'], out, json: true }, { stdin: reference });
    expect(JSON.parse(text)).toMatchObject({ kind: 'Placement' });
    expect(notes).toContain(`wrote ${out} (assignments)\n`);
  });

  it('refuses a file that is read-only or that it was made from, and leaves it as it was', async () => {
    const kept = written('kept.yml', 'kept\n');
    chmodSync(kept, 0o444);
    await expect(run('-', { export: ['assignments'], out: kept }, { stdin: reference })).rejects.toThrow(
      `--out: ${kept}: found a file that is read-only, expected a file that can be written`,
    );
    const file = written('request.yaml', reference);
    await expect(run(file, { export: ['assignments'], out: file })).rejects.toThrow(
      '--out: found the file of FILE, expected a file of its own: it would be replaced',
    );
    expect([readFileSync(kept, 'utf8'), readFileSync(file, 'utf8')]).toEqual(['kept\n', reference]);
  });
});

describe('--diff', () => {
  it('is all additions where there is no file yet, writes nothing and ends with 1', async () => {
    const out = join(folder(), 'a.yml');
    const { code, text } = await run('-', { export: ['assignments'], out, diff: true }, { stdin: reference });
    expect([code, existsSync(out)]).toEqual([1, false]);
    const [from, to, hunk, ...lines] = text.trimEnd().split('\n');
    expect([from, to]).toEqual(['--- /dev/null', `+++ ${out}`]);
    expect(hunk).toBe(`@@ -0,0 +1,${lines.length} @@`);
    expect(lines.every((line) => line.startsWith('+'))).toBe(true);
  });

  it('is empty and ends with 0 where nothing would change', async () => {
    const out = folder();
    await run('-', { export: ['assignments', 'compose'], out }, { stdin: reference });
    const again = await run('-', { export: ['assignments', 'compose'], out, diff: true }, { stdin: reference });
    expect([again.code, again.text]).toEqual([0, '']);
  });

  it('shows the lines that differ', async () => {
    const out = join(folder(), 'a.yml');
    await run('-', { export: ['assignments'], out }, { stdin: reference });
    const text = readFileSync(out, 'utf8');
    writeFileSync(out, text.replaceAll('ai-clip', 'ai-clap'));
    const { code, text: diff } = await run('-', { export: ['assignments'], out, diff: true }, { stdin: reference });
    expect(code).toBe(1);
    expect(diff).toMatch(/\n-.*ai-clap.*\n\+.*ai-clip.*\n/);
    expect(readFileSync(out, 'utf8')).toContain('ai-clap');
  });

  it('refuses a file that is no text', async () => {
    const out = join(folder(), 'a.yml');
    writeFileSync(out, Buffer.from([0xff, 0xfe, 0x00]));
    await expect(run('-', { export: ['assignments'], out, diff: true }, { stdin: reference })).rejects.toThrow(
      `--diff: ${out}: found bytes that are not UTF-8, expected a text file, or no file yet`,
    );
  });
});

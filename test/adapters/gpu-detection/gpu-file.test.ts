import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { loadGpuCatalogue } from '../../../src/adapters/catalogue-file.js';
import { gpusOfFile, parseGpuFile } from '../../../src/adapters/gpu-detection/gpu-file.js';

const catalogue = await loadGpuCatalogue();
const parse = (text: string) => parseGpuFile(text, 'gpus.yaml', catalogue);
const names = (text: string) => parse(text).gpus.map(({ node, index, name }) => [node, index, name]);

const nodeYaml = (name: string) => `apiVersion: v1
kind: Node
metadata:
  name: ${name}
  labels: { nvidia.com/gpu.product: NVIDIA-L4, nvidia.com/gpu.memory: "23034" }
status:
  allocatable: { nvidia.com/gpu: "1" }
  conditions: [{ type: Ready, status: "True" }]
`;

describe('a file of nodes', () => {
  const indented = (text: string) => text.trimEnd().replaceAll('\n', '\n  ');

  it.each([
    ['one node', nodeYaml('a'), [['a', 0, 'NVIDIA-L4']]],
    [
      'several documents, one of them empty',
      `---\n${nodeYaml('a')}---\n---\n${nodeYaml('b')}`,
      [
        ['a', 0, 'NVIDIA-L4'],
        ['b', 0, 'NVIDIA-L4'],
      ],
    ],
    [
      'what kubectl get nodes -o yaml writes',
      `apiVersion: v1\nkind: List\nitems:\n- ${indented(nodeYaml('a'))}\n- kind: Pod\n  metadata: { name: p }\n`,
      [['a', 0, 'NVIDIA-L4']],
    ],
    [
      'what the API server answers as JSON',
      JSON.stringify({
        kind: 'NodeList',
        items: [
          {
            metadata: { name: 'a', labels: { 'nvidia.com/gpu.product': 'Tesla-T4', 'nvidia.com/gpu.memory': '15360' } },
            status: { allocatable: { 'nvidia.com/gpu': '1' } },
          },
        ],
      }),
      [['a', 0, 'Tesla-T4']],
    ],
  ])('may be %s', (_, text, expected) => {
    expect(names(text)).toEqual(expected);
  });

  it('says what nodes do not tell', () => {
    expect(parse(nodeYaml('a')).notices).toEqual([
      { source: 'Kubernetes', message: 'what running pods hold of the memory is not told by nodes: usedMb is 0' },
    ]);
  });
});

describe('a file of GPUs', () => {
  const gpu = { index: 0, node: 'box', name: 'RTX A5500', vendor: 'nvidia', memoryMb: 24564, speed: 1 };

  it('is taken as it is, alone or in a document', () => {
    expect(parse(JSON.stringify([gpu]))).toEqual({ gpus: [gpu], notices: [] });
    const request = { apiVersion: 'gpumix/v1', kind: 'PlacementRequest', gpus: [gpu], services: [] };
    expect(parse(JSON.stringify(request))).toEqual({ gpus: [gpu], notices: [] });
    expect(parse('gpus:\n- { index: 0, node: box, vendor: amd, memoryMb: 2048 }\n').gpus).toEqual([
      { index: 0, node: 'box', vendor: 'amd', memoryMb: 2048 },
    ]);
    expect(parse('gpus: []')).toEqual({ gpus: [], notices: [] });
  });

  it.each([
    ['gpus:\n- { index: -1, node: box, vendor: amd, memoryMb: 2048 }\n', 'gpus.yaml: line 2: gpus[0].index: found -1'],
    ['- { index: 0, node: box, vendor: amd, memoryMB: 2048 }\n', 'did you mean "memoryMb"?'],
    ['kind: Pod\n', 'gpus.yaml: found a document of kind "Pod", expected Nodes as kubectl'],
    ['hello', 'gpus.yaml: found "hello"'],
    ['a: [1, 2\nb: 3\n', 'gpus.yaml: line '],
    [`${'['.repeat(200)}${']'.repeat(200)}\n---\n`, 'gpus.yaml: [0][0][0]: found more than 64 levels'],
    ['{"gpus": [', 'gpus.yaml: line 1'],
  ])('that cannot be one is an error: %j', (text, message) => {
    expect(() => parse(text)).toThrow(message);
  });

  it('that multiplies itself by aliases is an error', () => {
    const bomb = [
      'a0: &a0 [x, x]',
      ...Array.from({ length: 20 }, (_, i) => `a${i + 1}: &a${i + 1} [*a${i}, *a${i}, *a${i}]`),
    ];
    expect(() => parse(`${bomb.join('\n')}\n`)).toThrow('they may repeat 20 times what is written');
  });
});

describe('reading the file', () => {
  let folder = '';
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it('takes UTF-8 with or without a byte order mark, and says what else is there', async () => {
    folder = await mkdtemp(join(tmpdir(), 'gpumix-gpu-file-'));
    const file = join(folder, 'gpus.yaml');
    await writeFile(file, '\ufeffgpus: []\n');
    expect(await gpusOfFile(file, catalogue)).toEqual({ gpus: [], notices: [] });
    await writeFile(file, Buffer.from([0x67, 0xff, 0xfe]));
    await expect(gpusOfFile(file, catalogue)).rejects.toThrow('found bytes that are not UTF-8');
    await expect(gpusOfFile(join(folder, 'none'), catalogue)).rejects.toThrow('found no such file');
    await expect(gpusOfFile(folder, catalogue)).rejects.toThrow('found a file that cannot be read (EISDIR)');
  });
});

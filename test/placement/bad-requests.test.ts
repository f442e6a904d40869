import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/core/input-error.js';
import { checkPlacementRequest } from '../../src/core/placement-request.js';
import { gpu, service } from './request-builders.js';

/** What a person reads who hands in such a document; nothing where it is good. */
function faultsOf(document: Readonly<Record<string, unknown>>): readonly string[] {
  try {
    checkPlacementRequest(
      { apiVersion: 'gpumix/v1', kind: 'PlacementRequest', gpus: [], services: [], ...document },
      'request.json',
    );
    return [];
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    return error.message.split('\n');
  }
}

const withGpu = (overrides: Readonly<Record<string, unknown>>) => faultsOf({ gpus: [{ ...gpu(), ...overrides }] });
const withService = (overrides: Readonly<Record<string, unknown>>) =>
  faultsOf({ gpus: [gpu(), gpu({ index: 1 })], services: [{ ...service('a', 1000), ...overrides }] });

describe('a request that cannot be used', () => {
  it('because of an unknown key says which was meant', () => {
    expect(faultsOf({ strateg: 'manual' })).toEqual([
      'request.json: strateg: found an unknown key, expected one of apiVersion, kind, strategy, overcommit, gpus, services; did you mean "strategy"?',
    ]);
    expect(withGpu({ memory: 5 })).toEqual([
      'request.json: gpus[0].memory: found an unknown key, expected one of index, node, name, vendor, memoryMb, usedMb, architecture, speed, taints, tags, sharing, migInstances; did you mean "memoryMb"?',
    ]);
    expect(withService({ minMemory: 5 })).toEqual([
      'request.json: services[0].minMemory: found an unknown key, expected one of name, model, memoryMb, minMemoryMb, kind, critical, dedicated, cpuAllowed, frameworks, priority, computeShare, maxSessions, gpu, tolerations, image, importPath; did you mean "minMemoryMb"?',
    ]);
  });

  it('because a pin is to a GPU that is not there says which are', () => {
    expect(withService({ gpu: { node: 'box', index: 7 } })).toEqual([
      'request.json: services[0].gpu: found {"node":"box","index":7}, expected an index that node "box" has (0, 1)',
    ]);
    expect(withService({ gpu: { node: 'bix', index: 0 } })).toEqual([
      'request.json: services[0].gpu: found {"node":"bix","index":0}, expected a node of gpus (box); did you mean "box"?',
    ]);
    expect(faultsOf({ services: [service('a', 1, { gpu: { node: 'box', index: 0 } })] })).toEqual([
      'request.json: services[0].gpu: found {"node":"box","index":0}, expected a GPU of gpus, which is empty',
    ]);
  });

  it('because of its memory says the number and its limit', () => {
    expect(withService({ minMemoryMb: 2000 })).toEqual([
      'request.json: services[0].minMemoryMb: found 2000, expected at most memoryMb',
    ]);
    expect(withService({ memoryMb: -5 })).toEqual([
      'request.json: services[0].memoryMb: found -5, expected a number >= 0',
    ]);
    expect(withService({ minMemoryMb: -1 })).toEqual([
      'request.json: services[0].minMemoryMb: found -1, expected a number >= 0',
    ]);
    expect(withGpu({ memoryMb: 0 })).toEqual(['request.json: gpus[0].memoryMb: found 0, expected a number >= 1']);
    expect(withGpu({ memoryMb: 24.5 })).toEqual([
      'request.json: gpus[0].memoryMb: found 24.5, expected a whole number',
    ]);
    expect(withGpu({ usedMb: -1 })).toEqual(['request.json: gpus[0].usedMb: found -1, expected a number >= 0']);
  });

  it('because something is there twice says where it was first', () => {
    expect(faultsOf({ gpus: [gpu(), gpu({ index: 1 }), gpu()] })).toEqual([
      'request.json: gpus[2].index: found 0, expected an index of its own on node "box" (gpus[0] has it too)',
    ]);
    expect(faultsOf({ gpus: [gpu(), gpu({ node: 'lab' })] })).toEqual([]);
    expect(faultsOf({ services: [service('a', 1), service('b', 1), service('a', 2)] })).toEqual([
      'request.json: services[2].name: found "a", expected a name of its own (services[0] has it too)',
    ]);
  });

  it.each([
    [
      { strategy: 'vram-based' },
      'strategy: found "vram-based", expected one of manual, vram_based, latency_optimized, isolation_first, balanced, optimal; did you mean "vram_based"?',
    ],
    [{ overcommit: 'refuze' }, 'overcommit: found "refuze", expected one of warn, refuse; did you mean "refuse"?'],
    [
      { gpus: [{ ...gpu(), vendor: 'nvidea' }] },
      'gpus[0].vendor: found "nvidea", expected one of nvidia, amd, intel, huawei; did you mean "nvidia"?',
    ],
    [
      { gpus: [{ ...gpu(), sharing: 'timeslicing' }] },
      'gpus[0].sharing: found "timeslicing", expected one of exclusive, mig, mps, time-slicing, memory-limit; did you mean "time-slicing"?',
    ],
    [
      { gpus: [{ ...gpu(), sharing: 'mig', migInstances: [{ profile: '3g40gb' }] }] },
      'gpus[0].migInstances[0].profile: found "3g40gb", expected a MIG profile such as 3g.40gb',
    ],
    [
      { gpus: [{ ...gpu(), taints: ['workload=llm'] }] },
      'gpus[0].taints[0]: found "workload=llm", expected a taint as kubectl writes it: key=value:NoSchedule, or key:NoSchedule',
    ],
    [
      { services: [{ ...service('a', 1), frameworks: ['cudda'] }] },
      'services[0].frameworks[0]: found "cudda", expected one of cuda, tensorrt, rocm, oneapi, openvino, vulkan, opencl, cann, cpu; did you mean "cuda"?',
    ],
    [
      { services: [{ ...service('a', 1), kind: 'lm' }] },
      'services[0].kind: found "lm", expected one of llm, embedding, reranker, vision, speech, database, other; did you mean "llm"?',
    ],
    [
      { services: [{ ...service('a', 1), computeShare: 1.5 }] },
      'services[0].computeShare: found 1.5, expected a number <= 1',
    ],
  ])('because of a misspelt or impossible value: %j', (document, fault) => {
    expect(faultsOf(document)).toEqual([`request.json: ${fault}`]);
  });

  it('says all that is missing at once', () => {
    expect(faultsOf({ gpus: [{ index: 0 }], services: [{ name: 'a' }] })).toEqual([
      'request.json: gpus[0].node: found nothing, expected a text',
      'request.json: gpus[0].vendor: found nothing, expected one of nvidia, amd, intel, huawei',
      'request.json: gpus[0].memoryMb: found nothing, expected a number',
      'request.json: services[0].memoryMb: found nothing, expected a number',
      'request.json: services[0].frameworks: found nothing, expected an array',
    ]);
  });
});

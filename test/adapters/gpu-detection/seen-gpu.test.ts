import { describe, expect, it } from 'vitest';
import { jsonIn } from '../../../src/adapters/gpu-detection/json-text.js';
import { pciName } from '../../../src/adapters/gpu-detection/pci-ids.js';
import {
  cleaned,
  hexWordIn,
  mbOfBytes,
  nameIn,
  numberIn,
  pciBusIdIn,
  wholeMb,
} from '../../../src/adapters/gpu-detection/seen-gpu.js';

describe('what tools write', () => {
  it('as a bus id is one text for one place', () => {
    expect(
      ['00000000:0A:00.0', '0000:0a:00.0', '0A:00.0', '10000:81:00.1', '0000:0a:00.8', 'N/A', 5].map(pciBusIdIn),
    ).toEqual(['0000:0a:00.0', '0000:0a:00.0', '0000:0a:00.0', '10000:81:00.1', null, null, null]);
  });

  it('as a number is one only where it is nothing else', () => {
    expect(['24564', ' 12.5 ', '24564 MiB', '[N/A]', '', '-1', '1e9', 7, Number.NaN].map(numberIn)).toEqual([
      24564,
      12.5,
      null,
      null,
      null,
      null,
      null,
      7,
      null,
    ]);
    expect([mbOfBytes('536870912'), mbOfBytes(1), mbOfBytes('N/A'), wholeMb(-1), wholeMb(2 ** 31)]).toEqual([
      512,
      0,
      null,
      null,
      null,
    ]);
    expect(['0x1681', '744C', '0x16', 'Radeon'].map(hexWordIn)).toEqual(['1681', '744c', null, null]);
  });

  it('as a name is one line that a terminal shows, not cut through a character', () => {
    expect(cleaned('a\u0000b\n c\u202ed')).toBe('a b c d');
    expect(cleaned(`${'x'.repeat(199)}\u{10000}`)).toBe('x'.repeat(199));
    expect([nameIn('N/A'), nameIn(' [Not Supported] '), nameIn('None'), nameIn('Tesla P40')]).toEqual([
      '',
      '',
      '',
      'Tesla P40',
    ]);
  });

  it('as JSON may stand between other lines', () => {
    expect(jsonIn('[WARN] low power\n{"card0": {}}\n')).toEqual({ card0: {} });
    expect(jsonIn('{"a": [1]}\n=== End of ROCm SMI Log ===\n')).toEqual({ a: [1] });
    expect(jsonIn('{"a": ')).toBeUndefined();
    expect(jsonIn('5')).toBeUndefined();
  });
});

it('one PCI id of several cards is told apart by their memory', () => {
  expect([24560, 20464, 16368, null].map((memoryMb) => pciName('1002:744c', memoryMb))).toEqual([
    'Radeon RX 7900 XTX',
    'Radeon RX 7900 XT',
    'Radeon RX 7900 GRE',
    '',
  ]);
});

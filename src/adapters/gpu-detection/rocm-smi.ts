import { isRecord, record } from '../kubernetes/wire.js';
import { amdArchitecture, isIntegratedGfx } from './amd-architectures.js';
import { jsonIn } from './json-text.js';
import {
  beginningOf,
  hexWordIn,
  mbOfBytes,
  mostGpus,
  nameIn,
  type Parsed,
  pciBusIdIn,
  type SeenGpu,
  seenGpu,
} from './seen-gpu.js';

/**
 * What `rocm-smi … --json` prints: one object, a key `card0` for each GPU, all values texts. Keys differ between versions
 * in case (`Card series`, `Card Series`) and by what was asked for; a value that there is not is `N/A`.
 */

export const rocmSmiArguments = [
  '--showproductname',
  '--showmeminfo',
  'vram',
  'gtt',
  '--showbus',
  '--showid',
  '--showuniqueid',
  '--json',
] as const;

export function parseRocmSmi(text: string): Parsed {
  const document = jsonIn(text);
  if (!isRecord(document)) return { gpus: [], notices: [`no JSON that could be read: ${beginningOf(text)}`] };
  const gpus: SeenGpu[] = [];
  const notices: string[] = [];
  for (const [key, value] of Object.entries(document)) {
    const card = /^card(\d{1,6})$/.exec(key);
    if (card === null) continue;
    if (gpus.length === mostGpus) {
      notices.push(`more than ${mostGpus} GPUs: the rest is left out`);
      break;
    }
    gpus.push(gpuOf(Number(card[1]), record(value)));
  }
  if (gpus.length === 0) notices.push('no GPUs in its answer');
  return { gpus, notices };
}

function gpuOf(index: number, card: Readonly<Record<string, unknown>>): SeenGpu {
  const values = new Map(Object.entries(card).map(([key, value]) => [key.toLowerCase(), value]));
  const textAt = (key: string) => nameIn(values.get(key));
  const gfx = textAt('gfx version').toLowerCase();
  // Card Model is the PCI id from ROCm 6 on, a name before.
  const device =
    hexWordIn(values.get('device id')) ?? hexWordIn(values.get('gpu id')) ?? hexWordIn(values.get('card model'));
  const uniqueId = /^0x([0-9a-f]{6,16})$/i.exec(textAt('unique id'))?.[1];
  return seenGpu({
    vendor: 'amd',
    index,
    name: productName(textAt('card series'), textAt('card model'), textAt('device name')),
    memoryMb: mbOfBytes(values.get('vram total memory (b)')),
    usedMb: mbOfBytes(values.get('vram total used memory (b)')),
    architecture: amdArchitecture(gfx),
    pciBusId: pciBusIdIn(values.get('pci bus')),
    pciId: device === null ? null : `1002:${device}`,
    // As rocminfo and ROCR_VISIBLE_DEVICES write it.
    uuid: uniqueId === undefined ? null : `GPU-${uniqueId.toLowerCase().padStart(16, '0')}`,
    unified: isIntegratedGfx(gfx),
    gttMb: mbOfBytes(values.get('gtt total memory (b)')),
  });
}

/** `Rembrandt [Radeon 680M]` → `Radeon 680M`; a name with several parts in it (`[Radeon RX 7900 XT/7900 XTX]`) stays whole. */
function productName(series: string, model: string, device: string): string {
  const usable = [series, model, device].filter((name) => name !== '' && hexWordIn(name) === null);
  const [first = ''] = usable;
  const inner = /\[([^\][/]{3,100})\]\s*$/.exec(first)?.[1];
  return inner === undefined || /^AMD\/?ATI$/i.test(inner) ? first : inner.trim();
}

import { isUtf8 } from 'node:buffer';
import { createReadStream } from 'node:fs';
import { z } from 'zod';
import type { GpuCatalogue } from '../../core/gpu-types.js';
import { InputError, quoteInput } from '../../core/input-error.js';
import { check } from '../../core/parse.js';
import { parseYamlDocuments, withLines, type YamlLines, type YamlText } from '../../core/parse-yaml.js';
import { type PlacementGpuInput, placementGpuSchema } from '../../core/placement-request.js';
import { isRecord, items, textOf } from '../kubernetes/wire.js';
import { gatherGpus, mostDetectedGpus } from './cluster-gpus.js';
import type { DetectedGpus } from './machine-gpus.js';
import { nodeGpus } from './node-labels.js';

/**
 * GPUs out of a file, JSON or YAML: what `kubectl get nodes -o yaml` writes (a List, a NodeList, one Node, or several
 * documents), or a list of GPUs as `PlacementRequest.gpus` has them (alone, or as `gpus` of a document).
 */

/** A list of 5,000 nodes, which carry the images that they hold, is some 60 MiB. [bytes] */
const largestFile = 128 * 1024 * 1024;

const expected = 'Nodes as kubectl get nodes -o yaml writes them, or a list of GPUs as in a PlacementRequest';

/** @throws InputError for a file that cannot be read, is no JSON or YAML, or holds something else */
export async function gpusOfFile(file: string, catalogue: GpuCatalogue): Promise<DetectedGpus> {
  return parseGpuFile(await textOfFile(file), file, catalogue);
}

async function textOfFile(file: string): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  const wrong = (found: string, wanted = expected) => new InputError(file, [{ place: '', found, expected: wanted }]);
  try {
    for await (const chunk of createReadStream(file)) {
      size += (chunk as Buffer).length;
      if (size > largestFile) throw wrong(`more than ${largestFile} bytes`, `at most ${largestFile / 2 ** 20} MiB`);
      chunks.push(chunk as Buffer);
    }
  } catch (error) {
    if (error instanceof InputError) throw error;
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'an error';
    throw wrong(code === 'ENOENT' ? 'no such file' : `a file that cannot be read (${code})`);
  }
  const whole = Buffer.concat(chunks);
  if (!isUtf8(whole)) throw wrong('bytes that are not UTF-8');
  return whole.toString('utf8').replace(/^\ufeff/, '');
}

/** @throws InputError that names the line or the key */
export function parseGpuFile(text: string, source: string, catalogue: GpuCatalogue): DetectedGpus {
  const documents = documentsOf(text, source);
  const nodes: unknown[] = [];
  const gpus: PlacementGpuInput[] = [];
  const passedOver: DetectedGpus['notices'][number][] = [];
  for (const [d, { value, lines }] of documents.entries()) {
    const place = documents.length === 1 ? source : `${source} (document ${d + 1})`;
    const found = nodesOf(value);
    if (found !== null) nodes.push(...found);
    else gpus.push(...gpusOf(value, place, lines));
    if (isRecord(value) && value.kind === 'PlacementRequest' && items(value.services).length > 0) {
      const message = `only its GPUs were read; gpumix place ${source} places its services`;
      passedOver.push({ source: place, message });
    }
  }
  const gathered = gatherGpus();
  for (const node of nodes) gathered.add(nodeGpus(node, catalogue));
  const ofNodes = gathered.end([]);
  return { gpus: [...gpus, ...ofNodes.gpus], notices: [...passedOver, ...ofNodes.notices] };
}

function documentsOf(text: string, source: string): readonly YamlText[] {
  // JSON is YAML, and a hundred times faster to read as what it is.
  if (/^\s*[[{]/.test(text)) {
    try {
      return [{ value: JSON.parse(text) as unknown, lines: new Map() }];
    } catch {
      // Flow style, or a fault that YAML's parser says as well.
    }
  }
  const documents = parseYamlDocuments(text, source, { largest: largestFile, expected });
  // An empty document stands between two `---`.
  return documents.filter(({ value }) => value !== null && value !== undefined);
}

/** Null where the document is no Kubernetes object. Objects of other kinds in a list are passed over. */
function nodesOf(document: unknown): readonly unknown[] | null {
  if (!isRecord(document)) return null;
  const kind = textOf(document, 'kind') ?? '';
  if (kind === 'Node') return [document];
  if (kind !== 'List' && kind !== 'NodeList') return null;
  return items(document.items).filter((item) => isRecord(item) && (item.kind ?? 'Node') === 'Node');
}

const gpuList = z.array(placementGpuSchema).max(mostDetectedGpus);

/** A list, or a document with `gpus`: of a PlacementRequest only those count. */
function gpusOf(document: unknown, source: string, lines: YamlLines): readonly PlacementGpuInput[] {
  try {
    if (Array.isArray(document)) {
      check(gpuList, document, source);
      return document as readonly PlacementGpuInput[];
    }
    if (isRecord(document) && Object.hasOwn(document, 'gpus')) {
      check(z.looseObject({ gpus: gpuList }), document, source);
      return document.gpus as readonly PlacementGpuInput[];
    }
  } catch (error) {
    throw error instanceof InputError ? withLines(error, lines) : error;
  }
  const kind = isRecord(document) ? textOf(document, 'kind') : undefined;
  const found = kind === undefined ? quoteInput(document) : `a document of kind ${quoteInput(kind)}`;
  throw new InputError(source, [{ place: '', found, expected }]);
}

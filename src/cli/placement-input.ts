import { InputError, quoteInput } from '../core/input-error.js';
import { nearestName, parseJson } from '../core/parse.js';
import { parseYaml, withLines, type YamlLines } from '../core/parse-yaml.js';
import {
  checkPlacementRequest,
  type GpuRef,
  knownGpus,
  type PlacementGpuInput,
  type PlacementRequest,
} from '../core/placement-request.js';
import { flagError } from './flag-values.js';
import { type DocumentText, isYamlName } from './read-document.js';

/** From the text that a person wrote, GPUs that were found and pins of the command line to a PlacementRequest. */

/** A service of `--pin` and where it goes; no node = the only one. */
export type Pin = { readonly service: string; readonly node: string | null; readonly index: number };

/**
 * The pins of `--pin SERVICE=[NODE/]INDEX`.
 *
 * @throws InputError for one that cannot be read, and for a service that is pinned twice
 */
export function readPins(texts: readonly string[]): readonly Pin[] {
  const pins = texts.map((text): Pin => {
    // Names may hold = and /, indexes hold neither.
    const [, service = '', node, index = ''] = /^(.+)=(?:(.+)\/)?(\d{1,7})$/s.exec(text) ?? [];
    if (service !== '') return { service, node: node ?? null, index: Number(index) };
    throw flagError('--pin', {
      found: quoteInput(text),
      expected: 'SERVICE=INDEX, or SERVICE=NODE/INDEX where there are several nodes',
    });
  });
  const twice = pins.find(({ service }, at) => pins.findIndex((pin) => pin.service === service) !== at);
  if (twice === undefined) return pins;
  throw flagError('--pin', { found: `${quoteInput(twice.service)} twice`, expected: 'one GPU for each service' });
}

/**
 * Reads a PlacementRequest as JSON or YAML, by its name or else by how it begins.
 *
 * @param from.gpus stand for those of the document, whose pins are checked against these
 * @param from.pins stand for those of the document
 * @throws InputError that names line, path or flag, found and expected
 */
export function readPlacementRequest(
  { text, source }: DocumentText,
  from: { readonly gpus: readonly PlacementGpuInput[] | null; readonly pins: readonly Pin[] },
): PlacementRequest {
  const { value, lines } = parseText(text, source);
  refuseOtherKind(value, source);
  const pinned = new Set(from.pins.map(({ service }) => service));
  try {
    const request = checkPlacementRequest(
      unpinned(from.gpus === null ? value : withGpus(value, from.gpus), pinned),
      source,
    );
    return applyPins(request, from.pins);
  } catch (error) {
    throw error instanceof InputError && error.source === source ? withLines(error, lines) : error;
  }
}

/** Longest YAML text [characters]: 10,000 services take about 3 million. */
const largestYaml = 16 * 1_048_576;

function parseText(text: string, source: string): { readonly value: unknown; readonly lines: YamlLines } {
  const isJson = /\.json$/i.test(source) || (!isYamlName(source) && /^\s*[{[]/.test(text));
  if (isJson) return { value: parseJson(text, source), lines: new Map() };
  const expected = 'the keys of a PlacementRequest, which are at most 6 deep';
  const { value, lines } = parseYaml(text, source, { largest: largestYaml, expected });
  if (value !== null) return { value, lines };
  throw new InputError(source, [{ place: '', found: 'an empty text', expected: 'a PlacementRequest' }]);
}

/** Documents of gpumix that are easily taken for a request, and what to do with them. */
const otherKinds: Readonly<Record<string, string>> = {
  Placement: 'the PlacementRequest that it was made from',
  PlanningProblem: 'a PlacementRequest (gpumix plan takes PlanningProblems)',
  Plan: 'a PlacementRequest',
};

function refuseOtherKind(value: unknown, source: string): void {
  const kind = isTree(value) ? value.kind : undefined;
  if (typeof kind !== 'string' || !Object.hasOwn(otherKinds, kind)) return;
  throw new InputError(source, [{ place: '', found: `a ${kind}`, expected: otherKinds[kind]! }]);
}

type Tree = Readonly<Record<string, unknown>>;

function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function withGpus(value: unknown, gpus: readonly PlacementGpuInput[]): unknown {
  return isTree(value) ? { ...value, gpus } : value;
}

/** The document without the pins that flags replace, which may name GPUs that are not there. */
function unpinned(value: unknown, services: ReadonlySet<string>): unknown {
  if (services.size === 0 || !isTree(value) || !Array.isArray(value.services)) return value;
  const isPinned = (service: unknown): service is Tree => isTree(service) && services.has(String(service.name));
  return {
    ...value,
    services: value.services.map((service: unknown) => (isPinned(service) ? { ...service, gpu: null } : service)),
  };
}

/** @throws InputError for a service or GPU that is not there, with the nearest that is */
function applyPins(request: PlacementRequest, pins: readonly Pin[]): PlacementRequest {
  const places = new Map(pins.map((pin) => [pin.service, placeOf(pin, request)]));
  if (places.size === 0) return request;
  const services = request.services.map((service) => {
    const gpu = places.get(service.name);
    return gpu === undefined ? service : { ...service, gpu };
  });
  return { ...request, services };
}

function placeOf({ service, node, index }: Pin, { services, gpus }: PlacementRequest): GpuRef {
  const names = services.map(({ name }) => name);
  if (!names.includes(service)) {
    const suggestion = nearestName(service, names);
    throw flagError('--pin', {
      found: `the service ${quoteInput(service)}`,
      expected: names.length === 0 ? 'a service of services, which is empty' : `a service of services (${few(names)})`,
      ...(suggestion === undefined ? {} : { suggestion }),
    });
  }
  const nodes = [...new Set(gpus.map((gpu) => gpu.node))];
  if (node === null && nodes.length > 1) {
    throw flagError('--pin', {
      found: `${service}=${index} without a node`,
      expected: `${service}=NODE/${index}, as there are ${nodes.length} nodes (${few(nodes)})`,
    });
  }
  const place = { node: node ?? nodes[0] ?? '', index };
  if (gpus.some((gpu) => gpu.node === place.node && gpu.index === index)) return place;
  throw flagError('--pin', {
    found: node === null ? `${service}=${index}` : `${service}=${node}/${index}`,
    expected: knownGpus(place, gpus),
  });
}

function few(names: readonly string[]): string {
  return names.length <= 8 ? names.join(', ') : `${names.slice(0, 8).join(', ')}, …`;
}

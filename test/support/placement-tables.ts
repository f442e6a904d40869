import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { z } from 'zod';
import { type GpuCatalogue, type GpuVendor, parseGpuCatalogue } from '../../src/core/gpu-types.js';
import type { Placement } from '../../src/core/placement.js';
import {
  checkPlacementRequest,
  frameworkNames,
  type PlacementRequestInput,
  placementRequestSchema,
  sharingModeNames,
  strategyNames,
} from '../../src/core/placement-request.js';
import { gigabytes } from '../../src/placement/amounts.js';
import { gpuAllocationNames } from '../../src/placement/export/exporter.js';
import { exporters, exportNames } from '../../src/placement/export/exporters.js';
import { gpuAllocations } from '../../src/placement/export/kubernetes/gpu-allocations.js';
import { frameworkVendors } from '../../src/placement/fleet.js';
import { place } from '../../src/placement/place.js';
import { modeRules } from '../../src/placement/sharing/mode-rules.js';
import { recommendedBudgets } from '../../src/placement/sharing/recommended-budgets.js';
import { sharingFamilies, sharingModes, sharingSupport } from '../../src/placement/sharing/sharing-modes.js';
import { strategies } from '../../src/placement/strategies/strategies.js';

/** The tables of docs/placement.md that follow from tables of the code, as Markdown. */
export const placementTables = {
  document: () => keysOf(),
  gpus: () => keysOf('gpus'),
  services: () => keysOf('services'),
  frameworks: () =>
    table(
      ['framework', 'runs on GPUs of'],
      frameworkNames.map((name) => [
        `\`${name}\``,
        frameworkVendors[name].map((vendor) => vendorNames[vendor]).join(', ') ||
          'none: the service may run on the CPU',
      ]),
    ),
  strategies: () =>
    table(
      ['strategy', 'rule', 'suits'],
      strategyNames.map((name) => [`\`${name}\``, sentence(strategies[name].rule), sentence(strategies[name].suits)]),
    ),
  outcomes: () => outcomes('samples/placement/workstation/request.yaml'),
  sharing: () =>
    table(
      ['mode', 'what it is', 'memory isolation', 'fault isolation', 'latency'],
      sharingModeNames.map((name) => {
        const { about, memoryIsolation, faultIsolation, latencyEffect } = sharingModes[name];
        const graded = [memoryIsolation, faultIsolation, latencyEffect].map(
          ({ level, about: why }) => `**${level}**. ${why}`,
        );
        return [`\`${name}\``, about, ...graded];
      }),
    ),
  support: () =>
    table(
      ['family', 'vendor', 'MIG', 'MPS', 'time-slicing', 'memory limits'],
      sharingFamilies.map((name) => {
        const { vendor, title, mig, mps, 'time-slicing': turns } = sharingSupport[name];
        // Limits share out the memory of a GPU that several processes have open.
        const limits = turns.answer === 'no' ? 'no' : 'yes';
        return [title, vendorNames[vendor], support(mig), support(mps), support(turns), limits];
      }),
    ),
  modes: () =>
    table(
      ['first rule that applies', 'mode'],
      modeRules.map(({ when, mode }) => [sentence(when), `\`${mode}\``]),
    ),
  budgets: () =>
    table(
      ['part of the memory', 'for', 'because'],
      Object.values(recommendedBudgets).map(({ fraction, when, why }) => [
        fraction.toFixed(2),
        sentence(when),
        sentence(why),
      ]),
    ),
  exports: () =>
    table(
      ['export', 'file', 'what it is'],
      exportNames.map((name) => [`\`${name}\``, `\`${exporters[name].fileName}\``, sentence(exporters[name].about)]),
    ),
  allocations: () =>
    table(
      ['`--allocation`', 'how pods get their GPUs'],
      gpuAllocationNames.map((name) => [`\`${name}\``, sentence(gpuAllocations[name].about)]),
    ),
} satisfies Record<string, () => string>;

export type PlacementTableName = keyof typeof placementTables;

const vendorNames = { nvidia: 'NVIDIA', amd: 'AMD', intel: 'Intel', huawei: 'Huawei' } satisfies Record<
  GpuVendor,
  string
>;

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cell = (text: string): string => text.replaceAll('|', '\\|');
  const line = (cells: readonly string[]): string => `| ${cells.map(cell).join(' | ')} |`;
  return [line(head), `|${head.map(() => '---|').join('')}`, ...rows.map(line)].join('\n');
}

function sentence(text: string): string {
  const closed = /[.!?]$/.test(text) ? text : `${text}.`;
  return closed.charAt(0).toUpperCase() + closed.slice(1);
}

/** The word alone where it is the plain one; what makes the difference within a family, with it. */
function support({ answer, reason }: { readonly answer: string; readonly reason: string }): string {
  if (answer === 'part') return sentence(reason);
  return answer === 'unknown' ? 'not known' : answer;
}

type JsonSchema = {
  readonly type?: string;
  readonly const?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly string[];
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly items?: JsonSchema;
  readonly anyOf?: readonly JsonSchema[];
};

/** Keys of the request, or of each entry of one of its lists, in the order of the schema. */
function keysOf(list?: 'gpus' | 'services'): string {
  const root = z.toJSONSchema(placementRequestSchema, { io: 'input' }) as JsonSchema;
  const of = list === undefined ? root : root.properties![list]!.items!;
  return table(['key', 'value', 'default', 'meaning'], keyRows(of, ''));
}

function keyRows({ properties = {}, required = [] }: JsonSchema, before: string): readonly (readonly string[])[] {
  return Object.entries(properties).flatMap(([key, schema]) => {
    const inner = schema.anyOf?.find(({ type }) => type !== 'null') ?? schema;
    const isAsked = required.includes(key);
    const fallback = schema.default === undefined ? '' : `\`${JSON.stringify(schema.default)}\``;
    const meaning = schema.const === undefined ? (schema.description ?? '') : 'which document this is';
    if (meaning === '') throw new Error(`${before}${key} says nothing of what it means`);
    const entries = inner.items ?? inner;
    const nested =
      entries.properties === undefined || (before === '' && (key === 'gpus' || key === 'services'))
        ? []
        : keyRows(entries, `${before}${key}${inner.items === undefined ? '' : '[]'}.`);
    return [[`\`${before}${key}\``, shapeOf(inner), isAsked ? 'required' : fallback, meaning], ...nested];
  });
}

function shapeOf(schema: JsonSchema): string {
  if (schema.const !== undefined) return `\`${schema.const}\``;
  if (schema.enum !== undefined) return schema.enum.map((name) => `\`${name}\``).join(', ');
  switch (schema.type) {
    case 'array':
      return schema.items?.enum === undefined ? 'list' : `list of ${shapeOf(schema.items)}`;
    case 'object':
      return 'map';
    case 'integer':
      return 'whole number';
    case 'string':
      return 'text';
    default:
      return schema.type ?? '';
  }
}

/** What each strategy makes of a request, in the units of messages. */
function outcomes(file: string): string {
  const request = checkPlacementRequest(parse(readFileSync(file, 'utf8')) as PlacementRequestInput, file);
  const catalogue = gpuCatalogue();
  const rows = strategyNames.map((strategy) => {
    const placement = place({ ...request, strategy }, { catalogue });
    const { objective, refusals } = placement;
    return [
      `\`${strategy}\``,
      ...placement.gpus.map(({ index }) => servicesOn(placement, index)),
      refusals.length === 0 ? '' : `${refusals.length}`,
      objective.overcommitMb === 0 ? '' : gigabytes(objective.overcommitMb),
      objective.shrunkMb === 0 ? '' : gigabytes(objective.shrunkMb),
      `${Number(objective.criticalSlowness.toPrecision(3))}`,
      objective.maxRelativeUse.toFixed(3),
    ];
  });
  const gpus = request.gpus.map(({ index, name }) => `GPU ${index}, ${name}`);
  return table(['strategy', ...gpus, 'refused', 'too much', 'shrunk', 'slowness', 'fullest'], rows);
}

function servicesOn({ assignments }: Placement, index: number): string {
  return assignments
    .filter(({ gpuIndex }) => gpuIndex === index)
    .map(({ service, memoryBudgetMb }) => `${service} ${gigabytes(memoryBudgetMb)}`)
    .join(', ');
}

function gpuCatalogue(): GpuCatalogue {
  return parseGpuCatalogue(JSON.parse(readFileSync('profiles/gpus.json', 'utf8')), 'profiles/gpus.json');
}

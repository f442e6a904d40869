import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { loadGpuCatalogue, loadModelCatalogue } from '../src/adapters/catalogue-file.js';
import {
  type ErrorSpread,
  estimateCalibrations,
  type GpuClass,
  gpuClasses,
  gpuClassOf,
} from '../src/simulation/estimate-calibration.js';
import {
  type Calibrations,
  type Comparison,
  calibrate,
  fittedGpus,
  grouped,
  holdAgainst,
  quantities,
  spreadOf,
  uncalibrated,
} from './estimate-yardstick.js';
import { type MeasuredPoint, measuredFolder, readMeasured } from './measured-profiles.js';
import { brief, table } from './timing.js';

/** Benchmarks run from the project's root, and their build has no catalogues of its own. */
const catalogueFile = (name: string): string => join('profiles', name);

/**
 * How far estimates are from what was measured: fits the factors of the estimate on half of the GPUs and holds all
 * published points against them, fitted and unseen GPUs apart. The factors and the spreads that are printed are those
 * of src/simulation/estimate-calibration.ts.
 */
export type EstimateBenchmark = {
  readonly text: string;
};

export async function benchmarkEstimates({ quick }: { readonly quick: boolean }): Promise<EstimateBenchmark> {
  if (!existsSync(measuredFolder)) return { text: `skipped: there is no ${measuredFolder}` };
  const measured = readMeasured({
    gpus: await loadGpuCatalogue(catalogueFile('gpus.json')),
    models: await loadModelCatalogue(catalogueFile('models.json')),
  });
  const { points } = measured;
  const fitted = fittedGpus(points);
  const isFitted = ({ gpu }: MeasuredPoint): boolean => fitted.has(gpu.name);
  const calibrations = quick
    ? estimateCalibrations
    : calibrate(points.filter(isFitted), { nvidia: uncalibrated, amd: uncalibrated, intel: uncalibrated });
  const { comparisons, misfits, lacking } = holdAgainst(points, calibrations);
  const plain = holdAgainst(points, { nvidia: uncalibrated, amd: uncalibrated, intel: uncalibrated });

  const lines: string[] = [];
  const section = (title: string, body: string): void => void lines.push(title, '', body, '');
  const of = (list: readonly Comparison[], wanted: (point: MeasuredPoint) => boolean): readonly Comparison[] =>
    list.filter(({ point }) => wanted(point));

  lines.push(
    `${measured.read} points read; ${points.length} used, of ${fitted.size} GPUs that were fitted on ` +
      `(${[...fitted].join(', ')}) and ${new Set(points.map(({ gpu }) => gpu.name)).size - fitted.size} that were not ` +
      `(${[...new Set(points.filter((point) => !isFitted(point)).map(({ gpu }) => gpu.name))].toSorted().join(', ')}).`,
    '',
    'Left out:',
    ...[...measured.leftOut].toSorted((a, b) => b[1] - a[1]).map(([reason, count]) => `  ${count}  ${reason}`),
    ...[...lacking].map(([reason, count]) => `  ${count}  ${reason}`),
    `Measured, but by our figures the weights or one request do not fit (failures, in no spread): ${misfits.length}`,
    ...countBy(
      misfits,
      (point) => `${point.gpusPerReplica} x ${point.gpu.name}, ${point.model.name}, ${point.weightPrecision}`,
    ),
    '',
  );
  section('Factors', describeFactors(calibrations));
  section('For src/simulation/estimate-calibration.ts', asSource(shippedFigures(comparisons, fitted), calibrations));
  section(
    'Predicted / measured, all points',
    spreadTable([
      ['all', comparisons],
      ['fitted GPUs', of(comparisons, isFitted)],
      ['unseen GPUs', of(comparisons, (point) => !isFitted(point))],
      ['all, without the factors', plain.comparisons],
      ['fitted, without the factors', of(plain.comparisons, isFitted)],
      ['unseen, without the factors', of(plain.comparisons, (point) => !isFitted(point))],
    ]),
  );
  const by = (keyOf: (point: MeasuredPoint) => string): string =>
    spreadTable([...grouped(comparisons, ({ point }) => keyOf(point))].toSorted(([a], [b]) => (a < b ? -1 : 1)));
  section(
    'Per GPU',
    by((point) => `${point.gpu.name}${isFitted(point) ? '' : ' (unseen)'}`),
  );
  section(
    'Per class',
    by((point) => `${gpuClassOf(point.gpu)}, ${isFitted(point) ? 'fitted' : 'unseen'}`),
  );
  section(
    'Per engine',
    by(({ engine }) => engine),
  );
  section(
    'Per source',
    by(({ source }) => source),
  );
  section(
    'Per precision',
    by(({ weightPrecision }) => weightPrecision),
  );
  section(
    'Per model',
    by(({ model }) => model.name),
  );
  const assumed = holdAgainst(measured.assumedPrecision, calibrations).comparisons;
  section(
    'Points that do not state their precision, taken as 16 bits (in no other table)',
    spreadTable([...grouped(assumed, ({ point }) => point.gpu.name)]),
  );
  return { text: lines.join('\n').trimEnd() };
}

/** The spreads that estimates state: per GPU, and over the unseen GPUs of each class. */
export function shippedFigures(
  comparisons: readonly Comparison[],
  fitted: ReadonlySet<string>,
): {
  readonly byGpu: Readonly<Record<string, ErrorSpread & { readonly fitted: boolean }>>;
  readonly unseen: Readonly<Partial<Record<GpuClass, ErrorSpread>>>;
} {
  const rounded = (group: readonly Comparison[]): ErrorSpread => {
    const { count, median, p10, p90 } = spreadOf(group, 'rate')!;
    const two = (value: number): number => Number(value.toFixed(2));
    return { points: count, median: two(median), p10: two(p10), p90: two(p90) };
  };
  const byName = (a: readonly [string, unknown], b: readonly [string, unknown]): number => (a[0] < b[0] ? -1 : 1);
  const byGpu = [...grouped(comparisons, ({ point }) => point.gpu.name)]
    .toSorted(byName)
    .map(([name, group]) => [name, { ...rounded(group), fitted: fitted.has(name) }] as const);
  const unseen = gpuClasses.flatMap((name) => {
    const group = comparisons.filter(({ point }) => gpuClassOf(point.gpu) === name && !fitted.has(point.gpu.name));
    return group.length === 0 ? [] : [[name, rounded(group)] as const];
  });
  return { byGpu: Object.fromEntries(byGpu), unseen: Object.fromEntries(unseen) };
}

function asSource(figures: ReturnType<typeof shippedFigures>, calibrations: Calibrations): string {
  const literal = (value: object): string =>
    JSON.stringify(value, (_, item) =>
      typeof item === 'number' && !Number.isInteger(item) ? Number(item.toPrecision(3)) : item,
    ).replaceAll(/"(\w+)":/g, '$1: ');
  const entries = (record: object): string =>
    Object.entries(record)
      .map(([name, value]) => `  ${/^[a-z]+$/i.test(name) ? name : `'${name}'`}: ${literal(value)},`)
      .join('\n');
  return [
    `export const estimateCalibrations = {\n${entries(calibrations)}\n};`,
    `export const errorsByGpu = {\n${entries(figures.byGpu)}\n};`,
    `export const errorsOfUnseen = {\n${entries(figures.unseen)}\n};`,
  ].join('\n');
}

function countBy(points: readonly MeasuredPoint[], keyOf: (point: MeasuredPoint) => string): readonly string[] {
  return [...grouped(points, keyOf)].map(([key, group]) => `  ${group.length}  ${key}`);
}

function describeFactors(calibrations: Calibrations): string {
  return table(
    ['class', 'compute', 'bandwidth', 'link', 'time per layer', 'engine ms a step', 'ms a request'],
    Object.entries(calibrations).map(([name, factors]) => [
      name,
      ...[factors.compute, factors.bandwidth, factors.link, factors.layerTime, factors.stepMs, factors.requestMs].map(
        brief,
      ),
    ]),
  );
}

function spreadTable(groups: readonly (readonly [name: string, comparisons: readonly Comparison[]])[]): string {
  const rows = groups.flatMap(([name, comparisons]) =>
    quantities.flatMap((quantity) => {
      const spread = spreadOf(comparisons, quantity);
      if (spread === null) return [];
      const { count, median, p10, p90, within25, within50 } = spread;
      return [
        [
          name,
          quantity,
          String(count),
          median.toFixed(2),
          p10.toFixed(2),
          p90.toFixed(2),
          `${Math.round(100 * within25)} %`,
          `${Math.round(100 * within50)} %`,
        ],
      ];
    }),
  );
  return table(['', 'of', 'points', 'median', 'p10', 'p90', 'within 25 %', 'within 50 %'], rows);
}

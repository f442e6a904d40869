import type { Readable } from 'node:stream';
import { Command, InvalidArgumentError } from 'commander';
import { loadGpuCatalogue } from '../adapters/catalogue-file.js';
import { type DetectedGpus, detectGpus } from '../adapters/gpu-detection/detect.js';
import { InputError } from '../core/input-error.js';
import {
  checkPlacementRequest,
  type PlacementRequest,
  type PlacementRequestInput,
  type StrategyName,
  strategyNames,
} from '../core/placement-request.js';
import { type GpuAllocationName, gpuAllocationNames } from '../placement/export/exporter.js';
import { type ExportName, exporters, exportNames } from '../placement/export/exporters.js';
import { type PlaceOptions, place } from '../placement/place.js';
import { recommend } from '../placement/recommend.js';
import { advise } from '../placement/sharing/advise.js';
import { strategies } from '../placement/strategies/strategies.js';
import { renderAdvice } from './advice-page.js';
import { collect, flagError, oneOf, positiveNumber } from './flag-values.js';
import {
  diffFiles,
  type ExportTarget,
  placeFiles,
  printedExport,
  readExportNames,
  readExportTarget,
  writeExports,
  writeFiles,
} from './placement-exports.js';
import { type Pin, readPins, readPlacementRequest } from './placement-input.js';
import { renderGpus, renderPlacement } from './placement-table.js';
import { defaultLimitMib, parseLimitMib, readDocument } from './read-document.js';
import { hang, inkOf, printable } from './terminal-text.js';
import { paintDiff } from './unified-diff.js';

export type PlaceFlags = {
  readonly strategy?: string;
  readonly overcommit?: string;
  /** `SERVICE=[NODE/]INDEX`. */
  readonly pin?: readonly string[];
  /** True without a value: this machine. */
  readonly detect?: string | true;
  readonly json: boolean;
  readonly advise: boolean;
  readonly export?: readonly string[];
  readonly out?: string;
  readonly diff: boolean;
  /** How pods of the Kubernetes export get their GPUs. */
  readonly allocation?: string;
  /** For the search of `optimal` [s]. */
  readonly timeLimit: number;
  readonly maxMib: number;
};

/** What a command sees of the process around it. */
export type PlaceSurroundings = {
  readonly stdin: Readable;
  readonly write: (text: string) => void;
  /** What is worth saying beside the result. */
  readonly writeError: (text: string) => void;
  readonly color: boolean;
  readonly width: number;
};

const defaultTimeLimitSeconds = 10;
/** A search that takes longer than a day will not end. */
const mostTimeLimitSeconds = 86_400;

/** `gpumix place [FILE]`: PlacementRequest in, Placement out. Exit code 1: a service was refused, or --diff differs. */
export function placeCommand(): Command {
  return new Command('place')
    .summary('place services on the GPUs that exist, and write what makes it so')
    .description(
      [
        'Reads a PlacementRequest (YAML or JSON): services, and the GPUs that exist. Prints which service runs on which GPU, with how much of its memory, and what does not fit; --export writes it as files for Docker Compose, Kubernetes, KubeRay and vLLM.',
        '--detect finds the GPUs instead. Without a FILE it prints what it found; with --json as a PlacementRequest to fill in.',
        'Exit code: 0 placed, 1 a service was refused or --diff found a difference, 2 bad input.',
      ].join('\n\n'),
    )
    .argument('[file]', 'the document, or - for standard input')
    .option(
      '--strategy <name>',
      `how services are given GPUs: ${strategyNames.join(', ')} (default: as the request says)`,
    )
    .option(
      '--overcommit <what>',
      'warn: place what does not fit and say so; refuse: refuse it (default: as the request says)',
    )
    .option('--pin <service=gpu>', 'SERVICE=INDEX, or SERVICE=NODE/INDEX: it runs there (repeatable)', collect)
    .option('--detect [from]', 'find the GPUs: machine (default), kubernetes, or a file of Nodes or GPUs')
    .option('--json', 'print the Placement as JSON', false)
    .option('--advise', 'compare the strategies, and the ways to share these GPUs', false)
    .option('--export <format>', `write it for another tool (repeatable): ${exportNames.join(', ')}`, collect)
    .option('-o, --out <path>', 'where exports go: a file for one, a folder for any number')
    .option('--diff', 'write nothing, print how the files on disk would change', false)
    .option(
      '--allocation <how>',
      `how pods of --export kubernetes get GPUs: ${gpuAllocationNames.join(', ')} (default: device-plugin)`,
    )
    .option('--time-limit <s>', 'for the search of optimal', timeLimit, defaultTimeLimitSeconds)
    .option('--max-mib <n>', 'largest document that is read [MiB]', parseLimitMib, defaultLimitMib)
    .addHelpText('after', help)
    .action(async (file: string | undefined, flags: PlaceFlags) => {
      const { stdin, stdout, stderr, env } = process;
      process.exitCode = await runPlace(file, flags, {
        stdin,
        write: (text) => stdout.write(text),
        writeError: (text) => stderr.write(text),
        color: stdout.isTTY === true && !env.NO_COLOR && env.TERM !== 'dumb',
        width: stdout.columns || 100,
      });
    });
}

function timeLimit(text: string): number {
  const seconds = positiveNumber(text);
  if (seconds <= mostTimeLimitSeconds) return seconds;
  throw new InvalidArgumentError(`expected at most ${mostTimeLimitSeconds} seconds.`);
}

const helpWidth = 80;
const nameWidth = [...strategyNames, ...exportNames].reduce((most, { length }) => Math.max(most, length), 0);

function helpLines(name: string, text: string): readonly string[] {
  return hang(`  ${name.padEnd(nameWidth)}  `, text, helpWidth);
}

const help = `
Strategies:
${strategyNames.flatMap((name) => helpLines(name, strategies[name].rule)).join('\n')}

Exports:
${exportNames.flatMap((name) => helpLines(name, `${exporters[name].fileName}: ${exporters[name].about}`)).join('\n')}

Examples:
  gpumix place request.yaml                                as a table
  gpumix place request.yaml --strategy optimal --json      the best there is, as JSON
  gpumix place request.yaml --pin ai-llm=0 --overcommit refuse
  gpumix place --detect                                    the GPUs of this machine
  gpumix place --detect --json > request.json              the same, to fill in
  gpumix place request.yaml --detect kubernetes            on the GPUs of a cluster
  gpumix place request.yaml --advise                       how to share them
  gpumix place request.yaml --export compose -o .          docker-compose.gpu-override.yml
  gpumix place request.yaml --export compose --diff        what that would change
`;

/**
 * The command itself.
 *
 * @returns the exit code: 0 placed, 1 a service was refused, or --diff found a difference
 * @throws InputError for documents and flags that cannot be used
 */
export async function runPlace(
  file: string | undefined,
  flags: PlaceFlags,
  around: PlaceSurroundings,
): Promise<number> {
  const asked = readFlags(flags);
  if (file === undefined && asked.detect === null) refuseNothing();
  const exportsTo = await checkExports(file, flags, asked);
  const catalogue = await loadGpuCatalogue();
  const detected = asked.detect === null ? null : await detectGpus({ from: asked.detect, catalogue });
  for (const { source, message } of detected?.notices ?? []) {
    // The table says by itself that there are none.
    const isSaid = source === 'detection' && !flags.json && asked.exports.length === 0;
    if (!isSaid) note(around, `${source}: ${message}`);
  }
  const reading: Reading = { file, flags, asked, detected, around };
  if (file === undefined && !flags.advise) return showDetected(reading);
  const { request, title } = await readRequest(reading);
  noteUnits(request, around);
  const endsAt = performance.now() + flags.timeLimit * 1000;
  const options: PlaceOptions = { catalogue, shouldStop: () => performance.now() > endsAt };
  if (flags.advise) return showAdvice(request, { title, flags, options, around });
  const placement = place(request, options);
  const exitCode = placement.refusals.length === 0 ? 0 : 1;
  const view = { title, rule: strategies[placement.strategy].rule, color: around.color, width: around.width };
  const table = (): string => (flags.json ? json(placement) : renderPlacement(placement, request, view));
  if (asked.exports.length === 0) {
    around.write(table());
    return exitCode;
  }
  const written = writeExports(asked.exports, {
    request,
    placement,
    catalogue,
    ...(asked.allocation === null ? {} : { gpuAllocation: asked.allocation }),
  });
  const tellNotices = (): void => {
    for (const { name, notices } of written) for (const notice of notices) note(around, `${name}: ${notice}`);
  };
  if (exportsTo.kind === 'stdout') {
    const text = printedExport(written[0]!);
    for (const { message } of [...placement.refusals, ...placement.warnings]) note(around, message);
    tellNotices();
    around.write(text);
    return exitCode;
  }
  const files = placeFiles(written, exportsTo);
  if (flags.diff) {
    const diff = await diffFiles(files);
    tellNotices();
    around.write(around.color ? paintDiff(diff, inkOf(true)) : diff);
    return diff === '' ? exitCode : 1;
  }
  await writeFiles(files);
  around.write(table());
  const lines = files.map(({ name, path }) => `wrote ${path} (${name})\n`).join('');
  // What reads JSON must not find lines behind it.
  if (flags.json) around.writeError(lines);
  else around.write(`\n${lines}`);
  tellNotices();
  return exitCode;
}

/** On standard error; names in it come from documents. */
function note({ writeError }: PlaceSurroundings, text: string): void {
  writeError(`gpumix: ${printable(text)}\n`);
}

/** Less than the context of one CUDA process, and no GPU is as small [MiB]: a figure below it was meant in GB. */
const leastPlausibleMb = 100;

/** Every figure in MiB is a legal one, so that 24 for a GPU of 24 GB is not refused. */
function noteUnits({ gpus, services }: PlacementRequest, around: PlaceSurroundings): void {
  const onGpu = services.filter(({ frameworks }) => frameworks.some((framework) => framework !== 'cpu'));
  const named = [
    ...gpus.map(({ index, node, memoryMb }) => ({ name: `GPU ${index} of ${node}`, memoryMb })),
    ...onGpu.map(({ name, memoryMb }) => ({ name, memoryMb })),
  ].filter(({ memoryMb }) => memoryMb > 0 && memoryMb < leastPlausibleMb);
  const [first, ...rest] = named;
  if (first === undefined) return;
  const { name, memoryMb } = first;
  const others = rest.length === 0 ? '' : ` (and ${rest.length} more like it)`;
  note(
    around,
    `memoryMb is in MiB: ${name} has ${memoryMb}${others}, and ${memoryMb} GB are ${(memoryMb * 1024).toLocaleString('en-US')}`,
  );
}

type Asked = {
  readonly strategy: StrategyName | null;
  readonly overcommit: PlacementRequest['overcommit'] | null;
  readonly pins: readonly Pin[];
  readonly detect: 'machine' | 'kubernetes' | { readonly file: string } | null;
  readonly exports: readonly ExportName[];
  readonly allocation: GpuAllocationName | null;
};

/** Flags that need no file to be told wrong. */
function readFlags(flags: PlaceFlags): Asked {
  const asked: Asked = {
    strategy: flags.strategy === undefined ? null : oneOf('--strategy', flags.strategy, strategyNames),
    overcommit:
      flags.overcommit === undefined ? null : oneOf('--overcommit', flags.overcommit, ['warn', 'refuse'] as const),
    pins: readPins(flags.pin ?? []),
    detect: readDetect(flags.detect),
    exports: readExportNames(flags.export ?? []),
    allocation: flags.allocation === undefined ? null : oneOf('--allocation', flags.allocation, gpuAllocationNames),
  };
  if (asked.allocation !== null && !asked.exports.includes('kubernetes')) {
    throw flagError('--allocation', { found: 'no --export kubernetes', expected: '--export kubernetes beside it' });
  }
  const needsExport = flags.diff ? '--diff' : flags.out === undefined ? null : '--out';
  if (asked.exports.length === 0) {
    if (needsExport === null) return asked;
    throw flagError(needsExport, {
      found: 'no --export',
      expected: `--export FORMAT (${exportNames.join(', ')}) beside it`,
    });
  }
  if (flags.advise) throw flagError('--export', { found: '--advise beside it', expected: 'one of them' });
  if (flags.json && (flags.diff || flags.out === undefined)) {
    const other = flags.diff ? '--diff' : '--export without --out';
    throw flagError('--json', { found: `${other} beside it`, expected: 'one of them: both print their result' });
  }
  return asked;
}

function readDetect(from: PlaceFlags['detect']): Asked['detect'] {
  if (from === undefined) return null;
  if (from === true || from === 'machine') return 'machine';
  if (from === 'kubernetes') return 'kubernetes';
  if (from !== '' && from !== '-') return { file: from };
  throw flagError('--detect', { found: JSON.stringify(from), expected: 'machine, kubernetes or a file' });
}

async function checkExports(file: string | undefined, flags: PlaceFlags, asked: Asked): Promise<ExportTarget> {
  const inputs = {
    ...(file === undefined || file === '-' ? {} : { FILE: file }),
    ...(typeof asked.detect === 'object' && asked.detect !== null ? { '--detect': asked.detect.file } : {}),
  };
  if (asked.exports.length > 0 && file === undefined) {
    throw flagError('--export', { found: 'no FILE', expected: 'a PlacementRequest whose services are placed' });
  }
  return readExportTarget({ names: asked.exports, out: flags.out, diff: flags.diff, inputs });
}

/** @throws InputError that says what to do */
function refuseNothing(): never {
  throw new InputError('FILE', [
    {
      place: '',
      found: 'nothing',
      expected:
        'a PlacementRequest (YAML or JSON), - for standard input, or --detect for the GPUs that are here (with --json a request to fill in)',
    },
  ]);
}

/** What errors and the table call GPUs that were found. */
function detectTitle(from: Asked['detect']): string {
  if (from === 'machine' || from === null) return 'this machine';
  return from === 'kubernetes' ? 'the cluster' : from.file;
}

type Reading = {
  readonly file: string | undefined;
  readonly flags: PlaceFlags;
  readonly asked: Asked;
  readonly detected: DetectedGpus | null;
  readonly around: PlaceSurroundings;
};

async function readRequest(reading: Reading): Promise<{ readonly request: PlacementRequest; readonly title: string }> {
  const { file, flags, asked, detected, around } = reading;
  const document =
    file === undefined
      ? { text: json(skeleton(detected?.gpus ?? [], asked)), source: detectTitle(asked.detect) }
      : await readDocument({ file, limitMib: flags.maxMib, limitFlag: '--max-mib', yaml: true, stdin: around.stdin });
  const request = readPlacementRequest(document, { gpus: detected?.gpus ?? null, pins: asked.pins });
  const { strategy, overcommit } = asked;
  return {
    request: { ...request, strategy: strategy ?? request.strategy, overcommit: overcommit ?? request.overcommit },
    title: document.source,
  };
}

/** A request that only lacks its services. */
function skeleton(gpus: DetectedGpus['gpus'], { strategy, overcommit }: Asked): PlacementRequestInput {
  return {
    apiVersion: 'gpumix/v1',
    kind: 'PlacementRequest',
    ...(strategy === null ? {} : { strategy }),
    ...(overcommit === null ? {} : { overcommit }),
    gpus: structuredClone(gpus) as PlacementRequestInput['gpus'],
    services: [],
  };
}

/** What was found, where nothing is to be placed. */
async function showDetected({ flags, asked, detected, around }: Reading): Promise<number> {
  const found = skeleton(detected?.gpus ?? [], asked);
  const { gpus } = checkPlacementRequest(found, detectTitle(asked.detect));
  if (asked.pins.length > 0)
    throw flagError('--pin', { found: 'no FILE', expected: 'a PlacementRequest with services' });
  const { color, width } = around;
  around.write(flags.json ? json(found) : renderGpus(gpus, { title: detectTitle(asked.detect), color, width }));
  return 0;
}

/** How to share the GPUs, after what each strategy would do with the services. */
function showAdvice(
  request: PlacementRequest,
  view: {
    readonly title: string;
    readonly flags: PlaceFlags;
    readonly options: PlaceOptions;
    readonly around: PlaceSurroundings;
  },
): number {
  const { title, flags, options, around } = view;
  const recommendation = recommend(request, options);
  const placement = recommendation.placements.find(({ strategy }) => strategy === request.strategy)!;
  const sharing = advise(request, { catalogue: options.catalogue, placement });
  const { color, width } = around;
  const advice = { recommendation, strategy: request.strategy, sharing };
  around.write(
    flags.json
      ? json({ apiVersion: 'gpumix/v1', kind: 'PlacementAdvice', ...advice })
      : renderAdvice(advice, request, { title, color, width }),
  );
  return placement.refusals.length === 0 ? 0 : 1;
}

function json(document: unknown): string {
  return `${JSON.stringify(document, null, 2)}\n`;
}

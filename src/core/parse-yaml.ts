import {
  type Document,
  type ErrorCode,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseAllDocuments,
  parseDocument,
} from 'yaml';
import { InputError, type InputIssue, quoteInput } from './input-error.js';
import { formatPath } from './parse.js';

/**
 * YAML text to a plain value, with the line of every key and item: what people write by hand is mended by its lines.
 */

/** The line of what stands at a path, `services[0].memoryMb` to `line 12`. */
export type YamlLines = ReadonlyMap<string, string>;

export type YamlText = {
  /** Null for an empty text. */
  readonly value: unknown;
  readonly lines: YamlLines;
};

/** Longest chain of nested lists and maps; no document of ours comes near. */
const deepestNesting = 64;

/**
 * Values that anchors may repeat, for each that is written: a text that multiplies itself by them ends here, and a
 * thousand services that share a list do not.
 */
const mostRepeated = 20;

/** Words of our own where the parser's are for programmers, or do not say what people most often did. */
const yamlMessages: Readonly<Partial<Record<ErrorCode, string>>> = {
  MULTILINE_IMPLICIT_KEY: 'Implicit keys need to be on a single line: is the line below indented too far?',
  MULTIPLE_DOCS: 'One document: --- begins a second',
};

export type YamlLimits = {
  /** Longest text [characters]. */
  readonly largest: number;
  /** What errors about its depth expect: `the keys of the configuration, which are at most 5 deep`. */
  readonly expected: string;
};

/**
 * Reads one YAML document. Keys must be unique, and nothing is read that the parser warns of.
 *
 * @throws InputError and nothing else: line, column, what was found, what was expected
 */
export function parseYaml(text: string, source: string, limits: YamlLimits): YamlText {
  return read(text, source, limits, (counter) => [
    parseDocument(text, { lineCounter: counter, uniqueKeys: true, prettyErrors: false }),
  ])[0]!;
}

/** The same of a text that may hold several documents, or none, as `kubectl` writes them. */
export function parseYamlDocuments(text: string, source: string, limits: YamlLimits): readonly YamlText[] {
  return read(text, source, limits, (counter) => [
    ...parseAllDocuments(text, { lineCounter: counter, uniqueKeys: true, prettyErrors: false, logLevel: 'silent' }),
  ]);
}

function read(
  text: string,
  source: string,
  { largest, expected }: YamlLimits,
  documentsOf: (counter: LineCounter) => readonly Document[],
): readonly YamlText[] {
  const refuse = (found: string, wanted: string) => new InputError(source, [{ place: '', found, expected: wanted }]);
  if (text.length > largest) throw refuse(`${text.length} characters`, `at most ${largest} characters`);
  try {
    const counter = new LineCounter();
    const documents = documentsOf(counter);
    const faults = documents.flatMap((document) => [...document.errors, ...document.warnings]);
    if (faults.length > 0) {
      throw new InputError(
        source,
        faults.slice(0, 20).map((fault) => {
          const { line, col } = counter.linePos(fault.pos[0]);
          const character = text[fault.pos[0]];
          return {
            place: `line ${line}, column ${col}`,
            found: character === undefined ? 'the end of the text' : quoteInput(character),
            expected: `valid YAML (${yamlMessages[fault.code] ?? fault.message.replace(/\s+/g, ' ')})`,
          };
        }),
      );
    }
    return documents.map((document): YamlText => {
      const lines = new Map<string, string>();
      const count = { written: 0, repeated: 0, ofAnchor: new Map<string, number>() };
      recordLines({ node: document.contents as Node | null, path: [], counter, lines, source, expected, count });
      if (count.repeated > mostRepeated * count.written) {
        const found = `anchors that make ${count.repeated} values of ${count.written}`;
        throw refuse(found, `YAML that can be read: they may repeat ${mostRepeated} times what is written`);
      }
      // Bounded above, by what is repeated instead of by how often.
      return { value: document.toJS({ maxAliasCount: -1 }), lines };
    });
  } catch (error) {
    if (error instanceof InputError) throw error;
    // The parser recurses and expands aliases: a text built to break it ends here, not in a stack trace.
    throw refuse(quoteInput(error instanceof Error ? error.message : error), 'YAML that can be read');
  }
}

type Located = {
  readonly node: Node | null;
  readonly path: readonly (string | number)[];
  readonly counter: LineCounter;
  readonly lines: Map<string, string>;
  readonly source: string;
  readonly expected: string;
  readonly count: {
    written: number;
    repeated: number;
    /** Values below each anchor, those that it repeats included. */
    readonly ofAnchor: Map<string, number>;
  };
};

/** @returns how many values the node stands for */
function recordLines(at: Located): number {
  const { node, path, counter, lines, source, expected, count } = at;
  count.written += 1;
  if (node === null) return 1;
  if (isAlias(node)) {
    const size = count.ofAnchor.get(node.source) ?? 1;
    count.repeated += size;
    return size;
  }
  if (path.length > deepestNesting) {
    throw new InputError(source, [
      { place: formatPath(path.slice(0, 3)), found: `more than ${deepestNesting} levels`, expected },
    ]);
  }
  const record = (here: readonly (string | number)[], range: Node['range']) => {
    if (range) lines.set(formatPath(here), `line ${counter.linePos(range[0]).line}`);
  };
  let size = 1;
  if (isMap(node)) {
    for (const pair of node.items) {
      const key = isScalar(pair.key) ? String(pair.key.value) : String(pair.key);
      const here = [...path, key];
      record(here, (pair.key as Node | null)?.range);
      size += recordLines({ ...at, node: pair.value as Node | null, path: here });
    }
  } else if (isSeq(node)) {
    node.items.forEach((item, index) => {
      const here = [...path, index];
      record(here, (item as Node | null)?.range);
      size += recordLines({ ...at, node: item as Node | null, path: here });
    });
  }
  if (node.anchor !== undefined) count.ofAnchor.set(node.anchor, size);
  return size;
}

/** What is recorded of a path, else of the nearest section around it; undefined where nothing is. */
export function nearestPlace(place: string, places: ReadonlyMap<string, string>): string | undefined {
  let at = place;
  while (at !== '') {
    const found = places.get(at);
    if (found !== undefined) return found;
    const cut = Math.max(at.lastIndexOf('.'), at.lastIndexOf('['));
    at = cut <= 0 ? '' : at.slice(0, cut);
  }
  return undefined;
}

/** The same faults, each with the line that it is on. */
export function withLines(error: InputError, lines: YamlLines): InputError {
  const issues = error.issues.map((issue): InputIssue => {
    const line = nearestPlace(issue.place, lines);
    return line === undefined ? issue : { ...issue, place: `${line}: ${issue.place}` };
  });
  return new InputError(error.source, issues);
}

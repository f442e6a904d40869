import { Document, isMap, isScalar, type Node, visit } from 'yaml';

/**
 * YAML as the exporters write it: block style, long texts on one line, and every text quoted that some version of YAML
 * takes for something else (`no`, `1e3`, `0o7`), since Compose and Kubernetes read YAML 1.1.
 */
export function yamlDocument(): Document {
  return new Document(null, { aliasDuplicateObjects: false, compat: 'yaml-1.1', keepUndefined: false });
}

/** Characters that YAML 1.1 refuses, or takes for the end of a line. C0 controls are escaped by the package. */
const unreadable = /[\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/g;

/** What the package writes plain and some reader refuses: a tab within, and the `=` of YAML 1.1. */
const mustBeQuoted = /\t|^=$/;

/**
 * The text of a document, ending with a line break.
 *
 * Comments must be free of what is unreadable (`commentText`), since escapes are for quoted texts.
 */
export function yamlText(document: Document): string {
  quoteUnreadable(document);
  return escapeUnreadable(document.toString({ lineWidth: 0, flowCollectionPadding: false }));
}

/** Puts texts in double quotes in which some reader takes a character for something else. */
export function quoteUnreadable(document: Document): void {
  visit(document, {
    Scalar(_, scalar) {
      if (typeof scalar.value !== 'string') return;
      if (mustBeQuoted.test(scalar.value) || scalar.value.search(unreadable) >= 0) scalar.type = 'QUOTE_DOUBLE';
    },
  });
}

/** YAML with what is unreadable escaped; all of it must stand in double quotes (`quoteUnreadable`). */
export function escapeUnreadable(text: string): string {
  return text.replace(unreadable, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** A value as a node of the document that carries a tag, such as Compose's `!override`. */
export function tagged(document: Document, tag: string, value: unknown): Node {
  const node = document.createNode(value) as Node;
  node.tag = tag;
  return node;
}

/** A list on one line: `["0"]`. */
export function onOneLine(document: Document, values: readonly unknown[]): Node {
  return document.createNode([...values], { flow: true });
}

/** Puts lines of comment before the entry of a map; the lines are without `#`. */
export function commentEntry(map: unknown, key: string, lines: readonly string[]): void {
  if (!isMap(map)) return;
  const entry = map.items.find((pair) => isScalar(pair.key) && pair.key.value === key);
  if (entry !== undefined && isScalar(entry.key)) entry.key.commentBefore = asComment(lines);
}

/** Lines without `#` as the `yaml` package keeps a comment. */
export function asComment(lines: readonly string[]): string {
  return lines.map((line) => (line === '' ? '' : ` ${line}`)).join('\n');
}

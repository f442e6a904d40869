import { Document, isMap, isScalar, type Node } from 'yaml';

/**
 * YAML as the exporters write it: block style, long texts on one line, and every text quoted that some version of YAML
 * takes for something else (`no`, `1e3`, `0o7`), since Compose and Kubernetes read YAML 1.1.
 */
export function yamlDocument(): Document {
  return new Document(null, { aliasDuplicateObjects: false, compat: 'yaml-1.1', keepUndefined: false });
}

/** The text of a document, ending with a line break. */
export function yamlText(document: Document): string {
  return document.toString({ lineWidth: 0, flowCollectionPadding: false });
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

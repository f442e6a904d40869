import { Document } from 'yaml';
import { commentLines } from '../comment-lines.js';
import { escapeUnreadable, quoteUnreadable } from '../yaml-text.js';

/** One object of Kubernetes, as plain data. */
export type Manifest = {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly [key: string]: unknown };
  readonly [key: string]: unknown;
};

/** An object and what stands above it as a comment, a line each. */
export type CommentedManifest = { readonly comments: readonly string[]; readonly manifest: Manifest };

/**
 * Plain data as YAML of both versions: Kubernetes' parser (and Python's) reads 1.1, where a bare `on` is true and `1:30`
 * is 90, so that texts which either version reads as something else are quoted.
 */
export function yamlText(value: unknown): string {
  const document = new Document(value, { version: '1.1', aliasDuplicateObjects: false });
  quoteUnreadable(document);
  return escapeUnreadable(document.toString({ lineWidth: 0, blockQuote: 'literal' }));
}

/**
 * Lines of a header, then the objects, as one file for `kubectl apply -f`.
 *
 * @param header without `#`; each one line already
 */
export function yamlFile(header: readonly string[], manifests: readonly CommentedManifest[]): string {
  const asComment = (lines: readonly string[]) => lines.map((line) => `# ${line}`.trimEnd().concat('\n')).join('');
  const documents = manifests.map(({ comments, manifest }) => {
    return `---\n${asComment(comments.flatMap((line) => commentLines(line)))}${yamlText(manifest)}`;
  });
  return `${asComment(header)}${documents.join('')}`;
}

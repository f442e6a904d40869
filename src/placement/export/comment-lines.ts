/**
 * Comments of the exported files. They repeat names and messages that others wrote, so a line break in one must never end
 * the comment: what follows it would be read as YAML, or run as shell.
 */

/** Everything that some reader of YAML or a shell takes for the end of a line, and characters that do not show. */
const unprintable = /[\p{Cc}\u2028\u2029\ufeff\ufffe\uffff\p{Surrogate}]/gu;

/** Foreign text as one line that is safe in a comment. */
export function commentText(text: string): string {
  return text.replace(unprintable, ' ');
}

/** Width at which comments are broken, with `# ` [characters]; a word that is longer stands alone. */
const width = 100;

/** A paragraph as the lines of a comment, without the `#`; lines after the first stand two further in. */
export function commentLines(text: string, indent = 0): readonly string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of commentText(text).split(/ +/)) {
    if (word === '') continue;
    const room = width - 2 - indent - (lines.length > 0 ? 2 : 0);
    if (line !== '' && line.length + 1 + word.length > room) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  lines.push(line);
  return lines.map((content, i) => `${' '.repeat(indent + (i > 0 ? 2 : 0))}${content}`.trimEnd());
}

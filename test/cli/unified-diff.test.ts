import { applyPatch } from 'diff';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { inkOf } from '../../src/cli/terminal-text.js';
import { paintDiff, unifiedDiff } from '../../src/cli/unified-diff.js';

const path = 'a.yml';

describe('a unified diff', () => {
  it('is nothing where nothing differs', () => {
    expect(unifiedDiff({ path, before: 'a\n', after: 'a\n' })).toBe('');
  });

  it('has three lines around each change', () => {
    const before = Array.from({ length: 9 }, (_, i) => `line ${i}\n`).join('');
    expect(unifiedDiff({ path, before, after: before.replace('line 4', 'LINE 4') })).toBe(`--- a.yml
+++ a.yml
@@ -2,7 +2,7 @@
 line 1
 line 2
 line 3
-line 4
+LINE 4
 line 5
 line 6
 line 7
`);
  });

  it('begins at /dev/null for a new file, and says where a last line has no end', () => {
    expect(unifiedDiff({ path, before: null, after: 'a\n' })).toBe('--- /dev/null\n+++ a.yml\n@@ -0,0 +1,1 @@\n+a\n');
    expect(unifiedDiff({ path, before: 'a', after: 'a\n' })).toBe(
      '--- a.yml\n+++ a.yml\n@@ -1,1 +1,1 @@\n-a\n\\ No newline at end of file\n+a\n',
    );
  });

  it('replaces all lines of a large file of which nearly none is left', () => {
    const lines = (word: string) => Array.from({ length: 20_000 }, (_, i) => `${word} ${i}\n`).join('');
    const diff = unifiedDiff({ path, before: lines('old'), after: lines('new') });
    expect(diff.slice(0, 60)).toBe('--- a.yml\n+++ a.yml\n@@ -1,20000 +1,20000 @@\n-old 0\n-old 1\n-o');
    expect(applyPatch(lines('old'), diff)).toBe(lines('new'));
  });

  it('turns the one text into the other', () => {
    const text = fc.array(fc.constantFrom('a', 'b', '- c', '+ d', ''), { maxLength: 30 }).map((all) => all.join('\n'));
    fc.assert(
      fc.property(text, text, (before, after) => {
        const diff = unifiedDiff({ path, before, after });
        expect(diff === '' ? before : applyPatch(before, diff)).toBe(after);
      }),
    );
  });

  it('is coloured on a terminal, which gets no control characters', () => {
    const painted = paintDiff(unifiedDiff({ path, before: 'a\u001b[2J\n', after: '-- b\n' }), inkOf(true));
    expect(painted).toBe(
      [
        '\u001b[1m--- a.yml\u001b[22m',
        '\u001b[1m+++ a.yml\u001b[22m',
        '\u001b[2m@@ -1,1 +1,1 @@\u001b[22m',
        '\u001b[31m-a�[2J\u001b[39m',
        '\u001b[32m+-- b\u001b[39m',
        '',
      ].join('\n'),
    );
  });
});

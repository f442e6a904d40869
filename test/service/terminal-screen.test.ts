import { describe, expect, it } from 'vitest';
import { TerminalScreen } from '../../src/service/terminal-screen.js';

/** A terminal of unlimited height that understands what the screen writes, and nothing else. */
function terminal() {
  const lines: string[] = [''];
  let row = 0;
  let column = 0;
  const writes: string[] = [];
  const write = (text: string): void => {
    writes.push(text);
    for (const [token] of text.replaceAll('\x1b', '␛').matchAll(/␛\[\??\d*[A-Za-z]|[\s\S]/g)) {
      const up = /^␛\[(\d+)A$/.exec(token);
      if (up) row -= Number(up[1]);
      else if (token === '\r') column = 0;
      else if (token === '\n') {
        row += 1;
        column = 0;
        lines[row] ??= '';
      } else if (token === '␛[K') lines[row] = lines[row]!.slice(0, column);
      else if (token === '␛[J') {
        lines.length = row + 1;
        lines[row] = lines[row]!.slice(0, column);
      } else if (token === '␛[2J') lines.splice(0, lines.length, '');
      else if (token === '␛[H') [row, column] = [0, 0];
      else if (token === '␛[?25l' || token === '␛[?25h') continue;
      else if (token.startsWith('␛')) throw new Error(`unknown ${JSON.stringify(token)}`);
      else {
        lines[row] = lines[row]!.slice(0, column).padEnd(column) + token + lines[row]!.slice(column + 1);
        column += 1;
      }
      if (row < 0) throw new Error('above the top');
    }
  };
  return { write, writes, text: () => lines.join('\n') };
}

describe('the terminal screen', () => {
  it('redraws its block in place, each frame in one write', () => {
    const to = terminal();
    const screen = new TerminalScreen(to);
    screen.draw(['aaaa', 'bbbb']);
    screen.draw(['a', 'longer', 'c']);
    expect(to.text()).toBe('a\nlonger\nc\n');
    screen.draw(['only']);
    expect(to.text()).toBe('only\n');
    expect(to.writes).toHaveLength(3);
  });

  it('writes log lines above the block', () => {
    const to = terminal();
    const screen = new TerminalScreen(to);
    screen.log('before anything');
    screen.draw(['table', 'foot']);
    screen.log('first\n');
    screen.log('second');
    screen.draw(['table 2', 'foot']);
    expect(to.text()).toBe('before anything\nfirst\nsecond\ntable 2\nfoot\n');
  });

  it('clears the screen after a change of size', () => {
    const to = terminal();
    const screen = new TerminalScreen(to);
    screen.draw(['wrapped by a narrower window']);
    screen.redraw(['new']);
    expect(to.text()).toBe('new\n');
  });

  it('leaves the last frame and gives the cursor back', () => {
    const to = terminal();
    const screen = new TerminalScreen(to);
    screen.draw(['last']);
    screen.stop();
    screen.stop();
    expect(to.text()).toBe('last\n');
    expect(
      to.writes
        .join('')
        .replaceAll('\x1b', '␛')
        .match(/␛\[\?25[lh]/g),
    ).toEqual(['␛[?25l', '␛[?25h']);
  });
});

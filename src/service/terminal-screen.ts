/**
 * A block of lines at the bottom of a terminal that is redrawn in place, with ordinary lines scrolling above it.
 *
 * Each frame is one write that overwrites the last one line by line, so nothing flickers; what was above stays.
 */

export type TerminalOutput = {
  write(text: string): unknown;
};

const hideCursor = '\x1b[?25l';
const showCursor = '\x1b[?25h';
const eraseToEndOfLine = '\x1b[K';
const eraseBelow = '\x1b[J';

export class TerminalScreen {
  readonly #output: TerminalOutput;
  #frame: readonly string[] = [];
  #started = false;

  constructor(output: TerminalOutput) {
    this.#output = output;
  }

  /** Replaces the block. Lines must not be wider than the terminal. */
  draw(lines: readonly string[]): void {
    const start = this.#started ? '' : hideCursor;
    this.#started = true;
    this.#output.write(
      start + this.#toTop() + lines.map((line) => `${line}${eraseToEndOfLine}\n`).join('') + eraseBelow,
    );
    this.#frame = lines;
  }

  /** Writes a line above the block. */
  log(line: string): void {
    const block = this.#frame.map((each) => `${each}${eraseToEndOfLine}\n`).join('');
    this.#output.write(`${this.#toTop()}${line.replace(/\n$/, '')}${eraseToEndOfLine}\n${block}${eraseBelow}`);
  }

  /** After a change of size nothing is where it was: clears the screen and draws anew. */
  redraw(lines: readonly string[]): void {
    this.#output.write('\x1b[2J\x1b[H');
    this.#frame = [];
    this.draw(lines);
  }

  /** Leaves the last frame where it is and gives the cursor back. */
  stop(): void {
    if (this.#started) this.#output.write(showCursor);
    this.#started = false;
  }

  #toTop(): string {
    return this.#frame.length === 0 ? '' : `\x1b[${this.#frame.length}A\r`;
  }
}

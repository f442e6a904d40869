import {
  isPlanChange,
  type QuickstartFacts,
  type QuickstartRow,
  quickstartLine,
  quickstartRow,
  renderQuickstart,
} from '../service/quickstart-table.js';
import { TerminalScreen } from '../service/terminal-screen.js';
import type { ControllerView } from '../service/view.js';

/** The part of a terminal (or pipe) that is used. */
export type ShowOutput = {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
  write(text: string): unknown;
  on?(event: 'resize', listener: () => void): unknown;
  off?(event: 'resize', listener: () => void): unknown;
};

/** Plan changes that are kept; no terminal shows more. */
const keptRows = 200;
/** Cycles whose load is kept for the line of bars: a day of the trace, at one cycle every 10 s. */
const keptLoads = 8640;

/**
 * Shows the quickstart while it runs: on a terminal a table that is redrawn in place, elsewhere one line for each
 * change of the plan.
 */
export class QuickstartShow {
  readonly #view: ControllerView;
  readonly #output: ShowOutput;
  readonly #color: boolean;
  readonly #screen: TerminalScreen | null;
  readonly #redraw = () => this.#screen?.redraw(this.#frame());
  #facts: QuickstartFacts | null = null;
  #rows: QuickstartRow[] = [];
  readonly #loads: number[] = [];

  constructor(options: { readonly view: ControllerView; readonly output: ShowOutput; readonly color: boolean }) {
    this.#view = options.view;
    this.#output = options.output;
    this.#color = options.color;
    this.#screen = options.output.isTTY === true ? new TerminalScreen(options.output) : null;
    // Cycles before `start` are taken in too: the first plan may be ready before the port is.
    this.#view.onCycle(({ at }) => this.#take(at));
  }

  /** Begins to show. */
  start(facts: QuickstartFacts): void {
    this.#facts = facts;
    if (this.#screen === null) {
      for (const row of this.#rows) this.#output.write(`${quickstartLine(row)}\n`);
      return;
    }
    this.#output.on?.('resize', this.#redraw);
    this.#screen.draw(this.#frame());
  }

  /** Writes a line of text without disturbing the table. */
  log(line: string): void {
    if (this.#screen === null) this.#output.write(line.endsWith('\n') ? line : `${line}\n`);
    else this.#screen.log(line);
  }

  /** Leaves what was shown last. */
  stop(): void {
    if (this.#facts === null) return;
    this.#facts = null;
    this.#output.off?.('resize', this.#redraw);
    this.#screen?.stop();
  }

  #take(atMs: number): void {
    const row = quickstartRow(atMs, this.#view.models(), this.#view.plan());
    const isChange = isPlanChange(this.#rows.at(-1), row);
    this.#rows = isChange ? [...this.#rows, row].slice(-keptRows) : [...this.#rows.slice(0, -1), row];
    if (row.rps !== null) this.#loads.push(row.rps);
    if (this.#loads.length > keptLoads) this.#loads.shift();
    if (this.#facts === null) return;
    if (this.#screen !== null) this.#screen.draw(this.#frame());
    else if (isChange) this.#output.write(`${quickstartLine(row)}\n`);
  }

  #frame(): readonly string[] {
    if (this.#facts === null) return [];
    // Some terminals (a container's, `script`) say 0 for what they do not know.
    const columns = this.#output.columns || 80;
    const rows = this.#output.rows || 24;
    // One line stays free: a terminal scrolls when its last one is written.
    const size = { columns, rows: Math.max(1, rows - 1), color: this.#color };
    return renderQuickstart(this.#facts, this.#rows, { size, loads: this.#loads });
  }
}

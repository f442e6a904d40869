/**
 * Gauges that are read anew for every scrape, as Prometheus text (0.0.4).
 *
 * prom-client keeps the counters, the histogram and the metrics of the process. For these gauges it would hash the labels
 * of every series at every scrape and then spell them out again, several times the work of writing the text
 * (docs/decisions/metrics-exposition.md). Here the labels of a deployment are spelt once a scrape, and lines go straight
 * into a buffer that is kept: tens of thousands of short strings that live until the answer is sent would cost more to
 * collect than to write.
 */

type Labels<Label extends string = string> = Readonly<Record<Label, string>>;

/** Labels that are spelt already, for several metrics with the same ones. */
export class SpeltLabels<Label extends string = string> {
  /** Keeps the type apart from that of other labels; there is nothing in it. */
  declare readonly labels: Labels<Label>;
  readonly text: string;

  constructor(labels: Labels<Label>) {
    let text = '';
    for (const name in labels) text += `${text === '' ? '{' : ','}${name}="${escaped(labels[name])}"`;
    this.text = text === '' ? '' : `${text}}`;
  }
}

/** One metric, with its lines of the scrape that is being written. */
export type GaugeSeries<Label extends string = string> = {
  readonly name: string;
  /** Every series has exactly these; none = one series without labels. */
  readonly labelNames: readonly Label[];
  readonly lines: Lines;
  /** Sums that are not lines yet, by the text of their labels. */
  readonly sums: Map<string, number>;
};

export function gaugeSeries<Label extends string>(
  name: string,
  help: string,
  labelNames: readonly Label[],
): GaugeSeries<Label> {
  const heading = `# HELP ${name} ${help.replace(/\\/g, '\\\\').replace(/\n/g, '\\n')}\n# TYPE ${name} gauge\n`;
  return { name, labelNames, lines: new Lines(heading), sums: new Map() };
}

/**
 * Writes a series, once for each labels: Prometheus refuses a scrape that repeats one. A number that is not known (null,
 * not finite) has none: absence is honest, 0 is not.
 */
export function set<Label extends string>(
  { name, lines }: GaugeSeries<Label>,
  labels: SpeltLabels<NoInfer<Label>> | Labels<NoInfer<Label>>,
  value: number | null,
): void {
  if (value !== null && Number.isFinite(value)) lines.write(`${name}${textOf(labels)} ${value}\n`);
}

/** Adds to a series, which begins at 0. */
export function add<Label extends string>(
  { sums }: GaugeSeries<Label>,
  labels: SpeltLabels<NoInfer<Label>> | Labels<NoInfer<Label>>,
  value: number | null,
): void {
  if (value === null || !Number.isFinite(value)) return;
  const text = textOf(labels);
  sums.set(text, (sums.get(text) ?? 0) + value);
}

/** The text of some metrics, which begin anew with it. One without series keeps its heading. */
export function takeExposition(gauges: Iterable<GaugeSeries>): string {
  const parts: Buffer[] = [];
  for (const { name, lines, sums } of gauges) {
    for (const [labels, value] of sums) lines.write(`${name}${labels} ${value}\n`);
    sums.clear();
    parts.push(lines.written());
    lines.clear();
  }
  return Buffer.concat(parts).toString('utf8');
}

/** Text of one metric; it keeps its room from scrape to scrape. */
class Lines {
  readonly #headingBytes: number;
  #buffer: Buffer;
  #length: number;

  constructor(heading: string) {
    this.#buffer = Buffer.from(heading);
    this.#headingBytes = this.#buffer.length;
    this.#length = this.#headingBytes;
  }

  write(line: string): void {
    // A UTF-16 unit takes at most three bytes.
    const longest = this.#length + 3 * line.length;
    if (longest > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(2 * longest);
      this.#buffer.copy(larger, 0, 0, this.#length);
      this.#buffer = larger;
    }
    this.#length += this.#buffer.write(line, this.#length);
  }

  /** Valid until the next `write`. */
  written(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  clear(): void {
    this.#length = this.#headingBytes;
  }
}

function textOf(labels: SpeltLabels | Labels): string {
  return labels instanceof SpeltLabels ? labels.text : new SpeltLabels(labels).text;
}

function escaped(value: string): string {
  if (!/[\\\n"]/.test(value)) return value;
  return value.replace(/\\/g, '\\\\').replace(/\n/g, '\\n').replace(/"/g, '\\"');
}

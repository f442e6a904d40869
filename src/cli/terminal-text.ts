import { gigabytes } from '../placement/amounts.js';

/**
 * Text for people on a terminal: widths, breaks, colours, numbers. Pure; colours are ANSI codes where asked for.
 */

/** What a piece of text means; how that looks is up to the terminal. */
export type Ink = Readonly<Record<'bold' | 'dim' | 'good' | 'warn' | 'bad', (text: string) => string>>;

const same = (text: string): string => text;
const plainInk: Ink = { bold: same, dim: same, good: same, warn: same, bad: same };
const ansi =
  (open: number, close: number) =>
  (text: string): string =>
    `\u001b[${open}m${text}\u001b[${close}m`;
const colouredInk: Ink = {
  bold: ansi(1, 22),
  dim: ansi(2, 22),
  good: ansi(32, 39),
  warn: ansi(33, 39),
  bad: ansi(31, 39),
};

export function inkOf(color: boolean): Ink {
  return color ? colouredInk : plainInk;
}

/** Tells things apart that mean the same: one colour of several, none of which is that of a warning. */
export type Hue = (text: string) => string;
export const plainHue: Hue = same;
/** Cyan, magenta, blue, green. */
const colouredHues: readonly Hue[] = [ansi(36, 39), ansi(35, 39), ansi(34, 39), ansi(32, 39)];

export function huesOf(color: boolean): readonly Hue[] {
  return color ? colouredHues : [plainHue];
}

/** The end of an id tells deployments apart, so that the middle goes. */
export function cut(text: string, length: number): string {
  const safe = printable(text);
  if (safe.length <= length) return safe;
  const head = Math.floor((length - 1) / 3);
  return `${safe.slice(0, head)}…${safe.slice(safe.length - (length - 1 - head))}`;
}

/** Names come from documents: control characters must not reach the terminal. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is replaced
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '�');
}

/** `9.25 requests/s` */
export function rate(rps: number): string {
  return `${Number(rps.toPrecision(4))} requests/s`;
}

/** USD to the cent. */
export function money(usd: number): string {
  return usd.toFixed(2);
}

/** Penalties are large, and not money that anybody pays: `1,391,051`, and cents only below ten USD. */
export function wholeMoney(usd: number): string {
  return usd < 10 ? money(usd) : Math.round(usd).toLocaleString('en-US');
}

/** As `gigabytes`, but a little is not called nothing: `20 MiB`. */
export function amount(memoryMb: number): string {
  return memoryMb > 0 && memoryMb < 52 ? `${memoryMb} MiB` : gigabytes(memoryMb);
}

/** As `gigabytes` without the unit, for `3.5 of 6.8 GB`. */
export function gigabyteCount(memoryMb: number): string {
  return gigabytes(memoryMb).replace(/ GB$/, '');
}

/** One decimal below 10 %. */
export function percent(share: number): string {
  const value = share * 100;
  return `${value.toFixed(value > 0 && value < 9.95 ? 1 : 0)} %`;
}

/** As `percent`, but a small share is not called none: `0.02 %`. */
export function precisePercent(share: number): string {
  const value = share * 100;
  if (value <= 0 || value >= 0.095) return percent(share);
  return value < 0.001 ? 'less than 0.001 %' : `${Number(value.toPrecision(1))} %`;
}

/** Text broken to a width, its further lines below the first one's beginning. */
export function hang(label: string, text: string, width: number): readonly string[] {
  const indent = ' '.repeat(label.length);
  return wrap(text, width - label.length).map((line, index) => (index === 0 ? label : indent) + line);
}

/** Breaks at spaces; a word that is longer than a line is broken where it must be. */
export function wrap(text: string, width: number): readonly string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of printable(text)
    .split(/\s+/)
    .filter((part) => part !== '')) {
    let rest = word;
    if (line !== '' && line.length + 1 + rest.length > width) {
      lines.push(line);
      line = '';
    }
    while (rest.length > width) {
      lines.push(rest.slice(0, width));
      rest = rest.slice(width);
    }
    line = line === '' ? rest : `${line} ${rest}`;
  }
  return line === '' ? lines : [...lines, line];
}

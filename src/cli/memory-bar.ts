import { type Hue, type Ink, plainHue } from './terminal-text.js';

/**
 * The memory of one GPU as a bar, as htop and nvtop draw it: `[░████████▓▓▒▒····]`. What is too much stands behind the
 * bracket that closes the memory there is: `[████████▓▓▓▓▓▓▓▓]▓▓▓`.
 */

/** A part of what is used: a service, or others. */
export type BarPart = {
  readonly memoryMb: number;
  readonly mark: BarMark;
};

/** How one part looks, in the bar and beside its name. */
export type BarMark = { readonly fill: string; readonly hue: Hue };

export type BarSize = {
  /** Cells for all the memory of the GPU. */
  readonly cells: number;
  /** Most cells behind the bracket. */
  readonly overCells: number;
};

/** What nobody uses. */
const freeFill = '·';

/** Stands behind cells that are more than there is room for. */
const cutFill = '»';

/** Differ without colour, which not everybody sees. */
const fills = ['█', '▓', '▒', '▚'] as const;

/** What others use: lighter than every service. */
export const othersMark: BarMark = { fill: '░', hue: plainHue };

/** The mark of a service by its place on its GPU: once the fills are through, the colours go on by one. */
export function markOf(place: number, hues: readonly Hue[]): BarMark {
  const round = Math.floor(place / fills.length);
  return { fill: fills[place % fills.length]!, hue: hues[(place + round) % hues.length] ?? plainHue };
}

/**
 * @param memoryMb of the GPU, above 0
 * @returns the bar, padded to its full width where others need room behind the bracket
 */
export function memoryBar(options: {
  readonly memoryMb: number;
  readonly parts: readonly BarPart[];
  readonly size: BarSize;
  readonly ink: Ink;
}): string {
  const { memoryMb, parts, size, ink } = options;
  const used = parts.reduce((sum, part) => sum + part.memoryMb, 0);
  // A MiB too much is seen, and so is a MiB that is free.
  const least = used > memoryMb ? size.cells + 1 : Math.min(parts.length, size.cells - 1);
  const most = used < memoryMb ? size.cells - 1 : Number.POSITIVE_INFINITY;
  const marks = share(parts, Math.max(least, Math.min(most, Math.round((used / memoryMb) * size.cells))));
  const inside = marks.slice(0, size.cells);
  const outside = marks.slice(size.cells);
  const isCut = outside.length > size.overCells;
  const shown = isCut ? outside.slice(0, size.overCells - 1) : outside;
  const free = ink.dim(freeFill.repeat(size.cells - inside.length));
  const over = shown.length === 0 ? '' : ink.bad(`${shown.map(({ fill }) => fill).join('')}${isCut ? cutFill : ''}`);
  const padding = ' '.repeat(size.overCells - shown.length - (isCut ? 1 : 0));
  return `[${painted(inside)}${free}]${over}${padding}`;
}

/** Cells of the parts in their order, in proportion; each part that is something has one where there are enough. */
function share(parts: readonly BarPart[], cells: number): readonly BarMark[] {
  const some = parts.filter((part) => part.memoryMb > 0);
  const total = some.reduce((sum, part) => sum + part.memoryMb, 0);
  if (total === 0 || cells === 0) return [];
  const counts = some.map((part) => (part.memoryMb / total) * cells);
  const whole = counts.map((count) => (some.length <= cells ? Math.max(1, Math.floor(count)) : Math.floor(count)));
  // Largest remainders get what rounding down left; what the small ones got too much, the largest give.
  let left = cells - whole.reduce((sum, count) => sum + count, 0);
  const byRemainder = counts
    .map((_, i) => i)
    .sort((a, b) => counts[b]! - whole[b]! - (counts[a]! - whole[a]!) || a - b);
  for (let i = 0; left > 0; i = (i + 1) % byRemainder.length) {
    whole[byRemainder[i]!]! += 1;
    left -= 1;
  }
  while (left < 0) {
    whole[whole.indexOf(Math.max(...whole))]! -= 1;
    left += 1;
  }
  return some.flatMap((part, i) => Array.from({ length: whole[i]! }, () => part.mark));
}

/** Runs of one mark are painted once: an escape for each cell would make a page of 64 GPUs slow to scroll. */
function painted(marks: readonly BarMark[]): string {
  let text = '';
  for (let at = 0; at < marks.length; ) {
    const mark = marks[at]!;
    let end = at;
    while (end < marks.length && marks[end] === mark) end += 1;
    text += mark.hue(mark.fill.repeat(end - at));
    at = end;
  }
  return text;
}

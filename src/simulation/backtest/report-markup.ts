/** Text as markup: names come from files and configurations, and must stay names. Pure. */

/** Characters that no markup may hold, whatever way they are written, and those that turn the rest of a line around. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it is about
const notText = /[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff]|\p{Surrogate}/gu;

/** For text and for values of attributes in double quotes. */
export function escaped(text: string): string {
  return text
    .replace(notText, '\ufffd')
    .replace(/&/g, '&amp;')
    .replace(/</g, '&lt;')
    .replace(/>/g, '&gt;')
    .replace(/"/g, '&quot;')
    .replace(/'/g, '&#39;');
}

/** Cuts a name that would run out of its place; the end tells deployments and files apart. */
export function cutName(name: string, most: number): string {
  const characters = [...name];
  if (characters.length <= most) return name;
  const head = Math.floor((most - 1) / 3);
  return `${characters.slice(0, head).join('')}…${characters.slice(characters.length - (most - 1 - head)).join('')}`;
}

/** A coordinate: a tenth of a pixel is finer than any screen shows. */
export function px(value: number): number {
  return Math.round(value * 10) / 10;
}

export function svgText(options: {
  readonly x: number;
  readonly y: number;
  readonly content: string;
  readonly className?: string;
  readonly anchor?: 'start' | 'middle' | 'end';
  readonly turn?: boolean;
}): string {
  const { x, y, content, className, anchor, turn = false } = options;
  const attributes = [
    ...(turn ? [`transform="translate(${px(x)} ${px(y)}) rotate(-90)"`] : [`x="${px(x)}" y="${px(y)}"`]),
    ...(className === undefined ? [] : [`class="${className}"`]),
    ...(anchor === undefined ? [] : [`text-anchor="${anchor}"`]),
  ];
  return `<text ${attributes.join(' ')}>${escaped(content)}</text>`;
}

export function svgRule(rule: {
  readonly from: readonly [number, number];
  readonly to: readonly [number, number];
  readonly className: string;
}): string {
  const { from, to, className } = rule;
  return `<path class="${className}" d="M${px(from[0])} ${px(from[1])}L${px(to[0])} ${px(to[1])}"/>`;
}

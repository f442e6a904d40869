/**
 * JSON that a tool prints between other lines: rocm-smi and xpu-smi write warnings before it, to the same output.
 */

/** The first line that begins an object or an array, to the end of it; undefined where none of them is JSON. */
export function jsonIn(text: string): unknown {
  const whole = parsed(text);
  if (whole !== undefined) return whole;
  let tries = 0;
  for (const start of text.matchAll(/^\s*[[{]/gm)) {
    // Lines of a broken document begin with brackets too; a few warnings do (`[WARN] …`).
    if (++tries > 20) break;
    const rest = text.slice(start.index);
    const value = parsed(rest) ?? parsed(rest.slice(0, Math.max(rest.lastIndexOf('}'), rest.lastIndexOf(']')) + 1));
    if (value !== undefined) return value;
  }
  return undefined;
}

function parsed(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return value !== null && typeof value === 'object' ? value : undefined;
  } catch {
    return undefined;
  }
}

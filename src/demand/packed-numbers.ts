/**
 * Lists of numbers as text: little-endian bytes in base64, an eighth to a third of what JSON takes, and the same numbers
 * again after any number of turns.
 */

/** Characters that `String.fromCharCode` takes at once: more arguments overflow the stack. */
const charactersAtOnce = 8192;

export function packUint16(values: Uint16Array): string {
  const view = new DataView(new ArrayBuffer(2 * values.length));
  values.forEach((value, i) => {
    view.setUint16(2 * i, value, true);
  });
  return toBase64(new Uint8Array(view.buffer));
}

/** @returns null where the text is none of `packUint16` */
export function unpackUint16(text: string): Uint16Array | null {
  const bytes = fromBase64(text);
  if (bytes === null || bytes.length % 2 !== 0) return null;
  const view = new DataView(bytes.buffer);
  return Uint16Array.from({ length: bytes.length / 2 }, (_, i) => view.getUint16(2 * i, true));
}

export function packFloat64(values: Float64Array): string {
  const view = new DataView(new ArrayBuffer(8 * values.length));
  values.forEach((value, i) => {
    view.setFloat64(8 * i, value, true);
  });
  return toBase64(new Uint8Array(view.buffer));
}

/** @returns null where the text is none of `packFloat64`, or holds anything but `length` finite numbers */
export function unpackFloat64(text: string, length: number): Float64Array | null {
  const bytes = fromBase64(text);
  if (bytes === null || bytes.length !== 8 * length) return null;
  const view = new DataView(bytes.buffer);
  const values = Float64Array.from({ length }, (_, i) => view.getFloat64(8 * i, true));
  return values.every(Number.isFinite) ? values : null;
}

function toBase64(bytes: Uint8Array): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += charactersAtOnce) {
    text += String.fromCharCode(...bytes.subarray(at, at + charactersAtOnce));
  }
  return btoa(text);
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> | null {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
}

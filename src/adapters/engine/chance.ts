/**
 * Chance without a sequence: a number in [0, 1) for each seed and key, the same on every machine and in any order.
 *
 * Requests arrive in an order that no seed governs; what happens to the n-th of them, and its m-th word, still is
 * settled by the seed. The mixing is that of MurmurHash3's finalizer, after each key.
 */
export function chanceOf(seed: number, key: number, subkey = 0): number {
  return mix(mix(mix(seed) ^ (key | 0)) ^ (subkey | 0)) / 2 ** 32;
}

/** A whole number in [0, 2^32) of a seed and a key, itself good as a seed. */
export function seedOf(seed: number, key: number): number {
  return mix(mix(seed) ^ (key | 0));
}

/** FNV-1a of a text's UTF-16 units. */
export function hashText(text: string, start = 0x811c9dc5): number {
  let hash = start | 0;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

function mix(value: number): number {
  let hash = (value + 0x9e3779b9) | 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

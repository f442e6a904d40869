/**
 * Chance from a seed, the same on every machine: xoshiro128** (Blackman and Vigna, "Scrambled linear pseudorandom number
 * generators", 2021), its state filled by SplitMix32. Period 2^128 − 1: no run of requests or words comes near it.
 */
export type RandomSource = {
  /** Evenly in [0, 1), 53 bits. */
  unit(): number;
  /** Evenly among 0 … below − 1; below is a whole number from 1 to 2^32. */
  whole(below: number): number;
  /** Exponential with mean 1, always > 0 and finite. */
  exponential(): number;
};

/** @param seed any finite number; its 64 bits matter, so that 1, 1.5 and −1 differ. */
export function randomFrom(seed: number): RandomSource {
  const bits = new DataView(new ArrayBuffer(8));
  bits.setFloat64(0, seed);
  const fill = splitMix32(bits.getUint32(0) ^ Math.imul(bits.getUint32(4), 0x9e3779b1));
  let a = fill();
  let b = fill();
  let c = fill();
  // The one forbidden state is all zeros.
  let d = fill() | 1;
  const next = (): number => {
    const product = Math.imul(b, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9);
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = (d << 11) | (d >>> 21);
    return result >>> 0;
  };
  const unit = () => (next() >>> 5) * 2 ** -27 + (next() >>> 6) * 2 ** -53;
  return {
    unit,
    whole: (below) => Math.floor((next() / 2 ** 32) * below),
    exponential: () => -Math.log(1 - unit()) || 2 ** -54,
  };
}

function splitMix32(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return mixed ^ (mixed >>> 15);
  };
}

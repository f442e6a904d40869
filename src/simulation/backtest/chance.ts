import { type RandomSource, randomFrom } from '../../profiling/random.js';

/**
 * Chance that belongs to a thing: the same seed and name give the same draws in every run, whatever else is drawn.
 */
export function chanceOf(seed: number, name: string): RandomSource {
  // Two of FNV-1a with different offsets: 53 bits, and the seed's own by its text.
  let low = 0x811c9dc5;
  let high = 0x050c5d1f;
  const text = `${seed} ${name}`;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    low = Math.imul(low ^ code, 0x01000193);
    high = Math.imul(high ^ code, 0x01000193) ^ (low >>> 15);
  }
  return randomFrom((high >>> 11) * 2 ** 32 + (low >>> 0));
}

/** Standard normal (Box and Muller). */
export function normalFrom(chance: RandomSource): number {
  return Math.sqrt(2 * chance.exponential()) * Math.cos(2 * Math.PI * chance.unit());
}

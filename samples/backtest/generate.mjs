#!/usr/bin/env node
// Writes trace.csv.gz: two hours of a chat service whose rate climbs to a peak, with two bursts. Everything by chance is
// settled by the seed, so the file is the same wherever it is made.
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const seconds = 2 * 3600;

/** Requests a second: a hill over the two hours, and two bursts of three minutes. */
function rateAt(second) {
  const hill = 0.8 + 1.6 * Math.sin((Math.PI * second) / seconds) ** 2;
  const inBurst = [3300, 5400].some((begin) => second >= begin && second < begin + 180);
  return inBurst ? 1.8 * hill : hill;
}

/** Mulberry32: small, and the same everywhere. */
function chanceFrom(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const chance = chanceFrom(20260105);
const normal = () => Math.sqrt(-2 * Math.log(1 - chance())) * Math.cos(2 * Math.PI * chance());
/** Tokens, log-normal around the median. */
const tokens = (median, spread, most) => Math.max(1, Math.min(most, Math.round(median * Math.exp(spread * normal()))));

const rows = [];
const gapAt = (second) => -Math.log(1 - chance()) / rateAt(second);
for (let at = gapAt(0); at < seconds; at += gapAt(at)) {
  // Three in ten bring documents: long prompts, short answers.
  const isLong = chance() < 0.3;
  const input = isLong ? tokens(2500, 0.5, 12000) : tokens(350, 0.8, 4000);
  const output = isLong ? tokens(90, 0.6, 1000) : tokens(180, 0.7, 1500);
  rows.push(`${Math.round(at * 1000)},${input},${output}`);
}

const text = `timestamp_ms,input_tokens,output_tokens\n${rows.join('\n')}\n`;
writeFileSync(fileURLToPath(new URL('trace.csv.gz', import.meta.url)), gzipSync(text, { level: 9 }));
process.stdout.write(`${rows.length} requests\n`);

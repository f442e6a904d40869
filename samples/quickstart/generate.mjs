// Makes the data of the quickstart: a day of requests, and the profiles of its three deployments. The same seeds give
// the same bytes on every machine.
//
//   node samples/quickstart/generate.mjs [--only trace|profiles] [--out FOLDER]
//
// The trace comes from a seeded generator. The profiles are what `gpumix benchmark --simulate` measures on the simulated
// engine, as `profiles/simulated` are: they need a build (`npm run build`) and take a minute or two.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '..', '..');

// ── Profiles ────────────────────────────────────────────────────────────────────────────────────────────────────────

const model = 'qwen3-14b';

/** By deployment: what its replicas run on. */
const replicas = {
  'qwen3-14b-l4': { gpu: 'L4', gpus: 2 },
  'qwen3-14b-rtx': { gpu: 'RTX-PRO-6000', gpus: 1 },
  'qwen3-14b-h100': { gpu: 'H100', gpus: 1 },
};

/** Seconds at that percentile: the `slo` of gpumix.yaml. */
const slo = { ttft: 2, tpot: 0.1, percentile: 99 };

/** Lengths of the grid [tokens]; the gaps between them are interpolated where they are planned with. */
const inputs = '128,512,2048,4096,8192,12288';
const outputs = '64,256,1024,4096';

/** 2026-11-21, midnight UTC: profiles are of one date, so that the same version gives the same bytes. */
const dateSeconds = 1_795_219_200;

function makeProfiles(folder) {
  const scratch = mkdtempSync(join(tmpdir(), 'gpumix-quickstart-'));
  mkdirSync(join(folder, 'profiles'), { recursive: true });
  try {
    for (const [deployment, { gpu, gpus }] of Object.entries(replicas)) {
      const results = `${deployment}.jsonl`;
      const replica = ['--model', model, '--gpu', gpu, '--gpus', `${gpus}`];
      const lengths = ['--inputs', inputs, '--outputs', outputs, '--requests', '200'];
      const { ttft, tpot, percentile } = slo;
      const limits = ['--slo-ttft', `${ttft}`, '--slo-tpot', `${tpot}`, '--percentile', `${percentile}`];
      gpumix(['benchmark', '--simulate', ...replica, ...lengths, ...limits, '-o', results], scratch);
      const facts = ['--model', model, '--gpu-type', gpu, '--gpus-per-replica', `${gpus}`, '--cost', cost(gpu, gpus)];
      const objective = ['--ttft', `${ttft}`, '--tpot', `${tpot}`, '--percentile', `${percentile}`];
      const output = ['-o', join(folder, 'profiles', `${deployment}.json`)];
      gpumix(['gen-profile', deployment, '--benchmark', results, ...objective, ...facts, ...output], scratch);
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** The list price of the catalogue [USD/hour]. */
function cost(gpu, gpus) {
  const { gpus: entries } = JSON.parse(readFileSync(join(root, 'profiles', 'gpus.json'), 'utf8'));
  const { usdPerGpuHour } = entries.find(({ name }) => name === gpu);
  return `${Number((usdPerGpuHour * gpus).toFixed(6))}`;
}

function gpumix(args, cwd) {
  execFileSync(process.execPath, [join(root, 'dist', 'cli', 'main.js'), ...args], {
    cwd,
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, SOURCE_DATE_EPOCH: `${dateSeconds}` },
  });
}

// ── Trace ───────────────────────────────────────────────────────────────────────────────────────────────────────────

const traceSeed = 20_261_120;
const startHour = 8;
const spanHours = 24;

/** Chat requests/s by hour of the day, straight between the points. */
const chatCurve = [
  [8, 2.8],
  [9, 4],
  [10, 5.4],
  [11, 6.2],
  [12.5, 5.2],
  [14, 6.4],
  [16.5, 5.8],
  [18, 4.4],
  [20, 3.2],
  [22, 2],
  [24, 0.8],
  [26, 0.4],
  [29, 0.3],
  [30, 0.7],
  [31, 1.6],
  [32, 2.8],
];

/** Times of more chat: [start hour, minutes, how many times the curve]. */
const chatSurges = [
  [15, 60, 1.35],
  [20.5, 60, 1.4],
];

/** Requests/s about long documents, while people work. */
const documentCurve = [
  [8, 0.25],
  [9, 0.4],
  [17, 0.4],
  [19, 0.15],
  [22, 0],
  [31, 0],
  [32, 0.25],
];

/** Jobs that summarise long documents: [start hour, minutes, requests/s]. */
const documentJobs = [
  [10.5, 75, 0.9],
  [13, 60, 0.7],
  [16.5, 75, 0.9],
  [23, 60, 0.5],
];

/** Surges and jobs come and go over so many minutes: they are the work of many people. */
const rampMinutes = 20;

/** Lengths are lognormal [median, sigma of the logarithm], within what the application lets through. */
const chatLengths = { input: [1100, 0.5, 16, 3000], output: [700, 0.6, 40, 3000] };
const documentLengths = { input: [7200, 0.25, 4000, 11_000], output: [420, 0.4, 40, 2000] };

/** Steps of the time stamps [ms], and significant digits of the lengths: coarse, so that the file compresses well. */
const timeStepMs = 1000;
const lengthDigits = 2;

/** Uniform numbers in [0, 1) from a 32-bit state: a Weyl sequence through an avalanche of shifts and products. */
function uniformNumbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
    return ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 32;
  };
}

/** Polar method: only logarithm and square root, which every Node.js computes alike (sine and cosine it does not). */
function normal(uniform) {
  for (;;) {
    const x = 2 * uniform() - 1;
    const y = 2 * uniform() - 1;
    const square = x * x + y * y;
    if (square > 0 && square < 1) return x * Math.sqrt((-2 * Math.log(square)) / square);
  }
}

function length([median, sigma, smallest, largest], uniform) {
  const tokens = Number((median * Math.exp(sigma * normal(uniform))).toPrecision(lengthDigits));
  return Math.min(largest, Math.max(smallest, Math.round(tokens)));
}

/** The value of a curve at an hour. */
function valueAt(curve, hour) {
  const next = curve.findIndex(([at]) => at > hour);
  const [fromHour, fromValue] = curve[next - 1];
  const [toHour, toValue] = curve[next];
  return fromValue + ((toValue - fromValue) * (hour - fromHour)) / (toHour - fromHour);
}

/** How much of some events there is at an hour: the sum of what they say, each in the share to which it has come. */
function eventsAt(events, hour, amountOf) {
  return events.reduce((sum, event) => {
    const [start, minutes] = event;
    const begun = ((hour - start) * 60) / rampMinutes;
    const left = (minutes - (hour - start) * 60) / rampMinutes;
    return sum + Math.max(0, Math.min(1, begun, left)) * amountOf(event);
  }, 0);
}

function chatRps(hour) {
  return valueAt(chatCurve, hour) * (1 + eventsAt(chatSurges, hour, ([, , factor]) => factor - 1));
}

function documentRps(hour) {
  return valueAt(documentCurve, hour) + eventsAt(documentJobs, hour, ([, , rps]) => rps);
}

/** Poisson arrivals of a rate that changes: candidates at the largest rate, kept in the share of the moment. */
function arrivals(rpsAt, largestRps, lengths, uniform) {
  const requests = [];
  for (let seconds = 0; ; ) {
    seconds -= Math.log(1 - uniform()) / largestRps;
    if (seconds >= spanHours * 3600) return requests;
    if (uniform() * largestRps >= rpsAt(startHour + seconds / 3600)) continue;
    const atMs = Math.floor((seconds * 1000) / timeStepMs) * timeStepMs;
    requests.push([atMs, length(lengths.input, uniform), length(lengths.output, uniform)]);
  }
}

function traceText() {
  const chat = arrivals(chatRps, 16, chatLengths, uniformNumbers(traceSeed));
  const documents = arrivals(documentRps, 4, documentLengths, uniformNumbers(traceSeed + 1));
  // Requests of the same moment have no order: sorted by their lengths they compress better.
  const rows = [...chat, ...documents].sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);
  return `timestamp_ms,input_tokens,output_tokens\n${rows.map((row) => row.join(',')).join('\n')}\n`;
}

// ── Files ───────────────────────────────────────────────────────────────────────────────────────────────────────────

const flag = (name) => {
  const place = process.argv.indexOf(name);
  return place < 0 ? undefined : process.argv[place + 1];
};
const folder = resolve(flag('--out') ?? here);
const only = flag('--only') ?? 'all';
mkdirSync(folder, { recursive: true });
if (only !== 'profiles') writeFileSync(join(folder, 'trace.csv.gz'), gzipSync(traceText(), { level: 9 }));
if (only !== 'trace') makeProfiles(folder);

// Makes the data of the quickstart: three profiles and a day of requests. Plain Node, no dependencies, no clock:
// the same seed gives the same bytes on every machine.
//
//   node samples/quickstart/generate.mjs [--out FOLDER]
//
// Nothing here was measured. The profiles come from a simple roofline formula over data sheet figures, the trace from
// a seeded generator. They show how gpumix decides; they do not say what a GPU can do.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

// ── Profiles ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A dense model of 14e9 parameters in 16-bit weights, with grouped-query attention. */
const model = { parameters: 14e9, weightBytes: 28e9, kvBytesPerToken: 2 * 48 * 8 * 128 * 2 };

const slo = { ttftSeconds: 2, tpotSeconds: 0.1 };

/** Of one replica: peak dense 16-bit compute [FLOP/s], memory bandwidth [B/s], memory [B], price [USD/hour]. */
const replicas = [
  {
    deployment: 'chat-14b-l4',
    gpuType: 'L4',
    gpus: 2,
    flops: 2 * 121e12,
    bandwidth: 2 * 300e9,
    memory: 2 * 24e9,
    usd: 1.6,
  },
  {
    deployment: 'chat-14b-a100',
    gpuType: 'A100-80GB',
    gpus: 1,
    flops: 312e12,
    bandwidth: 2039e9,
    memory: 80e9,
    usd: 3.4,
  },
  {
    deployment: 'chat-14b-h100',
    gpuType: 'H100-80GB',
    gpus: 1,
    flops: 989e12,
    bandwidth: 3350e9,
    memory: 80e9,
    usd: 9.8,
  },
];

/** Shares of the peak that engines commonly reach, and what two GPUs lose by talking to each other. */
const computeEfficiency = 0.5;
const bandwidthEfficiency = 0.8;
const pairEfficiency = 0.85;
/** Share of the memory that weights and KV cache may fill. */
const usableMemory = 0.9;
/** Requests that an engine runs at once, whatever the memory. */
const largestBatch = 64;
/** Share of a replica's time that may be filled while random arrivals still meet the SLO, and how much longer than an
 * empty replica's the first token then takes. */
const busyShare = 0.7;
const queueingFactor = 2.5;

const outputAxis = [32, 64, 128, 256, 512, 1024, 2048, 4096];
const inputAxis = [64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384];

/**
 * One cell of the grid: requests/s of one replica within the SLO, and the mean times there.
 *
 * Prefill is bound by compute: 2 FLOP per parameter and token. A decode step is bound by bandwidth: it reads the
 * weights once and the KV cache of every request in the batch. A request then takes `prefill + output × step / batch`
 * seconds of the replica's time, at the largest batch that memory and the time per token allow.
 */
function cell(replica, inputTokens, outputTokens) {
  const scale = replica.gpus > 1 ? pairEfficiency : 1;
  const prefillSeconds = (2 * model.parameters * inputTokens) / (replica.flops * computeEfficiency * scale);
  const ttftSeconds = queueingFactor * prefillSeconds;
  const bytesPerSecond = replica.bandwidth * bandwidthEfficiency * scale;
  const kvBytes = (inputTokens + outputTokens / 2) * model.kvBytesPerToken;
  const stepSeconds = (batch) => (model.weightBytes + batch * kvBytes) / bytesPerSecond;
  const batchOfMemory = (replica.memory * usableMemory - model.weightBytes) / kvBytes;
  const batchOfTpot = (slo.tpotSeconds * bytesPerSecond - model.weightBytes) / kvBytes;
  const batch = Math.floor(Math.min(largestBatch, batchOfMemory, batchOfTpot));
  if (ttftSeconds > slo.ttftSeconds || batch < 1) return { rps: 0, e2eSeconds: 0, ttftSeconds: 0 };
  const busySeconds = prefillSeconds + (outputTokens * stepSeconds(batch)) / batch;
  return {
    rps: busyShare / busySeconds,
    e2eSeconds: ttftSeconds + outputTokens * stepSeconds(batch),
    ttftSeconds,
  };
}

function profile(replica) {
  const cells = outputAxis.map((outputTokens) =>
    inputAxis.map((inputTokens) => cell(replica, inputTokens, outputTokens)),
  );
  const matrix = (pick) => cells.map((row) => row.map((item) => Number(pick(item).toPrecision(5))));
  return {
    gpu: replica.deployment,
    cost: replica.usd,
    indexes: [outputAxis, inputAxis],
    tputs: matrix((item) => item.rps),
    e2e: matrix((item) => item.e2eSeconds),
    ttft: matrix((item) => item.ttftSeconds),
    created: 1_767_225_600,
    slos: { percentile: 99, ttft: slo.ttftSeconds, tpot: slo.tpotSeconds },
    gpu_type: replica.gpuType,
    gpus_per_replica: replica.gpus,
    provenance: {
      kind: 'illustrative',
      statement: 'Computed from data sheet figures by a roofline formula; not measured on any GPU.',
      generator: 'samples/quickstart/generate.mjs',
      assumptions: {
        model,
        replica: {
          gpus: replica.gpus,
          flops: replica.flops,
          bandwidthBytesPerSecond: replica.bandwidth,
          memoryBytes: replica.memory,
        },
        computeEfficiency,
        bandwidthEfficiency,
        pairEfficiency: replica.gpus > 1 ? pairEfficiency : 1,
        usableMemory,
        largestBatch,
        busyShare,
        queueingFactor,
      },
    },
  };
}

/** One matrix row a line, as the formatter of this project leaves it, so that a profile can be read by eye. */
function profileText(document) {
  const list = (values) => `[${values.join(', ')}]`;
  const fields = Object.entries(document).map(([key, value]) => {
    if (key === 'indexes') return `  "indexes": ${list(value.map(list))}`;
    if (Array.isArray(value)) return `  "${key}": [\n    ${value.map(list).join(',\n    ')}\n  ]`;
    return `  "${key}": ${JSON.stringify(value, null, 2).replaceAll('\n', '\n  ')}`;
  });
  return `{\n${fields.join(',\n')}\n}\n`;
}

// ── Trace ───────────────────────────────────────────────────────────────────────────────────────────────────────────

const traceSeed = 20_261_120;
const startHour = 8;
const spanHours = 24;

/** Chat requests/s by hour of the day, straight between the points. */
const chatCurve = [
  [8, 2.4],
  [8.5, 4.5],
  [9, 5.8],
  [10, 6.6],
  [11, 7],
  [12.5, 5.5],
  [14, 7.2],
  [16.5, 6.4],
  [18, 4.4],
  [20, 3.4],
  [22, 2],
  [24, 0.8],
  [26, 0.4],
  [29, 0.3],
  [30, 0.6],
  [31, 1.2],
  [32, 2.4],
];

/** Minutes of much chat at once: [start hour, minutes, how many times the curve]. */
const chatBursts = [
  [9.6, 12, 1.6],
  [15.5, 10, 1.7],
  [21, 15, 1.8],
];

/** Requests/s about long documents, while people work. */
const documentCurve = [
  [8, 0.3],
  [9, 0.4],
  [17, 0.4],
  [19, 0.15],
  [22, 0],
  [31, 0],
  [32, 0.3],
];

/** Jobs that summarise long documents: [start hour, minutes, requests/s]. */
const documentJobs = [
  [8.75, 20, 1.2],
  [10.5, 30, 2],
  [13, 25, 1.5],
  [16, 30, 2.2],
  [18.5, 20, 1.2],
  [22.5, 30, 1],
];

/**
 * Lengths are lognormal [median, sigma of the logarithm], within what the application lets through. Answers are long: the
 * model thinks before it answers.
 */
const chatLengths = { input: [380, 0.8, 16, 2500], output: [1100, 0.6, 40, 4000] };
const documentLengths = { input: [7200, 0.25, 3000, 11_000], output: [420, 0.4, 40, 2000] };

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

/** The one of some events that lasts at an hour. */
function eventAt(events, hour) {
  return events.find(([start, minutes]) => hour >= start && hour < start + minutes / 60);
}

function chatRps(hour) {
  return valueAt(chatCurve, hour) * (eventAt(chatBursts, hour)?.[2] ?? 1);
}

function documentRps(hour) {
  return valueAt(documentCurve, hour) + (eventAt(documentJobs, hour)?.[2] ?? 0);
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

const here = dirname(fileURLToPath(import.meta.url));
const outFlag = process.argv.indexOf('--out');
const folder = outFlag < 0 ? here : process.argv[outFlag + 1];
mkdirSync(join(folder, 'profiles'), { recursive: true });
for (const replica of replicas) {
  writeFileSync(join(folder, 'profiles', `${replica.deployment}.json`), profileText(profile(replica)));
}
writeFileSync(join(folder, 'trace.csv.gz'), gzipSync(traceText(), { level: 9 }));

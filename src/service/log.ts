import { type DestinationStream, destination, type Logger as PinoLogger, pino } from 'pino';
import type { DecisionRecord } from './view.js';

/** Structured logs: one JSON line each, or coloured lines on a terminal. Secrets never reach a line. */
export type Logger = Pick<PinoLogger, 'debug' | 'info' | 'warn' | 'error' | 'fatal'>;

export type LoggerOptions = {
  /** Least severe level that is written. */
  readonly level: PinoLogger['level'];
  /** Where lines go: a file descriptor, or something with `write(line)`. */
  readonly to: 1 | 2 | DestinationStream;
  /** For people: pino-pretty instead of JSON. */
  readonly pretty: boolean;
  /** With `pretty`. */
  readonly color?: boolean;
};

/** Keys whose values are never written, wherever they stand. */
const secretKeys = ['password', 'sentinelPassword', 'token', 'authorization', 'secret', 'apiKey'];

/** Secrets inside texts: `redis://user:secret@host`, `Bearer eyJ…`. Driver errors like to repeat them. */
const urlPassword = /([a-z][a-z0-9+.-]*:\/\/[^\s"'/@:]*:)[^\s"'/]+(?=@)/gi;
const queryPassword = /([?&]sentinelPassword=)[^\s"'&]+/gi;
const bearerToken = /(Bearer )[\w.~+/-]+=*/gi;
/** Not the words "basic authentication": what is encoded has a capital, a digit or a filler. */
const basicCredentials = /\b([Bb]asic )(?=[A-Za-z0-9+/]*[A-Z0-9=+/])[A-Za-z0-9+/]{4,}={0,2}/g;

export async function createLogger(options: LoggerOptions): Promise<PinoLogger> {
  const stream = typeof options.to === 'number' ? destination({ dest: options.to, sync: true }) : options.to;
  return pino(
    {
      level: options.level,
      base: null,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: secretKeys.flatMap((key) => [key, `*.${key}`, `*.*.${key}`]), censor: '[redacted]' },
      hooks: { streamWrite: withoutSecrets },
    },
    options.pretty ? await prettyStream(stream, options.color ?? false) : stream,
  );
}

/** Masks passwords in URLs, bearer tokens and Basic credentials anywhere in a text. */
export function withoutSecrets(text: string): string {
  return text
    .replace(urlPassword, '$1[redacted]')
    .replace(queryPassword, '$1[redacted]')
    .replace(bearerToken, '$1[redacted]')
    .replace(basicCredentials, '$1[redacted]');
}

async function prettyStream(stream: DestinationStream, color: boolean): Promise<DestinationStream> {
  const { default: pretty } = await import('pino-pretty');
  // The details of a line repeat what its message says; they are for machines, which read the JSON.
  const format = pretty.prettyFactory({ translateTime: 'SYS:HH:MM:ss', hideObject: true, colorize: color });
  return { write: (line: string) => stream.write(format(line)) };
}

/** Most changes that a line names before it counts the rest. */
const namedChanges = 4;

/**
 * What changed and why, in one line:
 * `llama: default/llama-a100 1 → 2, default/llama-l20 3 → 0 at 12.4 rps, 7.34 USD/h (optimal): default/llama-a100: …reason…`
 */
export function decisionLine(decision: DecisionRecord): string {
  const { model, changes, rps, usdPerHour, status, heldReason } = decision;
  const named = changes.slice(0, namedChanges).map(({ deployment, from, to }) => {
    return `${deployment} ${from ?? '?'} → ${to ?? '?'}`;
  });
  if (changes.length > namedChanges) named.push(`${changes.length - namedChanges} more`);
  const what = named.length === 0 ? 'no replicas change' : named.join(', ');
  const why = status === 'held' ? (heldReason ?? 'unknown') : reasonsOf(changes);
  return `${model}: ${what} at ${round(rps)} rps, ${round(usdPerHour)} USD/h (${status})${why === '' ? '' : `: ${why}`}`;
}

/** Most reasons in a line: each is a sentence. */
const namedReasons = 2;

/** Each reason says whose it is where more than one deployment changes. */
function reasonsOf(changes: DecisionRecord['changes']): string {
  if (changes.length === 1) return changes[0]!.reason;
  const deploymentsByReason = new Map<string, string[]>();
  for (const { deployment, reason } of changes.slice(0, namedChanges)) {
    deploymentsByReason.set(reason, [...(deploymentsByReason.get(reason) ?? []), deployment]);
  }
  return [...deploymentsByReason]
    .slice(0, namedReasons)
    .map(([reason, of]) => `${of.join(', ')}: ${reason}`)
    .join(' ');
}

/** Writes one decision: a held plan is a warning. */
export function logDecision(logger: Logger, decision: DecisionRecord): void {
  const level = decision.status === 'held' ? 'warn' : 'info';
  logger[level]({ decision }, decisionLine(decision));
}

function round(value: number): string {
  return String(Math.round(value * 100) / 100);
}

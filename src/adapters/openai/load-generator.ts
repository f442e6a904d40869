import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { RequestOutcome, ScheduledRequest } from '../../profiling/measurement.js';
import { type CountedPrompt, promptSource, wordsFor } from '../../profiling/prompts.js';
import { tokenGaps } from './answer.js';
import type { Exchange } from './exchange.js';
import { type OpenAiServer, secondsNow } from './server.js';

/** A run: what became of every request that was sent, in the order of the schedule. */
export type LoadRun = {
  readonly outcomes: readonly RequestOutcome[];
  /** Why it was ended early; null where the whole schedule was sent. Goes into MeasurementPlan.aborted. */
  readonly aborted: string | null;
  /** Goes into MeasurementPlan.generatorFault. */
  readonly generatorFault: string | null;
  /** Goes into MeasurementPlan.generatorStall. */
  readonly generatorStall: string | null;
};

export type LoadOptions = {
  /** As `probe` gave it. */
  readonly target: OpenAiServer;
  /** Ascending in time. */
  readonly requests: readonly ScheduledRequest[];
  /** Ends the run; requests in flight are cut off and reported as `cancelled`. */
  readonly signal?: AbortSignal;
  readonly onOutcome?: (outcome: RequestOutcome) => void;
  /**
   * Asked five times a second with the outcomes so far (in the order of their ends, growing from call to call); a
   * sentence ends the run.
   */
  readonly shouldAbort?: (soFar: readonly RequestOutcome[], elapsedSeconds: number) => string | null;
  /**
   * Other salts give other prompts. Two runs of one salt send the same, so that a server's prefix cache may still hold
   * them: give each run its own.
   */
  readonly promptSalt: number;
};

/**
 * Sends a schedule to a server, open loop, and waits for the answers.
 *
 * Requests leave at their times whatever the server does: a timer sleeps until shortly before the next one, then the
 * event loop turns (reading answers) until it is due; over a hundred requests a second, where it would never sleep, it
 * turns once a millisecond instead and sends all that is due. How late each left is in its outcome. No request is held
 * back: where `maxInFlight` are in flight the run ends and is at fault, because a queue in here would make the loop a
 * closed one.
 *
 * Each request ends within the target's time limit, hence so does the run.
 */
export function runLoad(options: LoadOptions): Promise<LoadRun> {
  return new Promise((resolve, reject) => {
    const run = new RunningLoad(options, resolve);
    try {
      run.start();
    } catch (error) {
      reject(error);
    }
  });
}

/** A timer may be this late; so much earlier it is set, and the loop turns for the rest [s]. */
const timerSlackSeconds = 0.0015;
/**
 * With less than this between arrivals in the mean [s], timers alone: a loop that always turns takes a whole core, which
 * a server on the same machine wants, and a system short of cores makes a process wait the longer the more it took.
 */
const turningGapSeconds = 0.01;
/** Between two questions whether the run is hopeless [ms]. */
const abortCheckMs = 200;
/** Time before the first arrival, in which the first prompts are made [s]. */
const leadSeconds = 0.02;
/** Text of prompts that are made ahead of their time, in characters. */
const preparedCharacters = 32 * 2 ** 20;
/** Making prompts ahead may take this long at a time [s]: answers wait meanwhile. */
const preparingSeconds = 0.001;
/** An event loop that stands this long in one of a hundred turns dates answers too late [ms]. */
const toleratedStallMs = 25;
/** Resolution of the watch over the event loop [ms]. */
const stallResolutionMs = 5;

class RunningLoad {
  readonly #options: LoadOptions;
  readonly #resolve: (run: LoadRun) => void;
  readonly #outcomes: (RequestOutcome | undefined)[];
  readonly #ended: RequestOutcome[] = [];
  readonly #counted: CountedPrompt[] = [];
  /** How to cut off each request in flight, by its place in the schedule. */
  readonly #inFlight = new Map<number, (kind: 'cancelled', detail: string) => void>();
  readonly #prompts;
  readonly #prepared = new Map<number, Prepared>();
  readonly #stalls = monitorEventLoopDelay({ resolution: stallResolutionMs });
  readonly #mayTurn: boolean;
  #preparedCharacters = 0;
  #nextToPrepare = 0;
  #next = 0;
  #startSeconds = 0;
  #stopped: string | null = null;
  #fault: string | null = null;
  #abortCheck: NodeJS.Timeout | null = null;
  #timer: NodeJS.Timeout | null = null;
  #isOver = false;
  readonly #onSignal = () => this.#stop('interrupted');

  constructor(options: LoadOptions, resolve: (run: LoadRun) => void) {
    this.#options = options;
    this.#resolve = resolve;
    this.#outcomes = new Array(options.requests.length);
    const { requests } = options;
    this.#mayTurn = (requests.at(-1)?.atSeconds ?? 0) >= turningGapSeconds * requests.length;
    this.#prompts = promptSource({ salt: options.promptSalt, words: options.target.abilities.words });
  }

  start(): void {
    const { signal, requests } = this.#options;
    this.#prepareUntil(secondsNow() + leadSeconds);
    this.#startSeconds = secondsNow() + leadSeconds / 4;
    this.#stalls.enable();
    if (this.#options.shouldAbort !== undefined) this.#abortCheck = setInterval(() => this.#check(), abortCheckMs);
    if (signal?.aborted === true) this.#stop('interrupted');
    else signal?.addEventListener('abort', this.#onSignal, { once: true });
    if (requests.length === 0) this.#finishIfOver();
    else if (this.#stopped === null) this.#turn();
  }

  /** Sends what is due, then sleeps or turns until the next. */
  readonly #turn = (): void => {
    const { requests } = this.#options;
    this.#timer = null;
    while (this.#stopped === null && this.#next < requests.length) {
      const waitSeconds = requests[this.#next]!.atSeconds - this.#elapsed();
      if (waitSeconds > 0) {
        this.#wait(waitSeconds);
        return;
      }
      this.#send(this.#next++);
    }
    this.#finishIfOver();
  };

  #wait(seconds: number): void {
    if (seconds > 2 * preparingSeconds && this.#nextToPrepare < this.#options.requests.length) {
      this.#prepareUntil(secondsNow() + preparingSeconds);
    }
    const slack = this.#mayTurn ? timerSlackSeconds : 0;
    const left = this.#options.requests[this.#next]!.atSeconds - this.#elapsed() - slack;
    // A timer of less than a millisecond is one of a whole one.
    if (left >= 0.001 || !this.#mayTurn) {
      this.#timer = setTimeout(this.#turn, Math.floor(Math.min(left * 1000, 2 ** 31 - 1)));
    } else setImmediate(this.#turn);
  }

  #send(place: number): void {
    const { target } = this.#options;
    if (this.#inFlight.size >= target.target.maxInFlight) {
      const reason = `${target.target.maxInFlight} requests were in flight, the most that may be`;
      this.#fault = `${reason}: those after could not be sent in time`;
      this.#stop(reason);
      return;
    }
    const prepared = this.#take(place);
    const cut = target.send(prepared.body, (exchange) => this.#end(place, prepared.words, exchange));
    if (this.#outcomes[place] === undefined) this.#inFlight.set(place, cut);
  }

  #end(place: number, words: number, exchange: Exchange): void {
    const { target, requests, onOutcome } = this.#options;
    const outcome = outcomeOf(requests[place]!, exchange, { startSeconds: this.#startSeconds, server: target });
    this.#inFlight.delete(place);
    this.#outcomes[place] = outcome;
    this.#ended.push(outcome);
    if (outcome.usage === 'server') this.#counted.push({ words, tokens: outcome.inputTokens });
    if (exchange.errorCode === 'EMFILE' || exchange.errorCode === 'ENFILE') {
      this.#fault ??= `no file descriptor was left for a connection (${exchange.errorCode}), at ${this.#inFlight.size + 1} requests in flight`;
    }
    onOutcome?.(outcome);
    this.#finishIfOver();
  }

  #check(): void {
    const reason = this.#options.shouldAbort?.(this.#ended, this.#elapsed()) ?? null;
    if (reason !== null) this.#stop(reason);
  }

  #stop(reason: string): void {
    if (this.#stopped !== null || this.#isOver) return;
    this.#stopped = reason;
    for (const cut of [...this.#inFlight.values()]) cut('cancelled', reason);
    this.#finishIfOver();
  }

  #finishIfOver(): void {
    const isSent = this.#stopped !== null || this.#next >= this.#options.requests.length;
    if (this.#isOver || !isSent || this.#inFlight.size > 0) return;
    this.#isOver = true;
    this.#options.signal?.removeEventListener('abort', this.#onSignal);
    if (this.#abortCheck !== null) clearInterval(this.#abortCheck);
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#stalls.disable();
    this.#options.target.learnLengths(this.#counted);
    this.#resolve({
      outcomes: this.#outcomes.filter((outcome) => outcome !== undefined),
      aborted: this.#stopped,
      generatorFault: this.#fault,
      generatorStall: this.#stalled(),
    });
  }

  #stalled(): string | null {
    const stallMs = this.#stalls.percentile(99) / 1e6 - stallResolutionMs;
    // A percentile of a few samples is their maximum: one collection of garbage is no fault.
    if (!(stallMs > toleratedStallMs) || this.#stalls.count < 100) return null;
    return `the generator's event loop stood for over ${Math.round(stallMs)} ms in 1 % of its turns (tolerated: ${toleratedStallMs} ms): answers are dated too late`;
  }

  #elapsed(): number {
    return secondsNow() - this.#startSeconds;
  }

  #take(place: number): Prepared {
    const prepared = this.#prepared.get(place);
    if (prepared === undefined) {
      this.#nextToPrepare = Math.max(this.#nextToPrepare, place + 1);
      return this.#prepare(place);
    }
    this.#prepared.delete(place);
    this.#preparedCharacters -= prepared.body.length;
    return prepared;
  }

  #prepareUntil(seconds: number): void {
    const { requests } = this.#options;
    while (
      this.#nextToPrepare < requests.length &&
      this.#preparedCharacters < preparedCharacters &&
      secondsNow() < seconds
    ) {
      const prepared = this.#prepare(this.#nextToPrepare);
      this.#prepared.set(this.#nextToPrepare++, prepared);
      this.#preparedCharacters += prepared.body.length;
    }
  }

  #prepare(place: number): Prepared {
    const { target, requests } = this.#options;
    const { inputTokens, outputTokens } = requests[place]!;
    const words = wordsFor(inputTokens, target.promptLengths);
    return { words, body: target.body({ prompt: this.#prompts.prompt(place, words), outputTokens }) };
  }
}

/** A request that only needs sending. */
type Prepared = { readonly words: number; readonly body: string };

function outcomeOf(
  request: ScheduledRequest,
  exchange: Exchange,
  run: { readonly startSeconds: number; readonly server: OpenAiServer },
): RequestOutcome {
  const { answer, failure, failureDetail } = exchange;
  const sinceStart = (seconds: number) => seconds - run.startSeconds;
  const chunks = answer?.chunkCharacters.length ?? 0;
  const usage = answer?.usage != null ? 'server' : chunks > 0 ? 'counted' : 'requested';
  const requested = failure === null ? request.outputTokens : 0;
  const outputTokens = answer?.usage?.outputTokens ?? (chunks > 0 ? chunks : requested);
  return {
    id: request.id,
    scheduledSeconds: request.atSeconds,
    sentSeconds: sinceStart(exchange.sentSeconds),
    firstTokenSeconds: answer?.firstTextSeconds == null ? null : sinceStart(answer.firstTextSeconds),
    endSeconds: sinceStart(exchange.endSeconds),
    inputTokens: answer?.usage?.inputTokens ?? request.inputTokens,
    outputTokens,
    wantedInputTokens: request.inputTokens,
    wantedOutputTokens: request.outputTokens,
    usage,
    tokenGapsSeconds: answer === null ? [] : tokenGaps(answer, outputTokens),
    failure,
    ...(failureDetail === null ? {} : { failureDetail: run.server.shown(failureDetail) }),
  };
}

import { createHash } from 'node:crypto';
import { type Clock, type TokenAuthority, Unavailable, type Verdict, type Wish } from '../../core/ports.js';
import { type ApiClient, ApiError, messageOf } from './api-client.js';
import { items, record, textOf } from './wire.js';

/**
 * Bearer tokens that the cluster itself checks: who one speaks for by a TokenReview, and whether they may by a list of
 * users or by a SubjectAccessReview on the path, as `nonResourceURLs` of a ClusterRole grant it.
 *
 * A token that is known is not yet one that may: every pod of a cluster has one.
 */

export type TokenReviewOptions = {
  readonly client: Pick<ApiClient, 'send'>;
  /** A token must be meant for one of them. */
  readonly audiences: readonly string[];
  /** Users that may do everything; empty = the cluster is asked about each path. */
  readonly users: readonly string[];
  readonly clock: Clock;
  /** For one question [ms]; by default below what clients wait. */
  readonly answerTimeoutMs?: number;
};

/** What was said of a token counts so long [ms]: a token that is taken back works for half a minute more. */
const yesMs = 30_000;

/** A role that was just granted should work soon; a client that repeats itself must not load the API server. [ms] */
const noMs = 5000;

/** Answers that are kept, of either kind. About 1 kB each. */
const keptAnswers = 1000;

/** Questions to the API server at one time; more wait for nothing and are refused, as it is overloaded or gone. */
const mostQuestions = 16;

const defaultAnswerTimeoutMs = 5000;

type Identity = { readonly user: string; readonly attributes: Readonly<Record<string, unknown>> };

/** Asks nothing yet. */
export function createTokenReview(options: TokenReviewOptions): TokenAuthority {
  const { client, audiences, users, clock, answerTimeoutMs = defaultAnswerTimeoutMs } = options;
  let asking = 0;
  const ask = async (group: string, resource: string, kind: string, spec: unknown) => {
    if (asking >= mostQuestions) {
      throw new Unavailable('kubernetes_busy', `${asking} questions wait for the API server already`);
    }
    asking += 1;
    try {
      const answer = await client.send({
        method: 'POST',
        path: `/apis/${group}/v1/${resource}`,
        query: {},
        body: { apiVersion: `${group}/v1`, kind, metadata: {}, spec },
        contentType: null,
        answerTimeoutMs,
        signal: new AbortController().signal,
      });
      const review = record(answer);
      if (review.kind !== kind) throw new ApiError(`found an answer that is no ${kind}`, { status: 0 });
      return record(review.status);
    } catch (error) {
      throw unavailable(kind, error);
    } finally {
      asking -= 1;
    }
  };

  const identify = async (token: string): Promise<Identity | null> => {
    const status = await ask('authentication.k8s.io', 'tokenreviews', 'TokenReview', { token, audiences });
    if (status.authenticated !== true) return null;
    // A server that knows no audiences ignores them, and would accept a token that is meant for another service.
    if (!items(status.audiences).some((audience) => audiences.includes(String(audience)))) return null;
    const attributes = record(status.user);
    const user = textOf(attributes, 'username') ?? '';
    return user === '' ? null : { user, attributes };
  };

  const permit = async ({ user, attributes }: Identity, { verb, path }: Wish): Promise<Verdict> => {
    const { uid, groups, extra } = attributes;
    const status = await ask('authorization.k8s.io', 'subjectaccessreviews', 'SubjectAccessReview', {
      user,
      uid,
      groups,
      extra,
      nonResourceAttributes: { path, verb },
    });
    if (status.allowed === true && status.denied !== true) return { kind: 'allowed', user };
    const rule = `no ClusterRole grants it (nonResourceURLs: ["${path}"], verbs: ["${verb}"])`;
    return { kind: 'forbidden', user, reason: rule };
  };

  const identities = new Answers<Identity | null>(clock, (identity) => (identity === null ? noMs : yesMs));
  const verdicts = new Answers<Verdict>(clock, ({ kind }) => (kind === 'allowed' ? yesMs : noMs));

  return {
    async judge(token, wish) {
      const identity = await identities.of(keyOf(token), () => identify(token));
      if (identity === null) return { kind: 'unknown-token' };
      const { user } = identity;
      if (users.length === 0) return verdicts.of(keyOf(token, wish.verb, wish.path), () => permit(identity, wish));
      if (users.includes(user)) return { kind: 'allowed', user };
      return { kind: 'forbidden', user, reason: 'server.tokenReview.users does not name it' };
    },
  };
}

/** Tokens themselves are not kept, nor paths, which may be long. */
function keyOf(...parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('base64');
}

function unavailable(kind: string, error: unknown): Unavailable {
  if (error instanceof Unavailable) return error;
  const refused = error instanceof ApiError && error.status === 403;
  const advice = refused ? ' (the service account needs the ClusterRole system:auth-delegator)' : '';
  return new Unavailable('kubernetes_unreachable', `${kind}: ${messageOf(error)}${advice}`);
}

/** Answers that count for a while. The same question is asked once at a time; one that fails is not kept. */
class Answers<Answer> {
  readonly #clock: Clock;
  readonly #keepMs: (answer: Answer) => number;
  readonly #kept = new Map<string, { readonly answer: Promise<Answer>; atMs: number; keepMs: number }>();

  constructor(clock: Clock, keepMs: (answer: Answer) => number) {
    this.#clock = clock;
    this.#keepMs = keepMs;
  }

  of(key: string, ask: () => Promise<Answer>): Promise<Answer> {
    const kept = this.#kept.get(key);
    // A clock that was set back makes an answer old.
    const ageMs = kept === undefined ? 0 : this.#clock.now() - kept.atMs;
    if (kept !== undefined && ageMs >= 0 && ageMs < kept.keepMs) return kept.answer;
    const answer = ask();
    const entry = { answer, atMs: this.#clock.now(), keepMs: defaultAnswerTimeoutMs };
    this.#kept.delete(key);
    this.#kept.set(key, entry);
    // The oldest goes first.
    for (const [oldest] of this.#kept) {
      if (this.#kept.size <= keptAnswers) break;
      this.#kept.delete(oldest);
    }
    answer.then(
      (value) => {
        entry.atMs = this.#clock.now();
        entry.keepMs = this.#keepMs(value);
      },
      () => {
        if (this.#kept.get(key) === entry) this.#kept.delete(key);
      },
    );
    return answer;
  }
}

import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { connectToCluster } from '../../../src/adapters/kubernetes/api-client.js';
import { createTokenReview, type TokenReviewOptions } from '../../../src/adapters/kubernetes/token-review.js';
import { type TokenAuthority, Unavailable } from '../../../src/core/ports.js';
import { type FakeCluster, startFakeCluster } from '../../support/test-cluster.js';

/** Against the fake API server, by its real protocol: who a token speaks for, what they may, and when nobody can tell. */

const ann = {
  username: 'system:serviceaccount:ops:ann',
  uid: 'u-1',
  groups: ['system:authenticated'],
  extra: { k: ['v'] },
};
const wish = { verb: 'put', path: '/scale/default/llama-l4' };

let cluster: FakeCluster;
let nowMs: number;
beforeAll(async () => {
  cluster = await startFakeCluster();
});
afterAll(() => cluster.stop());
beforeEach(() => {
  nowMs = 0;
  cluster.server.fault = () => undefined;
  cluster.server.requests.length = 0;
  knows('token-of-ann', { authenticated: true, user: ann, audiences: ['gpumix'] });
  allows(() => ({ allowed: true }));
});

type Body = { readonly spec: Readonly<Record<string, unknown>> };

function knows(token: string, status: object): void {
  cluster.server.replies.set('tokenreviews', (body) => ({
    status: 201,
    body: { ...body, status: (body as unknown as Body).spec.token === token ? status : { user: {} } },
  }));
}

function allows(decide: (spec: Body['spec']) => object): void {
  cluster.server.replies.set('subjectaccessreviews', (body) => ({
    status: 201,
    body: { ...body, status: decide((body as unknown as Body).spec) },
  }));
}

async function authority(options: Partial<TokenReviewOptions> = {}): Promise<TokenAuthority> {
  const client = await connectToCluster({ kubeconfig: cluster.kubeconfig });
  // A busy machine must not look like an API server that is gone.
  return createTokenReview({
    answerTimeoutMs: 60_000,
    client,
    audiences: ['gpumix'],
    users: [],
    clock: { now: () => nowMs },
    ...options,
  });
}

const asked = (resource: string) => cluster.server.requests.filter(({ path }) => path.endsWith(`/${resource}`)).length;

describe('a token that the cluster checks', () => {
  it('is allowed what a role of its user grants, asked with all that is known of the user', async () => {
    let spec: Body['spec'] = {};
    allows((asked) => {
      spec = asked;
      return { allowed: true };
    });
    expect(await (await authority()).judge('token-of-ann', wish)).toEqual({ kind: 'allowed', user: ann.username });
    expect(spec).toEqual({
      user: ann.username,
      uid: ann.uid,
      groups: ann.groups,
      extra: ann.extra,
      nonResourceAttributes: wish,
    });
  });

  it('of a user without such a role is forbidden, with the rule that would grant it', async () => {
    allows((spec) => ({ allowed: (spec.nonResourceAttributes as typeof wish).path === '/update_profile/m' }));
    const tokens = await authority();
    expect(await tokens.judge('token-of-ann', wish)).toEqual({
      kind: 'forbidden',
      user: ann.username,
      reason: 'no ClusterRole grants it (nonResourceURLs: ["/scale/default/llama-l4"], verbs: ["put"])',
    });
    expect((await tokens.judge('token-of-ann', { verb: 'get', path: '/update_profile/m' })).kind).toBe('allowed');
  });

  it('is forbidden where one authorizer denies what another allows', async () => {
    allows(() => ({ allowed: true, denied: true }));
    expect((await (await authority()).judge('token-of-ann', wish)).kind).toBe('forbidden');
  });

  it('of a listed user is allowed without a role, of another forbidden, and the cluster is not asked', async () => {
    allows(() => ({ allowed: true }));
    expect((await (await authority({ users: [ann.username] })).judge('token-of-ann', wish)).kind).toBe('allowed');
    const forbidden = await (await authority({ users: ['somebody'] })).judge('token-of-ann', wish);
    expect(forbidden).toMatchObject({ kind: 'forbidden', reason: 'server.tokenReview.users does not name it' });
    expect(asked('subjectaccessreviews')).toBe(0);
  });

  it.each<[string, object]>([
    ['nobody knows', { user: {} }],
    ['was refused with an error', { authenticated: false, error: 'expired' }],
    ['is only nearly authenticated', { authenticated: 'true', user: ann, audiences: ['gpumix'] }],
    ['is meant for another audience', { authenticated: true, user: ann, audiences: ['vault'] }],
    ['a server accepts that knows no audiences', { authenticated: true, user: ann }],
    ['speaks for nobody', { authenticated: true, user: { username: '' }, audiences: ['gpumix'] }],
  ])('that %s is unknown, and no permission is asked for', async (_, status) => {
    knows('token-of-ann', status);
    expect(await (await authority()).judge('token-of-ann', wish)).toEqual({ kind: 'unknown-token' });
    expect(asked('subjectaccessreviews')).toBe(0);
  });
});

describe('what was said of a token', () => {
  it('counts for half a minute, for its path alone', async () => {
    const tokens = await authority();
    for (let times = 0; times < 5; times++) await tokens.judge('token-of-ann', wish);
    expect([asked('tokenreviews'), asked('subjectaccessreviews')]).toEqual([1, 1]);
    await tokens.judge('token-of-ann', { ...wish, verb: 'post' });
    expect([asked('tokenreviews'), asked('subjectaccessreviews')]).toEqual([1, 2]);
    knows('another', {});
    nowMs += 29_999;
    expect((await tokens.judge('token-of-ann', wish)).kind).toBe('allowed');
    nowMs += 1;
    expect((await tokens.judge('token-of-ann', wish)).kind).toBe('unknown-token');
  });

  it('counts for five seconds where it was a no', async () => {
    const tokens = await authority();
    expect((await tokens.judge('new', wish)).kind).toBe('unknown-token');
    knows('new', { authenticated: true, user: ann, audiences: ['gpumix'] });
    nowMs += 4999;
    expect((await tokens.judge('new', wish)).kind).toBe('unknown-token');
    nowMs += 1;
    expect((await tokens.judge('new', wish)).kind).toBe('allowed');
  });

  it('is old where the clock was set back', async () => {
    const tokens = await authority();
    await tokens.judge('token-of-ann', wish);
    nowMs -= 3_600_000;
    await tokens.judge('token-of-ann', wish);
    expect(asked('tokenreviews')).toBe(2);
  });

  it('is asked for once where many ask at one time, and is kept of a thousand tokens at most', async () => {
    let questions = 0;
    const send = async () => {
      questions += 1;
      return { kind: 'TokenReview', status: {} };
    };
    const tokens = await authority({ client: { send } });
    await Promise.all(Array.from({ length: 20 }, () => tokens.judge('token-of-ann', wish)));
    expect(questions).toBe(1);
    for (let at = 0; at < 999; at++) await tokens.judge(`stranger-${at}`, wish);
    await tokens.judge('token-of-ann', wish);
    expect(questions).toBe(1000);
    await tokens.judge('one more', wish);
    await tokens.judge('token-of-ann', wish);
    expect(questions).toBe(1002);
  });
});

describe('where nobody can tell', () => {
  it.each<[string, Parameters<FakeCluster['server']['replies']['set']>[1] | null, number, RegExp]>([
    ['the API server fails', null, 500, /TokenReview: 500 /],
    ['it refuses the question', null, 403, /403 .*\(the service account needs the ClusterRole system:auth-delegator\)/],
    [
      'something else answers',
      () => ({ status: 200, body: { authenticated: true, status: { authenticated: true } } }),
      0,
      /no TokenReview/,
    ],
  ])('because %s, it is neither a yes nor a no, and is asked anew', async (_, reply, status, message) => {
    if (reply === null) cluster.server.fault = () => ({ kind: 'answer', status });
    else cluster.server.replies.set('tokenreviews', reply);
    const tokens = await authority();
    const judged = tokens.judge('token-of-ann', wish);
    await expect(judged).rejects.toBeInstanceOf(Unavailable);
    await expect(judged).rejects.toThrow(message);
    await expect(judged).rejects.not.toThrow('token-of-ann');
    cluster.server.fault = () => undefined;
    knows('token-of-ann', { authenticated: true, user: ann, audiences: ['gpumix'] });
    expect((await tokens.judge('token-of-ann', wish)).kind).toBe('allowed');
  });

  it('about the permission of a user that is known, that is no permission', async () => {
    cluster.server.fault = ({ path }) =>
      path.endsWith('/subjectaccessreviews') ? { kind: 'answer', status: 500 } : undefined;
    await expect((await authority()).judge('token-of-ann', wish)).rejects.toBeInstanceOf(Unavailable);
  });

  it('because the network is cut, what was said before counts for its half minute and no longer', async () => {
    const tokens = await authority();
    await tokens.judge('token-of-ann', wish);
    await cluster.network.cut();
    nowMs += 29_000;
    expect((await tokens.judge('token-of-ann', wish)).kind).toBe('allowed');
    nowMs += 2000;
    await expect(tokens.judge('token-of-ann', wish)).rejects.toBeInstanceOf(Unavailable);
    await cluster.network.connect();
    expect((await tokens.judge('token-of-ann', wish)).kind).toBe('allowed');
  });

  it('because it answers nothing, no more than sixteen questions wait', async () => {
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const client = { send: async () => held.then(() => ({ kind: 'TokenReview', status: {} })) };
    const tokens = await authority({ client });
    const waiting = Array.from({ length: 16 }, (_, at) => tokens.judge(`token-${at}`, wish));
    await expect(tokens.judge('one-more', wish)).rejects.toThrow('16 questions wait for the API server already');
    release();
    expect((await Promise.all(waiting)).every(({ kind }) => kind === 'unknown-token')).toBe(true);
    expect((await tokens.judge('one-more', wish)).kind).toBe('unknown-token');
  });
});

import { describe, expect, it } from 'vitest';
import { createLogger, decisionLine, logDecision, withoutSecrets } from '../../src/service/log.js';
import type { DecisionRecord } from '../../src/service/view.js';

const decision: DecisionRecord = {
  at: '2026-11-20T10:00:00.000Z',
  model: 'llama',
  status: 'optimal',
  heldReason: null,
  usdPerHour: 7.344,
  rps: 12.4,
  changes: [
    { deployment: 'default/llama-a100', from: 1, to: 2, reason: 'long prompts need it.' },
    { deployment: 'default/llama-l4', from: 3, to: 0, reason: 'the A100 has room.' },
  ],
};

async function linesOf(act: (logger: Awaited<ReturnType<typeof createLogger>>) => void, pretty = false) {
  const lines: string[] = [];
  act(await createLogger({ level: 'info', to: { write: (line) => void lines.push(line) }, pretty }));
  return lines;
}

describe('decisions in the log', () => {
  it('say in one line what changed and why', () => {
    expect(decisionLine(decision)).toBe(
      'llama: default/llama-a100 1 → 2, default/llama-l4 3 → 0 at 12.4 rps, 7.34 USD/h (optimal): ' +
        'default/llama-a100: long prompts need it. default/llama-l4: the A100 has room.',
    );
  });

  it('do not repeat whose the reason is where one deployment changes, and say once what is shared', () => {
    const [first] = decision.changes;
    expect(decisionLine({ ...decision, changes: [first!] })).toMatch(/\(optimal\): long prompts need it\.$/);
    const changes = ['a', 'b'].map((deployment) => ({ deployment, from: 1, to: 2, reason: 'more arrives.' }));
    expect(decisionLine({ ...decision, changes })).toMatch(/\(optimal\): a, b: more arrives\.$/);
  });

  it('say of a held plan why it is held', () => {
    expect(decisionLine({ ...decision, status: 'held', heldReason: 'no_traces', changes: [] })).toBe(
      'llama: no replicas change at 12.4 rps, 7.34 USD/h (held): no_traces',
    );
  });

  it('count what would make the line long, and show what is not known', () => {
    const changes = Array.from({ length: 9 }, (_, i) => ({ deployment: `d${i}`, from: null, to: i, reason: 'r' }));
    expect(decisionLine({ ...decision, changes })).toContain('d0 ? → 0, d1 ? → 1, d2 ? → 2, d3 ? → 3, 5 more at');
  });

  it('are one JSON line each with the whole decision, a warning where held', async () => {
    const [first, second, ...rest] = await linesOf((logger) => {
      logDecision(logger, decision);
      logDecision(logger, { ...decision, status: 'held', heldReason: 'no_traces' });
    });
    expect(rest).toEqual([]);
    expect(JSON.parse(first!)).toMatchObject({ level: 'info', decision, msg: decisionLine(decision) });
    expect(JSON.parse(second!)).toMatchObject({ level: 'warn' });
    expect(first!.split('\n')).toHaveLength(2);
  });

  it('are readable on a terminal, without the JSON', async () => {
    const [line] = await linesOf((logger) => logDecision(logger, decision), true);
    expect(line).toContain('llama: default/llama-a100 1 → 2');
    expect(line).not.toContain('{');
  });
});

describe('secrets', () => {
  it('never reach a line: keys, URLs, tokens, errors of drivers', async () => {
    const lines = await linesOf((logger) => {
      logger.info(
        { password: 'hunter2', redis: { sentinelPassword: 'hunter2', tls: { secret: 'hunter2' } } },
        'connecting',
      );
      logger.warn({ err: new Error('connect rediss://admin:hunter2@db.example:6380/1 failed') }, 'redis');
      logger.warn({}, 'lost redis://s1?sentinel=m&sentinelPassword=hunter2');
      logger.error({ headers: { authorization: 'Bearer hunter2' } }, 'sent Bearer hunter2 to https://u:hunter2@host/');
    });
    expect(lines).toHaveLength(4);
    expect(lines.join('')).not.toContain('hunter2');
    expect(lines[1]).toContain('rediss://admin:[redacted]@db.example:6380/1');
    for (const line of lines) expect(() => JSON.parse(line)).not.toThrow();
  });

  it('are told from what is none', () => {
    for (const text of ['redis://127.0.0.1:6379/0', 'http://h:8080/a@b', 'a:b@c']) {
      expect(withoutSecrets(text)).toBe(text);
    }
  });
});

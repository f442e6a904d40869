import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Answer, AnswerReader, tokenGaps } from '../../../src/adapters/openai/answer.js';

const usage = { prompt_tokens: 12, completion_tokens: 3 };

function completionEvent(text: string, more: object = {}): string {
  return `data: ${JSON.stringify({ choices: [{ index: 0, text, finish_reason: null, ...more }] })}\n\n`;
}

/** The pieces of a stream, fed at one second each. */
function read(...pieces: readonly (string | Buffer)[]): Answer {
  const reader = new AnswerReader({ isStream: true });
  pieces.forEach((piece, i) => void reader.feed(Buffer.from(piece), i + 1));
  return reader.end(pieces.length + 1);
}

function readWhole(body: string): Answer {
  const reader = new AnswerReader({ isStream: false });
  reader.feed(Buffer.from(body), 1);
  return reader.end(2);
}

describe('a stream of completions', () => {
  const events = [
    completionEvent(''),
    completionEvent(' one'),
    completionEvent(' two'),
    completionEvent(' three', { finish_reason: 'length' }),
    `data: ${JSON.stringify({ choices: [], usage })}\n\n`,
    'data: [DONE]\n\n',
  ];

  it('has its first token at the first chunk with text, its last at the last, and its counts from usage', () => {
    expect(read(...events)).toEqual({
      firstTextSeconds: 2,
      lastTextSeconds: 4,
      gapsSeconds: [1, 1],
      chunkCharacters: [4, 4, 6],
      characters: 14,
      usage: { inputTokens: 12, outputTokens: 3 },
      failure: null,
      failureDetail: null,
    });
  });

  it('says at [DONE] that all is known', () => {
    const reader = new AnswerReader({ isStream: true });
    expect(events.map((event) => reader.feed(Buffer.from(event), 0))).toEqual([
      false,
      false,
      false,
      false,
      false,
      true,
    ]);
  });

  it('means the same however it is cut into chunks, line ends and comments included', () => {
    const text = `: keep-alive\n\n${events.join('').replaceAll('\n', '\r\n')}`.replace(' two', ' zwölf €𝄞');
    const bytes = Buffer.from(text);
    const whole = read(bytes);
    expect(whole.characters).toBe(' one zwölf €𝄞 three'.length);
    fc.assert(
      fc.property(fc.array(fc.nat(bytes.length), { maxLength: 30 }), (cuts) => {
        const places = [0, ...cuts.sort((a, b) => a - b), bytes.length];
        const pieces = places.slice(1).map((end, i) => bytes.subarray(places[i]!, end));
        const { characters, usage: counted, failure, chunkCharacters } = read(...pieces);
        expect({ characters, counted, failure, chunkCharacters }).toEqual({
          characters: whole.characters,
          counted: { inputTokens: 12, outputTokens: 3 },
          failure: null,
          chunkCharacters: whole.chunkCharacters,
        });
      }),
    );
  });

  it('never throws and never ends without an answer or a failure, whatever bytes come', () => {
    const piece = fc.oneof(
      fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
      fc
        .constantFrom(
          ...events,
          'data: {"error":',
          'data: 3\n\n',
          'data: {"choices":[null]}\n\n',
          'data: {"choices":[{"delta":7}]}\n\n',
        )
        .map((text) => Buffer.from(text)),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 8 }), fc.boolean(), (pieces, isStream) => {
        const reader = new AnswerReader({ isStream });
        pieces.forEach((bytes, i) => void reader.feed(bytes, i));
        const answer = reader.end(pieces.length);
        expect(answer.failure !== null || answer.characters >= 0).toBe(true);
        expect(answer.gapsSeconds.length).toBe(Math.max(0, answer.chunkCharacters.length - 1));
      }),
      { numRuns: 500 },
    );
  });
});

describe('a stream of chat', () => {
  const delta = (content: object, finish: string | null = null) =>
    `data: ${JSON.stringify({ choices: [{ index: 0, delta: content, finish_reason: finish }] })}\n\n`;

  it('begins at text, not at the role, and counts thinking as output', () => {
    const answer = read(
      delta({ role: 'assistant', content: '' }),
      delta({ reasoning_content: 'hm' }),
      delta({ reasoning: 'so' }),
      delta({ content: 'yes' }, 'stop'),
      'data: [DONE]\n\n',
    );
    expect(answer).toMatchObject({
      firstTextSeconds: 2,
      lastTextSeconds: 4,
      characters: 7,
      failure: null,
      usage: null,
    });
  });
});

describe('streams that go wrong', () => {
  it.each([
    [
      'an error within the stream',
      [completionEvent(' a'), 'data: {"error":{"message":"out of memory","code":500}}\n\n'],
      'error_in_stream',
      'out of memory',
    ],
    ['an error event', ['event: error\ndata: {"message":"gone"}\n\n'], 'error_in_stream', 'gone'],
    ['the older error of vLLM', ['data: {"object":"error","message":"too long"}\n\n'], 'error_in_stream', 'too long'],
    ['an answer given up', [completionEvent(' a', { finish_reason: 'abort' })], 'error_in_stream', 'abort'],
    [
      'broken JSON',
      [completionEvent(' a'), 'data: {"choices":[{"te\n\n', 'data: [DONE]\n\n'],
      'malformed',
      'expected JSON',
    ],
    ['a page of HTML', ['<html><body>Bad gateway</body></html>\n\n'], 'malformed', 'html'],
    ['an end before the answer’s', [completionEvent(' a')], 'dropped', 'ended before'],
    ['an end within an event', [completionEvent(' a'), 'data: {"choices":[{"te'], 'dropped', 'within an event'],
    ['nothing at all', [], 'dropped', 'ended before'],
  ])('%s is counted as what it is', (_, pieces, failure, detail) => {
    const answer = read(...pieces);
    expect(answer.failure).toBe(failure);
    expect(answer.failureDetail).toContain(detail);
  });

  it('an event beyond all measure is given up, not kept', () => {
    const reader = new AnswerReader({ isStream: true });
    const megabyte = Buffer.alloc(2 ** 20, 'x');
    reader.feed(Buffer.from('data: '), 0);
    let isOver = false;
    for (let i = 0; i < 8 && !isOver; i++) isOver = reader.feed(megabyte, i);
    expect(isOver).toBe(true);
    expect(reader.end(9).failure).toBe('malformed');
  });

  it('a stream without [DONE] is whole where a reason to finish was given', () => {
    expect(read(completionEvent(' a', { finish_reason: 'length' })).failure).toBeNull();
  });

  it('a last event without its blank line is still read', () => {
    expect(read(completionEvent(' a'), 'data: [DONE]').failure).toBeNull();
  });
});

describe('answers without streaming', () => {
  it('have their text, their usage, and no times of tokens', () => {
    const body = JSON.stringify({ choices: [{ text: ' one two', finish_reason: 'length' }], usage });
    expect(readWhole(body)).toMatchObject({
      firstTextSeconds: null,
      characters: 8,
      usage: { inputTokens: 12, outputTokens: 3 },
      failure: null,
    });
    const chat = JSON.stringify({
      choices: [{ message: { role: 'assistant', content: 'hi' }, finish_reason: 'stop' }],
    });
    expect(readWhole(chat)).toMatchObject({ characters: 2, usage: null, failure: null });
  });

  it.each([
    ['{"error":{"message":"no"}}', 'error_in_stream'],
    ['{"choices":[{"text":"ha', 'malformed'],
    ['<html>', 'malformed'],
    ['[]', 'malformed'],
    ['{"hello":"world"}', 'malformed'],
    ['', 'malformed'],
  ])('%s is counted as what it is', (body, failure) => {
    expect(readWhole(body).failure).toBe(failure);
  });

  it('a usage that is no count is none', () => {
    for (const wrong of [
      { prompt_tokens: -1, completion_tokens: 2 },
      { prompt_tokens: 1 },
      'many',
      { prompt_tokens: 1e30, completion_tokens: 1 },
    ]) {
      expect(readWhole(JSON.stringify({ choices: [{ text: 'a' }], usage: wrong })).usage).toBeNull();
    }
  });
});

describe('gaps between tokens', () => {
  it('are those between chunks where each chunk was a token', () => {
    expect([...tokenGaps({ gapsSeconds: [0.5, 0.25], chunkCharacters: [3, 4, 5] }, 3)]).toEqual([0.5, 0.25]);
  });

  it('of a chunk of several tokens are its gap in equal parts, the tokens spread by characters', () => {
    // 7 tokens over 3 chunks of 4, 12 and 4 characters: one each, and of 4 more 0.8, 2.4 and 0.8: 2, 3, 2.
    expect([...tokenGaps({ gapsSeconds: [0.75, 0.5], chunkCharacters: [4, 12, 4] }, 7)]).toEqual([
      0.25, 0.25, 0.25, 0.25, 0.25,
    ]);
  });

  it('always add up to the time from the first chunk to the last, and are one for each token after the first chunk', () => {
    const chunks = fc.array(fc.tuple(fc.integer({ min: 1, max: 50 }), fc.double({ min: 0, max: 1, noNaN: true })), {
      minLength: 1,
      maxLength: 20,
    });
    fc.assert(
      fc.property(chunks, fc.nat(60), (pairs, spare) => {
        const gapsSeconds = pairs.slice(1).map(([, gap]) => gap);
        const chunkCharacters = pairs.map(([characters]) => characters);
        const gaps = [...tokenGaps({ gapsSeconds, chunkCharacters }, pairs.length + spare)];
        const sum = (values: readonly number[]) => values.reduce((total, x) => total + x, 0);
        expect(sum(gaps)).toBeCloseTo(sum(gapsSeconds), 4);
        expect(gaps.length).toBeGreaterThanOrEqual(pairs.length - 1);
        expect(gaps.length).toBeLessThan(pairs.length + spare);
      }),
    );
  });

  it('with fewer tokens than chunks said, are those of the chunks', () => {
    expect(tokenGaps({ gapsSeconds: [1, 1], chunkCharacters: [1, 1, 1] }, 2)).toHaveLength(2);
  });
});

import type { Answer } from './answer.js';
import type { GenerationRequest } from './requests.js';

/**
 * Answers as bytes: OpenAI's completion and chat objects, whole and as server-sent events, with vLLM's additions.
 *
 * Events are put together from texts that were serialised once a request: of a stream only a word changes, and words of
 * this engine need no escapes in JSON. (A stop string may cut one; still letters and spaces.)
 */
export type AnswerWriter = {
  /** Events of the n-th token, from 0. Of chats, the first is preceded by the event that says the role. */
  eventsOf(index: number): string;
  /** What ends a stream that went well. */
  readonly end: string;
  /** The whole answer, without streaming. */
  body(): string;
};

export type AnswerIdentity = {
  readonly id: string;
  readonly model: string;
  /** Unix seconds. */
  readonly created: number;
};

/** How answers to one request are written. `usage` false leaves it out everywhere. */
export function answerWriter(
  request: GenerationRequest,
  answer: Answer,
  { identity, usage }: { readonly identity: AnswerIdentity; readonly usage: boolean },
): AnswerWriter {
  const { id, model, created } = identity;
  const { inputTokens } = request;
  const last = answer.outputTokens - 1;
  const chat = request.kind === 'chat';
  const usageOf = (produced: number): string =>
    `{"prompt_tokens":${inputTokens},"total_tokens":${inputTokens + produced},"completion_tokens":${produced}}`;
  const object = chat ? 'chat.completion.chunk' : 'text_completion';
  const head = `data: {"id":"${id}","object":"${object}","created":${created},"model":${JSON.stringify(model)},"choices":[`;
  const finish = `"finish_reason":${JSON.stringify(answer.finishReason)},"stop_reason":${JSON.stringify(answer.stopReason)}`;
  const usageTail = (produced: number): string =>
    request.usage === 'every' && usage ? `,"usage":${usageOf(produced)}}\n\n` : '}\n\n';
  const before = chat ? `${head}{"index":0,"delta":{"content":"` : `${head}{"index":0,"text":"`;
  const after = `${chat ? '"}' : '"'},"logprobs":null,`;
  const plainTail = `${after}"finish_reason":null}]`;
  const lastTail = `${after}${finish}}]`;
  const role = `${head}{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]${usageTail(0)}`;
  return {
    eventsOf: (index) => {
      const event = `${before}${answer.textAt(index)}${index === last ? lastTail : plainTail}${usageTail(index + 1)}`;
      return chat && index === 0 ? role + event : event;
    },
    end:
      request.usage === 'none' || !usage
        ? 'data: [DONE]\n\n'
        : `${head}],"usage":${usageOf(answer.outputTokens)}}\n\ndata: [DONE]\n\n`,
    body: () => {
      const pieces: string[] = [];
      for (let i = 0; i <= last; i++) pieces.push(answer.textAt(i));
      const text = pieces.join('');
      const content = chat ? { message: { role: 'assistant', content: text } } : { text };
      const choice = {
        index: 0,
        ...content,
        logprobs: null,
        finish_reason: answer.finishReason,
        stop_reason: answer.stopReason,
      };
      return JSON.stringify({
        id,
        object: chat ? 'chat.completion' : 'text_completion',
        created,
        model,
        choices: [choice],
        ...(usage ? { usage: JSON.parse(usageOf(answer.outputTokens)) } : {}),
      });
    },
  };
}

/** An event whose JSON breaks off, as where a proxy cuts a line. */
export const brokenEvent =
  'data: {"id":"cmpl-broken","object":"text_completion","choices":[{"index":0,"text":" bro\n\n';

/** The event with which vLLM ends a stream that failed. */
export const failureEvents =
  'data: {"error":{"message":"EngineCore encountered an issue (simulated).","type":"InternalServerError","param":null,"code":500}}\n\n' +
  'data: [DONE]\n\n';

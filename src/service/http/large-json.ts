import { Readable } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { FastifyReply } from 'fastify';

/**
 * Answers with a document whose lists may be long (the problem, plan or explanation of a thousand models has ten million
 * characters), without keeping the event loop from other requests while its text is made.
 */

/** Text that is made in one turn [characters]: well below a millisecond. */
const pieceLength = 65_536;

/** Sends a document as JSON: at once where it is small, in pieces where it is not. */
export async function sendLargeJson(reply: FastifyReply, document: object): Promise<FastifyReply> {
  reply.header('content-type', 'application/json; charset=utf-8');
  const pieces = jsonPieces(document);
  const first = pieces.next();
  const second = pieces.next();
  if (second.done === true) return reply.send(first.value ?? '');
  return reply.send(
    Readable.from(
      (async function* () {
        yield `${first.value}${second.value}`;
        for (const piece of pieces) {
          await nextTurn();
          yield piece;
        }
      })(),
    ),
  );
}

/** The text of `JSON.stringify(document)`, cut between the items of its lists. */
export function* jsonPieces(document: object): Generator<string> {
  let text = '{';
  let isFirst = true;
  for (const [key, value] of Object.entries(document)) {
    if (value === undefined) continue;
    text += `${isFirst ? '' : ','}${JSON.stringify(key)}:`;
    isFirst = false;
    if (!Array.isArray(value)) {
      text += JSON.stringify(value);
      continue;
    }
    text += '[';
    for (let at = 0; at < value.length; at++) {
      text += `${at === 0 ? '' : ','}${JSON.stringify(value[at])}`;
      if (text.length < pieceLength) continue;
      yield text;
      text = '';
    }
    text += ']';
  }
  yield `${text}}`;
}

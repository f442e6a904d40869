import type http from 'node:http';
import type { ApiPath, Json } from './fake-api-resources.js';

/** Requests to a fake API server and what they are answered with, as tests see them. */

/** A request as it arrived. */
export type SeenRequest = {
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly authorization: string | null;
  /** Of an existing resource: all of its objects, a watch of them, one object; anything that changes something. */
  readonly kind: 'list' | 'watch' | 'read' | 'write' | 'other';
  /** Plural name; null where nothing served is named. */
  readonly resource: string | null;
  readonly contentType: string | null;
  /** Of a write: the JSON that came, or the text where it was none. */
  readonly body: unknown;
};

/** What happens to a request instead of its answer. */
export type Fault =
  | {
      readonly kind: 'answer';
      readonly status: number;
      readonly body?: string;
      readonly headers?: http.OutgoingHttpHeaders;
    }
  /** Status and headers, then nothing more. */
  | { readonly kind: 'stall'; readonly status: number; readonly body?: string }
  /** The connection stays open, nothing comes. */
  | { readonly kind: 'hang' }
  | { readonly kind: 'reset' };

/** An open watch, with what can go wrong with one. */
export class OpenWatch {
  readonly request: SeenRequest;
  readonly response: http.ServerResponse;
  readonly path: ApiPath;

  constructor(request: SeenRequest, path: ApiPath, response: http.ServerResponse) {
    this.request = request;
    this.path = path;
    this.response = response;
  }

  /** Raw bytes into the stream. */
  send(text: string): void {
    if (!this.response.writableEnded) this.response.write(text);
  }

  event(type: string, object: unknown): void {
    this.send(`${JSON.stringify({ type, object })}\n`);
  }

  /** Ends as servers do when timeoutSeconds are over. */
  close(): void {
    this.response.end();
  }

  /** Breaks the connection; bytes sent before arrive. */
  reset(): void {
    this.response.socket?.destroy();
  }
}

export function statusObject(code: number, message: string, reason = 'Injected'): Json {
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, code };
}

export function status(
  response: http.ServerResponse,
  code: number,
  message: string,
  headers: http.OutgoingHttpHeaders = {},
  reason?: string,
): void {
  response.writeHead(code, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(statusObject(code, message, reason)));
}

export function answer(response: http.ServerResponse, code: number, body: Json): void {
  response.writeHead(code, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

export async function readBody(request: http.IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString('utf8');
  try {
    return text === '' ? {} : JSON.parse(text);
  } catch {
    return text;
  }
}

import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A real HTTP server on loopback that answers as a test says. */
export type ScriptedEndpoint = {
  /** http://127.0.0.1:port */
  readonly url: string;
  /** host:port */
  readonly address: string;
  /** Requests so far. */
  readonly requests: readonly IncomingMessage[];
  answer: (request: IncomingMessage, response: ServerResponse) => void;
  stop(): Promise<void>;
};

export async function startEndpoint(answer: ScriptedEndpoint['answer'] | string): Promise<ScriptedEndpoint> {
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    requests.push(request);
    endpoint.answer(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const endpoint: ScriptedEndpoint = {
    url: `http://${address}`,
    address,
    requests,
    answer: typeof answer === 'string' ? (_, response) => response.end(answer) : answer,
    async stop() {
      if (!server.listening) return;
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
  return endpoint;
}

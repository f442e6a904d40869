import { Agent, get } from 'node:http';
import { connect } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import { InputError } from '../../src/core/input-error.js';
import { createLogger } from '../../src/service/log.js';
import { type Listener, type RunningServer, startServer } from '../../src/service/server.js';
import { appUnderTest } from '../support/http-app.js';

const quiet = await createLogger({ level: 'silent', to: { write: () => {} }, pretty: false });

function backgroundProbe() {
  const events: string[] = [];
  return {
    events,
    start: async () => void events.push('start'),
    stop: async () => void events.push('stop'),
  };
}

async function started(overrides: Partial<Parameters<typeof startServer>[0]> = {}) {
  const under = await appUnderTest();
  const background = backgroundProbe();
  const server = await startServer({
    app: under.app,
    background,
    host: '127.0.0.1',
    port: 0,
    logger: quiet,
    ...overrides,
  });
  onTestFinished(() => server.stop());
  return { ...under, background, server };
}

async function portOf(server: RunningServer): Promise<number> {
  return Number(new URL(server.url).port);
}

function ask(url: string, agent: Agent): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    get(url, { agent }, (response) => {
      let body = '';
      response.on('data', (chunk) => {
        body += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
      response.on('error', reject);
    }).on('error', reject);
  });
}

describe('the server', () => {
  it('listens, starts what is behind it, and stops both once', async () => {
    const { server, background } = await started();
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
    await Promise.all([server.stop(), server.stop()]);
    expect(background.events).toEqual(['start', 'stop']);
    await expect(fetch(`${server.url}/healthz`)).rejects.toThrow();
  });

  it('names key and value where the port is taken, before anything has started', async () => {
    const first = await started();
    const port = await portOf(first.server);
    const { app } = await appUnderTest();
    const background = backgroundProbe();
    const second = startServer({ app, background, host: '127.0.0.1', port, logger: quiet });
    await expect(second).rejects.toThrow(
      `server.port: found ${port}, on which another process listens already, expected a free port`,
    );
    await expect(second).rejects.toBeInstanceOf(InputError);
    expect(background.events).toEqual([]);
  });

  it('names the host that is not of this machine', async () => {
    const { app } = await appUnderTest();
    const elsewhere = startServer({ app, background: backgroundProbe(), host: '192.0.2.1', port: 0, logger: quiet });
    await expect(elsewhere).rejects.toThrow('server.host: found "192.0.2.1", expected an address of this machine');
  });

  it('closes its port where what is behind it cannot start', async () => {
    const { app } = await appUnderTest();
    const background = { ...backgroundProbe(), start: () => Promise.reject(new Error('no kubeconfig')) };
    await expect(startServer({ app, background, host: '127.0.0.1', port: 0, logger: quiet })).rejects.toThrow(
      'no kubeconfig',
    );
    expect(app.server.listening).toBe(false);
  });

  it('finishes a running request and a running cycle before it has stopped', async () => {
    const { server, commands, background } = await started();
    let finishPlanning = () => {};
    const original = commands.whatIf;
    Object.assign(commands, {
      whatIf: async (problem: never) => {
        await new Promise<void>((resolve) => {
          finishPlanning = resolve;
        });
        return original(problem);
      },
    });
    const planning = fetch(`${server.url}/api/v1/plan`, {
      method: 'POST',
      body: JSON.stringify({ apiVersion: 'gpumix/v1', kind: 'PlanningProblem', models: [] }),
    });
    while (finishPlanning.name === 'finishPlanning') await new Promise((resolve) => setImmediate(resolve));
    let stopped = false;
    const stopping = server.stop().then(() => {
      stopped = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(stopped).toBe(false);
    finishPlanning();
    expect((await planning).status).toBe(200);
    await stopping;
    expect(background.events).toEqual(['start', 'stop']);
  });

  it('drains under load: every request that was accepted is answered in full', async () => {
    const { server } = await started();
    const agent = new Agent({ keepAlive: true, maxSockets: 8 });
    onTestFinished(() => agent.destroy());
    const url = `${server.url}/metrics/default/llama-l4`;
    const answers: { status: number; body: string }[] = [];
    let refused = 0;
    let stopping: Promise<void> | undefined;
    const client = async () => {
      for (;;) {
        try {
          answers.push(await ask(url, agent));
        } catch (error) {
          // Refused and reset connections are those that were never accepted, or idle when the port closed.
          expect((error as NodeJS.ErrnoException).code).toMatch(/^(ECONNREFUSED|ECONNRESET)$/);
          refused += 1;
          return;
        }
        if (answers.length >= 200) stopping ??= server.stop();
      }
    };
    await Promise.all(Array.from({ length: 8 }, client));
    await stopping;
    expect(answers.length).toBeGreaterThanOrEqual(200);
    expect(refused).toBe(8);
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    expect(answers.every(({ body }) => body.endsWith('} 250\n'))).toBe(true);
  });

  it.each([
    ['nothing', ''],
    ['half a request', 'GET /api/v1/models HTTP/1.1\r\nHost: '],
  ])('does not wait for a connection on which %s was said', async (_name, said) => {
    const { server } = await started({ drainMs: 600_000 });
    const socket = connect(await portOf(server), '127.0.0.1');
    const ended = new Promise((resolve) => socket.once('close', resolve));
    socket
      .on('error', () => {})
      .resume()
      .write(said);
    // Served later, so the server has accepted that connection before it stops.
    await fetch(`${server.url}/healthz`);
    await server.stop();
    await ended;
  });

  it('cuts what does not end within its time', async () => {
    const { server, commands } = await started({ drainMs: 20 });
    Object.assign(commands, { whatIf: () => new Promise(() => {}) });
    const hanging = fetch(`${server.url}/api/v1/plan`, {
      method: 'POST',
      body: JSON.stringify({ apiVersion: 'gpumix/v1', kind: 'PlanningProblem', models: [] }),
    }).catch((error: unknown) => error);
    await fetch(`${server.url}/healthz`);
    await server.stop();
    expect(await hanging).toBeInstanceOf(Error);
  });
});

describe('other faces of the service', () => {
  /** A listener that says what is done with it. */
  function listenerProbe(events: string[], overrides: Partial<Listener> = {}): Listener {
    return {
      listen: async () => {
        events.push('listen');
        return 'something on 127.0.0.1:1';
      },
      drain: async () => void events.push('drain'),
      cut: () => void events.push('cut'),
      ...overrides,
    };
  }

  it('listen before anything works, and drain with the rest', async () => {
    const events: string[] = [];
    const background = { start: async () => void events.push('start'), stop: async () => void events.push('stop') };
    const { server } = await started({ listeners: [listenerProbe(events)], background });
    expect(events).toEqual(['listen', 'start']);
    await server.stop();
    expect(events.slice(2).sort()).toEqual(['drain', 'stop']);
  });

  it('stop the start where one of them cannot listen, and leave nothing open', async () => {
    const { app } = await appUnderTest();
    const events: string[] = [];
    const background = backgroundProbe();
    const failing = listenerProbe(events, { listen: () => Promise.reject(new InputError('keda.scaler.port', [])) });
    const listeners = [listenerProbe(events), failing];
    const starting = startServer({ app, background, listeners, host: '127.0.0.1', port: 0, logger: quiet });
    await expect(starting).rejects.toBeInstanceOf(InputError);
    expect(events).toEqual(['listen', 'cut', 'cut', 'drain', 'drain']);
    expect(app.server.listening).toBe(false);
    expect(background.events).toEqual([]);
  });

  it('are cut where they do not end within the time of the drain', async () => {
    const events: string[] = [];
    let end = () => {};
    const hanging = listenerProbe(events, {
      drain: () =>
        new Promise<void>((resolve) => {
          end = resolve;
        }),
      cut: () => {
        events.push('cut');
        end();
      },
    });
    const { server } = await started({ listeners: [hanging], drainMs: 20 });
    await server.stop();
    expect(events).toEqual(['listen', 'cut']);
  });
});

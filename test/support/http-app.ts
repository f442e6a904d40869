import type { FastifyInstance } from 'fastify';
import { onTestFinished } from 'vitest';
import { loopbackAccess } from '../../src/service/access.js';
import { type AppOptions, buildApp } from '../../src/service/http/app.js';
import { createLogger } from '../../src/service/log.js';
import { createMetrics } from '../../src/service/metrics.js';
import { type ScriptedController, type ScriptedState, scriptedController } from './scripted-view.js';

/** The real app on a scripted controller, with its log in memory; closed when the test ends. */
export type AppUnderTest = ScriptedController & { readonly app: FastifyInstance; readonly log: string[] };

export async function appUnderTest(
  options: { readonly state?: Partial<ScriptedState>; readonly app?: Partial<AppOptions> } = {},
): Promise<AppUnderTest> {
  const controller = scriptedController(options.state);
  const log: string[] = [];
  const metrics = createMetrics(controller.view);
  const logger = await createLogger({ level: 'info', to: { write: (line) => void log.push(line) }, pretty: false });
  const { view, commands } = controller;
  const app = buildApp({ view, commands, metrics, logger, version: '9.9.9', access: loopbackAccess, ...options.app });
  onTestFinished(async () => {
    await app.close();
    metrics.close();
  });
  return { ...controller, app, log };
}

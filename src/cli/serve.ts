import { setFlagsFromString } from 'node:v8';
import { Command, InvalidArgumentError } from 'commander';
import { InputError, quoteInput } from '../core/input-error.js';
import { type ChosenConfig, chooseConfig } from '../service/choose-config.js';
import { composeService } from '../service/compose.js';
import { type Config, modelConfig, type SloConfig } from '../service/config.js';
import type { ConfigFlag, ConfigLayers } from '../service/config-layers.js';
import { buildApp } from '../service/http/app.js';
import { createLogger, type Logger } from '../service/log.js';
import { createMetrics } from '../service/metrics.js';
import { type RunningServer, startServer, untilStopSignal } from '../service/server.js';
import { QuickstartShow, type ShowOutput } from './quickstart-show.js';
import { describeConfiguration } from './serve-check.js';
import { goOnWithoutOutput } from './standard-output.js';
import { packageVersion } from './version.js';

export type ServeFlags = {
  readonly config?: string;
  readonly quickstart?: boolean;
  /** Say what would be served, and end. */
  readonly check?: boolean;
  readonly host?: string;
  readonly port?: string;
};

/** What the command sees of the process around it. */
export type ServeSurroundings = {
  readonly environment: ConfigLayers['environment'];
  readonly stdout: ShowOutput;
  readonly stderr: ShowOutput;
  /** Resolves with the name of the signal that asks to stop. */
  readonly untilStopped: () => Promise<string>;
};

/** `gpumix serve`: the service, until SIGTERM or Ctrl-C. */
export function serveCommand(): Command {
  return new Command('serve')
    .summary('run the service: traces in, plans out, numbers for autoscalers')
    .description(
      [
        'Reads what requests arrive, plans the cheapest replicas that serve them within the SLO, and answers autoscalers.',
        'Without --config: Redis and Kubernetes with defaults where REDIS_HOST is set or this is a cluster, otherwise the embedded quickstart (no Redis, no cluster).',
        'SIGTERM or Ctrl-C ends it cleanly; a second one at once. Exit code: 0 stopped, or with --check nothing found, 2 bad input or a port in use.',
      ].join('\n\n'),
    )
    .option('--config <file>', 'the configuration (YAML); docs/configuration.md lists its keys')
    .option('--quickstart', 'the embedded quickstart, whatever the environment says')
    .option('--check', 'say what would be served, and end: contacts nothing, reads no file but the configuration')
    .option('--host <address>', 'address to listen on (server.host, GPUMIX_HOST)')
    .option('--port <number>', 'port to listen on, 0 takes a free one (server.port, GPUMIX_PORT)', wholeNumber)
    .addHelpText(
      'after',
      `
Examples:
  gpumix serve --port 9090                       the quickstart on another port
  gpumix serve --config gpumix.yaml              a service as configured
  gpumix serve --check --config gpumix.yaml      whether that configuration has a fault, without a cluster
  REDIS_HOST=redis.example gpumix serve          in place of AIBrix's optimizer
`,
    )
    .usage('[options]')
    .argument('[file]') // only to say where it belongs
    .action(async (file: string | undefined, flags: ServeFlags) => {
      if (file !== undefined) {
        throw new InputError('serve', [
          { place: '', found: quoteInput(file), expected: `flags only: --config ${file} for a configuration` },
        ]);
      }
      if (flags.check === true) return await runCheck(flags, process);
      goOnWithoutOutput(process.stdout, process.stderr);
      setFlagsFromString(`--heap-growing-percent=${heapGrowingPercent}`);
      await runServe(flags, {
        environment: process.env,
        stdout: process.stdout,
        stderr: process.stderr,
        untilStopped: untilStopSignal,
      });
      // Everything is closed. What a library may have left behind must not keep a stopped service alive.
      setTimeout(() => process.exit(), lingerMs).unref();
    });
}

/**
 * How far each heap may grow beyond what was alive at its last collection before the next one [%].
 *
 * By default it may be several times as much, and a fleet's plans are garbage after a cycle or two. The bound is no limit:
 * a problem that needs more gets more. See docs/decisions/heap-growth.md.
 */
const heapGrowingPercent = 50;

/** How long a stopped service may take to end by itself [ms]. */
const lingerMs = 1000;

/**
 * `--check`: says what would be served, from the configuration, the environment and the flags alone.
 *
 * @throws InputError for a configuration that cannot be used, as `runServe` does
 */
async function runCheck(
  flags: ServeFlags,
  { env, stdout, stderr }: Pick<NodeJS.Process, 'env' | 'stdout' | 'stderr'>,
): Promise<void> {
  const choice = { configFile: flags.config ?? null, quickstart: flags.quickstart === true, flags: configFlags(flags) };
  const chosen = await chooseConfig({ ...choice, environment: env });
  const { host } = chosen.config.server;
  // What is checked on a laptop is meant for a cluster, where one default differs.
  const inside = { ...env, KUBERNETES_SERVICE_HOST: env.KUBERNETES_SERVICE_HOST || 'cluster' };
  const there =
    chosen.kind === 'file' ? (await chooseConfig({ ...choice, environment: inside })).config.server.host : host;
  const clusterHost = there === host ? null : there;
  for (const warning of chosen.warnings) stderr.write(`gpumix: ${warning}\n`);
  stdout.write(`${describeConfiguration(chosen, { version: packageVersion(), clusterHost })}\n`);
}

/**
 * The command itself: serves until it is asked to stop, and has stopped when it resolves.
 *
 * @throws InputError for a configuration, address or file that cannot be used
 */
export async function runServe(flags: ServeFlags, around: ServeSurroundings): Promise<void> {
  const { environment, stdout } = around;
  const version = packageVersion();
  const chosen = await chooseConfig({
    configFile: flags.config ?? null,
    quickstart: flags.quickstart === true,
    environment,
    flags: configFlags(flags),
  });
  const { config } = chosen;
  const isQuickstart = chosen.kind === 'quickstart';
  // On a terminal, log lines of the quickstart go above its table once there is one.
  let table: QuickstartShow | null = null;
  const besideTable = { write: (line: string) => (table === null ? around.stderr.write(line) : table.log(line)) };
  const logger = await createLogger({
    level: isQuickstart ? quieter(config.log.level) : config.log.level,
    to: isQuickstart ? besideTable : { write: (line) => stdout.write(line) },
    pretty: stdout.isTTY === true,
    color: wantsColor(environment),
  });
  const firstLine = `gpumix ${version}: ${chosen.description}`;
  if (isQuickstart) stdout.write(`${firstLine}\n`);
  else logger.info({ version }, firstLine);
  for (const warning of chosen.warnings) logger.warn({}, warning);

  const service = await composeService({ config, directory: chosen.directory, logger });
  const { controller, background, listeners, access } = service;
  const metrics = createMetrics(controller);
  const show = isQuickstart
    ? new QuickstartShow({ view: controller, output: stdout, color: stdout.isTTY === true && wantsColor(environment) })
    : null;
  // Listened for from the start: a signal that comes while the service starts, or at once after it said where, counts.
  const stopAsked = around.untilStopped();
  try {
    const server = await startServer({
      app: buildApp({
        view: controller,
        commands: controller,
        metrics,
        logger,
        version,
        access,
        aibrixUnit: config.publish.aibrixUnit,
      }),
      listeners,
      background,
      host: config.server.host,
      port: config.server.port,
      logger,
    });
    sayWhere(server, config, { logger, show, output: stdout });
    table = stdout.isTTY === true ? show : null;
    const signal = await stopAsked;
    show?.stop();
    table = null;
    logger.info({ signal }, `${signal}: running requests and the running cycle end, then gpumix stops`);
    await server.stop();
    logger.info({}, 'stopped');
  } catch (error) {
    show?.stop();
    // Nothing of what was opened may keep the process alive.
    await background.stop();
    throw error;
  } finally {
    metrics.close();
  }
}

function sayWhere(
  server: RunningServer,
  config: Config,
  to: { readonly logger: Logger; readonly show: QuickstartShow | null; readonly output: ShowOutput },
): void {
  to.logger.info({ url: server.url, mode: config.publish.mode }, `listening on ${server.url}`);
  if (to.show === null) return;
  const { list } = config.deployments;
  const models = [...new Set(list.map((deployment) => deployment.model))];
  const gpuTypes = new Set(list.map((deployment) => deployment.gpuType ?? deployment.name));
  const clock = config.demand.replay?.clock ?? 1;
  const [first] = list;
  const facts = {
    title: `${models.join(', ')} on ${gpuTypes.size} GPU types · a second is ${clock} s of the trace`,
    url: server.url,
    objective: models.length === 1 ? objectiveText(modelConfig(config, models[0]!).slo) : null,
    metricPath: first === undefined ? '/metrics' : `/metrics/${first.namespace}/${first.name}`,
  };
  if (to.output.isTTY !== true) to.output.write(`${facts.title}\ncurl ${facts.url}${facts.metricPath}\n`);
  else to.output.write('\n');
  to.show.start(facts);
}

/** `TTFT ≤ 2 s, TPOT ≤ 0.1 s`; null = no time is promised. */
function objectiveText(slo: SloConfig | null): string | null {
  if (slo === null) return null;
  const { ttftSeconds, ttftSecondsPerInputToken, tpotSeconds, e2eSeconds } = slo;
  const perToken =
    ttftSecondsPerInputToken === 0 ? '' : ` + ${Number((ttftSecondsPerInputToken * 1000).toFixed(3))} ms a token`;
  const parts = [
    ttftSeconds === null ? null : `TTFT ≤ ${ttftSeconds} s${perToken}`,
    tpotSeconds === null ? null : `TPOT ≤ ${tpotSeconds} s`,
    e2eSeconds === null ? null : `E2E ≤ ${e2eSeconds} s`,
  ].filter((part) => part !== null);
  return parts.length === 0 ? null : parts.join(', ');
}

/** The table says what is decided and held; a line of log for each decision would only push it away. */
function quieter(level: ChosenConfig['config']['log']['level']): ChosenConfig['config']['log']['level'] {
  return level === 'info' ? 'error' : level;
}

function configFlags(flags: ServeFlags): readonly ConfigFlag[] {
  const given: ConfigFlag[] = [];
  if (flags.host !== undefined) given.push({ flag: '--host', key: 'server.host', value: flags.host });
  if (flags.port !== undefined) given.push({ flag: '--port', key: 'server.port', value: flags.port });
  return given;
}

/** https://no-color.org, and terminals that cannot. */
function wantsColor(environment: ServeSurroundings['environment']): boolean {
  return (environment.NO_COLOR ?? '') === '' && environment.TERM !== 'dumb';
}

function wholeNumber(text: string): string {
  if (/^\d+$/.test(text)) return text;
  throw new InvalidArgumentError('expected a whole number');
}

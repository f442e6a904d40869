import { Command } from 'commander';
import { InputError } from '../core/input-error.js';
import { chooseConfig } from '../service/choose-config.js';
import { openDoctor } from '../service/compose-doctor.js';
import type { ConfigFlag, ConfigLayers } from '../service/config-layers.js';
import { diagnose } from '../service/doctor/diagnose.js';
import { gatherFacts } from '../service/doctor/gather.js';
import { renderReport } from './doctor-page.js';
import { positiveNumber } from './flag-values.js';

export type DoctorFlags = {
  readonly config?: string;
  readonly redis?: string;
  readonly kubeconfig?: string;
  readonly context?: string;
  /** For each part that is looked at [s]. */
  readonly timeout: number;
  readonly json: boolean;
  readonly all: boolean;
};

/** What the command sees of the process around it. */
export type DoctorSurroundings = {
  readonly environment: ConfigLayers['environment'];
  readonly write: (text: string) => void;
  readonly color: boolean;
  readonly width: number;
  /** The clock here; absent = that of the machine. Unix [ms] */
  readonly now?: () => number;
  /** Passes time; absent = it really passes. */
  readonly sleep?: (ms: number) => Promise<void>;
};

const defaultTimeoutSeconds = 10;

/** `gpumix doctor`: what of a live set-up would silently not work, and how to mend it. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .summary('look at a live set-up and say what would silently not work, and how to mend it')
    .description(
      [
        'Looks at Redis, the Kubernetes API server and the objects that scale Deployments, as the configuration names them, and compares them with what gpumix and its consumers need. It only reads.',
        'Without --config: Redis and Kubernetes with defaults, as `gpumix serve` has them in a cluster. The cluster is that of the kubeconfig, or of the pod that it runs in.',
        'Exit code: 0 nothing found, 1 findings, 2 bad input. What cannot be reached is a finding; what may not be read is listed as not looked at. docs/doctor.md explains every finding.',
      ].join('\n\n'),
    )
    .option('--config <file>', 'the configuration of the service (YAML)')
    .option('--redis <url>', 'the Redis to look at (redis.url, GPUMIX_REDIS_URL)')
    .option('--kubeconfig <file>', 'a kubeconfig other than KUBECONFIG and ~/.kube/config')
    .option('--context <name>', 'a context of the kubeconfig other than its current one')
    .option('--timeout <s>', 'for each part that is looked at', positiveNumber, defaultTimeoutSeconds)
    .option('--all', 'print every finding, also where there are many of one kind', false)
    .option('--json', 'print the whole DoctorReport as JSON', false)
    .addHelpText(
      'after',
      `
Examples:
  gpumix doctor --config gpumix.yaml
  gpumix doctor --redis redis://127.0.0.1:6379/0 --context staging
  kubectl -n gpumix exec deployment/gpumix -- /nodejs/bin/node /app/dist/cli/main.js doctor --config /etc/gpumix/config/gpumix.yaml
`,
    )
    .argument('[file]') // only to say where it belongs
    .usage('[options]')
    .action(async (file: string | undefined, flags: DoctorFlags) => {
      if (file !== undefined) {
        throw new InputError('doctor', [
          { place: '', found: JSON.stringify(file), expected: `flags only: --config ${file} for a configuration` },
        ]);
      }
      const { stdout, env } = process;
      process.exitCode = await runDoctor(flags, {
        environment: env,
        write: (text) => stdout.write(text),
        color: stdout.isTTY === true && !env.NO_COLOR && env.TERM !== 'dumb',
        width: stdout.columns || 100,
      });
      // Everything is closed. A request that was given up may keep its connection for as long as its peer likes.
      setTimeout(() => process.exit(), lingerMs).unref();
    });
}

/** How long the process may take to end by itself [ms]. */
const lingerMs = 1000;

/**
 * The command itself.
 *
 * @returns the exit code: 0 nothing found, 1 findings
 * @throws InputError for a configuration, file or flag that cannot be used
 */
export async function runDoctor(flags: DoctorFlags, around: DoctorSurroundings): Promise<number> {
  const { config, directory } = await chooseConfig({
    configFile: flags.config ?? null,
    quickstart: false,
    live: true,
    environment: around.environment,
    flags: configFlags(flags),
  });
  if (config.demand.source === 'replay') {
    throw new InputError(flags.config ?? 'configuration', [
      { place: 'demand.source', found: 'replay', expected: 'a live set-up (redis or prometheus): a replay has none' },
    ]);
  }
  const { sources, close } = await openDoctor({
    config,
    directory,
    access: {
      ...(flags.kubeconfig === undefined ? {} : { kubeconfig: flags.kubeconfig }),
      ...(flags.context === undefined ? {} : { context: flags.context }),
    },
    configuration: flags.config ?? null,
    modeFrom: around.environment.GPUMIX_PUBLISH_MODE ? 'GPUMIX_PUBLISH_MODE' : (flags.config ?? null),
    timeoutMs: flags.timeout * 1000,
    ...(around.now === undefined ? {} : { clock: { now: around.now } }),
    ...(around.sleep === undefined ? {} : { sleep: around.sleep }),
  });
  try {
    const report = diagnose(await gatherFacts(sources));
    const { color, width } = around;
    around.write(
      flags.json ? `${JSON.stringify(report, null, 2)}\n` : renderReport(report, { color, width, all: flags.all }),
    );
    return report.findings.length === 0 ? 0 : 1;
  } finally {
    await close();
  }
}

function configFlags(flags: DoctorFlags): readonly ConfigFlag[] {
  return flags.redis === undefined ? [] : [{ flag: '--redis', key: 'redis.url', value: flags.redis }];
}

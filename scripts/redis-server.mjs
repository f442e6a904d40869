// A real redis-server for the tests: the one on PATH, else through the system's package manager where it may.
import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** One line per package manager, tried in order: what installs redis-server and redis-cli. */
const packageManagers = [
  {
    command: 'apt-get',
    needsRoot: true,
    steps: [
      ['update', '-qq'],
      ['install', '-y', '-qq', '--no-install-recommends', 'redis-server'],
    ],
  },
  // Fedora 41 and later ship Valkey, whose package brings the redis-server command.
  {
    command: 'dnf',
    needsRoot: true,
    steps: [['install', '-y', '-q', 'redis']],
    orElse: [['install', '-y', '-q', 'valkey-compat-redis']],
  },
  { command: 'apk', needsRoot: true, steps: [['add', '--quiet', '--no-progress', 'redis']] },
  { command: 'brew', needsRoot: false, steps: [['install', '--quiet', 'redis']] },
];

/**
 * Makes sure that `redis-server` and `redis-cli` run.
 *
 * @returns null, or the sentence that tells a person what to install
 */
export function ensureRedisServer() {
  if (runs('redis-server') && runs('redis-cli')) return null;
  const manager = packageManagers.find((candidate) => onPath(candidate.command));
  if (manager === undefined) {
    return 'redis-server (with redis-cli) is needed for the tests and is not on PATH: install Redis 6.2 or later from https://redis.io/docs/latest/operate/oss_and_stack/install/.';
  }
  const prefix = rootPrefix(manager);
  if (prefix !== null) {
    console.log(`gpumix: installing redis-server with ${[...prefix, manager.command].join(' ')} …`);
    const attempts = [manager.steps, manager.orElse || []];
    for (const steps of attempts) {
      for (const step of steps) quietly([...prefix, manager.command, ...step]);
      if (runs('redis-server') && runs('redis-cli')) return null;
    }
  }
  const byHand = manager.steps.map((step) => `${manager.needsRoot ? 'sudo ' : ''}${manager.command} ${step.join(' ')}`);
  const why =
    prefix === null
      ? 'may not be installed from here (neither root nor sudo without a password)'
      : 'could not be installed';
  return `redis-server (with redis-cli) is needed for the tests, is not on PATH and ${why}: run \`${byHand.join(' && ')}\`.`;
}

function runs(command) {
  return onPath(command) && spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
}

function onPath(command) {
  return (process.env.PATH || '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** What stands before the package manager: nothing, `sudo -n`, or null where it may not be run. */
function rootPrefix(manager) {
  if (!manager.needsRoot || process.getuid?.() === 0) return [];
  const mayUseSudo = onPath('sudo') && spawnSync('sudo', ['-n', 'true'], { stdio: 'ignore' }).status === 0;
  // The non-interactive setting must survive sudo, which clears the environment.
  return mayUseSudo ? ['sudo', '-n', 'env', 'DEBIAN_FRONTEND=noninteractive'] : null;
}

/** Runs a step and shows what it said only where it failed. */
function quietly([command, ...args]) {
  const result = spawnSync(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  });
  if (result.status !== 0) console.error(`${result.stdout || ''}${result.stderr || ''}`.trim());
}

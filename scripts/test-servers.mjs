// Real servers for the tests: those on PATH, else through the system's package manager where it may. None is left running.
import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

const aptGet = (name) => ({
  command: 'apt-get',
  needsRoot: true,
  steps: [
    ['update', '-qq'],
    ['install', '-y', '-qq', '--no-install-recommends', name],
  ],
});
const apk = (name) => ({ command: 'apk', needsRoot: true, steps: [['add', '--quiet', '--no-progress', name]] });
const brew = (name) => ({ command: 'brew', needsRoot: false, steps: [['install', '--quiet', name]] });

/** What is installed: the commands that must run, and how to get them, one line per package manager, tried in order. */
const servers = {
  redis: {
    name: 'redis-server (with redis-cli)',
    commands: ['redis-server', 'redis-cli'],
    byHand: 'install Redis 6.2 or later from https://redis.io/docs/latest/operate/oss_and_stack/install/.',
    packageManagers: [
      aptGet('redis-server'),
      // Fedora 41 and later ship Valkey, whose package brings the redis-server command.
      {
        command: 'dnf',
        needsRoot: true,
        steps: [['install', '-y', '-q', 'redis']],
        orElse: [['install', '-y', '-q', 'valkey-compat-redis']],
      },
      apk('redis'),
      brew('redis'),
    ],
  },
  prometheus: {
    name: 'prometheus (with promtool)',
    commands: ['prometheus', 'promtool'],
    byHand: 'install Prometheus 2.42 or later from https://prometheus.io/download/.',
    packageManagers: [aptGet('prometheus'), apk('prometheus'), brew('prometheus')],
  },
};

/**
 * Makes sure that the commands of a server run.
 *
 * @param which a key of `servers`
 * @returns null, or the sentence that tells a person what to install
 */
export function ensureServer(which) {
  const { name, commands, byHand, packageManagers } = servers[which];
  const isThere = () => commands.every(runs);
  if (isThere()) return null;
  const manager = packageManagers.find((candidate) => onPath(candidate.command));
  if (manager === undefined) return `${name} is needed for the tests and is not on PATH: ${byHand}`;
  const prefix = rootPrefix(manager);
  if (prefix !== null) {
    console.log(`gpumix: installing ${name} with ${[...prefix, manager.command].join(' ')} …`);
    const attempts = [manager.steps, manager.orElse || []];
    for (const steps of attempts) {
      for (const step of steps) quietly([...prefix, ...withoutServices(manager.command, step)]);
      if (isThere()) return null;
    }
  }
  const typed = manager.steps.map((step) => `${manager.needsRoot ? 'sudo ' : ''}${manager.command} ${step.join(' ')}`);
  const why =
    prefix === null
      ? 'may not be installed from here (neither root nor sudo without a password)'
      : 'could not be installed';
  return `${name} is needed for the tests, is not on PATH and ${why}: run \`${typed.join(' && ')}\`.`;
}

/**
 * Debian's packages start their service when they are installed, unless policy-rc.d forbids it. Where there is none, one
 * stands for as long as the installation runs, and goes with it however it ends.
 */
function withoutServices(command, step) {
  if (command !== 'apt-get' || step[0] !== 'install') return [command, ...step];
  const script = [
    'policy=/usr/sbin/policy-rc.d',
    'if [ ! -e "$policy" ] && [ ! -L "$policy" ]; then',
    '  trap \'rm -f "$policy"\' EXIT',
    "  trap 'exit 1' HUP INT TERM",
    '  printf "#!/bin/sh\\nexit 101\\n" > "$policy" && chmod 755 "$policy"',
    'fi',
    '"$@"',
  ];
  return ['sh', '-c', script.join('\n'), 'sh', command, ...step];
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

import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';

/** How a tool ended, or why it did not. */
export type CommandOutcome =
  | { readonly kind: 'absent' }
  /** It is there and cannot be started; the system's code, `EACCES`. */
  | { readonly kind: 'refused'; readonly code: string }
  /** It had not ended when its time was up, and was killed. */
  | { readonly kind: 'late'; readonly limitMs: number }
  /** It printed more than any such tool does, and was killed. */
  | { readonly kind: 'flood'; readonly limitBytes: number }
  | {
      readonly kind: 'ended';
      /** Null where a signal ended it. */
      readonly exitCode: number | null;
      readonly stdout: string;
      readonly stderr: string;
    };

/** Runs a tool by its name and waits for its end. Never rejects. */
export type CommandRunner = (command: string, args: readonly string[]) => Promise<CommandOutcome>;

/** A driver that has to wake a GPU up takes 2 to 3 s; one that hangs never answers. [ms] */
export const usualToolLimitMs = 10_000;

/** The listings of the largest machines are some 100 KiB. [bytes] */
const mostOutput = 4 * 1024 * 1024;

/** Where the vendors' packages put their tools without naming the folder in PATH. */
const furtherFolders = ['opt/rocm/bin', 'usr/lib/wsl/lib', 'usr/local/bin'] as const;

/**
 * Runs the tools that are installed here.
 *
 * @param options.path instead of the PATH of this process
 * @param options.root above the folders that are looked in beside PATH
 */
export function commandRunner(
  options: { readonly limitMs?: number; readonly path?: string; readonly root?: string } = {},
): CommandRunner {
  const { limitMs = usualToolLimitMs, path = process.env.PATH ?? '', root = '/' } = options;
  // Some tools print numbers and messages in the language of the user.
  const env = { ...process.env, PATH: path, LC_ALL: 'C' };
  return async (command, args) => {
    const outcome = await run(command, args, env, limitMs);
    if (outcome.kind !== 'absent') return outcome;
    for (const folder of furtherFolders) {
      const elsewhere = await run(join(root, folder, command), args, env, limitMs);
      if (elsewhere.kind !== 'absent') return elsewhere;
    }
    return outcome;
  };
}

function run(
  command: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  limitMs: number,
): Promise<CommandOutcome> {
  return new Promise((resolve) => {
    // Its own process group, so that what it started is killed with it.
    const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    const output = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
    let size = 0;
    const end = (outcome: CommandOutcome) => {
      clearTimeout(timer);
      resolve(outcome);
    };
    const giveUp = (outcome: CommandOutcome) => {
      kill(child);
      end(outcome);
    };
    const timer = setTimeout(() => giveUp({ kind: 'late', limitMs }), limitMs);
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > mostOutput) giveUp({ kind: 'flood', limitBytes: mostOutput });
        else output[name].push(chunk);
      });
      child[name].on('error', () => {});
    }
    child.on('error', (error) => {
      const code = 'code' in error ? String(error.code) : error.name;
      end(code === 'ENOENT' || code === 'ENOTDIR' ? { kind: 'absent' } : { kind: 'refused', code });
    });
    child.on('close', (exitCode) => {
      const text = (name: 'stdout' | 'stderr') => Buffer.concat(output[name]).toString('utf8');
      end({ kind: 'ended', exitCode, stdout: text('stdout'), stderr: text('stderr') });
    });
  });
}

/** A process that waits inside a broken driver does not die of any signal: it is left behind, and nobody waits for it. */
function kill(child: ChildProcess): void {
  child.stdout?.destroy();
  child.stderr?.destroy();
  child.unref();
  try {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  } catch {
    // It has just ended.
  }
}

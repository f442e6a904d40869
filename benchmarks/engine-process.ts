import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** `gpumix engine` in a process of its own; kill it in the end. */
export type RunningEngine = { readonly process: ChildProcess; readonly url: string; readonly model: string };

/** @param flags such as `--null`, or `--gpu L4 --model llama-3.1-8b` */
export async function startEngine(flags: readonly string[]): Promise<RunningEngine> {
  const child = spawn(process.execPath, ['dist/cli/main.js', 'engine', ...flags, '--port', '0', '--json'], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return new Promise((resolve, reject) => {
    let said = '';
    child.stdout.on('data', (chunk) => {
      said += chunk;
      if (!said.includes('\n')) return;
      const { url, model } = JSON.parse(said) as { readonly url: string; readonly model: string };
      resolve({ process: child, url, model });
    });
    child.on('error', reject);
    child.on('exit', () => reject(new Error(`the engine ended (npm run build first): ${said}`)));
  });
}

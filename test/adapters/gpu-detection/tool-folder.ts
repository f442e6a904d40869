import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** A folder for PATH with executable scripts that stand in for tools, and a root for /sys and /proc. */
export type ToolFolder = {
  readonly path: string;
  readonly root: string;
  /** A script of /bin/sh; nothing is on its PATH but the other scripts. */
  readonly script: (name: string, body: string) => Promise<void>;
  /** A script that prints one text for arguments that match a pattern (`*` = anything), and ends with exit code 0. */
  readonly prints: (name: string, outputs: Readonly<Record<string, string>>) => Promise<void>;
  /** A file below the root. */
  readonly file: (path: string, text: string) => Promise<void>;
  readonly remove: () => Promise<void>;
};

export async function makeToolFolder(): Promise<ToolFolder> {
  const folder = await mkdtemp(join(tmpdir(), 'gpumix-tools-'));
  const path = join(folder, 'bin');
  const root = join(folder, 'root');
  await mkdir(path);
  await mkdir(root);
  const script = async (name: string, body: string) => {
    await writeFile(join(path, name), `#!/bin/sh\n${body}\n`);
    await chmod(join(path, name), 0o755);
  };
  return {
    path,
    root,
    script,
    prints: async (name, outputs) => {
      const cases = await Promise.all(
        Object.entries(outputs).map(async ([pattern, text], index) => {
          const output = join(folder, `${name}.${index}`);
          await writeFile(output, text);
          const quoted = pattern.split('*').map((part) => (part === '' ? '' : `'${part}'`));
          return `${quoted.join('*')}) exec /bin/cat '${output}' ;;`;
        }),
      );
      await script(name, `case "$*" in\n${cases.join('\n')}\n*) echo "unexpected: $*" >&2; exit 64 ;;\nesac`);
    },
    file: async (name, text) => {
      await mkdir(dirname(join(root, name)), { recursive: true });
      await writeFile(join(root, name), text);
    },
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}

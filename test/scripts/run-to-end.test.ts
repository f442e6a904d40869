import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';

const toolchain = pathToFileURL(resolve('scripts/toolchain.mjs')).href;

/** A program that takes a moment to end when it is asked to, as npm does; it says so before and after. */
const slowToEnd = `
  process.on('SIGINT', () => setTimeout(() => { console.log('ended'); process.exit(0); }, 300));
  setInterval(() => {}, 1000);
  console.log('running');`;

/** A program that does not hear. */
const deaf = `process.on('SIGINT', () => console.log('heard')); setInterval(() => {}, 1000); console.log('running');`;

function running(program: string) {
  const script = `import { runToEnd } from ${JSON.stringify(toolchain)};
    await runToEnd(process.execPath, ['-e', ${JSON.stringify(program)}]);
    console.log('went on');`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  child.stdout.on('data', (chunk) => {
    output += chunk;
  });
  const says = async (word: string) => {
    while (!output.includes(word)) await once(child.stdout, 'data');
  };
  const closed = once(child, 'close').then(([code]) => ({ code: code as number | null, output }));
  return { child, says, closed };
}

describe.skipIf(process.platform === 'win32')('a program that npm start runs', () => {
  it('has ended before npm start ends at Ctrl-C, which then ends nothing else', async () => {
    const { child, says, closed } = running(slowToEnd);
    await says('running');
    child.kill('SIGINT');
    expect(await closed).toEqual({ code: 130, output: 'running\nended\n' });
  });

  it('is killed by a second Ctrl-C', async () => {
    const { child, says, closed } = running(deaf);
    await says('running');
    child.kill('SIGINT');
    await says('heard');
    child.kill('SIGINT');
    expect(await closed).toEqual({ code: 130, output: 'running\nheard\n' });
  });

  it('is waited for where nobody asks it to end', async () => {
    expect(await running("console.log('done')").closed).toEqual({ code: 0, output: 'done\nwent on\n' });
  });
});

import { spawn } from 'node:child_process';
import { describe, expect, it, onTestFinished, vi } from 'vitest';

describe('npm start', () => {
  it('serves the quickstart, whose replicas change with the load, and ends on Ctrl-C with 0', async () => {
    const child = spawn(process.execPath, ['scripts/start.mjs', '--port', '0'], {
      // Ten times the pace of the shipped configuration: half a day of the trace takes a minute.
      env: { ...process.env, GPUMIX_DEMAND_REPLAY_CLOCK: '600' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        output += chunk;
      });
    }
    const exit = new Promise<number | null>((resolve) => child.once('close', resolve));
    onTestFinished(async () => {
      if (child.exitCode === null) child.kill('SIGKILL');
      await exit;
    });

    const url = await vi.waitFor(
      () => {
        const found = /http:\/\/127\.0\.0\.1:\d+/.exec(output)?.[0];
        if (found === undefined) throw new Error(`not listening: ${output}`);
        return found;
      },
      { timeout: 60_000, interval: 50 },
    );
    const replicas = async (gpu: string): Promise<number | null> => {
      const answer = await fetch(`${url}/metrics/default/qwen3-14b-${gpu}`);
      const value = /^vllm:deployment_replicas\{model_name="qwen3-14b"\} (\d+)$/m.exec(await answer.text())?.[1];
      return answer.status === 200 && value !== undefined ? Math.ceil(Number(value) / 100) : null;
    };
    const untilRuns = (gpu: string) =>
      vi.waitFor(
        async () => {
          if (((await replicas(gpu)) ?? 0) === 0) throw new Error(`no ${gpu} runs: ${output.slice(-2000)}`);
        },
        { timeout: 60_000, interval: 50 },
      );
    // Much chat calls for the cheapest for it, long documents for the only one that reads them in time.
    await untilRuns('rtx');
    await untilRuns('h100');

    child.kill('SIGINT');
    expect(await exit).toBe(0);
  }, 180_000);
});

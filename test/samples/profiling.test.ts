import { spawn } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { redisMissing } from '../support/redis-server.js';

if (redisMissing !== null) console.log(`profiling: ${redisMissing}`);

describe.skipIf(redisMissing !== null)('samples/profiling', () => {
  it('goes from two engines to a plan of both GPU types', async () => {
    const child = spawn(process.execPath, ['samples/profiling/run.mjs'], {
      env: { ...process.env, REDIS_URL: '' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        output += chunk;
      });
    }
    const code = await new Promise((resolve) => child.once('close', resolve));
    expect(code, output).toBe(0);
    for (const deployment of ['llama-l4', 'llama-a100']) {
      expect(output).toContain(`Result stored in Redis: aibrix:profile_llama-3.1-8b_${deployment}.`);
    }
    expect(output).toMatch(/^\d+\.\d\d USD\/h, optimal, bound \d+\.\d\d USD\/h$/m);
    const replicas = [...output.matchAll(/^ {2}default\/llama-\S+ +\S+ +(\d+) replicas/gm)].map(([, count]) =>
      Number(count),
    );
    expect(replicas).toHaveLength(2);
    // Two L4 are all there are, of some 14 requests/s each, and 81 arrive. How many of them are worth it beside A100s goes by what
    // was measured, on a machine that may be busy.
    expect(replicas[0]).toBeLessThanOrEqual(2);
    expect(replicas[1]).toBeGreaterThan(0);
  }, 240_000);
});

import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import type { BacktestDocument } from '../../src/simulation/backtest/backtest-document.js';
import { childEnvironment } from '../support/child-environment.js';

const run = promisify(execFile);
const sample = resolve('samples', 'backtest');
const trace = resolve(sample, 'trace.csv.gz');

describe('the sample of a backtest', () => {
  it('runs as its README says, here for its first quarter of an hour', async () => {
    const { stdout, stderr } = await run(
      process.execPath,
      [
        ...['dist/cli/main.js', 'simulate', '--trace', trace, '--config', resolve(sample, 'gpumix.yaml')],
        ...['--copies', '6', '--policy', 'gpumix,hpa-concurrency,static', '--duration', '15m', '--json'],
      ],
      { env: childEnvironment(), maxBuffer: 64 * 1024 * 1024 },
    );
    expect(stderr).toBe('');
    const document = JSON.parse(stdout) as BacktestDocument;
    expect(document.fleet.deployments.map(({ gpuType }) => gpuType)).toEqual(['L40S', 'A100-80GB', 'H100']);
    const main = (policy: string) => document.runs.find((each) => each.isMain && each.policy === policy)!.result;
    expect(main('gpumix').attainment).toBeGreaterThan(0.95);
    expect(main('static').attainment).toBeGreaterThanOrEqual(0.99);
  });

  it('has the trace that its generator writes: ascending times, whole lengths, about the rate that it names', () => {
    const [head, ...rows] = gunzipSync(readFileSync(trace)).toString().trim().split('\n');
    expect(head).toBe('timestamp_ms,input_tokens,output_tokens');
    const requests = rows.map((row) => row.split(',').map(Number));
    expect(
      requests.every((fields, i) => fields.every(Number.isInteger) && fields[0]! >= (requests[i - 1]?.[0] ?? 0)),
    ).toBe(true);
    expect((6 * requests.length) / 7200).toBeCloseTo(10, 0);
  });
});

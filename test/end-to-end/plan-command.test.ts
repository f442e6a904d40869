import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import type { Plan } from '../../src/core/plan.js';

/** The example of Mélange's repository, which answers 6.70 to it with slice factor 1. */
const melangeExample = JSON.stringify({
  gpu_info: {
    A10G: {
      cost: 1.01,
      tputs: [
        [2, 1],
        [5, 2],
      ],
    },
    'A100-80GB': {
      cost: 3.67,
      tputs: [
        [20, 20],
        [40, 20],
      ],
    },
  },
  workload_distribution: [
    [0.2, 0.1],
    [0.5, 0.2],
  ],
  total_request_rate: 30.0,
  slice_factor: 1,
});

function gpumix(args: readonly string[], input = '') {
  return spawnSync(process.execPath, ['dist/cli/main.js', ...args], { input, encoding: 'utf8', timeout: 30_000 });
}

describe('the command gpumix plan', () => {
  it.each(['builtin', 'highs', 'javascript-lp-solver'])(
    'answers the example of Mélange with one GPU of each type at 4.68 USD/h, proven optimal, by %s',
    (solver) => {
      const { status, stdout } = gpumix(
        ['plan', '-', '--from', 'melange', '--json', '--solver', solver],
        melangeExample,
      );
      expect(status).toBe(0);
      const plan = JSON.parse(stdout) as Plan;
      expect(plan.status).toBe('optimal');
      expect(plan.usdPerHour).toBeCloseTo(4.68, 9);
      expect(plan.boundUsdPerHour).toBeCloseTo(4.68, 6);
      expect(plan.deployments.map(({ gpuType, replicas }) => [gpuType, replicas])).toEqual([
        ['A10G', 1],
        ['A100-80GB', 1],
      ]);
    },
  );

  it('prints a table without colours where nobody looks', () => {
    const { status, stdout, stderr } = gpumix(['plan', 'samples/problems/hello-world.json']);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toContain('total    5.80 USD/h, proven optimal');
    expect(stdout).not.toContain('\u001b');
  });

  it('prints the same Plan for the same problem, but for the time it took', () => {
    const twice = [1, 2].map(() => {
      const { stdout } = gpumix(['plan', '--json', 'samples/problems/scarcity.json']);
      const { solver, ...rest } = JSON.parse(stdout) as Plan;
      return { ...rest, nodes: solver.nodes };
    });
    expect(twice[0]).toEqual(twice[1]);
  });

  it('ends with 2 for bad input, and says what is wrong in one line on stderr', () => {
    const { status, stdout, stderr } = gpumix(['plan', '-'], '{"apiVersion": "gpumix/v2"}');
    expect(status).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toContain('gpumix: standard input: apiVersion: found "gpumix/v2", expected "gpumix/v1"');
  });

  it('ends with 2 for a solver that there is not, naming those that there are', () => {
    const { status, stderr } = gpumix(['plan', 'samples/problems/hello-world.json', '--solver', 'cplex']);
    expect(status).toBe(2);
    expect(stderr).toContain('builtin, highs, javascript-lp-solver');
  });
});

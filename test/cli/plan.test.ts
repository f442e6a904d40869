import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { solverNames } from '../../src/adapters/solvers/engines.js';
import { type PlanFlags, runPlan } from '../../src/cli/plan.js';
import type { Plan } from '../../src/core/plan.js';
import type { PlanComparison } from '../../src/core/plan-comparison.js';
import type { PlanningProblemInput } from '../../src/core/planning-problem.js';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'gpumix-plan-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function problem(over: Partial<PlanningProblemInput> = {}): string {
  return JSON.stringify({
    apiVersion: 'gpumix/v1',
    kind: 'PlanningProblem',
    models: [
      {
        name: 'chat',
        demand: [{ inputTokens: 512, outputTokens: 128, rps: 9 }],
        deployments: [
          {
            id: 'default/chat-l4',
            gpuType: 'L4',
            usdPerReplicaHour: 0.8,
            profile: { indexes: [[128], [512]], tputs: [[4]] },
          },
        ],
      },
    ],
    ...over,
  });
}

type Outcome = { readonly code: number; readonly text: string; readonly notes: string };

async function run(
  file: string,
  flags: Partial<PlanFlags> = {},
  stdin: Readable = Readable.from([]),
): Promise<Outcome> {
  let text = '';
  let notes = '';
  const code = await runPlan(
    file,
    { json: false, solver: 'builtin', from: 'gpumix', maxMib: 64, ...flags },
    {
      stdin,
      write: (piece) => {
        text += piece;
      },
      writeError: (piece) => {
        notes += piece;
      },
      color: false,
      width: 80,
    },
  );
  return { code, text, notes };
}

function written(name: string, text: string): string {
  const file = join(folder, name);
  writeFileSync(file, text);
  return file;
}

describe('gpumix plan', () => {
  it('reads standard input for -', async () => {
    const { code, text } = await run('-', {}, Readable.from([problem().slice(0, 40), problem().slice(40)]));
    expect(code).toBe(0);
    expect(text).toContain('standard input: 1 model, 9 requests/s in 1 bucket');
    expect(text).toContain('total    2.40 USD/h, proven optimal');
  });

  it('prints the whole Plan with --json and nothing else', async () => {
    const { text } = await run(written('a.json', problem()), { json: true });
    const plan = JSON.parse(text) as Plan;
    expect(plan).toMatchObject({ apiVersion: 'gpumix/v1', kind: 'Plan', usdPerHour: 2.4000000000000004 });
    expect(plan.solver.milliseconds).toBeGreaterThan(0);
  });

  it('ends with 1 where a promise in the problem cannot be kept', async () => {
    const models = (JSON.parse(problem()) as PlanningProblemInput).models.map((model) => ({
      ...model,
      minServedShare: 1,
      deployments: model.deployments.map((deployment) => ({ ...deployment, maxReplicas: 1 })),
    }));
    const { code, text } = await run(written('infeasible.json', problem({ models })));
    expect(code).toBe(1);
    expect(text).toContain('USD/h, infeasible');
    expect(text).toContain('chat: 5 requests/s in 1 bucket: every deployment that could serve it is at\n');
  });

  it('says beside the result what of a Mélange configuration deserves a look', async () => {
    const config = {
      gpu_info: { L4: { cost: 0.8, tputs: [[4]] } },
      workload_distribution: [[0.5]],
      total_request_rate: 8,
      slice_factor: 4,
    };
    const file = written('melange.json', JSON.stringify(config));
    const { code, text, notes } = await run(file, { from: 'melange', json: true });
    expect(code).toBe(0);
    expect((JSON.parse(text) as Plan).usdPerHour).toBeCloseTo(0.8, 9);
    for (const line of notes.trimEnd().split('\n')) expect(line).toContain(`gpumix: ${file}: `);
    expect(notes).toContain('slice_factor');
  });

  it('plans a problem without models: nothing, at no cost', async () => {
    const { code, text } = await run(written('empty.json', problem({ models: [] })));
    expect(code).toBe(0);
    expect(text).toContain('total    0.00 USD/h, proven optimal');
  });

  it.each(solverNames)(
    'keeps to a pool, and says how much of it is used and what is missing, by %s',
    async (solver) => {
      const { code, text } = await run(written('pools.json', problem({ pools: [{ gpuType: 'L4', gpus: 2 }] })), {
        solver,
      });
      expect(code).toBe(0);
      expect(text).toContain('total    1.60 USD/h, proven optimal\n');
      expect(text).toContain('limits   L4  2 of 2 GPUs, full\n');
      // Two replicas of 4 requests/s against 9.
      expect(text).toContain('    - chat: 1 requests/s in 1 bucket: the GPUs that exist are used up\n');
    },
  );

  it('says how to read a configuration of Mélange that it is given for a problem', async () => {
    await expect(run('samples/problems/melange.json')).rejects.toThrow(
      'samples/problems/melange.json: found the configuration JSON of Mélange, expected a PlanningProblem, or --from melange',
    );
  });

  it('names line and column of a JSON fault', async () => {
    const file = written('broken.json', '{\n  "apiVersion": "gpumix/v1",\n  "kind": NaN\n}');
    await expect(run(file)).rejects.toThrow(`${file}: line 3, column 11: found "NaN", expected a number`);
  });

  it('names the key, what was found and the nearest known key', async () => {
    const file = written('typo.json', problem().replace('"maxReplicas"', '').replace('"demand"', '"demands"'));
    await expect(run(file)).rejects.toThrow('models[0].demands: found an unknown key');
    await expect(run(file)).rejects.toThrow('did you mean "demand"?');
  });

  it('takes a byte order mark for what it is, and refuses what is no UTF-8', async () => {
    expect((await run(written('marked.json', `\ufeff${problem()}`))).code).toBe(0);
    const utf16 = Buffer.from(`\ufeff${problem()}`, 'utf16le');
    await expect(run('-', {}, Readable.from([utf16]))).rejects.toThrow(
      'standard input: found bytes that are not UTF-8, expected a JSON document in UTF-8',
    );
  });

  it('says so where there is no file, or no file but a folder', async () => {
    const missing = join(folder, 'nowhere.json');
    await expect(run(missing)).rejects.toThrow(`${missing}: found no such file, expected a JSON document`);
    await expect(run(folder)).rejects.toThrow(`${folder}: found a folder, expected a JSON document`);
  });

  it('says that a YAML file is not JSON', async () => {
    await expect(run(written('problem.yaml', 'kind: PlanningProblem'))).rejects.toThrow(
      'problem.yaml: found a YAML file by its name, expected a JSON document',
    );
  });

  it('refuses a document of 200 MB at once, naming its size and the limit', async () => {
    const file = written('huge.json', '');
    truncateSync(file, 200_000_000);
    await expect(run(file)).rejects.toThrow(
      `${file}: found 190.7 MiB, expected a document of at most 64 MiB (--max-mib N raises the limit)`,
    );
  });

  it('stops reading standard input at the limit', async () => {
    let pieces = 0;
    const endless = Readable.from(
      (function* () {
        for (;;) {
          pieces++;
          yield Buffer.alloc(65_536, ' ');
        }
      })(),
    );
    await expect(run('-', { maxMib: 2 }, endless)).rejects.toThrow(
      'standard input: found more than 2 MiB, expected a document of at most 2 MiB',
    );
    expect(pieces).toBeLessThan(100);
  });

  it('reads a document that is as large as a raised limit allows', async () => {
    const file = written('padded.json', problem().padEnd(3 * 1024 * 1024));
    await expect(run(file, { maxMib: 2 })).rejects.toThrow('found 3.0 MiB');
    expect((await run(file, { maxMib: 3 })).code).toBe(0);
    // Also where it is larger than what is read unless told otherwise.
    const larger = written('larger.json', problem().padEnd(65 * 1024 * 1024));
    await expect(run(larger)).rejects.toThrow('found 65.0 MiB');
    expect((await run(larger, { maxMib: 66 })).code).toBe(0);
  });
});

describe('gpumix plan --set and --without', () => {
  it('prints both plans side by side and the difference in money', async () => {
    const { code, text } = await run(written('what.json', problem()), { set: ['models.chat.rps*=2'] });
    expect(code).toBe(0);
    expect(text).toContain('what if  models.chat.rps*=2\n');
    // 9 requests/s need three replicas of 4, 18 need five, at 0.80 USD each.
    expect(text).toContain('difference  +1.60 USD/h, +1,168 USD a month (730 h)\n');
  });

  it('prints both Plans as one document with --json', async () => {
    const { text } = await run(written('what.json', problem()), { json: true, set: ['models.chat.rps*=2'] });
    const comparison = JSON.parse(text) as PlanComparison;
    expect(comparison).toMatchObject({ kind: 'PlanComparison', edits: [{ set: 'models.chat.rps*=2' }] });
    expect(comparison.base.deployments[0]!.replicas).toBe(3);
    expect(comparison.edited.deployments[0]!.replicas).toBe(5);
    expect(comparison.differenceUsdPerMonth).toBeCloseTo(2 * 0.8 * 730, 9);
  });

  it('takes GPU types away after all edits, in whatever order the flags were given', async () => {
    const flags = { set: ['gpuTypes.L4.maxReplicas=9'], without: ['L4'] };
    const { code, text } = await run(written('what.json', problem()), flags);
    expect(code).toBe(0);
    expect(text).toContain('what if  gpuTypes.L4.maxReplicas=9, without L4\n');
    expect(text).toContain('unserved what if\n');
  });

  it('ends with the exit code of the edited plan', async () => {
    const impossible = ['models.chat.minServedShare=1', 'deployments.*.maxReplicas=1'];
    const { code, text } = await run(written('what.json', problem()), { set: impossible });
    expect(code).toBe(1);
    expect(text).toContain('as given    proven optimal\nwhat if     infeasible\n');
  });

  it('edits a configuration of Mélange too', async () => {
    const { code, text } = await run('samples/problems/melange.json', { from: 'melange', without: ['A100-80GB'] });
    expect(code).toBe(0);
    expect(text).toContain('what if  without A100-80GB\n');
  });

  it('refuses what it does not understand, naming the flag and the nearest known name', async () => {
    const file = written('what.json', problem());
    await expect(run(file, { set: ['models.caht.rps*=2'] })).rejects.toThrow(
      '--set "models.caht.rps*=2": models: found "caht", expected one of chat; did you mean "chat"?',
    );
    await expect(run(file, { without: ['L40'] })).rejects.toThrow(
      '--without "L40": found "L40", expected one of L4; did you mean "L4"?',
    );
    // Before the document is looked for.
    await expect(run('nowhere.json', { set: ['models'] })).rejects.toThrow('--set "models": found no operator');
  });
});

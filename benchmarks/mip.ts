import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Highs } from 'highs';

/**
 * A mixed-integer program by columns, for what gpumix is compared with: peers' own programs, and the whole joint
 * program in one piece. Solved by HiGHS in this thread or by a `cbc` of the system in a process of its own.
 *
 *   minimise Σ cost x   subject to   rowLower ≤ A x ≤ rowUpper,   0 ≤ x ≤ upper,   some x whole
 */
export type Mip = {
  readonly rowLower: readonly number[];
  readonly rowUpper: readonly number[];
  readonly columns: readonly MipColumn[];
};

export type MipColumn = {
  readonly cost: number;
  readonly upper: number;
  readonly whole: boolean;
  /** Row and coefficient. */
  readonly entries: readonly (readonly [row: number, value: number])[];
};

export type MipLimits = {
  readonly timeLimitMs: number;
  /** Stop within this distance of the bound, relative. */
  readonly relativeGap: number;
};

export type MipAnswer = {
  readonly status: 'optimal' | 'time-limit' | 'infeasible';
  /** Values of the columns; null where none were found within the limit. */
  readonly values: readonly number[] | null;
  /** Proven lower bound; NaN where the engine does not say. */
  readonly bound: number;
  /** Wall-clock time, making the engine's own model and reading its answer included. */
  readonly milliseconds: number;
};

export type MipEngine = {
  readonly name: string;
  solve(mip: Mip, limits: MipLimits): MipAnswer;
};

/** HiGHS's `primal_solution_status` where it holds a feasible point. */
const feasible = 2;

/** HiGHS in this thread, which it blocks. */
export function highsEngine(highs: Highs): MipEngine {
  return {
    name: `HiGHS ${highs.version.string} (WebAssembly, in this process)`,
    solve(mip, { timeLimitMs, relativeGap }) {
      const startedAt = performance.now();
      const { columns, rowLower, rowUpper } = mip;
      const starts = new Int32Array(columns.length + 1);
      columns.forEach(({ entries }, c) => {
        starts[c + 1] = starts[c]! + entries.length;
      });
      const indices = new Int32Array(starts[columns.length]!);
      const values = new Float64Array(starts[columns.length]!);
      columns.forEach(({ entries }, c) => {
        entries.forEach(([row, value], at) => {
          indices[starts[c]! + at] = row;
          values[starts[c]! + at] = value;
        });
      });
      const model = {
        numCols: columns.length,
        numRows: rowLower.length,
        colCost: Float64Array.from(columns, ({ cost }) => cost),
        colLower: new Float64Array(columns.length),
        colUpper: Float64Array.from(columns, ({ upper }) => upper),
        rowLower: Float64Array.from(rowLower),
        rowUpper: Float64Array.from(rowUpper),
        integrality: Int32Array.from(columns, ({ whole }) => (whole ? 1 : 0)),
        matrix: {
          format: 'csc' as const,
          numRows: rowLower.length,
          numCols: columns.length,
          starts,
          indices,
          values,
        },
      };
      return highs.withModel(model, (solver): MipAnswer => {
        solver.options.set({
          output_flag: false,
          mip_rel_gap: relativeGap,
          mip_abs_gap: 1e-9,
          time_limit: timeLimitMs / 1000,
        });
        const { modelStatus } = solver.run();
        const status = highs.constants.modelStatus;
        const found = Number(solver.info.get('primal_solution_status')) === feasible;
        const infeasible = modelStatus === status.infeasible || modelStatus === status.unboundedOrInfeasible;
        return {
          status: infeasible ? 'infeasible' : modelStatus === status.optimal ? 'optimal' : 'time-limit',
          values: found && !infeasible ? [...solver.getSolution().colValue] : null,
          bound: Number(solver.info.get('mip_dual_bound')),
          milliseconds: performance.now() - startedAt,
        };
      });
    },
  };
}

/**
 * The `cbc` of the system, as PuLP runs it for Mélange and AIBrix: an MPS file, a process, a solution file. Null where
 * there is none on the PATH.
 */
export function cbcEngine(): MipEngine | null {
  const probe = spawnSync('cbc', ['-quit'], { encoding: 'utf8' });
  if (probe.error !== undefined || probe.status !== 0) return null;
  const version = /Version: (\S+)/.exec(probe.stdout)?.[1] ?? 'of unknown version';
  return {
    name: `CBC ${version} (a process for each)`,
    solve(mip, { timeLimitMs, relativeGap }) {
      const folder = mkdtempSync(join(tmpdir(), 'gpumix-cbc-'));
      try {
        const startedAt = performance.now();
        const [model, solution] = [join(folder, 'model.mps'), join(folder, 'solution.txt')];
        writeFileSync(model, toMps(mip));
        const limits = ['-sec', String(timeLimitMs / 1000), '-timeMode', 'elapsed', '-ratio', String(relativeGap)];
        const ran = spawnSync('cbc', [model, ...limits, '-branch', '-printing', 'all', '-solution', solution], {
          encoding: 'utf8',
          // CBC looks at its limit between steps only; beyond this it is stuck.
          timeout: 2 * timeLimitMs + 10_000,
        });
        if ((ran.error as NodeJS.ErrnoException | undefined)?.code === 'ETIMEDOUT') {
          return { status: 'time-limit', values: null, bound: Number.NaN, milliseconds: performance.now() - startedAt };
        }
        if (!existsSync(solution)) throw new Error(`cbc wrote no solution (status ${ran.status}):\n${ran.stdout}`);
        const answer = readCbcSolution(readFileSync(solution, 'utf8'), mip.columns.length);
        return { ...answer, bound: Number.NaN, milliseconds: performance.now() - startedAt };
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    },
  };
}

/** The first line says how it ended; then a line per column, `**` before it where a value breaks a limit. */
function readCbcSolution(text: string, columnCount: number): Pick<MipAnswer, 'status' | 'values'> {
  const [head = '', ...lines] = text.split('\n');
  if (/^(integer )?infeasible/i.test(head)) return { status: 'infeasible', values: null };
  const status = head.startsWith('Optimal') ? 'optimal' : 'time-limit';
  if (head.includes('no integer solution')) return { status, values: null };
  const values = new Array<number>(columnCount).fill(0);
  for (const line of lines) {
    const [, name, value] = line.replace('**', '').trim().split(/\s+/);
    if (name?.startsWith('X')) values[Number(name.slice(1))] = Number(value);
  }
  return { status, values };
}

/** A Mip as an MPS file; columns are X0, X1, …, rows R0, R1, … */
export function toMps({ columns, rowLower, rowUpper }: Mip): string {
  const lines = ['NAME gpumix', 'ROWS', ' N OBJ'];
  rowLower.forEach((lower, r) => {
    const upper = rowUpper[r]!;
    if (lower !== upper && Number.isFinite(lower) && Number.isFinite(upper)) {
      throw new RangeError(`row ${r}: expected one finite side or two equal ones, found ${lower} to ${upper}`);
    }
    lines.push(` ${lower === upper ? 'E' : Number.isFinite(lower) ? 'G' : 'L'} R${r}`);
  });
  lines.push('COLUMNS');
  let inWhole = false;
  const marker = (whole: boolean) => {
    if (whole === inWhole) return;
    inWhole = whole;
    lines.push(` MARKER 'MARKER' '${whole ? 'INTORG' : 'INTEND'}'`);
  };
  columns.forEach(({ cost, whole, entries }, c) => {
    marker(whole);
    // A column with no entry at all would not exist.
    if (cost !== 0 || entries.length === 0) lines.push(` X${c} OBJ ${cost}`);
    for (const [row, value] of entries) lines.push(` X${c} R${row} ${value}`);
  });
  marker(false);
  lines.push('RHS');
  rowLower.forEach((lower, r) => {
    const side = Number.isFinite(lower) ? lower : rowUpper[r]!;
    if (side !== 0) lines.push(` RHS R${r} ${side}`);
  });
  lines.push('BOUNDS');
  columns.forEach(({ upper }, c) => {
    // Without a bound some readers take a whole column as 0 or 1. By position, as CBC reads the first such line.
    lines.push(Number.isFinite(upper) ? ` UP BND       ${`X${c}`.padEnd(10)}${upper}` : ` PL BND       X${c}`);
  });
  lines.push('ENDATA', '');
  return lines.join('\n');
}

/** What the columns of an answer cost, with whole columns rounded to whole numbers. */
export function costOfValues({ columns }: Mip, values: readonly number[]): number {
  return columns.reduce((sum, { cost, whole }, c) => sum + cost * (whole ? Math.round(values[c]!) : values[c]!), 0);
}

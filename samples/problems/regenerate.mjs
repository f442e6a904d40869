// Writes the plan and the explanation of each documented problem anew, as the command line gives them:
//
//   npm run build && node samples/problems/regenerate.mjs
//
// `solver.milliseconds` is set to 0: it is the only part of a Plan that differs from run to run.
import { spawnSync } from 'node:child_process';
import { renameSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = dirname(fileURLToPath(import.meta.url));
const root = join(folder, '..', '..');

/** Problems that have a plan and an explanation beside them. */
const documented = ['scarce-h100s', 'budget', 'tenants', 'moving', 'stock-out'];

for (const name of documented) {
  const problem = relative(root, join(folder, `${name}.json`));
  const plan = JSON.parse(gpumix('plan', problem, '--json'));
  if (plan.status !== 'optimal') throw new Error(`${problem}: the plan is ${plan.status}, expected a proven one`);
  plan.solver.milliseconds = 0;
  write(`${name}.plan.json`, `${JSON.stringify(plan, null, 2)}\n`);
  write(`${name}.explanation.txt`, gpumix('explain', problem));
}

// As all JSON of this project is formatted.
const biome = join(root, 'node_modules', '@biomejs', 'biome', 'bin', 'biome');
const plans = documented.map((name) => join(folder, `${name}.plan.json`));
const formatted = spawnSync(process.execPath, [biome, 'format', '--write', ...plans], { cwd: root, encoding: 'utf8' });
if (formatted.status !== 0) throw new Error(`biome format: ${formatted.stderr}`);

function gpumix(...args) {
  const main = join(root, 'dist', 'cli', 'main.js');
  const ran = spawnSync(process.execPath, [main, ...args], { cwd: root, encoding: 'utf8', maxBuffer: 2 ** 27 });
  if (ran.status !== 0) throw new Error(`gpumix ${args.join(' ')}: exit code ${ran.status}\n${ran.stderr}`);
  return ran.stdout;
}

function write(name, text) {
  const file = join(folder, name);
  writeFileSync(`${file}.new`, text);
  renameSync(`${file}.new`, file);
}

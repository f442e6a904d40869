import { z } from 'zod';
import {
  type EditSegment,
  editSource,
  formatEditPath,
  literally,
  type ProblemEdit,
  type SetEdit,
  type WithoutEdit,
} from './edit-syntax.js';
import { InputError, type InputIssue, quoteInput } from './input-error.js';
import { check, nearestName } from './parse.js';
import {
  type PlanningProblem,
  type ProblemDeployment,
  type ProblemModel,
  planningProblemSchema,
  planOptionsSchema,
  problemDeploymentSchema,
  problemModelSchema,
} from './planning-problem.js';

/**
 * The problem with what-if edits applied in their order. The problem itself is left as it is.
 *
 * @param source names the document in errors that no single edit is to blame for (minReplicas above maxReplicas)
 * @throws InputError for a path, name, operator or value that does not fit: names the edit, what was found, what is
 * known, and the nearest known name
 */
export function applyEdits(problem: PlanningProblem, edits: readonly ProblemEdit[], source: string): PlanningProblem {
  if (edits.length === 0) return problem;
  const edited = edits.reduce(
    (current, edit) => (edit.kind === 'set' ? applySet(current, edit) : withoutGpuType(current, edit)),
    problem,
  );
  return check(planningProblemSchema, edited, `${source} with ${edits.map(editSource).join(' ')}`);
}

const rootEdits = {
  models: editModels,
  deployments: editDeployments,
  gpuTypes: editGpuTypes,
  pools: editPools,
  quotas: editQuotas,
  budgetUsdPerHour: editBudget,
  options: editOptions,
} satisfies Record<string, (problem: PlanningProblem, edit: SetEdit) => PlanningProblem>;
const roots = Object.keys(rootEdits);

function applySet(problem: PlanningProblem, edit: SetEdit): PlanningProblem {
  const root = edit.path[0]!.name;
  if (!Object.hasOwn(rootEdits, root)) throw unknownName(edit, { place: '', name: root, known: roots });
  return rootEdits[root as keyof typeof rootEdits](problem, edit);
}

function withoutGpuType(problem: PlanningProblem, edit: WithoutEdit): PlanningProblem {
  const { gpuType } = edit;
  const known = gpuTypesOf(problem);
  if (!known.includes(gpuType)) throw unknownName(edit, { place: '', name: gpuType, known });
  const differs = (item: { readonly gpuType: string }): boolean => item.gpuType !== gpuType;
  return {
    ...problem,
    models: problem.models.map((model) => ({ ...model, deployments: model.deployments.filter(differs) })),
    pools: problem.pools.filter(differs),
    quotas: problem.quotas.filter(differs),
  };
}

const modelKeys = ['priority', 'unservedUsdPerRequest', 'minServedShare'] as const;
const tokenKeys = ['inputTokens', 'outputTokens'] as const;
const bucketShape = problemModelSchema.shape.demand.element.shape;
const totalRps = z.number().min(0);

function editModels(problem: PlanningProblem, edit: SetEdit): PlanningProblem {
  const { key, selects } = selection(
    edit,
    problem.models.map((model) => model.name),
    ['rps', ...tokenKeys, ...modelKeys],
  );
  const editOne = (model: ProblemModel): ProblemModel => {
    const place = formatEditPath([edit.path[0]!, literally(model.name), literally(key)]);
    if (key === 'rps') return withDemand(model, edit, place);
    const tokenKey = tokenKeys.find((candidate) => candidate === key);
    if (tokenKey !== undefined) {
      onlyMultiplied(edit, place);
      const demand = model.demand.map((bucket) => ({
        ...bucket,
        [tokenKey]: newValue(edit, { place, old: bucket[tokenKey], schema: bucketShape[tokenKey] }),
      }));
      return { ...model, demand };
    }
    const modelKey = modelKeys.find((candidate) => candidate === key)!;
    return {
      ...model,
      [modelKey]: newValue(edit, { place, old: model[modelKey], schema: problemModelSchema.shape[modelKey] }),
    };
  };
  return { ...problem, models: problem.models.map((model) => (selects(model.name) ? editOne(model) : model)) };
}

/** The total changes, the shape stays: which lengths there are, and in which proportions. */
function withDemand(model: ProblemModel, edit: SetEdit, place: string): ProblemModel {
  const { demand } = model;
  const total = demand.reduce((sum, bucket) => sum + bucket.rps, 0);
  const wanted = newValue(edit, { place, old: total, schema: totalRps }) as number;
  if (wanted === total) return model;
  if (total === 0 && demand.length !== 1) {
    const found = `a demand of 0 requests/s in ${demand.length} buckets`;
    throw editError(edit, { place, found, expected: 'demand whose shape can be kept, or a single bucket' });
  }
  const factor = wanted / total;
  const scaled = demand.map((bucket) => {
    const rps = total === 0 ? wanted : bucket.rps * factor;
    return { ...bucket, rps: checked(edit, place, () => check(bucketShape.rps, rps, '')) };
  });
  return { ...model, demand: scaled };
}

const deploymentKeys = [
  'usdPerReplicaHour',
  'gpusPerReplica',
  'minReplicas',
  'idleMinReplicas',
  'maxReplicas',
  'currentReplicas',
  'readyReplicas',
  'pendingReplicas',
  'fixedReplicas',
  'startupSeconds',
  'startUsdPerReplica',
  'stopUsdPerReplica',
  'targetUtilization',
  'maxTokens',
] as const satisfies readonly (keyof ProblemDeployment)[];
const throughputKey = 'throughput';

function editDeployments(problem: PlanningProblem, edit: SetEdit): PlanningProblem {
  return editSelected(
    problem,
    edit,
    problem.models.flatMap((model) => model.deployments.map((deployment) => deployment.id)),
    (deployment) => deployment.id,
  );
}

function editGpuTypes(problem: PlanningProblem, edit: SetEdit): PlanningProblem {
  return editSelected(problem, edit, deployedTypes(problem), (deployment) => deployment.gpuType);
}

function editSelected(
  problem: PlanningProblem,
  edit: SetEdit,
  known: readonly string[],
  nameOf: (deployment: ProblemDeployment) => string,
): PlanningProblem {
  const { key, selects } = selection(edit, known, [...deploymentKeys, throughputKey]);
  const editOne = (deployment: ProblemDeployment): ProblemDeployment => {
    const place = formatEditPath(['deployments', deployment.id, key].map(literally));
    if (key === throughputKey) return withThroughput(deployment, edit, place);
    const deploymentKey = deploymentKeys.find((candidate) => candidate === key)!;
    const schema = problemDeploymentSchema.shape[deploymentKey];
    // A price of starting or stopping that a deployment does not have is that of the options.
    const isSwitching = deploymentKey === 'startUsdPerReplica' || deploymentKey === 'stopUsdPerReplica';
    const old = deployment[deploymentKey] ?? (isSwitching ? problem.options[deploymentKey] : null);
    return { ...deployment, [deploymentKey]: newValue(edit, { place, old, schema }) };
  };
  return {
    ...problem,
    models: problem.models.map((model) => ({
      ...model,
      deployments: model.deployments.map((item) => (selects(nameOf(item)) ? editOne(item) : item)),
    })),
  };
}

function withThroughput(deployment: ProblemDeployment, edit: SetEdit, place: string): ProblemDeployment {
  onlyMultiplied(edit, place);
  const { profile } = deployment;
  if (profile === null) {
    throw editError(edit, { place, found: 'a deployment without a profile', expected: 'one that has throughputs' });
  }
  const factor = edit.value as number;
  const tputs = profile.tputs.map((row) => row.map((rps) => (rps === null ? null : rps * factor)));
  const scaled = { ...profile, tputs };
  return {
    ...deployment,
    profile: checked(edit, place, () => check(problemDeploymentSchema.shape.profile, scaled, '')),
  };
}

const gpusField = 'gpus';

/** The names of a path after its first word, where a last word `gpus` may be left out. */
function withoutGpusField(edit: SetEdit): readonly EditSegment[] {
  const names = edit.path.slice(1);
  const last = names.at(-1);
  return names.length > 1 && last?.name === gpusField && !last.quoted ? names.slice(0, -1) : names;
}

function editPools(problem: PlanningProblem, edit: SetEdit): PlanningProblem {
  const names = withoutGpusField(edit);
  const schema = planningProblemSchema.shape.pools.unwrap().element.shape.gpus;
  const name = joinedName(edit, names, 'pools.GPU_TYPE');
  const place = (gpuType: string): string => formatEditPath([edit.path[0]!, literally(gpuType)]);
  const poolTypes = problem.pools.map((pool) => pool.gpuType);
  if (name === null || poolTypes.includes(name)) {
    if (poolTypes.length === 0) {
      throw editError(edit, {
        place: 'pools',
        found: 'a problem without pools',
        expected: 'the GPU type of a new pool',
      });
    }
    const selects = (gpuType: string): boolean => name === null || gpuType === name;
    const changed = problem.pools.map(({ gpuType, gpus }) => ({
      gpuType,
      gpus: selects(gpuType) ? (newValue(edit, { place: place(gpuType), old: gpus, schema }) as number | null) : gpus,
    }));
    return { ...problem, pools: changed };
  }
  const known = gpuTypesOf(problem);
  // A pool of a type that nothing runs on would change nothing, and is a slip of the keyboard.
  if (!known.includes(name)) throw unknownName(edit, { place: 'pools', name, known });
  const gpus = newValue(edit, { place: place(name), old: null, schema }) as number | null;
  return { ...problem, pools: [...problem.pools, { gpuType: name, gpus }] };
}

function editQuotas(problem: PlanningProblem, edit: SetEdit): PlanningProblem {
  const names = withoutGpusField(edit);
  const namespaces = unique([
    ...problem.quotas.map((quota) => quota.namespace),
    ...problem.models.flatMap((model) => model.deployments.map(({ id }) => id.slice(0, Math.max(0, id.indexOf('/'))))),
  ]).filter((namespace) => namespace !== '');
  const { namespace, gpuType } = quotaNames(edit, names, namespaces);
  const known = gpuTypesOf(problem);
  if (gpuType !== null && !known.includes(gpuType)) {
    const place = formatEditPath([edit.path[0]!, names[0]!]);
    throw unknownName(edit, { place, name: gpuType, known });
  }
  const schema = planningProblemSchema.shape.quotas.unwrap().element.shape.gpus;
  const place = (quota: { readonly namespace: string; readonly gpuType: string }): string =>
    formatEditPath(['quotas', quota.namespace, quota.gpuType].map(literally));
  const selects = (quota: { readonly namespace: string; readonly gpuType: string }): boolean =>
    (namespace === null || quota.namespace === namespace) && (gpuType === null || quota.gpuType === gpuType);
  const isRemoval = edit.operator === '=' && edit.value === null;
  if (problem.quotas.some(selects)) {
    if (isRemoval) return { ...problem, quotas: problem.quotas.filter((quota) => !selects(quota)) };
    const quotas = problem.quotas.map((quota) =>
      selects(quota)
        ? { ...quota, gpus: newValue(edit, { place: place(quota), old: quota.gpus, schema }) as number }
        : quota,
    );
    return { ...problem, quotas };
  }
  if (namespace === null || gpuType === null) {
    throw editError(edit, { place: 'quotas', found: 'no quota that this names', expected: 'a quota of the problem' });
  }
  // There is none to take away: unlimited already.
  if (isRemoval) return problem;
  const gpus = newValue(edit, { place: place({ namespace, gpuType }), old: null, schema }) as number;
  return { ...problem, quotas: [...problem.quotas, { namespace, gpuType, gpus }] };
}

/** Splits the names of a quota where both may hold dots: the longest namespace that is known; null = every one. */
function quotaNames(
  edit: SetEdit,
  names: readonly EditSegment[],
  namespaces: readonly string[],
): { readonly namespace: string | null; readonly gpuType: string | null } {
  const shape = 'quotas.NAMESPACE.GPU_TYPE';
  if (names.length < 2) {
    throw editError(edit, { place: 'quotas', found: quoteInput(formatEditPath(edit.path)), expected: shape });
  }
  for (let count = names.length - 1; count >= 1; count--) {
    const head = names.slice(0, count);
    if (count > 1 && head.some((segment) => segment.quoted)) continue;
    const namespace = joinedName(edit, head, shape);
    if (namespace === null || namespaces.includes(namespace)) {
      return { namespace, gpuType: joinedName(edit, names.slice(count), shape) };
    }
  }
  throw unknownName(edit, { place: 'quotas', name: names[0]!.name, known: namespaces });
}

function editBudget(problem: PlanningProblem, edit: SetEdit): PlanningProblem {
  const [root, ...rest] = edit.path;
  if (rest.length > 0) {
    throw editError(edit, { place: '', found: quoteInput(formatEditPath(edit.path)), expected: root!.name });
  }
  const schema = planningProblemSchema.shape.budgetUsdPerHour;
  const old = problem.budgetUsdPerHour;
  return { ...problem, budgetUsdPerHour: newValue(edit, { place: root!.name, old, schema }) as number | null };
}

function editOptions(problem: PlanningProblem, edit: SetEdit): PlanningProblem {
  const keys = Object.keys(planOptionsSchema.shape) as (keyof PlanningProblem['options'])[];
  const name = edit.path
    .slice(1)
    .map((segment) => segment.name)
    .join('.');
  const key = keys.find((candidate) => candidate === name);
  if (key === undefined) throw unknownName(edit, { place: 'options', name, known: keys });
  const schema = planOptionsSchema.shape[key];
  const value = newValue(edit, { place: `options.${key}`, old: problem.options[key], schema });
  return { ...problem, options: { ...problem.options, [key]: value } };
}

type Selection = { readonly key: string; readonly selects: (name: string) => boolean };

/** `ROOT.NAME.KEY`: which names it means, and which key of theirs. */
function selection(edit: SetEdit, known: readonly string[], keys: readonly string[]): Selection {
  const root = edit.path[0]!.name;
  if (edit.path.length < 3) {
    throw editError(edit, {
      place: '',
      found: quoteInput(formatEditPath(edit.path)),
      expected: `${root}.NAME.KEY, with one of the keys ${keys.join(', ')}`,
    });
  }
  const names = edit.path.slice(1, -1);
  const name = joinedName(edit, names, `${root}.NAME.KEY`);
  if (name !== null && !known.includes(name)) throw unknownName(edit, { place: root, name, known });
  const key = edit.path.at(-1)!.name;
  if (!keys.includes(key)) {
    throw unknownName(edit, { place: formatEditPath(edit.path.slice(0, -1)), name: key, known: keys });
  }
  if (name === null && known.length === 0) {
    throw editError(edit, { place: root, found: 'a problem that has none', expected: `a problem with ${root}` });
  }
  return { key, selects: (candidate) => name === null || candidate === name };
}

/** One name of which the dots split the bare segments; null = `*`, every name. */
function joinedName(edit: SetEdit, segments: readonly EditSegment[], shape: string): string | null {
  const isAlone = segments.length === 1;
  if (isAlone && segments[0]!.name === '*' && !segments[0]!.quoted) return null;
  if (segments.length === 0 || (!isAlone && segments.some((segment) => segment.quoted))) {
    const found = quoteInput(formatEditPath(edit.path));
    throw editError(edit, { place: '', found, expected: `${shape}, with one name, quoted as a whole or not at all` });
  }
  return segments.map((segment) => segment.name).join('.');
}

function deployedTypes(problem: PlanningProblem): readonly string[] {
  return unique(problem.models.flatMap((model) => model.deployments.map((deployment) => deployment.gpuType)));
}

function gpuTypesOf(problem: PlanningProblem): readonly string[] {
  return unique([...deployedTypes(problem), ...problem.pools.map((pool) => pool.gpuType)]);
}

function unique(names: readonly string[]): readonly string[] {
  return [...new Set(names)];
}

/** What an edit makes of one value, checked against the schema of its key. */
function newValue(
  edit: SetEdit,
  target: { readonly place: string; readonly old: number | string | null; readonly schema: z.ZodType },
): unknown {
  const { place, old, schema } = target;
  if (edit.operator === '=') return checked(edit, place, () => check(schema, edit.value, ''));
  const amount = edit.value as number;
  if (typeof old !== 'number') {
    const found = old === null ? 'null (nothing to count from)' : quoteInput(old);
    throw editError(edit, { place, found, expected: `a number before ${edit.operator}, or = to set it` });
  }
  const sums = { '*=': old * amount, '+=': old + amount, '-=': old - amount } as const;
  const value = sums[edit.operator];
  return checked(edit, place, () => check(schema, value, ''), `${value} (${old} ${edit.operator[0]} ${amount})`);
}

/** Lengths and throughputs are many numbers at once, which one value cannot replace. */
function onlyMultiplied(edit: SetEdit, place: string): void {
  if (edit.operator === '*=') return;
  throw editError(edit, { place, found: edit.operator, expected: '*= : every one of its numbers is multiplied' });
}

/** Runs a check whose error is told as one of the edit. */
function checked<Value>(edit: SetEdit, place: string, run: () => Value, found?: string): Value {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    const issues = error.issues.map((issue) => ({
      ...issue,
      place: issue.place === '' ? place : `${place}: ${issue.place}`,
      found: found ?? issue.found,
    }));
    throw new InputError(editSource(edit), issues);
  }
}

function editError(edit: ProblemEdit, issue: InputIssue): InputError {
  return new InputError(editSource(edit), [issue]);
}

/** Names that a message lists. */
const listedNames = 8;

function unknownName(
  edit: ProblemEdit,
  unknown: { readonly place: string; readonly name: string; readonly known: readonly string[] },
): InputError {
  const { place, name, known } = unknown;
  const suggestion = nearestName(name, known);
  const more = known.length > listedNames ? `, … (${known.length} in all)` : '';
  const listed = known.slice(0, listedNames).map((item) => quoteInput(item).slice(1, -1));
  const expected = known.length === 0 ? 'a name, and the problem has none' : `one of ${listed.join(', ')}${more}`;
  return editError(edit, {
    place,
    found: quoteInput(name),
    expected,
    ...(suggestion === undefined ? {} : { suggestion }),
  });
}

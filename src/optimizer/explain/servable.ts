import type { ProblemModel } from '../../core/planning-problem.js';
import { bestEffortWork, bucketWork, compileWork } from '../../core/work.js';

/** Deployments of a model that can serve some of its demand, within the SLO or (where none can) by best effort. */
export type Servable = {
  readonly some: ReadonlySet<string>;
  /** Those that can serve every bucket that any of them can: proportional routing uses no others. */
  readonly all: ReadonlySet<string>;
};

export function servableOf(model: ProblemModel): Servable {
  const profiled = model.deployments.flatMap(({ id, profile, maxTokens, maxReplicas, fixedReplicas }) =>
    profile === null ? [] : [{ id, table: compileWork(profile, maxTokens), open: (fixedReplicas ?? maxReplicas) > 0 }],
  );
  const some = new Set<string>();
  const misses = new Set<string>();
  for (const { inputTokens, outputTokens, rps } of model.demand) {
    if (rps === 0) continue;
    let can = profiled.filter(({ table }) => bucketWork(table, inputTokens, outputTokens).servable);
    if (can.length === 0) {
      can = profiled.filter(({ table }) => bestEffortWork(table, inputTokens, outputTokens) < Number.POSITIVE_INFINITY);
    }
    for (const { id } of can) some.add(id);
    if (!can.some(({ open }) => open)) continue;
    for (const deployment of profiled) if (!can.includes(deployment)) misses.add(deployment.id);
  }
  return { some, all: new Set([...some].filter((id) => !misses.has(id))) };
}

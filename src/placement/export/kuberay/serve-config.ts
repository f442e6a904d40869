import type { ExportInput } from '../exporter.js';
import { memoryPart } from '../memory-part.js';
import { gbOf } from '../placed-service.js';
import type { RayApp } from './worker-groups.js';

/**
 * The applications of Ray Serve (`serveConfigV2`), one for each service, each under a path of its own.
 *
 * Language models are served by Ray's own application, which takes its part of a GPU as a bundle and passes it on to vLLM
 * in `VLLM_RAY_PER_WORKER_GPUS`; both must agree (Ray, "Fractional GPU serving"). Of other services the request knows the
 * import path at most, so that the name of their deployment is fixed by rule: the service's own.
 *
 * A part of a GPU is bookkeeping: nothing holds a process to it but vLLM's `gpu_memory_utilization`.
 */
export function serveConfig(apps: readonly RayApp[], input: ExportInput): object {
  return { applications: apps.map((app) => (isLanguageModel(app) ? languageModel(app, input) : plainApp(app))) };
}

/** Whether Ray's own application serves it: a language model on a GPU, without an import path of its own. */
export function isLanguageModel({ one: { service }, device }: RayApp): boolean {
  return service.kind === 'llm' && service.importPath === null && device !== null;
}

/** The import path of a service that names none: the module of its name, `xtts-v2` → `xtts_v2:app`. */
export function importPathOf({ one: { service, name } }: RayApp): string {
  return service.importPath ?? `${name.replaceAll('-', '_')}:app`;
}

function budget({ one: { gpu, assignment } }: RayApp): Readonly<Record<string, string>> {
  return gpu === null ? {} : { VRAM_BUDGET_GB: String(gbOf(assignment.memoryBudgetMb)) };
}

function languageModel(app: RayApp, { catalogue }: ExportInput): object {
  const { one, part, group, device } = app;
  const { service, name } = one;
  const source = service.model === '' ? {} : { model_source: service.model };
  const fraction = part < 1 ? { VLLM_RAY_PER_WORKER_GPUS: String(part), VLLM_DISABLE_COMPILE_CACHE: '1' } : {};
  const config = {
    model_loading_config: { model_id: name, ...source },
    engine_kwargs: {
      gpu_memory_utilization: memoryPart(one, catalogue),
      ...(service.maxSessions === null ? {} : { max_num_seqs: service.maxSessions }),
    },
    // Fixed, since the placement has room for one.
    deployment_config: { autoscaling_config: { min_replicas: 1, max_replicas: 1 } },
    placement_group_config: { bundles: [{ [device!]: part, [group]: part }] },
    runtime_env: { env_vars: { ...budget(app), ...fraction } },
  };
  return {
    name,
    import_path: 'ray.serve.llm:build_openai_app',
    route_prefix: `/${name}`,
    args: { llm_configs: [config] },
  };
}

function plainApp(app: RayApp): object {
  const { one, part, group, device } = app;
  const env = budget(app);
  const resources = {
    ...(device === null || device === 'GPU' ? {} : { [device]: part }),
    [group]: device === null ? 1 : part,
  };
  return {
    name: one.name,
    import_path: importPathOf(app),
    route_prefix: `/${one.name}`,
    ...(Object.keys(env).length === 0 ? {} : { runtime_env: { env_vars: env } }),
    deployments: [
      {
        name: one.name,
        num_replicas: 1,
        ray_actor_options: { num_cpus: 1, num_gpus: device === 'GPU' ? part : 0, resources },
      },
    ],
  };
}

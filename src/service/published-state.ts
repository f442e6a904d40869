import { z } from 'zod';
import { planStatuses } from '../core/plan.js';
import type { PublishedEntry } from './fleet.js';
import type { ModelPlan } from './model-plan.js';

/**
 * What a restart must remember of the plan in force, as small as it can be: the numbers and why, not the shares.
 *
 * It is written whenever a number changes, and lets the next process hold what this one published.
 */
const publishedSchema = z.object({
  models: z.array(
    z.object({
      name: z.string(),
      status: z.enum(planStatuses),
      planAt: z.string().nullable(),
      usdPerHour: z.number(),
      boundUsdPerHour: z.number(),
      deployments: z.array(
        z.object({
          id: z.string(),
          gpuType: z.string(),
          replicas: z.int().min(0).nullable(),
          targetReplicas: z.int().min(0).nullable(),
          /** See `PublishedEntry`; absent = `replicas`. */
          ownReplicas: z.int().min(0).nullish(),
          /** See `PublishedEntry`. */
          plannedReplicas: z.int().min(0).nullish(),
          utilization: z.number(),
          usdPerHour: z.number(),
          reason: z.string(),
        }),
      ),
    }),
  ),
});

export type PublishedState = z.output<typeof publishedSchema>;

export const publishedStateSchema: z.ZodType<PublishedState> = publishedSchema;

/**
 * Models that nobody ever planned are left out: there is nothing to remember of them.
 *
 * @param publishedOf by deployment id
 */
export function publishedState(
  parts: readonly ModelPlan[],
  publishedOf: (id: string) => Pick<PublishedEntry, 'ownReplicas' | 'plannedReplicas'> | undefined,
): PublishedState {
  return {
    models: parts
      .filter((part) => part.deployments.some((deployment) => deployment.replicas !== null))
      .map(({ model, deployments }) => ({
        name: model.name,
        status: model.status,
        planAt: model.planAt,
        usdPerHour: model.usdPerHour,
        boundUsdPerHour: model.boundUsdPerHour,
        deployments: deployments.map(({ id, gpuType, replicas, targetReplicas, utilization, usdPerHour, reason }) => {
          const { ownReplicas = null, plannedReplicas = null } = publishedOf(id) ?? {};
          const numbers = { replicas, targetReplicas, ownReplicas, plannedReplicas };
          return { id, gpuType, ...numbers, utilization, usdPerHour, reason };
        }),
      })),
  };
}

/** The part that a model begins with after a restart. Shares are chosen anew by the first plan. */
export function restoredPart(model: PublishedState['models'][number]): ModelPlan {
  const { name, status, planAt, usdPerHour, boundUsdPerHour } = model;
  return {
    model: {
      name,
      status,
      heldReason: null,
      planAt,
      usdPerHour,
      switchingUsdPerHour: 0,
      boundUsdPerHour,
      gap: usdPerHour > 0 ? Math.max(0, (usdPerHour - boundUsdPerHour) / usdPerHour) : 0,
    },
    deployments: model.deployments.map(({ ownReplicas: _, plannedReplicas: __, ...deployment }) => ({
      ...deployment,
      model: name,
    })),
    shares: [],
    unserved: [],
    shortfalls: [],
    warnings: [],
    unservedUsdPerRequest: 0,
    scarcity: null,
  };
}

import { z } from 'zod';
import { aibrixErrorSchema, errorSchema, explanationSchema, planningProblemSchema, planSchema } from './schemas.js';

/** Schemas that the OpenAPI document names once and refers to. */
export const componentSchemas = z.registry<{ id: string }>();
componentSchemas.add(planningProblemSchema, { id: 'PlanningProblem' });
componentSchemas.add(planSchema, { id: 'Plan' });
componentSchemas.add(explanationSchema, { id: 'Explanation' });
componentSchemas.add(errorSchema, { id: 'Error' });
componentSchemas.add(aibrixErrorSchema, { id: 'AibrixError' });

import { capacityDashboard } from './capacity.js';
import { costDashboard } from './cost.js';
import { demandDashboard } from './demand.js';
import { healthDashboard } from './health.js';
import type { DashboardSpec } from './panels.js';

/** By file name in charts/gpumix/dashboards. */
export const dashboards = {
  cost: costDashboard,
  capacity: capacityDashboard,
  demand: demandDashboard,
  health: healthDashboard,
} as const satisfies Readonly<Record<string, DashboardSpec>>;

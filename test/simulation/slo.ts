import type { SloLimits } from '../../src/profiling/attainment.js';

/** An SLO with those limits and no others. */
export function within(limits: Partial<SloLimits>): SloLimits {
  return { ttftSeconds: null, tpotSeconds: null, e2eSeconds: null, ...limits };
}

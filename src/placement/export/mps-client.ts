import type { PlacementAssignment } from '../../core/placement.js';

/** Where the MPS daemon and its clients meet, by default. */
export const mpsPipes = '/tmp/nvidia-mps';

/**
 * What a client of the MPS daemon is held to: a part of the multiprocessors, and device memory; empty without MPS. Device 0
 * is the first that the process sees, and these processes see one.
 *
 * The percentage is rounded down, so that those of one GPU do not add up to more than 100, and is at least 1.
 * Source: NVIDIA, "Multi-Process Service", environment variables.
 */
export function mpsLimits({ sharing, share, memoryBudgetMb }: PlacementAssignment): Readonly<Record<string, string>> {
  if (sharing !== 'mps') return {};
  return {
    CUDA_MPS_ACTIVE_THREAD_PERCENTAGE: String(Math.max(1, Math.floor(share * 100 + 1e-9))),
    CUDA_MPS_PINNED_DEVICE_MEM_LIMIT: `0=${memoryBudgetMb}M`,
  };
}

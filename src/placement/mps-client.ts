import type { PlacementAssignment } from '../core/placement.js';
import type { PlacementService } from '../core/placement-request.js';

/**
 * How services meet the MPS server of their GPU, said once for advice and exports: each GPU has a server of its own, which
 * sees that GPU alone, and its clients know it as the first.
 *
 * Source: NVIDIA, "Multi-Process Service", environment variables and provisioning.
 */

/** Where the server of a GPU and its clients meet; by the index of the vendor's software. */
export function mpsDirectory(vendorIndex: number): string {
  return `/tmp/nvidia-mps-${vendorIndex}`;
}

type Client = {
  readonly service: Pick<PlacementService, 'computeShare'>;
  readonly assignment: Pick<PlacementAssignment, 'share' | 'memoryBudgetMb'>;
};

/**
 * Threads that a client may use, in whole percent: its computeShare, else twice its part, since clients seldom all compute
 * at once (the guide's 100 % / 0.5 n for n alike).
 */
export function mpsThreadPercentage({ service, assignment }: Client): number {
  const share = service.computeShare ?? 2 * assignment.share;
  return Math.min(100, Math.max(1, Math.round(share * 100)));
}

/** What a client is told: where its server is, its part of the multiprocessors, its device memory. */
export function mpsClientVariables(client: Client, vendorIndex: number): Readonly<Record<string, string>> {
  return {
    CUDA_MPS_PIPE_DIRECTORY: mpsDirectory(vendorIndex),
    CUDA_MPS_ACTIVE_THREAD_PERCENTAGE: String(mpsThreadPercentage(client)),
    CUDA_MPS_PINNED_DEVICE_MEM_LIMIT: `0=${client.assignment.memoryBudgetMb}M`,
  };
}

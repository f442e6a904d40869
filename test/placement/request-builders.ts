import type { PlacementRequestInput } from '../../src/core/placement-request.js';
import { checkPlacementRequest, type PlacementRequest } from '../../src/core/placement-request.js';

/** Parts of a request as a person writes them, with overrides. */

export type GpuInput = PlacementRequestInput['gpus'][number];
export type ServiceInput = PlacementRequestInput['services'][number];

/** RTX A5500: 24,564 MiB and 0.768 TB/s in the catalogue. */
export function gpu(overrides: Partial<GpuInput> = {}): GpuInput {
  return { index: 0, node: 'box', name: 'RTX A5500', vendor: 'nvidia', memoryMb: 24564, ...overrides };
}

export function service(name: string, memoryMb: number, overrides: Partial<ServiceInput> = {}): ServiceInput {
  return { name, memoryMb, frameworks: ['cuda'], ...overrides };
}

export function request(
  gpus: readonly GpuInput[],
  services: readonly ServiceInput[],
  overrides: Partial<PlacementRequestInput> = {},
): PlacementRequest {
  return checkPlacementRequest(
    { apiVersion: 'gpumix/v1', kind: 'PlacementRequest', gpus, services, ...overrides },
    'request.json',
  );
}

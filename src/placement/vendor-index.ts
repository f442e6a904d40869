import type { PlacementGpu, PlacementRequest } from '../core/placement-request.js';

/**
 * The index by which the software of a GPU's vendor knows it. The request counts the GPUs of a node once, whoever made them,
 * and each vendor counts its own from 0: where a node has several vendors, it is the place among those of the same vendor.
 * A tag `vendorIndex` says otherwise.
 */
export function vendorIndexOf(gpu: PlacementGpu, request: PlacementRequest): number {
  const tag = Object.hasOwn(gpu.tags, 'vendorIndex') ? gpu.tags.vendorIndex! : '';
  if (/^\d{1,6}$/.test(tag)) return Number(tag);
  const onNode = request.gpus.filter(({ node }) => node === gpu.node);
  const own = onNode.filter(({ vendor }) => vendor === gpu.vendor);
  return own.length === onNode.length ? gpu.index : own.filter(({ index }) => index < gpu.index).length;
}

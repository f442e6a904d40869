import type { PlacementGpu } from '../../core/placement-request.js';

/** The only form that names one GPU and that a Compose file can hold as it is. */
const renderNode = /^\/dev\/dri\/renderD\d{1,5}$/;

/** The device file of one AMD or Intel GPU, from its tag `renderNode`; null = not known, or not such a path. */
export function renderNodeOf({ tags }: PlacementGpu): string | null {
  const path = Object.hasOwn(tags, 'renderNode') ? tags.renderNode! : '';
  return renderNode.test(path) ? path : null;
}

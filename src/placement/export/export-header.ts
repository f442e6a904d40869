import type { Placement } from '../../core/placement.js';
import { commentLines } from './comment-lines.js';

/** How the placement of a file came about, a sentence for its first lines. */
export function origin(placement: Placement): string {
  const proof = placement.status === 'optimal' ? 'proven the best there is' : 'not proven the best there is';
  return `Made by gpumix place: strategy ${placement.strategy}, status ${placement.status} (${proof}).`;
}

/**
 * The lines, without `#`, that tell what did not go as asked: warnings, and services that were refused. A reader of the
 * file must not have to wonder where a service is.
 *
 * @param leftOut what it means for this format that a service was refused, as the end of a heading
 */
export function remarks(placement: Placement, leftOut: string): readonly string[] {
  const lines: string[] = [];
  if (placement.warnings.length > 0) {
    lines.push('Warnings:', ...placement.warnings.flatMap(({ message }) => commentLines(message, 2)));
  }
  if (placement.refusals.length > 0) {
    lines.push(...commentLines(`Refused, ${leftOut}:`));
    for (const { service, reason, message } of placement.refusals) {
      lines.push(...commentLines(`${service} (${reason}): ${message}`, 2));
    }
  }
  return lines;
}

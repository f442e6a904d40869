import { z } from 'zod';
import type { DeepReadonly } from '../../core/parse.js';
import { type FindingCode, findingCodes, findingKinds, severities } from './findings.js';

/** The document that `gpumix doctor --json` prints. */

const findingSchema = z.object({
  code: z.enum(findingCodes as readonly [FindingCode, ...FindingCode[]]),
  severity: z.enum(severities),
  place: z.string().describe('kind, namespace/name and field, or the key of Redis'),
  found: z.string(),
  expected: z.string(),
  why: z.string().describe('why it works in silence as nobody meant it'),
  mend: z.string(),
});

export const doctorReportSchema = z.object({
  apiVersion: z.literal('gpumix/v1'),
  kind: z.literal('DoctorReport'),
  at: z.string(),
  setup: z
    .object({
      configuration: z.string().nullable().describe('file; null = defaults'),
      mode: z.enum(['live', 'shadow']),
      actuate: z.enum(['none', 'dry-run', 'scale']),
      deployments: z.enum(['kubernetes', 'config']).describe('deployments.source'),
      redis: z.string().nullable().describe('address, without password; null = there is none'),
      kubernetes: z.string().nullable(),
      prometheus: z.string().nullable(),
    })
    .describe('what was looked at, as it is configured'),
  findings: z.array(findingSchema).describe('what does not work first'),
  looked: z.array(z.object({ at: z.string(), seen: z.string() })).describe('what was looked at'),
  notLooked: z.array(z.object({ at: z.string(), because: z.string() })).describe('what was not, and why'),
});

export type DoctorReport = DeepReadonly<z.output<typeof doctorReportSchema>>;
export type Finding = DoctorReport['findings'][number];

/** Names and values come from clusters, where they can be long. */
const longestText = 400;

/** One finding; `mend` says it for this case where the table's word is too general. */
export function finding(
  code: FindingCode,
  at: { readonly place: string; readonly found: string; readonly expected: string; readonly mend?: string },
): Finding {
  const { severity, why, mend } = findingKinds[code];
  return {
    code,
    severity,
    place: cut(at.place),
    found: cut(at.found),
    expected: cut(at.expected),
    why,
    mend: at.mend ?? mend,
  };
}

function cut(text: string): string {
  return text.length > longestText ? `${text.slice(0, longestText)}…` : text;
}

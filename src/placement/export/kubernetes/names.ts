import { InputError, quoteInput } from '../../../core/input-error.js';
import type { PlacementRequest } from '../../../core/placement-request.js';
import { compareText } from '../../compare-text.js';

/**
 * Names that Kubernetes takes, out of names that people gave.
 *
 * A service may be called anything (`My LLM_1`); an object, a container and a label value may not. Names of services are
 * made to fit, names of nodes are not: a node that is called otherwise in the cluster would never be found.
 */

/** What a name must be: DNS-1123 label (Deployments, containers), or DNS-1035, which starts with a letter (Services). */
export type NameRule = {
  readonly longest: number;
  readonly startsWithLetter: boolean;
};

/** Of Deployments and their containers. */
export const labelRule: NameRule = { longest: 63, startsWithLetter: false };

const dnsLabel = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const dnsSubdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
/** Longest value of a label, and with it the longest node name that `kubernetes.io/hostname` holds whole. */
export const longestLabelValue = 63;

function fits(name: string, rule: NameRule): boolean {
  return name.length <= rule.longest && dnsLabel.test(name) && !(rule.startsWithLetter && /^[0-9]/.test(name));
}

/** FNV-1a over UTF-16 code units, eight hexadecimal digits: tells names apart that look the same once made to fit. */
function shortHash(text: string): string {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return (hash >>> 0).toString(16).padStart(8, '0');
}

function withHash(slug: string, source: string, longest: number): string {
  return `${slug.slice(0, longest - 9).replace(/[-.]+$/, '')}-${shortHash(source)}`;
}

function slugOf(name: string, rule: NameRule): string {
  const slug = name
    .normalize('NFKD')
    .replace(/\p{M}/gu, '')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '');
  if (slug === '') return 'service';
  return rule.startsWithLetter && /^[0-9]/.test(slug) ? `s-${slug}` : slug;
}

/**
 * A name that Kubernetes takes for each of these names, all different.
 *
 * A name that fits stays itself. Another becomes its letters and digits in lower case, joined by `-`, and where that is
 * taken, or too long, eight hexadecimal digits of its hash follow: `My LLM_1` → `my-llm-1`. The order of the names does
 * not matter.
 */
export function kubernetesNames(names: readonly string[], rule: NameRule): ReadonlyMap<string, string> {
  const fitting = new Map<string, string>(names.filter((name) => fits(name, rule)).map((name) => [name, name]));
  const taken = new Set(fitting.values());
  const others = names.filter((name) => !fitting.has(name)).sort(compareText);
  const slugs = new Map<string, number>();
  for (const name of others) slugs.set(slugOf(name, rule), (slugs.get(slugOf(name, rule)) ?? 0) + 1);
  const alone = (name: string) => {
    const slug = slugOf(name, rule);
    return slug.length <= rule.longest && !fitting.has(slug) && slugs.get(slug) === 1;
  };
  for (const name of others) {
    if (!alone(name)) continue;
    fitting.set(name, slugOf(name, rule));
    taken.add(slugOf(name, rule));
  }
  for (const name of others) {
    if (fitting.has(name)) continue;
    let source = name;
    let candidate = withHash(slugOf(name, rule), source, rule.longest);
    while (taken.has(candidate)) {
      source += '\0';
      candidate = withHash(slugOf(name, rule), source, rule.longest);
    }
    fitting.set(name, candidate);
    taken.add(candidate);
  }
  return fitting;
}

/** Cut to a length, with a hash in place of the end, so that two long names stay two. */
export function cutName(name: string, longest: number): string {
  return name.length <= longest ? name : withHash(name, name, longest);
}

/**
 * Checks that nodes can be nodes of a cluster; only those that an export mentions.
 *
 * @throws InputError that names each `gpus[i].node` that no node of a cluster can be called
 */
export function checkNodeNames(request: PlacementRequest, nodes: ReadonlySet<string>): void {
  const faulty = new Map<string, number>();
  request.gpus.forEach(({ node }, g) => {
    if (nodes.has(node) && !faulty.has(node) && !(node.length <= 253 && dnsSubdomain.test(node))) faulty.set(node, g);
  });
  if (faulty.size === 0) return;
  throw new InputError(
    'the placement request',
    [...faulty].map(([node, g]) => {
      const slug = slugOf(node, { longest: 253, startsWithLetter: false });
      return {
        place: `gpus[${g}].node`,
        found: quoteInput(node),
        expected: "the name of a node as the cluster has it: lower-case letters, digits, '-' and '.'",
        ...(slug === 'service' ? {} : { suggestion: cutName(slug, 253) }),
      };
    }),
  );
}

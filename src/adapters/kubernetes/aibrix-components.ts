import type { AibrixComponent } from '../../core/inspection.js';
import { items, record, textOf } from './wire.js';

const images: readonly { readonly part: AibrixComponent['part']; readonly pattern: RegExp }[] = [
  { part: 'gateway', pattern: /(?:^|\/)(?:aibrix-)?gateway-plugins(?:[:@]|$)/ },
  { part: 'controller', pattern: /(?:^|\/)aibrix(?:\/|-)controller-manager(?:[:@]|$)/ },
];

/** Reads a Deployment object; null where it is no part of AIBrix. */
export function readAibrixComponent(object: unknown): AibrixComponent | null {
  const metadata = record(record(object).metadata);
  const spec = record(record(object).spec);
  const name = textOf(metadata, 'name') ?? '';
  const containers = items(record(record(spec.template).spec).containers).map(record);
  for (const container of containers) {
    const image = textOf(container, 'image') ?? '';
    const isAibrix = /aibrix/.test(`${image} ${name}`);
    const part = images.find(({ pattern }) => pattern.test(image))?.part ?? partOfMirror(image, name);
    if (!isAibrix || part === null) continue;
    return {
      part,
      id: `${textOf(metadata, 'namespace') ?? 'default'}/${name}`,
      image: image.slice(0, 200),
      version: versionOf(image),
      replicas: typeof spec.replicas === 'number' ? spec.replicas : 1,
      environment: environmentOf(container),
    };
  }
  return null;
}

/** A mirror may put the images anywhere; the Deployments keep AIBrix's names. */
function partOfMirror(image: string, name: string): AibrixComponent['part'] | null {
  if (name === 'aibrix-controller-manager' && image.includes('controller-manager')) return 'controller';
  return null;
}

function versionOf(image: string): AibrixComponent['version'] {
  const tag = /:v?(\d{1,4})\.(\d{1,4})\.(\d{1,4})(?:[-+.][\w.-]*)?(?:@|$)/.exec(image);
  return tag === null ? null : [Number(tag[1]), Number(tag[2]), Number(tag[3])];
}

/** Gateways have a few dozen variables. */
const mostVariables = 500;

function environmentOf(container: Readonly<Record<string, unknown>>): AibrixComponent['environment'] {
  const variables = new Map<string, string | null>();
  for (const each of items(container.env).slice(0, mostVariables)) {
    const variable = record(each);
    const name = textOf(variable, 'name') ?? '';
    if (!name.startsWith('AIBRIX_')) continue;
    const isElsewhere = (variable.valueFrom ?? null) !== null;
    variables.set(name, isElsewhere ? null : (textOf(variable, 'value') ?? ''));
  }
  return Object.fromEntries(variables);
}

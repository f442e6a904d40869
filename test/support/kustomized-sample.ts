import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parse, parseAllDocuments } from 'yaml';
import { isMap, type Manifest, root } from './chart-renderer.js';

/**
 * `samples/kubernetes` as far as it can be read without a program: a folder's objects, its base's below them, with the
 * patches of its files merged. What `kubectl kustomize` adds (namespace, labels, image, hashed names) is not there;
 * test/samples/kubernetes.test.ts holds the rest against what it builds.
 */

export const kubernetesSamples = join(root, 'samples', 'kubernetes');

export type Kustomization = {
  readonly namespace?: string;
  readonly resources?: readonly string[];
  readonly labels?: readonly { readonly pairs: Readonly<Record<string, string>> }[];
  readonly images?: readonly { readonly name: string; readonly newName: string; readonly newTag: string }[];
  readonly configMapGenerator?: readonly { readonly name: string; readonly files: readonly string[] }[];
  /** With a path: objects in part, merged; without: operations on a target. */
  readonly patches?: readonly { readonly path?: string }[];
};

/** @param folder below `samples/kubernetes`: `base`, `overlays/aibrix` */
export function kustomizationOf(folder: string): Kustomization {
  return parse(textOf(folder, 'kustomization.yaml')) as Kustomization;
}

/** Objects of a folder and of those that it builds on. */
export function patchedObjects(folder: string): readonly Manifest[] {
  const { resources = [], patches = [] } = kustomizationOf(folder);
  const objects = resources.flatMap((resource) =>
    statSync(join(kubernetesSamples, folder, resource)).isDirectory()
      ? patchedObjects(join(folder, resource))
      : documentsIn(textOf(folder, resource)),
  );
  const parts = patches.flatMap(({ path }) => (path === undefined ? [] : documentsIn(textOf(folder, path))));
  return parts.reduce<readonly Manifest[]>((all, part) => {
    const target = all.find(({ kind, metadata }) => kind === part.kind && metadata.name === part.metadata.name);
    if (target === undefined) throw new Error(`${folder}: nothing to patch: ${part.kind} ${part.metadata.name}`);
    return all.map((object) => (object === target ? (merged(object, part) as Manifest) : object));
  }, objects);
}

export function documentsIn(text: string): readonly Manifest[] {
  return parseAllDocuments(text).map((document) => document.toJS() as Manifest);
}

function textOf(folder: string, file: string): string {
  return readFileSync(join(kubernetesSamples, folder, file), 'utf8');
}

/** Maps by key, lists of named things by name: all lists that are patched here have names. */
function merged(under: unknown, over: unknown): unknown {
  if (isMap(under) && isMap(over)) {
    const keys = [...new Set([...Object.keys(under), ...Object.keys(over)])];
    return Object.fromEntries(keys.map((key) => [key, key in over ? merged(under[key], over[key]) : under[key]]));
  }
  if (Array.isArray(under) && Array.isArray(over)) {
    const named = (list: readonly unknown[]) => new Map(list.map((item) => [(item as { name: string }).name, item]));
    const [below, above] = [named(under), named(over)];
    return [...new Set([...below.keys(), ...above.keys()])].map((name) =>
      above.has(name) ? merged(below.get(name), above.get(name)) : below.get(name),
    );
  }
  return over;
}

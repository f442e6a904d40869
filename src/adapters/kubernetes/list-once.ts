import type { ApiClient } from './api-client.js';
import { parsePage, readPage } from './list-watch.js';

/** Objects of one page: small enough that one page of large objects is no burden. */
const pageSize = 250;

/**
 * Reads the objects of a resource once, at most so many of them, each reduced at once to what is kept of it.
 *
 * Rejects as `ApiClient.get` does. `complete` is false where there were more than `mostObjects`.
 *
 * @param options.path e.g. `/apis/apps/v1/deployments`
 * @param options.listKind e.g. `DeploymentList`: any other document is an error
 */
export async function listOnce(options: {
  readonly api: Pick<ApiClient, 'get'>;
  readonly path: string;
  readonly listKind: string;
  readonly mostObjects: number;
  readonly answerTimeoutMs: number;
  readonly signal: AbortSignal;
  readonly each: (object: unknown) => void;
}): Promise<{ readonly complete: boolean }> {
  const { api, path, listKind, mostObjects, answerTimeoutMs, signal, each } = options;
  let next: string | null = null;
  let seen = 0;
  do {
    const body = await api.get({
      path,
      query: { limit: String(pageSize), ...(next === null ? {} : { continue: next }) },
      answerTimeoutMs,
      signal,
    });
    const page = parsePage(await readPage(body), listKind);
    for (const object of page.items) {
      if (seen === mostObjects) return { complete: false };
      seen += 1;
      each(object);
    }
    next = page.next;
  } while (next !== null);
  return { complete: true };
}

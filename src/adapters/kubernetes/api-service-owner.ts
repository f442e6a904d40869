import { type ApiClient, ApiError, messageOf } from './api-client.js';
import { record, textOf } from './wire.js';

/** Who serves a group of the Kubernetes API, as its APIService says. */
export type ApiServiceOwner =
  /** Nobody: there is no such APIService. */
  | { readonly kind: 'none' }
  | { readonly kind: 'service'; readonly namespace: string; readonly name: string }
  /** The API server itself. */
  | { readonly kind: 'built-in' }
  /** It may not be looked at, or could not be. */
  | { readonly kind: 'unknown'; readonly message: string };

/** For the one answer [ms]. */
const defaultAnswerTimeoutMs = 5_000;

export function apiServicePath(name: string): string {
  return `/apis/apiregistration.k8s.io/v1/apiservices/${name}`;
}

/** Of an APIService as the API server sent it. */
export function ownerOf(apiService: unknown): Extract<ApiServiceOwner, { readonly kind: 'service' | 'built-in' }> {
  const service = record(record(record(apiService).spec).service);
  const [namespace, name] = [textOf(service, 'namespace') ?? '', textOf(service, 'name') ?? ''];
  return name === '' ? { kind: 'built-in' } : { kind: 'service', namespace, name };
}

/** @param name such as `v1beta1.external.metrics.k8s.io` */
export async function apiServiceOwner(
  api: ApiClient,
  name: string,
  {
    signal,
    answerTimeoutMs = defaultAnswerTimeoutMs,
  }: { readonly signal: AbortSignal; readonly answerTimeoutMs?: number },
): Promise<ApiServiceOwner> {
  const path = apiServicePath(name);
  try {
    const document = await api.send({
      method: 'GET',
      path,
      query: {},
      body: null,
      contentType: null,
      answerTimeoutMs,
      signal,
    });
    if (record(document).kind !== 'APIService') {
      return { kind: 'unknown', message: `GET ${path}: found a document of another kind` };
    }
    return ownerOf(document);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return { kind: 'none' };
    const hint =
      error instanceof ApiError && error.status === 403 ? ' (needs get on apiservices.apiregistration.k8s.io)' : '';
    return { kind: 'unknown', message: `GET ${api.server}${path}: ${messageOf(error)}${hint}` };
  }
}

import type { PrometheusInspection } from '../core/inspection.js';
import { createPrometheusApi, type PrometheusAccess } from './prometheus-api.js';

/** What a Prometheus server has of engines, whatever anybody calls it: one look, nothing is followed. */

/** Names that are told: an engine has some hundred, and the first tell how they are written. */
const mostNames = 2000;

/** Also of names that were rewritten on their way, such as `vllm_request_success_total`. */
const engineNames = '.*(vllm|sglang|sgl).*';

/** Asks nothing yet. */
export function inspectPrometheus(access: PrometheusAccess): PrometheusInspection {
  const api = createPrometheusApi(access);
  return {
    server: api.name,
    async engineSeries() {
      const found = await api.instant(`count by (__name__) ({__name__=~"${engineNames}"})`, null);
      return found
        .map(({ metric }) => metric.__name__ ?? '')
        .filter((name) => name !== '')
        .sort()
        .slice(0, mostNames);
    },
    close: () => api.close(),
  };
}

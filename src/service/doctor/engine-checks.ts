import type { DoctorFacts } from './facts.js';
import type { SeriesConcern } from './gather-engines.js';
import { type Finding, finding } from './report.js';

/** Whether what engines count reaches gpumix: a Prometheus server, or the engines themselves. */

/** Names that show how series are called there. */
const shownNames = 6;

export function checkEngines({ addresses, prometheus, scraped }: DoctorFacts): readonly Finding[] {
  const found: Finding[] = [];
  if (prometheus.kind === 'unseen' && prometheus.isFault) {
    const place = `Prometheus ${addresses.prometheus}`;
    found.push(
      finding('prometheus_unreachable', { place, found: prometheus.because, expected: 'an answer to a query' }),
    );
  }
  if (prometheus.kind === 'seen') {
    const { concerns, names, server } = prometheus.value;
    for (const concern of concerns) {
      found.push(
        finding('no_engine_series', {
          place: `Prometheus ${server}, ${concern.use === 'demand' ? 'for demand' : 'for engine metrics'}`,
          found: `${withoutServer(concern, server)}; it has ${shown(names)}`,
          expected: `series ${concern.wanted.join(', ')}`,
        }),
      );
    }
  }
  if (scraped.kind === 'seen') {
    for (const problem of scraped.value) {
      found.push(
        finding('engine_unreachable', { place: 'engines.scrape', found: problem, expected: 'metrics of an engine' }),
      );
    }
  }
  return found;
}

/** The place says it. */
function withoutServer({ message }: SeriesConcern, server: string): string {
  const head = `Prometheus at ${server}: found `;
  return message.startsWith(head) ? message.slice(head.length) : message;
}

function shown(names: readonly string[]): string {
  if (names.length === 0) return 'no series with vllm or sglang in its name';
  // Counters of requests and tokens tell most about how names were rewritten.
  const telling = names.filter((name) => /request_success|num_requests|prompt_tokens_total/.test(name));
  const first = [...new Set([...telling, ...names])].slice(0, shownNames);
  const rest = names.length - first.length;
  return `${first.join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}

/** Why a connection failed, or none came about. */
export type ConnectionFault = {
  /** Of the system or of the HTTP client: `ECONNREFUSED`; null where there is none. */
  readonly code: string | null;
  /** In words that follow "found". */
  readonly words: string;
};

const known: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nobody who listens there (ECONNREFUSED)',
  ENOTFOUND: 'no such host (ENOTFOUND)',
  ECONNRESET: 'a connection that was reset (ECONNRESET)',
  UND_ERR_SOCKET: 'a connection that was closed before the answer ended',
};

/** Reads what a connection or an HTTP client threw. */
export function connectionFault(error: unknown): ConnectionFault {
  if (!(error instanceof Error)) return { code: null, words: String(error) };
  // All addresses of a host are tried, and reported together with an empty message.
  const first = error instanceof AggregateError && error.errors[0] instanceof Error ? error.errors[0] : error;
  const code = 'code' in first && typeof first.code === 'string' ? first.code : null;
  return { code, words: (code === null ? undefined : known[code]) ?? (first.message || code || first.name) };
}

/** A server to be measured, as probed. */
export type OpenAiTarget = {
  /** As given: `http://host:8000`, with or without `/v1`. */
  readonly baseUrl: string;
  readonly model: string;
  readonly apiKey: string | null;
  readonly api: 'completions' | 'chat';
  readonly streaming: boolean;
  readonly temperature: number;
  readonly seed: number;
  /** Most seconds one request may take. */
  readonly timeoutSeconds: number;
};

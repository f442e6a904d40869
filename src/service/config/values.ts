import { z } from 'zod';

/** Kinds of values that several sections of the configuration have. */

export const whole = z.int();
export const replicas = z.int().min(0).max(1_000_000);
export const seconds = z.number().gt(0).max(86_400);
export const name = z.string().min(1).max(4096);
/** Names that become parts of `namespace/name`: a slash would make two deployments indistinguishable. */
export const pathPart = z
  .string()
  .min(1)
  .max(253)
  .refine((text) => !text.includes('/'), { error: 'a name without /' });

/** A file with certificates or a key. */
export const pemFile = z.string().min(1).nullable().default(null);

/** Name of a label of Prometheus. */
export const labelName = z.string().regex(/^[a-zA-Z_][a-zA-Z0-9_]*$/, { error: 'the name of a Prometheus label' });

/** A URL of a server that answers over HTTP; user and password in it are sent. */
export const httpUrl = z.string().refine(isHttpUrl, { error: 'a URL that begins with http:// or https://' });

function isHttpUrl(text: string): boolean {
  try {
    const { protocol, username, password } = new URL(text);
    decodeURIComponent(username + password);
    return protocol === 'http:' || protocol === 'https:';
  } catch {
    return false;
  }
}

/** [s] */
export const answerTimeout = z.number().gt(0).max(60).default(5);

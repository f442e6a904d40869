import { readFileSync } from 'node:fs';

/** The version in package.json, which stands two folders up from here in `src/` and in `dist/` alike. */
export function packageVersion(): string {
  const document: unknown = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  return (document as { readonly version: string }).version;
}

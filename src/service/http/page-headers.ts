/**
 * Headers of the pages that browsers show. They run what this process serves and nothing else, and no other page may
 * frame them: one that did could have a person press "Execute" of /docs unseen.
 */
export const pageHeaders: Readonly<Record<string, string>> = {
  'content-security-policy':
    // Swagger UI sets styles on elements, and has its icons in data URLs.
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'x-content-type-options': 'nosniff',
};

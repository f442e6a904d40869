/** What a bearer token may look like, wherever one is read. */

/** `token68` of RFC 7235: all that an Authorization header can carry after its scheme. */
export const bearerTokenPattern = /^[A-Za-z0-9\-._~+/]+=*$/;

/** Tokens of Kubernetes have one or two thousand characters; all headers of a request together may have 16 kB. */
export const longestBearerToken = 8192;

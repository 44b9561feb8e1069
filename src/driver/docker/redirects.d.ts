/** The HTTP client of docker-modem. */
declare module 'docker-modem/lib/http.js' {
  import type { request } from 'node:http';

  const senders: Record<'http' | 'https', { readonly request: typeof request }>;
  // oxlint-disable-next-line import/no-default-export -- a CommonJS module has no other.
  export default senders;
}

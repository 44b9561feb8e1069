import { entry } from './spec.ts';

/** Errors of requests to the Docker API. */
export const dockerErrors = {
  'docker/unavailable': entry(
    'unavailable',
    (d: { address: string; why: string }) => `Docker API at ${d.address} is unavailable: ${d.why}`,
  ),
  'docker/rootless': entry(
    'input',
    (d: { address: string }) =>
      `Docker at ${d.address} is rootless; calico-cnm cannot reach its network namespace; use the system Docker`,
  ),
  'docker/refused': entry(
    'state',
    (d: { what: string; why: string }) => `Docker rejected ${d.what}: ${d.why}`,
  ),
  'docker/bad-answer': entry(
    'bug',
    (d: { what: string; why: string }) =>
      `unexpected response from Docker to "${d.what}": ${d.why}`,
  ),
} as const;

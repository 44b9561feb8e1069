import { entry } from './spec.ts';

/** What can go wrong when we ask Docker. */
export const dockerErrors = {
  'docker/unavailable': entry(
    'unavailable',
    (d: { address: string; why: string }) =>
      `the Docker API at ${d.address} does not answer: ${d.why}`,
  ),
  'docker/rootless': entry(
    'input',
    (d: { address: string }) =>
      `the Docker at ${d.address} is rootless: its containers are in a network of its own, which calico-cnm cannot reach; use the system Docker`,
  ),
  'docker/bad-answer': entry(
    'bug',
    (d: { what: string; why: string }) =>
      `Docker's answer to "${d.what}" is not understood: ${d.why}`,
  ),
} as const;

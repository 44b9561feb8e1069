import { entry } from './spec.ts';

/** What is wrong with a command. */
export const cliErrors = {
  'cli/not-running': entry(
    'unavailable',
    (d: { socket: string; why: string }) =>
      `calico-cnm does not run on this host, or not for you (${d.socket}: ${d.why}); start it (systemctl start calico-cnm), and be root`,
  ),
  'cli/bad-argument': entry('input', (d: { what: string; why: string }) => `${d.what}: ${d.why}`),
  'cli/bad-document': entry('input', (d: { where: string; why: string }) => `${d.where}: ${d.why}`),
  'cli/no-network-root': entry(
    'input',
    (d: { why: string }) => `calico-cnm run needs root and the host's network: ${d.why}`,
  ),
} as const;

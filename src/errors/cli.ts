import { entry } from './spec.ts';

/** What is wrong with a command. */
export const cliErrors = {
  'cli/not-running': entry(
    'unavailable',
    (d: { socket: string; why: string }) =>
      `the daemon does not run on this host (${d.socket}: ${d.why}); start it: systemctl start calico-cnm`,
  ),
  'cli/needs-root': entry(
    'input',
    (d: { command: string; why: string }) =>
      `this needs root (permission denied: ${d.why}): sudo ${d.command}`,
  ),
  'cli/partly-written': entry(
    'state',
    (d: { failed: number; count: number; which: string; why: string }) =>
      `${d.failed} of ${d.count} resources were left as they are (${d.which}): ${d.why}; the others are done`,
  ),
  'cli/bad-argument': entry('input', (d: { what: string; why: string }) => `${d.what}: ${d.why}`),
  'cli/profile-in-use': entry(
    'state',
    (d: { profile: string; users: string; advice: string }) =>
      `Profile ${d.profile} is used by ${d.users}; remove these first, ${d.advice}`,
  ),
  'cli/no-such-container': entry(
    'state',
    (d: { container: string }) =>
      `no endpoint belongs to a container ${d.container}; calico-cnm status lists the containers on calico networks`,
  ),
  'cli/container-on-hosts': entry(
    'input',
    (d: { container: string; nodes: string }) =>
      `containers of the name ${d.container} run on ${d.nodes}; say which with --node`,
  ),
  'cli/container-in-quarantine': entry(
    'state',
    (d: { container: string; why: string }) =>
      `container ${d.container} is in quarantine (${d.why}); try again when Docker has told its labels`,
  ),
  'cli/bad-document': entry('input', (d: { where: string; why: string }) => `${d.where}: ${d.why}`),
  'cli/unreadable': entry(
    'input',
    (d: { file: string; why: string }) =>
      `cannot read ${d.file}: ${d.why}; give a file that exists, or - for the standard input`,
  ),
  'cli/no-network-root': entry(
    'input',
    (d: { why: string }) =>
      `the daemon changes the network of this host, and may not (${d.why}); start it as root`,
  ),
} as const;

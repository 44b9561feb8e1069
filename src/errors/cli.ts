import { entry } from './spec.ts';

/** Errors of commands. */
export const cliErrors = {
  'cli/not-running': entry(
    'unavailable',
    (d: { socket: string; why: string }) =>
      `the daemon is not running on this host (${d.socket}: ${d.why}); start it: systemctl start calico-cnm`,
  ),
  'cli/needs-root': entry(
    'input',
    (d: { command: string; why: string }) =>
      `permission denied (${d.why}); run as root: sudo ${d.command}`,
  ),
  'cli/partly-written': entry(
    'state',
    (d: { failed: number; count: number; which: string; why: string }) =>
      `${d.failed} of ${d.count} resources failed (${d.which}): ${d.why}; the others were written`,
  ),
  'cli/bad-argument': entry('input', (d: { what: string; why: string }) => `${d.what}: ${d.why}`),
  'cli/profile-in-use': entry(
    'state',
    (d: { profile: string; users: string; advice: string }) =>
      `Profile ${d.profile} is in use by ${d.users}; remove these first, ${d.advice}`,
  ),
  'cli/not-created-by-policy': entry(
    'state',
    (d: { resource: string; word: string; id: string }) =>
      `${d.resource} already exists, and calico-cnm policy did not create it; choose another name, or delete it: calico-cnm delete ${d.word} ${d.id}`,
  ),
  'cli/created-by-another': entry(
    'state',
    (d: { resource: string; command: string }) =>
      `${d.resource} already exists with other rules (${d.command}); choose another name with --name`,
  ),
  'cli/no-such-container': entry(
    'state',
    (d: { container: string }) =>
      `no container ${d.container} on a Calico network; calico-cnm status lists them`,
  ),
  'cli/container-on-hosts': entry(
    'input',
    (d: { container: string; nodes: string }) =>
      `container name ${d.container} exists on several hosts (${d.nodes}); select one with --node`,
  ),
  'cli/container-in-quarantine': entry(
    'state',
    (d: { container: string; why: string }) =>
      `container ${d.container} is in quarantine (${d.why}); retry when Docker responds`,
  ),
  'cli/bad-document': entry('input', (d: { where: string; why: string }) => `${d.where}: ${d.why}`),
  'cli/unreadable': entry(
    'input',
    (d: { file: string; why: string }) =>
      `cannot read ${d.file}: ${d.why}; give an existing file, or - for standard input`,
  ),
  'cli/no-network-root': entry(
    'input',
    (d: { why: string }) =>
      `insufficient privileges to configure the host's network (${d.why}); run as root`,
  ),
} as const;

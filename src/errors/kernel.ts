import { entry } from './spec.ts';

/** Errors of the kernel and of the tools that program it. */
export const kernelErrors = {
  'kernel/refused': entry(
    'kernel',
    (d: { what: string; errno: string; why: string }) =>
      `kernel: cannot ${d.what}: ${d.errno}${d.why === '' ? '' : ` (${d.why})`}`,
  ),
  'kernel/tool-failed': entry(
    'kernel',
    (d: { tool: string; status: string; why: string }) =>
      `${d.tool} failed (${d.status}): ${d.why}`,
  ),
  'kernel/tool-missing': entry(
    'state',
    (d: { tool: string; package: string }) =>
      `${d.tool} is not installed; install it (apt install ${d.package})`,
  ),
  'bgp/config-refused': entry(
    'bug',
    (d: { why: string }) => `BIRD refuses its configuration, and keeps the one before: ${d.why}`,
  ),
  'kernel/bad-host-rules': entry(
    'state',
    (d: { file: string; why: string }) =>
      `the saved rules of host endpoints in ${d.file} cannot be read: ${d.why}; delete the file`,
  ),
  'kernel/not-cleaned': entry(
    'kernel',
    (d: { what: string; why: string }) => `cleanup incomplete: ${d.what}: ${d.why}`,
  ),
  'kernel/not-programmed': entry(
    'kernel',
    (d: { endpoint: string; why: string }) =>
      `policy of endpoint ${d.endpoint} is not programmed yet: ${d.why}`,
  ),
} as const;

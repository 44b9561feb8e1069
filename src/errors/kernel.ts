import { entry } from './spec.ts';

/** What the kernel, or a tool that drives it, refused. */
export const kernelErrors = {
  'kernel/refused': entry(
    'kernel',
    (d: { what: string; errno: string; why: string }) =>
      `the kernel refused to ${d.what}: ${d.errno}${d.why === '' ? '' : ` (${d.why})`}`,
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
  'kernel/not-cleaned': entry(
    'kernel',
    (d: { what: string; why: string }) => `not all is removed from the kernel: ${d.what}: ${d.why}`,
  ),
  'kernel/not-programmed': entry(
    'kernel',
    (d: { endpoint: string; why: string }) =>
      `the kernel does not hold the policy of endpoint ${d.endpoint} yet: ${d.why}`,
  ),
} as const;

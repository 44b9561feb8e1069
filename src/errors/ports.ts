import { entry } from './spec.ts';

/** Errors of published ports. The first two use Docker's wording. */
export const portErrors = {
  'port/taken': entry(
    'state',
    (d: { where: string; by?: string }) =>
      `Bind for ${d.where} failed: port is already allocated${userOf(d.by)}`,
  ),
  'port/range-taken': entry(
    'state',
    (d: { where: string }) => `Bind for ${d.where} failed: all ports are allocated`,
  ),
  'port/address-elsewhere': entry(
    'input',
    (d: { where: string }) =>
      `Bind for ${d.where} failed: address not found on this host; publish the port on another address, or on all`,
  ),
  'port/address-lost': entry(
    'state',
    (d: { where: string }) =>
      `published port ${d.where}: the host no longer has this address; add it again (ip address add), or publish the port on another address`,
  ),
  'port/no-sctp': entry(
    'state',
    (d: { where: string }) =>
      `Bind for ${d.where} failed: kernel without SCTP; load it (modprobe sctp), or publish another protocol`,
  ),
  'port/too-many-files': entry(
    'kernel',
    (d: { where: string }) =>
      `Bind for ${d.where} failed: too many open files; raise LimitNOFILE (systemctl edit calico-cnm), or publish fewer ports`,
  ),
  'port/cannot-bind': entry(
    'kernel',
    (d: { where: string; why: string }) => `Bind for ${d.where} failed: ${d.why}`,
  ),
  'port/no-address': entry(
    'input',
    (d: { where: string; family: number }) =>
      `Bind for ${d.where} failed: the container has no IPv${d.family} address on this network; publish the port on an address of another family, or use a network that has IPv${d.family}`,
  ),
  'port/bad-map': entry('input', (d: { why: string }) => `invalid port list from Docker: ${d.why}`),
} as const;

function userOf(by: string | undefined): string {
  return by === undefined
    ? ''
    : `: ${by} on this host uses it; publish another port or another address, or stop that process`;
}
